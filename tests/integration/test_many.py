"""Very many at once: what each client and each resource costs stays small, and is given back."""

import os
import resource
import socket
import urllib.request
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import attrs
import pytest

from cachestream import CacheManager
from cachestream.testing._raw_client import RawClient
from cachestream.testing.origin import OriginThread, pattern

pytestmark = [pytest.mark.integration, pytest.mark.slow]

KIB = 1024
MIB = 1024 * KIB
PATIENCE_S = 60.0
CLIENTS = 2_000


@pytest.fixture
def many_files() -> Iterator[None]:
    """Allow this process as many open files as it may have."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    assert hard > CLIENTS + 500, f"a limit of {hard} open files is too low for this test"
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@attrs.define(eq=False)
class SlowClient:
    """A client that reads some KiB now and then."""

    socket: socket.socket
    content: bytearray = attrs.field(factory=bytearray)

    @classmethod
    def ask(cls, address: tuple[str, int], request: bytes) -> "SlowClient":
        """Connect and ask."""
        client = socket.socket()
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16 * KIB)
        client.settimeout(PATIENCE_S)
        client.connect(address)
        client.sendall(request)
        return cls(client)

    def read_head(self) -> None:
        """Read to the end of the head, and what came with it."""
        got = b""
        while b"\r\n\r\n" not in got:
            piece = self.socket.recv(4 * KIB)
            assert piece, "cut off before its head"
            got += piece
        head, _, content = got.partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200 ")
        self.content += content

    def read(self) -> None:
        """Read a little more."""
        piece = self.socket.recv(4 * KIB)
        assert piece, f"cut off after {len(self.content)} bytes"
        self.content += piece


def open_files(pid: int) -> int:
    """Return how many files and sockets a process has open."""
    return len(os.listdir(f"/proc/{pid}/fd"))


@pytest.mark.asyncio
async def test_two_thousand_slow_clients(
    many_files: None, serve: Callable[..., Any], eventually: Callable[..., Awaitable[None]]
) -> None:
    """They cost 32 KiB each at most, a fast one beside them is served, and all is given back."""
    film = pattern("film", 16 * MIB)
    with OriginThread() as origin:
        origin.add("/film.bin", film)
        server, source = serve(), origin.url("/film.bin")
        url = server.url(source)
        with urllib.request.urlopen(url, timeout=PATIENCE_S) as answer:
            assert answer.read() == film.bytes()
        idle, files = server.resident_bytes(), open_files(server.process.pid)
        asked = origin.count()

        place = urlsplit(url)
        request = f"GET {place.path} HTTP/1.1\r\nHost: {place.netloc}\r\n\r\n".encode()
        clients = [SlowClient.ask(server.address, request) for _ in range(CLIENTS)]
        for client in clients:
            client.read_head()
        for _ in range(3):
            for client in clients:
                client.read()
        assert open_files(server.process.pid) >= files + CLIENTS
        assert server.resident_bytes() - idle < CLIENTS * 32 * KIB
        with urllib.request.urlopen(url, timeout=PATIENCE_S) as answer:
            assert answer.read() == film.bytes()
        right = film.bytes(0, MIB)
        for client in clients:
            assert client.content == right[: len(client.content)]
            client.socket.close()
        await eventually(lambda: open_files(server.process.pid) <= files + 8)
        assert origin.count() == asked


@pytest.mark.parametrize("count", [600, pytest.param(10_000, marks=pytest.mark.long)])
@pytest.mark.asyncio
async def test_many_resources_one_after_the_other(tmp_path: Path, count: int) -> None:
    """Each is stored and served; what stays open of them is bounded, and so is their memory."""
    limit = 100
    options = {"cache_dir": tmp_path / "cache", "min_free": 0, "max_idle_streams": limit}
    with OriginThread() as origin:
        for number in range(count):
            origin.add(f"/{number}.bin", f"{number:08}".encode() * 8)
        async with CacheManager(**options) as cache:
            before, place = open_files(os.getpid()), urlsplit(str(cache.base_url))
            async with RawClient(f"http://{place.netloc}") as client:
                at_half = 0
                for number in range(count):
                    url = urlsplit(cache.get_cache_url(origin.url(f"/{number}.bin")))
                    got = await client.ask(url.path, host=place.netloc)
                    assert got.content == f"{number:08}".encode() * 8
                    if number == count // 2:
                        at_half = resident()
            assert len(cache.all_streams) <= limit + 1
            # A file and its lock for each, and what the cache has open itself.
            assert open_files(os.getpid()) - before <= 3 * limit
            assert resident() - at_half < count // 2 * 16 * KIB
            assert (await cache.usage()).entries == count


def resident() -> int:
    """Return how much memory of this process is in RAM."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")
