"""Histograms: how often a quantity fell below each of some bounds.

Counting costs a bisection and two additions, so that it can be done where requests are
answered; what reads the counts takes a frozen `Distribution`.
"""

from __future__ import annotations

from bisect import bisect_left
from itertools import accumulate, pairwise

import attrs

__all__ = ["Distribution", "Histogram"]


@attrs.frozen
class Distribution:
    """Counts of a quantity by size, as they were at one moment.

    Attributes:
        bounds: Upper bounds of the buckets, inclusive, rising.
        counts: How many values fell into each bucket; the last one, beyond all bounds, is one
            more than there are bounds.
        total: Sum of all values.
    """

    bounds: tuple[float, ...]
    counts: tuple[int, ...]
    total: float = 0.0

    @property
    def count(self) -> int:
        """How many values there were."""
        return sum(self.counts)

    def cumulative(self) -> tuple[int, ...]:
        """Return how many values were at most each bound, and last how many there were."""
        return tuple(accumulate(self.counts))


class Histogram:
    """Counts values into buckets.

    Args:
        bounds: Upper bounds of the buckets, inclusive.

    Raises:
        ValueError: If the bounds do not rise.
    """

    def __init__(self, bounds: tuple[float, ...]) -> None:
        if any(low >= high for low, high in pairwise(bounds)):
            raise ValueError("the bounds of a histogram must rise")
        self._bounds = bounds
        self._counts = [0] * (len(bounds) + 1)
        self._total = 0.0

    def observe(self, value: float) -> None:
        """Count a value."""
        self._counts[bisect_left(self._bounds, value)] += 1
        self._total += value

    def distribution(self) -> Distribution:
        """Return the counts so far."""
        return Distribution(self._bounds, tuple(self._counts), self._total)
