"""The reference store: everything in memory, nothing in threads, the same every time.

It says in the fewest words what a store promises, runs under a simulated event loop, and
forgets on `MemoryMedium.crash` whatever was not committed.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final, Literal, Self

from cachestream.abc import (
    Buffer,
    Entry,
    EntryRecord,
    Key,
    Lease,
    SpanWriter,
    Store,
    StoreCapabilities,
    StoreUsage,
)
from cachestream.backends._medium import Cell, MemoryMedium
from cachestream.backends._names import origin_of, variant_of
from cachestream.core.representation import Representation
from cachestream.core.spans import Span, SpanSet
from cachestream.errors import (
    ClosedError,
    EntryNotFoundError,
    NotStoredError,
    StoreBusyError,
    StoreConflictError,
    StoreCorruptError,
    StoreError,
    StoreFullError,
)
from cachestream.settings import Settings

__all__ = ["MemoryMedium", "MemoryStore"]

_NOTHING: Final = Span(0, 0)


class MemoryStore(Store):
    """Keeps entries in memory, for tests, simulations and short-lived programs.

    Args:
        medium: Where the entries are; a new, empty place by default. Only with a medium of
            the caller's own does anything outlive the store, so only then is it persistent.
        max_size: Room all entries may take, in bytes; None for no limit.
        clock: Returns seconds since the epoch.
    """

    def __init__(
        self,
        medium: MemoryMedium | None = None,
        *,
        max_size: int | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.capabilities = StoreCapabilities(persistent=medium is not None, partial_eviction=True)
        self.medium = MemoryMedium() if medium is None else medium
        self._max_size = max_size
        self._clock = clock
        self._epoch = self.medium.epoch
        self._closed = False
        self._handles: set[_MemoryEntry] = set()
        self._evicted_entries = self._evicted_bytes = 0

    @classmethod
    def from_settings(cls, settings: Settings) -> Self:
        """Make an empty store with the limits of ``settings``."""
        return cls(max_size=settings.max_size)

    def crash(self) -> None:
        """Die as a killed process does; this store and its handles are closed then."""
        self.medium.crash()

    @property
    def dead(self) -> bool:
        """Whether it was closed, or crashed."""
        return self._closed or self._epoch != self.medium.epoch

    def check_open(self) -> None:
        """Raise `ClosedError` after `aclose` or a crash."""
        if self.dead:
            raise ClosedError("this store is closed")

    async def select(self, key: Key) -> tuple[EntryRecord, ...]:
        """Return the published entries of ``key``, newest first."""
        self.check_open()
        cells = [self.medium.cells[name] for name in self.medium.by_key.get(key, {}).values()]
        cells.sort(key=lambda cell: (cell.created, cell.entry_id), reverse=True)
        return tuple(cell.record() for cell in cells)

    async def create(
        self, key: Key, source: str, representation: Representation, *, file: str | None = None
    ) -> Entry:
        """Make a new, empty entry; files of the user's are not supported."""
        self.check_open()
        if file is not None:
            raise StoreError(
                "the memory store keeps no files", url=source, hint="Use the disk store."
            )
        self.make_room(1)
        medium = self.medium
        cell = Cell(medium, medium.next_id(), key, source, representation, self._clock())
        cell.rivals = dict(medium.by_key.get(key, {}))
        medium.hidden.add(cell)
        return self._handle(cell)

    async def open(self, entry_id: str) -> Entry:
        """Open a published entry."""
        self.check_open()
        cell = self.medium.cells.get(entry_id)
        if cell is None:
            raise EntryNotFoundError(f"there is no entry {entry_id!r}")
        cell.accessed = self._clock()
        return self._handle(cell)

    async def delete(self, entry_id: str) -> None:
        """Delete an entry; open handles stay readable."""
        self.check_open()
        cell = self.medium.cells.get(entry_id)
        if cell is not None:
            self.medium.remove(cell)

    async def records(
        self,
        *,
        after: str | None = None,
        limit: int = 1000,
        order: Literal["id", "accessed"] = "id",
    ) -> tuple[EntryRecord, ...]:
        """Return up to ``limit`` published entries."""
        self.check_open()
        if order == "accessed":
            cells = self._oldest_first()
        else:
            ids = sorted(name for name in self.medium.cells if after is None or name > after)
            cells = [self.medium.cells[name] for name in ids]
        return tuple(cell.record() for cell in cells[:limit])

    async def touch(self, entry_id: str, *, pinned: bool | None = None) -> None:
        """Note that an entry is used now; nothing happens if there is none."""
        self.check_open()
        cell = self.medium.cells.get(entry_id)
        if cell is not None:
            cell.accessed = self._clock()
            cell.pinned = cell.pinned if pinned is None else pinned

    async def has_authority(self, origin: str) -> bool:
        """Tell whether a published entry came from ``origin``."""
        self.check_open()
        wanted = origin_of(origin)
        return any(origin_of(cell.source) == wanted for cell in self.medium.cells.values())

    async def usage(self) -> StoreUsage:
        """Return how full the store is."""
        self.check_open()
        return StoreUsage(
            entries=len(self.medium.cells),
            allocated_bytes=self.medium.allocated,
            limit_bytes=self._max_size,
            evicted_entries=self._evicted_entries,
            evicted_bytes=self._evicted_bytes,
        )

    async def aclose(self) -> None:
        """Commit and close; handles that are still open are closed too."""
        if not self.dead:
            for handle in list(self._handles):
                await handle.aclose()
        self._closed = True

    def make_room(self, wanted: int) -> None:
        """Evict until ``wanted`` more bytes fit.

        Raises:
            StoreFullError: If they do not fit even then.
        """
        if self._max_size is None:
            return
        room = self._max_size - self.medium.allocated
        if room < wanted:
            for cell in self._oldest_first():
                if cell.idle and not cell.pinned:
                    room += cell.allocated
                    self._evicted_entries += 1
                    self._evicted_bytes += cell.allocated
                    self.medium.remove(cell)
                if room >= wanted:
                    return
            raise StoreFullError(
                f"the store may take {self._max_size} bytes and is full",
                hint="Raise max_size, or delete or unpin entries.",
            )

    def forget(self, handle: _MemoryEntry) -> None:
        """Note that ``handle`` is closed."""
        self._handles.discard(handle)

    def _handle(self, cell: Cell) -> _MemoryEntry:
        if cell.writer_store is None:
            cell.writer_store = self
        handle = _MemoryEntry(self, cell)
        self._handles.add(handle)
        return handle

    def _oldest_first(self) -> list[Cell]:
        return sorted(self.medium.cells.values(), key=lambda cell: (cell.accessed, cell.entry_id))


