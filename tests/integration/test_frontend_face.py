"""What a client sees at the local server: status, fields, framing, who may come in."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from email.utils import formatdate

import aiohttp
import attrs
import pytest
import pytest_asyncio

from cachestream import CacheManager
from cachestream.testing._raw_client import RawClient, RawResponse, request_bytes
from cachestream.testing.origin import Origin, pattern

LENGTH = 300_000
DATA = pattern("face", LENGTH).bytes()
MODIFIED_S = 1_700_000_000.0
PATIENCE_S = 45.0

pytestmark = pytest.mark.asyncio


@attrs.frozen
class Face:
    """A cache's server, asked in raw HTTP.

    Attributes:
        before: A path that each connection asks for twice first: plain requests for what is held,
            of which the second is answered the fastest way there is.
    """

    cache: CacheManager
    origin: Origin
    before: str | None = None

    @property
    def authority(self) -> str:
        """Host and port of the server."""
        assert self.cache.base_url is not None
        return self.cache.base_url.removeprefix("http://")

    def client(self) -> RawClient:
        """Return a connection to be opened."""
        assert self.cache.base_url is not None
        return RawClient(self.cache.base_url)

    def target(self, path: str) -> str:
        """Return the target of a path of the origin; the program names it thereby."""
        url = self.cache.get_cache_url(self.origin.url(path))
        return url.removeprefix(f"http://{self.authority}")

    async def ask(
        self, target: str, *fields: tuple[str, str], method: str = "GET", version: str = "1.1"
    ) -> RawResponse:
        """Ask once, on a connection of its own; a host is sent unless it is among the fields."""
        host = None if any(name.lower() == "host" for name, _ in fields) else self.authority
        async with self.client() as client, asyncio.timeout(PATIENCE_S):
            for _ in range(2 if self.before else 0):
                plain = await client.ask(self.target(self.before or ""), host=self.authority)
                assert plain.content == DATA
            return await client.ask(target, *fields, method=method, version=version, host=host)

    async def get(self, path: str, *fields: tuple[str, str], method: str = "GET") -> RawResponse:
        """Ask for a path of the origin."""
        return await self.ask(self.target(path), *fields, method=method)


@pytest_asyncio.fixture
async def face(open_cache, origin: Origin) -> AsyncIterator[Face]:
    """Run a server for content that the program names."""
    origin.add("/a.bin", DATA, last_modified=MODIFIED_S)
    yield Face(await open_cache(allow_hosts=()), origin)


@pytest_asyncio.fixture(params=["cold", "warm", "kept"])
async def either(face: Face, request) -> Face:
    """Let a test hold for content that is fetched, that is held, and on a well-known connection."""
    if request.param == "cold":
        return face
    assert (await face.get("/a.bin")).content == DATA
    if request.param == "warm":
        return face
    await face.cache.pre_cache_url(face.origin.url("/a.bin"))  # now all of it is committed
    shared = face.cache._frontend._server.shared
    assert (await attrs.evolve(face, before="/a.bin").get("/a.bin")).content == DATA
    assert any(lane._known for lane in shared._lanes.values())  # the fastest way was taken
    return attrs.evolve(face, before="/a.bin")


# ---------------------------------------------------------------------------
# Ranges
# ---------------------------------------------------------------------------


async def test_all_is_200(either):
    """Without Range a client gets everything, with its length."""
    got = await either.get("/a.bin")
    assert (got.status, got.content, got.framing) == (200, DATA, "length")
    assert "content-range" not in got.fields
    assert got.fields.get("content-length") == str(LENGTH)


@pytest.mark.parametrize(
    ("asked", "start", "stop"),
    [
        ("bytes=0-", 0, LENGTH),
        ("bytes=0-0", 0, 1),
        ("bytes=1000-1999", 1000, 2000),
        ("BYTES=1000-1999", 1000, 2000),
        ("bytes=299999-", LENGTH - 1, LENGTH),
        ("bytes=-100", LENGTH - 100, LENGTH),
        ("bytes=-99999999", 0, LENGTH),
        ("bytes=299000-99999999999999", 299_000, LENGTH),
    ],
)
async def test_a_satisfiable_range_is_206(either, asked, start, stop):
    """Bounded, open, suffix and clamped ranges get exactly their bytes."""
    got = await either.get("/a.bin", ("Range", asked))
    assert (got.status, got.content) == (206, DATA[start:stop])
    assert got.fields.get("content-range") == f"bytes {start}-{stop - 1}/{LENGTH}"
    assert got.fields.get("content-length") == str(stop - start)


@pytest.mark.parametrize(
    "asked",
    [
        "bytes", "bytes=", "bytes=-", "bytes=a-b", "bytes=5-3", "bytes=--5", "bytes 0-5",
        "bytes=0x1-5", "items=0-5", "seconds=1-2", "",
    ],
)  # fmt: skip
async def test_a_malformed_or_foreign_range_is_ignored(either, asked):
    """A Range that means nothing to us is no reason to refuse (RFC 9110 §14.2)."""
    got = await either.get("/a.bin", ("Range", asked))
    assert (got.status, got.content) == (200, DATA)


@pytest.mark.parametrize("asked", ["bytes=300000-", "bytes=300000-300001", "bytes=-0"])
async def test_an_unsatisfiable_range_is_416(either, asked):
    """The client learns the length (RFC 9110 §15.5.17)."""
    got = await either.get("/a.bin", ("Range", asked))
    assert got.status == 416
    assert got.complete
    assert got.fields.get("content-range") == f"bytes */{LENGTH}"


async def test_an_empty_file(face):
    """An empty file is a whole answer, and no range of it can be satisfied."""
    face.origin.add("/empty.mp3", b"")
    for _ in range(2):
        got = await face.get("/empty.mp3")
        assert (got.status, got.content, got.framing) == (200, b"", "length")
        past = await face.get("/empty.mp3", ("Range", "bytes=0-"))
        assert past.status == 416
        assert past.fields.get("content-range") == "bytes */0"


# ---------------------------------------------------------------------------
# Conditions (RFC 9110 §13)
# ---------------------------------------------------------------------------

DATE = formatdate(MODIFIED_S, usegmt=True)
BEFORE = formatdate(MODIFIED_S - 100, usegmt=True)
AFTER = formatdate(MODIFIED_S + 100, usegmt=True)


@pytest.mark.parametrize(
    "fields",
    [
        [("If-None-Match", '"v1"')],
        [("If-None-Match", 'W/"v1"')],
        [("If-None-Match", '"x", "v1"')],
        [("If-None-Match", "*")],
        [("If-Modified-Since", DATE)],
        [("If-Modified-Since", AFTER)],
        [("If-None-Match", '"v1"'), ("If-Modified-Since", BEFORE)],
        [("If-None-Match", '"v1"'), ("Range", "bytes=0-5")],
    ],
)
@pytest.mark.parametrize("method", ["GET", "HEAD"])
async def test_what_the_client_has_is_304(either, fields, method):
    """A client that has this version gets its validators and no content."""
    async with either.client() as client:
        target = either.target("/a.bin")
        got = await client.ask(target, *fields, method=method, host=either.authority)
        assert (got.status, got.content) == (304, b"")
        assert got.fields.get("etag") == '"v1"'
        again = await client.ask(target, host=either.authority)
    assert (again.status, again.content) == (200, DATA)


@pytest.mark.parametrize(
    "fields",
    [
        [("If-None-Match", '"v2"')],
        [("If-Modified-Since", BEFORE)],
        [("If-Modified-Since", "yesterday")],
        [("If-None-Match", '"v2"'), ("If-Modified-Since", DATE)],
        [("If-Match", '"v1"')],
        [("If-Match", "*")],
        [("If-Unmodified-Since", DATE)],
        [("If-Match", '"v1"'), ("If-Unmodified-Since", BEFORE)],
    ],
)
async def test_a_condition_that_holds_changes_nothing(either, fields):
    """Preconditions that let the request through do just that."""
    got = await either.get("/a.bin", *fields)
    assert (got.status, got.content) == (200, DATA)


@pytest.mark.parametrize(
    "fields",
    [
        [("If-Match", '"v2"')],
        [("If-Match", 'W/"v1"')],
        [("If-Unmodified-Since", BEFORE)],
        [("If-Match", '"v2"'), ("If-None-Match", '"v1"')],
    ],
)
async def test_a_condition_that_fails_is_412(either, fields):
    """A client that wants another version is told so."""
    got = await either.get("/a.bin", *fields)
    assert got.status == 412
    assert got.complete


@pytest.mark.parametrize("condition", ['"v1"', DATE])
async def test_if_range_that_holds_gets_the_range(face, condition):
    """A resuming client gets its part (RFC 9110 §13.1.5)."""
    face.origin.files["/a.bin"].etag = '"v1"' if condition.startswith('"') else None
    await face.get("/a.bin")
    got = await face.get("/a.bin", ("Range", "bytes=100-199"), ("If-Range", condition))
    assert (got.status, got.content) == (206, DATA[100:200])


@pytest.mark.parametrize("condition", ['"v2"', 'W/"v1"', BEFORE, AFTER, "x"])
async def test_if_range_that_does_not_hold_gets_everything(either, condition):
    """A client whose part is of another version gets all of this one."""
    got = await either.get("/a.bin", ("Range", "bytes=100-199"), ("If-Range", condition))
    assert (got.status, got.content) == (200, DATA)


# ---------------------------------------------------------------------------
# Methods
# ---------------------------------------------------------------------------


async def test_head_is_get_without_content(either):
    """HEAD has the fields and the length of GET; Range means nothing to it."""
    head = await either.get("/a.bin", ("Range", "bytes=0-5"), method="HEAD")
    got = await either.get("/a.bin")
    assert (head.status, head.content) == (200, b"")
    assert "content-range" not in head.fields
    own = {"age", "date", "cache-status", "server-timing"}
    assert {line for line in head.fields if line[0].lower() not in own} == {
        line for line in got.fields if line[0].lower() not in own
    }


async def test_head_fetches_no_content(face):
    """What HEAD tells costs no content."""
    head = await face.get("/a.bin", method="HEAD")
    assert head.fields.get("content-length") == str(LENGTH)
    assert face.origin.bytes_sent() <= 1


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "LOCK"])
async def test_other_methods_are_405(either, method):
    """Nobody can change anything through here; what is allowed is said."""
    got = await either.get("/a.bin", ("Content-Length", "0"), method=method)
    assert got.status == 405
    assert got.fields.get("allow") == "GET, HEAD"


# ---------------------------------------------------------------------------
# Fields
# ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "told", "shown"),
    [
        ("/v.mp4", None, "video/mp4"),
        ("/v.mp4", "application/octet-stream", "video/mp4"),
        ("/v.mp4", "", "video/mp4"),
        ("/v.mp4?x=1.txt", None, "video/mp4"),
        ("/list.m3u8", None, "application/vnd.apple.mpegurl"),
        ("/a.mp3", None, "audio/mpeg"),
        ("/a.mp3", "audio/x-own; q=1", "audio/x-own; q=1"),
        ("/unknown.zzz", None, "application/octet-stream"),
        ("/nothing", None, "application/octet-stream"),
    ],
)
async def test_content_type(face, path, told, shown):
    """The origin's word counts; where it says nothing, the URL's extension does."""
    face.origin.add(path, DATA, content_type=told)
    for method in ("HEAD", "GET", "GET"):
        got = await face.get(path, method=method)
        assert got.fields.get_all("content-type") == (shown,)


async def test_stored_fields_come_back(either):
    """Validators, Cache-Control, Date and Accept-Ranges are the origin's; Age counts from it."""
    either.origin.add("/b.bin", DATA, cache_control="max-age=60", last_modified=MODIFIED_S)
    for asked in ((), (("Range", "bytes=0-5"),)):
        got = await either.get("/b.bin", *asked)
        assert got.fields.get("accept-ranges") == "bytes"
        assert got.fields.get("etag") == '"v1"'
        assert got.fields.get("last-modified") == DATE
        assert got.fields.get("cache-control") == "max-age=60"
        assert len(got.fields.get_all("date")) == 1
        assert 0 <= int(got.fields.get("age") or "x") < PATIENCE_S


