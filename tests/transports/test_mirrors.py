"""Several places for one resource: failover, and never another content."""

import asyncio

import attrs
import pytest
import pytest_asyncio

from cachestream import CacheManager
from cachestream.abc import UpstreamRequest
from cachestream.config import Plugin, make_plugin
from cachestream.core.fields import Fields
from cachestream.errors import (
    ConnectError,
    InvalidURLError,
    TransportError,
    UpstreamTimeoutError,
)
from cachestream.registry import Registry
from cachestream.settings import Settings
from cachestream.testing._raw_client import RawClient
from cachestream.testing.origin import Origin, pattern
from cachestream.testing.transports import Collector, TransportContract
from cachestream.transports import HttpTransport, MirrorsTransport
from cachestream.transports._mirrors_identity import Marks, marks_of

CONTENT = pattern("mirrors", 3_000_000)
OTHER = pattern("another", 3_000_000)


class TestMirrorsTransport(TransportContract):
    """Where no mirrors are known, it is the inner transport."""

    @pytest.fixture
    def transport(self):
        return MirrorsTransport(HttpTransport(), {})

    @pytest.fixture
    def impatient(self):
        return MirrorsTransport(HttpTransport(read_timeout=0.2), {})


class TestMirrorsTransportItself(TransportContract):
    """Where the URL itself is all there is, nothing of what it says gets lost."""

    @pytest.fixture
    def transport(self):
        return MirrorsTransport(HttpTransport(), lambda source: [source])

    @pytest.fixture
    def impatient(self):
        return MirrorsTransport(HttpTransport(read_timeout=0.2), lambda source: [source])


class Bench:
    """Three origins with one file, and a transport that knows them all."""

    def __init__(self, origins):
        self.origins = origins
        self.now = 1000.0
        self.urls = [origin.url("/film.mp4") for origin in origins]
        self.source = self.urls[0]
        self.served = [origin.add("/film.mp4", CONTENT) for origin in origins]
        self.opened = []

    def transport(self, inner=None, count=3, **options):
        """Make a transport; it is closed after the test."""
        made = MirrorsTransport(
            inner or HttpTransport(read_timeout=20),
            {self.source: self.urls[1:count]},
            clock=lambda: self.now,
            **options,
        )
        self.opened.append(made)
        return made

    def counts(self):
        """Return how many requests each origin got."""
        return [origin.count() for origin in self.origins]


@pytest_asyncio.fixture
async def bench():
    """Run three origins."""
    async with Origin() as one, Origin() as two, Origin() as three:
        bench = Bench([one, two, three])
        yield bench
        for transport in bench.opened:
            await transport.aclose()


async def get(transport, source, *fields, **options):
    """Perform one exchange to its end, as the engine does; return status, content and fields."""
    request = UpstreamRequest(url=source, source=source, fields=Fields(fields), **options)
    sink = Collector()
    async with await transport.fetch(await transport.prepare(request)) as response:
        await response.pour(sink)
    return response.status, sink.content, response.fields


# -- failover -------------------------------------------------------------------


@pytest.mark.asyncio
async def test_the_first_is_asked_while_it_works(bench):
    """The URL that was asked for goes before its mirrors."""
    transport = bench.transport()
    for _ in range(2):
        status, content, _ = await get(transport, bench.source)
        assert (status, content) == (200, CONTENT.bytes())
    assert bench.counts() == [2, 0, 0]


@pytest.mark.asyncio
@pytest.mark.parametrize("fault", ["down", "drop", "silent", 404, 500, 503])
async def test_a_failure_before_the_head_goes_to_the_next(bench, fault):
    """No connection, no answer in time, 404 and 5xx are not the end while there are others."""
    inner = None
    if fault == "down":
        await bench.origins[0].down()
    elif fault == "drop":
        bench.served[0].drop(-1, None)
    elif fault == "silent":
        inner = HttpTransport(read_timeout=0.2)
        bench.served[0].gate = asyncio.Event()
    else:
        bench.served[0].fail(fault)
    status, content, _ = await get(bench.transport(inner), bench.source)
    assert (status, content) == (200, CONTENT.bytes())
    assert bench.counts()[1:] == [1, 0]


@pytest.mark.asyncio
@pytest.mark.parametrize("status", [401, 403, 410, 429, 304])
async def test_other_statuses_are_answers(bench, status):
    """What is not a fault of the server is for the engine to judge."""
    bench.served[0].fail(status)
    got, _, _ = await get(bench.transport(), bench.source)
    assert got == status
    assert bench.counts() == [1, 0, 0]


