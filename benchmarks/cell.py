"""A cell: one contestant at one scenario, with fresh folders and an origin of its own."""

from __future__ import annotations

import contextlib
import os
import time
from pathlib import Path
from typing import Final

import attrs

from benchmarks.client import NoAnswerError, fetch
from benchmarks.content import Item, Library, Scale
from benchmarks.contestants import Contestant
from benchmarks.origins import FastOrigin, LimitedOrigin, Origin, Sent
from benchmarks.processes import Memory, cpu_seconds, memory, resident

__all__ = ["Cell", "NotApplicableError"]

_WARM_LIMIT_S: Final = 60.0


class NotApplicableError(Exception):
    """A contestant cannot do a scenario; the text says why."""


@attrs.define(eq=False)
class Cell:
    """What a scenario works with.

    Attributes:
        contestant: Who is measured.
        library: What the origin serves.
        folder: Where everything of this cell is.
        base: The URL that clients ask, after `begin`.
    """

    contestant: Contestant
    library: Library
    folder: Path
    base: str = ""
    _origin: Origin | None = None

    @property
    def scale(self) -> Scale:
        """How big everything is."""
        return self.library.scale

    @property
    def cache(self) -> Path:
        """The folder that outlives a restart of the contestant."""
        return self.folder / "contestant"

    def begin(self, *, latency: float = 0.0, rate: int | None = None) -> str:
        """Start the origin, then the contestant, and see a small file come.

        Args:
            latency: Seconds before each answer of the origin.
            rate: Its bytes a second and connection, None for as fast as loopback is.
        """
        folder, root = self.folder / "origin", self.library.root
        if rate is None:
            self._origin = FastOrigin(root, folder)
        else:
            self._origin = LimitedOrigin(root, folder, latency=latency, rate=rate)
        self.start()
        self.get(self.library.clip)
        return self.base

    def start(self) -> None:
        """Start the contestant, over what it kept if it ran before."""
        self.cache.mkdir(parents=True, exist_ok=True)
        self.base = self.contestant.start(self.cache, self.origin.url)

    @property
    def origin(self) -> Origin:
        """The origin, after `begin`."""
        if self._origin is None:
            raise RuntimeError("there is no origin before `begin`")
        return self._origin

    def sent(self) -> Sent:
        """Return what the origin has sent once nothing is under way."""
        return self.origin.sent()

    def get(self, item: Item) -> None:
        """Get a file and check it."""
        fetch(self.base, item, self.library.content(item))

    def warm(self, item: Item) -> None:
        """Fill the cache with a file, then check all that it holds of it.

        Raises:
            NotApplicableError: If that takes too long.
        """
        deadline = time.monotonic() + _WARM_LIMIT_S
        for _ in range(2):
            try:
                fetched = fetch(
                    self.base,
                    item,
                    self.library.content(item),
                    go_on=lambda _: time.monotonic() < deadline,
                )
            except NoAnswerError as error:
                raise NotApplicableError(f"filling its cache: {error}") from error
            if fetched.received < item.size:
                raise NotApplicableError(f"not filled in {_WARM_LIMIT_S:.0f} s")
            self.sent()

    def forget_pages(self) -> int:
        """Let the kernel forget what it holds of the contestant's files.

        Returns:
            How many bytes of them are in its memory all the same: mapped, say, or in use.
        """
        paths = [path for path in self.cache.rglob("*") if path.is_file()]
        for path in paths:
            with contextlib.suppress(OSError):
                descriptor = os.open(path, os.O_RDONLY)
                try:
                    os.fdatasync(descriptor)
                    os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
                finally:
                    os.close(descriptor)
        return resident(paths)

    def pids(self) -> list[int]:
        """Return the processes that are measured: the contestant's, or else the origin's."""
        return self.contestant.pids() or self.origin.pids()

    def cpu(self) -> float:
        """Return the CPU time that they have used, in seconds."""
        return cpu_seconds(self.pids())

    def memory(self) -> Memory:
        """Return their memory."""
        return memory(self.pids())

    def close(self) -> None:
        """End everything."""
        self.contestant.kill()
        if self._origin:
            self._origin.stop()
