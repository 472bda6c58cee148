"""Nodes that share a bucket lose nothing of each other, and mix nothing up."""

from __future__ import annotations

import asyncio

import obstore
import pytest
from cachestream.abc import Key
from cachestream.core.representation import Representation
from cachestream.core.spans import Span
from cachestream.errors import (
    EntryNotFoundError,
    NotStoredError,
    StoreConflictError,
    StoreCorruptError,
    StoreError,
)

from cachestream_s3._bucket import ConflictError
from places import KEY, KIB, PATIENCE_S, SOURCE, content, put


@pytest.mark.asyncio
async def test_of_two_nodes_that_publish_one_variant_the_second_is_told(any_place):
    """The first one stays, whole; the second can still read what it wrote itself."""
    async with any_place.node() as here, any_place.node() as there:
        one = await here.create(KEY, SOURCE, Representation(complete_length=3))
        two = await there.create(KEY, SOURCE, Representation(complete_length=3))
        one.writer(0).write(b"one")
        two.writer(0).write(b"two")
        await one.publish()
        with pytest.raises(StoreConflictError):
            await two.publish()
        assert await two.read(Span(0, 3)) == b"two"
        await one.aclose()
        await two.aclose()
        for node in (here, there):
            (record,) = await node.select(KEY)
            assert record.entry_id == one.entry_id
            assert record.complete
            again = await node.open(record.entry_id)
            assert await again.read(Span(0, 3)) == b"one"


@pytest.mark.asyncio
async def test_nodes_that_publish_variants_at_the_same_moment_all_succeed(fenced_place):
    """Whoever is not first reads what the others wrote, and adds to it."""
    count = 6
    nodes = [fenced_place.node() for _ in range(count)]

    async def publish(number, node):
        known = Representation(complete_length=1, selecting=(("accept-language", f"x-{number}"),))
        entry = await node.create(KEY, SOURCE, known)
        entry.writer(0).write(bytes([number]))
        await entry.publish()
        await entry.aclose()
        return entry.entry_id

    async with asyncio.timeout(PATIENCE_S):
        ids = await asyncio.gather(*map(publish, range(count), nodes))
    records = await nodes[0].select(KEY)
    assert {record.entry_id for record in records} == set(ids)
    assert all(record.complete for record in records)
    for node in nodes:
        await node.aclose()


@pytest.mark.asyncio
async def test_nodes_that_write_one_entry_keep_what_each_of_them_wrote(fenced_place):
    """Disjoint or overlapping, all bytes of both are there afterwards, and right."""
    data = content(600 * KIB)
    async with fenced_place.node() as here, fenced_place.node() as there:
        entry_id = await put(here, data[:1000], length=len(data))
        one, two = await here.open(entry_id), await there.open(entry_id)
        assert one.writable
        assert two.writable

        async def write(entry, start, stop):
            writer = entry.writer(start)
            for position in range(start, stop, 50 * KIB):
                writer.write(data[position : min(position + 50 * KIB, stop)])
                await writer.commit()
            await entry.aclose()

        async with asyncio.timeout(PATIENCE_S):
            await asyncio.gather(write(one, 1000, 400 * KIB), write(two, 300 * KIB, len(data)))
    async with fenced_place.node() as later:
        (record,) = await later.select(KEY)
        assert record.complete
        entry = await later.open(entry_id)
        assert await entry.read(Span(0, len(data))) == data


@pytest.mark.asyncio
async def test_what_another_node_adds_is_seen_after_the_next_commit(any_place):
    """An entry that is open takes over the objects of others when its head is swapped."""
    data = content(300 * KIB)
    async with any_place.node() as here, any_place.node() as there:
        entry_id = await put(here, data[: 100 * KIB], length=len(data))
        one, two = await here.open(entry_id), await there.open(entry_id)
        other = two.writer(200 * KIB)
        other.write(data[200 * KIB :])
        await other.aclose()
        mine = one.writer(100 * KIB)
        mine.write(data[100 * KIB : 200 * KIB])
        await mine.aclose()
        assert await one.read(Span(0, len(data))) == data


