"""Writing when all is well, when the disk is slow, and when it is full or broken."""

import errno
import os
import sys
import threading

import pytest

from cachestream.backends import _writer
from cachestream.core.spans import Span
from cachestream.errors import NotStoredError, StoreError, StoreFullError


class SlowDisk:
    """Lets writes in threads wait until they are allowed; keeps those on the loop fast."""

    def __init__(self, monkeypatch):
        self.gate = threading.Event()
        self.error = None
        self.pwrite = os.pwrite
        monkeypatch.setattr(os, "pwrite", self)

    def __call__(self, descriptor, data, position):
        if threading.current_thread() is not threading.main_thread():
            assert self.gate.wait(20)
            if self.error is not None:
                raise self.error
        return self.pwrite(descriptor, data, position)


@pytest.fixture
def slow(monkeypatch):
    """Return a disk on which no write in a thread ends before it is told to."""
    monkeypatch.setattr(_writer, "_LARGE", 0)
    disk = SlowDisk(monkeypatch)
    yield disk
    disk.gate.set()


@pytest.mark.asyncio
async def test_bytes_in_the_backlog_can_be_read(shelf, slow):
    """What is not in the file yet is read from memory, alone and beside bytes in the file."""
    data = shelf.data(300_000)
    entry = await shelf.create(shelf.store(), None)
    slow.gate.set()
    writer = entry.writer(0)
    writer.write(data[:100_000])
    await writer.commit()
    slow.gate.clear()
    for start in range(100_000, 300_000, 50_000):
        writer.write(data[start : start + 50_000])
    assert entry.read_nowait(Span(90_000, 210_000)) == data[90_000:210_000]
    assert await entry.read(Span(0, 300_000)) == data
    region = entry.region_nowait(Span(50_000, 300_000))
    assert (region.offset, region.length) == (50_000, 50_000)
    assert entry.region_nowait(Span(100_000, 300_000)) is None
    slow.gate.set()
    await writer.commit()
    assert entry.region_nowait(Span(50_000, 300_000)).length == 250_000


@pytest.mark.asyncio
async def test_a_backlog_past_the_mark_asks_for_a_drain(shelf, slow):
    """`write` says False when more than the high-water mark waits, and `drain` waits for it."""
    entry = await shelf.create(shelf.store(high_water=100_000), None)
    writer = entry.writer(0)
    assert writer.write(b"x" * 60_000)
    assert writer.write(b"x" * 40_000)
    assert not writer.write(b"x")
    assert writer.backlog == 100_001
    slow.gate.set()
    await writer.drain()
    assert writer.backlog <= 100_000
    await writer.commit()
    assert writer.backlog == 0


@pytest.mark.asyncio
async def test_the_mark_is_for_all_writers_of_a_store(shelf, slow):
    """Many slow writers hold no more memory than one; who has nothing waiting need not wait."""
    store = shelf.store(high_water=100_000)
    writers = [(await shelf.create(store, None)).writer(0) for _ in range(3)]
    assert writers[0].write(b"x" * 60_000)
    assert not writers[1].write(b"x" * 60_000)
    assert not writers[0].write(b"x")
    await writers[2].drain()
    slow.gate.set()
    await writers[0].drain()
    await writers[1].commit()
    await writers[0].commit()
    assert writers[2].write(b"x" * 90_000)
    await writers[2].commit()


@pytest.mark.asyncio
@pytest.mark.parametrize(("count", "kept"), [(950_000, True), (100_000, False)])
async def test_a_waiting_piece_keeps_no_large_buffer_for_few_bytes(shelf, slow, count, kept):
    """What counts as backlog is about the memory it takes."""
    entry = await shelf.create(shelf.store(), None)
    buffer = bytearray(1_000_000)
    writer = entry.writer(0)
    writer.write(memoryview(buffer)[:count])
    assert (sys.getrefcount(buffer) > 2) is kept
    slow.gate.set()
    await writer.commit()


