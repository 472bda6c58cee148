"""A folder on any fsspec filesystem, used from an event loop without blocking it.

All calls run in a small thread pool of its own. Methods that say *blocking* are for these
threads; `run` and `submit` bring them there.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import ftplib
import os
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final, ParamSpec, TypeVar
from weakref import WeakValueDictionary

import fsspec
from fsspec.core import url_to_fs

from cachestream.errors import ClosedError, ConfigurationError, StoreError, StoreFullError

__all__ = ["ObjectMedium", "Sharing"]

P = ParamSpec("P")
T = TypeVar("T")

_WORKERS: Final = 4
_PARALLEL: Final = frozenset({"file", "local", "memory"})
"""Filesystems without an async side that several threads may use at a time; with the others
(FTP, SFTP) a connection belongs to one call at a time."""

_FLAT: Final = frozenset(
    {"abfs", "abfss", "adl", "az", "gcs", "gs", "oci", "oss", "s3", "s3a", "tos"}
)
"""Filesystems without folders. Asked for one, some make a bucket if the name is unknown: a
mistyped name would become somebody's new bucket."""


class Sharing:
    """Who in this process has which entry of a place open; all stores at it share one.

    Attributes:
        writers: Which store may write an entry.
        opens: How many stores have an entry open.
        pending: What is to be removed when nobody has the entry open any more.
    """

    def __init__(self) -> None:
        self.writers: dict[str, object] = {}
        self.opens: Counter[str] = Counter()
        self.pending: dict[str, list[str]] = {}

    def claim(self, entry_id: str, store: object) -> bool:
        """Note that ``store`` opens an entry; tell whether it may write it."""
        self.opens[entry_id] += 1
        return self.writers.setdefault(entry_id, store) is store

    def release(self, entry_id: str, store: object) -> list[str]:
        """Note that ``store`` closed an entry; return what is to be removed now."""
        if self.writers.get(entry_id) is store:
            del self.writers[entry_id]
        self.opens[entry_id] -= 1
        if self.opens[entry_id] > 0:
            return []
        del self.opens[entry_id]
        return self.pending.pop(entry_id, [])


_PLACES: Final[WeakValueDictionary[str, Sharing]] = WeakValueDictionary()


