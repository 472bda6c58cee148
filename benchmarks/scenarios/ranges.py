"""Seeks and scattered ranges: what an origin is asked for, and how soon the answer begins."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Iterable, Sequence
from typing import Final

from benchmarks.cell import Cell, NotApplicableError
from benchmarks.client import NoAnswerError, Together, connect, fetch
from benchmarks.content import WrongBytesError
from benchmarks.figures import Figure
from benchmarks.scenarios._scenario import Scenario

__all__ = ["SEEK", "TRACE", "distinct_bytes", "trace"]

_LATENCY_S: Final = 0.05
_PATIENCE_S: Final = 20.0
_RANGE: Final = 64 * 1024


def _seek(cell: Cell) -> Sequence[Figure]:
    cell.begin(latency=_LATENCY_S, rate=cell.scale.rate)
    item, stopped = cell.library.big, threading.Event()
    right = cell.library.content(item)
    place = item.size * 900 // 1024

    def watch() -> None:
        try:
            fetch(cell.base, item, right, go_on=lambda _: not stopped.is_set())
        except (OSError, WrongBytesError, NoAnswerError):
            if not stopped.is_set():
                raise

    watching = Together([watch])
    time.sleep(1)
    try:
        got = fetch(cell.base, item, right, start=place, length=_RANGE, timeout=_PATIENCE_S)
        again = fetch(cell.base, item, right, start=place, length=_RANGE, timeout=_PATIENCE_S)
    except NoAnswerError as error:
        raise NotApplicableError(str(error)) from error
    finally:
        stopped.set()
        cell.contestant.kill()
        watching.join()
    return [
        Figure("first byte", got.first_byte * 1e3, "ms"),
        Figure("total", got.total * 1e3, "ms"),
        Figure("once more", again.total * 1e3, "ms"),
    ]


def trace(size: int, count: int) -> list[tuple[int, int]]:
    """Return random ranges of a file, 64 KiB to 2 MiB long: pairs of start and length."""
    chosen = random.Random(6)
    found = []
    for _ in range(count):
        length = min(int(_RANGE * 32 ** chosen.random()), size // 2)
        found.append((chosen.randrange(size - length), length))
    return found


def distinct_bytes(ranges: Iterable[tuple[int, int]]) -> int:
    """Return how many positions are in at least one of the ranges."""
    total = reached = 0
    for start, length in sorted(ranges):
        total += max(0, start + length - max(start, reached))
        reached = max(reached, start + length)
    return total


def _play(cell: Cell, ranges: Iterable[tuple[int, int]]) -> float:
    item, begun = cell.library.archive, time.monotonic()
    connection, right = connect(cell.base), cell.library.content(item)
    try:
        for start, length in ranges:
            fetch(cell.base, item, right, start=start, length=length, connection=connection)
    finally:
        connection.close()
    return time.monotonic() - begun


def _trace(cell: Cell) -> Sequence[Figure]:
    cell.begin()
    ranges = trace(cell.library.archive.size, cell.scale.ranges)
    before = cell.sent()
    cold = _play(cell, ranges)
    between = cell.sent()
    warm = _play(cell, ranges)
    after, distinct = cell.sent(), distinct_bytes(ranges)
    return [
        Figure("origin bytes / distinct bytes", (between - before).content / distinct, "×"),
        Figure("the same, once more", (after - between).content / distinct, "×"),
        Figure("origin requests", (between - before).requests, "", "neither"),
        Figure("cold", cold, "s"),
        Figure("warm", warm, "s"),
    ]


SEEK: Final = Scenario(
    name="S4",
    title="seek to 900 MiB, a second into the download of 1 GiB",
    how=f"The origin answers after 50 ms and gives 4 MiB/s a connection. The first client reads "
    f"on meanwhile; the seek is asked for twice; no answer in {_PATIENCE_S:.0f} s is none.",
    family="ranges",
    plotted=("first byte",),
    run=_seek,
    is_speed=False,
)

TRACE: Final = Scenario(
    name="S6",
    title="200 random ranges of 256 MiB, twice",
    how="64 KiB to 2 MiB each, one client on one connection, fast origin.",
    family="ranges",
    plotted=("origin bytes / distinct bytes",),
    run=_trace,
    is_speed=False,
)
