"""As a service: sockets from systemd's programs, a Unix socket behind nginx and before curl."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from cachestream.core.urls import local_path
from cachestream.testing.origin import OriginThread, pattern

ROOT = Path(__file__).parents[2]
UNITS = ROOT / "contrib" / "systemd"
PATIENCE_S = 45.0
DATA = pattern("film", 700_000).bytes()

pytestmark = pytest.mark.integration

# What a service manager does between fork and exec: descriptors from 3 on, and the variables.
LAUNCHER = """
import os, sys
given, names = [int(each) for each in sys.argv[1].split(",")], sys.argv[2]
high = [os.dup2(each, 100 + number) for number, each in enumerate(given)]
for number, each in enumerate(high):
    os.dup2(each, 3 + number, inheritable=True)
    os.close(each)
os.environ.update(LISTEN_FDS=str(len(given)), LISTEN_PID=str(os.getpid()), LISTEN_FDNAMES=names)
os.execv(sys.argv[3], sys.argv[3:])
"""


@pytest.fixture
def folder() -> Iterator[str]:
    """A directory whose path is short, as that of a socket must be."""
    with tempfile.TemporaryDirectory(prefix="cs") as path:
        os.chmod(path, 0o755)  # nginx's workers are another user
        yield path


@pytest.fixture
def origin() -> Iterator[OriginThread]:
    """Run an origin with one file."""
    with OriginThread() as running:
        running.add("/film.bin", DATA)
        yield running


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """Return variables that give each test a cache of its own."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith("CACHESTREAM_")}
    return {
        **kept,
        "CACHESTREAM_PLUGINS": "off",
        "CACHESTREAM_CONFIG": "none",
        "CACHESTREAM_CACHE_DIR": str(tmp_path / "cache"),
        "PATH": kept.get("PATH", "") + ":/usr/sbin",
    }


@pytest.fixture
def start(tmp_path: Path, environment: dict[str, str]) -> Iterator:
    """Start processes; each that still runs at the end is killed, by its process id."""
    running: list[subprocess.Popen[bytes]] = []

    def start(*command: str, **options) -> subprocess.Popen[bytes]:
        path = shutil.which(command[0], path=environment["PATH"])
        if path is None:
            package = "systemd" if command[0].startswith("systemd") else command[0]
            pytest.fail(f"{command[0]} is not installed; run: apt-get install {package}")
        with open(tmp_path / f"{len(running)}.log", "ab") as log:
            process = subprocess.Popen(
                [path, *command[1:]],
                stdout=subprocess.PIPE,
                stderr=log,
                cwd=tmp_path,
                env=environment,
                **options,
            )
        running.append(process)
        return process

    yield start
    for process in running:
        if process.poll() is None:
            process.kill()
        process.communicate(timeout=PATIENCE_S)


SERVE = (sys.executable, "-m", "cachestream", "serve")


