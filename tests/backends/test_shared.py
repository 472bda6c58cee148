"""An open entry lives as long as anybody needs it, and is counted once."""

import os

import pytest

from cachestream.core.spans import Span


@pytest.mark.asyncio
async def test_handles_share_one_descriptor(shelf):
    """Two handles are one open file; the last one, handle or lease, closes it."""
    store = shelf.store()
    entry_id = await shelf.put(store, shelf.data(1000))
    await store.select(shelf.key)
    before = len(os.listdir("/proc/self/fd"))
    one, two = await store.open(entry_id), await store.open(entry_id)
    await one.read(Span(0, 1000))
    opened = len(os.listdir("/proc/self/fd"))
    assert one.region_nowait(Span(0, 9)) == two.region_nowait(Span(0, 9))
    lease = two.lease(Span(0, 9))
    await one.aclose()
    await two.aclose()
    assert len(os.listdir("/proc/self/fd")) == opened
    lease.release()
    assert len(os.listdir("/proc/self/fd")) == before


@pytest.mark.asyncio
async def test_an_entry_that_is_opened_again_while_leased_is_the_same(shelf):
    """A new handle finds what is verified already, as the file was open all the time."""
    store = shelf.store()
    entry_id = await shelf.put(store, shelf.data(1000))
    entry = await store.open(entry_id)
    await entry.read(Span(0, 1000))
    lease = entry.lease(Span(0, 9))
    await entry.aclose()
    again = await store.open(entry_id)
    assert again.read_nowait(Span(0, 1000)) == shelf.data(1000)
    lease.release()
    assert again.read_nowait(Span(0, 1000)) == shelf.data(1000)


@pytest.mark.asyncio
async def test_another_process_takes_over_when_the_writer_lets_go(shelf):
    """The lock of an entry goes with its last handle, whatever is leased elsewhere."""
    one, two = shelf.store(), shelf.store()
    entry_id = await shelf.put(one, b"abc")
    first, second = await one.open(entry_id), await two.open(entry_id)
    assert (first.writable, second.writable) == (True, False)
    await first.aclose()
    await second.aclose()
    assert (await two.open(entry_id)).writable


@pytest.mark.asyncio
async def test_an_entry_deleted_by_another_process_goes_on_here(shelf):
    """Its handle reads and writes on; it does not come back, and its room is given back."""
    one, two = shelf.store(), shelf.store()
    entry_id = await shelf.put(one, shelf.data(100_000))
    entry = await one.open(entry_id)
    await two.delete(entry_id)
    assert await entry.read(Span(0, 1000)) == shelf.data(100_000)[:1000]
    writer = entry.writer(100_000)
    writer.write(b"more")
    await writer.commit()
    assert await one.select(shelf.key) == ()
    assert (await one.usage()).allocated_bytes > 0
    await entry.aclose()
    for store in (one, two):
        usage = await store.usage()
        assert (usage.entries, usage.allocated_bytes) == (0, 0)


@pytest.mark.asyncio
async def test_room_is_estimated_before_and_measured_after(shelf):
    """The estimate is never less than what a write takes, and little more."""
    store = shelf.store(max_size=1 << 30)
    entry = await shelf.create(store, None)
    shared = entry.shared
    for position, size in ((0, 1), (1, 1), (4095, 2), (100_000, 70_000), (99_000, 1000)):
        before = shared.allocated
        estimate = shared.blocks_for(Span(position, position + size))
        entry.writer(position).write(b"x" * size)
        assert shared.allocated - before <= estimate <= size + 2 * 4096
