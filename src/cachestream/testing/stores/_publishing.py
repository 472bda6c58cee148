"""What a `cachestream.abc.Store` promises of entries that come, are found, and go."""

from __future__ import annotations

import asyncio

import attrs
import pytest

from cachestream.abc import Key, StoreCapabilities
from cachestream.core.fields import Fields
from cachestream.core.spans import Span
from cachestream.errors import (
    ClosedError,
    EntryNotFoundError,
    StoreConflictError,
    StoreError,
)
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

__all__ = ["PublishingPromises"]


class PublishingPromises:
    """Promises of `Store` and `Entry.publish`, one test each."""

    @pytest.mark.asyncio
    async def test_an_entry_is_invisible_until_it_is_published(self, place: Place) -> None:
        """Neither select, records, open, usage nor has_authority shows it before."""
        async with closing(place) as store:
            entry = await store.create(KEY, SOURCE, representation(3))
            await fill(entry, b"abc")
            assert await store.select(KEY) == ()
            assert await store.records() == ()
            assert (await store.usage()).entries == 0
            assert not await store.has_authority("https://example.com")
            with pytest.raises(EntryNotFoundError):
                await store.open(entry.entry_id)
            await entry.publish()
            record = await only(store)
            assert record.entry_id == entry.entry_id
            assert (await store.usage()).entries == 1

    @pytest.mark.asyncio
    async def test_a_record_says_what_is_known(self, place: Place) -> None:
        """A record has what the entry was made with, what is committed, and its room."""
        async with closing(place) as store:
            known = representation(8)
            entry = await store.create(KEY, SOURCE, known)
            await fill(entry, b"abcd")
            await entry.publish()
            record = await only(store)
            assert (record.key, record.source, record.representation) == (KEY, SOURCE, known)
            assert record.stored_bytes == 4
            assert record.allocated_bytes > 0
            assert record.accessed >= record.created > 0
            assert not record.complete
            assert not record.pinned
            assert record.file is None
            await fill(entry, b"efgh", 4)
            assert (await only(store)).complete

    @pytest.mark.asyncio
    async def test_publishing_supersedes_the_same_variant(self, place: Place) -> None:
        """The new entry takes the place of the old one, whose open handles stay readable."""
        async with closing(place) as store:
            old_id = await published(store, b"old")
            old = await store.open(old_id)
            new = await store.create(KEY, SOURCE, representation(3, tag="b"))
            await fill(new, b"new")
            assert (await only(store)).entry_id == old_id
            await new.publish()
            assert (await only(store)).entry_id == new.entry_id
            assert await old.read(Span(0, 3)) == b"old"
            with pytest.raises(EntryNotFoundError):
                await store.open(old_id)
            assert (await store.usage()).entries == 1

    @pytest.mark.asyncio
    async def test_variants_stay_beside_each_other_newest_first(self, place: Place) -> None:
        """Select returns one entry a variant, the one made last at the head."""
        async with closing(place) as store:
            ids = [await published(store, b"x", language=name) for name in ("", "de", "fr")]
            found = [record.entry_id for record in await store.select(KEY)]
            assert found == ids[::-1]
            assert await store.select(Key("https://example.com/other")) == ()

    @pytest.mark.asyncio
    async def test_a_variant_does_not_depend_on_the_order_of_vary(self, place: Place) -> None:
        """The same selecting fields in another order are the same variant."""
        async with closing(place) as store:
            pairs = (("accept", "a"), ("accept-language", None))
            for selecting in (pairs, pairs[::-1]):
                known = representation(0)
                entry = await store.create(
                    KEY, SOURCE, type(known)(complete_length=0, selecting=selecting)
                )
                await entry.publish()
                await entry.aclose()
            assert (await only(store)).entry_id == entry.entry_id

    @pytest.mark.asyncio
    async def test_who_publishes_second_is_told(self, place: Place) -> None:
        """Of two entries made for one variant, the second to publish raises and stays unseen."""
        async with closing(place) as store:
            one = await store.create(KEY, SOURCE, representation(3))
            two = await store.create(KEY, SOURCE, representation(3))
            await fill(two, b"two")
            await one.publish()
            with pytest.raises(StoreConflictError):
                await two.publish()
            assert (await only(store)).entry_id == one.entry_id
            assert await two.read(Span(0, 3)) == b"two"

    @pytest.mark.asyncio
    async def test_of_many_who_publish_at_a_time_one_succeeds(self, place: Place) -> None:
        """However their steps mix, one is published and every other one is told."""
        async with closing(place) as store:
            entries = [await store.create(KEY, SOURCE, representation(1)) for _ in range(5)]
            for number, entry in enumerate(entries):
                await fill(entry, bytes([number]))
            results = await asyncio.gather(
                *(entry.publish() for entry in entries), return_exceptions=True
            )
            told = [result for result in results if result is not None]
            assert len(told) == 4
            assert all(isinstance(each, StoreConflictError) for each in told)
            winner = entries[results.index(None)]
            assert (await only(store)).entry_id == winner.entry_id
            for entry in entries:
                await entry.aclose()
            again = await store.open(winner.entry_id)
            assert await again.read(Span(0, 1)) == bytes([entries.index(winner)])
            assert (await store.usage()).entries == 1

    @pytest.mark.asyncio
    async def test_another_variant_is_no_conflict(self, place: Place) -> None:
        """Two variants of a key may be made at a time and published both."""
        async with closing(place) as store:
            one = await store.create(KEY, SOURCE, representation(0, language="de"))
            two = await store.create(KEY, SOURCE, representation(0, language="fr"))
            await one.publish()
            await two.publish()
            assert len(await store.select(KEY)) == 2

    @pytest.mark.asyncio
    async def test_update_replaces_what_is_known(self, place: Place) -> None:
        """A length that was learned is seen at once, by select, and after opening again."""
        async with closing(place) as store:
            entry = await store.create(KEY, SOURCE, representation(None))
            await entry.update(representation(7))
            assert entry.representation == representation(7)
            await entry.publish()
            await entry.update(representation(8))
            assert (await only(store)).representation == representation(8)
            await entry.aclose()
            again = await store.open(entry.entry_id)
            assert again.representation == representation(8)

    @pytest.mark.asyncio
    async def test_opening_what_is_not_there_says_so(self, place: Place) -> None:
        """An unknown identifier, whatever it looks like, is not found."""
        async with closing(place) as store:
            for name in ("0" * 32, "nothing", "../../etc/passwd", ""):
                with pytest.raises(EntryNotFoundError):
                    await store.open(name)

    @pytest.mark.asyncio
    async def test_open_handles_of_a_deleted_entry_stay_readable(self, place: Place) -> None:
        """Deleting hides an entry at once; who has it open reads and writes on."""
        async with closing(place) as store:
            entry_id = await published(store, b"abc")
            entry = await store.open(entry_id)
            await store.delete(entry_id)
            assert await store.select(KEY) == ()
            with pytest.raises(EntryNotFoundError):
                await store.open(entry_id)
            assert await entry.read(Span(0, 3)) == b"abc"
            await fill(entry, b"def", 3)
            assert await entry.read(Span(0, 6)) == b"abcdef"
            assert (await store.usage()).allocated_bytes > 0
            await entry.aclose()
            usage = await store.usage()
            assert (usage.entries, usage.allocated_bytes) == (0, 0)
            assert await store.select(KEY) == ()

    @pytest.mark.asyncio
    async def test_deleting_nothing_does_nothing(self, place: Place) -> None:
        """An identifier that is not there may be deleted, again and again."""
        async with closing(place) as store:
            entry_id = await published(store, b"abc")
            for name in (entry_id, entry_id, "../data", ""):
                await store.delete(name)
            assert (await store.usage()).entries == 0

    @pytest.mark.asyncio
    async def test_records_are_paged_by_identifier(self, place: Place) -> None:
        """Pages follow each other without gap or repetition, in order of identifier."""
        async with closing(place) as store:
            ids = {
                await published(store, b"x", key=Key(f"{SOURCE}?{number}")) for number in range(7)
            }
            found: list[str] = []
            while page := await store.records(after=found[-1] if found else None, limit=3):
                assert len(page) <= 3
                found += [record.entry_id for record in page]
            assert found == sorted(ids)

    @pytest.mark.asyncio
    async def test_records_by_access_are_least_recently_used_first(self, place: Place) -> None:
        """Touching and opening make an entry recent; the limit leaves out the most recent."""
        async with closing(place) as store:
            ids = [
                await published(store, b"x", key=Key(f"{SOURCE}?{number}")) for number in range(4)
            ]
            await store.touch(ids[0])
            await (await store.open(ids[1])).aclose()
            found = [record.entry_id for record in await store.records(order="accessed")]
            assert found == [ids[2], ids[3], ids[0], ids[1]]
            page = await store.records(order="accessed", limit=2)
            assert [record.entry_id for record in page] == ids[2:]

    @pytest.mark.asyncio
    async def test_touch_sets_the_pin_and_leaves_it(self, place: Place) -> None:
        """A pin stays until it is taken off; touching nothing does nothing."""
        async with closing(place) as store:
            entry_id = await published(store, b"x")
            for pinned, then in ((True, True), (None, True), (False, False)):
                await store.touch(entry_id, pinned=pinned)
                assert (await only(store)).pinned is then
            await store.touch("0" * 32, pinned=True)
            await store.touch("nothing")

    @pytest.mark.asyncio
    async def test_has_authority_knows_the_origins_of_published_entries(self, place: Place) -> None:
        """An origin is known while an entry came from it, however it is written."""
        async with closing(place) as store:
            for number in range(2):
                source = f"http://Example.com:80/{number}"
                await published(store, b"x", key=Key(source), source=source)
            await published(store, b"x", key=Key("s"), source="https://user:secret@[::1]:8443/a")
            assert await store.has_authority("http://example.com")
            assert await store.has_authority("http://EXAMPLE.com:80")
            assert await store.has_authority("https://[::1]:8443")
            for other in ("https://example.com", "http://example.com:81", "http://ample.com"):
                assert not await store.has_authority(other)
            for record in await store.select(Key("http://Example.com:80/0")):
                await store.delete(record.entry_id)
            assert await store.has_authority("http://example.com")
            for record in await store.select(Key("http://Example.com:80/1")):
                await store.delete(record.entry_id)
            assert not await store.has_authority("http://example.com")

    @pytest.mark.asyncio
    async def test_an_unpublished_entry_vanishes_when_it_is_closed(self, place: Place) -> None:
        """Closed without publishing, an entry takes no room and is nowhere."""
        async with closing(place) as store:
            entry = await store.create(KEY, SOURCE, representation(1000))
            await fill(entry, content(1000))
            assert (await store.usage()).allocated_bytes > 0
            await entry.aclose()
            assert await store.select(KEY) == ()
            assert (await store.usage()).allocated_bytes == 0

    @pytest.mark.asyncio
    async def test_a_file_is_refused_unless_it_is_supported(
        self, place: Place, tmp_path_factory: pytest.TempPathFactory
    ) -> None:
        """A store without external files raises; one with them keeps the data where it was told."""
        file = tmp_path_factory.mktemp("user") / "video.mp4"
        async with closing(place) as store:
            if not store.capabilities.external_files:
                with pytest.raises(StoreError):
                    await store.create(KEY, SOURCE, representation(3), file=str(file))
                return
            entry = await store.create(KEY, SOURCE, representation(3), file=str(file))
            await entry.publish()
            assert not file.exists()
            await fill(entry, b"abc")
            await entry.aclose()
            assert file.read_bytes() == b"abc"
            assert (await only(store)).file == str(file)

    @pytest.mark.asyncio
    async def test_what_a_store_can_do_is_stated_once(self, place: Place) -> None:
        """Its capabilities are one value, known before it is used and the same afterwards."""
        store = await place.open()
        before = store.capabilities
        assert isinstance(before, StoreCapabilities)
        async with store:
            await published(store, b"x")
            assert store.capabilities == before
        assert store.capabilities == before

    @pytest.mark.asyncio
    async def test_an_entry_may_be_empty(self, place: Place) -> None:
        """A representation of no bytes is published, found, and complete."""
        async with closing(place) as store:
            entry_id = await published(store, b"")
            record = await only(store)
            assert (record.entry_id, record.stored_bytes, record.complete) == (entry_id, 0, True)
            entry = await store.open(entry_id)
            assert not entry.spans

    @pytest.mark.asyncio
    async def test_what_is_learned_is_kept(self, place: Place) -> None:
        """Fields that were updated, and a length, are there after the store was closed."""
        known = attrs.evolve(
            representation(9), fields=Fields.of(("ETag", '"b"'), ("X-Two", "1"), ("x-two", "2"))
        )
        async with closing(place) as store:
            entry = await store.create(KEY, SOURCE, representation(None))
            await entry.publish()
            await entry.update(known)
            assert (await only(store)).representation == known
            await entry.aclose()
            persistent = store.capabilities.persistent
        async with closing(place) as store:
            if not persistent:
                assert await store.select(KEY) == ()
                return
            assert (await only(store)).representation == known

    @pytest.mark.asyncio
    async def test_a_store_opens_by_first_use_and_closes_once(self, place: Place) -> None:
        """No ``async with`` is needed; closing again does nothing; a closed store says so."""
        store = await place.open()
        assert await store.select(KEY) == ()
        await store.aclose()
        await store.aclose()
        with pytest.raises(ClosedError):
            await store.select(KEY)
        with pytest.raises(ClosedError):
            await store.create(KEY, SOURCE, representation(1))
        unused = await place.open()
        await unused.aclose()
