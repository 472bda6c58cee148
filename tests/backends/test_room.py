"""Limits of the disk store: blocks that count, entries that give way, room left to others."""

import os
import time

import pytest

from cachestream.core.spans import Span
from cachestream.errors import EntryNotFoundError, StoreFullError

KIB = 1024
MIB = 1024 * KIB


class FakeDisk:
    """Says how much room is free."""

    def __init__(self, monkeypatch, free):
        self.free = free
        monkeypatch.setattr(os, "fstatvfs", self)

    def __call__(self, descriptor):
        return self

    f_frsize = 1

    @property
    def f_bavail(self):
        return self.free


def blocks(shelf):
    """Return how much room the data files take."""
    return sum(path.stat().st_blocks * 512 for path in (shelf.root / "data").iterdir())


@pytest.mark.asyncio
async def test_usage_is_what_the_files_take(shelf):
    """Holes do not count, whatever the length of an entry is."""
    store = shelf.store()
    entry = await shelf.create(store, 1 << 40)
    entry.writer(1 << 30).write(shelf.data(100_000))
    usage = await store.usage()
    assert usage.allocated_bytes == blocks(shelf)
    assert 100_000 <= usage.allocated_bytes <= 120_000


@pytest.mark.asyncio
async def test_files_of_evicted_entries_are_gone(shelf):
    """An evicted entry is in neither the index nor the directory, and its room is free."""
    store = shelf.store(max_size=MIB)
    ids = [await shelf.put(store, shelf.data(300 * KIB), number=n) for n in range(1, 6)]
    usage = await store.usage()
    left = sorted(path.name for path in (shelf.root / "data").iterdir())
    assert left == sorted(ids[2:])
    assert usage.entries == 3
    assert usage.allocated_bytes == blocks(shelf) <= MIB
    assert usage.evicted_entries == 2
    assert usage.evicted_bytes >= 2 * 300 * KIB
    with pytest.raises(EntryNotFoundError):
        await store.open(ids[0])


@pytest.mark.asyncio
async def test_an_entry_that_another_process_reads_is_not_evicted(shelf):
    """Whoever has it open keeps it from giving way."""
    store, other = shelf.store(max_size=MIB), shelf.store()
    reading = await shelf.put(store, shelf.data(300 * KIB), number=1)
    entry = await other.open(reading)
    for number in range(2, 6):
        await shelf.put(store, shelf.data(300 * KIB), number=number)
    assert await entry.read(Span(0, 300 * KIB)) == shelf.data(300 * KIB)
    assert (shelf.root / "data" / reading).exists()
    assert await store.open(reading)


@pytest.mark.asyncio
async def test_a_use_that_the_index_does_not_know_yet_counts(shelf):
    """An entry that was just touched does not give way though the index calls it old."""
    store = shelf.store(max_size=MIB)
    ids = [await shelf.put(store, shelf.data(300 * KIB), number=n) for n in (1, 2, 3)]
    await store.touch(ids[0])
    await shelf.put(store, shelf.data(300 * KIB), number=4)
    assert await store.open(ids[0])
    with pytest.raises(EntryNotFoundError):
        await store.open(ids[1])


@pytest.mark.asyncio
async def test_the_disk_keeps_its_minimum_of_free_room(shelf, monkeypatch):
    """When less is free, entries give way; when none can, creating and writing fail."""
    store = shelf.store(min_free=10 * MIB)
    old = await shelf.put(store, shelf.data(300 * KIB), number=1)
    disk = FakeDisk(monkeypatch, 10 * MIB - 100 * KIB)
    entry = await shelf.create(store, None, number=2)
    with pytest.raises(EntryNotFoundError):
        await store.open(old)
    with pytest.raises(StoreFullError, match="min_free"):
        await shelf.create(store, None, number=3)
    disk.free = 100 * MIB
    writer = entry.writer(0)
    writer.write(shelf.data(100))
    disk.free = 0
    store._host.room._unchecked = 16 * MIB
    with pytest.raises(StoreFullError, match="min_free"):
        writer.write(b"x")
    with pytest.raises(StoreFullError, match="min_free"):
        writer.write(b"x")
    assert list(entry.spans) == [Span(0, 100)]


