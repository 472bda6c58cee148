"""Connections of the HTTP transport: when they are kept, repeated, cut, denied and given up."""

import asyncio
import os
import socket
import ssl
from contextlib import asynccontextmanager

import aiohttp
import pytest
import trustme

from cachestream.abc import UpstreamRequest
from cachestream.core.fields import Fields
from cachestream.errors import (
    AccessDeniedError,
    ClosedError,
    ConfigurationError,
    TransportError,
    UpstreamProtocolError,
    UpstreamTimeoutError,
)
from cachestream.settings import Settings
from cachestream.testing.origin import Origin, pattern
from cachestream.testing.transports import Collector, ask
from cachestream.transports import HttpTransport
from cachestream.transports._session import SocketMaker


@asynccontextmanager
async def both(transport=None, **options):
    """Give an origin with a file, and a transport."""
    async with Origin() as origin:
        origin.add("/a", b"hello")
        transport = transport or HttpTransport(**options)
        try:
            yield origin, transport
        finally:
            await transport.aclose()


async def get(transport, url, *lines):
    sink = Collector()
    async with ask(transport, url, *lines) as response:
        await response.pour(sink)
    return sink.content


# Keeping and repeating


@pytest.mark.asyncio
async def test_a_connection_read_to_its_end_is_used_again():
    """One after another, whole answers and empty ones share a connection."""
    async with both() as (origin, transport):
        for status in (200, 304, 204, 404, 200):
            origin.files["/a"].status = status if status != 200 else None
            await get(transport, origin.url("/a"))
        async with ask(transport, origin.url("/a"), method="HEAD"):
            pass
        await get(transport, origin.url("/a"))
        assert origin.accepted == 1


@pytest.mark.asyncio
async def test_a_connection_left_early_is_not_used_again():
    """What is left of an answer never becomes part of the next one."""
    async with both() as (origin, transport):
        origin.add("/big", pattern("big", 50_000_000))
        async with ask(transport, origin.url("/big")):
            pass
        assert await get(transport, origin.url("/a")) == b"hello"
        assert origin.accepted == 2


@pytest.mark.asyncio
@pytest.mark.parametrize("reset", [False, True])
async def test_stale_connections_cost_no_error(reset):
    """Kept connections that the origin has closed meanwhile are replaced, all of them."""
    async with both() as (origin, transport):
        gate = asyncio.Event()
        served = origin.add("/b", b"x", gate=gate)
        async with asyncio.TaskGroup() as group:
            for _ in range(3):
                group.create_task(get(transport, origin.url("/b")))
            await origin.wait_request(3)
            gate.set()
        assert origin.connections == 3
        # The origin takes the next request of each of them, and drops it.
        served.gate = None
        served.drop(-1, 3, reset=reset)
        assert await get(transport, origin.url("/b")) == b"x"
        assert origin.count("/b") == 7
        assert origin.accepted == 4


@pytest.mark.asyncio
async def test_a_fresh_connection_that_is_dropped_is_not_repeated():
    """After a stale one a fresh one is tried once; what it does counts."""
    async with both() as (origin, transport):
        await get(transport, origin.url("/a"))
        origin.files["/a"].drop(-1, None)
        with pytest.raises(TransportError, match="before it answered"):
            await get(transport, origin.url("/a"))
        assert origin.count("/a") == 3


@pytest.mark.asyncio
@pytest.mark.parametrize("late", [False, True])
async def test_surplus_content_is_not_the_next_answer(late):
    """What follows an answer unasked is never taken for the answer to another request."""
    evil = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil"
    async with both() as (origin, transport):
        content = pattern("long", 300_000)
        go_on = asyncio.Event()
        served = origin.add("/long", content, long_by=evil)
        if late:
            served.stall(300_000, gate=go_on)
        assert await get(transport, origin.url("/long")) == content.bytes()
        go_on.set()
        await origin.wait_idle()
        for _ in range(3):
            assert await get(transport, origin.url("/a")) == b"hello"
        assert origin.count("/a") == 3


@pytest.mark.asyncio
async def test_a_farewell_is_not_the_next_answer():
    """A 408 that came while a connection was idle belongs to no request."""
    async with both() as (origin, transport):
        farewell = b"HTTP/1.1 408 Too Late\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
        go_on = asyncio.Event()
        origin.add("/b", b"x" * 1000, long_by=farewell).stall(1000, gate=go_on)
        await get(transport, origin.url("/b"))
        go_on.set()
        await origin.wait_idle()
        assert await get(transport, origin.url("/a")) == b"hello"


