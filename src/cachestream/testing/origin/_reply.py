"""What an origin answers: HTTP's rules for ranges and preconditions, and the lies on top.

Nothing here uses the parsers of `cachestream.core`: an origin that shared their mistakes
could not find them.
"""

from __future__ import annotations

import re
import time
from email.utils import formatdate, parsedate_to_datetime
from typing import Final, Literal

import attrs

from cachestream.testing.origin._content import BytesContent, Content
from cachestream.testing.origin._served import OriginRequest, Served

__all__ = ["Reply", "decide", "simple"]

_RANGE: Final = re.compile(r"bytes=\s*(\d*)-(\d*)\s*", re.IGNORECASE)
_NO_CONTENT: Final = BytesContent(b"")


@attrs.define(kw_only=True)
class Reply:
    """An answer before it is sent; content is ``[start, stop)`` of ``content``.

    ``stop`` is None for content without end. ``length`` is what Content-Length says.
    """

    status: int
    fields: list[tuple[str, str]] = attrs.field(factory=list)
    content: Content = _NO_CONTENT
    start: int = 0
    stop: int | None = 0
    length: int | None = 0
    framing: Literal["length", "chunked", "close"] = "length"


def simple(status: int, body: bytes = b"", *fields: tuple[str, str]) -> Reply:
    """Return a short answer."""
    return Reply(
        status=status,
        fields=[("Content-Type", "text/plain"), *fields],
        content=BytesContent(body),
        stop=len(body),
        length=len(body),
    )


def decide(served: Served, request: OriginRequest) -> Reply:
    """Return the answer to ``request``, right but for what the knobs of ``served`` say."""
    reply = _refusal(served, request) or _answer(served, request)
    extra = {name.lower() for name, _ in served.fields}
    reply.fields = [line for line in reply.fields if line[0].lower() not in extra]
    reply.fields += served.fields
    return reply


def _refusal(served: Served, request: OriginRequest) -> Reply | None:
    if served.status is not None and served.take("status"):
        retry = () if served.retry_after is None else (("Retry-After", str(served.retry_after)),)
        return simple(served.status, served.status_body, *retry)
    if served.require is not None:
        status = served.require(request)
        if status is not None:
            return simple(status, b"refused")
    if request.method == "HEAD" and not served.head:
        return simple(405, b"", ("Allow", "GET"))
    if request.method not in {"GET", "HEAD"}:
        return simple(405, b"", ("Allow", "GET, HEAD"))
    if served.redirect is not None:
        return simple(served.redirect_status, b"moved", ("Location", served.redirect))
    return None


def _answer(served: Served, request: OriginRequest) -> Reply:
    content = served.content(request)
    fields = _description(served)
    status = _precondition(served, request)
    if status is not None:
        return Reply(status=status, fields=fields)
    asked = _range(served, request, content.length)
    if asked == "unsatisfiable" or served.range_answer == "416":
        fields.append(("Content-Range", f"bytes */{content.length}"))
        return Reply(status=416, fields=fields)
    if isinstance(asked, tuple):
        return _partial(served, content, fields, asked)
    return _whole(served, content, fields)


def _description(served: Served) -> list[tuple[str, str]]:
    fields = [] if served.date is False else [("Date", _date(served.date))]
    if served.ranges:
        fields.append(("Accept-Ranges", "bytes"))
    for name, value in (
        ("Content-Type", served.content_type),
        ("ETag", served.etag),
        ("Last-Modified", served.last_modified),
        ("Cache-Control", served.cache_control),
        ("Content-Encoding", "gzip" if served.gzip else None),
    ):
        if value is not None:
            fields.append((name, str(value)))
    return fields


def _date(date: bool | str) -> str:
    return date if isinstance(date, str) else formatdate(time.time(), usegmt=True)


def _whole(served: Served, content: Content, fields: list[tuple[str, str]]) -> Reply:
    framing = served.framing
    if content.length is None and framing == "length":
        framing = "chunked"
    return Reply(
        status=200,
        fields=fields,
        content=content,
        stop=content.length,
        length=content.length,
        framing=framing,
    )


