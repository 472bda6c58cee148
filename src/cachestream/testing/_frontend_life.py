"""What a frontend promises about coming and going: of clients, of listeners, of its own."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
import threading
from collections.abc import Callable

import pytest
import yarl

from cachestream.abc import END, Answer, Frontend
from cachestream.errors import CacheStreamError, InvalidURLError, ServerUnavailableError
from cachestream.testing._frontend_requests import ROUTES, answering
from cachestream.testing._raw_client import PATIENCE_S, RawClient, request_bytes
from cachestream.testing.fakes import (
    BytesBody,
    FailingBody,
    FakeBody,
    FakeHandler,
    MixedBody,
    ScratchFile,
    WaitingBody,
    answer_with,
    pattern,
)

__all__ = ["LifePromises"]

MIB = 1024 * 1024
SOURCE = "https://example.com/video.mp4"


async def happens(event: asyncio.Event) -> None:
    """Wait for what should happen at once."""
    async with asyncio.timeout(PATIENCE_S):
        await event.wait()


async def settled(value: Callable[[], object], turns: int = 500) -> None:
    """Return when ``value`` is the same for so many turns of the loop."""
    last, same = value(), 0
    while same < turns:
        await asyncio.sleep(0)
        now = value()
        last, same = now, (same + 1 if now == last else 0)


def open_descriptors() -> int:
    """Return how many descriptors this process has."""
    return len(os.listdir("/dev/fd"))


class TurnCounter:
    """Counts the turns of the event loop while it is entered."""

    def __init__(self) -> None:
        self.turns = 0
        self._loop = asyncio.get_running_loop()
        self._handle: asyncio.Handle | None = None

    def _turn(self) -> None:
        self.turns += 1
        self._handle = self._loop.call_soon(self._turn)

    def __enter__(self) -> TurnCounter:
        self._turn()
        return self

    def __exit__(self, *exc: object) -> None:
        assert self._handle is not None
        self._handle.cancel()


class LifePromises:
    """One test a promise; see `cachestream.testing.frontends.FrontendContract`."""

    # Clients that are slow, or fast.

    @pytest.mark.parametrize("kind", ["bytes", "awaited", "file"])
    @pytest.mark.asyncio
    async def test_slow_client_holds_one_piece(self, frontend: Frontend, kind: str) -> None:
        """Nothing is taken ahead of a client that does not read, and nothing gets lost."""
        data = pattern(32 * MIB)
        with ScratchFile(data) as file:
            body: FakeBody = (
                MixedBody([file.region()])
                if kind == "file"
                else BytesBody(data, nowait=kind == "bytes")
            )
            handler = FakeHandler({"*": lambda _: answer_with(body, length=len(data))})
            async with (
                frontend.serve(handler) as base,
                RawClient(base, receive_buffer=65_536) as client,
            ):
                await client.send(request_bytes("/"))
                await client.arriving()
                await settled(lambda: body.given)
                # What the kernel buffers is not ours to bound, but it is far from all.
                assert 0 < body.given < 16 * MIB
                assert max(body.limits) <= MIB
                response = await client.receive()
            assert response.content == data

    @pytest.mark.parametrize("kind", ["bytes", "awaited", "file", "tiny"])
    @pytest.mark.asyncio
    async def test_fast_client_starves_nobody(self, frontend: Frontend, kind: str) -> None:
        """While one client takes all it can get, the loop goes on: a turn at least each MiB."""
        size = MIB if kind == "tiny" else 64 * MIB
        data = pattern(size)
        with ScratchFile(data) as file:

            def body() -> FakeBody:
                if kind == "file":
                    return MixedBody([file.region()])
                piece = 64 if kind == "tiny" else 65_536
                return BytesBody(data, piece=piece, nowait=kind != "awaited")

            handler = FakeHandler({"*": lambda _: answer_with(body(), length=size)})
            async with frontend.serve(handler) as base:
                done = asyncio.Event()
                loop = asyncio.get_running_loop()
                drain = threading.Thread(
                    target=_drain, args=(base, size, lambda: loop.call_soon_threadsafe(done.set))
                )
                with TurnCounter() as counter:
                    drain.start()
                    await happens(done)
                drain.join()
                assert counter.turns >= 64
        assert handler.all_closed()

    # Clients that leave.

    @ROUTES
    @pytest.mark.asyncio
    async def test_disconnect_ends_the_wait_for_a_body(
        self, frontend: Frontend, nowait: bool
    ) -> None:
        """A client that leaves while its body waits for bytes has its answer closed at once."""
        body = WaitingBody()
        body.feed(b"first")
        handler = FakeHandler({"*": lambda _: answer_with(body)}, nowait=nowait)
        async with frontend.serve(handler) as base:
            async with RawClient(base) as client:
                await client.send(request_bytes("/"))
                # What is there must not wait for what is not.
                received = b""
                while b"first" not in received:
                    received += await client.some()
                await happens(body.waiting)
                assert not body.closed.is_set()
            await happens(body.closed)

    @pytest.mark.asyncio
    async def test_disconnect_ends_the_wait_for_an_answer(self, frontend: Frontend) -> None:
        """A client that leaves before the handler has an answer cancels the handler's wait."""
        handler = answering(nowait=False)
        handler.gate = asyncio.Event()
        async with frontend.serve(handler) as base:
            async with RawClient(base) as client:
                await client.send(request_bytes("/"))
                await happens(handler.arrived)
            await happens(handler.cancelled)

    @pytest.mark.parametrize("kind", ["bytes", "file"])
    @pytest.mark.asyncio
    async def test_disconnect_ends_the_sending(self, frontend: Frontend, kind: str) -> None:
        """A client that leaves in the middle of a long body has its answer closed at once."""
        data = pattern(32 * MIB)
        with ScratchFile(data) as file:
            body = BytesBody(data) if kind == "bytes" else MixedBody([file.region()])
            handler = FakeHandler({"*": lambda _: answer_with(body, length=len(data))})
            async with frontend.serve(handler) as base:
                async with RawClient(base, receive_buffer=65_536) as client:
                    await client.send(request_bytes("/"))
                    await client.some(1000)
                    await settled(lambda: body.given)
                    assert not body.closed.is_set()
                await happens(body.closed)
                assert body.given < len(data)

    @pytest.mark.asyncio
    async def test_one_client_leaving_changes_nothing_for_others(self, frontend: Frontend) -> None:
        """Others are served on when one client leaves in mid-body."""
        bodies = {"/a": WaitingBody(), "/b": WaitingBody()}
        handler = FakeHandler(
            {path: lambda head: answer_with(bodies[head.target]) for path in bodies}
        )
        async with frontend.serve(handler) as base, RawClient(base) as stays:
            async with RawClient(base) as leaves:
                await stays.send(request_bytes("/a"))
                await leaves.send(request_bytes("/b"))
                for body in bodies.values():
                    body.feed(b"one")
                    await happens(body.waiting)
            await happens(bodies["/b"].closed)
            bodies["/a"].feed(b"two")
            bodies["/a"].feed(END)
            assert (await stays.receive()).content == b"onetwo"

    # Answers are closed, and bugs survived.

    @pytest.mark.parametrize("method", ["GET", "HEAD"])
    @ROUTES
    @pytest.mark.asyncio
    async def test_answer_is_closed(self, frontend: Frontend, method: str, nowait: bool) -> None:
        """Every answer is closed: after its end, its failure, and without being sent."""
        handler = FakeHandler(
            {
                "/whole": lambda _: answer_with(b"content"),
                "/failing": lambda _: answer_with(FailingBody(b"x", CacheStreamError("no"))),
                "/broken": lambda _: answer_with(FailingBody(b"x", ZeroDivisionError())),
                "/unsendable": lambda _: answer_with(b"content", status=99),
            },
            nowait=nowait,
        )
        async with frontend.serve(handler) as base:
            for path in handler.routes:
                async with RawClient(base) as client:
                    with contextlib.suppress(EOFError, ConnectionResetError):
                        await client.ask(path, method=method)
            for answer in handler.answers:
                assert isinstance(answer.body, FakeBody)
                await happens(answer.body.closed)
        assert len(handler.answers) == 4

    @ROUTES
    @pytest.mark.asyncio
    async def test_bug_in_the_handler_is_survived(
        self, frontend: Frontend, nowait: bool, caplog: pytest.LogCaptureFixture
    ) -> None:
        """A handler that raises is answered 500 without details, and logged with them."""

        def bug(head: object) -> Answer:
            raise ZeroDivisionError("a secret detail")

        handler = FakeHandler({"/bug": bug, "*": lambda _: answer_with(b"fine")}, nowait=nowait)
        async with frontend.serve(handler) as base:
            async with RawClient(base) as client:
                response = await client.ask("/bug")
                assert (response.status, response.complete) == (500, True)
                assert b"secret" not in response.content
                assert b"Traceback" not in response.content
                assert await client.ended()
            async with RawClient(base) as client:
                assert (await client.ask("/")).content == b"fine"
        errors = [record for record in caplog.records if record.levelno >= logging.ERROR]
        assert any(record.exc_info for record in errors)

    # The frontend comes and goes.

    @pytest.mark.parametrize("length", [100, None])
    @pytest.mark.asyncio
    async def test_leaving_cuts_visibly(self, frontend: Frontend, length: int | None) -> None:
        """Clients in mid-body when the context is left see that their answer is not whole."""
        assert not await _left_in_mid_body(frontend, length, "1.1")

    @pytest.mark.asyncio
    async def test_leaving_cuts_visibly_for_old_clients(self, frontend: Frontend) -> None:
        """Where the end of the connection is the end of the content, it is reset instead."""
        assert not await _left_in_mid_body(frontend, None, "1.0")

    @pytest.mark.asyncio
    async def test_leaving_leaves_nothing(self, frontend: Frontend) -> None:
        """When the context is left, no task, descriptor, listener or connection is left."""
        await _serve_all_kinds(frontend)
        tasks, descriptors = asyncio.all_tasks(), open_descriptors()
        base = await _serve_all_kinds(frontend)
        assert asyncio.all_tasks() == tasks
        assert open_descriptors() == descriptors
        with pytest.raises(ConnectionRefusedError):
            await RawClient(base).__aenter__()

    @pytest.mark.asyncio
    async def test_base_url(self, frontend: Frontend) -> None:
        """The base URL is http, has no final slash, and is where the frontend listens."""
        async with frontend.serve(answering()) as base, RawClient(base) as client:
            assert yarl.URL(base).scheme == "http"
            assert not base.endswith("/")
            assert (await client.ask("/")).status == 200

    @pytest.mark.asyncio
    async def test_serves_again(self, frontend: Frontend) -> None:
        """After its context was left, a frontend can serve another handler."""
        for content in (b"one", b"two"):
            async with frontend.serve(answering(content)) as base, RawClient(base) as client:
                assert (await client.ask("/")).content == content

    @pytest.mark.asyncio
    async def test_local_urls(self, frontend: Frontend) -> None:
        """A local URL leads here, stands for its source, and gives itself."""
        handler = answering()
        async with frontend.serve(handler) as base, RawClient(base) as client:
            url = frontend.url_for(SOURCE)
            assert url.startswith(base + "/")
            assert frontend.source_for(url) == SOURCE
            assert frontend.url_for(url) == url
            await client.ask(url.removeprefix(base))
        assert [head.target for head in handler.heads] == [url.removeprefix(base)]

    @pytest.mark.asyncio
    async def test_foreign_urls(self, frontend: Frontend) -> None:
        """What is no local URL has no source; what is no source has no local URL."""
        async with frontend.serve(answering()):
            assert frontend.source_for(SOURCE) is None
            assert frontend.source_for("nonsense") is None
            for source in ("nonsense", "/relative", "no-such-scheme://a/b", "https://u:p@a.b/"):
                with pytest.raises(InvalidURLError):
                    frontend.url_for(source)

    @pytest.mark.asyncio
    async def test_nothing_is_served(self, frontend: Frontend) -> None:
        """Before and after its context a frontend has no local URLs."""
        for _ in range(2):
            with pytest.raises(ServerUnavailableError):
                frontend.url_for(SOURCE)
            with pytest.raises(ServerUnavailableError):
                await frontend.ensure_active()
            async with frontend.serve(answering()):
                frontend.url_for(SOURCE)

    @pytest.mark.asyncio
    async def test_active_listener_is_left_alone(self, frontend: Frontend) -> None:
        """While the listener answers, `ensure_active` changes nothing and disturbs nobody."""
        handler = answering()
        async with frontend.serve(handler) as base, RawClient(base) as client:
            assert (await client.ask("/")).status == 200
            assert [await frontend.ensure_active() for _ in range(3)] == [False] * 3
            assert (await client.ask("/")).status == 200
        assert len(handler.heads) == 2

    @pytest.mark.asyncio
    async def test_two_frontends_in_one_process(
        self, frontend: Frontend, other_frontend: Frontend
    ) -> None:
        """Two frontends serve two handlers side by side; one may leave before the other."""
        async with frontend.serve(answering(b"one")) as base, RawClient(base) as client:
            async with other_frontend.serve(answering(b"two")) as other, RawClient(other) as second:
                assert base != other
                assert (await client.ask("/")).content == b"one"
                assert (await second.ask("/")).content == b"two"
            assert (await client.ask("/")).content == b"one"


