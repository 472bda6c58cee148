"""The fast lane takes plain requests alone, and answers as the ordinary way does."""

import asyncio
import contextlib
import logging
import os
import socket

import pytest

from cachestream.abc import AnswerHead, RequestHead, Shortcut, Slice
from cachestream.core.fields import Fields
from cachestream.frontends import LoopbackFrontend
from cachestream.frontends._heads import HeadWriter
from cachestream.frontends._lane import KNOWN, Lane, Ready
from cachestream.frontends._pump import TURN
from cachestream.testing._raw_client import RawClient
from cachestream.testing.fakes import FakeHandler, answer_with
from cachestream.testing.origin import pattern

CONTENT = pattern("lane", 8 << 20).bytes()
LIMIT = 16 << 20
SERVED = frozenset({"127.0.0.1:1"})
PATIENCE_S = 30.0

HEAD = b"GET /whole HTTP/1.1\r\nHost: 127.0.0.1:1\r\n%bAccept: */*\r\n\r\n"
PLAIN = HEAD % b""
RANGED = HEAD % b"Range: bytes=5-104\r\n"


class FileShortcut(Shortcut):
    """Takes slices of a file."""

    def __init__(self, path):
        self.descriptor = os.open(path, os.O_RDONLY)
        self.whole = AnswerHead(200, Fields.of(("ETag", '"a"')))
        self.part = AnswerHead(206, Fields.of(("ETag", '"a"')))
        self.extra = (("Cache-Status", "fake; hit"),)
        self.is_alive = True
        self.taken = []
        self.bodies = []

    @property
    def alive(self):
        return self.is_alive

    def take(self, first, last, limit):
        start, length = first or 0, len(CONTENT)
        stop = length if last is None else min(last + 1, length)
        if not self.is_alive or not 0 < stop - start <= limit:
            return None
        self.taken.append((first, last))
        head = self.whole if first is None else self.part
        return Slice(head, self.extra, start, stop, length, self.descriptor, start)

    def rest(self, part, sent):
        body = answer_with(CONTENT[part.start + sent : part.stop]).body
        self.bodies.append(body)
        return body


class LaneHandler(FakeHandler):
    """A fake handler with a shortcut to all of one file."""

    def __init__(self, shortcut):
        super().__init__({"*": lambda _: answer_with(b"ordinary")})
        self.short = shortcut
        self.asked = []

    def shortcut(self, head):
        self.asked.append(head)
        return self.short if head.target.startswith("/whole") else None


