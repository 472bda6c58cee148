"""Which bytes of an entry have which sum: the part of its state that is persisted.

An extent is a run of committed or committable bytes with one sum. Extents never overlap,
are cut at multiples of 256 KiB, so that a check reads little, and are kept by segments of
64 MiB, so that a commit writes little.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator
from typing import Final

from cachestream.backends._format import Extent, pack_segment, unpack_extents, unpack_spans
from cachestream.core.spans import Span, SpanSet

__all__ = ["CELL", "SEGMENT", "ExtentTable"]

CELL: Final = 256 * 1024
"""No extent reaches over a multiple of this many bytes."""

SEGMENT: Final = 64 * 1024 * 1024
"""Extents of this many bytes share a row."""


class ExtentTable:
    """The extents of one entry.

    Attributes:
        total: How many bytes they hold.
    """

    def __init__(self) -> None:
        self.total = 0
        self._packed: dict[int, bytes] = {}
        self._segments: dict[int, list[Extent]] = {}
        self._dirty: set[int] = set()

    def load(self, number: int, content: bytes) -> SpanSet:
        """Take a stored segment over; return its spans, none if the row makes no sense.

        The sums are only unpacked when they are asked for.
        """
        spans = unpack_spans(content)
        if spans is None or not _is_within(spans, number):
            return SpanSet()
        self._packed[number] = content
        self.total += spans.total
        return spans

    def put(self, extent: Extent) -> None:
        """Add an extent, or let one grow: the one with the same start is replaced."""
        segment = self._segment(extent[0] // SEGMENT)
        index = bisect_left(segment, extent[0], key=_start)
        if index < len(segment) and segment[index][0] == extent[0]:
            old = segment[index]
            if old == extent:
                return
            self.total -= old[1] - old[0]
            segment[index] = extent
        else:
            segment.insert(index, extent)
        self.total += extent[1] - extent[0]
        self._dirty.add(extent[0] // SEGMENT)

    def remove(self, extent: Extent) -> bool:
        """Forget exactly this extent; return False if it is no longer there."""
        segment = self._segment(extent[0] // SEGMENT)
        index = bisect_left(segment, extent[0], key=_start)
        if index == len(segment) or segment[index] != extent:
            return False
        del segment[index]
        self.total -= extent[1] - extent[0]
        self._dirty.add(extent[0] // SEGMENT)
        return True

    def overlapping(self, span: Span) -> list[Extent]:
        """Return the extents that share a byte with ``span``, in order."""
        return list(self._overlapping(span))

    def __contains__(self, extent: Extent) -> bool:
        segment = self._segment(extent[0] // SEGMENT)
        index = bisect_left(segment, extent[0], key=_start)
        return index < len(segment) and segment[index] == extent

    def take_dirty(self, *, everything: bool = False) -> dict[int, bytes | None]:
        """Return the content of the rows to write, None for a row to delete."""
        numbers = set(self._segments) | set(self._packed) if everything else self._dirty
        rows = {number: self._pack(number) for number in sorted(numbers)}
        self._dirty = set()
        return rows

    def mark_dirty(self, numbers: Iterable[int]) -> None:
        """Note that the rows of these segments are still to be written."""
        self._dirty.update(numbers)

    @property
    def dirty(self) -> bool:
        """Whether there are rows to write."""
        return bool(self._dirty)

    def _overlapping(self, span: Span) -> Iterator[Extent]:
        if not span:
            return
        first, last = span.start // SEGMENT, -(-span.stop // SEGMENT)
        numbers: Iterable[int] = range(first, last)
        if last - first > 4:  # the end of a span may be beyond every real length
            known = {*self._segments, *self._packed}
            numbers = sorted(number for number in known if first <= number < last)
        for number in numbers:
            segment = self._segment(number)
            index = max(0, bisect_right(segment, span.start, key=_start) - 1)
            for extent in segment[index:]:
                if extent[0] >= span.stop:
                    return
                if extent[1] > span.start:
                    yield extent

    def _pack(self, number: int) -> bytes | None:
        extents = self._segments.get(number)
        if extents is None:
            return self._packed.get(number)
        return pack_segment(extents) if extents else None

    def _segment(self, number: int) -> list[Extent]:
        segment = self._segments.get(number)
        if segment is None:
            content = self._packed.pop(number, None)
            segment = self._segments[number] = [] if content is None else self._unpack(content)
        return segment

    def _unpack(self, content: bytes) -> list[Extent]:
        """Return the extents of a row, none of them unless they make up its spans."""
        spans = unpack_spans(content) or SpanSet()
        extents = unpack_extents(content)
        held, position = SpanSet(), 0
        for start, stop, _ in extents:
            if not position <= start < stop <= (start // CELL + 1) * CELL:
                break
            held.add(Span(start, stop))
            position = stop
        if held != spans:
            self.total -= spans.total
            return []
        return extents


def _is_within(spans: SpanSet, number: int) -> bool:
    """Tell whether all positions are those of a segment."""
    first = number * SEGMENT
    return spans.next_start(0) == spans.next_start(first) and spans.stop <= first + SEGMENT


def _start(extent: Extent) -> int:
    return extent[0]
