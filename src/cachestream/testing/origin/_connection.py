"""One connection of an origin: heads in, answers and mischief out."""

from __future__ import annotations

import asyncio
import socket
import struct
import time
from collections.abc import Callable
from http import HTTPStatus
from typing import TYPE_CHECKING, Final

import attrs

from cachestream.core.fields import Fields
from cachestream.testing.origin._reply import Reply, decide, simple
from cachestream.testing.origin._served import OriginRequest, Served

if TYPE_CHECKING:
    from cachestream.testing.origin._server import Origin

__all__ = ["Connection", "Exchange"]

_PIECE: Final = 256 * 1024
_MAX_HEAD: Final = 128 * 1024


class _CloseError(Exception):
    """The connection is to be closed now; ``reset`` by RST."""

    def __init__(self, *, reset: bool = False) -> None:
        super().__init__()
        self.reset = reset


@attrs.define(eq=False)
class Exchange:
    """A request and how far its answer has come."""

    request: OriginRequest
    status: int = 0
    bytes_sent: int = 0
    done: bool = False

    def record(self) -> OriginRequest:
        """Return what is known now as a frozen value."""
        return attrs.evolve(
            self.request, status=self.status, bytes_sent=self.bytes_sent, done=self.done
        )


class Connection(asyncio.StreamReaderProtocol):
    """Serves one client; ends with the client, so that a stall holds nothing for ever."""

    def __init__(self, origin: Origin) -> None:
        loop = asyncio.get_running_loop()
        self._stream = asyncio.StreamReader(limit=_MAX_HEAD, loop=loop)
        super().__init__(self._stream, self._accepted, loop)
        self._origin = origin
        self._writer: asyncio.StreamWriter
        self.number = 0
        self.task: asyncio.Task[None] | None = None

    def _accepted(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writer = writer
        # asyncio does this only where the listener's protocol was named, which is not so here.
        # Without it a short answer's content waits 40 ms for its head to be acknowledged.
        raw = writer.get_extra_info("socket")
        raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        # With hardly a buffer of our own, a byte that counts as sent has reached the kernel.
        # Not 0: the TLS transport would take an empty buffer for a full one.
        writer.transport.set_write_buffer_limits(high=1, low=0)
        self.task = asyncio.get_running_loop().create_task(self._serve())
        self._origin._opened(self, self.task)

    def eof_received(self) -> bool:
        super().eof_received()
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        if self.task is not None:
            self.task.cancel()
        self._origin._lost(self)

    def abort(self, *, reset: bool = False) -> None:
        """Drop the connection at once."""
        if reset:
            raw = self._writer.get_extra_info("socket")
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._writer.transport.abort()

    async def _serve(self) -> None:
        try:
            while await self._exchange():
                pass
            self._writer.close()
        except _CloseError as close:
            if close.reset:
                self.abort(reset=True)
            else:
                self._writer.close()
        except (ConnectionError, asyncio.IncompleteReadError):
            self._writer.close()
        except asyncio.CancelledError:
            self._writer.transport.abort()
            raise
        except Exception as error:
            # A mistake in a test's own function, or in ours: shown when the origin closes.
            self._origin._failed(error)
            self._writer.transport.abort()

    async def _exchange(self) -> bool:
        """Serve one request; return whether another may follow."""
        try:
            head = await self._stream.readuntil(b"\r\n\r\n")
        except asyncio.LimitOverrunError:
            self._writer.write(b"HTTP/1.1 431 Too Large\r\nContent-Length: 0\r\n\r\n")
            return False
        request = self._parse(head)
        exchange = self._origin._asked(request)
        try:
            served = self._origin.find(request)
            if served is None:
                return await self._send(exchange, Served(data=b""), simple(404, b"no such file"))
            changes = served.plan(request) if served.plan is not None else None
            if changes:
                served = attrs.evolve(served, **changes)
            if served.gate is not None:
                await served.gate.wait()
            if served.latency:
                await asyncio.sleep(served.latency)
            return await self._send(exchange, served, decide(served, request))
        finally:
            exchange.done = True
            self._origin._changed()

    def _parse(self, head: bytes) -> OriginRequest:
        lines = head.decode("latin-1").split("\r\n")
        try:
            method, target, version = lines[0].split(" ")
            major, minor = version.removeprefix("HTTP/").split(".")
            pairs = [line.split(":", 1) for line in lines[1:] if line]
            return OriginRequest(
                method=method,
                target=target,
                fields=Fields.of(*((name, value.strip()) for name, value in pairs)),
                version=(int(major), int(minor)),
                connection=self.number,
                when=time.time(),
            )
        except ValueError:
            raise _CloseError from None

    async def _send(self, exchange: Exchange, served: Served, reply: Reply) -> bool:
        request = exchange.request
        drop = served.drop_after
        if drop is not None and not served.take("drop"):
            drop = None
        if drop is not None and drop < 0:
            raise _CloseError(reset=served.drop_reset)
        # RFC 9112 §6.1: no chunks for a peer that may not know them.
        old = served.http10 or request.version < (1, 1)
        if old and reply.framing == "chunked":
            reply.framing = "close"
        wish = (request.fields.get("Connection") or "").lower()
        close = served.close or old or reply.framing == "close" or "close" in wish
        for status in served.interim:
            await self._write(b"HTTP/1.1 %d Interim\r\nLink: </style.css>\r\n\r\n" % status)
        exchange.status = reply.status
        head = _head(served, reply, old=old, close=close)
        await self._write(served.raw_head if served.raw_head is not None else head)
        self._origin._changed()
        if request.method == "HEAD" or reply.status in {204, 304}:
            return not close
        await self._content(exchange, served, reply, drop)
        return not close and not served.long_by

    async def _content(
        self, exchange: Exchange, served: Served, reply: Reply, drop: int | None
    ) -> None:
        stall = served.stall_after
        if stall is not None and not served.take("stall"):
            stall = None
        garble = served.broken_chunk_after
        stop = None if reply.stop is None else reply.stop - served.short_by
        pace = _Pace(lambda: served.rate)
        at = reply.start
        while True:
            sent = at - reply.start
            if garble is not None and sent >= garble:
                await self._write(b"not a chunk size\r\n")
                raise _CloseError
            if drop is not None and sent >= drop:
                raise _CloseError(reset=served.drop_reset)
            if stall is not None and sent >= stall:
                stall = None
                await (served.stall_gate or asyncio.Event()).wait()
            if stop is not None and at >= stop:
                break
            marks = [mark - sent for mark in (garble, drop, stall) if mark is not None]
            size = min([pace.piece(), *marks, *([] if stop is None else [stop - at])])
            await self._piece(exchange, reply, reply.content.bytes(at, at + size))
            at += size
            await pace.wait(size)
        if served.long_by:
            more = served.long_by
            await self._piece(exchange, reply, b"+" * more if isinstance(more, int) else more)
        if reply.framing == "chunked":
            await self._write(b"0\r\n\r\n")
        elif served.short_by:
            raise _CloseError

    async def _piece(self, exchange: Exchange, reply: Reply, piece: bytes) -> None:
        if reply.framing == "chunked":
            self._writer.writelines((b"%x\r\n" % len(piece), piece, b"\r\n"))
        else:
            self._writer.write(piece)
        await self._writer.drain()
        exchange.bytes_sent += len(piece)
        self._origin._changed()
        # A client that is fast enough would never let `drain` wait: others must have their turn.
        await asyncio.sleep(0)

    async def _write(self, data: bytes) -> None:
        self._writer.write(data)
        await self._writer.drain()


def _head(served: Served, reply: Reply, *, old: bool, close: bool) -> bytes:
    try:
        phrase = HTTPStatus(reply.status).phrase
    except ValueError:
        phrase = "Unknown"
    lines = [f"HTTP/1.{0 if old else 1} {reply.status} {phrase}"]
    lines += [f"{name}: {value}" for name, value in reply.fields]
    if reply.framing == "chunked":
        lines.append("Transfer-Encoding: chunked")
    elif reply.framing == "length" and reply.status not in {204, 304}:
        length = reply.length if served.content_length is None else served.content_length
        lines.append(f"Content-Length: {length}")
    if close:
        lines.append("Connection: close")
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")


class _Pace:
    """Spreads pieces over time; a rate that changes counts from the next piece on."""

    def __init__(self, rate: Callable[[], float | None]) -> None:
        self._rate = rate
        self._due = asyncio.get_running_loop().time()

    def piece(self) -> int:
        rate = self._rate()
        return _PIECE if rate is None else max(1, min(_PIECE, int(rate / 20)))

    async def wait(self, size: int) -> None:
        rate = self._rate()
        if rate is None:
            return
        now = asyncio.get_running_loop().time()
        # What a stall or a busy loop lost is caught up with, but for a quarter of a second only.
        self._due = max(self._due, now - 0.25) + size / rate
        if self._due > now:
            await asyncio.sleep(self._due - now)
