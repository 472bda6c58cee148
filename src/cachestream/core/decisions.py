"""What to make of an origin's answer: a pure judgement with a reason.

Every part is checked here before one of its bytes is stored: status, Content-Range,
complete length, validators and coding. The rule that two versions never mix lives in
`judge_reply` and nowhere else (RFC 9110 §13.1.5, §15.3.7; RFC 9111 §3.4).
"""

from __future__ import annotations

import enum
from typing import Final, TypeAlias

import attrs

from cachestream.core.fields import Fields, parse_directives, storable_fields
from cachestream.core.ranges import parse_content_range
from cachestream.core.representation import (
    Comparison,
    Representation,
    compare,
    selecting_for,
)
from cachestream.core.spans import Span
from cachestream.core.validators import parse_http_date

__all__ = [
    "TEMPORARY",
    "Accept",
    "AskWhole",
    "Asked",
    "Broken",
    "Outcome",
    "Redirect",
    "Refuse",
    "Reply",
    "Retry",
    "Unsatisfiable",
    "Verdict",
    "is_fresh",
    "is_linear",
    "is_storable",
    "judge_reply",
]

REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})
TEMPORARY: Final = frozenset({408, 425, 429, 500, 502, 503, 504})
"""Statuses worth another try: the origin says that it is not the resource's fault."""


class Outcome(enum.Enum):
    """How a request was answered, in the words of Cache-Status (RFC 9211 §2)."""

    HIT = "hit"
    MISS = "fwd=uri-miss"
    PARTIAL = "fwd=partial"
    STALE = "fwd=stale"
    BYPASS = "fwd=bypass"


@attrs.frozen(kw_only=True)
class Asked:
    """What was asked of the origin.

    Attributes:
        start: First byte asked for; None when no Range was sent.
        stop: One past the last byte asked for, None for an open range.
        suffix: Number of last bytes asked for instead.
        conditional: If-Range was sent.
        fields: The request fields as sent, for Vary.
    """

    start: int | None = None
    stop: int | None = None
    suffix: int | None = None
    conditional: bool = False
    fields: Fields = attrs.field(factory=Fields)

    @property
    def ranged(self) -> bool:
        """Whether the request carried a Range."""
        return self.start is not None or self.suffix is not None


@attrs.frozen(kw_only=True)
class Reply:
    """The head of an origin's answer, and when it was asked for and came."""

    status: int
    fields: Fields
    request_time: float = 0.0
    response_time: float = 0.0


@attrs.frozen
class Accept:
    """The content is of ``representation`` from byte ``start`` on.

    ``stop`` is where it ends if that is known. ``changed`` says that this is another version
    than the one known: what is held of that one is superseded.
    """

    representation: Representation
    start: int
    stop: int | None
    changed: bool = False


@attrs.frozen
class Redirect:
    """Ask ``location`` instead."""

    location: str


@attrs.frozen
class Retry:
    """The origin cannot answer now; ``retry_after`` is the raw field value."""

    status: int
    retry_after: str | None


@attrs.frozen
class Refuse:
    """The origin will not give content; clients get its status."""

    status: int


@attrs.frozen
class AskWhole:
    """The origin rejects a range that we made up: ask once more without Range."""


@attrs.frozen
class Unsatisfiable:
    """The range that the client asked for lies past the end."""

    complete_length: int | None


@attrs.frozen
class Broken:
    """The answer contradicts itself or the request; nothing of it can be used."""

    reason: str


Verdict: TypeAlias = Accept | Redirect | Retry | Refuse | AskWhole | Unsatisfiable | Broken


def is_storable(representation: Representation) -> bool:
    """Tell whether a private cache may keep it at all (RFC 9111 §3, §5.2.2.5)."""
    directives = parse_directives(representation.fields.joined("cache-control") or "")
    # Icecast streams have no end: they are passed on through a ring, not kept.
    endless = representation.complete_length is None and any(
        name.lower().startswith("icy-") for name, _ in representation.fields
    )
    return "no-store" not in directives and not endless


def is_fresh(representation: Representation, now: float) -> bool:
    """Tell whether the origin's explicit lifetime has not run out (RFC 9111 §4.2.1).

    Only ``max-age`` and Expires count; without either the answer is stale.
    """
    directives = parse_directives(representation.fields.joined("cache-control") or "")
    if "no-cache" in directives or "no-store" in directives:
        return False
    age = now - representation.response_time + _seconds(representation.fields.get("age"))
    if "max-age" in directives:
        return age < _seconds(directives["max-age"])
    expires = parse_http_date(representation.fields.get("expires") or "")
    date = parse_http_date(representation.fields.get("date") or "")
    if expires is None:
        return False
    return age < expires - (representation.response_time if date is None else date)


def _seconds(text: str | None) -> float:
    text = (text or "").strip()
    return float(text) if text.isascii() and text.isdigit() and len(text) <= 10 else 0.0


def is_linear(representation: Representation, *, trust_weak: bool) -> bool:
    """Tell whether the content can only be had in one exchange, from start to end.

    So it is when the origin has no ranges, and when parts of different exchanges could not
    be joined for want of a strong validator (RFC 9110 §15.3.7.3).
    """
    if representation.ranges is False or representation.complete_length is None:
        return True
    return representation.strong_validator is None and not trust_weak