@pytest.fixture
def shortcut(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(CONTENT)
    shortcut = FileShortcut(path)
    yield shortcut
    os.close(shortcut.descriptor)


@pytest.fixture
def handler(shortcut):
    return LaneHandler(shortcut)


async def lane_for(handler):
    return Lane(handler, SERVED, "127.0.0.1")


# -- what it takes -------------------------------------------------------------------------


@pytest.mark.asyncio
async def test_requests_that_differ_in_their_range_alone_are_judged_once(handler, shortcut):
    """The head is parsed when it is new, and whoever judges it does not see the Range."""
    lane = await lane_for(handler)
    for line in (b"", b"Range: bytes=5-104\r\n", b"Range: bytes=7-\r\n", b""):
        assert lane.match(HEAD % line, LIMIT) is not None
    assert handler.asked == [
        RequestHead(
            method="GET",
            target="/whole",
            fields=Fields.of(("Host", "127.0.0.1:1"), ("Accept", "*/*")),
            served=SERVED,
            client="127.0.0.1",
        )
    ]
    assert shortcut.taken == [(None, None), (5, 104), (7, None), (None, None)]


ODD = {
    "not whole": PLAIN[:-2],
    "two at once": PLAIN + PLAIN,
    "a range after the end": PLAIN[:-2] + b"\r\nRange: bytes=0-1\r\n\r\n",
    "content": HEAD % b"Content-Length: 3\r\n" + b"abc",
    "a length": HEAD % b"Content-Length: 0\r\n",
    "chunks": HEAD % b"Transfer-Encoding: chunked\r\n",
    "an expectation": HEAD % b"Expect: 100-continue\r\n",
    "an upgrade": HEAD % b"Connection: upgrade\r\nUpgrade: h2c\r\n",
    "a last request": HEAD % b"Connection: close\r\n",
    "HEAD": PLAIN.replace(b"GET", b"HEAD"),
    "POST": PLAIN.replace(b"GET", b"POST"),
    "HTTP/1.0": PLAIN.replace(b"HTTP/1.1", b"HTTP/1.0"),
    "an absolute form": PLAIN.replace(b"/whole", b"http://127.0.0.1:1/whole"),
    "bytes beyond ASCII": HEAD % b"X-Name: caf\xe9\r\n",
    "a folded line": HEAD % b"X-Name: a\r\n b\r\n",
    "a space before a colon": HEAD % b"X-Name : a\r\n",
    "a bare line feed": HEAD % b"X-Name: a\nX-Other: b\r\n",
    "a bare carriage return": HEAD % b"X-Name: a\rX-Other: b\r\n",
    "a NUL": HEAD % b"X-Name: a\0b\r\n",
    "no colon": HEAD % b"X-Name\r\n",
    "two spaces": PLAIN.replace(b" HTTP", b"  HTTP"),
    "a space in the target": PLAIN.replace(b"/whole", b"/who le"),
    "several ranges": HEAD % b"Range: bytes=0-1,5-6\r\n",
    "a suffix": HEAD % b"Range: bytes=-5\r\n",
    "another unit": HEAD % b"Range: lines=1-2\r\n",
    "another spelling": HEAD % b"range: bytes=1-2\r\n",
    "two range fields": HEAD % b"Range: bytes=1-2\r\nRange: bytes=1-2\r\n",
    "a range with spaces": HEAD % b"Range: bytes=1 - 2\r\n",
    "a signed range": HEAD % b"Range: bytes=+1-2\r\n",
    "an endless number": HEAD % (b"Range: bytes=1-" + b"9" * 30 + b"\r\n"),
    "a long head": HEAD % (b"X-Name: " + b"a" * 5000 + b"\r\n"),
    "an empty line before": b"\r\n" + PLAIN,
    "nothing": b"\r\n\r\n",
}


@pytest.mark.asyncio
@pytest.mark.parametrize("data", ODD.values(), ids=ODD)
async def test_what_is_out_of_the_ordinary_is_left_alone(handler, shortcut, data):
    """Even after the same head without that was taken."""
    lane = await lane_for(handler)
    assert lane.match(PLAIN, LIMIT) is not None
    shortcut.taken.clear()
    assert lane.match(data, LIMIT) is None
    assert shortcut.taken == []


@pytest.mark.asyncio
async def test_a_head_without_a_shortcut_is_not_judged_again_at_once(handler):
    """What misses anyway pays for one look a second."""
    lane = await lane_for(handler)
    for _ in range(3):
        assert lane.match(PLAIN.replace(b"/whole", b"/other"), LIMIT) is None
    assert len(handler.asked) == 1


@pytest.mark.asyncio
async def test_a_dead_shortcut_is_forgotten(handler, shortcut):
    """The next such request is judged anew."""
    lane = await lane_for(handler)
    assert lane.match(RANGED, LIMIT) is not None
    shortcut.is_alive = False
    assert lane.match(RANGED, LIMIT) is None
    shortcut.is_alive = True
    assert lane.match(RANGED, LIMIT) is not None
    assert len(handler.asked) == 2


@pytest.mark.asyncio
async def test_memory_is_bounded(handler):
    """Heads that nobody sends again do not pile up."""
    lane = await lane_for(handler)
    for number in range(2 * KNOWN + 5):
        lane.match(PLAIN.replace(b"/whole", b"/whole?%d" % number), LIMIT)
        lane.match(PLAIN.replace(b"/whole", b"/other?%d" % number), LIMIT)
    assert len(lane._known) == len(lane._barren) == KNOWN


def test_the_head_says_what_is_sent(shortcut):
    """Range and length are those of this answer; the rest is rendered once."""
    now = [0.0]
    heads, ready = HeadWriter(lambda: now[0]), Ready("/whole", shortcut)
    lead = ready.lead(shortcut.take(5, 104, LIMIT), heads)
    assert lead == (
        b'HTTP/1.1 206 Partial Content\r\nETag: "a"\r\nCache-Status: fake; hit\r\n'
        b"Date: Thu, 01 Jan 1970 00:00:00 GMT\r\n"
        b"Content-Range: bytes 5-104/8388608\r\nContent-Length: 100\r\n\r\n"
    )
    now[0] = 1.0
    assert b"00:00:01" in ready.lead(shortcut.take(6, 104, LIMIT), heads)
    whole = ready.lead(shortcut.take(None, None, LIMIT), heads)
    assert whole.startswith(b"HTTP/1.1 200 OK\r\n")
    assert b"Content-Range" not in whole


# -- on a connection -----------------------------------------------------------------------


def request(base, *lines, target="/whole"):
    authority = base.removeprefix("http://")
    return "\r\n".join((f"GET {target} HTTP/1.1", f"Host: {authority}", *lines, "", "")).encode()


class Client:
    """Writes bytes, and reads one answer after the other."""

    def __init__(self, reader, writer):
        self.reader, self.writer = reader, writer

    async def ask(self, data):
        self.writer.write(data)
        return await self.answer()

    async def answer(self):
        async with asyncio.timeout(PATIENCE_S):
            head = await self.reader.readuntil(b"\r\n\r\n")
            length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
            return head, await self.reader.readexactly(length)


async def connect(base):
    host, _, port = base.removeprefix("http://").partition(":")
    return Client(*await asyncio.open_connection(host, int(port), limit=1 << 16))


@contextlib.asynccontextmanager
async def narrow_client(handler):
    """Serve, with a client that has asked once, and to which the kernel takes little at a time."""
    frontend = LoopbackFrontend()
    async with frontend.serve(handler) as base:
        client = await connect(base)
        await client.ask(request(base))
        for connection in frontend._server.shared.clients:
            sock = connection._wire.get_extra_info("socket")
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 16_384)
        yield base, client


