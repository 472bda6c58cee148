"""The ASGI application: where it is mounted, who may come in, how it lives with its server."""

from __future__ import annotations

import asyncio
import contextlib
import shutil

import aiohttp
import pytest
import yarl
from fastapi import FastAPI
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.responses import PlainTextResponse
from starlette.routing import Mount, Route

from cachestream import CacheManager
from cachestream.errors import (
    ClosedError,
    ConfigurationError,
    InvalidURLError,
    ServerUnavailableError,
    UpstreamTimeoutError,
)
from cachestream.frontends import AsgiFrontend
from cachestream.testing._raw_client import RawClient, request_bytes
from cachestream.testing.fakes import (
    BytesBody,
    FailingBody,
    FakeHandler,
    WaitingBody,
    answer_with,
    pattern,
)
from cachestream.testing.origin import Origin

PATIENCE_S = 20.0
SOURCE = "https://example.com/video.mp4"
SERVERS = pytest.mark.parametrize("server", ["uvicorn", "granian"])

pytestmark = pytest.mark.asyncio


def handler_with(content: bytes = b"content", *, nowait: bool = True) -> FakeHandler:
    return FakeHandler({"*": lambda _: answer_with(content)}, nowait=nowait)


async def happens(event: asyncio.Event) -> None:
    async with asyncio.timeout(PATIENCE_S):
        await event.wait()


class Caller:
    """Stands in for a server: calls an application, and keeps what it sends.

    Args:
        target: Path and query, as they are sent.
        root: The mount path, decoded.
        fields: Fields of the request, Host among them if need be.
    """

    def __init__(
        self,
        target: str = "/",
        *,
        root: str = "",
        fields: tuple[tuple[str, str], ...] = (),
        method: str = "GET",
        **more: object,
    ) -> None:
        url = yarl.URL.build(path=target.partition("?")[0], encoded=True)
        self.scope = {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.4"},
            "http_version": "1.1",
            "method": method,
            "scheme": "http",
            "path": url.path,
            "raw_path": target.partition("?")[0].encode(),
            "query_string": target.partition("?")[2].encode(),
            "root_path": root,
            "headers": [(n.lower().encode(), v.encode()) for n, v in fields],
            "client": ("127.0.0.1", 5000),
            "server": ("127.0.0.1", 8000),
            **more,
        }
        self.sent: list[dict] = []
        self.left = asyncio.Event()
        self.blocked: asyncio.Event | None = None
        self.sending_raises: Exception | None = None

    async def receive(self) -> dict:
        await self.left.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: dict) -> None:
        if self.sending_raises is not None:
            raise self.sending_raises
        self.sent.append(message)
        if self.blocked is not None and message["type"] == "http.response.body":
            await self.blocked.wait()

    async def call(self, app) -> Caller:
        async with asyncio.timeout(PATIENCE_S):
            await app(self.scope, self.receive, self.send)
        return self

    @property
    def status(self) -> int:
        return self.sent[0]["status"]

    @property
    def content(self) -> bytes:
        return b"".join(message.get("body", b"") for message in self.sent[1:])

    @property
    def is_complete(self) -> bool:
        return bool(self.sent) and self.sent[-1].get("more_body", True) is False


# ---------------------------------------------------------------------------
# Where it is mounted
# ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("target", "root", "seen"),
    [
        ("/example.com/a%2Fb?q=%26", "", "/example.com/a%2Fb?q=%26"),
        ("/media/example.com/a%2Fb?q", "/media", "/example.com/a%2Fb?q"),
        ("/media", "/media", "/"),
        ("/media/", "/media", "/"),
        ("/m%65dia/example.com/x", "/media", "/example.com/x"),
        ("/a%2Fb/example.com/x", "/a/b", "/example.com/x"),
        ("/filmy%20%C5%BElu%C5%A5/example.com/%C5%BE", "/filmy žluť", "/example.com/%C5%BE"),
        ("/media/media/x", "/media", "/media/x"),
        ("/api/media/example.com/x", "/api/media/", "/example.com/x"),
    ],
)
async def test_mount_path_is_taken_off(target, root, seen):
    """Below any mount path the handler sees the rest, byte for byte."""
    handler = handler_with()
    door = AsgiFrontend("http://films.example/anywhere")
    async with door.serve(handler):
        caller = await Caller(target, root=root).call(door)
    assert (caller.status, caller.content) == (200, b"content")
    assert [head.target for head in handler.heads] == [seen]


