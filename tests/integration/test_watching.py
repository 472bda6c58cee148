"""A running cache as those see it who watch it: metrics, health, and logs without secrets."""

from __future__ import annotations

import asyncio
import io
import json
import logging
import re
import resource
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from prometheus_client.parser import text_string_to_metric_families

from cachestream import CacheManager
from cachestream.backends import DiskStore, MemoryStore
from cachestream.cli._logs import TextFormatter, json_formatter
from cachestream.core.urls import local_path
from cachestream.errors import CacheStreamError
from cachestream.events import DownloadStarted, Event
from cachestream.registry import Registry
from cachestream.testing._raw_client import RawClient
from cachestream.testing.origin import pattern

pytestmark = pytest.mark.asyncio

MIB = 1 << 20
LENGTH = 4 * MIB
FILM = pattern("film", LENGTH)
PATIENCE_S = 45.0

Values = dict[tuple[str, ...], float]


async def ask(base: str, target: str, *fields: tuple[str, str]) -> tuple[int, bytes]:
    """Ask for a target; returns status and content as far as it came."""
    async with RawClient(base) as client, asyncio.timeout(PATIENCE_S):
        got = await client.ask(target, *fields, host=urlsplit(base).netloc)
        return got.status, got.content


async def scrape(cache: CacheManager) -> Values:
    """Scrape as Prometheus does; values by name and labels."""
    assert cache.admin_url is not None
    status, content = await ask(cache.admin_url, "/-/metrics")
    assert status == 200
    return values_of(content)


def values_of(page: bytes) -> Values:
    """Read a page of metrics."""
    return {
        (sample.name, *sample.labels.values()): sample.value
        for family in text_string_to_metric_families(page.decode())
        for sample in family.samples
    }


def outcomes(values: Values) -> dict[str, float]:
    """Return the requests by outcome, those that there were."""
    found = {key[1]: v for key, v in values.items() if key[0] == "cachestream_requests_total"}
    return {outcome: count for outcome, count in found.items() if count}


# -- metrics --------------------------------------------------------------------


async def test_metrics_tell_what_a_misbehaving_origin_did(open_cache, origin, http) -> None:
    """Each request has one outcome, and what was stored, fetched and failed adds up."""
    cache = await open_cache(admin_port=0, error_ttl=0)
    origin.add("/film.bin", FILM)
    origin.add("/cut.bin", pattern("cut", LENGTH)).drop(60_000, times=2)
    origin.add("/broken.bin", pattern("broken", 10)).fail(404)
    film, cut = origin.url("/film.bin"), origin.url("/cut.bin")

    assert (await http(cache, film, 0, MIB)).status == 206  # miss
    assert (await http(cache, film, 0, 2 * MIB)).status == 206  # partial
    assert (await http(cache, film, 0, MIB)).status == 206  # hit
    assert (await http(cache, film, 10, 20, method="HEAD")).status == 200  # hit
    assert (await http(cache, cut)).content == pattern("cut", LENGTH).bytes()  # miss
    assert (await http(cache, origin.url("/broken.bin"))).status == 404  # refused
    assert (await http(cache, film, LENGTH + 1, LENGTH + 2)).status == 416  # refused
    base = cache.base_url
    assert base is not None
    assert (await ask(base, "/favicon.ico"))[0] == 404  # denied

    found = await scrape(cache)
    assert outcomes(found) == {"hit": 2, "miss": 2, "partial": 1, "refused": 2, "denied": 1}
    assert sum(outcomes(found).values()) == cache.statistics().requests
    assert found["cachestream_read_bytes_total",] == 4 * MIB + LENGTH
    assert found["cachestream_origin_received_bytes_total",] == 2 * MIB + LENGTH
    assert found["cachestream_origin_requests_total",] == origin.count()
    assert found["cachestream_origin_failures_total",] >= 2
    assert found["cachestream_completed_resources_total",] == 1
    assert found["cachestream_store_entries",] == 2
    assert found["cachestream_store_allocated_bytes",] == 2 * MIB + LENGTH
    assert found["cachestream_live_resources",] == 3
    # Who waited has been measured: both misses, but nobody whose first byte was there.
    assert found["cachestream_request_wait_seconds_count", "miss"] == 2
    assert found["cachestream_request_wait_seconds_count", "partial"] == 0
    assert found["cachestream_request_wait_seconds_count", "hit"] == 0


