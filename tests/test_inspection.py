"""An inspector shows a running manager as it is, hides its secrets, and proves readiness."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import attrs
import pytest
import pytest_asyncio

from cachestream import CacheManager, Settings
from cachestream.abc import Entry, Key, Store, StoreUsage
from cachestream.backends import DiskStore, MemoryStore
from cachestream.core.representation import Representation
from cachestream.core.status import Statistics
from cachestream.errors import ServerUnavailableError, StoreError, StoreFullError
from cachestream.events import DownloadFailed, StoreFailed
from cachestream.inspection import ManagerInspector, shown_settings
from cachestream.inspection._proof import MAX_AGE_S, StoreProof
from cachestream.testing.origin import Origin, pattern

pytestmark = pytest.mark.asyncio

LENGTH = 1 << 20
SECRET = "canary"
PATIENCE_S = 45.0


class Clock:
    """A clock that stands until it is moved."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Troubled(MemoryStore):
    """A store that fails, hangs or has a bug when an entry is made, as it is told to."""

    def __init__(self) -> None:
        super().__init__()
        self.error: Exception | None = None
        self.hanging: asyncio.Event | None = None
        self.made = 0

    async def create(
        self, key: Key, source: str, representation: Representation, *, file: str | None = None
    ) -> Entry:
        self.made += 1
        if self.hanging is not None:
            self.hanging.set()
            await asyncio.Event().wait()
        if self.error is not None:
            raise self.error
        return await super().create(key, source, representation, file=file)

    async def usage(self) -> StoreUsage:
        if self.error is not None:
            raise self.error
        return await super().usage()


@pytest_asyncio.fixture
async def store() -> AsyncIterator[Troubled]:
    """Return a store that works until it is told otherwise."""
    async with Troubled() as store:
        yield store


@pytest_asyncio.fixture
async def cache(store: Troubled) -> AsyncIterator[CacheManager]:
    """Open a cache without a server."""
    settings = Settings(start_server=False, completion="demand", retry_delay=0.01)
    async with CacheManager(settings, store=store) as cache:
        yield cache


