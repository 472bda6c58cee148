"""What a store promises about the room it takes."""

from __future__ import annotations

import pytest

from cachestream.abc import Key, Store
from cachestream.core.spans import Span
from cachestream.errors import StoreFullError
from cachestream.testing.stores._places import (
    KEY,
    SOURCE,
    Place,
    closing,
    content,
    fill,
    published,
    representation,
)

__all__ = ["LimitPromises"]

KIB = 1024
LIMIT = 512 * KIB


def key(number: int) -> Key:
    """Return one of many keys."""
    return Key(f"{SOURCE}?{number}")


async def held(store: Store) -> set[Key]:
    """Return which keys have an entry."""
    return {record.key for record in await store.records()}


class LimitPromises:
    """Promises about ``max_size``, one test each."""

    @pytest.mark.asyncio
    async def test_usage_says_how_full_the_store_is(self, place: Place) -> None:
        """Entries are the published ones; room is that of all, and the limit is told."""
        async with closing(place, max_size=LIMIT) as store:
            usage = await store.usage()
            assert (usage.entries, usage.allocated_bytes, usage.limit_bytes) == (0, 0, LIMIT)
            await published(store, content(100 * KIB))
            hidden = await store.create(key(1), SOURCE, representation(100 * KIB))
            await fill(hidden, content(100 * KIB))
            usage = await store.usage()
            assert usage.entries == 1
            assert 200 * KIB <= usage.allocated_bytes <= 300 * KIB
            await hidden.aclose()

    @pytest.mark.asyncio
    async def test_least_recently_used_entries_give_way(self, place: Place) -> None:
        """Room for a write is made from idle entries, those not used for longest first."""
        async with closing(place, max_size=LIMIT) as store:
            for number in range(4):
                await published(store, content(100 * KIB), key=key(number))
            first = (await store.select(key(0)))[0]
            await store.touch(first.entry_id)
            await published(store, content(180 * KIB), key=key(9))
            left = await held(store)
            assert {key(0), key(9)} <= left
            assert key(1) not in left
            assert (await store.usage()).allocated_bytes <= LIMIT

    @pytest.mark.asyncio
    async def test_usage_counts_what_gave_way(self, place: Place) -> None:
        """Entries that were given up for others, and the room they gave, are counted."""
        async with closing(place, max_size=LIMIT) as store:
            usage = await store.usage()
            assert (usage.evicted_entries, usage.evicted_bytes) == (0, 0)
            for number in range(8):
                await published(store, content(100 * KIB), key=key(number))
            usage = await store.usage()
            assert usage.evicted_bytes >= 300 * KIB
            assert usage.failed_commits == 0
            gone = 8 - len(await held(store))
            assert usage.evicted_entries == gone

    @pytest.mark.asyncio
    async def test_open_and_pinned_entries_do_not_give_way(self, place: Place) -> None:
        """What is open or pinned stays, though it was used least recently."""
        data = content(100 * KIB)
        async with closing(place, max_size=LIMIT) as store:
            pinned = await published(store, data, key=key(0))
            await store.touch(pinned, pinned=True)
            reading = await store.open(await published(store, data, key=key(1)))
            for number in range(2, 8):
                await published(store, data, key=key(number))
            assert {key(0), key(1)} <= await held(store)
            assert await reading.read(Span(0, len(data))) == data

    @pytest.mark.asyncio
    async def test_usage_never_exceeds_the_limit(self, place: Place) -> None:
        """Whatever is written in pieces of any size, the room taken keeps the limit."""
        async with closing(place, max_size=LIMIT) as store:
            for number in range(12):
                entry = await store.create(key(number), SOURCE, representation(None))
                writer = entry.writer(number * 1000)
                for size in (1, 4095, 70_001, 33_333, 60_000):
                    writer.write(content(size))
                    assert (await store.usage()).allocated_bytes <= LIMIT
                await entry.publish()
                await entry.aclose()
            assert len(await held(store)) >= 2

    @pytest.mark.asyncio
    async def test_when_nothing_may_give_way_the_store_is_full(self, place: Place) -> None:
        """Open entries are not evicted for others: the write raises, and reading goes on."""
        data = content(LIMIT - 64 * KIB)
        async with closing(place, max_size=LIMIT) as store:
            entry = await store.open(await published(store, data))
            other = await store.create(key(1), SOURCE, representation(None))
            with pytest.raises(StoreFullError):
                other.writer(0).write(content(128 * KIB))
            assert await entry.read(Span(0, len(data))) == data
            await entry.aclose()
            await fill(other, content(128 * KIB))

    @pytest.mark.asyncio
    async def test_a_store_without_any_room_makes_no_entry(self, place: Place) -> None:
        """With a limit of nothing, create raises StoreFullError."""
        async with closing(place, max_size=0) as store:
            with pytest.raises(StoreFullError):
                await store.create(KEY, SOURCE, representation(1))
            assert (await store.usage()).entries == 0
