"""A loopback frontend on a Unix socket: its file, its permissions, its URLs."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import stat
import tempfile

import pytest

from cachestream.abc import END
from cachestream.core.urls import UNIX_URL
from cachestream.errors import ConfigurationError, ServerUnavailableError
from cachestream.frontends import LoopbackFrontend, _unix
from cachestream.settings import Settings
from cachestream.testing._raw_client import RawClient, request_bytes
from cachestream.testing.fakes import (
    BytesBody,
    FailingBody,
    FakeHandler,
    MixedBody,
    RegionBody,
    ScratchFile,
    WaitingBody,
    answer_with,
    pattern,
)

PATIENCE_S = 20.0
SOURCE = "https://example.com/video.mp4"

pytestmark = pytest.mark.asyncio


@pytest.fixture
def folder():
    """A directory whose path is short, as that of a socket must be."""
    with tempfile.TemporaryDirectory(prefix="cs") as path:
        yield path


@pytest.fixture(params=["path", "abstract"])
def place(request, folder):
    """A place for a socket of either kind."""
    return f"{folder}/s" if request.param == "path" else f"@{folder}/s"


def handler_with(content: bytes = b"content") -> FakeHandler:
    return FakeHandler({"*": lambda _: answer_with(content)})


def address_of(place: str) -> str:
    return "\0" + place[1:] if place.startswith("@") else place


def client_of(place: str, **options) -> RawClient:
    return RawClient(UNIX_URL, unix=address_of(place), **options)


async def test_requests_are_answered(place):
    """It answers on a path as on an abstract name, connection after connection, kept alive."""
    frontend = LoopbackFrontend(socket_path=place)
    handler = handler_with()
    async with frontend.serve(handler) as base:
        assert base == frontend.base_url == "http://cachestream.localhost"
        for _ in range(2):
            async with client_of(place) as client:
                for _ in range(3):
                    assert (await client.ask("/x", host="whatever.example")).content == b"content"
        assert frontend.ports == frozenset()
    assert len(handler.heads) == 6
    assert {head.served for head in handler.heads} == {frozenset()}
    assert {head.client for head in handler.heads} == {None}


@pytest.mark.parametrize("size", [0, 1000, 262_145, 5 << 20])
@pytest.mark.parametrize("kind", ["bytes", "file"])
@pytest.mark.parametrize("direct", [True, False])
async def test_content_is_exact(place, size, kind, direct):
    """Content from memory and files arrives byte for byte, with a length and without."""
    data = pattern(size)
    with ScratchFile(data) as file:

        def body():
            if kind == "bytes" or not size:
                return BytesBody(data)
            return RegionBody(file.region())

        handler = FakeHandler(
            {
                "/length": lambda _: answer_with(body(), length=size),
                "/chunked": lambda _: answer_with(body()),
            }
        )
        frontend = LoopbackFrontend(socket_path=place)
        frontend._direct = direct
        async with frontend.serve(handler), client_of(place) as client:
            for path in handler.routes:
                got = await client.ask(path)
                assert (got.content == data, got.complete) == (True, True)
    assert handler.all_closed()


async def test_slow_client_loses_nothing(place):
    """A client that stops reading in mid-file holds one piece, and gets the rest later."""
    data = pattern(8 << 20)
    with ScratchFile(data) as file:
        body = MixedBody([file.region()])
        handler = FakeHandler({"*": lambda _: answer_with(body, length=len(data))})
        async with (
            LoopbackFrontend(socket_path=place).serve(handler),
            client_of(place, receive_buffer=4096) as client,
        ):
            await client.send(request_bytes("/"))
            await client.arriving()
            for _ in range(200):
                await asyncio.sleep(0)
            assert body.given < len(data)
            assert (await client.receive()).content == data


@pytest.mark.parametrize("length", [2_000_000, None])
async def test_failure_is_visible(place, length):
    """A body that fails is cut."""
    handler = FakeHandler(
        {"*": lambda _: answer_with(FailingBody(b"x" * 1000, OSError()), length=length)}
    )
    async with LoopbackFrontend(socket_path=place).serve(handler), client_of(place) as client:
        assert not (await client.ask("/")).complete


async def test_disconnect_closes_the_answer(place):
    """A client that leaves while its body waits has its answer closed at once."""
    body = WaitingBody()
    handler = FakeHandler({"*": lambda _: answer_with(body)})
    async with LoopbackFrontend(socket_path=place).serve(handler):
        async with client_of(place) as client:
            await client.send(request_bytes("/"))
            async with asyncio.timeout(PATIENCE_S):
                await body.waiting.wait()
        async with asyncio.timeout(PATIENCE_S):
            await body.closed.wait()
        body.feed(END)


@pytest.mark.parametrize("mode", ["0600", "660", "0666"])
async def test_permissions_are_as_set(folder, mode):
    """Whatever the umask is, the socket's file has the permissions that were asked for."""
    path = f"{folder}/s"
    before = os.umask(0o077)
    try:
        async with LoopbackFrontend(socket_path=path, socket_mode=mode).serve(handler_with()):
            assert stat.S_IMODE(os.stat(path).st_mode) == int(mode, 8)
    finally:
        os.umask(before)
    assert not os.path.exists(path)


