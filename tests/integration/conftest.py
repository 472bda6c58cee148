"""A cache, an origin and two faces to read through: the local server, and the program's streams.

For tests with real programs there are `programs`, and `serve` as a process of its own.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import attrs
import pytest
import pytest_asyncio

from cachestream import CacheManager, Settings
from cachestream.core.fields import Fields
from cachestream.core.urls import local_path
from cachestream.errors import CacheStreamError, UpstreamStatusError
from cachestream.testing._raw_client import RawClient
from cachestream.testing.origin import Origin

PATIENCE_S = 45.0
"""How long anything may take on a machine that is busy with other things."""


@attrs.frozen(kw_only=True)
class Got:
    """What a client got.

    Attributes:
        status: The status, or the one that stands for the error.
        content: The content as far as it came.
        complete: Whether it ended as it should.
        fields: The fields of the answer, as far as the face shows them.
        error: What was raised, through a stream.
    """

    status: int
    content: bytes = b""
    complete: bool = True
    fields: Fields = attrs.field(factory=Fields)
    error: Exception | None = None


async def read_http(
    cache: CacheManager,
    source: str,
    start: int = 0,
    stop: int | None = None,
    *,
    method: str = "GET",
    fields: tuple[tuple[str, str], ...] = (),
) -> Got:
    """Read through the local server; a range is asked for unless all is wanted."""
    url = urlsplit(cache.get_cache_url(source))
    if start or stop is not None:
        last = "" if stop is None else str(stop - 1)
        fields = (("Range", f"bytes={start}-{last}"), *fields)
    target = url.path + (f"?{url.query}" if url.query else "")
    async with RawClient(f"http://{url.netloc}") as client, asyncio.timeout(PATIENCE_S):
        got = await client.ask(target, *fields, method=method, host=url.netloc)
    return Got(status=got.status, content=got.content, complete=got.complete, fields=got.fields)


async def read_stream(
    cache: CacheManager, source: str, start: int = 0, stop: int | None = None
) -> Got:
    """Read through a stream of the program's; an error becomes its status."""
    stream = cache.create_stream(source)
    content = bytearray()
    begun = None
    try:
        async with asyncio.timeout(PATIENCE_S):
            async with await stream.request(start, stop) as begun:
                async for piece in begun:
                    content += piece
    except CacheStreamError as error:
        if begun is not None:
            return Got(status=begun.status, content=bytes(content), complete=False, error=error)
        if isinstance(error, UpstreamStatusError):
            return Got(status=error.status, content=error.content, error=error)
        return Got(status=error.status_hint, error=error)
    finally:
        stream.release()
    return Got(status=begun.status, content=bytes(content), fields=begun.fields)


Read = Callable[..., Awaitable[Got]]
"""Reads ``[start, stop)`` of a source: ``await read(cache, source, start, stop)``."""

OpenCache = Callable[..., Awaitable[CacheManager]]
"""Opens a cache with some settings changed; it is closed after the test."""


@pytest.fixture(params=["http", "stream"])
def read(request) -> Read:
    """Read through either face."""
    return read_http if request.param == "http" else read_stream


@pytest.fixture
def http() -> Read:
    """Read through the local server only; method and fields may be named."""
    return read_http


@pytest_asyncio.fixture
async def origin() -> AsyncIterator[Origin]:
    """Run an origin for one test."""
    async with Origin() as running:
        yield running


@pytest_asyncio.fixture
async def open_cache(tmp_path) -> AsyncIterator[OpenCache]:
    """Open caches in the test's own directory, with short pauses between retries."""
    opened: list[CacheManager] = []
    defaults: dict[str, Any] = {
        "cache_dir": tmp_path / "cache",
        "allow_hosts": ("any",),
        "retry_delay": 0.01,
        "max_retry_delay": 0.05,
        "min_free": 0,
        "completion": "demand",
    }

    async def open_one(**changes: Any) -> CacheManager:
        more = {
            name: changes.pop(name)
            for name in ("store", "transport", "listeners", "frontend")
            if name in changes
        }
        cache = CacheManager(Settings(**{**defaults, **changes}), **more)
        await cache.start()
        opened.append(cache)
        return cache

    yield open_one
    for cache in opened:
        async with asyncio.timeout(PATIENCE_S):
            await cache.aclose()


