"""What somebody would write in Python today."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import ClassVar

from benchmarks.contestants._contestant import Contestant
from benchmarks.processes import free_port

__all__ = ["AiohttpProxy", "FsspecBlockcache"]


class _Script(Contestant):
    """A program of this folder, given port, origin and folder."""

    script: ClassVar[str]

    def start(self, folder: Path, origin: str) -> str:
        """Run the script."""
        port = free_port()
        script = Path(__file__).with_name(self.script)
        return self.launch([sys.executable, script, port, origin, folder], port, folder)

    @classmethod
    def version(cls) -> str:
        """Return the version of its first module."""
        from importlib.metadata import version

        return "" if cls.missing() else version(cls.modules[0])


class AiohttpProxy(_Script):
    """A proxy that keeps nothing: the floor of what Python costs."""

    name = "aiohttp-proxy"
    note = "a plain reverse proxy without a cache: what Python costs at least"
    role = "mark"
    modules = ("aiohttp",)
    script = "aiohttp_proxy.py"
    cannot = dict.fromkeys(("S8", "S10", "entries", "stall"), "no cache")


class FsspecBlockcache(_Script):
    """The cache of a data library behind aiohttp."""

    name = "fsspec-blockcache"
    note = (
        "fsspec's `blockcache` with blocks of 1 MiB over its HTTP, in threads behind aiohttp, one "
        "read of a file at a time (otherwise it sends bytes that are not there yet)"
    )
    modules = ("fsspec", "aiohttp")
    script = "fsspec_proxy.py"
    cannot = dict.fromkeys(("S10", "entries"), "its index is one file, written anew each time")
