"""cachestream itself, and the origin without anything before it."""

from __future__ import annotations

import sys
from pathlib import Path

import cachestream
from benchmarks.contestants._contestant import Contestant, authority
from benchmarks.processes import free_port

__all__ = ["Cachestream", "Direct"]


class Direct(Contestant):
    """The origin alone."""

    name = "direct"
    note = "the client asks the origin itself; CPU and memory are the origin's"
    role = "direct"
    cannot = dict.fromkeys(("S8", "S10", "clients", "entries", "sizes", "stall"), "no cache")

    def start(self, folder: Path, origin: str) -> str:
        """Do nothing."""
        return origin


class Cachestream(Contestant):
    """The project."""

    name = "cachestream"
    note = "its defaults, by `cachestream serve`, with all checks on"
    role = "ours"

    def start(self, folder: Path, origin: str) -> str:
        """Run the command that a user runs."""
        port = free_port()
        command = [sys.executable, "-m", "cachestream", "serve"]
        flags = ["--port", port, "--cache-dir", folder / "cache"]
        base = self.launch(
            [*command, *flags],
            port,
            folder,
            CACHESTREAM_CONFIG="none",
            CACHESTREAM_PLUGINS="off",
        )
        return f"{base}/http/{authority(origin)}"

    @classmethod
    def version(cls) -> str:
        """Return what this package says."""
        return cachestream.__version__
