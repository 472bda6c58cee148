"""Waiters are woken by position, each once."""

import asyncio
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cachestream._engine.waiters import Waiters
from cachestream.core.spans import UNBOUNDED, Span
from cachestream.testing.simulation import simulate


def in_loop(scenario):
    """Run a function of a set of waiters in a loop."""

    async def live(loop):
        scenario(Waiters())

    simulate(live, random.Random(0))


def test_waking_a_span_wakes_just_those_within():
    """The byte at the start is within a span, the one at its stop is not."""

    def scenario(waiters):
        futures = {position: waiters.enter(position) for position in (0, 9, 10, 19, 20)}
        waiters.wake(Span(10, 20))
        assert [position for position, future in futures.items() if future.done()] == [10, 19]
        assert len(waiters) == 3

    in_loop(scenario)


def test_an_empty_span_wakes_nobody():
    """Storing nothing is no news."""

    def scenario(waiters):
        future = waiters.enter(5)
        waiters.wake(Span(5, 5))
        assert not future.done()

    in_loop(scenario)


def test_several_wait_for_one_byte():
    """All who wait for the same byte are woken together."""

    def scenario(waiters):
        futures = [waiters.enter(7) for _ in range(3)]
        waiters.wake(Span(0, UNBOUNDED))
        assert all(future.done() for future in futures)
        assert len(waiters) == 0

    in_loop(scenario)


def test_failing_a_span_raises_in_those_within():
    """A failure reaches those who wait for a byte of the span, and nobody else."""

    def scenario(waiters):
        lost, kept = waiters.enter(5), waiters.enter(50)
        waiters.fail(Span(0, 10), OSError("gone"))
        with pytest.raises(OSError, match="gone"):
            lost.result()
        assert not kept.done()

    in_loop(scenario)


def test_who_has_left_is_not_woken():
    """Leaving forgets the place, before and after it was woken, cancelled or not."""

    def scenario(waiters):
        left, cancelled, woken = waiters.enter(1), waiters.enter(1), waiters.enter(2)
        waiters.leave(left)
        waiters.leave(left)
        cancelled.cancel()
        waiters.wake(Span(0, 10))
        waiters.leave(woken)
        assert not left.done()
        assert woken.done()
        assert len(waiters) == 0

    in_loop(scenario)


@given(
    st.lists(st.integers(0, 20), max_size=15),
    st.lists(st.tuples(st.integers(0, 20), st.integers(0, 20), st.booleans()), max_size=8),
)
def test_whoever_waits_is_woken_exactly_by_its_own_byte(positions, spans):
    """Against a plain list: after any wakes, those are done whose byte was in one of them."""

    def scenario(waiters):
        futures = [(position, waiters.enter(position)) for position in positions]
        woken: set[int] = set()
        for one, other, fails in spans:
            span = Span(min(one, other), max(one, other))
            if fails:
                waiters.fail(span, OSError())
            else:
                waiters.wake(span)
            woken.update(range(span.start, span.stop))
        for position, future in futures:
            assert future.done() is (position in woken)
            if future.done():
                future.exception()
        assert len(waiters) == sum(position not in woken for position in positions)

    in_loop(scenario)


def test_a_waiter_can_be_awaited():
    """The future that is given is one of the running loop."""

    async def live(loop):
        waiters = Waiters()
        future = waiters.enter(3)
        loop.call_later(5, waiters.wake, Span(3, 4))
        await asyncio.wait((future,))
        assert loop.time() >= 5

    simulate(live, random.Random(0))
