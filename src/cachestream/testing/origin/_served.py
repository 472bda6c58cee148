"""One file of an origin, its knobs, and the record of a request for it."""

from __future__ import annotations

import asyncio
import gzip
from collections.abc import Callable, Mapping
from email.utils import formatdate
from typing import Any, Final, Literal, TypeAlias

import attrs

from cachestream.core.fields import Fields
from cachestream.testing.origin._content import BytesContent, Content

__all__ = ["Data", "OriginRequest", "Served"]

_SAME: Final = object()
_FIRST_MODIFIED: Final = 1_700_000_000.0


@attrs.frozen(kw_only=True)
class OriginRequest:
    """A request an origin received, and what became of it.

    Attributes:
        method: As sent.
        target: The raw request target, query included.
        fields: As sent.
        version: HTTP version, ``(1, 1)``.
        connection: Number of the connection, counted from 1.
        when: When its head had arrived, seconds since the epoch.
        status: Status of the answer, 0 before its head was sent.
        bytes_sent: Content bytes given to the socket so far.
        done: Whether the answer has ended, well or not.
    """

    method: str
    target: str
    fields: Fields
    version: tuple[int, int] = (1, 1)
    connection: int = 0
    when: float = 0.0
    status: int = 0
    bytes_sent: int = 0
    done: bool = False

    @property
    def path(self) -> str:
        """The target less its query, and less the authority of an absolute form."""
        path = self.target.partition("?")[0]
        if "://" in path:
            path = "/" + path.partition("://")[2].partition("/")[2]
        return path

    @property
    def range(self) -> str | None:
        """The Range field's value."""
        return self.fields.get("Range")


Data: TypeAlias = bytes | Content | Callable[[OriginRequest], "bytes | Content"]
"""Bytes, content, or a function that makes either for each request."""


def _http_date(value: float | str | None) -> str | None:
    return formatdate(value, usegmt=True) if isinstance(value, int | float) else value


