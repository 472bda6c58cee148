"""What an open `cachestream.abc.Entry` promises: reading, leases, regions, discarding."""

from __future__ import annotations

import asyncio
import os

import pytest

from cachestream.core.spans import Span
from cachestream.errors import ClosedError, NotStoredError, StoreBusyError
from cachestream.testing.stores._places import (
    KEY,
    SOURCE,
    Place,
    closing,
    content,
    fill,
    published,
    representation,
)

__all__ = ["EntryPromises"]

KIB = 1024
MIB = 1024 * KIB


class EntryPromises:
    """Promises of `Entry`, `Lease` and `FileRegion`, one test each."""

    @pytest.mark.asyncio
    async def test_an_entry_says_what_it_is(self, place: Place) -> None:
        """An entry has the key, source and representation it was made with."""
        async with closing(place) as store:
            known = representation(10, language="de")
            entry = await store.create(KEY, SOURCE, known)
            assert (entry.key, entry.source, entry.representation) == (KEY, SOURCE, known)
            assert entry.writable
            assert not entry.spans
            assert entry.entry_id.replace("-", "").replace("_", "").isalnum()

    @pytest.mark.asyncio
    async def test_spans_is_the_live_set(self, place: Place) -> None:
        """A set that was looked at before a write shows what was written."""
        async with closing(place) as store:
            entry = await store.create(KEY, SOURCE, representation(10))
            spans = entry.spans
            entry.writer(2).write(b"abc")
            assert list(spans) == [Span(2, 5)]

    @pytest.mark.asyncio
    async def test_read_nowait_of_missing_bytes_is_none(self, place: Place) -> None:
        """A span that is missing, or partly missing, gives None and no shorter bytes."""
        async with closing(place) as store:
            entry = await store.create(KEY, SOURCE, representation(100))
            entry.writer(10).write(b"0123456789")
            for span in (Span(0, 10), Span(5, 15), Span(15, 25), Span(20, 21)):
                assert entry.read_nowait(span) is None
            assert entry.read_nowait(Span(12, 15)) == b"234"

    @pytest.mark.asyncio
    async def test_a_hole_is_never_read_as_zeros(self, place: Place) -> None:
        """Reading a span with a hole raises, and says which bytes are missing first."""
        async with closing(place) as store:
            entry = await store.create(KEY, SOURCE, representation(100))
            entry.writer(10).write(b"0123456789")
            entry.writer(40).write(b"0123456789")
            with pytest.raises(NotStoredError) as caught:
                await entry.read(Span(10, 50))
            assert caught.value.span == Span(20, 40)
            assert entry.region_nowait(Span(20, 50)) is None

    @pytest.mark.asyncio
    async def test_an_empty_span_has_no_bytes(self, place: Place) -> None:
        """Asked for nothing, stored or not, an entry gives nothing, and never an empty region."""
        async with closing(place) as store:
            entry = await store.create(KEY, SOURCE, representation(100))
            await fill(entry, b"0123456789", 10)
            for position in (0, 10, 15, 20, 50):
                assert bytes(await entry.read(Span(position, position))) == b""
                assert entry.read_nowait(Span(position, position)) in (b"", None)
                assert entry.region_nowait(Span(position, position)) is None
                assert await entry.discard(Span(position, position)) == 0
                entry.lease(Span(position, position)).release()
            assert list(entry.spans) == [Span(10, 20)]

    @pytest.mark.asyncio
    async def test_readers_and_writers_use_an_entry_at_a_time(self, place: Place) -> None:
        """While two writers fill it, readers get what is there, whole and right."""
        data = content(600 * KIB)
        half = len(data) // 2

        async with closing(place) as store:
            entry = await store.create(KEY, SOURCE, representation(len(data)))

            async def write(start: int) -> None:
                writer = entry.writer(start)
                for position in range(start, start + half, 30_000):
                    stop = min(position + 30_000, start + half)
                    if not writer.write(data[position:stop]):
                        await writer.drain()
                    await asyncio.sleep(0)
                await writer.aclose()

            async def read(start: int) -> None:
                position = start
                while position < start + half:
                    stop = entry.spans.run_stop(position)
                    if stop > position:
                        assert await entry.read(Span(position, stop)) == data[position:stop]
                        position = stop
                    await asyncio.sleep(0)

            async with asyncio.timeout(60), asyncio.TaskGroup() as group:
                for start in (0, half):
                    group.create_task(write(start))
                    group.create_task(read(start))
            assert await entry.read(Span(0, len(data))) == data

    @pytest.mark.asyncio
    async def test_handles_of_one_entry_share_their_bytes(self, place: Place) -> None:
        """What one handle writes, another handle of the same store reads at once."""
        async with closing(place) as store:
            entry_id = await published(store, b"")
            one, two = await store.open(entry_id), await store.open(entry_id)
            one.writer(0).write(b"shared")
            assert two.read_nowait(Span(0, 6)) == b"shared"
            await one.aclose()
            assert await two.read(Span(0, 6)) == b"shared"

    @pytest.mark.asyncio
    async def test_handles_opened_at_a_time_share_their_bytes(self, place: Place) -> None:
        """Opened by many at once, and closed by all but one, an entry is one and stays open."""
        data = content(200_000)
        async with closing(place) as store:
            entry_id = await published(store, data[:100_000])
            handles = await asyncio.gather(*(store.open(entry_id) for _ in range(6)))
            handles[0].writer(100_000).write(data[100_000:])
            for handle in handles:
                assert await handle.read(Span(0, len(data))) == data
            await asyncio.gather(*(handle.aclose() for handle in handles[:-1]))
            last = handles[-1]
            assert await last.read(Span(0, len(data))) == data
            reopened, _ = await asyncio.gather(store.open(entry_id), last.aclose())
            assert await reopened.read(Span(0, len(data))) == data

    @pytest.mark.asyncio
    async def test_a_region_is_a_stored_prefix_in_a_file(self, place: Place) -> None:
        """A region begins at the span's start, is never empty, and its file has these bytes."""
        data = content(300 * KIB)
        async with closing(place) as store:
            entry = await store.create(KEY, SOURCE, representation(MIB))
            await fill(entry, data, 1000)
            region = entry.region_nowait(Span(5000, MIB))
            if not store.capabilities.zero_copy:
                assert region is None
                return
            assert region is not None
            assert 1 <= region.length <= 300 * KIB - 4000
            got = os.pread(region.descriptor, region.length, region.offset)
            assert got == data[4000 : 4000 + region.length]
            assert entry.region_nowait(Span(0, 2000)) is None

    @pytest.mark.asyncio
    async def test_a_region_is_valid_until_its_lease_ends(self, place: Place) -> None:
        """Neither discarding, deleting nor closing takes leased bytes out of their file."""
        data = content(300 * KIB)
        async with closing(place) as store:
            entry_id = await published(store, data)
            entry = await store.open(entry_id)
            whole = Span(0, len(data))
            await entry.read(whole)
            lease = entry.lease(whole)
            region = entry.region_nowait(whole)
            assert await entry.discard(whole) == 0
            await store.delete(entry_id)
            await entry.aclose()
            await store.usage()
            if region is not None:
                got = os.pread(region.descriptor, region.length, region.offset)
                assert got == data[: region.length]
            lease.release()
            assert (await store.usage()).allocated_bytes == 0

    @pytest.mark.asyncio
    async def test_leased_bytes_stay_where_they_are(self, place: Place) -> None:
        """Discarding leaves what any lease covers, and takes it when the last one ends."""
        data = content(100)
        async with closing(place) as store:
            entry = await store.create(KEY, SOURCE, representation(100))
            await fill(entry, data)
            with entry.lease(Span(20, 40)):
                other = entry.lease(Span(30, 50))
                assert await entry.discard(Span(0, 100)) == 70
                assert list(entry.spans) == [Span(20, 50)]
                assert await entry.read(Span(20, 50)) == data[20:50]
            assert await entry.discard(Span(0, 100)) == 10
            other.release()
            other.release()
            assert await entry.discard(Span(0, 100)) == 20
            assert not entry.spans

    @pytest.mark.asyncio
    async def test_discard_forgets_exactly_what_it_says(self, place: Place) -> None:
        """The count is of stored bytes in the span; the bytes on both sides stay right."""
        data = content(2 * MIB)
        async with closing(place) as store:
            entry = await store.create(KEY, SOURCE, representation(len(data)))
            await fill(entry, data[: MIB + 5])
            assert await entry.discard(Span(300_001, 2 * MIB)) == MIB + 5 - 300_001
            assert await entry.discard(Span(100, 90_000)) == 89_900
            assert await entry.discard(Span(100, 90_000)) == 0
            assert list(entry.spans) == [Span(0, 100), Span(90_000, 300_001)]
            await entry.publish()
            await entry.aclose()
            again = await store.open(entry.entry_id)
            assert list(again.spans) == [Span(0, 100), Span(90_000, 300_001)]
            assert await again.read(Span(90_000, 300_001)) == data[90_000:300_001]
            assert await again.read(Span(0, 100)) == data[:100]

    @pytest.mark.asyncio
    async def test_discarded_bytes_can_be_written_again(self, place: Place) -> None:
        """A hole that discarding made is filled like any other, and stays filled."""
        data = content(MIB)
        async with closing(place) as store:
            entry_id = await published(store, data)
            entry = await store.open(entry_id)
            await entry.discard(Span(200_000, 900_000))
            await fill(entry, data[200_000:900_000], 200_000)
            await entry.aclose()
            again = await store.open(entry_id)
            assert await again.read(Span(0, MIB)) == data

    @pytest.mark.asyncio
    async def test_discard_gives_room_back(self, place: Place) -> None:
        """With partial eviction, discarding most of an entry frees most of its room."""
        data = content(MIB)
        async with closing(place) as store:
            entry = await store.open(await published(store, data))
            before = (await store.usage()).allocated_bytes
            await entry.discard(Span(0, 900 * KIB))
            after = (await store.usage()).allocated_bytes
            if store.capabilities.partial_eviction:
                assert after <= before - 800 * KIB
            assert await entry.read(Span(900 * KIB, MIB)) == data[900 * KIB :]

    @pytest.mark.asyncio
    async def test_a_closed_entry_does_nothing_more(self, place: Place) -> None:
        """Closing is idempotent; a closed handle says so whatever it is asked."""
        async with closing(place) as store:
            entry = await store.create(KEY, SOURCE, representation(10))
            entry.writer(0).write(b"abc")
            await entry.aclose()
            await entry.aclose()
            with pytest.raises(ClosedError):
                await entry.read(Span(0, 1))
            for act in (
                lambda: entry.read_nowait(Span(0, 1)),
                lambda: entry.lease(Span(0, 1)),
                lambda: entry.writer(0),
            ):
                with pytest.raises(ClosedError):
                    act()

    @pytest.mark.asyncio
    async def test_one_store_at_a_time_writes_an_entry(self, place: Place) -> None:
        """Another store at the same place reads committed bytes only, and may not write."""
        async with closing(place) as first, closing(place) as second:
            if not first.capabilities.persistent:
                assert not await second.select(KEY)
                return
            entry = await first.create(KEY, SOURCE, representation(100))
            await fill(entry, b"committed")
            await entry.publish()
            writer = entry.writer(9)
            other = await second.open(entry.entry_id)
            writer.write(b"not yet")
            assert not other.writable
            assert await other.read(Span(0, 9)) == b"committed"
            assert other.read_nowait(Span(9, 16)) is None
            with pytest.raises(StoreBusyError):
                other.writer(50)
            await other.aclose()
            await writer.aclose()
            await entry.aclose()
            again = await second.open(entry.entry_id)
            assert again.writable
            assert await again.read(Span(0, 16)) == b"committednot yet"

    @pytest.mark.asyncio
    async def test_bytes_another_store_reads_are_not_overwritten_with_zeros(
        self, place: Place
    ) -> None:
        """What a store has opened stays readable for it, though another one discards it."""
        data = content(MIB)
        async with closing(place) as first, closing(place) as second:
            if not first.capabilities.persistent:
                assert not await second.select(KEY)
                return
            entry = await first.create(KEY, SOURCE, representation(len(data)))
            await fill(entry, data)
            await entry.publish()
            other = await second.open(entry.entry_id)
            assert await other.read(Span(0, MIB)) == data
            assert await entry.discard(Span(0, MIB)) == MIB
            assert await other.read(Span(0, MIB)) == data
