"""What a scenario is."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import attrs

from benchmarks.cell import Cell
from benchmarks.figures import Figure

__all__ = ["Scenario"]


@attrs.frozen(kw_only=True)
class Scenario:
    """Work, and how it is measured.

    Attributes:
        name: What it is called in options and tables.
        title: What it is, in a few words.
        how: How it is measured, in a sentence or two.
        family: The plot that it is part of.
        plotted: Names of the figures that are plotted.
        run: Does it.
        is_speed: Whether a speed is compared, which moves from run to run. What counts bytes, or
            has a curve of points, runs just twice.
        limit: Seconds after which a cell is given up.
    """

    name: str
    title: str
    how: str
    family: str
    plotted: tuple[str, ...]
    run: Callable[[Cell], Sequence[Figure]]
    is_speed: bool = True
    limit: int = 120
