"""Sockets that a service manager passed: taken once, by whom they are meant for, and served."""

from __future__ import annotations

import contextlib
import os
import socket
import tempfile

import pytest

from cachestream.errors import ConfigurationError
from cachestream.frontends import LoopbackFrontend, _activation
from cachestream.frontends._activation import count_inherited, take_inherited
from cachestream.testing._raw_client import RawClient
from cachestream.testing.fakes import FakeHandler, answer_with

SOURCE = "https://example.com/video.mp4"


def handler_with(content: bytes = b"content") -> FakeHandler:
    return FakeHandler({"*": lambda _: answer_with(content)})


def variables(count: int, names: str | None = None, pid: int | None = None) -> dict[str, str]:
    """Return what a service manager sets, and something that is not its own."""
    found = {"LISTEN_FDS": str(count), "LISTEN_PID": str(pid or os.getpid()), "PATH": "x"}
    return found if names is None else {**found, "LISTEN_FDNAMES": names}


@contextlib.contextmanager
def passed(*sockets: socket.socket):
    """Put sockets on neighbouring descriptors, as a service manager does; gives the first."""
    with contextlib.ExitStack() as stack:
        # High enough that nothing else is there.
        first = 700
        while any(os.path.exists(f"/dev/fd/{first + n}") for n in range(len(sockets))):
            first += 10
        for number, sock in enumerate(sockets):
            os.dup2(sock.fileno(), first + number, inheritable=True)
            stack.callback(_close_quietly, first + number)
            stack.enter_context(sock)
        yield first


def _close_quietly(descriptor: int) -> None:
    with contextlib.suppress(OSError):
        os.close(descriptor)


def listening(address, family=socket.AF_INET) -> socket.socket:
    sock = socket.socket(family)
    if family == socket.AF_INET6:
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
    sock.bind(address)
    sock.listen(16)
    return sock


def test_sockets_of_all_families_are_taken():
    """TCP over both versions of IP and Unix sockets are taken, with their names."""
    with tempfile.TemporaryDirectory(prefix="cs") as folder:
        made = [
            listening(("127.0.0.1", 0)),
            listening(("::1", 0), socket.AF_INET6),
            listening(f"{folder}/s", socket.AF_UNIX),
        ]
        environment = variables(3, "web:six:local")
        with passed(*made) as first:
            assert count_inherited(environment) == 3
            taken = take_inherited(environment, first=first)
            assert [each.name for each in taken] == ["web", "six", "local"]
            assert [each.sock.family for each in taken] == [
                socket.AF_INET, socket.AF_INET6, socket.AF_UNIX,
            ]  # fmt: skip
            assert not any(os.get_inheritable(each.sock.fileno()) for each in taken)
            assert not any(each.sock.getblocking() for each in taken)
            # They are ours alone from now on, and there are none the second time.
            assert environment == {"PATH": "x"}
            assert take_inherited(environment, first=first) == ()
            for each in taken:
                each.sock.close()


@pytest.mark.parametrize(
    "environment",
    [
        {},
        variables(1, pid=os.getpid() + 1),
        {"LISTEN_FDS": "1"},
        {"LISTEN_PID": str(os.getpid())},
        {"LISTEN_FDS": "-1", "LISTEN_PID": str(os.getpid())},
        {"LISTEN_FDS": "one", "LISTEN_PID": str(os.getpid())},
        {"LISTEN_FDS": "١", "LISTEN_PID": str(os.getpid())},
        variables(0),
    ],
)
def test_what_is_meant_for_another_is_left_alone(environment):
    """Without a number of descriptors, or with another process's, nothing is touched."""
    before = dict(environment)
    assert count_inherited(environment) == 0
    assert take_inherited(environment, first=900) == ()
    assert environment == before


@pytest.mark.parametrize("names", [None, "", "one", "one:", ":"])
def test_names_that_are_missing(names):
    """Every socket has a name, if only that nobody knows it."""
    made = [listening(("127.0.0.1", 0)) for _ in range(2)]
    with passed(*made) as first:
        taken = take_inherited(variables(2, names), first=first)
        assert taken[1].name == "unknown"
        for each in taken:
            each.sock.close()


