"""A signal wakes those who wait now, and nobody later."""

import asyncio
import random

import pytest

from cachestream._engine.signal import Signal
from cachestream.testing.simulation import simulate


def test_a_fire_wakes_all_who_wait_and_is_not_remembered():
    """Who comes after a fire waits for the next one."""

    async def live(loop):
        signal = Signal()
        signal.fire()
        waiting = [asyncio.ensure_future(signal.wait()) for _ in range(2)]
        await asyncio.sleep(1)
        assert bool(signal)
        assert not any(each.done() for each in waiting)
        signal.fire()
        assert await asyncio.gather(*waiting) == [True, True]
        assert not signal

    simulate(live, random.Random(0))


def test_a_failure_is_raised_in_all_who_wait():
    """A failure goes to those who wait now."""

    async def live(loop):
        signal = Signal()
        waiting = [asyncio.ensure_future(signal.wait()) for _ in range(2)]
        await asyncio.sleep(1)
        signal.fail(OSError("gone"))
        for each in waiting:
            with pytest.raises(OSError, match="gone"):
                await each

    simulate(live, random.Random(0))


def test_a_wait_may_have_a_limit():
    """After the timeout the answer is False, and nobody waits any more."""

    async def live(loop):
        signal = Signal()
        assert await signal.wait(3) is False
        assert loop.time() == pytest.approx(3)
        assert not signal

    simulate(live, random.Random(0))


def test_a_cancelled_wait_leaves_nothing():
    """Who was cancelled is forgotten, even if the failure came at the same time."""

    async def live(loop):
        signal = Signal()
        waiting = asyncio.ensure_future(signal.wait())
        await asyncio.sleep(0)
        signal.fail(OSError())
        waiting.cancel()
        await asyncio.wait((waiting,))
        assert not signal

    simulate(live, random.Random(0))
