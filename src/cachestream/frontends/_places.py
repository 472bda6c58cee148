"""Where a server can listen: a TCP address, a Unix socket, or sockets that were passed to us."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import sys
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, Final

from cachestream.core.urls import UNIX_URL
from cachestream.errors import ConfigurationError
from cachestream.frontends._activation import has_wide_address
from cachestream.frontends._addresses import (
    WILDCARDS,
    authority,
    is_loopback,
    is_unix,
    listen_error,
)
from cachestream.frontends._naming import LOOPBACK_NAMES
from cachestream.frontends._unix import UnixPlace

__all__ = ["InheritedPlace", "Listener", "Place", "SocketFilePlace", "TcpPlace"]

_BACKLOG: Final = 1024


class Listener:
    """What listens now; closing it leaves connections alone."""

    def __init__(self, servers: Sequence[asyncio.AbstractServer]) -> None:
        self._servers = servers

    def close(self) -> None:
        """Take no more connections."""
        for server in self._servers:
            server.close()


class Place(ABC):
    """Somewhere to listen. `listen` may be called again after its listener was closed.

    Attributes:
        url: Where programs on this machine reach it, without a final slash.
        authorities: What Host may say at its TCP sockets.
        ports: Its TCP ports.
        is_wide: Whether other machines may reach it.
    """

    url: str = ""
    authorities: frozenset[str] = frozenset()
    ports: frozenset[int] = frozenset()
    is_wide: bool = False

    @abstractmethod
    async def listen(self, factory: Callable[[], asyncio.Protocol]) -> Listener:
        """Listen, with a protocol for each connection.

        Raises:
            ConfigurationError: If it cannot be listened on.
        """

    @abstractmethod
    async def probe(self) -> tuple[socket.socket, Any]:
        """Return a socket that has an address of its own, and the address to connect it to."""

    def close(self) -> None:  # noqa: B027  # most places need nothing
        """Leave no trace; to be called when the listener was closed."""


def _names_of(host: str, port: int) -> frozenset[str]:
    named = {authority((host, port))} if host not in WILDCARDS else set()
    if is_loopback(host) or host in WILDCARDS:
        named |= {f"{name}:{port}" for name in LOOPBACK_NAMES}
    return frozenset(named)


def _url_of(host: str, port: int) -> str:
    return f"http://{authority((WILDCARDS.get(host, host), port))}"


class TcpPlace(Place):
    """A TCP address; a port of 0 is settled by the first `listen`."""

    def __init__(self, host: str, port: int) -> None:
        self._host = host
        self._port = port
        self.is_wide = not is_loopback(host)

    async def listen(self, factory: Callable[[], asyncio.Protocol]) -> Listener:
        loop = asyncio.get_running_loop()
        try:
            server = await loop.create_server(
                factory, self._host or None, self._port, backlog=_BACKLOG
            )
        except (OSError, OverflowError) as error:
            raise listen_error(self._host, self._port, error) from error
        self._port = port = server.sockets[0].getsockname()[1]
        self.url = _url_of(self._host, port)
        self.authorities = _names_of(self._host, port)
        self.ports = frozenset({port})
        return Listener([server])

    async def probe(self) -> tuple[socket.socket, Any]:
        host = WILDCARDS.get(self._host, self._host)
        loop = asyncio.get_running_loop()
        family, kind, proto, _, address = (
            await loop.getaddrinfo(host, self._port, type=socket.SOCK_STREAM)
        )[0]
        return _bound(family, kind, proto, (host, 0)), address


class SocketFilePlace(Place):
    """A Unix socket, by a path or an abstract name."""

    url = UNIX_URL

    def __init__(self, path: str, mode: int) -> None:
        self._place = UnixPlace(path, mode)

    async def listen(self, factory: Callable[[], asyncio.Protocol]) -> Listener:
        sock = await self._place.open()
        return Listener([await _serve_unix(factory, sock)])

    async def probe(self) -> tuple[socket.socket, Any]:
        # An empty name lets the kernel choose one, in the abstract namespace.
        return _bound(socket.AF_UNIX, socket.SOCK_STREAM, 0, ""), self._place.address

    def close(self) -> None:
        self._place.remove()


class InheritedPlace(Place):
    """Sockets that listen already and are somebody else's: they go on when we are gone.

    Args:
        sockets: At least one; they are closed with the place.
    """

    def __init__(self, sockets: Sequence[socket.socket]) -> None:
        self._sockets = sockets
        inet = [sock.getsockname()[:2] for sock in sockets if not is_unix(sock)]
        self.is_wide = has_wide_address(sockets)
        self.url = _url_of(*inet[0]) if inet else UNIX_URL
        self.authorities = frozenset().union(*(_names_of(*address) for address in inet))
        self.ports = frozenset(port for _, port in inet)

    async def listen(self, factory: Callable[[], asyncio.Protocol]) -> Listener:
        loop = asyncio.get_running_loop()
        servers: list[asyncio.AbstractServer] = []
        try:
            for sock in self._sockets:
                copy = sock.dup()
                try:
                    if is_unix(copy):
                        servers.append(await _serve_unix(factory, copy))
                    else:
                        servers.append(await loop.create_server(factory, sock=copy))
                except BaseException:
                    copy.close()
                    raise
        except OSError as error:
            Listener(servers).close()
            raise ConfigurationError(f"cannot listen on what was passed: {error}") from error
        return Listener(servers)

    async def probe(self) -> tuple[socket.socket, Any]:
        sock = self._sockets[0]
        if is_unix(sock):
            return _bound(sock.family, sock.type, 0, ""), sock.getsockname()
        host, port = sock.getsockname()[:2]
        host = WILDCARDS.get(host, host)
        return _bound(sock.family, sock.type, sock.proto, (host, 0)), (host, port)

    def close(self) -> None:
        for sock in self._sockets:
            sock.close()


def _bound(family: int, kind: int, proto: int, address: Any) -> socket.socket:
    sock = socket.socket(family, kind, proto)
    try:
        sock.setblocking(False)
        sock.bind(address)
    except BaseException:
        sock.close()
        raise
    return sock


async def _serve_unix(
    factory: Callable[[], asyncio.Protocol], sock: socket.socket
) -> asyncio.AbstractServer:
    loop = asyncio.get_running_loop()
    options: dict[str, Any] = {}
    if sys.version_info >= (3, 13) and isinstance(loop, asyncio.BaseEventLoop):
        # The file is removed by whoever made it, which may be the service manager.
        options["cleanup_socket"] = False
    try:
        return await loop.create_unix_server(factory, sock=sock, **options)
    except BaseException:
        with contextlib.suppress(OSError):
            sock.close()
        raise
