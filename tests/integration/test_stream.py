"""What a program does with a `CacheStream`: its state, its bytes, its fields, its life."""

from __future__ import annotations

import asyncio
import itertools
import os
import time
from email.utils import formatdate

import attrs
import pytest

from cachestream import CacheState
from cachestream.errors import (
    ClosedError,
    ConnectError,
    NotStoredError,
    RangeNotSatisfiableError,
    RepresentationChangedError,
    UpstreamStatusError,
)
from cachestream.testing.origin import Origin, pattern
from cachestream.transports import HttpTransport

LENGTH = 300_000
DATA = pattern("stream", LENGTH).bytes()
FRESH = pattern("fresh", LENGTH).bytes()
MIB = 1 << 20
PATIENCE_S = 45.0

pytestmark = pytest.mark.asyncio


@pytest.fixture
def served(origin):
    """Serve some content at ``/a.bin``."""
    return origin.add("/a.bin", DATA)


@pytest.fixture
def source(origin, served) -> str:
    """Return its URL."""
    return origin.url("/a.bin")


# ---------------------------------------------------------------------------
# Bytes
# ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("start", "end", "status"),
    [
        (0, None, 200), (0, LENGTH, 200), (0, 10 * LENGTH, 200), (0, 1, 206), (5, 10, 206),
        (LENGTH - 1, None, 206), (LENGTH - 1, LENGTH, 206), (250_000, 10 * LENGTH, 206),
    ],
)  # fmt: skip
@pytest.mark.parametrize("warm", [False, True], ids=["cold", "warm"])
async def test_request(open_cache, source, start, end, status, warm):
    """A span is half-open, and is the same from the origin and from the store."""
    cache = await open_cache()
    stream = cache.create_stream(source)
    if warm:
        await stream.download()
    async with await stream.request(start, end) as response:
        assert await response.read() == DATA[start:end]
        assert response.status == status
        assert response.start == start
        assert response.content_length == len(DATA[start:end])
        assert response.complete_length == LENGTH
        assert response.fields.get("etag") == '"v1"'


async def test_request_of_nothing(open_cache, source):
    """What is no range is the caller's mistake; what lies past the end says where that is."""
    cache = await open_cache()
    stream = cache.create_stream(source)
    for start, end in ((-1, None), (5, 5), (6, 5), (0, 0)):
        with pytest.raises(ValueError, match="not a range"):
            await stream.request(start, end)
    for _ in range(2):
        with pytest.raises(RangeNotSatisfiableError) as caught:
            await stream.request(LENGTH)
        assert caught.value.complete_length == LENGTH


async def test_a_response_that_is_left_early(open_cache, origin):
    """A reader that stops wants nothing any more, and says so when it is read on."""
    origin.add("/big.bin", pattern("big", 4 * MIB))
    cache = await open_cache()
    stream = cache.create_stream(origin.url("/big.bin"))
    response = await stream.request()
    async with response:
        assert await anext(aiter(response))
    await response.aclose()
    assert cache.statistics().open_readers == 0
    with pytest.raises(ClosedError):
        await response.read()