@pytest.mark.asyncio
async def test_bytes_that_could_not_be_flushed_are_holes(shelf, slow):
    """A failing flush takes its bytes out of the spans, and is told at the next call."""
    store = shelf.store(max_size=1 << 30)
    entry = await shelf.create(store, None)
    await entry.publish()
    writer = entry.writer(0)
    writer.write(b"x" * 60_000)
    slow.error = OSError(errno.EIO, "Input/output error")
    slow.gate.set()
    with pytest.raises(StoreError):
        await writer.commit()
    assert not entry.spans
    assert (await store.usage()).allocated_bytes == 0
    with pytest.raises(StoreError):
        writer.write(b"y")
    with pytest.raises(StoreError):
        await writer.aclose()
    slow.error = None
    again = entry.writer(0)
    again.write(b"z")
    await again.aclose()
    assert entry.read_nowait(Span(0, 1)) == b"z"


@pytest.mark.asyncio
async def test_closing_waits_for_the_backlog(shelf, slow):
    """An entry that is closed with bytes in its backlog has them when it is opened again."""
    data = shelf.data(100_000)
    store = shelf.store()
    entry = await shelf.create(store, None)
    await entry.publish()
    entry.writer(0).write(data)
    slow.gate.set()
    await entry.aclose()
    again = await store.open(entry.entry_id)
    assert await again.read(Span(0, len(data))) == data


@pytest.mark.asyncio
async def test_a_slow_write_sends_the_next_ones_to_a_thread(shelf, monkeypatch):
    """After one write that took too long, writes do not hold up the loop, until they are fast."""
    times = iter([0.0, 1.0] + [2.0] * 100)
    monkeypatch.setattr(_writer.time, "perf_counter", lambda: next(times))
    entry = await shelf.create(shelf.store(), None)
    writer = entry.writer(0)
    writer.write(b"slow")
    writer.write(b"queued")
    assert writer.backlog == 6
    await writer.commit()
    writer.write(b"fast")
    assert writer.backlog == 0
    assert entry.read_nowait(Span(0, 14)) == b"slowqueuedfast"


@pytest.mark.asyncio
@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO])
async def test_a_write_that_fails_stores_nothing(shelf, monkeypatch, number):
    """A full or broken disk raises; the piece is a hole, the position stays, others are right."""
    entry = await shelf.create(shelf.store(), None)
    writer = entry.writer(0)
    writer.write(b"good")
    pwrite, calls = os.pwrite, []

    def fail(descriptor, data, position):
        calls.append(position)
        if len(calls) == 2:
            raise OSError(number, os.strerror(number))
        return pwrite(descriptor, data[:10], position)

    with monkeypatch.context() as patch:
        patch.setattr(os, "pwrite", fail)
        with pytest.raises(StoreError) as caught:
            writer.write(b"x" * 100)
    assert isinstance(caught.value, StoreFullError) is (number != errno.EIO)
    assert caught.value.hint
    assert (writer.position, list(entry.spans)) == (4, [Span(0, 4)])
    with pytest.raises(NotStoredError):
        await entry.read(Span(0, 5))
    writer.write(b"again")
    assert await entry.read(Span(0, 9)) == b"goodagain"


@pytest.mark.asyncio
async def test_a_short_write_is_gone_on_with(shelf, monkeypatch):
    """A system that writes less than it was given is given the rest."""
    pwrite = os.pwrite
    monkeypatch.setattr(os, "pwrite", lambda fd, data, position: pwrite(fd, data[:1000], position))
    data = shelf.data(10_500)
    entry = await shelf.create(shelf.store(), None)
    entry.writer(0).write(data)
    monkeypatch.undo()
    assert await entry.read(Span(0, 10_500)) == data


@pytest.mark.asyncio
@pytest.mark.parametrize("size", [1, 1000, 65_536, 300_001])
async def test_sums_do_not_depend_on_the_pieces(shelf, size):
    """Whatever the pieces and commits, after a restart all bytes pass their check."""
    data = shelf.data(700_000 if size > 1 else 3000)
    store = shelf.store()
    entry = await shelf.create(store, None)
    await entry.publish()
    writer = entry.writer(262_000)
    for start in range(0, len(data), size):
        writer.write(data[start : start + size])
        if start // size % 5 == 0:
            writer.seal_tail()
    await entry.aclose()
    await store.aclose()
    again = await shelf.store().open(entry.entry_id)
    whole = Span(262_000, 262_000 + len(data))
    assert list(again.spans) == [whole]
    assert await again.read(whole) == data
