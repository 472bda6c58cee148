"""What is held by nobody yet, from an origin that is as fast as loopback."""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence
from typing import Final

from benchmarks.cell import Cell
from benchmarks.client import Fetched, Together, fetch
from benchmarks.content import MIB
from benchmarks.figures import Figure
from benchmarks.scenarios._scenario import Scenario

__all__ = ["GET", "HERD"]


def _get(cell: Cell) -> Sequence[Figure]:
    cell.begin()
    got = [fetch(cell.base, item, cell.library.content(item)) for item in cell.library.films]
    return [
        Figure("total", statistics.median(each.total for each in got) * 1e3, "ms"),
        Figure("first byte", statistics.median(each.first_byte for each in got) * 1e3, "ms"),
    ]


def _herd(cell: Cell) -> Sequence[Figure]:
    cell.begin()
    item, before, begun = cell.library.film, cell.sent(), time.monotonic()

    def job() -> Fetched:
        return fetch(cell.base, item, cell.library.content(item), timeout=90)

    got = Together([job] * cell.scale.herd).join()
    took, memory = time.monotonic() - begun, cell.memory()
    sent = cell.sent() - before
    return [
        Figure("origin bytes / size", sent.content / item.size, "×"),
        Figure("total", took, "s"),
        Figure("first byte", statistics.median(each.first_byte for each in got) * 1e3, "ms"),
        Figure("origin requests", sent.requests, "", "neither"),
        Figure("peak memory", memory.peak / MIB, "MiB"),
    ]


GET: Final = Scenario(
    name="S1",
    title="cold GET of 64 MiB, fast origin",
    how="The median of seven files, one after the other, each over a new connection.",
    family="cold",
    plotted=("total", "first byte"),
    run=_get,
)

HERD: Final = Scenario(
    name="S5",
    title="100 clients, one cold file of 64 MiB",
    how="All begin at one moment; every byte of each is compared.",
    family="cold",
    plotted=("total",),
    run=_herd,
)
