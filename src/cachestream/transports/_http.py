"""The transport for http and https, over aiohttp."""

from __future__ import annotations

import asyncio
import ipaddress
import re
import time
from collections.abc import Callable, Iterable
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final, Self

import aiohttp
import yarl
from multidict import CIMultiDict

from cachestream.abc import Transport, UpstreamRequest, UpstreamResponse
from cachestream.core.access import is_metadata_address
from cachestream.core.fields import Fields
from cachestream.core.urls import display
from cachestream.errors import (
    AccessDeniedError,
    ClosedError,
    ConfigurationError,
    InvalidURLError,
    UpstreamProtocolError,
)
from cachestream.settings import Settings
from cachestream.transports._direct import Room
from cachestream.transports._environment import Environment, Proxy
from cachestream.transports._failures import FAILURES, cause_of, translate
from cachestream.transports._response import HttpResponse
from cachestream.transports._session import (
    AddressFilter,
    Attempt,
    SocketMaker,
    current_attempt,
    make_session,
    tls_context,
)

__all__ = ["HttpTransport"]

# aiohttp's own limit for a line of the head; for a field twice as much, since there are
# origins whose Content-Security-Policy is longer than 8 KiB.
_MAX_LINE: Final = 8190
_MAX_FIELD: Final = 16 * 1024
_MAX_FIELDS: Final = 128

_URL: Final = re.compile(r"[\x21-\x7e]+")
_TOKEN: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_VALUE: Final = re.compile(r"[^\x00-\x08\x0a-\x1f\x7f]*")
_NOT_OURS: Final = frozenset({"content-length", "transfer-encoding", "upgrade"})
_AUTOMATIC: Final = ("Accept", "Accept-Encoding", "User-Agent", "Content-Type")


