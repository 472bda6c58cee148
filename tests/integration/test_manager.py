"""What a program does with a `CacheManager`: servers, URLs, files, records, callbacks, its end."""

from __future__ import annotations

import asyncio
import gc
import logging
import socket
from pathlib import Path

import attrs
import pytest

from cachestream import CacheManager, Settings
from cachestream.backends import MemoryStore
from cachestream.core.spans import Span
from cachestream.errors import (
    ClosedError,
    ConfigurationError,
    InvalidURLError,
    PluginNotFoundError,
    ServerUnavailableError,
    StoreError,
    UpstreamStatusError,
)
from cachestream.events import (
    Event,
    RequestAnswered,
    ResourceCompleted,
    StreamCreated,
    StreamDisposed,
)
from cachestream.testing.origin import pattern
from cachestream.transports import HttpTransport

LENGTH = 300_000
DATA = pattern("manager", LENGTH).bytes()
MIB = 1 << 20
PATIENCE_S = 45.0

pytestmark = pytest.mark.asyncio


@pytest.fixture
def source(origin) -> str:
    """Return the URL of some content."""
    origin.add("/dir/a.bin", DATA)
    return origin.url("/dir/a.bin")


def free_port() -> int:
    """Return a port that was free a moment ago."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return listener.getsockname()[1]


# ---------------------------------------------------------------------------
# The server, and life
# ---------------------------------------------------------------------------


async def test_any_free_port(open_cache):
    """Managers of one process listen on ports of their own, on loopback."""
    first, second = await open_cache(), await open_cache()
    assert first.has_server
    assert first.base_url.startswith("http://127.0.0.1:")
    assert first.base_url != second.base_url


async def test_a_fixed_port_keeps_local_urls(open_cache, source, http):
    """A local URL that a player remembers is good after a restart."""
    port = free_port()
    first = await open_cache(port=port)
    url = first.get_cache_url(source)
    assert url.startswith(f"http://127.0.0.1:{port}/http/")
    await first.aclose()
    second = await open_cache(port=port)
    assert second.get_cache_url(source) == url
    assert (await http(second, url)).content == DATA


async def test_a_port_that_is_taken_is_said(open_cache):
    """Starting on a port of somebody else fails with the port in the message."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ConfigurationError, match=str(port)):
            await open_cache(port=port)


async def test_entered_in_one_task_and_closed_in_another(tmp_path, source, http):
    """Frameworks that start and stop in different tasks can use it."""
    cache = CacheManager(cache_dir=tmp_path, min_free=0)
    await asyncio.create_task(cache.__aenter__())
    assert (await http(cache, source)).content == DATA
    await asyncio.create_task(cache.__aexit__(None, None, None))
    assert cache.is_closed


async def test_start_and_close_are_idempotent(tmp_path):
    """Starting twice is starting once; so is closing."""
    cache = CacheManager(cache_dir=tmp_path, min_free=0)
    await cache.start()
    base = cache.base_url
    await cache.start()
    assert cache.base_url == base
    await asyncio.gather(cache.aclose(), cache.aclose())
    await cache.aclose()


async def test_a_closed_manager_says_so(tmp_path, source):
    """Whatever is asked of a manager before its start or after its end is a clear error."""
    cache = CacheManager(cache_dir=tmp_path, min_free=0)
    with pytest.raises(ClosedError):
        cache.get_cache_url(source)
    await cache.start()
    stream = cache.create_stream(source)
    await cache.aclose()
    for ask in (cache.get_cache_url, cache.create_stream, cache.get_existing_stream):
        with pytest.raises(ClosedError):
            ask(source)
    with pytest.raises(ClosedError):
        cache.statistics()
    for work in (cache.start(), cache.pre_cache_url(source), cache.cache_records(), cache.usage()):
        with pytest.raises(ClosedError):
            await work
    assert stream.is_disposed
    for work in (stream.download(), stream.request(), stream.head()):
        with pytest.raises(ClosedError):
            await work


async def test_closing_disposes_of_streams_however_often_retained(open_cache, source):
    """Nothing that a program still holds keeps a closed cache alive."""
    cache = await open_cache()
    stream = cache.create_stream(source)
    assert cache.create_stream(source) is stream
    assert stream.retain_count == 2
    await cache.aclose()
    assert stream.is_disposed
    assert await stream.dispose()