@pytest.mark.asyncio
async def test_leaving_early_over_tls_cuts_at_once(tmp_path):
    """TLS is not said farewell to, which would mean to go on receiving."""
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    path = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(str(path))
    async with Origin(ssl_context=context) as origin:
        origin.add("/endless", pattern("endless"))
        transport = HttpTransport(ca_file=path)
        async with ask(transport, origin.url("/endless")) as response:
            assert await response.pour(Collector(wanted=1_000_000)) is False
        await origin.wait_connections(0, timeout=3)
        await transport.aclose()


@pytest.mark.asyncio
async def test_connections_to_a_host_can_be_limited():
    """With limit_per_host the second request waits for the first one's connection."""
    async with both(limit_per_host=1) as (origin, transport):
        served = origin.add("/b", b"x", gate=asyncio.Event())
        async with asyncio.TaskGroup() as group:
            for _ in range(3):
                group.create_task(get(transport, origin.url("/b")))
            await origin.wait_request(1)
            served.gate.set()
        assert (origin.count("/b"), origin.accepted) == (3, 1)


@pytest.mark.asyncio
@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
async def test_small_requests_do_not_wait_for_acknowledgements(host, monkeypatch):
    """Nagle's algorithm is off, for literal addresses too."""
    made = []
    real = SocketMaker.__call__
    monkeypatch.setattr(
        SocketMaker, "__call__", lambda self, info: made.append(real(self, info)) or made[-1]
    )
    async with both() as (origin, transport):
        await get(transport, origin.url("/a").replace("127.0.0.1", host))
        open_ones = [one for one in made if one.fileno() != -1]
        assert open_ones
        for one in open_ones:
            assert one.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


# Sessions and connectors of the user's


@pytest.mark.asyncio
async def test_a_given_session_is_used_but_not_closed():
    """Its exchanges are ended by aclose, and it goes on."""
    async with aiohttp.ClientSession() as session, both(session=session) as (origin, transport):
        origin.add("/b", pattern("b", 9_000_000)).stall(1000)
        async with ask(transport, origin.url("/b")) as response:
            task = asyncio.ensure_future(response.pour(Collector()))
            await origin.wait(lambda: origin.bytes_sent("/b") == 1000)
            await transport.aclose()
            with pytest.raises(ClosedError):
                await task
        async with session.get(origin.url("/a")) as answer:
            assert await answer.read() == b"hello"
        await session.close()
        again = HttpTransport(session=session)
        with pytest.raises(ClosedError, match="session"):
            await get(again, origin.url("/a"))


@pytest.mark.asyncio
async def test_a_given_session_keeps_the_promises_about_content():
    """No redirect is followed and nothing decoded, whatever the session does otherwise."""
    session = aiohttp.ClientSession(raise_for_status=True)
    async with session, both(session=session) as (origin, transport):
        origin.add("/moved", redirect="/a")
        origin.add("/zip", b"x" * 1000, gzip=True)
        origin.add("/cut", b"x" * 1000, framing="close").drop(500, reset=True)
        origin.add("/not").fail(404)
        async with ask(transport, origin.url("/moved")) as response:
            assert response.status == 302
        assert (await get(transport, origin.url("/zip")))[:2] == b"\x1f\x8b"
        async with ask(transport, origin.url("/not")) as response:
            assert response.status == 404


@pytest.mark.asyncio
async def test_what_cannot_be_kept_is_not_promised():
    """Arguments that contradict each other are refused."""
    async with aiohttp.ClientSession() as session:
        for options in (
            {"connector": session.connector},
            {"address_filter": lambda address, port: None},
        ):
            with pytest.raises(ConfigurationError):
                HttpTransport(session=session, **options)
        with pytest.raises(ConfigurationError):
            HttpTransport(session=session).add_address_filter(lambda address, port: None)


# Addresses


def resolve_to(monkeypatch, *addresses):
    """Let every name have these addresses."""
    real = socket.getaddrinfo

    def fake(host, port, *args, **kwargs):
        if host != "films.example":
            return real(host, port, *args, **kwargs)
        kind = (socket.AF_INET, socket.SOCK_STREAM, 6, "")
        return [(*kind, (address, port)) for address in addresses]

    monkeypatch.setattr(socket, "getaddrinfo", fake)


@pytest.mark.asyncio
async def test_a_name_of_a_denied_address_is_denied(monkeypatch):
    """What counts is where a name leads, not what it is called."""
    resolve_to(monkeypatch, "169.254.169.254")
    async with both() as (origin, transport):
        with pytest.raises(AccessDeniedError, match="allow_hosts") as caught:
            await get(transport, f"http://films.example:{origin.port}/a?key=canary")
        assert "canary" not in str(caught.value)
        assert isinstance(caught.value.__cause__, AccessDeniedError)


