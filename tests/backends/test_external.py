"""Files that the user named: where they lie, when they get their name, and what is left alone."""

import os

import pytest

from cachestream.backends import _external
from cachestream.core.fields import Fields
from cachestream.core.representation import Representation
from cachestream.core.spans import Span
from cachestream.errors import EntryNotFoundError, StoreError


@pytest.fixture
def file(tmp_path):
    """Return where the user wants the data, in a directory that is not there yet."""
    return tmp_path / "films" / "video.mp4"


@pytest.mark.asyncio
async def test_data_gets_its_name_when_it_is_complete(shelf, file):
    """Until the last byte is committed the data is ``.NAME.part``, then it is ``NAME``."""
    store = shelf.store()
    data = shelf.data(100_000)
    entry = await shelf.create(store, len(data), file=str(file))
    part = file.with_name(".video.mp4.part")
    assert part.exists()
    await entry.publish()
    writer = entry.writer(0)
    writer.write(data[:50_000])
    await writer.commit()
    assert store.path_of(entry.entry_id) == part
    writer.write(data[50_000:])
    assert not file.exists()
    await writer.commit()
    assert file.read_bytes() == data
    assert not part.exists()
    assert store.path_of(entry.entry_id) == file
    assert await entry.read(Span(0, 100)) == data[:100]


@pytest.mark.asyncio
async def test_a_length_that_is_learned_completes_the_file(shelf, file):
    """An update that makes the entry complete lets the file have its name."""
    store = shelf.store()
    entry = await shelf.create(store, None, file=str(file))
    await entry.publish()
    entry.writer(0).write(b"abc")
    await entry.update(Representation(complete_length=3))
    await entry.aclose()
    assert file.read_bytes() == b"abc"


@pytest.mark.asyncio
async def test_what_is_learned_later_leaves_the_file_its_name(shelf, file):
    """An update after the last byte is committed, and undoes nothing of what that was."""
    store = shelf.store()
    entry = await shelf.create(store, 3, file=str(file))
    await entry.publish()
    writer = entry.writer(0)
    writer.write(b"abc")
    await writer.commit()
    fields = Fields.of(("ETag", '"b"'))
    await entry.update(Representation(complete_length=3, fields=fields))
    await entry.aclose()
    await store.aclose()
    again = await shelf.store().open(entry.entry_id)
    assert again.representation.fields == fields
    assert await again.read(Span(0, 3)) == b"abc"
    assert file.read_bytes() == b"abc"


@pytest.mark.asyncio
async def test_a_file_survives_restarts(shelf, file):
    """Whole or not, the data is found again where it was left."""
    data = shelf.data(100_000)
    store = shelf.store()
    entry = await shelf.create(store, len(data), file=str(file))
    await entry.publish()
    entry.writer(0).write(data[:60_000])
    await entry.aclose()
    await store.aclose()
    store = shelf.store()
    entry = await store.open(entry.entry_id)
    assert await entry.read(Span(0, 60_000)) == data[:60_000]
    entry.writer(60_000).write(data[60_000:])
    await entry.aclose()
    await store.aclose()
    store = shelf.store()
    entry = await store.open(entry.entry_id)
    assert await entry.read(Span(0, len(data))) == data
    (record,) = await store.select(shelf.key)
    assert record.file == str(file)
    assert record.allocated_bytes >= len(data)


@pytest.mark.asyncio
@pytest.mark.parametrize("change", ["rewrite", "touch", "replace", "link", "remove"])
async def test_another_file_is_not_a_hit(shelf, file, tmp_path, change):
    """A file that was changed, replaced or removed is no longer the entry's."""
    store = shelf.store()
    entry_id = await shelf.put(store, b"abc", file=str(file))
    await store.aclose()
    if change == "rewrite":
        file.write_bytes(b"abcd")
    elif change == "touch":
        os.utime(file, ns=(1, 1))
    elif change == "replace":
        (tmp_path / "new").write_bytes(b"abc")
        (tmp_path / "new").replace(file)
    elif change == "link":
        file.rename(tmp_path / "moved")
        file.symlink_to(tmp_path / "moved")
    else:
        file.unlink()
    store = shelf.store()
    with pytest.raises(EntryNotFoundError):
        await store.open(entry_id)
    assert await store.select(shelf.key) == ()
    assert (await store.usage()).entries == 0
    assert change == "remove" or file.exists()


@pytest.mark.asyncio
async def test_select_drops_what_is_no_longer_there(shelf, file):
    """Without opening it, a removed file is not listed for its key."""
    store = shelf.store()
    await shelf.put(store, b"abc", file=str(file))
    assert len(await store.select(shelf.key)) == 1
    file.unlink()
    assert await store.select(shelf.key) == ()