def judge_reply(
    asked: Asked,
    known: Representation | None,
    reply: Reply,
    *,
    trust_weak: bool = False,
    essential_only: bool = False,
) -> Verdict:
    """Return what to do with ``reply``, given what was asked and what is known so far.

    Args:
        asked: The request that was sent.
        known: The representation of the entry that bytes would be added to, if any.
        reply: The answer's head.
        trust_weak: Join parts under a weak validator or none.
        essential_only: Keep only the essential fields.
    """
    status = reply.status
    if status in REDIRECTS:
        location = reply.fields.get("location")
        return Redirect(location) if location else Broken("a redirect without Location")
    if status in TEMPORARY:
        return Retry(status, reply.fields.get("retry-after"))
    if status == 416:
        return _judge_416(asked, known, reply)
    if status == 206:
        return _judge_206(asked, known, reply, trust_weak, essential_only)
    if status in (200, 203):
        return _judge_200(asked, known, reply, trust_weak, essential_only)
    if status < 200 or status == 304:
        return Broken(f"an unexpected status {status}")
    return Refuse(status)


def _judge_416(asked: Asked, known: Representation | None, reply: Reply) -> Verdict:
    """RFC 9110 §15.5.17: the current length may come in Content-Range."""
    told = parse_content_range(reply.fields.get("content-range") or "")
    length = None if told is None else told.complete_length
    if not asked.ranged:
        return Broken("416 to a request without Range")
    if length == 0 and known is None:
        return Accept(_representation(asked, reply, 0, None), 0, 0)
    past_end = length is not None and asked.start is not None and asked.start >= length
    if known is None and past_end and asked.start:
        return Unsatisfiable(length)
    return AskWhole()


def _judge_206(
    asked: Asked, known: Representation | None, reply: Reply, trust_weak: bool, essential: bool
) -> Verdict:
    if not asked.ranged:
        return Broken("206 to a request without Range")
    told = parse_content_range(reply.fields.get("content-range") or "")
    if told is None or told.span is None:
        return Broken("206 without a usable Content-Range")
    if asked.start is not None and told.span.start != asked.start:
        return Broken(f"Content-Range begins at {told.span.start}, not at {asked.start}")
    if asked.stop is not None and told.span.stop > asked.stop:
        return Broken(f"Content-Range ends at {told.span.stop}, after {asked.stop}")
    if asked.suffix is not None and not _is_suffix(told.span, told.complete_length, asked.suffix):
        return Broken("Content-Range is not the suffix that was asked for")
    told_bytes = _length_of(reply.fields)
    if told_bytes is not None and told_bytes != len(told.span):
        return Broken("Content-Length and Content-Range contradict each other")
    new = _representation(asked, reply, told.complete_length, True, essential)
    if known is None:
        return Accept(new, told.span.start, told.span.stop)
    verdict = compare(known, new)
    joins = verdict is Comparison.SAME_STRONG or (
        trust_weak and verdict is not Comparison.DIFFERENT
    )
    return Accept(
        _merge(known, new) if joins else new, told.span.start, told.span.stop, changed=not joins
    )


def _judge_200(
    asked: Asked, known: Representation | None, reply: Reply, trust_weak: bool, essential: bool
) -> Verdict:
    """A whole answer; to a range request it says that there are no ranges, or a new version."""
    length = _length_of(reply.fields)
    accepts = (reply.fields.get("accept-ranges") or "").strip().lower()
    ranges = None
    if accepts == "none" or (asked.ranged and not asked.conditional):
        ranges = False
    elif accepts == "bytes":
        ranges = True
    new = _representation(asked, reply, length, ranges, essential)
    if known is None:
        return Accept(new, 0, length)
    verdict = compare(known, new)
    if verdict is Comparison.SAME_STRONG or (trust_weak and verdict is not Comparison.DIFFERENT):
        # The same version, but not the range that was asked for: it has no ranges after all.
        same = attrs.evolve(_merge(known, new), ranges=False if asked.ranged else known.ranges)
        return Accept(same, 0, length)
    return Accept(new, 0, length, changed=True)


def _is_suffix(span: Span, length: int | None, suffix: int) -> bool:
    return length is not None and span.stop == length and len(span) == min(suffix, length)


def _length_of(fields: Fields) -> int | None:
    """Return Content-Length unless the framing overrides it (RFC 9112 §6.3)."""
    if fields.get("transfer-encoding") is not None:
        return None
    value = (fields.get("content-length") or "").strip()
    return int(value) if value.isascii() and value.isdigit() and len(value) <= 18 else None


def _representation(
    asked: Asked,
    reply: Reply,
    complete_length: int | None,
    ranges: bool | None,
    essential: bool = False,
) -> Representation:
    return Representation(
        status=200,
        fields=storable_fields(reply.fields, essential_only=essential),
        complete_length=complete_length,
        ranges=ranges,
        request_time=reply.request_time,
        response_time=reply.response_time,
        selecting=selecting_for(reply.fields.joined("vary"), asked.fields),
    )


def _merge(known: Representation, new: Representation) -> Representation:
    """Combine what two exchanges said of one version: the later fields win (RFC 9111 §3.4)."""
    fields = known.fields.replace(*new.fields)
    length = known.complete_length if new.complete_length is None else new.complete_length
    return attrs.evolve(
        new,
        fields=fields,
        complete_length=length,
        ranges=new.ranges if new.ranges is not None else known.ranges,
    )