@pytest.mark.asyncio
async def test_a_mirror_that_failed_is_put_back_for_a_while(bench):
    """It is asked last until it has cooled down, then in its old place."""
    transport = bench.transport(cool_down=30.0)
    bench.served[0].fail(503, 1)
    await get(transport, bench.source)
    assert bench.counts() == [1, 1, 0]
    bench.now += 29.0
    await get(transport, bench.source)
    assert bench.counts() == [1, 2, 0]
    bench.now += 2.0
    await get(transport, bench.source)
    assert bench.counts() == [2, 2, 0]


@pytest.mark.asyncio
async def test_one_that_cools_down_is_asked_if_nobody_else_can(bench):
    """Being put back is not being given up."""
    transport = bench.transport(count=2)
    bench.served[0].fail(503, 1)
    await get(transport, bench.source)
    await bench.origins[1].down()
    status, _, _ = await get(transport, bench.source)
    assert status == 200
    assert bench.counts() == [2, 1, 0]


@pytest.mark.asyncio
async def test_content_that_breaks_off_puts_its_mirror_back(bench):
    """The error goes up, and the next exchange goes to another mirror."""
    transport = bench.transport()
    bench.served[0].drop(100_000, None)
    with pytest.raises(TransportError):
        await get(transport, bench.source)
    status, content, fields = await get(
        transport, bench.source, ("Range", "bytes=100000-"), ("If-Range", '"v1"')
    )
    assert (status, content) == (206, CONTENT.bytes(100_000, 3_000_000))
    assert fields.get("ETag") == '"v1"'
    assert bench.counts() == [1, 1, 0]


@pytest.mark.asyncio
async def test_all_down_is_one_clear_error(bench):
    """The error says how many were tried, and what came of each."""
    for origin in bench.origins:
        await origin.down()
    with pytest.raises(ConnectError, match="none of 3 mirrors") as caught:
        await get(bench.transport(), bench.source)
    for origin in bench.origins:
        assert f"{origin.authority}: connect" in str(caught.value)


@pytest.mark.asyncio
async def test_all_silent_is_a_timeout(bench):
    """The error is of the kind that all of them have."""
    for served in bench.served:
        served.gate = asyncio.Event()
    with pytest.raises(UpstreamTimeoutError, match="none of 3"):
        await get(bench.transport(HttpTransport(read_timeout=0.1)), bench.source)


@pytest.mark.asyncio
async def test_missing_everywhere_is_404(bench):
    """Only what every mirror says is missing is missing."""
    for served in bench.served:
        served.fail(404)
    status, content, _ = await get(bench.transport(), bench.source)
    assert (status, content) == (404, b"refused")
    await bench.origins[2].down()
    with pytest.raises(TransportError, match="none of 3"):
        await get(bench.transport(), bench.source)
    bench.served[1].fail(503)
    status, _, _ = await get(bench.transport(), bench.source)
    assert status == 503


# -- identity -------------------------------------------------------------------


async def failed_over(bench, transport, *fields):
    """Learn what the resource is from the first origin, then ask while that is down."""
    await get(transport, bench.source, method="HEAD")
    await bench.origins[0].down()
    return await get(transport, bench.source, *fields)


PART = (("Range", "bytes=10-19"), ("If-Range", '"v1"'))


@pytest.mark.asyncio
@pytest.mark.parametrize("change", ["etag", "length", "coding", "digest"])
async def test_other_content_is_never_used(bench, change):
    """A mirror with another tag, length, coding or digest is passed over for one that fits."""
    if change == "etag":
        bench.served[1].change(OTHER, etag='"v2"')
    elif change == "length":
        bench.served[1].change(pattern("mirrors", 2_999_999))
    elif change == "coding":
        bench.served[1].fields = (("Content-Encoding", "br"),)
    else:
        for served, value in zip(bench.served, "aba", strict=True):
            served.fields = (("Repr-Digest", f"sha-256=:{value}:"),)
        bench.served[1].change(OTHER)
    status, content, fields = await failed_over(bench, bench.transport(), *PART)
    assert (status, content) == (206, CONTENT.bytes(10, 20))
    assert fields.get("ETag") == '"v1"'
    assert bench.counts() == [1, 1, 1]


