from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress

import attrs
import pytest

from cachestream.abc import END
from cachestream.frontends import LoopbackFrontend
from cachestream.frontends._addresses import authority
from cachestream.frontends._connection import MAX_HEAD
from cachestream.testing._raw_client import RawClient, request_bytes
from cachestream.testing.fakes import (
    FakeHandler,
    MixedBody,
    ScratchFile,
    WaitingBody,
    answer_with,
    pattern,
)


@asynccontextmanager
async def _serving(
    handler: FakeHandler, *, direct: bool = True, **limits: float
) -> AsyncIterator[str]:
    frontend = LoopbackFrontend()
    frontend._limits = attrs.evolve(frontend._limits, **limits)
    frontend._direct = direct
    async with frontend.serve(handler) as base:
        yield base


def _handler(*, nowait: bool = True) -> FakeHandler:
    return FakeHandler({"*": lambda head: answer_with(head.target.encode())}, nowait=nowait)


@pytest.mark.asyncio
async def test_one_client_too_many_is_refused() -> None:
    """Beyond the limit a client is answered 503; when one leaves, there is room again."""
    handler = _handler()
    async with _serving(handler, clients=2) as base, AsyncExitStack() as stack:
        first = await stack.enter_async_context(RawClient(base))
        async with RawClient(base) as second:
            for client in (first, second):
                assert (await client.ask("/")).status == 200
            async with RawClient(base) as third:
                response = await third.ask("/refused")
                assert (response.status, response.complete) == (503, True)
                assert await third.ended()
            assert (await first.ask("/")).status == 200
        async with asyncio.timeout(20):
            while True:
                async with RawClient(base) as fourth:
                    if (await fourth.ask("/")).status == 200:
                        break
    assert "/refused" not in [head.target for head in handler.heads]


@pytest.mark.parametrize("start", ["", "GET /x HT", "GET / HTTP/1.1\r\nHost: a\r\n"])
@pytest.mark.asyncio
async def test_slow_head_is_not_waited_for(start: str) -> None:
    """A head that does not come to its end in time is answered 408, an empty one not at all."""
    async with _serving(_handler(), head_time=0.05) as base, RawClient(base) as client:
        await client.send(start.encode())
        if start:
            assert (await client.receive()).status == 408
        assert await client.ended()


@pytest.mark.asyncio
async def test_slow_head_does_not_disturb_an_answer() -> None:
    """An answer under way is finished although the next head does not come to its end."""
    body = WaitingBody()
    body.feed(b"one")
    handler = FakeHandler({"*": lambda _: answer_with(body)})
    async with _serving(handler, head_time=0.05) as base, RawClient(base) as client:
        await client.send(request_bytes("/") + b"GET ")
        await body.waiting.wait()
        await client.send(b"/next HT")
        await asyncio.sleep(0.1)
        body.feed(b"two")
        body.feed(END)
        assert (await client.receive()).content == b"onetwo"
        assert await client.ended()


@pytest.mark.asyncio
async def test_long_head_in_bits_is_refused() -> None:
    """A head that grows too long is refused before it ends."""
    async with _serving(_handler()) as base, RawClient(base) as client:
        await client.send(b"GET / HTTP/1.1\r\nHost: a\r\n")
        sent = 0
        while sent <= MAX_HEAD:
            await client.send(b"X-Thing: " + b"x" * 1000 + b"\r\n")
            sent += 1011
        assert (await client.receive()).status == 431
        assert await client.ended()


@pytest.mark.asyncio
async def test_long_head_behind_a_request_ends_the_connection() -> None:
    """Too long a head behind a request under way spares its answer, and ends the connection."""
    body = WaitingBody()
    handler = FakeHandler({"*": lambda _: answer_with(body)})
    async with _serving(handler) as base, RawClient(base) as client:
        await client.send(request_bytes("/"))
        await body.waiting.wait()
        await client.send(b"GET /evil HTTP/1.1\r\nHost: a\r\n")
        for _ in range(40):
            await client.send(b"X-Thing: " + b"x" * 1000 + b"\r\n")
            await asyncio.sleep(0)
        body.feed(b"content")
        body.feed(END)
        assert (await client.receive()).content == b"content"
        # If the last of it arrives after the answer, there is time to say why.
        with suppress(ConnectionResetError):
            while rest := await client.some():
                assert rest.startswith(b"HTTP/1.1 431 ")
    assert len(handler.heads) == 1


@pytest.mark.asyncio
async def test_resting_connection_is_closed() -> None:
    """A connection that rests too long between two requests is closed."""
    async with _serving(_handler(), keepalive=0.05) as base, RawClient(base) as client:
        assert (await client.ask("/")).status == 200
        assert await client.ended()


