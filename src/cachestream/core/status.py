"""What can be seen of a running cache: numbers, live resources, failures, readiness.

Values only. `cachestream.abc.Inspector` hands them out; metrics, health checks and whatever
shows a cache to a person are made from them. URLs in them are masked: user information,
tokens and the values of the query never get here.
"""

from __future__ import annotations

from typing import Final

import attrs

from cachestream.core.spans import Span

__all__ = [
    "SPANS_SHOWN",
    "DownloadStatus",
    "Failure",
    "ReaderStatus",
    "Readiness",
    "ResourceStatus",
    "Statistics",
]

SPANS_SHOWN: Final = 1000
"""Most spans of one resource that are handed out: enough to draw, bounded whatever is held."""


@attrs.frozen(kw_only=True)
class Statistics:
    """Numbers of a manager since it was started, and what is open now.

    Every request has one of the outcomes from ``hits`` to ``abandoned`` in the end; one that
    is being answered has none yet.

    Attributes:
        requests: Client requests, by whatever status they were answered.
        hits: Those that were answered wholly from what was held.
        misses: Those of which nothing was held.
        partial_hits: Those of which some was held, and the rest had to be fetched.
        stale_hits: Those for which what was held had to be checked at the origin first.
        bypasses: Those that went past the store.
        denied: Those that were not let in, or named nothing that may be asked for.
        refused: Those that the origin refused (4xx), and ranges past the end.
        failed: Those that could not be answered: the origin, or the cache itself, failed (5xx).
        abandoned: Those whose client left before there was a head.
        bytes_from_store: Bytes given to readers; all of them come from the store.
        bytes_from_origin: Content bytes received from origins.
        origin_requests: Requests sent to origins, redirects and retries included.
        origin_failures: Exchanges that failed.
        store_failures: How often the store failed, and playback went on from memory.
        representation_changes: How often an origin had another version.
        completed_resources: How often a resource became complete.
        live_resources: Resources in use, or not yet disposed of.
        open_readers: Readers of them.
        running_downloads: Downloads of them.
        waiting_readers: Readers that wait for a byte.
        running_tasks: Tasks the manager owns.
    """

    requests: int = 0
    hits: int = 0
    misses: int = 0
    partial_hits: int = 0
    stale_hits: int = 0
    bypasses: int = 0
    denied: int = 0
    refused: int = 0
    failed: int = 0
    abandoned: int = 0
    bytes_from_store: int = 0
    bytes_from_origin: int = 0
    origin_requests: int = 0
    origin_failures: int = 0
    store_failures: int = 0
    representation_changes: int = 0
    completed_resources: int = 0
    live_resources: int = 0
    open_readers: int = 0
    running_downloads: int = 0
    waiting_readers: int = 0
    running_tasks: int = 0


@attrs.frozen(kw_only=True)
class ReaderStatus:
    """One reader of a live resource.

    Attributes:
        position: The next byte it reads.
        stop: One past the last byte it wants, None while the end is unknown.
        waiting: Whether it waits for a byte to be stored.
    """

    position: int
    stop: int | None
    waiting: bool


@attrs.frozen(kw_only=True)
class DownloadStatus:
    """One running download of a live resource.

    Attributes:
        position: The next byte it stores.
        stop: One past the last byte it shall store, None for the end of the content.
        received: Content bytes it has received so far.
    """

    position: int
    stop: int | None
    received: int


@attrs.frozen(kw_only=True)
class ResourceStatus:
    """A live resource.

    Attributes:
        source: Its URL as logs have it, masked.
        media_type: Its Content-Type, None while unknown.
        complete_length: Its length in bytes, None while unknown.
        stored_bytes: How many bytes are held.
        spans: Which bytes are held, in order; at most the first `SPANS_SHOWN`.
        complete: Whether every byte is stored and committed.
        ephemeral: Whether bytes pass through memory only.
        paused: Whether downloading is paused, because nobody uses it.
        retained: How many streams, readers and waiting requests use it.
        readers: Its readers.
        downloads: Its running downloads.
        error: The last failure of a download as text, None after progress.
    """

    source: str
    media_type: str | None = None
    complete_length: int | None = None
    stored_bytes: int = 0
    spans: tuple[Span, ...] = ()
    complete: bool = False
    ephemeral: bool = False
    paused: bool = False
    retained: int = 0
    readers: tuple[ReaderStatus, ...] = ()
    downloads: tuple[DownloadStatus, ...] = ()
    error: str | None = None


@attrs.frozen(kw_only=True)
class Failure:
    """Something that failed.

    Attributes:
        time: When, in seconds since the epoch.
        kind: ``download`` or ``store``.
        source: The URL it happened to, masked.
        error: What happened, as text.
        outcome: The word that stands for this kind of error, as in Cache-Status.
        final: Whether nothing is tried again for it.
    """

    time: float
    kind: str
    source: str
    error: str
    outcome: str
    final: bool


@attrs.frozen(kw_only=True)
class Readiness:
    """Whether requests can be served, and if not why.

    Attributes:
        reasons: Pairs of what is not ready (``manager``, ``store``, ``server``) and why.
    """

    reasons: tuple[tuple[str, str], ...] = ()

    @property
    def ready(self) -> bool:
        """Whether nothing speaks against it."""
        return not self.reasons
