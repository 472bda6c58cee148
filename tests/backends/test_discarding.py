"""Holes in the middle of entries: exact, on the disk, and never under a reader."""

import asyncio

import pytest

from cachestream.backends import _discarding
from cachestream.core.spans import Span

MIB = 1024 * 1024


@pytest.mark.asyncio
async def test_blocks_are_given_back_on_the_disk(shelf):
    """The file is smaller on the disk, and as long as before."""
    store = shelf.store()
    entry_id = await shelf.put(store, shelf.data(2 * MIB))
    path = shelf.root / "data" / entry_id
    before = path.stat()
    entry = await store.open(entry_id)
    await entry.discard(Span(10, 2 * MIB - 10))
    after = path.stat()
    assert after.st_size == before.st_size
    assert after.st_blocks * 512 <= 4 * 4096


@pytest.mark.asyncio
async def test_what_is_written_meanwhile_stays(shelf, monkeypatch):
    """Bytes that are stored anew while a hole is being made are not punched out."""
    data = shelf.data(MIB)
    store = shelf.store()
    entry = await store.open(await shelf.put(store, data))
    flush = store._host.committer.flush

    async def write_then_flush():
        entry.writer(300_000).write(data[300_000:600_000])
        await flush()

    monkeypatch.setattr(store._host.committer, "flush", write_then_flush)
    assert await entry.discard(Span(0, MIB)) == MIB
    monkeypatch.undo()
    assert list(entry.spans) == [Span(300_000, 600_000)]
    assert await entry.read(Span(300_000, 600_000)) == data[300_000:600_000]
    await entry.aclose()
    await store.aclose()
    again = await shelf.store().open(entry.entry_id)
    assert await again.read(Span(300_000, 600_000)) == data[300_000:600_000]


@pytest.mark.asyncio
async def test_the_index_forgets_before_the_disk_does(shelf, monkeypatch):
    """When a hole is made, the index no longer claims its bytes."""
    store = shelf.store()
    entry = await store.open(await shelf.put(store, shelf.data(MIB)))
    seen, punch = [], _discarding.punch

    def watched(*args):
        seen.append(store._host.catalog.counts(entry.entry_id).stored)
        return punch(*args)

    monkeypatch.setattr(_discarding, "punch", watched)
    await entry.discard(Span(0, MIB // 2))
    assert seen
    assert set(seen) == {MIB // 2}


@pytest.mark.asyncio
async def test_without_holes_the_bytes_are_forgotten_all_the_same(shelf, monkeypatch):
    """Where the file system makes no holes, the room stays taken and the span is a hole."""
    monkeypatch.setattr(_discarding, "punch", lambda *args: False)
    store = shelf.store()
    entry = await store.open(await shelf.put(store, shelf.data(MIB)))
    before = (await store.usage()).allocated_bytes
    assert await entry.discard(Span(0, MIB)) == MIB
    assert not entry.spans
    assert (await store.usage()).allocated_bytes == before


@pytest.mark.asyncio
async def test_large_holes_are_made_in_steps(shelf, monkeypatch):
    """Others get their turn between the steps of a large hole, which is whole at the end."""
    monkeypatch.setattr(_discarding, "_STEP", 100_000)
    store = shelf.store()
    entry = await store.open(await shelf.put(store, shelf.data(MIB)))
    punched, punch = [], _discarding.punch
    turns = []

    def watched(descriptor, start, stop):
        punched.append((start, stop))
        asyncio.get_running_loop().call_soon(turns.append, stop)
        assert turns == [stop for _, stop in punched[:-1]]
        return punch(descriptor, start, stop)

    monkeypatch.setattr(_discarding, "punch", watched)
    await entry.discard(Span(0, MIB))
    assert punched == [(n, min(n + 100_000, MIB)) for n in range(0, MIB, 100_000)]


@pytest.mark.asyncio
async def test_discarding_under_a_writer_keeps_its_sums_right(shelf):
    """A writer goes on after its own bytes were discarded, and all that is left passes."""
    data = shelf.data(400_000)
    store = shelf.store()
    entry = await shelf.create(store, None)
    await entry.publish()
    writer = entry.writer(0)
    writer.write(data[:100_000])
    await entry.discard(Span(50_000, 90_000))
    writer.write(data[100_000:300_000])
    await entry.discard(Span(0, 60_000))
    writer.write(data[300_000:])
    await entry.aclose()
    await store.aclose()
    again = await shelf.store().open(entry.entry_id)
    assert await again.read(Span(90_000, 400_000)) == data[90_000:]
    assert list(again.spans) == [Span(90_000, 400_000)]
