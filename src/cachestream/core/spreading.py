"""How many connections one resource shall have, judged by what each more of them brings.

Where an origin limits what a connection gets, several bring the sum. Where the way there is
full, or the origin limits clients, more connections bring nothing but load. So the number
is doubled while a new connection brings at least half of what one brought before on the
average, and is taken back when it does not.
"""

from __future__ import annotations

import attrs

from cachestream.core.planning import LEAST_PART

__all__ = ["Spread", "SpreadRules"]


@attrs.frozen(kw_only=True)
class SpreadRules:
    """What is measured, and what is enough.

    Attributes:
        window: Shortest time over which a rate is measured, in seconds.
        least_bytes: Least that must have come of each connection before a rate is a rate.
        worth: What is left must take longer than this many seconds to be worth a connection.
        gain: What a new connection must bring of the mean of those before it.
        respite: Once the right number was found, it is left alone for so many seconds.
        least_part: Least that a connection is given of another one's part, in bytes.
    """

    window: float = 0.1
    least_bytes: int = 64 * 1024
    worth: float = 1.0
    gain: float = 0.5
    respite: float = 30.0
    least_part: int = LEAST_PART


class Spread:
    """The number of connections of one resource; a pure state machine, which is told the time.

    Args:
        start: How many to begin with: 1, or what was learnt of the host before.
        limit: How many there may be.
        rules: What is measured, and what is enough.

    Attributes:
        target: How many there shall be.

    Example:
        >>> spread = Spread()
        >>> spread.observe(0.0, received=0, flowing=1, missing=1 << 30)
        1
        >>> spread.observe(0.5, received=1 << 20, flowing=1, missing=1 << 30)
        2
    """

    def __init__(self, start: int = 1, limit: int = 8, rules: SpreadRules | None = None) -> None:
        self._rules = rules or SpreadRules()
        self._limit = max(1, limit)
        self.target = min(max(1, start), self._limit)
        self._began: float | None = None
        self._base = 0
        self._before: tuple[int, float] | None = None  # how many brought how much a second
        self._settled_until = 0.0

    @property
    def limit(self) -> int:
        """How many connections there may be."""
        return self._limit

    def observe(self, now: float, *, received: int, flowing: int, missing: int) -> int:
        """Take note of how much has come, and return how many connections there shall be.

        Args:
            now: Seconds, from any start.
            received: Bytes that all connections have brought since the beginning.
            flowing: How many of them have brought a byte of what they were asked for last.
            missing: Bytes that are still wanted.
        """
        if flowing < self.target:
            self._began = None  # some are still on their way, or there is not enough to share
            return self.target
        if self._began is None:
            self._began, self._base = now, received
            return self.target
        elapsed, came = now - self._began, received - self._base
        rules = self._rules
        if elapsed >= rules.window and came >= rules.least_bytes * self.target:
            self._judge(now, came / elapsed, missing)
        return self.target

    def _judge(self, now: float, rate: float, missing: int) -> None:
        before, self._before, self._began = self._before, None, None
        if before is not None and rate < self._needed(before):
            self._settle(now, before[0])
            return
        more = now >= self._settled_until and self.target < self._limit
        if more and missing > rate * self._rules.worth:
            self._before = (self.target, rate)
            self.target = min(2 * self.target, self._limit)

    def _needed(self, before: tuple[int, float]) -> float:
        """Return the least rate that justifies so many connections."""
        fewer, rate = before
        return rate * (1 + self._rules.gain * (self.target - fewer) / fewer)

    def refused(self, now: float, allowed: int) -> None:
        """Take note that the origin did not allow more than ``allowed`` connections."""
        self._limit = max(1, min(self._limit, allowed))
        self._settle(now, min(self.target, self._limit))

    def _settle(self, now: float, target: int) -> None:
        self.target = target
        self._before = None
        self._began = None
        self._settled_until = now + self._rules.respite
