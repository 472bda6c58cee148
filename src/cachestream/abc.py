"""The interfaces of cachestream: the one page to read before subclassing.

Three interfaces stand between the engine and the world. A `Transport` performs one
exchange with an origin. A `Store` keeps sparse entries. A `Frontend` listens to
clients and puts their requests to a `Handler`. What a docstring here promises, the
contracts in `cachestream.testing` check.

Conventions: spans are half-open (`cachestream.core.spans.Span`), sizes are bytes,
times are seconds, URLs are absolute and already percent-encoded text. A method that
ends in ``_nowait`` never blocks the event loop and returns None when it would have to.
Errors are those of `cachestream.errors`; no error of a library crosses this page.
"""

from __future__ import annotations

import enum
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Awaitable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from types import TracebackType
from typing import ClassVar, Final, Literal, NewType, Protocol, Self, TypeAlias

import attrs

from cachestream.core.fields import Fields
from cachestream.core.histogram import Distribution
from cachestream.core.representation import Representation
from cachestream.core.spans import Span, SpanSet
from cachestream.core.status import Failure, Readiness, ResourceStatus, Statistics
from cachestream.core.urls import display

__all__ = [
    "API_VERSION",
    "END",
    "Answer",
    "AnswerHead",
    "Body",
    "Buffer",
    "Coordinator",
    "End",
    "Entry",
    "EntryRecord",
    "FileRegion",
    "Frontend",
    "Grant",
    "Handler",
    "HeldContent",
    "Inspector",
    "Key",
    "KeyFunction",
    "Lease",
    "Piece",
    "RefreshFunction",
    "RequestHead",
    "Shortcut",
    "Sink",
    "Slice",
    "SpanWriter",
    "Store",
    "StoreCapabilities",
    "StoreUsage",
    "Transport",
    "UpstreamRequest",
    "UpstreamResponse",
]

API_VERSION: Final = 1
"""Version of these interfaces. A plug-in with another ``api_version`` is refused by name."""

Buffer: TypeAlias = bytes | bytearray | memoryview
"""Bytes in memory."""

Key = NewType("Key", str)
"""What the store files a resource under: scheme, authority, path and query, never less."""


class KeyFunction(Protocol):
    """Maps a source URL to its cache key; called for each new resource."""

    def __call__(self, source: str) -> Key:
        """Return the key; two URLs with one key share one resource."""
        ...


class RefreshFunction(Protocol):
    """Renews the URL of one source; given where the source is named.

    An asynchronous function is awaited on the event loop. Any other one is called in a thread
    of its own, so that it may block; it should have a time limit.
    """

    def __call__(self, source: str, status: int, /) -> Awaitable[str | None] | str | None:
        """Return a new URL after the origin refused the last one with ``status``, or None.

        Asked at 401, 403 and 410, before `Transport.refresh` is. What it raises is logged, and
        the refusal stands; a `TransportError` is tried again like any failure of the network.

        Args:
            source: The URL that the resource was first named by.
            status: What the origin said to the newest one.
        """
        ...


# ---------------------------------------------------------------------------
# Transport: one exchange with an origin
# ---------------------------------------------------------------------------


class HeldContent(Protocol):
    """What is held of a resource already, for a transport that asks several places for it.

    The engine gives it with a request whose answer will be joined to those bytes. A transport
    that goes to another place than before compares some of them first; one that knows a
    single place for each URL has no use for it.
    """

    @property
    def representation(self) -> Representation:
        """Which version the bytes are of, by the fields of whoever sent it first."""
        ...

    async def samples(self, count: int, size: int) -> Sequence[tuple[Span, Buffer]]:
        """Return up to ``count`` spans at random, each of at most ``size`` bytes, and their bytes.

        None of them is empty, and no two overlap. There are fewer, or none, where less is
        held or cannot be read now; this never raises for that.
        """
        ...

    def differs(self, url: str, span: Span) -> None:
        """Note that ``url`` has other bytes in ``span``, so that listeners are told."""
        ...


def _shown(url: str) -> str:
    return repr(display(url))