async def test_an_origin_without_ranges_is_served_with_them(face):
    """What is held can be read in ranges, whatever its origin could do."""
    face.origin.add("/c.bin", DATA, ranges=False)
    assert (await face.get("/c.bin")).fields.get("accept-ranges") == "bytes"
    got = await face.get("/c.bin", ("Range", "bytes=5-9"))
    assert (got.status, got.content) == (206, DATA[5:10])


async def test_age_adds_what_the_origin_says(face):
    """Age is no less than it was on arrival (RFC 9111 §4.2.3)."""
    face.origin.add("/old.bin", DATA, fields=(("Age", "1000"),))
    ages = [(await face.get("/old.bin")).fields.get_all("age") for _ in range(2)]
    assert all(len(age) == 1 and 1000 <= int(age[0]) < 1000 + PATIENCE_S for age in ages)


async def test_cache_status_says_where_bytes_came_from(face):
    """A miss, a part that is held, and a hit are told apart (RFC 9211)."""
    first = await face.get("/a.bin", ("Range", "bytes=0-999"))
    part = await face.get("/a.bin")
    hit = await face.get("/a.bin")
    assert first.fields.get("cache-status") == "cachestream; fwd=uri-miss; stored"
    assert part.fields.get("cache-status") == "cachestream; fwd=partial; stored"
    assert hit.fields.get("cache-status") == "cachestream; hit"


