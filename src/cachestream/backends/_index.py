"""The disk store's index: SQLite through diskcache, with all doors to code and files shut.

diskcache would unpickle what a row tells it to, read and delete the files that a row names,
and run pragmas that its settings name. So nothing but plain text keys and sealed bytes
passes `PlainDisk`, a database whose schema or settings are not ours is moved aside before it
is used, and a row that does not fit is a miss.

Writes go through one thread (`Index.run`), so they keep their order and never hold up the
event loop; single reads take some microseconds and may be made on the loop.
"""

from __future__ import annotations

import contextlib
import logging
import os
import re
import sqlite3
import stat
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import diskcache

from cachestream.backends._format import (
    FORMAT,
    FORMAT_ROW,
    TOTALS_ROW,
    Counts,
    Totals,
    seal,
    unseal,
)
from cachestream.errors import StoreError, StoreFullError

__all__ = ["Index", "index_errors"]

log = logging.getLogger("cachestream.backends.disk")

_NAME: Final = "cache.db"
_PAGE: Final = 1000
# A page is found about as fast in the system's cache as in ours or in a map of the file, and
# only there is it memory that nobody has to count: it would be hundreds of MiB otherwise.
_OPTIONS: Final[dict[str, Any]] = {
    "statistics": 0,
    "tag_index": 0,
    "eviction_policy": "none",
    "size_limit": 2**60,
    "cull_limit": 0,
    "sqlite_auto_vacuum": 0,
    "sqlite_cache_size": 2**10,
    "sqlite_journal_mode": "wal",
    "sqlite_mmap_size": 0,
    "sqlite_synchronous": 1,
    "disk_min_file_size": 2**40,
    "disk_pickle_protocol": 0,
}
# A row of ours is plain text, bytes and no file; one of another kind is as good as missing.
_GET: Final = (
    "SELECT value FROM Cache WHERE key = ? AND raw = 1 AND mode = 1"
    " AND filename IS NULL AND typeof(value) = 'blob'"
)
_SCAN: Final = (
    "SELECT key, value FROM Cache WHERE key >= ? AND key < ? AND raw = 1 AND mode = 1"
    " AND filename IS NULL AND typeof(value) = 'blob' ORDER BY key LIMIT ?"
)
_PUT: Final = (
    "INSERT INTO Cache (key, raw, store_time, size, mode, value) VALUES (?1, 1, ?2, ?3, 1, ?4)"
    " ON CONFLICT (key, raw) DO UPDATE SET store_time = ?2, expire_time = NULL, size = ?3,"
    " mode = 1, filename = NULL, value = ?4"
)
_COUNTERS: Final = frozenset({"count", "size", "hits", "misses"})
_SCHEMA: Final = re.compile(
    r"(table (Cache|Settings)"
    r"|index (Cache_key_raw|Cache_expire_time|sqlite_autoindex_Settings_1)"
    r"|trigger Settings_(count_insert|count_delete|size_insert|size_update|size_delete))\Z"
)


@contextlib.contextmanager
def index_errors() -> Iterator[None]:
    """Turn errors of SQLite and diskcache into a `StoreError`."""
    try:
        yield
    except diskcache.Timeout as exc:
        raise StoreError("another process keeps the index locked") from exc
    except sqlite3.Error as exc:
        if getattr(exc, "sqlite_errorcode", None) == sqlite3.SQLITE_FULL:
            raise StoreFullError(
                "no room is left for the index", hint="Free some room on the store's disk."
            ) from exc
        raise StoreError(
            f"the index failed: {exc}", hint="A damaged index is replaced at the next start."
        ) from exc


