"""One request and its answer inside somebody else's aiohttp application.

The head is aiohttp's, so that the application's signals, cookies and keep-alive are as in
all its answers. The content leaves by a `Pump` on a duplicate of the socket, together with
the head where it is small. aiohttp tells a handler of a client that left only if the
whole server was set up so; but it tells the request's content, and there we listen.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from aiohttp import web
from aiohttp.streams import EmptyStreamReader

from cachestream.abc import Answer, Body, End, Piece, RequestHead
from cachestream.core.urls import display
from cachestream.errors import CacheStreamError, ClosedError
from cachestream.frontends._heads import Framing, check_status, framing_of, kept_lines
from cachestream.frontends._links import ClientGoneError, Link, link_to, reset_on_close
from cachestream.frontends._mounted import HandlerBugError
from cachestream.frontends._pump import ContentError, Pump
from cachestream.frontends._shared import NO_BODY

__all__ = ["Exchange"]

logger = logging.getLogger("cachestream.frontends")

T = TypeVar("T")


class _Alarm(EmptyStreamReader):
    """Stands in for a request's content, to hear when the connection is lost."""

    __slots__ = ("_lost",)

    def __init__(self, lost: Callable[[], None]) -> None:
        super().__init__()
        self._lost = lost

    def set_exception(self, *error: BaseException) -> None:
        self._lost()


class _SentResponse(web.StreamResponse):
    """What aiohttp is told of an answer that leaves past its writer."""

    # So that the head can leave together with the beginning of the content.
    _send_headers_immediately = False

    def enable_compression(self, *args: object, **options: object) -> None:
        """Do nothing: what is stored is sent as it is, and its length and ranges are so."""

    def take_head(self) -> bytes:
        """Return the head as bytes, which aiohttp does not send then."""
        writer: Any = self._payload_writer
        head: bytes = writer._headers_buf
        writer._headers_buf, writer._headers_written = None, True
        return head

    def note_sent(self, count: int) -> None:
        """Note that all of it has left."""
        self._body_length = count
        self._eof_sent = True
        self._payload_writer = None
        self._req = None


