"""The misbehaving origin tells the truth until it is told to lie, and then lies exactly."""

import asyncio
import gzip
import signal
import ssl
import subprocess
import sys
import time
import urllib.request

import attrs
import pytest
import trustme

from cachestream.core.fields import Fields
from cachestream.testing.origin import FileContent, Origin, OriginThread, pattern

DATA = pattern("data", 3 * (1 << 20) + 12345)


@attrs.frozen
class Answer:
    """What a client saw: the head's first line, fields, raw content, and how it ended."""

    line: str
    fields: Fields
    body: bytes
    reset: bool = False


class Client:
    """Sends one request after another over one raw connection."""

    def __init__(self, origin, context=None):
        self.origin = origin
        self.context = context

    async def __aenter__(self):
        self.reader, self.writer = await asyncio.open_connection(
            "127.0.0.1", self.origin.port, ssl=self.context
        )
        return self

    async def __aexit__(self, *exc):
        self.writer.transport.abort()
        await asyncio.sleep(0)

    def ask(self, target, *fields, method="GET", version="1.1"):
        lines = [f"{method} {target} HTTP/{version}", "Host: x"]
        lines += [f"{name}: {value}" for name, value in fields]
        self.writer.write(("\r\n".join(lines) + "\r\n\r\n").encode())

    async def head(self):
        head = (await self.reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        pairs = [line.split(": ", 1) for line in head[1:] if line]
        return Answer(head[0], Fields.of(*map(tuple, pairs)), b"")

    async def answer(self, *, head_only=False):
        got = await self.head()
        length = got.fields.get("Content-Length")
        if head_only or got.line.split()[1] == "304":
            return got
        try:
            if length is not None:
                body = await self.reader.readexactly(int(length))
            else:
                body = await self.reader.read()
        except asyncio.IncompleteReadError as cut:
            return attrs.evolve(got, body=cut.partial)
        except ConnectionResetError:
            return attrs.evolve(got, reset=True)
        return attrs.evolve(got, body=body)


async def get(origin, target, *fields, **options):
    async with Client(origin) as client:
        client.ask(target, *fields, **options)
        return await client.answer(head_only=options.get("method") == "HEAD")


def test_pattern_is_the_same_however_it_is_cut():
    """Content depends on the position alone, not on how it is read."""
    whole = DATA.bytes()
    assert len(whole) == DATA.length
    for start, stop in [(0, 1), (5, 70000), ((1 << 20) - 3, (1 << 20) + 3), (100, 3 << 20)]:
        assert DATA.bytes(start, stop) == whole[start:stop]
    assert DATA.bytes(DATA.length - 2, DATA.length + 9) == whole[-2:]


def test_pattern_blocks_and_seeds_differ():
    """No MiB block equals another of its pattern or the same of another pattern."""
    blocks = {pattern("a").bytes(n << 20, (n << 20) + 64) for n in range(3000)}
    assert len(blocks) == 3000
    assert pattern("a").bytes(0, 64) != pattern("b").bytes(0, 64)
    with pytest.raises(ValueError, match="stop"):
        pattern("a").bytes(0)


@pytest.mark.asyncio
async def test_whole_file_with_its_description():
    """A plain GET is answered 200 with validators, length and the right bytes."""
    async with Origin() as origin:
        origin.add("/a", DATA, cache_control="max-age=5", content_type="video/mp4")
        got = await get(origin, "/a")
        assert got.line == "HTTP/1.1 200 OK"
        assert got.body == DATA.bytes()
        assert got.fields.get("ETag") == '"v1"'
        assert got.fields.get("Last-Modified") == "Tue, 14 Nov 2023 22:13:20 GMT"
        assert got.fields.get("Cache-Control") == "max-age=5"
        assert got.fields.get("Content-Type") == "video/mp4"
        assert got.fields.get("Accept-Ranges") == "bytes"
        assert "Date" in got.fields
        assert (await get(origin, "/missing")).line == "HTTP/1.1 404 Not Found"


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("field", "span"),
    [
        ("bytes=0-", (0, 1000)),
        ("bytes=10-19", (10, 20)),
        ("bytes=990-5000", (990, 1000)),
        ("bytes=-7", (993, 1000)),
        ("bytes=-5000", (0, 1000)),
    ],
)
async def test_ranges(field, span):
    """A satisfiable range is answered 206 with the bytes and the place it names."""
    content = pattern("r", 1000)
    async with Origin() as origin:
        origin.add("/a", content)
        got = await get(origin, "/a", ("Range", field))
        assert got.line == "HTTP/1.1 206 Partial Content"
        assert got.fields.get("Content-Range") == f"bytes {span[0]}-{span[1] - 1}/1000"
        assert got.body == content.bytes(*span)


