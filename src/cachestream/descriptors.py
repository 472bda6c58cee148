"""How many files and sockets this process may have open, and what follows from that."""

from __future__ import annotations

import contextlib
import sys
from typing import Final

__all__ = ["idle_streams", "limit", "raise_limit"]

MOST: Final = 65_536
"""As many are enough; some programs that are started from here walk through all."""

EACH: Final = 2
"""Descriptors of one open entry on a disk: its data and its lock."""

LEAST_IDLE: Final = 32
MOST_IDLE: Final = 2_000
"""Bounds of how many streams stay open that nobody uses; each takes about 20 KiB, too."""


def limit() -> int:
    """Return how many descriptors this process may have now."""
    if sys.platform == "win32":
        return MOST
    import resource

    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return MOST if soft == resource.RLIM_INFINITY else min(soft, MOST)


def raise_limit() -> int:
    """Let this process have as many descriptors as it may allow itself; return how many.

    For programs of their own only: a library leaves the limits of its host alone.
    """
    if sys.platform != "win32":
        import resource

        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        wanted = MOST if hard == resource.RLIM_INFINITY else min(hard, MOST)
        if soft != resource.RLIM_INFINITY and soft < wanted:
            with contextlib.suppress(ValueError, OSError):  # a sandbox may forbid it
                resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    return limit()


def idle_streams() -> int:
    """Return how many streams may stay open that nobody uses: a quarter of all descriptors."""
    return max(LEAST_IDLE, min(MOST_IDLE, limit() // 4 // EACH))
