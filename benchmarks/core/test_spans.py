"""What a set of spans costs: it is asked at every read, and added to at every write."""

from __future__ import annotations

from pytest_benchmark.fixture import BenchmarkFixture

from cachestream.core.spans import Span, SpanSet


def test_append(benchmark: BenchmarkFixture, many_spans: SpanSet) -> None:
    """A download adds where its last piece ended."""
    where = many_spans.stop

    def append() -> None:
        nonlocal where
        many_spans.add(Span(where, where + 65536))
        where += 65536

    benchmark(append)


def test_add_in_the_middle(benchmark: BenchmarkFixture, many_spans: SpanSet) -> None:
    """A span that fills a gap joins two, and is taken out again."""
    gap = next(iter(many_spans.gaps(Span(many_spans.stop // 2, many_spans.stop + 1))))

    def fill_and_empty() -> None:
        many_spans.add(gap)
        many_spans.discard(gap)

    benchmark(fill_and_empty)


def test_covers(benchmark: BenchmarkFixture, many_spans: SpanSet) -> None:
    """A reader asks whether all of a range is there."""
    last = many_spans.stop - 65536
    assert benchmark(many_spans.covers, Span(last, many_spans.stop))


def test_run_stop(benchmark: BenchmarkFixture, many_spans: SpanSet) -> None:
    """A reader asks how far it can go on."""
    assert benchmark(many_spans.run_stop, many_spans.stop - 1) == many_spans.stop


def test_first_gap(benchmark: BenchmarkFixture, many_spans: SpanSet) -> None:
    """The planner asks what is missing next."""
    everything = Span(0, many_spans.stop + 1)
    assert benchmark(lambda: next(many_spans.gaps(everything)))


def test_pack(benchmark: BenchmarkFixture, many_spans: SpanSet) -> None:
    """A commit writes the spans down, and a start reads them."""
    assert benchmark(lambda: SpanSet.unpack(many_spans.pack())) == many_spans
