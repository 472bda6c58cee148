"""What is read is checked once, in time, and never more than what is there."""

import errno
import os

import pytest

from cachestream.backends import _reading
from cachestream.core.spans import Span
from cachestream.errors import NotStoredError, StoreCorruptError, StoreError

MIB = 1024 * 1024


async def reopened(shelf, data, damage=()):
    """Store ``data``, damage it at rest, and return the entry of a new store."""
    store = shelf.store()
    entry_id = await shelf.put(store, data)
    await store.aclose()
    for position in damage:
        shelf.flip(shelf.root / "data" / entry_id, position)
    store = shelf.store()
    return store, await store.open(entry_id)


@pytest.mark.asyncio
async def test_a_check_is_made_once(shelf, monkeypatch):
    """After the first read, reading and sending need no sum."""
    data = shelf.data(MIB)
    _, entry = await reopened(shelf, data)
    assert await entry.read(Span(1000, 2000)) == data[1000:2000]
    checks = []
    monkeypatch.setattr(_reading, "_check", lambda *args: checks.append(args))
    assert entry.read_nowait(Span(0, 200_000)) == data[:200_000]
    assert entry.region_nowait(Span(5, MIB)).length == 256 * 1024 - 5
    assert await entry.read(Span(0, 200_000)) == data[:200_000]
    assert checks == []


@pytest.mark.asyncio
async def test_a_reader_that_goes_on_finds_the_next_bytes_checked(shelf):
    """A read in sequence checks ahead in the same job; a scattered one does not."""
    data = shelf.data(3 * MIB)
    _, entry = await reopened(shelf, data, damage=(2 * MIB + 5,))
    cell = 256 * 1024
    assert await entry.read(Span(0, cell)) == data[:cell]
    assert entry.region_nowait(Span(cell, 2 * cell)) is None
    assert await entry.read(Span(cell, 2 * cell)) == data[cell : 2 * cell]
    assert entry.region_nowait(Span(2 * cell, 2 * MIB)).length == 2 * MIB - 2 * cell
    # What failed ahead is a hole now, and no error of a read that did not want it.
    assert list(entry.spans.gaps(Span(0, 3 * MIB))) == [Span(2 * MIB, 2 * MIB + cell)]


@pytest.mark.asyncio
async def test_all_bad_extents_are_found_and_only_they(shelf):
    """`verify` returns the spans that failed, and what is left is right."""
    data = shelf.data(MIB)
    store, entry = await reopened(shelf, data, damage=(5, 600_000))
    bad = await store.verify(entry.entry_id)
    cell = 256 * 1024
    assert bad == [Span(0, cell), Span(2 * cell, 3 * cell)]
    assert list(entry.spans.gaps(Span(0, MIB))) == bad
    assert await store.verify(entry.entry_id) == []
    await entry.aclose()
    await store.aclose()
    again = await shelf.store().open(entry.entry_id)
    assert list(again.spans.gaps(Span(0, MIB))) == bad


@pytest.mark.asyncio
async def test_verify_looks_again_at_what_was_checked(shelf):
    """Damage that comes after the first read is found by `verify`, though not by reading."""
    data = shelf.data(MIB)
    store, entry = await reopened(shelf, data)
    await entry.read(Span(0, MIB))
    shelf.flip(shelf.root / "data" / entry.entry_id, 5)
    assert await store.verify(entry.entry_id) == [Span(0, 256 * 1024)]
    with pytest.raises(NotStoredError):
        await entry.read(Span(0, 10))


@pytest.mark.asyncio
async def test_verify_checks_what_is_being_written(shelf):
    """Bytes of a writer that is still open are checked with the rest, and pass."""
    store = shelf.store()
    entry = await shelf.create(store, None)
    await entry.publish()
    writer = entry.writer(10)
    writer.write(shelf.data(300_000))
    assert await store.verify(entry.entry_id) == []
    writer.write(shelf.data(1000, 1))
    assert await store.verify(entry.entry_id) == []
    shelf.flip(shelf.root / "data" / entry.entry_id, 300_500)
    bad = await store.verify(entry.entry_id)
    assert len(bad) == 1
    assert 300_500 in bad[0]


@pytest.mark.asyncio
async def test_a_file_that_was_cut_short_is_corrupt(shelf):
    """Bytes past the end of the file are bad, not zeros, and those before are kept."""
    data = shelf.data(MIB)
    _, entry = await reopened(shelf, data)
    await entry.read(Span(0, MIB))
    os.truncate(shelf.root / "data" / entry.entry_id, 600_000)
    with pytest.raises(StoreCorruptError):
        await entry.read(Span(900_000, MIB))
    assert await entry.read(Span(0, 500_000)) == data[:500_000]