class _MemoryEntry(Entry):
    """A handle of a cell; handles of one store share its bytes, others see what is committed."""

    def __init__(self, store: MemoryStore, cell: Cell) -> None:
        self.entry_id, self.key, self.source = cell.entry_id, cell.key, cell.source
        self.writable = cell.writer_store is store
        self._store, self._cell = store, cell
        self._spans = cell.spans if self.writable else cell.committed.copy()
        self._closed = False
        if self.writable:
            cell.handles += 1
        else:
            cell.foreign += 1

    @property
    def representation(self) -> Representation:
        """Which version this entry holds."""
        return self._cell.representation

    @property
    def spans(self) -> SpanSet:
        """Which bytes can be read now."""
        return self._spans

    def read_nowait(self, span: Span) -> Buffer | None:
        """Return the bytes of ``span``, None if part of it is missing or damaged."""
        self._check_open()
        if not self._spans.covers(span) or self._damaged(span):
            return None
        return self._cell.take(span)

    async def read(self, span: Span) -> Buffer:
        """Return the bytes of ``span``."""
        self._check_open()
        if not self._spans.covers(span):
            missing = next(self._spans.gaps(span))
            raise NotStoredError(f"bytes {missing} are not stored", span=missing, url=self.source)
        bad = self._damaged(span)
        if bad:
            self._forget(bad)
            raise StoreCorruptError(f"bytes {bad} fail their check", span=bad, url=self.source)
        return self._cell.take(span)

    def lease(self, span: Span) -> Lease:
        """Keep stored bytes of ``span`` where they are until the lease ends."""
        self._check_open()
        return self._cell.leases.take(span)

    def writer(self, position: int) -> SpanWriter:
        """Return a writer whose first byte goes to ``position``."""
        self._check_open()
        if not self.writable:
            raise StoreBusyError("another store is writing this entry", url=self.source)
        return _MemoryWriter(self._store, self._cell, self, position)

    async def publish(self) -> None:
        """Make the entry visible in place of the same variant's."""
        self._check_open()
        cell, medium = self._cell, self._store.medium
        if cell.published:
            return
        variant = variant_of(cell.representation)
        current = medium.by_key.get(cell.key, {}).get(variant)
        if current is not None and current != cell.rivals.get(variant):
            raise StoreConflictError("another writer published this first", url=self.source)
        medium.publish(cell)

    async def update(self, representation: Representation) -> None:
        """Replace what is known of this version."""
        self._check_open()
        if not self.writable:
            raise StoreBusyError("another store is writing this entry", url=self.source)
        self._cell.representation = representation

    async def discard(self, span: Span) -> int:
        """Forget the unleased bytes of ``span``."""
        self._check_open()
        if not self.writable:
            raise StoreBusyError("another store is writing this entry", url=self.source)
        return sum(self._forget(part) for part in list(self._cell.leases.unleased(span)))

    async def aclose(self) -> None:
        """Commit, and give the handle up."""
        if self._closed:
            return
        self._closed = True
        self._store.forget(self)
        cell = self._cell
        if not self.writable:
            cell.foreign -= 1
        else:
            cell.committed.update(cell.spans)
            cell.handles -= 1
            if not cell.handles:
                cell.writer_store = None
        if cell.idle:
            self._store.medium.forget_if_idle(cell)

    def _check_open(self) -> None:
        self._store.check_open()
        if self._closed:
            raise ClosedError("this entry is closed", url=self.source)

    def _damaged(self, span: Span) -> Span:
        return next(self._cell.damaged.within(span), _NOTHING)

    def _forget(self, span: Span) -> int:
        cell = self._cell
        gone = self._spans.discard(span)
        for known in (cell.spans, cell.committed, cell.damaged):
            known.discard(span)
        # A reader in another store may still be sending these bytes, as it may not see
        # our leases: they are forgotten, and their room is kept.
        if not cell.foreign:
            self._store.medium.allocated -= cell.free(span)
        return gone


