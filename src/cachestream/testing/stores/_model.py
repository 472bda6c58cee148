"""A store against a model of it: random but repeatable steps, crashes and restarts included.

The model is a set of spans an entry; the byte at a position follows from the entry, so every
byte that a store gives out can be judged.
"""

from __future__ import annotations

import random
from typing import Final

import attrs
import pytest

from cachestream.abc import Entry, Key, SpanWriter, Store
from cachestream.core.spans import Span, SpanSet
from cachestream.errors import StoreConflictError
from cachestream.testing.stores._places import Place, content, representation

__all__ = ["ModelPromises"]

LENGTH: Final = 700_000
STEPS: Final = 60


@attrs.define(eq=False)
class Known:
    """What the model knows of one entry.

    Attributes:
        readable: What can be read while it stays open.
        committed: What must survive a crash.
    """

    entry_id: str
    data: bytes
    readable: SpanSet = attrs.field(factory=SpanSet)
    committed: SpanSet = attrs.field(factory=SpanSet)
    published: bool = False
    handle: Entry | None = None
    writer: SpanWriter | None = None


class Run:
    """One run of random steps."""

    def __init__(self, place: Place, seed: int) -> None:
        self.place = place
        self.random = random.Random(seed)
        self.entries: list[Known] = []
        self.made = 0
        self.store: Store

    async def all(self) -> None:
        """Take the steps, and check at the end."""
        self.store = await self.place.open()
        weighted = {
            self.create: 3, self.write: 12, self.commit: 4, self.publish: 3, self.read: 8,
            self.discard: 2, self.close: 3, self.delete: 1, self.restart: 1, self.crash: 2,
        }  # fmt: skip
        for _ in range(STEPS):
            (step,) = self.random.choices(list(weighted), list(weighted.values()))
            await step()
        await self.crash()
        for known in list(self.entries):
            await self.read_all(known)
        usage = await self.store.usage()
        assert usage.entries == len(self.entries)
        await self.store.aclose()

    async def create(self) -> None:
        """Make an entry of its own key."""
        self.made += 1
        source = f"https://example.com/{self.made}"
        entry = await self.store.create(Key(source), source, representation(LENGTH))
        data = content(LENGTH, self.made)
        self.entries.append(Known(entry.entry_id, data, handle=entry))

    async def write(self) -> None:
        """Write some bytes of a hole, going on where the last write ended or elsewhere."""
        known = self.pick()
        if known is None or known.handle is None:
            return
        if known.writer is None or self.random.random() < 0.3:
            known.writer = known.handle.writer(self.random.randrange(LENGTH))
        start = known.writer.position
        size = self.random.choice([1, 100, 5000, 70_000, 300_000])
        known.writer.write(known.data[start : start + size])
        known.readable.add(Span(start, min(LENGTH, start + size)))

    async def commit(self) -> None:
        """Commit what an entry's writer wrote; the store may commit more than that."""
        known = self.pick()
        if known is not None and known.writer is not None:
            start = known.writer.position
            await known.writer.commit()
            if start:
                run = Span(start - 1, start)
                known.committed.update(known.readable.within(run))

    async def publish(self) -> None:
        """Publish an entry; nobody else has its key."""
        known = self.pick()
        if known is not None and known.handle is not None and not known.published:
            try:
                await known.handle.publish()
            except StoreConflictError as exc:
                raise AssertionError("there is no other entry of this key") from exc
            known.published = True

    async def read(self) -> None:
        """Read a stored span and compare."""
        known = self.pick()
        if known is None or known.handle is None or not known.readable:
            return
        assert known.handle.spans == known.readable
        span = self.random.choice(list(known.readable))
        start = self.random.randrange(span.start, span.stop)
        part = Span(start, self.random.randint(start + 1, span.stop))
        assert await known.handle.read(part) == known.data[part.start : part.stop]

    async def discard(self) -> None:
        """Forget a random span; what is forgotten stays so."""
        known = self.pick()
        if known is None or known.handle is None:
            return
        start = self.random.randrange(LENGTH)
        span = Span(start, self.random.randint(start, LENGTH))
        held = sum(len(part) for part in known.readable.within(span))
        assert await known.handle.discard(span) == held
        known.readable.discard(span)
        known.committed.discard(span)

    async def close(self) -> None:
        """Close an entry, or open a closed one."""
        known = self.pick()
        if known is None:
            return
        if known.handle is None:
            known.handle = await self.store.open(known.entry_id)
        else:
            await known.handle.aclose()
            known.handle = known.writer = None
            known.committed = known.readable.copy()
            if not known.published:
                self.entries.remove(known)

    async def delete(self) -> None:
        """Delete an entry, open or not."""
        known = self.pick()
        if known is not None and known.published:
            await self.store.delete(known.entry_id)
            if known.handle is not None:
                for span in list(known.readable):
                    assert await known.handle.read(span) == known.data[span.start : span.stop]
                await known.handle.aclose()
            self.entries.remove(known)

    async def restart(self) -> None:
        """Close the store as a program does that ends, and open it again."""
        for known in list(self.entries):
            if known.handle is not None:
                await known.handle.aclose()
                known.committed = known.readable.copy()
        await self.store.aclose()
        await self.reopen()

    async def crash(self) -> None:
        """End the store as a kill does, and open it again."""
        await self.place.crash()
        await self.reopen()

    async def reopen(self) -> None:
        """Open the store, and compare what is left with what must be."""
        persistent = self.store.capabilities.persistent
        self.store = await self.place.open()
        self.entries = [known for known in self.entries if known.published and persistent]
        for known in self.entries:
            known.writer = None
            known.handle = await self.store.open(known.entry_id)
            spans = known.handle.spans
            for span in known.committed:
                assert spans.covers(span)
            for span in spans:
                assert known.readable.covers(span)
            known.readable, known.committed = spans.copy(), spans.copy()

    async def read_all(self, known: Known) -> None:
        """Read all that an entry holds."""
        assert known.handle is not None
        for span in list(known.handle.spans):
            assert await known.handle.read(span) == known.data[span.start : span.stop]
        await known.handle.aclose()

    def pick(self) -> Known | None:
        """Return one of the entries."""
        return self.random.choice(self.entries) if self.entries else None


class ModelPromises:
    """All promises at once, in any order."""

    @pytest.mark.asyncio
    @pytest.mark.parametrize("seed", range(12))
    async def test_a_store_does_what_its_model_does(self, place: Place, seed: int) -> None:
        """After any steps, crashes included, each byte that is claimed is there and right."""
        await Run(place, seed).all()
