"""Opening, crashing and closing: nothing is left running, nothing is left open."""

import asyncio
import os
import threading

import pytest

from cachestream.backends import DiskStore
from cachestream.backends._format import WriteMark
from cachestream.core.spans import Span
from cachestream.errors import ClosedError, ConfigurationError, StoreError


def descriptors():
    """Return how many descriptors are open."""
    return len(os.listdir("/proc/self/fd"))


def threads():
    """Return the store's threads."""
    return [thread for thread in threading.enumerate() if "cachestream" in thread.name]


@pytest.mark.asyncio
@pytest.mark.parametrize("end", ["aclose", "abandon"])
async def test_nothing_is_left_after_the_end(shelf, end):
    """No thread, descriptor, timer or task outlives the store, even if handles were left open."""
    loop = asyncio.get_running_loop()
    before = descriptors()
    store = shelf.store()
    entry_id = await shelf.put(store, shelf.data(1000))
    entry = await store.open(entry_id)
    lease = entry.lease(Span(0, 10))
    hidden = await shelf.create(store, 100, number=1)
    hidden.writer(0).write(b"x")
    entry.writer(1000).write(b"y")
    await store.touch(entry_id)
    assert threads()
    await getattr(store, end)()
    assert threads() == []
    assert descriptors() == before
    assert len(asyncio.all_tasks()) == 1
    assert [timer for timer in loop._scheduled if not timer.cancelled()] == []
    lease.release()
    await hidden.aclose()
    await entry.aclose()
    for act in (lambda: entry.read_nowait(Span(0, 1)), lambda: hidden.writer(0)):
        with pytest.raises(ClosedError):
            act()


@pytest.mark.asyncio
async def test_a_store_that_cannot_be_opened_leaves_nothing(shelf):
    """The error is told to everyone who uses the store, which can be repaired and used then."""
    before = descriptors()
    shelf.root.mkdir()
    shelf.root.chmod(0o777)
    store = shelf.store()
    results = await asyncio.gather(
        *(store.select(shelf.key) for _ in range(3)), return_exceptions=True
    )
    assert [type(result) for result in results] == [ConfigurationError] * 3
    assert threads() == []
    assert descriptors() == before
    shelf.root.chmod(0o700)
    assert await store.select(shelf.key) == ()


@pytest.mark.asyncio
async def test_cancelling_the_first_use_does_not_break_the_second(shelf):
    """Opening goes on for the others when the one who began it gives up."""
    store = shelf.store()
    first = asyncio.ensure_future(store.select(shelf.key))
    await asyncio.sleep(0)
    second = asyncio.ensure_future(store.select(shelf.key))
    await asyncio.sleep(0)
    first.cancel()
    assert await second == ()


@pytest.mark.asyncio
async def test_closing_waits_for_an_opening_that_was_given_up(shelf):
    """A store whose first use was cancelled closes all that the opening opened."""
    before = descriptors()
    store = shelf.store()
    first = asyncio.ensure_future(store.select(shelf.key))
    await asyncio.sleep(0)
    first.cancel()
    await store.aclose()
    assert threads() == []
    assert descriptors() == before


@pytest.mark.asyncio
async def test_what_a_crash_left_is_cleared_up(shelf):
    """Files of unpublished and deleted entries go, uncommitted room is counted, locks vanish."""
    store = shelf.store()
    hidden = await shelf.create(store, 1000)
    hidden.writer(0).write(shelf.data(1000))
    kept = await shelf.create(store, None, number=1)
    await kept.publish()
    writer = kept.writer(0)
    writer.write(shelf.data(1000))
    await writer.commit()
    gone = await store.open(await shelf.put(store, b"x", number=2))
    await store.delete(gone.entry_id)
    writer.write(shelf.data(500_000))
    await store.abandon()
    store = shelf.store()
    usage = await store.usage()
    (path,) = (shelf.root / "data").iterdir()
    assert path.name == kept.entry_id
    assert usage.entries == 1
    assert usage.allocated_bytes == path.stat().st_blocks * 512 > 500_000
    assert store._host.catalog.marks() == []
    assert {path.name for path in (shelf.root / "locks").iterdir()} == {"opening"}