@pytest.mark.asyncio
async def test_only_deleting_removes_a_file(shelf, file):
    """Superseding leaves the user's file until the new one takes its place; deleting removes it."""
    store = shelf.store()
    await shelf.put(store, b"old", file=str(file))
    entry = await shelf.create(store, 3, file=str(file))
    await entry.publish()
    assert file.read_bytes() == b"old"
    entry.writer(0).write(b"new")
    await entry.aclose()
    assert file.read_bytes() == b"new"
    await store.delete(entry.entry_id)
    assert not file.exists()


@pytest.mark.asyncio
@pytest.mark.parametrize("name", ["video.mp4", ".video.mp4.part"])
@pytest.mark.parametrize("kind", ["file", "link", "directory"])
async def test_what_the_store_did_not_make_is_in_the_way(shelf, file, tmp_path, name, kind):
    """A file of the user's, a link or a directory is neither overwritten nor followed."""
    target = file.with_name(name)
    target.parent.mkdir()
    victim = tmp_path / "victim"
    victim.write_text("precious")
    if kind == "file":
        target.write_text("precious")
    elif kind == "link":
        target.symlink_to(victim)
    else:
        target.mkdir()
    with pytest.raises(StoreError, match="was not made by this cache"):
        await shelf.create(shelf.store(), 3, file=str(file))
    assert victim.read_text() == "precious"
    assert kind != "file" or target.read_text() == "precious"
    assert (await shelf.stores[-1].usage()).allocated_bytes == 0


@pytest.mark.asyncio
async def test_a_file_that_appears_meanwhile_is_not_overwritten(shelf, file):
    """The complete data keeps its hidden name if somebody took the other one."""
    store = shelf.store()
    entry = await shelf.create(store, 3, file=str(file))
    await entry.publish()
    file.write_text("precious")
    entry.writer(0).write(b"abc")
    await entry.aclose()
    assert file.read_text() == "precious"
    again = await store.open(entry.entry_id)
    assert await again.read(Span(0, 3)) == b"abc"


@pytest.mark.asyncio
async def test_a_planted_row_removes_no_file_outside(shelf, tmp_path):
    """A row that calls somebody's file ours does not get it removed, not even by deleting."""
    victim = tmp_path / "victim"
    victim.write_text("precious")
    head = _external.Head(
        key=shelf.key,
        source=shelf.source,
        representation=Representation(),
        created=1,
        file=str(victim),
        final=True,
    )
    descriptor = os.open(victim, os.O_RDONLY)
    identity = _external.identity_of(descriptor)
    os.close(descriptor)
    _external.unlink_external(str(victim), "0" * 32, identity)
    _external.unlink_external(str(victim), "0" * 32, None)
    assert victim.read_text() == "precious"
    with pytest.raises(FileNotFoundError):
        _external.open_external(head)


@pytest.mark.asyncio
async def test_a_crash_leaves_no_part_of_an_unpublished_file(shelf, file):
    """The next opening removes the hidden file; a published one stays and goes on."""
    store = shelf.store()
    other = file.with_name("other.mp4")
    await shelf.create(store, 3, file=str(file))
    kept = await shelf.create(store, 3, number=1, file=str(other))
    await kept.publish()
    await store.abandon()
    assert file.with_name(".video.mp4.part").exists()
    store = shelf.store()
    assert (await store.usage()).entries == 1
    assert not file.with_name(".video.mp4.part").exists()
    assert await store.open(kept.entry_id)


@pytest.mark.asyncio
async def test_a_crash_between_name_and_note_loses_nothing(shelf, file):
    """A file that has its name already, while the index does not know yet, is found."""
    store = shelf.store()
    data = shelf.data(1000)
    entry = await shelf.create(store, 2000, file=str(file))
    await entry.publish()
    writer = entry.writer(0)
    writer.write(data)
    await writer.commit()
    await store.abandon()
    file.with_name(".video.mp4.part").rename(file)
    store = shelf.store()
    again = await store.open(entry.entry_id)
    assert await again.read(Span(0, 1000)) == data


@pytest.mark.asyncio
async def test_files_of_the_users_do_not_count_for_the_limit(shelf, file):
    """A file larger than the limit is kept, and nothing is evicted for it or because of it."""
    store = shelf.store(max_size=200_000)
    inside = await shelf.put(store, shelf.data(100_000), number=1)
    await shelf.put(store, shelf.data(500_000), file=str(file))
    await shelf.put(store, shelf.data(150_000), number=2)
    assert file.stat().st_size == 500_000
    assert (await store.usage()).allocated_bytes <= 200_000
    with pytest.raises(EntryNotFoundError):
        await store.open(inside)


@pytest.mark.asyncio
async def test_discarding_makes_no_hole_in_the_users_file(shelf, file):
    """What is discarded is forgotten, and its bytes stay in the file."""
    data = shelf.data(500_000)
    store = shelf.store()
    entry_id = await shelf.put(store, data, file=str(file))
    entry = await store.open(entry_id)
    assert await entry.discard(Span(0, 400_000)) == 400_000
    assert file.read_bytes() == data