async def test_an_unclosed_manager_warns(tmp_path):
    """A manager that is forgotten is a warning, as an unclosed file is."""

    async def forget() -> None:
        await CacheManager(cache_dir=tmp_path, min_free=0).start()

    def run() -> None:
        asyncio.run(forget())
        gc.collect()

    with pytest.warns(ResourceWarning, match="unclosed <cachestream"):
        await asyncio.to_thread(run)


async def test_without_a_server(open_cache, source):
    """Programs that may not listen read through streams; local URLs are a clear error."""
    cache = await open_cache(start_server=False, port=1)
    assert not cache.has_server
    assert cache.base_url is None
    with pytest.raises(ServerUnavailableError):
        cache.get_cache_url(source)
    assert await cache.ensure_active() is False
    stream = cache.create_stream(source)
    assert stream.cache_url is None
    async with await stream.request(5, 10) as response:
        assert await response.read() == DATA[5:10]
    stream.release()


async def test_ensure_active_leaves_a_healthy_server_alone(open_cache, source, http):
    """A server that answers is not touched."""
    cache = await open_cache()
    base = cache.base_url
    assert await cache.ensure_active() is False
    assert cache.base_url == base
    assert (await http(cache, source)).content == DATA


async def test_ensure_active_listens_anew_on_the_same_port(open_cache, source, http):
    """A server that was lost, as suspended machines lose theirs, is back at its address."""
    cache = await open_cache()
    url = cache.get_cache_url(source)
    cache._frontend._listener.close()
    assert await cache.ensure_active() is True
    assert cache.get_cache_url(source) == url
    assert (await http(cache, source)).content == DATA


# ---------------------------------------------------------------------------
# Local URLs
# ---------------------------------------------------------------------------


async def test_get_cache_url_is_idempotent_and_lazy(open_cache, origin, source):
    """The local URL of a local URL is itself; making one makes no stream and asks nobody."""
    cache = await open_cache()
    url = cache.get_cache_url(source)
    assert cache.get_cache_url(url) == url == cache.get_cache_url(source)
    assert cache.get_cache_url(url.replace("127.0.0.1", "localhost", 1)) == url
    assert cache.all_streams == ()
    assert origin.count() == 0


async def test_a_first_request_makes_the_stream(open_cache, source, http, eventually):
    """A stream lives from the first request to a while after the last."""
    cache = await open_cache(pause_after=0, dispose_after=0)
    assert (await http(cache, source)).content == DATA
    await eventually(lambda: cache.all_streams == ())
    longer = await open_cache()
    assert (await http(longer, source, 0, 10)).content == DATA[:10]
    assert [stream.source for stream in longer.all_streams] == [source]


async def test_schemes_that_nobody_serves_are_refused(open_cache):
    """A URL that no transport can fetch is an error that names those that can be."""
    cache = await open_cache()
    for ask in (cache.get_cache_url, cache.create_stream, cache.get_existing_stream):
        with pytest.raises(InvalidURLError, match="http, https"):
            ask("ftp://example.com/a")
    for work in (cache.pre_cache_url("ftp://x/a"), cache.open_file("ftp://x/a")):
        with pytest.raises(InvalidURLError, match="http, https"):
            await work


# ---------------------------------------------------------------------------
# Streams
# ---------------------------------------------------------------------------


async def test_one_stream_for_each_resource(open_cache, source):
    """Source and local URL give one stream, which counts who holds it."""
    cache = await open_cache()
    assert cache.get_existing_stream(source) is None
    stream = cache.create_stream(source)
    assert cache.create_stream(cache.get_cache_url(source)) is stream
    assert cache.get_existing_stream(source) is stream
    assert cache.get_existing_stream(stream.cache_url) is stream
    assert stream.retain_count == 2
    assert cache.all_streams == (stream,)
    assert await stream.dispose(force=True)
    assert cache.get_existing_stream(source) is None


async def test_two_urls_with_one_key_are_one_resource(open_cache, origin):
    """A key function can drop a token that changes with every visit."""
    origin.add("/v.bin", DATA)
    cache = await open_cache(key=lambda source: source.partition("?")[0])
    first = cache.create_stream(origin.url("/v.bin?token=1"))
    assert cache.create_stream(origin.url("/v.bin?token=2")) is first
    await first.download()
    assert origin.count() == 1


