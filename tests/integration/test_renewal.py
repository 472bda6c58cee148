"""URLs that expire: a key that outlives them, and a new one in mid-play."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable
from typing import Any

import pytest

from cachestream.errors import ConfigurationError, UpstreamStatusError
from cachestream.testing.origin import Origin, OriginRequest, pattern

LENGTH = 6_000_000
CONTENT = pattern("renewal", LENGTH)
KEY = "video:137"

OpenCache = Callable[..., Any]


class Site:
    """Gives out URLs that expire after so many bytes, and notes who asks for one."""

    def __init__(self, origin: Origin, lasts: int = 2_000_000) -> None:
        self.origin = origin
        self.lasts = lasts
        self.asked: list[tuple[str, int]] = []
        self.issued = 0
        self.served = origin.add("/film.mp4", CONTENT, require=self._check)

    def issue(self) -> str:
        """Return a new URL; older ones are refused from now on."""
        self.issued += 1
        self._begun = self.origin.bytes_sent("/film.mp4")
        return self.origin.url(f"/film.mp4?signature={self.issued}")

    def _check(self, request: OriginRequest) -> int | None:
        used = self.origin.bytes_sent("/film.mp4") - self._begun
        right = request.target.endswith(f"signature={self.issued}")
        return None if right and used < self.lasts else 403

    async def refresh(self, source: str, status: int) -> str:
        self.asked.append((source, status))
        return self.issue()


@pytest.fixture
def site(origin: Origin) -> Site:
    """Return a site whose URLs expire."""
    return Site(origin)


@pytest.mark.asyncio
@pytest.mark.parametrize("blocks", [False, True], ids=["async", "blocking"])
async def test_a_url_that_expires_in_mid_play_is_renewed(
    blocks: bool, site: Site, read: Any, open_cache: OpenCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The reader gets every byte, and the origin sends each once."""
    # Requests smaller than what a URL lasts for.
    monkeypatch.setattr("cachestream._engine.download.FIRST_REQUEST", 500_000)
    monkeypatch.setattr("cachestream._engine.download.LARGEST_REQUEST", 500_000)
    # A second connection may be cut short with some bytes under way.
    cache = await open_cache(max_connections=1)
    loop = asyncio.get_running_loop()

    def waits(source: str, status: int) -> str:
        assert threading.current_thread() is not threading.main_thread()
        return asyncio.run_coroutine_threadsafe(site.refresh(source, status), loop).result(60)

    source = site.issue()
    cache.get_cache_url(source, key=KEY, refresh=waits if blocks else site.refresh)
    got = await read(cache, source)
    assert (got.complete, got.content) == (True, CONTENT.bytes())
    assert len(site.asked) >= 2
    assert set(site.asked) == {(source, 403)}
    assert site.origin.bytes_sent("/film.mp4") - refused(site.origin) == LENGTH


def refused(origin: Origin) -> int:
    """Return how many bytes of error pages were sent."""
    return sum(item.bytes_sent for item in origin.requests if item.status == 403)


@pytest.mark.asyncio
async def test_two_urls_with_one_key_are_one_resource(
    site: Site, read: Any, open_cache: OpenCache
) -> None:
    """What came by the first is not fetched by the second; the first still leads there."""
    site.lasts = LENGTH * 10
    cache = await open_cache(read_ahead=0, max_read_ahead=0, max_connections=1)
    first = site.issue()
    stream = cache.create_stream(first, key=KEY)
    assert (await read(cache, first, 0, 1_000_000)).content == CONTENT.bytes(0, 1_000_000)
    second = site.issue()  # the first is refused from now on
    again = cache.create_stream(second, key=KEY)
    assert again is stream
    assert stream.key == KEY
    assert (await read(cache, second)).content == CONTENT.bytes()
    assert (await read(cache, first)).content == CONTENT.bytes()
    assert site.origin.bytes_sent("/film.mp4") == LENGTH
    assert len(await cache.cache_records()) == 1
    for _ in range(2):
        stream.release()


@pytest.mark.asyncio
async def test_after_a_restart_the_key_finds_what_was_stored(
    site: Site, read: Any, open_cache: OpenCache
) -> None:
    """Another URL of the same key asks the origin nothing."""
    site.lasts = LENGTH * 10
    cache = await open_cache()
    assert await cache.pre_cache_url(site.issue(), key=KEY) is not None
    await cache.aclose()
    cache = await open_cache()
    site.origin.reset_log()
    source = site.issue()
    async with cache.open(source, key=KEY) as file:
        assert await file.read() == CONTENT.bytes()
    assert (await read(cache, source)).content == CONTENT.bytes()
    assert site.origin.count() == 0


