"""Seeded schedules of readers, faults and crashes; the design's invariants after every step."""

from __future__ import annotations

import asyncio
import itertools
import os
import random

import pytest

from cachestream import Settings
from cachestream._engine import download as download_module
from cachestream._engine import hosts, scheduling, sharing
from cachestream.abc import END, UpstreamRequest
from cachestream.backends import MemoryMedium, MemoryStore
from cachestream.core.fields import Fields
from cachestream.core.ranges import RangeSpec, parse_range
from cachestream.core.spans import Span, SpanSet
from cachestream.core.spreading import SpreadRules
from cachestream.errors import CacheStreamError
from cachestream.manager import CacheManager
from cachestream.testing.simulation import (
    Faults,
    SimLoop,
    SimOrigin,
    SimTransport,
    Version,
    simulate,
)

SOURCE = "https://origin.example/film.mp4"
SEEDS = int(os.environ.get("CACHESTREAM_SEEDS", "200"))
EAGER = SpreadRules(window=0.05, least_bytes=1, worth=0.01, respite=1.0, least_part=6_000)
"""Tries more connections long before it would pay, so that schedules meet them."""

FIRST = int(os.environ.get("CACHESTREAM_FIRST_SEED", "0"))


@pytest.fixture(autouse=True)
def small_constants(monkeypatch):
    """Engine constants are megabytes; a simulation meets their edges with small ones."""
    monkeypatch.setattr(download_module, "FIRST_REQUEST", 48 * 1024)
    monkeypatch.setattr(download_module, "LARGEST_REQUEST", 192 * 1024)
    monkeypatch.setattr(sharing, "LEAST_WINDOW", 40 * 1024)
    monkeypatch.setattr(sharing, "AHEAD_EACH", 16 * 1024)
    monkeypatch.setattr(sharing, "LEAST_LEAD", 1)
    monkeypatch.setattr(hosts, "LEAST_SAMPLES", 1)
    monkeypatch.setattr(hosts, "HEDGED", 0.5)
    monkeypatch.setattr(scheduling, "KEEP", 8 * 1024)
    monkeypatch.setattr(scheduling, "LEAST_WANT", 4 * 1024)


