"""Long content goes straight from its connection into the sink, and comes to the same."""

import asyncio
import ssl
from contextlib import asynccontextmanager

import pytest
import trustme

from cachestream.errors import ClosedError, TransportError, UpstreamTimeoutError
from cachestream.testing.origin import Origin, pattern
from cachestream.testing.transports import Collector, ask
from cachestream.transports import HttpTransport
from cachestream.transports._direct import Direct

SIZE = 3_000_001
CONTENT = pattern("direct", SIZE)


class Watching(Collector):
    """A collector that knows who had the connection when a piece came."""

    def __init__(self, response, **options):
        super().__init__(**options)
        self.response = response
        self.direct = 0

    def write(self, piece):
        connection = self.response._response.connection
        if connection is not None:  # the last piece may have been the end
            self.direct += isinstance(connection.transport.get_protocol(), Direct)
        return super().write(piece)


@asynccontextmanager
async def serving(**options):
    """Give an origin with long content, and a transport."""
    async with Origin() as origin:
        origin.add("/long", CONTENT)
        origin.add("/short", b"hello")
        transport = HttpTransport(**options)
        try:
            yield origin, transport
        finally:
            await transport.aclose()


async def pour(transport, url, sink=Watching, **options):
    async with ask(transport, url) as response:
        sink = sink(response, **options)
        return await response.pour(sink), sink


@pytest.mark.asyncio
async def test_long_content_is_received_directly_and_its_connection_is_kept():
    """Twice the same content comes over one connection, most of it directly."""
    async with serving() as (origin, transport):
        for _ in range(2):
            whole, sink = await pour(transport, origin.url("/long"))
            assert whole
            assert sink.content == CONTENT.bytes()
            assert sink.direct
        assert (await pour(transport, origin.url("/short")))[1].content == b"hello"
        assert origin.accepted == 1


@pytest.mark.asyncio
async def test_over_tls_it_is_the_same(tmp_path):
    """A TLS connection is lent and given back, too."""
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    async with Origin(ssl_context=context) as origin:
        origin.add("/long", CONTENT)
        transport = HttpTransport(ca_file=tmp_path / "ca.pem")
        for _ in range(2):
            whole, sink = await pour(transport, origin.url("/long"))
            assert whole
            assert sink.content == CONTENT.bytes()
            assert sink.direct
        assert origin.accepted == 1
        await transport.aclose()


@pytest.mark.asyncio
async def test_content_of_unknown_length_is_left_to_the_parser():
    """Chunked content has no bytes that could be counted beforehand."""
    async with serving() as (origin, transport):
        origin.files["/long"].framing = "chunked"
        whole, sink = await pour(transport, origin.url("/long"))
        assert whole
        assert sink.content == CONTENT.bytes()
        assert not sink.direct


@pytest.mark.asyncio
async def test_a_sink_without_room_is_waited_for():
    """No piece comes before there is room, and none is lost."""
    async with serving() as (origin, transport):
        whole, sink = await pour(transport, origin.url("/long"), room=100_000)
        assert whole
        assert sink.content == CONTENT.bytes()
        assert sink.drained > 2
        assert origin.accepted == 1


@pytest.mark.asyncio
async def test_a_sink_that_wants_no_more_cuts_the_connection():
    """The rest is never read, and is not the next answer."""
    async with serving() as (origin, transport):
        origin.add("/endless", pattern("endless", 1 << 40))
        whole, sink = await pour(transport, origin.url("/endless"), wanted=1_000_000)
        assert not whole
        assert sink.content == pattern("endless").bytes(0, len(sink.content))
        await origin.wait_connections(0)
        assert (await pour(transport, origin.url("/short")))[1].content == b"hello"


@pytest.mark.asyncio
@pytest.mark.parametrize("reset", [False, True])
async def test_content_that_ends_early_is_an_error_after_what_came(reset):
    """What came before the connection broke is kept; the end is not taken for clean."""
    async with serving() as (origin, transport):
        origin.files["/long"].drop(2_000_000, reset=reset)
        async with ask(transport, origin.url("/long")) as response:
            sink = Watching(response)
            with pytest.raises(TransportError):
                await response.pour(sink)
        assert sink.direct
        assert sink.content == CONTENT.bytes(0, len(sink.content))
        if not reset:  # a reset may overtake what was sent before it
            assert len(sink.content) == 2_000_000


