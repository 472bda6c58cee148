"""What the frontends have in common that live in somebody else's web application.

They do not listen: the application's server does, and calls them. So their base URL is
what the program says, and `serve` only lets a handler answer what arrives.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final

from cachestream.abc import Answer, Frontend, Handler, RequestHead
from cachestream.core.fields import Fields
from cachestream.core.urls import display
from cachestream.errors import ConfigurationError, ServerUnavailableError
from cachestream.frontends._naming import LocalUrls, authorities_of, check_base_url, host_value

if TYPE_CHECKING:
    from cachestream.settings import Settings

__all__ = ["HandlerBugError", "MountedFrontend", "has_content"]

logger = logging.getLogger("cachestream.frontends")

_CLOSE_TIMEOUT_S: Final = 5.0
_WEB: Final = frozenset({"http", "https"})


class MountedFrontend(Frontend):
    """A frontend inside a web application; see `AsgiFrontend` and `AiohttpFrontend`.

    Args:
        url: Where clients reach it: ``https://films.example/media``, the mount path included.
            Its host is what Host must say; for a loopback address all names of the loopback.
        hosts: Further values that Host may have, ``films.example`` or ``films.example:8443``;
            ``*`` for any, where the application checks Host itself.
        token: The secret first segment of every local path; None takes the manager's.
        schemes: URL schemes that can be fetched; None takes those of the manager's transport.
        client_idle_timeout: Seconds a client may take nothing of its answer before its reader
            is given up; None takes the manager's, which is for ever by default.

    Raises:
        ConfigurationError: If ``url`` or one of ``hosts`` cannot be.

    Attributes:
        requests: How many requests were put to a handler.
        bytes_sent: Bytes of content given to the server.
    """

    def __init__(
        self,
        url: str,
        *,
        hosts: Iterable[str] = (),
        token: str | None = None,
        schemes: frozenset[str] | None = None,
        client_idle_timeout: float | None = None,
    ) -> None:
        self._base = check_base_url(url)
        named = frozenset(map(host_value, (hosts,) if isinstance(hosts, str) else hosts))
        self._authorities = authorities_of(self._base) | (named - {"*"})
        self._any_host = "*" in named
        self._given = (token or None, schemes, client_idle_timeout)
        self._token = token or None
        self._schemes = schemes or _WEB
        self._client_idle = client_idle_timeout
        self._handler: Handler | None = None
        self._local: LocalUrls | None = None
        self._running: set[asyncio.Task[None]] = set()
        self.requests = 0
        self.bytes_sent = 0
        self._prepare()

    def _prepare(self) -> None:
        """Set up what a subclass needs besides."""

    def configure(self, settings: Settings, *, schemes: frozenset[str]) -> None:
        """Take over from a manager what was not given; called by it before `serve`."""
        token, own_schemes, client_idle = self._given
        self._token = token or settings.token or None
        self._schemes = own_schemes or schemes
        self._client_idle = client_idle or settings.client_idle_timeout

    @asynccontextmanager
    async def serve(self, handler: Handler) -> AsyncIterator[str]:
        """Let ``handler`` answer until the context is left; yields the base URL.

        Before and afterwards requests are answered 503. On leaving, clients in the middle of
        an answer are cut.

        Raises:
            ConfigurationError: If a handler answers already.
        """
        if self._handler is not None:
            raise ConfigurationError(
                "this frontend is serving already", hint="Make one for each handler"
            )
        self._handler = handler
        self._local = LocalUrls(
            base=self._base,
            authorities=self._authorities,
            schemes=self._schemes,
            token=self._token,
            protocols=_WEB,
        )
        try:
            yield self._base
        finally:
            self._handler = self._local = None
            await self._cut_all()

    async def _cut_all(self) -> None:
        for task in self._running:
            task.cancel()
        if self._running:
            await asyncio.wait(self._running, timeout=_CLOSE_TIMEOUT_S)
        for task in self._running:
            if not task.done():
                logger.error("a handler does not end when it is cancelled: %r", task)

    @property
    def is_serving(self) -> bool:
        """Whether a handler answers."""
        return self._handler is not None

    @property
    def base_url(self) -> str:
        """What every local URL begins with, without a final slash.

        Raises:
            ServerUnavailableError: If nothing is being served.
        """
        return self._urls.base

    @property
    def _urls(self) -> LocalUrls:
        if self._local is None:
            raise ServerUnavailableError(
                "no cache is open behind this application",
                hint="Enter the CacheManager, in the application's lifespan for example",
            )
        return self._local

    def url_for(self, source: str) -> str:
        """Return the local URL of ``source``; of a local URL, itself.

        Raises:
            InvalidURLError: If ``source`` is no URL that can be fetched.
            ServerUnavailableError: If nothing is being served.
        """
        return self._urls.url_for(source)

    def source_for(self, url: str) -> str | None:
        """Return the source URL of a local URL, None if it is none of ours."""
        return None if self._local is None else self._local.source_for(url)

    async def ensure_active(self) -> bool:
        """Return False: whether the application's server answers is its own affair.

        Raises:
            ServerUnavailableError: If nothing is being served.
        """
        _ = self._urls
        return False

    # What subclasses ask.

    @property
    def _served(self) -> frozenset[str]:
        """What `RequestHead.served` is for requests that come by the application."""
        return frozenset() if self._any_host else self._authorities

    def _ask_nowait(self, handler: Handler, head: RequestHead) -> Answer | None:
        """Return an answer if one is at hand.

        Raises:
            HandlerBugError: If a bug kept the handler from giving one; it is logged.
        """
        try:
            return handler.answer_nowait(head)
        except Exception as error:
            raise _bug(head, error) from error

    async def _ask(self, handler: Handler, head: RequestHead) -> Answer:
        """Return an answer, waiting for it.

        Raises:
            HandlerBugError: If a bug kept the handler from giving one; it is logged.
        """
        try:
            return await handler.answer(head)
        except Exception as error:
            raise _bug(head, error) from error


class HandlerBugError(Exception):
    """A handler raised, which none may; the client learns no more than that."""


def _bug(head: RequestHead, error: Exception) -> HandlerBugError:
    target = display(head.target)
    logger.error("the handler failed at %s %s", head.method, target, exc_info=error)
    return HandlerBugError()


def has_content(method: str, fields: Fields) -> bool:
    """Tell whether a GET or HEAD brings content, which has no meaning (RFC 9110 §9.3.1)."""
    if method not in ("GET", "HEAD"):
        return False
    length = fields.get("content-length")
    return (length is not None and length.strip("0 ") != "") or "transfer-encoding" in fields