@pytest.mark.asyncio
@pytest.mark.parametrize("field", ["bytes=1000-", "bytes=-0", "bytes=5000-6000"])
async def test_unsatisfiable_ranges(field):
    """A range past the end is answered 416 with the complete length."""
    async with Origin() as origin:
        origin.add("/a", pattern("r", 1000))
        got = await get(origin, "/a", ("Range", field))
        assert got.line.split()[1] == "416"
        assert got.fields.get("Content-Range") == "bytes */1000"


@pytest.mark.asyncio
@pytest.mark.parametrize("field", ["bytes=9-1", "bytes=-", "lines=1-2", "bytes=0-1,5-6", "x"])
async def test_ranges_that_are_ignored(field):
    """A Range that is malformed, foreign or multiple gets the whole."""
    async with Origin() as origin:
        origin.add("/a", pattern("r", 1000))
        assert (await get(origin, "/a", ("Range", field))).line.split()[1] == "200"


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("knobs", "value", "status"),
    [
        ({}, '"v1"', "206"),
        ({}, '"v2"', "200"),
        ({"etag": 'W/"v1"'}, 'W/"v1"', "200"),
        ({"etag": None}, '"v1"', "200"),
        ({}, "Tue, 14 Nov 2023 22:13:20 GMT", "206"),
        ({}, "Tue, 14 Nov 2023 22:13:21 GMT", "200"),
        ({"last_modified": None}, "Tue, 14 Nov 2023 22:13:20 GMT", "200"),
    ],
)
async def test_if_range(knobs, value, status):
    """If-Range lets the range stand only under the same strong validator."""
    async with Origin() as origin:
        origin.add("/a", pattern("r", 1000), **knobs)
        got = await get(origin, "/a", ("Range", "bytes=5-9"), ("If-Range", value))
        assert got.line.split()[1] == status


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("field", "status"),
    [
        (("If-None-Match", '"v1"'), "304"),
        (("If-None-Match", '"x", W/"v1"'), "304"),
        (("If-None-Match", "*"), "304"),
        (("If-None-Match", '"x"'), "200"),
        (("If-Modified-Since", "Tue, 14 Nov 2023 22:13:20 GMT"), "304"),
        (("If-Modified-Since", "Tue, 14 Nov 2023 22:13:19 GMT"), "200"),
        (("If-Modified-Since", "rubbish"), "200"),
        (("If-Match", '"v1"'), "200"),
        (("If-Match", '"x"'), "412"),
        (("If-Unmodified-Since", "Tue, 14 Nov 2023 22:13:19 GMT"), "412"),
        (("If-Unmodified-Since", "Tue, 14 Nov 2023 22:13:20 GMT"), "200"),
    ],
)
async def test_preconditions(field, status):
    """Each precondition is evaluated as RFC 9110 §13 says."""
    async with Origin() as origin:
        origin.add("/a", b"x")
        assert (await get(origin, "/a", field)).line.split()[1] == status


@pytest.mark.asyncio
async def test_range_lies():
    """The range knobs answer 200, 206 or 416 whatever was asked, and falsify Content-Range."""
    content = pattern("r", 1000)
    asked = ("Range", "bytes=10-19")
    async with Origin() as origin:
        served = origin.add("/a", content)
        served.ranges = False
        got = await get(origin, "/a", asked)
        assert (got.line.split()[1], "Accept-Ranges" in got.fields) == ("200", False)
        served.ranges = True
        served.range_answer = "full"
        got = await get(origin, "/a", asked)
        assert (got.line.split()[1], len(got.body)) == ("200", 1000)
        served.range_answer = "partial"
        got = await get(origin, "/a")
        assert got.line.split()[1] == "206"
        assert got.fields.get("Content-Range") == "bytes 0-999/1000"
        served.range_answer = "416"
        assert (await get(origin, "/a")).line.split()[1] == "416"
        served.range_answer = "honest"
        for lie, value in [
            ("shifted", "bytes 11-20/1000"),
            ("length", "bytes 10-19/1001"),
            ("missing", None),
            ("bytes x", "bytes x"),
        ]:
            served.content_range = lie
            got = await get(origin, "/a", asked)
            assert got.fields.get("Content-Range") == value
            assert got.body == content.bytes(10, 20)