async def test_prefix_that_a_proxy_took_off():
    """An application that is told of a prefix it never sees still finds the mount path."""
    handler = handler_with()
    door = AsgiFrontend("http://films.example/api/media")
    async with door.serve(handler):
        await Caller("/media/example.com/x", root="/api/media", app_root_path="/api").call(door)
    assert [head.target for head in handler.heads] == ["/example.com/x"]


@pytest.mark.parametrize("target", ["/other/example.com/x", "/mediaexample.com/x", "/med/ia/x"])
async def test_paths_beside_the_mount_are_404(target):
    """A path that is not below the mount path reaches no handler."""
    handler = handler_with()
    door = AsgiFrontend("http://films.example/media")
    async with door.serve(handler):
        caller = await Caller(target, root="/media").call(door)
    assert (caller.status, caller.is_complete, handler.heads) == (404, True, [])


async def test_server_that_tells_no_raw_path():
    """Without a raw path the decoded one is encoded anew."""
    handler = handler_with()
    door = AsgiFrontend("http://films.example/media")
    async with door.serve(handler):
        caller = Caller("/media/example.com/a%20b%3F?q=1", root="/media", raw_path=None)
        await caller.call(door)
    assert [head.target for head in handler.heads] == ["/example.com/a%20b%3F?q=1"]


@pytest.mark.parametrize(
    ("url", "base"),
    [
        ("http://127.0.0.1:8000/media/", "http://127.0.0.1:8000/media"),
        ("HTTPS://Films.Example:443/a/b", "https://films.example/a/b"),
        ("https://films.example", "https://films.example"),
    ],
)
async def test_local_urls_begin_with_what_the_program_says(url, base):
    """URLs have the scheme, host and mount path that clients see."""
    door = AsgiFrontend(url)
    async with door.serve(handler_with()) as served:
        assert served == base == door.base_url
        local = door.url_for(SOURCE)
        assert local == f"{base}/example.com/video.mp4"
        assert door.source_for(local) == SOURCE
        assert door.url_for(local) == local
        assert door.url_for("http://other:8080/x") == f"{base}/http/other:8080/x"
        if "/" in base.partition("://")[2]:
            above = base.rpartition("/")[0] + "/example.com/video.mp4"
            assert door.source_for(above) is None
            assert door.source_for(base + "s/example.com/video.mp4") is None


@pytest.mark.parametrize(
    "url",
    [
        "films.example",
        "/media",
        "ftp://a.example/",
        "http://a.example/?q",
        "http://a/#x",
        "http://u@a/",
    ],
)
async def test_what_is_no_base_url(url):
    """A base URL is absolute, of the web, and no more than a place."""
    with pytest.raises(ConfigurationError, match="base URL"):
        AsgiFrontend(url)


@pytest.mark.parametrize("name", ["http://films.example", "a b", "films.example/x", ""])
async def test_what_is_no_host(name):
    """A further host is a host, with a port or without."""
    with pytest.raises(ConfigurationError, match="no host"):
        AsgiFrontend("http://films.example", hosts=[name])


async def test_nothing_is_served_before_and_after():
    """Without a handler requests are 503, and there are no local URLs."""
    door = AsgiFrontend("http://films.example")
    for _ in range(2):
        assert (await Caller().call(door)).status == 503
        assert door.source_for("http://films.example/example.com/x") is None
        with pytest.raises(ServerUnavailableError, match="lifespan"):
            door.url_for(SOURCE)
        async with door.serve(handler_with()):
            assert (await Caller().call(door)).status == 200
            with pytest.raises(ConfigurationError, match="already"):
                async with door.serve(handler_with()):
                    pass


