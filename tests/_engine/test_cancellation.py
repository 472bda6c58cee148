"""Cancel a flow at each of its awaits: nothing may stay held, and the next read must be right.

A flow is run again and again and cancelled one suspension later each time, until it ends by
itself. Each suspension is tried in two ways: while the awaited thing is still under way,
and when it has just happened but the task has not seen it yet, where results get lost.
"""

from __future__ import annotations

import asyncio
import os
import random
import threading
from collections.abc import Awaitable, Callable, Coroutine, Generator
from typing import Any

import pytest

from cachestream import CacheManager, Settings
from cachestream.abc import END, RequestHead, UpstreamRequest
from cachestream.backends import DiskStore, MemoryStore
from cachestream.core.fields import Fields
from cachestream.errors import CacheStreamError, RepresentationChangedError
from cachestream.testing.simulation import SimOrigin, SimTransport, Version, simulate

SOURCE = "https://origin.example/film.mp4"
LENGTH = 150_000
CONTENT = random.Random(7).randbytes(LENGTH)
OLD = random.Random(8).randbytes(LENGTH)
TARGET = "/origin.example/film.mp4"
MOST = 400
"""No flow here has so many suspensions; if one had, it would go round in circles."""

Flow = Callable[[CacheManager], Coroutine[Any, Any, None]]


class Interrupted:
    """Awaits a coroutine, and calls ``act`` at its ``at``-th suspension.

    With ``late`` it is called when what is awaited has happened, but before the coroutine
    goes on. ``reached`` tells whether there were so many suspensions.
    """

    def __init__(
        self,
        work: Coroutine[Any, Any, Any],
        at: int,
        *,
        late: bool,
        act: Callable[[], object] | None = None,
    ) -> None:
        self.reached = False
        self._work = work
        self._left = at
        self._late = late
        self._act = act

    def __await__(self) -> Generator[Any, Any, Any]:
        step: Callable[[], Any] = lambda: self._work.send(None)  # noqa: E731
        while True:
            try:
                awaited = step()
            except StopIteration as stop:
                return stop.value
            self._left -= 1
            if self._left == 0:
                self.reached = True
                self._strike(awaited)
            try:
                yield awaited
            except BaseException as error:
                step = lambda error=error: self._work.throw(error)  # noqa: E731
            else:
                step = lambda: self._work.send(None)  # noqa: E731

    def _strike(self, awaited: Any) -> None:
        task = asyncio.current_task()
        assert task is not None
        act = self._act or task.cancel
        if self._late and awaited is not None:
            awaited.add_done_callback(lambda _: act())
        else:
            act()

    async def run(self) -> Any:
        """Await it as a coroutine."""
        return await self


# ---------------------------------------------------------------------------
# Flows: what a program and a client do
# ---------------------------------------------------------------------------


async def read_all(cache: CacheManager) -> None:
    """Read everything through a stream, in pieces."""
    stream = cache.create_stream(SOURCE)
    try:
        async with await stream.request() as response:
            tag = response.fields.get("etag")
            assert await response.read() == (OLD if tag == '"old"' else CONTENT)
    finally:
        stream.release()


async def read_end(cache: CacheManager) -> None:
    """Read the last bytes as a client of a frontend does."""
    head = RequestHead(method="GET", target=TARGET, fields=Fields.of(("Range", "bytes=-70000")))
    answer = await cache.handler.answer(head)
    try:
        assert answer.head.status == 206
        got = bytearray()
        while (piece := await answer.body.next(10_000)) is not END:
            got += piece
        assert got == CONTENT[-70_000:]
    finally:
        answer.close()


async def read_file(cache: CacheManager) -> None:
    """Read here and there through a file."""
    async with cache.open(SOURCE) as file:
        assert await file.read(1000) == CONTENT[:1000]
        await file.seek(-500, os.SEEK_END)
        assert await file.read() == CONTENT[-500:]
        await file.seek(50_000)
        assert await file.read(10) == CONTENT[50_000:50_010]


async def download(cache: CacheManager) -> None:
    """Fetch everything."""
    stream = cache.create_stream(SOURCE)
    try:
        await stream.download()
    finally:
        stream.release()


async def head(cache: CacheManager) -> None:
    """Ask for what is known."""
    stream = cache.create_stream(SOURCE)
    try:
        assert (await stream.head()).complete_length == LENGTH
    finally:
        stream.release()


