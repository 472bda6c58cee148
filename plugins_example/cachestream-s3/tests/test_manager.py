"""A whole run: players, a cache, the bucket, and an origin that misbehaves."""

from __future__ import annotations

import asyncio

import attrs
import obstore
import pytest
from cachestream import CacheManager, Plugin
from cachestream.abc import Key
from cachestream.core.representation import Representation
from cachestream.testing import Origin, pattern

from cachestream_s3 import S3Store
from cachestream_s3._heads import EntryHead, Head, hashed, new_entry_id
from places import KIB, MIB, PATIENCE_S, S3Place


async def play(cache, source):
    """Read a source through a stream."""
    stream = cache.create_stream(source)
    got = bytearray()
    async with asyncio.timeout(PATIENCE_S), await stream.request() as answer:
        async for piece in answer:
            got += piece
    stream.release()
    return bytes(got)


@pytest.mark.asyncio
async def test_a_manager_plays_from_an_origin_that_breaks_off(any_place):
    """What was played comes whole and right, and plays again without the origin."""
    data = pattern("s3", 2 * MIB + 17).bytes()
    async with Origin() as origin:
        origin.add("/a.mp4", data, drop_after=300_000, drop_times=2)
        source = origin.url("/a.mp4")
        async with any_place.store() as store, CacheManager(store=store) as cache:
            assert await play(cache, source) == data
        asked = origin.count("/a.mp4")
        assert asked > 1
        async with any_place.store() as store:
            (record,) = await store.records()
            assert record.complete
            async with CacheManager(store=store, offline=True) as cache:
                assert await play(cache, source) == data
        assert origin.count("/a.mp4") == asked


@pytest.mark.asyncio
async def test_a_manager_finds_the_store_by_its_name(place):
    """Installed, the store is made of options as a configuration says them."""
    data = pattern("by name", 300 * KIB).bytes()
    named = {
        name: value for name, value in attrs.asdict(place.options).items() if value is not None
    }
    async with Origin() as origin:
        origin.add("/a.mp4", data)
        source = origin.url("/a.mp4")
        async with CacheManager(store=Plugin("s3", **named), max_size=10 * MIB) as cache:
            assert await play(cache, source) == data
        asked = origin.count("/a.mp4")
        async with CacheManager(store=Plugin("s3", **named), offline=True) as cache:
            assert await play(cache, source) == data
        assert origin.count("/a.mp4") == asked
    assert place.names("data")


@pytest.mark.asyncio
async def test_a_manager_mends_what_is_damaged(place):
    """Bytes that changed in the bucket are fetched again, and nobody is given wrong ones."""
    data = pattern("s3", MIB).bytes()
    async with Origin() as origin:
        origin.add("/a.mp4", data)
        source = origin.url("/a.mp4")
        async with place.store() as store, CacheManager(store=store) as cache:
            assert await play(cache, source) == data
            (record,) = await store.records()
        place.raw(record.entry_id).corrupt(500_000)
        before = origin.bytes_sent("/a.mp4")
        async with place.store() as store, CacheManager(store=store) as cache:
            assert await play(cache, source) == data
        assert 0 < origin.bytes_sent("/a.mp4") - before <= 256 * KIB


@pytest.mark.asyncio
async def test_two_managers_on_one_bucket_share_what_is_stored(any_place):
    """What one node has played, the other one serves without the origin, and both go on."""
    first, second = (pattern(name, MIB + 1).bytes() for name in ("one", "two"))
    async with Origin() as origin:
        origin.add("/1.mp4", first)
        origin.add("/2.mp4", second)
        async with (
            any_place.node() as here,
            any_place.node() as there,
            CacheManager(store=here) as one,
            CacheManager(store=there) as two,
        ):
            assert await play(one, origin.url("/1.mp4")) == first
            asked = origin.count("/1.mp4")
            await settled(here, origin.url("/1.mp4"))
            assert await play(two, origin.url("/1.mp4")) == first
            assert origin.count("/1.mp4") == asked
            got = await asyncio.gather(
                play(one, origin.url("/2.mp4")), play(two, origin.url("/2.mp4"))
            )
            assert got == [second, second]


async def settled(store, source):
    """Wait until all of a source is named by its head."""
    async with asyncio.timeout(PATIENCE_S):
        while True:
            records = [each for each in await store.records() if each.source == source]
            if records and records[0].complete:
                return
            await asyncio.sleep(0.05)


@pytest.mark.asyncio
async def test_more_records_than_a_page_of_the_service_are_all_found(place):
    """Pages of ours and of the service follow each other without gap or repetition."""
    count = 130  # the service gives 50 names at a time
    entries = []
    for number in range(count):
        key = Key(f"https://example.com/{number}")
        entry = EntryHead(
            entry_id=new_entry_id(key, 1000.0 + number),
            source=key,
            representation=Representation(complete_length=1),
            created=1000.0,
            accessed=1000.0 + number,
        )
        entries.append((key, entry))
    limit = asyncio.Semaphore(8)

    async def plant(key, entry):
        name = f"heads/{hashed(key)}/{1:012x}"
        async with limit:
            await obstore.put_async(place.door, name, Head(key=key, entries=(entry,)).to_json())

    await asyncio.gather(*(plant(*each) for each in entries))
    async with place.store() as store:
        found = []
        while page := await store.records(after=found[-1] if found else None, limit=70):
            assert len(page) <= 70
            found += [record.entry_id for record in page]
        assert found == sorted(entry.entry_id for _, entry in entries)
        oldest = await store.records(order="accessed", limit=3)
        assert [record.source[-2:] for record in oldest] == ["/0", "/1", "/2"]
        assert (await store.usage()).entries == count


@pytest.mark.asyncio
async def test_a_scratch_place_is_left_empty(place):
    """What an examination stored is removed wholly, and nothing beside it."""
    async with Origin() as origin, place.store() as store:
        origin.add("/a.mp4", pattern("scratch", 300 * KIB).bytes())
        async with CacheManager(store=store) as cache:
            await play(cache, origin.url("/a.mp4"))
    beside = S3Place(attrs.evolve(place.options, prefix="some/where-else"))
    beside.put("kept", b"kept")
    assert place.names()
    await S3Store.remove_scratch(attrs.asdict(place.options))
    assert place.names() == []
    assert beside.names() == ["kept"]