@pytest.mark.asyncio
async def test_only_other_content_left_is_an_error(bench):
    """For a request that depends on a version, a mirror with another one is as good as none."""
    for served in bench.served[1:]:
        served.change(OTHER, etag='"v2"')
    with pytest.raises(TransportError, match="none of 3") as caught:
        await failed_over(bench, bench.transport(), *PART)
    assert str(caught.value).count("other content") == 2
    assert caught.value.__cause__ is not None


@pytest.mark.asyncio
async def test_a_request_without_conditions_may_begin_anew(bench):
    """Where nothing is held that could be mixed, another version shows by its own validators."""
    for served in bench.served[1:]:
        served.change(OTHER, etag='"v2"')
    status, content, fields = await failed_over(bench, bench.transport())
    assert (status, content) == (200, OTHER.bytes())
    assert fields.get("ETag") == '"v2"'


@pytest.mark.asyncio
async def test_tags_that_differ_need_trust_in_length(bench):
    """With it, the first answer's validators go up, and each mirror is asked with its own."""
    bench.served[1].change(CONTENT, etag='"inode-7"', last_modified=1_600_000_000)
    transport = bench.transport(count=2, trust_length=True)
    for _ in range(2):
        status, content, fields = await failed_over(bench, transport, *PART)
        assert (status, content) == (206, CONTENT.bytes(10, 20))
        assert fields.get("ETag") == '"v1"'
        assert fields.get("Last-Modified") == bench.served[0].last_modified
    conditions = [request.fields.get("If-Range") for request in bench.origins[1].requests]
    assert conditions[0] is None  # nothing was known of it
    assert conditions[-1] == '"inode-7"'
    untrusting = bench.transport(count=2)
    await bench.origins[0].up()
    with pytest.raises(TransportError, match="none of 2"):
        await failed_over(bench, untrusting, *PART)


@pytest.mark.asyncio
async def test_a_mirrors_own_change_shows_in_spite_of_trust(bench):
    """Trust in length ends where a mirror says that it has another version than before."""
    bench.served[1].change(CONTENT, etag='"inode-7"')
    transport = bench.transport(count=2, trust_length=True)
    await failed_over(bench, transport, *PART)
    bench.served[1].change(OTHER, etag='"inode-8"')
    with pytest.raises(TransportError, match="other content"):
        await get(transport, bench.source, *PART)


@pytest.mark.asyncio
async def test_the_first_ones_own_change_is_for_the_engine_to_see(bench):
    """A 200 with another tag in answer to If-Range is the change notice, as without mirrors."""
    transport = bench.transport()
    await get(transport, bench.source, method="HEAD")
    for served in bench.served:
        served.change(OTHER, etag='"v2"')
    status, content, fields = await get(transport, bench.source, *PART)
    assert (status, content, fields.get("ETag")) == (200, OTHER.bytes(), '"v2"')
    assert bench.counts() == [2, 0, 0]


@pytest.mark.asyncio
async def test_validation_holds_across_mirrors(bench):
    """If-None-Match is asked with the mirror's own tag, and its 304 speaks of the first's."""
    bench.served[1].change(CONTENT, etag='"inode-7"')
    transport = bench.transport(count=2, trust_length=True)
    await failed_over(bench, transport, *PART)
    status, _, fields = await get(transport, bench.source, ("If-None-Match", '"v1"'))
    assert (status, fields.get("ETag")) == (304, '"v1"')


@pytest.mark.asyncio
async def test_a_416_of_another_length_is_other_content(bench):
    """The end of another file says nothing of this one."""
    bench.served[1].change(pattern("short", 100))
    status, content, _ = await failed_over(
        bench, bench.transport(), ("Range", "bytes=2000000-2000009")
    )
    assert (status, content) == (206, CONTENT.bytes(2_000_000, 2_000_010))


@pytest.mark.parametrize(
    ("one", "two", "fits", "trusting"),
    [
        (Marks(length=5, etag='"a"'), Marks(length=5, etag='"a"'), True, True),
        (Marks(length=5, etag='"a"'), Marks(length=5, etag='"b"'), False, True),
        (Marks(length=5, etag='W/"a"'), Marks(length=5, etag='W/"a"'), False, True),
        (Marks(length=5, modified="m"), Marks(length=5, modified="m"), True, True),
        (Marks(length=5, modified="m"), Marks(length=5, modified="n"), False, True),
        (Marks(length=5), Marks(length=5), False, True),
        (Marks(length=None, etag='"a"'), Marks(length=None, etag='"a"'), False, False),
        (Marks(length=5, etag='"a"'), Marks(length=6, etag='"a"'), False, False),
        (Marks(length=5, digests={"md5": "x"}), Marks(length=5, digests={"md5": "x"}), True, True),
        (
            Marks(length=5, digests={"md5": "x"}),
            Marks(length=5, digests={"md5": "y"}),
            False,
            False,
        ),
    ],
)
def test_what_fits(one, two, fits, trusting):
    """Length must be known and equal; then digests, strong tags and times, in this order."""
    assert two.fits(one, trust_length=False) is fits
    assert two.fits(one, trust_length=True) is trusting