def _partial(
    served: Served, content: Content, fields: list[tuple[str, str]], span: tuple[int, int]
) -> Reply:
    start, stop = span
    complete = content.length
    lie = served.content_range
    if lie == "shifted":
        fields.append(("Content-Range", f"bytes {start + 1}-{stop}/{complete}"))
    elif lie == "length":
        fields.append(("Content-Range", f"bytes {start}-{stop - 1}/{(complete or 0) + 1}"))
    elif lie is None:
        fields.append(("Content-Range", f"bytes {start}-{stop - 1}/{complete}"))
    elif lie != "missing":
        fields.append(("Content-Range", lie))
    return Reply(
        status=206,
        fields=fields,
        content=content,
        start=start,
        stop=stop,
        length=stop - start,
        framing=served.framing,
    )


def _range(
    served: Served, request: OriginRequest, length: int | None
) -> tuple[int, int] | Literal["unsatisfiable"] | None:
    """Return the half-open span to send, or None for all of it (RFC 9110 §14.2)."""
    if length is None:
        return None
    if served.range_answer == "partial" and request.range is None:
        return (0, length) if length else None
    if not served.ranges or served.range_answer == "full" or request.range is None:
        return None
    # RFC 9110 §14.2: Range is defined for GET only.
    if request.method != "GET" or not _if_range(served, request):
        return None
    match = _RANGE.fullmatch(request.range)
    if match is None or match.group(1) == match.group(2) == "":
        return None
    return _satisfy(match.group(1), match.group(2), length)


def _satisfy(
    first: str, last: str, length: int
) -> tuple[int, int] | Literal["unsatisfiable"] | None:
    if not first:
        suffix = min(int(last), length)
        return (length - suffix, length) if suffix else "unsatisfiable"
    start = int(first)
    stop = min(int(last) + 1, length) if last else length
    if last and int(last) < start:
        return None
    return (start, stop) if start < length else "unsatisfiable"


def _if_range(served: Served, request: OriginRequest) -> bool:
    """Tell whether If-Range lets the range stand: strong comparison (RFC 9110 §13.1.5)."""
    wanted = request.fields.get("If-Range")
    if wanted is None:
        return True
    if wanted.startswith(('"', "W/")):
        return wanted == served.etag and not wanted.startswith("W/")
    return wanted == served.last_modified


def _precondition(served: Served, request: OriginRequest) -> int | None:
    """Evaluate the preconditions in the order of RFC 9110 §13.2.2."""
    fields = request.fields
    modified = str(served.last_modified) if served.last_modified is not None else None
    wanted = fields.joined("If-Match")
    if wanted is not None:
        if not _matches(wanted, served.etag, weak=False):
            return 412
    elif _order(modified, fields.get("If-Unmodified-Since")) == "later":
        return 412
    unwanted = fields.joined("If-None-Match")
    if unwanted is not None:
        return 304 if _matches(unwanted, served.etag, weak=True) else None
    if _order(modified, fields.get("If-Modified-Since")) == "not later":
        return 304
    return None


def _matches(listed: str, etag: str | None, *, weak: bool) -> bool:
    if listed.strip() == "*":
        return True
    if etag is None or (not weak and etag.startswith("W/")):
        return False
    tags = re.findall(r'(?:W/)?"[^"]*"', listed)
    if weak:
        return etag.removeprefix("W/") in {tag.removeprefix("W/") for tag in tags}
    return etag in tags


def _order(modified: str | None, than: str | None) -> Literal["later", "not later"] | None:
    """Compare two dates; None when one is absent or unreadable, and so to be ignored."""
    if modified is None or than is None:
        return None
    try:
        later = parsedate_to_datetime(modified) > parsedate_to_datetime(than)
    except ValueError:
        return None
    return "later" if later else "not later"