@pytest.mark.asyncio
async def test_a_row_without_sums_is_not_believed(shelf):
    """Bytes that a segment claims, but has no good sum for, are a hole when they are read."""
    store = shelf.store()
    data = shelf.data(1000)
    entry_id = await shelf.put(store, data)
    index = store._host.catalog.index

    def plant():
        from cachestream.backends._format import pack_segment, segment_row

        with index.transaction():
            index.put(segment_row(entry_id, 0), pack_segment([(0, 500, 1), (400, 1000, 2)]))

    await store._host.in_index(plant)
    entry = await store.open(entry_id)
    with pytest.raises((StoreCorruptError, NotStoredError)):
        await entry.read(Span(0, 1000))
    with pytest.raises(NotStoredError):
        await entry.read(Span(0, 1000))


@pytest.mark.asyncio
async def test_cold_bytes_are_read_in_a_thread(shelf, monkeypatch):
    """Where the system says that reading would wait, `read_nowait` gives None and `read` waits."""
    data = shelf.data(1000)
    _, entry = await reopened(shelf, data)
    await entry.read(Span(0, 1000))

    def cold(*args):
        raise BlockingIOError

    monkeypatch.setattr(os, "preadv", cold)
    assert entry.read_nowait(Span(0, 100)) is None
    assert await entry.read(Span(0, 100)) == data[:100]


@pytest.mark.asyncio
async def test_a_file_system_that_cannot_say_is_read_directly(shelf, monkeypatch):
    """Without RWF_NOWAIT, as on tmpfs, bytes are read where they are asked for."""
    data = shelf.data(1000)
    _, entry = await reopened(shelf, data)
    await entry.read(Span(0, 1000))

    def unsupported(*args):
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr(os, "preadv", unsupported)
    assert entry.read_nowait(Span(0, 100)) == data[:100]
    monkeypatch.setattr(_reading, "_NOWAIT", 0)
    assert entry.read_nowait(Span(0, 100)) == data[:100]


@pytest.mark.asyncio
async def test_a_disk_that_fails_is_a_store_error(shelf, monkeypatch):
    """An error of the disk forgets nothing: the bytes may be readable the next time."""
    data = shelf.data(1000)
    _, entry = await reopened(shelf, data)

    def fail(*args):
        raise OSError(5, "Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr(os, "pread", fail)
        with pytest.raises(StoreError) as caught:
            await entry.read(Span(0, 1000))
        assert not isinstance(caught.value, StoreCorruptError)
    assert await entry.read(Span(0, 1000)) == data


@pytest.mark.asyncio
async def test_a_reader_in_another_process_forgets_for_itself_only(shelf):
    """Who may not write the entry does not change the index when it finds damage."""
    data = shelf.data(1000)
    store, entry = await reopened(shelf, data)
    other_store = shelf.store()
    other = await other_store.open(entry.entry_id)
    shelf.flip(shelf.root / "data" / entry.entry_id, 5)
    with pytest.raises(StoreCorruptError):
        await other.read(Span(0, 1000))
    await other.aclose()
    assert store._host.catalog.counts(entry.entry_id).stored == 1000


@pytest.mark.asyncio
async def test_a_partly_discarded_extent_does_not_bless_damage(shelf):
    """Bytes that failed their check before are not made good by discarding their neighbours."""
    data = shelf.data(200_000)
    _, entry = await reopened(shelf, data, damage=(150_000,))
    await entry.discard(Span(0, 100_000))
    with pytest.raises((StoreCorruptError, NotStoredError)):
        await entry.read(Span(100_000, 200_000))


@pytest.mark.asyncio
async def test_cold_bytes_are_not_sent_from_the_file(shelf, monkeypatch):
    """Where the disk would have to be waited for, a thread does that; where it can say so."""
    data = shelf.data(MIB)
    _, entry = await reopened(shelf, data)
    await entry.read(Span(0, MIB))
    asked = []

    def cold(descriptor, buffers, offset, flags=0):
        asked.append((offset, flags))
        raise BlockingIOError

    with monkeypatch.context() as patch:
        patch.setattr(os, "preadv", cold)
        assert entry.region_nowait(Span(5, 1000)) is None
        assert await entry.read(Span(5, 1000)) == data[5:1000]
    assert asked[0] == (999, os.RWF_NOWAIT)

    def mute(*args):
        raise OSError(errno.EOPNOTSUPP, "it cannot say")

    monkeypatch.setattr(os, "preadv", mute)
    assert entry.region_nowait(Span(5, 1000)).length == 995
