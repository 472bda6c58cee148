"""Running cells in turns, each with a limit, and collecting what they measured."""

from __future__ import annotations

import contextlib
import shutil
import signal
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import FrameType
from typing import Final, TypeAlias

import attrs

from benchmarks.cell import Cell, NotApplicableError
from benchmarks.client import NoAnswerError, RangeIgnoredError
from benchmarks.content import Library, WrongBytesError
from benchmarks.contestants import Contestant
from benchmarks.figures import Figure, Row, summarize
from benchmarks.scenarios import Scenario

__all__ = ["Results", "Turn", "run", "turns"]

# What is no speed is the same each time; twice shows that it is.
_REPEATS_OF_OTHERS: Final = 2


@attrs.define(eq=False)
class Results:
    """What a scenario measured.

    Attributes:
        scenario: Which one.
        cells: The figures of each cell, by contestant.
        reasons: Why a contestant has none, by contestant.
        wrong: What was wrong, a line each; empty if every byte was right.
    """

    scenario: Scenario
    cells: dict[str, list[Sequence[Figure]]] = attrs.field(factory=dict)
    reasons: dict[str, str] = attrs.field(factory=dict)
    wrong: list[str] = attrs.field(factory=list)

    @property
    def rows(self) -> dict[str, Row]:
        """The summaries of each contestant that has figures."""
        return {name: summarize(cells) for name, cells in self.cells.items()}


class _TimeUpError(Exception):
    """A cell took too long; no TimeoutError, which clients take for a silent server."""


Turn: TypeAlias = tuple[int, str]
"""A repeat, from 0, and the name of a contestant."""


def turns(scenario: Scenario, names: Sequence[str], repeats: int) -> list[Turn]:
    """Return who runs when: all once, then all again, so that a slow spell meets everybody."""
    times = repeats if scenario.is_speed else min(repeats, _REPEATS_OF_OTHERS)
    return [(number, name) for number in range(times) for name in names]


def run(
    scenario: Scenario,
    contestants: Mapping[str, type[Contestant]],
    library: Library,
    folder: Path,
    repeats: int,
    tell: Callable[[str], None],
) -> Results:
    """Run a scenario with all contestants in turns.

    Args:
        scenario: What.
        contestants: Who, by name.
        library: What origins serve.
        folder: Room for one cell at a time; it is removed after each.
        repeats: How often each one runs.
        tell: Called with a line for each cell.
    """
    results = Results(scenario)
    for name, contestant in contestants.items():
        if missing := contestant.missing():
            results.reasons[name] = f"not installed: {', '.join(missing)}"
        elif scenario.name in contestant.cannot:
            results.reasons[name] = contestant.cannot[scenario.name]
    able = [name for name in contestants if name not in results.reasons]
    for number, name in turns(scenario, able, repeats):
        if name not in results.reasons:  # what failed once is not tried again
            _turn(results, name, Cell(contestants[name](), library, folder))
            said = results.reasons.get(name) or _line(results.cells[name][-1])
            tell(f"{scenario.name} {number + 1} {name}: {said}")
    return results


def _line(figures: Sequence[Figure]) -> str:
    return ", ".join(
        f"{figure.name}{'' if figure.at is None else f' {figure.at}'} {figure.value:.4g} "
        f"{figure.unit}".rstrip()
        for figure in figures
    )


def _turn(results: Results, name: str, cell: Cell) -> None:
    """Run one cell and keep its figures, or the reason that there are none."""
    try:
        with _limited(results.scenario.limit), _closing(cell):
            figures = results.scenario.run(cell)
    except (NotApplicableError, NoAnswerError) as error:
        results.reasons[name] = str(error)
    except RangeIgnoredError:
        results.reasons[name] = "answers ranges with the whole file"
    except _TimeUpError:
        results.reasons[name] = f"not done in {results.scenario.limit} s"
    except WrongBytesError as error:
        results.reasons[name] = f"WRONG: {error}"
        results.wrong.append(f"{results.scenario.name} {name}: {error}")
    except Exception as error:  # the failure of one is a result; the others go on
        results.reasons[name] = f"failed: {error!r}"[:300]
        results.wrong.append(f"{results.scenario.name} {name}: {error!r}")
    else:
        results.cells.setdefault(name, []).append(figures)


@contextlib.contextmanager
def _closing(cell: Cell) -> Iterator[None]:
    """Give a cell its folder; whatever happens, end all its processes and remove it."""
    shutil.rmtree(cell.folder, ignore_errors=True)
    cell.folder.mkdir(parents=True)
    cell.folder.chmod(0o755)  # some servers give up root
    try:
        yield
    finally:
        cell.close()
        shutil.rmtree(cell.folder, ignore_errors=True)


@contextlib.contextmanager
def _limited(seconds: int) -> Iterator[None]:
    """Raise in this thread, which is the main one, after so many seconds."""

    def over(signal_number: int, frame: FrameType | None) -> None:
        raise _TimeUpError

    before = signal.signal(signal.SIGALRM, over)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)