class _MemoryWriter(SpanWriter):
    def __init__(self, store: MemoryStore, cell: Cell, entry: _MemoryEntry, position: int) -> None:
        self.position = position
        self._store, self._cell, self._entry = store, cell, entry
        self._written = SpanSet()
        self._closed = False

    def write(self, piece: Buffer) -> bool:
        """Store ``piece`` at `position`; bytes that are stored already are left as they are."""
        self._entry._check_open()
        if self._closed:
            raise ClosedError("this writer is closed", url=self._cell.source)
        view = memoryview(piece).cast("B")
        span = Span(self.position, self.position + len(view))
        for gap in list(self._cell.spans.gaps(span)):
            self._store.make_room(self._cell.room_for(gap))
            part = view[gap.start - span.start : gap.stop - span.start]
            self._store.medium.allocated += self._cell.put(gap.start, part)
            self._cell.spans.add(gap)
            self._written.add(gap)
        self.position = span.stop
        return True

    async def drain(self) -> None:
        """Return at once: memory has no backlog."""
        self._store.check_open()

    async def commit(self) -> None:
        """Let what was written so far survive a crash."""
        self._store.check_open()
        # What was discarded meanwhile is no longer there to be committed.
        for span in self._written:
            self._cell.committed.update(self._cell.spans.within(span))
        self._written = SpanSet()

    async def aclose(self) -> None:
        """Commit, and give the position up."""
        if not (self._closed or self._store.dead):
            await self.commit()
        self._closed = True