@pytest.mark.parametrize("kind", ["datagram", "connected", "file", "missing"])
def test_what_cannot_be_listened_on_is_said(kind, tmp_path):
    """A descriptor that nobody can connect to is a configuration error; the rest is closed."""
    with contextlib.ExitStack() as stack:
        good = listening(("127.0.0.1", 0))
        first = stack.enter_context(passed(good))
        second = first + 1
        if kind == "datagram":
            sock = stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
            os.dup2(sock.fileno(), second)
        elif kind == "connected":
            sock, other = socket.socketpair()
            stack.enter_context(sock)
            stack.enter_context(other)
            os.dup2(sock.fileno(), second)
        elif kind == "file":
            file = stack.enter_context(open(tmp_path / "x", "w"))
            os.dup2(file.fileno(), second)
        stack.callback(_close_quietly, second)
        with pytest.raises(ConfigurationError, match=f"descriptor {second} .*socket unit"):
            take_inherited(variables(2), first=first)
        with pytest.raises(OSError):
            os.fstat(first)


@pytest.mark.asyncio
async def test_several_sockets_are_served():
    """All that was passed is served; local URLs name the first TCP address."""
    with tempfile.TemporaryDirectory(prefix="cs") as folder:
        path = f"{folder}/s"
        made = [
            listening(path, socket.AF_UNIX),
            listening(("::1", 0), socket.AF_INET6),
            listening(("127.0.0.1", 0)),
        ]
        six, four = (sock.getsockname()[1] for sock in made[1:])
        frontend = LoopbackFrontend(sockets=made)
        handler = handler_with()
        async with frontend.serve(handler) as base:
            assert base == f"http://[::1]:{six}"
            assert frontend.ports == {four, six}
            assert frontend.source_for(f"http://localhost:{four}/example.com/video.mp4") == SOURCE
            for url, unix in ((base, None), (f"http://127.0.0.1:{four}", None), (base, path)):
                async with RawClient(url, unix=unix) as client:
                    assert (await client.ask("/x")).status == 200
            assert not await frontend.ensure_active()
        assert [len(head.served) for head in handler.heads] == [6, 6, 0]
        # The file is the service manager's: it listens on while we are gone.
        assert os.path.exists(path)
        assert all(sock.fileno() == -1 for sock in made)


@pytest.mark.asyncio
async def test_lost_listener_is_replaced():
    """What was passed can be listened on anew."""
    frontend = LoopbackFrontend(sockets=[listening(("127.0.0.1", 0))])
    async with frontend.serve(handler_with()) as base:
        frontend._listener.close()
        assert await frontend.ensure_active()
        async with RawClient(base) as client:
            assert (await client.ask("/")).status == 200


@pytest.mark.asyncio
@pytest.mark.parametrize("token", [None, "secret"])
async def test_wide_sockets_need_a_token(token):
    """A socket on all addresses lets the network in, whoever opened it: not without a token."""
    frontend = LoopbackFrontend(sockets=[listening(("0.0.0.0", 0))], token=token)
    handler = handler_with()
    with contextlib.nullcontext() if token else pytest.raises(ConfigurationError, match="token"):
        async with frontend.serve(handler) as base:
            async with RawClient(base.replace("127.0.0.1", "127.0.0.5")) as client:
                await client.ask("/~secret/x")
            port = min(frontend.ports)
            assert f"127.0.0.5:{port}" in handler.heads[0].served


@pytest.mark.asyncio
async def test_activation_takes_what_is_there(monkeypatch):
    """With activation on, what was passed goes before host and port; without any, they count."""
    sock = listening(("127.0.0.1", 0))
    port = sock.getsockname()[1]
    with passed(sock) as first:
        monkeypatch.setattr(_activation, "_FIRST", first)
        for name, value in variables(1, "web").items():
            if name.startswith("LISTEN"):
                monkeypatch.setenv(name, value)
        assert _activation.passed_only_loopback()
        idle = LoopbackFrontend()
        async with idle.serve(handler_with()):
            assert idle.ports != {port}
        frontend = LoopbackFrontend(activation=True)
        async with frontend.serve(handler_with()) as base, RawClient(base) as client:
            assert frontend.ports == {port}
            assert "LISTEN_FDS" not in os.environ
            assert (await client.ask("/")).status == 200
    async with frontend.serve(handler_with()):
        assert frontend.ports != {port}
