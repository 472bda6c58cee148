"""Servers of other people with our applications in them, each as a frontend for the contract."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

import pytest
import uvicorn
from aiohttp import web
from granian.constants import Interfaces
from granian.net import SocketHolder
from granian.server.embed import Server as GranianServer

from cachestream.abc import Frontend, Handler
from cachestream.errors import ServerUnavailableError
from cachestream.frontends import AiohttpFrontend, AsgiFrontend

PATIENCE_S = 20.0

RunServer = Callable[[Any, socket.socket], AbstractAsyncContextManager[None]]


class _Uvicorn(uvicorn.Server):
    """A server that leaves the process's signals alone."""

    @contextlib.contextmanager
    def capture_signals(self):
        yield


@asynccontextmanager
async def run_uvicorn(app: Any, listener: socket.socket, **options: Any) -> AsyncIterator[None]:
    """Run uvicorn in this event loop."""
    config = uvicorn.Config(app, log_config=None, access_log=False, **options)
    server = _Uvicorn(config)
    task = asyncio.create_task(server.serve([listener]))
    try:
        async with asyncio.timeout(PATIENCE_S):
            while not server.started:
                assert not task.done(), "uvicorn did not start"
                await asyncio.sleep(0)
        yield
    finally:
        server.should_exit = True
        async with asyncio.timeout(PATIENCE_S):
            await task


class _Granian(GranianServer):
    """A server that takes a socket that listens already."""

    def __init__(self, app: Any, listener: socket.socket, **options: Any) -> None:
        super().__init__(app, interface=Interfaces.ASGI, log_enabled=False, **options)
        self._listener = listener

    def _init_shared_socket(self) -> None:
        self._ssp = None
        self._shd = SocketHolder(self._listener.detach(), False, 128)


@asynccontextmanager
async def run_granian(app: Any, listener: socket.socket, **options: Any) -> AsyncIterator[None]:
    """Run granian, whose threads call the application in this event loop."""
    started = asyncio.Event()

    async def watched(scope: Any, receive: Any, send: Any) -> None:
        async def watched_send(message: Any) -> None:
            await send(message)
            if message["type"].startswith("lifespan.startup."):
                started.set()

        await app(scope, receive, watched_send if scope["type"] == "lifespan" else send)

    server = _Granian(watched, listener, **options)
    task = asyncio.create_task(server.serve())
    try:
        async with asyncio.timeout(PATIENCE_S):
            await started.wait()
        yield
    finally:
        server.stop()
        async with asyncio.timeout(PATIENCE_S):
            await task


@asynccontextmanager
async def run_aiohttp(app: web.Application, listener: socket.socket) -> AsyncIterator[None]:
    """Run aiohttp's server, with its defaults but for the access log."""
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=PATIENCE_S)
    await runner.setup()
    try:
        await web.SockSite(runner, listener).start()
        yield
    finally:
        await runner.cleanup()


def listen() -> tuple[socket.socket, str]:
    """Return a socket that listens on a free port, and its base URL."""
    listener = socket.create_server(("127.0.0.1", 0), backlog=128)
    listener.setblocking(False)
    return listener, f"http://127.0.0.1:{listener.getsockname()[1]}"


class Served(Frontend):
    """A mounted frontend together with the server that calls it.

    Args:
        make: Makes the frontend for a base URL.
        app: Returns what the server is given of it.
        run: Runs the server.
    """

    def __init__(
        self, make: Callable[[str], Any], app: Callable[[Any], Any], run: RunServer
    ) -> None:
        self._make, self._app, self._run = make, app, run
        self.door: Any = None

    @asynccontextmanager
    async def serve(self, handler: Handler) -> AsyncIterator[str]:
        listener, base = listen()
        self.door = self._make(base)
        try:
            async with self._run(self._app(self.door), listener), self.door.serve(handler):
                yield base
        finally:
            self.door = None

    def _live(self) -> Any:
        if self.door is None:
            raise ServerUnavailableError("nothing is being served")
        return self.door

    def url_for(self, source: str) -> str:
        return self._live().url_for(source)

    def source_for(self, url: str) -> str | None:
        return self._live().source_for(url)

    async def ensure_active(self) -> bool:
        return await self._live().ensure_active()


@pytest.fixture
def make_served() -> Callable[[str], Served]:
    """Make frontends in real servers: ``uvicorn``, ``granian`` or ``aiohttp``."""

    def make(name: str) -> Served:
        if name == "aiohttp":
            return Served(AiohttpFrontend, lambda door: door.app, run_aiohttp)
        run = {"uvicorn": run_uvicorn, "granian": run_granian}[name]
        return Served(AsgiFrontend, lambda door: door, run)

    return make


@pytest.fixture
def serve_app() -> Callable[..., AbstractAsyncContextManager[str]]:
    """Run an application in a server until the context is left; gives its base URL."""
    runners = {"uvicorn": run_uvicorn, "granian": run_granian, "aiohttp": run_aiohttp}

    @asynccontextmanager
    async def serve(name: str, make_app: Callable[[str], Any], **options: Any):
        listener, base = listen()
        async with runners[name](make_app(base), listener, **options):
            yield base

    return serve


@pytest.fixture
def eventually() -> Callable[[Callable[[], object]], Awaitable[None]]:
    """Wait until something holds that nobody announces."""

    async def wait(condition: Callable[[], object]) -> None:
        async with asyncio.timeout(PATIENCE_S):
            while not condition():
                await asyncio.sleep(0.01)

    return wait


@pytest.fixture(autouse=True)
def quiet_servers(caplog: pytest.LogCaptureFixture) -> None:
    """Let servers log what they like, but not on the terminal."""
    for name in ("uvicorn", "uvicorn.error", "_granian", "granian"):
        logging.getLogger(name).setLevel(logging.ERROR)
