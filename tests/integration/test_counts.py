"""What is promised in numbers: bytes from the origin, memory, and what is left after the end."""

import asyncio
import os
import random
import socket
import threading
import urllib.request
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import xxhash

from cachestream import CacheManager
from cachestream.core.spans import Span, SpanSet
from cachestream.errors import ClosedError
from cachestream.testing.origin import Origin, OriginThread, pattern

pytestmark = [pytest.mark.integration, pytest.mark.slow]

KIB = 1024
MIB = 1024 * KIB
PATIENCE_S = 60.0

MakeCache = Callable[..., Awaitable[CacheManager]]
Eventually = Callable[[Callable[[], object]], Awaitable[None]]


class Client(asyncio.BufferedProtocol):
    """A client that sums up what comes after the head, and keeps none of it."""

    def __init__(self, url: str, buffer: bytearray) -> None:
        place = urlsplit(url)
        self._request = f"GET {place.path} HTTP/1.0\r\nHost: {place.netloc}\r\n\r\n".encode()
        self._buffer = memoryview(buffer)
        self._head = b""
        self._sum = xxhash.xxh3_128()
        self.content_length = -1
        self.received = 0
        self.ended = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: Any) -> None:
        transport.write(self._request)

    def get_buffer(self, sizehint: int) -> memoryview:
        return self._buffer

    def buffer_updated(self, count: int) -> None:
        piece: bytes | memoryview = self._buffer[:count]
        if self.content_length < 0:
            self._head += piece
            head, found, piece = self._head.partition(b"\r\n\r\n")
            if not found:
                return
            field = head.lower().partition(b"content-length: ")[2]
            self.content_length = int(field.partition(b"\r\n")[0])
        self._sum.update(piece)
        self.received += len(piece)

    def connection_lost(self, exc: Exception | None) -> None:
        self.ended.set_result((self.received, self._sum.hexdigest()))


@pytest.mark.asyncio
async def test_a_hundred_clients_of_a_cold_file_cost_one_download(
    origin: Origin, make_cache: MakeCache
) -> None:
    """The origin sends each byte once, and each client gets every byte."""
    content = pattern("crowd", 64 * MIB)
    origin.add("/crowd.bin", content)
    cache = await make_cache()
    url = cache.get_cache_url(origin.url("/crowd.bin"))
    place = urlsplit(url)
    buffer = bytearray(MIB)  # one for all: a piece is summed up before the next comes
    clients = [Client(url, buffer) for _ in range(100)]
    loop = asyncio.get_running_loop()
    async with asyncio.timeout(100):
        for client in clients:
            await loop.create_connection(lambda c=client: c, place.hostname, place.port)
        got = await asyncio.gather(*(client.ended for client in clients))
    expected = (64 * MIB, xxhash.xxh3_128_hexdigest(content.bytes()))
    assert set(got) == {expected}
    assert origin.bytes_sent() == 64 * MIB


def trace(length: int) -> list[Span]:
    """Return 200 random ranges, always the same ones."""
    chance = random.Random(20_240_611)
    spans = []
    for _ in range(200):
        start = chance.randrange(length)
        spans.append(Span(start, min(length, start + chance.randint(1, 256 * KIB))))
    return spans


def ask(url: str, span: Span) -> bytes:
    """Ask for one range."""
    wanted = {"Range": f"bytes={span.start}-{span.stop - 1}"}
    with urllib.request.urlopen(urllib.request.Request(url, headers=wanted), timeout=60) as got:
        assert got.status == 206
        return got.read()


@pytest.mark.asyncio
async def test_random_ranges_cost_what_they_ask_for(origin: Origin, make_cache: MakeCache) -> None:
    """On demand only the distinct bytes come, to 2 %, and none when all is asked again."""
    content = pattern("trace", 64 * MIB)
    origin.add("/trace.bin", content)
    cache = await make_cache(completion="demand")
    url = cache.get_cache_url(origin.url("/trace.bin"))
    spans = trace(64 * MIB)
    for span in spans:
        assert await asyncio.to_thread(ask, url, span) == content.bytes(span.start, span.stop)
    distinct = SpanSet(spans).total
    assert distinct <= origin.bytes_sent() <= 1.02 * distinct

    origin.reset_log()
    for span in reversed(spans):
        assert await asyncio.to_thread(ask, url, span) == content.bytes(span.start, span.stop)
    assert origin.count() == 0


