"""What a transport promises whatever its schemes are, for something that it can read."""

from __future__ import annotations

import asyncio
import random
from pathlib import Path
from typing import Final

import attrs
import pytest

from cachestream.abc import Transport
from cachestream.core.ranges import parse_content_range
from cachestream.core.spans import Span
from cachestream.errors import ClosedError, ConfigurationError, InvalidURLError
from cachestream.testing._transport_base import Collector, ask
from cachestream.testing.doctor._order import Order

__all__ = ["ReadingPromises", "Sample", "sample_for"]

_MOST: Final = 1024 * 1024
_CONTENT: Final = random.Random("sample").randbytes(300_000)


@attrs.frozen
class Sample:
    """Something to read.

    Attributes:
        url: Where it is.
        content: What it is, None if that is not known.
    """

    url: str
    content: bytes | None = None


def sample_for(order: Order) -> Sample:
    """Return something that the transport can read.

    Raises:
        ConfigurationError: If nothing can be made up for its schemes.
    """
    if order.url is not None:
        return Sample(order.url)
    if "file" in order.schemes:
        file = Path(order.directory) / "sample.bin"
        file.write_bytes(_CONTENT)
        return Sample(f"file://localhost{file}", _CONTENT)
    if "memory" in order.schemes:
        # Here and not above: only few transports need it.
        import fsspec

        path = f"{order.token}/sample.bin"
        fsspec.filesystem("memory").pipe(f"/{path}", _CONTENT)
        return Sample(f"memory://{path}", _CONTENT)
    raise ConfigurationError(
        f"something to read is needed for URLs of {', '.join(order.schemes)}: name one with --url"
    )


class ReadingPromises:
    """Promises of transports about something that can be read, one test each."""

    def test_schemes_are_lower_case(self, transport: Transport) -> None:
        """A transport names the schemes that it serves."""
        assert transport.schemes
        assert all(scheme == scheme.lower() for scheme in transport.schemes)

    @pytest.mark.asyncio
    async def test_content_is_poured_in_order(
        self, transport: Transport, url: str, content: bytes | None
    ) -> None:
        """A GET gives status 200 and all bytes, as many as Content-Length says."""
        sink = Collector(wanted=_MOST if content is None else None)
        async with ask(transport, url) as response:
            assert response.status == 200
            clean = await response.pour(sink)
        length = response.fields.get("Content-Length")
        if clean and length is not None:
            assert sink.received == int(length)
        if content is not None:
            assert clean
            assert sink.content == content

    @pytest.mark.asyncio
    async def test_content_can_be_iterated(
        self, transport: Transport, url: str, content: bytes | None
    ) -> None:
        """Iteration gives the same content as pouring."""
        poured, pieces = Collector(wanted=_MOST), bytearray()
        async with ask(transport, url) as response:
            await response.pour(poured)
        async with ask(transport, url) as response:
            async for piece in response:
                pieces += piece
                if len(pieces) >= _MOST:
                    break
        common = min(len(pieces), poured.received)
        assert bytes(pieces[:common]) == poured.content[:common]
        assert len(pieces) == poured.received or common >= _MOST

    @pytest.mark.asyncio
    async def test_head_has_no_content(self, transport: Transport, url: str) -> None:
        """The answer to HEAD has status 200 and ends at once."""
        sink = Collector()
        async with ask(transport, url, method="HEAD") as response:
            assert response.status == 200
            assert await response.pour(sink) is True
        assert sink.content == b""

    @pytest.mark.asyncio
    async def test_a_range_is_answered_by_these_bytes_or_by_all(
        self, transport: Transport, url: str
    ) -> None:
        """A 206 has exactly the bytes that were asked for, and says which they are."""
        whole = Collector(wanted=100_000)
        async with ask(transport, url) as response:
            await response.pour(whole)
        if whole.received < 20:
            return
        part = Collector(wanted=100_000)
        async with ask(transport, url, ("Range", "bytes=5-14")) as response:
            await response.pour(part)
        assert response.status in (200, 206)
        if response.status == 206:
            told = parse_content_range(response.fields.get("Content-Range") or "")
            assert told is not None
            assert told.span == Span(5, 15)
            assert part.content == whole.content[5:15]

    @pytest.mark.asyncio
    async def test_what_is_not_there_is_a_status(
        self, transport: Transport, url: str, content: bytes | None
    ) -> None:
        """Something that does not exist is answered 404, not raised."""
        if content is None:
            return  # what lies beside a stranger's resource is not known
        async with ask(transport, f"{url}.missing") as response:
            assert response.status == 404

    @pytest.mark.asyncio
    @pytest.mark.parametrize("wrong", ["nonsense", "x-unknown://a/b", ""])
    async def test_urls_that_cannot_be_asked_raise(self, transport: Transport, wrong: str) -> None:
        """What is no URL of this transport is refused."""
        with pytest.raises(InvalidURLError):
            async with ask(transport, wrong):
                pass

    @pytest.mark.asyncio
    async def test_a_sink_that_wants_no_more_ends_the_pouring(
        self, transport: Transport, url: str
    ) -> None:
        """Pour returns False once drain has said so, and gives nothing after it."""
        sink = Collector(wanted=1)
        async with ask(transport, url) as response:
            clean = await response.pour(sink)
        assert sink.drained == (0 if clean and not sink.received else 1)
        assert clean is (sink.received == 0)

    @pytest.mark.asyncio
    async def test_times_are_taken(self, transport: Transport, url: str) -> None:
        """The head did not arrive before the request was sent."""
        async with ask(transport, url) as response:
            assert 0 < response.request_time <= response.response_time

    @pytest.mark.asyncio
    async def test_leaving_early_leaves_nothing(self, transport: Transport, url: str) -> None:
        """A response that is left before its content was read leaves no task behind."""
        before = asyncio.all_tasks()
        async with ask(transport, url):
            pass
        assert asyncio.all_tasks() <= before

    @pytest.mark.asyncio
    async def test_close_is_idempotent_and_final(self, transport: Transport, url: str) -> None:
        """After it every further exchange is refused."""
        await transport.aclose()
        await transport.aclose()
        with pytest.raises(ClosedError):
            async with ask(transport, url):
                pass
