"""Objects of an open entry, and the bytes of them that are in memory."""

from __future__ import annotations

import secrets
from collections import OrderedDict

import attrs
import xxhash
from cachestream.core.spans import Span, SpanSet

from cachestream_s3._heads import CELL, PartHead, sums_of

__all__ = ["CellCache", "Part"]


@attrs.define(eq=False)
class Part:
    """One object, or what will be one.

    Attributes:
        live: Which of its bytes count.
        data: All its bytes, until they are in the bucket.
        stored: Whether the object is there.
    """

    start: int
    stop: int
    live: SpanSet
    data: bytes | bytearray | None = None
    digest: str = ""
    nonce: str = attrs.field(factory=lambda: secrets.token_hex(8))
    sums: bytes = b""
    stored: bool = False

    @property
    def size(self) -> int:
        """How many bytes the object has."""
        return self.stop - self.start

    @property
    def name(self) -> str:
        """The last part of the object's name."""
        return f"{self.start}-{self.stop}-{self.digest}-{self.nonce}"

    def seal(self) -> None:
        """Take no more bytes: the sums are made."""
        assert self.data is not None
        self.data = bytes(self.data)
        self.digest = xxhash.xxh3_64_hexdigest(self.data)
        self.sums = sums_of(self.data)

    def sum_of(self, cell: int) -> bytes:
        """Return what the sum of a cell must be."""
        return self.sums[8 * cell : 8 * cell + 8]

    def cell_span(self, cell: int) -> Span:
        """Return which bytes of the entry a cell has."""
        start = self.start + cell * CELL
        return Span(start, min(start + CELL, self.stop))

    def to_head(self) -> PartHead:
        """Return what a head says of it."""
        return PartHead(
            start=self.start,
            stop=self.stop,
            digest=self.digest,
            nonce=self.nonce,
            sums=self.sums,
            live=tuple(self.live),
        )

    @classmethod
    def from_head(cls, head: PartHead) -> Part:
        """Return the part that a head speaks of."""
        return cls(
            head.start,
            head.stop,
            SpanSet(head.live),
            digest=head.digest,
            nonce=head.nonce,
            sums=head.sums,
            stored=True,
        )


class CellCache:
    """Cells that were checked, or just written; the least recently used go first.

    Args:
        limit: Most bytes to keep.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._total = 0
        self._cells: OrderedDict[tuple[str, int], bytes] = OrderedDict()

    def get(self, name: str, cell: int) -> bytes | None:
        """Return a cell if it is here."""
        data = self._cells.get((name, cell))
        if data is not None:
            self._cells.move_to_end((name, cell))
        return data

    def put(self, name: str, cell: int, data: bytes) -> None:
        """Keep a cell."""
        old = self._cells.pop((name, cell), b"")
        self._cells[name, cell] = data
        self._total += len(data) - len(old)
        while self._total > self._limit:
            self._total -= len(self._cells.popitem(last=False)[1])

    def put_all(self, name: str, data: bytes) -> None:
        """Keep the cells of a whole object."""
        for start in range(0, len(data), CELL):
            self.put(name, start // CELL, data[start : start + CELL])
