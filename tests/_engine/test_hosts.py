"""What is learnt of an origin: how long it takes, and how much it allows."""

import pytest

from cachestream._engine import hosts
from cachestream._engine.hosts import Host, Hosts


def known(times):
    """Return a host that took these times."""
    host = Host()
    for seconds in times:
        host.answered(seconds)
    return host


def test_nothing_is_unusual_before_enough_is_known():
    """Ten answers say how long an origin takes; nine do not."""
    assert known([0.2] * (hosts.LEAST_SAMPLES - 1)).patience is None
    assert known([0.2] * hosts.LEAST_SAMPLES).patience is not None


def test_patience_lasts_longer_than_nearly_all_answers_take():
    """Few slow answers do not make it longer, many do; none makes it too short."""
    assert known([0.2] * 97 + [9.0] * 3).patience == pytest.approx(0.2 * hosts.UNUSUAL)
    assert known([0.2] * 90 + [9.0] * 10).patience == pytest.approx(9.0 * hosts.UNUSUAL)
    assert known([0.001] * 50).patience == hosts.LEAST_PATIENCE_S


def test_what_was_long_ago_says_nothing():
    """The last hundred answers count."""
    assert known([9.0] * 50 + [0.2] * 100).patience == pytest.approx(0.2 * hosts.UNUSUAL)


def test_few_of_all_exchanges_may_be_asked_again():
    """One at first, then one of twenty."""
    host = known([0.2])
    assert host.may_hedge()
    host.hedges = 2
    assert not host.may_hedge()
    for _ in range(30):
        host.answered(0.2)
    assert host.may_hedge()


def test_an_origin_that_refused_is_taken_at_its_word_for_a_time():
    """Meanwhile no more connections are tried, afterwards they may be."""
    host = Host(open=3, spread=8)
    host.refused(100.0, 2)
    assert host.spread == 2
    assert host.room(101.0, 16, own=3) == 2
    assert host.room(101.0, 16, own=1) == 1
    assert host.room(100.0 + hosts.REFUSAL_S, 16, own=3) == 16


def test_the_origin_longest_not_asked_is_forgotten(monkeypatch):
    """But not one that is being asked."""
    monkeypatch.setattr(hosts, "KNOWN", 2)
    all_hosts = Hosts()
    first, second = all_hosts.of("a"), all_hosts.of("b")
    first.open = 1
    all_hosts.of("c")
    all_hosts.of("d")
    assert all_hosts.of("a") is first
    assert all_hosts.of("b") is not second
