"""Mirrors show some of their bytes before any is joined to what is held."""

import asyncio
import logging
import random

import attrs
import pytest
import pytest_asyncio

from cachestream import CacheManager
from cachestream.abc import UpstreamRequest
from cachestream.config import Plugin, make_plugin
from cachestream.core.fields import Fields
from cachestream.core.representation import Representation
from cachestream.core.spans import Span
from cachestream.errors import ConfigurationError, TransportError, UpstreamTimeoutError
from cachestream.events import MirrorRejected, RepresentationChanged
from cachestream.registry import Registry
from cachestream.settings import Settings
from cachestream.testing._raw_client import RawClient
from cachestream.testing.origin import Origin, pattern
from cachestream.testing.transports import Collector
from cachestream.transports import HttpTransport, MirrorsTransport
from cachestream.transports._mirrors_options import mirrors_by_prefix
from cachestream.transports._mirrors_sampling import Sampling

SIZE = 3_000_000
CONTENT = pattern("mirrors", SIZE)
OTHER = pattern("another", SIZE)
FIRST = 1_000_000
SAMPLES = Sampling()


class Held:
    """Bytes that are held, as the engine shows them."""

    def __init__(self, *, etag='"v1"', length=SIZE, content=CONTENT, stop=FIRST, seed=0):
        fields = Fields.of(("ETag", etag)) if etag else Fields()
        self.representation = Representation(fields=fields, complete_length=length)
        self.differed = []
        self.asked = 0
        self._content, self._stop, self._chance = content, stop, random.Random(seed)

    async def samples(self, count, size):
        self.asked += 1
        step = self._stop // count
        starts = [n * step + self._chance.randrange(step - size) for n in range(count)]
        return [(Span(at, at + size), self._content.bytes(at, at + size)) for at in starts]

    def differs(self, url, span):
        self.differed.append((url, span))


class Bench:
    """Some origins with one file, and transports that know them all."""

    def __init__(self, origins):
        self.origins = origins
        self.urls = [origin.url("/film.mp4") for origin in origins]
        self.source = self.urls[0]
        self.served = [origin.add("/film.mp4", CONTENT) for origin in origins]
        self.opened = []

    def transport(self, inner=None, **options):
        """Make a transport; it is closed after the test."""
        mirrors = {self.source: self.urls[1:]}
        made = MirrorsTransport(inner or HttpTransport(read_timeout=20), mirrors, **options)
        self.opened.append(made)
        return made

    async def rest(self, transport, held, *fields, attempt=0, start=FIRST):
        """Ask for what follows the held bytes, as the engine does; return status and content."""
        tag = held.representation.fields.get("etag") if held else None
        lines = [("Range", f"bytes={start}-{start + 99_999}"), *fields]
        lines += [("If-Range", tag)] if tag else []
        request = UpstreamRequest(
            url=self.source, source=self.source, fields=Fields(tuple(lines)), held=held,
            attempt=attempt,
        )  # fmt: skip
        sink = Collector()
        async with await transport.fetch(await transport.prepare(request)) as response:
            await response.pour(sink)
        return response.status, sink.content, response.fields

    async def lose(self, transport, held=None):
        """Let the transport learn what the source is, and stop the first origin."""
        if held is not None:
            await self.rest(transport, held)
        await self.origins[0].down()

    def ranges(self, number):
        """Return the ranges that an origin was asked for."""
        return [request.range for request in self.origins[number].requests]


WANTED = (206, CONTENT.bytes(FIRST, FIRST + 100_000))


@pytest_asyncio.fixture
async def bench():
    """Run three origins."""
    async with Origin() as one, Origin() as two, Origin() as three:
        bench = Bench([one, two, three])
        yield bench
        for transport in bench.opened:
            await transport.aclose()


