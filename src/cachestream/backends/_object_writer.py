"""Writing an entry of the objects store."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from cachestream.abc import Buffer, SpanWriter
from cachestream.backends._object_parts import Part
from cachestream.core.spans import Span
from cachestream.errors import ClosedError

if TYPE_CHECKING:
    from cachestream.backends._object_open import OpenEntry

__all__ = ["ObjectsWriter"]

_COMMIT_BYTES: Final = 16 * 1024 * 1024
"""A writer whose entry has so many bytes without a record is held back until it has one."""


class ObjectsWriter(SpanWriter):
    """Gathers bytes in memory, readable at once, and puts them as objects of one part each."""

    def __init__(self, shared: OpenEntry, position: int) -> None:
        self.position = position
        self.part: Part | None = None
        self._shared = shared
        self._jobs: dict[asyncio.Future[tuple[int, ...]], int] = {}
        self._error: BaseException | None = None
        self._told = False
        self._closed = False
        shared.writers.add(self)

    @property
    def backlog(self) -> int:
        """How many bytes are in memory only."""
        return sum(self._jobs.values()) + (0 if self.part is None else self.part.size)

    def write(self, piece: Buffer) -> bool:
        """Take ``piece`` over; bytes that are stored already are left as they are."""
        self._check()
        shared, store = self._shared, self._shared.store
        view = memoryview(piece).cast("B")
        span = Span(self.position, self.position + len(view))
        gaps = list(shared.spans.gaps(span))
        store.make_room(sum(map(len, gaps)))
        for gap in gaps:
            position = gap.start
            while position < gap.stop:
                # Parts end at the same places whoever writes, so that they line up.
                stop = min(gap.stop, (position // store.part_size + 1) * store.part_size)
                self._append(position, view[position - span.start : stop - span.start])
                position = stop
        self.position = span.stop
        late = shared.is_visible and shared.uncommitted >= _COMMIT_BYTES
        return not late and self.backlog <= 2 * store.part_size

    def _append(self, position: int, view: memoryview) -> None:
        shared = self._shared
        if self.part is not None and self.part.stop != position:
            self._seal()
        if self.part is None:
            self.part = Part(Span(position, position), bytearray())
        self.part.append(view)
        shared.spans.add(Span(position, position + len(view)))
        shared.charge(len(view))
        if self.part.stop % shared.store.part_size == 0:
            self._seal()

    def _seal(self) -> None:
        part, self.part = self.part, None
        if part is None:
            return
        for job in self._shared.seal(part):
            self._jobs[job] = part.size
            job.add_done_callback(self._done)

    def _done(self, job: asyncio.Future[tuple[int, ...]]) -> None:
        self._jobs.pop(job, None)
        if job.cancelled():
            self._error = ClosedError("this store is closed", url=self._shared.source)
        elif job.exception() is not None:
            self._error = job.exception()

    async def drain(self) -> None:
        """Return when at most two parts are in memory only."""
        self._raise_error()
        while self._jobs and self.backlog > 2 * self._shared.store.part_size:
            await asyncio.wait(set(self._jobs), return_when=asyncio.FIRST_COMPLETED)
            self._raise_error()
        if self._shared.is_visible and self._shared.uncommitted >= _COMMIT_BYTES:
            await self._shared.commit()

    async def commit(self) -> None:
        """Return when everything written so far is in objects, and in the record."""
        self._check()
        await self.flush()
        await self._shared.commit()

    async def aclose(self) -> None:
        """Commit what was written, and give the position up."""
        if self._closed:
            return
        self._closed = True
        if self._shared.store.dead:
            return
        try:
            await self.flush()
            await self._shared.commit()
        finally:
            self.leave()

    async def flush(self, *, again: bool = True) -> None:
        """Return when nothing is in memory only.

        Args:
            again: Whether a failure is raised that somebody was told of already.
        """
        self._seal()
        while self._jobs:
            await asyncio.wait(set(self._jobs))
        if again or not self._told:
            self._raise_error()

    def leave(self) -> None:
        """Take no more; what is in memory still is put."""
        self._closed = True
        if not self._shared.store.dead:
            self._seal()
        self._shared.writers.discard(self)

    def _check(self) -> None:
        self._shared.store.check_open()
        if self._closed:
            raise ClosedError("this writer is closed", url=self._shared.source)
        self._raise_error()

    def _raise_error(self) -> None:
        if self._error is not None:
            self._told = True
            raise self._error
