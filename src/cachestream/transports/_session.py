"""The aiohttp session of a transport, and one exchange as seen from inside it."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Callable
from contextvars import ContextVar
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Final, TypeAlias

import aiohttp
from aiohttp.client_middlewares import ClientHandlerType

from cachestream.errors import AccessDeniedError, ConfigurationError
from cachestream.transports._failures import SeveredError

__all__ = ["AddressFilter", "Attempt", "SocketMaker", "Watched", "make_session", "tls_context"]

AddressFilter: TypeAlias = Callable[[str, int], None]
"""Called with IP address and port of each socket before it connects; raises to deny it."""

# Origins keep idle connections for 5 to 75 s. A stale one costs no error (see `Attempt`), so
# it is worth while to keep them longer than aiohttp does.
_KEEPALIVE_S: Final = 30.0


class Attempt:
    """One exchange: its deadline, and whether its connection had been used before.

    It is an aiohttp middleware, so that *we* decide about repeating. A kept-alive connection
    that turns out to be closed is no failure (RFC 9112 §9.3.1): another is taken. But
    aiohttp itself repeats on fresh connections too, and then an origin that drops one gets
    two requests for each of the engine's attempts.

    Attributes:
        deadline: Entered around the exchange; it starts to run once there is a connection.
        denied: The error of the address filter, if it denied an address.
        reused: Whether its connection carried an exchange before.
    """

    def __init__(self, read_timeout: float) -> None:
        self.deadline = asyncio.timeout(None)
        self.denied: AccessDeniedError | None = None
        self._read_timeout = read_timeout
        self.reused = False
        self._stopped = False

    def stop(self) -> None:
        """Make the exchange time out now; idempotent."""
        if not self._stopped and not self.deadline.expired():
            self.deadline.reschedule(asyncio.get_running_loop().time())
        self._stopped = True

    def connected(self, *, reused: bool) -> None:
        """Note that the exchange has got a connection."""
        self.reused = reused
        if not self._stopped:
            loop = asyncio.get_running_loop()
            self.deadline.reschedule(loop.time() + self._read_timeout)

    async def __call__(
        self, request: aiohttp.ClientRequest, handler: ClientHandlerType
    ) -> aiohttp.ClientResponse:
        # Let the loop read what has come for idle connections, so that spoilt ones are known.
        await asyncio.sleep(0)
        while True:
            self.reused = False
            try:
                return await handler(request)
            except aiohttp.ClientConnectorError:
                raise
            except (aiohttp.ClientOSError, aiohttp.ServerDisconnectedError) as exc:
                if self._stopped or not self.reused:
                    raise SeveredError from exc
            except aiohttp.ClientResponseError:
                # What was left of an answer that was longer than announced is no answer to us.
                if self._stopped or not self.reused:
                    raise


current_attempt: ContextVar[Attempt] = ContextVar("current_attempt")
"""The attempt that a socket is made for; aiohttp tells its socket factory the address only."""


class SocketMaker:
    """Makes sockets for allowed addresses.

    This is the one place that sees the final address, whatever the URL calls it: a name, a
    literal, a mapped or an odd spelling.

    Attributes:
        filters: All are asked, in order.
    """

    def __init__(self, *filters: AddressFilter) -> None:
        self.filters = list(filters)

    def __call__(self, addr_info: tuple[Any, ...]) -> socket.socket:
        family, kind, protocol, _, address = addr_info
        try:
            for check in self.filters:
                check(address[0], address[1])
        except AccessDeniedError as exc:
            current_attempt.get().denied = exc
            # An address that cannot be reached: others of the same name may be tried.
            raise ConnectionRefusedError("denied") from exc
        # aiohttp leaves the protocol of a literal address open, and asyncio then forgets
        # TCP_NODELAY.
        return socket.socket(family, kind, protocol or socket.IPPROTO_TCP)


class Watched(aiohttp.ClientResponse):
    """A response that looks at its connection more closely than aiohttp does.

    What a kept connection received before it was asked again is no answer: a farewell (408),
    or surplus content that may look like one. And content that lasts until the connection ends
    is complete when the peer closes, not when the connection is reset.
    """

    lost: asyncio.Future[None] | None = None

    async def start(self, connection: Any) -> aiohttp.ClientResponse:
        attempt = current_attempt.get(None)
        if attempt is not None and attempt.reused and connection.protocol.should_close:
            raise aiohttp.ServerDisconnectedError("the connection had been spoilt")
        self.lost = connection.protocol.closed
        if self.lost is not None:
            # Retrieve the exception, or the loop complains; once a connection, not a request.
            self.lost.remove_done_callback(_retrieve)
            self.lost.add_done_callback(_retrieve)
        return await super().start(connection)


def _retrieve(future: asyncio.Future[None]) -> None:
    if not future.cancelled():
        future.exception()


def make_session(
    connector: aiohttp.BaseConnector | None, sockets: SocketMaker, limit_per_host: int
) -> aiohttp.ClientSession:
    """Make a session without cookies, limits and total timeout; within the running loop.

    Args:
        connector: Used and not closed; None for one of the session's own.
    """
    owned = connector is None
    if connector is None:
        connector = aiohttp.TCPConnector(
            limit=0,
            limit_per_host=limit_per_host,
            keepalive_timeout=_KEEPALIVE_S,
            socket_factory=sockets,
        )
    return aiohttp.ClientSession(
        connector=connector,
        connector_owner=owned,
        cookie_jar=aiohttp.DummyCookieJar(),
        response_class=Watched,
        trace_configs=[_traces()],
    )


def _traces() -> aiohttp.TraceConfig:
    traces = aiohttp.TraceConfig()

    async def created(session: object, context: SimpleNamespace, params: object) -> None:
        context.trace_request_ctx.connected(reused=False)

    async def reused(session: object, context: SimpleNamespace, params: object) -> None:
        context.trace_request_ctx.connected(reused=True)

    traces.on_connection_create_end.append(created)
    traces.on_connection_reuseconn.append(reused)
    return traces


def tls_context(
    *, ca_file: Path | None, client_cert: Path | None, client_key: Path | None, verify: bool
) -> ssl.SSLContext | bool:
    """Return what aiohttp takes as ``ssl``: a context, or whether to verify by default.

    Raises:
        ConfigurationError: If a file cannot be used.
    """
    if client_key is not None and client_cert is None:
        raise ConfigurationError("client_key is given without client_cert")
    if ca_file is None and client_cert is None:
        return verify
    try:
        context = ssl.create_default_context(cafile=None if ca_file is None else str(ca_file))
    except (OSError, ssl.SSLError) as exc:
        raise ConfigurationError(
            f"ca_file {ca_file} cannot be used", hint="It must hold certificates in PEM form"
        ) from exc
    if client_cert is not None:
        try:
            # An empty password, lest OpenSSL should ask for one on the terminal.
            context.load_cert_chain(client_cert, client_key, password="")
        except (OSError, ssl.SSLError) as exc:
            raise ConfigurationError(
                f"client_cert {client_cert} cannot be used",
                hint="It must hold a certificate, and it or client_key its key without a "
                "passphrase, in PEM form",
            ) from exc
    if not verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context
