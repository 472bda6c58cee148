"""Shared by the micro-benchmarks; `make bench-core` runs them, an ordinary `pytest` does not."""

from __future__ import annotations

import pytest

from cachestream.core.spans import Span, SpanSet

__all__ = ["many_spans"]


@pytest.fixture(params=[1, 100, 10_000], ids=lambda count: f"{count} spans")
def many_spans(request: pytest.FixtureRequest) -> SpanSet:
    """Return a set of so many spans of 64 KiB, with gaps of as much between."""
    return SpanSet(Span(n << 17, (n << 17) + (1 << 16)) for n in range(request.param))
