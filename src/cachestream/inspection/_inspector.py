"""`ManagerInspector`: what can be seen of a running manager, and whether it is ready.

Numbers are read where the engine counts them, when somebody asks; nothing is sampled. Failures
are noted when their event comes. Readiness is proved by doing: a few bytes go through the
store as those of a download would, and the frontend is asked for its listener.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable, Mapping, Sized
from typing import Final

from cachestream._engine.context import EngineContext
from cachestream._engine.pool import ResourcePool
from cachestream._engine.resource import Resource
from cachestream.abc import Inspector, StoreUsage
from cachestream.core.histogram import Distribution
from cachestream.core.status import Failure, Readiness, ResourceStatus, Statistics
from cachestream.core.urls import display
from cachestream.errors import CacheStreamError
from cachestream.events import (
    DownloadFailed,
    Event,
    RepresentationChanged,
    ResourceCompleted,
    StoreFailed,
)
from cachestream.inspection._proof import LIMIT_S, StoreProof
from cachestream.inspection._values import shown_settings, status_of, text_of
from cachestream.settings import Settings

__all__ = ["ManagerInspector"]

FAILURES_KEPT: Final = 50

_COUNTED: Final = (
    "requests",
    "hits",
    "misses",
    "partial_hits",
    "stale_hits",
    "bypasses",
    "denied",
    "refused",
    "failed",
    "abandoned",
    "bytes_from_store",
    "bytes_from_origin",
    "origin_requests",
    "origin_failures",
)


class ManagerInspector(Inspector):
    """Shows one manager; the manager tells it what it has opened, and what happens.

    Args:
        settings: The manager's.
        clock: Wall-clock seconds since the epoch, for failures.
        monotonic: Seconds from any start, for the age of a proof.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        clock: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._settings = settings
        self._clock = clock
        self._context: EngineContext | None = None
        self._pool: ResourcePool | None = None
        self._tasks: Sized = ()
        self._server: Callable[[], Awaitable[object]] | None = None
        self._closing = False
        self._failures: deque[Failure] = deque(maxlen=FAILURES_KEPT)
        self._events = {StoreFailed: 0, RepresentationChanged: 0, ResourceCompleted: 0}
        self._proof = StoreProof(monotonic)

    # -- told by the manager ----------------------------------------------

    def attach(self, context: EngineContext, pool: ResourcePool, tasks: Sized) -> None:
        """Look at an engine from now on; ``tasks`` are those that the manager owns."""
        self._context, self._pool, self._tasks = context, pool, tasks

    def attach_server(self, ensure_active: Callable[[], Awaitable[object]]) -> None:
        """Ask this whether the frontend listens; it raises if it does not."""
        self._server = ensure_active

    def close(self) -> None:
        """Note that the manager is closing: it is ready for nothing any more."""
        self._closing = True
        self._proof.cancel()

    def note(self, event: Event) -> None:
        """Take note of what happened."""
        kind = type(event)
        if kind in self._events:
            self._events[kind] += 1
        if isinstance(event, DownloadFailed):
            self._keep("download", event.source, event.error, final=event.retry_in is None)
        elif isinstance(event, StoreFailed):
            self._keep("store", event.source, event.error, final=False)

    def _keep(self, kind: str, source: str, error: Exception, *, final: bool) -> None:
        self._failures.appendleft(
            Failure(
                time=self._clock(),
                kind=kind,
                source=display(source),
                error=text_of(error),
                outcome=error.outcome if isinstance(error, CacheStreamError) else "error",
                final=final,
            )
        )

    # -- the interface ----------------------------------------------------

    def statistics(self) -> Statistics:
        """Return the numbers so far, and how much is open."""
        if self._context is None:
            return Statistics()
        counters = self._context.counters
        live = self._live()
        readers = [reader for resource in live for reader in resource.readers]
        return Statistics(
            **{name: getattr(counters, name) for name in _COUNTED},
            store_failures=self._events[StoreFailed],
            representation_changes=self._events[RepresentationChanged],
            completed_resources=self._events[ResourceCompleted],
            live_resources=len(live),
            open_readers=len(readers),
            waiting_readers=sum(reader.waiting for reader in readers),
            running_downloads=sum(len(resource.downloads) for resource in live),
            running_tasks=len(self._tasks),
        )

    def _live(self) -> list[Resource]:
        pool = self._pool
        return [] if pool is None else [*pool.resources.values(), *pool.private]

    def waits(self) -> Mapping[str, Distribution]:
        """Return how long requests waited for their head, in seconds, by outcome."""
        if self._context is None:
            return {}
        waits = self._context.counters.waits
        return {outcome.name.lower(): waits[outcome].distribution() for outcome in waits}

    def resources(self) -> tuple[ResourceStatus, ...]:
        """Return the live resources, in the order they came to life."""
        return tuple(map(status_of, self._live()))

    def failures(self) -> tuple[Failure, ...]:
        """Return the last failures of downloads and of the store, newest first."""
        return tuple(self._failures)

    def settings(self) -> Mapping[str, object]:
        """Return the settings by name, as values that JSON has; secrets are masked."""
        return shown_settings(self._settings)

    async def usage(self) -> StoreUsage | None:
        """Return how full the store is, None if it is not open or does not say in time."""
        if self._context is None:
            return None
        try:
            async with asyncio.timeout(LIMIT_S):
                return await self._context.store.usage()
        except (CacheStreamError, TimeoutError):
            return None

    async def readiness(self) -> Readiness:
        """Tell whether requests can be served; a listener that is gone is opened anew."""
        if self._closing:
            return Readiness(reasons=(("manager", "it is closing"),))
        if self._context is None:
            return Readiness(reasons=(("manager", "it has not started yet"),))
        reasons = []
        if (failure := await self._proof.check(self._context)) is not None:
            reasons.append(("store", failure))
        if (failure := await self._check_server()) is not None:
            reasons.append(("server", failure))
        return Readiness(reasons=tuple(reasons))

    # -- readiness --------------------------------------------------------

    async def _check_server(self) -> str | None:
        """Return why the frontend does not listen, None if it does or there is none."""
        if self._server is None:
            return None
        try:
            async with asyncio.timeout(LIMIT_S):
                await self._server()
        except TimeoutError:
            return f"it did not answer within {LIMIT_S:g} s"
        except CacheStreamError as error:
            return text_of(error)
        return None