@pytest_asyncio.fixture
async def make_cache(tmp_path: Path) -> AsyncIterator[OpenCache]:
    """Open caches as they are without settings, but for the directory."""
    async with AsyncExitStack() as stack:

        async def make(**settings: Any) -> CacheManager:
            settings = {"cache_dir": tmp_path / "cache", "min_free": 0, **settings}
            return await stack.enter_async_context(CacheManager(**settings))

        yield make


@pytest.fixture
def eventually() -> Callable[[Callable[[], object]], Awaitable[None]]:
    """Wait until something holds that nobody announces."""

    async def wait(condition: Callable[[], object]) -> None:
        async with asyncio.timeout(PATIENCE_S):
            while not condition():
                await asyncio.sleep(0.01)

    return wait


@attrs.frozen
class Done:
    """What a program that has ended left."""

    code: int | None
    out: bytes
    shown: str

    def check(self) -> bytes:
        """Return what it wrote; it must have ended well."""
        assert self.code == 0, f"exit code {self.code}: {self.shown}"
        return self.out


class Programs:
    """Starts real programs, and ends each that is still running, by its process id."""

    def __init__(self) -> None:
        self._running: list[asyncio.subprocess.Process] = []

    async def start(self, name: str, *arguments: str | Path) -> asyncio.subprocess.Process:
        """Start a program with its output piped; a test fails where there is none."""
        path = shutil.which(name)
        if path is None:
            package = "ffmpeg" if name == "ffprobe" else name
            pytest.fail(f"{name} is not installed; run: apt-get install {package}")
        process = await asyncio.create_subprocess_exec(
            path,
            *map(str, arguments),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        self._running.append(process)
        return process

    async def finish(self, process: asyncio.subprocess.Process) -> Done:
        """Wait until a program has ended."""
        async with asyncio.timeout(PATIENCE_S):
            out, shown = await process.communicate()
        return Done(process.returncode, out, shown.decode(errors="replace"))

    async def run(self, name: str, *arguments: str | Path) -> Done:
        """Run a program to its end."""
        return await self.finish(await self.start(name, *arguments))

    async def aclose(self) -> None:
        """End what is still running."""
        for process in self._running:
            if process.returncode is None:
                process.kill()
                await process.communicate()


@pytest_asyncio.fixture
async def programs() -> AsyncIterator[Programs]:
    """Start programs; none of them outlives the test."""
    started = Programs()
    try:
        yield started
    finally:
        await started.aclose()


class Server:
    """A running ``cachestream serve``."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        assert process.stdout is not None
        self.process = process
        self.base = process.stdout.readline().decode().strip()
        place = urlsplit(self.base)
        assert place.hostname is not None, "the server did not start: see serve.log"
        assert place.port is not None
        self.address = (place.hostname, place.port)

    def url(self, source: str) -> str:
        """Return the local URL of a source."""
        return self.base.rstrip("/") + local_path(source)

    def kill(self) -> None:
        """Kill it as a crash would."""
        self.process.kill()
        self.process.communicate(timeout=PATIENCE_S)

    def end(self) -> int:
        """Ask it to end, and return its exit code."""
        self.process.terminate()
        self.process.communicate(timeout=PATIENCE_S)
        return self.process.returncode

    def resident_bytes(self) -> int:
        """Return how much of its memory is in RAM."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        line = next(each for each in status.splitlines() if each.startswith("VmRSS:"))
        return int(line.split()[1]) * 1024


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Callable[..., Server]]:
    """Start servers, each a process on a free port; they share one cache."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith("CACHESTREAM_")}
    own = {
        "CACHESTREAM_CACHE_DIR": str(tmp_path / "cache"),
        "CACHESTREAM_CONFIG": "none",
        "CACHESTREAM_PLUGINS": "off",
    }
    servers: list[Server] = []

    def start(*arguments: str) -> Server:
        with open(tmp_path / "serve.log", "ab") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "cachestream", "serve", "--port", "0", *arguments],
                stdout=subprocess.PIPE,
                stderr=log,
                cwd=tmp_path,
                env={**kept, **own},
            )
        servers.append(Server(process))
        return servers[-1]

    yield start
    for server in servers:
        if server.process.returncode is None:
            server.kill()
