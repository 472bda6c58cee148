"""Weaknesses of http_cache_stream that cachestream must not have, one number each.

The numbers are those of the list of its flaws; each test would fail there.
"""

from __future__ import annotations

import asyncio
import logging
import re
import sqlite3
from urllib.parse import urljoin, urlsplit

import aiohttp
import pytest

from cachestream.errors import (
    ConfigurationError,
    ConnectError,
    NotStoredError,
    TransportError,
    UpstreamStatusError,
)
from cachestream.testing._raw_client import RawClient
from cachestream.testing.origin import Origin, pattern

MIB = 1 << 20
KIB = 1 << 10
PATIENCE_S = 45.0
LENGTH = 300_000
DATA = pattern("old", LENGTH).bytes()
FRESH = pattern("new", LENGTH).bytes()

pytestmark = pytest.mark.asyncio


async def hold_a_part(open_cache, source, size=100_000):
    """Leave the first bytes of a source in the cache of a program that has ended."""
    cache = await open_cache()
    await cache.pre_cache_url(source, bytes=size)
    await cache.aclose()


async def read_all(cache, source) -> bytes:
    """Read a source through the program's face."""
    async with cache.open(source) as file:
        return await file.read()


# -- 1: the status of a resume is not looked at; the partial download is deleted -----------


@pytest.mark.parametrize("status", [401, 403, 404, 410, 416, 429, 500, 503])
async def test_weakness_01_a_refused_resume_deletes_nothing(open_cache, origin, status):
    """After any error status the part is still there, and only the rest is fetched later."""
    served = origin.add("/a.bin", DATA)
    source = origin.url("/a.bin")
    await hold_a_part(open_cache, source)
    cache = await open_cache(error_ttl=0, request_timeout=0.5)
    served.fail(status, body=b"no")
    with pytest.raises(TransportError) as caught:
        await read_all(cache, source)
    if isinstance(caught.value, UpstreamStatusError):  # else the reader's patience ended first
        assert caught.value.status == status
    assert (await cache.get_cache_record(source)).stored_bytes == 100_000
    await cache.aclose()
    cache = await open_cache()  # a busy machine may need more than that little patience
    served.fail(status, times=0)
    origin.reset_log()
    assert await read_all(cache, source) == DATA
    # After a 416 all may be asked for: the origin has said that it knows no such part.
    most = LENGTH if status == 416 else LENGTH - 100_000
    assert LENGTH - 100_000 <= origin.bytes_sent() <= most


async def test_weakness_01_a_resume_that_gets_everything_deletes_nothing(open_cache, origin):
    """A plain 200 of the same version is no change: what is held stays and is not written anew."""
    served = origin.add("/a.bin", DATA)
    source = origin.url("/a.bin")
    await hold_a_part(open_cache, source)
    served.range_answer = "full"
    cache = await open_cache()
    async with await cache.create_stream(source).request() as response:
        served.drop(after=50_000, times=1)
        assert await response.read() == DATA
    assert (await cache.verify(source))[0][1] == ()


@pytest.mark.parametrize("status", [408, 429, 500, 503])
async def test_weakness_01_a_refused_retry_deletes_nothing(open_cache, origin, http, status):
    """An error in mid-download costs a pause, not the download."""
    served = origin.add("/a.bin", DATA)
    served.drop(after=100_000, times=1)
    refusals = iter([{"status": status, "status_times": None}] * 2)
    served.plan = lambda request: next(refusals, None) if origin.count() > 1 else None
    cache = await open_cache()
    got = await http(cache, origin.url("/a.bin"))
    assert (got.content, got.complete) == (DATA, True)
    good = [each for each in origin.requests if each.status == 206]
    assert good[1].range == f"bytes=100000-{LENGTH - 1}"


async def test_weakness_01_a_416_to_a_retry_deletes_nothing(open_cache, origin, http):
    """An origin that rejects the rest of a file is asked for all of it, and that fits."""
    served = origin.add("/a.bin", DATA)
    source = origin.url("/a.bin")
    await hold_a_part(open_cache, source)
    served.plan = lambda request: {"range_answer": "416"} if request.range else None
    cache = await open_cache()
    got = await http(cache, source)
    assert (got.content, got.complete) == (DATA, True)