async def test_server_timing_says_it_to_pages(face):
    """Browsers' tools show whether the cache had it."""
    miss, hit = [await face.get("/a.bin") for _ in range(2)]
    assert (miss.fields.get("server-timing") or "").startswith("cache;desc=uri-miss")
    assert (hit.fields.get("server-timing") or "").startswith("cache;desc=hit")


@pytest.mark.parametrize("status", [200, 404])
async def test_content_of_strangers_may_not_act_here(face, status):
    """A page from an origin runs no script in the server's own origin, error pages included."""
    served = face.origin.add("/page.html", b"<script>", content_type="text/html")
    if status != 200:
        served.fail(status, body=b"<script>")
    got = await face.get("/page.html")
    assert (got.status, got.content) == (status, b"<script>")
    assert got.fields.get("content-security-policy") == "sandbox"
    assert got.fields.get("x-content-type-options") == "nosniff"
    assert "access-control-allow-origin" not in got.fields


# ---------------------------------------------------------------------------
# Who may come in
# ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    "host",
    ["example.com", "example.com:80", "127.0.0.1", "localhost.", "127.0.0.1.nip.io", "evil"],
)
async def test_a_foreign_host_is_421(either, host):
    """A page that had its own name resolved to us is not answered (DNS rebinding)."""
    port = either.authority.rpartition(":")[2]
    for each in (host, f"{host}:{port}") if host != "127.0.0.1" else (host,):
        got = await either.get("/a.bin", ("Host", each))
        assert got.status == 421
        assert DATA[:100] not in got.content


