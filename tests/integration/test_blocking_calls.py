"""Nothing that may block runs on the event loop, but for calls that are named here and why."""

from __future__ import annotations

import inspect
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import Any, Final

import attrs
import blockbuster
import pytest

import cachestream
from cachestream.abc import UpstreamRequest
from cachestream.testing.origin import OriginThread, pattern
from cachestream.transports import HttpTransport

pytestmark = [pytest.mark.integration, pytest.mark.slow]

MIB = 1024 * 1024
PACKAGE: Final = f"{Path(cachestream.__file__).parent}/"

_ONCE: Final = "once, before anything is served"
_ROWS: Final = "some rows by their keys; a reader of the index waits for no writer"
_INODE: Final = "one call about one file that is open or was just named"
_WARM: Final = "bytes that were seen in the kernel's memory a moment ago"
_THREAD: Final = "begins or ends a thread that has nothing else to do"

ALLOWED: Final = {
    ("registry.py", "_all"): _ONCE,
    ("registry.py", "_load"): _ONCE,
    ("transports/_http.py", "__init__"): _ONCE,
    ("backends/_disk.py", "__init__"): _ONCE,
    ("backends/_index.py", "get"): _ROWS,
    ("backends/_index.py", "scan"): _ROWS,
    ("backends/_index.py", "snapshot"): _ROWS,
    ("backends/_files.py", "lock"): _INODE,
    ("backends/_files.py", "unlock"): _INODE,
    ("backends/_files.py", "create_data"): _INODE,
    ("backends/_files.py", "has_data"): _INODE,
    ("backends/_disk.py", "_create_file"): _INODE,
    ("backends/_shared.py", "measure"): _INODE,
    ("backends/_host.py", "in_io"): _THREAD,
    ("backends/_host.py", "in_index"): _THREAD,
    ("backends/_host.py", "stop"): _THREAD,
    ("frontends/_links.py", "sendfile"): _WARM,
    ("frontends/_pump.py", "_read_region"): _WARM,
    ("_engine/file.py", "materialise"): _WARM,
    ("backends/_writer.py", "_put"): "into the kernel's memory; after a slow one, a thread writes",
}
"""Functions of the package that may block the loop, and why; a line without use is an error."""

MORE: Final = (
    *("os.open", "os.pread", "os.preadv", "os.pwrite", "os.pwritev", "os.ftruncate", "os.fstat"),
    *("os.fsync", "os.fdatasync", "os.posix_fallocate", "os.posix_fadvise", "os.lseek"),
    *("os.chmod", "os.utime", "os.truncate", "fcntl.flock", "fcntl.lockf", "socket.getaddrinfo"),
    *("subprocess.Popen.wait", "threading.Event.wait", "threading.Thread.join"),
)
"""What blocks as well, beside the calls that blockbuster knows of itself."""


def _is_nowait(*arguments: Any) -> bool:
    return len(arguments) > 3 and bool(arguments[3] & os.RWF_NOWAIT)


@attrs.define(eq=False)
class Watch:
    """What was called on a running event loop."""

    seen: list[str] = attrs.field(factory=list)
    used: set[tuple[str, str]] = attrs.field(factory=set)

    def is_allowed(self, what: str) -> bool:
        """Tell whether a function in the stack is in the list; note what was not."""
        frames = list(_stack(inspect.currentframe()))
        for place in frames:
            if place in ALLOWED:
                self.used.add(place)
                return True
        if frames:  # what the test itself or pytest calls is no concern of ours
            self.seen.append(f"{what} in {' < '.join(':'.join(place) for place in frames[:6])}")
        return True


def _stack(frame: FrameType | None) -> Iterator[tuple[str, str]]:
    """Yield file and function of all frames of the package, the innermost first."""
    while frame:
        file = frame.f_code.co_filename
        if file.startswith(PACKAGE) and "/testing/" not in file:
            yield file.removeprefix(PACKAGE), frame.f_code.co_name
        frame = frame.f_back


@pytest.fixture
def watch() -> Iterator[Watch]:
    """Watch all event loops of this process; nothing is raised, so that nothing is swallowed."""
    watch = Watch()
    watcher = blockbuster.BlockBuster()
    for name in MORE:
        watcher.functions[name] = blockbuster.BlockBusterFunction(None, name)
    watcher.functions["os.preadv"].can_block_predicate = _is_nowait
    for name, function in watcher.functions.items():
        function.can_block_predicate = _noting(watch, name, function.can_block_predicate)
    watcher.activate()
    try:
        yield watch
    finally:
        watcher.deactivate()


def _noting(watch: Watch, name: str, harmless: Callable[..., bool]) -> Callable[..., bool]:
    return lambda *given, **named: harmless(*given, **named) or watch.is_allowed(name)


@pytest.fixture
def origin() -> Iterator[OriginThread]:
    """Run an origin in a thread, so that the loop is the cache's alone."""
    with OriginThread() as running:
        yield running


async def use(make_cache: Any, http: Any, origin: OriginThread) -> None:
    """Do what a cache is for: miss, hit, seek, joint reading, looking, and letting go."""
    film = pattern("film", 8 * MIB)
    origin.add("/film.bin", film)
    url = origin.url("/film.bin")
    cache = await make_cache(completion="demand")
    assert (await http(cache, url, 6 * MIB, 7 * MIB)).content == film.bytes(6 * MIB, 7 * MIB)
    for _ in range(2):
        assert (await http(cache, url)).content == film.bytes()
    assert (await http(cache, url, 100, 200)).content == film.bytes(100, 200)
    async with cache.open(url) as file:
        await file.seek(MIB)
        assert await file.read(1000) == film.bytes(MIB, MIB + 1000)
    origin.add("/other.bin", pattern("other", MIB))
    await cache.pre_cache_url(origin.url("/other.bin"))
    await cache.usage()
    await cache.aclose()


@pytest.mark.asyncio
async def test_only_what_is_named_may_block_the_loop(watch, make_cache, http, origin):
    """A cache is filled, read, opened again and emptied; each blocking call is in the list."""
    for _ in range(2):  # the second one opens what the first has left
        await use(make_cache, http, origin)
    assert not watch.seen
    once = {place for place, why in ALLOWED.items() if why == _ONCE}  # maybe before this test
    assert watch.used | once == set(ALLOWED)


@pytest.mark.asyncio
async def test_a_call_that_blocks_is_found(watch, make_cache, http, origin):
    """A transport that sleeps where it should wait is seen, and where that was."""

    class Sleepy(HttpTransport):
        async def prepare(self, request: UpstreamRequest) -> UpstreamRequest:
            time.sleep(0.001)
            return request

    origin.add("/film.bin", b"film")
    sleepy = Sleepy()
    cache = await make_cache(transport=sleepy)
    assert (await http(cache, origin.url("/film.bin"))).content == b"film"
    assert any(seen.startswith("time.sleep in _engine/") for seen in watch.seen)
    await cache.aclose()
    await sleepy.aclose()