async def test_default_is_this_user_alone(folder):
    """Without a mode only the user of the program may connect."""
    async with LoopbackFrontend(socket_path=f"{folder}/s").serve(handler_with()):
        assert stat.S_IMODE(os.stat(f"{folder}/s").st_mode) == 0o600


@pytest.mark.parametrize("mode", ["", "6", "0o600", "800", "10600", "rw", "-600"])
async def test_what_is_no_mode(mode):
    """A mode is three octal digits."""
    with pytest.raises(ConfigurationError, match="socket_mode"):
        LoopbackFrontend(socket_path="/tmp/s", socket_mode=mode)


@pytest.mark.parametrize("path", ["s", "./s", "/", "@", "/a\0b"])
async def test_what_is_no_path(path):
    """A path is absolute, or an abstract name."""
    with pytest.raises(ConfigurationError, match="socket_path"):
        LoopbackFrontend(socket_path=path)


async def test_stale_socket_is_replaced(folder):
    """A socket that a crash left behind, on which nobody answers, gives way."""
    path = f"{folder}/s"
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(path)
    async with LoopbackFrontend(socket_path=path).serve(handler_with()), client_of(path) as client:
        assert (await client.ask("/")).status == 200
    assert os.listdir(folder) == []


@pytest.mark.parametrize("full", [False, True])
async def test_socket_of_another_program_is_left_alone(place, full):
    """Where another program listens nothing is taken away, even if it is too busy to answer."""
    with socket.socket(socket.AF_UNIX) as other, contextlib.ExitStack() as clients:
        other.bind(address_of(place))
        other.listen(0)
        while full:
            client = clients.enter_context(socket.socket(socket.AF_UNIX))
            client.setblocking(False)
            try:
                client.connect(address_of(place))
            except BlockingIOError:
                break
        with pytest.raises(ConfigurationError, match="another program listens"):
            async with LoopbackFrontend(socket_path=place).serve(handler_with()):
                pass
        assert place.startswith("@") or stat.S_ISSOCK(os.stat(place).st_mode)


@pytest.mark.parametrize("kind", ["file", "directory", "link", "fifo"])
async def test_other_files_are_left_alone(folder, kind):
    """What is no socket is never removed, nor what a link leads to."""
    path, other = f"{folder}/s", f"{folder}/other"
    with socket.socket(socket.AF_UNIX) as stale:
        stale.bind(other)
    make = {
        "file": lambda: open(path, "x").close(),
        "directory": lambda: os.mkdir(path),
        "link": lambda: os.symlink(other, path),
        "fifo": lambda: os.mkfifo(path),
    }
    make[kind]()
    before = os.lstat(path)
    with pytest.raises(ConfigurationError, match=r"no socket.*Nothing was changed"):
        async with LoopbackFrontend(socket_path=path).serve(handler_with()):
            pass
    assert os.lstat(path).st_ino == before.st_ino
    assert os.path.exists(other)


async def test_socket_that_was_replaced_is_left_alone(folder):
    """At the end the file is removed only if it is still ours."""
    path = f"{folder}/s"
    async with LoopbackFrontend(socket_path=path).serve(handler_with()):
        os.rename(path, f"{folder}/moved")
        with socket.socket(socket.AF_UNIX) as other:
            other.bind(path)
    assert sorted(os.listdir(folder)) == ["moved", "s"]


async def test_many_beginners_leave_one(folder):
    """Of several that begin at once over a stale socket, one listens and the rest are told."""
    path = f"{folder}/s"
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(path)
    ready, end = asyncio.Semaphore(0), asyncio.Event()

    async def begin() -> bool:
        with contextlib.suppress(ConfigurationError):
            async with LoopbackFrontend(socket_path=path).serve(handler_with()):
                ready.release()
                await end.wait()
                return True
        ready.release()
        return False

    async with asyncio.timeout(PATIENCE_S), asyncio.TaskGroup() as group:
        tasks = [group.create_task(begin()) for _ in range(5)]
        for _ in tasks:
            await ready.acquire()
        async with client_of(path) as client:
            assert (await client.ask("/")).status == 200
        end.set()
    assert sorted(task.result() for task in tasks) == [False] * 4 + [True]


