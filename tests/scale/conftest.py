"""Stores with very many entries, made in seconds, and what reading one costs.

The rows are packed and sealed by the store's own format, but put into the database in one go
and in order; `test_crowds.py` compares them with what a store writes. Files are made only for
the entries that are going to be read.
"""

import contextlib
import os
import shutil
import sqlite3
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import diskcache
import pytest
import xxhash

from cachestream.abc import Key
from cachestream.backends import DiskStore
from cachestream.backends._files import Root
from cachestream.backends._format import (
    TOTALS_ROW,
    Access,
    Counts,
    Head,
    KeyRow,
    Totals,
    key_row,
    order_row,
    origin_row,
    pack_segment,
    seal,
    segment_row,
)
from cachestream.backends._index import Index
from cachestream.backends._names import origin_of, variant_of
from cachestream.core.fields import Fields
from cachestream.core.representation import Representation

SIZE = 512
ROOM = 4096
SEGMENT = 64 * 1024 * 1024
TAG = '"1"'
BIRTH = 1_700_000_000_000_000  # when entry 0 was made and used, in microseconds

Rows = Iterator[tuple[str, bytes]]


class Crowd:
    """What is in a store with many entries: entry ``number`` is as old as its number says."""

    root: Path
    count: int

    def __init__(self, root: Path, count: int) -> None:
        self.root, self.count = root, count

    @staticmethod
    def source(number: int) -> str:
        """Return the source URL of an entry."""
        return f"https://example.com/{number}"

    @staticmethod
    def entry_id(number: int) -> str:
        """Return the identifier of an entry."""
        return f"{BIRTH + number:016x}{number:016x}"

    @staticmethod
    def body(number: int) -> bytes:
        """Return the content of an entry."""
        return number.to_bytes(8, "little") * (SIZE // 8)

    @property
    def files(self) -> Path:
        """Where the data files are."""
        return self.root / "data"

    def write_files(self, numbers: Iterable[int]) -> None:
        """Make the data files of some entries."""
        for number in numbers:
            path = self.files / self.entry_id(number)
            path.write_bytes(self.body(number))
            path.chmod(0o600)

    def store(self, **options: object) -> DiskStore:
        """Return a store here; the caller closes it."""
        return DiskStore(self.root, **{"min_free": 0, **options})


def entry_rows(number: int) -> Rows:
    """Yield the rows of an entry, less those that it shares with others."""
    name, source, when = Crowd.entry_id(number), Crowd.source(number), BIRTH + number
    known = Representation(complete_length=SIZE)
    head = Head(key=Key(source), source=source, representation=known, created=when)
    access = Access(when)
    extent = (0, SIZE, xxhash.xxh3_64_intdigest(Crowd.body(number)))
    yield f"e:{name}", head.pack()
    yield f"c:{name}", Counts(SIZE, ROOM).pack()
    yield f"t:{name}", access.pack()
    yield order_row(name, access), b""
    yield segment_row(name, 0), pack_segment([extent])
    yield key_row(head.key), KeyRow(head.key, ((name, variant_of(known)),)).pack()


def shared_rows(count: int, room: int, source: str) -> Rows:
    """Yield the rows that speak of all entries together, which are of one origin."""
    yield origin_row(origin_of(source)), str(count).encode()
    yield TOTALS_ROW, Totals(count, room).pack()


def long_entry_rows(spans: int, distance: int, source: str) -> Rows:
    """Yield the rows of entry 0 as one of ``spans`` spans, each a byte, evenly spread."""
    length = spans * distance
    known = Representation(complete_length=length, ranges=True, fields=Fields([("ETag", TAG)]))
    key, name = Key(source), Crowd.entry_id(0)
    yield f"e:{name}", Head(key=key, source=source, representation=known, created=BIRTH).pack()
    yield f"c:{name}", Counts(spans, spans * ROOM).pack()
    yield f"t:{name}", Access(BIRTH).pack()
    yield order_row(name, Access(BIRTH)), b""
    yield key_row(key), KeyRow(key, ((name, variant_of(known)),)).pack()
    yield from shared_rows(1, spans * ROOM, source)
    zero = xxhash.xxh3_64_intdigest(b"\0")
    for number in range(-(-length // SEGMENT)):
        first = -(-number * SEGMENT // distance) * distance
        last = min(length, (number + 1) * SEGMENT)
        extents = [(at, at + 1, zero) for at in range(first, last, distance)]
        if extents:
            yield segment_row(name, number), pack_segment(extents)


def write_rows(root: Path, rows: Iterable[tuple[str, bytes]]) -> None:
    """Put rows into the index of a store that nobody has open; those of a name are replaced."""
    with contextlib.closing(sqlite3.connect(root / "index" / "cache.db")) as base:
        base.execute("PRAGMA synchronous = OFF")
        base.execute("PRAGMA cache_size = -262144")
        triggers = base.execute("SELECT name, sql FROM sqlite_master WHERE type = 'trigger'")
        triggers = triggers.fetchall()
        for name, _ in triggers:
            base.execute(f"DROP TRIGGER {name}")
        base.executemany(
            "INSERT OR REPLACE INTO Cache (key, raw, store_time, size, mode, value)"
            f" VALUES (?, 1, 0, length(?2), {diskcache.core.MODE_RAW}, ?2)",
            ((name, seal(name, content)) for name, content in rows),
        )
        base.execute("UPDATE Settings SET value = (SELECT count(*) FROM Cache) WHERE key = 'count'")
        base.execute("UPDATE Settings SET value = (SELECT sum(size) FROM Cache) WHERE key = 'size'")
        for _, sql in triggers:
            base.execute(sql)
        base.commit()
        base.execute("PRAGMA wal_checkpoint(TRUNCATE)")


def _make_empty(root: Path) -> None:
    """Make the directories and the index of a store."""
    directories = Root(root)
    index = Index(directories.path / "index")
    index.open()
    directories.keep_spare()
    index.close()
    directories.close()


def make_crowd(root: Path, count: int) -> Crowd:
    """Make a store with ``count`` entries at ``root``, which must be new; no file is made."""
    _make_empty(root)
    write_rows(root, (row for number in range(count) for row in entry_rows(number)))
    write_rows(root, shared_rows(count, count * ROOM, Crowd.source(0)))
    return Crowd(root, count)


def make_long_entry(root: Path, spans: int, source: str, distance: int = 2**20) -> Crowd:
    """Make a store with one entry of ``spans`` spans, a zero byte at each ``distance``."""
    _make_empty(root)
    write_rows(root, long_entry_rows(spans, distance, source))
    crowd = Crowd(root, 1)
    path = crowd.files / crowd.entry_id(0)
    path.touch(0o600)
    os.truncate(path, spans * distance)
    return crowd


class Counter:
    """Counts what SQLite does for all connections that are made while it is there."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.statements: list[str] = []
        self.steps = 0
        self._connect = sqlite3.connect
        monkeypatch.setattr(sqlite3, "connect", self._counted)

    def _counted(self, *arguments: object, **options: object) -> sqlite3.Connection:
        connection = self._connect(*arguments, **options)  # type: ignore[call-overload]
        connection.set_trace_callback(self.statements.append)
        connection.set_progress_handler(self._step, 1)
        return connection  # type: ignore[no-any-return]

    def _step(self) -> int:
        self.steps += 1
        return 0

    def take(self) -> tuple[int, int]:
        """Return how many statements and steps of SQLite's machine there were since the last."""
        taken = len(self.statements), self.steps
        self.statements.clear()
        self.steps = 0
        return taken


@pytest.fixture
def counter(monkeypatch: pytest.MonkeyPatch) -> Counter:
    """Return a counter of what SQLite does from now on."""
    return Counter(monkeypatch)


@pytest.fixture(scope="session")
def crowds(tmp_path_factory: pytest.TempPathFactory) -> Callable[[int], Crowd]:
    """Return a function that gives a store of its own with so many entries, copied if it can."""
    made: dict[int, Path] = {}

    def get(count: int) -> Crowd:
        if count not in made:
            made[count] = tmp_path_factory.mktemp(f"crowd-{count}") / "cache"
            make_crowd(made[count], count)
        copy = tmp_path_factory.mktemp("crowd") / "cache"
        shutil.copytree(made[count], copy)
        copy.chmod(0o700)
        return Crowd(copy, count)

    return get


@pytest.fixture
def long_entry(tmp_path: Path) -> Callable[[int, str], Crowd]:
    """Return a function that makes a store with one entry of so many spans of a source."""
    return lambda spans, source: make_long_entry(tmp_path / f"long-{spans}", spans, source)
