"""What users write, to be type-checked only: a change that breaks it breaks their code."""

from pathlib import Path

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
from cachestream.abc import EntryRecord, Transport, UpstreamRequest
from cachestream.core.spans import Span
from cachestream.events import Event
from cachestream.registry import PluginInfo, Registry
from cachestream.transports import HttpTransport


def on_event(event: Event) -> None:
    """Listen."""
    print(event.source)


class Signing(HttpTransport):
    """A transport that signs what is sent."""

    async def prepare(self, request: UpstreamRequest) -> UpstreamRequest:
        """Sign."""
        return request


async def manager() -> None:
    """Use a manager."""
    settings = Settings(cache_dir=Path("/tmp/x"), max_size=10, completion="demand")
    async with CacheManager(settings, listeners=[on_event], port=0, registry=Registry()) as cache:
        base: str | None = cache.base_url
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