class PlainDisk(diskcache.Disk):  # type: ignore[misc]  # diskcache has no types
    """Text keys and bytes values, always in the row; nothing here reaches pickle or a file."""

    def put(self, key: object) -> tuple[str, bool]:
        """Return ``key`` as it is stored."""
        if type(key) is not str:
            raise TypeError("the index has text keys only")
        return key, True

    def get(self, key: object, raw: object) -> str:
        """Return a stored key, refusing those that are not plain text."""
        if not raw or type(key) is not str:
            raise ValueError("foreign key")
        return key

    def store(
        self, value: object, read: bool, key: object = None
    ) -> tuple[int, int, None, memoryview]:
        """Return the columns of a row for ``value``."""
        if read or type(value) is not bytes:
            raise TypeError("the index has bytes values only")
        return len(value), diskcache.core.MODE_RAW, None, memoryview(value)

    def fetch(self, mode: object, filename: object, value: object, read: object) -> bytes:
        """Return a stored value, refusing those that are not plain bytes in their row."""
        if mode != diskcache.core.MODE_RAW or filename is not None or type(value) is not bytes:
            raise ValueError("foreign value")
        return value

    def remove(self, file_path: object) -> None:
        """Remove nothing: no row of ours has a file, so a row that names one is planted."""
        log.warning("a row of the index names a file; the file was left alone")