@pytest.mark.asyncio
async def test_an_expired_url_is_remembered_as_renewed(
    site: Site, read: Any, open_cache: OpenCache
) -> None:
    """When its stream is made anew, the newest URL is asked first."""
    site.lasts = LENGTH * 10
    cache = await open_cache()
    expired, _ = site.issue(), site.issue()
    cache.get_cache_url(expired, key=KEY, refresh=site.refresh)
    await read(cache, expired, 0, 1000)
    assert len(site.asked) == 1
    stream = cache.create_stream(expired)
    await stream.dispose(force=True)
    assert (await read(cache, expired)).content == CONTENT.bytes()
    assert len(site.asked) == 1


@pytest.mark.asyncio
async def test_asking_without_content_renews_too(
    site: Site, http: Any, open_cache: OpenCache
) -> None:
    """HEAD and validation are answered for a URL that has expired."""
    site.lasts = LENGTH * 10
    cache = await open_cache()
    expired, _ = site.issue(), site.issue()
    stream = cache.create_stream(expired, refresh=site.refresh)
    got = await http(cache, expired, method="HEAD")
    assert (got.status, got.fields.get("content-length")) == (200, str(LENGTH))
    await stream.download()
    site.issue()
    assert await stream.validate_cache(force=True) is True
    assert len(site.asked) == 2
    stream.release()


@pytest.mark.asyncio
async def test_a_program_that_cannot_renew_leaves_the_refusal(
    site: Site, read: Any, open_cache: OpenCache, caplog: pytest.LogCaptureFixture
) -> None:
    """An error of its function is logged, and the client gets the origin's answer."""

    def fails(source: str, status: int) -> str:
        raise LookupError("this video was deleted")

    cache = await open_cache()
    expired, _ = site.issue(), site.issue()
    cache.get_cache_url(expired, refresh=fails)
    with caplog.at_level(logging.WARNING, "cachestream"):
        got = await read(cache, expired)
    assert got.status == 403
    assert "this video was deleted" in caplog.text
    if got.error is not None:
        assert isinstance(got.error, UpstreamStatusError)
        assert isinstance(got.error.__cause__, LookupError)


@pytest.mark.asyncio
async def test_a_site_that_refuses_its_own_urls_is_not_asked_for_ever(
    site: Site, read: Any, open_cache: OpenCache
) -> None:
    """After a few new URLs that are refused too, the refusal stands."""
    site.lasts = 0
    cache = await open_cache()
    source = site.issue()
    cache.get_cache_url(source, refresh=site.refresh)
    assert (await read(cache, source)).status == 403
    assert len(site.asked) == 3


@pytest.mark.asyncio
async def test_a_cache_closes_while_a_function_still_blocks(
    site: Site, open_cache: OpenCache
) -> None:
    """Nobody waits for a thread that may never come back."""
    go_on, begun = threading.Event(), threading.Event()

    def blocks(source: str, status: int) -> None:
        begun.set()
        go_on.wait(60)

    cache = await open_cache()
    expired, _ = site.issue(), site.issue()
    stream = cache.create_stream(expired, refresh=blocks)
    waiting = asyncio.ensure_future(stream.download())
    try:
        assert await asyncio.to_thread(begun.wait, 45)
        await cache.aclose()
        await asyncio.wait([waiting])
        assert waiting.exception() is not None
        assert not go_on.is_set()
    finally:
        go_on.set()


@pytest.mark.asyncio
async def test_a_source_in_use_keeps_its_key(site: Site, open_cache: OpenCache) -> None:
    """A key that comes too late is refused, instead of one source being two resources."""
    cache = await open_cache()
    source = site.issue()
    stream = cache.create_stream(source)
    with pytest.raises(ConfigurationError, match="already in use under another key"):
        cache.create_stream(source, key=KEY)
    assert cache.create_stream(source, key=stream.key) is stream
    await stream.dispose(force=True)
    assert cache.create_stream(source, key=KEY).key == KEY


@pytest.mark.asyncio
@pytest.mark.parametrize("key", ["", 3])
async def test_an_impossible_key_is_refused(key: Any, site: Site, open_cache: OpenCache) -> None:
    """Every method that takes a key says so."""
    cache = await open_cache()
    source = site.issue()
    for call in (cache.get_cache_url, cache.create_stream):
        with pytest.raises(ConfigurationError, match="a key is text"):
            call(source, key=key)
    for wait in (cache.pre_cache_url, cache.open_file):
        with pytest.raises(ConfigurationError, match="a key is text"):
            await wait(source, key=key)
    assert site.origin.count() == 0