async def validate(cache: CacheManager) -> None:
    """Read a part, and ask whether it is current."""
    stream = cache.create_stream(SOURCE)
    try:
        async with await stream.request(0, 1000) as response:
            await response.read()
        while await stream.validate_cache(force=True) is None:  # a download is still running
            await asyncio.sleep(0.1)
    finally:
        stream.release()


async def reset(cache: CacheManager) -> None:
    """Read a part and throw it away, with a reader in the middle of it."""
    stream = cache.create_stream(SOURCE)
    try:
        async with await stream.request() as response:
            async for _ in response:
                break
            await stream.reset_cache()
        await cache.delete(SOURCE)
    finally:
        stream.release()


async def dispose(cache: CacheManager) -> None:
    """Read a part and dispose of the stream, with a reader in the middle of it."""
    stream = cache.create_stream(SOURCE)
    try:
        async with await stream.request() as response:
            async for _ in response:
                break
            await stream.dispose(force=True)
    finally:
        stream.release()


async def verify(cache: CacheManager) -> None:
    """Read everything and check what is stored."""
    await read_all(cache)
    await cache.verify()
    await cache.usage()


FLOWS = [read_all, read_end, read_file, download, head, validate, reset, dispose, verify]


def settings(**changes: Any) -> Settings:
    """Return settings under which an unused stream is soon gone."""
    defaults: dict[str, Any] = {
        "start_server": False,
        "allow_hosts": ("any",),
        "completion": "demand",
        "read_ahead": 16_000,
        "max_read_ahead": 64_000,
        "pause_after": 0.02,
        "dispose_after": 0.05,
        "retry_delay": 0.01,
        "min_free": 0,
    }
    return Settings(**{**defaults, **changes})


def assert_alone() -> None:
    """Check that nothing runs but the test, and the tasks that it started itself."""
    left = {each.get_name() for each in asyncio.all_tasks() if "cachestream" in each.get_name()}
    assert not left


async def nothing_held(cache: CacheManager, transport: SimTransport) -> None:
    """Wait until nothing is held and nothing runs; it must not take long."""
    for _ in range(2000):
        now = cache.statistics()
        if not (now.live_resources or now.running_tasks or transport.open_responses):
            break
        await asyncio.sleep(0.02)
    now = cache.statistics()
    held = (
        now.live_resources,
        now.open_readers,
        now.waiting_readers,
        now.running_downloads,
        now.running_tasks,
        transport.open_responses,
    )
    assert held == (0, 0, 0, 0, 0, 0), f"still held: {now}"


# ---------------------------------------------------------------------------
# In virtual time, on the memory store
# ---------------------------------------------------------------------------


class Even(random.Random):
    """Chance without surprises and without waiting."""

    def random(self) -> float:
        return 0.0

    def choice(self, options: Any) -> Any:
        return options[-1]  # the largest pieces


class Stage:
    """A cache over a simulated origin, and what is left of both afterwards."""

    def __init__(
        self,
        *,
        ranges: bool = True,
        changing: bool = False,
        store: Any = None,
        chance: Any = None,
    ) -> None:
        self.changing = changing
        version = Version(OLD, '"old"') if changing else Version(CONTENT, '"new"')
        self.origin = SimOrigin([version], chance or random.Random(3), ranges=ranges)
        self.transport = SimTransport(self.origin, watch=self.note)
        self.store = MemoryStore() if store is None else store
        self.cache = CacheManager(settings(), store=self.store, transport=self.transport)

    def note(self, request: UpstreamRequest) -> None:
        """Change the content once a part of the first version has been fetched."""
        if self.changing and "if-range" in request.fields:
            self.changing = False
            self.origin.versions.append(Version(CONTENT, '"new"'))

    async def read_fresh(self) -> None:
        """Read all of the current version; who began with another one is cut, and comes again."""
        try:
            await read_all(self.cache)
        except RepresentationChangedError:
            assert len(self.origin.versions) == 2
            await read_all(self.cache)

    async def leave(self) -> None:
        """Check that a fresh read is right, and that nothing is left after the close."""
        await nothing_held(self.cache, self.transport)
        await self.read_fresh()
        await nothing_held(self.cache, self.transport)
        await self.cache.aclose()
        assert not self.cache._supervisor.tasks
        handles = getattr(self.store, "_handles", ())
        assert not handles, "an entry was left open"