def test_a_killed_server_goes_on_where_it_was(serve: Callable[..., Any]) -> None:
    """After kill -9 at half, at most 1 MiB is fetched again besides what was in flight."""
    size = 24 * MIB
    content = pattern("killed", size)
    # A small send buffer, so that little is in flight between origin and server.
    with OriginThread(send_buffer=64 * KIB) as origin:
        served = origin.add("/killed.bin", content, rate=4.0 * MIB)
        source = origin.url("/killed.bin")
        # With one connection, what was stored is what the client has and what was in flight.
        server = serve("--max-connections", "1")
        got = bytearray()
        with urllib.request.urlopen(server.url(source), timeout=PATIENCE_S) as answer:
            while len(got) < size // 2:
                got += answer.read1(64 * KIB)
            server.kill()
        assert got == content.bytes(0, len(got))
        before = origin.bytes_sent()
        # What the client has was stored; all else that was sent may have been on its way.
        in_flight = before - len(got)
        assert before < size

        served.rate = None
        origin.reset_log()
        with urllib.request.urlopen(serve().url(source), timeout=PATIENCE_S) as answer:
            assert answer.read() == content.bytes()
        assert before + origin.bytes_sent() <= size + MIB + in_flight


async def listen_slowly(address: tuple[str, int], request: bytes, seconds: float) -> bytes:
    """Read an answer at 64 KiB/s and return the content that came."""
    loop = asyncio.get_running_loop()
    with socket.socket() as client:
        client.setblocking(False)
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16 * KIB)
        await loop.sock_connect(client, address)
        await loop.sock_sendall(client, request)
        got = b""
        began = loop.time()
        while (passed := loop.time() - began) < seconds:
            due = int(passed * 64 * KIB) - len(got)
            if due > 0:
                piece = await loop.sock_recv(client, due)
                assert piece, "the answer ended"
                got += piece
            await asyncio.sleep(0.2)
    head, _, content = got.partition(b"\r\n\r\n")
    assert head.startswith((b"HTTP/1.1 200", b"HTTP/1.1 206"))
    return content


@pytest.mark.asyncio
async def test_slow_clients_hold_no_memory(serve: Callable[..., Any]) -> None:
    """Fifty slow clients of a file of 1 GiB, half of it fetched meanwhile, cost under 64 MiB."""
    content = pattern("slow", 1024 * MIB)
    with OriginThread() as origin:
        origin.add("/warm.bin", b"warm")
        origin.add("/slow.bin", content, rate=80.0 * MIB)
        server = serve("--completion", "complete")
        with urllib.request.urlopen(server.url(origin.url("/warm.bin")), timeout=60) as answer:
            assert answer.read() == b"warm"
        at_first = server.resident_bytes()
        most = at_first
        target = urlsplit(server.url(origin.url("/slow.bin"))).path
        host = ":".join(map(str, server.address))

        # Most of them from the start, and ten somewhere else each.
        starts = [0] * 40 + [number * 100 * MIB + 7 for number in range(10)]
        async with asyncio.TaskGroup() as group:
            clients = []
            for start in starts:
                head = f"GET {target} HTTP/1.1\r\nHost: {host}\r\nRange: bytes={start}-\r\n\r\n"
                work = listen_slowly(server.address, head.encode(), 7)
                clients.append(group.create_task(work))
            while not all(client.done() for client in clients):
                most = max(most, server.resident_bytes())
                await asyncio.sleep(0.1)
        fetched = origin.bytes_sent("/slow.bin")
    for start, client in zip(starts, clients, strict=True):
        got = client.result()
        assert got, "a client got nothing"
        assert got == content.bytes(start, start + len(got))
    assert most - at_first < 64 * MIB
    assert fetched > 64 * MIB, "too little came to tell anything"


def descriptors() -> dict[int, str]:
    """Return what is open in this process, by descriptor."""
    found = {}
    for name in os.listdir("/proc/self/fd"):
        try:
            found[int(name)] = os.readlink(f"/proc/self/fd/{name}")
        except FileNotFoundError:
            continue  # the one that listed the others
    return found


def threads() -> set[threading.Thread]:
    """Return the threads, but for those of the loop's own pool: they end with the loop."""
    return {each for each in threading.enumerate() if not each.name.startswith("asyncio_")}