# -- 2: different URLs meet in one file ----------------------------------------------------


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("/v.bin?id=1", "/v.bin?id=2"),
        ("/v.bin", "/v.bin?id"),
        ("/v.bin", "/V.bin"),
        ("/a b.bin".replace(" ", "%20"), "/a_b.bin"),
        ("/a%2Fb.bin", "/a/b.bin"),
        ("/v", "/v.part"),
        ("/v", "/v.metadata"),
        ("/v", "/v/file.cache"),
        ("/", "/v.bin"),
        ("/" + "x" * 300, "/" + "x" * 299 + "y"),
    ],
)  # fmt: skip
async def test_weakness_02_two_urls_never_share_bytes(open_cache, origin, one, other):
    """Each URL keeps its own bytes, also after a restart, whatever their names look like."""
    origin.add(one, DATA)
    origin.add(other, FRESH, etag='"other"')
    wanted = {origin.url(one): DATA, origin.url(other): FRESH}
    for _ in range(2):
        cache = await open_cache()
        for source, content in wanted.items():
            assert await read_all(cache, source) == content
        await cache.aclose()
    assert origin.count() == 2


async def test_weakness_02_ports_and_hosts_are_told_apart(open_cache, origin):
    """The same path at another port or under another name is another resource."""
    async with Origin() as neighbour:
        origin.add("/v.bin", DATA)
        neighbour.add("/v.bin", FRESH)
        cache = await open_cache()
        assert await read_all(cache, origin.url("/v.bin")) == DATA
        assert await read_all(cache, neighbour.url("/v.bin")) == FRESH
        renamed = origin.url("/v.bin").replace("127.0.0.1", "localhost")
        assert await read_all(cache, renamed) == DATA
        assert (await cache.usage()).entries == 3


# -- 3: only a prefix is cached; a seek waits or is thrown away ------------------------------


async def test_weakness_03_a_seek_is_served_at_once_and_kept(open_cache, origin, http):
    """A seek gets a connection of its own while the start is stalled, and is fetched once."""
    film = pattern("film", 20 * MIB)
    served = origin.add("/film.bin", film)
    source = origin.url("/film.bin")
    served.plan = lambda request: {"stall_after": 100_000} if origin.count() == 1 else None
    cache = await open_cache()
    stream = cache.create_stream(source)
    start = asyncio.create_task(http(cache, source, 0, 1 * MIB))
    await origin.wait_request(1)
    for _ in range(2):
        got = await http(cache, source, 18 * MIB, 18 * MIB + 1000)
        assert (got.status, got.content) == (206, film.bytes(18 * MIB, 18 * MIB + 1000))
    assert origin.count() == 2
    assert not start.done()
    await stream.dispose(force=True)
    await start


async def test_weakness_03_a_download_fills_only_the_holes(open_cache, origin):
    """What seeks have brought is not fetched again when all is wanted."""
    film = pattern("film", 8 * MIB)
    origin.add("/film.bin", film)
    source = origin.url("/film.bin")
    cache = await open_cache()
    stream = cache.create_stream(source)
    for start in (5 * MIB, 2 * MIB):
        async with await stream.request(start, start + 1000) as response:
            assert await response.read() == film.bytes(start, start + 1000)
    file = await stream.download()
    assert file.read_bytes() == film.bytes()
    assert origin.bytes_sent() == 8 * MIB


# -- 4: no limit, no index -----------------------------------------------------------------


async def test_weakness_04_the_size_is_limited_and_the_oldest_go(open_cache, origin):
    """Usage stays within the limit, and what was used last is what is still there."""
    cache = await open_cache(max_size=5 * MIB, pause_after=0, dispose_after=0)
    sources = []
    for number in range(4):
        origin.add(f"/{number}.bin", pattern(number, 2 * MIB))
        sources.append(origin.url(f"/{number}.bin"))
        await cache.pre_cache_url(sources[-1])
        await cache.get_existing_stream(sources[-1]).dispose(force=True)
        assert (await cache.usage()).allocated_bytes <= 5 * MIB
    assert (await cache.usage()).limit_bytes == 5 * MIB
    newest = await cache.get_cache_record(sources[-1])
    assert newest.complete
    assert await cache.get_cache_record(sources[0]) is None


async def test_weakness_04_listing_is_paged_and_knows_sizes_and_times(open_cache, origin):
    """Records come from an index, page by page, with what a program needs to decide."""
    cache = await open_cache()
    for number in range(5):
        origin.add(f"/{number}.bin", DATA)
        await cache.pre_cache_url(origin.url(f"/{number}.bin"))
    seen, after = [], None
    while page := await cache.cache_records(limit=2, after=after):
        assert len(page) <= 2
        seen += page
        after = page[-1].entry_id
    assert len({record.entry_id for record in seen}) == 5
    assert all(record.stored_bytes == LENGTH <= record.allocated_bytes for record in seen)
    assert all(0 < record.created <= record.accessed for record in seen)


