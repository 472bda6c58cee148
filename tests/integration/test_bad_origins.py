"""Origins that fail, refuse, lie and change: a clear error or a right answer, by both faces."""

from __future__ import annotations

import asyncio
import gzip
import ssl

import pytest
import trustme

from cachestream.errors import (
    ConnectError,
    InvalidURLError,
    RangeNotSatisfiableError,
    RepresentationChangedError,
    TooManyRedirectsError,
    TransportError,
    UpstreamProtocolError,
    UpstreamTimeoutError,
)
from cachestream.testing._raw_client import RawClient
from cachestream.testing.origin import Origin, pattern

LENGTH = 300_000
DATA = pattern("old", LENGTH).bytes()
FRESH = pattern("new", LENGTH).bytes()

pytestmark = pytest.mark.asyncio


async def stored(cache, source) -> bytes:
    """Return what is stored of a source from its first byte on, checked."""
    record = await cache.get_cache_record(source)
    if record is None:
        return b""
    assert all(not bad for _, bad in await cache.verify(source))
    entry = await cache.store.open(record.entry_id)
    try:
        run = next(iter(entry.spans), None)
        return b"" if run is None else bytes(await entry.read(run))
    finally:
        await entry.aclose()


def is_prefix(got, whole) -> bool:
    """Tell whether these are right bytes, if not all of them."""
    return whole[: len(got)] == got


# ---------------------------------------------------------------------------
# URLs and addresses
# ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    "url",
    [
        "",
        "no url",
        "//example.com/a",
        "http://",
        "http:///a",
        "http://user:secret@example.com/a",
        "http://example.com:99999/a",
        "http://exa mple.com/a",
        "http://[::1/a",
        "gopher://example.com/a",
        "file:///etc/passwd",
    ],
)
async def test_a_url_that_cannot_be_fetched_is_refused_at_once(open_cache, url):
    """The program gets InvalidURLError for a malformed URL or an unknown scheme."""
    cache = await open_cache()
    for ask in (cache.get_cache_url, cache.create_stream):
        with pytest.raises(InvalidURLError):
            ask(url)
    assert cache.statistics().live_resources == 0


@pytest.mark.parametrize(
    ("target", "statuses"),
    [
        ("/gopher/example.com/a", {404}),
        ("/favicon.ico", {404}),
        ("/", {404}),
        ("/http/", {400, 404}),
        ("/http/user:secret@example.com/a", {400, 404}),
        ("/http/example.com:99999/a", {400, 404}),
        ("/http/%zz/a", {400, 404}),
        ("/file/etc/passwd", {404}),
    ],
)
async def test_a_local_url_that_names_nothing_is_a_clear_error(open_cache, target, statuses):
    """A client gets 404 or 400 for what is no source."""
    cache = await open_cache()
    authority = cache.base_url.removeprefix("http://")
    async with RawClient(cache.base_url) as client:
        got = await client.ask(target, host=authority)
    assert got.status in statuses
    assert got.complete


async def test_an_unresolvable_host_is_a_bad_gateway(open_cache, read):
    """A name that does not exist is 502, not a hang."""
    cache = await open_cache()
    got = await read(cache, "http://no-such-host.invalid/a.bin")
    assert got.status == 502
    assert got.error is None or isinstance(got.error, ConnectError)


async def test_a_refused_connection_is_a_bad_gateway(open_cache, read, origin):
    """Nobody listening is 502, and what is stored stays readable."""
    cache = await open_cache()
    origin.add("/a.bin", DATA)
    source = origin.url("/a.bin")
    assert (await read(cache, source, 0, 1000)).content == DATA[:1000]
    await origin.down()
    refused = await read(cache, source, 200_000, 200_100)
    assert refused.status == 502
    assert refused.error is None or isinstance(refused.error, ConnectError)
    assert (await read(cache, source, 0, 1000)).content == DATA[:1000]


# ---------------------------------------------------------------------------
# Statuses
# ---------------------------------------------------------------------------


