"""An entry of the objects store as one store has it open, for all its handles and writers.

Order of a commit: the parts are put as objects, then a new revision of the record says so,
then what the record no longer names is removed. The lock of the entry is held meanwhile, so
that revisions follow each other; reading and writing need no lock.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Final

import xxhash

from cachestream.backends._leases import LeaseBook
from cachestream.backends._names import Variant
from cachestream.backends._object_parts import Part, PartTable, put_part
from cachestream.backends._object_records import CELL, Record, data_folder
from cachestream.core.spans import Span, SpanSet
from cachestream.errors import (
    StoreCorruptError,
    StoreError,
)

if TYPE_CHECKING:
    from cachestream.backends._object_writer import ObjectsWriter
    from cachestream.backends._objects import ObjectsStore

__all__ = ["OpenEntry"]

_AHEAD: Final = 3
"""How many more cells of an object a reader in sequence gets with those it asked for."""


class OpenEntry:
    """One entry for all handles of one store.

    Attributes:
        spans: Bytes that can be read.
        rivals: What was published for each variant of the key when it was made.
        room: What it takes of the store's limit, in bytes; 0 when it is another store's.
    """

    def __init__(self, store: ObjectsStore, record: Record, *, published: bool) -> None:
        self.store = store
        self.record = record
        self.representation = record.representation
        self.accessed, self.pinned = record.accessed, record.pinned
        self.published, self.deleted = published, False
        self.dirty = not published
        self.rivals: dict[Variant, str] = {}
        self.spans = SpanSet()
        self.table = PartTable()
        self.leases = LeaseBook(self.let_go)
        self.lock = asyncio.Lock()
        self.handles = 0
        self.writers: set[ObjectsWriter] = set()
        self.jobs: set[asyncio.Future[tuple[int, ...]]] = set()
        self.garbage: list[str] = []
        self.uncommitted = 0
        self.closed = False
        self.writable = store.medium.sharing.claim(record.entry_id, store)
        self.room = 0
        for known in record.parts:
            part = Part.stored(known)
            self.table.add(part)
            self.spans.update(part.live)
            self.charge(part.size)

    @property
    def entry_id(self) -> str:
        """The identifier."""
        return self.record.entry_id

    @property
    def source(self) -> str:
        """The source URL."""
        return self.record.source

    @property
    def is_visible(self) -> bool:
        """Whether it is published, and not deleted since."""
        return self.published and not self.deleted

    def charge(self, size: int) -> None:
        """Count room that is taken, or given back if negative."""
        self.room += size
        self.store.room.live += size

    # -- reading ---------------------------------------------------------

    def at(self, position: int) -> tuple[int, Part] | None:
        """Return where the run at ``position`` ends, and which part has it."""
        for writer in self.writers:
            part = writer.part
            if part is not None and position in part.live:
                return part.live.run_stop(position), part
        return self.table.at(position)

    def take(self, part: Part, span: Span) -> bytes | None:
        """Return bytes of a part if they are in memory."""
        if part.data is not None:
            return bytes(part.data[span.start - part.start : span.stop - part.start])
        first, last = (span.start - part.start) // CELL, -(-(span.stop - part.start) // CELL)
        cells = [self.store.cache.get(part, number) for number in range(first, last)]
        found = [cell for cell in cells if cell is not None]
        if len(found) < len(cells):
            return None
        offset = part.start + first * CELL
        return b"".join(found)[span.start - offset : span.stop - offset]

    async def fetch(self, part: Part, span: Span) -> bytes:
        """Return bytes of a part, checked.

        Raises:
            StoreCorruptError: If they fail their check; they are holes from then on.
            StoreError: If the medium fails.
        """
        data = self.take(part, span)
        if data is not None:
            return data
        first, last = (span.start - part.start) // CELL, -(-(span.stop - part.start) // CELL)
        medium, cache, ahead = self.store.medium, self.store.cache, last
        if first and cache.get(part, first - 1) is not None:
            # Somebody reads in sequence: each question costs the way to the place and back.
            ahead = min(last + _AHEAD, len(part.cells))
        start, stop = first * CELL, min(ahead * CELL, part.size)
        raw = await medium.run(medium.get, part.name(self.entry_id), start, stop) or b""
        bad = SpanSet()
        for number in range(first, ahead):
            cell = raw[number * CELL - start : (number + 1) * CELL - start]
            if xxhash.xxh3_64_intdigest(cell) == part.cells[number]:
                cache.put(part, number, cell)
            elif number < last:
                bad.update(part.live.within(part.cell(number)))
        if bad:
            self._damaged(part, bad)
        return raw[span.start - part.start - start : span.stop - part.start - start]

    def _damaged(self, part: Part, bad: SpanSet) -> None:
        for span in bad:
            part.live.discard(span)
            self.spans.discard(span)
        self._live_changed(part)
        worst = next(iter(bad))
        raise StoreCorruptError(f"bytes {worst} fail their check", span=worst, url=self.source)

    # -- changing --------------------------------------------------------

    def forget(self, span: Span) -> int:
        """Make holes of stored bytes; return how many bytes were stored."""
        gone = self.spans.discard(span)
        for writer in self.writers:
            if writer.part is not None:
                writer.part.live.discard(span)
        for part in self.table:
            if part.live.discard(span):
                self._live_changed(part)
        return gone

    def _live_changed(self, part: Part) -> None:
        """Let go of a part of which nothing counts any more."""
        self.dirty = True
        self.table.changed()
        if not part.live and part.is_stored:
            self._retire(part)

    def _retire(self, part: Part) -> None:
        self.table.drop(part)
        self.charge(-part.size)
        if self.writable:
            self.garbage.append(part.name(self.entry_id))

    def seal(self, part: Part) -> list[asyncio.Future[tuple[int, ...]]]:
        """Begin to put what a writer has in memory; return what to wait for."""
        parts = part.split()
        self.charge(sum(each.size for each in parts) - part.size)
        return [self.upload(each) for each in parts]

    def upload(self, part: Part) -> asyncio.Future[tuple[int, ...]]:
        """Begin to put a part, which is readable from memory until it is in its object."""
        self.table.add(part)
        medium = self.store.medium
        job = medium.submit(put_part, medium, self.entry_id, part)
        self.jobs.add(job)
        job.add_done_callback(lambda done: self._put(part, done))
        return job

    def _put(self, part: Part, job: asyncio.Future[tuple[int, ...]]) -> None:
        self.jobs.discard(job)
        if job.cancelled() or job.exception() is not None:
            for span in part.live:
                self.spans.discard(span)
            self.table.drop(part)
            self.charge(-part.size)
        else:
            part.cells = job.result()
            data, part.data = part.data, None
            assert data is not None
            for number in range(len(part.cells)):
                cell = bytes(data[number * CELL : (number + 1) * CELL])
                self.store.cache.put(part, number, cell)
            self.dirty = True
            self.uncommitted += part.size
            if not part.live:
                self._retire(part)
        self.let_go()

    # -- committing ------------------------------------------------------

    def as_record(self) -> Record:
        """Return what is to be written down: what is in objects, nothing else."""
        parts = sorted(
            (part.record() for part in self.table if part.is_stored and part.live),
            key=lambda part: (part.start, part.nonce),
        )
        return Record(
            entry_id=self.entry_id,
            key=self.record.key,
            source=self.record.source,
            representation=self.representation,
            created=self.record.created,
            accessed=self.accessed,
            pinned=self.pinned,
            parts=tuple(parts),
            revision=self.record.revision,
        )

    async def commit(self) -> None:
        """Write a record if there is something new, then remove what it does not name."""
        async with self.lock:
            await self.write_record()

    async def write_record(self) -> None:
        """Do what `commit` does, with the lock held."""
        if not self.dirty or not self.writable or self.closed:
            return
        if self.is_visible:
            self.dirty, self.uncommitted = False, 0
            try:
                # Another process may have set the pin; what was set here meanwhile counts more.
                pinned = self.pinned
                record = await self.store.catalog.write(
                    self.as_record(), adopt_pin=pinned == self.record.pinned
                )
            except BaseException:
                self.dirty = True
                raise
            if record is None:
                self.deleted = True  # by somebody else: it must not come back
                self.store.forget(self)
            else:
                self.record = record
                if self.pinned == pinned:
                    self.pinned = record.pinned
        garbage, self.garbage = self.garbage, []
        if garbage:
            self.store.remove_objects(self.entry_id, garbage)

    async def thin_out(self) -> None:
        """Write anew the rest of objects most of which was discarded, to get their room back."""
        for part in self.table:
            if part.is_stored and part.size > CELL and 2 * part.live.total < part.size:
                with contextlib.suppress(StoreError):
                    await self._rewrite(part)

    async def _rewrite(self, part: Part) -> None:
        medium, rests = self.store.medium, []
        for span in list(part.live):
            rest = Part(span, await self.fetch(part, span))
            rest.cells = await medium.run(put_part, medium, self.entry_id, rest)
            rests.append(rest)
        for rest in rests:
            # What was discarded meanwhile stays so.
            rest.live = SpanSet(part.live.within(Span(rest.start, rest.stop)))
            rest.data = None
            part.live.discard(Span(rest.start, rest.stop))
            self.table.add(rest)
            self.charge(rest.size)
        self._live_changed(part)

    # -- its end ---------------------------------------------------------

    def let_go(self) -> None:
        """Close the entry if nobody needs it; one that is not published vanishes then."""
        if self.closed or self.handles or self.leases or self.jobs or self.store.dead:
            return
        self.closed = True
        self.store.left(self)
        if self.deleted or not self.published:
            self.store.remove_objects(self.entry_id, [data_folder(self.entry_id) + "/"])
