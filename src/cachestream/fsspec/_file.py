"""Files that read through the cache: a blocking one, and one for event loops."""

from __future__ import annotations

import io
import os
import threading
from typing import TYPE_CHECKING, Any, Final, Self, TypeVar

from fsspec.asyn import get_loop, sync

from cachestream.fsspec._caches import on_loop
from cachestream.fsspec._cursor import Cursor
from cachestream.fsspec._errors import os_errors

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

    from cachestream.fsspec._filesystem import CachestreamFileSystem

__all__ = ["AsyncCachestreamFile", "CachestreamFile"]

T = TypeVar("T")

LINE_BLOCK: Final = 1 << 16
"""How much is read at a time in the search for the end of a line."""


class _Opened:
    """What both kinds of file have in common.

    Attributes:
        fs: The file system it belongs to.
        path: Its URL.
        details: What `info` said when it was opened.
        size: Its length in bytes, None if the origin does not tell.
    """

    def __init__(
        self, fs: CachestreamFileSystem, path: str, details: dict[str, Any], cursor: Cursor
    ) -> None:
        super().__init__()
        self.fs = fs
        self.path = path
        self.details = details
        self.size: int | None = details["size"]
        self._cursor = cursor
        self._position = 0

    @property
    def mode(self) -> str:
        """Always ``rb``."""
        return "rb"

    def info(self) -> dict[str, Any]:
        """Return what was known of the file when it was opened."""
        return self.details

    def _moved(self, offset: int, whence: int) -> int:
        base = 0
        if whence == os.SEEK_CUR:
            base = self._position
        elif whence == os.SEEK_END:
            if self.size is None:
                raise io.UnsupportedOperation("the end of this file is not known")
            base = self.size
        elif whence != os.SEEK_SET:
            raise ValueError(f"not a place to seek from: {whence}")
        if base + offset < 0:
            raise ValueError("a position before the start")
        return base + offset

    def _wanted(self, size: int | None) -> int | None:
        """Return how many bytes to ask for; None for all to an end that is not known."""
        left = None if self.size is None else max(0, self.size - self._position)
        if size is None or size < 0:
            return left
        return size if left is None else min(size, left)


class CachestreamFile(_Opened, io.RawIOBase):
    """A read-only binary file. Scattered reads fetch what they ask for, others read ahead.

    Reads return all bytes that were asked for, short only at the end. It may be used from any
    thread but that of fsspec's event loop, and is pickled as the URL, options and position.
    """

    def __init__(
        self, fs: CachestreamFileSystem, path: str, details: dict[str, Any], cursor: Cursor
    ) -> None:
        super().__init__(fs, path, details, cursor)
        self._lock = threading.RLock()
        self._line = b""  # what was read past the end of a line: the bytes at the position

    def readable(self) -> bool:
        """Return True."""
        return True

    def seekable(self) -> bool:
        """Return True."""
        return True

    def tell(self) -> int:
        """Return the position of the next byte."""
        self._check_open()
        return self._position

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Move the position and return it; nothing is fetched.

        Raises:
            ValueError: If that is before the start.
            io.UnsupportedOperation: If it is relative to an end that is not known.
        """
        self._check_open()
        with self._lock:
            position = self._moved(offset, whence)
            moved = position - self._position
            self._line = self._line[moved:] if moved >= 0 else b""
            self._position = position
            return position

    def read(self, size: int | None = -1) -> bytes:
        """Return ``size`` bytes, fewer only at the end; all to the end if negative or None.

        Raises:
            OSError: If they cannot be had, or the origin has another version by now.
        """
        self._check_open()
        with self._lock:
            wanted = self._wanted(size)
            data = self._line if wanted is None else self._line[:wanted]
            missing = None if wanted is None else wanted - len(data)
            if missing is None or missing > 0:
                fetched = self._fetch(self._position + len(data), missing)
                data = data + fetched if data else fetched
            self._line = self._line[len(data) :]
            self._position += len(data)
            return data

    def readall(self) -> bytes:
        """Return all bytes to the end."""
        return self.read()

    def readinto(self, buffer: WriteableBuffer) -> int:
        """Fill ``buffer``, short only at the end; return how many bytes."""
        view = memoryview(buffer).cast("B")
        data = self.read(len(view))
        view[: len(data)] = data
        return len(data)

    def readline(self, size: int | None = -1) -> bytes:
        """Return the bytes up to and with the next newline, at most ``size`` if not negative."""
        self._check_open()
        limit = -1 if size is None else size
        with self._lock:
            searched = 0
            while True:
                found = self._line.find(b"\n", searched)
                if found >= 0 or 0 <= limit <= len(self._line):
                    break
                searched = len(self._line)
                more = self._fetch(self._position + searched, LINE_BLOCK)
                if not more:
                    break
                self._line += more
            stop = len(self._line) if found < 0 else found + 1
            return self.read(stop if limit < 0 else min(stop, limit))

    def _fetch(self, start: int, size: int | None) -> bytes:
        with os_errors():
            data: bytes = sync(get_loop(), self._cursor.read, start, size)
            return data

    def _check_open(self) -> None:
        if self.closed:
            raise ValueError("I/O operation on a closed file")

    def close(self) -> None:
        """Give up what is held of the cache; idempotent."""
        if not self.closed:
            loop = get_loop()
            loop.call_soon_threadsafe(self._cursor.close)
        super().close()

    def __reduce__(self) -> tuple[Any, ...]:
        return _reopen, (self.fs, self.path, self._position)


def _reopen(fs: CachestreamFileSystem, path: str, position: int) -> CachestreamFile:
    file: CachestreamFile = fs.open(path)
    file.seek(position)
    return file


class AsyncCachestreamFile(_Opened):
    """A read-only binary file for event loops; `CachestreamFileSystem.open_async` opens it.

    Not for several tasks at a time.
    """

    closed = False

    def tell(self) -> int:
        """Return the position of the next byte."""
        return self._position

    async def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Move the position and return it; see `CachestreamFile.seek`."""
        self._position = self._moved(offset, whence)
        return self._position

    async def read(self, size: int | None = -1) -> bytes:
        """Return ``size`` bytes, fewer only at the end; all to the end if negative or None.

        Raises:
            OSError: If they cannot be had, or the origin has another version by now.
        """
        if self.closed:
            raise ValueError("I/O operation on a closed file")
        wanted = self._wanted(size)
        if wanted == 0:
            return b""
        with os_errors():
            data = await on_loop(self._cursor.read(self._position, wanted))
        self._position += len(data)
        return data

    async def close(self) -> None:
        """Give up what is held of the cache; idempotent."""
        if not self.closed:
            self.closed = True
            await on_loop(self._close())

    async def _close(self) -> None:
        self._cursor.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.close()
