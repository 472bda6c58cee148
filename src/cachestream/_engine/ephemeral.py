"""What may not be stored, or cannot be, on the same path: a bounded ring in memory.

An `EphemeralEntry` is an `Entry` like any other, only it forgets. It may lie over a
stored entry whose store failed, or that another process is writing: then what that one
holds is read from it, and only the rest goes through the ring. Here, and only here,
may the slowest reader hold a download back.
"""

from __future__ import annotations

import asyncio
from bisect import bisect_right
from collections.abc import Callable, Iterable

import attrs

from cachestream.abc import Buffer, Entry, FileRegion, Key, Lease, SpanWriter
from cachestream.core.representation import Representation
from cachestream.core.spans import Span, SpanSet
from cachestream.errors import NotStoredError, StoreCorruptError

__all__ = ["EphemeralEntry"]


class EphemeralEntry(Entry):
    """An entry in memory that keeps what its readers still need, up to ``limit`` bytes ahead.

    Args:
        key: As of the resource.
        source: As of the resource.
        representation: Which version this is.
        limit: How many bytes the ring may hold for each download.
        readers: Returns the spans that readers have still to read.
        base: A stored entry of the same version to read from, if there is one.
    """

    def __init__(
        self,
        key: Key,
        source: str,
        representation: Representation,
        *,
        limit: int,
        readers: Callable[[], Iterable[Span]],
        base: Entry | None = None,
    ) -> None:
        self.entry_id = "" if base is None else base.entry_id
        self.key = key
        self.source = source
        self.writable = True
        self.base = base
        self.trimmed = False
        self.on_close: Callable[[], None] | None = None
        self._representation = representation
        self._limit = limit
        self._readers = readers
        self._spans = SpanSet() if base is None else base.spans.copy()
        self._starts: list[int] = []
        self._pieces: list[_Piece] = []
        self._room = asyncio.Event()

    @property
    def representation(self) -> Representation:
        return self._representation

    @property
    def spans(self) -> SpanSet:
        return self._spans

    @property
    def held(self) -> int:
        """How many bytes the ring holds now."""
        return sum(len(piece.data) for piece in self._pieces)

    def read_nowait(self, span: Span) -> Buffer | None:
        """Return the bytes if the ring has them, or the stored entry at once."""
        if not self._spans.covers(span):
            return None
        if self.base is not None and self.base.spans.covers(span):
            return self.base.read_nowait(span)
        return self._from_ring(span)

    async def read(self, span: Span) -> Buffer:
        """Return the bytes, piece by piece from wherever they are."""
        parts: list[bytes] = []
        position = span.start
        while position < span.stop:
            piece = await self._read_some(Span(position, span.stop))
            parts.append(bytes(piece))
            position += len(piece)
        return b"".join(parts)

    async def _read_some(self, span: Span) -> Buffer:
        if self.base is not None and (stop := self.base.spans.run_stop(span.start)) > span.start:
            part = Span(span.start, min(stop, span.stop))
            try:
                return await self.base.read(part)
            except StoreCorruptError as error:
                self._spans.discard(part if error.span is None else error.span)
                raise
        piece = self._piece_at(span.start)
        if piece is None:
            raise NotStoredError("these bytes have left the ring", span=span, url=self.source)
        return piece[: len(span)]

    def region_nowait(self, span: Span) -> FileRegion | None:
        """Return a region of the stored entry, if there is one and it has the bytes."""
        return None if self.base is None else self.base.region_nowait(span)

    def lease(self, span: Span) -> Lease:
        """Keep the stored entry's bytes; those of the ring live as long as they are used."""
        return _NoLease() if self.base is None else self.base.lease(span)

    def writer(self, position: int) -> SpanWriter:
        """Return a writer into the ring."""
        return _RingWriter(self, position, self._limit)

    async def publish(self) -> None:
        """Do nothing: an ephemeral entry is never seen by others."""

    async def update(self, representation: Representation) -> None:
        """Remember what was learned."""
        self._representation = representation

    async def discard(self, span: Span) -> int:
        """Forget bytes."""
        return self._spans.discard(span)

    async def aclose(self) -> None:
        """Forget everything, and let the stored entry below go."""
        self._starts.clear()
        self._pieces.clear()
        self._room.set()
        if self.on_close is not None:
            self.on_close()
            self.on_close = None

    # -- the ring ---------------------------------------------------------

    def put(self, writer: _RingWriter, piece: Buffer) -> None:
        """Take in bytes at the writer's position."""
        index = bisect_right(self._starts, writer.position)
        self._starts.insert(index, writer.position)
        self._pieces.insert(index, _Piece(memoryview(piece), writer))
        writer.held += len(piece)
        self._spans.add(Span(writer.position, writer.position + len(piece)))

    async def wait_room(self, writer: _RingWriter) -> None:
        """Wait until readers have read enough of what ``writer`` wrote."""
        while writer.held >= self._limit:
            self._room.clear()
            await self._room.wait()

    def trim(self) -> None:
        """Forget what no reader needs any more, and let downloads go on."""
        if not self._starts:
            return
        wanted = [
            Span(span.start, min(span.stop, span.start + self._limit)) for span in self._readers()
        ]
        kept: list[tuple[int, _Piece]] = []
        for start, piece in zip(self._starts, self._pieces, strict=True):
            span = Span(start, start + len(piece.data))
            if any(want.overlaps(span) for want in wanted):
                kept.append((start, piece))
            else:
                self._spans.discard(span)
                piece.writer.held -= len(span)
        if len(kept) == len(self._starts):
            return
        self._starts = [start for start, _ in kept]
        self._pieces = [piece for _, piece in kept]
        self.trimmed = True
        self._room.set()

    def _piece_at(self, position: int) -> memoryview | None:
        index = bisect_right(self._starts, position) - 1
        if index < 0:
            return None
        inside = position - self._starts[index]
        data = self._pieces[index].data
        return data[inside:] if inside < len(data) else None

    def _from_ring(self, span: Span) -> Buffer | None:
        parts: list[memoryview] = []
        position = span.start
        while position < span.stop:
            piece = self._piece_at(position)
            if piece is None:
                return None
            parts.append(piece[: span.stop - position])
            position += len(parts[-1])
        return parts[0] if len(parts) == 1 else b"".join(parts)


@attrs.frozen
class _Piece:
    """Some bytes in the ring, and who put them there."""

    data: memoryview
    writer: _RingWriter


class _RingWriter(SpanWriter):
    """Writes into the ring; `drain` waits for the readers."""

    def __init__(self, entry: EphemeralEntry, position: int, limit: int) -> None:
        self.position = position
        self.held = 0
        self._entry = entry
        self._limit = limit

    def write(self, piece: Buffer) -> bool:
        self._entry.put(self, piece)
        self.position += len(piece)
        return self.held < self._limit

    async def drain(self) -> None:
        self._entry.trim()
        await self._entry.wait_room(self)

    async def commit(self) -> None:
        """Do nothing: nothing here survives."""

    async def aclose(self) -> None:
        """Do nothing: what was written stays until it is read."""


class _NoLease(Lease):
    def release(self) -> None:
        """Do nothing: a piece in memory lives as long as somebody holds it."""