class HttpTransport(Transport):
    """Fetches http and https URLs.

    Content comes as the origin coded it (and ``identity`` is asked for), redirects and cookies
    are not followed, and the URL goes over the wire exactly as it is percent-encoded. A
    response that is left before its end costs its connection; one that was read to its end
    gives it back for the next request.

    Metadata services of clouds and link-local addresses are never asked, unless they are in
    ``allow_addresses``. With a proxy the proxy's address is what is checked.

    Args:
        connect_timeout: Seconds until there is a connection, TLS included, and a wait for a
            free one where connections are limited.
        read_timeout: Seconds until the head, and between two pieces of content.
        ca_file: Authorities to trust instead of the system's, in PEM form.
        client_cert: Client certificate in PEM form.
        client_key: Its key, if it is not in the same file.
        verify_tls: Whether to check certificates.
        proxy: ``http://[user:password@]host:port`` for all requests.
        trust_env: Take proxies (HTTP_PROXY, HTTPS_PROXY, NO_PROXY) and passwords (NETRC or
            ``~/.netrc``) from the environment; ``proxy`` wins.
        user_agent: User-Agent of requests that have none; None for our own name.
        limit_per_host: Connections to one host, 0 for as many as are asked for.
        session: A session to use and not to close: cookies, limits and addresses are its affair.
        connector: A connector to use and not to close.
        address_filter: Called with IP address and port before each connection; raises
            `AccessDeniedError` to deny it.
        allow_addresses: IP addresses to ask even if they are link-local or serve metadata.
        clock: Seconds since the epoch.

    Raises:
        ConfigurationError: If a file or proxy cannot be used, or arguments contradict each
            other.

    Example:
        Sign every request::

            class Signed(HttpTransport):
                async def prepare(self, request):
                    return attrs.evolve(request, fields=request.fields.replace(sign(request)))
    """

    schemes = frozenset({"http", "https"})

    def __init__(
        self,
        *,
        connect_timeout: float = 10.0,
        read_timeout: float = 30.0,
        ca_file: Path | None = None,
        client_cert: Path | None = None,
        client_key: Path | None = None,
        verify_tls: bool = True,
        proxy: str | None = None,
        trust_env: bool = False,
        user_agent: str | None = None,
        limit_per_host: int = 0,
        session: aiohttp.ClientSession | None = None,
        connector: aiohttp.BaseConnector | None = None,
        address_filter: AddressFilter | None = None,
        allow_addresses: Iterable[str] = (),
        clock: Callable[[], float] = time.time,
    ) -> None:
        if session is not None and connector is not None:
            raise ConfigurationError("session and connector are given: one is enough")
        if address_filter is not None and (session is not None or connector is not None):
            raise ConfigurationError(
                "address_filter cannot be kept with a session or connector of one's own",
                hint="Give that connector a socket_factory instead",
            )
        self._timeout = aiohttp.ClientTimeout(
            total=None,
            connect=connect_timeout,
            sock_connect=connect_timeout,
            sock_read=read_timeout,
        )
        self._read_timeout = read_timeout
        self._ssl = tls_context(
            ca_file=ca_file, client_cert=client_cert, client_key=client_key, verify=verify_tls
        )
        self._proxy = None if proxy is None else Proxy.parse(proxy)
        self._environment = Environment.read() if trust_env else None
        self._user_agent = user_agent or f"cachestream/{version('cachestream')}"
        self._limit_per_host = limit_per_host
        self._allowed = frozenset(str(ipaddress.ip_address(each)) for each in allow_addresses)
        filters = () if address_filter is None else (address_filter,)
        self._sockets = SocketMaker(self._deny_metadata, *filters)
        self._clock = clock
        self._connector = connector
        self._session = session
        self._owns_session = session is None
        self._attempts: set[Attempt] = set()
        self._responses: set[HttpResponse] = set()
        self._room = Room()
        self._closed = False

    @classmethod
    def from_settings(cls, settings: Settings, **kw: Any) -> Self:
        """Make a transport as ``settings`` say; ``kw`` are further arguments, and win.

        IP addresses that ``allow_hosts`` names may be asked even if they are link-local.
        """
        options: dict[str, Any] = {
            "connect_timeout": settings.connect_timeout,
            "read_timeout": settings.read_timeout,
            "ca_file": settings.ca_file,
            "client_cert": settings.client_cert,
            "client_key": settings.client_key,
            "verify_tls": settings.verify_tls,
            "proxy": settings.proxy,
            "trust_env": settings.trust_env,
            "user_agent": settings.user_agent,
            "allow_addresses": _addresses(settings.allow_hosts),
        }
        return cls(**{**options, **kw})

    def add_address_filter(self, address_filter: AddressFilter) -> None:
        """Check the addresses of new connections with one more filter.

        Raises:
            ConfigurationError: If the session or the connector is not the transport's own.
        """
        if not self._owns_session or self._connector is not None:
            raise ConfigurationError("the session or connector is not the transport's own")
        self._sockets.filters.append(address_filter)

    def _deny_metadata(self, address: str, port: int) -> None:
        if is_metadata_address(address) and address not in self._allowed:
            raise AccessDeniedError(
                f"{address} is link-local or a metadata service",
                hint="Name the address in allow_hosts if it shall be asked all the same",
            )

    async def fetch(self, request: UpstreamRequest) -> UpstreamResponse:
        url = self._url(request.url)
        proxy = self._proxy_for(url)
        headers = self._headers(request, url, proxy)
        session = self._opened(request.url)
        attempt = Attempt(self._read_timeout)
        own: dict[str, Any] = {}
        if self._owns_session:
            own = {"middlewares": (attempt,), "trace_request_ctx": attempt}
        if proxy is not None:
            own["proxy"] = proxy.url
            if proxy.authorization is not None and url.scheme == "https":
                own["proxy_headers"] = {"Proxy-Authorization": proxy.authorization}
        self._attempts.add(attempt)
        token = current_attempt.set(attempt)
        request_time = self._clock()
        try:
            async with attempt.deadline:
                response = await session.request(
                    request.method,
                    url,
                    headers=headers,
                    skip_auto_headers=_AUTOMATIC,
                    allow_redirects=False,
                    auto_decompress=False,
                    raise_for_status=False,
                    timeout=self._timeout,
                    ssl=self._ssl,
                    max_line_size=_MAX_LINE,
                    max_field_size=_MAX_FIELD,
                    max_headers=_MAX_FIELDS,
                    **own,
                )
        except FAILURES as exc:
            raise self._failure(exc, attempt, request.url) from (attempt.denied or cause_of(exc))
        finally:
            current_attempt.reset(token)
            self._attempts.discard(attempt)
        return self._accepted(response, request.url, request_time)

    def _accepted(
        self, response: aiohttp.ClientResponse, url: str, request_time: float
    ) -> HttpResponse:
        accepted = HttpResponse(
            response,
            url=url,
            request_time=request_time,
            response_time=self._clock(),
            forget=self._responses.discard,
            room=self._room,
        )
        self._responses.add(accepted)
        if response.status == 101:
            accepted.close()
            raise UpstreamProtocolError("the origin switched protocols unasked", url=display(url))
        return accepted

    def _failure(self, exc: BaseException, attempt: Attempt, url: str) -> Exception:
        if self._closed:
            return ClosedError("the transport was closed", url=display(url))
        if attempt.denied is not None:
            return AccessDeniedError(
                f"the address of the origin is denied: {attempt.denied.message}",
                url=display(url),
                hint=attempt.denied.hint,
            )
        return translate(exc, url)

    def _opened(self, url: str) -> aiohttp.ClientSession:
        if self._closed:
            raise ClosedError("the transport is closed", url=display(url))
        if self._session is None:
            self._session = make_session(self._connector, self._sockets, self._limit_per_host)
        if self._session.closed:
            raise ClosedError("the session given to the transport is closed", url=display(url))
        return self._session

    def _url(self, text: str) -> yarl.URL:
        try:
            url = yarl.URL(text, encoded=True)
            valid = _URL.fullmatch(text) and url.raw_host and url.port is not None
        except ValueError:
            valid = False
        if not valid or url.scheme not in self.schemes:
            raise InvalidURLError(
                "the URL cannot be asked over HTTP",
                url=display(text),
                hint="Write http:// or https://, a host, and all else percent-encoded",
            )
        if url.raw_user is not None or url.raw_password is not None:
            raise InvalidURLError("a URL must not carry a user name or password", url=display(text))
        return url

    def _proxy_for(self, url: yarl.URL) -> Proxy | None:
        if self._proxy is not None:
            return self._proxy
        return None if self._environment is None else self._environment.proxy(url)

    def _headers(
        self, request: UpstreamRequest, url: yarl.URL, proxy: Proxy | None
    ) -> CIMultiDict[str]:
        fields = request.fields
        added: list[tuple[str, str]] = []
        if "Accept-Encoding" not in fields:
            added.append(("Accept-Encoding", "identity"))
        if "User-Agent" not in fields:
            added.append(("User-Agent", self._user_agent))
        if self._environment is not None and "Authorization" not in fields:
            found = self._environment.authorization(url.host or "")
            added += [] if found is None else [("Authorization", found)]
        if proxy is not None and proxy.authorization is not None and url.scheme == "http":
            added.append(("Proxy-Authorization", proxy.authorization))
        _check(fields, request.url)
        return CIMultiDict((*fields, *added))

    async def aclose(self) -> None:
        self._closed = True
        for attempt in tuple(self._attempts):
            attempt.stop()
        for response in tuple(self._responses):
            response.close()
        session, self._session = self._session, None
        if session is not None and self._owns_session:
            await session.close()
        # What was aborted above is closed in the loop's next turn.
        await asyncio.sleep(0)


def _check(fields: Fields, url: str) -> None:
    for name, value in fields:
        if not _TOKEN.fullmatch(name) or not _VALUE.fullmatch(value):
            raise ConfigurationError(
                f"the field {name!r} cannot be sent: it has characters that HTTP forbids",
                url=display(url),
            )
        if name.lower() in _NOT_OURS:
            raise ConfigurationError(
                f"the field {name!r} cannot be sent: it belongs to the connection",
                url=display(url),
            )


def _addresses(hosts: Iterable[str]) -> list[str]:
    found = []
    for host in hosts:
        try:
            found.append(str(ipaddress.ip_address(host.strip("[]"))))
        except ValueError:
            continue
    return found
