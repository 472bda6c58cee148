"""Writing an entry: bytes are gathered in memory, readable at once, and put as whole objects."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from cachestream.abc import Buffer, SpanWriter
from cachestream.core.spans import Span, SpanSet
from cachestream.errors import ClosedError

from cachestream_s3._parts import Part

if TYPE_CHECKING:
    from cachestream_s3._open import OpenEntry

__all__ = ["S3Writer"]


class S3Writer(SpanWriter):
    """Keeps at most about three objects in memory: one that grows, and two on their way."""

    def __init__(self, shared: OpenEntry, position: int) -> None:
        self.position = position
        self.part: Part | None = None
        self._shared = shared
        self._uploads: dict[asyncio.Task[None], int] = {}
        self._error: BaseException | None = None
        self._closed = False
        shared.writers.add(self)

    @property
    def _backlog(self) -> int:
        return sum(self._uploads.values()) + (0 if self.part is None else self.part.size)

    def write(self, piece: Buffer) -> bool:
        """Take ``piece`` over; bytes that are stored already are left as they are."""
        self._check()
        shared, store = self._shared, self._shared.store
        view = memoryview(piece).cast("B")
        span = Span(self.position, self.position + len(view))
        gaps = list(shared.spans.gaps(span))
        store.make_room(sum(map(len, gaps)))
        size = store.options.span_size
        for gap in gaps:
            start = gap.start
            while start < gap.stop:
                # Objects end at the same places whoever writes, so that they line up.
                stop = min(gap.stop, (start // size + 1) * size)
                self._append(start, view[start - span.start : stop - span.start])
                start = stop
        self.position = span.stop
        return self._backlog <= 2 * size and not shared.late

    def _append(self, start: int, view: memoryview) -> None:
        shared = self._shared
        if self.part is not None and self.part.stop != start:
            self._seal()
        if self.part is None:
            self.part = Part(start, start, SpanSet(), bytearray())
        part = self.part
        assert isinstance(part.data, bytearray)
        part.data += view
        part.stop += len(view)
        part.live.add(Span(part.start, part.stop))
        shared.spans.add(Span(start, part.stop))
        if part.stop % shared.store.options.span_size == 0:
            self._seal()

    def _seal(self) -> None:
        part, self.part = self.part, None
        if part is not None:
            upload = self._shared.upload(part)
            self._uploads[upload] = part.size
            upload.add_done_callback(self._done)

    def _done(self, upload: asyncio.Task[None]) -> None:
        self._uploads.pop(upload, None)
        if upload.cancelled():
            self._error = ClosedError("this store is closed", url=self._shared.source)
        elif upload.exception() is not None:
            self._error = upload.exception()

    async def drain(self) -> None:
        """Return when at most two objects are in memory only, and the head is not far behind."""
        self._raise()
        while self._uploads and self._backlog > 2 * self._shared.store.options.span_size:
            await asyncio.wait(set(self._uploads), return_when=asyncio.FIRST_COMPLETED)
            self._raise()
        if self._shared.late:
            await self._shared.commit()

    async def commit(self) -> None:
        """Return when everything written so far is in objects that the head names."""
        self._check()
        await self.flush()
        await self._shared.commit()

    async def flush(self) -> None:
        """Return when nothing is in memory only."""
        self._seal()
        while self._uploads:
            await asyncio.wait(set(self._uploads))
        self._raise()

    async def aclose(self) -> None:
        """Commit what was written, and give the position up; again after a cancelled attempt."""
        self._closed = True
        if self not in self._shared.writers:
            return
        try:
            if not self._shared.store.closed:
                await self.flush()
                await self._shared.commit()
        except asyncio.CancelledError:
            raise
        except BaseException:
            self._shared.writers.discard(self)
            raise
        self._shared.writers.discard(self)

    def _check(self) -> None:
        self._shared.store.check_open()
        if self._closed:
            raise ClosedError("this writer is closed", url=self._shared.source)
        self._raise()

    def _raise(self) -> None:
        if self._error is not None:
            raise self._error
