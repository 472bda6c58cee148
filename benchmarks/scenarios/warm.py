"""What is held already: whole files and ranges."""

from __future__ import annotations

import random
import time
from collections.abc import Sequence
from functools import partial
from typing import Final

from benchmarks import load
from benchmarks.cell import Cell
from benchmarks.client import Together, connect, fetch
from benchmarks.content import MIB, Item
from benchmarks.figures import Figure
from benchmarks.scenarios._scenario import Scenario

__all__ = ["RANGES", "WHOLE", "check_ranges"]

_GIB: Final = 1 << 30
_RANGE: Final = 64 * 1024
_CONNECTIONS: Final = 32
_CHECKED: Final = 32


def _read(cell: Cell, item: Item, deadline: float) -> int:
    """Read a file again and again until the deadline; return how many bytes came."""
    received = 0
    while time.monotonic() < deadline:
        received += fetch(
            cell.base,
            item,
            cell.library.content(item),
            go_on=lambda _: time.monotonic() < deadline,
            sampled=True,
        ).received
    return received


def _load(cell: Cell, item: Item, clients: int) -> list[Figure]:
    cpu, begun = cell.cpu(), time.monotonic()
    job = partial(_read, cell, item, begun + cell.scale.seconds)
    received = sum(Together([job] * clients).join())
    took, cpu = time.monotonic() - begun, cell.cpu() - cpu
    return [
        Figure("speed", received / took / 1e9, "GB/s", "higher", at=clients),
        Figure("CPU", cpu / received * _GIB, "s/GiB", at=clients),
    ]


def _whole(cell: Cell) -> Sequence[Figure]:
    cell.begin()
    item = cell.library.big
    cell.warm(item)
    figures = [figure for clients in (1, 16) for figure in _load(cell, item, clients)]
    memory = cell.memory()
    return [
        *figures,
        Figure("peak memory", memory.peak / MIB, "MiB"),
        Figure("memory", memory.pss / MIB, "MiB"),
    ]


def check_ranges(cell: Cell, item: Item, length: int, connections: int) -> None:
    """Get random ranges over several connections at once, and check each byte."""

    def job(seed: int) -> None:
        chosen, connection = random.Random(seed), connect(cell.base)
        try:
            for _ in range(_CHECKED):
                start = chosen.randrange(item.size - length)
                right = cell.library.content(item)
                fetch(cell.base, item, right, start=start, length=length, connection=connection)
        finally:
            connection.close()

    Together([partial(job, seed) for seed in range(connections)]).join()


def _ranges(cell: Cell) -> Sequence[Figure]:
    cell.begin()
    item = cell.library.big
    cell.warm(item)
    check_ranges(cell, item, _RANGE, _CONNECTIONS)
    script = load.random_ranges(cell.base, item, _RANGE)
    cpu = cell.cpu()
    got = load.wrk(
        cell.base, script, cell.folder, seconds=cell.scale.seconds, connections=_CONNECTIONS
    )
    cpu = cell.cpu() - cpu
    got.must_be_of(_RANGE)
    return [
        Figure("CPU a request", cpu / got.requests * 1e6, "µs"),
        Figure("p99", got.p99 * 1e3, "ms"),
        Figure("p50", got.p50 * 1e3, "ms"),
        Figure("requests", got.requests / got.seconds, "1/s", "higher"),
    ]


WHOLE: Final = Scenario(
    name="S2",
    title="warm file of 1 GiB, 1 and 16 clients",
    how="Clients read the file from its start, again and again, after all of it was checked; "
    "then 4 KiB of each 256 KiB are.",
    family="warm",
    plotted=("speed", "CPU"),
    run=_whole,
)

RANGES: Final = Scenario(
    name="S3",
    title="warm ranges of 64 KiB, 32 kept-alive connections",
    how="wrk asks for random ranges of 1 GiB; before that 1,024 such answers are checked byte by "
    "byte over as many connections, and wrk's are checked by status and length.",
    family="warm",
    plotted=("CPU a request", "p99"),
    run=_ranges,
)
