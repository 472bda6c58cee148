"""What the engine shows of the bytes it holds: random, bounded, and never an error."""

import random
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cachestream._engine.context import EngineContext
from cachestream._engine.witness import Witness, random_spans
from cachestream.abc import Key
from cachestream.backends import MemoryStore
from cachestream.core.representation import Representation
from cachestream.core.spans import Span, SpanSet
from cachestream.events import MirrorRejected
from cachestream.settings import Settings
from cachestream.testing import strategies as our

SOURCE = "https://example.com/film.mp4?token=secret"
DATA = random.Random(0).randbytes(100_000)


@pytest.fixture
def heard():
    """Return the list of events that a witness made."""
    return []


@pytest.fixture
def witness_of(heard):
    """Return a function that makes a witness of an entry."""

    def make(store, entry):
        context = EngineContext(
            transport=None,
            store=store,
            settings=Settings(),
            background=None,
            chance=random.Random(7),
            listeners=[heard.append],
        )
        return Witness(context, entry)

    return make


async def entry_with(store, *spans):
    """Return an entry that holds some of the data."""
    entry = await store.create(Key(SOURCE), SOURCE, Representation(complete_length=len(DATA)))
    for span in spans:
        entry.writer(span.start).write(DATA[span.start : span.stop])
    return entry


@given(
    our.span_sets(600),
    st.integers(1, 5),
    st.integers(1, 40),
    st.integers(0, 1000),
)
def test_random_spans_are_held_disjoint_and_bounded(held, count, size, seed):
    """Whatever is held, each span lies in it, none overlap, and none is empty or too long."""
    chosen = random_spans(held, count, size, random.Random(seed))
    assert len(chosen) <= count
    assert bool(chosen) == bool(held)
    assert all(held.covers(span) and 0 < len(span) <= size for span in chosen)
    assert SpanSet(chosen).total == sum(map(len, chosen))


def test_random_spans_come_from_everywhere():
    """No part of what is held is left out, and the same chance gives the same spans."""
    held = SpanSet([Span(0, 100), Span(1000, 1900)])
    chance = random.Random(1)
    firsts = Counter(random_spans(held, 1, 10, chance)[0].start // 100 for _ in range(2000))
    assert set(firsts) == {0, *range(10, 19)}
    once, again = (random_spans(held, 3, 10, random.Random(5)) for _ in range(2))
    assert once == again


@pytest.mark.asyncio
async def test_samples_are_the_bytes_that_are_held(witness_of):
    """Each sample is a span and its bytes."""
    async with MemoryStore() as store:
        entry = await entry_with(store, Span(0, 1000), Span(50_000, 90_000))
        witness = witness_of(store, entry)
        samples = await witness.samples(3, 4096)
        assert len(samples) == 3
        assert all(data == DATA[span.start : span.stop] for span, data in samples)
        assert witness.representation.complete_length == len(DATA)


@pytest.mark.asyncio
async def test_what_cannot_be_read_is_left_out(witness_of):
    """An entry without bytes, or one that was closed, gives no samples and no error."""
    async with MemoryStore() as store:
        entry = await entry_with(store)
        witness = witness_of(store, entry)
        assert list(await witness.samples(3, 100)) == []
        entry.writer(0).write(b"abc")
        entry.read = lambda span: entry.__class__.read(entry, Span(90, 91))
        assert list(await witness.samples(3, 100)) == []


@pytest.mark.asyncio
async def test_a_place_that_differs_is_told_to_listeners(witness_of, heard):
    """The event has the place, without what its query may hide, and the span."""
    async with MemoryStore() as store:
        entry = await entry_with(store)
        witness_of(store, entry).differs("https://b.example/x?key=secret", Span(3, 5))
    (event,) = heard
    assert isinstance(event, MirrorRejected)
    assert (event.source, event.span) == (SOURCE, Span(3, 5))
    assert event.url.startswith("https://b.example/x")
    assert "secret" not in event.url
