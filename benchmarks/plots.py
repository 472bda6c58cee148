"""Plots as SVG: bars for contestants, lines where something grows. Text stays text."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

from benchmarks.bars import OURS
from benchmarks.figures import Summary
from benchmarks.running import Results

__all__ = ["draw"]

_OURS_COLOR: Final = "#2f6f9f"
_COLOR: Final = "#b8c4cc"
_LINES: Final = ("#2f6f9f", "#c0504d", "#7f9f4f", "#8064a2", "#d08a2e", "#888888")
# The same picture from the same figures, byte by byte, and letters that can be searched for.
_STYLE: Final[Any] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "cachestream",
    "font.size": 8,
    "axes.spines.top": False,
    "axes.spines.right": False,
}


def draw(path: Path, results: Sequence[Results]) -> None:
    """Draw one picture with a panel for each figure that these scenarios plot.

    Args:
        path: The SVG file.
        results: Scenarios of one family.
    """
    panels = [
        (each, title, summaries)
        for each in results
        for name in each.scenario.plotted
        for title, summaries in _panels(each, name)
    ]
    if not panels:
        return
    with mpl.rc_context(_STYLE):
        tall = max(len(summaries) for _, _, summaries in panels)
        figure = Figure(figsize=(3.6 * len(panels), 1.0 + 0.24 * min(tall, 12)))
        FigureCanvasSVG(figure)
        axes = figure.subplots(1, len(panels), squeeze=False)[0]
        for axis, (each, title, summaries) in zip(axes, panels, strict=True):
            axis.set_title(f"{each.scenario.name}: {title}", fontsize=9, loc="left")
            if any(found.at is not None for found in summaries[0][1]):
                _curves(axis, summaries)
            else:
                _bars(axis, summaries)
        figure.tight_layout()
        figure.savefig(path, format="svg", metadata={"Date": None, "Creator": None})


_Panel = list[tuple[str, list[Summary]]]


def _panels(results: Results, name: str) -> list[tuple[str, _Panel]]:
    """Return what is in the panel of a figure: its values by contestant; none if unmeasured."""
    found = [
        (contestant, [each for each in row.values() if each.name == name])
        for contestant, row in results.rows.items()
    ]
    found = [(contestant, summaries) for contestant, summaries in found if summaries]
    if not found:
        return []
    unit = found[0][1][0].unit
    return [(f"{name} ({unit})" if unit else name, found)]


def _bars(axis: Axes, panel: _Panel) -> None:
    names = [name for name, _ in panel]
    values = [summaries[0].median for _, summaries in panel]
    spread = (
        [each[0].median - each[0].low for _, each in panel],
        [each[0].high - each[0].median for _, each in panel],
    )
    colors = [_OURS_COLOR if name.startswith(OURS) else _COLOR for name in names]
    axis.barh(names, values, xerr=spread, color=colors, ecolor="#555555", capsize=2)
    axis.invert_yaxis()
    if min(values) > 0 and max(values) > 30 * min(values):
        axis.set_xscale("log")


def _curves(axis: Axes, panel: _Panel) -> None:
    """Draw lines over the scale; zero has its place left of one."""
    for number, (name, summaries) in enumerate(panel):
        places = [str(f"{each.at:,}") for each in summaries]
        values = [each.median for each in summaries]
        color = _LINES[number % len(_LINES)]
        axis.plot(places, values, marker="o", markersize=3, label=name, color=color)
    axis.set_ylim(bottom=0)
    axis.legend(fontsize=7, frameon=False)
