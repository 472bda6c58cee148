"""`serve` and `play` run a local server, and end as they should."""

import http.client
import shlex
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from cachestream.cli._serving import DEFAULT_PORT, _is_loopback
from cachestream.core.urls import local_path
from cachestream.testing.origin import OriginThread, pattern

DATA = pattern("film", 300_000).bytes()

Run = Callable[..., subprocess.CompletedProcess[bytes]]
Start = Callable[..., subprocess.Popen[bytes]]


@pytest.fixture
def origin() -> Iterator[OriginThread]:
    """Run an origin with one file."""
    with OriginThread() as origin:
        origin.add("/film.bin", DATA)
        yield origin


class Server:
    """A running `serve`."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        assert process.stdout is not None
        self.process = process
        self.base = process.stdout.readline().decode().strip()

    def get(self, source: str, token: str | None = None) -> tuple[int, bytes]:
        """Ask for a source; returns status and content."""
        place = urlsplit(self.base)
        assert place.hostname is not None
        connection = http.client.HTTPConnection(place.hostname, place.port, timeout=30)
        connection.request("GET", local_path(source, token=token))
        response = connection.getresponse()
        try:
            return response.status, response.read()
        finally:
            connection.close()

    def end(self, number: signal.Signals = signal.SIGTERM) -> tuple[int, str]:
        """Send a signal; returns the exit code and what was on stderr."""
        self.process.send_signal(number)
        out, shown = self.process.communicate(timeout=30)
        assert out == b""
        return self.process.returncode, shown.decode()


@pytest.fixture
def serve(start: Start) -> Iterator[Callable[..., Server]]:
    """Return a function that starts a server on a free port."""
    servers: list[Server] = []

    def serve(*arguments: str) -> Server:
        servers.append(Server(start("serve", "--port", "0", *arguments)))
        return servers[-1]

    yield serve
    for server in servers:
        if server.process.returncode is None:
            server.process.kill()
        server.process.communicate()


def test_serve_prints_its_base_url_first(
    serve: Callable[..., Server], origin: OriginThread, tmp_path: Path
) -> None:
    """The first line is the base URL; below it any upstream is there, and that is said."""
    server = serve()
    assert server.base.startswith("http://127.0.0.1:")
    assert server.get(origin.url("/film.bin")) == (200, DATA)
    code, shown = server.end()
    assert code == 0
    assert "any upstream host" in shown
    assert str(tmp_path / "cache") in shown


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signals_end_serve_with_0(serve: Callable[..., Server], number: signal.Signals) -> None:
    """SIGTERM and Ctrl-C are how it is meant to end."""
    code, shown = serve().end(number)
    assert code == 0
    assert "Traceback" not in shown


def test_serve_ends_while_a_client_reads(
    serve: Callable[..., Server], origin: OriginThread
) -> None:
    """A client in the middle of a body does not hold it up."""
    origin.add("/slow.bin", pattern("slow", 4 << 20), stall_after=1 << 20)
    server = serve()
    place = urlsplit(server.base)
    assert place.port is not None
    with socket.create_connection(("127.0.0.1", place.port)) as client:
        target = local_path(origin.url("/slow.bin"))
        client.sendall(f"GET {target} HTTP/1.1\r\nHost: {place.netloc}\r\n\r\n".encode())
        assert client.recv(100).startswith(b"HTTP/1.1 200")
        code, shown = server.end()
    assert code == 0
    assert "Traceback" not in shown


def test_what_is_held_survives_a_restart(
    serve: Callable[..., Server], origin: OriginThread
) -> None:
    """A second server on the same directory answers without the origin."""
    first = serve()
    assert first.get(origin.url("/film.bin")) == (200, DATA)
    assert first.end()[0] == 0
    asked = origin.count()
    assert serve().get(origin.url("/film.bin")) == (200, DATA)
    assert origin.count() == asked


def test_allow_narrows_the_upstream_hosts(
    serve: Callable[..., Server], origin: OriginThread
) -> None:
    """With --allow other hosts are refused, and nothing is said about any host."""
    server = serve("--allow", "a.example")
    assert server.get(origin.url("/film.bin"))[0] == 403
    assert origin.count() == 0
    assert "any upstream host" not in server.end()[1]


def test_a_token_is_needed_where_one_is_set(
    serve: Callable[..., Server], origin: OriginThread
) -> None:
    """With --token a URL without it names nothing."""
    server = serve("--token", "secret")
    assert server.get(origin.url("/film.bin"))[0] == 404
    assert server.get(origin.url("/film.bin"), token="secret") == (200, DATA)
    assert "secret" not in server.end()[1]


def test_a_server_never_asks_itself(serve: Callable[..., Server]) -> None:
    """Its own address as an upstream is refused, not asked for ever."""
    server = serve()
    status, _ = server.get(f"{server.base}/example.com/x")
    assert status in {403, 502}


def test_a_wider_address_needs_a_token(run: Run) -> None:
    """Listening to the network without a token is refused."""
    done = run("serve", "--host", "0.0.0.0", "--port", "0")
    assert done.returncode == 2
    assert b"token" in done.stderr


def test_a_port_in_use_is_a_clear_error(run: Run) -> None:
    """A port that somebody has is named, without a traceback."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        done = run("serve", "--port", port)
    assert done.returncode == 2
    assert port.encode() in done.stderr
    assert b"Traceback" not in done.stderr


