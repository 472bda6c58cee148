"""Times of last access, kept in memory and written now and then."""

from __future__ import annotations

import asyncio
from itertools import islice
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from cachestream.backends._host import Host

__all__ = ["AccessTimes"]

_FLUSH_AFTER_S: Final = 5.0
"""A lost access time costs nothing but a little order, so it may wait this long."""

_MOST: Final = 256
_NEXT_AFTER_S: Final = 0.05
"""No more times go into one transaction, and others have this long for theirs in between."""


class AccessTimes:
    """When entries were used, as far as the index does not know it yet."""

    def __init__(self, host: Host) -> None:
        self._host = host
        self._times: dict[str, int] = {}
        self._timer: asyncio.TimerHandle | None = None

    def note(self, entry_id: str) -> None:
        """Note that an entry is used now."""
        self._times[entry_id] = self._host.now()
        if self._timer is None:
            self._timer = self._host.loop.call_later(_FLUSH_AFTER_S, self._flush_later)

    def last(self, entry_id: str, indexed: int) -> int:
        """Return the last use of an entry, in microseconds, given what the index says."""
        return max(indexed, self._times.get(entry_id, 0))

    async def flush(self, pins: dict[str, bool] | None = None) -> None:
        """Write the times, and pins with them.

        Raises:
            StoreError: If the index fails.
        """
        self.stop()
        times, self._times = self._times, {}
        if times or pins:
            await self._host.change(self._host.catalog.touch, times, pins or {})

    def stop(self) -> None:
        """Wait for nothing any more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _flush_later(self) -> None:
        self._timer = None
        times = dict(islice(self._times.items(), _MOST))
        for entry_id in times:
            del self._times[entry_id]
        self._host.change_later(self._host.catalog.touch, times, {})
        if self._times:
            self._timer = self._host.loop.call_later(_NEXT_AFTER_S, self._flush_later)
