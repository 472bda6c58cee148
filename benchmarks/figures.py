"""Figures and what follows from several of them: medians, spreads, ratios, the best peer."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping, Sequence
from typing import Literal, TypeAlias

import attrs

__all__ = ["Better", "Figure", "Row", "Summary", "best", "number", "ratio", "summarize"]

Better: TypeAlias = Literal["lower", "higher", "neither"]


@attrs.frozen
class Figure:
    """One measured value of one contestant in one cell.

    Attributes:
        name: What was measured.
        value: How much.
        unit: Of what.
        better: Which way is good.
        at: Where on a scale it was measured (a number of clients, say), None for no scale.
    """

    name: str
    value: float
    unit: str = ""
    better: Better = "lower"
    at: int | None = None

    @property
    def key(self) -> tuple[str, int | None]:
        """What tells it from the other figures of its cell."""
        return self.name, self.at


@attrs.frozen
class Summary:
    """A figure over all repeats.

    Attributes:
        name: As `Figure.name`.
        unit: As `Figure.unit`.
        better: As `Figure.better`.
        at: As `Figure.at`.
        median: The middle value.
        low: The least one.
        high: The greatest one.
        count: How many there are.
    """

    name: str
    unit: str
    better: Better
    at: int | None
    median: float
    low: float
    high: float
    count: int

    @property
    def key(self) -> tuple[str, int | None]:
        """What tells it from the other figures of its contestant."""
        return self.name, self.at

    @property
    def title(self) -> str:
        """Name and place on the scale."""
        return self.name if self.at is None else f"{self.name}, {self.at:,}"


Row: TypeAlias = Mapping[tuple[str, int | None], Summary]
"""The summaries of one contestant in one scenario, by `Summary.key`."""


def summarize(cells: Iterable[Sequence[Figure]]) -> dict[tuple[str, int | None], Summary]:
    """Return a summary for each figure that any of the cells of a contestant has, in order."""
    found: dict[tuple[str, int | None], list[Figure]] = {}
    for figures in cells:
        for figure in figures:
            found.setdefault(figure.key, []).append(figure)
    return {key: _summary(figures) for key, figures in found.items()}


def _summary(figures: Sequence[Figure]) -> Summary:
    values = [figure.value for figure in figures]
    first = figures[0]
    return Summary(
        name=first.name,
        unit=first.unit,
        better=first.better,
        at=first.at,
        median=statistics.median(values),
        low=min(values),
        high=max(values),
        count=len(values),
    )


def ratio(value: float, reference: float) -> float | None:
    """Return how many times the reference a value is, None if that has no meaning."""
    if reference:
        return value / reference
    return None if value else 1.0


def best(rows: Mapping[str, Row], peers: Iterable[str], key: tuple[str, int | None]) -> str | None:
    """Return which of the peers has the best median of a figure, None if none has it."""
    having = [name for name in peers if key in rows.get(name, {})]
    if not having:
        return None
    better = rows[having[0]][key].better
    if better == "neither":
        return None
    return (min if better == "lower" else max)(having, key=lambda name: rows[name][key].median)


def number(value: float) -> str:
    """Return a value with three digits, or all of those before the point."""
    if value == 0 or abs(value) >= 100:
        return f"{value:,.0f}"
    digits = 1 if abs(value) >= 10 else 2 if abs(value) >= 1 else 3
    return f"{value:.{digits}f}"
