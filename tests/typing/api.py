"""What users write, to be type-checked only: a change that breaks it breaks their code."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import assert_type

import attrs

from cachestream import (
    CacheManager,
    CacheResponse,
    CacheState,
    CacheStream,
    CacheStreamError,
    Settings,
    Statistics,
    StreamSettings,
)
from cachestream.abc import (
    EntryRecord,
    Handler,
    Inspector,
    Key,
    Store,
    StoreUsage,
    Transport,
    UpstreamRequest,
    UpstreamResponse,
)
from cachestream.backends import DiskStore, MemoryStore
from cachestream.core.fields import Fields
from cachestream.core.representation import Representation
from cachestream.core.spans import Span
from cachestream.core.status import ResourceStatus
from cachestream.errors import (
    ConfigurationError,
    RangeNotSatisfiableError,
    UpstreamStatusError,
)
from cachestream.events import DownloadFailed, Event, ResourceCompleted
from cachestream.registry import PluginInfo, Registry
from cachestream.transports import HttpTransport


def on_event(event: Event) -> None:
    """Listen."""
    print(event.source)


class Signing(HttpTransport):
    """A transport that signs what is sent, and renews what has run out."""

    async def prepare(self, request: UpstreamRequest) -> UpstreamRequest:
        """Sign."""
        if request.hop or request.attempt:
            return request
        signature = f"{request.method} {request.url} {request.source}"
        return attrs.evolve(request, fields=request.fields.replace(("X-Signature", signature)))

    async def refresh(self, source: str, status: int) -> str | None:
        """Renew."""
        return f"{source}?renewed" if status == 403 else None


class Own(Transport):
    """A transport from nothing but the interface."""

    schemes = frozenset({"own"})

    async def fetch(self, request: UpstreamRequest) -> UpstreamResponse:
        """Fetch."""
        raise NotImplementedError

    async def aclose(self) -> None:
        """Close."""


async def the_first_page() -> None:
    """Write what the first page of the docs shows."""
    async with CacheManager() as cache:
        url = cache.get_cache_url("https://example.com/video.mp4")
        stream = cache.create_stream("https://example.com/a.mp3")
        async for state in stream.states():
            print(state.position, state.complete_length)
        await stream.download()
        stream.release()
        async with cache.open("https://example.com/data.parquet") as f:
            data = await f.read(1024)
    assert_type(url, str)
    assert_type(data, bytes)


def on_created(stream: CacheStream) -> None:
    """Be called for a new stream."""
    stream.retain()


async def on_done(stream: CacheStream, file: Path | None) -> None:
    """Be called for a finished download."""
    print(stream.source, file)


def options() -> Settings:
    """Name every kind of setting."""
    settings = Settings(
        cache_dir=Path("/tmp/x"),
        max_size=None,
        min_free=0,
        durability="power",
        completion="ahead",
        validation="stale",
        range_request_split_threshold=None,
        request_headers={"Referer": "https://example.com/"},
        response_headers={"X-Own": "1"},
        forward_fields=("User-Agent",),
        allow_hosts=("*.example.com", "any"),
        allow_origins=("https://player.example",),
        cache_file_resolver=lambda source: Path("/tmp") / source[-5:],
        key=lambda source: source.partition("?")[0],
        on_stream_created=on_created,
        on_cache_done=on_done,
        token="secret",
        max_wait=5.0,
    )
    one: StreamSettings = settings.for_stream(offline=True)
    assert_type(one.read_timeout, float)
    assert_type(settings.port, int)
    return settings


def on_some_events(event: Event) -> None:
    """Tell events apart."""
    match event:
        case ResourceCompleted(source, length):
            print(source, length + 1)
        case DownloadFailed(source, error, retry_in):
            print(source, error, retry_in is None)
        case _:
            pass


async def life(store: Store, transport: Transport) -> None:
    """Start and close by hand, with parts of one's own."""
    cache = CacheManager(options(), store=store, transport=transport, listeners=[on_some_events])
    await cache.start()
    try:
        assert_type(cache.has_server, bool)
        assert_type(cache.is_closed, bool)
        assert_type(cache.settings, Settings)
        assert_type(cache.store, Store)
        assert_type(cache.handler, Handler)
        assert_type(cache.all_streams, tuple[CacheStream, ...])
        assert_type(await cache.ensure_active(), bool)
        assert_type(await cache.usage(), StoreUsage)
        assert_type(await cache.export("https://example.com/a", "/tmp/a"), Path)
        assert_type(cache.create_stream_settings(offline=True), StreamSettings)
    finally:
        await cache.aclose()


async def stores() -> None:
    """Open stores without a manager."""
    async with DiskStore(Path("/tmp/x"), max_size=10) as disk:
        assert_type(await disk.select(Key("https://example.com/a")), tuple[EntryRecord, ...])
    memory: Store = MemoryStore()
    await memory.aclose()