async def test_metrics_tell_what_is_going_on(open_cache, origin, eventually) -> None:
    """A client that waits, its reader and its download are there while they are."""
    cache = await open_cache(admin_port=0)
    origin.add("/slow.bin", FILM).stall(1000)
    base = urlsplit(cache.get_cache_url(origin.url("/slow.bin")))
    async with RawClient(f"http://{base.netloc}") as client:
        await client.send(f"GET {base.path} HTTP/1.1\r\nHost: {base.netloc}\r\n\r\n".encode())
        await client.arriving()
        await eventually(lambda: cache.statistics().waiting_readers)
        found = await scrape(cache)
        for name in ("open_readers", "waiting_readers", "running_downloads", "live_resources"):
            assert found[f"cachestream_{name}",] == 1, name
        assert found["cachestream_running_tasks",] >= 1
    await eventually(lambda: not cache.statistics().open_readers)
    found = await scrape(cache)
    assert found["cachestream_open_readers",] == found["cachestream_waiting_readers",] == 0


async def test_a_client_that_leaves_before_its_head_is_abandoned(
    open_cache, origin, eventually
) -> None:
    """Nobody was answered, so it is neither a miss nor a failure."""
    cache = await open_cache(admin_port=0)
    origin.add("/never.bin", FILM).stall(0)
    base = urlsplit(cache.get_cache_url(origin.url("/never.bin")))
    async with RawClient(f"http://{base.netloc}") as client:
        await client.send(f"GET {base.path} HTTP/1.1\r\nHost: {base.netloc}\r\n\r\n".encode())
        await eventually(lambda: cache.statistics().requests)
    await eventually(lambda: cache.statistics().abandoned)
    assert outcomes(await scrape(cache)) == {"abandoned": 1}


async def test_evictions_are_counted(open_cache, origin, http) -> None:
    """What gave way is there, by entries and by room, and the limit is."""
    cache = await open_cache(admin_port=0, max_size=3 * MIB, dispose_after=0, pause_after=0)
    for number in range(3):
        origin.add(f"/{number}.bin", pattern(f"{number}", 2 * MIB))
        assert (await http(cache, origin.url(f"/{number}.bin"))).complete
        stream = cache.get_existing_stream(origin.url(f"/{number}.bin"))
        if stream is not None:
            await stream.dispose(force=True)
    found = await scrape(cache)
    assert found["cachestream_store_limit_bytes",] == 3 * MIB
    assert found["cachestream_store_evictions_total",] == 2
    assert found["cachestream_store_evicted_bytes_total",] == 4 * MIB
    assert found["cachestream_store_allocated_bytes",] == 2 * MIB


async def test_each_manager_has_a_page_of_its_own(open_cache, origin, http, tmp_path) -> None:
    """Two in one process count apart."""
    origin.add("/film.bin", FILM)
    first = await open_cache(admin_port=0)
    second = await open_cache(admin_port=0, cache_dir=tmp_path / "other")
    await http(first, origin.url("/film.bin"))
    assert outcomes(await scrape(first)) == {"miss": 1}
    assert outcomes(await scrape(second)) == {}


# -- two ports ------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/-/healthz", "/-/readyz", "/-/metrics", "/-/", "/-"])
async def test_the_port_of_local_urls_knows_no_admin_path(open_cache, path: str) -> None:
    """Whoever gets local URLs, a browser for example, gets nothing of the rest."""
    cache = await open_cache(admin_port=0)
    status, content = await ask(cache.base_url, path)
    assert status == 404
    assert b"alive" not in content
    assert b"cachestream_requests" not in content


async def test_the_admin_port_never_answers_cached_content(open_cache, origin, http) -> None:
    """A local URL with the other port names nothing, held or not."""
    cache = await open_cache(admin_port=0)
    origin.add("/film.bin", FILM)
    source = origin.url("/film.bin")
    assert (await http(cache, source)).complete
    asked = origin.count()
    for target in (local_path(source), source, "/-/" + source, "/-/metrics" + local_path(source)):
        status, content = await ask(cache.admin_url, target)
        assert status in {404, 421}, target
        assert len(content) < 100
    assert origin.count() == asked


async def test_there_is_no_admin_port_unless_one_is_named(open_cache) -> None:
    """By default nothing more listens."""
    cache = await open_cache()
    assert cache.admin_url is None


async def test_nothing_of_the_admin_port_is_left(open_cache) -> None:
    """Closing the manager closes it, with the connections that are kept alive on it."""
    cache = await open_cache(admin_port=0)
    place = urlsplit(cache.admin_url)
    async with RawClient(cache.admin_url) as client:
        assert (await client.ask("/-/healthz", host=place.netloc)).status == 200
        await cache.aclose()
        assert await client.ended()
    with pytest.raises(OSError, match=r"refused|Connect call failed"):
        await asyncio.open_connection(place.hostname, place.port)