@pytest.mark.parametrize("status", [401, 403, 404, 410, 451])
async def test_a_refusal_is_forwarded_and_remembered(open_cache, read, origin, status):
    """Clients get the origin's status and page, and a storm of them asks it once."""
    cache = await open_cache(error_ttl=60)
    served = origin.add("/a.bin", DATA)
    served.fail(status, body=b"go away")
    for _ in range(3):
        got = await read(cache, origin.url("/a.bin"))
        assert (got.status, got.content) == (status, b"go away")
    assert origin.count() == 1


@pytest.mark.parametrize("status", [408, 425, 429, 500, 502, 503, 504])
async def test_a_lasting_failure_is_forwarded_and_remembered(open_cache, read, origin, status):
    """After a few tries clients get the origin's status and page, and a storm asks no more."""
    cache = await open_cache(error_ttl=60)
    served = origin.add("/a.bin", DATA)
    served.fail(status, body=b"broken")
    first = await read(cache, origin.url("/a.bin"))
    assert (first.status, first.content) == (status, b"broken")
    tries = origin.count()
    assert tries > 1
    again = await read(cache, origin.url("/a.bin"))
    assert (again.status, again.content) == (status, b"broken")
    assert origin.count() == tries


@pytest.mark.parametrize("status", [404, 503])
async def test_a_refusal_is_forgotten_soon(open_cache, read, origin, status):
    """When the origin has the file after all, clients get it."""
    cache = await open_cache(error_ttl=0)
    served = origin.add("/a.bin", DATA)
    served.fail(status, times=3)
    await read(cache, origin.url("/a.bin"))
    served.fail(status, times=0)
    got = await read(cache, origin.url("/a.bin"))
    assert (got.status, got.content) == (200, DATA)


@pytest.mark.parametrize("status", [401, 404, 410, 429, 500, 503])
async def test_nothing_stored_is_deleted_for_an_error(open_cache, read, origin, status):
    """What is held is served while the origin refuses the rest."""
    cache = await open_cache(request_timeout=1)
    served = origin.add("/a.bin", DATA)
    source = origin.url("/a.bin")
    assert (await read(cache, source, 0, 1000)).content == DATA[:1000]
    served.fail(status, body=b"no")
    refused = await read(cache, source, 200_000, 200_100)
    assert refused.status == status
    assert (await read(cache, source, 0, 1000)).content == DATA[:1000]
    assert (await stored(cache, source))[:1000] == DATA[:1000]


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503, 504])
async def test_a_passing_failure_is_not_seen_by_the_client(open_cache, read, origin, status):
    """One failure is retried while the client waits."""
    cache = await open_cache()
    served = origin.add("/a.bin", DATA)
    served.fail(status, times=1)
    got = await read(cache, origin.url("/a.bin"))
    assert (got.status, got.content) == (200, DATA)
    assert origin.count() == 2


async def test_retry_after_is_waited_for(open_cache, read, origin):
    """An origin that asks for a second of patience gets it."""
    cache = await open_cache()
    served = origin.add("/a.bin", DATA)
    served.fail(503, times=1, retry_after=1)
    got = await read(cache, origin.url("/a.bin"))
    assert (got.status, got.content) == (200, DATA)
    first, second = origin.requests
    assert second.when - first.when >= 1


async def test_a_long_retry_after_is_passed_on(open_cache, origin, read):
    """A client is not kept waiting for an hour: it is told to come back then."""
    cache = await open_cache()
    served = origin.add("/a.bin", DATA)
    served.fail(429, body=b"later", retry_after=3600)
    got = await read(cache, origin.url("/a.bin"))
    assert (got.status, got.content) == (429, b"later")
    assert origin.count() == 1
    told = got.fields.get("retry-after") if got.error is None else got.error.retry_after
    assert told == "3600"


# ---------------------------------------------------------------------------
# Redirects
# ---------------------------------------------------------------------------


