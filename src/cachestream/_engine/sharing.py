"""How many downloads share one resource: measures what they bring, and asks `Spread`.

More than one connection is used only while somebody is short of bytes: a reader that has
to wait, or a program that wants the whole file. A player that has enough is no reason.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from cachestream.core.spreading import Spread
from cachestream.core.urls import origin_of
from cachestream.settings import KIB, MIB

from .hosts import Host

if TYPE_CHECKING:
    from .download import Download
    from .resource import Resource

__all__ = ["AHEAD_EACH", "Sharing"]

TICK_S: Final = 0.02
"""How often rates are looked at, in seconds."""

WORTH_CUTTING_S: Final = 1.0
"""A running request is cut short only to save at least so many seconds."""

HUNGER_S: Final = 0.5
"""For so many seconds after it had to wait a reader counts as short of bytes."""

LEAST_WINDOW: Final = MIB
"""Least distance over which a reader waits for a download that runs, in bytes."""

LEAST_LEAD: Final = 64 * KIB
"""With less on its way while an origin answers, the next request may wait for its turn."""

SMALLEST_PART: Final = 128 * KIB
"""Least that one connection ever takes over of another one's part, in bytes."""

WAITED_FOR_US: Final = 512 * KIB
"""A piece of so many bytes has waited for us: the way to the origin is not the limit."""

AHEAD_EACH: Final = 4 * MIB
"""How far before a reader each of several connections may fetch, in bytes."""


class Sharing:
    """The number of connections of one resource, and what they bring together."""

    def __init__(self, resource: Resource) -> None:
        self._resource = resource
        self._spread: Spread | None = None
        self._received = 0
        self._bulk = 0
        self._next_tick = 0.0
        self._last: tuple[float, int] | None = None
        self._hungry_until = float("-inf")
        self._is_behind = False
        self.rate = 0.0

    @property
    def host(self) -> Host:
        """What is known of the origin that is asked."""
        return self._resource.context.hosts.of(origin_of(self._resource.url))

    def starved(self) -> None:
        """Note that a reader has to wait."""
        self._hungry_until = asyncio.get_running_loop().time() + HUNGER_S

    @property
    def eager(self) -> bool:
        """Whether somebody is short of bytes that more connections could bring sooner."""
        if self._is_behind:
            return False
        if self._resource.scheduler.completers:
            return True
        return asyncio.get_running_loop().time() < self._hungry_until

    @property
    def target(self) -> int:
        """How many downloads shall share what is wanted."""
        return self._spread.target if self._spread is not None and self.eager else 1

    @property
    def limit(self) -> int:
        """How many downloads may run; requests sent ahead take up connections, too."""
        resource = self._resource
        now = asyncio.get_running_loop().time()
        most = resource.context.settings.max_host_connections
        room = self.host.room(now, most, len(resource.downloads))
        ahead = sum(download.successor.is_out for download in resource.downloads.values())
        return max(1, min(resource.settings.max_connections - ahead, room))

    @property
    def has_room(self) -> bool:
        """Whether there may be one connection more."""
        return self.limit > len(self._resource.downloads)

    @property
    def lead(self) -> int:
        """How many bytes a connection brings until an origin answers; 0 if it hardly shows."""
        lead = int((self.host.latency or 0.0) * self.rate)
        return lead if lead >= LEAST_LEAD else 0

    @property
    def window(self) -> int:
        """What a running download brings in the time a new one takes to begin, in bytes."""
        latency = self.host.latency or 0.0
        return max(LEAST_WINDOW, int(latency * self.rate))

    @property
    def least_part(self) -> int:
        """Least that one connection takes over of another one's part, in bytes.

        Twice what a connection brings while a request is on its way is worth one; with less
        known, or on fast lines, it is what the rules say.
        """
        most = self._resource.context.spread_rules.least_part
        if self.host.latency is None or not self.rate:
            return most
        return min(most, max(SMALLEST_PART, int(2 * self.host.latency * self.rate)))

    @property
    def least_cut(self) -> int:
        """Least that is worth a connection of what is being sent on another, in bytes.

        What is under way when a request is cut short is wasted.
        """
        return max(self.least_part, int(WORTH_CUTTING_S * self.rate))

    @property
    def ahead(self) -> int:
        """How far before a reader is fetched, so that all connections have a part of it."""
        return self.target * AHEAD_EACH if self.target > 1 else 0

    def received(self, count: int) -> bool:
        """Note that bytes came; True if the number of connections changed."""
        self._received += count
        if count >= WAITED_FOR_US:
            self._bulk += count
        now = asyncio.get_running_loop().time()
        if now < self._next_tick:
            return False
        self._next_tick = now + TICK_S
        return self._observe(now)

    def _observe(self, now: float) -> bool:
        downloads = list(self._resource.downloads.values())
        flowing = sum(download.flowing for download in downloads)
        if self._last is not None and now > self._last[0] and flowing:
            fresh = (self._received - self._last[1]) / (now - self._last[0]) / flowing
            self.rate += (fresh - self.rate) / 4
            self._is_behind = 2 * self._bulk > self._received - self._last[1]
        self._last, self._bulk = (now, self._received), 0
        if self._resource.linear or self._resource.is_ephemeral:
            return False
        if self._spread is None:
            limit = self._resource.settings.max_connections
            self._spread = Spread(self.host.spread, limit, self._resource.context.spread_rules)
        before = self._spread.target
        self._spread.observe(
            now,
            received=self._received,
            flowing=flowing if self.eager else 0,
            missing=self._missing(),
        )
        if self._spread.target == before:
            return False
        self.host.spread = self._spread.target
        return True

    def _missing(self) -> int:
        """Return about how many bytes are still wanted: by whoever wants most of them."""
        resource = self._resource
        length = resource.complete_length
        if length is None:
            return 0
        left = [reader.remaining.stop - reader.position for reader in resource.readers]
        if resource.scheduler.completers:
            left.append(length - resource.spans.total)
        return max(left, default=0)

    def shed(self, refused: Download) -> bool:
        """Take a refusal of one connection more for the origin's limit, if others are served.

        Returns:
            True if the others are enough; the refused one shall end.
        """
        downloads = self._resource.downloads.values()
        others = [each for each in downloads if each is not refused and each.flowing]
        if not others:
            return False
        now = asyncio.get_running_loop().time()
        self.host.refused(now, max(1, self.host.open - 1))
        if self._spread is not None:
            self._spread.refused(now, len(others))
        return True