# ---------------------------------------------------------------------------
# One request
# ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("size", "kind"), [(0, "small"), (65_536, "small"), (65_537, "big"), (3_000_000, "big")]
)
async def test_messages_are_few_and_small(size, kind):
    """A small answer is one message; of a big one, each message is at most a piece."""
    data = pattern(size)
    door = AsgiFrontend("http://films.example")
    async with door.serve(FakeHandler({"*": lambda _: answer_with(BytesBody(data), length=size)})):
        caller = await Caller().call(door)
    assert caller.content == data
    assert caller.is_complete
    assert max(len(message.get("body", b"")) for message in caller.sent) <= 262_144
    assert not [m for m in caller.sent[1:-1] if not m["body"]]
    if kind == "small":
        assert len(caller.sent) == 2


async def test_next_piece_waits_for_the_server():
    """While the server has no room, nothing more is taken of the body."""
    body = BytesBody(pattern(1_000_000))
    door = AsgiFrontend("http://films.example")
    async with door.serve(FakeHandler({"*": lambda _: answer_with(body, length=1_000_000)})):
        caller = Caller()
        caller.blocked = asyncio.Event()
        task = asyncio.create_task(caller.call(door))
        while len(caller.sent) < 2:
            await asyncio.sleep(0)
        for _ in range(100):
            await asyncio.sleep(0)
        assert body.given == 65_536
        caller.blocked.set()
        assert (await task).content == pattern(1_000_000)


async def test_client_that_leaves_while_the_server_has_no_room():
    """A disconnect ends a wait in `send` as well, and quietly."""
    body = BytesBody(pattern(1_000_000))
    door = AsgiFrontend("http://films.example")
    async with door.serve(FakeHandler({"*": lambda _: answer_with(body, length=1_000_000)})):
        caller = Caller()
        caller.blocked = asyncio.Event()
        task = asyncio.create_task(caller.call(door))
        while len(caller.sent) < 2:
            await asyncio.sleep(0)
        caller.left.set()
        assert not (await task).is_complete
        assert body.closed.is_set()


async def test_server_that_raises_for_a_lost_connection():
    """An OSError from `send` means that the client is gone: no more than that is made of it."""
    door = AsgiFrontend("http://films.example")
    handler = FakeHandler({"*": lambda _: answer_with(BytesBody(pattern(100_000)))})
    async with door.serve(handler):
        caller = Caller()
        caller.sending_raises = OSError("disconnected")
        await caller.call(door)
    assert handler.all_closed()
    assert caller.sent == []


async def test_client_that_takes_nothing_for_too_long():
    """With an idle timeout the reader of a client that stopped reading is given up, and cut."""
    body = BytesBody(pattern(1_000_000))
    door = AsgiFrontend("http://films.example", client_idle_timeout=0.01)
    async with door.serve(FakeHandler({"*": lambda _: answer_with(body, length=1_000_000)})):
        caller = Caller()
        caller.blocked = asyncio.Event()
        with pytest.raises(ConnectionError, match="took nothing"):
            await caller.call(door)
    assert body.closed.is_set()
    assert not caller.is_complete


async def test_cancelled_request_closes_its_answer():
    """A server that cancels the call gets it back cancelled, with the answer closed."""
    body = WaitingBody()
    door = AsgiFrontend("http://films.example")
    async with door.serve(FakeHandler({"*": lambda _: answer_with(body)})):
        task = asyncio.create_task(Caller().call(door))
        await happens(body.waiting)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert body.closed.is_set()


async def test_failure_raises_what_happened(caplog):
    """An answer that cannot be completed raises its own error, and is logged in one line."""
    error = UpstreamTimeoutError("the origin is silent")
    door = AsgiFrontend("http://films.example")
    handler = FakeHandler({"*": lambda _: answer_with(FailingBody(b"x", error))})
    async with door.serve(handler):
        caller = Caller("/example.com/v?sig=secret")
        with pytest.raises(UpstreamTimeoutError):
            await caller.call(door)
    assert not caller.is_complete
    (record,) = [each for each in caplog.records if each.name == "cachestream.frontends"]
    assert "origin is silent" in record.getMessage()
    assert "secret" not in record.getMessage()


