"""The ring: what its readers still need is kept, no more, and only here they hold back."""

import asyncio
import random

import pytest

from cachestream._engine.ephemeral import EphemeralEntry
from cachestream.abc import Key
from cachestream.backends import MemoryStore
from cachestream.core.representation import Representation
from cachestream.core.spans import Span
from cachestream.errors import NotStoredError, StoreCorruptError
from cachestream.testing.simulation import simulate

CONTENT = random.Random(2).randbytes(10_000)
LIMIT = 1000


def in_loop(scenario):
    """Run a scenario in a loop of its own."""
    simulate(lambda loop: scenario(), random.Random(0))


class Ring:
    """A ring with readers that the test moves."""

    def __init__(self, base=None) -> None:
        self.readers: list[Span] = []
        self.entry = EphemeralEntry(
            Key("k"),
            "https://a.example/",
            Representation(complete_length=len(CONTENT)),
            limit=LIMIT,
            readers=lambda: self.readers,
            base=base,
        )

    def write(self, start: int, stop: int, writer=None):
        """Write right content."""
        writer = self.entry.writer(start) if writer is None else writer
        return writer, writer.write(CONTENT[start:stop])


async def stored(*spans: Span):
    """Return a stored entry that has these bytes."""
    store = MemoryStore()
    entry = await store.create(Key("k"), "https://a.example/", Representation())
    for span in spans:
        entry.writer(span.start).write(CONTENT[span.start : span.stop])
    return entry


def test_what_was_written_can_be_read_at_once():
    """Bytes of several pieces come back as one, and what is missing is never made up."""

    async def scenario():
        ring = Ring()
        writer, _ = ring.write(0, 100)
        ring.write(100, 250, writer)
        assert bytes(ring.entry.read_nowait(Span(50, 200))) == CONTENT[50:200]
        assert bytes(await ring.entry.read(Span(0, 250))) == CONTENT[:250]
        assert ring.entry.read_nowait(Span(200, 251)) is None
        with pytest.raises(NotStoredError):
            await ring.entry.read(Span(200, 251))
        assert list(ring.entry.spans) == [Span(0, 250)]

    in_loop(scenario)


def test_nothing_is_kept_that_no_reader_needs():
    """After a trim the ring holds the next bytes of its readers, at most a limit ahead."""

    async def scenario():
        ring = Ring()
        writer = ring.entry.writer(0)
        for start in range(0, 3000, 100):
            ring.write(start, start + 100, writer)
        ring.readers = [Span(500, 10_000)]
        ring.entry.trim()
        assert list(ring.entry.spans) == [Span(500, 1500)]
        assert ring.entry.held == writer.held == 1000
        assert ring.entry.trimmed
        ring.readers = []
        ring.entry.trim()
        assert ring.entry.held == 0

    in_loop(scenario)


def test_a_full_ring_holds_its_writer_until_readers_have_read():
    """A write that fills the ring asks for a drain, which waits for the slowest reader."""

    async def scenario():
        ring = Ring()
        ring.readers = [Span(0, 10_000), Span(0, 10_000)]
        writer = ring.entry.writer(0)
        flowing = [ring.write(start, start + 250, writer)[1] for start in range(0, 1000, 250)]
        assert flowing == [True, True, True, False]
        draining = asyncio.ensure_future(writer.drain())
        await asyncio.sleep(1)
        ring.readers[0] = Span(1000, 10_000)
        ring.entry.trim()
        await asyncio.sleep(1)
        assert not draining.done()
        ring.readers[1] = Span(300, 10_000)
        ring.entry.trim()
        await asyncio.wait_for(draining, 10)

    in_loop(scenario)


def test_two_writers_have_room_of_their_own():
    """A writer that is far ahead does not take the room of the one that is needed."""

    async def scenario():
        ring = Ring()
        ring.readers = [Span(0, 10_000), Span(5000, 10_000)]
        full, _ = ring.write(5000, 6000)
        other, flowing = ring.write(0, 500)
        assert flowing
        await asyncio.wait_for(other.drain(), 1)
        assert full.held == 1000

    in_loop(scenario)


def test_over_a_stored_entry_only_the_rest_goes_through_the_ring():
    """Bytes come from where they are, in one piece if need be."""

    async def scenario():
        base = await stored(Span(0, 100), Span(300, 400))
        ring = Ring(base)
        ring.readers = [Span(0, 10_000)]
        ring.write(100, 300)
        assert list(ring.entry.spans) == [Span(0, 400)]
        assert bytes(ring.entry.read_nowait(Span(10, 90))) == CONTENT[10:90]
        assert bytes(ring.entry.read_nowait(Span(150, 250))) == CONTENT[150:250]
        assert bytes(await ring.entry.read(Span(50, 350))) == CONTENT[50:350]
        ring.readers = [Span(400, 500)]
        ring.entry.trim()
        assert list(ring.entry.spans) == [Span(0, 100), Span(300, 400)]

    in_loop(scenario)


def test_damage_below_becomes_a_hole_of_the_ring():
    """What the stored entry finds damaged is no longer claimed."""

    async def scenario():
        base = await stored(Span(0, 100))
        ring = Ring(base)

        async def read(span):
            raise StoreCorruptError("bad", span=Span(0, 50))

        base.read = read
        with pytest.raises(StoreCorruptError):
            await ring.entry.read(Span(0, 100))
        assert list(ring.entry.spans) == [Span(50, 100)]

    in_loop(scenario)


def test_the_end_lets_the_stored_entry_go_and_frees_who_waits():
    """Closing calls back once, and a writer in a full ring does not wait for ever."""

    async def scenario():
        ring = Ring()
        closed = []
        ring.entry.on_close = lambda: closed.append(True)
        ring.readers = [Span(0, 10_000)]
        ring.write(0, 100)
        await ring.entry.aclose()
        await ring.entry.aclose()
        assert closed == [True]
        assert ring.entry.held == 0

    in_loop(scenario)


def test_what_is_learned_is_remembered_and_nothing_is_published():
    """An update replaces the representation; publishing and committing do nothing."""

    async def scenario():
        ring = Ring()
        writer, _ = ring.write(0, 100)
        await ring.entry.publish()
        await writer.commit()
        await writer.aclose()
        await ring.entry.update(Representation(complete_length=5))
        assert ring.entry.representation.complete_length == 5
        assert await ring.entry.discard(Span(0, 40)) == 40
        assert list(ring.entry.spans) == [Span(40, 100)]
        assert ring.entry.region_nowait(Span(40, 100)) is None
        with ring.entry.lease(Span(40, 100)):
            assert bytes(ring.entry.read_nowait(Span(40, 100))) == CONTENT[40:100]

    in_loop(scenario)