def test_digests_are_read_as_they_are_spelled():
    """Repr-Digest and Digest speak of all; Content-MD5 only where all was sent."""

    @attrs.frozen
    class Answer:
        status: int
        fields: Fields

    fields = Fields.of(
        ("Repr-Digest", "sha-256=:YWI=:"), ("Digest", "SHA-512=Y2Q="), ("Content-MD5", "ZWY=")
    )
    both = {"sha-256": "YWI=", "sha-512": "Y2Q="}
    assert marks_of(Answer(206, fields)).digests == both
    assert marks_of(Answer(200, fields)).digests == {**both, "md5": "ZWY="}


# -- requests -------------------------------------------------------------------


class Signed(HttpTransport):
    """Signs each request for the host that it goes to."""

    async def prepare(self, request):
        signature = request.url.split("/")[2]
        return attrs.evolve(request, fields=request.fields.replace(("X-Signed", signature)))

    async def refresh(self, source, status):
        return f"{source}?renewed={status}"


@pytest.mark.asyncio
async def test_each_mirror_is_asked_with_its_own_signature(bench):
    """Requests are prepared for who is asked; credentials stay with the origin they are for."""
    bench.served[0].fail(503)
    transport = bench.transport(Signed())
    await get(transport, bench.source, ("Authorization", "Bearer x"), ("Accept", "video/*"))
    first, second = (origin.requests[0].fields for origin in bench.origins[:2])
    assert first.get("X-Signed") == bench.origins[0].authority
    assert second.get("X-Signed") == bench.origins[1].authority
    assert first.get("Authorization") == "Bearer x"
    assert "Authorization" not in second
    assert second.get("Accept") == "video/*"
    assert await transport.refresh(bench.source, 403) == f"{bench.source}?renewed=403"


@pytest.mark.asyncio
async def test_a_renewed_url_is_still_the_first(bench):
    """Mirrors are those of the source, wherever that is now."""
    bench.origins[0].add("/film.mp4?renewed=403", CONTENT)
    transport = bench.transport()
    request = UpstreamRequest(url=f"{bench.source}?renewed=403", source=bench.source)
    async with await transport.fetch(request) as response:
        assert response.status == 200
    assert [item.target for item in bench.origins[0].requests] == ["/film.mp4?renewed=403"]
    await bench.origins[0].down()
    async with await transport.fetch(request) as response:
        assert response.status == 200
    assert bench.counts() == [1, 1, 0]


@pytest.mark.asyncio
async def test_a_redirect_of_a_mirror_is_followed_from_there(bench):
    """A relative Location is that mirror's; and where it leads is judged like the mirror."""
    await bench.origins[0].down()
    bench.served[1].redirect = "/other/film.mp4"
    moved = bench.origins[1].add("/other/film.mp4", CONTENT)
    transport = bench.transport(count=2)
    status, _, fields = await get(transport, bench.source)
    target = bench.origins[1].url("/other/film.mp4")
    assert (status, fields.get("Location")) == (302, target)
    hop = UpstreamRequest(url=target, source=bench.source, hop=1)
    async with await transport.fetch(hop) as response:
        assert response.status == 200
    await bench.origins[0].up()
    moved.change(OTHER, etag='"v2"')
    other = bench.transport(count=2)
    await get(other, bench.source, method="HEAD")
    await bench.origins[0].down()
    assert (await get(other, bench.source))[0] == 302
    with pytest.raises(TransportError, match="other content"):
        await other.fetch(hop)
    moved.fail(404)
    async with await other.fetch(hop) as response:
        assert response.status == 404
    await bench.origins[1].down()
    with pytest.raises(ConnectError):
        await other.fetch(hop)