# -- 5: permanent errors are retried for ever, and hidden -------------------------------------


@pytest.mark.parametrize("status", [401, 403, 404, 410, 451])
async def test_weakness_05_a_permanent_error_ends_it(open_cache, origin, http, status):
    """Pre-caching returns with the error, and a client sees the origin's own status."""
    served = origin.add("/a.bin", DATA)
    served.fail(status, body=b"gone")
    cache = await open_cache(error_ttl=60)
    async with asyncio.timeout(PATIENCE_S):
        with pytest.raises(UpstreamStatusError) as caught:
            await cache.pre_cache_url(origin.url("/a.bin"))
    assert caught.value.status == status
    got = await http(cache, origin.url("/a.bin"))
    assert (got.status, got.content) == (status, b"gone")
    assert origin.count() == 1


async def test_weakness_05_a_lasting_error_ends_it_too(open_cache, origin):
    """Even what might pass is given up after some tries, with the last status."""
    origin.add("/a.bin", DATA).fail(503)
    cache = await open_cache()
    with pytest.raises(UpstreamStatusError) as caught:
        await cache.pre_cache_url(origin.url("/a.bin"))
    assert caught.value.status == 503
    assert 1 < origin.count() < 10


# -- 6: one dropped connection of the origin cuts all clients -----------------------------------


@pytest.mark.parametrize("reset", [False, True])
async def test_weakness_06_a_drop_is_invisible_to_all_clients(open_cache, origin, http, reset):
    """Every client gets its whole answer; the download resumes at the first missing byte."""
    served = origin.add("/a.bin", DATA)
    served.drop(after=60_000, times=3, reset=reset)
    cache = await open_cache()
    source = origin.url("/a.bin")
    wanted = [(0, None), (0, None), (1000, None), (0, 200_000), (LENGTH - 5, None)]
    answers = await asyncio.gather(*(http(cache, source, *span) for span in wanted))
    for (start, stop), got in zip(wanted, answers, strict=True):
        assert got.complete
        assert got.content == DATA[start:stop]
    assert cache.statistics().origin_failures >= 3


# -- 7: a slow or paused client is cut ---------------------------------------------------------


async def test_weakness_07_a_paused_client_is_not_cut(open_cache, origin, eventually):
    """A client that reads nothing while all is downloaded, and longer, gets the rest in time."""
    size = 12 * MIB
    film = pattern("film", size)
    origin.add("/film.bin", film)
    source = origin.url("/film.bin")
    cache = await open_cache(
        completion="complete", max_buffer_size=1 * MIB, read_timeout=0.3, request_timeout=0.3
    )
    url = urlsplit(cache.get_cache_url(source))
    stream = cache.create_stream(source)
    async with RawClient(cache.base_url, receive_buffer=4096) as client:
        request = f"GET {url.path} HTTP/1.1\r\nHost: {url.netloc}\r\n\r\n"
        await client.send(request.encode())
        begun = await client.some(1000)
        await stream.download()
        loop = asyncio.get_running_loop()
        paused_at = loop.time()
        await eventually(lambda: loop.time() > paused_at + 1.0)
        assert cache.statistics().open_readers == 1
        head, _, content = begun.partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200 ")
        got = bytearray(content)
        while len(got) < size:
            piece = await client.some()
            assert piece
            got += piece
    assert got == film.bytes()
    assert origin.bytes_sent() == size


async def test_weakness_07_a_slow_client_does_not_slow_others(open_cache, origin, http):
    """One client that reads nothing changes nothing for one that reads."""
    film = pattern("film", 8 * MIB)
    origin.add("/film.bin", film)
    source = origin.url("/film.bin")
    cache = await open_cache(max_buffer_size=1 * MIB)
    url = urlsplit(cache.get_cache_url(source))
    async with RawClient(cache.base_url, receive_buffer=4096) as client:
        await client.send(f"GET {url.path} HTTP/1.1\r\nHost: {url.netloc}\r\n\r\n".encode())
        assert await client.some(100)
        got = await http(cache, source)
    assert (got.content == film.bytes(), got.complete) == (True, True)


# -- 8: a failing validation makes what is held unusable ------------------------------------------


