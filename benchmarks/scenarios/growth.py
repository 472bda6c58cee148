"""How cost grows: with clients, with entries, with the size of a file, and with a cold disk."""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence
from functools import partial
from typing import Final

from benchmarks import load
from benchmarks.cell import Cell
from benchmarks.client import Together, fetch
from benchmarks.content import MIB, Item
from benchmarks.figures import Figure
from benchmarks.probe import Probe
from benchmarks.scenarios._scenario import Scenario
from benchmarks.scenarios.many import fill
from benchmarks.scenarios.warm import check_ranges

__all__ = ["CLIENTS", "ENTRIES", "SIZES", "STALL"]

_GIB: Final = 1 << 30
_RANGE: Final = 64 * 1024
_CLIENTS: Final = (1, 16, 64, 256)
_ENTRIES: Final = (0, 1_000, 10_000, 100_000)
_STALL_CLIENTS: Final = 4
_TINY: Final = 100


def _cost(cell: Cell, item: Item, clients: int) -> list[Figure]:
    """Return what a warm range costs with so many clients, and the memory they take."""
    script, cpu = load.random_ranges(cell.base, item, _RANGE), cell.cpu()
    got = load.wrk(cell.base, script, cell.folder, seconds=cell.scale.seconds, connections=clients)
    cpu = cell.cpu() - cpu
    got.must_be_of(_RANGE)
    return [
        Figure("CPU a request", cpu / got.requests * 1e6, "µs", at=clients),
        Figure("memory", cell.memory().pss / MIB, "MiB", at=clients),
        Figure("p99", got.p99 * 1e3, "ms", at=clients),
    ]


def _clients(cell: Cell) -> Sequence[Figure]:
    cell.begin()
    item = cell.library.archive
    cell.warm(item)
    check_ranges(cell, item, _RANGE, 8)
    return [figure for clients in _CLIENTS for figure in _cost(cell, item, clients)]


def _start(cell: Cell, entries: int) -> list[Figure]:
    """Start over so many entries, and see the first hit."""
    cell.contestant.stop()
    begun = time.monotonic()
    cell.start()
    cell.get(cell.library.clip)
    took = time.monotonic() - begun
    return [
        Figure("start to first hit", took * 1e3, "ms", at=entries),
        Figure("memory", cell.memory().pss / MIB, "MiB", at=entries),
    ]


def _entries(cell: Cell) -> Sequence[Figure]:
    cell.library.make_small()
    cell.begin()
    figures = []
    for entries in _ENTRIES:
        if entries <= cell.scale.entries:
            reached = fill(cell, entries) if entries else 0
            figures += _start(cell, entries if reached == entries else reached)
    return figures


def _size(cell: Cell, item: Item) -> list[Figure]:
    cell.warm(item)
    cpu, deadline, received = cell.cpu(), time.monotonic() + cell.scale.seconds, 0
    right = cell.library.content(item)
    while time.monotonic() < deadline:
        received += fetch(cell.base, item, right, sampled=True).received
    cpu = cell.cpu() - cpu
    return [
        Figure("CPU", cpu / received * _GIB, "s/GiB", at=item.size // MIB),
        Figure("memory", cell.memory().pss / MIB, "MiB", at=item.size // MIB),
    ]


def _sizes(cell: Cell) -> Sequence[Figure]:
    cell.begin()
    library = cell.library
    return [
        figure
        for item in (library.clip, library.film, library.archive, library.big)
        for figure in _size(cell, item)
    ]


def _stalls(cell: Cell, item: Item) -> list[float]:
    """Read a whole file with some clients; return what a tiny request took meanwhile."""
    clip, right = cell.library.clip, cell.library.content(item)
    with Probe(cell.base, clip, bytes(cell.library.content(clip)[:_TINY])) as probe:
        Together([partial(fetch, cell.base, item, right, sampled=True)] * _STALL_CLIENTS).join()
    return probe.times


def _stall(cell: Cell) -> Sequence[Figure]:
    cell.begin()
    item = cell.library.big
    cell.warm(item)
    warm = _stalls(cell, item)
    left = cell.forget_pages()
    cell.get(cell.library.clip)  # the probe is to find its own bytes in memory
    cold = _stalls(cell, item)
    return [
        Figure("longest stall, cold pages", max(cold) * 1e3, "ms"),
        Figure("longest stall, warm pages", max(warm) * 1e3, "ms"),
        Figure("median, cold pages", statistics.median(cold) * 1e3, "ms"),
        Figure("median, warm pages", statistics.median(warm) * 1e3, "ms"),
        Figure("not forgotten", left / MIB, "MiB", "neither"),
    ]


CLIENTS: Final = Scenario(
    name="clients",
    title="cost of a warm range of 64 KiB, by clients",
    how="wrk over 1, 16, 64 and 256 kept-alive connections.",
    family="growth",
    plotted=("CPU a request", "memory"),
    run=_clients,
    is_speed=False,
    limit=180,
)

ENTRIES: Final = Scenario(
    name="entries",
    title="start and memory, by entries",
    how="From the start of the process to the first checked answer, over 0 to 100,000 entries.",
    family="growth",
    plotted=("start to first hit", "memory"),
    run=_entries,
    is_speed=False,
    limit=300,
)

SIZES: Final = Scenario(
    name="sizes",
    title="cost of a warm byte, by MiB of the file",
    how="One client reads the file again and again.",
    family="growth",
    plotted=("CPU", "memory"),
    run=_sizes,
    is_speed=False,
    limit=180,
)

STALL: Final = Scenario(
    name="stall",
    title="longest wait for 100 bytes while others read 1 GiB",
    how="Four clients read the file, first from the kernel's memory, then after it has forgotten "
    "the pages; another, a process of its own, asks for the first 100 bytes of a small file "
    "meanwhile. What stays in the kernel's memory all the same is named.",
    family="stall",
    plotted=("longest stall, cold pages", "longest stall, warm pages"),
    run=_stall,
    limit=180,
)
