"""What a program holds of one resource: its state, its bytes, its download."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from types import TracebackType
from typing import Self

import attrs

from cachestream._engine.file import materialise
from cachestream._engine.pool import ResourcePool
from cachestream._engine.reader import Reader
from cachestream._engine.resource import Resource
from cachestream.abc import END, Key
from cachestream.core.ranges import RangeSpec
from cachestream.core.representation import Representation
from cachestream.errors import CacheStreamError
from cachestream.settings import StreamSettings

__all__ = ["CacheResponse", "CacheState", "CacheStream"]


@attrs.frozen(kw_only=True)
class CacheState:
    """A snapshot of a stream.

    Attributes:
        position: One past the last byte of the stored prefix.
        stored_bytes: How many bytes are held in all.
        complete_length: Length of the content, None while unknown.
        downloading: Whether a download runs.
        complete: Whether every byte is stored and committed.
        error: The last failure of a download, None after progress.
    """

    position: int = 0
    stored_bytes: int = 0
    complete_length: int | None = None
    downloading: bool = False
    complete: bool = False
    error: Exception | None = None

    @property
    def progress(self) -> float | None:
        """Share that is held, two decimals; below 1.0 until complete, None if unknown."""
        if self.complete:
            return 1.0
        if not self.complete_length:
            return None
        return min(0.99, int(self.stored_bytes * 100 / self.complete_length) / 100)

    @property
    def remaining_bytes(self) -> int | None:
        """How many bytes are missing, None if unknown."""
        return None if self.complete_length is None else self.complete_length - self.stored_bytes


class CacheResponse:
    """Some bytes of a stream, read directly, without the local server.

    Iterate over it with ``async for``, and close it (``async with`` does).

    Attributes:
        start: First byte.
        complete_length: Length of the whole content, None if unknown.
        fields: The source's stored fields.
    """

    def __init__(self, reader: Reader) -> None:
        representation = reader.entry.representation
        self._reader = reader
        self.start = reader.position
        self.complete_length = representation.complete_length
        self.fields = representation.fields
        remaining = reader.remaining
        self.content_length = None if self.complete_length is None else len(remaining)

    @property
    def status(self) -> int:
        """200 for all of the content, 206 for a part."""
        whole = self.start == 0 and self.content_length == self.complete_length
        return 200 if whole else 206

    async def __aiter__(self) -> AsyncIterator[bytes]:
        while (piece := await self._reader.next(1 << 18)) is not END:
            yield materialise(piece)

    async def read(self, size: int = -1) -> bytes:
        """Return the next ``size`` bytes, fewer only at the end; all that are left if negative."""
        parts: list[bytes] = []
        missing = size
        while missing:
            piece = await self._reader.next(1 << 18 if size < 0 else min(missing, 1 << 18))
            if piece is END:
                break
            parts.append(materialise(piece))
            missing -= len(parts[-1])
        return b"".join(parts)

    def close(self) -> None:
        """Stop reading; idempotent."""
        self._reader.close()

    async def aclose(self) -> None:
        """Stop reading; idempotent."""
        self.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.aclose()


class CacheStream:
    """One resource in the hands of the program; there is one object for each live resource.

    It is retained when made; after the last `release` it pauses and is later disposed of.
    """

    def __init__(
        self,
        pool: ResourcePool,
        resource: Resource,
        url_for: Callable[[str], str | None],
        file_of: Callable[[Resource], Path | None],
        deliver: Callable[[Resource], object],
    ) -> None:
        self._pool = pool
        self._resource = resource
        self._url_for = url_for
        self._file_of = file_of
        self._deliver = deliver
        self._count = 0
        self._disposed = asyncio.Event()
        self._resurrected = asyncio.Event()

    # -- facts ------------------------------------------------------------

    @property
    def source(self) -> str:
        """The source URL."""
        return self._resource.source

    @property
    def key(self) -> Key:
        """The cache key."""
        return self._resource.key

    @property
    def cache_url(self) -> str | None:
        """The local URL, None without a local server."""
        return self._url_for(self._resource.source)

    @property
    def settings(self) -> StreamSettings:
        """The settings in force."""
        return self._resource.settings

    @property
    def representation(self) -> Representation | None:
        """What is known of the content now."""
        return self._resource.representation

    @property
    def file(self) -> Path | None:
        """Where the data lies, None if nowhere yet."""
        return self._file_of(self._resource)

    @property
    def state(self) -> CacheState:
        """The latest state."""
        resource = self._resource
        spans = resource.spans
        return CacheState(
            position=spans.run_stop(0),
            stored_bytes=spans.total,
            complete_length=resource.complete_length,
            downloading=bool(resource.downloads),
            complete=resource.is_committed,
            error=resource.last_error,
        )

    @property
    def progress(self) -> float | None:
        """See `CacheState.progress`."""
        return self.state.progress

    @property
    def last_error(self) -> Exception | None:
        """The last failure of a download, None if there was none since the last progress."""
        return self._resource.last_error

    @property
    def is_downloading(self) -> bool:
        """Whether a download runs."""
        return bool(self._resource.downloads)

    @property
    def is_disposed(self) -> bool:
        """Whether the stream was closed."""
        return self._resource.closed

    @property
    def is_retained(self) -> bool:
        """Whether the program holds it."""
        return self._count > 0

    @property
    def retain_count(self) -> int:
        """How often the program holds it."""
        return self._count

    # -- doing ------------------------------------------------------------

    async def download(self) -> Path | None:
        """Fetch all of it; return the file it is in, None if the store has no files.

        Raises:
            CacheStreamError: If it cannot be had or stored.
            ClosedError: If the stream is disposed of meanwhile.
        """
        await self._resource.complete()
        delivered = self._deliver(self._resource)
        if asyncio.iscoroutine(delivered):
            await delivered
        return self.file

    async def head(self) -> Representation:
        """Return what is known of the content, asking the origin if nothing is."""
        return await self._resource.head()

    async def request(self, start: int = 0, end: int | None = None) -> CacheResponse:
        """Return the bytes from ``start`` to ``end`` (exclusive; None: to the end).

        Raises:
            ValueError: If ``end`` is not after ``start``.
            RangeNotSatisfiableError: If ``start`` lies past the end.
        """
        if start < 0 or (end is not None and end <= start):
            raise ValueError(f"not a range: {start} to {end}")
        spec = None
        if start or end is not None:
            spec = RangeSpec(start, None if end is None else end - 1, None)
        return CacheResponse(await self._pool.obtain(self._resource, spec))

    async def states(self) -> AsyncIterator[CacheState]:
        """Yield the latest state at once, then each change, until the stream is disposed of.

        A slow consumer misses intermediate states, never the latest.
        """
        last = None
        while True:
            state = self.state
            if state != last:
                last = state
                yield state
            if self._resource.closed:
                return
            if state == self.state:
                try:
                    await self._resource.changed.wait()
                except CacheStreamError:
                    continue  # it is in the state

    async def validate_cache(
        self, *, force: bool = False, reset_invalid: bool = False
    ) -> bool | None:
        """Ask the origin whether what is held is current; None if there is nothing to ask about.

        Args:
            force: Ask although the stored answer is fresh.
            reset_invalid: Delete what is held if it is not current.

        Raises:
            TransportError: If the origin fails; nothing is deleted then.
        """
        valid = await self._resource.validate(force=force)
        if valid is False and reset_invalid:
            await self._resource.reset()
        return valid

    async def reset_cache(self) -> None:
        """Delete what is held; who reads it now fails, who comes later gets it anew."""
        await self._resource.reset()

    # -- its life ---------------------------------------------------------

    def retain(self) -> None:
        """Hold it once more; a pending pause or disposal is called off."""
        self._count += 1
        if self._resource.disposal_pending:
            self._resource.disposal_pending = False
            self._resurrected.set()
        self._pool.retain_resource(self._resource)

    def release(self) -> None:
        """Hold it once less; never below zero."""
        if self._count:
            self._count -= 1
            self._pool.release_resource(self._resource)

    async def dispose(self, *, force: bool = False) -> bool:
        """Release it, and close it as soon as nobody holds it; with ``force`` now.

        Returns:
            True when it is closed, False if somebody retained it again meanwhile.
        """
        if self._resource.closed:
            await self._disposed.wait()
            return True
        if force:
            self._count = 0
            await self._pool.dispose(self._resource)
            return True
        self._resurrected.clear()
        self._resource.disposal_pending = True
        if self._count:
            self.release()
        else:
            self._pool.retain_resource(self._resource)
            self._pool.release_resource(self._resource)
        done = asyncio.ensure_future(self._disposed.wait())
        again = asyncio.ensure_future(self._resurrected.wait())
        try:
            await asyncio.wait((done, again), return_when=asyncio.FIRST_COMPLETED)
        finally:
            for waiter in (done, again):
                waiter.cancel()
        return self._disposed.is_set()

    def mark_disposed(self) -> None:
        """Note that the resource was closed; called by the manager."""
        self._disposed.set()