@pytest.mark.asyncio
async def test_another_address_of_the_name_may_be_asked(monkeypatch):
    """Of several addresses those that are allowed are used."""
    resolve_to(monkeypatch, "169.254.169.254", "127.0.0.1")
    async with both() as (origin, transport):
        assert await get(transport, f"http://films.example:{origin.port}/a") == b"hello"


@pytest.mark.asyncio
async def test_filters_can_be_added():
    """A filter that comes later counts for the next connection, and for its port alone."""
    async with both() as (origin, transport), Origin() as other:
        other.add("/a", b"other")

        def deny(address, port):
            if port == other.port:
                raise AccessDeniedError("our own listener")

        transport.add_address_filter(deny)
        assert await get(transport, origin.url("/a")) == b"hello"
        with pytest.raises(AccessDeniedError, match="our own listener"):
            await get(transport, other.url("/a"))
        assert other.accepted == 0


@pytest.mark.asyncio
async def test_addresses_that_allow_hosts_names_may_be_asked():
    """A literal address in allow_hosts is an exception that somebody wanted."""
    settings = Settings(allow_hosts=("*.example.com", "[fe80::1]", "169.254.1.2"))
    passed = []

    def last(address, port):
        passed.append(address)
        raise AccessDeniedError("far enough")

    transport = HttpTransport.from_settings(settings, address_filter=last)
    for url in ("http://169.254.1.2/", "http://[fe80::1]/"):
        with pytest.raises(AccessDeniedError, match="far enough"):
            await get(transport, url)
    with pytest.raises(AccessDeniedError, match="metadata"):
        await get(transport, "http://169.254.169.254/")
    await transport.aclose()
    assert passed == ["169.254.1.2", "fe80::1"]


# Time


@pytest.mark.slow
@pytest.mark.asyncio
async def test_a_head_that_drips_is_given_up():
    """The head has to be whole within read_timeout, however often a byte of it comes."""

    tasks = []

    async def drip(reader, writer):
        tasks.append(asyncio.current_task())
        try:
            writer.write(b"HTTP/1.1 200 OK\r\n")
            while True:
                writer.write(b"X: y\r\n")
                await writer.drain()
                await asyncio.sleep(0.05)
        finally:
            writer.transport.abort()

    server = await asyncio.start_server(drip, "127.0.0.1", 0)
    transport = HttpTransport(read_timeout=0.2)
    try:
        port = server.sockets[0].getsockname()[1]
        async with asyncio.timeout(5):
            with pytest.raises(UpstreamTimeoutError):
                await get(transport, f"http://127.0.0.1:{port}/")
    finally:
        await transport.aclose()
        await asyncio.wait(tasks)
        assert isinstance(tasks[0].exception(), ConnectionError)
        server.close()
        await server.wait_closed()


