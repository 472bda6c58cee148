"""A store against a model of it, crashes and restarts included.

The model is a set of spans an entry; the byte at a position follows from the entry, so every
byte that a store gives out can be judged. `StoreModel` takes steps that somebody else chooses:
`Run` by a seed, as a test of the contract, and `cachestream.testing.machine` by hypothesis.
"""

from __future__ import annotations

import random
from typing import Final

import attrs
import pytest

from cachestream.abc import Entry, Key, Lease, SpanWriter, Store
from cachestream.core.spans import Span, SpanSet
from cachestream.errors import EntryNotFoundError, NotStoredError, StoreConflictError
from cachestream.testing.stores._places import Place, content, representation

__all__ = ["Known", "ModelPromises", "Run", "StoreModel"]

LENGTH: Final = 700_000
STEPS: Final = 60


@attrs.define(eq=False)
class Known:
    """What the model knows of one entry.

    Attributes:
        entry_id: The store's name of it.
        number: What its key, and its bytes, follow from.
        data: Its bytes.
        readable: What can be read while it stays open.
        committed: What must survive a crash.
        published: Whether it was published.
        handle: An open handle, None if it is closed.
        writer: A writer of that handle.
        written: What this writer stored, and nobody else.
        leases: Leases that are held, with their spans.
    """

    entry_id: str
    number: int
    data: bytes
    readable: SpanSet = attrs.field(factory=SpanSet)
    committed: SpanSet = attrs.field(factory=SpanSet)
    published: bool = False
    handle: Entry | None = None
    writer: SpanWriter | None = None
    written: SpanSet = attrs.field(factory=SpanSet)
    leases: list[tuple[Span, Lease]] = attrs.field(factory=list)

    @property
    def source(self) -> str:
        """Where it is from, which is its key too."""
        return f"https://example.com/{self.number}"

    @property
    def leased(self) -> SpanSet:
        """Stored bytes that must stay where they are."""
        return SpanSet(part for span, _ in self.leases for part in self.readable.within(span))


class StoreModel:
    """A store and a model of it; each step does something to both, and compares.

    Args:
        place: Where the store keeps its entries.
        length: Length of each entry in bytes.
    """

    def __init__(self, place: Place, length: int = LENGTH) -> None:
        self.place = place
        self.length = length
        self.entries: list[Known] = []
        self.made = 0
        self.store: Store

    async def open(self) -> None:
        """Open the store for the first time."""
        self.store = await self.place.open()

    # -- steps ------------------------------------------------------------

    async def create(self) -> Known:
        """Make an entry of its own key."""
        self.made += 1
        source = f"https://example.com/{self.made}"
        entry = await self.store.create(Key(source), source, representation(self.length))
        data = content(self.length, self.made)
        known = Known(entry.entry_id, self.made, data, handle=entry)
        self.entries.append(known)
        return known

    def write(self, known: Known, start: int | None, size: int) -> None:
        """Write some bytes, going on where the last write ended, or at ``start``."""
        if known.handle is None:
            return
        if known.writer is None or start is not None:
            known.writer = known.handle.writer(start or 0)
            known.written = SpanSet()
        position = known.writer.position
        span = Span(position, max(position, min(self.length, position + size)))
        known.writer.write(known.data[position : position + size])
        known.written.update(known.readable.gaps(span))
        known.readable.add(span)

    async def commit(self, known: Known) -> None:
        """Commit what an entry's writer wrote; the store may commit more than that."""
        if known.writer is not None:
            await known.writer.commit()
            known.committed.update(known.written)

    async def publish(self, known: Known) -> None:
        """Publish an entry; nobody else has its key."""
        if known.handle is not None and not known.published:
            assert await self.store.select(Key(known.source)) == ()
            try:
                await known.handle.publish()
            except StoreConflictError as exc:
                raise AssertionError("there is no other entry of this key") from exc
            known.published = True

    async def compare(self, known: Known) -> None:
        """Compare which bytes can be read, and whether the entry is found."""
        found = [record.entry_id for record in await self.store.select(Key(known.source))]
        assert found == ([known.entry_id] if known.published else [])
        if known.handle is not None:
            assert known.handle.spans == known.readable

    async def read(self, known: Known, span: Span) -> None:
        """Read a span: its bytes if they are stored, else an error, and never zeros."""
        if known.handle is None:
            return
        if known.readable.covers(span):
            assert await known.handle.read(span) == known.data[span.start : span.stop]
            return
        assert known.handle.read_nowait(span) is None
        with pytest.raises(NotStoredError):
            await known.handle.read(span)

    def lease(self, known: Known, span: Span) -> None:
        """Take a lease of what is stored in a span."""
        if known.handle is not None:
            stored = list(known.readable.within(span))
            known.leases += [(part, known.handle.lease(part)) for part in stored]

    def release(self, known: Known) -> None:
        """Give all leases of an entry back."""
        leases, known.leases = known.leases, []
        for _, lease in leases:
            lease.release()

    async def discard(self, known: Known, span: Span) -> None:
        """Forget the unleased bytes of a span; what is forgotten stays so."""
        if known.handle is None:
            return
        kept = known.leased
        gone = SpanSet(part for held in known.readable.within(span) for part in kept.gaps(held))
        assert await known.handle.discard(span) == gone.total
        for part in gone:
            for spans in (known.readable, known.committed, known.written):
                spans.discard(part)

    async def close(self, known: Known) -> None:
        """Close an entry; an unpublished one vanishes."""
        if known.handle is None:
            return
        self.release(known)
        await known.handle.aclose()
        known.handle = known.writer = None
        known.committed = known.readable.copy()
        if not known.published:
            self.entries.remove(known)
            with pytest.raises(EntryNotFoundError):
                await self.store.open(known.entry_id)

    async def reopen(self, known: Known) -> None:
        """Open an entry that was closed."""
        if known.handle is None:
            known.handle = await self.store.open(known.entry_id)

    async def delete(self, known: Known) -> None:
        """Delete an entry, open or not; an open one stays readable until it is closed."""
        if not known.published:
            return
        await self.store.delete(known.entry_id)
        assert await self.store.select(Key(known.source)) == ()
        if known.handle is not None:
            for span in list(known.readable):
                assert await known.handle.read(span) == known.data[span.start : span.stop]
            self.release(known)
            await known.handle.aclose()
        self.entries.remove(known)

    async def restart(self) -> None:
        """Close the store as a program does that ends, and open it again."""
        for known in list(self.entries):
            if known.handle is not None:
                self.release(known)
                await known.handle.aclose()
                known.committed = known.readable.copy()
        await self.store.aclose()
        await self._open_again()

    async def crash(self) -> None:
        """End the store as a kill does, and open it again."""
        await self.place.crash()
        await self._open_again()

    async def _open_again(self) -> None:
        """Open the store, and compare what is left with what must be."""
        persistent = self.store.capabilities.persistent
        self.store = await self.place.open()
        self.entries = [known for known in self.entries if known.published and persistent]
        for known in self.entries:
            known.writer = None
            known.leases.clear()
            known.handle = await self.store.open(known.entry_id)
            spans = known.handle.spans
            for span in known.committed:
                assert spans.covers(span)
            for span in spans:
                assert known.readable.covers(span)
            known.readable, known.committed = spans.copy(), spans.copy()

    async def finish(self) -> None:
        """End with a crash, and read every byte that is left."""
        await self.crash()
        for known in list(self.entries):
            assert known.handle is not None
            for span in list(known.handle.spans):
                assert await known.handle.read(span) == known.data[span.start : span.stop]
            await known.handle.aclose()
        usage = await self.store.usage()
        assert usage.entries == len(self.entries)
        await self.store.aclose()


