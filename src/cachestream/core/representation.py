"""What is known of one version of a resource (RFC 9110 §8, RFC 9111 §3)."""

from __future__ import annotations

import enum
import json
import math
from typing import Any, Final

import attrs

from cachestream.core.fields import Fields, is_field_value, is_token, split_list
from cachestream.core.spans import UNBOUNDED
from cachestream.core.validators import EntityTag, parse_http_date

__all__ = ["FORMAT", "Comparison", "Representation", "compare", "selecting_for"]

FORMAT: Final = 1
"""Number of the persisted form; a reader that does not know it treats the record as a miss."""


@attrs.frozen(kw_only=True)
class Representation:
    """One version of a resource: status, fields, length and the times of its exchange.

    Attributes:
        status: Status of the complete representation; a stored 206 counts as 200 (RFC 9111 §3.4).
        fields: End-to-end response fields of the complete representation. Content-Length and
            Content-Range are not among them: ``complete_length`` says it.
        complete_length: Length in bytes, None while it is unknown.
        ranges: Whether the origin answers range requests; None while it is not known.
        request_time: When the request was sent, seconds since the epoch.
        response_time: When the response head arrived, seconds since the epoch.
        selecting: Name (lower case) and value (None when absent) of the request fields that
            Vary names, as they were sent (RFC 9111 §4.1); `selecting_for` makes it.
    """

    status: int = 200
    fields: Fields = attrs.field(factory=Fields)
    complete_length: int | None = None
    ranges: bool | None = None
    request_time: float = 0.0
    response_time: float = 0.0
    selecting: tuple[tuple[str, str | None], ...] = ()

    @property
    def entity_tag(self) -> EntityTag | None:
        """The ETag, None when missing or malformed."""
        value = self.fields.get("etag")
        return None if value is None else EntityTag.parse(value)

    @property
    def last_modified(self) -> float | None:
        """Last-Modified in seconds since the epoch, None when missing or malformed."""
        value = self.fields.get("last-modified")
        return None if value is None else parse_http_date(value)

    @property
    def strong_date(self) -> bool:
        """Whether Last-Modified is a strong validator.

        It is when the origin's Date is at least a second later (RFC 9110 §8.8.2.2): no
        further change could then have got the same Last-Modified.
        """
        modified = self.last_modified
        date = parse_http_date(self.fields.get("date") or "")
        return modified is not None and date is not None and date - modified >= 1

    @property
    def strong_validator(self) -> str | None:
        """The field value to send in If-Range: a strong ETag, else a strong Last-Modified.

        None when the representation has no strong validator.
        """
        tag = self.entity_tag
        if tag is not None:
            return None if tag.weak else str(tag)
        return self.fields.get("last-modified") if self.strong_date else None

    def matches_request(self, request_fields: Fields) -> bool:
        """Tell whether Vary lets this answer a request with these fields (RFC 9111 §4.1).

        A representation with ``Vary: *`` answers no request.
        """
        return all(
            name != "*" and _selecting_value(request_fields, name) == value
            for name, value in self.selecting
        )

    def to_json(self) -> bytes:
        """Return the persisted form: UTF-8 JSON with a format number."""
        return json.dumps(
            {
                "format": FORMAT,
                "status": self.status,
                "fields": self.fields.lines,
                "complete_length": self.complete_length,
                "ranges": self.ranges,
                "request_time": self.request_time,
                "response_time": self.response_time,
                "selecting": self.selecting,
            },
            separators=(",", ":"),
        ).encode()

    @classmethod
    def from_json(cls, data: bytes) -> Representation:
        """Read what `to_json` wrote; fields it does not know are ignored.

        Raises:
            ValueError: If this is no such record, or one of another format.
        """
        try:
            record: Any = json.loads(data)
            number = record["format"]
            if type(number) is not int or number != FORMAT:
                raise ValueError(f"representation format {number!r} is not known")
            return cls(
                status=_whole(record["status"], 999),
                fields=_fields(record["fields"]),
                complete_length=_optional_length(record["complete_length"]),
                ranges=None if record["ranges"] is None else bool(record["ranges"]),
                request_time=_moment(record["request_time"]),
                response_time=_moment(record["response_time"]),
                selecting=tuple(
                    (str(name), None if value is None else str(value))
                    for name, value in record["selecting"]
                ),
            )
        except (KeyError, TypeError, OverflowError, RecursionError, ValueError) as exc:
            raise ValueError(f"not a stored representation: {exc}") from exc


