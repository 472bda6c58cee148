"""Asking again when an origin keeps somebody waiting for longer than it usually does.

Of many exchanges a few take very long, for reasons that a second try would not meet: a lost
packet, a busy server behind a balancer. So while a reader waits, one more request for the
same bytes races an exchange that stalls, and the first to answer goes on (engine rule 6).
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, TypeVar

from .ahead import Ahead

if TYPE_CHECKING:
    from .download import Download

__all__ = ["Hedging"]

T = TypeVar("T")


class Hedging:
    """Watches what a download waits for, one thing at a time."""

    def __init__(self, download: Download) -> None:
        self._download = download
        self._ask: Callable[[], Ahead | None]
        self._limit: asyncio.Timeout | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._seen = 0
        self._second: Ahead | None = None

    async def over(self, work: Awaitable[T], again: Callable[[], Ahead | None]) -> T | None:
        """Wait for ``work``, and ask ``again`` if it stalls while somebody waits.

        Returns:
            What the work returns; None if it was given up, as the second request was answered.
        """
        self._ask = again
        limit = self._limit = asyncio.timeout(None)
        self._seen = self._download.received
        self._watch()
        try:
            async with limit:
                return await work
        except TimeoutError:
            if not limit.expired():
                raise
            return None
        finally:
            self._limit = self._second = None
            if self._timer is not None:
                self._timer.cancel()

    def _watch(self) -> None:
        patience = self._download.host.patience
        if patience is not None:
            loop = asyncio.get_running_loop()
            self._timer = loop.call_later(patience, self._look)

    def _look(self) -> None:
        """Ask again if nothing came since the last look."""
        download = self._download
        if download.received != self._seen or download.is_draining:
            self._seen = download.received
            if self._second is not None:
                self._second = None
                download.successor.leave()
        elif self._second is None and download.is_waited_for and download.host.may_hedge():
            self._hedge()
        self._watch()

    def _hedge(self) -> None:
        second = self._second = self._ask()
        if second is not None:
            self._download.host.hedges += 1
            second.when_done(lambda: self._answered(second))

    def _answered(self, second: Ahead) -> None:
        """The second request is the first to be answered, if nothing came meanwhile."""
        if self._limit is None or second is not self._second:
            return
        if second.is_served and self._download.received == self._seen:
            self._limit.reschedule(asyncio.get_running_loop().time())
        else:
            self._download.successor.leave()
