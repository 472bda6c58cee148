"""What the rows of the index mean together: entries by key, by age, and their totals.

Methods that read may be called anywhere; those that change rows run in the index thread,
each as one transaction, and return the totals as they are afterwards.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
from typing import Final

import attrs

from cachestream.abc import EntryRecord, Key
from cachestream.backends._format import (
    TOTALS_ROW,
    Access,
    Counts,
    Head,
    KeyRow,
    Totals,
    WriteMark,
    is_entry_id,
    key_row,
    order_row,
    origin_row,
    segment_row,
)
from cachestream.backends._index import Index, index_errors
from cachestream.backends._names import origin_of, variant_of
from cachestream.errors import StoreConflictError

__all__ = ["Candidate", "Catalog", "Changes", "Removed"]

_ORDER: Final = re.compile(r"[lp]:([0-9a-f]{16}):([0-9a-f]{32})\Z")


@attrs.frozen(kw_only=True)
class Changes:
    """What is new of one entry since its last commit.

    Attributes:
        segments: Content by number of segment; None where nothing is stored any more.
        counts: Bytes committed with it, and room taken that counts for the limit.
        head: The head, if it changed; always for `Catalog.publish`.
        file: Path the user named, if any.
    """

    entry_id: str
    segments: Mapping[int, bytes | None]
    counts: Counts
    head: Head | None = None
    file: str | None = None


@attrs.frozen
class Removed:
    """An entry that is no longer in the index; its file is still to be removed.

    Attributes:
        head: What it was; None if nobody can say any more.
    """

    entry_id: str
    head: Head | None


@attrs.frozen
class Candidate:
    """An entry that may be evicted, with the row that says so."""

    row: str
    entry_id: str
    accessed: int


class Catalog:
    """The entries of one store as the index knows them."""

    def __init__(self, index: Index) -> None:
        self.index = index

    # -- reading ---------------------------------------------------------

    def head(self, entry_id: str) -> Head | None:
        """Return the head of a published entry, None if there is none."""
        content = self.index.get(f"e:{entry_id}") if is_entry_id(entry_id) else None
        return None if content is None else Head.unpack(content)

    def key(self, key: Key) -> KeyRow:
        """Return which entries are published for ``key``."""
        return KeyRow.unpack(key, self.index.get(key_row(key)))

    def counts(self, entry_id: str) -> Counts:
        """Return how much of an entry is committed, and its room."""
        return Counts.unpack(self.index.get(f"c:{entry_id}"))

    def access(self, entry_id: str) -> Access:
        """Return when an entry was last used."""
        return Access.unpack(self.index.get(f"t:{entry_id}"))

    def segments(self, entry_id: str) -> list[tuple[int, bytes]]:
        """Return number and content of an entry's segments."""
        rows = self.index.scan(f"s:{entry_id}:", f"s:{entry_id};")
        return [(int(name.rpartition(":")[2], 16), content) for name, content in rows]

    def record(self, entry_id: str) -> tuple[Head, EntryRecord] | None:
        """Return what is known of a published entry."""
        head = self.head(entry_id)
        if head is None:
            return None
        counts, access = self.counts(entry_id), self.access(entry_id)
        return head, EntryRecord(
            entry_id=entry_id,
            key=head.key,
            source=head.source,
            representation=head.representation,
            stored_bytes=counts.stored,
            allocated_bytes=counts.allocated,
            created=head.created / 1e6,
            accessed=access.accessed / 1e6,
            pinned=access.pinned,
            file=head.file,
        )

    def page(self, after: str | None, limit: int) -> list[EntryRecord]:
        """Return up to ``limit`` records in order of identifier."""
        low = "e:" if after is None else f"e:{after}\0"
        found: list[EntryRecord] = []
        with index_errors(), self.index.snapshot():
            while len(found) < limit:
                rows = self.index.scan(low, "e;", limit - len(found))
                if not rows:
                    break
                records = (self.record(name[2:]) for name, _ in rows)
                found += [pair[1] for pair in records if pair is not None]
                low = rows[-1][0] + "\0"
        return found

    def oldest(self, limit: int) -> list[EntryRecord]:
        """Return up to ``limit`` records, least recently used first."""
        with index_errors(), self.index.snapshot():
            found = [
                _parse_order(name)
                for prefix in "lp"
                for name, _ in self.index.scan(f"{prefix}:", f"{prefix};", limit)
            ]
            records = [self.record(entry_id) for _, entry_id in sorted(found)[:limit]]
        return [pair[1] for pair in records if pair is not None]

    def candidates(self, after: str, limit: int) -> list[Candidate]:
        """Return up to ``limit`` evictable entries whose rows follow ``after``."""
        rows = self.index.scan(f"{after}\0" if after else "l:", "l;", limit)
        return [
            Candidate(name, entry_id, when)
            for name, _ in rows
            for when, entry_id in [_parse_order(name)]
        ]

    def room_of(self, entry_id: str) -> int:
        """Return how much room the totals have for an entry."""
        # Room that no head stands for is in no total, and evicting gives none of it.
        known = self.index.get(f"e:{entry_id}") is not None
        return self.counts(entry_id).allocated if known else 0

    def marks(self) -> list[tuple[str, WriteMark]]:
        """Return the entries that some process has, or had, in hand."""
        rows = self.index.scan("w:", "w;")
        marks = ((name[2:], WriteMark.unpack(content)) for name, content in rows)
        return [(entry_id, mark) for entry_id, mark in marks if is_entry_id(entry_id)]

    def has_origin(self, origin: str) -> bool:
        """Tell whether a published entry came from ``origin``."""
        return self._number(origin_row(origin_of(origin))) > 0

    def totals(self) -> Totals:
        """Return how many entries there are, and the room they take."""
        with index_errors():
            return Totals.unpack(self.index.get(TOTALS_ROW)) or Totals()

    # -- changing, in the index thread -----------------------------------

    def begin(self, entry_id: str, mark: WriteMark) -> None:
        """Note that an entry is about to be made, before its file is."""
        with self.index.transaction():
            self.index.put(f"w:{entry_id}", mark.pack())

    def publish(
        self, changes: Changes, rival: str | None, accessed: int, open_here: Collection[str]
    ) -> tuple[Totals, Removed | None]:
        """Make an entry visible in place of ``rival``, which had its variant at its creation.

        Raises:
            StoreConflictError: If another entry has the variant by now.
        """
        head = changes.head
        if head is None:
            raise ValueError("publishing needs a head")
        entry_id, variant = changes.entry_id, variant_of(head.representation)
        with self.index.transaction():
            current = self.key(head.key).find(variant)
            superseded = None
            if current is not None and self.head(current) is not None:
                if current != rival:
                    raise StoreConflictError("another writer published first", url=head.source)
                superseded = self._remove(current, open_here)
            row = self.key(head.key).without(current or "")
            self.index.put(
                key_row(head.key), KeyRow(row.key, (*row.entries, (entry_id, variant))).pack()
            )
            access = Access(accessed, external=head.file is not None)
            self.index.put(f"t:{entry_id}", access.pack())
            self.index.put(order_row(entry_id, access), b"")
            self._count(origin_row(origin_of(head.source)), 1)
            self.index.put(f"e:{entry_id}", head.pack())
            self._total(entries=1)
            before = self._mark(entry_id).allocated
            self._write(changes)
            totals = self._total(allocated=changes.counts.allocated - before)
        return totals, superseded

    def apply(self, batch: Iterable[Changes]) -> tuple[Totals, frozenset[str]]:
        """Commit changes of several entries; return also which of them are not published.

        Of an entry that is not published, or not any more, only its room is noted.
        """
        hidden = set()
        with self.index.transaction():
            gained = 0
            for changes in batch:
                entry_id = changes.entry_id
                if self.index.get(f"e:{entry_id}") is None:
                    hidden.add(entry_id)
                    gained += changes.counts.allocated - self._mark(entry_id).allocated
                    mark = WriteMark(changes.counts.allocated, changes.file)
                    self.index.put(f"w:{entry_id}", mark.pack())
                else:
                    gained += changes.counts.allocated - self.counts(entry_id).allocated
                    if changes.head is not None:
                        self.index.put(f"e:{entry_id}", changes.head.pack())
                    self._write(changes)
            return self._total(allocated=gained), frozenset(hidden)

    def reweigh(self, entry_id: str, allocated: int) -> Totals:
        """Set how much room an entry takes."""
        with self.index.transaction():
            old = self.counts(entry_id)
            new = attrs.evolve(old, allocated=allocated)
            self.index.put(f"c:{entry_id}", new.pack())
            return self._total(allocated=new.allocated - old.allocated)

    def remove(
        self, entry_ids: Iterable[str], open_here: Collection[str], rows: Iterable[str] = ()
    ) -> tuple[Totals, list[Removed]]:
        """Remove entries; of those that are open here, the room stays counted.

        Args:
            rows: Names of further rows to delete: what led to the entries.
        """
        with self.index.transaction():
            for name in rows:
                self.index.delete(name)
            found = (self._remove(entry_id, open_here) for entry_id in entry_ids)
            removed = [item for item in found if item is not None]
            return self._total(), removed

    def settle(self, entry_id: str) -> Totals:
        """Note that an entry is out of our hands; what only its mark counted is gone."""
        with self.index.transaction():
            freed = self._mark(entry_id).allocated
            self.index.delete(f"w:{entry_id}")
            return self._total(allocated=-freed)

    def touch(self, times: Mapping[str, int], pins: Mapping[str, bool]) -> Totals:
        """Set last access times, in microseconds, and pins."""
        with self.index.transaction():
            for entry_id in {*times, *pins}:
                if self.index.get(f"e:{entry_id}") is None:
                    continue
                old = self.access(entry_id)
                new = attrs.evolve(
                    old,
                    accessed=max(old.accessed, times.get(entry_id, 0)),
                    pinned=pins.get(entry_id, old.pinned),
                )
                if new != old:
                    self.index.delete(order_row(entry_id, old))
                    self.index.put(order_row(entry_id, new), b"")
                    self.index.put(f"t:{entry_id}", new.pack())
            return self._total()

    def _write(self, changes: Changes) -> None:
        entry_id = changes.entry_id
        for number, content in changes.segments.items():
            if content is None:
                self.index.delete(segment_row(entry_id, number))
            else:
                self.index.put(segment_row(entry_id, number), content)
        self.index.put(f"c:{entry_id}", changes.counts.pack())
        self.index.put(f"w:{entry_id}", WriteMark(0, changes.file).pack())

    def _remove(self, entry_id: str, open_here: Collection[str]) -> Removed | None:
        if not is_entry_id(entry_id):
            return None
        head, counts = self.head(entry_id), self.counts(entry_id)
        if head is not None:
            row = self.key(head.key).without(entry_id)
            if row.entries:
                self.index.put(key_row(head.key), row.pack())
            else:
                self.index.delete(key_row(head.key))
            self._count(origin_row(origin_of(head.source)), -1)
        self.index.delete(order_row(entry_id, self.access(entry_id)))
        self.index.delete(f"t:{entry_id}")
        self.index.delete(f"c:{entry_id}")
        self.index.delete_range(f"s:{entry_id}:", f"s:{entry_id};")
        # A damaged head was counted, too.
        entries = -int(self.index.delete(f"e:{entry_id}"))
        if entry_id in open_here and entries:
            self.index.put(f"w:{entry_id}", WriteMark(counts.allocated, None).pack())
            self._total(entries=entries)
        elif entries:
            self._total(entries=entries, allocated=-counts.allocated)
        return Removed(entry_id, head) if entries else None

    def _mark(self, entry_id: str) -> WriteMark:
        return WriteMark.unpack(self.index.get(f"w:{entry_id}"))

    def _total(self, *, entries: int = 0, allocated: int = 0) -> Totals:
        old = Totals.unpack(self.index.get(TOTALS_ROW)) or Totals()
        if not (entries or allocated):
            return old
        new = Totals(max(0, old.entries + entries), max(0, old.allocated + allocated))
        self.index.put(TOTALS_ROW, new.pack())
        return new

    def _number(self, name: str) -> int:
        content = self.index.get(name)
        return int(content) if content is not None and content.isdigit() else 0

    def _count(self, name: str, change: int) -> None:
        number = self._number(name) + change
        if number > 0:
            self.index.put(name, str(number).encode())
        else:
            self.index.delete(name)


def _parse_order(name: str) -> tuple[int, str]:
    """Return the time and the entry that a row of the order names; "" for nonsense."""
    match = _ORDER.match(name)
    return (0, "") if match is None else (int(match[1], 16), match[2])