async def test_on_stream_created(open_cache, source, http, eventually, caplog):
    """The program hears of each new stream once, whoever caused it; its mistakes are logged."""
    seen = []

    def created(stream):
        seen.append(stream.source)
        raise RuntimeError("a bug of the program")

    cache = await open_cache(on_stream_created=created)
    with caplog.at_level(logging.ERROR, "cachestream"):
        for _ in range(2):
            assert (await http(cache, source)).content == DATA
    assert seen == [source]
    assert "a callback failed" in caplog.text
    stream = cache.create_stream(source)
    assert seen == [source]
    await stream.dispose(force=True)
    cache.create_stream(source)
    assert seen == [source, source]


async def test_on_stream_created_may_be_async(open_cache, source):
    """A coroutine function is run, and may use the stream."""
    heads = asyncio.Queue()

    async def created(stream):
        heads.put_nowait((await stream.head()).complete_length)

    cache = await open_cache(on_stream_created=created)
    cache.create_stream(source)
    assert await asyncio.wait_for(heads.get(), PATIENCE_S) == LENGTH


async def test_on_cache_done(open_cache, source, http, eventually, caplog):
    """Both levels hear of a finished download, the stream's first, and not of a hit."""
    done = []

    def general(stream, file):
        done.append(("general", stream.source, file.read_bytes() == DATA))

    async def own(stream, file):
        done.append(("own", stream.source, file.read_bytes() == DATA))
        raise RuntimeError("a bug of the program")

    cache = await open_cache(on_cache_done=general)
    stream = cache.create_stream(source, on_cache_done=own)
    await stream.download()
    await eventually(lambda: len(done) == 2)
    assert sorted(done) == [("general", source, True), ("own", source, True)]
    await eventually(lambda: "a bug of the program" in caplog.text)
    assert (await http(cache, source)).content == DATA
    await stream.download()
    await stream.dispose(force=True)
    again = cache.create_stream(source)
    await again.download()
    assert (await http(cache, source)).content == DATA
    assert len(done) == 2


async def test_on_cache_done_without_a_program_that_waits(open_cache, source, http, eventually):
    """A player's reading to the end counts as well."""
    done = []
    cache = await open_cache(on_cache_done=lambda stream, file: done.append(stream.source))
    assert (await http(cache, source)).content == DATA
    await eventually(lambda: done == [source])


async def test_listeners_hear_it_in_order(open_cache, source, http, eventually):
    """Events tell a stream's life; a listener's mistake stops nobody."""
    heard: list[Event] = []

    def broken(event):
        raise RuntimeError("a bug of the program")

    cache = await open_cache(listeners=[broken, heard.append])
    assert (await http(cache, source)).content == DATA
    await eventually(lambda: any(isinstance(event, ResourceCompleted) for event in heard))
    await cache.aclose()
    wanted = (StreamCreated, RequestAnswered, ResourceCompleted, StreamDisposed)
    kinds = [type(event) for event in heard if isinstance(event, wanted)]
    assert (kinds[0], kinds[-1]) == (StreamCreated, StreamDisposed)
    assert sorted(kinds, key=wanted.index) == list(wanted)
    assert {event.source for event in heard} == {source}


# ---------------------------------------------------------------------------
# Files
# ---------------------------------------------------------------------------


@pytest.mark.parametrize("by", ["get_cache_url", "create_stream", "pre_cache_url", "resolver"])
async def test_a_file_of_ones_own(open_cache, origin, source, http, tmp_path, by, eventually):
    """Data comes to lie where the program wants it, whole, and serves as a hit from there."""
    wanted = tmp_path / "films" / "a.bin"
    wanted.parent.mkdir()
    changes = {"cache_file_resolver": lambda _: wanted} if by == "resolver" else {}
    cache = await open_cache(**changes)
    if by == "get_cache_url":
        cache.get_cache_url(source, file=wanted)
        assert (await http(cache, source)).content == DATA
    elif by == "create_stream":
        stream = cache.create_stream(source, file=wanted)
        assert await stream.download() == wanted
        stream.release()
    else:
        named = {"file": str(wanted)} if by == "pre_cache_url" else {}
        assert await cache.pre_cache_url(source, **named) == wanted
    await eventually(wanted.exists)
    assert wanted.read_bytes() == DATA
    assert [path.name for path in wanted.parent.iterdir()] == ["a.bin"]
    await cache.aclose()
    again = await open_cache()
    assert (await http(again, source)).content == DATA
    assert origin.count() == 1
    record = await again.get_cache_record(source)
    assert record.file == str(wanted)
    assert await again.delete(source)
    assert not wanted.exists()


