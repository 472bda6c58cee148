"""Times of access are known at once, and written now and then."""

import asyncio

import pytest

from cachestream.backends import _access


@pytest.mark.asyncio
async def test_a_use_is_known_before_it_is_written(shelf):
    """Records show a use at once; the index is not written for it."""
    times = iter(range(100, 10_000))
    store = shelf.store(clock=lambda: next(times))
    entry_id = await shelf.put(store, b"x")
    before = store._host.catalog.access(entry_id)
    await store.touch(entry_id)
    assert store._host.catalog.access(entry_id) == before
    (record,) = await store.select(shelf.key)
    assert record.accessed * 1e6 > before.accessed


@pytest.mark.asyncio
async def test_uses_are_written_after_a_while(shelf, monkeypatch):
    """Without anybody asking, the times reach the index in one transaction."""
    monkeypatch.setattr(_access, "_FLUSH_AFTER_S", 0.0)
    store = shelf.store()
    ids = [await shelf.put(store, b"x", number=n) for n in (1, 2)]
    done, loop, touch = asyncio.Event(), asyncio.get_running_loop(), store._host.catalog.touch
    batches = []

    def watched(times, pins):
        batches.append(set(times))
        loop.call_soon_threadsafe(done.set)
        return touch(times, pins)

    monkeypatch.setattr(store._host.catalog, "touch", watched)
    for entry_id in ids:
        await store.touch(entry_id)
    async with asyncio.timeout(10):
        await done.wait()
    assert batches == [set(ids)]


@pytest.mark.asyncio
async def test_many_uses_are_written_in_parts(shelf, monkeypatch):
    """No transaction is long because much was used, so that others need not wait for it."""
    monkeypatch.setattr(_access, "_FLUSH_AFTER_S", 0.0)
    monkeypatch.setattr(_access, "_NEXT_AFTER_S", 0.0)
    monkeypatch.setattr(_access, "_MOST", 3)
    store = shelf.store()
    await store.usage()
    done, loop, touch = asyncio.Event(), asyncio.get_running_loop(), store._host.catalog.touch
    batches = []

    def watched(times, pins):
        batches.append(list(times))
        if sum(map(len, batches)) == 7:
            loop.call_soon_threadsafe(done.set)
        return touch(times, pins)

    monkeypatch.setattr(store._host.catalog, "touch", watched)
    for number in range(7):
        await store.touch(f"{number:032x}")
    async with asyncio.timeout(10):
        await done.wait()
    assert [len(batch) for batch in batches] == [3, 3, 1]


@pytest.mark.asyncio
async def test_uses_are_written_at_the_end(shelf):
    """A store that is opened again knows the order of last use."""
    store = shelf.store()
    ids = [await shelf.put(store, b"x", number=n) for n in (1, 2, 3)]
    await store.touch(ids[0])
    await store.aclose()
    store = shelf.store()
    found = [record.entry_id for record in await store.records(order="accessed")]
    assert found == [ids[1], ids[2], ids[0]]
