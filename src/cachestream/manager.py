"""`CacheManager`: puts transport, store, engine and frontend together, and owns what runs."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import logging
import os
import warnings
from collections.abc import Callable, Coroutine, Generator, Mapping, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self, TypeAlias
from urllib.parse import urlsplit

import attrs

from cachestream import descriptors
from cachestream._engine.answering import CacheHandler
from cachestream._engine.context import EngineContext
from cachestream._engine.file import CacheFile
from cachestream._engine.pool import ResourcePool
from cachestream._engine.resource import Resource
from cachestream.abc import (
    Frontend,
    Handler,
    Inspector,
    Key,
    RefreshFunction,
    Store,
    StoreUsage,
    Transport,
)
from cachestream.config import Parts, Plugin, load
from cachestream.core.status import Statistics
from cachestream.core.urls import normalize
from cachestream.errors import (
    AccessDeniedError,
    ClosedError,
    ConfigurationError,
    InvalidURLError,
    ServerUnavailableError,
    StoreError,
)
from cachestream.events import (
    Event,
    Listener,
    RequestAnswered,
    ResourceCompleted,
    StreamCreated,
    StreamDisposed,
)
from cachestream.inspection import ManagerInspector
from cachestream.registry import Registry
from cachestream.settings import Settings, StreamSettings
from cachestream.stored import StoredEntries
from cachestream.stream import CacheStream
from cachestream.supervisor import Supervisor

__all__ = ["CacheManager", "OpenFile"]

TransportChoice: TypeAlias = "Transport | Plugin | str | Sequence[Transport | Plugin | str]"

logger: Final = logging.getLogger("cachestream.manager")


class CacheManager(StoredEntries):
    """Downloads, caches and streams at the same time; the one object a program makes.

    It may be entered in one task and closed in another. Several may live in one process.
    Whatever it started has ended when `aclose` returns.

    Args:
        settings: How to work; the defaults if None.
        store: A store; or a plug-in, by its name or with options: ``Plugin("s3", bucket="b")``.
            A store that is given is not closed.
        transport: Likewise; several are one that serves all their URL schemes.
        frontend: Likewise.
        registry: Where plug-ins are found.
        listeners: Called with each event.
        overrides: Fields of `Settings` to change.

    Example:
        async with CacheManager() as cache:
            url = cache.get_cache_url("https://example.com/video.mp4")
    """

    def __init__(
        self,
        settings: Settings | None = None,
        *,
        store: Store | Plugin | str = "disk",
        transport: TransportChoice = "http",
        frontend: Frontend | Plugin | str = "loopback",
        registry: Registry | None = None,
        listeners: Sequence[Listener] = (),
        **overrides: Any,
    ) -> None:
        try:
            self.settings = attrs.evolve(settings or Settings(), **overrides)
        except TypeError as exc:
            raise ConfigurationError(f"an unknown setting: {exc}") from exc
        self._registry = registry or Registry()
        self._given = (store, transport, frontend)
        self._listeners = [*listeners, self._on_event]
        self._files: dict[Key, str] = {}
        self._streams: dict[Resource, CacheStream] = {}
        self._store: Store | None = None
        self._transport: Transport | None = None
        self._frontend: Frontend | None = None
        self._context: EngineContext | None = None
        self._pool: ResourcePool | None = None
        self._handler: CacheHandler | None = None
        self._supervisor = Supervisor(self._assemble)
        self._inspector = ManagerInspector(self.settings)
        self._base_url: str | None = None
        self._admin_url: str | None = None
        self._closed = False

    @classmethod
    def from_config(cls, file: str | Path | None = None, **overrides: Any) -> Self:
        """Make one as a configuration file and the environment say; see `cachestream.config`.

        Args:
            file: The only file to read; None for those that are found, ``none`` for none.
            overrides: Settings, ``store``, ``transport`` and ``frontend`` that go first.

        Raises:
            ConfigurationError: If a file, a name or a value is wrong; it says which and where.
        """
        taken = {"registry", "listeners"} & overrides.keys()
        kept = {name: overrides.pop(name) for name in taken}
        registry = kept.setdefault("registry", Registry())
        return cls(**load(file, registry=registry).arguments(**overrides), **kept)

    # -- life -------------------------------------------------------------

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.aclose()

    async def start(self) -> None:
        """Open the store and listen; idempotent.

        Raises:
            ConfigurationError: If a setting is wrong or the address cannot be listened on.
            PluginError: If a plug-in cannot be used.
            StoreError: If the store cannot be opened.
        """
        if self._closed:
            raise ClosedError("this cache was closed", hint="Make a new CacheManager.")
        if self._supervisor.started:
            return
        try:
            await self._supervisor.start()
        except BaseException:
            self._closed = True
            raise

    async def _assemble(self, stack: AsyncExitStack) -> None:
        """Open bottom up; the stack closes in the opposite order."""
        if self.settings.admin_port is not None:
            await self._listen_for_admins(stack)
        parts = Parts(self._registry, self.settings)
        transport, owned = parts.make_transport(self._given[1])
        for each in owned:
            stack.push_async_callback(each.aclose)
        store, is_ours = parts.make("store", self._given[0])
        if is_ours:
            await stack.enter_async_context(store)  # what is wrong with it shows at the start
        self._transport, self._store = transport, store
        self._guard_listener(transport)
        await self._supervisor.own_tasks(stack)
        self._context = EngineContext(
            transport=transport,
            store=store,
            settings=self.settings,
            background=self._supervisor.run,
            listeners=self._listeners,
            watched=len(self._listeners) > 1,
        )
        most = self.settings.max_idle_streams
        self._pool = ResourcePool(
            self._context,
            file_for=self._file_for,
            most_idle=descriptors.idle_streams() if most is None else most,
        )
        stack.push_async_callback(self._close_engine)
        self._handler = CacheHandler(self._context, self._pool)
        self._inspector.attach(self._context, self._pool, self._supervisor.tasks)
        if self.settings.start_server:
            self._frontend, is_ours = parts.make(
                "frontend", self._given[2], schemes=transport.schemes
            )
            configure = getattr(self._frontend, "configure", None)
            if configure is not None and not is_ours:
                configure(self.settings, schemes=transport.schemes)
            self._base_url = await stack.enter_async_context(self._frontend.serve(self._handler))
            self._inspector.attach_server(self._frontend.ensure_active)

    async def _listen_for_admins(self, stack: AsyncExitStack) -> None:
        """Answer health checks before there is anything else, and after there is no more."""
        # Here and not above: it imports aiohttp, which a manager may do without.
        from cachestream.frontends import AdminServer

        admin = AdminServer.from_settings(self.settings, self._inspector)
        self._admin_url = await stack.enter_async_context(admin.serve())

    async def _close_engine(self) -> None:
        assert self._pool is not None
        assert self._context is not None
        await self._pool.aclose()
        self._context.closing = True

    def _guard_listener(self, transport: Transport) -> None:
        """Keep the transport from asking our own listener, unless its sockets are not its own."""
        add: Callable[..., None] | None = getattr(transport, "add_address_filter", None)
        if add is not None:
            with contextlib.suppress(ConfigurationError):
                add(self._check_address)

    async def aclose(self) -> None:
        """End everything; idempotent. Nothing of the manager runs afterwards."""
        self._closed = True
        self._inspector.close()
        await self._supervisor.aclose()

    def __del__(self, _warn: Callable[..., None] = warnings.warn) -> None:
        supervisor = getattr(self, "_supervisor", None)  # none if the constructor raised
        if supervisor is not None and supervisor.started and not self._closed:
            _warn(f"unclosed {self!r}", ResourceWarning, source=self, stacklevel=2)

    # -- facts ------------------------------------------------------------

    @property
    def base_url(self) -> str | None:
        """The local server's URL, None without one."""
        return self._base_url

    @property
    def admin_url(self) -> str | None:
        """The URL of the port for health checks and metrics, None without one."""
        return self._admin_url

    @property
    def inspector(self) -> Inspector:
        """What can be seen of this manager, for metrics and health checks; at any time."""
        return self._inspector

    @property
    def has_server(self) -> bool:
        """Whether local URLs can be made."""
        return self._base_url is not None

    @property
    def is_closed(self) -> bool:
        """Whether `aclose` was called."""
        return self._closed

    @property
    def store(self) -> Store:
        """The store.

        Raises:
            ClosedError: Before the start.
        """
        return self._engine[1].context.store

    @property
    def handler(self) -> Handler:
        """What answers requests, for a frontend of one's own."""
        self._engine  # noqa: B018  # raises when not started
        assert self._handler is not None
        return self._handler

    @property
    def all_streams(self) -> tuple[CacheStream, ...]:
        """The streams of all live resources."""
        pool = self._engine[1]
        return tuple(self._stream(resource) for resource in pool.resources.values())

    def statistics(self) -> Statistics:
        """Return the numbers so far."""
        self._engine  # noqa: B018  # raises when not open
        return self._inspector.statistics()

    async def usage(self) -> StoreUsage:
        """Return how full the store is."""
        return await self.store.usage()

    async def ensure_active(self) -> bool:
        """Make sure that the local server answers; True if it had to be opened anew."""
        self._engine  # noqa: B018
        return False if self._frontend is None else await self._frontend.ensure_active()

    # -- URLs and streams -------------------------------------------------

    def get_cache_url(
        self,
        source: str,
        *,
        key: str | None = None,
        refresh: RefreshFunction | None = None,
        file: str | Path | None = None,
    ) -> str:
        """Return the local URL of ``source``; nothing is fetched before somebody asks for it.

        Args:
            source: The source URL; a local URL gives itself.
            key: Its cache key instead of one made of the URL; two URLs with one key are one
                resource, and the newest is asked. It is remembered until the manager closes.
            refresh: Called when the origin refuses the URL (401, 403, 410); returns a new one.
            file: Where its data shall be kept.

        Raises:
            InvalidURLError: If it is no URL that can be fetched.
            ServerUnavailableError: If there is no local server.
        """
        context, _ = self._engine
        if self._frontend is None or self._base_url is None:
            raise ServerUnavailableError(
                "there is no local server",
                url=source,
                hint="Start the manager with start_server=True, or read through create_stream().",
            )
        source = self._named(source, key, refresh)
        if file is not None:
            self._files[context.key(source)] = str(file)
        return self._frontend.url_for(source)

    def create_stream(
        self,
        source: str,
        *,
        key: str | None = None,
        refresh: RefreshFunction | None = None,
        file: str | Path | None = None,
        settings: StreamSettings | None = None,
        **changes: Any,
    ) -> CacheStream:
        """Return the stream of ``source``, retained once more; it is made if need be.

        Args:
            source: The source URL or its local URL.
            key: Its cache key instead of one made of the URL; two URLs with one key are one
                resource, and the newest is asked. It is remembered until the manager closes.
            refresh: Called when the origin refuses the URL (401, 403, 410); returns a new one.
            file: Where its data shall be kept.
            settings: Settings for this stream instead of the manager's.
            changes: Single settings to change.

        Raises:
            InvalidURLError: If it is no URL that can be fetched.
            ConfigurationError: If a setting is wrong, or data is already kept elsewhere.
        """
        pool = self._engine[1]
        source = self._named(source, key, refresh)
        chosen = self._chosen(settings, changes)
        resource = pool.retain(source, settings=chosen, file=None if file is None else str(file))
        try:
            self._apply(resource, chosen, file)
            stream = self._stream(resource)
            stream.retain()
        finally:
            pool.release_resource(resource)
        return stream

    def _chosen(
        self, settings: StreamSettings | None, changes: Mapping[str, Any]
    ) -> StreamSettings | None:
        if settings is None:
            return self.settings.for_stream(**changes) if changes else None
        try:
            return attrs.evolve(settings, **changes) if changes else settings
        except TypeError as exc:
            raise ConfigurationError(f"an unknown setting: {exc}") from exc

    @staticmethod
    def _apply(
        resource: Resource, settings: StreamSettings | None, file: str | Path | None
    ) -> None:
        if settings is not None:
            resource.settings = settings
        if file is not None and resource.file != str(file):
            if resource.held is not None:
                raise ConfigurationError(
                    f"this stream is already kept in another place than {file}",
                    url=resource.source,
                    hint="Name the file when the stream is first used, or export it.",
                )
            resource.file = str(file)

    async def pre_cache_url(
        self,
        source: str,
        *,
        bytes: int | None = None,
        key: str | None = None,
        refresh: RefreshFunction | None = None,
        file: str | Path | None = None,
    ) -> Path | None:
        """Fetch a resource ahead of its use; return its file if the store has files.

        Args:
            source: The source URL.
            bytes: Only so many from the start; None for all.
            key: See `create_stream`.
            refresh: See `create_stream`.
            file: Where its data shall be kept.

        Raises:
            CacheStreamError: If it cannot be had.
        """
        stream = self.create_stream(source, key=key, refresh=refresh, file=file)
        try:
            if bytes is None:
                return await stream.download()
            response = await stream.request(0, max(1, bytes))
            async with response:
                async for _ in response:
                    pass
            if stream.state.stored_bytes == stream.state.complete_length:
                return await stream.download()  # it is there, but may not be committed yet
            return stream.file
        finally:
            stream.release()

    def get_existing_stream(self, url: str) -> CacheStream | None:
        """Return the live stream of a source or local URL, not retained; None if there is none."""
        resource = self._engine[1].get(self._source(url))
        return None if resource is None else self._stream(resource)

    def open(
        self, source: str, *, key: str | None = None, refresh: RefreshFunction | None = None
    ) -> OpenFile:
        """Open a resource as an asynchronous file: ``async with cache.open(url) as f``.

        Nothing is fetched before the first read. For ``key`` and ``refresh`` see
        `create_stream`.
        """
        return OpenFile(lambda: self.open_file(source, key=key, refresh=refresh))

    async def open_file(
        self, source: str, *, key: str | None = None, refresh: RefreshFunction | None = None
    ) -> CacheFile:
        """Open a resource as an asynchronous file; the caller closes it."""
        pool = self._engine[1]
        source = self._named(source, key, refresh)
        return CacheFile(pool, pool.retain(source))

    def create_stream_settings(self, **changes: Any) -> StreamSettings:
        """Return the manager's settings for one stream, with some of them changed."""
        return self.settings.for_stream(**changes)

    # -- inside -----------------------------------------------------------

    @property
    def _engine(self) -> tuple[EngineContext, ResourcePool]:
        if self._context is None or self._pool is None or self._closed:
            raise ClosedError(
                "this cache is not open", hint="Use `async with CacheManager() as cache`."
            )
        return self._context, self._pool

    @property
    def _pool_in_use(self) -> ResourcePool:
        return self._engine[1]

    def _source(self, url: str) -> str:
        """Return the normalised source of a source or local URL."""
        if self._frontend is not None and self._base_url is not None:
            source = self._frontend.source_for(url)
            if source is not None:
                return source
        source = normalize(url)
        scheme = source.split(":", 1)[0]
        schemes = self._engine[0].transport.schemes
        if scheme not in schemes:
            raise InvalidURLError(
                f"no transport serves {scheme} URLs",
                url=url,
                hint="These are served: " + ", ".join(sorted(schemes)),
            )
        return source

    def _named(self, url: str, key: str | None, refresh: RefreshFunction | None) -> str:
        """Return the normalised source of a URL, and heed what the program says of it."""
        context, pool = self._engine
        source = self._source(url)
        context.name_origin(source)
        if key is not None or refresh is not None:
            pool.name(source, key=key, refresh=refresh)
        return source

    def _stream(self, resource: Resource) -> CacheStream:
        stream = self._streams.get(resource)
        if stream is None:
            pool = self._engine[1]
            stream = CacheStream(pool, resource, self._url_or_none, self._file_of, self._deliver)
            self._streams[resource] = stream
            created = self.settings.on_stream_created
            if created is not None:
                self._call(created, stream)
        return stream

    def _url_or_none(self, source: str) -> str | None:
        if self._frontend is None or self._base_url is None:
            return None
        return self._frontend.url_for(source)

    def _file_for(self, key: Key, source: str) -> str | None:
        """Return where the program wants the data of a new resource."""
        if key in self._files:
            return self._files[key]
        resolver = self.settings.cache_file_resolver
        chosen = None if resolver is None else resolver(source)
        return None if chosen is None else str(chosen)

    def _file_of(self, resource: Resource) -> Path | None:
        """Return the data file of a resource, None if the store has none."""
        path_of: Callable[[str], Path] | None = getattr(self._store, "path_of", None)
        entry = resource.entry
        if path_of is None or entry is None or resource.is_ephemeral:
            return None
        try:
            return path_of(entry.entry_id)
        except StoreError:
            return None

    async def _deliver(self, resource: Resource) -> None:
        """Put a complete resource where the program wants it, if it was stored before."""
        wanted, entry = resource.file, resource.entry
        if wanted is None or entry is None or os.path.exists(wanted):  # noqa: ASYNC240
            return
        await self._export(entry.entry_id, Path(wanted))

    def _on_event(self, event: Event) -> None:
        """Do what creation, completion and disposal bring with them."""
        if isinstance(event, RequestAnswered):
            return  # by far the most frequent one
        assert self._pool is not None
        self._inspector.note(event)
        if isinstance(event, StreamCreated):
            resource = self._pool.get(event.source)
            if resource is not None and self.settings.on_stream_created is not None:
                self._stream(resource)
        elif isinstance(event, ResourceCompleted):
            resource = self._pool.get(event.source)
            if resource is not None:
                self._call_done(resource)
        elif isinstance(event, StreamDisposed):
            for resource in [each for each in self._streams if each.closed]:
                self._streams.pop(resource).mark_disposed()

    def _call_done(self, resource: Resource) -> None:
        callbacks = [resource.settings.on_cache_done, self.settings.on_cache_done]
        for callback in dict.fromkeys(each for each in callbacks if each is not None):
            self._call(callback, self._stream(resource), self._file_of(resource))

    def _call(self, callback: Callable[..., object], *args: object) -> None:
        """Call the program; its exceptions are logged, its coroutines are run."""
        assert self._context is not None
        try:
            result = callback(*args)
            if asyncio.iscoroutine(result):
                self._context.spawn(result, "callback")
        except Exception:
            logger.exception("a callback failed")

    def _check_address(self, address: str, port: int) -> None:
        """Refuse upstream connections to our own listener: they would never end.

        Raises:
            AccessDeniedError: If it is ours.
        """
        if self._closed or self._base_url is None:
            return
        # A frontend behind a proxy has another port than its URLs.
        ports = getattr(self._frontend, "ports", (urlsplit(self._base_url).port,))
        if port not in ports:
            return
        ip = ipaddress.ip_address(address)
        mapped = getattr(ip, "ipv4_mapped", None) or ip
        if mapped.is_loopback or mapped.is_unspecified or str(mapped) == self.settings.host:
            raise AccessDeniedError(
                "this is the cache's own address",
                url=self._base_url,
                hint="Name the source, not its local URL.",
            )


class OpenFile:
    """An asynchronous context manager that opens a `CacheFile`; it can be awaited too."""

    def __init__(self, opening: Callable[[], Coroutine[Any, Any, CacheFile]]) -> None:
        self._opening = opening
        self._file: CacheFile | None = None

    def __await__(self) -> Generator[Any, None, CacheFile]:
        return self._opening().__await__()

    async def __aenter__(self) -> CacheFile:
        self._file = await self._opening()
        return self._file

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._file is not None:
            await self._file.aclose()
