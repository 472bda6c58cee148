"""Range requests on the wire (RFC 9110 §14).

Only this module knows inclusive positions: everything else speaks of half-open spans.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

import attrs

from cachestream.core.spans import UNBOUNDED, Span, SpanSet

__all__ = [
    "MAX_RANGES",
    "ContentRange",
    "RangeSpec",
    "content_range",
    "parse_content_range",
    "parse_range",
    "range_field",
    "resolve",
    "unsatisfied_range",
]

MAX_RANGES: Final = 16
"""More distinct ranges than this in one request and the Range field is ignored."""

# A client that lists the same bytes again and again is attacking, not playing.
_MAX_SPECS: Final = 256

# 18 digits fit a signed 64-bit integer with room to add; longer ones are no real position.
_SPEC: Final = re.compile(r"([0-9]{1,18})-([0-9]{0,18})|-([0-9]{1,18})")
_CONTENT_RANGE: Final = re.compile(
    r"bytes (?:([0-9]{1,18})-([0-9]{1,18})/(?:([0-9]{1,18})|\*)|\*/([0-9]{1,18}))",
    re.IGNORECASE,
)
_OWS: Final = " \t"


@attrs.frozen
class RangeSpec:
    """One range of a Range field, with the inclusive positions of the wire.

    Attributes:
        first_pos: Position of the first byte; None for a suffix.
        last_pos: Position of the last byte, inclusive; None for "to the end" or a suffix.
        suffix_length: How many of the last bytes; None unless it is a suffix.

    Raises:
        ValueError: If the three do not make one range.
    """

    first_pos: int | None = None
    last_pos: int | None = None
    suffix_length: int | None = None

    def __attrs_post_init__(self) -> None:
        if self.suffix_length is not None:
            fits = self.first_pos is None and self.last_pos is None and self.suffix_length >= 0
        else:
            fits = self.first_pos is not None and self.first_pos >= 0
            if fits and self.first_pos is not None and self.last_pos is not None:
                fits = self.last_pos >= self.first_pos
        if not fits:
            raise ValueError("not a range: give first_pos (and last_pos), or suffix_length")

    def __str__(self) -> str:
        if self.suffix_length is not None:
            return f"-{self.suffix_length}"
        return f"{self.first_pos}-{'' if self.last_pos is None else self.last_pos}"

    def span(self, complete_length: int) -> Span:
        """Return the bytes of a representation this long that it names; empty if none."""
        if self.suffix_length is not None:
            return Span(max(0, complete_length - self.suffix_length), complete_length)
        first = min(self.first_pos or 0, complete_length)
        if self.last_pos is None:
            return Span(first, complete_length)
        return Span(first, max(first, min(self.last_pos + 1, complete_length)))


def parse_range(value: str) -> tuple[RangeSpec, ...] | None:
    """Read a Range field; None means that it is to be ignored (RFC 9110 §14.2).

    Ignored are another unit than bytes, a malformed or descending range, positions of more
    than 18 digits, and more than `MAX_RANGES` ranges that do not overlap or touch. The
    specs come in the client's order; `resolve` merges them.
    """
    unit, equals, listed = value.strip(_OWS).partition("=")
    if not equals or unit.lower() != "bytes" or listed.count(",") >= _MAX_SPECS:
        return None
    specs: list[RangeSpec] = []
    for element in listed.split(","):
        text = element.strip(_OWS)
        if not text:  # RFC 9110 §5.6.1.2: empty elements of a list do not count
            continue
        spec = _parse_spec(text)
        if spec is None:
            return None
        specs.append(spec)
    if not specs or (len(specs) > MAX_RANGES and _count_distinct(specs) > MAX_RANGES):
        return None
    return tuple(specs)


def _parse_spec(text: str) -> RangeSpec | None:
    match = _SPEC.fullmatch(text)
    if match is None:
        return None
    first, last, suffix = match.groups()
    if suffix is not None:
        return RangeSpec(suffix_length=int(suffix))
    if not last:
        return RangeSpec(int(first))
    return RangeSpec(int(first), int(last)) if int(last) >= int(first) else None


def _count_distinct(specs: Iterable[RangeSpec]) -> int:
    """Count the ranges left after merging, as far as that is known without the length."""
    named = SpanSet()
    suffix = False
    for spec in specs:
        if spec.suffix_length is not None:
            suffix = True  # suffixes overlap one another
        else:
            named.add(spec.span(UNBOUNDED))
    return len(named) + suffix


def resolve(specs: tuple[RangeSpec, ...], complete_length: int) -> tuple[Span, ...]:
    """Return the spans to send for ``specs``; none means 416 (RFC 9110 §14.1.2, §14.2).

    Ends are clamped, ranges that cannot be satisfied left out, and those that overlap or
    touch become one, in the place of the first of them. So the spans are disjoint, and
    never hold more bytes than the representation.
    """
    result: list[Span] = []
    for spec in specs:
        span = spec.span(complete_length)
        if span and result:
            _merge_into(result, span)
        elif span:
            result.append(span)
    return tuple(result)


def _merge_into(spans: list[Span], span: Span) -> None:
    touched = [
        index
        for index, other in enumerate(spans)
        if span.start <= other.stop and other.start <= span.stop
    ]
    if not touched:
        spans.append(span)
        return
    parts = [span, *(spans[index] for index in touched)]
    spans[touched[0]] = Span(min(p.start for p in parts), max(p.stop for p in parts))
    for index in reversed(touched[1:]):
        del spans[index]


@attrs.frozen
class ContentRange:
    """What a Content-Range field says (RFC 9110 §14.4).

    Attributes:
        span: The bytes enclosed, half-open; None in a 416 (``bytes */N``).
        complete_length: Length of the representation in bytes; None if the origin does
            not know it (``*``).
    """

    span: Span | None
    complete_length: int | None


def parse_content_range(value: str) -> ContentRange | None:
    """Read a Content-Range field; None when it is malformed or of another unit.

    Nothing is repaired: a part whose place is in doubt must not be stored.
    """
    match = _CONTENT_RANGE.fullmatch(value.strip(_OWS))
    if match is None:
        return None
    first, last, length, unsatisfied = match.groups()
    if unsatisfied is not None:
        return ContentRange(None, int(unsatisfied))
    if int(first) > int(last) or (length is not None and int(last) >= int(length)):
        return None
    return ContentRange(Span(int(first), int(last) + 1), None if length is None else int(length))


def content_range(span: Span, complete_length: int | None) -> str:
    """Return the Content-Range value for a part, ``bytes 0-99/1000`` or ``bytes 0-99/*``.

    Raises:
        ValueError: If the span is empty or reaches past the complete length.
    """
    if not span or (complete_length is not None and span.stop > complete_length):
        raise ValueError(f"no part of {complete_length} bytes: {span}")
    length = "*" if complete_length is None else complete_length
    return f"bytes {span.start}-{span.stop - 1}/{length}"


def unsatisfied_range(complete_length: int | None) -> str:
    """Return the Content-Range value of a 416, ``bytes */1000``.

    RFC 9110 §15.5.17 has no form for an unknown length: a server had better leave the field
    out then. ``bytes */*``, which is given here for None, is what clients tolerate.
    """
    return f"bytes */{'*' if complete_length is None else complete_length}"


def range_field(start: int, stop: int | None) -> str:
    """Return the Range value that asks for ``[start, stop)``; to the end if ``stop`` is None.

    Raises:
        ValueError: If that is no byte at all.
    """
    if start < 0 or (stop is not None and stop <= start):
        raise ValueError(f"no bytes to ask for: [{start}, {stop})")
    return f"bytes={RangeSpec(start, None if stop is None else stop - 1)}"
