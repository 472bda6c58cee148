"""The bars: what cachestream must reach, and whether it does."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

import attrs

from benchmarks.figures import Row, Summary, best, number

__all__ = ["BARS", "BEST_PEER", "OURS", "Bar", "Verdict", "judge"]

OURS: Final = "cachestream"
BEST_PEER: Final = "best peer"


@attrs.frozen
class Bar:
    """A limit for one figure.

    Attributes:
        scenario: Which scenario's.
        figure: Name of the figure.
        times: How many times the reference it may be at most (at least, if higher is better).
        than: The reference: a contestant, `BEST_PEER`, or another figure of ours that stands
            in quotes; empty for none, when ``times`` is the limit itself.
        at: As `Figure.at`.
    """

    scenario: str
    figure: str
    times: float
    than: str = ""
    at: int | None = None

    def text(self, unit: str, better: str) -> str:
        """Say it in words."""
        sign = "≥" if better == "higher" else "≤"
        if not self.than:
            return f"{sign} {self.times:g} {unit}".rstrip()
        return f"{sign} {self.times:g} × {self.than}"


BARS: Final = (
    Bar("S1", "total", 1.0, BEST_PEER),
    Bar("S1", "first byte", 2.0, BEST_PEER),
    Bar("S2", "speed", 1.0, "nginx", at=1),
    Bar("S2", "speed", 1.0, "nginx", at=16),
    Bar("S2", "CPU", 1.0, "nginx", at=1),
    Bar("S2", "CPU", 1.0, "nginx", at=16),
    Bar("S2", "peak memory", 64),
    Bar("S3", "CPU a request", 1.15, "nginx"),
    Bar("S3", "p99", 1.0, "varnish"),
    Bar("S4", "first byte", 1.05, "direct"),
    # Half of the origin's latency: whatever is sooner was kept.
    Bar("S4", "once more", 25),
    Bar("S5", "origin bytes / size", 1.0),
    Bar("S5", "total", 1.0, BEST_PEER),
    Bar("S6", "origin bytes / distinct bytes", 1.02),
    Bar("S6", "the same, once more", 0),
    Bar("S7", "total", 1.1, "aria2-x8"),
    Bar("S8", "fetched after / missing half", 1.02),
    Bar("S9", "memory over idle", 46),
    Bar("S9", "speed kept", 1.0, "nginx"),
    Bar("S10", "start to first hit", 1.1, "“the same, empty”"),
    Bar("S10", "start to first hit", 1.5, "“imports alone”"),
    Bar("S10", "lost", 0),
    Bar("S10", "memory", 80),
)
"""What must be reached; medians of one run."""


@attrs.frozen(kw_only=True)
class Verdict:
    """What came of a bar.

    Attributes:
        bar: Which one.
        ours: Our figure.
        limit: What it may be, None if there is nothing to compare with.
        reference: Who or what that comes from, empty for a fixed limit.
        result: ``held``, ``missed by 12 %``, ``no difference`` or ``not measured``.
    """

    bar: Bar
    ours: Summary
    limit: float | None
    reference: str
    result: str


def judge(bar: Bar, rows: Mapping[str, Row], peers: Iterable[str]) -> Verdict | None:
    """Compare our median with a bar; None if there is no figure of ours.

    Where speeds of both sides overlap, a miss is called no difference: machines are not
    quiet enough to tell them apart.
    """
    key = (bar.figure, bar.at)
    ours = rows.get(OURS, {}).get(key)
    if ours is None:
        return None
    name, reference = _reference(bar, rows, peers)
    if bar.than and reference is None:
        return Verdict(bar=bar, ours=ours, limit=None, reference=bar.than, result="not measured")
    limit = bar.times * (reference.median if reference else 1)
    lowest, highest = (
        (bar.times * reference.low, bar.times * reference.high) if reference else (limit, limit)
    )
    result = _result(ours, limit, lowest, highest)
    return Verdict(bar=bar, ours=ours, limit=limit, reference=name, result=result)


def _reference(
    bar: Bar, rows: Mapping[str, Row], peers: Iterable[str]
) -> tuple[str, Summary | None]:
    """Return what a bar is measured by, with its name."""
    key = (bar.figure, bar.at)
    if bar.than.startswith("“"):
        return bar.than, rows[OURS].get((bar.than.strip("“”"), None))
    name = (best(rows, peers, key) or "") if bar.than == BEST_PEER else bar.than
    return name, rows.get(name, {}).get(key)


def _result(ours: Summary, limit: float, lowest: float, highest: float) -> str:
    higher = ours.better == "higher"
    if (ours.median >= limit) if higher else (ours.median <= limit):
        return "held"
    # Speeds of several repeats: a miss only if even our best is on the wrong side of all of theirs.
    overlap = (ours.high >= lowest) if higher else (ours.low <= highest)
    if ours.count > 1 and lowest != highest and overlap:
        return f"no difference ({_off(ours.median, limit)})"
    return f"missed by {_off(ours.median, limit)}"


def _off(value: float, limit: float) -> str:
    return f"{abs(value / limit - 1) * 100:.0f} %" if limit else number(value)