class ObjectMedium:
    """A folder of objects.

    Args:
        url: Where it is, as fsspec writes it.
        options: What the filesystem is told: credentials, endpoints, timeouts.

    Raises:
        ConfigurationError: If there is no such filesystem, or its library is missing.
    """

    def __init__(self, url: str, options: Mapping[str, Any]) -> None:
        self.url = url
        self._options = dict(options)
        self._shown = _without_user(url)
        protocol = url.partition("://")[0] if "://" in url else "file"
        try:
            kind = fsspec.get_filesystem_class(protocol.partition("::")[0])
        except (ValueError, ImportError) as exc:
            raise ConfigurationError(
                f"no filesystem for {protocol}:// can be used", hint=str(exc)
            ) from exc
        self._flat = protocol in _FLAT
        parallel = kind.async_impl or protocol in _PARALLEL
        self._pool = ThreadPoolExecutor(
            _WORKERS if parallel else 1, thread_name_prefix="cachestream-objects"
        )
        place = f"{url.rstrip('/')} {sorted(self._options.items(), key=str)!r}"
        self.sharing = _PLACES.setdefault(place, Sharing())
        self._fs: Any = None
        self._connecting = threading.Lock()
        self._root = ""
        self._made: set[str] = set()
        self._jobs: set[asyncio.Future[Any]] = set()

    # -- from the event loop ---------------------------------------------

    def submit(self, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> asyncio.Future[T]:
        """Start ``call`` in a thread; `settle` waits for it if nobody else does."""
        loop = asyncio.get_running_loop()
        try:
            job = loop.run_in_executor(self._pool, lambda: call(*args, **kwargs))
        except RuntimeError as exc:
            raise ClosedError("this store is closed") from exc
        self._jobs.add(job)
        job.add_done_callback(self._jobs.discard)
        return job

    async def run(self, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Return what ``call`` returns in a thread.

        A cancelled caller waits for the end of the call, so that nothing goes on behind the
        back of whoever holds a lock.
        """
        job = self.submit(call, *args, **kwargs)
        await _finished(job)
        return job.result()

    async def settle(self) -> None:
        """Return when nothing runs in a thread any more."""
        while self._jobs:
            await asyncio.wait(set(self._jobs))

    def close(self) -> None:
        """Drop what has not begun, and wait for what has."""
        self._pool.shutdown(wait=True, cancel_futures=True)

    # -- blocking --------------------------------------------------------

    def names(self, folder: str) -> list[str]:
        """Return the names in ``folder``, without it; blocking."""
        try:
            found = self._act(folder, lambda fs: fs.ls(self._path(folder), detail=False))
        except FileNotFoundError:
            return []
        return [str(path).rstrip("/").rpartition("/")[2] for path in found]

    def deep_names(self, folder: str) -> list[str]:
        """Return the last parts of all names under ``folder``, sorted; blocking."""
        try:
            found = self._act(folder, lambda fs: fs.find(self._path(folder)))
        except FileNotFoundError:
            return []
        return sorted(str(path).rpartition("/")[2] for path in found)

    def get(self, name: str, start: int | None = None, stop: int | None = None) -> bytes | None:
        """Return an object or a part of it, None if it is not there; blocking."""
        try:
            return self._act(
                name, lambda fs: bytes(fs.cat_file(self._path(name), start=start, end=stop))
            )
        except FileNotFoundError:
            return None

    def put(self, name: str, data: bytes) -> None:
        """Write a whole object; blocking."""
        folder = name.rpartition("/")[0]

        def write(fs: Any) -> None:
            if not self._flat and folder not in self._made:
                fs.makedirs(self._path(folder), exist_ok=True)
                self._made.add(folder)
            fs.pipe_file(self._path(name), data)

        try:
            self._act(name, write)
        except FileNotFoundError:
            # Somebody removed the empty folder meanwhile.
            self._made.discard(folder)
            try:
                self._act(name, write)
            except FileNotFoundError as exc:
                raise self._store_error(name, exc.__cause__) from exc

    def remove(self, names: Iterable[str]) -> None:
        """Remove objects, and folders (with a slash at the end) with all in them; blocking."""
        for name in names:
            if name.endswith("/"):
                folder = name.rstrip("/")
                self.remove([f"{folder}/{each}" for each in self.names(folder)])
                self.remove_folder(folder)
                continue
            with contextlib.suppress(FileNotFoundError):
                self._remove_one(name)

    def _remove_one(self, name: str) -> None:
        self._act(name, lambda fs: fs.rm_file(self._path(name)))

    def remove_folder(self, folder: str) -> None:
        """Remove a folder if it is empty and if there is such a thing here; blocking."""
        self._made.discard(folder)
        # Buckets have no folders, and others may have put something in: neither matters.
        with contextlib.suppress(Exception):
            self._ready().rmdir(self._path(folder))

    def _ready(self) -> Any:
        """Connect at the first use: constructing some filesystems does I/O."""
        with self._connecting:
            if self._fs is None:
                fs, root = url_to_fs(
                    self.url, skip_instance_cache=True, use_listings_cache=False, **self._options
                )
                self._root = root.rstrip("/")
                if "file" in fs.protocol:
                    os.makedirs(self._root, mode=0o700, exist_ok=True)
                self._fs = fs
            return self._fs

    def _path(self, name: str) -> str:
        return f"{self._root}/{name}"

    def _act(self, name: str, act: Callable[[Any], T]) -> T:
        """Return what ``act`` does with the filesystem; a lost connection is made anew, once.

        Raises:
            FileNotFoundError: If there is nothing of this name.
            StoreError: If anything else went wrong: no error of a library comes out.
        """
        try:
            return self._attempt(name, act)
        except _LostError:
            self._fs = None
        # All that is done here can be done twice.
        try:
            return self._attempt(name, act)
        except _LostError as exc:
            raise self._store_error(name, exc.__cause__) from exc.__cause__

    def _attempt(self, name: str, act: Callable[[Any], T]) -> T:
        try:
            return act(self._ready())
        except Exception as exc:
            if _is_lost(exc):
                raise _LostError from exc
            if _is_missing(exc):
                raise FileNotFoundError(name) from exc
            raise self._store_error(name, exc) from exc

    def _store_error(self, name: str, cause: BaseException | None) -> StoreError:
        full = isinstance(cause, OSError) and cause.errno in {errno.ENOSPC, errno.EDQUOT}
        kind = StoreFullError if full else StoreError
        return kind(f"{name} at the objects store's place {self._shown} failed: {cause}")


class _LostError(Exception):
    """The connection is gone; the cause says how."""


def _without_user(url: str) -> str:
    """Return a URL as it may be shown: a name and a password in it are not."""
    scheme, mark, rest = url.partition("://")
    return f"{scheme}{mark}{rest.rpartition('@')[2]}"


def _is_missing(exc: Exception) -> bool:
    unavailable = isinstance(exc, ftplib.error_perm) and str(exc).startswith("550")
    return unavailable or isinstance(exc, FileNotFoundError)


def _is_lost(exc: BaseException | None) -> bool:
    """Tell whether a lost connection is behind an error.

    FTP's filesystem calls a file missing when the server has hung up. To believe it would
    forget what is stored, so the whole chain of causes is asked.
    """
    while exc is not None:
        if isinstance(exc, EOFError | ConnectionError | TimeoutError | ftplib.error_temp):
            return True
        exc = exc.__cause__ or exc.__context__
    return False


async def _finished(job: asyncio.Future[Any]) -> None:
    """Wait for the end of ``job``, and be cancelled no sooner."""
    cancelled: asyncio.CancelledError | None = None
    while not job.done():
        try:
            await asyncio.wait([job])
        except asyncio.CancelledError as exc:
            cancelled = exc
    if cancelled is not None:
        if not job.cancelled():
            job.exception()  # somebody has to look at it
        raise cancelled