@attrs.frozen(kw_only=True)
class UpstreamRequest:
    """One request to an origin, complete but for what `Transport.prepare` adds.

    A signature may be in the query or in a field, so its representation shows no value of
    either.

    Attributes:
        url: Where this exchange goes (a redirect's target, or a renewed URL).
        source: The URL the resource is known by; the same through redirects and retries.
        method: GET or HEAD.
        fields: Fields to send, Range and If-Range included.
        attempt: How many exchanges for the same bytes failed before this one.
        hop: How many redirects led here; 0 for the first request.
        held: The bytes that the answer's will be joined to; None if it begins anew.
    """

    url: str = attrs.field(repr=_shown)
    source: str = attrs.field(repr=_shown)
    method: Literal["GET", "HEAD"] = "GET"
    fields: Fields = attrs.field(factory=Fields)
    attempt: int = 0
    hop: int = 0
    held: HeldContent | None = attrs.field(default=None, eq=False, repr=False)


class Sink(Protocol):
    """Where an upstream response pours its content."""

    def write(self, piece: Buffer) -> bool:
        """Take ``piece`` over (the caller must not change it afterwards).

        Returns:
            True to go on. False means: call `drain` before the next piece.
        """
        ...

    async def drain(self) -> bool:
        """Wait until there is room; False when no further byte is wanted."""
        ...


class UpstreamResponse(ABC):
    """An origin's answer: head at once, content while it arrives.

    It is an async context manager; leaving it releases the connection, whole or cut.
    An author implements ``__aiter__`` or overrides `pour`; either is enough.

    Attributes:
        status: The status code, whatever it is.
        fields: The fields as they came.
        url: The URL that answered.
        request_time: When the request was sent, seconds since the epoch.
        response_time: When the head arrived, seconds since the epoch.
    """

    status: int
    fields: Fields
    url: str
    request_time: float
    response_time: float

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.aclose()

    def __aiter__(self) -> AsyncIterator[Buffer]:
        """Iterate over the content as received: no content coding is removed.

        A clean end is the end of the iteration. An end that HTTP does not call clean
        (short of Content-Length, a broken chunk, a reset) raises `TransportError`.
        """
        raise NotImplementedError("implement __aiter__ or override pour")

    async def pour(self, sink: Sink) -> bool:
        """Give every piece of the content to ``sink``, in order, as it arrives.

        Returns:
            True after a clean end, False when the sink wanted no more.

        Raises:
            TransportError: If the content ends before its end, or stalls too long.
        """
        async for piece in self:
            if not sink.write(piece) and not await sink.drain():
                return False
        return True

    @abstractmethod
    async def aclose(self) -> None:
        """Release the connection; idempotent."""


class Transport(ABC):
    """Fetches from origins: one exchange a call, no redirects, no retries, no caching.

    One instance serves all resources of a manager, many exchanges at a time.
    To sign requests override `prepare`; to renew expired URLs override `refresh`.

    Attributes:
        schemes: URL schemes this transport serves, lower case.
    """

    api_version: ClassVar[int] = API_VERSION
    schemes: frozenset[str] = frozenset()

    async def prepare(self, request: UpstreamRequest) -> UpstreamRequest:
        """Return the request to send; called for every attempt and every redirect hop.

        So a signature is made over what is sent, and never older than its request.
        The engine may drop credentials before this call, never after it.
        """
        return request

    async def refresh(self, source: str, status: int) -> str | None:
        """Return a new URL for ``source`` after the origin said ``status``, or None.

        Asked when the origin answers 401, 403 or 410; the cache key stays that of ``source``.
        """
        return None

    @abstractmethod
    async def fetch(self, request: UpstreamRequest) -> UpstreamResponse:
        """Perform one exchange and return its response once the head is there.

        Redirects are not followed. Every status code is returned as data. The request is
        sent as it is; nothing but what HTTP needs on the connection (Host, Connection) is added.

        Raises:
            ConnectError: If no connection could be made.
            UpstreamTimeoutError: If connecting, or the wait for the head, took too long.
            UpstreamProtocolError: If what came is not HTTP.
            InvalidURLError: If the URL cannot be asked by this transport.
            ClosedError: After `aclose`.
        """

    @abstractmethod
    async def aclose(self) -> None:
        """Close idle connections and those in use; idempotent."""


# ---------------------------------------------------------------------------
# Store: sparse entries, and records of them
# ---------------------------------------------------------------------------


