"""The default frontend: an HTTP server on a local address, on aiohttp's low-level server."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import ipaddress
import logging
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final, Self

from cachestream.abc import Frontend, Handler
from cachestream.core.urls import display, local_path, normalize, source_of
from cachestream.errors import ConfigurationError, InvalidURLError, ServerUnavailableError
from cachestream.frontends._connection import authority
from cachestream.frontends._server import ConnectionServer
from cachestream.frontends._shared import Limits, Shared
from cachestream.settings import Settings

__all__ = ["LoopbackFrontend"]

logger = logging.getLogger("cachestream.frontends")

_BACKLOG: Final = 1024

# A handler that does not end when cancelled must not keep a program from ending.
_CLOSE_TIMEOUT_S: Final = 5.0

_PROBE_TIMEOUT_S: Final = 1.0

_WILDCARDS: Final = {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}  # noqa: S104


class LoopbackFrontend(Frontend):
    """Serves a handler over HTTP/1.1 on one address, by default a loopback one.

    It may be served again after its context was left, but only once at a time. A client
    that shuts down its sending side gets what is held; nothing is waited for on its behalf.

    Args:
        host: The address to listen on; anything wider than loopback needs a token.
        port: The port, 0 for any free one.
        token: The secret first segment of every local URL, None for none.
        schemes: URL schemes that can be fetched, lower case.
        client_idle_timeout: Seconds a client may take nothing of its answer before it is
            cut; None for ever.
        max_clients: Connections at a time; one more is answered 503.

    Raises:
        ConfigurationError: If ``host`` is wider than loopback and there is no token.
    """

    def __init__(
        self,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        token: str | None = None,
        schemes: frozenset[str] = frozenset({"http", "https"}),
        client_idle_timeout: float | None = None,
        max_clients: int = 4096,
    ) -> None:
        if not token and not _is_loopback(host):
            raise ConfigurationError(
                f"listening on {host!r} would let others on the network in",
                hint="Set a token, or listen on 127.0.0.1",
            )
        self._host = "127.0.0.1" if host == "localhost" else host
        self._port = port
        self._token = token or None
        self._schemes = schemes
        self._limits = Limits(clients=max_clients, client_idle=client_idle_timeout)
        self._direct = True
        self._server: ConnectionServer | None = None
        self._listener: asyncio.Server | None = None
        self._bound_port = 0
        self._lock = asyncio.Lock()

    @classmethod
    def from_settings(cls, settings: Settings, *, schemes: frozenset[str]) -> Self:
        """Make a frontend as the settings say.

        Raises:
            ConfigurationError: As the constructor.
        """
        return cls(
            host=settings.host,
            port=settings.port,
            token=settings.token,
            schemes=schemes,
            client_idle_timeout=settings.client_idle_timeout,
        )

    @asynccontextmanager
    async def serve(self, handler: Handler) -> AsyncIterator[str]:
        """Listen until the context is left; yields the base URL, without a final slash.

        On leaving, clients in the middle of an answer are cut.

        Raises:
            ConfigurationError: If the address cannot be listened on, or is already served.
        """
        if self._server is not None:
            raise ConfigurationError(
                "this frontend is serving already", hint="Make one for each handler"
            )
        server = ConnectionServer(
            Shared(
                handler=handler,
                limits=self._limits,
                add_local=not _is_loopback(self._host),
                direct=self._direct,
            )
        )
        self._server = server
        try:
            await self._listen(server, self._port)
            server.shared.served = self._authorities()
            yield self.base_url
        finally:
            self._server = None
            self._bound_port = 0
            self._stop_listening()
            await server.cut_all(_CLOSE_TIMEOUT_S)

    async def _listen(self, server: ConnectionServer, port: int) -> None:
        loop = asyncio.get_running_loop()
        try:
            self._listener = await loop.create_server(
                server, self._host or None, port, backlog=_BACKLOG
            )
        except (OSError, OverflowError) as error:
            raise _listen_error(self._host, port, error) from error
        self._bound_port = self._listener.sockets[0].getsockname()[1]

    def _stop_listening(self) -> None:
        if self._listener is not None:
            self._listener.close()
            self._listener = None

    def _authorities(self) -> frozenset[str]:
        """Return what Host may say; `Shared.add_local` adds more on wider addresses."""
        port = self._bound_port
        named = {authority((self._host, port))} if self._host not in _WILDCARDS else set()
        if _is_loopback(self._host) or self._host in _WILDCARDS:
            named |= {f"{name}:{port}" for name in ("127.0.0.1", "localhost", "[::1]")}
        return frozenset(named)

    @property
    def base_url(self) -> str:
        """The address for programs on this machine, without a final slash.

        Raises:
            ServerUnavailableError: If nothing is being served.
        """
        self._serving()
        return f"http://{authority((_WILDCARDS.get(self._host, self._host), self._bound_port))}"

    @property
    def requests(self) -> int:
        """How many requests were answered since `serve`."""
        return self._serving().shared.requests

    @property
    def bytes_sent(self) -> int:
        """Bytes of content handed to clients since `serve`."""
        return self._serving().shared.bytes_sent

    @property
    def clients(self) -> int:
        """How many connections are open."""
        return len(self._serving().shared.clients)

    def _serving(self) -> ConnectionServer:
        if self._server is None or not self._bound_port:
            raise ServerUnavailableError(
                "there is no local server", hint="Enter serve() before asking for local URLs"
            )
        return self._server

    def url_for(self, source: str) -> str:
        """Return the local URL of ``source``; of a local URL, itself.

        Raises:
            InvalidURLError: If ``source`` is no URL that can be fetched.
            ServerUnavailableError: If nothing is being served.
        """
        base = self.base_url
        if self._is_local(source):
            if self.source_for(source) is None:
                raise InvalidURLError("this local URL stands for no source", url=display(source))
            return source
        scheme = normalize(source).partition("://")[0]
        if scheme not in self._schemes:
            raise InvalidURLError(
                f"no transport serves {scheme!r} URLs",
                url=display(source),
                hint="Known schemes: " + ", ".join(sorted(self._schemes)),
            )
        return base + local_path(source, token=self._token)

    def source_for(self, url: str) -> str | None:
        """Return the source URL of a local URL, None if it is none of ours."""
        if self._server is None or not self._is_local(url):
            return None
        try:
            return source_of(url, token=self._token, schemes=self._schemes)
        except InvalidURLError:
            return None

    def _is_local(self, url: str) -> bool:
        """Whether a URL leads to this listener, by any of its names."""
        scheme, _, rest = url.partition("://")
        if scheme.lower() != "http":
            return False
        named = rest.replace("?", "/").replace("#", "/").partition("/")[0].lower()
        return named in self._authorities()

    async def ensure_active(self) -> bool:
        """Check that the listener answers, and listen anew on the same port if not.

        Returns:
            True if a new listener was needed.

        Raises:
            ServerUnavailableError: If nothing is being served.
            ConfigurationError: If it does not answer and another program has the port now.
        """
        async with self._lock:
            server = self._serving()
            if await self._answers(server):
                return False
            logger.warning("the listener on %s does not answer", self.base_url)
            self._stop_listening()
            await self._listen(server, self._bound_port)
            if self._server is not server:  # left meanwhile
                self._stop_listening()
                self._serving()
            return True

    async def _answers(self, server: ConnectionServer) -> bool:
        """Connect, and see whether it is our listener that takes the connection."""
        loop = asyncio.get_running_loop()
        host = _WILDCARDS.get(self._host, self._host)
        with contextlib.suppress(OSError, TimeoutError):
            async with asyncio.timeout(_PROBE_TIMEOUT_S):
                family, kind, proto, _, address = (
                    await loop.getaddrinfo(host, self._bound_port, type=socket.SOCK_STREAM)
                )[0]
                with socket.socket(family, kind, proto) as probe:
                    probe.setblocking(False)
                    # Its own address has to be known before it arrives at our listener.
                    probe.bind((host, 0))
                    name, arrived = probe.getsockname(), loop.create_future()
                    server.shared.expected[name] = arrived
                    try:
                        await loop.sock_connect(probe, address)
                        await arrived
                        return True
                    finally:
                        del server.shared.expected[name]
        return False


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _listen_error(host: str, port: int, error: Exception) -> ConfigurationError:
    number = error.errno if isinstance(error, OSError) else None
    if number == errno.EADDRINUSE:
        return ConfigurationError(
            f"port {port} on {host} is taken",
            hint="Stop the program that holds it, or choose another port (0 takes a free one)",
        )
    if number in (errno.EACCES, errno.EPERM):
        return ConfigurationError(
            f"port {port} on {host} is not allowed to this user",
            hint="Choose a port above 1023 (0 takes a free one)",
        )
    return ConfigurationError(
        f"cannot listen on {host}, port {port}: {error}",
        hint="Choose an address of this machine, such as 127.0.0.1",
    )
