"""What the tests of http_cache_stream check, line by line, and what they leave untested.

Where there was a mechanism that is another here (a sink, a part file, a feed of positions),
the test holds the same promise against ours.
"""

from __future__ import annotations

import asyncio
import os
import socket
import time
from email.utils import formatdate
from urllib.parse import urljoin

import aiohttp
import pytest

from cachestream import CacheState
from cachestream.abc import Key, Transport, UpstreamResponse
from cachestream.backends import DiskStore
from cachestream.core.fields import Fields
from cachestream.core.representation import Comparison, Representation, compare
from cachestream.core.spans import Span
from cachestream.errors import (
    CacheStreamError,
    ClosedError,
    ConnectError,
    InvalidURLError,
    NotStoredError,
    RangeNotSatisfiableError,
    RepresentationChangedError,
    StoreError,
    TransportError,
    UpstreamProtocolError,
    UpstreamTimeoutError,
)
from cachestream.testing.origin import Origin, pattern

KIB = 1 << 10
MIB = 1 << 20
PATIENCE_S = 45.0
LENGTH = 300 * KIB
DATA = pattern("seed", LENGTH).bytes()
FRESH = pattern("fresh", LENGTH).bytes()

pytestmark = pytest.mark.asyncio


@pytest.fixture
def served(origin):
    """Serve some content at ``/dir/a.bin``."""
    return origin.add("/dir/a.bin", DATA)


@pytest.fixture
def source(origin, served) -> str:
    """Return its URL."""
    return origin.url("/dir/a.bin")


async def read_span(stream, start=0, end=None) -> bytes:
    """Read a span of a stream."""
    async with await stream.request(start, end) as response:
        return await response.read()


# ---------------------------------------------------------------------------
# End to end
# ---------------------------------------------------------------------------


async def test_a_full_download_gives_a_byte_identical_file(open_cache, source):
    """The file of a download has the origin's bytes."""
    cache = await open_cache()
    stream = cache.create_stream(source)
    assert (await stream.download()).read_bytes() == DATA


async def test_a_read_through_the_server_equals_the_origin(open_cache, source, http):
    """A player gets the origin's bytes, the first time and later."""
    cache = await open_cache()
    for _ in range(2):
        got = await http(cache, source)
        assert (got.status, got.content) == (200, DATA)


@pytest.mark.parametrize(("start", "stop"), [(1000, 2000), (200_000, None)])
async def test_bounded_and_open_ranges_return_exactly_those_bytes(
    open_cache, source, http, start, stop
):
    """A range is 206 with just its bytes."""
    cache = await open_cache()
    got = await http(cache, source, start, stop)
    assert (got.status, got.content) == (206, DATA[start:stop])