@pytest.mark.asyncio
async def test_cancellation_leaves_nothing(bench):
    """Whatever was kept of those that were tried is closed."""
    bench.served[0].fail(404, body=bytes(20_000_000))
    bench.served[1].gate = asyncio.Event()
    asking = asyncio.ensure_future(get(bench.transport(), bench.source))
    await bench.origins[1].wait_request(1)
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    for origin in bench.origins:
        await origin.wait_connections(0)


def test_mirrors_are_checked_when_they_are_named():
    """A URL that cannot be is an error at once."""
    with pytest.raises(InvalidURLError):
        MirrorsTransport(HttpTransport(), {"http://a.example/": ["nonsense"]})


@pytest.mark.asyncio
async def test_it_can_be_made_of_settings_and_options(bench):
    """The plug-in's name is enough for one that knows no mirrors; options name them."""
    folders = [origin.url("/") for origin in bench.origins]
    plugin = Plugin("mirrors", mirrors={folders[0]: " ".join(folders[1:])}, cool_down="2s")
    made = make_plugin(Registry("off"), "transport", plugin, Settings())
    bench.served[0].fail(503)
    assert (await get(made, bench.source))[0] == 200
    assert bench.counts() == [1, 1, 0]
    await made.aclose()
    none = MirrorsTransport.from_settings(Settings())
    assert (await get(none, bench.source))[0] == 503
    await none.aclose()


@pytest.mark.asyncio
async def test_many_sources_are_not_remembered_for_ever(bench, monkeypatch):
    """Memory does not grow with the number of sources."""
    monkeypatch.setattr("cachestream.transports._mirrors.MAX_SOURCES", 3)
    transport = MirrorsTransport(HttpTransport(), lambda source: [f"{source}?mirror"])
    for number in range(8):
        await get(transport, bench.origins[0].url(f"/missing-{number}"))
    assert len(transport._identities) == 3
    assert len(transport._health._until) <= 16
    await transport.aclose()


# -- the whole chain ------------------------------------------------------------


@pytest.mark.asyncio
@pytest.mark.parametrize("kind", ["drop", "down"])
async def test_a_player_does_not_notice(bench, tmp_path, kind):
    """A download goes on at another mirror where it broke off; a byte is fetched once."""
    transport = bench.transport()
    if kind == "drop":
        bench.served[0].drop(1_000_000, None)
    else:
        gate = asyncio.Event()
        bench.served[0].stall(1_000_000, gate=gate)
    async with CacheManager(
        transport=transport,
        cache_dir=tmp_path / "cache",
        min_free=0,
        allow_hosts=("any",),
        retry_delay=0.01,
    ) as cache:
        local = cache.get_cache_url(bench.source)
        base = cache.base_url.rstrip("/")
        async with RawClient(cache.base_url) as client, asyncio.timeout(60):
            host = base.partition("://")[2]
            playing = asyncio.ensure_future(client.ask(local.removeprefix(base), host=host))
            if kind == "down":
                await bench.origins[0].wait(lambda: bench.origins[0].bytes_sent() >= 1_000_000)
                await bench.origins[0].down()
            got = await playing
    assert (got.status, got.content, got.complete) == (200, CONTENT.bytes(), True)
    assert bench.origins[1].bytes_sent() <= 2_100_000
    assert bench.origins[1].bytes_sent() > 0


@pytest.mark.asyncio
@pytest.mark.parametrize("back", [True, False])
async def test_other_content_is_never_mixed_into_what_plays(bench, tmp_path, back):
    """Mirrors with another version do not help: the first ends it, or what came is cut."""
    origin = bench.origins[0]
    bench.served[0].drop(1_000_000, 1)
    if not back:
        bench.served[0].require = lambda request: 503 if origin.bytes_sent() else None
    for served in bench.served[1:]:
        served.change(OTHER, etag='"v2"')
    async with CacheManager(
        transport=bench.transport(),
        cache_dir=tmp_path / "cache",
        min_free=0,
        allow_hosts=("any",),
        retry_delay=0.01,
        max_retry_delay=0.05,
        request_timeout=60.0 if back else 0.5,
    ) as cache:
        local = cache.get_cache_url(bench.source)
        base = cache.base_url.rstrip("/")
        async with RawClient(cache.base_url) as client, asyncio.timeout(60):
            got = await client.ask(local.removeprefix(base), host=base.partition("://")[2])
    assert got.status == 200
    assert got.complete is back
    assert got.content == CONTENT.bytes(0, len(got.content))
    assert min(bench.counts()[1:]) >= 1
