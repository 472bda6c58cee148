"""The default frontend: an HTTP server on a local address, on aiohttp's low-level server."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Final, Self

from cachestream.abc import Frontend, Handler
from cachestream.core.urls import UNIX_URL
from cachestream.errors import ConfigurationError, ServerUnavailableError
from cachestream.frontends._activation import take_inherited
from cachestream.frontends._addresses import is_loopback
from cachestream.frontends._naming import LocalUrls, authorities_of, check_base_url
from cachestream.frontends._places import (
    InheritedPlace,
    Listener,
    Place,
    SocketFilePlace,
    TcpPlace,
)
from cachestream.frontends._server import ConnectionServer
from cachestream.frontends._shared import Limits, Shared
from cachestream.frontends._unix import check_mode, check_socket_path
from cachestream.settings import Settings

__all__ = ["LoopbackFrontend"]

logger = logging.getLogger("cachestream.frontends")

# A handler that does not end when cancelled must not keep a program from ending.
_CLOSE_TIMEOUT_S: Final = 5.0

_PROBE_TIMEOUT_S: Final = 1.0

_TOKEN_HINT: Final = "Set a token, or listen on 127.0.0.1"  # noqa: S105


class LoopbackFrontend(Frontend):
    """Serves a handler over HTTP/1.1 on one address, by default a loopback one.

    It may be served again after its context was left, but only once at a time. A client
    that shuts down its sending side gets what is held; nothing is waited for on its behalf.

    On a Unix socket its permissions say who may come in, and Host is compared with names only
    if there are any: ``public_url`` or ``server_names``. Local URLs begin with ``public_url``, else
    with ``http://cachestream.localhost``, which a client that is told of the socket may ask.

    Args:
        host: The address to listen on; anything wider than loopback needs a token.
        port: The port, 0 for any free one.
        token: The secret first segment of every local URL, None for none.
        schemes: URL schemes that can be fetched, lower case.
        client_idle_timeout: Seconds a client may take nothing of its answer before it is
            cut; None for ever.
        max_clients: Connections at a time; one more is answered 503.
        socket_path: A Unix socket to listen on instead: an absolute path, or ``@name`` for an
            abstract one, which has no permissions.
        socket_mode: Permissions of the socket, as octal digits.
        public_url: What clients see before local paths, where a proxy stands before this.
        server_names: Whether further names are configured, for Unix sockets.
        activation: Whether to listen on what a service manager passed, if it did. That is
            taken once; when the context is left, it is closed.
        sockets: Sockets to listen on instead of all these; they are closed as those are.

    Raises:
        ConfigurationError: If ``host`` is wider than loopback and there is no token, or an
            argument cannot be.
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
        socket_path: str | None = None,
        socket_mode: str = "0600",
        public_url: str | None = None,
        server_names: bool = False,
        activation: bool = False,
        sockets: Sequence[socket.socket] = (),
    ) -> None:
        if not token and not socket_path and not is_loopback(host):
            raise ConfigurationError(
                f"listening on {host!r} would let others on the network in", hint=_TOKEN_HINT
            )
        self._host = "127.0.0.1" if host == "localhost" else host
        self._port = port
        self._token = token or None
        self._schemes = schemes
        self._limits = Limits(clients=max_clients, client_idle=client_idle_timeout)
        self._direct = True
        self._socket_path = check_socket_path(socket_path) if socket_path else None
        self._socket_mode = check_mode(socket_mode)
        self._public_url = check_base_url(public_url) if public_url else None
        self._named = server_names or self._public_url is not None
        self._activation = activation
        self._sockets = tuple(sockets)
        self._server: ConnectionServer | None = None
        self._place: Place | None = None
        self._listener: Listener | None = None
        self._urls: tuple[LocalUrls, ...] = ()
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
            socket_path=settings.socket_path,
            socket_mode=settings.socket_mode,
            public_url=settings.public_url,
            server_names=bool(settings.server_names),
            activation=settings.socket_activation,
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
        place = self._choose_place()
        server = ConnectionServer(
            Shared(
                handler=handler,
                limits=self._limits,
                add_local=place.is_wide,
                direct=self._direct,
            )
        )
        self._server = server
        try:
            if place.is_wide and not self._token:
                raise ConfigurationError(
                    "the sockets that were passed would let others on the network in",
                    hint="Set a token, or bind them to 127.0.0.1",
                )
            self._listener = await place.listen(server)
            self._place = place
            self._name(server.shared, place)
            yield self.base_url
        finally:
            self._server = self._place = None
            self._urls = ()
            self._stop_listening()
            place.close()
            await server.cut_all(_CLOSE_TIMEOUT_S)

    def _choose_place(self) -> Place:
        sockets, self._sockets = self._sockets, ()
        if self._activation and not sockets:
            sockets = tuple(each.sock for each in take_inherited())
        if sockets:
            return InheritedPlace(sockets)
        if self._socket_path is not None:
            return SocketFilePlace(self._socket_path, self._socket_mode)
        return TcpPlace(self._host, self._port)

    def _name(self, shared: Shared, place: Place) -> None:
        """Settle what Host may say, and what local URLs are like."""
        public = self._public_url
        public_names = authorities_of(public) if public else frozenset()
        shared.served = place.authorities | public_names
        if self._named:
            shared.served_unix = public_names | {"localhost", UNIX_URL.partition("://")[2]}
        urls = [(place.url, place.authorities or {UNIX_URL.partition("://")[2]})]
        if public:
            urls.insert(0, (public, public_names))
        self._urls = tuple(
            LocalUrls(
                base=base,
                authorities=frozenset(names),
                schemes=self._schemes,
                token=self._token,
                protocols=frozenset({"http", "https"} if base == public else {"http"}),
            )
            for base, names in urls
        )

    def _stop_listening(self) -> None:
        if self._listener is not None:
            self._listener.close()
            self._listener = None

    @property
    def base_url(self) -> str:
        """What local URLs begin with, without a final slash; see the class for Unix sockets.

        Raises:
            ServerUnavailableError: If nothing is being served.
        """
        self._serving()
        return self._urls[0].base

    @property
    def ports(self) -> frozenset[int]:
        """The TCP ports that are listened on."""
        return self._place.ports if self._place is not None else frozenset()

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
        if self._server is None or not self._urls:
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
        self._serving()
        for urls in self._urls:
            if urls.is_local(source):
                return urls.url_for(source)
        return self._urls[0].url_for(source)

    def source_for(self, url: str) -> str | None:
        """Return the source URL of a local URL, None if it is none of ours."""
        return next(filter(None, (urls.source_for(url) for urls in self._urls)), None)

    async def ensure_active(self) -> bool:
        """Check that the listener answers, and listen anew at the same place if not.

        Returns:
            True if a new listener was needed.

        Raises:
            ServerUnavailableError: If nothing is being served.
            ConfigurationError: If it does not answer and another program is in its place now.
        """
        async with self._lock:
            server, place = self._serving(), self._place
            assert place is not None
            if await self._answers(server, place):
                return False
            logger.warning("the listener on %s does not answer", place.url)
            self._stop_listening()
            listener = await place.listen(server)
            if self._server is not server:  # left meanwhile
                listener.close()
                place.close()
                self._serving()
            self._listener = listener
            return True

    async def _answers(self, server: ConnectionServer, place: Place) -> bool:
        """Connect, and see whether it is our listener that takes the connection."""
        loop = asyncio.get_running_loop()
        with contextlib.suppress(OSError, TimeoutError):
            async with asyncio.timeout(_PROBE_TIMEOUT_S):
                # Its own address has to be known before it arrives at our listener.
                probe, address = await place.probe()
                with probe:
                    name, arrived = probe.getsockname(), loop.create_future()
                    server.shared.expected[name] = arrived
                    try:
                        await loop.sock_connect(probe, address)
                        await arrived
                        return True
                    finally:
                        del server.shared.expected[name]
        return False
