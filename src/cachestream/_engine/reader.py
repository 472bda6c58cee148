"""A reader: waits until the bytes it wants are stored, and reads them from the entry."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from cachestream.abc import END, Body, End, Entry, Lease, Piece
from cachestream.core.spans import UNBOUNDED, Span
from cachestream.errors import (
    CacheStreamError,
    ClosedError,
    NotStoredError,
    RepresentationChangedError,
    StoreCorruptError,
    UpstreamTimeoutError,
)

from .holding import HeldEntry
from .waiters import Waiter

if TYPE_CHECKING:
    from .resource import Resource

__all__ = ["Reader"]

IN_MEMORY: Final = 256 * 1024
"""Most bytes of one piece in memory: a slow client keeps its piece for long."""


class Reader(Body):
    """Reads one span of one representation, in order; made by `Resource.obtain`.

    It is the body of an answer as it stands. It owns nothing but its place: closing it
    changes nothing for others.
    """

    def __init__(self, resource: Resource, held: HeldEntry, span: Span, sequential: int) -> None:
        self.resource = resource
        self.held = held.retain()
        self.entry: Entry = held.entry
        self.position = span.start
        self.stop = span.stop
        self.sequential = sequential
        self.begun = False
        self.waiting = False
        self.waiting_since = 0.0
        self.joined = sequential > 0
        self.error: Exception | None = None
        self.closed = False
        self._lease: Lease | None = None
        self._waiter: Waiter | None = None
        self._watcher: asyncio.TimerHandle | None = None
        self._replan_at = 0

    @property
    def remaining(self) -> Span:
        """What is still to be read; its stop is `UNBOUNDED` while the length is unknown."""
        length = self.entry.representation.complete_length
        stop = self.stop if length is None else min(self.stop, length)
        return Span(self.position, max(self.position, stop))

    # -- the body ---------------------------------------------------------

    def take_nowait(self, limit: int) -> Piece | End | None:
        """Return stored bytes at the position, END, or None if there is something to wait for."""
        self._release()
        if self.error is not None:
            raise self.error
        remaining = self.remaining
        if not remaining:
            return END
        stop = self.entry.spans.run_stop(self.position)
        if stop <= self.position:
            return None
        span = Span(self.position, min(stop, remaining.stop, self.position + limit))
        lease = self.entry.lease(span)
        piece: Piece | None = self.entry.region_nowait(span)
        if piece is None:
            piece = self.entry.read_nowait(Span(span.start, min(span.stop, span.start + IN_MEMORY)))
        if piece is None:
            lease.release()
            return None
        self._lease = lease
        self._advance(piece)
        return piece

    async def next(self, limit: int) -> Piece | End:
        """Return the next piece, waiting until it is stored.

        Raises:
            RepresentationChangedError: If the rest will never come: there is a new version.
            UpstreamTimeoutError: If nothing came for as long as `request_timeout`.
            TransportError: If the origin failed for good.
            ClosedError: If the reader or its resource was closed.
        """
        while (piece := self.take_nowait(limit)) is None:
            if self.closed:
                raise ClosedError("the reader is closed", url=self.resource.source)
            stop = self.entry.spans.run_stop(self.position)
            if stop <= self.position:
                await self._wait()
                continue
            span = Span(self.position, min(stop, self.remaining.stop, self.position + limit))
            with self.entry.lease(span):
                try:
                    data = await self.entry.read(span)
                except (StoreCorruptError, NotStoredError):
                    continue  # it is a hole now, and will be fetched anew
            if self.error is not None:
                raise self.error
            self._advance(data)
            return data
        return piece

    async def wait_begun(self) -> None:
        """Wait until the first byte can be read, so that a failure can still be a status."""
        while self.remaining and self.position not in self.entry.spans:
            if self.error is not None:
                raise self.error
            await self._wait()
        if self.error is not None:
            raise self.error
        self.begun = True

    def close(self) -> None:
        """Give up the place; idempotent."""
        if self.closed:
            return
        self.closed = True
        self._release()
        self._wake(ClosedError("the reader is closed", url=self.resource.source))
        self.resource.reader_closed(self)

    # -- for the resource -------------------------------------------------

    def fail(self, error: Exception) -> None:
        """Make the reader raise ``error`` from its next byte on."""
        if self.error is None:
            self.error = error
        self._wake(error)

    def outdate(self) -> None:
        """The entry has been superseded: go on only if every byte to be read is stored."""
        if not self.entry.spans.covers(self.remaining):
            self.fail(
                RepresentationChangedError(
                    "the origin has a new version of this resource", url=self.resource.source
                )
            )

    # -- inside -----------------------------------------------------------

    def _advance(self, piece: Piece) -> None:
        length = len(piece) if not hasattr(piece, "length") else piece.length
        self.begun = True
        self.position += length
        self.sequential += length
        self.resource.context.counters.bytes_from_store += length
        if self.position >= self._replan_at:
            self._replan_at = self.position + self.resource.scheduler.reader_moved(self)

    def _release(self) -> None:
        if self._lease is not None:
            self._lease.release()
            self._lease = None

    def _wake(self, error: Exception) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_exception(error)

    async def _wait(self) -> None:
        """Wait for the byte at the position; every wait has a limit."""
        resource = self.resource
        self.waiting = True
        self.waiting_since = asyncio.get_running_loop().time()
        waiter = self._waiter = resource.waiters.enter(self.position)
        try:
            resource.reader_waits(self)
            self._watch()
            await waiter
        finally:
            if self._watcher is not None:
                self._watcher.cancel()
            self.waiting = False
            self._waiter = self._watcher = None
            resource.waiters.leave(waiter)
            if waiter.done() and not waiter.cancelled():
                waiter.exception()  # seen, whatever became of us

    def _watch(self) -> None:
        """Let the wait fail when its time is up, which later when something came meanwhile."""
        patience = self._patience()
        if patience > 0:
            loop = asyncio.get_running_loop()
            self._watcher = loop.call_later(patience, self._watch)
        else:
            self._wake(self._impatience())

    def _patience(self) -> float:
        """Return for how long to wait from now on, in seconds."""
        settings = self.resource.settings
        now = asyncio.get_running_loop().time()
        quiet = max(self.waiting_since, self.resource.progressed) + settings.request_timeout - now
        if settings.max_wait is None:
            return quiet
        return min(quiet, self.waiting_since + settings.max_wait - now)

    def _impatience(self) -> CacheStreamError:
        error = UpstreamTimeoutError(
            f"the origin sent nothing for byte {self.position} in time",
            url=self.resource.source,
            hint="Try again later; what is stored stays stored.",
        )
        error.__cause__ = self.resource.last_error
        return error

    @property
    def open_ended(self) -> bool:
        """Whether the end was not known when it began."""
        return self.stop >= UNBOUNDED