def curl(url: str, *arguments: str, status: int | None = None) -> bytes:
    """Ask with curl, which fails on an error and on content that is cut."""
    path = shutil.which("curl")
    assert path is not None, "curl is not installed; run: apt-get install curl"
    command = [path, "--silent", "--show-error", "--max-time", str(PATIENCE_S), *arguments]
    if status is not None:
        done = subprocess.run(
            [*command, "-o", os.devnull, "-w", "%{http_code}", url],
            capture_output=True,
            check=False,
        )
        assert done.stdout == str(status).encode(), done
        return b""
    done = subprocess.run([*command, "--fail", url], capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


# ---------------------------------------------------------------------------
# Unix sockets
# ---------------------------------------------------------------------------


def test_curl_over_a_unix_socket(start, folder, origin):
    """`curl --unix-socket` reads through a socket's path, and `--abstract-unix-socket` a name."""
    for place, option in (
        (f"{folder}/s", ("--unix-socket", f"{folder}/s")),
        (f"@{folder}/s", ("--abstract-unix-socket", f"{folder}/s")),
    ):
        server = start(*SERVE, "--socket-path", place, "--allow", "127.0.0.1")
        base = server.stdout.readline().decode().strip()
        assert base == "http://cachestream.localhost"
        url = base + local_path(origin.url("/film.bin"))
        assert curl(url, *option) == DATA
        assert curl(url, *option, "--range", "1000-1999") == DATA[1000:2000]
        assert curl(url.replace("cachestream.localhost", "localhost"), *option) == DATA
        server.terminate()
        assert server.wait(PATIENCE_S) == 0
    assert os.listdir(folder) == []


def test_no_upstream_is_open_to_all_behind_a_socket(start, folder, origin):
    """A web server may stand before a socket, so clients may name no host that is not allowed."""
    server = start(*SERVE, "--socket-path", f"{folder}/s")
    base = server.stdout.readline().decode().strip()
    url = base + local_path(origin.url("/film.bin"))
    curl(url, "--unix-socket", f"{folder}/s", status=403)


def test_killed_server_is_replaced(start, folder, origin):
    """After a crash the socket that was left is stale, and the next server takes its place."""
    place = f"{folder}/s"
    arguments = (*SERVE, "--socket-path", place, "--allow", "127.0.0.1")
    first = start(*arguments)
    first.stdout.readline()
    second = start(*arguments)
    assert second.wait(PATIENCE_S) != 0  # while the first one answers
    first.kill()
    first.wait(PATIENCE_S)
    assert os.path.exists(place)
    third = start(*arguments)
    base = third.stdout.readline().decode().strip()
    url = base + local_path(origin.url("/film.bin"))
    assert curl(url, "--unix-socket", place) == DATA


NGINX = """
daemon off;
master_process off;
pid {folder}/nginx.pid;
error_log {folder}/error.log;
events {{ }}
http {{
    access_log off;
    client_body_temp_path {folder}/t1; proxy_temp_path {folder}/t2; fastcgi_temp_path {folder}/t3;
    uwsgi_temp_path {folder}/t4; scgi_temp_path {folder}/t5;
    server {{
        listen unix:{folder}/nginx.sock;
        server_name films.example;
{location}
    }}
}}
"""


def location_of_the_page() -> str:
    """Return what the page about services says to write into nginx's configuration."""
    text = (ROOT / "docs" / "how-to" / "service.md").read_text()
    return text.partition("```nginx\n")[2].partition("```")[0]


def test_nginx_before_a_unix_socket(start, folder, origin, tmp_path):
    """Behind nginx, as the page says: local URLs are public ones, and Host is compared."""
    place = f"{folder}/s"
    location = location_of_the_page()
    assert "unix:/run/cachestream/socket" in location
    config = NGINX.format(
        folder=folder, location=location.replace("/run/cachestream/socket", place)
    )
    (tmp_path / "nginx.conf").write_text(config)
    server = start(
        *SERVE, "--socket-path", place, "--socket-mode", "0660", "--allow", "127.0.0.1",
        "--public-url", "https://films.example/media",
    )  # fmt: skip
    base = server.stdout.readline().decode().strip()
    assert base == "https://films.example/media"
    start("nginx", "-c", str(tmp_path / "nginx.conf"), "-p", folder)
    before = ("--unix-socket", f"{folder}/nginx.sock", "--retry", "20", "--retry-all-errors")
    url = f"http://films.example/media{local_path(origin.url('/film.bin'))}"
    assert curl(url, *before) == DATA
    assert curl(url, *before, "--range", "699000-") == DATA[699_000:]
    assert origin.bytes_sent("/film.bin") == len(DATA)
    curl(url, *before, "--header", "Host: evil.example", status=421)
    curl(url, *before, "--header", "Sec-Fetch-Site: cross-site", status=403)
    origin.add("/cut.bin", pattern("cut", 500_000), stall_after=100_000)
    target = url.removeprefix("http://films.example").replace("film.bin", "cut.bin")
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(PATIENCE_S)
        client.connect(f"{folder}/nginx.sock")
        client.sendall(f"GET {target} HTTP/1.1\r\nHost: films.example\r\n\r\n".encode())
        got = client.recv(10_000)
        assert got.startswith(b"HTTP/1.1 200")
        assert b"Content-Length: 500000" in got
        server.kill()
        while piece := client.recv(100_000):
            got += piece
        assert len(got) < 500_000


# ---------------------------------------------------------------------------
# Socket activation
# ---------------------------------------------------------------------------


def test_sockets_of_a_launcher(start, folder, origin):
    """IPv4, IPv6 and a Unix socket are served at once; the port given otherwise is not."""
    with contextlib.ExitStack() as stack:
        made = [
            stack.enter_context(socket.create_server(("127.0.0.1", 0))),
            stack.enter_context(socket.create_server(("::1", 0), family=socket.AF_INET6)),
            stack.enter_context(socket.socket(socket.AF_UNIX)),
        ]
        made[2].bind(f"{folder}/s")
        made[2].listen(16)
        descriptors = [sock.fileno() for sock in made]
        server = start(
            sys.executable, "-c", LAUNCHER, ",".join(map(str, descriptors)), "web:six:local",
            *SERVE, "--allow", "127.0.0.1", pass_fds=descriptors,
        )  # fmt: skip
        base = server.stdout.readline().decode().strip()
        four, six = (sock.getsockname()[1] for sock in made[:2])
        assert base == f"http://127.0.0.1:{four}"
        path = local_path(origin.url("/film.bin"))
        assert curl(base + path) == DATA
        assert curl(f"http://[::1]:{six}{path}") == DATA
        assert curl(f"http://localhost{path}", "--unix-socket", f"{folder}/s") == DATA
        server.terminate()
        assert server.wait(PATIENCE_S) == 0
        # They are the manager's: a client that comes now waits for the next server.
        waiting = stack.enter_context(socket.create_connection(("127.0.0.1", four), PATIENCE_S))
        waiting.sendall(f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{four}\r\n\r\n".encode())
        assert os.path.exists(f"{folder}/s")
        start(
            sys.executable, "-c", LAUNCHER, ",".join(map(str, descriptors)), "web:six:local",
            *SERVE, pass_fds=descriptors,
        )  # fmt: skip
        assert waiting.recv(100).startswith(b"HTTP/1.1 200")


@pytest.mark.parametrize(("address", "status"), [("127.0.0.1", 200), ("0.0.0.0", 403)])
def test_upstreams_are_open_on_loopback_only(start, origin, address, status):
    """With nothing allowed, whether clients may name any host depends on what was passed."""
    with socket.create_server((address, 0)) as sock:
        descriptor = sock.fileno()
        server = start(
            sys.executable, "-c", LAUNCHER, str(descriptor), "web",
            *SERVE, "--token", "t", pass_fds=[descriptor],
        )  # fmt: skip
        base = server.stdout.readline().decode().strip()
        curl(f"{base}{local_path(origin.url('/film.bin'), token='t')}", status=status)


def test_wide_socket_without_a_token_is_refused(start, tmp_path):
    """A socket unit that lets the network in is refused with what to do about it."""
    with socket.create_server(("0.0.0.0", 0)) as sock:
        descriptor = sock.fileno()
        server = start(
            sys.executable, "-c", LAUNCHER, str(descriptor), "web", *SERVE, pass_fds=[descriptor]
        )
        assert server.wait(PATIENCE_S) == 2
    assert "Set a token" in (tmp_path / "0.log").read_text()


def test_systemd_passes_its_sockets(start, folder, origin):
    """systemd's own program listens, and starts the server when somebody asks."""
    place = f"{folder}/s"
    start(
        "systemd-socket-activate", "--listen", place, "--listen", f"@{folder}/t",
        "--fdname", "web:other", "-E", "CACHESTREAM_PLUGINS=off", "-E", "CACHESTREAM_CONFIG=none",
        "-E", f"CACHESTREAM_CACHE_DIR={folder}/cache", *SERVE, "--allow", "127.0.0.1",
    )  # fmt: skip
    url = "http://localhost" + local_path(origin.url("/film.bin"))
    early = ("--retry", "40", "--retry-all-errors", "--retry-delay", "1")
    assert curl(url, "--unix-socket", place, *early) == DATA
    assert curl(url, "--abstract-unix-socket", f"{folder}/t") == DATA


# ---------------------------------------------------------------------------
# Unit files
# ---------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["system", "user"])
def test_units_are_correct(start, tmp_path, environment, kind):
    """`systemd-analyze verify` has nothing to say about the unit files."""
    units = UNITS if kind == "system" else UNITS / "user"
    # What they start need not be installed where they say.
    for name in ("cachestream.service", "cachestream.socket"):
        text = (units / name).read_text()
        (tmp_path / name).write_text(text.replace("%h/.local/bin/cachestream", "/usr/bin/env"))
    environment["XDG_RUNTIME_DIR"] = str(tmp_path)
    scope = ["--user"] if kind == "user" else []
    checked = start(
        "systemd-analyze", *scope, "--man=no", "--recursive-errors=no", "verify",
        str(tmp_path / "cachestream.service"), str(tmp_path / "cachestream.socket"),
    )  # fmt: skip
    assert checked.wait(PATIENCE_S) == 0
    assert (tmp_path / "0.log").read_text() == ""


def test_the_service_is_locked_in(start):
    """systemd calls its exposure low: 2.0 of 10 at most."""
    checked = start(
        "systemd-analyze", "security", "--offline=true", "--threshold=20",
        str(UNITS / "cachestream.service"),
    )  # fmt: skip
    out, _ = checked.communicate(timeout=PATIENCE_S)
    assert checked.returncode == 0, out.decode()


def test_the_commands_of_the_units_exist(start):
    """What the units start are commands and flags of ours."""
    for path in UNITS.rglob("*.service"):
        (line,) = [each for each in path.read_text().splitlines() if each.startswith("ExecStart=")]
        words = line.split()
        command = words[words.index("serve") :]
        assert "cachestream" in line
        checked = start(sys.executable, "-m", "cachestream", *command, "--help")
        out, _ = checked.communicate(timeout=PATIENCE_S)
        assert checked.returncode == 0
        assert b"Serve local URLs" in out
