"""Promises of transports about exchanges that fail, and about ends."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from cachestream.abc import Transport
from cachestream.errors import (
    CacheStreamError,
    ClosedError,
    ConnectError,
    InvalidURLError,
    TransportError,
    UpstreamProtocolError,
    UpstreamTimeoutError,
)
from cachestream.testing._transport_base import Collector, TransportPromises, ask
from cachestream.testing.origin import Origin, pattern

__all__ = ["FailurePromises"]

_CONTENT = pattern("failure", 400_000)


class _WrongSinkError(Exception):
    """Raised by a sink."""


class _BrokenSink(Collector):
    def write(self, piece: Any) -> bool:
        raise _WrongSinkError


class FailurePromises(TransportPromises):
    """What fails says so with an error of ours, and leaves nothing behind."""

    @pytest.mark.asyncio
    @pytest.mark.parametrize(
        "knobs",
        [
            {"short_by": 1},
            {"drop_after": 200_000},
            {"drop_after": 0},
            {"drop_after": 200_000, "drop_reset": True},
            {"framing": "chunked", "drop_after": 200_000},
            {"framing": "chunked", "drop_after": 200_000, "drop_reset": True},
            {"framing": "chunked", "broken_chunk_after": 200_000},
            {"framing": "close", "drop_after": 200_000, "drop_reset": True},
            {"framing": "close", "drop_after": 0, "drop_reset": True},
        ],
        ids=str,
    )
    async def test_truncated_content_raises(
        self, transport: Transport, origin: Origin, knobs: dict[str, Any]
    ) -> None:
        """An end that HTTP does not call clean raises, and what came before is right."""
        origin.add("/a", _CONTENT, **knobs)
        sink = Collector()
        with pytest.raises(TransportError):
            async with ask(transport, origin.url("/a")) as response:
                await response.pour(sink)
        assert sink.content == _CONTENT.bytes(0, sink.received)
        assert origin.count() == 1
        await origin.wait_connections(0)

    @pytest.mark.asyncio
    async def test_truncated_content_raises_in_an_iteration(
        self, transport: Transport, origin: Origin
    ) -> None:
        """Iteration does not end where content was cut."""
        origin.add("/a", _CONTENT, drop_after=1000)
        async with ask(transport, origin.url("/a")) as response:
            with pytest.raises(TransportError):
                _ = [piece async for piece in response]

    @pytest.mark.asyncio
    @pytest.mark.parametrize("reset", [False, True])
    async def test_no_answer_raises_after_one_request(
        self, transport: Transport, origin: Origin, reset: bool
    ) -> None:
        """A connection that is dropped before the head is an error; repeating is not for us."""
        origin.add("/a", b"x", drop_after=-1, drop_reset=reset)
        with pytest.raises(TransportError) as caught:
            async with ask(transport, origin.url("/a")):
                pass
        assert not isinstance(caught.value, ConnectError | UpstreamTimeoutError)
        assert origin.count() == 1

    @pytest.mark.asyncio
    async def test_refused_connections_raise(self, transport: Transport, origin: Origin) -> None:
        """Where nobody listens, no connection can be made."""
        await origin.down()
        with pytest.raises(ConnectError) as caught:
            async with ask(transport, origin.url("/a?secret=1")):
                pass
        assert "127.0.0.1" in str(caught.value)
        assert "secret=1" not in str(caught.value)

    @pytest.mark.asyncio
    async def test_silence_before_the_head_times_out(
        self, impatient: Transport, origin: Origin
    ) -> None:
        """An origin that does not answer is given up."""
        origin.add("/a", b"x", gate=asyncio.Event())
        with pytest.raises(UpstreamTimeoutError):
            async with ask(impatient, origin.url("/a")):
                pass
        await origin.wait_connections(0)
        assert origin.count() == 1

    @pytest.mark.asyncio
    async def test_silence_in_the_content_times_out(
        self, impatient: Transport, origin: Origin
    ) -> None:
        """An origin that falls silent in mid-content is given up."""
        origin.add("/a", _CONTENT).stall(100_000)
        sink = Collector()
        async with ask(impatient, origin.url("/a")) as response:
            with pytest.raises(UpstreamTimeoutError):
                await response.pour(sink)
        assert sink.content == _CONTENT.bytes(0, sink.received)
        await origin.wait_connections(0)

    @pytest.mark.asyncio
    @pytest.mark.parametrize(
        "head",
        [
            b"hello\r\n\r\n",
            b"ICY 200 OK\r\n\r\n",
            b"\x16\x03\x01\x00\x00\r\n\r\n",
            b"HTTP/1.1 99999 OK\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nX: a\x00b\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nContent-Length: -3\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nX: " + b"y" * 5_000_000 + b"\r\n\r\n",
            b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 100_000 + b"\r\n",
        ],
        ids=["words", "icy", "tls", "status", "nul", "length", "lengths", "field", "fields"],
    )
    async def test_what_is_not_http_raises(
        self, transport: Transport, origin: Origin, head: bytes
    ) -> None:
        """An absurd or endless head is refused, in bounded memory."""
        origin.add("/a", b"", raw_head=head, close=True)
        with pytest.raises(UpstreamProtocolError):
            async with ask(transport, origin.url("/a")):
                pass
        await origin.wait_connections(0)

    @pytest.mark.asyncio
    @pytest.mark.parametrize("url", ["nonsense", "x-unknown://a/b", "http://", "http:///a", ""])
    async def test_urls_that_cannot_be_asked_raise(self, transport: Transport, url: str) -> None:
        """What is no URL of this transport is refused before anything is sent."""
        with pytest.raises(InvalidURLError):
            async with ask(transport, url):
                pass

    @pytest.mark.asyncio
    async def test_leaving_early_releases_the_connection(
        self, transport: Transport, origin: Origin
    ) -> None:
        """A response that is left in mid-content lets go of its connection; others go on."""
        origin.add("/endless", pattern("endless"))
        origin.add("/a", b"hello")
        async with ask(transport, origin.url("/endless")) as response:
            async for piece in response:
                assert piece
                break
        await origin.wait_connections(0)
        sink = Collector()
        async with ask(transport, origin.url("/a")) as response:
            await response.pour(sink)
        assert sink.content == b"hello"
        await response.aclose()

    @pytest.mark.asyncio
    async def test_a_sink_that_wants_no_more_ends_the_pouring(
        self, transport: Transport, origin: Origin
    ) -> None:
        """Pour returns False once drain has said so, and gives nothing after it."""
        origin.add("/endless", pattern("endless"))
        sink = Collector(wanted=1_000_000)
        async with ask(transport, origin.url("/endless")) as response:
            assert await response.pour(sink) is False
        assert sink.drained == 1
        assert sink.content == pattern("endless").bytes(0, sink.received)
        await origin.wait_connections(0)

    @pytest.mark.asyncio
    async def test_a_full_sink_is_waited_for(self, transport: Transport, origin: Origin) -> None:
        """While drain waits nothing is given, and reading stops: memory is bounded."""
        content = pattern("slow", 60_000_000)
        origin.add("/a", content)
        release, entered = asyncio.Event(), asyncio.Event()

        class Slow(Collector):
            async def drain(self) -> bool:
                entered.set()
                await release.wait()
                return await super().drain()

        sink = Slow(room=100_000)
        async with ask(transport, origin.url("/a")) as response:
            pouring = asyncio.ensure_future(response.pour(sink))
            await entered.wait()
            sent = -1
            # The kernel's buffers fill; after that the origin cannot send.
            while sent != origin.bytes_sent():
                sent = origin.bytes_sent()
                await asyncio.sleep(0.05)
            assert sent < 40_000_000
            release.set()
            assert await pouring is True
        assert sink.content == content.bytes()

    @pytest.mark.asyncio
    async def test_errors_of_a_sink_pass_through(
        self, transport: Transport, origin: Origin
    ) -> None:
        """What a sink raises is not the origin's fault, and stays what it is."""
        origin.add("/a", _CONTENT)
        with pytest.raises(_WrongSinkError):
            async with ask(transport, origin.url("/a")) as response:
                await response.pour(_BrokenSink())

    @pytest.mark.asyncio
    async def test_close_is_idempotent_and_final(
        self, transport: Transport, origin: Origin
    ) -> None:
        """After it idle connections are gone and every further exchange is refused."""
        origin.add("/a", b"x")
        async with ask(transport, origin.url("/a")) as response:
            await response.pour(Collector())
        await transport.aclose()
        await transport.aclose()
        await origin.wait_connections(0)
        with pytest.raises(ClosedError):
            async with ask(transport, origin.url("/a")):
                pass
        assert origin.count() == 1

    @pytest.mark.asyncio
    async def test_close_ends_what_is_under_way(self, transport: Transport, origin: Origin) -> None:
        """Whoever waits for a head or for content is told, and the connections are closed."""
        origin.add("/head", b"x", gate=asyncio.Event())
        origin.add("/content", _CONTENT).stall(100)

        async def use(path: str) -> None:
            async with ask(transport, origin.url(path)) as response:
                await response.pour(Collector())

        tasks = [asyncio.ensure_future(use(path)) for path in ("/head", "/content")]
        await origin.wait_request(2)
        await origin.wait(lambda: origin.bytes_sent() == 100)
        await transport.aclose()
        for result in await asyncio.gather(*tasks, return_exceptions=True):
            assert isinstance(result, CacheStreamError)
        await origin.wait_connections(0)

    @pytest.mark.asyncio
    @pytest.mark.parametrize("where", ["head", "content"])
    async def test_cancellation_leaves_nothing(
        self, transport: Transport, origin: Origin, where: str
    ) -> None:
        """A cancelled exchange closes its connection, and no task of it goes on."""
        served = origin.add("/a", _CONTENT)
        if where == "head":
            served.gate = asyncio.Event()
        else:
            served.stall(100)
        before = asyncio.all_tasks()

        async def use() -> None:
            async with ask(transport, origin.url("/a")) as response:
                await response.pour(Collector())

        task = asyncio.ensure_future(use())
        await origin.wait_request(1)
        await origin.wait(lambda: where == "head" or origin.bytes_sent() == 100)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await origin.wait_connections(0)
        await origin.wait_idle()
        assert asyncio.all_tasks() <= before