def _whole(value: object, limit: int) -> int:
    if type(value) is not int or not 0 <= value <= limit:
        raise ValueError("a number is out of bounds")
    return value


def _optional_length(value: object) -> int | None:
    return None if value is None else _whole(value, UNBOUNDED)


def _moment(value: Any) -> float:
    moment = float(value)
    if not math.isfinite(moment):
        raise ValueError("a time is not finite")
    return moment


def _fields(lines: Any) -> Fields:
    # A record may have been planted: what it holds goes into a response head.
    fields = Fields(tuple((str(name), str(value)) for name, value in lines))
    if not all(is_token(name) and is_field_value(value) for name, value in fields):
        raise ValueError("a field cannot be sent")
    return fields


# ---------------------------------------------------------------------------
# Vary (RFC 9110 §12.5.5, RFC 9111 §4.1)
# ---------------------------------------------------------------------------


def selecting_for(vary: str | None, request_fields: Fields) -> tuple[tuple[str, str | None], ...]:
    """Return the selecting fields of a response: what Vary names, as the request had it.

    Args:
        vary: All Vary lines joined, None when there is none.
        request_fields: The fields that were sent to the origin.

    Returns:
        Sorted lower-case names, each with its value (lists in one normal form) or None where
        the request had none. ``*`` stands alone, as ``("*", None)``.
    """
    names = {name.lower() for name in split_list(vary or "") if is_token(name)}
    if "*" in names:
        return (("*", None),)
    return tuple((name, _selecting_value(request_fields, name)) for name in sorted(names))


def _selecting_value(fields: Fields, name: str) -> str | None:
    """Return a value that is equal for requests which RFC 9111 §4.1 lets us take for equal."""
    value = fields.joined(name)
    return None if value is None else ", ".join(split_list(value))


# ---------------------------------------------------------------------------
# Is it still the same?
# ---------------------------------------------------------------------------


class Comparison(enum.Enum):
    """What two descriptions of one resource say about its bytes."""

    SAME_STRONG = "same-strong"
    """The same bytes: parts of both may be joined."""

    SAME_WEAK = "same-weak"
    """As good as the same for a reader, but parts must not be joined."""

    DIFFERENT = "different"
    """Another version."""

    UNKNOWN = "unknown"
    """Nothing tells."""


def compare(old: Representation, new: Representation) -> Comparison:
    """Judge whether ``new`` describes the version that ``old`` does (RFC 9110 §8.8).

    Known lengths or content codings that differ settle it, then entity tags, then
    Last-Modified. An entity tag on one side only counts for nothing, but what the dates say
    is then weak. Both must describe a complete representation: complete a 304 with the
    stored fields first.
    """
    lengths = (old.complete_length, new.complete_length)
    if None not in lengths and lengths[0] != lengths[1]:
        return Comparison.DIFFERENT
    if _codings(old) != _codings(new):
        return Comparison.DIFFERENT
    tags = (old.entity_tag, new.entity_tag)
    if tags[0] is not None and tags[1] is not None:
        if tags[0].strong_match(tags[1]):
            return Comparison.SAME_STRONG
        return Comparison.SAME_WEAK if tags[0].weak_match(tags[1]) else Comparison.DIFFERENT
    if old.last_modified is None or new.last_modified is None:
        return Comparison.UNKNOWN
    if old.last_modified != new.last_modified:
        return Comparison.DIFFERENT
    # It is the older Date that matters: from then on no change could get this Last-Modified.
    strong = tags == (None, None) and old.strong_date
    return Comparison.SAME_STRONG if strong else Comparison.SAME_WEAK


def _codings(representation: Representation) -> tuple[str, ...]:
    """Return the content codings applied, in order; ``identity`` is none (RFC 9110 §8.4)."""
    listed = split_list((representation.fields.joined("content-encoding") or "").lower())
    return tuple(coding for coding in listed if coding != "identity")
