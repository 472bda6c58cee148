"""Promises of transports about exchanges that go well."""

from __future__ import annotations

import asyncio
import gzip
import time

import attrs
import pytest

from cachestream.abc import Transport, UpstreamRequest
from cachestream.core.fields import Fields
from cachestream.testing._transport_base import Collector, TransportPromises, ask
from cachestream.testing.origin import Origin, pattern

__all__ = ["ExchangePromises"]

_STATUSES = [200, 203, 206, 299, 300, 301, 302, 303, 304, 307, 308]
_STATUSES += [400, 401, 403, 404, 410, 416, 429, 451, 500, 502, 503, 504, 599]

# What a connection needs, and what a transport may say of itself.
_ADDED = {"host", "connection", "accept-encoding", "user-agent"}


class ExchangePromises(TransportPromises):
    """What is sent is what was asked, and what comes is what the origin sent."""

    def test_schemes_are_lower_case(self, transport: Transport) -> None:
        """A transport names the schemes that it serves."""
        assert "http" in transport.schemes
        assert all(scheme == scheme.lower() for scheme in transport.schemes)

    @pytest.mark.asyncio
    async def test_prepare_keeps_what_is_asked_for(
        self, transport: Transport, origin: Origin
    ) -> None:
        """A request may be signed or go elsewhere; it stays one for the same bytes."""
        lines = (("Range", "bytes=5-9"), ("If-Range", '"v1"'))
        request = UpstreamRequest(
            url=origin.url("/a"), source=origin.url("/s"), fields=Fields(lines), attempt=2, hop=1
        )
        for method in ("GET", "HEAD"):
            asked = attrs.evolve(request, method=method)
            prepared = await transport.prepare(asked)
            facts = (prepared.source, prepared.method, prepared.attempt, prepared.hop)
            assert facts == (asked.source, method, 2, 1)
            assert [prepared.fields.get(name) for name, _ in lines] == [v for _, v in lines]
            assert prepared.url.partition("://")[0] in transport.schemes
        assert origin.count("/a") == 0

    @pytest.mark.asyncio
    @pytest.mark.parametrize("status", [401, 403, 410])
    async def test_refresh_gives_a_url_or_none(
        self, transport: Transport, origin: Origin, status: int
    ) -> None:
        """What renews a URL gives one that this transport serves, or says that it cannot."""
        renewed = await transport.refresh(origin.url("/a"), status)
        assert renewed is None or renewed.partition("://")[0] in transport.schemes

    @pytest.mark.asyncio
    @pytest.mark.parametrize("framing", ["length", "chunked", "close"])
    async def test_content_is_poured_whole_and_in_order(
        self, transport: Transport, origin: Origin, framing: str
    ) -> None:
        """However the end is marked, a clean one makes pour return True with every byte given."""
        content = pattern("pour", 3_000_001)
        origin.add("/a", content, framing=framing)
        sink = Collector()
        async with ask(transport, origin.url("/a")) as response:
            assert await response.pour(sink) is True
        assert sink.content == content.bytes()

    @pytest.mark.asyncio
    @pytest.mark.parametrize("framing", ["length", "chunked", "close"])
    async def test_content_can_be_iterated(
        self, transport: Transport, origin: Origin, framing: str
    ) -> None:
        """Iteration gives the same content, for those who do not pour."""
        content = pattern("iterate", 500_003)
        origin.add("/a", content, framing=framing)
        async with ask(transport, origin.url("/a")) as response:
            pieces = [bytes(piece) async for piece in response]
        assert all(pieces)
        assert b"".join(pieces) == content.bytes()

    @pytest.mark.asyncio
    async def test_empty_content_is_a_clean_end(self, transport: Transport, origin: Origin) -> None:
        """Content of no bytes is poured as nothing."""
        origin.add("/a", b"")
        sink = Collector()
        async with ask(transport, origin.url("/a")) as response:
            assert await response.pour(sink) is True
        assert sink.pieces == []

    @pytest.mark.asyncio
    @pytest.mark.parametrize("status", _STATUSES)
    async def test_every_status_is_data(
        self, transport: Transport, origin: Origin, status: int
    ) -> None:
        """A status is returned with its content, whatever it is, after exactly one request."""
        origin.add("/a", b"x", fields=(("Location", "/b"),)).fail(status, body=b"because")
        sink = Collector()
        async with ask(transport, origin.url("/a")) as response:
            assert response.status == status
            assert await response.pour(sink) is True
        assert sink.content == (b"" if status == 304 else b"because")
        assert origin.count() == 1

    @pytest.mark.asyncio
    async def test_redirects_are_not_followed(self, transport: Transport, origin: Origin) -> None:
        """A redirect is an answer like any other; whoever asked decides about it."""
        origin.add("/a", redirect="/b", redirect_status=302)
        origin.add("/b", b"x")
        async with ask(transport, origin.url("/a")) as response:
            assert (response.status, response.fields.get("Location")) == (302, "/b")
            assert response.url == origin.url("/a")
        assert [item.target for item in origin.requests] == ["/a"]

    @pytest.mark.asyncio
    async def test_interim_heads_are_passed_over(
        self, transport: Transport, origin: Origin
    ) -> None:
        """1xx heads come before the answer and are not it (RFC 9110 §15.2)."""
        origin.add("/a", b"hello", interim=(100, 103, 102))
        sink = Collector()
        async with ask(transport, origin.url("/a")) as response:
            assert response.status == 200
            await response.pour(sink)
        assert sink.content == b"hello"

    @pytest.mark.asyncio
    async def test_head_has_fields_and_no_content(
        self, transport: Transport, origin: Origin
    ) -> None:
        """The answer to HEAD ends at once, whatever length it announces."""
        origin.add("/a", pattern("head", 1000))
        sink = Collector()
        async with ask(transport, origin.url("/a"), method="HEAD") as response:
            assert response.fields.get("Content-Length") == "1000"
            assert await response.pour(sink) is True
        assert sink.content == b""
        assert origin.requests[0].method == "HEAD"

    @pytest.mark.asyncio
    async def test_fields_are_sent_as_they_are(self, transport: Transport, origin: Origin) -> None:
        """Every line is sent once, in order, and only what the connection needs is added."""
        origin.add("/a", pattern("fields", 100))
        lines = (
            ("Range", "bytes=5-9"),
            ("If-Range", '"v1"'),
            ("X-Twice", "1"),
            ("X-Twice", "2"),
            ("User-Agent", "test/1"),
            ("Accept-Encoding", "identity;q=1"),
            ("Authorization", "Bearer a.b"),
        )
        async with ask(transport, origin.url("/a"), *lines) as response:
            assert response.status == 206
        sent = origin.requests[0].fields
        names = {name.lower() for name, _ in lines}
        assert [line for line in sent if line[0].lower() in names] == list(lines)
        assert {name.lower() for name, _ in sent} <= names | _ADDED
        assert sent.get_all("Host") == (origin.authority,)

    @pytest.mark.asyncio
    async def test_identity_is_asked_for(self, transport: Transport, origin: Origin) -> None:
        """Unless the request says otherwise, no content coding is invited."""
        origin.add("/a", b"x")
        async with ask(transport, origin.url("/a")):
            pass
        assert origin.requests[0].fields.get("Accept-Encoding") in {"identity", None}

    @pytest.mark.asyncio
    async def test_no_content_coding_is_removed(self, transport: Transport, origin: Origin) -> None:
        """Coded content comes as it is, for ranges and lengths are those of the coded bytes."""
        plain = b"0123456789" * 10_000
        origin.add("/a", plain, gzip=True)
        sink = Collector()
        async with ask(transport, origin.url("/a")) as response:
            assert response.fields.get("Content-Encoding") == "gzip"
            await response.pour(sink)
            assert response.fields.get("Content-Length") == str(len(sink.content))
        assert gzip.decompress(sink.content) == plain

    @pytest.mark.asyncio
    async def test_fields_are_returned_as_they_came(
        self, transport: Transport, origin: Origin
    ) -> None:
        """Repeated lines stay apart, in order, with their spelling."""
        lines = (("X-odd-CASE", "a  b"), ("Set-Cookie", "a=1, b"), ("set-cookie", "c=2"))
        origin.add("/a", b"x", fields=lines)
        async with ask(transport, origin.url("/a")) as response:
            got = [line for line in response.fields if line in lines]
        assert got == list(lines)

    @pytest.mark.asyncio
    async def test_exchanges_know_nothing_of_each_other(
        self, transport: Transport, origin: Origin
    ) -> None:
        """Cookies that an origin sets are not sent back."""
        origin.add("/a", b"x", fields=(("Set-Cookie", "secret=1; Path=/"),))
        for _ in range(2):
            async with ask(transport, origin.url("/a")) as response:
                await response.pour(Collector())
        assert [item.fields.get("Cookie") for item in origin.requests] == [None, None]

    @pytest.mark.asyncio
    @pytest.mark.parametrize(
        "target",
        [
            "/a%20b",
            "/%41%7e~%2f%2F",
            "/a//b/./c/../d",
            "/a+b;c=d,e@f:g!$&'()*",
            "/%E2%82%AC%ff",
            "/a?b=c%20d+e&f=%26&&=?/",
            "/a?X-Amz-Signature=0%2F%2b",
            "/a?b[]=1&c={}|",
            "/%",
        ],
    )
    async def test_targets_are_sent_exactly(
        self, transport: Transport, origin: Origin, target: str
    ) -> None:
        """A URL goes over the wire as it is percent-encoded, lest signatures break."""
        origin.add(target, b"x")
        async with ask(transport, origin.url(target)) as response:
            assert response.status == 200
        assert [item.target for item in origin.requests] == [target]

    @pytest.mark.asyncio
    async def test_times_are_taken(self, transport: Transport, origin: Origin) -> None:
        """Request and response time frame the exchange, in seconds since the epoch."""
        origin.add("/a", b"x", latency=0.02)
        before = time.time()
        async with ask(transport, origin.url("/a")) as response:
            after = time.time()
            assert before - 0.001 <= response.request_time
            assert response.request_time + 0.015 <= response.response_time <= after + 0.001

    @pytest.mark.asyncio
    async def test_many_exchanges_at_a_time(self, transport: Transport, origin: Origin) -> None:
        """Many exchanges run side by side, each with its own content."""
        gate = asyncio.Event()
        for number in range(40):
            origin.add(f"/{number}", pattern(number, 100_000 + number), gate=gate)

        async def one(number: int) -> bytes:
            sink = Collector(room=50_000)
            async with ask(transport, origin.url(f"/{number}")) as response:
                await response.pour(sink)
            return sink.content

        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(one(number)) for number in range(40)]
            await origin.wait_request(40)
            gate.set()
        for number, task in enumerate(tasks):
            assert task.result() == pattern(number, 100_000 + number).bytes()