async def test_a_file_that_the_program_changes_is_not_a_hit(open_cache, origin, source, tmp_path):
    """A file of one's own that is no longer what was written is fetched anew."""
    wanted = tmp_path / "a.bin"
    first = await open_cache()
    await first.pre_cache_url(source, file=wanted)
    await first.aclose()
    wanted.write_bytes(b"x" * LENGTH)
    second = await open_cache()
    async with second.open(source) as file:
        assert await file.read() == DATA


async def test_the_resolver_may_leave_it_to_the_store(open_cache, origin, tmp_path):
    """A resolver that returns None changes nothing."""
    for name in ("a.bin", "b.bin"):
        origin.add(f"/{name}", DATA)
    cache = await open_cache(
        cache_file_resolver=lambda source: tmp_path / "a.bin" if "/a.bin" in source else None
    )
    files = [await cache.pre_cache_url(origin.url(f"/{name}")) for name in ("a.bin", "b.bin")]
    assert files[0] == tmp_path / "a.bin"
    assert tmp_path / "cache" in files[1].parents
    assert all(file.read_bytes() == DATA for file in files)


async def test_another_file_for_a_live_stream_is_refused(open_cache, source, tmp_path):
    """Options for a stream that is in use are not ignored silently."""
    cache = await open_cache()
    stream = cache.create_stream(source, file=tmp_path / "a.bin")
    await stream.download()
    assert cache.create_stream(source, file=tmp_path / "a.bin") is stream
    with pytest.raises(ConfigurationError, match="another place"):
        cache.create_stream(source, file=tmp_path / "b.bin")
    assert stream.retain_count == 2


async def test_a_file_for_what_is_stored_already(open_cache, origin, source, tmp_path):
    """What the store holds is put where the program wants it later."""
    cache = await open_cache()
    await cache.pre_cache_url(source)
    await cache.get_existing_stream(source).dispose(force=True)
    wanted = tmp_path / "a.bin"
    await cache.pre_cache_url(source, file=wanted)
    assert wanted.read_bytes() == DATA
    assert origin.count() == 1


async def test_export(open_cache, origin, source, tmp_path):
    """What is complete can be had under a readable name; what is not is refused."""
    cache = await open_cache()
    origin.add("/part.bin", pattern("part", 5 * MIB))
    await cache.pre_cache_url(origin.url("/part.bin"), bytes=1000)
    await cache.pre_cache_url(source)
    assert await cache.export(source, tmp_path / "out.bin") == tmp_path / "out.bin"
    assert (tmp_path / "out.bin").read_bytes() == DATA
    for url in (origin.url("/part.bin"), origin.url("/never.bin")):
        with pytest.raises(StoreError):
            await cache.export(url, tmp_path / "no.bin")
    assert not (tmp_path / "no.bin").exists()


# ---------------------------------------------------------------------------
# Fetching ahead
# ---------------------------------------------------------------------------


async def test_pre_cache_all(open_cache, origin, source, http):
    """Everything is there when it returns, and its stream is let go."""
    cache = await open_cache(dispose_after=0, pause_after=0)
    file = await cache.pre_cache_url(source)
    assert file.read_bytes() == DATA
    assert (await cache.get_cache_record(source)).complete
    origin.reset_log()
    assert (await http(cache, source)).content == DATA
    assert origin.count() == 0


@pytest.mark.parametrize("completion", ["auto", "demand"])
async def test_pre_cache_the_beginning(open_cache, origin, completion):
    """Only the first bytes are fetched, and then nothing goes on."""
    origin.add("/big.bin", pattern("big", 20 * MIB))
    source = origin.url("/big.bin")
    cache = await open_cache(completion=completion)
    await cache.pre_cache_url(source, bytes=100_000)
    assert cache.get_existing_stream(source).state.position >= 100_000
    await origin.wait_idle(PATIENCE_S)
    await cache.aclose()
    assert origin.bytes_sent() <= 1 * MIB
    assert origin.count() == 1
    again = await open_cache(offline=True)
    assert (await again.get_cache_record(source)).stored_bytes >= 100_000
    async with again.open(source) as file:
        assert await file.read(100_000) == pattern("big", 20 * MIB).bytes(0, 100_000)


async def test_pre_cache_more_than_there_is(open_cache, source):
    """A wish for more bytes than there are is a wish for all."""
    cache = await open_cache()
    await cache.pre_cache_url(source, bytes=10 * LENGTH)
    assert (await cache.get_cache_record(source)).complete


