"""Live resources by key: who uses them, and when they pause and end."""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections.abc import Callable
from typing import Final

import attrs

from cachestream.abc import Key, RefreshFunction
from cachestream.core.fields import Fields
from cachestream.core.ranges import RangeSpec
from cachestream.core.urls import normalize
from cachestream.errors import CacheStreamError, ClosedError, ConfigurationError
from cachestream.events import StreamCreated, StreamDisposed
from cachestream.settings import StreamSettings

from .context import EngineContext
from .naming import check_key
from .reader import Reader
from .resource import NotSharedError, Resource

__all__ = ["ResourcePool"]

LOOKED_AT: Final = 8
"""At most so many idle resources are looked at for one that can end, when there are too many."""

logger: Final = logging.getLogger("cachestream.engine")


@attrs.define(eq=False)
class _Timers:
    """What is due for a resource that nobody retains, and since when nobody does."""

    since: float
    pause: asyncio.TimerHandle | None = None
    dispose: asyncio.TimerHandle | None = None

    def cancel(self) -> None:
        for handle in (self.pause, self.dispose):
            if handle is not None:
                handle.cancel()
        self.pause = self.dispose = None


class ResourcePool:
    """Makes resources when they are first used, and disposes of them some time after the last.

    A resource is retained by streams, readers and those who wait for its first head. After
    the last release it pauses (its downloads stop) and later ends, as the settings say.
    Of too many that nobody uses, the one that was used longest ago ends sooner.

    Args:
        context: What the engine shares.
        file_for: Says in which file a source shall be kept, if in one of its own.
        most_idle: How many resources may stay open that nobody uses.
    """

    def __init__(
        self,
        context: EngineContext,
        file_for: Callable[[Key, str], str | None] = lambda key, source: None,
        most_idle: int = 1000,
    ) -> None:
        self.context = context
        self._file_for = file_for
        self._most_idle = most_idle
        self.resources: dict[Key, Resource] = {}
        self.private: set[Resource] = set()
        self._timers: dict[Resource, _Timers] = {}
        self._ending: dict[Key, asyncio.Task[None]] = {}
        self.closed = False

    def get(self, source: str) -> Resource | None:
        """Return the live resource of ``source``, or None."""
        return self.resources.get(self.context.key(normalize(source)))

    def name(self, source: str, *, key: str | None, refresh: RefreshFunction | None) -> None:
        """Note what the program says of one source; a live resource heeds it from now on.

        Raises:
            ConfigurationError: If the key cannot be, or the source is in use under another.
        """
        names = self.context.names
        before = self.context.key(source)
        wanted = before if key is None else check_key(key)
        live = self.resources.get(before)
        if wanted != before and live is not None and live.source == source:
            raise ConfigurationError(
                f"this source is already in use under another key than {key!r}",
                url=source,
                hint="Give the key when the source is first named.",
            )
        resource = self.resources.get(wanted)
        in_use = () if resource is None else (resource.source,)
        news = names.note(source, wanted, refresh, in_use)
        if resource is not None:
            resource.refresh = refresh or resource.refresh
            if news and resource.url != source:
                resource.use_url(source)

    def retain(
        self,
        source: str,
        *,
        settings: StreamSettings | None = None,
        file: str | None = None,
    ) -> Resource:
        """Return the resource of ``source``, made if need be, retained once more.

        Raises:
            ClosedError: If the cache is closed.
        """
        if self.closed:
            raise ClosedError("the cache is closed", url=source)
        source = normalize(source)
        key = self.context.key(source)
        resource = self.resources.get(key)
        if resource is None:
            resource = self._make(source, key, settings, file)
            self.resources[key] = resource
            self.context.emit(StreamCreated(source))
        self.retain_resource(resource)
        return resource

    async def settled(self, key: Key) -> None:
        """Wait until an earlier resource of ``key`` is closed: two never share an entry."""
        while (ending := self._ending.get(key)) is not None:
            await asyncio.wait((ending,))

    def _make(
        self,
        source: str,
        key: Key,
        settings: StreamSettings | None,
        file: str | None,
        *,
        private: bool = False,
    ) -> Resource:
        return Resource(
            self.context,
            self,
            key,
            source,
            settings or self.context.settings,
            file=file or (None if private else self._file_for(key, source)),
            private=private,
        )

    def retain_resource(self, resource: Resource) -> None:
        """Count one more user; a pending pause or end is called off."""
        resource.retained += 1
        timers = self._timers.pop(resource, None)
        if timers is not None:
            timers.cancel()
        resource.resume()

    def release_resource(self, resource: Resource) -> None:
        """Count one user less; after the last the timers start."""
        resource.retained = max(0, resource.retained - 1)
        if resource.retained or resource.closed or self.closed or resource in self._timers:
            return
        self._start_timers(resource)
        while len(self._timers) > self._most_idle and self._end_one():
            pass

    def _start_timers(self, resource: Resource) -> None:
        settings = resource.settings
        loop = asyncio.get_running_loop()
        timers = self._timers[resource] = _Timers(loop.time())
        if resource.private or resource.disposal_pending:
            timers.dispose = loop.call_later(0, self._dispose_later, resource)
            return
        if settings.pause_after < settings.dispose_after:
            timers.pause = loop.call_later(settings.pause_after, resource.pause)
            timers.dispose = loop.call_later(settings.dispose_after, self._dispose_later, resource)
        else:
            timers.dispose = loop.call_later(settings.pause_after, self._dispose_later, resource)

    async def obtain(
        self, resource: Resource, spec: RangeSpec | None, forwarded: Fields | None = None
    ) -> Reader:
        """Return a reader of ``resource``, or of a private twin if it cannot be shared."""
        try:
            return await resource.obtain(spec)
        except NotSharedError:
            twin = self._make(resource.source, resource.key, resource.settings, None, private=True)
            twin.forwarded = forwarded or resource.forwarded
            twin.url = resource.url
            self.private.add(twin)
            self.retain_resource(twin)
            try:
                return await twin.obtain(spec)
            finally:
                self.release_resource(twin)

    async def dispose(self, resource: Resource) -> None:
        """Close a resource now, whoever uses it; return when it is closed."""
        task = self._begin_end(resource)
        if task is not None:
            await asyncio.wait((task,))

    def _dispose_later(self, resource: Resource) -> None:
        """End a resource that nobody uses; shortcuts use it without retaining it."""
        if resource.retained or self.closed:
            return
        loop, settings = asyncio.get_running_loop(), resource.settings
        due = resource.used + max(settings.pause_after, settings.dispose_after)
        timers = self._timers.get(resource)
        if timers is None or resource.private or resource.disposal_pending or due <= loop.time():
            self._begin_end(resource)
        else:
            timers.dispose = loop.call_at(due, self._dispose_later, resource)

    def _end_one(self) -> bool:
        """End the idle resource that was used longest ago, but none that is downloading.

        Returns:
            False if there was none to end among those looked at.
        """
        # The timers are in order of the last release. Whoever is not to go yet is put last.
        for resource in list(itertools.islice(self._timers, LOOKED_AT)):
            timers = self._timers[resource]
            if not resource.downloads and resource.used <= timers.since:
                self._begin_end(resource)
                return True
            timers.since = asyncio.get_running_loop().time()
            self._timers[resource] = self._timers.pop(resource)
        return False

    def _begin_end(self, resource: Resource) -> asyncio.Task[None] | None:
        timers = self._timers.pop(resource, None)
        if timers is not None:
            timers.cancel()
        if resource.private:
            if resource not in self.private:
                return None
            self.private.discard(resource)
            return self.context.spawn(self._end(resource), f"close {resource.shown}")
        if self.resources.get(resource.key) is not resource:
            return self._ending.get(resource.key)
        del self.resources[resource.key]
        task = self.context.spawn(self._end(resource), f"close {resource.shown}")
        self._ending[resource.key] = task
        task.add_done_callback(lambda done: self._ended(resource.key, done))
        return task

    def _ended(self, key: Key, task: asyncio.Task[None]) -> None:
        if self._ending.get(key) is task:
            del self._ending[key]

    async def _end(self, resource: Resource) -> None:
        try:
            await resource.aclose()
        except CacheStreamError:
            logger.warning("closing %s failed", resource.shown, exc_info=True)
        if not resource.private:
            self.context.emit(StreamDisposed(resource.source))

    async def aclose(self) -> None:
        """Close all resources; nothing of them runs afterwards."""
        self.closed = True
        for timers in self._timers.values():
            timers.cancel()
        self._timers.clear()
        for resource in [*self.resources.values(), *self.private]:
            self._begin_end(resource)
        while self._ending:
            await asyncio.wait(set(self._ending.values()))