async def rest_begun(shortcut):
    """Wait until an answer is being sent by and by."""
    async with asyncio.timeout(PATIENCE_S):
        while not shortcut.bodies:
            await asyncio.sleep(0)


@pytest.mark.asyncio
async def test_the_first_request_goes_the_ordinary_way_and_the_next_the_fast_one(handler, shortcut):
    """Both on one connection, and back again."""
    async with LoopbackFrontend().serve(handler) as base:
        client = await connect(base)
        assert (await client.ask(request(base)))[1] == b"ordinary"
        head, content = await client.ask(request(base, "Range: bytes=5-100000"))
        assert content == CONTENT[5:100001]
        assert b"Content-Range: bytes 5-100000/8388608" in head
        assert (await client.ask(request(base, "Range: bytes=-5")))[1] == b"ordinary"
        assert (await client.ask(request(base, "Range: bytes=7-8")))[1] == CONTENT[7:9]
        client.writer.close()
    assert len(shortcut.taken) == 2


@pytest.mark.asyncio
@pytest.mark.parametrize("size", [1, 16_384, 16_385, 65_000, 66_000, TURN])
async def test_content_of_any_size_is_whole(handler, size):
    """Small content goes with its head, large content in more turns than one."""
    async with narrow_client(handler) as (base, client):
        for start in (0, 1):
            data = request(base, f"Range: bytes={start}-{start + size - 1}")
            assert (await client.ask(data))[1] == CONTENT[start : start + size]
        client.writer.close()


@pytest.mark.asyncio
async def test_requests_sent_before_the_answer_was_read_wait(handler, shortcut):
    """While the rest of an answer is being sent, nothing else is written between."""
    async with narrow_client(handler) as (base, client):
        client.writer.write(request(base, "Range: bytes=0-1000000"))
        await rest_begun(shortcut)
        client.writer.write(request(base, "Range: bytes=5-9"))
        await client.writer.drain()
        assert (await client.answer())[1] == CONTENT[:1000001]
        assert (await client.answer())[1] == CONTENT[5:10]
        assert (await client.ask(request(base, "Range: bytes=-5")))[1] == b"ordinary"
        client.writer.close()
    assert all(body.close_count for body in shortcut.bodies)


@pytest.mark.asyncio
async def test_a_client_that_leaves_in_the_middle_leaves_nothing(handler, shortcut):
    """The rest is given up, and the server goes on."""
    async with narrow_client(handler) as (base, client):
        client.writer.write(request(base, "Range: bytes=0-1000000"))
        await rest_begun(shortcut)
        client.writer.transport.abort()
        other = await connect(base)
        assert (await other.ask(request(base)))[1] == b"ordinary"
        other.writer.close()
    assert all(body.close_count for body in shortcut.bodies)


@pytest.mark.asyncio
async def test_the_server_can_end_while_a_rest_is_sent(handler, shortcut):
    """A client that takes nothing does not keep it from ending."""
    async with asyncio.timeout(PATIENCE_S):
        async with narrow_client(handler) as (base, client):
            client.writer.write(request(base, "Range: bytes=0-1000000"))
            await rest_begun(shortcut)
        client.writer.close()
    assert all(body.close_count for body in shortcut.bodies)


@pytest.mark.asyncio
async def test_a_logged_request_goes_the_ordinary_way(handler, shortcut, caplog):
    """The access log misses nothing."""
    caplog.set_level(logging.DEBUG, logger="cachestream.access")
    async with LoopbackFrontend().serve(handler) as base:
        client = await connect(base)
        for _ in range(2):
            assert (await client.ask(request(base)))[1] == b"ordinary"
        client.writer.close()
    assert shortcut.taken == []


@pytest.mark.asyncio
async def test_a_head_in_pieces_goes_the_ordinary_way(handler, shortcut):
    """Only what comes whole is taken, and what follows a piece is not a head of its own."""
    async with LoopbackFrontend().serve(handler) as base:
        client = await connect(base)
        await client.ask(request(base))
        whole = request(base)
        client.writer.write(b"GET /x HTTP/1.1\r\nX-Evil: ")
        await client.writer.drain()
        async with RawClient(base) as other:  # by then the piece has arrived
            await other.ask("/", ("Connection", "close"))
        assert (await client.ask(whole))[1] == b"ordinary"
        client.writer.close()
    assert shortcut.taken == []


@pytest.mark.asyncio
@pytest.mark.parametrize("fault", ["judging", "taking", "a field"])
async def test_a_shortcut_that_fails_costs_no_answer(handler, shortcut, fault, caplog):
    """A bug in it is logged, and the request answered in the ordinary way."""

    def fail(*args):
        raise RuntimeError("a bug")

    if fault == "judging":
        handler.shortcut = fail
    elif fault == "taking":
        shortcut.take = fail
    else:
        shortcut.extra = (("X-Evil", "a\r\nb"),)
    async with LoopbackFrontend().serve(handler) as base:
        client = await connect(base)
        for _ in range(2):
            assert (await client.ask(request(base, "Range: bytes=0-9")))[1] == b"ordinary"
        client.writer.close()
    assert "a shortcut failed" in caplog.text
