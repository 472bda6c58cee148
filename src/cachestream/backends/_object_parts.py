"""The parts of an open entry: what a writer has in memory, and what is in objects.

A part begins as bytes in memory, becomes an object when it has been put, and counts for the
bytes of its ``live`` set only: discarding and damage take from that, never from the object.
"""

from __future__ import annotations

import secrets
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Iterator
from typing import Final

import xxhash

from cachestream.backends._object_medium import ObjectMedium
from cachestream.backends._object_records import CELL, PartRecord, data_folder
from cachestream.core.spans import Span, SpanSet

__all__ = ["CellCache", "Part", "PartTable", "put_part"]

_CACHE: Final = 32 * 1024 * 1024
"""How many checked bytes of objects a store keeps in memory."""


class Part:
    """Some consecutive bytes of an entry.

    Args:
        span: Where they are; an empty one grows by `append`.
        data: The bytes, None when they are in an object.

    Attributes:
        live: Which of them count.
        cells: Sums of the object's cells, empty while there is no object.
    """

    __slots__ = ("cells", "data", "digest", "live", "nonce", "start", "stop")

    def __init__(self, span: Span, data: bytearray | bytes | None) -> None:
        self.start, self.stop = span.start, span.stop
        self.data = data
        self.live = SpanSet([span])
        self.cells: tuple[int, ...] = ()
        self.digest = ""
        self.nonce = secrets.token_hex(4)

    @classmethod
    def stored(cls, record: PartRecord) -> Part:
        """Return the part that a record speaks of."""
        part = cls(Span(record.start, record.stop), None)
        part.live = SpanSet(record.live)
        part.cells, part.digest, part.nonce = record.cells, record.digest, record.nonce
        return part

    @property
    def size(self) -> int:
        """Number of its bytes, live or not."""
        return self.stop - self.start

    @property
    def is_stored(self) -> bool:
        """Whether it is in an object."""
        return self.data is None

    def append(self, piece: memoryview) -> None:
        """Take in the bytes that follow."""
        assert isinstance(self.data, bytearray)
        self.data += piece
        span = Span(self.stop, self.stop + len(piece))
        self.live.add(span)
        self.stop = span.stop

    def split(self) -> list[Part]:
        """Return parts of the live bytes alone, in memory like this one."""
        assert self.data is not None
        return [
            Part(span, bytes(self.data[span.start - self.start : span.stop - self.start]))
            for span in self.live
        ]

    def record(self) -> PartRecord:
        """Return what is written down of it."""
        return PartRecord(
            start=self.start,
            stop=self.stop,
            digest=self.digest,
            nonce=self.nonce,
            cells=self.cells,
            live=tuple(self.live),
        )

    def name(self, entry_id: str) -> str:
        """Return the name of its object.

        The nonce keeps it apart from an object of the same bytes that is being removed.
        """
        return f"{data_folder(entry_id)}/{self.start}-{self.stop}-{self.digest}.{self.nonce}"

    def cell(self, number: int) -> Span:
        """Return which bytes of the entry a cell has."""
        start = self.start + number * CELL
        return Span(start, min(start + CELL, self.stop))


def put_part(medium: ObjectMedium, entry_id: str, part: Part) -> tuple[int, ...]:
    """Write a part's object, and return the sums of its cells; blocking."""
    assert isinstance(part.data, bytes)
    view = memoryview(part.data)
    part.digest = xxhash.xxh3_64_hexdigest(view)
    medium.put(part.name(entry_id), part.data)
    return tuple(
        xxhash.xxh3_64_intdigest(view[start : start + CELL]) for start in range(0, len(view), CELL)
    )


class PartTable:
    """The parts of an entry that are whole: put into an object, or on their way."""

    def __init__(self) -> None:
        self._parts: dict[str, Part] = {}
        self._runs: list[tuple[int, int, Part]] | None = None

    def __iter__(self) -> Iterator[Part]:
        return iter(list(self._parts.values()))

    def add(self, part: Part) -> None:
        """Add a part, none of whose live bytes another one has."""
        self._parts[part.nonce] = part
        self._runs = None

    def drop(self, part: Part) -> None:
        """Take a part out; nothing happens if it is not there."""
        self._parts.pop(part.nonce, None)
        self._runs = None

    def changed(self) -> None:
        """Note that the live bytes of some part changed."""
        self._runs = None

    def at(self, position: int) -> tuple[int, Part] | None:
        """Return where the run at ``position`` ends, and which part has it."""
        if self._runs is None:
            self._runs = sorted(
                (
                    (span.start, span.stop, part)
                    for part in self._parts.values()
                    for span in part.live
                ),
                key=lambda run: run[0],
            )
        index = bisect_right(self._runs, position, key=lambda run: run[0]) - 1
        if index < 0 or position >= self._runs[index][1]:
            return None
        return self._runs[index][1:]


class CellCache:
    """Checked bytes of objects, those used last; so that what was read or written is at hand."""

    def __init__(self, limit: int = _CACHE) -> None:
        self._limit = limit
        self._cells: OrderedDict[tuple[str, int], bytes] = OrderedDict()
        self._total = 0

    def get(self, part: Part, number: int) -> bytes | None:
        """Return a cell if it is here."""
        name = (part.nonce + part.digest, number)
        data = self._cells.get(name)
        if data is not None:
            self._cells.move_to_end(name)
        return data

    def put(self, part: Part, number: int, data: bytes) -> None:
        """Keep a cell for a while."""
        name = (part.nonce + part.digest, number)
        if name not in self._cells:
            self._cells[name] = data
            self._total += len(data)
        while self._total > self._limit:
            self._total -= len(self._cells.popitem(last=False)[1])