@pytest.mark.asyncio
@pytest.mark.parametrize("etag", ['"inode-7"', 'W/"v1"', None])
@pytest.mark.parametrize("restarted", [False, True])
async def test_other_validators_with_the_same_bytes_are_joined(bench, etag, restarted):
    """What a mirror calls its bytes does not matter once some of them were compared."""
    bench.served[1].change(CONTENT, etag=etag, last_modified=None)
    transport, held = bench.transport(), Held()
    await bench.lose(transport, None if restarted else held)
    for _ in range(2):
        status, content, fields = await bench.rest(transport, held)
        assert (status, content) == WANTED
        assert fields.get("ETag") == '"v1"'
    assert held.differed == []
    assert bench.origins[2].count() == 0


@pytest.mark.asyncio
@pytest.mark.parametrize("restarted", [False, True])
@pytest.mark.parametrize("etag", ['"v1"', '"v2"', None])
async def test_other_bytes_of_the_same_length_are_caught(bench, etag, restarted, caplog):
    """Equal length, and even equal tags, do not help: the mirror is dropped, the next is used."""
    bench.served[1].change(OTHER, etag=etag, last_modified=None)
    transport, held = bench.transport(trust_length=True), Held()
    await bench.lose(transport, None if restarted else held)
    with caplog.at_level(logging.WARNING, "cachestream.transport"):
        assert (await bench.rest(transport, held))[:2] == WANTED
    ((url, span),) = held.differed
    assert url == bench.urls[1]
    assert span.stop <= FIRST
    assert "not used as a mirror" in caplog.text
    asked = bench.origins[1].count()
    assert (await bench.rest(transport, held))[:2] == WANTED
    assert bench.origins[1].count() == asked


@pytest.mark.asyncio
async def test_none_left_is_a_clear_error(bench):
    """The error says of each mirror which of its bytes are others."""
    for served in bench.served[1:]:
        served.change(OTHER, etag=None, last_modified=None)
    transport, held = bench.transport(trust_length=True), Held()
    await bench.lose(transport, held)
    for _ in range(2):
        with pytest.raises(TransportError, match="none of 3") as caught:
            await bench.rest(transport, held)
        assert str(caught.value).count("are not those that are held") == 2
    assert len(held.differed) == 2


@pytest.mark.asyncio
async def test_little_is_compared_and_once(bench):
    """A mirror shows three blocks of 16 KiB, however many requests come at a time."""
    transport, held = bench.transport(), Held()
    await bench.lose(transport, held)
    asked = await asyncio.gather(*(bench.rest(transport, held) for _ in range(6)))
    assert {each[:2] for each in asked} == {WANTED}
    ranges = bench.ranges(1)
    wanted = f"bytes={FIRST}-{FIRST + 99_999}"
    compared = [each for each in ranges if each != wanted]
    assert (len(compared), ranges.count(wanted)) == (3, 6)
    assert held.asked == 1
    assert bench.origins[1].bytes_sent() <= 3 * 16_384 + 6 * 100_000


@pytest.mark.asyncio
async def test_the_blocks_are_as_many_and_as_large_as_was_said(bench):
    """Whoever wants more certainty asks for more."""
    transport, held = bench.transport(sampling=Sampling(count=5, size=1000)), Held()
    await bench.lose(transport, held)
    await bench.rest(transport, held)
    assert len(bench.ranges(1)) == 6
    assert bench.origins[1].bytes_sent() == 5 * 1000 + 100_000


@pytest.mark.asyncio
@pytest.mark.parametrize(("etag", "used"), [('"v1"', 1), ('"inode-7"', 2)])
async def test_a_mirror_without_ranges_needs_an_equal_tag(bench, etag, used):
    """Where no few bytes can be asked for, what it says of itself has to do."""
    bench.served[1].change(CONTENT, etag=etag)
    bench.served[1].ranges = False
    transport, held = bench.transport(), Held()
    await bench.lose(transport, held)
    status, content, _ = await bench.rest(transport, held)
    assert (status, content) == ((200, CONTENT.bytes()) if used == 1 else WANTED)
    assert held.differed == []