async def cancelled_run(stage: Stage, flow: Awaitable[None]) -> None:
    """Run a flow in a task of its own; being cancelled is one of its right ends."""

    async def run() -> None:
        await flow

    task = asyncio.ensure_future(run())
    await asyncio.wait((task,), timeout=300)
    assert task.done(), "a cancelled flow hangs"
    if not task.cancelled():
        task.result()


@pytest.mark.parametrize("late", [False, True], ids=["under way", "arrived"])
@pytest.mark.parametrize("ranges", [True, False], ids=["ranges", "linear"])
@pytest.mark.parametrize("flow", FLOWS, ids=lambda flow: flow.__name__)
def test_a_flow_cancelled_at_any_await_leaves_nothing(flow: Flow, ranges, late):
    """Wherever a client or a program gives up, nothing stays held and nothing is spoilt."""

    async def scenario(at: int) -> bool:
        stage = Stage(ranges=ranges)
        await stage.cache.start()
        work = Interrupted(flow(stage.cache), at, late=late)
        await cancelled_run(stage, work)
        await stage.leave()
        return work.reached

    at = 1
    while simulate(lambda _, at=at: scenario(at), random.Random(at)):
        at += 1
        assert at < MOST
    assert at > 1


async def stopped_run(stage: Stage, at: int, *, late: bool) -> bool:
    """Read while each download is stopped at its ``at``-th suspension, and the client leaves."""
    await stage.cache.start()
    works: list[Interrupted] = []
    context = stage.cache._context
    background = context.background

    def stop() -> None:
        resource = stage.cache._pool.get(SOURCE)
        if resource is not None:
            resource.pause()
        client.cancel()

    def spawn(work: Coroutine[Any, Any, None], name: str) -> asyncio.Task[None]:
        if not name.startswith("download"):
            return background(work, name)
        works.append(Interrupted(work, at, late=late, act=stop))
        task = background(works[-1].run(), name)
        task.add_done_callback(lambda _: work.close())  # it may be cancelled before it began
        return task

    context.background = spawn
    client = asyncio.ensure_future(read_all(stage.cache))
    await asyncio.wait((client,), timeout=300)
    assert client.done()
    if not client.cancelled():
        error = client.exception()
        assert error is None or isinstance(error, RepresentationChangedError)
    context.background = background
    await stage.leave()
    return any(work.reached for work in works)


@pytest.mark.parametrize("late", [False, True], ids=["under way", "arrived"])
@pytest.mark.parametrize("ranges", [True, False], ids=["ranges", "linear"])
def test_a_download_stopped_at_any_await_leaves_nothing(ranges, late):
    """Wherever a download is when it is stopped, it lets go, and what it stored is right."""

    at = 1
    while simulate(
        lambda _, at=at: stopped_run(Stage(ranges=ranges), at, late=late), random.Random(at)
    ):
        at += 1
        assert at < MOST
    assert at > 1


@pytest.mark.parametrize("late", [False, True], ids=["under way", "arrived"])
def test_a_change_of_version_stopped_at_any_await_leaves_nothing(late):
    """A download stopped while it gives up one version for another lets go of both."""

    at = 1
    while simulate(
        lambda _, at=at: stopped_run(Stage(changing=True), at, late=late), random.Random(at)
    ):
        at += 1
        assert at < MOST
    assert at > 1


@pytest.mark.parametrize("late", [False, True], ids=["under way", "arrived"])
def test_a_download_that_is_cancelled_by_others_hands_its_readers_on(late):
    """A second reader is served though the first, who started the download, was cancelled."""

    async def scenario(at: int) -> bool:
        stage = Stage()
        await stage.cache.start()
        work = Interrupted(read_all(stage.cache), at, late=late)
        first = asyncio.ensure_future(work.run())
        second = asyncio.ensure_future(read_end(stage.cache))
        third = asyncio.ensure_future(read_all(stage.cache))
        await asyncio.wait((first, second, third), timeout=300)
        second.result()
        third.result()
        await stage.leave()
        return work.reached

    at = 1
    while simulate(lambda _, at=at: scenario(at), random.Random(at)):
        at += 1
        assert at < MOST