@pytest.mark.asyncio
@pytest.mark.parametrize("busy", [False, True], ids=["idle", "in mid-body"])
async def test_nothing_is_left_after_the_end(
    busy: bool, tmp_path: Path, eventually: Eventually
) -> None:
    """No task, socket, descriptor or thread outlives `aclose`, whoever is reading."""
    with OriginThread() as origin:
        origin.add("/done.bin", pattern("done", 3 * MIB))
        origin.add("/slow.bin", pattern("open", 64 * MIB), stall_after=4 * MIB)
        await asyncio.to_thread(int)  # the loop's pool exists from now on
        before = (asyncio.all_tasks(), threads(), descriptors())

        cache = CacheManager(cache_dir=tmp_path / "cache", min_free=0, completion="complete")
        await cache.start()
        await cache.pre_cache_url(origin.url("/done.bin"))
        clients, waiting = [], asyncio.create_task(asyncio.sleep(0))
        if busy:
            clients = await clients_in_mid_body(cache, origin.url("/slow.bin"))
            waiting = asyncio.create_task(read_all(cache, origin.url("/slow.bin")))
            await eventually(lambda: cache.statistics().waiting_readers)
            assert cache.statistics().running_downloads
        async with asyncio.timeout(PATIENCE_S):
            await cache.aclose()
            await waiting
        assert (asyncio.all_tasks(), threads()) == before[:2]
        assert not [path for path in descriptors().values() if path.startswith(str(tmp_path))]

        for reader, writer in clients:
            assert len(await to_the_cut(reader)) < 63 * MIB
            writer.close()
        # The origin has the other ends of connections; it takes a moment to see that they ended.
        await eventually(lambda: descriptors() == before[2])


async def clients_in_mid_body(
    cache: CacheManager, source: str
) -> list[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """Begin to read a source over HTTP, several times, and as a file that is left open."""
    clients = []
    place = urlsplit(cache.get_cache_url(source))
    for _ in range(5):
        reader, writer = await asyncio.open_connection(place.hostname, place.port)
        writer.write(f"GET {place.path} HTTP/1.1\r\nHost: {place.netloc}\r\n\r\n".encode())
        assert await reader.readexactly(MIB)
        clients.append((reader, writer))
    file = await cache.open(source)
    assert await file.read(10)
    return clients


async def read_all(cache: CacheManager, source: str) -> None:
    """Read a stream that will not come to its end; the cache is closed before."""
    response = await cache.create_stream(source).request()
    with pytest.raises(ClosedError):
        await response.read()


async def to_the_cut(reader: asyncio.StreamReader) -> bytes:
    """Read what there is until the connection is gone."""
    got = b""
    try:
        while piece := await reader.read(MIB):
            got += piece
    except ConnectionError:
        pass
    return got


@pytest.mark.asyncio
async def test_managers_of_one_process_do_not_touch_each_other(
    tmp_path: Path, origin: Origin
) -> None:
    """Each has its server and its directory; the end of one is not the other's."""
    content = pattern("two", 3 * MIB)
    origin.add("/two.bin", content)
    source = origin.url("/two.bin")
    async with CacheManager(cache_dir=tmp_path / "b", min_free=0) as second:
        async with CacheManager(cache_dir=tmp_path / "a", min_free=0) as first:
            assert first.base_url != second.base_url
            url = first.get_cache_url(source)
            assert await asyncio.to_thread(ask, url, Span(0, 3 * MIB)) == content.bytes()
            assert await second.get_cache_record(source) is None
        url = second.get_cache_url(source)
        assert await asyncio.to_thread(ask, url, Span(0, 3 * MIB)) == content.bytes()
        assert origin.bytes_sent() == 6 * MIB


@pytest.mark.asyncio
async def test_managers_may_share_a_directory(tmp_path: Path, origin: Origin) -> None:
    """Two at once on one directory give right bytes, and what is complete serves both."""
    content = pattern("shared", 20 * MIB)
    origin.add("/shared.bin", content, rate=40.0 * MIB)
    source = origin.url("/shared.bin")
    where: dict[str, Any] = {"cache_dir": tmp_path / "shared", "min_free": 0}
    async with CacheManager(**where) as first, CacheManager(**where) as second:
        whole = Span(0, 20 * MIB)
        urls = (first.get_cache_url(source), second.get_cache_url(source))
        for got in await asyncio.gather(*(asyncio.to_thread(ask, url, whole) for url in urls)):
            assert got == content.bytes()
    origin.reset_log()
    async with CacheManager(**where) as third:
        url = third.get_cache_url(source)
        assert await asyncio.to_thread(ask, url, whole) == content.bytes()
    assert origin.count() == 0