async def test_leaving_ends_every_task():
    """When the context is left, every answer is closed, every task has ended, all is cut."""
    bodies = [WaitingBody() for _ in range(3)]
    given = iter(bodies)
    door = AsgiFrontend("http://films.example")
    handler = FakeHandler({"*": lambda _: answer_with(next(given))})
    before = asyncio.all_tasks()
    async with door.serve(handler):
        callers = [Caller() for _ in bodies]
        tasks = [asyncio.create_task(caller.call(door)) for caller in callers]
        for body in bodies:
            await happens(body.waiting)
    assert all(body.closed.is_set() for body in bodies)
    ended = await asyncio.gather(*tasks, return_exceptions=True)
    assert [type(each) for each in ended] == [ClosedError] * 3
    assert not any(caller.is_complete for caller in callers)
    assert asyncio.all_tasks() == before


async def test_leaving_answers_who_has_nothing_yet():
    """A client that waits for its answer when the context is left is told so."""
    handler = handler_with(nowait=False)
    handler.gate = asyncio.Event()
    door = AsgiFrontend("http://films.example")
    async with door.serve(handler):
        caller = Caller()
        task = asyncio.create_task(caller.call(door))
        await happens(handler.arrived)
    assert (await task).status == 503
    assert handler.cancelled.is_set()


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize("field", [("Content-Length", "4"), ("Transfer-Encoding", "chunked")])
async def test_get_with_content_is_refused(method, field):
    """Content of a GET has no meaning: 413, and no other request on this connection."""
    handler = handler_with()
    door = AsgiFrontend("http://films.example")
    async with door.serve(handler):
        caller = await Caller(method=method, fields=(field,)).call(door)
    assert caller.status == 413
    assert (b"connection", b"close") in caller.sent[0]["headers"]
    assert caller.content[:4] == (b"" if method == "HEAD" else b"413 ")
    assert not handler.heads


async def test_other_protocols_are_refused():
    """A WebSocket is closed before it opens; what ASGI does not know yet is an error."""
    door = AsgiFrontend("http://films.example")
    caller = Caller(type="websocket")
    caller.left.set()
    await caller.call(door)
    assert [message["type"] for message in caller.sent] == ["websocket.close"]
    with pytest.raises(ValueError, match="quic"):
        await Caller(type="quic").call(door)


async def test_it_counts():
    """Requests and bytes of content are counted."""
    door = AsgiFrontend("http://films.example")
    async with door.serve(handler_with(b"x" * 100_000)):
        await Caller().call(door)
        await Caller(method="HEAD").call(door)
    assert (door.requests, door.bytes_sent) == (2, 100_000)


# ---------------------------------------------------------------------------
# With a cache, in real applications
# ---------------------------------------------------------------------------

DATA = pattern(400_000)


def mounted(kind: str, door: AsgiFrontend, cache: CacheManager, **options):
    """Return an application of a framework with a cache at /media."""

    @contextlib.asynccontextmanager
    async def lifespan(app):
        async with cache:
            yield

    if kind == "fastapi":
        app = FastAPI(lifespan=lifespan, **options)
        app.mount("/media", door)
        app.add_api_route("/own", lambda: {"own": True})
        return app

    async def own(request):
        return PlainTextResponse("own")

    inner = [Mount("/media", door)]
    routes = [Mount("/deep", routes=inner)] if kind == "nested" else inner
    return Starlette(lifespan=lifespan, routes=[Route("/own", own), *routes], **options)


@pytest.fixture
def make_app(tmp_path):
    """Make an application with a cache at its mount path; both are attributes afterwards."""

    class Made:
        def __init__(self, kind="starlette", path="/media", settings=None, **options):
            self.kind, self.path, self.options = kind, path, options
            self.settings = {"cache_dir": tmp_path / "cache", "min_free": 0, **(settings or {})}

        def __call__(self, base):
            self.door = AsgiFrontend(base + self.path)
            self.cache = CacheManager(frontend=self.door, **self.settings)
            return mounted(self.kind, self.door, self.cache, **self.options)

    return Made