async def test_a_redirect_loop_is_a_bad_gateway(open_cache, read, origin):
    """An origin that sends us round in circles is given up after ten hops, once."""
    cache = await open_cache()
    origin.add("/a.bin", redirect="/b.bin")
    origin.add("/b.bin", redirect="/a.bin")
    got = await read(cache, origin.url("/a.bin"))
    assert got.status == 502
    assert got.error is None or isinstance(got.error, TooManyRedirectsError)
    assert origin.count() == 11


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_credentials_do_not_follow_to_another_origin(open_cache, read, origin, status):
    """A redirect to another origin gets the range, and none of the secrets."""
    secrets = {"Authorization": "Bearer secret", "Cookie": "a=b", "X-Api-Key": "secret"}
    cache = await open_cache(request_headers=secrets)
    async with Origin() as other:
        origin.add("/a.bin", redirect=other.url("/b.bin"), redirect_status=status)
        other.add("/b.bin", DATA)
        got = await read(cache, origin.url("/a.bin"), 100, 200)
        assert (got.status, got.content) == (206, DATA[100:200])
        asked, followed = origin.requests[0].fields, other.requests[0].fields
    assert all(asked.get(name) == value for name, value in secrets.items())
    assert all(name not in followed for name in ("authorization", "cookie", "x-api-key"))
    assert followed.get("range") == asked.get("range")


async def test_credentials_stay_within_their_origin(open_cache, read, origin):
    """A redirect within the origin keeps the fields that were configured."""
    cache = await open_cache(request_headers={"Authorization": "Bearer secret"})
    origin.add("/a.bin", redirect="/b.bin")
    origin.add("/b.bin", DATA)
    got = await read(cache, origin.url("/a.bin"))
    assert (got.status, got.content) == (200, DATA)
    assert [each.fields.get("authorization") for each in origin.requests] == ["Bearer secret"] * 2


@pytest.mark.parametrize("location", ["", "http://", "//[", "gopher://example.com/", "\x7f"])
async def test_a_redirect_to_nowhere_is_a_clear_error(open_cache, read, origin, location):
    """A Location that cannot be followed ends the request, whatever it holds."""
    cache = await open_cache()
    origin.add("/a.bin", redirect=location)
    got = await read(cache, origin.url("/a.bin"))
    assert got.status in {400, 404, 502}
    assert got.complete


async def test_a_redirect_to_plain_http_is_refused(open_cache, read, origin, tmp_path):
    """What was asked for over TLS is not fetched without it."""
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    pem = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(pem)
    cache = await open_cache(ca_file=pem)
    origin.add("/b.bin", DATA)
    async with Origin(ssl_context=context) as secure:
        secure.add("/a.bin", redirect=origin.url("/b.bin"))
        got = await read(cache, secure.url("/a.bin"))
        assert got.status == 502
        assert got.error is None or isinstance(got.error, UpstreamProtocolError)
        assert origin.count() == 0
        secure.add("/a.bin", DATA)
        secure.add("/c.bin", DATA)
        right = await read(cache, secure.url("/c.bin"))
        assert (right.status, right.content) == (200, DATA)


# ---------------------------------------------------------------------------
# Lies about ranges
# ---------------------------------------------------------------------------


@pytest.mark.parametrize("lie", ["shifted", "missing", "bytes 0-9/10", "items 0-9/10", "x"])
async def test_a_wrong_content_range_is_never_used(open_cache, read, origin, lie):
    """Nothing of a part is stored whose place is in doubt, first or later."""
    cache = await open_cache()
    served = origin.add("/a.bin", DATA)
    served.content_range = lie
    source = origin.url("/a.bin")
    got = await read(cache, source, 1000, 2000)
    assert got.status == 502
    assert got.error is None or isinstance(got.error, UpstreamProtocolError)
    served.content_range = None
    assert (await read(cache, source, 1000, 2000)).content == DATA[1000:2000]
    served.content_range = lie
    assert (await read(cache, source, 200_000, 200_100)).status == 502
    assert (await read(cache, source, 1000, 2000)).content == DATA[1000:2000]


async def test_a_passing_lie_about_a_range_is_not_seen_by_the_client(open_cache, read, origin):
    """One wrong Content-Range is retried while the client waits."""
    cache = await open_cache()
    served = origin.add("/a.bin", DATA)
    lies = iter(["shifted"])
    served.plan = lambda request: {"content_range": lie} if (lie := next(lies, None)) else None
    got = await read(cache, origin.url("/a.bin"), 1000, 2000)
    assert (got.status, got.content) == (206, DATA[1000:2000])


