"""Every error that cachestream raises, as one tree.

    CacheStreamError
     ├ ConfigurationError (ValueError)       a setting or argument is wrong
     │  └ InvalidURLError                    a source or local URL cannot be understood
     ├ PluginError                           a plug-in cannot be used
     │  ├ PluginNotFoundError                no plug-in has this name
     │  ├ PluginLoadError                    importing or constructing it failed
     │  └ PluginConflictError                two distributions claim one name or scheme
     ├ AccessDeniedError                     this upstream host or address may not be asked
     ├ TransportError                        the exchange with the origin failed
     │  ├ ConnectError                       no connection: name, refusal, route, TLS
     │  │  └ TLSError                        the peer's certificate or handshake was refused
     │  ├ UpstreamTimeoutError               the origin was silent for too long
     │  ├ UpstreamProtocolError              the origin broke HTTP, or lied about a range
     │  │  └ TooManyRedirectsError           it sent us round in circles
     │  └ UpstreamStatusError                it answered with an error status
     ├ RepresentationChangedError            the origin has another version now
     ├ RangeNotSatisfiableError              the range lies past the end
     ├ NotStoredError                        offline, and these bytes are not held
     ├ StoreError                            the store failed
     │  ├ StoreFullError                     no room is left, or a limit is reached
     │  ├ StoreCorruptError                  stored bytes fail their check
     │  ├ StoreConflictError                 another writer published first
     │  ├ StoreBusyError                     another process is writing this entry
     │  └ EntryNotFoundError                 no such entry
     ├ ClosedError                           the object was closed or disposed
     ├ ServerUnavailableError                there is no local server, so no local URL
     ├ CallTimeoutError (TimeoutError)       a blocking call took longer than it was given
     ├ WrongThreadError (RuntimeError)       a blocking call in the thread it would wait for
     └ ForkedError                           the object belongs to the parent process

Each error says what happened, to which URL, and what to do about it. The facts
are attributes; ``status_hint`` is the HTTP status a frontend answers with, and
``outcome`` a short token for logs and for the ``detail`` of Cache-Status.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    from cachestream.core.spans import Span

__all__ = [
    "AccessDeniedError",
    "CacheStreamError",
    "CallTimeoutError",
    "ClosedError",
    "ConfigurationError",
    "ConnectError",
    "EntryNotFoundError",
    "ForkedError",
    "InvalidURLError",
    "NotStoredError",
    "PluginConflictError",
    "PluginError",
    "PluginLoadError",
    "PluginNotFoundError",
    "RangeNotSatisfiableError",
    "RepresentationChangedError",
    "ServerUnavailableError",
    "StoreBusyError",
    "StoreConflictError",
    "StoreCorruptError",
    "StoreError",
    "StoreFullError",
    "TLSError",
    "TooManyRedirectsError",
    "TransportError",
    "UpstreamProtocolError",
    "UpstreamStatusError",
    "UpstreamTimeoutError",
    "WrongThreadError",
]


class CacheStreamError(Exception):
    """The root of all errors of this package.

    Args:
        message: What happened, in one sentence.
        url: The source URL it happened to, if there is one.
        hint: What the reader can do about it.
    """

    status_hint: ClassVar[int] = 500
    outcome: ClassVar[str] = "error"

    def __init__(self, message: str, *, url: str | None = None, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.url = url
        self.hint = hint

    def __str__(self) -> str:
        text = self.message if self.url is None else f"{self.message} ({_shown(self.url)})"
        return text if self.hint is None else f"{text}. {self.hint}"


def _shown(url: str) -> str:
    """Return ``url`` without its query, which may hold a secret; the attribute has it whole."""
    return url.split("?", 1)[0] + ("?…" if "?" in url else "")


class ConfigurationError(CacheStreamError, ValueError):
    """A setting or an argument is wrong."""

    status_hint = 400
    outcome = "configuration"


class InvalidURLError(ConfigurationError):
    """A source URL or a local URL cannot be understood.

    Attributes:
        status: What a server answers to it: 404 when a local URL names no source at all, 400
            when what it names cannot be.
    """

    outcome = "invalid-url"

    def __init__(
        self, message: str, *, url: str | None = None, hint: str | None = None, status: int = 400
    ) -> None:
        super().__init__(message, url=url, hint=hint)
        self.status = status
        # Whoever answers by the hint, as for all errors, must not say 400 for a favicon.
        self.status_hint = status  # type: ignore[misc]  # one instance differs from its class


class PluginError(CacheStreamError):
    """A plug-in cannot be used."""

    outcome = "plugin"


class PluginNotFoundError(PluginError):
    """No plug-in has this name."""


class PluginLoadError(PluginError):
    """Importing or constructing a plug-in failed; the cause is chained."""


class PluginConflictError(PluginError):
    """Two distributions claim one name, or two transports one scheme."""


class AccessDeniedError(CacheStreamError):
    """The policy forbids asking this upstream host or address."""

    status_hint = 403
    outcome = "denied"


class TransportError(CacheStreamError):
    """The exchange with the origin failed."""

    status_hint = 502
    outcome = "upstream-error"


class ConnectError(TransportError):
    """No connection could be made: the name, a refusal, the route or TLS."""

    outcome = "connect"


class TLSError(ConnectError):
    """The TLS handshake failed or the certificate was not accepted."""

    outcome = "tls"


class UpstreamTimeoutError(TransportError):
    """The origin was silent for longer than a timeout allows."""

    status_hint = 504
    outcome = "timeout"


class UpstreamProtocolError(TransportError):
    """The origin broke HTTP, or its answer does not fit what was asked."""

    outcome = "protocol"


class TooManyRedirectsError(UpstreamProtocolError):
    """The origin redirected more often than is reasonable."""

    outcome = "redirects"


class UpstreamStatusError(TransportError):
    """The origin answered with a status that carries no usable content.

    Attributes:
        status: The origin's status code, which frontends forward.
        content: The beginning of its error page.
        media_type: The page's Content-Type, None if it had none.
        retry_after: The raw Retry-After, None if there was none.
    """

    outcome = "status"

    def __init__(
        self, message: str, *, status: int, url: str | None = None, hint: str | None = None
    ) -> None:
        super().__init__(message, url=url, hint=hint)
        self.status = status
        self.content = b""
        self.media_type: str | None = None
        self.retry_after: str | None = None


class RepresentationChangedError(CacheStreamError):
    """The origin has another version of the resource than the one being read."""

    status_hint = 502
    outcome = "changed"


class RangeNotSatisfiableError(CacheStreamError):
    """A range lies wholly past the end (RFC 9110 §15.5.17).

    Attributes:
        complete_length: Length of the representation in bytes, None if unknown.
    """

    status_hint = 416
    outcome = "range"

    def __init__(
        self, message: str, *, complete_length: int | None = None, url: str | None = None
    ) -> None:
        super().__init__(message, url=url)
        self.complete_length = complete_length


class NotStoredError(CacheStreamError):
    """These bytes are not held, and going upstream is not allowed.

    Attributes:
        span: The first missing bytes, half-open.
    """

    status_hint = 504
    outcome = "offline"

    def __init__(self, message: str, *, span: Span | None = None, url: str | None = None) -> None:
        super().__init__(message, url=url)
        self.span = span


class StoreError(CacheStreamError):
    """The store failed; playback goes on without it where that is possible."""

    outcome = "store"


class StoreFullError(StoreError):
    """No room is left in the store, or one of its limits is reached."""

    status_hint = 507
    outcome = "store-full"


class StoreCorruptError(StoreError):
    """Stored bytes fail their check; they have been forgotten and can be fetched anew.

    Attributes:
        span: The bytes that are no longer held, half-open.
    """

    outcome = "corrupt"

    def __init__(self, message: str, *, span: Span | None = None, url: str | None = None) -> None:
        super().__init__(message, url=url)
        self.span = span


class StoreConflictError(StoreError):
    """Another writer published the same variant first."""

    outcome = "conflict"


class StoreBusyError(StoreError):
    """Another process holds this entry for writing."""

    outcome = "busy"


class EntryNotFoundError(StoreError):
    """No entry has this identifier (any more)."""

    status_hint = 404
    outcome = "not-found"


class ClosedError(CacheStreamError):
    """The object was closed or disposed before or while it was used."""

    status_hint = 503
    outcome = "closed"


class ServerUnavailableError(CacheStreamError):
    """There is no local server, so there is no local URL."""

    status_hint = 503
    outcome = "no-server"


class CallTimeoutError(CacheStreamError, TimeoutError):
    """A blocking call took longer than its ``timeout``; what it waited for was cancelled."""

    status_hint = 504
    outcome = "call-timeout"


class WrongThreadError(CacheStreamError, RuntimeError):
    """A blocking call was made in the thread that would have to carry it out."""

    outcome = "wrong-thread"


class ForkedError(CacheStreamError):
    """The object belongs to the process that this one was forked from."""

    outcome = "forked"