async def test_directory_that_somebody_holds(folder, monkeypatch):
    """Another program that takes for ever to begin in the same directory is not waited for."""
    import fcntl

    monkeypatch.setattr(_unix, "_ATTEMPTS", 2)
    held = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(held, fcntl.LOCK_EX)
        with pytest.raises(ConfigurationError, match="another program"):
            async with LoopbackFrontend(socket_path=f"{folder}/s").serve(handler_with()):
                pass
    finally:
        os.close(held)


@pytest.mark.parametrize(
    ("path", "said"), [("nowhere/s", "does not exist"), ("x" * 120, "at most 107 bytes")]
)
async def test_place_that_cannot_be(folder, path, said):
    """A missing directory and a path that is too long are said, with what to do."""
    frontend = LoopbackFrontend(socket_path=f"{folder}/{path}")
    with pytest.raises(ConfigurationError, match=said):
        async with frontend.serve(handler_with()):
            pass
    with pytest.raises(ServerUnavailableError):
        frontend.url_for(SOURCE)


async def test_lost_listener_is_replaced(place):
    """`ensure_active` sees that its listener answers, and listens anew where it does not."""
    frontend = LoopbackFrontend(socket_path=place)
    async with frontend.serve(handler_with()):
        assert not await frontend.ensure_active()
        frontend._listener.close()
        await asyncio.sleep(0)
        assert await frontend.ensure_active()
        assert not await frontend.ensure_active()
        async with client_of(place) as client:
            assert (await client.ask("/")).status == 200
    assert not os.path.exists(place)


# ---------------------------------------------------------------------------
# URLs, and Host
# ---------------------------------------------------------------------------


async def test_urls_without_a_public_one(place):
    """Local URLs name no port, and an origin on this machine's port 80 is no local URL."""
    frontend = LoopbackFrontend(socket_path=place)
    async with frontend.serve(handler_with()):
        url = frontend.url_for(SOURCE)
        assert url == "http://cachestream.localhost/example.com/video.mp4"
        assert frontend.source_for(url) == SOURCE
        assert frontend.url_for(url) == url
        assert frontend.url_for("http://localhost/x").endswith("/http/localhost/x")


@pytest.mark.parametrize("unix", [True, False])
async def test_urls_behind_a_proxy(folder, unix):
    """With a public URL local URLs begin with it; those of the listener itself are known too."""
    more = {"socket_path": f"{folder}/s"} if unix else {}
    frontend = LoopbackFrontend(public_url="https://films.example/media/", **more)
    handler = handler_with()
    async with frontend.serve(handler) as base:
        assert base == "https://films.example/media"
        url = frontend.url_for(SOURCE)
        assert url == "https://films.example/media/example.com/video.mp4"
        own = UNIX_URL if unix else f"http://127.0.0.1:{min(frontend.ports)}"
        for local in (url, url.replace("https:", "http:"), f"{own}/example.com/video.mp4"):
            assert frontend.source_for(local) == SOURCE
            assert frontend.url_for(local) == local
        assert frontend.source_for("https://films.example/other/example.com/video.mp4") is None
        async with RawClient(own, unix=f"{folder}/s" if unix else None) as client:
            await client.ask("/x")
    names = {"films.example", "films.example:443"}
    own_names = {"localhost", "cachestream.localhost"} if unix else {own.removeprefix("http://")}
    assert names | own_names <= handler.heads[0].served


async def test_configured_names_are_compared_with_host(folder):
    """With names, a Unix socket answers to them and to localhost, not to any Host."""
    frontend = LoopbackFrontend(socket_path=f"{folder}/s", server_names=True)
    handler = handler_with()
    async with frontend.serve(handler), client_of(f"{folder}/s") as client:
        await client.ask("/x")
    assert handler.heads[0].served == {"localhost", "cachestream.localhost"}


async def test_settings_are_taken_over(folder):
    """Path, mode, public URL and names come from where they are set."""
    settings = Settings(
        socket_path=f"{folder}/s",
        socket_mode="0660",
        public_url="https://films.example",
        server_names=("a",),
        host="0.0.0.0",
    )
    frontend = LoopbackFrontend.from_settings(settings, schemes=frozenset({"https"}))
    async with frontend.serve(handler_with()) as base:
        assert base == "https://films.example"
        assert stat.S_IMODE(os.stat(f"{folder}/s").st_mode) == 0o660
