"""How late the event loop runs what is due: what a blocking call costs everybody else."""

from __future__ import annotations

import asyncio
from typing import Final

from cachestream.core.histogram import Distribution, Histogram

__all__ = ["LoopLag"]

BOUNDS_S: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)
INTERVAL_S: Final = 0.25
"""Often enough to catch what people feel, seldom enough to let a processor sleep."""


class LoopLag:
    """Measures, four times a second, how late the loop calls what it was told to.

    Args:
        interval: Seconds between two measurements.
    """

    def __init__(self, interval: float = INTERVAL_S) -> None:
        self._interval = interval
        self._histogram = Histogram(BOUNDS_S)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._timer: asyncio.TimerHandle | None = None

    def start(self, loop: asyncio.AbstractEventLoop | None = None) -> None:
        """Measure a loop, by default the running one, until `stop`."""
        self._loop = loop or asyncio.get_running_loop()
        self._wait()

    def stop(self) -> None:
        """Measure no more; idempotent."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def distribution(self) -> Distribution:
        """Return the delays so far, in seconds."""
        return self._histogram.distribution()

    def _wait(self) -> None:
        assert self._loop is not None
        due = self._loop.time() + self._interval
        self._timer = self._loop.call_at(due, self._measure, due)

    def _measure(self, due: float) -> None:
        assert self._loop is not None
        self._histogram.observe(max(0.0, self._loop.time() - due))
        self._wait()