async def files(cache: CacheManager) -> None:
    """Use a file."""
    file = await cache.open("https://example.com/a")
    try:
        assert_type(await file.seek(-5, os.SEEK_END), int)
        assert_type(file.tell(), int)
        assert_type(await file.size(), int | None)
        assert_type(await file.read(), bytes)
    finally:
        await file.aclose()


async def facts(stream: CacheStream) -> None:
    """Ask a stream what it knows."""
    assert_type(stream.key, Key)
    assert_type(stream.cache_url, str | None)
    assert_type(stream.file, Path | None)
    assert_type(stream.progress, float | None)
    assert_type(stream.last_error, Exception | None)
    assert_type(stream.is_downloading, bool)
    assert_type(stream.is_disposed, bool)
    assert_type(stream.is_retained, bool)
    assert_type(stream.retain_count, int)
    assert_type(stream.representation, Representation | None)
    assert_type(stream.state.remaining_bytes, int | None)
    assert_type(stream.state.error, Exception | None)
    assert_type(stream.states(), AsyncIterator[CacheState])
    assert_type(await stream.head(), Representation)
    assert_type(await stream.download(), Path | None)
    await stream.reset_cache()


async def mistakes(cache: CacheManager) -> None:
    """Catch errors by kind, and use their facts."""
    try:
        async with await cache.create_stream("https://example.com/a").request(5) as response:
            assert_type(await response.read(), bytes)
            assert_type(response.start, int)
            assert_type(response.content_length, int | None)
            assert_type(response.fields, Fields)
    except UpstreamStatusError as error:
        assert_type(error.status, int)
        assert_type(error.retry_after, str | None)
    except RangeNotSatisfiableError as error:
        assert_type(error.complete_length, int | None)
    except (ConfigurationError, ValueError) as error:
        print(error)


async def manager() -> None:
    """Use a manager."""
    settings = Settings(cache_dir=Path("/tmp/x"), max_size=10, completion="demand")
    async with CacheManager(settings, listeners=[on_event], port=0, registry=Registry()) as cache:
        base: str | None = cache.base_url
        admin: str | None = cache.admin_url
        inspector: Inspector = cache.inspector
        seen: tuple[ResourceStatus, ...] = inspector.resources()
        ready: bool = (await inspector.readiness()).ready
        url: str = cache.get_cache_url("https://example.com/a", file="/tmp/a")
        path: Path | None = await cache.pre_cache_url(url, bytes=1000)
        record: EntryRecord | None = await cache.get_cache_record(url)
        records: tuple[EntryRecord, ...] = await cache.cache_records(limit=5, active=False)
        bad: list[tuple[EntryRecord, tuple[Span, ...]]] = await cache.verify()
        numbers: Statistics = cache.statistics()
        gone: bool = await cache.delete(url)
        count: int = await cache.delete_cache(partial_only=True)
        live: CacheStream | None = cache.get_existing_stream(url)
        async with cache.open(url) as file:
            await file.seek(5)
            data: bytes = await file.read(10)
    print(base, path, record, records, bad, numbers, gone, count, live, data)
    print(admin, seen, ready)


async def stream(cache: CacheManager, options: StreamSettings) -> None:
    """Use a stream."""
    stream: CacheStream = cache.create_stream("https://example.com/a", settings=options)
    try:
        await stream.download()
    except CacheStreamError as error:
        print(error.url, error.hint, error.status_hint)
    async for state in stream.states():
        latest: CacheState = state
        share: float | None = latest.progress
        print(share)
    response: CacheResponse = await stream.request(0, 100)
    async with response:
        async for piece in response:
            size: int = len(piece)
            print(size, response.status, response.complete_length)
    valid: bool | None = await stream.validate_cache(force=True)
    stream.release()
    closed: bool = await stream.dispose(force=True)
    print(valid, closed)


def plugins(registry: Registry, transport: type[Transport]) -> tuple[PluginInfo, ...]:
    """Use a registry."""
    registry.register("transport", "signing", transport)
    return registry.listing(load=True)


async def urls_that_expire(cache: CacheManager) -> None:
    """Give a source a key, and renew its URL by either kind of function."""

    async def renew(source: str, status: int) -> str | None:
        return f"{source}?again={status}"

    def renew_blocking(source: str, status: int) -> str:
        return f"{source}?again={status}"

    stream = cache.create_stream("https://example.com/a?s=1", key="a", refresh=renew)
    assert_type(stream.key, Key)
    cache.get_cache_url("https://example.com/a?s=2", key="a", refresh=renew_blocking)
    await cache.pre_cache_url(
        "https://example.com/a?s=3", key="a", refresh=lambda source, status: None
    )
    async with cache.open("https://example.com/a?s=4", key="a", refresh=renew) as file:
        assert_type(await file.read(10), bytes)