@pytest.mark.parametrize("name", ["127.0.0.1", "localhost", "LOCALHOST"])
async def test_our_own_names_are_answered(either, name):
    """Players may call the server by its address or by localhost."""
    port = either.authority.rpartition(":")[2]
    got = await either.get("/a.bin", ("Host", f"{name}:{port}"))
    assert (got.status, got.content) == (200, DATA)


async def test_absolute_form_targets(either):
    """A target in absolute form must name us, as Host must (RFC 9112 §3.2.2)."""
    target = either.target("/a.bin")
    got = await either.ask(f"http://{either.authority}{target}")
    assert (got.status, got.content) == (200, DATA)
    for foreign in (either.origin.url("/a.bin"), f"http://example.com{target}"):
        assert (await either.ask(foreign)).status == 421


@pytest.mark.parametrize(
    "fields",
    [
        [("Sec-Fetch-Site", "cross-site"), ("Sec-Fetch-Mode", "no-cors")],
        [("Sec-Fetch-Site", "same-site"), ("Sec-Fetch-Mode", "cors")],
        [("Sec-Fetch-Site", "cross-site"), ("Sec-Fetch-Mode", "navigate"),
         ("Sec-Fetch-Dest", "iframe")],
        [("Origin", "https://evil.example")],
        [("Origin", "null")],
    ],
)  # fmt: skip
async def test_pages_of_other_sites_are_403(either, fields):
    """No web page can read, or time, what is cached."""
    got = await either.get("/a.bin", *fields)
    assert got.status == 403
    assert "access-control-allow-origin" not in got.fields