async def test_a_wrong_complete_length_ends_in_a_cut_or_the_truth(open_cache, read, origin):
    """A length that is a byte too long never makes a whole answer of too few bytes."""
    cache = await open_cache(request_timeout=2)
    served = origin.add("/a.bin", DATA)
    served.content_range = "length"
    got = await read(cache, origin.url("/a.bin"))
    assert is_prefix(got.content, DATA)
    assert not got.complete or got.status == 502 or got.content == DATA
    served.content_range = None
    again = await read(cache, origin.url("/a.bin"))
    assert (again.status, again.content) == (200, DATA)


@pytest.mark.parametrize("advertised", [True, False])
async def test_an_origin_that_ignores_ranges_serves_them_all_the_same(
    open_cache, read, origin, advertised
):
    """A 200 to a range request becomes one linear download that serves every range."""
    cache = await open_cache()
    served = origin.add("/a.bin", DATA, ranges=advertised)
    served.range_answer = "full"
    source = origin.url("/a.bin")
    late = await read(cache, source, 200_000, 200_100)
    assert (late.status, late.content) == (206, DATA[200_000:200_100])
    early = await read(cache, source, 5, 50)
    assert (early.status, early.content) == (206, DATA[5:50])
    assert origin.count() == 1


async def test_a_part_to_a_request_for_all_is_never_taken_for_it(open_cache, read, origin):
    """A 206 that nobody asked for is an error, or right."""
    cache = await open_cache()
    origin.add("/a.bin", pattern("big", 3 << 20), etag='W/"v1"', range_answer="partial")
    got = await read(cache, origin.url("/a.bin"))
    whole = pattern("big", 3 << 20).bytes()
    assert got.status == 502 or (got.complete and got.content == whole)


async def test_a_416_to_a_range_of_ours_is_asked_again_without(open_cache, read, origin):
    """An origin that rejects the range we made up is asked for all."""
    cache = await open_cache()
    served = origin.add("/a.bin", DATA)
    served.plan = lambda request: {"range_answer": "416"} if request.range else None
    got = await read(cache, origin.url("/a.bin"))
    assert (got.status, got.content) == (200, DATA)
    assert [each.status for each in origin.requests] == [416, 200]


async def test_an_origin_that_says_416_to_everything_is_a_clear_error(open_cache, read, origin):
    """A 416 even without Range is a bad gateway, not a loop."""
    cache = await open_cache()
    origin.add("/a.bin", DATA, range_answer="416")
    got = await read(cache, origin.url("/a.bin"))
    assert got.status in {416, 502}
    assert got.complete
    assert origin.count() < 20


async def test_a_range_past_the_end_is_416(open_cache, read, origin):
    """The client learns the length, before anything is known and after."""
    cache = await open_cache()
    origin.add("/a.bin", DATA)
    source = origin.url("/a.bin")
    for _ in range(2):
        got = await read(cache, source, LENGTH + 5, LENGTH + 10)
        assert got.status == 416
        if got.error is None:
            assert got.fields.get("content-range") == f"bytes */{LENGTH}"
        else:
            assert isinstance(got.error, RangeNotSatisfiableError)
            assert got.error.complete_length == LENGTH
    assert (await read(cache, source)).content == DATA


async def test_an_empty_file_is_an_empty_answer(open_cache, read, origin):
    """Nothing is a right answer, kept like any other."""
    cache = await open_cache()
    origin.add("/a.bin", b"")
    for _ in range(2):
        got = await read(cache, origin.url("/a.bin"))
        assert (got.status, got.content, got.complete) == (200, b"", True)
    past = await read(cache, origin.url("/a.bin"), 5, 6)
    assert past.status == 416
    count = origin.count()
    assert (await read(cache, origin.url("/a.bin"))).status == 200
    assert origin.count() == count


# ---------------------------------------------------------------------------
# Bodies that do not keep their word
# ---------------------------------------------------------------------------


async def test_a_short_body_is_completed_by_another_request(open_cache, read, origin):
    """A body that ends before its length is resumed at the first missing byte."""
    cache = await open_cache()
    served = origin.add("/a.bin", DATA)
    served.plan = lambda request: {"short_by": 1000} if origin.count() == 1 else None
    got = await read(cache, origin.url("/a.bin"))
    assert (got.status, got.content, got.complete) == (200, DATA, True)
    assert origin.requests[1].range == f"bytes={LENGTH - 1000}-{LENGTH - 1}"


