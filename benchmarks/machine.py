"""What a run was made on: enough to compare, nothing that names a machine or its folders."""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping

from benchmarks.contestants import Contestant

__all__ = ["describe", "versions"]


def describe() -> str:
    """Return cores, memory, kernel and Python in one line."""
    pages = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / (1 << 30)
    kernel = ".".join(platform.release().split(".")[:2])
    cores = len(os.sched_getaffinity(0))
    return (
        f"{cores} cores ({platform.machine()}), {pages:.0f} GiB of memory, "
        f"{platform.system()} {kernel}, Python {platform.python_version()}"
    )


def versions(contestants: Mapping[str, type[Contestant]]) -> dict[str, str]:
    """Return the version of each contestant that is installed and has one."""
    found = {name: contestant.version() for name, contestant in contestants.items()}
    return {name: version for name, version in found.items() if version}
