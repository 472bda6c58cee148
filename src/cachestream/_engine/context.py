"""What every part of the engine shares: interfaces, settings, clock, chance and counters."""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, Final

import attrs

from cachestream.abc import Key, Store, Transport
from cachestream.core.access import UpstreamPolicy
from cachestream.core.decisions import Outcome
from cachestream.core.histogram import Histogram
from cachestream.core.spreading import SpreadRules
from cachestream.core.urls import default_key, display, origin_of
from cachestream.errors import ClosedError
from cachestream.events import Event, Listener
from cachestream.settings import Settings

from .budget import AheadBudget
from .hosts import Hosts
from .naming import Names

__all__ = ["Counters", "EngineContext"]

logger: Final = logging.getLogger("cachestream.engine")


WAIT_BOUNDS: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
"""Buckets for waiting requests, in seconds: from a store near by to `request_timeout`."""

_COUNTED: Final = {
    Outcome.HIT: "hits",
    Outcome.MISS: "misses",
    Outcome.PARTIAL: "partial_hits",
    Outcome.STALE: "stale_hits",
    Outcome.BYPASS: "bypasses",
}


@attrs.define(eq=False)
class Counters:
    """Numbers since the start, for `cachestream.core.status.Statistics`.

    Attributes:
        waits: How long requests waited for their head, in seconds; see `CacheHandler.answer`.
    """

    requests: int = 0
    hits: int = 0
    misses: int = 0
    partial_hits: int = 0
    stale_hits: int = 0
    bypasses: int = 0
    denied: int = 0
    refused: int = 0
    failed: int = 0
    abandoned: int = 0
    bytes_from_store: int = 0
    bytes_from_origin: int = 0
    origin_requests: int = 0
    origin_failures: int = 0
    waits: dict[Outcome, Histogram] = attrs.field(
        factory=lambda: {outcome: Histogram(WAIT_BOUNDS) for outcome in _COUNTED}
    )

    def count(self, outcome: Outcome) -> None:
        """Count one answered request."""
        if outcome is Outcome.HIT:  # a hit is too cheap to be looked up by a name
            self.hits += 1
        else:
            name = _COUNTED[outcome]
            setattr(self, name, getattr(self, name) + 1)


@attrs.define(eq=False)
class EngineContext:
    """The world as the engine sees it; all of it comes from outside, so it can be simulated.

    Attributes:
        transport: Fetches from origins.
        store: Keeps entries.
        settings: The manager's settings.
        clock: Wall-clock seconds since the epoch.
        chance: Randomness, for jitter.
        listeners: Called with each event.
        watched: Whether any of them cares for `RequestAnswered`.
        names: Keys and ways to renew URLs that the program gave single sources.
        named_origins: Origins the program named; they may be asked, and get credentials.
        hosts: What was learnt of each origin.
        ahead: What all readers together may be fetched for in advance.
        spread_rules: When one resource gets several connections.
        background: Runs a coroutine as a task that somebody owns.
        upstream_policy: Which hosts any client may name, as the settings say.
    """

    transport: Transport
    store: Store
    settings: Settings
    background: Callable[[Coroutine[Any, Any, None], str], asyncio.Task[None]]
    clock: Callable[[], float] = time.time
    chance: random.Random = attrs.field(factory=random.Random)
    listeners: Sequence[Listener] = ()
    watched: bool = True
    key_of: Callable[[str], str] = default_key
    names: Names = attrs.field(factory=Names)
    counters: Counters = attrs.field(factory=Counters)
    hosts: Hosts = attrs.field(factory=Hosts)
    spread_rules: SpreadRules = attrs.field(factory=SpreadRules)
    named_origins: set[str] = attrs.field(factory=set)
    closing: bool = False
    ahead: AheadBudget = attrs.field(init=False)
    upstream_policy: UpstreamPolicy = attrs.field(init=False)

    @ahead.default
    def _make_budget(self) -> AheadBudget:
        return AheadBudget(self.settings.read_ahead_budget)

    @upstream_policy.default
    def _parse_policy(self) -> UpstreamPolicy:
        return UpstreamPolicy(self.settings.allow_hosts)

    def key(self, source: str) -> Key:
        """Return the cache key of a source URL."""
        named = self.names.key_of(source)
        return Key((self.settings.key or self.key_of)(source)) if named is None else named

    def name_origin(self, source: str) -> None:
        """Note that the program itself named this source's origin."""
        self.named_origins.add(origin_of(source))

    def spawn(self, work: Coroutine[Any, Any, None], name: str) -> asyncio.Task[None]:
        """Run ``work`` as a task of the manager.

        Raises:
            ClosedError: If the manager is closing.
        """
        if self.closing:
            work.close()
            raise ClosedError("the cache is closing")
        return self.background(work, name)

    @property
    def tells_answers(self) -> bool:
        """Whether somebody wants to know of each answer; the manager itself does not."""
        return self.watched or logger.isEnabledFor(logging.DEBUG)

    def emit(self, event: Event) -> None:
        """Tell all listeners; an exception in one is logged and goes no further."""
        if logger.isEnabledFor(logging.DEBUG):
            logger.debug("%s %s", type(event).__name__, display(event.source))
        for listener in self.listeners:
            try:
                listener(event)
            except Exception:
                logger.exception("a listener failed on %s", type(event).__name__)