class Exchange:
    """Answers one request; good for one.

    Attributes:
        sent: Bytes of content handed to the kernel so far.
        done: Done when `close` was called.
    """

    def __init__(
        self, request: web.Request, head: RequestHead, *, idle_timeout: float | None
    ) -> None:
        self.sent = 0
        self._loop = asyncio.get_running_loop()
        self.done: asyncio.Future[None] = self._loop.create_future()
        self._request = request
        self._head = head
        self._idle_timeout = idle_timeout
        # The application may have made another request of the one that aiohttp knows.
        self._protocol: Any = request.protocol
        self._known: Any = self._protocol._current_request or request
        self._content = self._known._payload
        if type(self._content) is EmptyStreamReader:
            self._known._payload = _Alarm(self._lost)
        self._transport: asyncio.Transport | None = self._protocol.transport
        self._work: asyncio.Task[Any] | None = None
        self._link: Link | None = None
        self._started = False
        self._gone = self._transport is None
        self._closing = False
        self._end_is_content = False

    # What happens meanwhile.

    def _lost(self) -> None:
        """End what is done for a client that left."""
        self._gone = True
        if self._work is not None:
            self._work.cancel()
        if self._link is not None:
            self._link.release()

    def cut(self) -> None:
        """End the exchange, so that the client notices if it misses something."""
        self._closing = True
        if self._work is not None:
            self._work.cancel()
        if self._started:
            self.abort()

    def abort(self) -> None:
        """End the connection at once."""
        if self._transport is None:
            return
        if self._end_is_content:
            reset_on_close(self._transport)
        self._transport.abort()
        # Our duplicate of the socket would keep the connection open.
        if self._link is not None:
            self._link.release()

    def close(self) -> None:
        """Give up what is held, and the connection back as it was."""
        if isinstance(self._known._payload, _Alarm):
            self._known._payload = self._content
        if self._link is not None:
            self._link.release()
            self._link = None
        if self._transport is not None and not self._transport.is_closing():
            self._transport.set_write_buffer_limits()
        if not self.done.done():
            self.done.set_result(None)

    async def wait(self, work: Coroutine[Any, Any, T]) -> T:
        """Await something for the client, as long as the client is there.

        Raises:
            ClientGoneError: If it left.
            ClosedError: If `cut` was called.
        """
        task: asyncio.Task[T] = self._loop.create_task(work)
        self._work = task
        try:
            if self._gone or self._closing:
                task.cancel()
            await asyncio.wait((task,))
        finally:
            if not task.done():
                task.cancel()
                await asyncio.wait((task,))
            self._work = None
        if self._gone:
            if not task.cancelled() and task.exception() is None:
                _discard(task.result())
            raise ClientGoneError("the connection is lost")
        if task.cancelled():
            raise ClosedError("the cache was closed before this answer was complete")
        return task.result()

    # Sending.

    async def send(self, answer: Answer) -> web.StreamResponse:
        """Send an answer and close it; return what aiohttp has to know of it.

        Raises:
            HandlerBugError: If it cannot be sent.
            ClientGoneError: If the client is gone.
        """
        try:
            response = await self._prepare(answer)
            await self._settle()
            whole = await self._pump(answer, response.take_head())
        finally:
            answer.close()
        response.note_sent(self.sent)
        if not whole:
            response.force_close()
        return response

    async def _prepare(self, answer: Answer) -> _SentResponse:
        status = answer.head.status
        try:
            check_status(status)
            response = _SentResponse(status=status)
            for name, value in kept_lines((*answer.head.fields.lines, *answer.extra)):
                response.headers.add(name, _sendable(value))
        except ValueError as error:
            logger.error("no answer can be made for %s: %s", display(self._head.target), error)
            raise HandlerBugError from error
        # Which versions of which software answer is nobody's business.
        response.headers.setdefault("Server", "cachestream")
        if answer.length is not None and status not in (204, 304):
            response.content_length = answer.length
        await response.prepare(self._request)
        return response

    async def _settle(self) -> None:
        """Wait until nothing of earlier answers is left in the transport; then link to it."""
        if self._gone or self._transport is None:
            raise ClientGoneError("the connection is lost")
        # With a limit of 0, "drained" means that nothing of a piece is left in the transport.
        # asyncio's TLS transport calls itself full as soon as it holds as much as the limit.
        secure = self._transport.get_extra_info("sslcontext") is not None
        self._transport.set_write_buffer_limits(high=1 if secure else 0, low=0)
        if (waiter := self._drain()) is not None:
            try:
                async with asyncio.timeout(self._idle_timeout):
                    await waiter
            except (TimeoutError, ConnectionError):
                raise ClientGoneError("the client takes nothing") from None
        self._link = link_to(
            self._loop, self._transport, self._drain, idle_timeout=self._idle_timeout, direct=True
        )

    def _drain(self) -> asyncio.Future[None] | None:
        if not self._protocol.connected or not self._protocol.writing_paused:
            return None
        drained: Coroutine[Any, Any, None] = self._protocol._drain_helper()
        return self._loop.create_task(drained)

    async def _pump(self, answer: Answer, lead: bytes) -> bool:
        """Send head and content; False if it had to be cut."""
        head, link = self._head, self._link
        assert link is not None
        framing = framing_of(head.method, answer.head.status, answer.length, head.version)
        self._end_is_content = framing is Framing.CLOSE
        self._started = True
        pump = Pump(
            link,
            lead,
            NO_BODY if framing is Framing.NONE else answer.body,
            length=answer.length if framing is Framing.LENGTH else None,
            chunked=framing is Framing.CHUNKED,
        )
        target = display(head.target)
        try:
            await pump.run(self._next)
        except asyncio.CancelledError:
            self.abort()
            raise
        except (ConnectionError, ClosedError) as error:
            logger.debug("the answer to %s is cut: %s", target, error)
        except CacheStreamError as error:
            logger.warning("the answer to %s is cut: %s", target, error.message)
        except ContentError as error:
            logger.error("the answer to %s is cut: %s", target, error)
        except Exception:
            logger.exception("the answer to %s is cut", target)
        else:
            return True
        finally:
            self.sent = pump.sent
        self.abort()
        return False

    async def _next(self, body: Body, limit: int) -> Piece | End:
        return await self.wait(_next_of(body, limit))


async def _next_of(body: Body, limit: int) -> Piece | End:
    return await body.next(limit)


def _discard(result: object) -> None:
    if isinstance(result, Answer):
        result.close()


def _sendable(value: str) -> str:
    """Replace what is no UTF-8, which aiohttp cannot send."""
    return value.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
