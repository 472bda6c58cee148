"""The response of `HttpTransport`."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Callable
from typing import Final

import aiohttp

from cachestream.abc import Buffer, Sink, UpstreamResponse
from cachestream.core.fields import Fields
from cachestream.core.urls import display
from cachestream.errors import ClosedError, TransportError
from cachestream.transports._direct import Direct, Room
from cachestream.transports._failures import FramingError, cause_of, translate_content
from cachestream.transports._session import Watched

__all__ = ["HttpResponse"]

_CONTROL: Final = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]")
# After a parsing error aiohttp's own exceptions reach the content, too.
_CONTENT_FAILURES: Final = (aiohttp.ClientError, OSError, TimeoutError)


def _fields(raw: tuple[tuple[bytes, bytes], ...]) -> Fields:
    # RFC 9110 §5.5 lets a recipient put a space for a control character. Bytes that are not
    # UTF-8 become lone surrogates, which encode to the same bytes again.
    return Fields(
        tuple(
            (
                name.decode("utf-8", "surrogateescape"),
                _CONTROL.sub(b" ", value).strip(b" \t").decode("utf-8", "surrogateescape"),
            )
            for name, value in raw
        )
    )


class HttpResponse(UpstreamResponse):
    """An aiohttp response that gives content as it arrives."""

    def __init__(
        self,
        response: aiohttp.ClientResponse,
        *,
        url: str,
        request_time: float,
        response_time: float,
        forget: Callable[[HttpResponse], None],
        room: Room,
    ) -> None:
        self.status = response.status
        self.fields = _fields(response.raw_headers)
        self.url = url
        self.request_time = request_time
        self.response_time = response_time
        self._response = response
        self._forget = forget
        self._closed = False
        self._taken = 0
        self._room = room
        self._broken: Exception | None = None
        codings = (self.fields.joined("Transfer-Encoding") or "").lower()
        self._until_close = "chunked" not in codings and "Content-Length" not in self.fields
        # Without `Watched` (a session of the user's) a reset that came with the head is missed.
        if isinstance(response, Watched):
            self._lost = response.lost
        else:
            connection = response.connection
            protocol = None if connection is None else connection.protocol
            self._lost = None if protocol is None else protocol.closed
        if self._lost is not None:
            self._lost.add_done_callback(self._on_lost)

    def _on_lost(self, lost: asyncio.Future[None]) -> None:
        """End the content when aiohttp does not: after a broken chunk it forgets its reader."""
        if not lost.cancelled():
            lost.exception()
        content = self._response.content
        if not content.is_eof() and content.exception() is None:
            content.set_exception(FramingError())

    async def _read(self) -> bytes:
        """Return the next piece; empty at a clean end."""
        if self._closed:
            raise ClosedError("the response is closed", url=display(self.url))
        if self._broken is not None:
            raise self._broken
        try:
            piece = await self._response.content.readany()
        except _CONTENT_FAILURES as exc:
            return self._rescued(exc, cause_of(exc))
        except Exception as exc:
            # Errors of aiohttp's parser have no public base class.
            if not type(exc).__module__.startswith("aiohttp."):
                raise
            return self._rescued(exc, exc)
        if not piece:
            self._check_end()
        self._taken += len(piece)
        return piece

    def _rescued(self, exc: Exception, cause: BaseException | None) -> bytes:
        """Return what came before the content broke; raise when there is nothing (more).

        aiohttp raises at once, and would give up up to 128 KiB that have arrived. An origin
        that drops often would then never be read to its end.
        """
        self._broken = self._failure(exc)
        self._broken.__cause__ = cause
        # Private, hence the care; without it only these bytes are lost.
        buffer = getattr(self._response.content, "_buffer", [])
        rest = b"".join(buffer)
        if self._closed or not rest:
            raise self._broken
        buffer.clear()
        return rest

    def _failure(self, exc: Exception) -> Exception:
        if self._closed:
            return ClosedError("the response is closed", url=display(self.url))
        return translate_content(exc, self.url)

    def _check_end(self) -> None:
        lost = self._lost
        if not self._until_close or lost is None or not lost.done() or lost.cancelled():
            return
        broken = lost.exception()
        if broken is not None:
            raise TransportError(
                "the connection broke before the content's end", url=display(self.url)
            ) from broken

    async def _pieces(self) -> AsyncIterator[Buffer]:
        while piece := await self._read():
            yield piece

    def __aiter__(self) -> AsyncIterator[Buffer]:
        return self._pieces()

    async def pour(self, sink: Sink) -> bool:
        while piece := await self._read():
            if not sink.write(piece) and not await sink.drain():
                return False
            direct = None if self._closed else Direct.of(self._response, self._taken, self._room)
            if direct is not None and not await self._pour_direct(direct, sink):
                return False
        return True

    async def _pour_direct(self, direct: Direct, sink: Sink) -> bool:
        try:
            wanted = await direct.pour(sink)
        except BaseException:
            self.close()  # nobody could tell any more where the content goes on
            raise
        if not wanted:
            self.close()
        return wanted

    def close(self) -> None:
        """Release the connection: to the pool after a clean end, else it is cut."""
        if self._closed:
            return
        self._closed = True
        if self._lost is not None:
            self._lost.remove_done_callback(self._on_lost)
        connection = self._response.connection
        if connection is not None and connection.transport is not None:
            # Not closed but aborted: over TLS a close would go on receiving, for the peer's
            # farewell, whatever it still sends.
            connection.transport.abort()
        self._response.close()
        self._forget(self)

    async def aclose(self) -> None:
        self.close()
