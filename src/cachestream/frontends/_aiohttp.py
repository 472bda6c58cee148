"""An aiohttp application over a handler, to be added to another as a sub-application."""

from __future__ import annotations

import asyncio
import logging
from typing import Final
from urllib.parse import unquote

from aiohttp import web

from cachestream.abc import Handler, RequestHead
from cachestream.core.fields import Fields
from cachestream.errors import ClosedError
from cachestream.frontends._access import finish, recorded
from cachestream.frontends._aiohttp_exchange import Exchange
from cachestream.frontends._heads import plain_content
from cachestream.frontends._links import ClientGoneError
from cachestream.frontends._mounted import HandlerBugError, MountedFrontend, has_content
from cachestream.frontends._scope import below_mount

__all__ = ["AiohttpFrontend"]

logger = logging.getLogger("cachestream.frontends")

_CLOSE_TIMEOUT_S: Final = 5.0
_TAIL: Final = "/{path}"


class AiohttpFrontend(MountedFrontend):
    """An `aiohttp.web` sub-application whose answers come from a cache.

    Give it to the manager, and add its `app` to the program's application. Files leave on the
    socket itself, as from `LoopbackFrontend`; what middleware changes of an answer once a
    handler has returned comes too late, as with every streamed answer of aiohttp, while
    ``on_response_prepare`` does its work. See `MountedFrontend` for the arguments.

    Example:
        door = AiohttpFrontend("http://127.0.0.1:8080/media")
        cache = CacheManager(frontend=door)

        async def open_cache(app):
            async with cache:
                yield

        app = web.Application()
        app.cleanup_ctx.append(open_cache)
        app.add_subapp("/media/", door.app)
    """

    def _prepare(self) -> None:
        self._app: web.Application | None = None
        self._exchanges: set[Exchange] = set()

    @property
    def app(self) -> web.Application:
        """The application to add, the same each time: one can be added once."""
        if self._app is None:
            self._app = web.Application()
            self._app.router.add_route("*", "/{path:.*}", self._handle)
        return self._app

    async def _cut_all(self) -> None:
        exchanges = tuple(self._exchanges)
        for exchange in exchanges:
            exchange.cut()
        if exchanges:
            _, late = await asyncio.wait(
                [exchange.done for exchange in exchanges], timeout=_CLOSE_TIMEOUT_S
            )
            if late:
                logger.error("%d handlers do not end when they are cancelled", len(late))

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        handler = self._handler
        head = self._head_of(request)
        if handler is None:
            return _plain(503)
        if head is None:
            return _plain(404)
        if has_content(head.method, head.fields):
            # What follows on the connection could be taken for another request.
            return _plain(413, last=True)
        self.requests += 1
        return await self._answer(handler, head, request)

    async def _answer(
        self, handler: Handler, head: RequestHead, request: web.Request
    ) -> web.StreamResponse:
        exchange = Exchange(request, head, idle_timeout=self._client_idle)
        handler = recorded(handler, head)
        self._exchanges.add(exchange)
        try:
            answer = self._ask_nowait(handler, head)
            if answer is None:
                answer = await exchange.wait(self._ask(handler, head))
            return await exchange.send(answer)
        except HandlerBugError:
            return _plain(500, last=True)
        except ClosedError:
            return _plain(503)
        except ClientGoneError:
            exchange.abort()
            return _plain(503, last=True)
        finally:
            self.bytes_sent += exchange.sent
            finish(handler, exchange.sent)
            self._exchanges.discard(exchange)
            exchange.close()

    def _head_of(self, request: web.Request) -> RequestHead | None:
        # `raw_headers` and `raw_path` are what came; the parsed forms have lost spelling.
        resource = request.match_info.route.resource
        mount = resource.canonical.removesuffix(_TAIL) if resource is not None else ""
        target = below_mount(request.raw_path, unquote(mount))
        if target is None:
            return None
        lines = tuple(
            (name.decode("utf-8", "surrogateescape"), value.decode("utf-8", "surrogateescape"))
            for name, value in request.raw_headers
        )
        peer = request.transport.get_extra_info("peername") if request.transport else None
        return RequestHead(
            method=request.method,
            target=target,
            fields=Fields(lines),
            version=(request.version.major, request.version.minor),
            served=self._served,
            client=peer[0] if isinstance(peer, tuple) else None,
        )


def _plain(status: int, *, last: bool = False) -> web.Response:
    """Answer of our own accord, in one line of text."""
    response = web.Response(
        status=status,
        body=plain_content(status),
        content_type="text/plain",
        charset="utf-8",
        headers={"X-Content-Type-Options": "nosniff", "Server": "cachestream"},
    )
    if last:
        response.force_close()
    return response