@pytest.mark.asyncio
@pytest.mark.parametrize("fault", ["drop", "503", "shifted", "silent", "slow"])
async def test_a_mirror_that_fails_to_show_its_bytes_is_passed_over(bench, fault):
    """It failed like any other; that says nothing of its bytes."""
    wanted = f"bytes={FIRST}-{FIRST + 99_999}"
    faults = {
        "drop": {"drop_after": 100, "drop_times": None},
        "503": {"status": 503, "status_times": None},
        "shifted": {"content_range": "shifted"},
        "silent": {"gate": asyncio.Event()},
        "slow": {"rate": 2000.0},
    }
    bench.served[1].plan = lambda request: None if request.range == wanted else faults[fault]
    bench.served[1].change(CONTENT, etag='"inode-7"')
    transport = bench.transport(
        HttpTransport(read_timeout=0.5 if fault == "silent" else 20),
        sampling=Sampling(timeout=1.0 if fault == "slow" else 20),
    )
    held = Held()
    await bench.lose(transport, held)
    assert (await bench.rest(transport, held))[:2] == WANTED
    assert held.differed == []
    assert bench.origins[2].count() == 4
    await bench.origins[2].down()
    with pytest.raises(TransportError, match="none of 3") as caught:
        await bench.rest(transport, held)
    assert isinstance(caught.value.__cause__, UpstreamTimeoutError) is (fault in {"silent", "slow"})


@pytest.mark.asyncio
async def test_a_mirror_that_changes_while_it_is_compared_is_passed_over(bench):
    """Blocks of another version than that of its first answer prove nothing."""
    wanted = f"bytes={FIRST}-{FIRST + 99_999}"
    changed = {"etag": '"inode-8"'}
    bench.served[1].change(CONTENT, etag='"inode-7"')
    bench.served[1].plan = lambda request: None if request.range == wanted else changed
    transport, held = bench.transport(), Held()
    await bench.lose(transport, held)
    assert (await bench.rest(transport, held))[:2] == WANTED
    assert held.differed == []
    assert bench.origins[2].count() == 4


@pytest.mark.asyncio
async def test_a_mirror_that_has_changed_shows_its_bytes_again(bench):
    """What was compared was the version before: if its bytes are others now, it is dropped."""
    bench.served[1].change(CONTENT, etag='"inode-7"')
    transport, held = bench.transport(), Held()
    await bench.lose(transport, held)
    await bench.rest(transport, held)
    bench.served[1].change(CONTENT, etag='"inode-8"')
    assert (await bench.rest(transport, held))[:2] == WANTED
    bench.served[1].change(OTHER, etag='"inode-9"')
    assert (await bench.rest(transport, held))[:2] == WANTED
    assert [url for url, _ in held.differed] == [bench.urls[1]]
    assert bench.origins[2].count() == 4


@pytest.mark.asyncio
@pytest.mark.parametrize("etag", ['"v1"', '"other"'])
async def test_without_held_bytes_what_they_say_must_be_equal(bench, etag):
    """Before anything is held there is nothing to compare, and nothing to mix."""
    bench.served[1].change(CONTENT, etag=etag, last_modified=None)
    bench.served[2].change(OTHER, etag='"third"', last_modified=None)
    transport = bench.transport()
    await bench.rest(transport, None)
    await bench.origins[0].down()
    status, content, fields = await bench.rest(transport, None)
    assert (status, content) == WANTED
    assert fields.get("ETag") == etag
    assert len(bench.ranges(1)) == (1 if etag == '"v1"' else 2)


@pytest.mark.asyncio
async def test_after_a_restart_the_source_is_compared_if_its_tag_is_another(bench):
    """What is stored may have come from a mirror: the same bytes are joined, and not fetched."""
    transport, held = bench.transport(), Held(etag='"of a mirror"')
    status, content, fields = await bench.rest(transport, held)
    assert (status, content) == WANTED
    assert fields.get("ETag") == '"of a mirror"'
    assert bench.ranges(0)[-1] == f"bytes={FIRST}-{FIRST + 99_999}"
    assert [each.fields.get("If-Range") for each in bench.origins[0].requests][-1] == '"v1"'


