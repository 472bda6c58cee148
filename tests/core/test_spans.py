"""Spans and span sets, against plain sets of integers."""

from itertools import pairwise

import attrs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from cachestream.core.spans import UNBOUNDED, Span, SpanSet
from cachestream.testing import strategies as our

TOP = 60
positions = st.integers(0, TOP)
spans = our.spans(TOP)
span_sets = our.span_sets(TOP)


def members(span: Span) -> set[int]:
    return set(range(span.start, span.stop))


def positions_of(held: SpanSet) -> set[int]:
    return {position for span in held for position in members(span)}


@pytest.mark.parametrize(("start", "stop"), [(-1, 3), (3, 2), (-2, -1)])
def test_a_span_refuses_bounds_that_make_none(start: int, stop: int) -> None:
    """A span neither begins before 0 nor ends before it begins."""
    with pytest.raises(ValueError, match="not a span"):
        Span(start, stop)


def test_a_span_is_a_value() -> None:
    """Spans compare, hash and sort by their bounds, and cannot be changed."""
    assert Span(1, 4) == Span(1, 4)
    assert len({Span(1, 4), Span(1, 4)}) == 1
    assert sorted([Span(2, 3), Span(0, 9)]) == [Span(0, 9), Span(2, 3)]
    assert str(Span(1, 4)) == "[1, 4)"
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        Span(1, 4).start = 0  # type: ignore[misc]


@given(spans, spans)
@settings(deadline=None)
def test_span_operations_are_those_of_sets(one: Span, other: Span) -> None:
    """Length, truth, cover, overlap and intersection agree with sets of positions."""
    left, right = members(one), members(other)
    assert len(one) == len(left)
    assert bool(one) is bool(left)
    assert one.covers(other) is (right <= left)
    assert one.overlaps(other) is bool(left & right)
    assert members(one.intersection(other)) == left & right
    assert all((position in one) is (position in left) for position in range(TOP + 2))
    assert "1" not in one


class SpanSetMachine(RuleBasedStateMachine):
    """Adds and discards at random, and compares with a set of integers after each step."""

    def __init__(self) -> None:
        super().__init__()
        self.held = SpanSet()
        self.model: set[int] = set()

    @rule(span=spans)
    def add(self, span: Span) -> None:
        assert self.held.add(span) == len(members(span) - self.model)
        self.model |= members(span)

    @rule(length=st.integers(1, 5))
    def append(self, length: int) -> None:
        span = Span(self.held.stop, self.held.stop + length)
        assert self.held.add(span) == length
        self.model |= members(span)

    @rule(span=spans)
    def discard(self, span: Span) -> None:
        assert self.held.discard(span) == len(members(span) & self.model)
        self.model -= members(span)

    @invariant()
    def agrees(self) -> None:
        assert positions_of(self.held) == self.model
        assert self.held.total == len(self.model)
        assert self.held.stop == max(self.model, default=-1) + 1
        assert bool(self.held) is bool(self.model)

    @invariant()
    def is_in_normal_form(self) -> None:
        listed = list(self.held)
        assert len(self.held) == len(listed)
        assert all(listed)
        # Two spans that touch would be one.
        assert all(one.stop < other.start for one, other in pairwise(listed))


TestSpanSet = SpanSetMachine.TestCase
TestSpanSet.settings = settings(deadline=None, max_examples=60, stateful_step_count=30)


@given(span_sets, spans)
@settings(deadline=None)
def test_questions_are_answered_as_by_a_set(held: SpanSet, span: Span) -> None:
    """Cover, membership, gaps, runs and the next start agree with a set of positions."""
    model = positions_of(held)
    assert held.covers(span) is (members(span) <= model)
    for position in range(TOP + 2):
        assert (position in held) is (position in model)
        run = position
        while run in model:
            run += 1
        assert held.run_stop(position) == run
        later = [other for other in model if other >= position]
        assert held.next_start(position) == (min(later) if later else None)