@pytest.mark.asyncio
async def test_what_one_node_discards_does_not_come_back_with_another_ones_commit(any_place):
    """Whoever commits later neither revives what was discarded nor loses what was added."""
    data = content(256 * KIB)
    async with any_place.node() as here, any_place.node() as there:
        entry_id = await put(here, data[: 192 * KIB], length=len(data))
        one, two = await here.open(entry_id), await there.open(entry_id)
        assert await one.discard(Span(0, 64 * KIB)) == 64 * KIB
        writer = two.writer(192 * KIB)
        writer.write(data[192 * KIB :])
        await writer.aclose()
        assert list(two.spans) == [Span(64 * KIB, 256 * KIB)]
        await one.aclose()
        await two.aclose()
        again = await here.open(entry_id)
        assert list(again.spans) == [Span(64 * KIB, 256 * KIB)]
        assert await again.read(Span(64 * KIB, 256 * KIB)) == data[64 * KIB :]


@pytest.mark.asyncio
async def test_bytes_in_use_are_not_taken_away_by_another_nodes_discard(any_place):
    """A lease here keeps bytes that were discarded there, until the next commit after it."""
    data = content(128 * KIB)
    async with any_place.node() as here, any_place.node() as there:
        entry_id = await put(here, data)
        one, two = await here.open(entry_id), await there.open(entry_id)
        with two.lease(Span(0, 10)):
            await one.discard(Span(0, 64 * KIB))
            await two.update(Representation(complete_length=len(data), status=200, ranges=True))
            assert await two.read(Span(0, 10)) == data[:10]


@pytest.mark.asyncio
async def test_a_deleted_entry_does_not_come_back_with_another_nodes_commit(any_place):
    """Who has it open goes on for itself, and the others see nothing of it."""
    async with any_place.node() as here, any_place.node() as there:
        entry_id = await put(here, b"abc", length=6)
        entry = await here.open(entry_id)
        await there.delete(entry_id)
        writer = entry.writer(3)
        writer.write(b"def")
        await writer.commit()
        assert await entry.read(Span(0, 6)) == b"abcdef"
        for node in (here, there):
            assert await node.select(KEY) == ()
            with pytest.raises(EntryNotFoundError):
                await node.open(entry_id)
        await entry.aclose()
        assert await there.select(KEY) == ()


@pytest.mark.asyncio
async def test_a_pin_that_another_node_sets_stays(any_place):
    """Neither writing nor closing an entry takes a pin off that somebody else put on."""
    async with any_place.node() as here, any_place.node() as there:
        entry_id = await put(here, b"abc", length=6)
        entry = await here.open(entry_id)
        await there.touch(entry_id, pinned=True)
        entry.writer(3).write(b"def")
        await entry.aclose()
        (record,) = await there.select(KEY)
        assert (record.pinned, record.complete) == (True, True)


@pytest.mark.asyncio
async def test_what_is_published_later_counts_whatever_the_clocks_say(any_place):
    """A node whose clock is slow supersedes what was published before all the same."""
    async with any_place.node(clock=lambda: 2000.0) as fast:
        await put(fast, b"old")
    async with any_place.node(clock=lambda: 1000.0) as slow:
        entry_id = await put(slow, b"new")
        (record,) = await slow.select(KEY)
        assert record.entry_id == entry_id
        assert record.created > 2000.0


@pytest.mark.asyncio
async def test_what_was_evicted_on_one_node_is_gone_on_the_others(any_place):
    """A limit that one node keeps removes the entries of all."""
    async with any_place.node() as other, any_place.node(max_size=200 * KIB) as store:
        first = await put(other, content(150 * KIB), key=f"{SOURCE}?1")
        await put(store, content(150 * KIB), key=f"{SOURCE}?2")
        usage = await store.usage()
        assert (usage.entries, usage.evicted_entries) == (1, 1)
        await store.aclose()
        assert await other.select(Key(f"{SOURCE}?1")) == ()
        with pytest.raises(EntryNotFoundError):
            await other.open(first)