@attrs.frozen(kw_only=True)
class StoreCapabilities:
    """What a store can do, stated once.

    Attributes:
        persistent: Committed bytes survive the process.
        zero_copy: `Entry.region_nowait` may return file regions.
        partial_eviction: `Entry.discard` gives room back.
        external_files: `Store.create` accepts ``file``.
    """

    persistent: bool = False
    zero_copy: bool = False
    partial_eviction: bool = False
    external_files: bool = False


@attrs.frozen(kw_only=True)
class EntryRecord:
    """What a store knows of one published entry without opening it.

    Attributes:
        entry_id: The store's name of the entry: letters, digits, ``-`` and ``_``.
        key: What it is filed under.
        source: The source URL it came from.
        representation: Which version it holds.
        stored_bytes: How many bytes of it are committed.
        allocated_bytes: How much room it takes.
        created: When it was made, seconds since the epoch.
        accessed: When it was last used, as far as known; seconds since the epoch.
        pinned: Whether eviction must leave it alone.
        file: Path of the data file if it is external (named by the user), else None.
    """

    entry_id: str
    key: Key
    source: str
    representation: Representation
    stored_bytes: int = 0
    allocated_bytes: int = 0
    created: float = 0.0
    accessed: float = 0.0
    pinned: bool = False
    file: str | None = None

    @property
    def complete(self) -> bool:
        """Whether every byte is stored (RFC 9111 §3.3)."""
        return self.stored_bytes == self.representation.complete_length


@attrs.frozen(kw_only=True)
class StoreUsage:
    """How full a store is, and what it had to do for that since it was opened.

    Attributes:
        entries: Number of published entries.
        allocated_bytes: Room all entries take, unpublished ones included.
        limit_bytes: The store's limit, None for none.
        evicted_entries: Entries given up to make room.
        evicted_bytes: Room that gave.
        failed_commits: How often written bytes could not be committed.
    """

    entries: int
    allocated_bytes: int
    limit_bytes: int | None = None
    evicted_entries: int = 0
    evicted_bytes: int = 0
    failed_commits: int = 0


@attrs.frozen
class FileRegion:
    """Bytes in an open file, for `os.sendfile`; valid until the lease that covers them ends.

    Attributes:
        descriptor: An open file descriptor that the holder must not close.
        offset: Position of the first byte in that file.
        length: Number of bytes, at least 1.
    """

    descriptor: int
    offset: int
    length: int


