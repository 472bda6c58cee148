"""One client's connection: aiohttp parses its requests, we answer them.

aiohttp's `RequestHandler` reads heads, queues pipelined requests and has `exchange_of`
called for one after the other, in a task; that task writes the whole answer itself.

Who leaves when: a lost connection cancels the task, which closes the answer. A client
that shuts down its sending side only (``nc -N``) cannot be told from one that left. It
gets what is at hand, for sending tells the two apart; as soon as something would have
to be waited for, it counts as gone.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any, Final, TypeVar, cast

from aiohttp import web
from aiohttp.streams import EMPTY_PAYLOAD, StreamReader

from cachestream.abc import Answer, Body, End, Piece, RequestHead, Slice
from cachestream.core.fields import Fields
from cachestream.core.urls import display
from cachestream.errors import CacheStreamError
from cachestream.frontends._access import AccessRecord, access_logger
from cachestream.frontends._addresses import authority, is_unix
from cachestream.frontends._heads import Framing, framing_of, plain_answer
from cachestream.frontends._lane import Lane, Ready
from cachestream.frontends._links import (
    ClientGoneError,
    Link,
    SocketLink,
    link_to,
    reset_on_close,
    tune,
)
from cachestream.frontends._pump import TURN, ContentError, Pump
from cachestream.frontends._shared import CLOSING, LASTING, NO_BODY, Shared

__all__ = ["MAX_HEAD", "MAX_LINE", "Connection", "exchange_of"]

logger = logging.getLogger("cachestream.frontends")

T = TypeVar("T")

MAX_LINE: Final = 8190
"""Longest request line, and longest field, in bytes."""

MAX_HEAD: Final = 16 * 1024
"""Longest request head, in bytes."""


async def exchange_of(request: web.BaseRequest) -> web.StreamResponse:
    """Answer a request on the connection it came by."""
    connection = request.protocol
    assert isinstance(connection, Connection)
    return await connection.exchange(request)


class Connection(web.RequestHandler, asyncio.BufferedProtocol):
    """One client; see the head of this file."""

    def __init__(
        self, server: web.Server, shared: Shared, loop: asyncio.AbstractEventLoop, **kwargs: Any
    ) -> None:
        super().__init__(server, loop=loop, **kwargs)
        self._shared = shared
        self._wire: asyncio.Transport | None = None
        self._link: Link | None = None
        self._client: str | None = None
        self._served: frozenset[str] = frozenset()
        self._answered = 0
        self._waiting = False
        self._access: AccessRecord | None = None
        self._half_closed = False
        self._end_is_content = False
        self._head_bytes = 0
        self._bulky = False
        self._timer: asyncio.TimerHandle | None = None
        self._content: StreamReader = EMPTY_PAYLOAD
        self._drained: asyncio.Future[None] | None = None
        self._lane: Lane | None = None
        self._rest: asyncio.Task[None] | None = None

    # What the event loop tells.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take a client in, unless there are too many."""
        # Other loops' transports have its methods without being one.
        transport = cast("asyncio.Transport", transport)
        self._wire = transport
        shared = self._shared
        peer = transport.get_extra_info("peername")
        if peer in shared.expected or len(shared.clients) >= shared.limits.clients:
            self._turn_away(peer)
            return
        shared.clients.add(self)
        self._client = peer[0] if isinstance(peer, tuple) else None
        if is_unix(transport.get_extra_info("socket")):
            self._served = shared.served_unix
        elif shared.add_local:
            self._served = shared.served | {authority(transport.get_extra_info("sockname"))}
        else:
            self._served = shared.served
        tune(transport)
        super().connection_made(transport)
        if self._task_handler is not None:
            shared.tasks.add(self._task_handler)
            self._task_handler.add_done_callback(shared.tasks.discard)
        self._time_head()

    def connection_lost(self, exc: BaseException | None) -> None:
        """End everything that was done for this client."""
        self._shared.clients.discard(self)
        self._shared.refused.discard(self)
        self._stop_timer()
        self._wire = None
        self._lane = None
        if self._link is not None:
            self._link.release()
        super().connection_lost(exc)
        self._wake()

    def eof_received(self) -> bool | None:  # type: ignore[override]  # as asyncio has it
        """Judge what the end of a client's sending means; True keeps the connection."""
        self._half_closed = True
        if self._force_close or not self._busy:
            return None
        if self._waiting:
            self.cut()
        return True

    def get_buffer(self, sizehint: int) -> memoryview:
        """Return where to put what is received: taken over at once, so one buffer serves all."""
        return self._shared.buffer

    def buffer_updated(self, nbytes: int) -> None:
        """Take over what was received."""
        self.data_received(bytes(self._shared.buffer[:nbytes]))

    def data_received(self, data: bytes) -> None:
        """Answer at once if that is possible, else let aiohttp parse.

        Until a head is there, its size and its time are watched over.
        """
        if self._force_close:
            return
        lane = self._lane
        if lane is not None and self._is_idle and self._answer_at_once(lane, data):
            return
        count = self._request_count
        if self._head_bytes + len(data) > MAX_HEAD:
            self._bulky = True
        super().data_received(data)
        if self._request_count != count:
            self._head_bytes = 0
            self._stop_timer()
            if self._messages:
                self._content = self._messages[-1][1]
        elif data and self._content.is_eof():
            self._head_bytes += len(data)
            if self._head_bytes > MAX_HEAD:
                self._refuse_head(431)
            elif self._timer is None:
                self._time_head()

    def resume_writing(self) -> None:
        """Wake whoever waits for the transport to be empty."""
        super().resume_writing()
        self._wake()

    # Refusals that are no answers to a whole request.

    def _turn_away(self, peer: object) -> None:
        self._force_close = True  # so that nothing it sends is parsed
        self._shared.refused.add(self)
        probe = self._shared.expected.get(peer)
        if probe is None:
            logger.warning("a client is refused: %d are connected", len(self._shared.clients))
            self._say_goodbye(503)
            return
        if not probe.done():
            probe.set_result(None)
        self.cut()

    def _time_head(self) -> None:
        self._timer = self._loop.call_later(self._shared.limits.head_time, self._head_overdue)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _head_overdue(self) -> None:
        self._timer = None
        logger.debug("%s did not finish its request in time", self._client)
        if self._head_bytes:
            self._refuse_head(408)
        elif not self._busy:
            # It never began to ask, so there is nothing to answer.
            self.cut()

    def _refuse_head(self, status: int) -> None:
        if self._busy:
            # What was asked before is answered; then the connection ends.
            self.close()
        else:
            self._say_goodbye(status)

    def _say_goodbye(self, status: int) -> None:
        """Answer of our own accord, and close when the client had time to read it."""
        self._force_close = True
        if self._task_handler is not None:
            self._task_handler.cancel()
        if self._wire is None:
            return
        self._wire.write(plain_answer(status))
        if self._wire.can_write_eof():
            self._wire.write_eof()
        self._stop_timer()
        self._timer = self._loop.call_later(self._shared.limits.linger, self.cut)

    def cut(self) -> None:
        """End the connection at once, so that the client notices what it misses."""
        if self._wire is None:
            return
        if self._end_is_content:
            reset_on_close(self._wire)
        self._wire.abort()

    # One request that needs no waiting.

    @property
    def _is_idle(self) -> bool:
        """Whether aiohttp waits for the first byte of a next request, and for nothing else."""
        waiter = self._waiter
        return (
            waiter is not None
            and not waiter.done()
            and not self._head_bytes
            and self._keepalive_handle is not None
            and not self._upgraded
        )

    def _answer_at_once(self, lane: Lane, data: bytes) -> bool:
        """Answer a plain request for stored bytes; False if that is not what it is."""
        link, shared = self._link, self._shared
        if not isinstance(link, SocketLink) or access_logger.isEnabledFor(logging.DEBUG):
            return False
        try:
            found = lane.match(data, TURN)
            if found is None:
                return False
            ready, part = found
            lead = ready.lead(part, shared.heads)
        except Exception:
            logger.exception("a shortcut failed; the request goes the ordinary way")
            return False
        size = part.stop - part.start
        shared.requests += 1
        try:
            sent = link.start(lead, part.descriptor, part.offset, size)
        except ConnectionError as error:
            logger.debug("the client of %s is gone: %s", display(ready.target), error)
            self.cut()
            return True
        if sent == len(lead) + size:
            shared.bytes_sent += size
            self._rest_from_now()
        else:
            self._send_rest(ready, part, lead, sent)
        return True

    def _send_rest(self, ready: Ready, part: Slice, lead: bytes, sent: int) -> None:
        """Send by and by what the socket did not take; until then nothing more is read."""
        assert self._wire is not None
        self._wire.pause_reading()
        done = max(0, sent - len(lead))
        self._shared.bytes_sent += done
        body = ready.shortcut.rest(part, done)
        pump = Pump(
            self._sender(), lead[sent:], body, length=part.stop - part.start - done, chunked=False
        )
        task = self._rest = self._loop.create_task(self._finish(pump, body, ready.target))
        self._shared.tasks.add(task)
        task.add_done_callback(self._shared.tasks.discard)

    async def _finish(self, pump: Pump, body: Body, target: str) -> None:
        try:
            whole = await self._pump(pump, target)
        finally:
            self._rest = None
            body.close()
        if whole and self._wire is not None:
            self._rest_from_now()
            self._wire.resume_reading()

    def _rest_from_now(self) -> None:
        """Let the time begin that the connection may rest before aiohttp closes it."""
        self._next_keepalive_close_time = self._loop.time() + self._keepalive_timeout

    def _process_keepalive(self) -> None:
        """Close a connection that rests too long; aiohttp does not know of what is being sent."""
        if self._rest is not None:
            self._rest_from_now()
        super()._process_keepalive()

    # One request.

    @property
    def _busy(self) -> bool:
        """Whether a request was received that is not answered yet."""
        return self._request_count > self._answered or self._rest is not None

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """Answer what is no HTTP; aiohttp calls this, and closes afterwards."""
        logger.debug("%s sent something that is not HTTP: %r", self._client, exc)
        return self._refuse(status)

    async def exchange(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer one request wholly; tell aiohttp whether the connection goes on."""
        if access_logger.isEnabledFor(logging.DEBUG):
            self._access = self._begin_record(request)
        try:
            status = self._refusal(request)
            if status is not None:
                return self._refuse(status)
            head = self._head_of(request)
            answer = await self._ask(head)
            if answer is None:
                return self._refuse(500)
            try:
                return await self._send(request, head, answer)
            finally:
                _close(answer)
        except ClientGoneError:
            self.cut()
            return CLOSING
        finally:
            self._answered += 1
            self._shared.requests += 1
            if self._access is not None:
                self._access.write()
                self._access = None

    def _begin_record(self, request: web.BaseRequest) -> AccessRecord:
        return AccessRecord(
            method=request.method,
            target=request.raw_path,
            range=request.headers.get("Range"),
            client=self._client,
            now=self._loop.time,
        )

    def _refusal(self, request: web.BaseRequest) -> int | None:
        """Return the status of a request that no handler needs to see, else None."""
        if request.version.major != 1:
            return 505
        # Only who has sent so much at a time can have sent so long a head.
        if self._bulky and _size(request) > MAX_HEAD:
            return 431
        # RFC 9110 §9.3.1: content of a GET has no meaning, but is a way to smuggle requests.
        if request.method in ("GET", "HEAD") and request.body_exists:
            return 413
        return None

    def _refuse(self, status: int) -> web.StreamResponse:
        if self._access is not None:
            self._access.status = status
            self._access.complete = self._wire is not None
        if self._wire is not None:
            self._wire.write(plain_answer(status))
        return CLOSING

    def _head_of(self, request: web.BaseRequest) -> RequestHead:
        # `raw_headers` and `path` are what came; the parsed forms have lost spelling.
        message = request._message
        lines = tuple(
            (name.decode("utf-8", "surrogateescape"), value.decode("utf-8", "surrogateescape"))
            for name, value in message.raw_headers
        )
        return RequestHead(
            method=message.method,
            target=message.path,
            fields=Fields(lines),
            version=(message.version.major, message.version.minor),
            served=self._served,
            client=self._client,
        )

    async def _ask(self, head: RequestHead) -> Answer | None:
        """Return the handler's answer, None if a bug kept it from giving one."""
        handler = self._shared.handler
        try:
            answer = handler.answer_nowait(head)
            if answer is None:
                answer = await self._wait(lambda: handler.answer(head))
        except ClientGoneError:
            raise
        except Exception:
            logger.exception("the handler failed at %s %s", head.method, display(head.target))
            return None
        return answer

    async def _wait(self, start: Callable[[], Awaitable[T]]) -> T:
        """Await something for the client, as long as the client is there."""
        if self._half_closed:
            raise ClientGoneError("the client sends no more, and there is nothing to send it")
        self._waiting = True
        try:
            return await start()
        finally:
            self._waiting = False

    async def _next(self, body: Body, limit: int) -> Piece | End:
        return await self._wait(lambda: body.next(limit))

    async def _send(
        self, request: web.BaseRequest, head: RequestHead, answer: Answer
    ) -> web.StreamResponse:
        status, length = answer.head.status, answer.length
        framing = framing_of(head.method, status, length, head.version)
        keep_alive = self._goes_on(request) and framing is not Framing.CLOSE
        try:
            lead = self._shared.heads.render(answer, framing, head.version, keep_alive)
        except ValueError:
            logger.exception("no answer can be made for %s", display(head.target))
            return self._refuse(500)
        self._end_is_content = framing is Framing.CLOSE
        pump = Pump(
            self._sender(),
            lead,
            NO_BODY if framing is Framing.NONE else answer.body,
            length=length if framing is Framing.LENGTH else None,
            chunked=framing is Framing.CHUNKED,
        )
        if self._access is not None:
            self._access.answered(answer)
        whole = await self._pump(pump, head.target)
        self._end_is_content = False
        return LASTING if keep_alive and whole and self._goes_on(request) else CLOSING

    def _sender(self) -> Link:
        if self._wire is None:
            raise ClientGoneError("the connection is lost")
        if self._link is None:
            self._link = link_to(
                self._loop,
                self._wire,
                self._drain,
                idle_timeout=self._shared.limits.client_idle,
                direct=self._shared.direct,
            )
            if self._link.zero_copy:
                self._lane = self._shared.lane(self._served, self._client)
        return self._link

    async def _pump(self, pump: Pump, target: str) -> bool:
        """Send an answer; False if it had to be cut."""
        try:
            await pump.run(self._next)
        except asyncio.CancelledError:
            self.cut()
            raise
        except ConnectionError as error:
            logger.debug("the client of %s is gone: %s", display(target), error)
        except CacheStreamError as error:
            logger.warning("the answer to %s is cut: %s", display(target), error.message)
        except ContentError as error:
            logger.error("the answer to %s is cut: %s", display(target), error)
        except Exception:
            logger.exception("the answer to %s is cut", display(target))
        else:
            if self._access is not None:
                self._access.complete = True
            return True
        finally:
            self._shared.bytes_sent += pump.sent
            if self._access is not None:
                self._access.sent = pump.sent
        self.cut()
        return False

    def _goes_on(self, request: web.BaseRequest) -> bool:
        """Whether another request may follow on this connection."""
        if not request.keep_alive or self._close or self._force_close:
            return False
        # What follows a CONNECT may be meant for the tunnel that it did not get, and what
        # follows unread content cannot be told from it.
        if request.method == "CONNECT":
            return False
        if request.body_exists and not request.content.is_eof():
            return False
        return not self._half_closed or self._request_count > self._answered + 1

    # Waiting for the transport to be empty; only `TransportLink` does.

    def _drain(self) -> asyncio.Future[None] | None:
        if self._wire is None or not self.writing_paused:
            return None
        if self._drained is None or self._drained.done():
            self._drained = self._loop.create_future()
        return self._drained

    def _wake(self) -> None:
        waiter, self._drained = self._drained, None
        if waiter is not None and not waiter.done():
            waiter.set_result(None)


def _size(request: web.BaseRequest) -> int:
    """Return about how many bytes a head had on the wire."""
    lines = sum(len(name) + len(value) + 4 for name, value in request.raw_headers)
    return len(request.method) + len(request.raw_path) + lines


def _close(answer: Answer) -> None:
    try:
        answer.close()
    except Exception:
        logger.exception("an answer could not be closed")
