"""Histograms count each value into one bucket, whatever the bounds."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cachestream.core.histogram import Distribution, Histogram

VALUES = st.floats(min_value=0, max_value=100, allow_nan=False)
BOUNDS = st.lists(VALUES, max_size=8, unique=True).map(lambda found: tuple(sorted(found)))


@given(BOUNDS, st.lists(VALUES, max_size=30))
def test_cumulative_counts_are_those_of_the_definition(bounds, values) -> None:
    """The count under a bound is how many values are at most that bound."""
    histogram = Histogram(bounds)
    for value in values:
        histogram.observe(value)
    found = histogram.distribution()
    expected = [sum(value <= bound for value in values) for bound in bounds]
    assert found.cumulative() == (*expected, len(values))
    assert found.count == len(values)
    assert found.total == pytest.approx(sum(values))


def test_a_distribution_does_not_move() -> None:
    """What was taken stays as it was when more is counted."""
    histogram = Histogram((1.0,))
    histogram.observe(0.5)
    taken = histogram.distribution()
    histogram.observe(0.5)
    assert taken == Distribution((1.0,), (1, 0), 0.5)


@pytest.mark.parametrize("bounds", [(1.0, 1.0), (2.0, 1.0)])
def test_bounds_that_do_not_rise_are_refused(bounds) -> None:
    """Buckets that overlap would count nothing that makes sense."""
    with pytest.raises(ValueError, match="rise"):
        Histogram(bounds)
