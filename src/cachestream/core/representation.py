"""What is known of one version of a resource (RFC 9110 §8, RFC 9111 §3)."""

from __future__ import annotations

import json
from typing import Any, Final

import attrs

from cachestream.core.fields import Fields
from cachestream.core.validators import EntityTag, parse_http_date

__all__ = ["FORMAT", "Representation"]

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
            Vary names, as they were sent (RFC 9111 §4.1).
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
    def strong_validator(self) -> str | None:
        """The field value to send in If-Range: a strong ETag, else a strong Last-Modified.

        A Last-Modified is strong when the origin's Date is at least a second later
        (RFC 9110 §8.8.2.2). None when the representation has no strong validator.
        """
        tag = self.entity_tag
        if tag is not None:
            return None if tag.weak else str(tag)
        modified = self.last_modified
        date = parse_http_date(self.fields.get("date") or "")
        if modified is not None and date is not None and date - modified >= 1:
            return self.fields.get("last-modified")
        return None

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
            if record["format"] != FORMAT:
                raise ValueError(f"representation format {record['format']!r} is not known")
            length = record["complete_length"]
            if length is not None and (type(length) is not int or length < 0):
                raise ValueError("complete_length is not a length")
            return cls(
                status=int(record["status"]),
                fields=Fields(tuple((str(k), str(v)) for k, v in record["fields"])),
                complete_length=length,
                ranges=None if record["ranges"] is None else bool(record["ranges"]),
                request_time=float(record["request_time"]),
                response_time=float(record["response_time"]),
                selecting=tuple(
                    (str(k), None if v is None else str(v)) for k, v in record["selecting"]
                ),
            )
        except (KeyError, TypeError, UnicodeDecodeError, json.JSONDecodeError) as exc:
            raise ValueError(f"not a stored representation: {exc}") from exc