async def test_a_body_that_is_always_short_is_cut_visibly(open_cache, read, origin):
    """What cannot be completed ends as a cut, with right bytes before it."""
    cache = await open_cache(request_timeout=1)
    origin.add("/a.bin", DATA, short_by=1000)
    got = await read(cache, origin.url("/a.bin"))
    assert not got.complete
    assert is_prefix(got.content, DATA)


async def test_a_body_that_is_too_long_ends_where_it_should(open_cache, read, origin):
    """What comes after the announced end is no content."""
    cache = await open_cache()
    origin.add("/a.bin", DATA, long_by=500)
    source = origin.url("/a.bin")
    got = await read(cache, source)
    assert (got.status, got.content, got.complete) == (200, DATA, True)
    assert await stored(cache, source) == DATA


@pytest.mark.parametrize(
    "length", [LENGTH - 100, LENGTH + 100], ids=["less than comes", "more than comes"]
)
async def test_a_content_length_against_the_content_range_is_never_used(
    open_cache, read, origin, length
):
    """A part whose two lengths contradict each other brings nothing."""
    cache = await open_cache(request_timeout=2)
    origin.add("/a.bin", DATA, content_length=length)
    got = await read(cache, origin.url("/a.bin"))
    assert got.status == 502
    assert await stored(cache, origin.url("/a.bin")) == b""


@pytest.mark.parametrize("times", [1, 6])
@pytest.mark.parametrize("reset", [False, True])
async def test_a_dropped_connection_is_invisible(open_cache, read, origin, times, reset):
    """Whether the origin hangs up once or often, the client gets all in one answer."""
    cache = await open_cache()
    served = origin.add("/a.bin", DATA)
    served.drop(after=40_000, times=times, reset=reset)
    got = await read(cache, origin.url("/a.bin"))
    assert (got.status, got.content, got.complete) == (200, DATA, True)
    assert origin.count() >= times + 1


async def test_a_drop_before_the_head_is_invisible(open_cache, read, origin):
    """A connection that ends without an answer is tried again."""
    cache = await open_cache()
    served = origin.add("/a.bin", DATA)
    served.drop(after=-1, times=2)
    got = await read(cache, origin.url("/a.bin"))
    assert (got.status, got.content) == (200, DATA)


async def test_an_origin_that_always_drops_before_the_head_is_a_bad_gateway(
    open_cache, read, origin
):
    """A few tries, and then a clear error."""
    cache = await open_cache()
    origin.add("/a.bin", DATA).drop(after=-1, times=None)
    got = await read(cache, origin.url("/a.bin"))
    assert got.status == 502
    assert got.error is None or isinstance(got.error, TransportError)
    assert origin.count() < 20


async def test_a_stall_is_given_up_and_resumed(open_cache, read, origin):
    """Silence in mid-content costs the read timeout and no byte."""
    cache = await open_cache(read_timeout=0.3)
    served = origin.add("/a.bin", DATA)
    served.stall(after=100_000)
    got = await read(cache, origin.url("/a.bin"))
    assert (got.status, got.content, got.complete) == (200, DATA, True)
    assert origin.count() >= 2


async def test_an_origin_that_never_answers_is_a_gateway_timeout(open_cache, read, origin):
    """Silence before the head is 504, not a hang."""
    cache = await open_cache(read_timeout=0.2)
    origin.add("/a.bin", DATA, gate=asyncio.Event())
    got = await read(cache, origin.url("/a.bin"))
    assert got.status == 504
    assert got.error is None or isinstance(got.error, UpstreamTimeoutError)


async def test_a_lasting_stall_is_cut_visibly(open_cache, read, origin):
    """A reader in mid-content fails after the request timeout, with right bytes before it."""
    cache = await open_cache(read_timeout=0.3, request_timeout=1)
    served = origin.add("/a.bin", DATA)
    served.plan = lambda request: {
        "stall_after": 100_000 if origin.count() == 1 else 0,
        "stall_times": None,
    }
    got = await read(cache, origin.url("/a.bin"))
    assert not got.complete
    assert got.content
    assert is_prefix(got.content, DATA)