@pytest.mark.asyncio
async def test_nothing_is_evicted_where_that_cannot_help(shelf, monkeypatch):
    """A disk that others have filled, or a piece beyond the limit, costs no entry."""
    store = shelf.store(min_free=10 * MIB, max_size=MIB)
    old = await shelf.put(store, shelf.data(300 * KIB), number=1)
    entry = await shelf.create(store, None, number=2)
    with pytest.raises(StoreFullError, match="max_size"):
        entry.writer(0).write(shelf.data(2 * MIB))
    disk = FakeDisk(monkeypatch, 0)
    with pytest.raises(StoreFullError, match="min_free"):
        await shelf.create(store, None, number=3)
    monkeypatch.setattr(store._host.root, "is_on_disk_of", lambda descriptor: False)
    disk.free = 10 * MIB - 1
    with pytest.raises(StoreFullError, match="min_free"):
        await shelf.create(store, None, number=4)
    assert await store.open(old)


@pytest.mark.asyncio
async def test_free_room_is_asked_for_now_and_then_only(shelf, monkeypatch):
    """Small writes do not ask the file system each time."""
    store = shelf.store(min_free=1)
    entry = await shelf.create(store, None)
    writer = entry.writer(0)
    writer.write(b"x")
    FakeDisk(monkeypatch, 0)
    for _ in range(100):
        writer.write(b"x" * 1000)
    assert entry.spans.total == 100_001


@pytest.mark.asyncio
async def test_planted_rows_do_not_raise_the_limit(shelf):
    """Rows that lead to no entry are cleared away, and give no room."""
    store = shelf.store(max_size=MIB)
    await shelf.put(store, shelf.data(100 * KIB), number=1)
    index = store._host.catalog.index

    def plant():
        with index.transaction():
            index.put(f"l:{0:016x}:{7:032x}", b"")
            index.put(f"l:{0:016x}:../../victim", b"")
            index.put(f"c:{7:032x}", (1 << 40).to_bytes(16, "big"))

    await store._host.in_index(plant)
    for number in range(2, 9):
        await shelf.put(store, shelf.data(300 * KIB), number=number)
        assert blocks(shelf) <= MIB
    assert (await store.usage()).allocated_bytes == blocks(shelf)


@pytest.mark.asyncio
@pytest.mark.slow
async def test_opening_and_evicting_do_not_depend_on_the_number_of_entries(shelf):
    """With 3000 entries, opening, a lookup and an eviction step read a few rows."""
    store = shelf.store()
    await store.usage()
    index = store._host.catalog.index

    def fill():
        from cachestream.backends._catalog import Changes
        from cachestream.backends._format import Counts, Head, Totals
        from cachestream.core.representation import Representation

        catalog = store._host.catalog
        with index.transaction():
            for number in range(3000):
                head = Head(
                    key=f"k{number}",
                    source="https://example.com/",
                    representation=Representation(),
                    created=number,
                )
                changes = Changes(
                    entry_id=f"{number:032x}", segments={}, counts=Counts(0, 4096), head=head
                )
                catalog.publish(changes, None, number, ())
                catalog.settle(changes.entry_id)
            assert catalog.totals() == Totals(3000, 3000 * 4096)

    await store._host.in_index(fill)
    await store.aclose()
    store = shelf.store(max_size=3000 * 4096)
    rows = []
    begun = time.perf_counter()
    await store.usage()
    opened = time.perf_counter() - begun
    index = store._host.catalog.index
    scan = index.scan
    index.scan = lambda *args: rows.append(scan(*args)) or rows[-1]
    await shelf.put(store, b"x", number=1)
    assert sum(map(len, rows)) <= 64
    assert (await store.usage()).entries >= 2950  # some more than needed
    assert opened < 0.5
