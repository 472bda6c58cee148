"""What happened, as frozen values, in the order it happened.

Listeners are called synchronously, so a slow one is its author's affair; an exception
in one is logged and never breaks playback.
"""

from __future__ import annotations

from typing import Protocol

import attrs

from cachestream.core.spans import Span

__all__ = [
    "DownloadFailed",
    "DownloadFinished",
    "DownloadStarted",
    "Event",
    "Listener",
    "MirrorRejected",
    "RepresentationChanged",
    "RequestAnswered",
    "ResourceCompleted",
    "StoreFailed",
    "StreamCreated",
    "StreamDisposed",
]


@attrs.frozen
class Event:
    """Something that happened to the resource of ``source``."""

    source: str


@attrs.frozen
class StreamCreated(Event):
    """A resource came to life."""


@attrs.frozen
class StreamDisposed(Event):
    """A resource was closed."""


@attrs.frozen
class RequestAnswered(Event):
    """A client got the head of an answer; ``outcome`` is its Cache-Status."""

    status: int
    outcome: str


@attrs.frozen
class DownloadStarted(Event):
    """A download of ``span`` began; its stop is as wanted now, and may move."""

    span: Span


@attrs.frozen
class DownloadFinished(Event):
    """A download ended as planned after ``received`` bytes."""

    span: Span
    received: int


@attrs.frozen
class DownloadFailed(Event):
    """An exchange failed; it is tried again in ``retry_in`` seconds unless that is None."""

    error: Exception
    retry_in: float | None


@attrs.frozen
class MirrorRejected(Event):
    """A place that should have the same bytes has others in ``span``; it is not asked again."""

    url: str
    span: Span


@attrs.frozen
class RepresentationChanged(Event):
    """The origin has another version; what was held of the old one is superseded."""


@attrs.frozen
class ResourceCompleted(Event):
    """Every byte is stored, ``length`` in all."""

    length: int


@attrs.frozen
class StoreFailed(Event):
    """The store failed; playback goes on from memory."""

    error: Exception


class Listener(Protocol):
    """Anything that can be called with an event."""

    def __call__(self, event: Event) -> None:
        """Take note of ``event``; called on the event loop, must return at once."""
        ...
