"""What a download does after a failed exchange: wait, renew its URL, or give up."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Final

from cachestream.abc import Buffer, UpstreamResponse
from cachestream.core.backoff import delay, parse_retry_after
from cachestream.errors import (
    TLSError,
    TooManyRedirectsError,
    TransportError,
    UpstreamStatusError,
)
from cachestream.settings import KIB

from .renewing import renew_url

if TYPE_CHECKING:
    from .resource import Resource

__all__ = ["QUICK_TRIES", "RetryPolicy", "status_error"]

logger: Final = logging.getLogger("cachestream.engine")

QUICK_TRIES: Final = 3
"""After so many failures a client that has no answer yet is told, instead of kept waiting."""

QUICK_WAIT: Final = 5.0
"""An origin that asks for more seconds than this is not waited for before the first head."""

REFRESHES: Final = 3
"""How often a URL may be renewed without progress."""

RENEWABLE: Final = frozenset({401, 403, 410})
"""Statuses by which origins say that a signature or a lease has run out."""

ERROR_CONTENT: Final = 64 * KIB
"""How much of an origin's error page is passed on."""


class RetryPolicy:
    """Counts a download's failures since its last progress."""

    def __init__(self, resource: Resource) -> None:
        self._resource = resource
        self._since = 0.0
        self._refreshes = 0
        self.failures = 0
        self.renewal_error: Exception | None = None

    def progressed(self) -> None:
        """Begin to count anew: bytes have come."""
        self.failures = self._refreshes = 0

    def failed(self, error: TransportError, *, begun: bool) -> float | None:
        """Count a failure; return the seconds until the next attempt, None to give up.

        Args:
            error: What happened.
            begun: Whether a head has been seen, so that clients may be waiting in mid-content.
        """
        now = asyncio.get_running_loop().time()
        if self.failures == 0:
            self._since = now
        self.failures += 1
        if isinstance(error, TLSError | TooManyRedirectsError):
            return None
        settings, context = self._resource.settings, self._resource.context
        pause = delay(
            self.failures - 1,
            first=settings.retry_delay,
            cap=settings.max_retry_delay,
            jitter=context.chance.random(),
        )
        asked = error.retry_after if isinstance(error, UpstreamStatusError) else None
        if asked is not None:
            pause = max(pause, parse_retry_after(asked, context.clock()) or 0.0)
        if not begun and (self.failures >= QUICK_TRIES or pause > QUICK_WAIT):
            return None
        return None if now - self._since + pause > settings.request_timeout else pause

    async def renew(self, status: int, asked: str) -> bool:
        """Get another URL after ``asked`` was refused; True if there is one now.

        An error of the program's function is logged and kept: the refusal is its consequence.

        Raises:
            TransportError: If asking for one failed; that may pass.
        """
        if status not in RENEWABLE or self._refreshes >= REFRESHES:
            return False
        self._refreshes += 1
        try:
            return await renew_url(self._resource, status, asked)
        except TransportError:
            raise
        except Exception as error:
            logger.warning("the URL of %s was not renewed: %s", self._resource.shown, error)
            self.renewal_error = error
            return False


async def status_error(
    resource: Resource, status: int, response: UpstreamResponse
) -> UpstreamStatusError:
    """Return an error that carries enough of the origin's answer to be passed on."""
    error = UpstreamStatusError(
        f"the origin answered {status}",
        status=status,
        url=resource.source,
        hint="What is stored of it stays stored.",
    )
    page = _Page()
    try:
        async with asyncio.timeout(resource.settings.read_timeout):
            await response.pour(page)
    except (TransportError, TimeoutError):
        page.content.clear()
    error.content = bytes(page.content[:ERROR_CONTENT])
    error.media_type = response.fields.get("content-type")
    error.retry_after = response.fields.get("retry-after")
    return error


class _Page:
    """Keeps the beginning of an error page."""

    def __init__(self) -> None:
        self.content = bytearray()

    def write(self, piece: Buffer) -> bool:
        self.content += piece
        return len(self.content) < ERROR_CONTENT

    async def drain(self) -> bool:
        return False