@pytest_asyncio.fixture
async def origin() -> AsyncIterator[Origin]:
    """Run an origin with a film that stalls in its middle."""
    async with Origin() as origin:
        origin.add("/film.bin", pattern("film", LENGTH)).stall(LENGTH // 2)
        yield origin


# -- what is shown --------------------------------------------------------------


async def test_it_may_be_asked_before_the_start_and_after_the_end(tmp_path: Path) -> None:
    """Nothing raises then: there are no live resources, and the last numbers stay."""
    cache = CacheManager(Settings(cache_dir=tmp_path, start_server=False))
    inspector = cache.inspector
    assert inspector.statistics() == Statistics()
    assert (inspector.resources(), inspector.failures(), await inspector.usage()) == ((), (), None)
    assert not (await inspector.readiness()).ready
    async with cache:
        assert await inspector.usage() == StoreUsage(entries=0, allocated_bytes=0)
        assert (await inspector.readiness()).ready
    assert inspector.resources() == ()
    assert await inspector.usage() is None
    assert (await inspector.readiness()).reasons == (("manager", "it is closing"),)


async def test_a_live_resource_is_shown_with_all_that_runs(
    cache: CacheManager, origin: Origin
) -> None:
    """Bytes, readers and downloads of a resource are there while it is read."""
    async with (
        cache.open(origin.url(f"/film.bin?sig={SECRET}")) as file,
        asyncio.timeout(PATIENCE_S),
    ):
        await file.read(1000)
        reading = asyncio.create_task(file.read())
        while not cache.inspector.statistics().waiting_readers:
            await asyncio.sleep(0.01)
        (shown,) = cache.inspector.resources()
        reading.cancel()
        with pytest.raises(asyncio.CancelledError):
            await reading
    assert shown.source == origin.url("/film.bin?sig=…")
    assert (shown.complete_length, shown.complete) == (LENGTH, False)
    assert shown.stored_bytes == sum(map(len, shown.spans))
    assert 0 < shown.stored_bytes <= LENGTH // 2
    (reader,) = shown.readers
    assert (reader.position, reader.stop, reader.waiting) == (shown.spans[0].stop, LENGTH, True)
    (download,) = shown.downloads
    assert download.position == download.received == shown.stored_bytes
    assert (shown.paused, shown.ephemeral, shown.error) == (False, False, None)
    assert SECRET not in repr(shown)


async def test_failures_are_kept_newest_first_and_bounded() -> None:
    """The last fifty are there, with the time, what failed and whether it is tried again."""
    clock = Clock()
    inspector = ManagerInspector(Settings(), clock=clock)
    for number in range(60):
        clock.now = float(number)
        error = StoreFullError(f"full {number}", url=f"http://a.example/?sig={SECRET}")
        inspector.note(StoreFailed(f"http://a.example/?sig={SECRET}", error))
    inspector.note(DownloadFailed("http://a.example/b", ValueError(SECRET), None))
    found = inspector.failures()
    assert len(found) == 50
    assert (found[0].kind, found[0].error, found[0].final) == ("download", "ValueError", True)
    assert (found[1].time, found[1].kind, found[1].outcome) == (
        59.0,
        "store",
        StoreFullError.outcome,
    )
    assert found[1].error.startswith("full 59")
    assert inspector.statistics() == Statistics()
    assert SECRET not in repr(found)


async def test_events_are_counted(cache: CacheManager, origin: Origin) -> None:
    """Completion and change of a resource are in the numbers."""
    served = origin.add("/long.bin", pattern("long", 8 * LENGTH))
    stream = cache.create_stream(origin.url("/long.bin"))
    async with await stream.request(0, 1000) as response:
        assert await response.read() == pattern("long", 8 * LENGTH).bytes(0, 1000)
    changed = pattern("changed", 8 * LENGTH)
    served.change(changed, etag='"v2"')
    async with await stream.request(6 * LENGTH, 6 * LENGTH + 1000) as response:
        assert await response.read() == changed.bytes(6 * LENGTH, 6 * LENGTH + 1000)
    assert cache.inspector.statistics().representation_changes == 1
    assert cache.inspector.statistics().completed_resources == 0
    await stream.download()
    assert cache.inspector.statistics().completed_resources == 1
    stream.release()


async def test_settings_are_shown_without_secrets() -> None:
    """Names of secret fields are there, their values never; the rest is as JSON has it."""
    settings = Settings(
        token=SECRET,
        proxy=f"http://me:{SECRET}@proxy.example",
        client_key=Path(SECRET),
        request_headers={"Authorization": SECRET},
        response_headers={"X-Served-By": "us"},
        on_cache_done=print,
        cache_dir=Path("/var/cache/films"),
    )
    shown = shown_settings(settings)
    text = json.dumps(shown)
    assert SECRET not in text
    assert list(shown) == [field.name for field in attrs.fields(Settings)]
    assert (shown["token"], shown["ca_file"]) == ("(hidden)", None)
    assert shown["request_headers"] == {"Authorization": "(hidden)"}
    assert shown["response_headers"] == {"X-Served-By": "us"}
    assert shown["on_cache_done"] == "print"
    assert shown["cache_dir"] == "/var/cache/films"
    assert shown["allow_hosts"] == []
    assert ManagerInspector(settings).settings() == shown


async def test_a_store_that_fails_to_say_is_no_error(cache: CacheManager, store: Troubled) -> None:
    """Whoever watches a broken store learns that it is broken, and gets no exception."""
    assert await cache.inspector.usage() is not None
    store.error = StoreError("the disk is gone")
    assert await cache.inspector.usage() is None


# -- readiness ------------------------------------------------------------------


def proof_of(clock: Clock, limit: float = PATIENCE_S) -> StoreProof:
    return StoreProof(clock, limit)


async def test_the_proof_leaves_nothing_in_the_store(tmp_path: Path) -> None:
    """Asking for readiness makes no entry, takes no room and leaves no file."""
    async with DiskStore(tmp_path / "cache") as store:
        async with CacheManager(Settings(start_server=False), store=store) as cache:
            before = sorted(path.name for path in (tmp_path / "cache").rglob("*") if path.is_file())
            assert (await cache.inspector.readiness()).ready
        assert await store.records() == ()
        assert await store.usage() == StoreUsage(entries=0, allocated_bytes=0)
        left = sorted(path.name for path in (tmp_path / "cache").rglob("*") if path.is_file())
        assert left == before


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (StoreFullError("the store may take 7 bytes and is full"), "7 bytes"),
        (RuntimeError(SECRET), "it failed unexpectedly: RuntimeError"),
    ],
)
async def test_a_store_that_takes_nothing_is_a_reason(
    cache: CacheManager, store: Troubled, error: Exception, reason: str
) -> None:
    """What the store says is the reason; what a bug says may be a secret, so its kind is."""
    store.error = error
    ((part, text),) = (await cache.inspector.readiness()).reasons
    assert part == "store"
    assert reason in text
    assert SECRET not in text