@pytest.mark.parametrize("validation", ["stale", "always"])
@pytest.mark.parametrize("mischief", ["down", 500, 403])
async def test_weakness_08_a_failing_check_still_serves(
    open_cache, origin, http, validation, mischief
):
    """With the origin away or refusing, a complete file is served, live or after a restart."""
    served = origin.add("/a.bin", DATA)
    source = origin.url("/a.bin")
    cache = await open_cache(validation=validation, connect_timeout=5)
    await cache.pre_cache_url(source)
    if mischief == "down":
        await origin.down()
    else:
        served.fail(mischief)
    for _ in range(2):
        got = await http(cache, source)
        assert (got.status, got.content) == (200, DATA)
        await cache.aclose()
        cache = await open_cache(validation=validation, connect_timeout=5)


async def test_weakness_08_offline_never_asks(open_cache, origin, http):
    """Offline, what is held is served without a check, and what is not is a clear error."""
    origin.add("/a.bin", DATA)
    source = origin.url("/a.bin")
    await hold_a_part(open_cache, source, LENGTH)
    origin.reset_log()
    cache = await open_cache(offline=True, validation="always")
    assert (await http(cache, source)).content == DATA
    with pytest.raises(NotStoredError):
        await read_all(cache, origin.url("/b.bin"))
    assert origin.count() == 0


# -- 9: no If-Range, no conditional request, no check of long-lived streams ---------------------


async def test_weakness_09_a_resume_is_conditional(open_cache, origin):
    """Later ranges carry If-Range, so that a change is noticed before a byte is used."""
    origin.add("/a.bin", DATA)
    source = origin.url("/a.bin")
    await hold_a_part(open_cache, source)
    cache = await open_cache()
    assert await read_all(cache, source) == DATA
    assert [each.fields.get("if-range") for each in origin.requests] == [None, '"v1"']


async def test_weakness_09_a_check_is_conditional(open_cache, origin, http):
    """An unchanged file is confirmed by a 304 without content."""
    origin.add("/a.bin", DATA)
    source = origin.url("/a.bin")
    cache = await open_cache(validation="always")
    await cache.pre_cache_url(source)
    origin.reset_log()
    assert (await http(cache, source)).content == DATA
    assert [(each.status, each.bytes_sent) for each in origin.requests] == [(304, 0)]
    assert origin.requests[0].fields.get("if-none-match") == '"v1"'


async def test_weakness_09_a_long_lived_stream_is_checked(open_cache, origin, http):
    """A stream that a program keeps for days shows a new version to the next client."""
    served = origin.add("/a.bin", DATA)
    source = origin.url("/a.bin")
    cache = await open_cache(validation="always")
    stream = cache.create_stream(source)
    await stream.download()
    served.change(FRESH, etag='"v2"')
    got = await http(cache, source)
    assert (got.status, got.content) == (200, FRESH)
    assert cache.get_existing_stream(source) is stream


# -- 10: a seek may bring bytes of another version --------------------------------------------


async def test_weakness_10_a_seek_never_mixes_versions(open_cache, origin):
    """A file that changed between two ranges is never put together from both."""
    served = origin.add("/film.bin", pattern("one", 4 * MIB))
    source = origin.url("/film.bin")
    cache = await open_cache()
    stream = cache.create_stream(source)
    async with await stream.request(0, 1000) as response:
        await response.read()
    served.change(pattern("two", 4 * MIB), etag='"v2"')
    async with await stream.request(3 * MIB, 3 * MIB + 1000) as response:
        assert await response.read() == pattern("two", 4 * MIB).bytes(3 * MIB, 3 * MIB + 1000)
    file = await stream.download()
    assert file.read_bytes() == pattern("two", 4 * MIB).bytes()


# -- 11: what HTTP wants of a server ----------------------------------------------------------