async def _left_in_mid_body(frontend: Frontend, length: int | None, version: str) -> bool:
    """Leave a frontend while a body waits; return whether its answer looks complete."""
    body = WaitingBody()
    body.feed(b"first")
    handler = FakeHandler({"*": lambda _: answer_with(body, length=length)})
    async with contextlib.AsyncExitStack() as clients:
        async with frontend.serve(handler) as base:
            client = await clients.enter_async_context(RawClient(base))
            await client.send(request_bytes("/", version=version))
            await happens(body.waiting)
        assert body.closed.is_set()
        try:
            return (await client.receive()).complete
        except ConnectionResetError:
            return False


async def _serve_all_kinds(frontend: Frontend) -> str:
    """Leave a frontend while clients are in all states; return its base URL."""
    waiting, data = WaitingBody(), pattern(32 * MIB)
    with ScratchFile(data) as file:
        stuck = MixedBody([file.region()])
        handler = FakeHandler(
            {
                "/waiting": lambda _: answer_with(waiting),
                "/stuck": lambda _: answer_with(stuck, length=len(data)),
                "*": lambda _: answer_with(b"content"),
            }
        )
        async with contextlib.AsyncExitStack() as clients:
            async with frontend.serve(handler) as base:
                idle, silent, half, one, two = [
                    await clients.enter_async_context(RawClient(base, receive_buffer=65_536))
                    for _ in range(5)
                ]
                assert (await idle.ask("/")).content == b"content"
                await half.send(b"GET /")
                await one.send(request_bytes("/waiting"))
                await two.send(request_bytes("/stuck"))
                await happens(waiting.waiting)
                await settled(lambda: stuck.given)
            assert waiting.closed.is_set()
            assert stuck.closed.is_set()
            assert await silent.ended()
    return base


def _drain(base: str, size: int, done: Callable[[], object]) -> None:
    """Read an answer of at least ``size`` bytes as fast as a thread can."""
    url = yarl.URL(base)
    with contextlib.ExitStack() as stack:
        stack.callback(done)
        sock = stack.enter_context(socket.create_connection((url.host, url.port)))
        sock.sendall(request_bytes("/", ("Connection", "close")))
        left = size
        buffer = bytearray(MIB)
        while left > 0 and (count := sock.recv_into(buffer)):
            left -= count
        if left > 0:
            raise AssertionError(f"{left} bytes are missing")
