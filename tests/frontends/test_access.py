"""The access log: one line a request with its facts, none of its secrets, nothing if not wanted."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio
from aiohttp import web
from starlette.applications import Starlette
from starlette.routing import Mount

from cachestream.abc import END, Answer, AnswerHead, Body, Buffer, End, Handler, RequestHead
from cachestream.core.fields import Fields
from cachestream.errors import UpstreamTimeoutError
from cachestream.frontends import AiohttpFrontend, AsgiFrontend, LoopbackFrontend
from cachestream.frontends import _access as access
from cachestream.frontends import _connection as connection
from cachestream.frontends._access import cache_outcome
from cachestream.testing._raw_client import RawClient
from cachestream.testing.fakes import FailingBody, FakeHandler, answer_with

pytestmark = pytest.mark.asyncio

CONTENT = b"content"


class Pieces(Body):
    """Content that ends, or is cut where the origin fails."""

    def __init__(self, *, broken: bool) -> None:
        self._pieces: list[Buffer] = [CONTENT]
        self._broken = broken

    def take_nowait(self, limit: int) -> Buffer | End:
        if self._pieces:
            return self._pieces.pop()
        if self._broken:
            raise UpstreamTimeoutError("the origin sent nothing in time")
        return END

    async def next(self, limit: int) -> Buffer | End:
        return self.take_nowait(limit)

    def close(self) -> None:
        """Nothing is held."""


class Answering(Handler):
    """Answers the same to everybody; with a longer length than there is content if broken."""

    def __init__(self, *, broken: bool = False) -> None:
        self._broken = broken

    def answer_nowait(self, head: RequestHead) -> Answer:
        length = len(CONTENT) * (2 if self._broken else 1)
        fields = Fields.of(("Content-Type", "text/plain"))
        extra = (("Age", "0"), ("Cache-Status", "cachestream; fwd=partial; stored"))
        return Answer(AnswerHead(206, fields), extra, length, Pieces(broken=self._broken))

    async def answer(self, head: RequestHead) -> Answer:
        return self.answer_nowait(head)


@pytest_asyncio.fixture
async def client() -> AsyncIterator[RawClient]:
    """Connect to a frontend that answers everything."""
    frontend = LoopbackFrontend(token="canary-token")
    async with frontend.serve(Answering()) as base, RawClient(base) as client:
        yield client


async def lines(caplog, count: int = 1) -> list[logging.LogRecord]:
    """Return the lines of the access log; a client may have its answer before there is one."""
    async with asyncio.timeout(30):
        while True:
            found = [each for each in caplog.records if each.name == "cachestream.access"]
            if len(found) >= count:
                return found
            await asyncio.sleep(0)


async def test_a_line_carries_the_facts_of_its_request(client, caplog) -> None:
    """Method, URL, range, status, bytes, time, outcome and client are attributes of the record."""
    with caplog.at_level(logging.DEBUG, logger="cachestream.access"):
        await client.ask("/~canary-token/a.example/v?sig=canary", ("Range", "bytes=0-6"))
        (record,) = await lines(caplog)
    assert record.levelno == logging.DEBUG
    assert (record.method, record.status, record.range) == ("GET", 206, "bytes=0-6")
    assert (record.bytes_sent, record.outcome, record.complete) == (len(CONTENT), "partial", True)
    assert record.client == "127.0.0.1"
    assert record.duration_s >= 0
    assert record.url.endswith("/a.example/v?sig=…")
    assert "canary" not in str(record.__dict__)
    assert " 206 7 bytes " in record.getMessage()


async def test_nothing_is_made_unless_it_is_wanted(client, caplog, monkeypatch) -> None:
    """At INFO a request makes no record, and nothing of it is masked or formatted."""

    def forbidden(*args: object, **kwargs: object) -> None:
        raise AssertionError("a record was made")

    monkeypatch.setattr(connection, "AccessRecord", forbidden)
    monkeypatch.setattr(access, "display", forbidden)
    with caplog.at_level(logging.INFO, logger="cachestream.access"):
        got = await client.ask("/~canary-token/a.example/v")
    assert (got.status, got.content) == (206, CONTENT)
    assert caplog.records == []


async def test_a_cut_answer_is_a_line_too(caplog) -> None:
    """What could not be completed is told apart, with the bytes that left."""
    with caplog.at_level(logging.DEBUG, logger="cachestream.access"):
        async with LoopbackFrontend().serve(Answering(broken=True)) as base:
            async with RawClient(base) as client:
                got = await client.ask("/a.example/v")
    (record,) = await lines(caplog)
    assert not got.complete
    assert (record.complete, record.bytes_sent) == (False, len(CONTENT))
    assert record.getMessage().endswith(", cut")


async def test_a_refusal_of_the_frontend_itself_is_a_line_too(client, caplog) -> None:
    """A request that no handler sees is logged with the status it got."""
    with caplog.at_level(logging.DEBUG, logger="cachestream.access"):
        got = await client.ask("/a.example/v", ("Content-Length", "3"))
        assert got.status == 413
        record, *_ = await lines(caplog)
    assert record.status == 413
    assert record.outcome is None


async def test_an_answer_that_never_came_has_no_status(caplog) -> None:
    """A client that leaves while its answer is waited for leaves a line without a status."""
    arrived = asyncio.Event()

    class Slow(Answering):
        def answer_nowait(self, head: RequestHead) -> None:
            return None

        async def answer(self, head: RequestHead) -> Answer:
            arrived.set()
            await asyncio.Event().wait()
            raise AssertionError

    with caplog.at_level(logging.DEBUG, logger="cachestream.access"):
        async with LoopbackFrontend().serve(Slow()) as base:
            async with RawClient(base) as client:
                await client.send(b"GET /a.example/v HTTP/1.1\r\nHost: a\r\n\r\n")
                async with asyncio.timeout(30):
                    await arrived.wait()
            (record,) = await lines(caplog)
    assert (record.status, record.complete) == (None, False)
    assert " - 0 bytes " in record.getMessage()


async def test_a_range_that_cannot_be_read_is_not_shown(client, caplog) -> None:
    """A client cannot write what it likes into the log by its Range."""
    with caplog.at_level(logging.DEBUG, logger="cachestream.access"):
        await client.ask("/~canary-token/a.example/v", ("Range", "bytes=" + "0-1," * 100))
        (record,) = await lines(caplog)
    assert record.range == "(unreadable)"


@pytest.mark.parametrize(
    ("value", "outcome"),
    [
        ("cachestream; hit", "hit"),
        ("cachestream; fwd=uri-miss; stored", "uri-miss"),
        ("cachestream", None),
    ],
)
async def test_the_outcome_is_the_first_parameter_of_cache_status(value, outcome) -> None:
    """The word that RFC 9211 has for it is the one in the log."""
    head = AnswerHead(200, Fields())
    answer = Answer(head, (("Cache-Status", value),), 0, Pieces(broken=False))
    assert cache_outcome(answer) == outcome


# -- mounted in somebody else's application ---------------------------------------


class Broken(FakeHandler):
    """Gives an answer that cannot be completed, after waiting or at once."""

    def __init__(self, *, nowait: bool) -> None:
        error = UpstreamTimeoutError("the origin sent nothing in time")
        body = FailingBody(CONTENT, error, awaited=True)
        super().__init__({"*": lambda _: answer_with(body, length=100)}, nowait=nowait)


def mounted(server: str) -> tuple[Any, Any]:
    """Return a frontend for a kind of server, and the application it is mounted in."""
    if server == "aiohttp":
        door = AiohttpFrontend("http://films.example/media")
        app = web.Application()
        app.add_subapp("/media/", door.app)
        return door, app
    asgi = AsgiFrontend("http://films.example/media")
    return asgi, Starlette(routes=[Mount("/media", asgi)])


@pytest.mark.parametrize("server", ["uvicorn", "aiohttp"])
@pytest.mark.parametrize("nowait", [True, False])
async def test_mounted_frontends_write_the_same_line(server, nowait, serve_app, caplog) -> None:
    """Each request below the mount path is a line, with what the handler saw and what left."""
    door, app = mounted(server)
    extra = (("Cache-Status", "cachestream; hit"),)
    handler = FakeHandler(
        {"*": lambda _: answer_with(CONTENT, status=206, extra=extra)}, nowait=nowait
    )
    with caplog.at_level(logging.DEBUG, logger="cachestream.access"):
        async with serve_app(server, lambda base: app) as base, door.serve(handler):
            async with RawClient(base) as client:
                await client.ask("/media/~canary/a.example/v?sig=canary", ("Range", "bytes=0-6"))
                await client.ask("/media/a.example/v", method="HEAD")
            whole, head = await lines(caplog, 2)
    assert (whole.method, whole.status, whole.range) == ("GET", 206, "bytes=0-6")
    assert (whole.bytes_sent, whole.outcome, whole.complete) == (len(CONTENT), "hit", True)
    assert (whole.url, whole.client) == ("/~…/a.example/v?sig=…", "127.0.0.1")
    assert (head.method, head.bytes_sent, head.complete) == ("HEAD", 0, True)


@pytest.mark.parametrize("server", ["uvicorn", "aiohttp"])
@pytest.mark.parametrize("nowait", [True, False])
async def test_mounted_frontends_tell_what_was_cut(server, nowait, serve_app, caplog) -> None:
    """An answer that ends too early is a line that says so, there as well."""
    door, app = mounted(server)
    with caplog.at_level(logging.DEBUG, logger="cachestream.access"):
        async with serve_app(server, lambda base: app) as base, door.serve(Broken(nowait=nowait)):
            async with RawClient(base) as client:
                got = await client.ask("/media/a.example/v")
            (record,) = await lines(caplog)
    assert not got.complete
    assert (record.status, record.complete) == (200, False)
    assert record.getMessage().endswith(", cut")


@pytest.mark.parametrize("server", ["uvicorn", "aiohttp"])
async def test_mounted_frontends_make_nothing_unless_it_is_wanted(
    server, serve_app, caplog, monkeypatch
) -> None:
    """At INFO the handler is asked as it is."""
    door, app = mounted(server)

    def forbidden(*args: object, **kwargs: object) -> None:
        raise AssertionError("a record was made")

    monkeypatch.setattr(access, "AccessRecord", forbidden)
    with caplog.at_level(logging.INFO, logger="cachestream.access"):
        async with serve_app(server, lambda base: app) as base, door.serve(Answering()):
            async with RawClient(base) as client:
                assert (await client.ask("/media/a.example/v")).content == CONTENT
    assert [each for each in caplog.records if each.name == "cachestream.access"] == []