@pytest.mark.asyncio
async def test_keep_alive_head_and_log():
    """One connection serves many requests, and the log says who asked what and got how much."""
    async with Origin() as origin:
        origin.add("/a", b"hello")
        async with Client(origin) as client:
            client.ask("/a?q=1", ("Range", "bytes=1-2"))
            assert (await client.answer()).body == b"el"
            client.ask("/a", method="HEAD")
            got = await client.answer(head_only=True)
            assert got.fields.get("Content-Length") == "5"
            client.ask("/a")
            assert (await client.answer()).body == b"hello"
            await origin.wait_idle()
            assert origin.connections == 1
        await origin.wait_connections(0)
        first, head, last = origin.requests
        assert (first.target, first.path, first.range) == ("/a?q=1", "/a", "bytes=1-2")
        assert (first.status, first.bytes_sent, first.done) == (206, 2, True)
        assert (head.method, head.bytes_sent) == ("HEAD", 0)
        assert {item.connection for item in (first, head, last)} == {1}
        assert first.when <= head.when <= last.when <= time.time()
        assert (origin.count(), origin.count("/a"), origin.count("/a?q=1")) == (3, 3, 1)
        assert (origin.bytes_sent("/a"), origin.bytes_sent("/b")) == (7, 0)
        origin.reset_log()
        assert (origin.count(), origin.bytes_sent()) == (0, 0)


@pytest.mark.asyncio
async def test_short_answers_do_not_wait_for_acknowledgements():
    """Fifty short answers over one connection take no 40 ms each."""
    async with Origin() as origin:
        origin.add("/a", b"hello")
        async with Client(origin) as client:
            began = time.perf_counter()
            for _ in range(50):
                client.ask("/a")
                assert (await client.answer()).body == b"hello"
            assert time.perf_counter() - began < 1.5


@pytest.mark.asyncio
async def test_forced_status_and_redirect():
    """A forced status counts down, with Retry-After; redirects and refused HEAD are as set."""
    async with Origin() as origin:
        served = origin.add("/a", b"x", fields=(("X-A", "1"), ("etag", '"mine"')))
        served.fail(503, 2, retry_after=7)
        for _ in range(2):
            got = await get(origin, "/a")
            assert got.line == "HTTP/1.1 503 Service Unavailable"
            assert got.fields.get("Retry-After") == "7"
        got = await get(origin, "/a")
        assert got.line.split()[1] == "200"
        assert (got.fields.get("X-A"), got.fields.get_all("ETag")) == ("1", ('"mine"',))
        served.redirect, served.redirect_status = "/b", 307
        got = await get(origin, "/a")
        assert (got.line.split()[1], got.fields.get("Location")) == ("307", "/b")
        served.head = False
        got = await get(origin, "/a", method="HEAD")
        assert (got.line.split()[1], got.fields.get("Allow")) == ("405", "GET")
        assert (await get(origin, "/a", method="PUT")).line.split()[1] == "405"


@pytest.mark.asyncio
async def test_require_and_plan():
    """A function may refuse a request by its fields, or change the knobs for it alone."""
    async with Origin() as origin:
        served = origin.add("/a", b"hello")
        served.require = lambda request: None if "Authorization" in request.fields else 401
        assert (await get(origin, "/a")).line.split()[1] == "401"
        assert (await get(origin, "/a", ("Authorization", "x"))).line.split()[1] == "200"
        served.require = None
        served.plan = lambda request: {"etag": '"p"'} if request.target == "/a?p" else None
        assert (await get(origin, "/a?p")).fields.get("ETag") == '"p"'
        assert (await get(origin, "/a")).fields.get("ETag") == '"v1"'


@pytest.mark.asyncio
async def test_content_made_for_each_request():
    """Data may be a function from the request to bytes."""
    async with Origin() as origin:
        origin.add("/a", lambda request: request.target.encode())
        assert (await get(origin, "/a?1")).body == b"/a?1"


@pytest.mark.asyncio
async def test_framings():
    """Chunks, the connection's end, HTTP/1.0 and gzip coding each carry the same content."""
    async with Origin() as origin:
        served = origin.add("/a", b"hello", close=True)
        served.framing = "chunked"
        got = await get(origin, "/a")
        assert got.fields.get("Transfer-Encoding") == "chunked"
        assert got.body == b"5\r\nhello\r\n0\r\n\r\n"
        got = await get(origin, "/a", version="1.0")
        assert (got.body, "Transfer-Encoding" in got.fields) == (b"hello", False)
        served.framing = "close"
        got = await get(origin, "/a")
        assert (got.body, "Content-Length" in got.fields) == (b"hello", False)
        served.framing, served.http10 = "length", True
        got = await get(origin, "/a")
        assert (got.line, got.body) == ("HTTP/1.0 200 OK", b"hello")
        served.gzip = True
        got = await get(origin, "/a")
        assert got.fields.get("Content-Encoding") == "gzip"
        assert gzip.decompress(got.body) == b"hello"