async def test_weakness_11_one_connection_speaks_http(open_cache, origin):
    """Suffix, clamped and unknown ranges, conditions and keep-alive, on one connection."""
    origin.add("/a.bin", DATA)
    origin.add("/live.bin", DATA, framing="chunked", ranges=False)
    cache = await open_cache()
    url = urlsplit(cache.get_cache_url(origin.url("/a.bin")))
    live = urlsplit(cache.get_cache_url(origin.url("/live.bin")))
    async with RawClient(cache.base_url) as client:

        async def ask(target, *fields):
            return await client.ask(target, *fields, host=url.netloc)

        suffix = await ask(url.path, ("Range", "bytes=-10"))
        assert (suffix.status, suffix.content) == (206, DATA[-10:])
        clamped = await ask(url.path, ("Range", f"bytes=5-{LENGTH * 2}"))
        assert (clamped.status, clamped.content) == (206, DATA[5:])
        past = await ask(url.path, ("Range", f"bytes={LENGTH}-"))
        assert (past.status, past.fields.get("content-range")) == (416, f"bytes */{LENGTH}")
        same = await ask(url.path, ("If-None-Match", suffix.fields.get("etag") or ""))
        assert same.status == 304
        unknown = await ask(live.path, ("Range", "bytes=0-"))
        assert unknown.content == DATA
        told = unknown.fields.get("content-range")
        assert told is None or re.fullmatch(r"bytes \d+-\d+/\d+", told)


# -- 12: an open proxy with the program's credentials -------------------------------------------


async def test_weakness_12_no_host_that_nobody_named(open_cache, origin, http):
    """A client cannot have a host of its choice fetched, and no credentials go to one."""
    secrets = {"Authorization": "Bearer secret", "X-Api-Key": "secret"}
    origin.add("/a.bin", DATA)
    async with Origin() as other:
        other.add("/b.bin", DATA)
        cache = await open_cache(allow_hosts=(), request_headers=secrets)
        assert (await http(cache, origin.url("/a.bin"))).status == 200
        url = f"{cache.base_url}/http/{other.authority}/b.bin"
        async with aiohttp.ClientSession() as session, session.get(url) as response:
            assert response.status == 403
        assert other.count() == 0
        await cache.aclose()
        cache = await open_cache(allow_hosts=("any",), request_headers=secrets)
        async with aiohttp.ClientSession() as session:
            url = f"{cache.base_url}/http/{other.authority}/b.bin"
            async with session.get(url) as response:
                assert await response.read() == DATA
        named, chosen = origin.requests[0].fields, other.requests[0].fields
    assert named.get("authorization") == "Bearer secret"
    assert "authorization" not in chosen
    assert "x-api-key" not in chosen


async def test_weakness_12_pages_and_rebound_names_are_refused(open_cache, origin):
    """A web page gets nothing, by its own name for us or by ours."""
    origin.add("/a.bin", DATA)
    cache = await open_cache()
    url = urlsplit(cache.get_cache_url(origin.url("/a.bin")))
    for host, fields, status in (
        ("evil.example", (), 421),
        (url.netloc, (("Origin", "https://evil.example"),), 403),
        (url.netloc, (("Sec-Fetch-Site", "cross-site"), ("Sec-Fetch-Mode", "no-cors")), 403),
        (url.netloc, (), 200),
    ):
        async with RawClient(cache.base_url) as client:
            got = await client.ask(url.path, *fields, host=host)
        assert got.status == status


