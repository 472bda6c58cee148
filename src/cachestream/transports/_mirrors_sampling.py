"""Comparing a few random held bytes with those of a place that was not asked before."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence

import attrs

from cachestream.abc import Buffer, UpstreamResponse
from cachestream.core.ranges import parse_content_range
from cachestream.core.spans import Span
from cachestream.errors import UpstreamProtocolError, UpstreamStatusError, UpstreamTimeoutError
from cachestream.transports._mirrors_identity import Marks, marks_of

__all__ = ["Finding", "Sampling", "compare_samples"]


@attrs.frozen(kw_only=True)
class Sampling:
    """How much is compared, and how long that may take.

    Attributes:
        count: Number of places in the content.
        size: Bytes at each, at most.
        timeout: Seconds for all of them.
    """

    count: int = 3
    size: int = 16 * 1024
    timeout: float = 15.0


@attrs.frozen
class Finding:
    """What came of a comparison.

    Attributes:
        same: Whether all samples are equal; None if nothing could be compared.
        span: Where bytes differ, None if the place spoke of another representation.
    """

    same: bool | None
    span: Span | None = None


async def compare_samples(
    samples: Sequence[tuple[Span, Buffer]],
    marks: Marks,
    ask: Callable[[Span], Awaitable[UpstreamResponse]],
    timeout: float,
) -> Finding:
    """Fetch each sample's span from one place and compare.

    Args:
        samples: What is held.
        marks: What the place said of its representation; it must go on to say so.
        ask: Asks the place for a span.
        timeout: Seconds for all of them; a place that gives a byte a second is of no use.

    Raises:
        TransportError: If the place fails, or takes too long.
    """
    try:
        async with asyncio.timeout(timeout):
            for span, held in samples:
                finding = await _compare(span, held, marks, ask)
                if not finding.same:
                    return finding
    except TimeoutError:
        raise UpstreamTimeoutError(
            f"a few bytes to compare took longer than {timeout:g} s"
        ) from None
    return Finding(True if samples else None)


async def _compare(
    span: Span,
    held: Buffer,
    marks: Marks,
    ask: Callable[[Span], Awaitable[UpstreamResponse]],
) -> Finding:
    async with await ask(span) as response:
        if response.status in {200, 416}:
            return Finding(None)  # it has no ranges, so there is no way to ask for a few bytes
        if response.status != 206:
            raise UpstreamStatusError(
                f"a mirror answered {response.status}", status=response.status, url=response.url
            )
        place = parse_content_range(response.fields.get("content-range") or "")
        if place is None or place.span != span:
            raise UpstreamProtocolError("a mirror sent another range", url=response.url)
        told = marks_of(response).completed(marks)
        if (told.length, told.validators) != (marks.length, marks.validators):
            return Finding(False)  # it has changed since its first answer
        sink = _Few(len(span))
        await response.pour(sink)
        return Finding(True) if bytes(sink.content) == bytes(held) else Finding(False, span)


class _Few:
    """A sink for so many bytes and no more."""

    def __init__(self, wanted: int) -> None:
        self.content = bytearray()
        self._wanted = wanted

    def write(self, piece: Buffer) -> bool:
        self.content += memoryview(piece)[: self._wanted + 1 - len(self.content)]
        # Read on to the end of what was asked for: that keeps the connection.
        return len(self.content) <= self._wanted

    async def drain(self) -> bool:
        return False
