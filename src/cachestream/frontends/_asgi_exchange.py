"""One request and its answer over ASGI.

A small answer that is at hand is sent at once. Any other is two tasks: one sends, the other
waits for the client to leave and then ends the first, which closes the reader. At most one
piece is in our hands; the next is taken when the server has taken this one, so that
``await send`` is the back-pressure.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, Final, TypeAlias
from weakref import WeakKeyDictionary

from cachestream.abc import Answer, AnswerHead, End, RequestHead
from cachestream.core.urls import display
from cachestream.errors import CacheStreamError, ClosedError
from cachestream.frontends._content import Content
from cachestream.frontends._heads import (
    check_status,
    field_lines,
    framing_of,
    plain_content,
)
from cachestream.frontends._links import ClientGoneError
from cachestream.frontends._mounted import HandlerBugError
from cachestream.frontends._pump import PIECE_COST, TURN, ContentError

__all__ = ["Application", "Exchange", "Receive", "Scope", "Send", "say"]

logger = logging.getLogger("cachestream.frontends")

Message: TypeAlias = MutableMapping[str, Any]
Scope: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[Message]]
Send: TypeAlias = Callable[[Message], Awaitable[None]]
Application: TypeAlias = Callable[[Scope, Receive, Send], Awaitable[None]]

Lines: TypeAlias = list[tuple[bytes, bytes]]
HeadLines: TypeAlias = WeakKeyDictionary[AnswerHead, Lines]

# Up to here an answer at hand is one message, and needs no task to watch over it.
_AT_ONCE: Final = 64 * 1024

_CLOSE_TIMEOUT_S: Final = 5.0

# Servers have a clock of their own and add it, some without a look at what is there.
_SERVERS_OWN: Final = frozenset({"date"})


class Exchange:
    """Answers one request; good for one.

    Args:
        head: The request.
        send: The server's.
        lines: Where rendered heads are kept.
        idle_timeout: Seconds a client may take nothing; None for ever.

    Attributes:
        sent: Bytes of content given to the server so far.
        started: Whether the head was given to it.
    """

    def __init__(
        self, head: RequestHead, send: Send, *, lines: HeadLines, idle_timeout: float | None
    ) -> None:
        self.sent = 0
        self._head = head
        self._send = send
        self._lines = lines
        self._idle_timeout = idle_timeout
        self._start: Message = {}
        self._content: Content | None = None
        self.started = False
        self._gone = False
        self._ending = False

    async def send_at_once(self, answer: Answer) -> bool:
        """Send an answer if all of it is at hand and little; it is closed then.

        Raises:
            HandlerBugError: If it cannot be sent; it is closed then too.
        """
        try:
            self._load(answer)
            assert self._content is not None
            whole = self._content.whole_nowait(_AT_ONCE)
        except Exception as error:
            answer.close()
            self._note(error)
            raise HandlerBugError from error
        if whole is None:
            return False
        answer.close()  # nothing is held while the client takes it
        self.sent = len(whole)
        await self._put(self._start)
        await self._put({"type": "http.response.body", "body": whole, "more_body": False})
        return True

    async def run(
        self,
        answer: Answer | None,
        ask: Callable[[], Awaitable[Answer]],
        receive: Receive,
        running: set[asyncio.Task[None]],
    ) -> None:
        """Send an answer, as long as the client is there.

        Args:
            answer: The one that `send_at_once` did not send; None if there is none yet.
            ask: Waits for one.
            receive: The server's.
            running: Where the sending task is known, so that it can be cancelled from outside.

        Raises:
            HandlerBugError: If there is no answer that could be sent.
            ClosedError: If the sending task was cancelled, so that the server cuts the answer.
            Exception: If the content cannot be completed.
        """
        loop = asyncio.get_running_loop()
        work = loop.create_task(self._answer(answer, ask))
        watch = loop.create_task(self._watch(receive, work))
        running.add(work)
        work.add_done_callback(running.discard)
        try:
            await asyncio.wait((work,))
        finally:
            work.cancel()
            watch.cancel()
            await asyncio.wait((work, watch), timeout=_CLOSE_TIMEOUT_S)
        if not work.done():
            logger.error("a handler does not end when it is cancelled: %r", work)
            raise ClosedError("the cache was closed before this answer was complete")
        if self._gone:
            work.cancelled() or work.exception()  # seen
            logger.debug("the client of %s is gone", display(self._head.target))
        elif work.cancelled():
            raise ClosedError("the cache was closed before this answer was complete")
        elif (error := work.exception()) is not None:
            raise error

    async def _watch(self, receive: Receive, work: asyncio.Task[None]) -> None:
        """End the work when the client leaves."""
        try:
            while (await receive())["type"] != "http.disconnect":
                pass  # content that nobody asked for
        except Exception:
            logger.debug("the server tells no more of a client", exc_info=True)
        if self._ending:
            # Servers say so as well when an answer is complete, and we learn that later than they.
            await asyncio.wait((work,), timeout=_CLOSE_TIMEOUT_S)
        if not work.done():
            self._gone = True
            work.cancel()

    async def _answer(self, answer: Answer | None, ask: Callable[[], Awaitable[Answer]]) -> None:
        try:
            if answer is None:
                answer = await ask()
                self._load(answer)
            await self._put(self._start)
            self.started = True
            await self._pump()
        except (ClientGoneError, HandlerBugError):
            raise
        except Exception as error:
            self._note(error)
            if not self.started:
                raise HandlerBugError from error
            raise
        finally:
            if answer is not None:
                answer.close()

    def _load(self, answer: Answer) -> None:
        """Make what `http.response.start` says.

        Raises:
            ValueError: If the status or a field cannot be sent, which is a handler's bug.
        """
        head = answer.head
        framing = framing_of(self._head.method, head.status, answer.length, self._head.version)
        lines = self._lines.get(head)
        if lines is None:
            check_status(head.status)
            lines = self._lines[head] = field_lines(head.fields.lines, without=_SERVERS_OWN)
        lines = lines + field_lines(answer.extra, without=_SERVERS_OWN)
        # RFC 9110 §8.6: never in 1xx and 204; in a 304 only if it is the length of the 200.
        if answer.length is not None and head.status not in (204, 304):
            lines.append((b"content-length", b"%d" % answer.length))
        self._start = {"type": "http.response.start", "status": head.status, "headers": lines}
        self._content = Content(answer, framing)

    async def _pump(self) -> None:
        content = self._content
        assert content is not None
        budget = TURN
        over = False
        while not over:
            piece = content.take_nowait()
            if piece is None:
                piece = await content.next()
            if isinstance(piece, End):
                break
            over = self._ending = content.is_over
            self.sent += len(piece)
            await self._put({"type": "http.response.body", "body": piece, "more_body": not over})
            # A server that takes all at once must not hold the loop.
            budget -= len(piece) + PIECE_COST
            if budget <= 0:
                budget = TURN
                await asyncio.sleep(0)
        if not over:
            self._ending = True
            await self._put({"type": "http.response.body", "body": b"", "more_body": False})

    async def _put(self, message: Message) -> None:
        """Give the server a message, when it has room.

        Raises:
            ClientGoneError: If the client left, or takes nothing for too long.
        """
        try:
            async with asyncio.timeout(self._idle_timeout):
                await self._send(message)
        except TimeoutError:
            raise ClientGoneError(f"the client took nothing for {self._idle_timeout:g} s") from None
        except OSError as error:  # what ASGI has servers raise for a connection that is lost
            self._gone = True
            raise ClientGoneError("the connection is lost") from error

    def _note(self, error: Exception) -> None:
        """Log why an answer is cut, or not given at all."""
        target = display(self._head.target)
        if isinstance(error, CacheStreamError):
            logger.warning("the answer to %s is cut: %s", target, error.message)
        elif isinstance(error, ContentError):
            logger.error("the answer to %s is cut: %s", target, error)
        else:
            logger.error("the answer to %s is cut", target, exc_info=error)


async def say(send: Send, scope: Scope, status: int, *, last: bool = False) -> None:
    """Answer of our own accord, in one line of text.

    Args:
        last: Whether no request may follow on this connection.
    """
    text = plain_content(status)
    lines = [
        (b"content-type", b"text/plain; charset=utf-8"),
        (b"x-content-type-options", b"nosniff"),
        (b"content-length", b"%d" % len(text)),
    ]
    if last and scope.get("http_version", "1.1").startswith("1"):
        lines.append((b"connection", b"close"))
    await send({"type": "http.response.start", "status": status, "headers": lines})
    body = b"" if scope["method"] == "HEAD" else text
    await send({"type": "http.response.body", "body": body, "more_body": False})