@pytest.mark.asyncio
@pytest.mark.parametrize("length", [SIZE, SIZE - 5])
async def test_after_a_restart_the_sources_change_is_for_the_engine_to_see(bench, length):
    """Another version at the source itself goes up with its own validators."""
    changed = pattern("another", length)
    bench.served[0].change(changed, etag='"v2"')
    transport, held = bench.transport(), Held()
    status, content, fields = await bench.rest(transport, held)
    assert (status, content, fields.get("ETag")) == (200, changed.bytes(), '"v2"')
    assert held.differed == ([] if length != SIZE else held.differed[:1])
    assert bench.origins[1].count() == 0


@pytest.mark.asyncio
async def test_after_a_restart_a_source_that_cannot_be_told_apart_is_not_used(bench):
    """Other bytes without a validator that differs would be joined by who trusts: it is dropped."""
    bench.served[0].change(OTHER, etag=None, last_modified=None)
    transport, held = bench.transport(), Held(etag=None)
    assert (await bench.rest(transport, held))[:2] == WANTED
    assert [url for url, _ in held.differed] == [bench.urls[0]]


@pytest.mark.asyncio
async def test_the_same_source_is_not_compared(bench):
    """While its validators are those of what is held, it is asked for what is wanted alone."""
    transport, held = bench.transport(), Held()
    for _ in range(3):
        await bench.rest(transport, held)
    assert (len(bench.ranges(0)), held.asked) == (3, 0)


@pytest.mark.asyncio
async def test_the_source_has_the_last_word(bench):
    """When those are gone who had the version, the source may tell of another one."""
    bench.served[0].fail(503, 1)
    for served in bench.served[1:]:
        served.change(OTHER, etag='"v0"')
    await bench.origins[2].down()
    transport, held = bench.transport(cool_down=0.0), Held(etag='"v0"', content=OTHER)
    assert (await bench.rest(transport, held))[1] == OTHER.bytes(FIRST, FIRST + 100_000)
    await bench.origins[1].down()
    for attempt in (0, 1):
        with pytest.raises(TransportError, match="none of 3"):
            await bench.rest(transport, held, attempt=attempt)
    status, content, fields = await bench.rest(transport, held, attempt=2)
    assert (status, content, fields.get("ETag")) == (200, CONTENT.bytes(), '"v1"')


@pytest.mark.asyncio
@pytest.mark.parametrize("same", [True, False])
async def test_where_a_mirror_redirects_to_is_compared(bench, same):
    """The bytes that count are those at the end of its redirects."""
    bench.served[1].redirect = "/other/film.mp4"
    bench.origins[1].add("/other/film.mp4", CONTENT if same else OTHER, etag='"moved"')
    transport, held = bench.transport(), Held()
    await bench.lose(transport, held)
    status, _, fields = await bench.rest(transport, held)
    assert status == 302
    lines = (("Range", "bytes=1000000-1099999"), ("If-Range", '"v1"'))
    hop = UpstreamRequest(
        url=fields.get("Location"), source=bench.source, hop=1, fields=Fields(lines), held=held
    )
    if same:
        sink = Collector()
        async with await transport.fetch(hop) as response:
            await response.pour(sink)
        assert (response.status, sink.content) == WANTED
    else:
        with pytest.raises(TransportError, match="are not those that are held"):
            await transport.fetch(hop)


class Signed(HttpTransport):
    """Signs each request for the range that it asks for."""

    async def prepare(self, request):
        signature = f"{request.url.split('/')[2]} {request.fields.get('Range')}"
        return attrs.evolve(request, fields=request.fields.replace(("X-Signed", signature)))


@pytest.mark.asyncio
async def test_comparing_is_signed_and_carries_no_credentials(bench):
    """What is sent to compare is prepared like any request; credentials stay at home."""
    transport, held = bench.transport(Signed()), Held()
    await bench.lose(transport, held)
    await bench.rest(transport, held, ("Authorization", "Bearer x"))
    for request in bench.origins[1].requests:
        assert request.fields.get("X-Signed") == f"{bench.origins[1].authority} {request.range}"
        assert "Authorization" not in request.fields
        assert request.fields.get("If-Range") is None