@given(span_sets, spans)
@settings(deadline=None)
def test_gaps_and_stored_spans_tile_a_span(held: SpanSet, span: Span) -> None:
    """`gaps` and `within` are maximal, in order, and together exactly the span."""
    model = positions_of(held)
    gaps, stored = list(held.gaps(span)), list(held.within(span))
    assert {p for gap in gaps for p in members(gap)} == members(span) - model
    assert {p for piece in stored for p in members(piece)} == members(span) & model
    tiles = sorted(gaps + stored)
    assert all(tiles)
    assert [tile.stop for tile in tiles[:-1]] == [tile.start for tile in tiles[1:]]
    kinds = [tile in gaps for tile in tiles]
    assert all(one is not other for one, other in pairwise(kinds))


def test_gaps_follow_a_set_that_grows_meanwhile() -> None:
    """A gap that was filled while the caller looked at the one before it is not given."""
    held = SpanSet([Span(10, 20), Span(30, 40)])
    gaps = held.gaps(Span(0, 50))
    assert next(gaps) == Span(0, 10)
    held.add(Span(20, 30))
    assert list(gaps) == [Span(40, 50)]


@given(st.lists(spans, max_size=8))
@settings(deadline=None)
def test_order_of_adding_does_not_matter(added: list[Span]) -> None:
    """Equality is that of the positions, whatever the history."""
    backwards = SpanSet()
    backwards.update(reversed(added))
    assert SpanSet(added) == backwards
    assert SpanSet(added) != added


@given(span_sets, span_sets, st.integers(0, 200))
@settings(deadline=None)
def test_a_set_can_be_added_to_a_set(held: SpanSet, other: SpanSet, distance: int) -> None:
    """Wherever it lies: among the spans there are, touching the last one, or behind it."""
    moved = SpanSet(Span(span.start + distance, span.stop + distance) for span in other)
    expected, before = positions_of(held) | positions_of(moved), positions_of(moved)
    held.update(moved)
    assert positions_of(held) == expected
    assert held.total == len(expected)
    assert held == SpanSet(held)
    assert positions_of(moved) == before
    held.add(Span(0, 1000))
    assert positions_of(moved) == before


@given(span_sets, spans)
@settings(deadline=None)
def test_a_copy_is_independent(held: SpanSet, span: Span) -> None:
    """Changing a copy changes nothing in the original."""
    before = positions_of(held)
    twin = held.copy()
    assert twin == held
    twin.add(span)
    twin.discard(Span(0, 5))
    assert positions_of(held) == before
    assert held.total == len(before)


@given(span_sets)
@settings(deadline=None)
def test_unpack_is_the_inverse_of_pack(held: SpanSet) -> None:
    """A packed set comes back equal, with its total."""
    back = SpanSet.unpack(held.pack())
    assert back == held
    assert back.total == held.total


@given(st.binary(max_size=96))
@settings(deadline=None)
def test_unpack_raises_nothing_but_its_own_error(data: bytes) -> None:
    """Any bytes are a set in normal form, or a ValueError."""
    try:
        held = SpanSet.unpack(data)
    except ValueError:
        return
    assert held.pack() == data


@pytest.mark.parametrize(
    ("bounds", "message"),
    [
        ((5, 5), "order"),
        ((9, 3), "order"),
        ((0, 4, 4, 8), "order"),
        ((0, UNBOUNDED + 1), "too far"),
    ],
)
def test_unpack_refuses_what_is_no_set(bounds: tuple[int, ...], message: str) -> None:
    """Empty, reversed, touching and impossible spans are refused."""
    data = b"".join(bound.to_bytes(8, "little") for bound in bounds)
    with pytest.raises(ValueError, match=message):
        SpanSet.unpack(data)


def test_an_odd_number_of_boundaries_is_refused() -> None:
    """Half a span is no span."""
    with pytest.raises(ValueError, match="odd"):
        SpanSet.unpack((7).to_bytes(8, "little"))


def test_a_set_is_not_hashable() -> None:
    """A mutable set cannot be a key by mistake."""
    with pytest.raises(TypeError):
        hash(SpanSet())


def test_an_unbounded_span_works() -> None:
    """A span to a stop that is not known yet can be asked about and added."""
    held = SpanSet([Span(0, 100)])
    assert list(held.gaps(Span(0, UNBOUNDED))) == [Span(100, UNBOUNDED)]
    assert held.add(Span(50, UNBOUNDED)) == UNBOUNDED - 100
    assert SpanSet.unpack(held.pack()) == held
    assert repr(held) == f"SpanSet([0, {UNBOUNDED}))"
