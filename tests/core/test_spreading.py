"""The number of connections follows what each more of them brings."""

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cachestream.core.spreading import Spread, SpreadRules

MIB = 1 << 20
STEP_S = 0.02
RESPITE_S = SpreadRules().respite
WINDOW_S = SpreadRules().window


def run(
    spread: Spread, rate: Callable[[int], float], seconds: float, size: float = 1e12
) -> list[int]:
    """Let an origin send ``rate(connections)`` bytes a second; return each new number."""
    seen, now, received = [spread.target], 0.0, 0.0
    while now < seconds and received < size:
        target = spread.observe(
            now, received=int(received), flowing=spread.target, missing=int(size - received)
        )
        if target != seen[-1]:
            seen.append(target)
        now += STEP_S
        received += rate(target) * STEP_S
    return seen


def test_an_origin_that_limits_connections_gets_as_many_as_may_be() -> None:
    """Each brings as much as the first, so the number doubles up to the limit."""
    assert run(Spread(limit=8), lambda n: n * 4 * MIB, 5) == [1, 2, 4, 8]
    assert run(Spread(limit=6), lambda n: n * 4 * MIB, 5) == [1, 2, 4, 6]


def test_the_limit_is_reached_within_a_second() -> None:
    """A number is judged as soon as its rate can be measured."""
    assert run(Spread(limit=8), lambda n: n * 4 * MIB, 3 * WINDOW_S + 0.2)[-1] == 8


def test_a_full_line_gets_one() -> None:
    """If a second one brings nothing, there is one again, and no further trial for a while."""
    assert run(Spread(), lambda n: 10 * MIB, RESPITE_S) == [1, 2, 1]
    assert run(Spread(), lambda n: 10 * MIB, 2.5 * RESPITE_S) == [1, 2, 1, 2, 1, 2, 1]


def test_an_origin_that_limits_clients_gets_what_it_gives() -> None:
    """Where four bring all there is, eight are taken back to four."""
    assert run(Spread(), lambda n: min(n, 4) * 4 * MIB, RESPITE_S) == [1, 2, 4, 8, 4]


@pytest.mark.parametrize(("gain", "kept"), [(0.45, False), (0.55, True)])
def test_a_new_one_must_bring_half_of_the_mean(gain: float, kept: bool) -> None:
    """Half of what one brought before is the line between keeping and taking back."""
    rates = {1: 4.0 * MIB, 2: (1 + gain) * 4 * MIB}
    seen = run(Spread(limit=2), rates.__getitem__, 2)
    assert seen == ([1, 2] if kept else [1, 2, 1])


def test_what_is_nearly_done_gets_no_more() -> None:
    """A rest that takes less than a second is not worth a connection."""
    assert run(Spread(), lambda n: 100 * MIB, 5, size=64 * MIB) == [1]


def test_what_was_learnt_is_the_start() -> None:
    """A host that gave eight connections their share is asked by eight at once."""
    assert Spread(8, limit=8).target == 8
    assert Spread(8, limit=3).target == 3
    assert Spread(0, limit=0).target == 1


def test_a_refusal_is_the_limit() -> None:
    """What the origin does not allow is not tried again."""
    spread = Spread(limit=8)
    run(spread, lambda n: n * 4 * MIB, 1)
    spread.refused(1.0, 3)
    assert (spread.target, spread.limit) == (3, 3)
    assert run(spread, lambda n: n * 4 * MIB, 100)[-1] == 3
    spread.refused(2.0, 0)
    assert spread.target == 1


def test_nothing_is_judged_before_all_have_begun() -> None:
    """A rate counts from the moment when every connection brings something."""
    spread = Spread()
    spread.observe(0.0, received=0, flowing=1, missing=1 << 40)
    assert spread.observe(1.0, received=MIB, flowing=1, missing=1 << 40) == 2
    for tick in range(100):
        spread.observe(1.0 + tick, received=MIB * tick, flowing=1, missing=1 << 40)
    assert spread.target == 2


@given(
    st.lists(st.floats(0, 1e9), min_size=8, max_size=8),
    st.integers(1, 8),
    st.integers(1, 8),
)
def test_the_number_stays_within_its_limits(rates: list[float], start: int, limit: int) -> None:
    """Whatever an origin does, there is at least one connection, and not more than may be."""
    seen = run(Spread(start, limit), lambda n: rates[n - 1], 3)
    assert all(1 <= n <= limit for n in seen)
