"""What a frontend promises about requests: the handler sees them exactly as they were sent."""

from __future__ import annotations

from typing import TypeAlias

import pytest
import yarl

from cachestream.abc import Frontend, RequestHead
from cachestream.testing._raw_client import RawClient, request_bytes
from cachestream.testing.fakes import FakeHandler, answer_with

__all__ = ["ROUTES", "Lines", "RequestPromises", "answering"]

Lines: TypeAlias = tuple[tuple[str, str], ...]
"""Field lines, as in `Fields.lines`."""

ROUTES = pytest.mark.parametrize("nowait", [True, False], ids=["nowait", "awaited"])
"""A frontend may answer on two routes; a promise holds on both."""


def answering(content: bytes = b"content", *, nowait: bool = True) -> FakeHandler:
    """Return a handler that answers everything with the same content."""
    return FakeHandler({"*": lambda head: answer_with(content)}, nowait=nowait)


async def _seen(frontend: Frontend, data: bytes, *, nowait: bool) -> tuple[int, list[RequestHead]]:
    """Send bytes; return the status of the answer and what the handler saw."""
    handler = answering(nowait=nowait)
    async with frontend.serve(handler) as base, RawClient(base) as client:
        await client.send(data)
        response = await client.receive()
    return response.status, handler.heads