@pytest.mark.parametrize("direct", [True, False])
@pytest.mark.parametrize("kind", ["file", "bytes"])
@pytest.mark.asyncio
async def test_client_that_takes_nothing_is_cut(direct: bool, kind: str) -> None:
    """With an idle timeout, a client that stops reading loses its connection."""
    data = pattern(16 << 20)
    with ScratchFile(data) as file:
        body = MixedBody([file.region() if kind == "file" else data])
        handler = FakeHandler({"*": lambda _: answer_with(body, length=len(data))})
        async with (
            _serving(handler, direct=direct, client_idle=0.05) as base,
            RawClient(base, receive_buffer=65_536) as client,
            asyncio.timeout(20),
        ):
            await client.send(request_bytes("/"))
            await body.closed.wait()
            assert not (await client.receive()).complete


@pytest.mark.asyncio
async def test_idle_timeout_does_not_count_our_own_waiting() -> None:
    """A client that waits for bytes which are not there yet is not idle."""
    body = WaitingBody()
    handler = FakeHandler({"*": lambda _: answer_with(body)})
    async with _serving(handler, client_idle=0.02) as base, RawClient(base) as client:
        await client.send(request_bytes("/"))
        await body.waiting.wait()
        await asyncio.sleep(0.06)
        body.feed(b"content")
        body.feed(END)
        assert (await client.receive()).content == b"content"


@pytest.mark.parametrize("version", ["1.0", "1.1"])
@pytest.mark.asyncio
async def test_half_closed_client_gets_what_is_held(version: str) -> None:
    """A client that ends its sending right away gets all it asked for, if it is at hand."""
    data = pattern(3 << 20)
    with ScratchFile(data) as file:
        handler = FakeHandler({"*": lambda _: answer_with(MixedBody([file.region()]))})
        async with _serving(handler) as base, RawClient(base) as client:
            count = 3 if version == "1.1" else 1
            await client.send(request_bytes("/", version=version) * count)
            client.end_sending()
            for _ in range(count):
                response = await client.receive()
                assert (response.complete, response.content == data) == (True, True)
            assert await client.ended()


@pytest.mark.asyncio
async def test_half_closed_client_is_not_waited_for() -> None:
    """A client that ends its sending while its answer waits for bytes counts as gone."""
    body = WaitingBody()
    body.feed(b"first")
    handler = FakeHandler({"*": lambda _: answer_with(body)})
    async with _serving(handler) as base, RawClient(base) as client, asyncio.timeout(20):
        await client.send(request_bytes("/"))
        await body.waiting.wait()
        client.end_sending()
        await body.closed.wait()
        assert not (await client.receive()).complete


@pytest.mark.asyncio
async def test_half_closed_client_ends_a_wait_before_it_begins() -> None:
    """A client that ended its sending with its request is not waited for either."""
    body = WaitingBody()
    handler = FakeHandler({"*": lambda _: answer_with(body)})
    async with _serving(handler) as base, RawClient(base) as client, asyncio.timeout(20):
        await client.send(request_bytes("/"))
        client.end_sending()
        assert not (await client.receive()).complete
        await body.closed.wait()


@pytest.mark.asyncio
async def test_half_closed_idle_connection_is_closed() -> None:
    """A client that ends its sending between two requests ends the connection."""
    async with _serving(_handler()) as base, RawClient(base) as client:
        assert (await client.ask("/")).status == 200
        client.end_sending()
        assert await client.ended()


@pytest.mark.asyncio
async def test_connect_method_is_only_a_request() -> None:
    """CONNECT reaches the handler and opens no tunnel."""
    handler = _handler()
    async with _serving(handler) as base, RawClient(base) as client:
        assert (await client.ask("example.com:443", method="CONNECT")).status == 200
        assert await client.ended()
    assert [head.target for head in handler.heads] == ["example.com:443"]


@pytest.mark.asyncio
async def test_other_major_version_is_refused() -> None:
    """Only HTTP/1 is spoken here."""
    handler = _handler()
    async with _serving(handler) as base, RawClient(base) as client:
        assert (await client.ask("/", version="2.0")).status in (400, 505)
    assert not handler.heads


@pytest.mark.asyncio
async def test_lack_of_descriptors_is_survived(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a descriptor to duplicate the socket, answers go through the transport."""

    def no_dup(descriptor: int) -> int:
        raise OSError(24, "Too many open files")

    monkeypatch.setattr(os, "dup", no_dup)
    data = pattern(1 << 20)
    with ScratchFile(data) as file:
        handler = FakeHandler(
            {"*": lambda _: answer_with(MixedBody([data[:100], file.region(100)]), length=1 << 20)}
        )
        async with _serving(handler) as base, RawClient(base) as client:
            for _ in range(2):
                assert (await client.ask("/")).content == data


@pytest.mark.parametrize(
    ("address", "text"),
    [
        (("127.0.0.1", 80), "127.0.0.1:80"),
        (("::1", 80, 0, 0), "[::1]:80"),
        (("fe80::1%eth0", 80, 0, 2), "[fe80::1]:80"),
        (("::ffff:192.0.2.1", 80, 0, 0), "192.0.2.1:80"),
    ],
)
def test_authority(address: tuple[object, ...], text: str) -> None:
    """A socket's address is written as in a URL, mapped addresses as what they are."""
    assert authority(address) == text
