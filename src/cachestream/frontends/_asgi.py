"""An ASGI 3 application over a handler, to be mounted in Starlette, FastAPI or any other.

The extensions that send files (``http.response.pathsend``) are of no use to it: they name a
whole file by its path, and what is sent here are parts of sparse files.
"""

from __future__ import annotations

import contextlib
from contextlib import AbstractAsyncContextManager

from cachestream.abc import Handler, RequestHead
from cachestream.errors import ClosedError
from cachestream.frontends._access import finish, recorded
from cachestream.frontends._asgi_exchange import (
    Application,
    Exchange,
    HeadLines,
    Receive,
    Scope,
    Send,
    say,
)
from cachestream.frontends._mounted import HandlerBugError, MountedFrontend, has_content
from cachestream.frontends._scope import request_head

__all__ = ["AsgiFrontend"]


class AsgiFrontend(MountedFrontend):
    """An ASGI application whose answers come from a cache: give it to the manager, and mount it.

    The mount path may be any; ``root_path`` says what it is. Server and cache run in one
    event loop: of several worker processes each has its own cache, on one directory if you
    like. See `MountedFrontend` for the arguments.

    Example:
        door = AsgiFrontend("http://127.0.0.1:8000/media")
        cache = CacheManager(frontend=door)

        @contextlib.asynccontextmanager
        async def lifespan(app):
            async with cache:
                yield

        app = FastAPI(lifespan=lifespan)
        app.mount("/media", door)
    """

    def _prepare(self) -> None:
        self._lines: HeadLines = HeadLines()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one connection, as ASGI has it.

        Raises:
            Exception: If an answer that has begun cannot be completed. To return without the
                last message would do with a server alone, but middleware in between may end
                the content cleanly then, and nobody would notice what is missing.
        """
        match scope["type"]:
            case "http":
                await self._http(scope, receive, send)
            case "lifespan":
                await _follow_lifespan(contextlib.nullcontext(), receive, send)
            case "websocket":
                await receive()
                await send({"type": "websocket.close", "code": 1000})  # before accept: a 403
            case other:
                raise ValueError(f"a cache has no answer to {other!r} over ASGI")

    def standalone(self, cache: AbstractAsyncContextManager[object]) -> Application:
        """Return an application whose lifespan opens ``cache``, for a server of its own.

        A mounted application is never told of the lifespan: there the program enters the
        cache itself.
        """

        async def application(scope: Scope, receive: Receive, send: Send) -> None:
            if scope["type"] == "lifespan":
                await _follow_lifespan(cache, receive, send)
            else:
                await self(scope, receive, send)

        return application

    async def _http(self, scope: Scope, receive: Receive, send: Send) -> None:
        handler = self._handler
        head = request_head(scope, self._served)
        if handler is None:
            await say(send, scope, 503)
        elif head is None:
            await say(send, scope, 404)
        elif has_content(head.method, head.fields):
            # What follows on the connection could be taken for another request.
            await say(send, scope, 413, last=True)
        else:
            self.requests += 1
            try:
                await self._answer(handler, head, scope, receive, send)
            except HandlerBugError:
                await say(send, scope, 500, last=True)

    async def _answer(
        self, handler: Handler, head: RequestHead, scope: Scope, receive: Receive, send: Send
    ) -> None:
        exchange = Exchange(head, send, lines=self._lines, idle_timeout=self._client_idle)
        handler = recorded(handler, head)
        try:
            answer = self._ask_nowait(handler, head)
            if answer is None or not await exchange.send_at_once(answer):
                await exchange.run(answer, lambda: self._ask(handler, head), receive, self._running)
        except ClosedError:
            if exchange.started:
                raise
            await say(send, scope, 503)
        finally:
            self.bytes_sent += exchange.sent
            finish(handler, exchange.sent)


async def _follow_lifespan(
    context: AbstractAsyncContextManager[object], receive: Receive, send: Send
) -> None:
    """Enter ``context`` at the start-up and leave it at the shutdown."""
    await receive()
    try:
        await context.__aenter__()
    except Exception as error:
        await send({"type": "lifespan.startup.failed", "message": str(error)})
        return
    try:
        await send({"type": "lifespan.startup.complete"})
        await receive()
    finally:
        await context.__aexit__(None, None, None)
    await send({"type": "lifespan.shutdown.complete"})