async def test_weakness_12_cookies_are_never_stored(open_cache, origin, http, tmp_path):
    """Not in an answer, not in the record, and not anywhere on the disk."""
    fields = (("Set-Cookie", "session=c00kie-0f-the-user"), ("X-Other", "kept-0f-course"))
    origin.add("/a.bin", DATA, fields=fields)
    cache = await open_cache(copy_cached_response_headers=True, save_all_headers=True)
    for _ in range(2):
        got = await http(cache, origin.url("/a.bin"))
        assert "set-cookie" not in got.fields
        assert got.fields.get("x-other") == "kept-0f-course"
    await cache.aclose()
    stored = b"".join(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
    assert b"kept-0f-course" in stored
    assert b"c00kie-0f-the-user" not in stored


async def test_weakness_12_a_token_can_lock_the_server(open_cache, origin):
    """With a token other programs of the machine get nothing."""
    origin.add("/a.bin", DATA)
    cache = await open_cache(token="s3cret")
    url = cache.get_cache_url(origin.url("/a.bin"))
    async with aiohttp.ClientSession() as session:
        async with session.get(url) as response:
            assert await response.read() == DATA
        async with session.get(url.replace("/~s3cret", "")) as response:
            assert response.status == 404


# -- 13: HLS and DASH ---------------------------------------------------------------------------


@pytest.mark.parametrize("token", [None, "t0ken"])
async def test_weakness_13_relative_references_stay_in_the_cache(open_cache, origin, token):
    """Segments named relative to a playlist, also above it, are read through the cache."""
    playlist = b"#EXTM3U\n#EXTINF:4,\nseg/1.ts\n#EXTINF:4,\n../common/2.ts\n#EXT-X-ENDLIST\n"
    origin.add("/show/index.m3u8", playlist, content_type=None)
    origin.add("/show/seg/1.ts", DATA, content_type=None)
    origin.add("/common/2.ts", FRESH, content_type=None)
    cache = await open_cache(allow_hosts=(), token=token)
    base = cache.get_cache_url(origin.url("/show/index.m3u8"))
    async with aiohttp.ClientSession() as session:
        async with session.get(base) as response:
            assert response.content_type == "application/vnd.apple.mpegurl"
            lines = (await response.text()).splitlines()
        names = [line for line in lines if line and not line.startswith("#")]
        for name, content in zip(names, (DATA, FRESH), strict=True):
            async with session.get(urljoin(base, name)) as response:
                assert response.content_type == "video/mp2t"
                assert await response.read() == content
    assert [each.path for each in origin.requests] == [
        "/show/index.m3u8",
        "/show/seg/1.ts",
        "/common/2.ts",
    ]


async def test_weakness_13_an_unknown_first_segment_is_a_clean_404(open_cache, origin):
    """What names no source is not there; the connection lives on."""
    origin.add("/a.bin", DATA)
    cache = await open_cache()
    url = urlsplit(cache.get_cache_url(origin.url("/a.bin")))
    async with RawClient(cache.base_url) as client:
        for target in ("/segments/1.ts", "/seg", "/favicon.ico", "/"):
            got = await client.ask(target, host=url.netloc)
            assert (got.status, got.complete) == (404, True)
        assert (await client.ask(url.path, host=url.netloc)).content == DATA


async def test_weakness_13_absolute_local_urls_in_a_playlist_work(open_cache, origin):
    """A program that writes a playlist itself can name every segment by its local URL."""
    cache = await open_cache()
    for number in range(3):
        origin.add(f"/{number}.ts", pattern(number, 1000))
    urls = [cache.get_cache_url(origin.url(f"/{number}.ts")) for number in range(3)]
    async with aiohttp.ClientSession() as session:
        for number, url in enumerate(urls):
            async with session.get(url) as response:
                assert await response.read() == pattern(number, 1000).bytes()


# -- 14: one corrupt record breaks the list ----------------------------------------------------


async def test_weakness_14_a_corrupt_record_spoils_nothing_else(open_cache, origin, tmp_path):
    """A damaged row is a miss; all others are listed and served."""
    cache = await open_cache()
    sources = []
    for number in range(3):
        origin.add(f"/{number}.bin", DATA)
        sources.append(origin.url(f"/{number}.bin"))
        await cache.pre_cache_url(sources[-1])
    broken = (await cache.get_cache_record(sources[1])).entry_id
    await cache.aclose()
    with sqlite3.connect(tmp_path / "cache" / "index" / "cache.db") as index:
        changed = index.execute(
            "UPDATE Cache SET value = ? WHERE key = ?", (b"{garbage", f"e:{broken}")
        )
        assert changed.rowcount == 1
    index.close()
    origin.reset_log()
    cache = await open_cache()
    assert {each.source for each in await cache.cache_records()} == {sources[0], sources[2]}
    for source in sources:
        assert await read_all(cache, source) == DATA
    assert origin.count() == 1
    assert len(await cache.cache_records()) == 3


# -- 15: an empty body and a full disk loop for ever --------------------------------------------


@pytest.mark.parametrize("framing", ["length", "chunked", "close"])
async def test_weakness_15_an_empty_body_completes(open_cache, origin, http, framing):
    """Nothing is a complete download, asked for once."""
    origin.add("/empty.bin", b"", framing=framing, ranges=framing == "length")
    cache = await open_cache()
    async with asyncio.timeout(PATIENCE_S):
        file = await cache.pre_cache_url(origin.url("/empty.bin"))
    assert file.read_bytes() == b""
    assert (await cache.get_cache_record(origin.url("/empty.bin"))).complete
    got = await http(cache, origin.url("/empty.bin"))
    assert (got.status, got.content) == (200, b"")
    assert origin.count() <= 2


async def test_weakness_15_no_room_is_no_loop(open_cache, origin, http):
    """A file larger than all room there is plays, and the origin sends it about once."""
    film = pattern("film", 6 * MIB)
    origin.add("/film.bin", film)
    cache = await open_cache(max_size=1 * MIB)
    got = await http(cache, origin.url("/film.bin"))
    assert (got.content == film.bytes(), got.complete) == (True, True)
    assert origin.bytes_sent() <= 7 * MIB
    assert (await cache.usage()).allocated_bytes <= 1 * MIB


# -- 16: no limits, no way to stop, no partial prefetch ------------------------------------------


async def test_weakness_16_connections_to_a_source_are_limited(open_cache, origin, eventually):
    """However many places of a file are read at once, its origin sees a few connections."""
    film = pattern("film", 64 * MIB)
    gate = asyncio.Event()
    origin.add("/film.bin", film)
    source = origin.url("/film.bin")
    cache = await open_cache(max_connections=2)
    stream = cache.create_stream(source)
    async with await stream.request(60 * MIB, 60 * MIB + 1000) as response:
        await response.read()
    origin.files["/film.bin"].gate = gate
    places = [number * 10 * MIB for number in range(6)]

    async def read(place):
        async with await stream.request(place, place + 1000) as response:
            return await response.read() == film.bytes(place, place + 1000)

    reading = [asyncio.create_task(read(place)) for place in places]
    await eventually(lambda: cache.statistics().waiting_readers == 6)
    assert cache.statistics().running_downloads == 2
    gate.set()
    assert all(await asyncio.gather(*reading))
    assert max(each.connection for each in origin.requests) <= 3


async def test_weakness_16_the_beginning_alone_can_be_fetched(open_cache, origin):
    """``bytes=`` fetches the start of a film and no more."""
    origin.add("/film.bin", pattern("film", 64 * MIB))
    cache = await open_cache(completion="auto")
    await cache.pre_cache_url(origin.url("/film.bin"), bytes=500 * KIB)
    await origin.wait_idle(PATIENCE_S)
    assert 500 * KIB <= origin.bytes_sent() <= 2 * MIB


async def test_weakness_16_a_release_stops_the_download(open_cache, origin, eventually):
    """A prefetch that a program gives up ends, and what it brought is kept."""
    origin.add("/film.bin", pattern("film", 64 * MIB)).stall(2 * MIB, times=None)
    cache = await open_cache(pause_after=0, dispose_after=0)
    stream = cache.create_stream(origin.url("/film.bin"))
    fetching = asyncio.create_task(stream.download())
    await eventually(lambda: stream.state.position >= 2 * MIB)
    fetching.cancel()
    stream.release()
    await eventually(lambda: stream.is_disposed)
    await origin.wait_idle(PATIENCE_S)
    assert 2 * MIB <= (await cache.get_cache_record(stream.source)).stored_bytes < 8 * MIB
    assert cache.statistics().running_downloads == 0


# -- 17: codings other than gzip, and origins that refuse HEAD -------------------------------------


@pytest.mark.parametrize("coding", ["gzip", "br", "zstd", "deflate, gzip"])
async def test_weakness_17_any_coding_keeps_its_length_and_label(open_cache, origin, http, coding):
    """Coded content is kept and served byte by byte, with the label and the length it came with."""
    origin.add("/a.bin", DATA, fields=(("Content-Encoding", coding),))
    cache = await open_cache()
    for _ in range(2):
        got = await http(cache, origin.url("/a.bin"))
        assert (got.content, got.fields.get("content-encoding")) == (DATA, coding)
        assert got.fields.get("content-length") == str(LENGTH)
    await cache.pre_cache_url(origin.url("/a.bin"))
    record = await cache.get_cache_record(origin.url("/a.bin"))
    assert record.representation.complete_length == LENGTH
    assert record.complete


@pytest.mark.parametrize("status", [400, 403, 404, 405, 500, 501])
async def test_weakness_17_origins_that_refuse_head(open_cache, origin, http, status):
    """What HEAD would say is learnt by a GET of one byte, and a check needs no HEAD."""
    served = origin.add("/a.bin", DATA)
    served.require = lambda request: status if request.method == "HEAD" else None
    cache = await open_cache()
    stream = cache.create_stream(origin.url("/a.bin"))
    assert (await stream.head()).complete_length == LENGTH
    assert (await http(cache, stream.source, method="HEAD")).status == 200
    await stream.download()
    assert await stream.validate_cache(force=True) is True


# -- 18: processes, managers and options ---------------------------------------------------------


async def test_weakness_18_two_managers_share_a_root(open_cache, origin, http):
    """Two at once on one directory give right bytes; what one completed the other has."""
    film = pattern("film", 4 * MIB)
    gate = asyncio.Event()
    origin.add("/film.bin", film).stall(1 * MIB, gate=gate)
    first, second = await open_cache(), await open_cache()
    source = origin.url("/film.bin")
    one = asyncio.create_task(http(first, source))
    await origin.wait(lambda: origin.bytes_sent() >= 1 * MIB, PATIENCE_S)
    other = asyncio.create_task(http(second, source))
    gate.set()
    for got in await asyncio.gather(one, other):
        assert (got.content == film.bytes(), got.complete) == (True, True)
    await first.aclose()
    await second.aclose()
    third = await open_cache()
    origin.reset_log()
    assert (await http(third, source)).content == film.bytes()
    assert origin.count() == 0


async def test_weakness_18_two_processes_share_a_root(open_cache, origin, http, serve):
    """A server process and a program on one directory never give a wrong byte."""
    film = pattern("film", 4 * MIB)
    origin.add("/film.bin", film)
    source = origin.url("/film.bin")
    server = await asyncio.to_thread(serve)
    cache = await open_cache()
    async with aiohttp.ClientSession() as session:

        async def ask():
            async with session.get(server.url(source)) as response:
                return await response.read()

        theirs, ours = await asyncio.gather(ask(), http(cache, source))
    assert theirs == film.bytes()
    assert ours.content == film.bytes()
    assert (await cache.verify(source))[0][1] == ()


async def test_weakness_18_closing_ends_streams_that_are_retained_twice(open_cache, origin):
    """Nothing of a manager is alive after its end, however often somebody holds it."""
    origin.add("/a.bin", DATA).stall(1000)
    cache = await open_cache()
    stream = cache.create_stream(origin.url("/a.bin"))
    for _ in range(3):
        stream.retain()
    response = await stream.request()
    await cache.aclose()
    assert stream.is_disposed
    await response.aclose()
    await origin.wait_connections(0, PATIENCE_S)


async def test_weakness_18_options_of_a_live_stream_are_not_ignored(open_cache, origin, tmp_path):
    """Settings for a stream that lives already take effect; a second place is an error."""
    origin.add("/a.bin", DATA)
    cache = await open_cache()
    stream = cache.create_stream(origin.url("/a.bin"))
    async with await stream.request(0, 10) as response:
        await response.read()
    assert cache.create_stream(stream.source, request_headers={"X-Own": "1"}) is stream
    assert stream.settings.request_headers == {"X-Own": "1"}
    async with await stream.request(200_000, 200_010) as response:
        await response.read()
    assert origin.requests[-1].fields.get("x-own") == "1"
    with pytest.raises(ConfigurationError):
        cache.create_stream(stream.source, file=tmp_path / "elsewhere.bin")


# -- 19: no log, no numbers ------------------------------------------------------------------------


async def test_weakness_19_failures_are_logged_without_secrets(open_cache, origin, http, caplog):
    """The log says what failed and that it is tried again, and no query or credential."""
    served = origin.add("/a.bin", DATA)
    served.drop(after=100_000, times=1)
    cache = await open_cache(request_headers={"Authorization": "Bearer s3cret"}, token="t0ken")
    with caplog.at_level(logging.DEBUG, "cachestream"):
        got = await http(cache, origin.url("/a.bin?key=s3cret"))
        assert got.content == DATA
        await http(cache, origin.url("/none.bin?key=s3cret"))
    assert "retrying" in caplog.text
    assert "404" in caplog.text
    assert "/a.bin" in caplog.text
    assert "s3cret" not in caplog.text
    assert "t0ken" not in caplog.text


async def test_weakness_19_numbers_are_kept(open_cache, origin, http):
    """How much came from where, and what failed, can be asked at any time."""
    served = origin.add("/a.bin", DATA)
    served.drop(after=100_000, times=1)
    cache = await open_cache()
    for _ in range(3):
        await http(cache, origin.url("/a.bin"))
    numbers = cache.statistics()
    assert (numbers.requests, numbers.hits) == (3, 2)
    assert (numbers.origin_requests, numbers.origin_failures) == (2, 1)
    assert (numbers.bytes_from_origin, numbers.bytes_from_store) == (LENGTH, 3 * LENGTH)


async def test_weakness_19_a_refused_connection_is_explained(open_cache, origin):
    """An error says what happened, to which URL, and what can be done."""
    await origin.down()
    cache = await open_cache()
    with pytest.raises(ConnectError) as caught:
        await cache.pre_cache_url(origin.url("/a.bin?key=s3cret"))
    assert origin.authority in str(caught.value)
    assert "s3cret" not in str(caught.value)
