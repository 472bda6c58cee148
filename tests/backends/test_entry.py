"""Handles of the disk store under cancellation and at odd moments."""

import asyncio
import os

import pytest

from cachestream.core.spans import Span
from cachestream.errors import EntryNotFoundError, StoreConflictError


@pytest.mark.asyncio
async def test_a_cancelled_publish_is_made_or_not(shelf):
    """Whoever gives up waiting, the entry is published once, and closing keeps it."""
    store = shelf.store()
    entry = await shelf.create(store, 3)
    entry.writer(0).write(b"abc")
    task = asyncio.ensure_future(entry.publish())
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await store.usage()
    await entry.aclose()
    again = await store.open(entry.entry_id)
    assert await again.read(Span(0, 3)) == b"abc"


@pytest.mark.asyncio
async def test_bytes_written_while_publishing_are_not_lost(shelf):
    """What comes between the start and the end of publishing is committed as well."""
    data = shelf.data(200_000)
    store = shelf.store()
    entry = await shelf.create(store, None)
    writer = entry.writer(0)
    writer.write(data[:100_000])
    task = asyncio.ensure_future(entry.publish())
    await asyncio.sleep(0)
    writer.write(data[100_000:])
    await writer.commit()
    await task
    await writer.commit()
    await store.abandon()
    again = await shelf.store().open(entry.entry_id)
    assert await again.read(Span(0, 200_000)) == data


@pytest.mark.asyncio
async def test_cancelled_openings_leave_nothing_open(shelf):
    """An opening that is given up closes its file; the entry opens and is writable after."""
    store = shelf.store()
    entry_id = await shelf.put(store, b"abc")
    await store.select(shelf.key)
    before = len(os.listdir("/proc/self/fd"))
    for turns in range(4):
        task = asyncio.ensure_future(store.open(entry_id))
        for _ in range(turns):
            await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    await store.usage()
    entries = await asyncio.gather(*(store.open(entry_id) for _ in range(5)))
    assert all(entry.writable for entry in entries)
    for entry in entries:
        await entry.aclose()
    assert len(os.listdir("/proc/self/fd")) == before


@pytest.mark.asyncio
async def test_an_entry_that_lost_against_a_rival_can_be_published_when_it_is_gone(shelf):
    """After a conflict nothing of the entry is lost: it is complete when it is published."""
    data = shelf.data(100_000)
    store = shelf.store()
    rival, entry = await shelf.create(store, 0), await shelf.create(store, len(data))
    entry.writer(0).write(data)
    await rival.publish()
    with pytest.raises(StoreConflictError):
        await entry.publish()
    await store.delete(rival.entry_id)
    await entry.publish()
    await entry.aclose()
    again = await store.open(entry.entry_id)
    assert await again.read(Span(0, len(data))) == data


@pytest.mark.asyncio
async def test_a_data_file_that_is_gone_is_not_found(shelf):
    """An entry whose file was removed, or replaced by a link, is dropped from the index."""
    store = shelf.store()
    for number in (1, 2):
        entry_id = await shelf.put(store, b"abc", number=number)
        path = shelf.root / "data" / entry_id
        path.unlink()
        if number == 2:
            path.symlink_to("/etc/hostname")
        with pytest.raises(EntryNotFoundError):
            await store.open(entry_id)
    assert (await store.usage()).entries == 0
