"""Makes the heads of answers: fields shared by many answers, and those of one alone."""

from __future__ import annotations

from typing import Final
from weakref import WeakKeyDictionary

from cachestream.abc import END, Answer, AnswerHead, Body, Buffer, End, Piece
from cachestream.core.decisions import Outcome
from cachestream.core.fields import Fields, end_to_end
from cachestream.core.media_types import guess_media_type
from cachestream.core.ranges import unsatisfied_range
from cachestream.core.representation import Representation
from cachestream.errors import (
    CacheStreamError,
    ConnectError,
    NotStoredError,
    RangeNotSatisfiableError,
    TLSError,
    UpstreamStatusError,
    UpstreamTimeoutError,
)

from .context import EngineContext
from .resource import Resource

__all__ = ["EMPTY", "HeadMaker", "PageBody", "error_answer", "status_answer"]

GUARD: Final = (
    ("Content-Security-Policy", "sandbox"),
    ("X-Content-Type-Options", "nosniff"),
    ("Cross-Origin-Resource-Policy", "same-origin"),
)
"""Cached content comes from strangers but is served from our origin: it may not act there."""

COPIED: Final = frozenset(
    {
        "cache-control",
        "content-disposition",
        "content-encoding",
        "content-language",
        "date",
        "etag",
        "expires",
        "last-modified",
    }
)
"""Stored fields that every answer carries; the rest only when the setting says so."""

OPAQUE_TYPES: Final = frozenset({"", "application/octet-stream", "binary/octet-stream"})


class PageBody(Body):
    """A short text in memory."""

    def __init__(self, content: Buffer = b"") -> None:
        self._rest = memoryview(content)

    def take_nowait(self, limit: int) -> Piece | End:
        if not self._rest:
            return END
        piece, self._rest = self._rest[:limit], self._rest[limit:]
        return piece

    async def next(self, limit: int) -> Piece | End:
        return self.take_nowait(limit)

    def close(self) -> None:
        """Nothing is held."""


EMPTY: Final = PageBody()
"""The body of answers without content; it has no state to share."""


class HeadMaker:
    """Makes one `AnswerHead` a version and status, so that a frontend renders it once."""

    def __init__(self, context: EngineContext) -> None:
        self._context = context
        self._made: WeakKeyDictionary[Resource, tuple[Representation, dict[int, AnswerHead]]] = (
            WeakKeyDictionary()
        )

    def make(self, resource: Resource, representation: Representation, status: int) -> AnswerHead:
        """Return the head for an answer of ``status`` from this version."""
        made = self._made.get(resource)
        if made is None or made[0] is not representation:
            made = (representation, {})
            self._made[resource] = made
        head = made[1].get(status)
        if head is None:
            head = made[1][status] = AnswerHead(status, _fields(resource, representation))
        return head

    def own_fields(
        self, resource: Resource, representation: Representation, outcome: Outcome
    ) -> tuple[tuple[str, str], ...]:
        """Return Age, Cache-Status and Server-Timing (RFC 9111 §5.1, RFC 9211)."""
        age = ("Age", str(self._age(representation)))
        status = f"cachestream; {outcome.value}"
        timing = f"cache;desc={outcome.value.removeprefix('fwd=')}"
        if outcome is Outcome.HIT:
            return (age, ("Cache-Status", status), ("Server-Timing", timing))
        if not resource.is_ephemeral:
            status += "; stored"
        waited_ms = max(0.0, representation.response_time - representation.request_time) * 1000
        timing += f", origin;dur={waited_ms:.1f}"
        return (age, ("Cache-Status", status), ("Server-Timing", timing))

    def born(self, representation: Representation) -> float:
        """Return when the content was of age 0, in seconds since the epoch (RFC 9111 §4.2.3)."""
        told = (representation.fields.get("age") or "0").strip()
        initial = int(told) if told.isascii() and told.isdigit() and len(told) <= 10 else 0
        return representation.response_time - initial

    def _age(self, representation: Representation) -> int:
        """Return the current age in whole seconds."""
        return max(0, int(self._context.clock() - self.born(representation)))


def _fields(resource: Resource, representation: Representation) -> Fields:
    stored = end_to_end(representation.fields).without("age", "accept-ranges", "cache-status")
    settings = resource.settings
    if not settings.copy_cached_response_headers:
        stored = stored.filter(lambda name: name in COPIED or name == "content-type")
    media_type = (stored.get("content-type") or "").split(";")[0].strip().lower()
    if media_type in OPAQUE_TYPES:
        guess = guess_media_type(resource.source) or "application/octet-stream"
        stored = stored.replace(("Content-Type", guess))
    if representation.complete_length is not None:
        stored = stored.replace(("Accept-Ranges", "bytes"))
    stored = stored.replace(*GUARD)
    return stored.replace(*settings.response_headers.items())


def status_answer(status: int, text: str, *extra: tuple[str, str]) -> Answer:
    """Return an answer that says one thing in plain text."""
    return _page(status, f"{text}\n".encode(), "text/plain; charset=utf-8", extra)


def error_answer(error: CacheStreamError) -> Answer:
    """Return the answer for an error: its status hint, and what to do about it.

    An origin's refusal is forwarded with the beginning of its own page.
    """
    if isinstance(error, UpstreamStatusError):
        return _forwarded(error)
    extra: list[tuple[str, str]] = []
    if isinstance(error, RangeNotSatisfiableError) and error.complete_length is not None:
        extra.append(("Content-Range", unsatisfied_range(error.complete_length)))
    if error.status_hint in (502, 504):
        extra.append(("Proxy-Status", f"cachestream; error={_proxy_error(error)}"))
    extra.append(("Cache-Status", f"cachestream; fwd=miss; detail={error.outcome}"))
    return status_answer(error.status_hint, str(error), *extra)


def _forwarded(error: UpstreamStatusError) -> Answer:
    extra = [
        ("Cache-Status", f"cachestream; fwd=miss; fwd-status={error.status}"),
        ("Proxy-Status", f"cachestream; received-status={error.status}"),
    ]
    if error.retry_after is not None and error.retry_after.isprintable():
        extra.append(("Retry-After", error.retry_after))
    media_type = error.media_type or "text/plain; charset=utf-8"
    if not media_type.isprintable():
        media_type = "application/octet-stream"
    return _page(error.status, error.content, media_type, tuple(extra))


def _page(
    status: int, content: bytes, media_type: str, extra: tuple[tuple[str, str], ...]
) -> Answer:
    fields = Fields.of(("Content-Type", media_type), ("Cache-Control", "no-store"), *GUARD)
    return Answer(AnswerHead(status, fields), extra, len(content), PageBody(content))


def _proxy_error(error: CacheStreamError) -> str:
    """Return the error type for Proxy-Status (RFC 9209 §2.3)."""
    match error:
        case NotStoredError():
            return "destination_unavailable"
        case TLSError():
            return "tls_protocol_error"
        case ConnectError():
            return "destination_unavailable"
        case UpstreamTimeoutError():
            return "http_response_timeout"
        case _:
            return "http_protocol_error"