@pytest.mark.asyncio
async def test_the_entries_of_a_living_process_are_left_alone(shelf):
    """A second store does not clear up what the first one is still writing."""
    store = shelf.store()
    entry = await shelf.create(store, 3)
    entry.writer(0).write(b"abc")
    other = shelf.store()
    assert await other.select(shelf.key) == ()
    await entry.publish()
    await entry.aclose()
    again = await other.open(entry.entry_id)
    assert await again.read(Span(0, 3)) == b"abc"


@pytest.mark.asyncio
async def test_planted_marks_remove_nothing_outside(shelf, tmp_path):
    """Marks that name files elsewhere, or no entry at all, are cleared away, and only they."""
    victim = tmp_path / "victim"
    victim.write_text("precious")
    store = shelf.store()
    await store.usage()
    index = store._host.catalog.index

    def plant():
        with index.transaction():
            index.put("w:../../victim", WriteMark(5).pack())
            index.put(f"w:{1:032x}", WriteMark(5, str(victim)).pack())
            index.put(f"w:{2:032x}", b"nonsense")
            index.put(f"w:{3:032x}", WriteMark(5).pack())

    await store._host.in_index(plant)
    await store.aclose()
    store = shelf.store()
    assert (await store.usage()).allocated_bytes == 0
    assert victim.read_text() == "precious"


@pytest.mark.asyncio
@pytest.mark.parametrize("damage", [b"garbage" * 500, b""])
async def test_a_lost_index_is_begun_anew(shelf, damage, caplog):
    """With a corrupt index the store opens, empty; its old files go when they are pruned."""
    store = shelf.store()
    entry_id = await shelf.put(store, shelf.data(1000))
    await store.aclose()
    (shelf.root / "index" / "cache.db").write_bytes(damage)
    store = shelf.store()
    assert await store.select(shelf.key) == ()
    assert (shelf.root / "data" / entry_id).exists()
    new = await shelf.put(store, b"abc")
    hidden = await shelf.create(store, 3, number=1)
    (shelf.root / "data" / "README").write_text("not ours")
    assert await store.prune_orphans() == 1
    left = {path.name for path in (shelf.root / "data").iterdir()}
    assert left == {new, hidden.entry_id, "README"}


@pytest.mark.asyncio
async def test_a_directory_that_vanishes_is_a_store_error(shelf):
    """Without its directory the store makes no entry and says why, reads on, and still closes."""
    store = shelf.store()
    entry = await shelf.create(store, 3)
    entry.writer(0).write(b"abc")
    for path in sorted(shelf.root.rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    shelf.root.rmdir()
    with pytest.raises(StoreError, match="removed files"):
        await shelf.create(store, 3, number=1)
    assert await entry.read(Span(0, 3)) == b"abc"
    await store.aclose()
    assert threads() == []
    assert await shelf.store().select(shelf.key) == ()


@pytest.mark.asyncio
async def test_a_store_that_was_never_used_closes(tmp_path):
    """Nothing is opened, and nothing made."""
    await DiskStore(tmp_path / "cache").aclose()
    assert not (tmp_path / "cache").exists()


@pytest.mark.asyncio
async def test_what_was_begun_before_a_crash_is_cleared_up(shelf):
    """An entry that the index never heard of leaves neither data nor lock behind."""
    store = shelf.store()
    hidden = await shelf.create(store, 100)
    hidden.writer(0).write(b"x")
    await store.abandon()
    assert len(list((shelf.root / "data").iterdir())) == 1
    again = shelf.store()
    await again.usage()
    assert list((shelf.root / "data").iterdir()) == []
    assert [path.name for path in (shelf.root / "locks").iterdir()] == ["opening"]
    assert (await again.usage()).allocated_bytes == 0
    await again.aclose()
