"""An asynchronous file over a resource: read, seek, tell."""

from __future__ import annotations

import os
from types import TracebackType
from typing import Self

from cachestream.abc import END, FileRegion
from cachestream.core.ranges import RangeSpec
from cachestream.errors import ClosedError, RangeNotSatisfiableError

from .pool import ResourcePool
from .reader import Reader
from .resource import Resource

__all__ = ["CacheFile", "materialise"]

PIECE = 1 << 20


def materialise(piece: object) -> bytes:
    """Return a piece's bytes, reading them from the file they are in if need be."""
    if isinstance(piece, FileRegion):
        return os.pread(piece.descriptor, piece.length, piece.offset)
    assert isinstance(piece, bytes | bytearray | memoryview)
    return bytes(piece)


class CacheFile:
    """A read-only file; reading on continues one reader, seeking away starts another.

    Use it with ``async with``; it is not meant for several tasks at a time.
    """

    def __init__(self, pool: ResourcePool, resource: Resource) -> None:
        self._pool = pool
        self._resource = resource
        self._reader: Reader | None = None
        self._position = 0
        self._closed = False

    @property
    def source(self) -> str:
        """The source URL."""
        return self._resource.source

    async def size(self) -> int | None:
        """Return the complete length in bytes, None if the origin does not tell."""
        return (await self._resource.head()).complete_length

    def tell(self) -> int:
        """Return the position of the next byte."""
        return self._position

    async def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Move the position; return it.

        Raises:
            ValueError: If that is before the start, or the end is not known.
        """
        base = 0
        if whence == os.SEEK_CUR:
            base = self._position
        elif whence == os.SEEK_END:
            size = await self.size()
            if size is None:
                raise ValueError("the end of this resource is not known")
            base = size
        if base + offset < 0:
            raise ValueError("a position before the start")
        self._position = base + offset
        return self._position

    async def read(self, size: int = -1) -> bytes:
        """Return ``size`` bytes, less only at the end; all to the end when negative.

        Raises:
            CacheStreamError: If they cannot be had.
        """
        self._check_open()
        parts: list[bytes] = []
        missing = size if size >= 0 else None
        while missing is None or missing > 0:
            data = await self.read1(PIECE if missing is None else missing)
            if not data:
                break
            parts.append(data)
            if missing is not None:
                missing -= len(data)
        return b"".join(parts)

    async def read1(self, size: int) -> bytes:
        """Return one to ``size`` bytes, as soon as there are any; none only at the end.

        The position moves only with what is returned: a read that is cancelled loses nothing.

        Raises:
            CacheStreamError: If they cannot be had.
        """
        self._check_open()
        reader = await self._reader_here() if size > 0 else None
        piece = END if reader is None else await reader.next(min(size, PIECE))
        if piece is END:
            return b""
        data = materialise(piece)
        self._position += len(data)
        return data

    def _check_open(self) -> None:
        if self._closed:
            raise ClosedError("the file is closed", url=self.source)

    async def _reader_here(self) -> Reader | None:
        """Return a reader at the position; None past the end."""
        if self._reader is not None and self._reader.position == self._position:
            return self._reader
        self._drop_reader()
        spec = RangeSpec(self._position, None, None) if self._position else None
        try:
            self._reader = await self._pool.obtain(self._resource, spec)
        except RangeNotSatisfiableError:
            return None
        while self._reader.position < self._position:  # the length is unknown: read up to here
            piece = await self._reader.next(min(PIECE, self._position - self._reader.position))
            if piece is END:
                return None
        return self._reader

    def _drop_reader(self) -> None:
        if self._reader is not None:
            self._reader.close()
            self._reader = None

    async def aclose(self) -> None:
        """Give the reader up; idempotent."""
        if not self._closed:
            self._closed = True
            self._drop_reader()
            self._pool.release_resource(self._resource)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.aclose()