class World:
    """One seed: an origin, a store that survives crashes, and clients."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.chance = random.Random(seed)
        chance = self.chance
        self.length = chance.choice((0, 1, 5_000, 70_000, 300_000, 700_000))
        self.strong = chance.random() < 0.8
        self.origin = SimOrigin(
            [self.version(0)],
            random.Random(seed + 1),
            self.faults(),
            ranges=chance.random() < 0.8,
            tells_length=chance.random() < 0.85,
            make=self.version,
        )
        if chance.random() < 0.1:
            self.origin.fields = Fields.of(("Cache-Control", "no-store"))
        self.medium = MemoryMedium()
        self.max_size = chance.choice((None, None, None, 150_000))
        self.manager: CacheManager | None = None
        self.transport: SimTransport | None = None
        self.whole = self.cut = self.refused = 0

    def version(self, number: int) -> Version:
        content = random.Random(self.seed * 1000 + number).randbytes(self.length)
        if self.strong:
            return Version(content, f'"v{number}"')
        kind = self.chance.randrange(3)
        if kind == 0:
            return Version(content, f'W/"v{number}"')
        if kind == 1:
            return Version(content, None, 1_700_000_000.0 + number)
        return Version(content, None)

    def faults(self) -> Faults:
        def some(most: float) -> float:
            return self.chance.choice((0.0, 0.0, self.chance.random() * most))

        return Faults(
            refuse=some(0.3),
            unavailable=some(0.3),
            drop=some(0.6),
            stall=some(0.2),
            ignore_range=some(0.2),
            short=some(0.2),
            lie=some(0.2),
            spurious_416=some(0.1),
            change=some(0.05),
        )

    # -- running ----------------------------------------------------------

    async def scenario(self, loop: SimLoop) -> None:
        for _ in range(self.chance.choice((1, 2, 3))):
            await self.life(loop)

    async def life(self, loop: SimLoop) -> None:
        """Run one manager from start to close, or to a crash."""
        self.transport = SimTransport(
            self.origin, read_timeout=5.0, clock=loop.wall_clock, watch=self.check_request
        )
        store = MemoryStore(self.medium, max_size=self.max_size, clock=loop.wall_clock)
        chance = self.chance
        settings = Settings(
            start_server=False,
            completion=chance.choice(("auto", "complete", "ahead", "demand")),
            read_ahead=chance.choice((0, 10_000, 64_000)),
            max_read_ahead=128_000,
            read_ahead_budget=chance.choice((0, 100_000, 1_000_000)),
            complete_after=100_000,
            range_request_split_threshold=chance.choice(("adaptive", None, 0, 20_000)),
            max_connections=chance.choice((1, 2, 8)),
            request_timeout=20.0,
            retry_delay=0.1,
            max_retry_delay=2.0,
            pause_after=2.0,
            dispose_after=chance.choice((1.0, 8.0)),
        )
        self.manager = CacheManager(settings, store=store, transport=self.transport)
        await self.manager.start()
        self.manager._context.clock = loop.wall_clock
        if chance.random() < 0.7:
            self.manager._context.spread_rules = EAGER
        self.manager._context.chance = random.Random(self.seed + 2)
        clients = [asyncio.create_task(self.client()) for _ in range(chance.randrange(1, 7))]
        if chance.random() < 0.3:
            clients.append(asyncio.create_task(self.downloader()))
        crash = chance.random() < 0.3
        if crash:
            await asyncio.sleep(chance.random() * 10)
            store.crash()
            for client in clients:
                client.cancel()
        await asyncio.gather(*clients, return_exceptions=crash)
        if not crash:
            statistics = self.manager.statistics()
            assert statistics.open_readers == 0
            await asyncio.sleep(chance.choice((0.0, 3.0, 30.0)))
        await self.manager.aclose()
        manager, self.manager = self.manager, None
        await store.aclose()
        assert self.transport.open_responses == 0, "an exchange was left open"
        assert manager._context.ahead.granted == 0, "a reader kept its share"
        assert not manager._supervisor.tasks
        self.check_medium()

    async def downloader(self) -> None:
        """Ask for all of it, as a program does."""
        stream = self.manager.create_stream(SOURCE)
        try:
            await stream.download()
        except CacheStreamError:
            return
        finally:
            stream.release()
        entry = self.manager.get_existing_stream(SOURCE)
        if entry is not None and entry.representation is not None:
            assert entry.state.complete or self.origin.faults.change

    async def client(self) -> None:
        """Read ranges as a player does: some to their end, some not, some slowly."""
        for _ in range(self.chance.randrange(1, 5)):
            await asyncio.sleep(self.chance.random() * 3)
            reading = asyncio.create_task(self.read_one())
            try:
                if self.chance.random() < 0.2:
                    await asyncio.sleep(self.chance.random() * 2)
                    reading.cancel()
                await asyncio.wait((reading,))
            finally:
                reading.cancel()
                await asyncio.wait((reading,))
            if not reading.cancelled():
                reading.result()

    def spec(self) -> RangeSpec | None:
        kind = self.chance.randrange(4)
        if kind == 0 or self.length == 0:
            return None
        first = self.chance.randrange(self.length)
        if kind == 1:
            return RangeSpec(first, None, None)
        if kind == 2:
            return RangeSpec(None, None, self.chance.randrange(1, self.length + 1))
        return RangeSpec(first, self.chance.randrange(first, self.length), None)

    async def read_one(self) -> None:
        """Read one range and compare every byte with one version."""
        pool = self.manager._pool
        resource = pool.retain(SOURCE)
        spec = self.spec()
        limit = self.chance.choice((1_000, 16_384, 65_536))
        slow = self.chance.random() < 0.2
        patience = self.chance.choice((None, None, 3))
        try:
            reader = await pool.obtain(resource, spec)
        except CacheStreamError:
            self.refused += 1
            return
        finally:
            pool.release_resource(resource)
        start, wanted = reader.position, reader.remaining
        etag = reader.entry.representation.fields.get("etag")
        got = bytearray()
        pieces = 0
        try:
            while (piece := await reader.next(limit)) is not END:
                assert 0 < len(piece) <= limit
                got += piece
                pieces += 1
                if slow:
                    await asyncio.sleep(self.chance.random())
                if patience is not None and pieces >= patience:
                    break
            else:
                self.whole += 1
                if wanted.stop < 2**40:
                    assert len(got) == len(wanted), "a response ended cleanly but short"
                else:
                    assert len(got) == self.length - start
        except CacheStreamError:
            self.cut += 1
        finally:
            reader.close()
            self.check_bytes(start, bytes(got), etag)

    # -- the oracle -------------------------------------------------------

    def check_bytes(self, start: int, got: bytes, etag: str | None) -> None:
        """Invariant 1: every byte is of one version, the one that the head named."""
        versions = [
            version
            for version in self.origin.versions
            if version.content[start : start + len(got)] == got
        ]
        assert versions, "bytes that no version has"
        if etag is not None and got:
            assert any(version.etag == etag for version in versions), "bytes of another version"

    def check_request(self, request: UpstreamRequest) -> None:
        """Invariant 2: what is stored is not asked for again."""
        value = request.fields.get("range")
        resource = None if self.manager is None else self.manager._pool.get(SOURCE)
        if value is None or resource is None or resource.entry is None or value == "bytes=0-0":
            return
        if not resource.downloads or self.manager._pool.private:
            return  # a private twin asks, whose ring is its own
        spec = parse_range(value)[0]
        if spec.first_pos is None or spec.last_pos is None:
            return
        if "if-range" not in request.fields:
            return
        if resource.representation.strong_validator != request.fields.get("if-range"):
            return
        stored = list(resource.spans.within(Span(spec.first_pos, spec.last_pos + 1)))
        assert not stored, f"asked again for {stored}"

    def check_step(self, loop: SimLoop) -> None:
        """Leases are disjoint, and no byte of a lease is stored."""
        if self.manager is None or self.manager._pool is None:
            return
        assert loop.time() < 3600, "it takes for ever"
        for resource in self.manager._pool.resources.values():
            if resource.held is None:
                continue
            leases = sorted(
                (each.position, each.stop)
                for each in resource.downloads.values()
                if each.position < each.stop
            )
            for (_, stop), (start, _) in itertools.pairwise(leases):
                assert stop <= start, f"leases overlap: {leases}"
            if not resource.linear:
                for start, stop in leases:
                    held = list(resource.spans.within(Span(start, stop)))
                    assert not held, f"a lease covers stored bytes: {held}"

    def check_medium(self) -> None:
        """Invariant 3: what the store claims is there and right."""
        for cell in self.medium.cells.values():
            record = cell.record()
            etag = record.representation.fields.get("etag")
            spans = SpanSet(cell.spans)
            fits = [
                version
                for version in self.origin.versions
                if all(version.content[span.start : span.stop] == cell.take(span) for span in spans)
            ]
            assert fits, "an entry holds bytes of no version"
            if etag is not None and spans:
                assert any(version.etag == etag for version in fits)


@pytest.mark.parametrize("seed", range(FIRST, FIRST + SEEDS))
def test_seeded_schedules_keep_the_invariants(seed):
    """Whatever the schedule: no mixed versions, nothing fetched twice, nothing left behind."""
    world = World(seed)
    replay = (
        f"CACHESTREAM_FIRST_SEED={seed} CACHESTREAM_SEEDS=1 "
        "python -m pytest tests/simulation/test_engine.py"
    )
    try:
        simulate(world.scenario, random.Random(seed + 3), world.check_step)
    except BaseException as error:
        error.add_note(f"replay this seed with: {replay}")
        raise