@pytest.mark.asyncio
async def test_cancellation_while_comparing_leaves_nothing(bench):
    """Neither connections nor the turn to compare are kept."""
    wanted = f"bytes={FIRST}-{FIRST + 99_999}"
    gate = asyncio.Event()
    bench.served[1].plan = lambda request: None if request.range == wanted else {"gate": gate}
    transport, held = bench.transport(), Held()
    await bench.lose(transport, held)
    asking = asyncio.ensure_future(bench.rest(transport, held))
    await bench.origins[1].wait_request(2)
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    await bench.origins[1].wait_connections(0)
    gate.set()
    assert (await bench.rest(transport, held))[:2] == WANTED


# -- the whole chain ------------------------------------------------------------


async def play(cache, source):
    """Ask the local server for all of it."""
    local, base = cache.get_cache_url(source), cache.base_url.rstrip("/")
    async with RawClient(cache.base_url) as client, asyncio.timeout(60):
        return await client.ask(local.removeprefix(base), host=base.partition("://")[2])


def cache_with(transport, tmp_path, **more):
    """Return a manager that waits little between attempts."""
    options = {"min_free": 0, "retry_delay": 0.01, "max_retry_delay": 0.05, **more}
    return CacheManager(transport=transport, cache_dir=tmp_path / "cache", **options)


@pytest.mark.asyncio
async def test_a_download_goes_on_at_a_mirror_with_other_tags(bench, tmp_path):
    """The player gets every byte once, though each mirror calls them by a name of its own."""
    for number, served in enumerate(bench.served[1:]):
        served.change(CONTENT, etag=f'"inode-{number}"', last_modified=1_600_000_000 + number)
    bench.served[0].stall(FIRST)
    bench.served[1].stall(FIRST // 2)
    async with cache_with(bench.transport(), tmp_path) as cache:
        async with cache.open(bench.source) as file, asyncio.timeout(60):
            got = await file.read(FIRST)
            await bench.origins[0].down()
            got += await file.read(FIRST // 2)
            await bench.origins[1].down()
            while piece := await file.read(SIZE):
                got += piece
    assert got == CONTENT.bytes()
    compared = 2 * SAMPLES.count * SAMPLES.size
    assert sum(origin.bytes_sent() for origin in bench.origins) <= SIZE + compared


@pytest.mark.asyncio
@pytest.mark.parametrize("etag", [None, '"v1"'])
async def test_other_bytes_are_never_mixed_in_even_if_all_is_trusted(bench, tmp_path, etag):
    """Neither the engine's trust nor the transport's lets other bytes of one length pass."""
    for served in bench.served:
        served.change(served.data, etag=etag, last_modified=None)
    for served in bench.served[1:]:
        served.change(OTHER)
    bench.served[0].stall(FIRST)
    events = []
    transport = bench.transport(trust_length=True)
    trusting = {"trust_weak_validators": True, "request_timeout": 2.0, "listeners": [events.append]}
    async with cache_with(transport, tmp_path, **trusting) as cache:
        playing = asyncio.ensure_future(play(cache, bench.source))
        await bench.origins[0].wait(lambda: bench.origins[0].bytes_sent() >= FIRST)
        await bench.origins[0].down()
        got = await playing
    assert got.status == 200
    assert not got.complete
    assert got.content == CONTENT.bytes(0, len(got.content))
    rejected = [event for event in events if isinstance(event, MirrorRejected)]
    assert {event.url for event in rejected} == set(bench.urls[1:])
    assert not any(isinstance(event, RepresentationChanged) for event in events)


@pytest.mark.asyncio
async def test_after_a_restart_a_mirror_completes_what_the_source_began(bench, tmp_path):
    """What an earlier process stored is compared with a mirror's, and joined."""
    bench.served[1].change(CONTENT, etag='"inode-7"', last_modified=1_600_000_000)
    async with cache_with(bench.transport(), tmp_path, completion="demand") as cache:
        async with cache.open(bench.source) as file:
            assert await file.read(FIRST) == CONTENT.bytes(0, FIRST)
    await bench.origins[0].down()
    async with cache_with(bench.transport(), tmp_path) as cache:
        got = await play(cache, bench.source)
    assert (got.content, got.complete) == (CONTENT.bytes(), True)
    compared = SAMPLES.count * SAMPLES.size
    assert 0 < bench.origins[1].bytes_sent() <= SIZE - FIRST + compared


@pytest.mark.asyncio
async def test_a_slow_mirror_is_better_than_none(bench, tmp_path):
    """Where the others are gone, a slow one is waited for, and its bytes are used."""
    bench.served[0].stall(SIZE - 200_000)
    bench.served[1].change(CONTENT, etag='"inode-7"')
    bench.served[1].rate = 400_000.0
    await bench.origins[2].down()
    async with cache_with(bench.transport(), tmp_path) as cache:
        playing = asyncio.ensure_future(play(cache, bench.source))
        await bench.origins[0].wait(lambda: bench.origins[0].bytes_sent() >= SIZE - 200_000)
        await bench.origins[0].down()
        got = await playing
    assert (got.content, got.complete) == (CONTENT.bytes(), True)


# -- options --------------------------------------------------------------------


def make(**options):
    """Make the plug-in with options, as a manager does."""
    return make_plugin(Registry("off"), "transport", Plugin("mirrors", **options), Settings())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"mirrors": {"ftp://a.example/": "https://b.example/"}}, "http or https"),
        ({"mirrors": {"https://a.example/": "b.example"}}, "http or https"),
        ({"mirrors": {"https://a.example/x?y": "https://b.example/x"}}, "without query"),
        ({"mirrors": {"https://u:p@a.example/": "https://b.example/"}}, "cannot be used"),
        ({"mirrors": {"https://a.example/pub/": "https://b.example/pub"}}, "end in '/'"),
        ({"mirrors": {"https://a.example/pub/": " "}}, "no mirror is named"),
        ({"samples": "0"}, "samples"),
        ({"sample_size": "-1"}, "sample_size"),
        ({"sample_timeout": "0s"}, "sample_timeout"),
        ({"cool_down": -1.0}, "cool_down"),
        ({"mirror": {}}, "Did you mean 'mirrors'"),
    ],
)
def test_wrong_options_are_told(options, message):
    """A group that cannot be meant is an error when the transport is made, and says why."""
    with pytest.raises(ConfigurationError, match=message):
        make(**options)