@pytest.mark.asyncio
async def test_drops():
    """A connection is dropped after exactly so many bytes, by FIN or RST, as often as said."""
    async with Origin() as origin:
        served = origin.add("/a", DATA)
        served.drop(1_000_003, times=1)
        got = await get(origin, "/a")
        assert (got.body, got.reset) == (DATA.bytes(0, 1_000_003), False)
        await origin.wait_idle()
        assert origin.bytes_sent() == 1_000_003
        assert len((await get(origin, "/a")).body) == DATA.length
        served.drop(100, times=None, reset=True)
        for _ in range(2):
            assert (await get(origin, "/a")).reset
        served.drop(-1)
        with pytest.raises(asyncio.IncompleteReadError):
            await get(origin, "/a")


@pytest.mark.asyncio
async def test_wrong_lengths():
    """Content may be shorter or longer than announced, or the announcement wrong."""
    async with Origin() as origin:
        served = origin.add("/a", b"0123456789", short_by=3)
        got = await get(origin, "/a")
        assert (got.fields.get("Content-Length"), got.body) == ("10", b"0123456")
        served.framing, served.close = "chunked", True
        assert (await get(origin, "/a")).body == b"7\r\n0123456\r\n0\r\n\r\n"
        served.framing, served.short_by, served.long_by = "length", 0, 4
        async with Client(origin) as client:
            client.ask("/a")
            got = await client.head()
            assert got.fields.get("Content-Length") == "10"
            assert await client.reader.read() == b"0123456789++++"
        served.long_by, served.content_length = 0, 8
        assert (await get(origin, "/a")).fields.get("Content-Length") == "8"


@pytest.mark.asyncio
async def test_broken_chunks_and_heads():
    """A chunk size can be rubbish, a head can be any bytes, and interim heads come first."""
    async with Origin() as origin:
        origin.add("/a", b"0123456789", framing="chunked", broken_chunk_after=4)
        assert (await get(origin, "/a")).body == b"4\r\n0123\r\nnot a chunk size\r\n"
        origin.add("/b", b"xy", raw_head=b"ICY 200 OK\r\n\r\n", close=True)
        got = await get(origin, "/b")
        assert (got.line, got.body) == ("ICY 200 OK", b"xy")
        origin.add("/c", b"xy", interim=(103, 102))
        async with Client(origin) as client:
            client.ask("/c")
            assert (await client.head()).line.split()[1] == "103"
            assert (await client.head()).line.split()[1] == "102"
            assert (await client.answer()).body == b"xy"


@pytest.mark.asyncio
async def test_gate_and_stall():
    """An answer waits for its gate, stalls where it was told to, and goes on when released."""
    async with Origin() as origin:
        gate, go_on = asyncio.Event(), asyncio.Event()
        served = origin.add("/a", b"0123456789", gate=gate)
        served.stall(4, gate=go_on)
        async with Client(origin) as client:
            client.ask("/a")
            asked = await origin.wait_request(1, "/a")
            assert (asked.status, asked.done) == (0, False)
            gate.set()
            await client.head()
            assert await client.reader.readexactly(4) == b"0123"
            await origin.wait(lambda: origin.bytes_sent() == 4)
            assert client.reader._buffer == b""
            go_on.set()
            assert await client.reader.readexactly(6) == b"456789"
            served.stall(2)
            client.ask("/a")
            await client.head()
            assert await client.reader.readexactly(2) == b"01"
        await origin.wait_connections(0)
        await origin.wait_idle()


@pytest.mark.asyncio
async def test_endless_content_and_a_client_that_leaves():
    """Content without end flows until the client goes, in memory that does not grow."""
    async with Origin(send_buffer=65536) as origin:
        origin.add("/live", pattern("live"), framing="close")
        async with Client(origin) as client:
            client.ask("/live")
            await client.head()
            got = await client.reader.readexactly(5 << 20)
            assert got == pattern("live").bytes(0, 5 << 20)
        await origin.wait_connections(0)
        await origin.wait_idle()


@pytest.mark.asyncio
async def test_rate_and_latency():
    """A throttled answer takes the time its rate says, after its latency."""
    async with Origin() as origin:
        origin.add("/a", pattern("a", 40_000), rate=400_000, latency=0.1)
        began = time.perf_counter()
        assert len((await get(origin, "/a")).body) == 40_000
        assert 0.14 < time.perf_counter() - began < 5