async def test_three_concurrent_overlapping_requests_are_all_correct(open_cache, source, http):
    """All, the first part and the second half, at once."""
    cache = await open_cache()
    spans = [(0, None), (0, 50_000), (LENGTH // 2, None)]
    answers = await asyncio.gather(*(http(cache, source, *span) for span in spans))
    assert [got.content for got in answers] == [DATA[start:stop] for start, stop in spans]


async def test_with_a_seeded_100_kib_part_only_the_rest_is_asked_for(open_cache, origin, source):
    """The origin sees a range from byte 102400 and no full request; the file is identical."""
    first = await open_cache()
    await first.pre_cache_url(source, bytes=100 * KIB)
    await first.aclose()
    origin.reset_log()
    cache = await open_cache()
    file = await cache.pre_cache_url(source)
    assert file.read_bytes() == DATA
    assert [request.range for request in origin.requests] == [f"bytes=102400-{LENGTH - 1}"]


async def test_a_complete_cache_is_reused_with_no_further_request(open_cache, origin, source, http):
    """After a restart nothing is asked of the origin."""
    first = await open_cache()
    await first.pre_cache_url(source)
    await first.aclose()
    await origin.down()
    cache = await open_cache()
    assert (await http(cache, source)).content == DATA
    assert (await cache.pre_cache_url(source)).read_bytes() == DATA
    assert origin.count() == 1


async def test_200_and_206_carry_their_fields(open_cache, served, source, http):
    """Type, length and Accept-Ranges with 200; Content-Range and the right length with 206."""
    served.content_type = "video/mp4"
    cache = await open_cache()
    whole, part = await http(cache, source), await http(cache, source, 10, 20)
    for got, length in ((whole, LENGTH), (part, 10)):
        assert got.fields.get("content-type") == "video/mp4"
        assert got.fields.get("content-length") == str(length)
        assert got.fields.get("accept-ranges") == "bytes"
    assert part.fields.get("content-range") == f"bytes 10-19/{LENGTH}"


async def test_a_range_past_the_end_is_416(open_cache, source, http):
    """The length is in the answer."""
    cache = await open_cache()
    await http(cache, source)
    got = await http(cache, source, LENGTH)
    assert (got.status, got.fields.get("content-range")) == (416, f"bytes */{LENGTH}")


async def test_head_has_fields_and_the_full_length_and_no_body(open_cache, source, http):
    """HEAD tells what GET would bring."""
    cache = await open_cache()
    got = await http(cache, source, method="HEAD")
    assert (got.status, got.content) == (200, b"")
    assert got.fields.get("content-length") == str(LENGTH)


async def test_the_content_type_falls_back_to_the_extension(open_cache, origin, http):
    """A song without a type is a song."""
    origin.add("/song.mp3", DATA, content_type=None)
    cache = await open_cache()
    got = await http(cache, origin.url("/song.mp3"))
    assert got.fields.get("content-type") == "audio/mpeg"


async def test_get_cache_url_creates_no_stream_and_the_first_request_does(
    open_cache, source, http, eventually
):
    """The stream of a request is disposed of after the idle time."""
    cache = await open_cache(pause_after=0.05, dispose_after=0.1)
    cache.get_cache_url(source)
    assert cache.get_existing_stream(source) is None
    await http(cache, source, 0, 10)
    stream = cache.get_existing_stream(source)
    assert stream is not None
    await eventually(lambda: stream.is_disposed)
    assert cache.get_existing_stream(source) is None


async def test_retaining_again_before_disposal_keeps_it_alive(open_cache, source, eventually):
    """A stream that is retained within the idle time lives on."""
    cache = await open_cache(pause_after=0.05, dispose_after=0.1)
    stream = cache.create_stream(source)
    stream.release()
    stream.retain()
    loop = asyncio.get_running_loop()
    begun = loop.time()
    await eventually(lambda: loop.time() > begun + 0.3)
    assert not stream.is_disposed
    assert cache.get_existing_stream(source) is stream


async def test_dispose_by_force_is_immediate_and_removes_it(open_cache, source):
    """However often it is retained."""
    cache = await open_cache()
    stream = cache.create_stream(source)
    stream.retain()
    assert await stream.dispose(force=True)
    assert stream.is_disposed
    assert cache.all_streams == ()


async def test_pre_cache_url_returns_the_file_and_lets_its_stream_go(
    open_cache, source, eventually
):
    """What was fetched is there, and nobody holds it."""
    cache = await open_cache(pause_after=0, dispose_after=0)
    file = await cache.pre_cache_url(source)
    assert file.read_bytes() == DATA
    await eventually(lambda: cache.all_streams == ())


async def test_get_cache_url_is_stable_for_each_source(open_cache, origin):
    """One source has one local URL, and no other source has it."""
    cache = await open_cache()
    sources = [origin.url(path) for path in ("/a", "/b", "/a?x=1", "/a?x=2")]
    urls = [cache.get_cache_url(source) for source in sources]
    assert urls == [cache.get_cache_url(source) for source in sources]
    assert len(set(urls)) == len(urls)


async def test_delete_cache_removes_files_once_no_stream_is_active(open_cache, source, tmp_path):
    """While it is in use nothing goes; afterwards everything does."""
    cache = await open_cache()
    stream = cache.create_stream(source)
    file = await stream.download()
    assert await cache.delete_cache() == 0
    assert file.exists()
    await stream.dispose()
    assert await cache.delete_cache() == 1
    assert not file.exists()
    assert list((tmp_path / "cache" / "data").iterdir()) == []


async def test_dispose_with_another_holder_completes_after_the_last_release(open_cache, source):
    """Right after it, not after the idle time."""
    cache = await open_cache()
    stream = cache.create_stream(source)
    stream.retain()
    disposing = asyncio.create_task(stream.dispose())
    await asyncio.sleep(0)
    assert not disposing.done()
    stream.release()
    assert await asyncio.wait_for(disposing, PATIENCE_S)


async def test_a_retain_after_dispose_cancels_the_pending_dispose(open_cache, source):
    """The stream stays, and the one who disposed of it is told."""
    cache = await open_cache()
    stream = cache.create_stream(source)
    stream.retain()
    disposing = asyncio.create_task(stream.dispose())
    await asyncio.sleep(0)
    stream.retain()
    assert await asyncio.wait_for(disposing, PATIENCE_S) is False
    assert not stream.is_disposed
    assert await read_span(stream, 0, 10) == DATA[:10]


# ---------------------------------------------------------------------------
# I/O: the sink is a span writer here
# ---------------------------------------------------------------------------

UNEVEN = (1, 4095, 65_536, 3, 100_000, 7)


async def new_entry(cache, length=LENGTH):
    """Make a published entry in a cache's store."""
    entry = await cache.store.create(
        Key("http://e.test/a"), "http://e.test/a", Representation(complete_length=length)
    )
    await entry.publish()
    return entry


async def test_sink_writes_uneven_chunks_in_order_and_byte_exactly(open_cache):
    """Whatever the sizes of pieces, the bytes are those that were written, at once and later."""
    cache = await open_cache()
    entry = await new_entry(cache)
    writer = entry.writer(0)
    position = 0
    for size in UNEVEN:
        if not writer.write(DATA[position : position + size]):
            await writer.drain()
        position += size
        assert writer.position == entry.spans.total == position
        assert await entry.read(Span(0, position)) == DATA[:position]
    await writer.aclose()
    await entry.aclose()
    again = await cache.store.open(entry.entry_id)
    assert await again.read(Span(0, position)) == DATA[:position]
    await again.aclose()


async def test_sink_counts_what_was_committed(open_cache, source, tmp_path):
    """What a crash leaves is what was committed, never more than that and never wrong."""
    store = DiskStore(tmp_path / "crash", min_free=0)
    cache = await open_cache(store=store)
    entry = await new_entry(cache)
    writer = entry.writer(0)
    writer.write(DATA[:100_000])
    await writer.commit()
    writer.write(DATA[100_000:100_010])
    await store.abandon()
    async with DiskStore(tmp_path / "crash", min_free=0) as after:
        [record] = await after.select(entry.key)
        assert 100_000 <= record.stored_bytes <= 100_010
        kept = await after.open(record.entry_id)
        assert await kept.read(Span(0, 100_000)) == DATA[:100_000]
        await kept.aclose()


async def test_sink_appends_after_an_existing_part(open_cache):
    """A second writer goes on where the first ended, in another life."""
    cache = await open_cache()
    entry = await new_entry(cache)
    writer = entry.writer(0)
    writer.write(DATA[:1000])
    await writer.aclose()
    await entry.aclose()
    again = await cache.store.open(entry.entry_id)
    writer = again.writer(1000)
    writer.write(DATA[1000:5000])
    await writer.aclose()
    assert await again.read(Span(0, 5000)) == DATA[:5000]
    await again.aclose()


async def test_sink_add_after_close_raises(open_cache):
    """A writer that was closed takes nothing more, and nothing of it is stored."""
    cache = await open_cache()
    entry = await new_entry(cache)
    writer = entry.writer(0)
    writer.write(DATA[:10])
    await writer.aclose()
    with pytest.raises((ClosedError, StoreError)):
        writer.write(DATA[10:20])
    assert entry.spans.total == 10
    await entry.aclose()


async def test_position_wait_completes_times_out_and_fails_on_close(open_cache, origin):
    """A reader waits for its byte, no longer than it should, and not past the stream's end."""
    gate = asyncio.Event()
    origin.add("/slow.bin", DATA).stall(1000, gate=gate)
    cache = await open_cache(request_timeout=PATIENCE_S)
    stream = cache.create_stream(origin.url("/slow.bin"))
    waiting = asyncio.create_task(read_span(stream, 0, 5000))
    await origin.wait_request()
    gate.set()
    assert await waiting == DATA[:5000]

    origin.add("/never.bin", DATA).stall(1000, times=None)
    hasty = cache.create_stream(origin.url("/never.bin"), request_timeout=0.3, read_timeout=60)
    with pytest.raises(UpstreamTimeoutError):
        await read_span(hasty, 0, 5000)

    closed = cache.create_stream(origin.url("/never.bin"), request_timeout=60)
    response = await closed.request(0, 5000)
    reading = asyncio.create_task(response.read())
    await asyncio.sleep(0)
    await closed.dispose(force=True)
    with pytest.raises(ClosedError):
        await reading
    await response.aclose()


# ---------------------------------------------------------------------------
# I/O: what is found on the disk
# ---------------------------------------------------------------------------


async def held_state(open_cache, source) -> CacheState:
    """Return the state of a source in a new life of the cache, without the origin."""
    cache = await open_cache(offline=True)
    stream = cache.create_stream(source)
    try:
        await stream.head()
    except NotStoredError:
        assert stream.state == CacheState()
    state = stream.state
    await cache.aclose()
    return state


async def test_cache_state_of_a_right_size_complete_file(open_cache, source):
    """It is complete."""
    cache = await open_cache()
    await cache.pre_cache_url(source)
    await cache.aclose()
    state = await held_state(open_cache, source)
    assert (state.complete, state.progress, state.position) == (True, 1.0, LENGTH)


async def test_cache_state_of_a_short_part(open_cache, source):
    """It is incomplete, with its position."""
    cache = await open_cache()
    await cache.pre_cache_url(source, bytes=100 * KIB)
    await cache.aclose()
    state = await held_state(open_cache, source)
    assert (state.complete, state.position, state.remaining_bytes) == (
        False,
        100 * KIB,
        LENGTH - 100 * KIB,
    )


async def test_cache_state_of_an_oversized_file_never_gives_wrong_bytes(
    open_cache, source, tmp_path
):
    """Bytes that somebody appended are no content."""
    cache = await open_cache()
    file = await cache.pre_cache_url(source)
    await cache.aclose()
    with file.open("ab") as data:
        data.write(b"x" * 1000)
    again = await open_cache()
    stream = again.create_stream(source)
    assert await read_span(stream) == DATA
    assert stream.state.remaining_bytes == 0


async def test_cache_state_of_a_part_that_has_every_byte_is_promoted(open_cache, source, tmp_path):
    """A crash between the last byte and the file's name loses nothing."""
    wanted = tmp_path / "own.bin"
    cache = await open_cache()
    await cache.pre_cache_url(source, file=wanted)
    await cache.aclose()
    wanted.rename(tmp_path / ".own.bin.part")
    again = await open_cache()
    assert (await again.pre_cache_url(source, file=wanted)).read_bytes() == DATA
    assert wanted.read_bytes() == DATA


async def test_cache_state_of_unknown_length_is_none(open_cache, origin, eventually):
    """Without a length there is no progress, however much is held."""
    gate = asyncio.Event()
    origin.add("/live.bin", DATA, framing="chunked", ranges=False).stall(1000, gate=gate)
    cache = await open_cache()
    stream = cache.create_stream(origin.url("/live.bin"))
    downloading = asyncio.create_task(stream.download())
    await eventually(lambda: stream.state.position == 1000)
    assert stream.state.complete_length is None
    assert stream.progress is None
    assert stream.state.remaining_bytes is None
    gate.set()
    await downloading
    assert stream.progress == 1.0


async def test_headers_of_what_is_held_need_no_origin(open_cache, origin, http):
    """Length, range support and type of a held file are known offline; of none, nothing is."""
    origin.add("/song.mp3", DATA, content_type=None)
    cache = await open_cache()
    file = await cache.pre_cache_url(origin.url("/song.mp3"))
    await cache.aclose()
    cache = await open_cache(offline=True)
    got = await http(cache, origin.url("/song.mp3"), method="HEAD")
    assert got.fields.get("content-length") == str(LENGTH)
    assert got.fields.get("accept-ranges") == "bytes"
    assert got.fields.get("content-type") == "audio/mpeg"
    await cache.aclose()
    file.unlink()
    cache = await open_cache(offline=True)
    assert (await http(cache, origin.url("/song.mp3"))).status == 504


# ---------------------------------------------------------------------------
# Units, at the public face
# ---------------------------------------------------------------------------


async def test_file_paths_of_an_incomplete_and_a_complete_file(
    open_cache, origin, tmp_path, eventually
):
    """The data lies in a hidden part beside the name until it is whole; deleting takes both."""
    gate = asyncio.Event()
    origin.add("/a.bin", DATA).stall(1000, gate=gate)
    wanted = tmp_path / "films" / "a.bin"
    cache = await open_cache()
    stream = cache.create_stream(origin.url("/a.bin"), file=wanted)
    downloading = asyncio.create_task(stream.download())
    await eventually(lambda: stream.state.position == 1000)
    assert os.listdir(wanted.parent) == [".a.bin.part"]
    assert stream.file == wanted.parent / ".a.bin.part"
    gate.set()
    assert await downloading == wanted
    assert os.listdir(wanted.parent) == ["a.bin"]
    assert await cache.delete(stream.source)
    assert os.listdir(wanted.parent) == []


async def test_file_paths_partial_only_keeps_a_complete_one(open_cache, origin, source):
    """Deleting what is incomplete leaves what is complete."""
    origin.add("/part.bin", DATA)
    cache = await open_cache()
    whole = await cache.pre_cache_url(source)
    part = await cache.pre_cache_url(origin.url("/part.bin"), bytes=1000)
    await asyncio.gather(*(each.dispose(force=True) for each in cache.all_streams))
    assert await cache.delete_cache(partial_only=True) == 1
    assert whole.exists()
    assert not part.exists()


async def test_state_values():
    """Zero, fraction and rest, below 1.0 until final, none for unknown or zero, equality."""
    assert CacheState() == CacheState(position=0)
    assert CacheState().progress is None
    assert CacheState().remaining_bytes is None
    half = CacheState(position=50, stored_bytes=50, complete_length=100)
    assert (half.progress, half.remaining_bytes) == (0.5, 50)
    assert CacheState(stored_bytes=999, complete_length=1000).progress == 0.99
    assert CacheState(stored_bytes=1000, complete_length=1000).progress == 0.99
    assert CacheState(stored_bytes=1000, complete_length=1000, complete=True).progress == 1.0
    assert CacheState(stored_bytes=0, complete_length=0).progress is None
    assert half == CacheState(position=50, stored_bytes=50, complete_length=100)
    assert half != CacheState(position=51, stored_bytes=51, complete_length=100)


@pytest.mark.parametrize(
    ("knobs", "length", "ranges"),
    [
        ({}, LENGTH, True),
        ({"ranges": False}, LENGTH, False),
        ({"framing": "chunked", "ranges": False}, None, False),
        ({"framing": "close", "ranges": False}, None, False),
    ],
)
async def test_headers_tell_length_and_range_support(open_cache, origin, knobs, length, ranges):
    """What the first answer says is known: from Content-Range's total as from Content-Length."""
    gate = asyncio.Event()
    origin.add("/a.bin", DATA, **knobs).stall(1000, gate=gate)
    cache = await open_cache()
    stream = cache.create_stream(origin.url("/a.bin"))
    response = await stream.request(0, 5000)
    known = stream.representation
    assert (known.complete_length, known.ranges) == (length, ranges)
    assert known.fields.get("content-type") == "application/octet-stream"
    assert str(known.entity_tag) == '"v1"'
    gate.set()
    await response.aclose()
    await stream.download()
    assert stream.representation.complete_length == LENGTH


@pytest.mark.parametrize(
    ("fields", "asked"),
    [
        ((("Expires", formatdate(time.time() + 3600, usegmt=True)),), 0),
        ((("Expires", formatdate(time.time() - 3600, usegmt=True)),), 1),
        ((("Cache-Control", "max-age=3600"),), 0),
        ((("Cache-Control", "max-age=0"),), 1),
        ((("Expires", "not a date"),), 1),
        ((), 1),
    ],
)
async def test_headers_tell_when_to_validate(open_cache, origin, served, source, fields, asked):
    """Fresh answers are not validated; stale ones, and those without a word, are."""
    served.fields = fields
    cache = await open_cache()
    await cache.pre_cache_url(source)
    origin.reset_log()
    assert await cache.create_stream(source).validate_cache() is True
    assert origin.count() == asked


@pytest.mark.parametrize(
    ("old", "new", "verdict"),
    [
        ({"etag": '"a"'}, {"etag": '"a"'}, Comparison.SAME_STRONG),
        ({"etag": '"a"'}, {"etag": '"b"'}, Comparison.DIFFERENT),
        (
            {"last-modified": formatdate(1000, usegmt=True)},
            {"last-modified": formatdate(2000, usegmt=True)},
            Comparison.DIFFERENT,
        ),
        ({"last-modified": "no date"}, {"last-modified": "no date"}, Comparison.UNKNOWN),
        ({}, {}, Comparison.UNKNOWN),
    ],
)
async def test_headers_tell_whether_it_is_the_same(old, new, verdict):
    """Tags decide, then dates; what cannot be read says nothing, and other lengths say it all."""
    first = Representation(fields=Fields.of(*old.items()), complete_length=5)
    second = Representation(fields=Fields.of(*new.items()), complete_length=5)
    assert compare(first, second) is verdict
    longer = Representation(fields=Fields.of(*new.items()), complete_length=6)
    assert compare(first, longer) is Comparison.DIFFERENT


async def test_headers_survive_a_restart(open_cache, served, source):
    """What was stored comes back, lists joined as HTTP joins them."""
    served.fields = (("X-List", "a"), ("X-List", "b"), ("Cache-Control", "max-age=5"))
    cache = await open_cache()
    await cache.pre_cache_url(source)
    before = (await cache.get_cache_record(source)).representation
    await cache.aclose()
    again = await open_cache()
    after = (await again.get_cache_record(source)).representation
    assert after == before
    assert after.fields.joined("x-list") == "a, b"


async def test_ranges_are_inclusive_on_the_wire_only(open_cache, origin, source, http):
    """A half-open span of the program is the origin's inclusive range, and back."""
    cache = await open_cache()
    stream = cache.create_stream(source)
    assert await read_span(stream, 5, 10) == DATA[5:10]
    assert origin.requests[0].range == "bytes=5-9"
    got = await http(cache, source, 5, 10)
    assert got.fields.get("content-range") == f"bytes 5-9/{LENGTH}"


@pytest.mark.parametrize(("start", "end"), [(10, 5), (-1, None), (-5, 5), (5, 5)])
async def test_ranges_that_are_none_raise(open_cache, source, start, end):
    """A start past the end, or a negative one, is the program's mistake."""
    cache = await open_cache()
    with pytest.raises(ValueError, match="not a range"):
        await cache.create_stream(source).request(start, end)


@pytest.mark.parametrize("told", ["garbage", "bytes */307200", "bytes 5-4/307200", "items 0-9/10"])
async def test_ranges_of_the_origin_that_are_none_are_never_used(open_cache, served, source, told):
    """A Content-Range that names no bytes brings none."""
    served.content_range = told
    cache = await open_cache()
    stream = cache.create_stream(source)
    with pytest.raises(UpstreamProtocolError):
        await read_span(stream, 0, 10)
    assert stream.state.stored_bytes == 0


async def test_ranges_without_a_total_are_right_or_refused(open_cache, served, source, http):
    """``bytes 0-9/*`` tells no length; nothing is invented for it."""
    served.plan = lambda request: (
        {"content_range": request.range.replace("=", " ") + "/*"} if request.range else None
    )
    cache = await open_cache()
    got = await http(cache, source, 0, 10)
    if got.status in (200, 206):
        assert got.content in (DATA, DATA[:10])
    else:
        assert got.status == 502


async def test_ranges_asked_for_in_any_order_are_all_served(open_cache, source):
    """Readers that come in the wrong order wait for nobody but the bytes they want."""
    cache = await open_cache()
    stream = cache.create_stream(source)
    spans = [(200_000, 200_100), (0, None), (100, 200), (150_000, None), (0, 10)]
    got = await asyncio.gather(*(read_span(stream, *span) for span in spans))
    assert got == [DATA[start:stop] for start, stop in spans]


async def test_retain_counter(open_cache, source):
    """It starts at 1, is symmetric, never goes below 0, and force makes it 0."""
    cache = await open_cache()
    stream = cache.create_stream(source)
    counts = [stream.retain_count]
    for act in (stream.retain, stream.release, stream.release, stream.release, stream.retain):
        act()
        counts.append(stream.retain_count)
    assert counts == [1, 2, 1, 0, 0, 1]
    stream.retain()
    await stream.dispose(force=True)
    assert stream.retain_count == 0


async def test_single_flight_one_head_for_concurrent_calls(open_cache, origin, served, source):
    """Many who ask what is known ask the origin once; after an error it is asked anew."""
    cache = await open_cache(error_ttl=0)
    stream = cache.create_stream(source)
    served.gate = asyncio.Event()
    served.fail(404)
    first = asyncio.create_task(stream.head())
    await origin.wait_request()
    served.gate.set()
    with pytest.raises(TransportError):
        await first
    served.fail(404, times=0)
    origin.reset_log()
    heads = await asyncio.gather(*(stream.head() for _ in range(5)))
    assert len(set(map(id, heads))) == 1
    assert origin.count() == 1


async def test_single_flight_one_download_for_concurrent_calls(open_cache, origin, source):
    """Many who want all of it get it from one download; after an error it is tried anew."""
    cache = await open_cache(error_ttl=0)
    origin.files["/dir/a.bin"].fail(404, times=1)
    stream = cache.create_stream(source)
    with pytest.raises(TransportError):
        await stream.download()
    origin.reset_log()
    files = await asyncio.gather(*(stream.download() for _ in range(5)))
    assert len(set(files)) == 1
    assert origin.bytes_sent() == LENGTH


async def test_single_flight_does_not_hold_up_the_end(open_cache, origin, served, source):
    """A stream whose origin hangs in a check or a HEAD can be closed at once."""
    cache = await open_cache(validation="always", read_timeout=600, request_timeout=600)
    held = cache.create_stream(source)
    await held.download()
    fresh = cache.create_stream(origin.url("/dir/b.bin"))
    origin.add("/dir/b.bin", DATA, gate=asyncio.Event())
    served.gate = asyncio.Event()
    asking = [asyncio.create_task(read_span(held)), asyncio.create_task(fresh.head())]
    await origin.wait_request(3)
    async with asyncio.timeout(PATIENCE_S):
        assert await held.dispose(force=True)
        assert await fresh.dispose(force=True)
        await cache.aclose()
    for task in asking:
        task.cancel()
    await asyncio.wait(asking)


@pytest.mark.parametrize(
    "url",
    [
        "https://example.com/video.mp4",
        "http://example.com:8080/a/b/c/d.mp3",
        "http://127.0.0.1:9000/a.bin",
        "http://[::1]:9000/a.bin",
        "https://intranet/v.mp4",
        "https://example.com/a.mp4?token=a%2Fb&x=1&x=2",
        "https://example.com/very/deep/path/to/some/file.m3u8?q=%20",
        "https://example.com/caf%C3%A9/%E2%82%AC.mp4",
        "https://example.com/a%2Fb/%25.bin",
        "https://example.com/",
        "https://example.com/a//b/;c=1/@x:y",
    ],
)
async def test_url_codec_round_trips(open_cache, url):
    """A local URL names its source exactly, and the local URL of a local URL is itself."""
    cache = await open_cache()
    local = cache.get_cache_url(url)
    assert local.startswith(f"{cache.base_url}/")
    assert cache.get_cache_url(local) == local
    assert cache.create_stream(local).source == url
    assert cache.get_existing_stream(url) is cache.get_existing_stream(local)


async def test_url_codec_knows_its_own_only(open_cache, origin):
    """A URL of another server, on loopback too, is a source; what is none of both is an error."""
    cache = await open_cache()
    other = origin.url("/https/example.com/a.bin")
    assert cache.create_stream(other).source == other
    for url in (f"{cache.base_url}/nothing", f"{cache.base_url}/", "not a url"):
        with pytest.raises(InvalidURLError):
            cache.get_cache_url(url)


# ---------------------------------------------------------------------------
# The 0.2 era: readers that follow what is being stored
# ---------------------------------------------------------------------------


class Fed(UpstreamResponse):
    """An answer whose content a test gives out piece by piece; None ends it."""

    def __init__(self, feed: Feed, status: int, fields: Fields) -> None:
        self.status, self.fields = status, fields
        self.url = "http://e.test/a.bin"
        self.request_time = self.response_time = time.time()
        self._feed = feed

    async def __aiter__(self):
        while (piece := await self._feed.pieces.get()) is not None:
            if isinstance(piece, Exception):
                raise piece
            yield piece

    async def aclose(self) -> None:
        """Note that nobody wants more."""
        self._feed.left.set()


class Feed(Transport):
    """An origin without ranges that sends what a test says, once."""

    schemes = frozenset({"http"})

    def __init__(self, length: int | None) -> None:
        self.pieces: asyncio.Queue[bytes | Exception | None] = asyncio.Queue()
        self.left = asyncio.Event()
        self.requests = 0
        self._length = length

    async def fetch(self, request):
        """Answer the first request, and refuse to be connected to again."""
        self.requests += 1
        if self.requests > 1:
            raise ConnectError("nobody is there any more", url=request.url)
        lines = [("Accept-Ranges", "none"), ("ETag", '"v1"')]
        if self._length is not None:
            lines.append(("Content-Length", str(self._length)))
        return Fed(self, 200, Fields.of(*lines))

    def give(self, start: int, stop: int) -> None:
        """Send some of the content."""
        self.pieces.put_nowait(DATA[start:stop])

    async def aclose(self) -> None:
        """Nothing is open."""


@pytest.fixture
def follow(open_cache):
    """Open a stream that follows a feed."""

    async def open_stream(length=LENGTH, **settings):
        feed = Feed(length)
        cache = await open_cache(transport=feed, **{"request_timeout": PATIENCE_S, **settings})
        return feed, cache.create_stream("http://e.test/a.bin"), cache

    return open_stream


async def begin(feed, stream, start=0, end=None):
    """Give the first 1000 bytes out, and return a reader of a span that begins there."""
    feed.give(0, 1000)
    return await stream.request(start, end)


async def test_following_data_that_is_stored_after_attach(follow):
    """A reader gets each piece as it is stored."""
    feed, stream, _ = await follow()
    async with await begin(feed, stream) as response:
        pieces = aiter(response)
        got = await anext(pieces)
        assert got == DATA[:1000]
        feed.give(1000, 1500)
        assert await anext(pieces) == DATA[1000:1500]
        feed.give(1500, LENGTH)
        feed.pieces.put_nowait(None)
        assert b"".join([piece async for piece in pieces]) == DATA[1500:]


async def test_following_with_a_pause_loses_nothing(follow, eventually):
    """What comes while a reader does not read waits for it, in the store."""
    feed, stream, _ = await follow()
    async with await begin(feed, stream) as response:
        feed.give(1000, LENGTH)
        feed.pieces.put_nowait(None)
        await eventually(lambda: stream.state.complete)
        assert await response.read() == DATA


async def test_following_a_range_across_stored_and_future_data(follow, eventually):
    """A range may begin in what is stored and end in what is not."""
    feed, stream, cache = await follow()
    async with await begin(feed, stream, 500, 2000) as response:
        reading = asyncio.create_task(response.read())
        await eventually(lambda: cache.statistics().waiting_readers == 1)
        feed.give(1000, 3000)
        assert await reading == DATA[500:2000]


async def test_following_without_a_length_ends_at_a_clean_close(follow):
    """The end of the content is the end of the reader."""
    feed, stream, _ = await follow(length=None)
    async with await begin(feed, stream) as response:
        reading = asyncio.create_task(response.read())
        feed.give(1000, 5000)
        feed.pieces.put_nowait(None)
        assert await reading == DATA[:5000]
    assert stream.state.complete_length == 5000


@pytest.mark.parametrize("length", [LENGTH, None], ids=["bounded", "open-ended"])
async def test_following_gives_all_stored_bytes_before_the_error(follow, length):
    """When the feed breaks off for good a reader gets what came, then the error, never an end."""
    feed, stream, _ = await follow(length=length, request_timeout=0.3)
    got = bytearray()
    async with await begin(feed, stream) as response:
        feed.give(1000, 5000)
        feed.pieces.put_nowait(UpstreamProtocolError("broken off"))
        with pytest.raises(TransportError):
            async for piece in response:
                got += piece  # what came before the error counts
    assert got == DATA[:5000]


async def test_following_a_feed_that_closes_early_is_an_error(follow):
    """An end before the length is none."""
    feed, stream, _ = await follow(request_timeout=0.3)
    async with await begin(feed, stream) as response:
        feed.give(1000, 5000)
        feed.pieces.put_nowait(None)
        with pytest.raises(TransportError):
            await response.read()
    assert not stream.state.complete


async def test_following_stops_when_it_is_cancelled(follow):
    """When the last reader leaves, the source is let go."""
    feed, stream, cache = await follow(pause_after=0, dispose_after=0)
    response = await begin(feed, stream)
    await response.aclose()
    stream.release()
    async with asyncio.timeout(PATIENCE_S):
        await feed.left.wait()
    assert cache.statistics().open_readers == 0


async def test_following_by_independent_and_repeated_listeners(follow):
    """Each reader has its own place; the same span can be read again and again."""
    feed, stream, _ = await follow()
    first = await begin(feed, stream)
    second = await stream.request()
    feed.give(1000, LENGTH)
    feed.pieces.put_nowait(None)
    assert await first.read() == DATA
    assert await second.read() == DATA
    assert await read_span(stream) == DATA
    assert feed.requests == 1
    await first.aclose()
    await second.aclose()


async def test_following_does_not_wait_beyond_the_range_end(follow):
    """A range ends with its last byte, though the download has only begun."""
    feed, stream, _ = await follow()
    async with await begin(feed, stream, 0, 1000) as response:
        assert await asyncio.wait_for(response.read(), PATIENCE_S) == DATA[:1000]


async def test_following_survives_the_rename(open_cache, origin, tmp_path, eventually):
    """A reader in mid-file reads on when the file gets its final name."""
    wanted = tmp_path / "own.bin"
    origin.add("/a.bin", DATA)
    cache = await open_cache()
    stream = cache.create_stream(origin.url("/a.bin"), file=wanted)
    async with await stream.request() as response:
        pieces = aiter(response)
        got = await anext(pieces)
        await stream.download()
        assert wanted.exists()
        got += b"".join([piece async for piece in pieces])
    assert got == DATA


async def test_feed_wakes_immediate_later_and_multiple_waits(follow, eventually):
    """Who wants what is stored does not wait; the others are woken by their byte, all at once."""
    feed, stream, cache = await follow()
    async with await begin(feed, stream, 0, 10) as response:
        assert await response.read() == DATA[:10]
    waiting = [asyncio.create_task(read_span(stream, at, at + 10)) for at in (2000, 2000, 5000)]
    await eventually(lambda: cache.statistics().waiting_readers == 3)
    feed.give(1000, 3000)
    assert [await each for each in waiting[:2]] == [DATA[2000:2010]] * 2
    assert not waiting[2].done()
    feed.give(3000, 6000)
    assert await waiting[2] == DATA[5000:5010]


async def test_feed_that_ends_wakes_all_and_keeps_the_first_result(follow, eventually):
    """At the end of the stream everybody is told, and told the same later."""
    feed, stream, cache = await follow()
    feed.give(0, 1000)
    readers = [await stream.request(0, 2000) for _ in range(3)]
    reading = [asyncio.create_task(reader.read()) for reader in readers]
    await eventually(lambda: cache.statistics().waiting_readers == 3)
    await stream.dispose(force=True)
    for task in reading:
        with pytest.raises(ClosedError):
            await task
    for reader in readers:
        with pytest.raises(ClosedError):
            await reader.read()
        await reader.aclose()


async def test_feed_never_moves_backward(open_cache, origin):
    """The position only grows, through retries too."""
    origin.add("/a.bin", DATA).drop(after=50_000, times=3)
    cache = await open_cache()
    stream = cache.create_stream(origin.url("/a.bin"))
    seen: list[int] = []

    async def watch() -> None:
        async for state in stream.states():
            seen.append(state.position)
            if state.complete:
                return

    watching = asyncio.create_task(watch())
    await stream.download()
    await asyncio.wait_for(watching, PATIENCE_S)
    assert seen == sorted(seen)
    assert seen[-1] == LENGTH


async def test_feed_wait_that_is_cancelled_is_released(follow, eventually):
    """A waiter that gives up is forgotten; giving up after the byte came changes nothing."""
    feed, stream, cache = await follow()
    response = await begin(feed, stream, 0, 2000)
    pieces = aiter(response)
    assert await anext(pieces) == DATA[:1000]
    waiting = asyncio.create_task(anext(pieces))
    await eventually(lambda: cache.statistics().waiting_readers == 1)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert cache.statistics().waiting_readers == 0
    feed.give(1000, 3000)
    assert await response.read() == DATA[1000:2000]
    waiting.cancel()
    await response.aclose()


async def test_a_consumer_slower_than_the_download_gets_the_full_body(open_cache, origin):
    """4 MiB through a limit of 1 MiB, taken in sips."""
    film = pattern("film", 4 * MIB)
    origin.add("/film.bin", film)
    cache = await open_cache(max_buffer_size=1 * MIB)
    stream = cache.create_stream(origin.url("/film.bin"))
    got = bytearray()
    async with await stream.request() as response:
        async for piece in response:
            got += piece
            await asyncio.sleep(0.001)
    assert got == film.bytes()


async def test_a_consumer_that_stalls_gets_the_full_body(open_cache, origin):
    """A player that stops in mid-body, while all is downloaded, goes on where it was."""
    film = pattern("film", 4 * MIB)
    origin.add("/film.bin", film)
    cache = await open_cache(max_buffer_size=1 * MIB, read_timeout=0.3, request_timeout=0.3)
    stream = cache.create_stream(origin.url("/film.bin"))
    async with (
        aiohttp.ClientSession(read_bufsize=4096) as session,
        session.get(stream.cache_url) as response,
    ):
        got = await response.content.readexactly(1000)
        await stream.download()
        await asyncio.sleep(1)  # the stall itself, longer than any timeout
        got += await response.content.read()
    assert got == film.bytes()


async def test_a_slow_range_opened_in_mid_download_is_intact(open_cache, origin, eventually):
    """A range that begins while the download runs is whole, however slowly it is read."""
    film = pattern("film", 4 * MIB)
    gate = asyncio.Event()
    origin.add("/film.bin", film).stall(1 * MIB, gate=gate)
    cache = await open_cache(max_buffer_size=1 * MIB)
    stream = cache.create_stream(origin.url("/film.bin"))
    downloading = asyncio.create_task(stream.download())
    await eventually(lambda: stream.state.position >= 1 * MIB)
    got = bytearray()
    async with await stream.request(500_000, 3 * MIB) as response:
        async for piece in response:
            got += piece
            gate.set()
            await asyncio.sleep(0.001)
    await downloading
    assert got == film.bytes(500_000, 3 * MIB)


async def test_server_rebinds_on_the_same_port_with_a_new_socket(open_cache, source, http):
    """A listener that was lost is replaced where it was."""
    cache = await open_cache()
    base = cache.base_url
    cache._frontend._listener.close()
    assert await cache.ensure_active() is True
    assert cache.base_url == base
    assert (await http(cache, source)).content == DATA


async def test_ensure_active_leaves_a_healthy_server_alone(open_cache, source, http):
    """A server that answers is left alone."""
    cache = await open_cache()
    listener = cache._frontend._listener
    assert await cache.ensure_active() is False
    assert cache._frontend._listener is listener


# ---------------------------------------------------------------------------
# What the seed leaves untested
# ---------------------------------------------------------------------------


async def test_untested_source_change_at_resume(open_cache, served, source):
    """A part of an old version is not completed with bytes of the new one."""
    first = await open_cache()
    await first.pre_cache_url(source, bytes=100 * KIB)
    await first.aclose()
    served.change(FRESH, etag='"v2"', last_modified=1_700_009_000.0)
    cache = await open_cache()
    assert (await cache.pre_cache_url(source)).read_bytes() == FRESH


@pytest.mark.parametrize("answer", ["full", "416", 503])
async def test_untested_200_416_503_on_resume(open_cache, served, source, answer):
    """However the origin answers a resume, the file is right in the end."""
    first = await open_cache()
    await first.pre_cache_url(source, bytes=100 * KIB)
    await first.aclose()
    cache = await open_cache()
    if answer == 503:
        served.fail(503, times=1)
    else:
        served.plan = lambda request: {"range_answer": answer} if request.range else None
    assert (await cache.pre_cache_url(source)).read_bytes() == DATA


async def test_untested_drop_and_retry_in_mid_stream(open_cache, origin, served, source, http):
    """A socket that is dropped once after some bytes costs one more request."""
    served.drop(after=100 * KIB)
    cache = await open_cache()
    got = await http(cache, source)
    assert (got.content, got.complete) == (DATA, True)
    assert [request.range for request in origin.requests][1] == f"bytes=102400-{LENGTH - 1}"


@pytest.mark.parametrize("threshold", [0, 1 * MIB, None])
async def test_untested_split_requests(open_cache, origin, http, threshold, eventually):
    """A reader far ahead gets a connection of its own beyond the threshold, and its bytes stay."""
    film = pattern("film", 8 * MIB)
    gate = asyncio.Event()
    served = origin.add("/film.bin", film)
    served.plan = lambda request: (
        {"stall_after": 100_000, "stall_gate": gate} if origin.count() == 1 else None
    )
    source = origin.url("/film.bin")
    cache = await open_cache(range_request_split_threshold=threshold, completion="complete")
    first = asyncio.create_task(http(cache, source, 0, 1 * MIB))
    await origin.wait_request()
    await eventually(lambda: cache.get_existing_stream(source).state.position >= 100_000)
    ahead = asyncio.create_task(http(cache, source, 6 * MIB, 6 * MIB + 1000))
    if threshold is None:
        await eventually(lambda: cache.statistics().waiting_readers == 2)
        gate.set()
    assert (await ahead).content == film.bytes(6 * MIB, 6 * MIB + 1000)
    assert threshold is None or not first.done()
    gate.set()
    assert (await first).content == film.bytes(0, 1 * MIB)
    again = await http(cache, source, 6 * MIB, 6 * MIB + 1000)
    assert again.content == film.bytes(6 * MIB, 6 * MIB + 1000)
    await cache.pre_cache_url(source)
    assert origin.bytes_sent() <= 8 * MIB + 256 * KIB


async def test_untested_source_without_ranges(open_cache, origin, served, source, http):
    """One linear download serves ranges in any order, and a restart gets the rest right."""
    served.ranges = False
    cache = await open_cache()
    spans = [(200_000, 200_100), (5, 50), (LENGTH - 10, None)]
    answers = await asyncio.gather(*(http(cache, source, *span) for span in spans))
    assert [got.content for got in answers] == [DATA[start:stop] for start, stop in spans]
    assert origin.count() == 1


@pytest.mark.parametrize("framing", ["chunked", "close"])
async def test_untested_chunked_or_unknown_length(open_cache, origin, http, framing):
    """The length is learned at the end, and kept."""
    origin.add("/live.bin", DATA, framing=framing, ranges=False)
    cache = await open_cache()
    got = await http(cache, origin.url("/live.bin"))
    assert (got.content, got.complete) == (DATA, True)
    await cache.aclose()
    again = await open_cache(offline=True)
    got = await http(again, origin.url("/live.bin"), 10, 20)
    assert (got.status, got.content) == (206, DATA[10:20])


async def test_untested_lifecycle_pause_cancel_resume(open_cache, origin, eventually):
    """A download pauses when nobody holds it, its connection goes, and it resumes by range."""
    gate = asyncio.Event()
    origin.add("/a.bin", DATA).stall(100 * KIB, times=None, gate=gate)
    cache = await open_cache(pause_after=0.05, dispose_after=600)
    stream = cache.create_stream(origin.url("/a.bin"))
    downloading = asyncio.create_task(stream.download())
    await eventually(lambda: stream.state.position == 100 * KIB)
    downloading.cancel()
    stream.release()
    await eventually(lambda: not stream.is_downloading)
    await origin.wait_idle(PATIENCE_S)
    gate.set()
    stream.retain()
    assert (await stream.download()).read_bytes() == DATA
    assert origin.requests[-1].range == f"bytes=102400-{LENGTH - 1}"


async def test_untested_validate_and_reset_cache(open_cache, served, source):
    """Valid, invalid, reset, and valid again."""
    cache = await open_cache()
    stream = cache.create_stream(source)
    await stream.download()
    assert await stream.validate_cache(force=True) is True
    served.change(FRESH, etag='"v2"')
    assert await stream.validate_cache(force=True) is False
    await stream.reset_cache()
    assert await stream.validate_cache(force=True) is None
    assert (await stream.download()).read_bytes() == FRESH
    assert await stream.validate_cache(force=True) is True


@pytest.mark.parametrize("setting", ["save_metadata", "save_partial_cache"])
async def test_untested_what_is_saved(open_cache, origin, source, setting):
    """What shall not be saved is gone when its stream is, and only that."""
    origin.add("/part.bin", DATA)
    cache = await open_cache(**{setting: False})
    await cache.pre_cache_url(source)
    await cache.pre_cache_url(origin.url("/part.bin"), bytes=1000)
    await asyncio.gather(*(each.dispose(force=True) for each in cache.all_streams))
    kept = [record.source for record in await cache.cache_records()]
    assert kept == [source if setting == "save_partial_cache" else origin.url("/part.bin")]


async def test_untested_corrupt_metadata(open_cache, source, http, tmp_path):
    """An index full of garbage costs the entries, not the program."""
    cache = await open_cache()
    await cache.pre_cache_url(source)
    await cache.aclose()
    (tmp_path / "cache" / "index" / "cache.db").write_bytes(os.urandom(20_000))
    again = await open_cache()
    assert await again.cache_records() == ()
    assert (await http(again, source)).content == DATA
    assert len(await again.cache_records()) == 1


async def test_untested_disk_full(open_cache, origin, http):
    """With no room at all everything passes through."""
    film = pattern("film", 4 * MIB)
    origin.add("/film.bin", film)
    cache = await open_cache(max_size=0)
    got = await http(cache, origin.url("/film.bin"))
    assert (got.content == film.bytes(), got.complete) == (True, True)
    assert (await cache.usage()).allocated_bytes == 0


async def test_untested_query_and_port_collisions(open_cache, origin):
    """URLs that differ in their query or port only are different."""
    async with Origin() as other:
        contents = {
            origin.url("/v?id=1"): b"one",
            origin.url("/v?id=2"): b"two",
            other.url("/v?id=1"): b"three",
        }
        for number in (1, 2):
            origin.add(f"/v?id={number}", contents[origin.url(f"/v?id={number}")])
        other.add("/v?id=1", b"three")
        cache = await open_cache()
        for source, content in contents.items():
            assert (await cache.pre_cache_url(source)).read_bytes() == content


async def test_untested_hls_trees(open_cache, origin):
    """A master playlist, its media playlists and their segments are read by relative links."""
    origin.add("/hls/master.m3u8", b"#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=1\nlow/index.m3u8\n")
    origin.add("/hls/low/index.m3u8", b"#EXTM3U\n#EXT-X-MAP:URI=init.mp4\n#EXTINF:2,\n1.m4s\n")
    origin.add("/hls/low/init.mp4", DATA[:1000])
    origin.add("/hls/low/1.m4s", DATA)
    cache = await open_cache(allow_hosts=())
    base = cache.get_cache_url(origin.url("/hls/master.m3u8"))
    async with aiohttp.ClientSession() as session:
        for _ in range(2):
            got = []
            for name in ("", "low/index.m3u8", "low/init.mp4", "low/1.m4s"):
                async with session.get(urljoin(base, name)) as response:
                    got.append(await response.read())
            assert got[2:] == [DATA[:1000], DATA]
    assert origin.count() == 4


async def test_untested_concurrency_limits(open_cache, origin, http):
    """Thirty clients at thirty places of one file open no more than the allowed connections."""
    film = pattern("film", 40 * MIB)
    origin.add("/film.bin", film)
    source = origin.url("/film.bin")
    cache = await open_cache(max_connections=3)
    places = [number * MIB for number in range(30)]
    answers = await asyncio.gather(*(http(cache, source, at, at + 100) for at in places))
    assert [got.content for got in answers] == [film.bytes(at, at + 100) for at in places]
    assert origin.accepted <= 4  # the three, and one that a shortened answer costs


async def test_untested_header_copying_and_override_order(open_cache, served, source, http):
    """Configured fields win over copied ones, and a stream's over the manager's."""
    served.fields = (("X-A", "origin"), ("X-B", "origin"), ("X-C", "origin"))
    cache = await open_cache(
        copy_cached_response_headers=True, response_headers={"X-B": "manager", "X-C": "manager"}
    )
    stream = cache.create_stream(
        source, response_headers={**cache.settings.response_headers, "X-C": "stream"}
    )
    fields = (await http(cache, source)).fields
    assert [fields.get_all(name) for name in ("x-a", "x-b", "x-c")] == [
        ("origin",),
        ("manager",),
        ("stream",),
    ]
    stream.release()


@pytest.mark.parametrize(
    ("mischief", "status"),
    [("404", 404), ("silence", 504), ("refused", 502), ("unresolvable", 502)],
)
async def test_untested_404_and_timeout_mapping(open_cache, origin, source, http, mischief, status):
    """Each way to fail has the status that tells it."""
    cache = await open_cache(read_timeout=0.2, request_timeout=1)
    if mischief == "404":
        source = origin.url("/nothing.bin")
    elif mischief == "silence":
        origin.files["/dir/a.bin"].gate = asyncio.Event()
    elif mischief == "refused":
        await origin.down()
    else:
        source = "http://no-such-host.invalid/a.bin"
    assert (await http(cache, source)).status == status


async def test_untested_ipv6(open_cache, http):
    """An origin with an IPv6 literal is an origin, and the server can listen on one too."""
    with socket.socket(socket.AF_INET6) as probe:
        probe.bind(("::1", 0))
    async with Origin(host="::1") as origin:
        origin.add("/a.bin", DATA)
        cache = await open_cache()
        local = cache.get_cache_url(origin.url("/a.bin"))
        assert f"/http/[::1]:{origin.port}/a.bin" in local
        assert (await http(cache, origin.url("/a.bin"), 10, 20)).content == DATA[10:20]
        over_six = await open_cache(host="::1")
        assert over_six.base_url.startswith("http://[::1]:")
        url = over_six.get_cache_url(origin.url("/a.bin"))
        async with aiohttp.ClientSession() as session, session.get(url) as response:
            assert await response.read() == DATA


@pytest.mark.parametrize(
    "path",
    [
        "/caf%C3%A9.bin", "/caf%c3%a9.bin", "/a%20b+c.bin", "/a%2Fb.bin", "/100%25.bin",
        "/x.bin?q=%26&r=a%2Bb", "/x.bin?q=%zz", "/~user/(a)!'*.bin", "/a%3Fb.bin",
    ],
)  # fmt: skip
async def test_untested_percent_encoding(open_cache, origin, http, path):
    """The origin sees the path as it was written, and so do two URLs that differ in it."""
    origin.fallback = origin.add("/any", DATA)
    cache = await open_cache()
    assert (await http(cache, origin.url(path))).content == DATA
    assert origin.requests[0].target == path
    assert (await cache.cache_records())[0].source == origin.url(path)


async def test_untested_errors_are_of_one_family():
    """A program can catch whatever goes wrong by one name."""
    for error in (RangeNotSatisfiableError, RepresentationChangedError, ClosedError, StoreError):
        assert issubclass(error, CacheStreamError)