# ---------------------------------------------------------------------------
# Unknown length and broken framing
# ---------------------------------------------------------------------------


@pytest.mark.parametrize("framing", ["chunked", "close"])
async def test_content_without_a_length_is_streamed_and_kept(open_cache, read, origin, framing):
    """A whole answer of unknown length is right, and its length is known afterwards."""
    cache = await open_cache()
    origin.add("/a.bin", DATA, framing=framing, ranges=False)
    source = origin.url("/a.bin")
    got = await read(cache, source)
    assert (got.status, got.content, got.complete) == (200, DATA, True)
    again = await read(cache, source, 1000, 2000)
    assert (again.status, again.content) == (206, DATA[1000:2000])
    assert origin.count() == 1


@pytest.mark.parametrize(
    "mischief",
    [
        {"drop_after": 100_000, "drop_times": 1},
        {"drop_after": 100_000, "drop_times": 1, "drop_reset": True},
        {"broken_chunk_after": 100_000},
    ],
    ids=["dropped", "reset", "garbled"],
)
async def test_a_chunked_body_that_breaks_is_received_again(open_cache, read, origin, mischief):
    """An abort is never taken for the end: the same version is asked for again."""
    cache = await open_cache()
    served = origin.add("/a.bin", DATA, framing="chunked", ranges=False)
    first = iter([mischief])
    served.plan = lambda request: next(first, None)
    got = await read(cache, origin.url("/a.bin"))
    assert (got.status, got.content, got.complete) == (200, DATA, True)


async def test_a_reset_is_not_the_end_of_content_without_a_length(open_cache, read, origin):
    """Where the connection's end is the content's, only an orderly one counts."""
    cache = await open_cache()
    served = origin.add("/a.bin", DATA, framing="close", ranges=False)
    served.drop(after=100_000, times=1, reset=True)
    got = await read(cache, origin.url("/a.bin"))
    assert (got.status, got.content, got.complete) == (200, DATA, True)


async def test_broken_chunking_without_end_is_cut_visibly(open_cache, read, origin):
    """A body that always breaks is cut or refused, and never complete."""
    cache = await open_cache(request_timeout=1)
    origin.add("/a.bin", DATA, framing="chunked", ranges=False, broken_chunk_after=100_000)
    got = await read(cache, origin.url("/a.bin"))
    assert not got.complete or got.status == 502
    assert got.status == 502 or is_prefix(got.content, DATA)
    record = await cache.get_cache_record(origin.url("/a.bin"))
    assert record is None or not record.complete


async def test_an_http_1_0_origin_is_served(open_cache, read, origin):
    """No chunks, no persistent connection, no range: still a right answer."""
    cache = await open_cache()
    origin.add("/a.bin", DATA, http10=True, ranges=False, etag=None, last_modified=None)
    got = await read(cache, origin.url("/a.bin"))
    assert (got.status, got.content, got.complete) == (200, DATA, True)


@pytest.mark.parametrize(
    "head",
    [
        b"garbage\r\n\r\n",
        b"\x00\xff\xfe\r\n\r\n",
        b"HTTP/1.1\r\n\r\n",
        b"HTTP/1.1 abc OK\r\n\r\n",
        b"HTTP/1.1 99999 OK\r\n\r\n",
        b"HTTP/9.9 200 OK\r\nContent-Length: 300000\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 300000\r\nContent-Length: 5\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1e3\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nno colon here\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX-Long: " + b"x" * 200_000 + b"\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n" + b"X-Many: x\r\n" * 5000 + b"\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n",
    ],
    ids=[
        "garbage", "binary", "no status", "letters", "huge status", "version", "negative",
        "two lengths", "not a number", "no colon", "long line", "many lines", "upgrade",
    ],
)  # fmt: skip
async def test_an_absurd_head_is_a_clear_error(open_cache, read, origin, head):
    """What is no HTTP is 502: nothing hangs, and nothing of it is stored."""
    cache = await open_cache(read_timeout=5)
    served = origin.add("/a.bin", DATA, raw_head=head)
    got = await read(cache, origin.url("/a.bin"))
    assert got.status == 502
    assert await stored(cache, origin.url("/a.bin")) == b""
    served.raw_head = None
    right = await read(cache, origin.url("/a.bin"))
    assert (right.status, right.content) == (200, DATA)