async def test_pre_cache_of_a_refusal_is_an_error(open_cache, origin):
    """What is not there is an error at once, not tried for ever."""
    cache = await open_cache()
    with pytest.raises(UpstreamStatusError) as caught:
        await cache.pre_cache_url(origin.url("/nothing.bin"))
    assert caught.value.status == 404
    assert origin.count() == 1


async def test_a_memory_store_has_no_files(open_cache, source):
    """Where there are no files, what returns a file returns None."""
    cache = await open_cache(store=MemoryStore())
    assert await cache.pre_cache_url(source) is None
    assert (await cache.get_cache_record(source)).complete


# ---------------------------------------------------------------------------
# What is stored
# ---------------------------------------------------------------------------


async def test_records(open_cache, origin):
    """Records can be had one by one and in pages, those in use and those not."""
    names = [f"/{number}.bin" for number in range(5)]
    cache = await open_cache(pause_after=0, dispose_after=0)
    for name in names:
        origin.add(name, DATA)
        await cache.pre_cache_url(origin.url(name))
    held = cache.create_stream(origin.url("/0.bin"))
    await held.head()
    first = await cache.cache_records(limit=2)
    rest = await cache.cache_records(after=first[-1].entry_id)
    assert sorted(each.source for each in first + rest) == [origin.url(name) for name in names]
    assert len(first) == 2
    await asyncio.gather(*(s.dispose(force=True) for s in cache.all_streams if s is not held))
    assert [each.source for each in await cache.cache_records(active=True)] == [held.source]
    assert len(await cache.cache_records(active=False)) == 4
    assert len(await cache.cache_records(active=False, limit=3)) == 3
    record = await cache.get_cache_record(cache.get_cache_url(held.source))
    assert record == await cache.get_cache_record(held.source)
    assert record.complete
    assert record.representation.complete_length == LENGTH
    assert await cache.get_cache_record(origin.url("/never.bin")) is None
    assert (await cache.usage()).entries == 5


async def test_delete_one(open_cache, origin, source, http):
    """What is deleted is fetched anew, whether or not a stream is live."""
    cache = await open_cache()
    assert await cache.delete(source) is False
    for round_ in range(1, 4):
        assert (await http(cache, source)).content == DATA
        assert origin.count() == round_
        if round_ == 2:
            await cache.get_existing_stream(source).dispose(force=True)
        assert await cache.delete(cache.get_cache_url(source)) is True
        assert await cache.get_cache_record(source) is None


async def test_delete_all_but_what_is_in_use(open_cache, origin):
    """Entries in use stay, and so do complete ones when only partial ones shall go."""
    cache = await open_cache(completion="demand")
    sources = [origin.url(f"/{name}.bin") for name in ("whole", "part", "used")]
    for source in sources:
        origin.add(source.removeprefix(origin.url("")), pattern("x", 4 * MIB))
        await cache.pre_cache_url(source, bytes=1000 if "part" in source else None)
    used = cache.create_stream(sources[2])
    for stream in cache.all_streams:
        if stream is not used:
            await stream.dispose(force=True)
    assert await cache.delete_cache(partial_only=True) == 1
    assert await cache.get_cache_record(sources[1]) is None
    assert (await cache.get_cache_record(sources[0])).complete
    assert await cache.delete_cache() == 1
    assert [each.source for each in await cache.cache_records()] == [used.source]
    used.release()
    await used.dispose(force=True)
    assert await cache.delete_cache() == 1
    assert (await cache.usage()).entries == 0


async def test_verify(open_cache, origin, source, http):
    """Bytes that went bad are found, forgotten, and fetched anew."""
    cache = await open_cache()
    file = await cache.pre_cache_url(source)
    await cache.get_existing_stream(source).dispose(force=True)
    assert [bad for _, bad in await cache.verify()] == [()]
    with file.open("r+b") as data:
        data.seek(1000)
        data.write(b"rot")
    [(record, bad)] = await cache.verify(source)
    assert record.source == source
    assert any(1000 in Span(span.start, span.stop) for span in bad)
    assert (await http(cache, source)).content == DATA
    assert [bad for _, bad in await cache.verify()] == [()]


