"""The aiohttp sub-application: where it is mounted, beside whom, and how it ends."""

from __future__ import annotations

import asyncio
import ssl

import aiohttp
import pytest
import trustme
from aiohttp import web

from cachestream import CacheManager
from cachestream.errors import ConfigurationError
from cachestream.frontends import AiohttpFrontend
from cachestream.testing._raw_client import RawClient, request_bytes
from cachestream.testing.fakes import (
    BytesBody,
    FakeHandler,
    MixedBody,
    ScratchFile,
    WaitingBody,
    answer_with,
    pattern,
)
from cachestream.testing.origin import Origin

PATIENCE_S = 20.0
DATA = pattern(400_000)

pytestmark = pytest.mark.asyncio


def handler_with(content: bytes = b"content", *, nowait: bool = True) -> FakeHandler:
    return FakeHandler({"*": lambda _: answer_with(content)}, nowait=nowait)


async def happens(event: asyncio.Event) -> None:
    async with asyncio.timeout(PATIENCE_S):
        await event.wait()


async def own(request: web.Request) -> web.Response:
    return web.Response(text="own" * 100_000)


@pytest.fixture
def make_app(tmp_path):
    """Make an application with a cache at its mount path; both are attributes afterwards."""

    class Made:
        def __init__(self, path="/media", **settings):
            self.path = path
            self.settings = {"cache_dir": tmp_path / "cache", "min_free": 0, **settings}

        async def opened(self, app):
            async with self.cache:
                yield

        def __call__(self, base):
            self.door = AiohttpFrontend(base + self.path)
            self.cache = CacheManager(frontend=self.door, **self.settings)
            self.app = web.Application()
            self.app.router.add_get("/own", own)
            self.app.cleanup_ctx.append(self.opened)
            if self.path == "/media":
                self.app.add_subapp("/media/", self.door.app)
            else:
                between = web.Application()
                between.add_subapp("/media/", self.door.app)
                self.app.add_subapp(self.path.removesuffix("media"), between)
            return self.app

    return Made


@pytest.mark.parametrize("path", ["/media", "/deep/media"])
async def test_mounted_cache_serves(path, serve_app, make_app):
    """As a sub-application at any depth: whole, ranges, conditions, HEAD and its errors."""
    made = make_app(path)
    async with (
        Origin() as origin,
        serve_app("aiohttp", made) as base,
        aiohttp.ClientSession() as web_client,
    ):
        origin.add("/v%2F.mp4", DATA)
        url = made.cache.get_cache_url(origin.url("/v%2F.mp4"))
        assert url.startswith(f"{base}{path}/http/127.0.0.1:")
        url = aiohttp.client.URL(url, encoded=True)
        for _ in range(2):
            async with web_client.get(url) as got:
                assert (got.status, await got.read()) == (200, DATA)
        tag = got.headers["ETag"]
        async with web_client.get(url, headers={"Range": "bytes=1000-1999"}) as got:
            assert (got.status, await got.read()) == (206, DATA[1000:2000])
            assert got.headers["Content-Range"] == f"bytes 1000-1999/{len(DATA)}"
        async with web_client.get(url, headers={"Range": "bytes=999999-"}) as got:
            assert (got.status, got.headers["Content-Range"]) == (416, f"bytes */{len(DATA)}")
        async with web_client.get(url, headers={"If-None-Match": tag}) as got:
            assert (got.status, await got.read()) == (304, b"")
        async with web_client.head(url) as got:
            assert (got.status, got.content_length) == (200, len(DATA))
        async with web_client.post(url, data=b"x") as got:
            assert (got.status, got.headers["Allow"]) == (405, "GET, HEAD")
        async with web_client.get(f"{base}{path}/favicon.ico") as got:
            assert got.status == 404
        async with web_client.get(f"{base}/own") as got:
            assert got.status == 200
        assert origin.bytes_sent("/v%2F.mp4") == len(DATA)
    assert made.cache.is_closed


@pytest.mark.parametrize(
    ("target", "seen"),
    [
        ("/media/example.com/a%2Fb?q=%26&", "/example.com/a%2Fb?q=%26&"),
        ("/m%65dia/example.com/x", "/example.com/x"),
        ("/media/", "/"),
        ("http://other/media/x?y", "http://other/x?y"),
    ],
)
async def test_mount_path_is_taken_off(target, seen, serve_app):
    """The handler sees what is below the mount path, byte for byte."""
    door = AiohttpFrontend("http://films.example/media")
    app = web.Application()
    app.add_subapp("/media/", door.app)
    handler = handler_with()
    async with serve_app("aiohttp", lambda base: app) as base, door.serve(handler):
        async with RawClient(base) as client:
            assert (await client.ask(target)).content == b"content"
    assert [head.target for head in handler.heads] == [seen]