class Index:
    """The rows of one store; `get` and `scan` anywhere, the rest in the index thread only.

    Args:
        directory: Where the database lies; made and checked by the caller, mode 0700.
        synced: Whether a transaction survives a power cut, and not just the process.
    """

    def __init__(self, directory: Path, *, synced: bool = False) -> None:
        self._directory = directory
        self._options = {**_OPTIONS, "sqlite_synchronous": 2 if synced else 1}
        self._cache: Any = None

    def open(self) -> Totals:
        """Open the database, a new one if there is none or it is broken; return the totals.

        Raises:
            StoreError: If it was made by a newer version, or the medium fails.
        """
        with index_errors():
            for _ in range(2):
                try:
                    self._refuse_foreign()
                    self._create_file()
                    self._cache = diskcache.Cache(
                        str(self._directory), timeout=5, disk=PlainDisk, **self._options
                    )
                    self._note_format()
                    totals = Totals.unpack(self.get(TOTALS_ROW))
                    return self._recount() if totals is None else totals
                except (sqlite3.DatabaseError, _ForeignError) as exc:
                    if isinstance(exc, sqlite3.OperationalError):
                        raise
                    self.close()
                    self._quarantine(exc)
        raise StoreError("no usable index can be made", hint=f"Look at {self._directory}.")

    def get(self, name: str) -> bytes | None:
        """Return the content of a row; None if there is none, or none of ours."""
        row = self._cache._sql(_GET, (name,))
        found = row.fetchone()
        return None if found is None else unseal(name, found[0])

    def scan(self, low: str, high: str, limit: int = -1) -> list[tuple[str, bytes]]:
        """Return name and content of the rows from ``low`` (inclusive) to ``high``, in order.

        Up to ``limit`` of them; damaged and foreign ones are left out.
        """
        # diskcache walks keys in steps whose cost grows with the number of rows; the unique
        # index on (key, raw) makes this one a plain range search.
        rows = self._cache._sql(_SCAN, (low, high, limit))
        found = ((name, unseal(name, value)) for name, value in rows.fetchall())
        return [(name, content) for name, content in found if content is not None]

    @contextlib.contextmanager
    def snapshot(self) -> Iterator[None]:
        """Let all reads within see one state of the index, on any thread."""
        self._cache._sql("BEGIN")
        try:
            yield
        finally:
            self._cache._sql("COMMIT")

    @contextlib.contextmanager
    def transaction(self) -> Iterator[None]:
        """Make the changes within one atomic step.

        Raises:
            StoreError: If the database fails or stays locked; nothing is changed then.
        """
        with index_errors(), self._cache.transact():
            yield

    def put(self, name: str, content: bytes) -> None:
        """Write a row; within a `transaction`."""
        # diskcache would look for the row first, as it may have a file. Ours have none.
        value = seal(name, content)
        self._cache._sql(_PUT, (name, time.time(), len(value), value))

    def delete(self, name: str) -> bool:
        """Delete a row, damaged or not; return whether there was one. Within a `transaction`."""
        gone = self._cache._sql("DELETE FROM Cache WHERE key = ? AND raw = 1", (name,))
        return bool(gone.rowcount)

    def delete_range(self, low: str, high: str) -> None:
        """Delete the rows from ``low`` (inclusive) to ``high``; within a `transaction`."""
        self._cache._sql("DELETE FROM Cache WHERE key >= ? AND key < ? AND raw = 1", (low, high))

    def close(self) -> None:
        """Close the connection of the calling thread; each thread has its own."""
        if self._cache is not None:
            self._cache.close()

    def _create_file(self) -> None:
        # SQLite gives its side files the mode of the database, so making that one with
        # mode 0600 is enough, whatever the umask.
        flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
        descriptor = os.open(self._directory / _NAME, flags, 0o600)
        try:
            os.fchmod(descriptor, 0o600)
        finally:
            os.close(descriptor)

    def _refuse_foreign(self) -> None:
        """Look at the database before diskcache acts on what it says."""
        for suffix in ("", "-wal", "-shm"):
            path = self._directory / (_NAME + suffix)
            with contextlib.suppress(FileNotFoundError):
                if not stat.S_ISREG(path.lstat().st_mode):
                    raise _ForeignError(f"{path} is no plain file")
        path = self._directory / _NAME
        if not path.exists() or path.stat().st_size == 0:
            return
        with contextlib.closing(sqlite3.connect(path, timeout=5)) as connection:
            connection.execute("PRAGMA trusted_schema = OFF")
            ((version,),) = connection.execute("PRAGMA user_version").fetchall()
            _refuse_newer(version)
            for kind, name in connection.execute("SELECT type, name FROM sqlite_master"):
                if not _SCHEMA.match(f"{kind} {name}"):
                    raise _ForeignError(f"unknown {kind} {name!r}")
            tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_master")}
            if "Cache" in tables:
                for (value,) in connection.execute(
                    "SELECT value FROM Cache WHERE key = ? AND raw = 1", (FORMAT_ROW,)
                ):
                    content = unseal(FORMAT_ROW, value) if type(value) is bytes else None
                    if content is not None and content.isdigit():
                        _refuse_newer(int(content))
            if "Settings" in tables:
                for key, value in connection.execute("SELECT key, value FROM Settings"):
                    known = (key in _COUNTERS and type(value) is int) or key in _OPTIONS
                    if not known or type(value) not in (int, str):
                        raise _ForeignError(f"unknown setting {key!r}")

    def _note_format(self) -> None:
        """Say which format this is, if nothing does yet."""
        if self.get(FORMAT_ROW) is None:
            with self._cache.transact():
                self.put(FORMAT_ROW, str(FORMAT).encode())
                self._cache._sql(f"PRAGMA user_version = {FORMAT}")

    def _recount(self) -> Totals:
        """Count the entries; needed only when the row of totals was lost."""
        totals, low = Totals(), "e:"
        while page := self.scan(low, "e;", _PAGE):
            counts = [Counts.unpack(self.get(f"c:{name[2:]}")) for name, _ in page]
            room = sum(count.allocated for count in counts)
            totals = Totals(totals.entries + len(page), totals.allocated + room)
            low = page[-1][0] + "\0"
        with self._cache.transact():
            self.put(TOTALS_ROW, totals.pack())
        return totals

    def _quarantine(self, reason: Exception) -> None:
        """Move the database aside, so that it can be looked at, and a new one begun."""
        aside = self._directory / f"broken-{time.time_ns():x}"
        aside.mkdir(mode=0o700)
        for suffix in ("", "-wal", "-shm"):
            with contextlib.suppress(FileNotFoundError):
                os.rename(self._directory / (_NAME + suffix), aside / (_NAME + suffix))
        log.warning("the index was unusable (%s); it was moved to %s", reason, aside)


def _refuse_newer(version: int) -> None:
    if version > FORMAT:
        raise StoreError(
            f"the store has format {version}, newer than {FORMAT}",
            hint="Use the version that made it, or another directory.",
        )


class _ForeignError(Exception):
    """The database is none of ours."""