class Run(StoreModel):
    """One run of steps that follow from a seed."""

    def __init__(self, place: Place, seed: int) -> None:
        super().__init__(place)
        self.random = random.Random(seed)

    async def all(self) -> None:
        """Take the steps, and check at the end."""
        await self.open()
        weighted = {
            "create": 3, "write": 12, "commit": 4, "publish": 3, "read": 8, "lease": 2,
            "release": 2, "discard": 2, "close": 2, "reopen": 1, "delete": 1, "restart": 1,
            "crash": 2,
        }  # fmt: skip
        for _ in range(STEPS):
            (step,) = self.random.choices(list(weighted), list(weighted.values()))
            await self.take(step)
        await self.finish()

    async def take(self, step: str) -> None:
        """Take one step with one of the entries."""
        if step in {"create", "restart", "crash"}:
            await getattr(self, step)()
            return
        if not self.entries:
            return
        known = self.random.choice(self.entries)
        if step == "write":
            start = self.random.randrange(LENGTH) if self.random.random() < 0.3 else None
            self.write(known, start, self.random.choice([1, 100, 5000, 70_000, 300_000]))
        elif step == "read":
            await self.read(known, self.some(known))
            await self.compare(known)
        elif step == "lease":
            self.lease(known, self.some(known))
        elif step == "release":
            self.release(known)
        elif step == "discard":
            start = self.random.randrange(LENGTH)
            await self.discard(known, Span(start, self.random.randint(start, LENGTH)))
        else:
            await getattr(self, step)(known)

    def some(self, known: Known) -> Span:
        """Return a span, mostly one that is stored."""
        if not known.readable or self.random.random() < 0.1:
            start = self.random.randrange(LENGTH)
            return Span(start, start + 1)
        span = self.random.choice(list(known.readable))
        start = self.random.randrange(span.start, span.stop)
        return Span(start, self.random.randint(start + 1, span.stop))


class ModelPromises:
    """All promises at once, in any order."""

    @pytest.mark.asyncio
    @pytest.mark.parametrize("seed", range(12))
    async def test_a_store_does_what_its_model_does(self, place: Place, seed: int) -> None:
        """After any steps, crashes included, each byte that is claimed is there and right."""
        await Run(place, seed).all()