@attrs.define(eq=False, kw_only=True)
class Served:
    """A file of an `Origin`; every attribute may be changed at any time.

    A change counts from the next request on, but for `rate`, which counts at once. Counters
    that end in ``_times`` go down by one for each request they apply to; None is for ever.

    Attributes:
        data: The content, or a function from the request to it.
        etag: Entity tag with its quotes (``W/"…"`` for a weak one), None for none.
        last_modified: Seconds since the epoch, or the field's text, or None for none.
        content_type: Content-Type, None for none.
        cache_control: Cache-Control, None for none.
        date: True for a right Date field, False for none, or its text.
        fields: Further fields; one that is named here replaces the one made otherwise.
        ranges: Whether Range is understood; if not, it is ignored and not advertised.
        range_answer: ``honest``; ``full``: 200 to any request, though ranges are advertised;
            ``partial``: 206 to every request; ``416`` to every request.
        framing: How the content's end is marked: Content-Length, chunks, or the connection's end.
        http10: Answer as HTTP/1.0: no chunks, no persistent connection.
        close: Close the connection after each answer.
        gzip: Send the content gzip-coded, whatever was asked.
        head: Whether HEAD is allowed (else 405).
        status: Answer with this status instead, None for none; see `fail`.
        status_times: For how many requests.
        status_body: Content of that answer.
        retry_after: Retry-After of that answer.
        redirect: Location to redirect to, None for none.
        redirect_status: Status of the redirection.
        require: Returns a status to refuse a request with, or None to serve it.
        plan: Returns attributes of this object to change for one request only, by name; such
            a request uses up no counter.
        interim: Status codes (1xx) of heads that come before the real one.
        raw_head: Bytes sent instead of a head; the content follows.
        content_range: Text of Content-Range instead of the right one; ``shifted`` by one,
            ``length`` (a wrong complete length), or ``missing``.
        content_length: Content-Length instead of the right one.
        short_by: Leave out so many bytes at the end. Chunks still end well, otherwise the
            connection closes before Content-Length is reached.
        long_by: Send so many bytes, or these bytes, more than announced.
        broken_chunk_after: Send a wrong chunk size after so many bytes of content.
        drop_after: Drop the connection after so many bytes of content; negative: before the head.
        drop_times: For how many requests.
        drop_reset: Drop by RST instead of FIN; the peer may then lose bytes that were sent.
        stall_after: Fall silent after so many bytes of content.
        stall_times: For how many requests.
        stall_gate: Set it to go on after a stall; None stalls until the client leaves.
        rate: Content bytes a second and connection, None for as fast as possible.
        latency: Seconds before the head.
        gate: Answers wait for this event before their head; None for no wait.
    """

    data: Data
    etag: str | None = '"v1"'
    last_modified: float | str | None = attrs.field(
        default=_FIRST_MODIFIED, converter=_http_date, on_setattr=attrs.setters.convert
    )
    content_type: str | None = "application/octet-stream"
    cache_control: str | None = None
    date: bool | str = True
    fields: tuple[tuple[str, str], ...] = ()
    ranges: bool = True
    range_answer: Literal["honest", "full", "partial", "416"] = "honest"
    framing: Literal["length", "chunked", "close"] = "length"
    http10: bool = False
    close: bool = False
    gzip: bool = False
    head: bool = True
    status: int | None = None
    status_times: int | None = None
    status_body: bytes = b"refused"
    retry_after: str | int | None = None
    redirect: str | None = None
    redirect_status: int = 302
    require: Callable[[OriginRequest], int | None] | None = None
    plan: Callable[[OriginRequest], Mapping[str, Any] | None] | None = None
    interim: tuple[int, ...] = ()
    raw_head: bytes | None = None
    content_range: str | None = None
    content_length: int | None = None
    short_by: int = 0
    long_by: int | bytes = 0
    broken_chunk_after: int | None = None
    drop_after: int | None = None
    drop_times: int | None = None
    drop_reset: bool = False
    stall_after: int | None = None
    stall_times: int | None = None
    stall_gate: asyncio.Event | None = None
    rate: float | None = None
    latency: float = 0.0
    gate: asyncio.Event | None = None

    def change(self, data: Data, *, etag: Any = _SAME, last_modified: Any = _SAME) -> None:
        """Serve another version from the next request on; answers under way keep theirs.

        Args:
            data: The new content.
            etag: The new entity tag; left out, the old one stays (which is a lie worth testing).
            last_modified: The new time; left out, the old one stays.
        """
        self.data = data
        if etag is not _SAME:
            self.etag = etag
        if last_modified is not _SAME:
            self.last_modified = last_modified

    def fail(
        self,
        status: int,
        times: int | None = None,
        *,
        body: bytes = b"refused",
        retry_after: str | int | None = None,
    ) -> None:
        """Answer with ``status`` for the next ``times`` requests (None: for ever)."""
        self.status, self.status_times = status, times
        self.status_body, self.retry_after = body, retry_after

    def drop(self, after: int, times: int | None = 1, *, reset: bool = False) -> None:
        """Drop the next ``times`` connections (None: all) after so many bytes of content."""
        self.drop_after, self.drop_times, self.drop_reset = after, times, reset

    def stall(
        self, after: int, times: int | None = 1, *, gate: asyncio.Event | None = None
    ) -> None:
        """Fall silent after so many bytes of content, until ``gate`` is set."""
        self.stall_after, self.stall_times, self.stall_gate = after, times, gate

    def take(self, name: Literal["status", "drop", "stall"]) -> bool:
        """Use up one of the counter ``<name>_times``; False when it has run out."""
        counter = f"{name}_times"
        left: int | None = getattr(self, counter)
        if left is None:
            return True
        if left <= 0:
            return False
        setattr(self, counter, left - 1)
        return True

    def content(self, request: OriginRequest) -> Content:
        """Return what a request gets, coded as the knobs say."""
        data = self.data(request) if callable(self.data) else self.data
        content = BytesContent(data) if isinstance(data, bytes) else data
        if not self.gzip:
            return content
        if content.length is None:
            raise ValueError("content without end cannot be coded")
        return BytesContent(gzip.compress(content.bytes(0, content.length), mtime=0))
