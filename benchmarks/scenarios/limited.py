"""Origins that limit each connection: several of them, and going on after a crash."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Final

from benchmarks.cell import Cell, NotApplicableError
from benchmarks.client import fetch
from benchmarks.content import MIB, check
from benchmarks.contestants import Aria2
from benchmarks.figures import Figure
from benchmarks.scenarios._scenario import Scenario

__all__ = ["RESTART", "SEVERAL"]

_LATENCY_S: Final = 0.05
_SHORT_LATENCY_S: Final = 0.01
_FASTER: Final = 4


def _download(cell: Cell, contestant: Aria2) -> float:
    item, begun = cell.library.film, time.monotonic()
    file = cell.folder / "downloaded.bin"
    contestant.download(f"{cell.base}/{item.name}", file)
    took, got = time.monotonic() - begun, bytearray(file.read_bytes())
    check(got, max(len(got), item.size), cell.library.content(item), 0)
    return took


def _several(cell: Cell) -> Sequence[Figure]:
    cell.begin(latency=_LATENCY_S, rate=cell.scale.rate)
    item, before = cell.library.film, cell.sent()
    if isinstance(cell.contestant, Aria2):
        took = _download(cell, cell.contestant)
    else:
        took = fetch(cell.base, item, cell.library.content(item)).total
    sent = cell.sent() - before
    return [
        Figure("total", took, "s"),
        Figure("speed", item.size / took / MIB, "MiB/s", "higher"),
        Figure("origin requests", sent.requests, "", "neither"),
        Figure("origin bytes / size", sent.content / item.size, "×"),
    ]


def _restart(cell: Cell) -> Sequence[Figure]:
    cell.begin(latency=_SHORT_LATENCY_S, rate=_FASTER * cell.scale.rate)
    item, before = cell.library.film, cell.sent()
    right, half = cell.library.content(item), item.size // 2
    fetch(cell.base, item, right, go_on=lambda received: received < half)
    cell.contestant.kill()
    killed = cell.sent()
    if (killed - before).content >= item.size:
        raise NotApplicableError("it had fetched the whole file before it was killed")
    cell.start()
    got = fetch(cell.base, item, right)
    again = (cell.sent() - killed).content
    return [
        Figure("fetched after / missing half", again / (item.size - half), "×"),
        Figure("fetched in all / size", ((killed - before).content + again) / item.size, "×"),
        Figure("first byte after", got.first_byte * 1e3, "ms"),
        Figure("total after", got.total, "s"),
    ]


SEVERAL: Final = Scenario(
    name="S7",
    title="64 MiB from an origin that gives 4 MiB/s a connection",
    how="The origin answers after 50 ms. aria2 with eight connections is the mark.",
    family="limited",
    plotted=("total",),
    run=_several,
    is_speed=False,
)

RESTART: Final = Scenario(
    name="S8",
    title="kill -9 at half of 64 MiB, start again, read all",
    how="The origin answers after 10 ms and gives 16 MiB/s a connection.",
    family="limited",
    plotted=("fetched after / missing half",),
    run=_restart,
    is_speed=False,
)
