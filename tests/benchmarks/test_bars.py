"""A bar is held, missed by so much, or cannot be told; it is never moved."""

import pytest
from benchmarks.bars import BARS, BEST_PEER, OURS, Bar, judge
from benchmarks.figures import Figure, summarize
from benchmarks.scenarios import SCENARIOS

PEERS = ["nginx", "varnish"]


def rows(better="lower", **values):
    """Return rows of one figure, measured once for each value."""
    return {
        name: summarize([[Figure("time", value, "s", better)] for value in each])
        for name, each in values.items()
    }


def verdict(bar, found):
    """Return the result, and the limit it was judged by."""
    seen = judge(bar, found, PEERS)
    assert seen is not None
    return seen.result, seen.limit


def test_a_bar_is_measured_by_the_best_peer():
    """Of the peers that were measured, in the direction that is good."""
    found = rows(cachestream=[2.0], nginx=[4.0], varnish=[3.0], direct=[1.0])
    assert verdict(Bar("S1", "time", 1.0, BEST_PEER), found) == ("held", 3.0)
    found = rows("higher", cachestream=[2.0], nginx=[4.0], varnish=[3.0])
    assert verdict(Bar("S1", "time", 1.0, BEST_PEER), found) == ("missed by 50 %", 4.0)


def test_a_miss_says_by_how_much():
    """Of the limit, not of the reference."""
    found = rows(cachestream=[3.0], nginx=[1.0])
    assert verdict(Bar("S1", "time", 2.0, "nginx"), found) == ("missed by 50 %", 2.0)
    assert verdict(Bar("S1", "time", 2.5), found) == ("missed by 20 %", 2.5)
    assert verdict(Bar("S1", "time", 0), found) == ("missed by 3.00", 0)


def test_within_the_spread_of_both_there_is_no_difference():
    """But only where both were measured several times, and their values overlap."""
    bar = Bar("S1", "time", 1.0, "nginx")
    found = rows(cachestream=[3.0, 4.0, 5.0], nginx=[2.0, 3.0, 3.5])
    assert verdict(bar, found) == ("no difference (33 %)", 3.0)
    found = rows(cachestream=[3.6, 4.0, 5.0], nginx=[2.0, 3.0, 3.5])
    assert verdict(bar, found) == ("missed by 33 %", 3.0)
    assert verdict(Bar("S1", "time", 3.5), found) == ("missed by 14 %", 3.5)


def test_without_a_reference_nothing_can_be_told():
    """A peer that is not installed is no reason to call a bar held."""
    found = rows(cachestream=[3.0])
    assert verdict(Bar("S1", "time", 1.0, "nginx"), found) == ("not measured", None)
    assert verdict(Bar("S1", "time", 1.0, BEST_PEER), found) == ("not measured", None)
    assert judge(Bar("S1", "time", 1.0), rows(nginx=[3.0]), PEERS) is None


def test_a_bar_may_be_measured_by_another_figure_of_ours():
    """A start over many entries is compared with one over none."""
    found = {
        OURS: summarize([[Figure("start", 1.2, "s"), Figure("start, empty", 1.0, "s")]]),
    }
    seen = judge(Bar("S10", "start", 1.1, "“start, empty”"), found, PEERS)
    assert seen is not None
    assert seen.limit == pytest.approx(1.1)
    assert seen.result == "missed by 9 %"


def test_every_bar_belongs_to_a_scenario():
    """A renamed scenario would leave its bars without a judge."""
    assert {bar.scenario for bar in BARS} <= set(SCENARIOS)