class Lease(ABC):
    """A promise that bytes stay where they are; end it with `release` or by leaving ``with``."""

    @abstractmethod
    def release(self) -> None:
        """End the promise; idempotent."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.release()


class SpanWriter(ABC):
    """Writes consecutive bytes of an entry, from a start position on.

    Bytes written can be read through the same entry as soon as `write` returns.
    What was not committed when the process dies is a hole afterwards.

    Attributes:
        position: Where the next byte goes.
    """

    position: int

    @abstractmethod
    def write(self, piece: Buffer) -> bool:
        """Take ``piece`` over and store it at `position`; never blocks for long.

        The caller must not change the piece afterwards. Bytes that are stored already are
        not written again: the caller keeps to holes.

        Returns:
            True to go on. False means: call `drain` before the next piece.

        Raises:
            StoreFullError: If there is no room.
            StoreError: If the medium fails. Nothing of the piece counts as stored.
        """

    @abstractmethod
    async def drain(self) -> None:
        """Return when at most the high-water mark of written bytes is unflushed.

        Raises:
            StoreError: If flushing failed; bytes that were lost are no longer in the spans.
        """

    @abstractmethod
    async def commit(self) -> None:
        """Return when everything written so far survives a crash of the process.

        Data reaches the medium before the index says so.
        """

    @abstractmethod
    async def aclose(self) -> None:
        """Commit what was written and give the position up; idempotent."""


class Entry(ABC):
    """One representation's bytes, open for reading and writing.

    Several readers and writers may use one entry at a time, the writers on disjoint holes.

    Attributes:
        entry_id: The store's name of it.
        key: What it is filed under.
        source: The source URL it came from.
        writable: False if another process is writing it; then only committed bytes are seen.
    """

    entry_id: str
    key: Key
    source: str
    writable: bool

    @property
    @abstractmethod
    def representation(self) -> Representation:
        """Which version this entry holds, as last updated."""

    @property
    @abstractmethod
    def spans(self) -> SpanSet:
        """Which bytes can be read now. The live set: look, do not change."""

    @abstractmethod
    def read_nowait(self, span: Span) -> Buffer | None:
        """Return exactly the bytes of ``span``, or None if that would block.

        None too when part of the span is missing or still has to be verified.
        """

    @abstractmethod
    async def read(self, span: Span) -> Buffer:
        """Return exactly the bytes of ``span``, verified since the entry was opened.

        Raises:
            StoreCorruptError: If they fail their check; the bad bytes are a hole from then on.
            NotStoredError: If part of the span is missing. A hole is never read as zeros.
            StoreError: If the medium fails.
        """

    def region_nowait(self, span: Span) -> FileRegion | None:
        """Return where ``span`` lies in a file, if a prefix of it can be sent from there.

        The region may be shorter than the span, never empty. None when the store has no
        such file, part of the start is missing, unverified, or not yet in the file. A store
        may say None also of bytes that the disk would have to be waited for.
        """
        return None

    @abstractmethod
    def lease(self, span: Span) -> Lease:
        """Keep stored bytes of ``span`` where they are until the lease ends."""

    @abstractmethod
    def writer(self, position: int) -> SpanWriter:
        """Return a writer whose first byte goes to ``position``.

        Raises:
            StoreBusyError: If the entry is not `writable`.
        """

    @abstractmethod
    async def publish(self) -> None:
        """Make the entry visible to `Store.select`; it supersedes the same variant atomically.

        Raises:
            StoreConflictError: If another writer published this variant since `Store.create`.
        """

    @abstractmethod
    async def update(self, representation: Representation) -> None:
        """Replace what is known of the same version (a learned length, freshened fields)."""

    @abstractmethod
    async def discard(self, span: Span) -> int:
        """Forget the unleased bytes of ``span``; return how many were forgotten."""

    @abstractmethod
    async def aclose(self) -> None:
        """Commit, and give the handle up; idempotent. An unpublished entry vanishes."""


class Store(ABC):
    """Keeps entries by key; opening it reads no more than it must.

    A store is opened with ``async with`` or by first use, inside the event loop that uses it.

    Attributes:
        capabilities: What it can do.
    """

    api_version: ClassVar[int] = API_VERSION
    capabilities: StoreCapabilities

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.aclose()

    @abstractmethod
    async def select(self, key: Key) -> tuple[EntryRecord, ...]:
        """Return the published entries of ``key``, newest first: at most one a variant."""

    @abstractmethod
    async def create(
        self, key: Key, source: str, representation: Representation, *, file: str | None = None
    ) -> Entry:
        """Make a new, empty entry, invisible to `select` until it is published.

        Args:
            file: Where the data shall lie when complete, if the user named a place.

        Raises:
            StoreFullError: If there is no room for an entry.
            StoreError: If the medium fails, or ``file`` is given and not supported.
        """

    @abstractmethod
    async def open(self, entry_id: str) -> Entry:
        """Open a published entry; handles of one entry in one process share their bytes.

        Raises:
            EntryNotFoundError: If there is none.
        """

    @abstractmethod
    async def delete(self, entry_id: str) -> None:
        """Delete an entry; open handles stay readable. Nothing happens if there is none."""

    @abstractmethod
    async def records(
        self,
        *,
        after: str | None = None,
        limit: int = 1000,
        order: Literal["id", "accessed"] = "id",
    ) -> tuple[EntryRecord, ...]:
        """Return up to ``limit`` published entries, for listing and eviction.

        Args:
            after: In order ``id``: the ``entry_id`` to go on after.
            order: By identifier, or least recently used first.
        """

    @abstractmethod
    async def touch(self, entry_id: str, *, pinned: bool | None = None) -> None:
        """Note that an entry is used now, and set its pin if ``pinned`` is not None."""

    @abstractmethod
    async def has_authority(self, origin: str) -> bool:
        """Tell whether a published entry came from ``origin`` (``scheme://host[:port]``)."""

    @abstractmethod
    async def usage(self) -> StoreUsage:
        """Return how full the store is, without a walk over the entries."""

    @abstractmethod
    async def aclose(self) -> None:
        """Commit everything and close; idempotent. Entries must be closed before."""


# ---------------------------------------------------------------------------
# Frontend and Handler: what a client sees
# ---------------------------------------------------------------------------


class End(enum.Enum):
    """The type of `END`."""

    END = "end"


END: Final = End.END
"""What a `Body` gives after its last piece."""

Piece: TypeAlias = FileRegion | Buffer
"""Some bytes of a response: in a file, or in memory."""


@attrs.frozen(kw_only=True)
class RequestHead:
    """A client's request without content, as a frontend received it.

    Attributes:
        method: As sent, case-sensitive.
        target: The raw request target; a mount prefix of the frontend is removed.
        fields: As sent.
        version: HTTP version, ``(1, 1)``.
        served: Authorities this listener answers to, lower case with port (``127.0.0.1:4612``).
            Empty when the frontend has checked the Host itself (a Unix socket, a mounted app).
        client: Address of the peer, for logs.
    """

    method: str
    target: str
    fields: Fields = attrs.field(factory=Fields)
    version: tuple[int, int] = (1, 1)
    served: frozenset[str] = frozenset()
    client: str | None = None


@attrs.frozen(eq=False)
class AnswerHead:
    """Status and fields that many answers share; compared by identity.

    A frontend may keep the bytes it made of one. Control characters never occur in it.
    """

    status: int
    fields: Fields


class Body(ABC):
    """The content of an answer, given piece by piece; a slow client holds at most one.

    A piece is leased until the next call on the body, or until it is closed.
    """

    @abstractmethod
    def take_nowait(self, limit: int) -> Piece | End | None:
        """Return the next piece of at most ``limit`` bytes, or None if that would block.

        Raises:
            CacheStreamError: If the content cannot be completed: cut the connection.
        """

    @abstractmethod
    async def next(self, limit: int) -> Piece | End:
        """Return the next piece of at most ``limit`` bytes, waiting for it if need be.

        Raises:
            CacheStreamError: If the content cannot be completed: cut the connection.
        """

    @abstractmethod
    def close(self) -> None:
        """Give the last piece back and stop wanting more; idempotent."""


@attrs.define(eq=False)
class Answer:
    """An answer to one request; the frontend closes it whatever happens.

    Attributes:
        head: Status and the fields shared between answers.
        extra: Fields of this answer alone: Content-Range, Cache-Status, Age.
        length: Content-Length, None when unknown (chunked, or to the end of the connection).
        body: The content. A HEAD answer has ``length`` but an empty body.
    """

    head: AnswerHead
    extra: tuple[tuple[str, str], ...]
    length: int | None
    body: Body

    def close(self) -> None:
        """Close the body."""
        self.body.close()


@attrs.define(eq=False)
class Slice:
    """Stored bytes that answer a request, on their way to a client.

    Attributes:
        head: Status and the fields shared between answers.
        extra: Fields of this answer, less Content-Range; the same object while they are the same.
        start: Position of the first byte.
        stop: Position after the last byte, at least ``start + 1``.
        complete_length: Length of the whole content, for Content-Range (RFC 9110 §14.4).
        descriptor: The open file they are in; valid until the event loop's next turn.
        offset: Position of the first byte in that file.
    """

    head: AnswerHead
    extra: tuple[tuple[str, str], ...]
    start: int
    stop: int
    complete_length: int
    descriptor: int
    offset: int


class Shortcut(ABC):
    """Answers GET requests that are alike but for their Range, from stored bytes alone.

    It stands for the checks that `Handler.shortcut` made of one request: its caller makes
    sure that the others do not differ in anything else.
    """

    @property
    @abstractmethod
    def alive(self) -> bool:
        """Whether it may still answer something; once False, it stays so."""

    @abstractmethod
    def take(self, first: int | None, last: int | None, limit: int) -> Slice | None:
        """Return the bytes of one more request, which is counted as answered.

        Args:
            first: The first position of its Range (``bytes=first-last``), None without one.
            last: The last one, inclusive; None for all that follow.
            limit: More bytes than this are left to the ordinary way.

        Returns:
            All that is to be sent; None to have the request answered in the ordinary way.
        """

    @abstractmethod
    def rest(self, part: Slice, sent: int) -> Body:
        """Return the body of what does not fit into this turn; closing it lets the bytes go.

        Args:
            part: What `take` returned in this same turn of the event loop.
            sent: How many of its bytes are on their way already.
        """


class Handler(ABC):
    """Answers requests. All checks of who may come in live here, on both routes.

    Neither method raises for a bad request or a failing origin: that is an answer too.
    """

    @abstractmethod
    def answer_nowait(self, head: RequestHead) -> Answer | None:
        """Answer if nothing has to be awaited; None means: call `answer`."""

    @abstractmethod
    async def answer(self, head: RequestHead) -> Answer:
        """Answer, waiting for the origin if need be."""

    def shortcut(self, head: RequestHead) -> Shortcut | None:
        """Return how requests that differ from ``head`` in their Range alone are answered fast.

        A frontend may ask for one after it has seen the head, without its Range. A request
        that would be refused has none, nor has one with preconditions, and asking counts nothing.
        """
        return None


class Frontend(ABC):
    """Listens to clients and lets a `Handler` answer them."""

    api_version: ClassVar[int] = API_VERSION

    @abstractmethod
    def serve(self, handler: Handler) -> AbstractAsyncContextManager[str]:
        """Listen until the context is left; yields the base URL, without a final slash.

        On leaving, no listener, connection or task of the frontend is left.

        Raises:
            ConfigurationError: If the address cannot be listened on.
        """

    @abstractmethod
    def url_for(self, source: str) -> str:
        """Return the local URL of ``source``; of a local URL, itself.

        Raises:
            InvalidURLError: If ``source`` is no URL that can be fetched.
            ServerUnavailableError: If nothing is being served.
        """

    @abstractmethod
    def source_for(self, url: str) -> str | None:
        """Return the source URL of a local URL, None if it is none of ours."""

    @abstractmethod
    async def ensure_active(self) -> bool:
        """Check that the listener answers, and listen anew on the same address if not.

        Returns:
            True if a new listener was needed.
        """


# ---------------------------------------------------------------------------
# Inspector: what can be seen of a running cache
# ---------------------------------------------------------------------------


class Inspector(ABC):
    """Shows a running cache, and changes nothing of it.

    Metrics, health checks and whatever shows a cache to a person read it, and it alone. What
    it returns is frozen and as of now. It may be asked at any time: before the start and
    after the end there are no live resources, and the numbers are those there were last.
    No secret can be seen in it: URLs are masked, and so are settings that are secret.
    Only what the store has to be asked for is awaited; that has a limit of its own.
    """

    @abstractmethod
    def statistics(self) -> Statistics:
        """Return the numbers so far, and how much is open."""

    @abstractmethod
    def waits(self) -> Mapping[str, Distribution]:
        """Return how long requests waited for their head, in seconds, by outcome.

        The outcomes are ``hit``, ``miss`` and so on. A request that is answered from memory at
        once does not wait, and is not counted.
        """

    @abstractmethod
    def resources(self) -> tuple[ResourceStatus, ...]:
        """Return the live resources, in the order they came to life."""

    @abstractmethod
    def failures(self) -> tuple[Failure, ...]:
        """Return the last failures of downloads and of the store, newest first; a bounded few."""

    @abstractmethod
    def settings(self) -> Mapping[str, object]:
        """Return the settings by name, as values that JSON has; secrets are masked."""

    @abstractmethod
    async def usage(self) -> StoreUsage | None:
        """Return how full the store is, None if it is not open or does not say in time."""

    @abstractmethod
    async def readiness(self) -> Readiness:
        """Tell whether requests can be served: the store takes bytes, the server listens."""


# ---------------------------------------------------------------------------
# Coordinator: who fetches a span, when several engines share a store
# ---------------------------------------------------------------------------


class Grant(Protocol):
    """Permission to fetch a span."""

    async def release(self) -> None:
        """Give the permission back; idempotent."""
        ...


class Coordinator(ABC):
    """Decides who fetches a span when several engines share one store.

    A lost permission costs a second fetch, never a wrong byte: the store is the fence.
    """

    @abstractmethod
    async def acquire(self, key: Key, entry_id: str, span: Span) -> Grant | None:
        """Return permission to fetch ``span``, or None after another engine has stored it."""