@pytest.mark.asyncio
async def test_connecting_is_given_up():
    """A listener that accepts nobody costs connect_timeout, not read_timeout."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        address = listener.getsockname()
        crowd = []
        try:
            # The queue of those not yet accepted is filled, so that no handshake ends.
            for _ in range(8):
                one = socket.socket()
                one.setblocking(False)
                one.connect_ex(address)
                crowd.append(one)
            transport = HttpTransport(connect_timeout=0.2)
            with pytest.raises(UpstreamTimeoutError, match="connect_timeout"):
                await get(transport, f"http://127.0.0.1:{address[1]}/?key=canary")
            await transport.aclose()
        finally:
            for one in crowd:
                one.close()


@pytest.mark.slow
@pytest.mark.asyncio
async def test_a_slow_origin_that_goes_on_is_not_given_up():
    """There is no limit for the whole: only silence counts."""
    async with both(read_timeout=0.2) as (origin, transport):
        origin.add("/slow", pattern("slow", 20_000), rate=40_000)
        assert await get(transport, origin.url("/slow")) == pattern("slow", 20_000).bytes()


@pytest.mark.slow
@pytest.mark.asyncio
async def test_a_slow_sink_is_not_the_origins_silence():
    """While the sink is full nobody listens, so nothing counts as silence."""
    async with both(read_timeout=0.1) as (origin, transport):
        content = pattern("big", 30_000_000)
        origin.add("/big", content)

        class Slow(Collector):
            async def drain(self):
                if self.drained == 0:
                    await asyncio.sleep(0.3)
                return await super().drain()

        sink = Slow(room=1)
        async with ask(transport, origin.url("/big")) as response:
            assert await response.pour(sink) is True
        assert sink.content == content.bytes()


# What is sent and what comes


@pytest.mark.asyncio
@pytest.mark.parametrize(
    "line",
    [("X", "a\r\nY: b"), ("X", "a\x00"), ("X Y", "a"), ("", "a"), ("Content-Length", "5")],
    ids=repr,
)
async def test_fields_that_would_break_the_request_are_refused(line):
    """Nothing is sent that could be read as another request."""
    async with both() as (origin, transport):
        with pytest.raises(ConfigurationError):
            await get(transport, origin.url("/a"), line)
        assert origin.accepted == 0


@pytest.mark.asyncio
@pytest.mark.parametrize("rest", ["a b", "é", "a\r\nX: y", "\x7f"])
async def test_urls_that_are_not_encoded_are_refused(rest):
    """Nothing is encoded here: who asks has done it."""
    async with both() as (origin, transport):
        with pytest.raises(ConfigurationError):
            await get(transport, origin.url("/") + rest)
        with pytest.raises(ConfigurationError, match="password"):
            await get(transport, "http://user:pass@127.0.0.1/")
        assert origin.accepted == 0


@pytest.mark.asyncio
async def test_an_own_name_and_a_given_one():
    """User-Agent is ours, the setting's, or the request's, in rising order."""
    async with both() as (origin, transport):
        named = HttpTransport(user_agent="player/1")
        await get(transport, origin.url("/a"))
        await get(named, origin.url("/a"))
        await get(named, origin.url("/a"), ("User-Agent", "mine/2"))
        await named.aclose()
        agents = [item.fields.get("User-Agent") for item in origin.requests]
        assert agents[0].startswith("cachestream/")
        assert agents[1:] == ["player/1", "mine/2"]


@pytest.mark.asyncio
async def test_field_values_come_back_byte_for_byte():
    """Bytes that are no text can be sent on as they came."""
    async with both() as (origin, transport):
        head = b"HTTP/1.1 200 OK\r\nX: \xff\xe2\x82\xac  z \r\nContent-Length: 0\r\n\r\n"
        origin.add("/odd", b"", raw_head=head)
        async with ask(transport, origin.url("/odd")) as response:
            value = response.fields.get("X")
        assert value.encode("utf-8", "surrogateescape") == b"\xff\xe2\x82\xac  z"


@pytest.mark.asyncio
async def test_an_unasked_switch_of_protocols_is_an_error():
    """101 is no answer to a plain request."""
    async with both() as (origin, transport):
        head = b"HTTP/1.1 101 Switch\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n"
        origin.add("/switch", b"", raw_head=head)
        with pytest.raises(UpstreamProtocolError, match="switched"):
            await get(transport, origin.url("/switch"))
        await origin.wait_connections(0)


@pytest.mark.asyncio
async def test_times_are_those_of_the_given_clock():
    """The clock can be replaced."""
    times = iter([10.0, 12.5])
    async with both(clock=lambda: next(times)) as (origin, transport):
        request = UpstreamRequest(url=origin.url("/a"), source="x", fields=Fields())
        async with await transport.fetch(request) as response:
            assert (response.request_time, response.response_time) == (10.0, 12.5)


@pytest.mark.asyncio
async def test_a_response_that_was_left_gives_nothing_more():
    """After aclose there is no content, and no second release."""
    async with both() as (origin, transport):
        async with ask(transport, origin.url("/a")) as response:
            pass
        await response.aclose()
        with pytest.raises(ClosedError):
            await response.pour(Collector())


@pytest.mark.asyncio
async def test_nothing_is_left_of_many_mixed_exchanges():
    """Descriptors and tasks are as many as before, whatever the exchanges came to."""
    async with Origin() as origin:
        origin.add("/a", pattern("a", 300_000))
        origin.add("/cut", pattern("a", 300_000), drop_after=100_000)
        origin.add("/before", b"", drop_after=-1)
        origin.add("/hang", b"", gate=asyncio.Event())
        origin.add("/rubbish", b"", raw_head=b"rubbish\r\n\r\n")

        async def round_of_many():
            transport = HttpTransport()
            paths = ["/a", "/cut", "/before", "/hang", "/rubbish"] * 6
            tasks = [asyncio.ensure_future(get(transport, origin.url(path))) for path in paths]
            await asyncio.wait(
                [task for task, path in zip(tasks, paths, strict=True) if path != "/hang"]
            )
            await origin.wait_request(6, "/hang")
            await transport.aclose()
            results = await asyncio.gather(*tasks, return_exceptions=True)
            origin.reset_log()
            await origin.wait_connections(0)
            return [type(result) for result in results]

        def held():
            return len(os.listdir("/proc/self/fd")), asyncio.all_tasks()

        await round_of_many()
        before = held()
        kinds = await round_of_many()
        assert kinds[:5] == [
            bytes,
            TransportError,
            TransportError,
            ClosedError,
            UpstreamProtocolError,
        ]
        assert held() == before
