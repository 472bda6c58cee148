"""The transport whose upstream is any fsspec filesystem, answered as an HTTP origin would."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final, Self, TypeAlias, TypeVar

import attrs

from cachestream.abc import Buffer, Transport, UpstreamRequest, UpstreamResponse
from cachestream.core.fields import Fields
from cachestream.core.media_types import guess_media_type
from cachestream.core.ranges import content_range, parse_range, resolve, unsatisfied_range
from cachestream.core.spans import Span
from cachestream.core.validators import (
    Precondition,
    evaluate_preconditions,
    format_http_date,
    if_range_matches,
)
from cachestream.errors import ClosedError, ConfigurationError, TransportError, UpstreamTimeoutError
from cachestream.settings import Settings
from cachestream.transports._filesystem_access import LOCAL, PIECE, Access, Filesystems, Place
from cachestream.transports._filesystem_facts import Facts, failure, status_of

__all__ = ["FilesystemTransport"]

SCHEMES: Final = ("abfs", "az", "ftp", "gs", "hdfs", "memory", "s3", "sftp", "smb", "webhdfs")
_HTTP: Final = frozenset({"http", "https"})

_NOTHING: Final = Span(0, 0)

_Head: TypeAlias = tuple[int, Fields, Span | None]
"""Status, fields, and the bytes to send, None for all there are."""

_T = TypeVar("_T")


@attrs.frozen(kw_only=True)
class FilesystemOptions:
    """What a configuration says of a `FilesystemTransport`; see there."""

    schemes: tuple[str, ...] = attrs.field(default=SCHEMES, metadata={"help": "what to serve"})
    storage_options: Mapping[str, Mapping[str, Any]] = attrs.field(
        factory=dict,
        metadata={
            "help": "credentials and endpoints by scheme, or by ftp://host",
            "secret": True,
        },
    )
    allow_file: bool = attrs.field(
        default=False, metadata={"help": "serve all files that this process can read, too"}
    )


class FilesystemTransport(Transport):
    """Fetches from filesystems: ``s3://bucket/key``, ``ftp://host/path``, ``memory://a/b``.

    HEAD and GET, one range, and all conditions are answered as an HTTP origin would. The
    entity tag is made of what the filesystem says: a tag or checksum of its own, else inode,
    length and modification time. A filesystem that says none of that has no validator, so
    that parts of two exchanges are never joined. The file is looked at again after each piece.

    Args:
        schemes: What to serve; each needs its fsspec filesystem.
        storage_options: What a filesystem is made with, by scheme (``"s3"``) or by
            ``"ftp://host"``, which goes before it. Passwords for servers that a URL names
            must be given for one server.
        allow_file: Serve ``file://localhost/path`` too: every file that this process can read.
        read_timeout: Seconds until the head, and between two pieces of content.
        max_threads: How many blocking calls run at a time.
        clock: Seconds since the epoch.

    Raises:
        ConfigurationError: If a scheme cannot be served.

    Example:
        >>> sorted(FilesystemTransport(("memory",)).schemes)
        ['memory']
    """

    Options = FilesystemOptions

    def __init__(
        self,
        schemes: Iterable[str] = SCHEMES,
        *,
        storage_options: Mapping[str, Mapping[str, Any]] | None = None,
        allow_file: bool = False,
        read_timeout: float = 30.0,
        max_threads: int = 8,
        clock: Callable[[], float] = time.time,
    ) -> None:
        served = frozenset(scheme.lower() for scheme in schemes)
        if served & _HTTP:
            raise ConfigurationError("http and https are served by HttpTransport")
        if served & LOCAL and not allow_file:
            raise ConfigurationError(
                "local files are not served unless that is allowed",
                hint="Say allow_file=True if every file may be read that this process can read",
            )
        self.schemes = served | ({"file"} if allow_file else frozenset())
        self._filesystems = Filesystems(storage_options or {})
        self._read_timeout = read_timeout
        self._clock = clock
        self._threads = ThreadPoolExecutor(max_threads, thread_name_prefix="filesystem")
        self._responses: set[_Response] = set()
        self._end: asyncio.Future[None] | None = None
        self._closed = False

    @classmethod
    def from_settings(
        cls, settings: Settings, options: FilesystemOptions | None = None, **kw: Any
    ) -> Self:
        """Make a transport as both say; ``kw`` are further arguments, and win."""
        chosen = attrs.asdict(options or FilesystemOptions(), recurse=False)
        return cls(**{"read_timeout": settings.read_timeout, **chosen, **kw})

    async def fetch(self, request: UpstreamRequest) -> UpstreamResponse:
        place = Place.parse(request.url, self.schemes)
        request_time = self._clock()
        access = Access(self._filesystems, place, self._clock)
        try:
            facts = await self._call(access, access.open, place.shown)
        except TransportError as exc:
            status = None if exc.__cause__ is None else status_of(exc.__cause__)
            if status is None:
                raise
            head: _Head = (status, _bare(self._clock()), _NOTHING)
        else:
            head = _head(request, facts, self._clock())
        response = _Response(self, access, place, head, content=request.method == "GET")
        response.request_time, response.response_time = request_time, self._clock()
        response.url = request.url
        self._responses.add(response)
        return response

    async def _call(self, access: Access, work: Callable[[], _T], shown: str) -> _T:
        """Run ``work`` in a thread; what nobody waits for any more does no harm."""
        if self._closed:
            raise ClosedError("the transport is closed", url=shown)
        if self._end is None:
            self._end = asyncio.get_running_loop().create_future()
        running = asyncio.wrap_future(self._threads.submit(work))
        done = False
        try:
            await asyncio.wait(
                (running, self._end),
                timeout=self._read_timeout,
                return_when=asyncio.FIRST_COMPLETED,
            )
            done = running.done()
        finally:
            if not done:
                # The thread cannot be stopped, but its connection can be closed.
                running.add_done_callback(_retrieve)
                running.cancel()
                self._submit(access.abandon)
        if self._closed:
            raise ClosedError("the transport was closed", url=shown)
        if not done:
            raise UpstreamTimeoutError(
                "the filesystem did not answer in time", url=shown, hint="See read_timeout"
            )
        try:
            return running.result()
        except Exception as exc:
            self._submit(access.close)
            raise failure(exc, shown) from exc

    def _submit(self, work: Callable[[], None]) -> None:
        if not self._closed:
            self._threads.submit(work)
        else:
            work()

    def _release(self, response: _Response, access: Access) -> None:
        self._responses.discard(response)
        self._submit(access.close)

    async def aclose(self) -> None:
        if self._closed:
            return
        closing = self._threads.submit(self._filesystems.close)
        self._closed = True
        if self._end is not None:
            self._end.set_result(None)
        for response in tuple(self._responses):
            await response.aclose()
        # A thread that hangs must not hold up the end: it has nobody left who waits for it.
        await asyncio.wait((asyncio.wrap_future(closing),), timeout=1.0)
        self._threads.shutdown(wait=False, cancel_futures=True)


def _retrieve(future: asyncio.Future[Any]) -> None:
    if not future.cancelled():
        future.exception()


def _bare(now: float, *lines: tuple[str, str]) -> Fields:
    return Fields.of(("Date", format_http_date(now)), ("Content-Length", "0"), *lines)


def _head(request: UpstreamRequest, facts: Facts | None, now: float) -> _Head:
    if facts is None:
        return 404, _bare(now), _NOTHING
    known = _describing(request.url, facts, now)
    verdict = evaluate_preconditions(
        request.method, request.fields, entity_tag=facts.tag, last_modified=facts.modified
    )
    if verdict is Precondition.NOT_MODIFIED:
        return 304, Fields.of(*known), _NOTHING
    if verdict is Precondition.FAILED:
        return 412, _bare(now), _NOTHING
    if facts.size is None:
        return 200, Fields.of(*known, ("Accept-Ranges", "none")), None
    known = (*known, ("Accept-Ranges", "bytes"))
    spans = _spans(request, facts, now)
    if spans == ():
        return 416, _bare(now, ("Content-Range", unsatisfied_range(facts.size))), _NOTHING
    if spans is not None and len(spans) == 1:
        place = ("Content-Range", content_range(spans[0], facts.size))
        return 206, Fields.of(*known, place, _length(spans[0])), spans[0]
    # Several ranges: a server may answer with all of it (RFC 9110 §14.2).
    whole = Span(0, facts.size)
    return 200, Fields.of(*known, _length(whole)), whole


def _length(span: Span) -> tuple[str, str]:
    return ("Content-Length", str(span.stop - span.start))


def _describing(url: str, facts: Facts, now: float) -> tuple[tuple[str, str], ...]:
    lines = [
        ("Date", format_http_date(now)),
        ("Content-Type", guess_media_type(url) or "application/octet-stream"),
    ]
    if facts.tag is not None:
        lines.append(("ETag", str(facts.tag)))
    if facts.modified is not None:
        lines.append(("Last-Modified", format_http_date(facts.modified)))
    return tuple(lines)


def _spans(request: UpstreamRequest, facts: Facts, now: float) -> tuple[Span, ...] | None:
    """Return the spans asked for; None if the Range field is missing or does not count."""
    value = request.fields.get("range")
    specs = None if value is None or request.method != "GET" else parse_range(value)
    if specs is None or facts.size is None:
        return None
    condition = request.fields.get("if-range")
    if condition is not None and not if_range_matches(
        condition,
        entity_tag=facts.tag,
        last_modified=facts.modified,
        strong_date=facts.modified is not None and now - facts.modified >= 1,
    ):
        return None
    return resolve(specs, facts.size)


class _Response(UpstreamResponse):
    """The answer to one request, whose content is read when it is asked for."""

    def __init__(
        self,
        transport: FilesystemTransport,
        access: Access,
        place: Place,
        head: _Head,
        *,
        content: bool,
    ) -> None:
        self.status, self.fields, span = head
        span = span if content else _NOTHING
        self._transport = transport
        self._access = access
        self._place = place
        self._position = 0 if span is None else span.start
        self._stop = None if span is None else span.stop
        self._closed = False

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Buffer:
        position = self._position
        length = PIECE if self._stop is None else min(PIECE, self._stop - position)
        if length <= 0:
            raise StopAsyncIteration
        if self._closed:
            raise ClosedError("the response is closed", url=self._place.shown)
        piece = await self._transport._call(
            self._access, lambda: self._access.read(position, length), self._place.shown
        )
        self._position += len(piece)
        if self._stop is not None and len(piece) != length:
            raise TransportError("the content ended before its end", url=self._place.shown)
        if not piece:
            raise StopAsyncIteration
        return piece

    async def aclose(self) -> None:
        if not self._closed:
            self._closed = True
            self._transport._release(self, self._access)