async def test_a_store_that_hangs_is_given_up(cache: CacheManager, store: Troubled) -> None:
    """A check has a limit, whatever the store does; afterwards it may be ready again."""
    clock = Clock()
    proof = proof_of(clock, limit=0.01)
    store.hanging = asyncio.Event()
    context: Any = cache.handler.context  # type: ignore[attr-defined]
    assert await proof.check(context) == "it took no byte within 0.01 s"
    store.hanging = None
    clock.now += MAX_AGE_S
    patient = proof_of(clock)
    assert await patient.check(context) is None


async def test_many_who_ask_wait_for_one_proof(cache: CacheManager, store: Troubled) -> None:
    """A crowd of probes does not make the store work, nor does one that asks again at once."""
    clock = Clock()
    proof = proof_of(clock)
    context: Any = cache.handler.context  # type: ignore[attr-defined]
    assert await asyncio.gather(*(proof.check(context) for _ in range(20))) == [None] * 20
    assert await proof.check(context) is None
    assert store.made == 1
    clock.now += MAX_AGE_S
    assert await proof.check(context) is None
    assert store.made == 2


async def test_who_leaves_takes_the_proof_from_nobody(cache: CacheManager, store: Troubled) -> None:
    """A probe that gives up waiting does not cancel what others wait for."""
    context: Any = cache.handler.context  # type: ignore[attr-defined]
    proof = proof_of(Clock())
    store.hanging = asyncio.Event()
    leaving = asyncio.create_task(proof.check(context))
    async with asyncio.timeout(PATIENCE_S):
        await store.hanging.wait()
        staying = asyncio.create_task(proof.check(context))
        leaving.cancel()
        await asyncio.wait((leaving,))
        assert not staying.done()
        proof.cancel()
        assert await staying == "the check did not end"
    assert store.made == 1


async def test_closing_does_not_wait_for_a_store_that_hangs(store: Troubled) -> None:
    """A check that is under way ends with the manager."""
    cache = CacheManager(Settings(start_server=False), store=store)
    await cache.start()
    store.hanging = asyncio.Event()
    asking = asyncio.create_task(cache.inspector.readiness())
    async with asyncio.timeout(PATIENCE_S):
        await store.hanging.wait()
        await cache.aclose()
        assert not (await asking).ready


async def test_a_server_that_does_not_listen_is_a_reason(cache: CacheManager) -> None:
    """What the frontend says is the reason; one that says nothing is given up."""
    inspector: Any = cache.inspector

    async def gone() -> None:
        raise ServerUnavailableError("another program has the port now")

    inspector.attach_server(gone)
    assert (await inspector.readiness()).reasons == (
        ("server", "another program has the port now"),
    )


async def test_a_listener_that_is_gone_is_opened_anew(tmp_path: Path) -> None:
    """Asking for readiness repairs what can be repaired."""
    async with CacheManager(Settings(cache_dir=tmp_path)) as cache:
        frontend: Any = cache._frontend
        frontend._stop_listening()
        assert (await cache.inspector.readiness()).ready
        assert not await cache.ensure_active()  # there was nothing left to do


async def test_a_closed_store_is_a_reason(tmp_path: Path) -> None:
    """A store that its owner closed under the manager is told."""
    store: Store = DiskStore(tmp_path)
    async with CacheManager(Settings(start_server=False), store=store) as cache:
        await store.aclose()
        ((part, text),) = (await cache.inspector.readiness()).reasons
        assert (part, text) == ("store", "this store is closed")
