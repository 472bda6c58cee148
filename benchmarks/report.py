"""The page of results: Markdown, with a plot for each family of scenarios."""

from __future__ import annotations

import datetime
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

from benchmarks.bars import BARS, OURS, judge
from benchmarks.contestants import Contestant
from benchmarks.figures import Row, best, number, ratio
from benchmarks.plots import draw
from benchmarks.running import Results

__all__ = ["Report", "table"]

_PAGE: Final = "results"
_HEAD: Final = """\
# {title}

<!-- written by `make bench`; do not edit -->

{machine}.
Client, server and origin share the cores.
Measured on {day}; peers: {versions}.
"""

_LEGEND: Final = """\
Medians, with the least and the greatest value in brackets; `×d` is the ratio to direct, `×p` that
to the best caching peer for this figure.
Speeds were measured {repeats} times in turns.
A miss within the spread of both sides is called no difference.
"""


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Return a Markdown table, followed by an empty line."""
    lines = [head, ["---"] * len(head), *rows]
    return [*("| " + " | ".join(line) + " |" for line in lines), ""]


class Report:
    """Collects results and writes the page.

    Args:
        folder: Where the page and its plots are written.
        contestants: Who took part, by name.
        machine: What it was run on.
        versions: Versions of the contestants that have one.
        page: Its name, without ``.md``.
    """

    def __init__(
        self,
        folder: Path,
        contestants: Mapping[str, type[Contestant]],
        machine: str,
        versions: Mapping[str, str],
        page: str = _PAGE,
    ) -> None:
        self._folder = folder
        self._page = page
        self._contestants = contestants
        self._machine = machine
        self._versions = versions
        self._results: list[Results] = []

    @property
    def _peers(self) -> list[str]:
        return [name for name, each in self._contestants.items() if each.role == "peer"]

    def add(self, results: Results) -> None:
        """Take the results of a scenario."""
        self._results.append(results)

    def write(self) -> None:
        """Write the page and the plots of what there is so far."""
        self._folder.mkdir(parents=True, exist_ok=True)
        (self._folder / f"{self._page}.md").write_text("\n".join(self.lines()))
        for family, results in self._families().items():
            draw(self._folder / self._plot(family), results)

    def _plot(self, family: str) -> str:
        """Return the name of a plot; pages beside the usual one have plots of their own."""
        return f"{family}.svg" if self._page == _PAGE else f"{self._page}-{family}.svg"

    def _families(self) -> dict[str, list[Results]]:
        found: dict[str, list[Results]] = {}
        for results in self._results:
            if results.cells:
                found.setdefault(results.scenario.family, []).append(results)
        return found

    def lines(self) -> Iterator[str]:
        """Yield the lines of the page."""
        day = datetime.datetime.now(datetime.UTC).date().isoformat()
        versions = ", ".join(f"{name} {version}" for name, version in self._versions.items())
        yield _HEAD.format(
            title=self._page.capitalize(),
            machine=self._machine,
            day=day,
            versions=versions or "none",
        )
        yield from self._missing()
        yield "## Bars\n"
        yield from table(("", "figure", "bar", "limit", "measured", "result"), self._bars())
        yield "## Scenarios\n"
        counts = [row for results in self._results for row in results.rows.values()]
        repeats = max((each.count for row in counts for each in row.values()), default=0)
        yield _LEGEND.format(repeats=repeats)
        drawn = set()
        for results in self._results:
            family = results.scenario.family
            yield from self._scenario(results, show=family not in drawn)
            drawn.add(family)
        yield "## Contestants\n"
        for name, contestant in self._contestants.items():
            yield f"- **{name}**: {contestant.note}."
        yield ""

    def _missing(self) -> Iterator[str]:
        for name, contestant in self._contestants.items():
            if missing := contestant.missing():
                yield f"**{name} is missing**: {', '.join(missing)} is not installed.\n"

    def _bars(self) -> list[list[str]]:
        lines = []
        measured = {results.scenario.name: results for results in self._results}
        for bar in BARS:
            if bar.scenario not in measured:
                continue
            verdict = judge(bar, measured[bar.scenario].rows, self._peers)
            if verdict is None:
                reason = measured[bar.scenario].reasons.get(OURS, "not measured")
                lines.append([bar.scenario, bar.figure, bar.text("", "lower"), "", "", reason])
                continue
            ours, limit = verdict.ours, verdict.limit
            words = bar.text(ours.unit, ours.better)
            if verdict.reference not in words:
                words += f" ({verdict.reference})"
            shown = "" if limit is None else number(limit)
            value = f"{number(ours.median)} {ours.unit}".rstrip()
            lines.append([bar.scenario, ours.title, words, shown, value, verdict.result])
        return lines

    def _scenario(self, results: Results, *, show: bool) -> Iterator[str]:
        scenario = results.scenario
        yield f"### {scenario.name}: {scenario.title}\n"
        yield f"{scenario.how}\n"
        if show and results.cells:
            yield f"![{scenario.family}]({self._plot(scenario.family)})\n"
        yield from self._figures(results)
        for name, reason in results.reasons.items():
            yield f"- {name}: {' '.join(reason.split())}".replace("|", "/")
        yield ""

    def _figures(self, results: Results) -> Iterator[str]:
        rows = results.rows
        keys = list(dict.fromkeys(key for row in rows.values() for key in row))
        if not keys:
            return
        titles = {key: next(row[key] for row in rows.values() if key in row) for key in keys}
        head = [f"{each.title} ({each.unit})".replace(" ()", "") for each in titles.values()]
        yield from table(
            ("", *head), [[name, *(self._cell(rows, name, key) for key in keys)] for name in rows]
        )

    def _cell(
        self,
        rows: Mapping[str, Row],
        name: str,
        key: tuple[str, int | None],
    ) -> str:
        """Return median, spread, ratio to direct and ratio to the best peer."""
        summary = rows[name].get(key)
        if summary is None:
            return ""
        parts = [number(summary.median)]
        if summary.count > 1 and summary.low != summary.high:
            parts.append(f"[{number(summary.low)}–{number(summary.high)}]")
        if summary.better != "neither":
            peer = best(rows, self._peers, key)
            for letter, reference in (("d", "direct"), ("p", peer)):
                other = rows.get(reference or "", {}).get(key)
                times = ratio(summary.median, other.median) if other else None
                if times is not None and reference != name:
                    parts.append(f"{number(times)}×{letter}")
        return " ".join(parts)
