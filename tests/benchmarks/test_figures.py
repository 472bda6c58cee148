"""Medians, spreads and ratios are what they are called."""

import pytest
from benchmarks.figures import Figure, best, number, ratio, summarize


def rows(better="lower", **medians):
    """Return rows of one figure with these medians."""
    return {
        name: summarize([[Figure("time", value, "s", better)]]) for name, value in medians.items()
    }


def test_a_summary_has_the_median_and_the_spread_of_all_cells():
    """A figure that some cells lack is summed up over those that have it."""
    cells = [
        [Figure("time", 3.0, "s"), Figure("bytes", 7.0, at=16)],
        [Figure("time", 1.0, "s")],
        [Figure("time", 10.0, "s")],
    ]
    found = summarize(cells)
    time = found["time", None]
    assert (time.median, time.low, time.high, time.count) == (3.0, 1.0, 10.0, 3)
    assert found["bytes", 16].count == 1
    assert found["bytes", 16].title == "bytes, 16"


@pytest.mark.parametrize(("better", "name"), [("lower", "a"), ("higher", "b"), ("neither", None)])
def test_the_best_peer_is_the_best_of_the_peers(better, name):
    """Who is no peer does not count, and what has no better side has no best."""
    found = rows(better, a=2.0, b=3.0, direct=1.0, ours=9.0)
    assert best(found, ["a", "b", "absent"], ("time", None)) == name
    assert best(found, ["absent"], ("time", None)) is None


def test_a_ratio_to_nothing_has_no_meaning():
    """But nothing is as much as nothing."""
    assert ratio(3.0, 2.0) == 1.5
    assert ratio(0.0, 0.0) == 1.0
    assert ratio(1.0, 0.0) is None


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0"), (0.12345, "0.123"), (1.2345, "1.23"), (12.345, "12.3"), (1234.5, "1,234")],
)
def test_numbers_have_three_digits_or_all_before_the_point(value, text):
    """More would claim what was not measured."""
    assert number(value) == text