async def test_a_taken_admin_port_ends_the_start(open_cache) -> None:
    """The error names the port; the store is not left open."""
    first = await open_cache(admin_port=0)
    port = urlsplit(first.admin_url).port
    with pytest.raises(CacheStreamError, match=str(port)):
        await open_cache(admin_port=port)


# -- health, from the outside ----------------------------------------------------


async def admin_of(tmp_path: Path, eventually: Any) -> str:
    """Return the URL that a running ``serve`` tells on stderr."""
    log = tmp_path / "serve.log"

    def told() -> re.Match[str] | None:
        return re.search(r"health and metrics at (http://\S+)/-/metrics\n", log.read_text())

    await eventually(told)
    found = told()
    assert found is not None
    return found[1]


async def readiness(admin: str) -> tuple[int, dict[str, str]]:
    """Ask as an orchestrator does; returns the status and the reasons by part."""
    status, content = await ask(admin, "/-/readyz")
    said = json.loads(content)
    assert said["ready"] == (status == 200)
    return status, {each["part"]: each["reason"] for each in said["reasons"]}


async def test_serve_is_watched_through_a_port_of_its_own(serve, tmp_path, eventually) -> None:
    """``--admin-port`` opens it, and says where it is; health and metrics answer there."""
    server = serve("--admin-port", "0")
    admin = await admin_of(tmp_path, eventually)
    assert urlsplit(admin).port != urlsplit(server.base).port
    assert (await ask(admin, "/-/healthz"))[0] == 200
    assert await readiness(admin) == (200, {})
    status, page = await ask(admin, "/-/metrics")
    assert status == 200
    assert values_of(page)["cachestream_store_up",] == 1
    assert server.end() == 0


@pytest.mark.skipif(not hasattr(resource, "prlimit"), reason="limits of others are Linux's")
async def test_a_place_that_cannot_be_written_is_not_ready(serve, tmp_path, eventually) -> None:
    """No file may grow, as on a full disk: 503 with the reason; then 200 again."""
    server = serve("--admin-port", "0", "--min-free", "0")
    admin = await admin_of(tmp_path, eventually)
    assert await readiness(admin) == (200, {})
    pid = server.process.pid
    _, hard = resource.prlimit(pid, resource.RLIMIT_FSIZE)
    resource.prlimit(pid, resource.RLIMIT_FSIZE, (0, hard))

    async def until(wanted: int) -> dict[str, str]:
        async with asyncio.timeout(PATIENCE_S):
            while True:
                status, reasons = await readiness(admin)
                if status == wanted:
                    return reasons
                await asyncio.sleep(0.05)

    try:
        assert list(await until(503)) == ["store"]
        assert (await ask(admin, "/-/healthz"))[0] == 200
    finally:
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (hard, hard))
    assert await until(200) == {}
    assert server.end() == 0


async def test_health_answers_while_a_store_is_being_opened(tmp_path) -> None:
    """An orchestrator does not kill what is checking its store; it waits until that is ready."""
    opening, go_on = asyncio.Event(), asyncio.Event()

    class Slow(MemoryStore):
        async def __aenter__(self) -> Any:
            opening.set()
            await go_on.wait()
            return await super().__aenter__()

    class Slowly(Registry):
        def get(self, kind: Any, name: str) -> Any:
            return Slow if (kind, name) == ("store", "slow") else super().get(kind, name)

    cache = CacheManager(
        store="slow", registry=Slowly(), admin_port=0, cache_dir=tmp_path, start_server=False
    )
    starting = asyncio.create_task(cache.start())
    async with asyncio.timeout(PATIENCE_S):
        await opening.wait()
        assert cache.admin_url is not None
        assert (await ask(cache.admin_url, "/-/healthz"))[0] == 200
        assert (await readiness(cache.admin_url))[0] == 503
        assert (await ask(cache.admin_url, "/-/metrics"))[0] == 200
        go_on.set()
        await starting
        assert await readiness(cache.admin_url) == (200, {})
        await cache.aclose()


async def test_a_store_that_its_owner_closed_is_not_ready(tmp_path) -> None:
    """503 says so, and health stays 200."""
    store = DiskStore(tmp_path)
    async with CacheManager(store=store, admin_port=0, start_server=False) as cache:
        await store.aclose()
        assert cache.admin_url is not None
        assert await readiness(cache.admin_url) == (503, {"store": "this store is closed"})
        assert (await scrape(cache))["cachestream_store_up",] == 0