@SERVERS
@pytest.mark.parametrize(
    ("kind", "path"), [("starlette", "/media"), ("fastapi", "/media"), ("nested", "/deep/media")]
)
async def test_mounted_cache_serves(server, kind, path, serve_app, make_app):
    """In Starlette and FastAPI, at any depth: whole, ranges, conditions, HEAD and its errors."""
    made = make_app(kind, path)
    async with Origin() as origin, serve_app(server, made) as base, aiohttp.ClientSession() as web:
        origin.add("/v.mp4", DATA)
        url = made.cache.get_cache_url(origin.url("/v.mp4"))
        assert url.startswith(f"{base}{path}/http/127.0.0.1:")
        async with web.get(url) as got:
            assert (got.status, await got.read()) == (200, DATA)
            tag = got.headers["ETag"]
        async with web.get(url, headers={"Range": "bytes=1000-1999"}) as got:
            assert (got.status, await got.read()) == (206, DATA[1000:2000])
            assert got.headers["Content-Range"] == f"bytes 1000-1999/{len(DATA)}"
        async with web.get(url, headers={"Range": "bytes=999999-"}) as got:
            assert (got.status, got.headers["Content-Range"]) == (416, f"bytes */{len(DATA)}")
        async with web.get(url, headers={"If-None-Match": tag}) as got:
            assert (got.status, await got.read()) == (304, b"")
        async with web.head(url) as got:
            assert (got.status, got.content_length) == (200, len(DATA))
        async with web.post(url, data=b"x") as got:
            assert (got.status, got.headers["Allow"]) == (405, "GET, HEAD")
        async with web.get(f"{base}{path}/favicon.ico") as got:
            assert got.status == 404
        async with web.get(f"{base}/own") as got:
            assert got.status == 200
        assert origin.bytes_sent("/v.mp4") == len(DATA)
        assert made.cache.get_existing_stream(url) is not None
    assert made.cache.is_closed


@pytest.mark.parametrize("root_path", ["/api", "/api/"])
async def test_prefix_of_a_proxy(root_path, serve_app, make_app):
    """Behind a proxy that takes a prefix off, both know it: the server's ``root_path``."""
    made = make_app("fastapi", "/api/media")
    async with (
        Origin() as origin,
        serve_app("uvicorn", made, root_path=root_path.rstrip("/")) as base,
        aiohttp.ClientSession() as web,
    ):
        origin.add("/v.mp4", DATA)
        url = made.cache.get_cache_url(origin.url("/v.mp4"))
        assert url.startswith(f"{base}/api/media/")
        async with web.get(url.replace("/api/media", "/media")) as got:
            assert (got.status, await got.read()) == (200, DATA)


@SERVERS
@pytest.mark.parametrize("token", [None, "s/cret"])
async def test_who_may_come_in(server, token, serve_app, make_app):
    """Host, other sites' pages and the token are judged as at the loopback server."""
    made = make_app(settings={"token": token, "server_names": ("films.example",)})
    async with Origin() as origin, serve_app(server, made) as base:
        origin.add("/v.mp4", b"content")
        url = made.cache.get_cache_url(origin.url("/v.mp4"))
        assert ("/~s%2Fcret/" in url) == bool(token)
        own, target = base.partition("://")[2], url.removeprefix(base)
        port = own.rpartition(":")[2]

        async def status(target: str = target, host: str = own, **fields: str) -> int:
            lines = [(name.replace("_", "-"), value) for name, value in fields.items()]
            async with RawClient(base) as client:
                return (await client.ask(target, *lines, host=host)).status

        assert await status() == 200
        assert await status(host=f"localhost:{port}") == 200
        assert await status(host="films.example") == 200
        assert await status(host="films.example:8443") == 200
        assert await status(host="evil.example") == 421
        assert await status(host=f"127.0.0.1:{int(port) % 65535 + 1}") == 421
        assert await status(Sec_Fetch_Site="cross-site") == 403
        assert await status(Sec_Fetch_Site="same-origin") == 200
        assert await status(Origin="http://evil.example") == 403
        assert await status(Origin=f"http://{own}") == 200
        if token:
            assert await status(target.replace("/~s%2Fcret", "")) == 404
            assert await status(target.replace("s%2Fcret", "other")) == 404
        other = target.replace("127.0.0.1:", "192.0.2.1:")
        assert await status(other) == 403


