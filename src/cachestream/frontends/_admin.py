"""Health and metrics on a port of their own, for orchestrators and Prometheus.

What is cached is never answered here, and what is answered here never on the port of the
local URLs. The checks of who may come in are those of the local URLs, but for the token: a
probe of an orchestrator has none, so whether it is alive and ready is told to everybody who
reaches the port, and everything else to those who have the token.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final, Self

from aiohttp import web

from cachestream.abc import Inspector
from cachestream.core.access import AccessPolicy, judge_client
from cachestream.core.fields import Fields
from cachestream.core.urls import matches_token, origin_form, split_token
from cachestream.errors import ConfigurationError, InvalidURLError
from cachestream.frontends._addresses import WILDCARDS, authority, is_loopback, listen_error
from cachestream.frontends._lag import LoopLag
from cachestream.settings import Settings

if TYPE_CHECKING:
    from cachestream.metrics import MetricsPage

__all__ = ["AdminServer"]

logger: Final = logging.getLogger("cachestream.frontends")

# What is being answered ends on its own in about this time: see the limits of inspectors.
_CLOSE_TIMEOUT_S: Final = 1.0
_LOCAL_NAMES: Final = ("127.0.0.1", "localhost", "[::1]")
_NO_METRICS: Final = (
    "metrics need prometheus-client, which is not installed here; install the extra with: "
    "pip install 'cachestream[metrics]'\n"
)
_GUARD: Final = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'",
    "Cross-Origin-Resource-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
}


class AdminServer:
    """Answers ``/-/healthz``, ``/-/readyz`` and ``/-/metrics``, and nothing else.

    Args:
        inspector: What is shown.
        host: The address to listen on; anything wider than loopback needs a token.
        port: The port, 0 for any free one.
        token: What shows who may see more than health: ``Authorization: Bearer TOKEN``, or
            ``/~TOKEN`` before the path. None for nothing.
        open_to_all: Ask nobody for the token, on whatever address.
        server_names: Further values of Host to answer to.

    Raises:
        ConfigurationError: If ``host`` is wider than loopback, and neither is there a token nor
            is it open to all on purpose.
    """

    def __init__(
        self,
        inspector: Inspector,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        token: str | None = None,
        open_to_all: bool = False,
        server_names: tuple[str, ...] = (),
    ) -> None:
        if not token and not open_to_all and not is_loopback(host):
            raise ConfigurationError(
                f"admin_host {host!r} would show metrics to others on the network",
                hint="Set a token, set admin_open if that is meant, or listen on 127.0.0.1",
            )
        self._inspector = inspector
        self._host = "127.0.0.1" if host == "localhost" else host
        self._port = port
        self._token = token or None
        self._open = open_to_all or self._token is None
        self._policy = AccessPolicy(server_names=server_names)
        self._served: frozenset[str] = frozenset()
        self._lag = LoopLag()
        self._metrics: MetricsPage | None = None
        self._pages: dict[str, Callable[[web.BaseRequest, bool], Awaitable[web.Response]]] = {
            "/-/healthz": self._healthz,
            "/-/readyz": self._readyz,
            "/-/metrics": self._metrics_page,
        }

    @classmethod
    def from_settings(cls, settings: Settings, inspector: Inspector) -> Self:
        """Make a server as the settings say.

        Raises:
            ConfigurationError: As the constructor.
        """
        return cls(
            inspector,
            host=settings.admin_host,
            port=settings.admin_port or 0,
            token=settings.token,
            open_to_all=settings.admin_open,
            server_names=settings.server_names,
        )

    @asynccontextmanager
    async def serve(self) -> AsyncIterator[str]:
        """Listen until the context is left; yields the base URL, without a final slash.

        Raises:
            ConfigurationError: If the address cannot be listened on.
        """
        self._metrics = _make_page(self._inspector, self._lag)
        # aiohttp's access log would show the token in a path.
        server = web.Server(self._answer, handler_cancellation=True, access_log=None, logger=logger)
        runner = web.ServerRunner(server, shutdown_timeout=_CLOSE_TIMEOUT_S)
        await runner.setup()
        try:
            port = await self._listen(runner)
            self._served = self._authorities(port)
            self._lag.start()
            yield f"http://{authority((WILDCARDS.get(self._host, self._host), port))}"
        finally:
            self._lag.stop()
            await runner.cleanup()

    async def _listen(self, runner: web.ServerRunner) -> int:
        try:
            await web.TCPSite(runner, self._host or None, self._port).start()
        except (OSError, OverflowError) as error:
            raise listen_error(self._host, self._port, error) from error
        return int(runner.addresses[0][1])

    def _authorities(self, port: int) -> frozenset[str]:
        named = {authority((self._host, port))} if self._host not in WILDCARDS else set()
        if is_loopback(self._host) or self._host in WILDCARDS:
            named |= {f"{name}:{port}" for name in _LOCAL_NAMES}
        return frozenset(named)

    # -- who may come in --------------------------------------------------

    async def _answer(self, request: web.BaseRequest) -> web.Response:
        fields = Fields(tuple(request.headers.items()))
        target = request.raw_path
        denial = judge_client(target, fields, self._served_on(request), self._policy)
        if denial is not None:
            return _text(denial.status, denial.detail)
        try:
            given, path = split_token(origin_form(target))
        except InvalidURLError:
            return _text(404, "there is nothing here")
        page = self._pages.get(path.partition("?")[0])
        if page is None or (given is not None and not self._is_token(given)):
            return _text(404, "there is nothing here")
        if request.method not in ("GET", "HEAD"):
            return _text(405, "only GET and HEAD are answered here", Allow="GET, HEAD")
        trusted = self._open or given is not None or self._is_token(_bearer(fields))
        return await page(request, trusted)

    def _served_on(self, request: web.BaseRequest) -> frozenset[str]:
        """Return what Host may say: on a wider address the one that was reached, too."""
        transport = request.transport
        if is_loopback(self._host) or transport is None:
            return self._served
        return self._served | {authority(transport.get_extra_info("sockname"))}

    def _is_token(self, given: str | None) -> bool:
        return self._token is not None and matches_token(given, self._token)

    # -- pages ------------------------------------------------------------

    async def _healthz(self, request: web.BaseRequest, trusted: bool) -> web.Response:
        """Answer from the event loop and nothing else: whoever gets this is not stuck."""
        return web.json_response({"status": "alive"}, headers=_GUARD)

    async def _readyz(self, request: web.BaseRequest, trusted: bool) -> web.Response:
        found = await self._inspector.readiness()
        said: dict[str, object] = {"ready": found.ready}
        if trusted:
            said["reasons"] = [{"part": part, "reason": why} for part, why in found.reasons]
        return web.json_response(said, status=200 if found.ready else 503, headers=_GUARD)

    async def _metrics_page(self, request: web.BaseRequest, trusted: bool) -> web.Response:
        if not trusted:
            return _text(
                401,
                "metrics need the token, as Authorization: Bearer TOKEN",
                **{"WWW-Authenticate": 'Bearer realm="cachestream"'},
            )
        if self._metrics is None:
            return _text(501, _NO_METRICS.rstrip())
        page, content_type = await self._metrics.render(request.headers.get("Accept", ""))
        return web.Response(body=page, headers={**_GUARD, "Content-Type": content_type})


def _make_page(inspector: Inspector, lag: LoopLag) -> MetricsPage | None:
    """Return the page of metrics, None without the library that makes it."""
    try:
        # Here and not above: it is an extra.
        from cachestream.metrics import MetricsPage
    except ModuleNotFoundError as error:
        if error.name != "prometheus_client":
            raise
        return None
    return MetricsPage(inspector, lag.distribution)


def _bearer(fields: Fields) -> str | None:
    """Return the token that a client shows (RFC 6750 §2.1), None if it shows none."""
    scheme, _, token = (fields.get("authorization") or "").strip().partition(" ")
    return token.strip() if scheme.lower() == "bearer" else None


def _text(status: int, text: str, **fields: str) -> web.Response:
    return web.Response(status=status, text=f"{text}\n", headers={**_GUARD, **fields})
