"""What a `MemoryStore` keeps its entries in, and what of it survives a crash.

A medium is to a `MemoryStore` what a disk is to a process: it outlives the store, it may be
opened by several stores, and after `MemoryMedium.crash` it holds what was committed and
nothing else. Bytes lie in blocks of a fixed size, so that a hole takes no room.
"""

from __future__ import annotations

import itertools
from typing import Final

from cachestream.abc import EntryRecord, Key
from cachestream.backends._leases import LeaseBook
from cachestream.backends._names import Variant, variant_of
from cachestream.core.representation import Representation
from cachestream.core.spans import Span, SpanSet

__all__ = ["BLOCK", "Cell", "MemoryMedium"]

BLOCK: Final = 4096
"""Room is given out in blocks of this many bytes, as most file systems do."""


class Cell:
    """One entry on the medium: what is known of it, its blocks, and who has it open.

    Attributes:
        spans: What the writing store may read: written bytes.
        committed: What survives a crash; a subset of ``spans``.
        damaged: Bytes that were changed behind the store's back.
        rivals: What each variant's published entry was when this one was created.
        writer_store: The store that has it open for writing.
        foreign: How many handles of other stores read it.
    """

    def __init__(
        self,
        medium: MemoryMedium,
        entry_id: str,
        key: Key,
        source: str,
        representation: Representation,
        created: float,
    ) -> None:
        self.medium = medium
        self.entry_id = entry_id
        self.key = key
        self.source = source
        self.representation = representation
        self.created = created
        self.accessed = created
        self.pinned = False
        self.published = False
        self.deleted = False
        self.spans = SpanSet()
        self.committed = SpanSet()
        self.damaged = SpanSet()
        self.blocks: dict[int, bytearray] = {}
        self.rivals: dict[Variant, str] = {}
        self.writer_store: object | None = None
        self.handles = 0
        self.foreign = 0
        self.leases = LeaseBook(lambda: medium.forget_if_idle(self))

    @property
    def allocated(self) -> int:
        """Room taken, in bytes."""
        return len(self.blocks) * BLOCK

    @property
    def idle(self) -> bool:
        """Whether nobody has it open or leased."""
        return not (self.handles or self.foreign or self.leases)

    def record(self) -> EntryRecord:
        """Return what is known of it without opening it."""
        return EntryRecord(
            entry_id=self.entry_id,
            key=self.key,
            source=self.source,
            representation=self.representation,
            stored_bytes=self.committed.total,
            allocated_bytes=self.allocated,
            created=self.created,
            accessed=self.accessed,
            pinned=self.pinned,
        )

    def room_for(self, span: Span) -> int:
        """Return how many bytes of room writing ``span`` would take."""
        touched = range(span.start // BLOCK, -(-span.stop // BLOCK))
        return BLOCK * sum(number not in self.blocks for number in touched)

    def put(self, position: int, piece: memoryview) -> int:
        """Copy ``piece`` to ``position``; return how much more room it takes, in bytes."""
        before = len(self.blocks)
        done = 0
        while done < len(piece):
            number, offset = divmod(position + done, BLOCK)
            part = piece[done : done + BLOCK - offset]
            block = self.blocks.get(number)
            if block is None:
                block = self.blocks[number] = bytearray(BLOCK)
            block[offset : offset + len(part)] = part
            done += len(part)
        return BLOCK * (len(self.blocks) - before)

    def take(self, span: Span) -> bytes:
        """Return the bytes of ``span``; all of them must be there."""
        first, last = span.start // BLOCK, -(-span.stop // BLOCK)
        data = b"".join(self.blocks[number] for number in range(first, last))
        return data[span.start - first * BLOCK : span.stop - first * BLOCK]

    def free(self, span: Span) -> int:
        """Give back the blocks of ``span`` that hold nothing now; return how many bytes."""
        before = len(self.blocks)
        for number in range(span.start // BLOCK, -(-span.stop // BLOCK)):
            whole = Span(number * BLOCK, (number + 1) * BLOCK)
            if next(self.spans.within(whole), None) is None:
                self.blocks.pop(number, None)
        return BLOCK * (before - len(self.blocks))

    def survivor(self) -> Cell:
        """Return what a crash leaves of it: an independent copy of what was committed."""
        twin = Cell(
            self.medium,
            self.entry_id,
            self.key,
            self.source,
            self.representation,
            self.created,
        )
        twin.accessed, twin.pinned, twin.published = self.accessed, self.pinned, True
        twin.spans, twin.committed = self.committed.copy(), self.committed.copy()
        twin.damaged = self.damaged.copy()
        twin.blocks = {number: bytearray(block) for number, block in self.blocks.items()}
        for gap in list(twin.spans.gaps(Span(0, self.spans.stop))):
            twin.free(gap)
        return twin


class MemoryMedium:
    """The place of a `MemoryStore`; hand it to another one to open the same place again.

    Attributes:
        cells: The published entries.
        hidden: Entries that are in use but not published, or deleted.
        by_key: Which published entry is that of a variant.
        epoch: How many crashes there were.
        allocated: Room that ``cells`` and ``hidden`` take, in bytes.
    """

    def __init__(self) -> None:
        self.allocated = 0
        self.cells: dict[str, Cell] = {}
        self.hidden: set[Cell] = set()
        self.by_key: dict[Key, dict[Variant, str]] = {}
        self.epoch = 0
        self._serial = itertools.count(1)

    def next_id(self) -> str:
        """Return a new entry identifier; they rise with time."""
        return f"{next(self._serial):016x}"

    def publish(self, cell: Cell) -> None:
        """Make ``cell`` visible in place of the same variant's entry."""
        variants = self.by_key.setdefault(cell.key, {})
        variant = variant_of(cell.representation)
        superseded = variants.get(variant)
        if superseded is not None:
            self.remove(self.cells[superseded])
            variants = self.by_key.setdefault(cell.key, {})
        variants[variant] = cell.entry_id
        cell.published = True
        self.hidden.discard(cell)
        self.cells[cell.entry_id] = cell

    def remove(self, cell: Cell) -> None:
        """Take ``cell`` out of sight; while it is open its bytes stay, and take room."""
        cell.deleted = True
        self.cells.pop(cell.entry_id, None)
        variants = self.by_key.get(cell.key, {})
        for variant, entry_id in list(variants.items()):
            if entry_id == cell.entry_id:
                del variants[variant]
        if not variants:
            self.by_key.pop(cell.key, None)
        self.hidden.add(cell)
        self.forget_if_idle(cell)

    def forget_if_idle(self, cell: Cell) -> None:
        """Let go of an entry out of sight when nobody uses it any more."""
        if cell.idle and cell in self.hidden:
            self.hidden.remove(cell)
            self.allocated -= cell.allocated

    def crash(self) -> None:
        """Forget all that is not committed and published, as a killed process does.

        Stores and handles that were open on the medium are dead from then on.
        """
        self.epoch += 1
        self.cells = {name: cell.survivor() for name, cell in self.cells.items()}
        self.hidden = set()
        self.allocated = sum(cell.allocated for cell in self.cells.values())

    def corrupt(self, entry_id: str, position: int) -> None:
        """Flip a bit of a stored byte behind the back of every store."""
        cell = self.cells[entry_id]
        number, offset = divmod(position, BLOCK)
        cell.blocks[number][offset] ^= 1
        cell.damaged.add(Span(position, position + 1))

    def raw(self, entry_id: str, span: Span) -> bytes:
        """Return bytes as they lie on the medium; what is in no block reads as zeros."""
        cell = self.cells[entry_id]
        empty = bytes(BLOCK)
        first, last = span.start // BLOCK, -(-span.stop // BLOCK)
        data = b"".join(cell.blocks.get(number, empty) for number in range(first, last))
        return data[span.start - first * BLOCK : span.stop - first * BLOCK]