class RequestPromises:
    """One test a promise; see `cachestream.testing.frontends.FrontendContract`."""

    def shown(self, lines: Lines) -> Lines:
        """Return field lines as far as the frontend keeps them; here: as they are."""
        return lines

    @ROUTES
    @pytest.mark.parametrize(
        "target",
        [
            "/",
            "/example.com/video.mp4",
            "/example.com/a%20b%2Fc%2fd?q=%26&q=1+2&empty=&%",
            "/http/example.com:8080/../x/./y//z;p=1",
            "/~T%2Dken/example.com/%E2%82%AC/%00%ff",
            "/[::1]:80/x?a=/b?c",
            "//double//slash",
            "/" + "x" * 7000,
        ],
    )
    @pytest.mark.asyncio
    async def test_target_is_raw(self, frontend: Frontend, target: str, nowait: bool) -> None:
        """The request target reaches the handler byte for byte, percent-encoding included."""
        _, heads = await _seen(frontend, request_bytes(target), nowait=nowait)
        assert [head.target for head in heads] == [target]

    @ROUTES
    @pytest.mark.asyncio
    async def test_fields_are_all_there(self, frontend: Frontend, nowait: bool) -> None:
        """Fields keep their order, spelling and repetition; none is added or joined."""
        fields = (
            ("rAnGe", "bytes=0-1"),
            ("Accept", "a"),
            ("X-Thing", "1"),
            ("accept", "b, c"),
            ("x-thing", ""),
            ("Range", "bytes=2-3"),
            ("X-Latin", "\udce9t\udce9"),
            ("X-Text", "žluťoučký"),
        )
        data = request_bytes("/", *fields, host="localhost")
        _, heads = await _seen(frontend, data, nowait=nowait)
        expected = self.shown((("Host", "localhost"), *fields))
        assert [self.shown(head.fields.lines) for head in heads] == [expected]

    @pytest.mark.parametrize(("text", "version"), [("1.0", (1, 0)), ("1.1", (1, 1))])
    @pytest.mark.asyncio
    async def test_version_is_told(
        self, frontend: Frontend, text: str, version: tuple[int, int]
    ) -> None:
        """The handler learns the HTTP version of the request."""
        _, heads = await _seen(frontend, request_bytes(version=text), nowait=True)
        assert [head.version for head in heads] == [version]

    @ROUTES
    @pytest.mark.parametrize(
        "method", ["GET", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "PROPFIND"]
    )
    @pytest.mark.asyncio
    async def test_method_reaches_the_handler(
        self, frontend: Frontend, method: str, nowait: bool
    ) -> None:
        """Whether a method is allowed is the handler's decision."""
        status, heads = await _seen(frontend, request_bytes(method=method), nowait=nowait)
        assert (status, [head.method for head in heads]) == (200, [method])

    @pytest.mark.asyncio
    async def test_peer_and_authorities_are_told(self, frontend: Frontend) -> None:
        """The handler learns who asks, and which authorities this listener answers to."""
        handler = answering()
        async with frontend.serve(handler) as base, RawClient(base) as client:
            await client.ask("/")
            peer = client.socket.getsockname()[0]
        (head,) = handler.heads
        assert head.client == peer
        assert yarl.URL(base).authority in head.served
        assert all(name == name.lower() for name in head.served)

    @ROUTES
    @pytest.mark.parametrize(
        "host",
        [
            "evil.example",
            "127.0.0.1",
            "127.0.0.1:1",
            "LOCALHOST:80",
            "localhost.:80",
            "user@127.0.0.1:80",
            "[::1]:80",
            "[0:0:0:0:0:0:0:1]:80",
            "0x7f000001:80",
            "",
        ],
    )
    @pytest.mark.asyncio
    async def test_host_is_not_interpreted(
        self, frontend: Frontend, host: str, nowait: bool
    ) -> None:
        """Whatever Host says reaches the handler unchanged, or the request is refused."""
        status, heads = await _seen(frontend, request_bytes(host=host), nowait=nowait)
        if heads:
            assert [head.fields.get_all("Host") for head in heads] == [(host,)]
        else:
            assert status == 400

    @ROUTES
    @pytest.mark.parametrize(
        "target", ["http://evil.example/x", "http://localhost:80/x?q", "HTTP://[::1]/%78"]
    )
    @pytest.mark.asyncio
    async def test_absolute_form_is_kept(
        self, frontend: Frontend, target: str, nowait: bool
    ) -> None:
        """An absolute-form target reaches the handler whole, and Host beside it."""
        _, heads = await _seen(frontend, request_bytes(target), nowait=nowait)
        assert [(head.target, head.fields.get("Host")) for head in heads] == [(target, "localhost")]

    @ROUTES
    @pytest.mark.parametrize("count", [0, 2])
    @pytest.mark.asyncio
    async def test_host_is_never_made_up(
        self, frontend: Frontend, count: int, nowait: bool
    ) -> None:
        """A missing or repeated Host is refused with 400, or reaches the handler as it is."""
        hosts = [("Host", f"host{number}") for number in range(count)]
        data = request_bytes("/", *hosts, host=None)
        status, heads = await _seen(frontend, data, nowait=nowait)
        if heads:
            assert [len(head.fields.get_all("Host")) for head in heads] == [count]
        else:
            assert status == 400

    @pytest.mark.parametrize(
        "data",
        [
            b"nonsense\r\n\r\n",
            b"GET\r\n\r\n",
            b"GET / HTTP/1.1\r\nHost: a\r\nNo colon\r\n\r\n",
            b"GET / HTTP/1.1\r\nHost: a\r\nX: a\0b\r\n\r\n",
            b"GET / HTTP/1.1\r\nHost: a\r\n folded: b\r\n\r\n",
            b"GET / HTTP/1.1\r\nHost: a\r\nBad Name: b\r\n\r\n",
            b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
            b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\n",
            request_bytes("/", ("Content-Length", "5"), ("Transfer-Encoding", "chunked"))
            + b"0\r\n\r\n",
            b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
        ],
    )
    @pytest.mark.asyncio
    async def test_malformed_request_is_refused(self, frontend: Frontend, data: bytes) -> None:
        """What is not HTTP is answered 400 and the connection is closed."""
        handler = answering()
        async with frontend.serve(handler) as base:
            async with RawClient(base) as client:
                await client.send(data)
                response = await client.receive()
                assert (response.status, response.complete) == (400, True)
                assert await client.ended()
            async with RawClient(base) as client:
                assert (await client.ask("/")).status == 200
        assert len(handler.heads) == 1

    @pytest.mark.parametrize(
        "fields",
        [(("X-Long", "x" * 20_000),), tuple((f"X-{n}", "x" * 1000) for n in range(20))],
        ids=["one", "many"],
    )
    @pytest.mark.asyncio
    async def test_head_is_limited(
        self, frontend: Frontend, fields: tuple[tuple[str, str], ...]
    ) -> None:
        """A head of 20 kB is refused, whether one field is that long or all together."""
        status, heads = await _seen(frontend, request_bytes("/", *fields), nowait=True)
        assert status in (400, 413, 431)
        assert not heads

    @pytest.mark.asyncio
    async def test_target_is_limited(self, frontend: Frontend) -> None:
        """A request line of 20 kB is refused."""
        status, heads = await _seen(frontend, request_bytes("/" + "x" * 20_000), nowait=True)
        assert status in (400, 414)
        assert not heads

    @ROUTES
    @pytest.mark.parametrize("method", ["GET", "HEAD"])
    @pytest.mark.parametrize(
        "framing", [("Content-Length", "40"), ("Transfer-Encoding", "chunked")], ids=str
    )
    @pytest.mark.asyncio
    async def test_content_of_get_is_refused(
        self, frontend: Frontend, method: str, framing: tuple[str, str], nowait: bool
    ) -> None:
        """A GET with content is refused, and its content is never taken for a request."""
        handler = answering(nowait=nowait)
        smuggled = request_bytes("/smuggled")
        async with frontend.serve(handler) as base, RawClient(base) as client:
            await client.send(request_bytes("/", framing, method=method) + smuggled)
            response = await client.receive()
            assert response.status in (400, 413)
            assert await client.ended()
        assert not handler.heads

    @pytest.mark.asyncio
    async def test_empty_content_is_no_content(self, frontend: Frontend) -> None:
        """``Content-Length: 0`` on a GET does no harm, and the connection goes on."""
        handler = answering()
        async with frontend.serve(handler) as base, RawClient(base) as client:
            for _ in range(2):
                assert (await client.ask("/", ("Content-Length", "0"))).status == 200

    @ROUTES
    @pytest.mark.asyncio
    async def test_content_of_post_is_no_request(self, frontend: Frontend, nowait: bool) -> None:
        """Content of another method is skipped or ends the connection; it is no request."""
        handler = answering(nowait=nowait)
        content = request_bytes("/smuggled")
        async with frontend.serve(handler) as base, RawClient(base) as client:
            length = ("Content-Length", str(len(content)))
            await client.send(request_bytes("/", length, method="POST"))
            assert (await client.receive("POST")).status == 200
            await client.send(content)
            assert await client.ended()
        assert [head.target for head in handler.heads] == ["/"]

    @ROUTES
    @pytest.mark.parametrize("protocol", ["websocket", "h2c"])
    @pytest.mark.asyncio
    async def test_upgrade_is_ignored(
        self, frontend: Frontend, protocol: str, nowait: bool
    ) -> None:
        """An offer to change the protocol is not taken; the request is answered."""
        handler = answering(nowait=nowait)
        offer = (("Connection", "Upgrade"), ("Upgrade", protocol))
        async with frontend.serve(handler) as base, RawClient(base) as client:
            first = await client.ask("/1", *offer)
            second = await client.ask("/2")
        assert (first.status, second.status) == (200, 200)
        assert [head.target for head in handler.heads] == ["/1", "/2"]

    @ROUTES
    @pytest.mark.asyncio
    async def test_pipelined_requests_are_answered_in_order(
        self, frontend: Frontend, nowait: bool
    ) -> None:
        """Requests sent at once are answered one after the other, no byte mixed."""
        handler = FakeHandler(
            {"*": lambda head: answer_with(head.target.encode() * 10_000)}, nowait=nowait
        )
        targets = [f"/{number}" for number in range(80)]
        async with frontend.serve(handler) as base, RawClient(base) as client:
            await client.send(b"".join(map(request_bytes, targets)))
            for target in targets:
                assert (await client.receive()).content == target.encode() * 10_000

    @pytest.mark.asyncio
    async def test_request_may_come_in_bits(self, frontend: Frontend) -> None:
        """A head may arrive a byte at a time."""
        handler = answering()
        async with frontend.serve(handler) as base, RawClient(base) as client:
            data = request_bytes("/a%20b", ("X-Thing", "1"))
            for number in range(len(data)):
                await client.send(data[number : number + 1])
            assert (await client.receive()).status == 200
        assert [head.target for head in handler.heads] == ["/a%20b"]
