"""Many at once: slow clients beside a fast one, and entries that outlive a restart."""

from __future__ import annotations

import random
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from typing import Final

from benchmarks import load
from benchmarks.cell import Cell, NotApplicableError
from benchmarks.client import connect, fetch
from benchmarks.content import MIB, WrongBytesError
from benchmarks.figures import Figure
from benchmarks.scenarios._scenario import Scenario
from benchmarks.slow_clients import SlowClients

__all__ = ["CROWD", "ENTRIES", "fill"]

_SLOW_S: Final = 8.0
_FILL_LIMIT_S: Final = 40
_CONNECTIONS: Final = 32
_LOOKED_AT: Final = 500
_IMPORTS: Final = "import aiohttp, diskcache, fsspec"


def _speed(cell: Cell) -> float:
    """Return what one client gets when it reads a film for some seconds, in GB/s."""
    item, begun, received = cell.library.film, time.monotonic(), 0
    right, deadline = cell.library.content(item), begun + cell.scale.seconds
    while time.monotonic() < deadline:
        received += fetch(
            cell.base, item, right, go_on=lambda _: time.monotonic() < deadline, sampled=True
        ).received
    return received / (time.monotonic() - begun) / 1e9


def _crowd(cell: Cell) -> Sequence[Figure]:
    cell.begin()
    idle, item = cell.memory(), cell.library.film
    cell.warm(item)
    alone = _speed(cell)
    with SlowClients(cell.base, item, cell.library.content(item), cell.scale.crowd) as slow:
        slow.wait_begun()
        time.sleep(min(_SLOW_S, 2 * cell.scale.seconds))
        crowded = cell.memory()
        beside = _speed(cell)
    return [
        Figure("memory over idle", (crowded.pss - idle.pss) / MIB, "MiB"),
        Figure("speed kept", beside / alone, "", "higher"),
        Figure("fast client alone", alone, "GB/s", "higher"),
        Figure("fast client beside", beside, "GB/s", "higher"),
        Figure("idle memory", idle.pss / MIB, "MiB"),
    ]


def fill(cell: Cell, count: int) -> int:
    """Let the contestant fetch small files, as many as it manages in a while; return how many.

    Raises:
        NotApplicableError: If there is next to none.
    """
    script = load.small_files(cell.base, count)
    got = load.wrk(
        cell.base,
        script,
        cell.folder,
        seconds=_FILL_LIMIT_S,
        connections=_CONNECTIONS,
        threads=1,
    )
    if got.failures:
        raise WrongBytesError(f"filling: {got}")
    filled = min(got.requests, count)
    if filled < count // 100:
        raise NotApplicableError(f"{filled} entries in {_FILL_LIMIT_S} s")
    # What was under way at the end may have been dropped.
    _look(cell, range(max(0, filled - 4 * _CONNECTIONS), filled))
    return filled


def _look(cell: Cell, numbers: Sequence[int]) -> float:
    """Get small files and check them; return the median time of one, in seconds."""
    connection, times = connect(cell.base), []
    try:
        for number in numbers:
            item, right = cell.library.small[number], cell.library.small_content(number)
            times.append(fetch(cell.base, item, right, connection=connection).total)
    finally:
        connection.close()
    return statistics.median(times)


def _restart(cell: Cell, number: int) -> float:
    """Start the contestant and get a small file from it; return how long both took."""
    begun = time.monotonic()
    cell.start()
    fetch(cell.base, cell.library.small[number], cell.library.small_content(number))
    return time.monotonic() - begun


def _import_time() -> float:
    """Return how long Python takes to import what such a server is made of, in seconds."""
    times = []
    for _ in range(3):
        begun = time.monotonic()
        subprocess.run([sys.executable, "-c", _IMPORTS], check=True, timeout=60)
        times.append(time.monotonic() - begun)
    return statistics.median(times)


def _entries(cell: Cell) -> Sequence[Figure]:
    cell.library.make_small()
    cell.begin()
    cell.contestant.stop()
    empty = _restart(cell, 0)
    filled = fill(cell, cell.scale.entries)
    cell.contestant.stop()
    before = cell.sent()
    first = _restart(cell, 1)
    memory = cell.memory()
    chosen = random.Random(10)
    each = _look(cell, [chosen.randrange(filled) for _ in range(_LOOKED_AT)])
    return [
        Figure("start to first hit", first * 1e3, "ms"),
        Figure("the same, empty", empty * 1e3, "ms"),
        Figure("imports alone", _import_time() * 1e3, "ms", "neither"),
        Figure("lost", (cell.sent() - before).requests, f"of {_LOOKED_AT}"),
        Figure("memory", memory.pss / MIB, "MiB"),
        Figure("hit", each * 1e3, "ms"),
        Figure("entries", filled, "", "neither"),
    ]


CROWD: Final = Scenario(
    name="S9",
    title="500 slow clients and a fast one, warm file of 64 MiB",
    how="Slow ones read 64 KiB a second each, and check it. The fast one reads alone first, then "
    "beside them. Memory is what pages there are, shared ones counted once (PSS).",
    family="many",
    plotted=("memory over idle", "fast client beside"),
    run=_crowd,
)

ENTRIES: Final = Scenario(
    name="S10",
    title="100,000 entries, cold start",
    how=f"Files of 512 bytes, filled by wrk in {_FILL_LIMIT_S} s at most; from the start of the "
    "process to the first checked answer; then 500 at random are checked, and what the origin is "
    "asked for was lost.",
    family="many",
    plotted=("start to first hit", "memory"),
    run=_entries,
    limit=240,
)