async def test_a_head_with_many_or_odd_fields_is_cleaned(open_cache, origin, read):
    """Fields that cannot be passed on are dropped, and the content is right."""
    cache = await open_cache(copy_cached_response_headers=True)
    odd = (
        ("X-Control", "a\x01b"),
        ("Set-Cookie", "a=b"),
        ("Strict-Transport-Security", "max-age=1"),
        ("X-Latin", "caf\xe9"),
        *((f"X-{number}", "x" * 100) for number in range(90)),
    )
    origin.add("/a.bin", DATA, fields=odd)
    got = await read(cache, origin.url("/a.bin"))
    assert (got.status, got.content, got.complete) == (200, DATA, True)
    assert "set-cookie" not in got.fields
    assert "strict-transport-security" not in got.fields


@pytest.mark.parametrize("interim", [(100,), (103,), (102, 103, 100)])
async def test_interim_heads_are_skipped(open_cache, read, origin, interim):
    """1xx heads before the answer change nothing."""
    cache = await open_cache()
    origin.add("/a.bin", DATA, interim=interim)
    got = await read(cache, origin.url("/a.bin"))
    assert (got.status, got.content, got.complete) == (200, DATA, True)


# ---------------------------------------------------------------------------
# Versions
# ---------------------------------------------------------------------------


async def test_parts_of_two_versions_are_never_joined(open_cache, read, origin):
    """A change between two parts gives the second reader the new version, and keeps that."""
    cache = await open_cache()
    served = origin.add("/a.bin", DATA)
    source = origin.url("/a.bin")
    assert (await read(cache, source, 0, 1000)).content == DATA[:1000]
    served.change(FRESH, etag='"v2"')
    got = await read(cache, source, 200_000, 200_100)
    assert (got.status, got.content) == (206, FRESH[200_000:200_100])
    first = await read(cache, source, 0, 1000)
    assert (first.status, first.content) == (206, FRESH[:1000])
    assert await stored(cache, source) in FRESH


async def test_a_reader_in_mid_content_is_cut_when_the_version_changes(open_cache, read, origin):
    """The bytes before the cut are of one version, and the next reader gets the other."""
    cache = await open_cache()
    served = origin.add("/a.bin", DATA)
    source = origin.url("/a.bin")

    def change_after_first(request):
        if origin.count() == 1:
            return {"drop_after": 100_000, "drop_times": None}
        served.change(FRESH, etag='"v2"')
        return {"data": FRESH, "etag": '"v2"'}

    served.plan = change_after_first
    got = await read(cache, source)
    assert not got.complete
    assert got.content
    assert is_prefix(got.content, DATA)
    assert got.error is None or isinstance(got.error, RepresentationChangedError)
    again = await read(cache, source)
    assert (again.status, again.content, again.complete) == (200, FRESH, True)
    assert await stored(cache, source) == FRESH


async def test_a_reader_that_has_all_it_wants_survives_a_change(open_cache, origin):
    """A reader of the old version whose bytes are all stored reads them to their end."""
    cache = await open_cache()
    served = origin.add("/a.bin", DATA)
    stream = cache.create_stream(origin.url("/a.bin"))
    async with await stream.request(0, 1000) as warm:
        assert await warm.read() == DATA[:1000]
    held = await stream.request(0, 1000)
    served.change(FRESH, etag='"v2"')
    async with await stream.request(200_000, 200_100) as fresh:
        assert await fresh.read() == FRESH[200_000:200_100]
    assert await held.read() == DATA[:1000]
    await held.aclose()
    stream.release()


@pytest.mark.parametrize("etag", ['W/"v1"', None], ids=["weak", "absent"])
async def test_without_a_strong_validator_parts_are_never_joined(open_cache, read, origin, etag):
    """A change that no validator shows cannot mix two versions either."""
    cache = await open_cache()
    served = origin.add("/a.bin", pattern("a", 3 << 20), etag=etag, last_modified=None)
    served.drop(after=1 << 20, times=1)
    source = origin.url("/a.bin")
    served.plan = lambda request: None if origin.count() < 3 else {"data": pattern("b", 3 << 20)}
    got = await read(cache, source)
    old, new = pattern("a", 3 << 20).bytes(), pattern("b", 3 << 20).bytes()
    assert is_prefix(got.content, old) or is_prefix(got.content, new)
    if got.complete:
        assert got.content in (old, new)
    again = await read(cache, source)
    assert again.complete
    assert again.content in (old, new)


