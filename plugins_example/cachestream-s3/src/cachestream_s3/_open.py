"""An entry that is open: its bytes in memory and in objects, and how its head follows them."""

from __future__ import annotations

import asyncio
from bisect import bisect_right
from collections.abc import Iterable
from typing import TYPE_CHECKING, Final

import attrs
from cachestream.abc import Key
from cachestream.core.representation import Representation
from cachestream.core.spans import Span, SpanSet
from cachestream.errors import NotStoredError, StoreCorruptError, StoreError

from cachestream_s3._heads import CELL, EntryHead, Head, PartHead, sums_of
from cachestream_s3._parts import Part

if TYPE_CHECKING:
    from cachestream_s3._entry import S3Lease
    from cachestream_s3._store import S3Store
    from cachestream_s3._writer import S3Writer

__all__ = ["OpenEntry"]

COMMIT_BYTES: Final = 16 * 1024 * 1024
"""A writer is held back when so much of its entry, and a sixteenth of it, is in no head yet.
The second keeps what is written of heads small beside the data, however long the entry is."""


class OpenEntry:
    """What all handles of one entry in one store share.

    The head in the bucket may be changed by other nodes at any time. `_merge` keeps what they
    added and what was added here, and forgets what either side discarded since both agreed.
    """

    def __init__(self, store: S3Store, key: Key, head: EntryHead, *, published: bool) -> None:
        self.store, self.key = store, key
        self.entry_id, self.source = head.entry_id, head.source
        self.created = head.created
        self.accessed = head.accessed
        self.representation: Representation = head.representation
        self.published, self.deleted = published, False
        self.rivals: dict[object, str] = {}
        self.handles = 0
        self.spans = SpanSet()
        self.parts: list[Part] = []
        self.writers: set[S3Writer] = set()
        self.leases: set[S3Lease] = set()
        self.dirty = False
        self.uncommitted = 0
        self.room = 0
        self.lock = asyncio.Lock()
        self.writable = store.shared.claim(self.entry_id, store)
        self._index: list[tuple[int, int, Part]] | None = None
        self._fetching: dict[str, asyncio.Lock] = {}
        self._noted: asyncio.Task[None] | None = None
        self._base = head
        for part in map(Part.from_head, head.parts):
            self._add(part)

    @property
    def late(self) -> bool:
        """Whether so much is in no head yet that a writer should wait."""
        return self.published and self.uncommitted >= max(COMMIT_BYTES, self.room // 16)

    def _add(self, part: Part) -> None:
        self.parts.append(part)
        self.spans.update(part.live)
        self.room += part.size
        self._index = None

    def _drop(self, part: Part) -> None:
        self.parts.remove(part)
        self.room -= part.size
        self._index = None

    # -- reading ---------------------------------------------------------

    def peek(self, span: Span) -> bytes | None:
        """Return the longest beginning of ``span`` that is in memory, None if there is none."""
        for writer in self.writers:
            part = writer.part
            if part is not None and part.start <= span.start < part.stop:
                assert part.data is not None
                view = memoryview(part.data)
                return bytes(view[span.start - part.start : span.stop - part.start])
        found = self._at(span.start)
        if found is None:
            return None
        stop, part = min(found[0], span.stop), found[1]
        if part.data is not None:
            return bytes(part.data[span.start - part.start : stop - part.start])
        cell = (span.start - part.start) // CELL
        data = self.store.cells.get(part.name, cell)
        if data is None:
            return None
        inside = span.start - part.cell_span(cell).start
        return data[inside : inside + stop - span.start]

    def read_nowait(self, span: Span) -> bytes | None:
        """Return exactly ``span`` if all of it is in memory."""
        if not self.spans.covers(span):
            return None
        pieces = []
        position = span.start
        while position < span.stop:
            piece = self.peek(Span(position, span.stop))
            if piece is None:
                return None
            pieces.append(piece)
            position += len(piece)
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    async def read(self, span: Span) -> bytes:
        """Return exactly ``span``, asking the bucket for what is not in memory."""
        pieces = []
        position = span.start
        while position < span.stop:
            gap = next(self.spans.gaps(Span(position, span.stop)), None)
            if gap is not None:
                raise NotStoredError("bytes are missing", span=gap, url=self.source)
            piece = self.peek(Span(position, span.stop))
            if piece is None:
                piece = await self._fetch(Span(position, span.stop))
            pieces.append(piece)
            position += len(piece)
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def _at(self, position: int) -> tuple[int, Part] | None:
        """Return the part that has a byte, and where its run of bytes ends."""
        if self._index is None:
            runs = [(run.start, run.stop, part) for part in self.parts for run in part.live]
            self._index = sorted(runs, key=lambda run: run[0])
        place = bisect_right(self._index, position, key=lambda run: run[0]) - 1
        if place < 0 or position >= self._index[place][1]:
            return None
        return self._index[place][1], self._index[place][2]

    async def _fetch(self, span: Span) -> bytes:
        """Return a beginning of ``span``, checked; what follows it is read ahead."""
        found = self._at(span.start)
        if found is None:
            raise NotStoredError("bytes are missing", span=span, url=self.source)
        part = found[1]
        lock = self._fetching.setdefault(part.name, asyncio.Lock())
        async with lock:
            piece = self.peek(span)
            if piece is not None or span.start not in part.live:
                return piece or b""
            first = (span.start - part.start) // CELL
            ahead = max(span.stop, span.start + self.store.options.read_ahead)
            last = -(-(min(ahead, part.stop) - part.start) // CELL)
            data = await self.store.bucket.get_range(
                f"data/{self.entry_id}/{part.name}", first * CELL, min(last * CELL, part.size)
            )
        if span.start not in part.live:
            return b""  # it was discarded, or moved, while the bucket was asked
        if data is None:
            await self._lost(part)
            return b""
        return self._checked(part, first, data, Span(span.start, min(span.stop, found[0])))

    def _checked(self, part: Part, first: int, data: bytes, span: Span) -> bytes:
        """Return ``span`` of the cells that were read, and keep the good ones."""
        bad: Span | None = None
        for cell in range(first, first + max(1, -(-len(data) // CELL))):
            piece = data[(cell - first) * CELL : (cell - first + 1) * CELL]
            where = part.cell_span(cell)
            if len(piece) == len(where) and sums_of(piece) == part.sum_of(cell):
                self.store.cells.put(part.name, cell, piece)
            elif where.overlaps(span) and bad is None:
                bad = where
        if bad is not None:
            lost = next(iter(part.live.within(bad)))
            for run in list(part.live.within(bad)):
                self._forget(part, run)
            raise StoreCorruptError(
                f"bytes {lost} of {part.name} fail their check", span=lost, url=self.source
            )
        inside = span.start - part.start - first * CELL
        # The last cell may have come short of what was asked, where the object is cut off.
        return data[inside : inside + len(span)]

    async def _lost(self, part: Part) -> None:
        """Find out why an object is not there: another node discarded it, or it is damage.

        Raises:
            StoreCorruptError: If the head names it still; it is a hole from now on.
        """
        head = await self.store.catalog.find(self.entry_id)
        if head is not None and self.published and not self.deleted:
            async with self.lock:
                self._merge(head)
        if part in self.parts:
            lost = next(iter(part.live))
            for run in list(part.live):
                self._forget(part, run)
            raise StoreCorruptError(f"the object {part.name} is gone", span=lost, url=self.source)

    def _forget(self, part: Part, span: Span) -> int:
        """Let bytes of a part count no more; return how many there were."""
        count = 0
        for run in list(part.live.within(span)):
            count += part.live.discard(run)
            self.spans.discard(run)
        if count:
            self.dirty = True
            self._index = None
            if not part.live:
                self._drop(part)
        return count

    # -- writing ---------------------------------------------------------

    def upload(self, part: Part) -> asyncio.Task[None]:
        """Begin to put a part that is whole; its bytes can be read meanwhile."""
        part.seal()
        self._add(part)
        self.uncommitted += part.size
        return self.store.start(self._put(part))

    async def _put(self, part: Part) -> None:
        try:
            await self.note()
            assert isinstance(part.data, bytes)
            await self.store.put_part(f"data/{self.entry_id}/{part.name}", part.data)
        except BaseException:
            for run in list(part.live):
                self._forget(part, run)
            raise
        self.store.cells.put_all(part.name, part.data)
        part.data = None
        part.stored = self.dirty = True

    async def note(self) -> None:
        """Note in the bucket, once, that there may be objects that no head names."""
        if self._noted is None or (self._noted.done() and self._noted.exception() is not None):
            self._noted = self.store.start(self.store.note(self.entry_id))
        await asyncio.shield(self._noted)

    async def commit(self) -> None:
        """Return when the head names all objects that are there.

        Raises:
            StoreError: If the bucket fails.
        """
        async with self.lock:
            if self.dirty and self.published and not self.deleted:
                await self._swap()

    async def publish(self) -> None:
        """Make the head name the entry.

        Raises:
            StoreConflictError: If another entry of its variant was published meanwhile.
        """
        async with self.lock:
            if not self.published:
                await self._swap(publish=True)
                self.published = True

    async def _swap(self, *, publish: bool = False) -> None:
        """Bring the head up to date; `lock` is held."""
        wanted = self.representation
        self.dirty = False
        try:
            head = await self.store.catalog.change(
                self.key, lambda head: self.store.renewed(head, self, publish=publish)
            )
        except BaseException:
            self.dirty = True
            raise
        new = head.find(self.entry_id)
        if new is None:
            self.deleted = True  # by another node, or to make room
            return
        self._merge(new)
        if self.representation is not wanted:
            self.dirty = True

    def merged(self, head: Head) -> EntryHead:
        """Return the entry as it is here, with what other nodes did since both agreed."""
        theirs = head.find(self.entry_id)
        mine = {part.name: part.to_head() for part in self.parts if part.stored}
        if theirs is None:
            return self._head(theirs, mine.values())
        base = {part.name for part in self._base.parts}
        named = {part.name: part for part in theirs.parts}
        parts, taken = [], SpanSet()
        for name, part in mine.items():
            other = named.get(name)
            if other is not None:
                live = _both(part.live, other.live)
            elif name in base and not self._is_leased(part.live):
                continue  # discarded there
            else:
                live = part.live
            if live:
                parts.append(attrs.evolve(part, live=live))
                taken.update(live)
        for name, other in named.items():
            if name not in mine and name not in base:
                live = tuple(gap for run in other.live for gap in taken.gaps(run))
                if live:
                    parts.append(attrs.evolve(other, live=live))
                    taken.update(live)
        return self._head(theirs, parts)

    def _head(self, theirs: EntryHead | None, parts: Iterable[PartHead]) -> EntryHead:
        changed = self.representation != self._base.representation
        return EntryHead(
            entry_id=self.entry_id,
            source=self.source,
            representation=(
                self.representation if theirs is None or changed else theirs.representation
            ),
            created=self.created,
            accessed=self.accessed if theirs is None else max(self.accessed, theirs.accessed),
            pinned=theirs is not None and theirs.pinned,
            parts=tuple(sorted(parts, key=lambda part: part.start)),
        )

    def _merge(self, head: EntryHead) -> None:
        """Take over what the head says, and keep what it does not say yet; `lock` is held."""
        base = {part.name for part in self._base.parts}
        named = {part.name: part for part in head.parts}
        mine = {part.name for part in self.parts}
        for part in list(self.parts):
            if part.name in named:
                kept = SpanSet(named[part.name].live)
            elif part.name in base:
                kept = SpanSet()
            else:
                continue  # the head does not know it yet
            for gap in [gap for run in part.live for gap in kept.gaps(run)]:
                if not self._is_leased((gap,)):
                    self._forget(part, gap)
        for name, other in named.items():
            if name not in mine and name not in base:
                live = tuple(gap for run in other.live for gap in self.spans.gaps(run))
                if live:
                    self._add(Part.from_head(attrs.evolve(other, live=live)))
        if self.representation == self._base.representation:
            self.representation = head.representation
        self._base = head
        current = {part.name: tuple(part.live) for part in self.parts if part.stored}
        self.dirty = current != {name: part.live for name, part in named.items()}
        self.uncommitted = sum(part.size for part in self.parts if part.name not in named)

    # -- discarding ------------------------------------------------------

    def _is_leased(self, spans: Iterable[Span]) -> bool:
        return any(lease.span.overlaps(span) for lease in self.leases for span in spans)

    async def discard(self, span: Span) -> int:
        """Forget the bytes of ``span`` that nobody leases; return how many there were."""
        for writer in list(self.writers):
            if writer.part is not None and Span(writer.part.start, writer.part.stop).overlaps(span):
                await writer.flush()
        async with self.lock:
            free = SpanSet([span])
            for lease in self.leases:
                free.discard(lease.span)
            count = 0
            touched = []
            for part in list(self.parts):
                forgotten = sum(self._forget(part, run) for run in free)
                count += forgotten
                if forgotten and part.live and 2 * part.live.total < part.size and part.stored:
                    touched.append(part)
            for part in touched:
                await self._compact(part)
            if count and self.published and not self.deleted:
                await self.note()
                await self._swap()
        return count

    async def _compact(self, part: Part) -> None:
        """Write the few bytes of an object that still count anew, so that its room is free."""
        for run in list(part.live):
            try:
                data = await self.read(run)
            except (NotStoredError, StoreError):
                continue
            new = Part(run.start, run.stop, SpanSet([run]), data)
            new.seal()
            await self.note()
            await self.store.put_part(f"data/{self.entry_id}/{new.name}", data)
            new.data, new.stored = None, True
            if not part.live.covers(run):
                continue
            self._forget(part, run)
            self._add(new)
            self.store.cells.put_all(new.name, data)


def _both(one: Iterable[Span], other: Iterable[Span]) -> tuple[Span, ...]:
    """Return the spans that are in both."""
    second = SpanSet(other)
    return tuple(part for run in one for part in second.within(run))