async def test_any_host_where_the_application_checks(serve_app, make_app):
    """With ``*`` Host is the application's to check; all else is judged as ever."""
    door = AsgiFrontend("http://films.example/media", hosts="*")
    handler = handler_with()
    async with door.serve(handler):
        fields = (("Host", "whatever.example"),)
        await Caller("/media/x", root="/media", fields=fields).call(door)
    assert [head.served for head in handler.heads] == [frozenset()]


async def test_further_hosts_are_answered():
    """``hosts`` are answered to beside that of the base URL, and their URLs are local ones."""
    door = AsgiFrontend("https://films.example/m", hosts=["www.films.example", "a:81"])
    handler = handler_with()
    async with door.serve(handler):
        await Caller("/m/x", root="/m").call(door)
        assert door.source_for("http://a:81/m/example.com/video.mp4") == SOURCE
        assert door.source_for("https://www.films.example/m/example.com/video.mp4") == SOURCE
        assert door.source_for("https://a:82/m/example.com/video.mp4") is None
    assert handler.heads[0].served == {
        "films.example", "films.example:443", "www.films.example", "a:81",
    }  # fmt: skip


async def test_schemes_and_token_come_from_the_manager(tmp_path):
    """What is not given to the frontend is what the manager has."""
    door = AsgiFrontend("http://films.example/media")
    own = AsgiFrontend("http://films.example/media", token="own", schemes=frozenset({"s3"}))
    settings = {"cache_dir": tmp_path, "min_free": 0, "client_idle_timeout": 9.0}
    async with CacheManager(frontend=door, token="secret", **settings) as cache:
        assert cache.get_cache_url(SOURCE).startswith("http://films.example/media/~secret/")
        with pytest.raises(InvalidURLError, match="s3"):
            cache.get_cache_url("s3://bucket/key")
        assert door._client_idle == 9.0
    async with CacheManager(frontend=own, token="own", **settings):
        assert own.url_for("s3://bucket/key") == "http://films.example/media/~own/s3/bucket/key"


@SERVERS
@pytest.mark.parametrize("middleware", ["none", "base", "gzip"])
async def test_cut_is_visible_through_middleware(server, middleware, serve_app, make_app, caplog):
    """An origin that dies in mid-answer cuts the client, whatever middleware is between."""

    async def dispatch(request, call_next):
        return await call_next(request)

    kinds = {
        "none": [],
        "base": [Middleware(BaseHTTPMiddleware, dispatch=dispatch)],
        "gzip": [Middleware(GZipMiddleware)],
    }
    made = make_app(middleware=kinds[middleware], settings={"request_timeout": 2.0})
    async with Origin() as origin, serve_app(server, made) as base:
        origin.add("/v.mp4", DATA, stall_after=200_000)
        target = made.cache.get_cache_url(origin.url("/v.mp4")).removeprefix(base)
        async with RawClient(base) as client:
            got = await client.ask(target, host=base.partition("://")[2])
        assert got.status == 200
        assert not got.complete