# ---------------------------------------------------------------------------
# Settings, plug-ins and numbers
# ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    "wrong",
    [
        {"max_buffer_size": 1000},
        {"completion": "all"},
        {"validation": True},
        {"port": 70_000},
        {"max_connections": 0},
        {"read_timeout": 0},
        {"max_size": -1},
        {"no_such_setting": 1},
        {"range_request_split_threshold": -1},
        {"range_request_split_threshold": "x"},
    ],
)
async def test_wrong_settings_are_refused_by_name(wrong):
    """A mistake in the settings is an error where it is made, and names the setting."""
    with pytest.raises(ConfigurationError, match=next(iter(wrong))) as caught:
        CacheManager(**wrong)
    assert isinstance(caught.value, ValueError)


async def test_wrong_stream_settings_are_refused(open_cache, source):
    """So is one in a stream's settings, or one that only a manager has; nothing is left of it."""
    cache = await open_cache()
    for wrong in ({"completion": "all"}, {"port": 5}, {"no_such_setting": 1}):
        with pytest.raises(ConfigurationError, match=next(iter(wrong))):
            cache.create_stream(source, **wrong)
    with pytest.raises(ConfigurationError):
        cache.create_stream(source, settings=cache.create_stream_settings(), nonsense=1)
    assert cache.all_streams == ()


async def test_settings_are_inherited_and_overridden(open_cache, source):
    """A stream has the manager's settings but for those that were changed for it."""
    cache = await open_cache(read_ahead=5 * MIB, pause_after=3)
    options = cache.create_stream_settings(pause_after=4)
    assert (options.read_ahead, options.pause_after) == (5 * MIB, 4)
    stream = cache.create_stream(source, settings=options, completion="ahead")
    assert stream.settings == attrs.evolve(options, completion="ahead")
    again = cache.create_stream(source, pause_after=6)
    assert again is stream
    assert stream.settings.pause_after == 6


async def test_an_unknown_plug_in_is_said(tmp_path):
    """A plug-in that nobody has is an error at the start, and nothing is left open."""
    cache = CacheManager(cache_dir=tmp_path, store="no-such-store")
    with pytest.raises(PluginNotFoundError, match="no-such-store"):
        await cache.start()
    assert cache.is_closed


async def test_what_is_given_is_not_closed(open_cache, source):
    """A store and a transport of one's own outlive the manager."""
    store, transport = MemoryStore(), HttpTransport()
    first = await open_cache(store=store, transport=transport)
    await first.pre_cache_url(source)
    await first.aclose()
    second = await open_cache(store=store, transport=transport)
    assert (await second.get_cache_record(source)).complete
    await second.aclose()
    await transport.aclose()


async def test_a_transport_of_ones_own_is_kept_from_the_listener(open_cache, http, origin):
    """Also with a given transport the server never asks itself."""
    transport = HttpTransport()
    cache = await open_cache(transport=transport)
    origin.add("/loop", redirect=f"{cache.base_url}/http/{origin.authority}/loop")
    assert (await http(cache, origin.url("/loop"))).status == 403
    await cache.aclose()
    await transport.aclose()


async def test_statistics(open_cache, origin, source, http, eventually):
    """Numbers tell hits, bytes from either side, and what is open now."""
    cache = await open_cache()
    origin.add("/slow.bin", pattern("slow", 4 * MIB)).stall(1 * MIB)
    await http(cache, source)
    await http(cache, source, 0, 1000)
    numbers = cache.statistics()
    assert (numbers.requests, numbers.hits) == (2, 1)
    assert numbers.bytes_from_origin == LENGTH
    assert numbers.bytes_from_store == LENGTH + 1000
    assert (numbers.origin_requests, numbers.origin_failures) == (1, 0)
    await eventually(lambda: cache.statistics().open_readers == 0)
    async with cache.open(origin.url("/slow.bin")) as file:
        reading = asyncio.create_task(file.read())
        await eventually(lambda: cache.statistics().waiting_readers == 1)
        numbers = cache.statistics()
        assert (numbers.live_resources, numbers.open_readers, numbers.running_downloads) == (
            2,
            1,
            1,
        )
        assert numbers.running_tasks >= 1
        reading.cancel()
        with pytest.raises(asyncio.CancelledError):
            await reading
    assert cache.statistics().open_readers == 0


async def test_defaults_are_the_documented_ones():
    """A manager without arguments stores in the user's cache directory and listens on loopback."""
    settings = CacheManager().settings
    assert settings == Settings()
    assert settings.host == "127.0.0.1"
    assert settings.cache_dir.is_absolute()
    assert isinstance(settings.cache_dir, Path)
    assert (settings.pause_after, settings.dispose_after) == (10.0, 300.0)
    assert settings.validation == "never"