@pytest.mark.parametrize("etag", ['W/"v1"', None], ids=["weak", "absent"])
async def test_without_a_strong_validator_one_exchange_serves_all(open_cache, read, origin, etag):
    """An origin without strong validators is read from start to end, and then kept."""
    cache = await open_cache()
    origin.add("/a.bin", DATA, etag=etag, last_modified=None)
    source = origin.url("/a.bin")
    got = await read(cache, source, 200_000, 200_100)
    assert (got.status, got.content) == (206, DATA[200_000:200_100])
    early = await read(cache, source, 5, 50)
    assert (early.status, early.content) == (206, DATA[5:50])


async def test_a_tag_that_stays_while_the_length_changes_is_no_trap(open_cache, read, origin):
    """Even an origin that lies with its tag does not get two lengths into one answer."""
    cache = await open_cache()
    served = origin.add("/a.bin", DATA)
    source = origin.url("/a.bin")
    assert (await read(cache, source, 0, 1000)).content == DATA[:1000]
    served.change(FRESH[:250_000])
    got = await read(cache, source, 200_000, 200_100)
    assert (got.status, got.content) == (206, FRESH[200_000:200_100])
    assert (await read(cache, source)).content == FRESH[:250_000]


# ---------------------------------------------------------------------------
# Coding, and what may not be stored
# ---------------------------------------------------------------------------


async def test_coded_content_is_passed_on_as_it_came(open_cache, origin, read):
    """An origin that codes unasked is stored and served byte by byte, and labelled so."""
    cache = await open_cache()
    text = b"all work and no play " * 5000
    origin.add("/a.txt", text, gzip=True)
    source = origin.url("/a.txt")
    for _ in range(2):
        got = await read(cache, source)
        assert got.status == 200
        assert got.fields.get("content-encoding") == "gzip"
        assert gzip.decompress(got.content) == text
    assert origin.count() == 1
    assert origin.requests[0].fields.get("accept-encoding") == "identity"


async def test_a_coding_that_comes_and_goes_is_another_version(open_cache, read, origin):
    """Coded and plain parts under one tag are never joined."""
    cache = await open_cache()
    text = pattern("text", 50_000).bytes()
    coded = gzip.compress(text, mtime=0)
    served = origin.add("/a.bin", text)
    source = origin.url("/a.bin")
    assert (await read(cache, source, 0, 1000)).content == text[:1000]
    served.gzip = True
    got = await read(cache, source, 40_000, 40_100)
    assert (got.status, got.content) == (206, coded[40_000:40_100])


async def test_no_store_is_passed_on_and_not_kept(open_cache, read, origin):
    """Clients get right bytes of what may not be stored, and the origin is asked each time."""
    cache = await open_cache()
    origin.add("/a.bin", DATA, cache_control="no-store")
    source = origin.url("/a.bin")
    for _ in range(2):
        got = await read(cache, source)
        assert (got.status, got.content, got.complete) == (200, DATA, True)
    part = await read(cache, source, 1000, 2000)
    assert (part.status, part.content) == (206, DATA[1000:2000])
    assert origin.count() >= 3
    assert (await cache.usage()).entries == 0


async def test_head_of_a_failing_origin_is_its_status(open_cache, origin):
    """HEAD gets the origin's refusal too, and right fields when it answers."""
    cache = await open_cache(error_ttl=0)
    served = origin.add("/a.bin", DATA)
    served.fail(404, times=2)
    authority = cache.base_url.removeprefix("http://")
    target = cache.get_cache_url(origin.url("/a.bin")).removeprefix(cache.base_url)
    async with RawClient(cache.base_url) as client:
        refused = await client.ask(target, method="HEAD", host=authority)
        right = await client.ask(target, method="HEAD", host=authority)
    assert refused.status == 404
    assert right.status == 200
    assert right.fields.get("content-length") == str(LENGTH)