@pytest.mark.asyncio
async def test_an_answer_that_got_lost_is_no_conflict(any_place, monkeypatch):
    """A swap that succeeded although it seemed to fail is recognised as one's own."""
    async with any_place.node() as store:
        swaps = store.catalog._swaps
        plain, lost = swaps.swap, []

        async def swap(key_hash, old, data):
            version = await plain(key_hash, old, data)
            if not lost:
                lost.append(version)
                raise ConflictError
            return version

        monkeypatch.setattr(swaps, "swap", swap)
        entry_id = await put(store, b"abc")
        assert lost
        (record,) = await store.select(KEY)
        assert (record.entry_id, record.complete) == (entry_id, True)


@pytest.mark.asyncio
async def test_a_node_that_always_loses_gives_up_with_a_reason(any_place, monkeypatch):
    """No node tries for ever, however busy a head is."""
    monkeypatch.setattr("cachestream_s3._catalog._ATTEMPTS", 3)
    async with any_place.node() as store:
        await put(store, b"abc")

        async def swap(*_):
            raise ConflictError

        monkeypatch.setattr(store.catalog._swaps, "swap", swap)
        entry = await store.create(Key("k"), SOURCE, Representation(complete_length=3))
        with pytest.raises(StoreError, match="3 times in a row"):
            await entry.publish()
        await entry.aclose()


@pytest.mark.asyncio
async def test_an_object_that_another_node_removed_is_a_hole(any_place):
    """A reader that comes too late is told, reads the rest, and never gets other bytes."""
    data = content(128 * KIB)
    async with any_place.node() as here, any_place.node(remove_after=0, read_cache=0) as there:
        entry_id = await put(here, data)
        entry = await there.open(entry_id)
        one = await here.open(entry_id)
        await one.discard(Span(0, 64 * KIB))
        names = any_place.names(f"data/{entry_id}/")
        any_place.remove(*[name for name in names if f"/{entry_id}/0-" in name])
        with pytest.raises(NotStoredError):
            await entry.read(Span(0, 64 * KIB))
        assert await entry.read(Span(64 * KIB, 128 * KIB)) == data[64 * KIB :]


@pytest.mark.asyncio
async def test_an_object_that_vanished_is_damage(any_place):
    """Where the head names it still, the bytes are told to be corrupt, and can be written."""
    data = content(128 * KIB)
    async with any_place.node() as store:
        entry_id = await put(store, data)
    name = any_place.raw(entry_id).at(0)[1]
    any_place.remove(name)
    async with any_place.node() as store:
        entry = await store.open(entry_id)
        with pytest.raises(StoreCorruptError) as caught:
            await entry.read(Span(10, 20))
        assert caught.value.span == Span(0, 64 * KIB)
        assert list(entry.spans) == [Span(64 * KIB, 128 * KIB)]
        writer = entry.writer(0)
        writer.write(data[: 64 * KIB])
        await entry.aclose()
    async with any_place.node() as store:
        entry = await store.open(entry_id)
        assert await entry.read(Span(0, len(data))) == data


@pytest.mark.asyncio
@pytest.mark.parametrize("length", [0, 100])
async def test_an_object_that_was_cut_off_is_damage(any_place, length):
    """Bytes that are missing at the end of an object are never made up."""
    data = content(64 * KIB)
    async with any_place.node() as store:
        entry_id = await put(store, data)
    name = any_place.raw(entry_id).at(0)[1]
    any_place.put(name, data[:length])
    async with any_place.node() as store:
        entry = await store.open(entry_id)
        for span in (Span(30_000, 40_000), Span(0, 10)):
            with pytest.raises((StoreCorruptError, NotStoredError)):
                await entry.read(span)
        assert not entry.spans


def test_the_services_are_what_we_take_them_for(swift_options, moto_options):
    """Swift has no If-Match on PUT, which is why moto is there; both create only once."""
    from obstore.exceptions import AlreadyExistsError, GenericError

    from places import S3Place

    for options, exact in ((swift_options, False), (moto_options, True)):
        door = S3Place(options).door
        tag = obstore.put(door, "x", b"1", mode="create")["e_tag"]
        with pytest.raises(AlreadyExistsError):
            obstore.put(door, "x", b"2", mode="create")
        if exact:
            obstore.put(door, "x", b"2", mode={"e_tag": tag})
        else:
            with pytest.raises(GenericError, match="501"):
                obstore.put(door, "x", b"2", mode={"e_tag": tag})