@pytest.mark.parametrize("late", [False, True], ids=["under way", "arrived"])
@pytest.mark.parametrize("busy", [False, True], ids=["idle", "busy"])
def test_a_close_cancelled_at_any_await_goes_on_and_ends(busy, late):
    """Giving up on the close does not stop it: afterwards nothing runs and nothing is held."""

    async def scenario(at: int) -> bool:
        stage = Stage()
        await stage.cache.start()
        readers = [asyncio.ensure_future(read_all(stage.cache)) for _ in range(3 * busy)]
        await asyncio.sleep(0.3)
        work = Interrupted(stage.cache.aclose(), at, late=late)
        await cancelled_run(stage, work)
        await stage.cache.aclose()
        assert not stage.cache._supervisor.tasks
        assert stage.transport.open_responses == 0
        assert not stage.store._handles
        if readers:
            await asyncio.wait(readers, timeout=300)
        for reader in readers:
            assert reader.exception() is None or isinstance(reader.exception(), CacheStreamError)
        return work.reached

    at = 1
    while simulate(lambda _, at=at: scenario(at), random.Random(at)):
        at += 1
        assert at < MOST
    assert at > 1


@pytest.mark.parametrize("late", [False, True], ids=["under way", "arrived"])
def test_a_start_cancelled_at_any_await_leaves_nothing(late):
    """A manager whose start was given up is closed."""

    async def scenario(at: int) -> bool:
        stage = Stage()
        work = Interrupted(stage.cache.start(), at, late=late)
        await cancelled_run(stage, work)
        await stage.cache.aclose()
        assert not stage.cache._supervisor.tasks
        return work.reached

    at = 1
    while simulate(lambda _, at=at: scenario(at), random.Random(at)):
        at += 1
        assert at < MOST
    assert at > 1


# ---------------------------------------------------------------------------
# In real time, on the disk store
# ---------------------------------------------------------------------------


def ours() -> list[str]:
    """Return the threads of stores that are still there."""
    return [each.name for each in threading.enumerate() if each.name.startswith("cachestream")]


def descriptors() -> int:
    """Return how many descriptors this process has open."""
    return len(os.listdir("/proc/self/fd"))


@pytest.mark.parametrize("late", [False, True], ids=["under way", "arrived"])
@pytest.mark.parametrize("flow", [read_all, download, verify], ids=lambda flow: flow.__name__)
def test_on_disk_a_flow_cancelled_at_any_await_leaves_nothing(flow: Flow, late, tmp_path):
    """With threads and files in play too, nothing stays held, and the next read is right."""

    async def scenario(at: int) -> bool:
        stage = Stage(store=DiskStore(tmp_path / str(at), min_free=0), chance=Even(3))
        await stage.cache.start()
        work = Interrupted(flow(stage.cache), at, late=late)
        await cancelled_run(stage, work)
        await stage.leave()
        await stage.store.aclose()
        return work.reached

    at = 1
    before = descriptors()
    while asyncio.run(scenario(at)):
        assert not ours()
        assert descriptors() == before
        at += 1
        assert at < MOST
    assert at > 1


@pytest.mark.parametrize("late", [False, True], ids=["under way", "arrived"])
@pytest.mark.parametrize("changing", [False, True], ids=["steady", "changing"])
def test_on_disk_a_download_stopped_at_any_await_leaves_nothing(changing, late, tmp_path):
    """Entries that are being made, written or superseded on disk are let go of as well."""

    async def scenario(at: int) -> bool:
        store = DiskStore(tmp_path / str(at), min_free=0)
        reached = await stopped_run(
            Stage(store=store, chance=Even(3), changing=changing), at, late=late
        )
        await store.aclose()
        return reached

    at = 1
    before = descriptors()
    while asyncio.run(scenario(at)):
        assert not ours()
        assert descriptors() == before
        at += 1
        assert at < MOST
    assert at > 1


@pytest.mark.parametrize("late", [False, True], ids=["under way", "arrived"])
def test_on_disk_a_manager_cancelled_while_it_opens_or_closes_leaves_nothing(late, tmp_path):
    """Neither threads nor descriptors are left of a start or close that was given up."""

    async def live(cache: CacheManager) -> None:
        try:
            await cache.start()
            await read_all(cache)
        finally:
            await cache.aclose()

    async def scenario(at: int) -> bool:
        origin = SimOrigin([Version(CONTENT, '"new"')], Even(3))
        cache = CacheManager(settings(cache_dir=tmp_path / str(at)), transport=SimTransport(origin))
        work = Interrupted(live(cache), at, late=late)
        await cancelled_run(None, work)
        await cache.aclose()
        return work.reached

    at = 1
    before = descriptors()
    while asyncio.run(scenario(at)):
        assert not ours()
        assert descriptors() == before
        at += 1
        assert at < MOST
    assert at > 1
