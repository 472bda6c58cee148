"""What a plan costs: one is made whenever a reader comes, goes or seeks, or a download ends."""

from __future__ import annotations

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from cachestream.core.planning import PlanState, Running, Want, plan
from cachestream.core.spans import Span, SpanSet

_MIB = 1 << 20
_LENGTH = 1 << 34


def test_nothing_to_do(benchmark: BenchmarkFixture) -> None:
    """One reader, one download that serves it."""
    state = PlanState(
        stored=SpanSet([Span(0, _MIB)]),
        wants=(Want(Span(_MIB, 9 * _MIB)),),
        running=(Running(0, _MIB, 9 * _MIB),),
        window=_MIB,
        complete_length=_LENGTH,
    )
    assert benchmark(plan, state) == ()


@pytest.mark.parametrize("readers", [1, 10, 100])
def test_readers(benchmark: BenchmarkFixture, readers: int, many_spans: SpanSet) -> None:
    """Readers far apart, each of which wants what is partly there; nothing runs yet."""
    step = max(many_spans.stop, readers * 16 * _MIB) // readers
    wants = tuple(Want(Span(n * step, n * step + 8 * _MIB)) for n in range(readers))
    state = PlanState(stored=many_spans, wants=wants, window=_MIB, complete_length=_LENGTH)
    assert benchmark(plan, state)


def test_shared_by_eight(benchmark: BenchmarkFixture) -> None:
    """One hole is shared by eight connections, of which one runs."""
    state = PlanState(
        stored=SpanSet(),
        wants=(Want(Span(0, 64 * _MIB)),),
        running=(Running(0, 0, 64 * _MIB),),
        spread=8,
        complete_length=64 * _MIB,
    )
    assert len(benchmark(plan, state)) > 1
