"""The sending side of one connection: straight to its socket, or through its transport.

`SocketLink` sends on a duplicate of the socket's descriptor, because asyncio refuses to
watch a descriptor that belongs to a transport. Nothing is ever left in the transport's
own buffer, so pieces from memory and from files leave in the order they are given.
`TransportLink` is for platforms and loops where that cannot be done.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import struct
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, Final, TypeVar

from cachestream.abc import Buffer
from cachestream.frontends._addresses import is_unix

__all__ = ["SMALL", "ClientGoneError", "Link", "SocketLink", "TransportLink", "link_to", "tune"]

T = TypeVar("T")

SMALL: Final = 16 * 1024
"""Up to here one pread and one sendmsg are cheaper than a head and a sendfile."""

_MSG_MORE: Final = getattr(socket, "MSG_MORE", 0)


class ClientGoneError(ConnectionError):
    """The client took its leave, or takes nothing any more; nobody is to blame."""


def tune(transport: asyncio.Transport) -> None:
    """Set the options that every connection of ours has.

    How much the kernel holds unsent is left to it: to hold little costs a wake-up for each little.
    """
    # With a limit of 0, "drained" means that nothing of a piece is left in the transport.
    transport.set_write_buffer_limits(high=0)


def reset_on_close(transport: asyncio.Transport) -> None:
    """Make closing the connection an error for the peer: a reset instead of an end."""
    sock = transport.get_extra_info("socket")
    if sock is not None:
        with contextlib.suppress(OSError):
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


class Link(ABC):
    """The sending side of one connection.

    Attributes:
        zero_copy: Whether `sendfile` may be called.
    """

    zero_copy: bool = False

    @property
    def holds_piece(self) -> bool:
        """Whether bytes of the last piece are still needed where the body keeps them."""
        return False

    @abstractmethod
    def send(self, lead: bytes, piece: Buffer) -> int:
        """Send some of ``lead`` and then ``piece``, if possible in one segment.

        Raises:
            BlockingIOError: If nothing can be taken now.
            ConnectionError: If the client is gone.
        """

    @abstractmethod
    async def by_turns(self, step: Callable[[], T | None]) -> T:
        """Call ``step`` whenever more can be sent, until it returns something.

        Between two calls the event loop serves everybody else.

        Raises:
            ClientGoneError: If the client takes nothing for longer than the idle timeout.
        """

    @abstractmethod
    async def settle(self) -> None:
        """Return when the last piece is no longer needed."""

    @abstractmethod
    def release(self) -> None:
        """Give up what the link holds; idempotent. To be called when the connection is lost."""

    def send_corked(self, lead: bytes) -> int:
        """Send some of ``lead`` so that it leaves together with what `sendfile` sends next."""
        raise NotImplementedError

    def uncork(self) -> None:
        """Let what `send_corked` holds back go."""
        raise NotImplementedError

    def sendfile(self, descriptor: int, offset: int, count: int) -> int:
        """Send at most ``count`` bytes of a file; 0 means that the file ends at ``offset``."""
        raise NotImplementedError


class SocketLink(Link):
    """Sends on the socket itself.

    Args:
        sock: A duplicate of the connection's socket; the link closes it.
        idle_timeout: Seconds after which a client that takes nothing is given up.
    """

    def __init__(
        self, loop: asyncio.AbstractEventLoop, sock: socket.socket, idle_timeout: float | None
    ) -> None:
        self.zero_copy = hasattr(os, "sendfile")
        self._loop = loop
        self._socket: socket.socket | None = sock
        self._idle_timeout = idle_timeout
        self._progress = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._waiter: asyncio.Future[Any] | None = None

    def _live(self) -> socket.socket:
        if self._socket is None:
            raise ClientGoneError("the connection is lost")
        return self._socket

    def send(self, lead: bytes, piece: Buffer) -> int:
        sock = self._live()
        if lead and len(piece):
            return self._took(sock.sendmsg((lead, piece)))
        return self._took(sock.send(lead or piece))

    def send_corked(self, lead: bytes) -> int:
        return self._took(self._live().send(lead, _MSG_MORE))

    def uncork(self) -> None:
        sock = self._live()
        # Setting it again pushes what is pending, at once instead of after 200 ms (tcp(7)).
        # A Unix socket holds nothing back.
        if not is_unix(sock):
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def sendfile(self, descriptor: int, offset: int, count: int) -> int:
        return self._took(os.sendfile(self._live().fileno(), descriptor, offset, count))

    def start(self, lead: bytes, descriptor: int, offset: int, count: int) -> int:
        """Send ``lead`` and bytes of a file, as much of them as goes at once.

        Returns:
            How many bytes were taken, of both together.

        Raises:
            ConnectionError: If the client is gone.
        """
        sock, sent = self._live(), 0
        try:
            if count <= SMALL:
                return sock.sendmsg((lead, os.pread(descriptor, count, offset)))
            # Not corked: that costs more here than a segment of its own for the head.
            sent = sock.send(lead)
            if sent == len(lead):
                sent += os.sendfile(sock.fileno(), descriptor, offset, count)
        except ConnectionError:
            raise
        except OSError:
            pass  # no room, or none for files: it goes on in the ordinary way
        return sent

    def _took(self, count: int) -> int:
        if self._idle_timeout is not None and count:
            self._progress = self._loop.time()
        return count

    async def by_turns(self, step: Callable[[], T | None]) -> T:
        waiter: asyncio.Future[T] = self._loop.create_future()

        def ready() -> None:
            if waiter.done():  # cancelled a moment ago
                return
            try:
                result = step()
            except Exception as error:
                self._fail(error)
            else:
                if result is not None:
                    self._unwatch()
                    waiter.set_result(result)

        self._loop.add_writer(self._live().fileno(), ready)
        self._waiter = waiter
        self._watch_idleness()
        try:
            return await waiter
        finally:
            self._unwatch()

    def _unwatch(self) -> None:
        self._waiter = None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        # After `release` the number may be somebody else's.
        if self._socket is not None:
            self._loop.remove_writer(self._socket.fileno())

    def _watch_idleness(self) -> None:
        if self._idle_timeout is not None:
            self._progress = self._loop.time()
            self._check_idleness()

    def _check_idleness(self) -> None:
        assert self._idle_timeout is not None
        end = self._progress + self._idle_timeout
        if self._loop.time() >= end:
            self._fail(ClientGoneError(f"the client took nothing for {self._idle_timeout:g} s"))
        else:
            self._timer = self._loop.call_at(end, self._check_idleness)

    def _fail(self, error: Exception) -> None:
        waiter = self._waiter
        self._unwatch()
        if waiter is not None and not waiter.done():
            waiter.set_exception(error)

    async def settle(self) -> None:
        """Return at once: the kernel has copied or pinned what it took."""

    def release(self) -> None:
        if self._socket is not None:
            self._fail(ClientGoneError("the connection is lost"))
            self._socket.close()
            self._socket = None


class TransportLink(Link):
    """Sends through the transport, one piece at a time."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        transport: asyncio.Transport,
        drain: Callable[[], asyncio.Future[None] | None],
        idle_timeout: float | None,
    ) -> None:
        self._loop = loop
        self._transport: asyncio.Transport | None = transport
        self._drain = drain
        self._idle_timeout = idle_timeout

    def _live(self) -> asyncio.Transport:
        if self._transport is None or self._transport.is_closing():
            raise ClientGoneError("the connection is lost")
        return self._transport

    @property
    def holds_piece(self) -> bool:
        # Since Python 3.12 a transport does not copy what it cannot send at once.
        return self._transport is not None and self._transport.get_write_buffer_size() > 0

    def send(self, lead: bytes, piece: Buffer) -> int:
        transport = self._live()
        if self.holds_piece:
            raise BlockingIOError
        transport.write(b"".join((lead, piece)) if lead else piece)
        return len(lead) + len(piece)

    async def by_turns(self, step: Callable[[], T | None]) -> T:
        while True:
            await asyncio.sleep(0)
            await self.settle()
            result = step()
            if result is not None:
                return result

    async def settle(self) -> None:
        waiter = self._drain()
        if waiter is None:
            return
        try:
            async with asyncio.timeout(self._idle_timeout):
                await waiter
        except TimeoutError:
            raise ClientGoneError(f"the client took nothing for {self._idle_timeout:g} s") from None

    def release(self) -> None:
        self._transport = None


def link_to(
    loop: asyncio.AbstractEventLoop,
    transport: asyncio.Transport,
    drain: Callable[[], asyncio.Future[None] | None],
    *,
    idle_timeout: float | None,
    direct: bool,
) -> Link:
    """Return the best link this connection can have.

    Args:
        drain: Returns a future to wait for while the transport holds unsent bytes, else None.
        direct: Whether sending past the transport is wanted at all.
    """
    sock = transport.get_extra_info("socket") if direct else None
    # TLS changes the bytes on their way, so they have to go through the transport.
    if sock is not None and transport.get_extra_info("sslcontext") is None:
        try:
            copy = socket.socket(sock.family, sock.type, sock.proto, fileno=os.dup(sock.fileno()))
        except OSError:
            # No descriptor is left: this client is served a little slower.
            return TransportLink(loop, transport, drain, idle_timeout)
        copy.setblocking(False)
        return SocketLink(loop, copy, idle_timeout)
    return TransportLink(loop, transport, drain, idle_timeout)