def test_the_longest_beginning_counts():
    """A group for a folder stands for all below it, one for a file for that alone."""
    find = mirrors_by_prefix(
        {
            "https://A.example/": "https://b.example/a/ https://c.example/",
            "https://a.example/pub/": "https://d.example/",
            "https://a.example/pub/one.mp4": "https://e.example/1.mp4",
        }
    )
    assert find("https://a.example/x.mp4?q") == [
        "https://b.example/a/x.mp4?q",
        "https://c.example/x.mp4?q",
    ]
    assert find("https://a.example/pub/two.mp4") == ["https://d.example/two.mp4"]
    assert find("https://a.example/pub/one.mp4") == ["https://e.example/1.mp4"]
    assert find("https://a.example/pub/one.mp4.txt") == ["https://d.example/one.mp4.txt"]
    assert not find("https://z.example/x")


@pytest.mark.asyncio
async def test_groups_come_from_a_file(bench, tmp_path):
    """In TOML a group is a line, from the beginning of a URL to its mirrors."""
    folders = [origin.url("/") for origin in bench.origins]
    file = tmp_path / "cachestream.toml"
    file.write_text(
        f"""
        [cachestream]
        transport = "mirrors"
        cache_dir = "{tmp_path}/cache"
        min_free = 0

        [transport.mirrors]
        sample_size = "4KiB"

        [transport.mirrors.mirrors]
        "{folders[0]}" = "{folders[1]} {folders[2]}"
        """
    )
    await bench.origins[0].down()
    async with CacheManager.from_config(file) as cache:
        got = await play(cache, bench.source)
    assert (got.status, got.content) == (200, CONTENT.bytes())
