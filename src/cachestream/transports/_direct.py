"""Content of known length, straight from its connection into a sink.

aiohttp brings content as objects of their own, through its parser, a queue and a task that
wakes for each of them. Once a head has been parsed and the rest is so many bytes, nothing of
that is needed: the connection is lent to a `Direct`, which receives into one buffer for all
(`Room`), and goes back to aiohttp with the last byte, or as soon as anything else happens.
"""

from __future__ import annotations

import asyncio
from typing import Final, Self, cast

import aiohttp
from aiohttp.client_proto import ResponseHandler

from cachestream.abc import Buffer, Sink
from cachestream.transports._session import Watched

__all__ = ["Direct", "Room"]

_SIZE: Final = 1024 * 1024
"""Bytes of the buffer: as many as may come in one turn."""

_WORTH: Final = 256 * 1024
"""For fewer missing bytes it is not worth while to take the connection over."""


class Room:
    """The buffer into which all connections of one loop receive, each within a call.

    A sink may keep what it was given. Then the buffer is its own, and the next bytes get another.
    """

    def __init__(self) -> None:
        self._buffer = bytearray()

    def free(self, most: int) -> memoryview:
        """Return where at most ``most`` bytes may be put."""
        if not self._buffer or not _is_free(self._buffer):
            self._buffer = bytearray(_SIZE)
        return memoryview(self._buffer)[:most]

    def taken(self, count: int) -> Buffer:
        """Return the first bytes of what was put there last."""
        piece = memoryview(self._buffer)[:count]
        # Whoever keeps a small piece shall not keep all the rest, too.
        return piece if 2 * count >= _SIZE else bytes(piece)


class Direct(asyncio.BufferedProtocol):
    """Has a connection for the rest of one response's content.

    Args:
        missing: How many bytes of content are still to come; at least one.
    """

    @classmethod
    def of(cls, response: aiohttp.ClientResponse, taken: int, room: Room) -> Self | None:
        """Return one for what is left of a response after ``taken`` bytes.

        Returns:
            None where that cannot be, or not yet, or does not pay.
        """
        connection = response.connection
        if not isinstance(response, Watched) or connection is None:
            return None
        handler, transport = connection.protocol, connection.transport
        content = response.content
        if handler is None or transport is None or transport.is_closing():
            return None
        if content.is_eof() or content.exception() is not None or not transport.is_reading():
            return None
        if content.total_bytes != taken:
            return None  # some of it waits in the response's own buffer
        missing = _missing(response)
        return cls(response, handler, transport, missing, room) if missing >= _WORTH else None

    def __init__(
        self,
        response: aiohttp.ClientResponse,
        handler: ResponseHandler,
        transport: asyncio.Transport,
        missing: int,
        room: Room,
    ) -> None:
        self._content = response.content
        self._handler = handler
        self._transport = transport
        self._missing = missing
        self._loop = asyncio.get_running_loop()
        self._room = room
        self._sink: Sink
        self._error: Exception | None = None
        self._lent = self._paused = False
        self._waiter: asyncio.Future[None] | None = None
        self._timeout: float | None = None
        self._heard = 0.0
        self._timer: asyncio.TimerHandle | None = None

    async def pour(self, sink: Sink) -> bool:
        """Give content to ``sink`` until it has all, or the connection is aiohttp's again.

        Returns:
            False when the sink wanted no more.

        Raises:
            Exception: Whatever the sink raises.
        """
        self._sink = sink
        self._take()
        try:
            while True:
                await self._woken()
                if self._error is not None:
                    raise self._error
                if not self._paused:
                    return True
                if not await sink.drain():
                    return False
                self._paused = False
                if not self._lent:
                    return True
                self._heard = self._loop.time()
                self._transport.resume_reading()
        finally:
            self._give_back()
            self._error = None  # its traceback leads here

    async def _woken(self) -> None:
        if self._lent and not self._paused:
            self._waiter = self._loop.create_future()
            try:
                await self._waiter
            finally:
                self._waiter = None

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    # -- borrowing the connection -----------------------------------------

    def _take(self) -> None:
        self._lent = True
        self._timeout, self._handler.read_timeout = self._handler.read_timeout, None
        self._handler.start_timeout()  # with None it stops
        self._heard = self._loop.time()
        self._watch()
        self._transport.set_protocol(self)

    def _give_back(self) -> None:
        if not self._lent:
            return
        self._lent = False
        if self._timer is not None:
            self._timer.cancel()
        self._transport.set_protocol(self._handler)
        self._handler.read_timeout = self._timeout
        self._wake()

    def _finish(self) -> None:
        """Tell aiohttp that the content is over: it keeps the connection, if it can be kept."""
        self._give_back()
        # Its parser waits for content still. A fresh one judges what may come unasked.
        self._handler.set_response_params(read_timeout=self._timeout)
        self._content.feed_eof()

    def _watch(self) -> None:
        if self._timeout:
            due = self._heard + self._timeout
            self._timer = self._loop.call_at(due, self._check_time)

    def _check_time(self) -> None:
        """End content that stands still; a pause that the sink asked for is no silence."""
        now = self._loop.time()
        if self._paused:
            self._heard = now
        if now < self._heard + (self._timeout or 0):
            self._watch()
            return
        self._give_back()
        self._content.set_exception(aiohttp.SocketTimeoutError("the content stands still"))

    # -- what the connection calls ----------------------------------------

    def get_buffer(self, sizehint: int) -> Buffer:
        """Return where the next bytes go: never more than belongs to the content."""
        return self._room.free(self._missing)

    def buffer_updated(self, nbytes: int) -> None:
        """Pass on what came."""
        self._heard = self._loop.time()
        self._missing -= nbytes
        piece = self._room.taken(nbytes)
        try:
            self._paused = not self._sink.write(piece)
        except Exception as error:
            self._error = error
            self._give_back()
            return
        if not self._lent:
            return  # the sink closed us
        if not self._missing:
            self._finish()
        elif self._paused:
            self._transport.pause_reading()
            self._wake()

    def eof_received(self) -> bool | None:
        """Leave the judgement of an early end to aiohttp."""
        self._give_back()
        return cast("bool | None", self._handler.eof_received())

    def connection_lost(self, exc: Exception | None) -> None:
        """Leave the judgement of a lost connection to aiohttp."""
        self._give_back()
        self._handler.connection_lost(exc)

    def pause_writing(self) -> None:
        """Pass it on: a request may still be on its way."""
        self._handler.pause_writing()

    def resume_writing(self) -> None:
        """Pass it on."""
        self._handler.resume_writing()


def _missing(response: aiohttp.ClientResponse) -> int:
    """Return how many bytes of content are still to come; 0 if that cannot be told."""
    lengths = response.headers.getall("Content-Length", ())
    if len(lengths) != 1 or not lengths[0].isdecimal() or "Transfer-Encoding" in response.headers:
        return 0
    return int(lengths[0]) - response.content.total_bytes


def _is_free(buffer: bytearray) -> bool:
    """Tell whether nobody looks at a buffer any more: only then can its size be changed."""
    try:
        buffer.append(0)
    except BufferError:
        return False
    buffer.pop()
    return True