async def test_several_readers_at_once(open_cache, origin, source):
    """Overlapping readers share one download and are each right."""
    cache = await open_cache()
    stream = cache.create_stream(source)

    async def read(start, end):
        async with await stream.request(start, end) as response:
            return await response.read() == DATA[start:end]

    spans = [(0, None), (0, 1000), (LENGTH // 2, None), (1000, 200_000)] * 3
    assert all(await asyncio.gather(*(read(*span) for span in spans)))
    assert origin.bytes_sent() == LENGTH


async def test_open_as_a_file(open_cache, source):
    """Reading, seeking and telling do what they do with a file on disk."""
    cache = await open_cache()
    async with cache.open(source) as file:
        assert file.source == source
        assert (file.tell(), await file.read(10)) == (0, DATA[:10])
        assert await file.seek(1000) == 1000 == file.tell()
        assert await file.read(5) + await file.read(5) == DATA[1000:1010]
        assert await file.seek(-10, os.SEEK_CUR) == 1000
        assert await file.seek(-100, os.SEEK_END) == LENGTH - 100
        assert await file.read() == DATA[-100:]
        assert (file.tell(), await file.read(), await file.read(5)) == (LENGTH, b"", b"")
        assert await file.seek(LENGTH + 5) == LENGTH + 5
        assert await file.read(5) == b""
        with pytest.raises(ValueError, match="before the start"):
            await file.seek(-1)
        await file.seek(0)
        assert await file.read(0) == b""
        assert await file.read(10 * LENGTH) == DATA
        assert await file.size() == LENGTH
    with pytest.raises(ClosedError):
        await file.read(1)
    opened = await cache.open(source)
    assert await opened.read(3) == DATA[:3]
    await opened.aclose()
    assert cache.statistics().open_readers == 0


async def test_open_as_a_file_of_unknown_length(open_cache, origin):
    """Without a length a file can be read to its end, and seeking forward reads up to there."""
    origin.add("/live.bin", DATA, framing="chunked", ranges=False)
    cache = await open_cache()
    async with cache.open(origin.url("/live.bin")) as file:
        await file.seek(1000)
        assert await file.read(10) == DATA[1000:1010]
        assert await file.read() == DATA[1010:]
        assert await file.seek(0, os.SEEK_END) == LENGTH
        assert await file.read() == b""


# ---------------------------------------------------------------------------
# What is known
# ---------------------------------------------------------------------------


@pytest.mark.parametrize("willing", [True, False], ids=["HEAD", "no HEAD"])
async def test_head(open_cache, origin, served, source, willing):
    """What the origin says is known without content, also where HEAD is refused, and is kept."""
    served.head = willing
    cache = await open_cache()
    stream = cache.create_stream(source)
    assert stream.representation is None
    for _ in range(2):
        known = await stream.head()
        assert known.complete_length == LENGTH
        assert str(known.entity_tag) == '"v1"'
    assert stream.representation == known
    assert origin.count() == (1 if willing else 2)
    assert origin.bytes_sent() <= 1
    assert await stream.download()
    assert stream.state.complete


async def test_head_of_a_refusal(open_cache, origin, served, source):
    """What is not there has no head."""
    served.fail(404)
    cache = await open_cache()
    with pytest.raises(UpstreamStatusError) as caught:
        await cache.create_stream(source).head()
    assert caught.value.status == 404


async def test_states_of_a_download(open_cache, origin, eventually):
    """The latest state comes first, then each change, up to the end of the stream."""
    gate = asyncio.Event()
    origin.add("/a.bin", DATA).stall(100_000, gate=gate)
    cache = await open_cache()
    stream = cache.create_stream(origin.url("/a.bin"))
    assert stream.state == CacheState()
    seen: list[CacheState] = []

    async def watch() -> None:
        seen.extend([state async for state in stream.states()])

    watching = asyncio.create_task(watch())
    downloading = asyncio.create_task(stream.download())
    await eventually(lambda: stream.state.position == 100_000)
    state = stream.state
    assert (state.downloading, state.complete, state.complete_length) == (True, False, LENGTH)
    assert state.progress == 0.33 == stream.progress
    assert state.remaining_bytes == LENGTH - 100_000
    assert stream.is_downloading
    async for late in stream.states():
        assert late == state
        break
    gate.set()
    await downloading
    assert (stream.progress, stream.state.remaining_bytes) == (1.0, 0)
    assert stream.state.complete
    await stream.dispose(force=True)
    await asyncio.wait_for(watching, PATIENCE_S)
    assert seen[0] == CacheState()
    shares = [state.progress for state in seen if state.progress is not None]
    assert shares == sorted(shares)
    assert 1.0 in shares
    assert all(before != after for before, after in itertools.pairwise(seen))
    assert all(state.complete == (state.progress == 1.0) for state in seen)


async def test_an_error_is_in_the_state(open_cache, served, source):
    """A failed download is told to those who watch, and forgotten when it goes on."""
    served.fail(404)
    cache = await open_cache(error_ttl=0)
    stream = cache.create_stream(source)
    with pytest.raises(UpstreamStatusError):
        await stream.download()
    assert isinstance(stream.last_error, UpstreamStatusError)
    async for state in stream.states():
        assert state.error is stream.last_error
        break
    served.fail(404, times=0)
    await stream.download()
    assert stream.state.complete
    assert stream.state.error is None


async def test_download_is_shared(open_cache, origin, source):
    """Several who wait for the whole file wait for one download."""
    cache = await open_cache()
    stream = cache.create_stream(source)
    files = await asyncio.gather(*(stream.download() for _ in range(5)))
    assert len(set(files)) == 1
    assert files[0].read_bytes() == DATA
    assert origin.bytes_sent() == LENGTH


async def test_a_download_that_is_cancelled(open_cache, origin, eventually):
    """Who gives up waiting changes nothing for another, and the last one ends it."""
    gate = asyncio.Event()
    origin.add("/a.bin", DATA).stall(100_000, gate=gate)
    cache = await open_cache(pause_after=0, dispose_after=0)
    stream = cache.create_stream(origin.url("/a.bin"))
    first, second = [asyncio.create_task(stream.download()) for _ in range(2)]
    await eventually(lambda: stream.state.position == 100_000)
    first.cancel()
    gate.set()
    assert await second
    stream.release()
    await eventually(lambda: stream.is_disposed)


async def test_downloading_a_disposed_stream(open_cache, origin, eventually):
    """A stream that is closed under a download says so."""
    origin.add("/a.bin", DATA).stall(100_000)
    cache = await open_cache()
    stream = cache.create_stream(origin.url("/a.bin"))
    downloading = asyncio.create_task(stream.download())
    await eventually(lambda: stream.state.position == 100_000)
    assert await stream.dispose(force=True)
    with pytest.raises(ClosedError):
        await downloading


# ---------------------------------------------------------------------------
# Validating and resetting
# ---------------------------------------------------------------------------


async def test_validate(open_cache, origin, served, source):
    """Current is True, changed is False, and nothing held is None; nothing is deleted."""
    cache = await open_cache()
    stream = cache.create_stream(source)
    assert await stream.validate_cache() is None
    await stream.download()
    sent = origin.bytes_sent()
    assert await stream.validate_cache() is True
    assert origin.bytes_sent() <= sent + 1
    served.change(FRESH, etag='"v2"', last_modified=1_700_001_000.0)
    assert await stream.validate_cache() is False
    async with await stream.request(0, 10) as response:
        assert await response.read() == DATA[:10]


@pytest.mark.parametrize("tag", [None, 'W/"v1"', '"v1"'])
@pytest.mark.parametrize("ranges", [True, False])
async def test_validate_by_what_there_is(open_cache, served, source, tag, ranges):
    """Any validator will do, and an origin without ranges or conditions as well."""
    served.etag, served.ranges = tag, ranges
    cache = await open_cache()
    stream = cache.create_stream(source)
    await stream.download()
    assert await stream.validate_cache(force=True) is True
    served.change(FRESH[:1000], etag=tag, last_modified=1_700_001_000.0)
    served.etag = None if tag is None else tag.replace("v1", "v2")
    assert await stream.validate_cache(force=True) is False


async def test_validate_asks_no_one_about_what_is_fresh(open_cache, origin, served, source):
    """What its origin called fresh is current, unless the program insists."""
    served.cache_control = "max-age=1000"
    cache = await open_cache()
    stream = cache.create_stream(source)
    await stream.download()
    served.change(FRESH, etag='"v2"')
    origin.reset_log()
    assert await stream.validate_cache() is True
    assert origin.count() == 0
    assert await stream.validate_cache(force=True) is False


@pytest.mark.parametrize(
    ("fields", "fresh"),
    [
        ((("Expires", formatdate(time.time() + 1000, usegmt=True)),), True),
        ((("Expires", formatdate(time.time() - 1000, usegmt=True)),), False),
        ((("Expires", "0"),), False),
        ((("Cache-Control", "max-age=1000"), ("Age", "2000")), False),
        ((("Cache-Control", "no-cache, max-age=1000"),), False),
        ((), False),
    ],
)
async def test_freshness(open_cache, origin, served, source, fields, fresh):
    """Expires and max-age count, Age against them; without either an answer is stale."""
    served.fields = fields
    cache = await open_cache()
    stream = cache.create_stream(source)
    await stream.download()
    origin.reset_log()
    assert await stream.validate_cache() is True
    assert origin.count() == (0 if fresh else 1)


async def test_a_304_freshens(open_cache, origin, served, source):
    """What a 304 says is taken over, so that the next check asks nobody (RFC 9111 §4.3.4)."""
    cache = await open_cache()
    stream = cache.create_stream(source)
    await stream.download()
    served.cache_control = "max-age=1000"
    assert await stream.validate_cache() is True
    origin.reset_log()
    assert await stream.validate_cache() is True
    assert origin.count() == 0
    assert (await cache.get_cache_record(source)).representation.fields.get("cache-control")


async def test_validate_and_reset(open_cache, origin, served, source):
    """What is not current is deleted if the program says so, and then fetched anew."""
    cache = await open_cache()
    stream = cache.create_stream(source)
    await stream.download()
    served.change(FRESH, etag='"v2"')
    assert await stream.validate_cache(reset_invalid=True) is False
    assert stream.state.stored_bytes == 0
    assert await cache.get_cache_record(source) is None
    file = await stream.download()
    assert file.read_bytes() == FRESH


@pytest.mark.parametrize("mischief", ["down", 500, 404])
async def test_a_check_that_fails_deletes_nothing(open_cache, origin, served, source, mischief):
    """An origin that is away or refuses is an error of the check; what is held stays."""
    cache = await open_cache()
    stream = cache.create_stream(source)
    await stream.download()
    if mischief == "down":
        await origin.down()
    else:
        served.fail(mischief)
    with pytest.raises(ConnectError if mischief == "down" else UpstreamStatusError):
        await stream.validate_cache(reset_invalid=True)
    async with await stream.request() as response:
        assert await response.read() == DATA


async def test_reset(open_cache, origin, served, source):
    """A reset forgets all; the next download is anew."""
    cache = await open_cache()
    stream = cache.create_stream(source)
    first = await stream.download()
    await stream.reset_cache()
    assert stream.state == CacheState()
    assert not first.exists()
    assert await cache.get_cache_record(source) is None
    served.change(FRESH, etag='"v2"')
    assert (await stream.download()).read_bytes() == FRESH


async def test_a_reset_in_mid_download(open_cache, origin, eventually):
    """Who reads fails, who downloads goes on with what is there now, and nothing is mixed."""
    served = origin.add("/a.bin", DATA)
    served.stall(100_000)
    source = origin.url("/a.bin")
    cache = await open_cache()
    stream = cache.create_stream(source)
    response = await stream.request()
    reading = asyncio.create_task(response.read())
    await eventually(lambda: stream.state.position == 100_000)
    served.change(FRESH, etag='"v2"')
    await stream.reset_cache()
    with pytest.raises(RepresentationChangedError):
        await reading
    await response.aclose()
    assert (await stream.download()).read_bytes() == FRESH


# ---------------------------------------------------------------------------
# Fields
# ---------------------------------------------------------------------------


async def test_request_headers(open_cache, origin, source):
    """The manager's go to the origin; a stream's are instead of them; identity is asked for."""
    cache = await open_cache(request_headers={"X-Own": "1", "Referer": "http://a/"})
    stream = cache.create_stream(source)
    async with await stream.request(0, 10) as response:
        await response.read()
    await stream.dispose(force=True)
    first = origin.requests[0].fields
    assert (first.get("x-own"), first.get("referer")) == ("1", "http://a/")
    assert first.get("accept-encoding") == "identity"
    other = {**cache.settings.request_headers, "X-Own": "2", "Accept-Encoding": "gzip"}
    stream = cache.create_stream(source, request_headers=other)
    async with await stream.request(200_000, 200_010) as response:
        await response.read()
    second = origin.requests[1].fields
    assert second.get_all("x-own") == ("2",)
    assert second.get("referer") == "http://a/"
    assert second.get_all("accept-encoding") == ("gzip",)


@pytest.mark.parametrize("copy", [False, True])
async def test_response_headers(open_cache, served, source, http, copy):
    """Ours win over the origin's; the origin's own come along only when that is wanted."""
    served.fields = (
        ("X-Origin", "1"), ("X-Both", "origin"), ("Set-Cookie", "a=b"),
        ("Content-Disposition", "inline"), ("Keep-Alive", "timeout=5"),
    )  # fmt: skip
    served.content_type = "audio/mpeg"
    cache = await open_cache(
        response_headers={"X-Both": "ours", "Content-Type": "audio/ours", "X-Own": "1"},
        copy_cached_response_headers=copy,
    )
    for _ in range(2):
        fields = (await http(cache, source)).fields
        assert fields.get_all("x-both") == ("ours",)
        assert fields.get_all("content-type") == ("audio/ours",)
        assert fields.get("x-own") == "1"
        assert fields.get("x-origin") == ("1" if copy else None)
        assert fields.get("content-disposition") == "inline"
        assert "set-cookie" not in fields
        assert "keep-alive" not in fields


async def test_response_headers_of_a_stream(open_cache, source, http):
    """A stream may have its own for what clients get of it."""
    cache = await open_cache(response_headers={"X-Own": "manager"})
    stream = cache.create_stream(source, response_headers={"X-Own": "stream"})
    assert (await http(cache, source)).fields.get_all("x-own") == ("stream",)
    stream.release()


async def test_forwarded_fields(open_cache, origin, source, http):
    """Of a client's fields just those that are named go upstream, and configured ones win."""
    cache = await open_cache(
        forward_fields=("User-Agent", "Referer", "X-Own"), request_headers={"X-Own": "ours"}
    )
    sent = (
        ("User-Agent", "player/1"), ("Referer", "http://page/"), ("X-Own", "theirs"),
        ("Cookie", "a=b"), ("Authorization", "Basic x"), ("X-Other", "1"),
    )  # fmt: skip
    assert (await http(cache, source, fields=sent)).content == DATA
    fields = origin.requests[0].fields
    assert fields.get_all("user-agent") == ("player/1",)
    assert fields.get("referer") == "http://page/"
    assert fields.get_all("x-own") == ("ours",)
    assert not {"cookie", "authorization", "x-other"} & {name.lower() for name, _ in fields}


async def test_nothing_of_a_client_is_forwarded_by_default(open_cache, origin, source, http):
    """Without the setting the origin learns nothing of who asks."""
    cache = await open_cache(user_agent="mine/1")
    await http(cache, source, fields=(("User-Agent", "player/1"), ("Referer", "http://page/")))
    fields = origin.requests[0].fields
    assert fields.get_all("user-agent") == ("mine/1",)
    assert "referer" not in fields


@pytest.mark.parametrize("everything", [True, False])
async def test_save_all_headers(open_cache, served, source, everything):
    """Everything harmless is stored, or just what caching needs; cookies never."""
    served.fields = (("X-Origin", "1"), ("Set-Cookie", "a=b"), ("Cache-Control", "max-age=5"))
    cache = await open_cache(save_all_headers=everything)
    await cache.pre_cache_url(source)
    fields = (await cache.get_cache_record(source)).representation.fields
    assert fields.get("x-origin") == ("1" if everything else None)
    assert "set-cookie" not in fields
    for name in ("etag", "last-modified", "content-type", "date", "cache-control"):
        assert name in fields


# ---------------------------------------------------------------------------
# Its life
# ---------------------------------------------------------------------------


async def test_retain_and_release(open_cache, source):
    """The count begins at one, is symmetric, and never goes below zero."""
    cache = await open_cache()
    stream = cache.create_stream(source)
    assert (stream.retain_count, stream.is_retained) == (1, True)
    stream.retain()
    stream.release()
    assert stream.retain_count == 1
    stream.release()
    stream.release()
    assert (stream.retain_count, stream.is_retained) == (0, False)
    assert not stream.is_disposed
    stream.retain()
    assert stream.retain_count == 1
    assert await stream.dispose(force=True)
    assert stream.retain_count == 0


async def test_a_release_too_many_takes_nothing_from_others(open_cache, origin, source, http):
    """A program that miscounts does not end a client's reading."""
    gate = asyncio.Event()
    origin.add("/a.bin", DATA).stall(100_000, gate=gate)
    cache = await open_cache(pause_after=0, dispose_after=0)
    reading = asyncio.create_task(http(cache, source))
    await origin.wait_request()
    stream = cache.create_stream(source)
    for _ in range(5):
        stream.release()
    gate.set()
    got = await reading
    assert (got.content, got.complete) == (DATA, True)


async def test_after_the_last_release_it_pauses_and_goes_on(open_cache, origin, eventually):
    """Nobody's download stops; who comes back finds what there is, and it goes on from there."""
    gate = asyncio.Event()
    origin.add("/a.bin", DATA).stall(100_000, times=None, gate=gate)
    cache = await open_cache(pause_after=0.05, dispose_after=1000, completion="complete")
    stream = cache.create_stream(origin.url("/a.bin"))
    async with await stream.request(0, 10) as response:
        await response.read()
    await eventually(lambda: stream.state.position == 100_010)
    assert stream.is_downloading
    stream.release()
    await eventually(lambda: not stream.is_downloading)
    await origin.wait_idle(PATIENCE_S)
    assert not stream.is_disposed
    gate.set()
    stream.retain()
    await stream.download()
    assert stream.state.complete
    last = origin.requests[-1]
    assert last.range == f"bytes=100010-{LENGTH - 1}"
    assert last.fields.get("if-range") == '"v1"'


async def test_retaining_in_time_calls_the_pause_off(open_cache, origin, eventually):
    """A program that retains between release and pause sees no interruption."""
    gate = asyncio.Event()
    origin.add("/a.bin", DATA).stall(100_000, gate=gate)
    cache = await open_cache(pause_after=0.2, dispose_after=0.4, completion="complete")
    stream = cache.create_stream(origin.url("/a.bin"))
    downloading = asyncio.create_task(stream.download())
    await eventually(lambda: stream.state.position == 100_000)
    stream.release()
    stream.retain()
    loop = asyncio.get_running_loop()
    begun = loop.time()
    await eventually(lambda: loop.time() > begun + 0.6)
    assert stream.is_downloading
    gate.set()
    await downloading
    assert origin.count() == 1


@pytest.mark.parametrize(("pause", "dispose"), [(0.05, 0.1), (0.05, 0), (0, 0)])
async def test_some_time_after_the_last_release_it_ends(
    open_cache, source, eventually, pause, dispose
):
    """It is disposed of and leaves the manager; a shorter ``dispose_after`` counts as the pause."""
    cache = await open_cache(pause_after=pause, dispose_after=dispose)
    stream = cache.create_stream(source)
    await stream.download()
    stream.release()
    await eventually(lambda: stream.is_disposed)
    assert cache.all_streams == ()
    anew = cache.create_stream(source)
    assert anew is not stream
    await anew.head()
    assert anew.state.complete


async def test_disposing_waits_for_the_last_holder(open_cache, source):
    """``dispose()`` completes when nobody holds the stream any more, and at once then."""
    cache = await open_cache()
    stream = cache.create_stream(source)
    assert cache.create_stream(source) is stream
    disposing = asyncio.create_task(stream.dispose())
    await asyncio.sleep(0)
    assert not disposing.done()
    assert not stream.is_disposed
    stream.release()
    assert await asyncio.wait_for(disposing, PATIENCE_S) is True
    assert stream.is_disposed


async def test_retaining_again_calls_a_disposal_off(open_cache, source):
    """Who retains a stream whose disposal is pending keeps it."""
    cache = await open_cache()
    stream = cache.create_stream(source)
    stream.retain()
    disposing = asyncio.create_task(stream.dispose())
    await asyncio.sleep(0)
    stream.retain()
    assert await asyncio.wait_for(disposing, PATIENCE_S) is False
    stream.release()
    assert not stream.is_disposed
    assert await stream.dispose() is True


async def test_disposing_waits_for_clients_too(open_cache, origin, source, http):
    """A client in mid-body is not cut by an ordinary disposal."""
    gate = asyncio.Event()
    origin.add("/a.bin", DATA).stall(100_000, gate=gate)
    cache = await open_cache()
    reading = asyncio.create_task(http(cache, source))
    await origin.wait_request()
    stream = cache.create_stream(source)
    disposing = asyncio.create_task(stream.dispose())
    await asyncio.sleep(0)
    assert not disposing.done()
    gate.set()
    got = await reading
    assert (got.content, got.complete) == (DATA, True)
    assert await asyncio.wait_for(disposing, PATIENCE_S) is True


async def test_disposing_by_force_is_immediate(open_cache, origin, source, http, eventually):
    """Whoever holds it or reads it: it ends, visibly, and leaves the manager."""
    origin.add("/a.bin", DATA).stall(100_000)
    cache = await open_cache()
    reading = asyncio.create_task(http(cache, source))
    stream = cache.create_stream(source)
    stream.retain()
    await eventually(lambda: stream.state.position == 100_000)
    assert await stream.dispose(force=True) is True
    assert stream.is_disposed
    assert cache.get_existing_stream(source) is None
    got = await reading
    assert not got.complete
    assert got.content == DATA[: len(got.content)]
    assert await stream.dispose() is True


@pytest.mark.parametrize("keep", [True, False])
async def test_save_partial_cache(open_cache, origin, keep):
    """Incomplete entries survive their stream, or not, as the setting says."""
    origin.add("/big.bin", pattern("big", 4 * MIB))
    source = origin.url("/big.bin")
    cache = await open_cache(save_partial_cache=keep)
    stream = cache.create_stream(source)
    async with await stream.request(0, 100_000) as response:
        await response.read()
    await stream.dispose()
    assert (await cache.get_cache_record(source) is not None) is keep
    await cache.pre_cache_url(source)
    await cache.get_existing_stream(source).dispose(force=True)
    assert (await cache.get_cache_record(source)).complete


@pytest.mark.parametrize("keep", [True, False])
async def test_save_metadata(open_cache, origin, source, tmp_path, keep):
    """Without metadata a complete entry goes with its stream, and a file of one's own stays."""
    cache = await open_cache(save_metadata=keep)
    stream = cache.create_stream(source)
    await stream.download()
    await stream.dispose()
    assert (await cache.get_cache_record(source) is not None) is keep
    await cache.delete(source)
    stream = cache.create_stream(source, file=tmp_path / "own.bin")
    await stream.download()
    await stream.dispose(force=True)
    assert (tmp_path / "own.bin").read_bytes() == DATA


@pytest.mark.parametrize("completion", ["demand", "auto", "ahead", "complete"])
async def test_completion(open_cache, origin, eventually, completion):
    """What is fetched beyond what was asked for is what the setting says."""
    origin.add("/big.bin", pattern("big", 24 * MIB))
    cache = await open_cache(completion=completion, max_read_ahead=2 * MIB)
    stream = cache.create_stream(origin.url("/big.bin"))
    async with await stream.request(0, 1000) as response:
        await response.read()
    await eventually(lambda: not stream.is_downloading)
    held = stream.state.stored_bytes
    if completion == "complete":
        assert held == 24 * MIB
    else:
        assert 1000 <= held <= 4 * MIB


async def test_offline(open_cache, origin, source, http):
    """Offline, what is held is served, the first hole is a clear error, and nobody is asked."""
    cache = await open_cache()
    origin.add("/big.bin", pattern("big", 4 * MIB))
    await cache.pre_cache_url(source)
    await cache.pre_cache_url(origin.url("/big.bin"), bytes=1000)
    await cache.aclose()
    origin.reset_log()
    cache = await open_cache(offline=True)
    assert (await http(cache, source)).content == DATA
    assert (await http(cache, origin.url("/big.bin"), 0, 1000)).status == 206
    assert (await http(cache, origin.url("/big.bin"), 3 * MIB)).status == 504
    with pytest.raises(NotStoredError):
        await cache.create_stream(origin.url("/none.bin")).download()
    assert origin.count() == 0


# ---------------------------------------------------------------------------
# Signing, and renewing what has run out
# ---------------------------------------------------------------------------


class Signing(HttpTransport):
    """Signs method, URL and range of each request."""

    async def prepare(self, request):
        """Put a signature over what is sent into the request."""
        signed = f"{request.method} {request.url} {request.fields.get('range')}"
        sealed = request.fields.replace(("X-Signature", signed), ("X-Hop", str(request.hop)))
        return attrs.evolve(request, fields=sealed)


def signed_for(origin):
    """Return a check that a request is signed over what was sent."""

    def check(request):
        wanted = f"{request.method} {origin.url(request.target)} {request.range}"
        return None if request.fields.get("x-signature") == wanted else 403

    return check


async def test_requests_can_be_signed(open_cache, origin, http):
    """A subclass of the transport signs every attempt, retry and redirect hop."""
    transport = Signing()
    async with Origin() as other:
        origin.add("/a.bin", redirect=other.url("/b.bin?x=1"), require=signed_for(origin))
        served = other.add("/b.bin", DATA, require=signed_for(other))
        served.drop(after=100_000, times=2)
        cache = await open_cache(transport=transport)
        got = await http(cache, origin.url("/a.bin"))
        assert (got.status, got.content) == (200, DATA)
        assert await cache.create_stream(origin.url("/a.bin")).validate_cache() is True
        assert len({request.range for request in other.requests}) >= 2
        assert {request.fields.get("x-hop") for request in other.requests} == {"1"}
        await cache.aclose()
    await transport.aclose()


class Renewing(HttpTransport):
    """Hands out a URL with a new signature when the old one has run out."""

    renewals = 0

    async def refresh(self, source, status):
        """Return the URL that is good now."""
        self.renewals += 1
        return f"{source.partition('?')[0]}?sig={self.renewals + 1}"


@pytest.mark.parametrize("status", [401, 403, 410])
async def test_an_expired_url_is_renewed_in_mid_download(open_cache, origin, http, status):
    """The player gets one whole answer; the entry stays that of the URL it asked for."""
    transport = Renewing()
    served = origin.add("/v.bin", DATA)
    served.plan = lambda request: {"drop_after": 100_000, "drop_times": None}

    def require(request):
        """Let each signature serve one request only."""
        good = sum(1 for item in origin.requests if item.status in (200, 206)) + 1
        return None if request.target.endswith(f"sig={good}") else status

    served.require = require
    cache = await open_cache(transport=transport)
    source = origin.url("/v.bin?sig=1")
    got = await http(cache, source)
    assert (got.status, got.content, got.complete) == (200, DATA, True)
    assert transport.renewals >= 2
    await cache.aclose()
    await transport.aclose()
    again = await open_cache(offline=True)
    assert (await http(again, source)).content == DATA
    [record] = await again.cache_records()
    assert (record.source, record.complete) == (source, True)


async def test_a_url_that_cannot_be_renewed_is_refused_as_it_is(open_cache, origin, http):
    """When a new URL is refused too, the client gets the refusal, after a few tries."""
    transport = Renewing()
    origin.add("/v.bin", DATA).fail(403, body=b"no")
    cache = await open_cache(transport=transport)
    got = await http(cache, origin.url("/v.bin"))
    assert (got.status, got.content) == (403, b"no")
    assert 1 <= transport.renewals <= 5
    await cache.aclose()
    await transport.aclose()