async def test_who_may_come_in(serve_app, make_app):
    """Host, other sites' pages and the token are judged as at the loopback server."""
    made = make_app(token="secret")
    async with Origin() as origin, serve_app("aiohttp", made) as base:
        origin.add("/v.mp4", b"content")
        own_host = base.partition("://")[2]
        target = made.cache.get_cache_url(origin.url("/v.mp4")).removeprefix(base)

        async def status(target: str = target, host: str = own_host, **fields: str) -> int:
            lines = [(name.replace("_", "-"), value) for name, value in fields.items()]
            async with RawClient(base) as client:
                return (await client.ask(target, *lines, host=host)).status

        assert await status() == 200
        assert await status(host="evil.example") == 421
        assert await status(f"http://evil.example{target}") == 421
        assert await status(Sec_Fetch_Site="cross-site") == 403
        assert await status(target.replace("/~secret", "")) == 404
        assert await status(target.replace("127.0.0.1:", "192.0.2.1:")) == 403
        async with RawClient(base) as client:
            await client.send(request_bytes(target, ("Content-Length", "4"), host=own_host))
            await client.send(b"data")
            assert (await client.receive()).status == 413
            assert await client.ended()


async def test_others_on_one_connection(serve_app, make_app):
    """Answers of the program and of the cache follow each other, pipelined, byte for byte."""
    made = make_app()
    async with Origin() as origin, serve_app("aiohttp", made) as base:
        origin.add("/v.mp4", DATA)
        host = base.partition("://")[2]
        target = made.cache.get_cache_url(origin.url("/v.mp4")).removeprefix(base)
        async with RawClient(base, receive_buffer=8192) as client:
            for _ in range(3):
                await client.send(request_bytes("/own", host=host))
                await client.send(request_bytes(target, host=host))
                await client.send(request_bytes("/own", host=host))
                for expected in (b"own" * 100_000, DATA, b"own" * 100_000):
                    got = await client.receive()
                    assert (got.complete, got.content == expected) == (True, True)


async def test_buffer_limits_are_as_they_were(serve_app):
    """After an answer of the cache the connection buffers for others as it did before."""
    door = AiohttpFrontend("http://films.example/media")
    limits = []

    async def look(request: web.Request) -> web.Response:
        limits.append(request.transport.get_write_buffer_limits())
        return web.Response()

    app = web.Application()
    app.add_subapp("/media/", door.app)
    app.router.add_get("/look", look)
    async with serve_app("aiohttp", lambda _: app) as base, door.serve(handler_with()):
        async with RawClient(base) as client:
            for target in ("/look", "/media/x", "/look"):
                assert (await client.ask(target)).status == 200
    assert limits[0] == limits[1]


async def test_programs_signals_and_middleware(serve_app):
    """Fields of ``on_response_prepare`` and cookies are in the answer; compression is not."""

    @web.middleware
    async def middleware(request, handler):
        response = await handler(request.clone())
        response.headers["X-Late"] = "no"
        return response

    async def prepare(request, response):
        response.headers["X-Signal"] = "yes"
        response.set_cookie("a", "b")
        response.enable_compression(force=True)

    door = AiohttpFrontend("http://films.example/media")
    app = web.Application(middlewares=[middleware])
    app.on_response_prepare.append(prepare)
    app.add_subapp("/media/", door.app)
    async with serve_app("aiohttp", lambda _: app) as base, door.serve(handler_with()):
        async with RawClient(base) as client:
            got = await client.ask("/media/x", ("Accept-Encoding", "gzip"))
    assert got.content == b"content"
    assert got.fields.get("X-Signal") == "yes"
    assert "Content-Encoding" not in got.fields
    assert "X-Late" not in got.fields


@pytest.mark.parametrize("cloned", [False, True])
async def test_disconnect_is_noticed_behind_middleware(cloned, serve_app):
    """A client that leaves ends the wait, even if middleware made another request of its own."""

    @web.middleware
    async def middleware(request, handler):
        return await handler(request.clone() if cloned else request)

    door = AiohttpFrontend("http://films.example/media")
    app = web.Application(middlewares=[middleware])
    app.add_subapp("/media/", door.app)
    body, gate = WaitingBody(), handler_with(nowait=False)
    handler = FakeHandler({"*": lambda _: answer_with(body)})
    async with serve_app("aiohttp", lambda _: app) as base:
        async with door.serve(handler):
            async with RawClient(base) as client:
                await client.send(request_bytes("/media/x"))
                await happens(body.waiting)
            await happens(body.closed)
        gate.gate = asyncio.Event()
        async with door.serve(gate):
            async with RawClient(base) as client:
                await client.send(request_bytes("/media/x"))
                await happens(gate.arrived)
            await happens(gate.cancelled)


