"""Several ranges in one answer: ``multipart/byteranges`` (RFC 9110 §14.6, RFC 2046 §5.1)."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property

import attrs

from cachestream.core.ranges import content_range
from cachestream.core.spans import Span

__all__ = ["ByteRanges"]


@attrs.define(slots=False, frozen=True, kw_only=True)
class ByteRanges:
    """The framing around the parts of one answer; the parts' bytes come from elsewhere.

    Attributes:
        spans: The parts, in the order they are sent; at least one.
        complete_length: Length of the whole representation in bytes.
        media_type: Content-Type of the representation, None for none.
        boundary: What separates the parts: up to 70 letters and digits that are in none of them,
            which 128 random bits make certain enough.
    """

    spans: tuple[Span, ...]
    complete_length: int
    media_type: str | None
    boundary: str

    @property
    def content_type(self) -> str:
        """Content-Type of the answer."""
        return f"multipart/byteranges; boundary={self.boundary}"

    @cached_property
    def length(self) -> int:
        """Content-Length of the answer in bytes."""
        return sum(len(piece) for piece in self)

    def __iter__(self) -> Iterator[bytes | Span]:
        """Yield what is sent, in order: framing as bytes, content as spans."""
        for number, span in enumerate(self.spans):
            yield self._head(span, first=number == 0)
            yield span
        yield f"\r\n--{self.boundary}--\r\n".encode()

    def _head(self, span: Span, *, first: bool) -> bytes:
        lines = [f"--{self.boundary}"] if first else ["", f"--{self.boundary}"]
        if self.media_type is not None:
            lines.append(f"Content-Type: {self.media_type}")
        lines.append(f"Content-Range: {content_range(span, self.complete_length)}")
        return "\r\n".join([*lines, "", ""]).encode("utf-8", "surrogateescape")