@pytest.mark.asyncio
async def test_content_that_stands_still_is_a_timeout():
    """An origin that falls silent is given up; what came is kept."""
    async with serving(read_timeout=0.2) as (origin, transport):
        origin.files["/long"].stall(2_000_000)
        async with ask(transport, origin.url("/long")) as response:
            sink = Watching(response)
            with pytest.raises(UpstreamTimeoutError):
                await response.pour(sink)
        assert sink.content == CONTENT.bytes(0, 2_000_000)


@pytest.mark.asyncio
async def test_a_pause_of_the_sink_is_no_silence():
    """A sink that takes its time is not the origin's fault."""

    class Slow(Watching):
        async def drain(self):
            await asyncio.sleep(0.5 if self.drained == 3 else 0)
            return await super().drain()

    async with serving(read_timeout=0.1) as (origin, transport):
        whole, sink = await pour(transport, origin.url("/long"), Slow, room=100_000)
        assert whole
        assert sink.drained > 4
        assert sink.content == CONTENT.bytes()


@pytest.mark.asyncio
async def test_an_error_of_the_sink_ends_it():
    """The error reaches whoever pours, and nothing more is read of the content."""

    class Failing(Watching):
        def write(self, piece):
            if self.direct > 1:
                raise ValueError("no")
            return super().write(piece)

    async with serving() as (origin, transport):
        async with ask(transport, origin.url("/long")) as response:
            with pytest.raises(ValueError, match="no"):
                await response.pour(Failing(response))
            with pytest.raises(ClosedError):
                await response.pour(Collector())
        await origin.wait_connections(0)


@pytest.mark.asyncio
async def test_cancelling_cuts_the_connection():
    """Who stops waiting for content that stands still leaves nothing behind."""
    async with serving() as (origin, transport):
        origin.files["/long"].stall(2_000_000)
        async with ask(transport, origin.url("/long")) as response:
            sink = Watching(response)
            task = asyncio.ensure_future(response.pour(sink))
            async with asyncio.timeout(10):
                while sink.received < 2_000_000:
                    await asyncio.sleep(0)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
        await origin.wait_connections(0)


@pytest.mark.asyncio
async def test_a_transport_that_closes_ends_it():
    """Closing the transport in mid-content is told as such."""
    async with serving() as (origin, transport):
        origin.files["/long"].stall(2_000_000)
        async with ask(transport, origin.url("/long")) as response:
            sink = Watching(response)
            task = asyncio.ensure_future(response.pour(sink))
            async with asyncio.timeout(10):
                while sink.received < 2_000_000:
                    await asyncio.sleep(0)
            await transport.aclose()
            with pytest.raises(ClosedError):
                await task
        await origin.wait_connections(0)


@pytest.mark.asyncio
@pytest.mark.parametrize(
    "surplus",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil",
        b"HTTP/1.1 200 OK\r\nX: ",
        b"\0" * 100_000,
    ],
)
@pytest.mark.parametrize("late", [False, True])
async def test_what_follows_the_content_belongs_to_no_answer(surplus, late):
    """Bytes that nobody asked for are not taken for content, nor for the next answer."""
    async with serving() as (origin, transport):
        go_on = asyncio.Event()
        origin.files["/long"].long_by = surplus
        if late:
            origin.files["/long"].stall(SIZE, gate=go_on)
        whole, sink = await pour(transport, origin.url("/long"))
        assert whole
        assert sink.content == CONTENT.bytes()
        go_on.set()
        await origin.wait_idle()
        for _ in range(2):
            assert (await pour(transport, origin.url("/short")))[1].content == b"hello"


@pytest.mark.asyncio
async def test_a_small_piece_does_not_keep_a_large_buffer():
    """Pieces of a slow origin take about as much memory as they have bytes."""
    async with serving() as (origin, transport):
        origin.files["/long"].rate = 4_000_000
        whole, sink = await pour(transport, origin.url("/long"))
        assert whole
        kept = sum(
            len(piece.obj) if isinstance(piece, memoryview) else len(piece) for piece in sink.pieces
        )
        assert kept <= 2 * SIZE