# -- secrets --------------------------------------------------------------------


@pytest.fixture
def log() -> Iterator[io.StringIO]:
    """Catch all that is logged at all levels, as text and as JSON."""
    caught = io.StringIO()
    root, logger = logging.getLogger(), logging.getLogger("cachestream")
    handlers = []
    for formatter in (TextFormatter("%(levelname)s %(name)s: %(message)s"), json_formatter()):
        handler = logging.StreamHandler(caught)
        handler.setFormatter(formatter)
        handlers.append(handler)
        root.addHandler(handler)
    level = logger.level
    logger.setLevel(logging.DEBUG)
    yield caught
    logger.setLevel(level)
    for handler in handlers:
        root.removeHandler(handler)


async def test_no_secret_is_ever_seen(open_cache, origin, log, tmp_path, eventually) -> None:
    """Token, credentials and signatures are in no log, no metric, no answer of health.

    Everything that can go wrong does: refusals, drops, a changed version, a client that
    leaves, wrong tokens, bad URLs, a listener with a bug, and a store that fails.
    """
    token, field, signature, user = (f"canary-{each}" for each in ("tok", "field", "sig", "user"))

    def bug(event: Event) -> None:
        if isinstance(event, DownloadStarted):
            raise RuntimeError(f"cannot tell https://{user}:{user}@h.example/?k={signature}")

    store = DiskStore(tmp_path / "mine")
    cache = await open_cache(
        admin_port=0,
        token=token,
        request_headers={"Authorization": f"Bearer {field}", "Cookie": field},
        proxy=None,
        store=store,
        listeners=[bug],
        error_ttl=0,
        read_timeout=5.0,
    )
    film = origin.add("/film.bin", FILM)
    origin.add("/cut.bin", pattern("cut", LENGTH)).drop(60_000, times=2, reset=True)
    origin.add("/gone.bin", pattern("gone", 10)).fail(403)
    origin.add("/down.bin", pattern("down", 10)).fail(501)
    base, admin = cache.base_url, cache.admin_url
    query = f"?X-Amz-Signature={signature}&{signature}"

    def local(path: str) -> str:
        return local_path(origin.url(path) + query, token=token)

    for path in ("/film.bin", "/film.bin", "/cut.bin", "/gone.bin", "/down.bin", "/none.bin"):
        await ask(base, local(path), ("Range", "bytes=0-99999"), ("Cookie", field))
    film.change(pattern("other", LENGTH), etag='"v2"')
    await ask(base, local("/film.bin"), ("Range", f"bytes={2 * MIB}-"))
    await ask(base, local_path(origin.url("/film.bin"), token=f"{token}x"))
    await ask(base, f"/~{token}/{user}:{user}@h.example/v?{signature}")
    await ask(base, f"/~{token}/http/127.0.0.1:1/v{query}", ("Authorization", f"Bearer {field}"))
    with pytest.raises(CacheStreamError) as refused:
        cache.create_stream(f"https://{user}:{user}@h.example/v{query}")
    assert user not in str(refused.value)
    origin.add("/slow.bin", FILM).stall(0)
    place = urlsplit(base)
    async with RawClient(base) as client:
        await client.send(
            f"GET {local('/slow.bin')} HTTP/1.1\r\nHost: {place.netloc}\r\n\r\n".encode()
        )
        await origin.wait_request(1, "/slow.bin", PATIENCE_S)
    await eventually(lambda: cache.statistics().abandoned)
    await store.aclose()
    await ask(base, local("/fresh.bin"))

    seen = [(await ask(admin, "/-/readyz", ("Authorization", f"Bearer {token}")))[1].decode()]
    for accept in ("", "application/openmetrics-text"):
        fields = (("Authorization", f"Bearer {token}"), ("Accept", accept))
        status, page = await ask(admin, "/-/metrics", *fields)
        assert status == 200
        seen.append(page.decode())
    seen.append((await ask(admin, "/-/metrics", ("Authorization", "Bearer no")))[1].decode())
    inspector = cache.inspector
    assert inspector.failures()
    seen += map(repr, (inspector.resources(), inspector.failures(), inspector.settings()))
    await cache.aclose()
    seen.append(log.getvalue())
    assert "cachestream.access" in seen[-1]
    assert "a listener failed" in seen[-1]
    for text in seen:
        for secret in (token, field, signature, user):
            assert secret not in text, next(line for line in text.splitlines() if secret in line)
