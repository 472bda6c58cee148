"""What survives: closing, a crash, and bytes that were changed at rest."""

from __future__ import annotations

import pytest

from cachestream.core.spans import Span
from cachestream.errors import EntryNotFoundError, NotStoredError, StoreCorruptError
from cachestream.testing.stores._places import (
    KEY,
    SOURCE,
    Place,
    closing,
    content,
    fill,
    only,
    published,
    representation,
)

__all__ = ["SurvivalPromises"]

MIB = 1024 * 1024


class SurvivalPromises:
    """Promises about restarts; a store that is not persistent promises to come back empty."""

    @pytest.mark.asyncio
    async def test_a_closed_store_opens_with_all_it_had(self, place: Place) -> None:
        """Bytes, representation, pin and totals are as they were before the restart."""
        data = content(MIB)
        async with closing(place) as store:
            entry_id = await published(store, data, language="de")
            await store.touch(entry_id, pinned=True)
            before = await only(store)
            usage = await store.usage()
            persistent = store.capabilities.persistent
        async with closing(place) as store:
            if not persistent:
                assert await store.select(KEY) == ()
                return
            assert await only(store) == before
            assert await store.usage() == usage
            assert await store.has_authority("https://example.com")
            entry = await store.open(entry_id)
            assert entry.representation == representation(MIB, language="de")
            assert await entry.read(Span(0, MIB)) == data

    @pytest.mark.asyncio
    async def test_closing_an_entry_commits(self, place: Place) -> None:
        """Bytes of a writer that was left open survive a crash after the entry was closed."""
        store = await place.open()
        entry = await store.create(KEY, SOURCE, representation(6))
        await entry.publish()
        entry.writer(0).write(b"abcdef")
        await entry.aclose()
        persistent = store.capabilities.persistent
        await place.crash()
        async with closing(place) as store:
            if not persistent:
                assert await store.select(KEY) == ()
                return
            again = await store.open(entry.entry_id)
            assert await again.read(Span(0, 6)) == b"abcdef"

    @pytest.mark.asyncio
    async def test_closing_a_writer_commits(self, place: Place) -> None:
        """Bytes of a writer that was closed survive a crash, and its position is free again."""
        store = await place.open()
        entry = await store.create(KEY, SOURCE, representation(9))
        await entry.publish()
        writer = entry.writer(0)
        writer.write(b"abc")
        await writer.aclose()
        other = entry.writer(3)
        other.write(b"def")
        await other.aclose()
        persistent = store.capabilities.persistent
        await place.crash()
        async with closing(place) as store:
            if not persistent:
                assert await store.select(KEY) == ()
                return
            again = await store.open(entry.entry_id)
            assert await again.read(Span(0, 6)) == b"abcdef"

    @pytest.mark.asyncio
    async def test_committed_bytes_survive_a_crash(self, place: Place) -> None:
        """After a crash, committed bytes are there and right; others are holes, or right."""
        data = content(2 * MIB)
        store = await place.open()
        entry = await store.create(KEY, SOURCE, representation(len(data)))
        await entry.publish()
        writer = entry.writer(0)
        writer.write(data[:700_000])
        await writer.commit()
        writer.write(data[700_000:MIB])
        persistent = store.capabilities.persistent
        await place.crash()
        async with closing(place) as store:
            if not persistent:
                assert await store.select(KEY) == ()
                return
            again = await store.open(entry.entry_id)
            assert again.spans.run_stop(0) >= 700_000
            for span in list(again.spans):
                assert await again.read(span) == data[span.start : span.stop]
            hole = Span(again.spans.stop, len(data))
            with pytest.raises(NotStoredError):
                await again.read(hole)
            await fill(again, data[hole.start :], hole.start)
            assert await again.read(Span(0, len(data))) == data

    @pytest.mark.asyncio
    async def test_data_reaches_the_medium_before_the_index_says_so(self, place: Place) -> None:
        """Once a commit returns, the bytes lie on the medium, without help of the store."""
        data = content(400_000)
        async with closing(place) as store:
            entry = await store.create(KEY, SOURCE, representation(len(data)))
            await entry.publish()
            writer = entry.writer(0)
            writer.write(data)
            await writer.commit()
            if store.capabilities.persistent:
                assert place.raw(entry.entry_id).read(Span(0, len(data))) == data
            assert await entry.read(Span(0, len(data))) == data

    @pytest.mark.asyncio
    async def test_an_unpublished_entry_vanishes_in_a_crash(self, place: Place) -> None:
        """Even its committed bytes are gone, and take no room."""
        store = await place.open()
        entry = await store.create(KEY, SOURCE, representation(1000))
        await fill(entry, content(1000))
        await place.crash()
        async with closing(place) as store:
            assert await store.select(KEY) == ()
            with pytest.raises(EntryNotFoundError):
                await store.open(entry.entry_id)
            assert (await store.usage()).allocated_bytes == 0

    @pytest.mark.asyncio
    async def test_a_deleted_entry_stays_deleted_after_a_crash(self, place: Place) -> None:
        """An entry that was deleted while it was open does not come back, nor does its room."""
        store = await place.open()
        entry = await store.open(await published(store, content(MIB)))
        await store.delete(entry.entry_id)
        await place.crash()
        async with closing(place) as store:
            assert await store.select(KEY) == ()
            usage = await store.usage()
            assert (usage.entries, usage.allocated_bytes) == (0, 0)

    @pytest.mark.asyncio
    async def test_discarded_bytes_stay_forgotten_after_a_crash(self, place: Place) -> None:
        """What was discarded is a hole after a crash, and never zeros."""
        data = content(MIB)
        store = await place.open()
        entry = await store.open(await published(store, data))
        persistent = store.capabilities.persistent
        await entry.discard(Span(100_000, 900_000))
        await place.crash()
        async with closing(place) as store:
            if not persistent:
                assert await store.select(KEY) == ()
                return
            again = await store.open(entry.entry_id)
            assert list(again.spans) == [Span(0, 100_000), Span(900_000, MIB)]
            assert await again.read(Span(900_000, MIB)) == data[900_000:]

    @pytest.mark.asyncio
    @pytest.mark.parametrize("position", [0, 299_999, 262_144, MIB - 1])
    async def test_bytes_that_fail_their_check_become_a_hole(
        self, place: Place, position: int
    ) -> None:
        """A bit that changed at rest is found when it is read, and only bytes near it are lost."""
        data = content(MIB)
        async with closing(place) as store:
            entry_id = await published(store, data)
            persistent = store.capabilities.persistent
        if not persistent:
            return await self._comes_back_empty(place)
        place.raw(entry_id).corrupt(position)
        async with closing(place) as store:
            entry = await store.open(entry_id)
            with pytest.raises(StoreCorruptError) as caught:
                await entry.read(Span(0, MIB))
            bad = caught.value.span
            assert bad is not None
            assert position in bad
            assert len(bad) <= 256 * 1024
            assert list(entry.spans.gaps(Span(0, MIB))) == [bad]
            for span in list(entry.spans):
                assert await entry.read(span) == data[span.start : span.stop]
            await fill(entry, data[bad.start : bad.stop], bad.start)
            await entry.aclose()
        async with closing(place) as store:
            entry = await store.open(entry_id)
            assert await entry.read(Span(0, MIB)) == data
        return None

    @pytest.mark.asyncio
    async def test_unverified_bytes_are_given_to_nobody(self, place: Place) -> None:
        """Neither read_nowait nor a region gives out bytes that changed at rest."""
        data = content(MIB)
        async with closing(place) as store:
            entry_id = await published(store, data)
            persistent = store.capabilities.persistent
        if not persistent:
            return await self._comes_back_empty(place)
        place.raw(entry_id).corrupt(5)
        async with closing(place) as store:
            entry = await store.open(entry_id)
            assert entry.read_nowait(Span(0, 10)) is None
            assert entry.region_nowait(Span(0, 10)) is None
            assert await entry.read(Span(MIB - 10, MIB)) == data[-10:]
            assert entry.read_nowait(Span(MIB - 10, MIB)) == data[-10:]
        return None

    @staticmethod
    async def _comes_back_empty(place: Place) -> None:
        async with closing(place) as store:
            assert await store.select(KEY) == ()