@pytest.mark.parametrize(
    "fields",
    [
        [("Sec-Fetch-Site", "none"), ("Sec-Fetch-Mode", "navigate")],
        [("Sec-Fetch-Site", "same-origin"), ("Sec-Fetch-Mode", "cors")],
        [("Sec-Fetch-Site", "cross-site"), ("Sec-Fetch-Mode", "navigate"),
         ("Sec-Fetch-Dest", "document")],
    ],
)  # fmt: skip
async def test_people_and_our_own_pages_are_answered(either, fields):
    """A typed or followed link, and what it loads from here, work."""
    got = await either.get("/a.bin", *fields)
    assert (got.status, got.content) == (200, DATA)


async def test_an_allowed_page_may_read(open_cache, origin):
    """An origin that is configured gets the fields that CORS wants, and no other does."""
    origin.add("/a.bin", DATA)
    face = Face(await open_cache(allow_origins=("https://player.example",)), origin)
    foreign = [("Sec-Fetch-Site", "cross-site"), ("Sec-Fetch-Mode", "cors")]
    for _ in range(2):
        got = await face.get("/a.bin", ("Origin", "https://player.example"), *foreign)
        assert (got.status, got.content) == (200, DATA)
        assert got.fields.get("access-control-allow-origin") == "https://player.example"
        refused = await face.get("/a.bin", ("Origin", "https://evil.example"), *foreign)
        assert refused.status == 403


async def test_hosts_that_nobody_named_are_403(face):
    """A client cannot make the server fetch from a host of its own choice."""
    async with Origin() as other:
        other.add("/b.bin", DATA)
        got = await face.ask(f"/http/{other.authority}/b.bin")
        assert got.status == 403
        assert other.count() == 0


async def test_hosts_that_are_in_the_index_may_be_asked(open_cache, origin):
    """A player whose playlist survived a restart of the program goes on."""
    origin.add("/a.bin", DATA)
    first = await open_cache()
    await first.pre_cache_url(origin.url("/a.bin"))
    await first.aclose()
    face = Face(await open_cache(allow_hosts=()), origin)
    got = await face.ask(f"/http/{origin.authority}/a.bin")
    assert (got.status, got.content) == (200, DATA)


@pytest.mark.parametrize(
    "target",
    ["/favicon.ico", "/robots.txt", "/", "/gopher/example.com/", "/ftp/x/y", "/file/etc/passwd"],
)
async def test_what_names_no_source_is_404(face, target):
    """What browsers ask on their own, and unknown schemes, are not there."""
    got = await face.ask(target)
    assert got.status == 404
    assert got.complete


async def test_a_token_is_part_of_every_path(open_cache, origin):
    """With a token only those who know it get anything, and relative links keep it."""
    origin.add("/dir/a.bin", DATA)
    face = Face(await open_cache(token="s3cret"), origin)
    target = face.target("/dir/a.bin")
    assert target == f"/~s3cret/http/{origin.authority}/dir/a.bin"
    for _ in range(2):
        assert (await face.ask(target)).content == DATA
        for wrong in (target.removeprefix("/~s3cret"), target.replace("s3cret", "S3cret")):
            got = await face.ask(wrong)
            assert got.status == 404
            assert b"s3cret" not in got.content
    async with aiohttp.ClientSession() as session:
        base = face.cache.get_cache_url(origin.url("/dir/index.m3u8"))
        async with session.get(base.rpartition("/")[0] + "/a.bin") as response:
            assert await response.read() == DATA


@pytest.mark.parametrize("name", ["127.0.0.1", "localhost", "[::1]", "[::ffff:127.0.0.1]"])
async def test_our_own_listener_is_never_asked(open_cache, origin, name):
    """A local URL inside a local URL is refused, it does not go round for ever."""
    face = Face(await open_cache(allow_hosts=("any",)), origin)
    port = face.authority.rpartition(":")[2]
    got = await face.ask(f"/http/{name}:{port}/http/{name}:{port}/x")
    assert got.status in {403, 502}  # 502 where nothing of ours listens on that address
    assert face.cache.statistics().requests == 1


async def test_a_redirect_to_our_own_listener_is_refused(open_cache, origin):
    """An origin cannot send the server to itself."""
    face = Face(await open_cache(allow_hosts=("any",)), origin)
    origin.add("/loop", redirect=f"http://{face.authority}/http/{origin.authority}/loop")
    got = await face.get("/loop")
    assert got.status == 403
    assert origin.count() == 1