async def test_leaving_closes_and_cuts(serve_app):
    """When the context is left, answers under way are cut, and who has none yet is told 503."""
    door = AiohttpFrontend("http://films.example/media")
    app = web.Application()
    app.add_subapp("/media/", door.app)
    waiting, data = WaitingBody(), pattern(8 << 20)
    waiting.feed(b"first")
    with ScratchFile(data) as file:
        stuck = MixedBody([file.region()])
        handler = FakeHandler(
            {
                "/waiting": lambda _: answer_with(waiting),
                "/stuck": lambda _: answer_with(stuck, length=len(data)),
            }
        )
        async with serve_app("aiohttp", lambda _: app) as base:
            async with RawClient(base) as one, RawClient(base, receive_buffer=65_536) as two:
                async with door.serve(handler):
                    await one.send(request_bytes("/media/waiting"))
                    await two.send(request_bytes("/media/stuck"))
                    await happens(waiting.waiting)
                    await two.arriving()
                assert waiting.closed.is_set()
                assert stuck.closed.is_set()
                assert not (await one.receive()).complete
                assert not (await two.receive()).complete
            late = handler_with(nowait=False)
            late.gate = asyncio.Event()
            async with RawClient(base) as client:
                async with door.serve(late):
                    await client.send(request_bytes("/media/x"))
                    await happens(late.arrived)
                assert (await client.receive()).status == 503
                assert (await client.ask("/media/x")).status == 503
    assert late.cancelled.is_set()


async def test_idle_client_is_given_up(serve_app):
    """With an idle timeout a client that stopped reading is cut."""
    door = AiohttpFrontend("http://films.example", client_idle_timeout=0.05)
    with ScratchFile(pattern(16 << 20)) as file:
        body = MixedBody([file.region()])
        handler = FakeHandler({"*": lambda _: answer_with(body, length=16 << 20)})
        async with serve_app("aiohttp", lambda _: door.app) as base, door.serve(handler):
            async with RawClient(base, receive_buffer=65_536) as client:
                await client.send(request_bytes("/"))
                await happens(body.closed)
                assert not (await client.receive()).complete


async def test_over_tls(tmp_path):
    """In a server with TLS, content goes through the transport, whole and cut alike."""
    authority = trustme.CA()
    server, trusting = (
        ssl.create_default_context(ssl.Purpose.CLIENT_AUTH),
        ssl.create_default_context(),
    )
    authority.issue_cert("127.0.0.1").configure_cert(server)
    authority.configure_trust(trusting)
    door = AiohttpFrontend("https://127.0.0.1/media")
    app = web.Application()
    app.add_subapp("/media/", door.app)
    runner = web.AppRunner(app)
    await runner.setup()
    data = pattern(3_000_000)
    with ScratchFile(data) as file:
        handler = FakeHandler(
            {
                "/file": lambda _: answer_with(MixedBody([file.region()]), length=len(data)),
                "/short": lambda _: answer_with(BytesBody(data), length=len(data) + 1),
            }
        )
        try:
            site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=server)
            await site.start()
            port = site._server.sockets[0].getsockname()[1]
            base = f"https://127.0.0.1:{port}/media"
            connector = aiohttp.TCPConnector(ssl=trusting)
            async with door.serve(handler), aiohttp.ClientSession(connector=connector) as client:
                for _ in range(2):
                    async with client.get(f"{base}/file") as got:
                        assert await got.read() == data
                async with client.get(f"{base}/short") as got:
                    with pytest.raises(aiohttp.ClientPayloadError):
                        await got.read()
        finally:
            await runner.cleanup()


async def test_one_application():
    """The application is the same each time, and answers for one handler at a time."""
    door = AiohttpFrontend("http://films.example")
    assert door.app is door.app
    async with door.serve(handler_with()):
        with pytest.raises(ConfigurationError, match="already"):
            async with door.serve(handler_with()):
                pass


async def test_it_counts(serve_app):
    """Requests and bytes of content are counted."""
    door = AiohttpFrontend("http://films.example")
    async with serve_app("aiohttp", lambda _: door.app) as base, door.serve(handler_with()):
        async with RawClient(base) as client:
            await client.ask("/")
            await client.ask("/", method="HEAD")
        assert (door.requests, door.bytes_sent) == (2, 7)
