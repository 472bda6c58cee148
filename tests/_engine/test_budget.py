"""Readers share what may be fetched in advance: all of it is used, and nobody goes without."""

from hypothesis import given
from hypothesis import strategies as st

from cachestream._engine.budget import AheadBudget

LIMIT = 1000


def test_one_reader_gets_what_it_asks_for():
    """With enough for all, nobody is held back."""
    budget = AheadBudget(LIMIT)
    assert budget.grant("a", 600, least=10) == 600
    assert budget.grant("b", 300, least=10) == 300
    assert budget.grant("a", 5000, least=10) == 700
    assert budget.granted == LIMIT


def test_a_newcomer_gets_its_share_at_once():
    """It need not wait until others have given back what is too much."""
    budget = AheadBudget(LIMIT)
    budget.grant("a", LIMIT, least=10)
    assert budget.grant("b", LIMIT, least=10) == LIMIT // 2
    assert budget.grant("a", LIMIT, least=10) == LIMIT // 2


def test_what_one_reader_gives_back_another_gets():
    """Whoever leaves, or needs less, leaves more to the others."""
    budget = AheadBudget(LIMIT)
    budget.grant("a", LIMIT, least=10)
    budget.grant("b", 100, least=10)
    assert budget.grant("a", LIMIT, least=10) == 900
    budget.release("b")
    budget.release("b")
    assert budget.grant("a", LIMIT, least=10) == LIMIT


def test_nobody_gets_less_than_its_least():
    """The budget bounds what is fetched in advance, not what somebody is waiting for."""
    budget = AheadBudget(LIMIT)
    grants = [budget.grant(number, 500, least=20) for number in range(200)]
    assert min(grants) == 20
    assert budget.grant("little", 5, least=20) == 5
    assert AheadBudget(0).grant("a", 500, least=20) == 20


@given(
    st.dictionaries(st.integers(0, 20), st.integers(0, 2 * LIMIT), min_size=1),
    st.integers(0, 30),
    st.randoms(use_true_random=False),
)
def test_asking_often_enough_makes_it_fair(wants, least, chance):
    """After every reader asked twice: within the limit or at the least, and no share unused."""
    budget = AheadBudget(LIMIT)
    order = list(wants)
    for _ in range(2 * len(order)):
        reader = chance.choice(order)
        budget.grant(reader, chance.randrange(2 * LIMIT), least=least)
    for _ in range(2):
        grants = {reader: budget.grant(reader, wants[reader], least=least) for reader in order}
    share = LIMIT // len(order)
    assert all(grants[reader] >= min(wants[reader], max(share, least)) for reader in order)
    assert budget.granted == sum(grants.values())
    assert budget.granted <= max(LIMIT, least * len(order) + LIMIT)
    starved = any(grants[reader] < wants[reader] for reader in order)
    assert not starved or budget.granted >= share
    for reader in order:
        budget.release(reader)
    assert budget.granted == 0