@SERVERS
@pytest.mark.parametrize("middleware", [False, True])
async def test_leaving_client_frees_its_reader(server, middleware, serve_app, make_app, eventually):
    """A client that hangs up in mid-answer leaves no reader, and others go on."""

    async def dispatch(request, call_next):
        return await call_next(request)

    more = [Middleware(BaseHTTPMiddleware, dispatch=dispatch)] if middleware else []
    made = make_app(middleware=more)
    async with Origin() as origin, serve_app(server, made) as base:
        origin.add("/v.mp4", DATA, stall_after=200_000)
        target = made.cache.get_cache_url(origin.url("/v.mp4")).removeprefix(base)
        async with RawClient(base) as client:
            await client.send(request_bytes(target, host=base.partition("://")[2]))
            await client.arriving()
            await eventually(lambda: made.cache.statistics().waiting_readers == 1)
        await eventually(lambda: made.cache.statistics().open_readers == 0)


# ---------------------------------------------------------------------------
# Lifespan
# ---------------------------------------------------------------------------


@SERVERS
async def test_standalone_opens_and_closes_the_cache(server, serve_app, tmp_path):
    """As a server's only application it opens the cache at the start-up, closes it at the end."""
    made = {}

    def app(base):
        made["door"] = door = AsgiFrontend(base)
        made["cache"] = CacheManager(frontend=door, cache_dir=tmp_path, min_free=0)
        return door.standalone(made["cache"])

    async with Origin() as origin, serve_app(server, app), aiohttp.ClientSession() as web:
        origin.add("/v.mp4", DATA)
        async with web.get(made["cache"].get_cache_url(origin.url("/v.mp4"))) as got:
            assert await got.read() == DATA
    assert made["cache"].is_closed


class Lifespan:
    """Plays a server's part in the lifespan protocol."""

    def __init__(self) -> None:
        self.queue: asyncio.Queue = asyncio.Queue()
        self.sent: list[dict] = []

    async def send(self, message: dict) -> None:
        self.sent.append(message)


async def test_start_up_that_fails_is_told():
    """A cache that cannot be opened is a failed start-up, with the reason."""

    @contextlib.asynccontextmanager
    async def broken():
        raise ConfigurationError("no such place")
        yield

    span = Lifespan()
    await span.queue.put({"type": "lifespan.startup"})
    app = AsgiFrontend("http://films.example").standalone(broken())
    await app({"type": "lifespan"}, span.queue.get, span.send)
    assert [message["type"] for message in span.sent] == ["lifespan.startup.failed"]
    assert "no such place" in span.sent[0]["message"]


async def test_lifespan_without_a_cache():
    """Where a server asks the frontend itself, it has nothing to do, and says so."""
    span = Lifespan()
    await span.queue.put({"type": "lifespan.startup"})
    await span.queue.put({"type": "lifespan.shutdown"})
    await AsgiFrontend("http://films.example")({"type": "lifespan"}, span.queue.get, span.send)
    assert [message["type"] for message in span.sent] == [
        "lifespan.startup.complete",
        "lifespan.shutdown.complete",
    ]


async def test_over_http_2(serve_app, tmp_path):
    """Where the server speaks HTTP/2, its authority is the Host that is judged."""
    curl = shutil.which("curl")
    assert curl is not None, "curl is not installed; run: apt-get install curl"
    doors = []

    def app(base):
        doors.append(AsgiFrontend(base))
        return doors[0]

    async def ask(url: str, *arguments: str) -> tuple[str, bytes]:
        told = ("-o", str(tmp_path / "out"), "-w", "%{http_version} %{http_code}")
        process = await asyncio.create_subprocess_exec(
            curl, "-sS", "--http2-prior-knowledge", *told, *arguments, url, stdout=-1
        )
        async with asyncio.timeout(PATIENCE_S):
            out, _ = await process.communicate()
        return out.decode(), (tmp_path / "out").read_bytes()

    handler = FakeHandler({"*": lambda _: answer_with(BytesBody(DATA), length=len(DATA))})
    async with serve_app("granian", app) as base, doors[0].serve(handler):
        assert await ask(f"{base}/a.example/x?y") == ("2 200", DATA)
        assert (await ask(base, "-H", "Content-Length: 0"))[0] == "2 200"
    head = handler.heads[0]
    assert (head.version, head.target) == ((2, 0), "/a.example/x?y")
    assert head.fields.get_all("host") == (base.partition("://")[2],)