def test_ls_works_while_a_server_runs(
    serve: Callable[..., Server], run: Run, origin: OriginThread
) -> None:
    """What a server holds can be listed by another process, and deleted."""
    server = serve()
    source = origin.url("/film.bin")
    server.get(source)
    assert source.encode() in run("ls").stdout
    assert run("rm", source).returncode == 0
    assert server.get(source) == (200, DATA)


def test_the_default_port_stays_the_same() -> None:
    """Local URLs survive a restart because of it."""
    assert DEFAULT_PORT == 4612


@pytest.mark.parametrize(
    ("host", "loopback"),
    [
        ("127.0.0.1", True),
        ("127.8.9.1", True),
        ("::1", True),
        ("[::1]", True),
        ("localhost", True),
        ("0.0.0.0", False),
        ("::", False),
        ("192.168.1.2", False),
        ("a.example", False),
    ],
)
def test_which_addresses_are_loopback(host: str, loopback: bool) -> None:
    """Only an address of this machine alone is open to all upstream hosts."""
    assert _is_loopback(host) is loopback


READ = "import sys, urllib.request as u; sys.stdout.buffer.write(u.urlopen(sys.argv[1]).read())"


def test_play_gives_the_player_a_local_url(run_process: Run, origin: OriginThread) -> None:
    """The local URL comes last, and the player reads the file from it."""
    done = run_process("play", origin.url("/film.bin"), "--", sys.executable, "-c", READ)
    assert (done.returncode, done.stdout) == (0, DATA), done.stderr


def test_play_puts_the_url_in_the_place_of_braces(run_process: Run, origin: OriginThread) -> None:
    """Where the player's command has {}, the URL stands there."""
    code = "import sys; print(sys.argv[1:])"
    done = run_process(
        "play", origin.url("/film.bin"), "--", sys.executable, "-c", code, "a={}", "b"
    )
    assert b"'a=http://127.0.0.1:" in done.stdout
    assert done.stdout.rstrip().endswith(b"'b']")


def test_play_ends_with_the_players_code(run_process: Run, origin: OriginThread) -> None:
    """The exit code is the player's, and 128 and the signal's number if it was killed."""
    url = origin.url("/film.bin")
    assert run_process("play", url, "--", *shlex.split("sh -c 'exit 7'")).returncode == 7
    assert run_process("play", url, "--", *shlex.split("sh -c 'kill -9 $$'")).returncode == 137


def test_play_without_that_player_is_a_clear_error(run_process: Run, origin: OriginThread) -> None:
    """A player that is not there is named."""
    done = run_process("play", origin.url("/film.bin"), "--", "no-such-player")
    assert done.returncode == 1
    assert b"cannot run no-such-player: No such file" in done.stderr


def test_play_finds_a_player(
    run_process: Run, origin: OriginThread, tmp_path: Path, environment: dict[str, str]
) -> None:
    """Without a player one that is installed is taken."""
    player = tmp_path / "mpv"
    player.write_text('#!/bin/sh\necho "playing $1"\n')
    player.chmod(0o755)
    environment["PATH"] = f"{tmp_path}:{environment['PATH']}"
    assert run_process("play", origin.url("/film.bin")).stdout.startswith(
        b"playing http://127.0.0.1:"
    )


def test_play_without_any_player_says_so(
    run_process: Run, origin: OriginThread, tmp_path: Path, environment: dict[str, str]
) -> None:
    """With none installed the error says how to name one."""
    environment["PATH"] = str(tmp_path)
    done = run_process("play", origin.url("/film.bin"))
    assert done.returncode == 1
    assert b"after --" in done.stderr
