"""Writing an open entry: straight to the file while it is fast, by a thread when it is not."""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from collections import deque
from typing import Final

import xxhash

from cachestream.abc import Buffer, SpanWriter
from cachestream.backends._extents import CELL
from cachestream.backends._files import medium_errors, store_error
from cachestream.backends._shared import Shared
from cachestream.core.spans import Span
from cachestream.errors import ClosedError, StoreError

__all__ = ["DiskWriter"]

_SLOW_S: Final = 0.005
"""A write that held up the event loop for longer is followed by writes in a thread."""

_LARGE: Final = 4 * 1024 * 1024
"""A piece of more bytes is not written on the loop even if the disk seems fast."""


class DiskWriter(SpanWriter):
    """Writes consecutive bytes; several may write one entry, on disjoint holes."""

    def __init__(self, shared: Shared, position: int) -> None:
        self.position = position
        self.backlog = 0
        self._shared = shared
        self._pieces: deque[tuple[int, memoryview]] = deque()
        self._slow = False
        self._flushing = False
        self._error: StoreError | None = None
        self._closed = self._settled = False
        self._waiters: list[asyncio.Future[None]] = []
        self._tail_start = self._tail_stop = position
        self._tail_sum: xxhash.xxh3_64 | None = None
        shared.writers.add(self)

    # -- what the engine calls -------------------------------------------

    def write(self, piece: Buffer) -> bool:
        """Take ``piece`` over; bytes that are stored already are left as they are."""
        self._check()
        view = memoryview(piece).cast("B")
        span = Span(self.position, self.position + len(view))
        for gap in list(self._shared.spans.gaps(span)):
            self._put(gap, view[gap.start - span.start : gap.stop - span.start])
        self.position = span.stop
        return not self._lags

    async def drain(self) -> None:
        """Return when at most the high-water mark of written bytes is unflushed.

        The mark is for all writers of the store together; one with no backlog never waits.
        """
        while self._lags and self._error is None:
            await self._wait_flush()
        self._raise_error()

    async def commit(self) -> None:
        """Return when everything written so far survives a crash of the process."""
        await self._wait_empty()
        if self._shared.dirty:
            await self._shared.host.committer.flush()

    async def aclose(self) -> None:
        """Commit what was written, and give the position up.

        If it was cancelled, closing again goes on with what was left to do.
        """
        self._closed = True
        if self._settled or self._shared.host.stopped:
            return
        try:
            await self._wait_empty()
            if self._shared.dirty:
                await self._shared.host.committer.flush()
            self._settled = True
        except StoreError:
            self._settled = True  # it is told once
            raise
        finally:
            if not self._flushing:
                self._leave()

    # -- what the entry asks ---------------------------------------------

    @property
    def has_tail(self) -> bool:
        """Whether the last extent is still growing and may not be committed as it is."""
        return self._tail_sum is not None

    def seal_tail(self) -> None:
        """Let the extents contain what was written last; it may grow later."""
        if self._tail_sum is not None and self._tail_stop > self._tail_start:
            extent = (self._tail_start, self._tail_stop, self._tail_sum.intdigest())
            self._shared.extents.put(extent)

    def cut_tail(self) -> None:
        """Let the last extent end here; what is written next begins another."""
        self.seal_tail()
        self._tail_sum = None

    def copy_backlog(self, span: Span, target: bytearray) -> None:
        """Copy those bytes of ``span`` that are in the backlog to their place in ``target``."""
        for start, view in self._pieces:
            part = span.intersection(Span(start, start + len(view)))
            if part:
                data = view[part.start - start : part.stop - start]
                target[part.start - span.start : part.stop - span.start] = data

    # -- the way to the file ---------------------------------------------

    def _check(self) -> None:
        if self._closed or self._shared.host.stopped:
            raise ClosedError("this writer is closed", url=self._shared.source)
        self._raise_error()

    def _put(self, span: Span, view: memoryview) -> None:
        shared = self._shared
        shared.host.room.reserve(shared, span)
        if self._slow or len(span) > _LARGE:
            self._enqueue(span, view)
            return
        if shared.unflushed and shared.host.room.limit is not None:
            shared.expect(shared.blocks_for(span))
        begun = time.perf_counter()
        with medium_errors(shared.source):
            _pwrite(shared.descriptor, view, span.start)
        self._slow = time.perf_counter() - begun > _SLOW_S
        shared.spans.add(span)
        self._landed(span, view)

    def _landed(self, span: Span, view: memoryview) -> None:
        """Note that bytes are in the file, and let their sum grow."""
        shared = self._shared
        shared.verified.add(span)
        if self._tail_stop != span.start:
            self.cut_tail()
        position = span.start
        while position < span.stop:
            end = min(span.stop, (position // CELL + 1) * CELL)
            if self._tail_sum is None:
                self._tail_start, self._tail_sum = position, xxhash.xxh3_64()
            self._tail_sum.update(view[position - span.start : end - span.start])
            self._tail_stop = position = end
            if end % CELL == 0:
                self.cut_tail()
        if shared.host.room.limit is not None:
            shared.measure()
        shared.mark(len(span))

    async def settle(self) -> None:
        """Return when nothing is in the backlog, whether it could be written or not."""
        with contextlib.suppress(StoreError):
            await self._wait_empty()

    # -- the backlog -----------------------------------------------------

    def _enqueue(self, span: Span, view: memoryview) -> None:
        shared = self._shared
        shared.expect(shared.blocks_for(span))
        self._pieces.append((span.start, _apart(view)))
        self._backlog_grows(len(view))
        for known in (shared.spans, shared.verified, shared.unflushed):
            known.add(span)
        self._flush()

    def _flush(self) -> None:
        if self._flushing or not self._pieces:
            return
        self._flushing = True
        # The writer may be dropped meanwhile; the job keeps it, and the file open.
        lease = self._shared.leases.take(Span(0, 0))
        job = self._shared.host.in_io(_write_all, self._shared.descriptor, list(self._pieces))
        job.add_done_callback(self._flushed)
        job.add_done_callback(lambda done: lease.release())

    def _flushed(self, done: asyncio.Future[tuple[int, float]]) -> None:
        self._flushing = False
        error = done.exception()
        if error is not None:
            self._lose(error)
        else:
            count, slowest = done.result()
            for _ in range(count):
                start, view = self._pieces.popleft()
                span = Span(start, start + len(view))
                self._backlog_grows(-len(view))
                self._shared.unflushed.discard(span)
                self._landed(span, view)
            if not self._pieces:
                self._slow = slowest > _SLOW_S
        waiters, self._waiters = self._waiters, []
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(None)
        self._flush()
        if self._closed and not self._flushing:
            self._leave()

    def _lose(self, error: BaseException) -> None:
        """Take back what could not be written: it is a hole again."""
        shared = self._shared
        for start, view in self._pieces:
            for known in (shared.spans, shared.verified, shared.unflushed):
                known.discard(Span(start, start + len(view)))
        self._pieces.clear()
        self._backlog_grows(-self.backlog)
        shared.measure()
        self._error = store_error(
            error if isinstance(error, OSError) else OSError(str(error)), shared.source
        )

    @property
    def _lags(self) -> bool:
        host = self._shared.host
        return self.backlog > 0 and host.backlog > host.options.high_water

    def _backlog_grows(self, count: int) -> None:
        self.backlog += count
        self._shared.host.backlog += count

    async def _wait_empty(self) -> None:
        """Return when nothing is in the backlog.

        Raises:
            StoreError: If it could not be written.
        """
        while self.backlog and self._error is None:
            await self._wait_flush()
        self._raise_error()

    async def _wait_flush(self) -> None:
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiters.append(waiter)
        await waiter

    def _raise_error(self) -> None:
        if self._error is not None:
            raise self._error

    def _leave(self) -> None:
        self.cut_tail()
        self._shared.writers.discard(self)


def _apart(view: memoryview) -> memoryview:
    """Return these bytes alone, where to keep them would keep many more that lie beside them."""
    whole = memoryview(view.obj).nbytes
    return view if 8 * len(view) >= 7 * whole else memoryview(bytes(view))


def _write_all(descriptor: int, pieces: list[tuple[int, memoryview]]) -> tuple[int, float]:
    """Write the pieces; return how many, and the time that the slowest took."""
    slowest = 0.0
    for start, view in pieces:
        begun = time.perf_counter()
        _pwrite(descriptor, view, start)
        slowest = max(slowest, time.perf_counter() - begun)
    return len(pieces), slowest


def _pwrite(descriptor: int, view: memoryview, position: int) -> None:
    while view:
        written = os.pwrite(descriptor, view, position)
        view, position = view[written:], position + written