@pytest.mark.parametrize("address", ["169.254.169.254", "[fe80::1]", "[::ffff:169.254.169.254]"])
async def test_metadata_services_are_never_asked(open_cache, origin, address):
    """What clouds tell a machine stays there, whoever asks or redirects."""
    face = Face(await open_cache(allow_hosts=("any",), connect_timeout=5), origin)
    got = await face.ask(f"/http/{address}/latest/meta-data/")
    assert got.status == 403
    origin.add("/sly", redirect=f"http://{address}/latest/meta-data/")
    assert (await face.get("/sly")).status == 403


# ---------------------------------------------------------------------------
# Connections and framing
# ---------------------------------------------------------------------------


async def test_a_connection_is_kept_whatever_the_answers(face):
    """One connection carries many requests, refused ones among them."""
    target = face.target("/a.bin")
    asked = [
        ((), "GET", 200),
        ((("Range", "bytes=5-9"),), "GET", 206),
        ((("Range", "bytes=999999-"),), "GET", 416),
        ((("If-None-Match", '"v1"'),), "GET", 304),
        ((("If-Match", '"v2"'),), "GET", 412),
        ((), "HEAD", 200),
        ((("Content-Length", "0"),), "POST", 405),
        ((("Sec-Fetch-Site", "cross-site"),), "GET", 403),
        ((), "GET", 200),
    ]
    async with face.client() as client:
        for fields, method, status in asked:
            got = await client.ask(target, *fields, method=method, host=face.authority)
            assert got.status == status
            assert got.complete
            assert (got.fields.get("connection") or "keep-alive").lower() == "keep-alive"
        assert (await client.ask("/favicon.ico", host=face.authority)).status == 404
        assert (await client.ask(target, host=face.authority)).content == DATA


async def test_connection_close_is_obeyed(either):
    """A client that says it is the last request gets the end of the connection."""
    async with either.client() as client:
        target = either.target("/a.bin")
        got = await client.ask(target, ("Connection", "close"), host=either.authority)
        assert (got.status, got.content, got.complete) == (200, DATA, True)
        assert (got.fields.get("connection") or "").lower() == "close"
        assert await client.ended()


async def test_http_1_0_clients(either):
    """An old client gets everything and the connection's end, unless it asks to keep it."""
    target = either.target("/a.bin")
    async with either.client() as client:
        got = await client.ask(target, version="1.0", host=either.authority)
        assert (got.status, got.content, got.framing) == (200, DATA, "length")
        assert await client.ended()
    async with either.client() as client:
        keep = ("Connection", "keep-alive")
        for _ in range(2):
            got = await client.ask(target, keep, version="1.0", host=either.authority)
            assert (got.status, got.content) == (200, DATA)


@pytest.mark.parametrize(("version", "framing"), [("1.1", "chunked"), ("1.0", "close")])
@pytest.mark.parametrize("asked", [(), (("Range", "bytes=5-"),)], ids=["all", "range"])
async def test_unknown_length_is_streamed_at_once(face, version, framing, asked):
    """Content whose end nobody knows comes as it comes, and all of it; its end can be seen."""
    gate = asyncio.Event()
    served = face.origin.add("/live.bin", DATA, framing="chunked", ranges=False)
    served.stall(100_000, gate=gate)
    target = face.target("/live.bin")
    async with face.client() as client:
        await client.send(
            request_bytes(target, *asked, version=version, host=face.authority),
        )
        early = await client.some(1000)
        assert early.startswith(b"HTTP/1.1 200 ")
        while len(early) < 50_000:
            early += await client.some(1000)
        assert not face.origin.requests[0].done
        gate.set()
        head, _, content = early.partition(b"\r\n\r\n")
        while not content.endswith(b"\r\n0\r\n\r\n") and (piece := await client.some()):
            content += piece
    assert b"content-range" not in head.lower()
    assert (b"transfer-encoding: chunked" in head.lower()) is (framing == "chunked")
    if framing == "close":
        assert content == DATA
    known = await face.ask(target, ("Range", "bytes=5-9"), version=version)
    assert (known.status, known.content) == (206, DATA[5:10])