@pytest.mark.asyncio
async def test_change_keeps_answers_under_way():
    """After a change new requests get the new version; an answer under way stays the old one."""
    old, new = pattern("old", 1 << 20), pattern("new", 1 << 20)
    async with Origin() as origin:
        go_on = asyncio.Event()
        served = origin.add("/a", old)
        served.stall(1000, gate=go_on)
        async with Client(origin) as client:
            client.ask("/a")
            await client.head()
            await client.reader.readexactly(1000)
            served.change(new, etag='"v2"', last_modified=1_700_000_001)
            go_on.set()
            assert await client.reader.readexactly((1 << 20) - 1000) == old.bytes(1000, 1 << 20)
        got = await get(origin, "/a")
        assert (got.body, got.fields.get("ETag")) == (new.bytes(), '"v2"')
        assert got.fields.get("Last-Modified") == "Tue, 14 Nov 2023 22:13:21 GMT"


@pytest.mark.asyncio
async def test_down_and_up_again():
    """An origin that is down refuses connections, and comes back on its port with its files."""
    async with Origin() as origin:
        origin.add("/a", b"hello")
        port = origin.port
        async with Client(origin) as client:
            await origin.down()
            assert await client.reader.read() == b""
        with pytest.raises(ConnectionRefusedError):
            await get(origin, "/a")
        await origin.up()
        assert origin.port == port
        assert (await get(origin, "/a")).body == b"hello"


@pytest.mark.asyncio
async def test_tls():
    """With a context it speaks TLS."""
    ca = trustme.CA()
    server = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    ca.issue_cert("127.0.0.1").configure_cert(server)
    context = ssl.create_default_context()
    ca.configure_trust(context)
    async with Origin(ssl_context=server) as origin:
        assert origin.url("/a").startswith("https://127.0.0.1:")
        origin.add("/a", DATA)
        async with Client(origin, context) as client:
            client.ask("/a")
            assert (await client.answer()).body == DATA.bytes()


@pytest.mark.asyncio
async def test_errors_of_given_functions_are_raised_at_the_end():
    """A function that fails drops the connection, and its error is not lost."""

    def broken(request):
        raise LookupError("mistake of a test")

    async def use():
        async with Origin() as origin:
            origin.add("/a", broken)
            with pytest.raises(asyncio.IncompleteReadError):
                await get(origin, "/a")

    with pytest.raises(ExceptionGroup) as caught:
        await use()
    assert isinstance(caught.value.exceptions[0], LookupError)


@pytest.mark.asyncio
async def test_waiting_in_vain_says_what_was_seen():
    """A wait that is not fulfilled fails in time, and tells what the origin saw."""
    async with Origin() as origin:
        origin.add("/a", b"x")
        await get(origin, "/a")
        with pytest.raises(TimeoutError, match="/a"):
            await origin.wait_request(2, timeout=0.02)


@pytest.mark.asyncio
async def test_rubbish_and_huge_requests_end_the_connection():
    """A request that is no HTTP, or too large, hurts nobody else."""
    async with Origin() as origin:
        origin.add("/a", b"x")
        async with Client(origin) as client:
            client.writer.write(b"rubbish\r\n\r\n")
            assert await client.reader.read() == b""
        async with Client(origin) as client:
            client.ask("/a", ("X", "y" * 200_000))
            assert b"431" in await client.reader.readline()
        assert (await get(origin, "/a")).body == b"x"


def test_thread():
    """The same origin serves from a thread while the caller blocks."""
    with OriginThread() as origin:
        origin.add("/a", DATA)
        with urllib.request.urlopen(origin.url("/a")) as response:
            assert response.read() == DATA.bytes()
        assert origin.wait_request(1).status == 200
        assert (origin.count("/a"), origin.bytes_sent()) == (1, DATA.length)
        assert [item.path for item in origin.requests] == ["/a"]
        origin.reset_log()
        assert origin.count() == 0


def test_process(tmp_path):
    """As a process it prints the URLs of a file and a pattern, serves them, and ends on SIGTERM."""
    file = tmp_path / "a film.mp4"
    file.write_bytes(DATA.bytes())
    assert FileContent.open(file).bytes(5, 9) == DATA.bytes(5, 9)
    command = [sys.executable, "-m", "cachestream.testing.origin"]
    command += ["--file", str(file), "--size", "1000"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        urls = [process.stdout.readline().strip() for _ in range(2)]
        assert urls[0].endswith("/a%20film.mp4")
        with urllib.request.urlopen(urls[0]) as response:
            assert response.headers["Content-Type"] == "video/mp4"
            assert response.read() == DATA.bytes()
        with urllib.request.urlopen(urls[1]) as response:
            assert response.read() == pattern(1000, 1000).bytes()
        process.send_signal(signal.SIGTERM)
    assert process.returncode == 0
