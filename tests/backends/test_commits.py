"""Group commit: when it comes, what it takes along, and what happens when it fails."""

import asyncio
import os

import pytest

from cachestream.backends import _commits
from cachestream.core.spans import Span
from cachestream.errors import ClosedError, StoreError


def committed(store, entry_id):
    """Return how many bytes of an entry the index knows."""
    return store._host.catalog.counts(entry_id).stored


async def writing(shelf, store, length=100_000_000, number=0):
    """Return a published entry, open, and a writer."""
    entry = await shelf.create(store, length, number=number)
    await entry.publish()
    return entry, entry.writer(0)


class Watch:
    """Tells when the index is written, and how many entries with it."""

    def __init__(self, store, monkeypatch):
        self.batches = []
        self.done = asyncio.Event()
        loop, apply = asyncio.get_running_loop(), store._host.catalog.apply

        def watched(batch):
            result = apply(batch)
            self.batches.append(len(batch))
            loop.call_soon_threadsafe(self.done.set)
            return result

        monkeypatch.setattr(store._host.catalog, "apply", watched)

    async def wait(self):
        """Wait for the next commit."""
        async with asyncio.timeout(10):
            await self.done.wait()
        self.done.clear()


@pytest.mark.asyncio
async def test_written_bytes_are_committed_after_a_moment(shelf, monkeypatch):
    """Nobody has to ask: a commit follows a write, several entries in one transaction."""
    store = shelf.store()
    one, writer = await writing(shelf, store)
    _, other = await writing(shelf, store, number=1)
    watch = Watch(store, monkeypatch)
    writer.write(b"abc")
    other.write(b"defg")
    await watch.wait()
    assert watch.batches == [2]
    assert committed(store, one.entry_id) == 3


@pytest.mark.asyncio
async def test_many_bytes_are_committed_at_once(shelf, monkeypatch):
    """After so many bytes the commit does not wait for its moment."""
    monkeypatch.setattr(_commits, "COMMIT_BYTES", 1000)
    store = shelf.store()
    entry, writer = await writing(shelf, store)
    store._host.committer._delay = 3600
    watch = Watch(store, monkeypatch)
    writer.write(b"x" * 999)
    assert store._host.committer._timer is not None
    writer.write(b"x")
    await watch.wait()
    assert committed(store, entry.entry_id) == 1000


@pytest.mark.asyncio
async def test_a_commit_during_a_round_waits_for_the_next(shelf, monkeypatch):
    """What was written while a round ran is committed when `commit` returns, too."""
    store = shelf.store()
    entry, writer = await writing(shelf, store)
    watch = Watch(store, monkeypatch)
    writer.write(b"abc")
    first = asyncio.ensure_future(writer.commit())
    await asyncio.sleep(0)
    writer.write(b"def")
    await writer.commit()
    assert committed(store, entry.entry_id) == 6
    await first
    assert len(watch.batches) == 2


@pytest.mark.asyncio
async def test_a_cancelled_commit_disturbs_nobody(shelf):
    """Who waits for the same round is served, whoever gives up."""
    store = shelf.store()
    entry, writer = await writing(shelf, store)
    writer.write(b"abc")
    tasks = [asyncio.ensure_future(writer.commit()) for _ in range(3)]
    await asyncio.sleep(0)
    tasks[0].cancel()
    await asyncio.gather(*tasks[1:])
    with pytest.raises(asyncio.CancelledError):
        await tasks[0]
    assert committed(store, entry.entry_id) == 3


@pytest.mark.asyncio
async def test_what_failed_is_committed_with_the_next(shelf, monkeypatch):
    """A commit that fails says so; its bytes stay readable, and a later commit takes them."""
    store = shelf.store()
    entry, writer = await writing(shelf, store)
    catalog = store._host.catalog
    apply = catalog.apply

    def fail(batch):
        raise StoreError("the index failed")

    monkeypatch.setattr(catalog, "apply", fail)
    writer.write(b"abc")
    with pytest.raises(StoreError, match="index failed"):
        await writer.commit()
    assert entry.read_nowait(Span(0, 3)) == b"abc"
    monkeypatch.setattr(catalog, "apply", apply)
    assert (await store.usage()).failed_commits == 1
    writer.write(b"def")
    await writer.commit()
    assert committed(store, entry.entry_id) == 6
    await entry.aclose()
    again = await store.open(entry.entry_id)
    assert await again.read(Span(0, 6)) == b"abcdef"


@pytest.mark.asyncio
async def test_only_changed_segments_are_written(shelf, monkeypatch):
    """A commit writes the rows of the segments it touches, however many the entry has."""
    store = shelf.store()
    entry = await shelf.create(store, 1 << 40)
    await entry.publish()
    for number in range(3):
        await entry.writer(number << 26).aclose()
        writer = entry.writer(number << 26)
        writer.write(b"x")
        await writer.aclose()
    index = store._host.catalog.index
    names, put = [], index.put
    monkeypatch.setattr(
        index, "put", lambda name, content: (names.append(name), put(name, content))
    )
    writer = entry.writer((1 << 26) + 1)
    writer.write(b"y")
    await writer.commit()
    assert [name[-8:] for name in names if name.startswith("s:")] == ["00000001"]


@pytest.mark.asyncio
async def test_with_power_data_is_synced_before_the_index(shelf, monkeypatch):
    """The order is: data on the disk, then the row that speaks of it."""
    store = shelf.store(durability="power")
    entry, writer = await writing(shelf, store)
    steps, sync, apply = [], os.fdatasync, store._host.catalog.apply
    monkeypatch.setattr(
        os, "fdatasync", lambda descriptor: (steps.append("sync"), sync(descriptor))[1]
    )
    monkeypatch.setattr(
        store._host.catalog, "apply", lambda batch: (steps.append("index"), apply(batch))[1]
    )
    writer.write(b"abc")
    await writer.commit()
    assert steps == ["sync", "index"]
    (level,) = store._host.catalog.index._cache._sql("PRAGMA synchronous").fetchone()
    assert level == 2
    await entry.aclose()


@pytest.mark.asyncio
async def test_who_waits_when_the_store_dies_is_told(shelf):
    """A commit that will not be made any more raises ClosedError rather than hang."""
    store = shelf.store()
    _, writer = await writing(shelf, store)
    writer.write(b"abc")
    first = asyncio.ensure_future(writer.commit())
    await asyncio.sleep(0)
    writer.write(b"def")
    second = asyncio.ensure_future(writer.commit())
    await asyncio.sleep(0)
    await store.abandon()
    await first
    with pytest.raises(ClosedError):
        await second