@pytest.mark.parametrize(("version", "framing"), [("1.1", "chunked"), ("1.0", "close")])
async def test_unknown_length_is_framed(face, eventually, version, framing):
    """Chunks for HTTP/1.1, the connection's end for HTTP/1.0."""
    served = face.origin.add("/live.bin", DATA, framing="chunked", ranges=False)
    served.stall(100_000, gate=(gate := asyncio.Event()))
    async with face.client() as client:
        target = face.target("/live.bin")
        await client.send(request_bytes(target, version=version, host=face.authority))
        receiving = asyncio.create_task(client.receive())
        await eventually(lambda: face.cache.statistics().waiting_readers)
        gate.set()
        got = await receiving
    assert (got.status, got.content, got.framing, got.complete) == (200, DATA, framing, True)


@pytest.mark.parametrize("framing", ["length", "chunked"])
async def test_a_truncation_is_seen(open_cache, origin, framing):
    """What cannot be completed is cut, never ended cleanly."""
    face = Face(await open_cache(request_timeout=1), origin)
    served = origin.add("/bad.bin", DATA, framing=framing, ranges=framing == "length")
    served.drop(100_000, times=None)
    served.plan = lambda request: None if origin.count() == 1 else {"drop_after": 0}
    got = await face.get("/bad.bin")
    assert (got.status, got.complete, got.framing) == (200, False, framing)
    assert got.content == DATA[: len(got.content)]
    assert 0 < len(got.content) < LENGTH


async def test_the_usual_client_library_reads_it(either):
    """aiohttp's client gets whole and partial answers over its pool."""
    url = either.cache.get_cache_url(either.origin.url("/a.bin"))
    async with aiohttp.ClientSession() as session:
        for _ in range(3):
            async with session.get(url) as response:
                assert await response.read() == DATA
            async with session.get(url, headers={"Range": "bytes=-5"}) as response:
                assert (response.status, await response.read()) == (206, DATA[-5:])
            async with session.head(url) as response:
                assert response.content_length == LENGTH


# ---------------------------------------------------------------------------
# Origins that fail
# ---------------------------------------------------------------------------


async def test_a_refused_connection_is_502_with_proxy_status(face):
    """The client learns that it was the origin that failed (RFC 9209)."""
    with socket.socket() as taken:  # bound, and nobody listens
        taken.bind(("127.0.0.1", 0))
        source = f"http://127.0.0.1:{taken.getsockname()[1]}/a.bin"
        target = face.cache.get_cache_url(source).removeprefix(f"http://{face.authority}")
        got = await face.ask(target)
    assert got.status == 502
    assert (got.fields.get("proxy-status") or "").startswith("cachestream; error=destination_")


async def test_a_silent_origin_is_504_with_proxy_status(open_cache, origin):
    """Silence before the head is a gateway's timeout."""
    face = Face(await open_cache(read_timeout=0.2, request_timeout=1), origin)
    origin.add("/a.bin", DATA, gate=asyncio.Event())
    got = await face.get("/a.bin")
    assert got.status == 504
    assert got.fields.get("proxy-status") == "cachestream; error=http_response_timeout"


async def test_nonsense_is_502_with_proxy_status(face):
    """What is no HTTP is a bad gateway."""
    face.origin.add("/a.bin", DATA, raw_head=b"garbage\r\n\r\n")
    got = await face.get("/a.bin")
    assert got.status == 502
    assert got.fields.get("proxy-status") == "cachestream; error=http_protocol_error"


@pytest.mark.parametrize("status", [502, 503, 504])
async def test_a_failing_origins_status_is_said_to_be_its_own(face, status):
    """A client can tell a gateway's 502 from one that the origin sent."""
    face.origin.files["/a.bin"].fail(status, body=b"broken")
    got = await face.get("/a.bin")
    assert (got.status, got.content) == (status, b"broken")
    assert got.fields.get("proxy-status") == f"cachestream; received-status={status}"


async def test_offline_is_504_with_proxy_status(open_cache, origin):
    """What is not held while offline is a clear answer."""
    face = Face(await open_cache(offline=True), origin)
    got = await face.get("/a.bin")
    assert got.status == 504
    assert (got.fields.get("proxy-status") or "").startswith("cachestream; error=")
    assert origin.count() == 0
