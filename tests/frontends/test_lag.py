"""The lag of the event loop is measured against what was due."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from cachestream.frontends._lag import LoopLag

pytestmark = pytest.mark.asyncio


class Timers:
    """A loop's timers, with a clock that stands until it is moved."""

    def __init__(self) -> None:
        self.now = 100.0
        self.due: list[tuple[float, Callable[..., None], tuple[Any, ...]]] = []

    def time(self) -> float:
        return self.now

    def call_at(self, when: float, call: Callable[..., None], *args: Any) -> None:
        self.due.append((when, call, args))

    def run(self, late: float) -> None:
        """Call what is due next, ``late`` seconds after its time."""
        when, call, args = self.due.pop(0)
        self.now = when + late
        call(*args)


async def test_each_call_is_counted_by_how_late_it_came() -> None:
    """A loop that was held up for a second shows it; one that was on time shows nothing."""
    timers: Any = Timers()
    lag = LoopLag(interval=0.25)
    lag.start(timers)
    for late in (0.0, 0.0002, 1.5):
        timers.run(late)
    found = lag.distribution()
    assert found.count == 3
    assert found.total == pytest.approx(1.5002)
    assert found.cumulative()[0] == 2
    assert [when for when, _, _ in timers.due] == [pytest.approx(timers.now + 0.25)]


async def test_nothing_is_measured_after_the_end() -> None:
    """No timer is left behind, and stopping twice does no harm."""
    lag = LoopLag(interval=0.0)
    lag.start()
    async with asyncio.timeout(30):
        while not lag.distribution().count:
            await asyncio.sleep(0)
    lag.stop()
    lag.stop()
    count = lag.distribution().count
    for _ in range(20):
        await asyncio.sleep(0)
    assert lag.distribution().count == count
