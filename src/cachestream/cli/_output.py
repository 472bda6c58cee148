"""What people see: progress on a terminal or as lines, aligned columns, JSON.

Results go to stdout; progress and notices to stderr, so that a pipe carries bytes alone.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import IO, TYPE_CHECKING, Any, Final, Protocol, Self

import click

from cachestream.core.quantities import format_duration, format_size

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

__all__ = [
    "LineMeter",
    "Meter",
    "SilentMeter",
    "TerminalMeter",
    "columns",
    "is_terminal",
    "json_option",
    "notice",
    "open_meter",
    "print_json",
]

# Often enough to see that it goes on, seldom enough for a log.
_LINE_INTERVAL_S: Final = 5.0

json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


def print_json(value: object) -> None:
    """Print a value as JSON, non-ASCII text as it is."""
    click.echo(json.dumps(value, indent=2, ensure_ascii=False))


def notice(text: str) -> None:
    """Print a line for the person, not for the pipe."""
    click.echo(text, err=True)


def columns(head: Sequence[str], rows: Sequence[Sequence[str]], *, right: int = 0) -> str:
    """Return rows aligned in columns under a head.

    Args:
        right: How many of the first columns are numbers, aligned right.
    """
    table = [head, *rows]
    widths = [max(len(row[i]) for row in table) for i in range(len(head))]
    lines = []
    for row in table:
        cells = [
            cell.rjust(width) if i < right else cell.ljust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)


def is_terminal(stream: IO[Any]) -> bool:
    """Tell whether a stream shows a moving bar; a dumb terminal does not."""
    return stream.isatty() and os.environ.get("TERM") != "dumb"


class Meter(Protocol):
    """Shows how far something is; used with ``with``."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None: ...

    def update(self, name: str, done: int, total: int | None) -> None:
        """Show that ``done`` of ``total`` bytes of ``name`` are there."""
        ...


def open_meter(*, quiet: bool = False) -> Meter:
    """Return the meter that suits where stderr goes."""
    if quiet:
        return SilentMeter()
    return TerminalMeter() if is_terminal(sys.stderr) else LineMeter()


class SilentMeter:
    """Shows nothing."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        return None

    def update(self, name: str, done: int, total: int | None) -> None:
        """Do nothing."""


class LineMeter:
    """Prints a line every few seconds and one at the end, for logs and pipes.

    Args:
        stream: Where to; stderr by default.
        clock: Seconds that never go back.
    """

    def __init__(
        self, stream: IO[str] | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._stream = stream
        self._clock = clock
        self._first: dict[str, tuple[float, int]] = {}
        self._latest: dict[str, tuple[int, int | None]] = {}
        self._printed: dict[str, float] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        for name in self._latest:
            self._print(name)

    def update(self, name: str, done: int, total: int | None) -> None:
        """Take note, and print a line if the last one is long ago."""
        now = self._clock()
        # What was there before it began is no part of the rate.
        self._first.setdefault(name, (now, done))
        self._latest[name] = (done, total)
        if now - self._printed.setdefault(name, now) >= _LINE_INTERVAL_S:
            self._printed[name] = now
            self._print(name)

    def _print(self, name: str) -> None:
        done, total = self._latest[name]
        began, before = self._first[name]
        elapsed = self._clock() - began
        rate = (done - before) / elapsed if elapsed > 0 else 0.0
        click.echo(f"{name}: {progress_text(done, total, rate)}", file=self._stream or sys.stderr)


def progress_text(done: int, total: int | None, rate: float) -> str:
    """Return progress in words: share, amount, rate and what time is left."""
    parts = [format_size(done) if total is None else f"{format_size(done)} of {format_size(total)}"]
    if total:
        parts.insert(0, f"{done * 100 // total}%")
    if rate >= 1:
        parts.append(f"{format_size(int(rate))}/s")
        if total is not None and done < total:
            parts.append(f"{format_duration((total - done) / rate)} left")
    return ", ".join(parts)


class TerminalMeter:
    """Draws a bar for each name, with rate and the time that is left."""

    def __init__(self) -> None:
        self._progress: Progress = self._make()
        self._tasks: dict[str, TaskID] = {}

    @staticmethod
    def _make() -> Progress:
        # Here and not above: rich takes longer to import than most commands to run.
        from rich.console import Console
        from rich.progress import (
            BarColumn,
            DownloadColumn,
            Progress,
            TextColumn,
            TimeRemainingColumn,
            TransferSpeedColumn,
        )

        return Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            DownloadColumn(binary_units=True),
            TransferSpeedColumn(),
            TimeRemainingColumn(),
            console=Console(stderr=True),
        )

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._progress.stop()

    def update(self, name: str, done: int, total: int | None) -> None:
        """Move the bar."""
        if name not in self._tasks:
            # What was there before it began is no part of the rate.
            self._tasks[name] = self._progress.add_task(name, completed=done, total=total)
        self._progress.update(self._tasks[name], completed=done, total=total)
