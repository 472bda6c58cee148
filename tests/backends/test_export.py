"""Exports are copies, checked, whole, and never take the place of anything."""

import pytest

from cachestream.backends import _export
from cachestream.core.spans import Span
from cachestream.errors import EntryNotFoundError, NotStoredError, StoreCorruptError, StoreError


@pytest.mark.asyncio
async def test_an_export_is_an_independent_copy(shelf, tmp_path):
    """The copy has the bytes, a name and an inode of its own, and no link to the cache."""
    data = shelf.data(1_000_000)
    store = shelf.store()
    entry_id = await shelf.put(store, data)
    path = await store.export(entry_id, tmp_path / "out" / "film.mp4")
    assert path.read_bytes() == data
    assert path.stat().st_nlink == 1
    await store.delete(entry_id)
    assert path.read_bytes() == data
    assert [one.name for one in path.parent.iterdir()] == ["film.mp4"]


@pytest.mark.asyncio
async def test_an_incomplete_entry_is_exported_on_demand_only(shelf, tmp_path):
    """With ``partial`` the copy has the full length, and zeros where nothing is stored."""
    data = shelf.data(300_000)
    store = shelf.store()
    entry_id = await shelf.put(store, data)
    entry = await store.open(entry_id)
    await entry.discard(Span(100_000, 200_000))
    with pytest.raises(NotStoredError):
        await store.export(entry_id, tmp_path / "film.mp4")
    path = await store.export(entry_id, tmp_path / "film.mp4", partial=True)
    assert path.read_bytes() == data[:100_000] + bytes(100_000) + data[200_000:]


@pytest.mark.asyncio
async def test_holes_are_zeros_even_where_the_file_has_bytes(shelf, tmp_path, monkeypatch):
    """Bytes that were forgotten, but could not be punched out, are not exported."""
    monkeypatch.setattr("cachestream.backends._discarding.punch", lambda *args: False)
    store = shelf.store()
    entry_id = await shelf.put(store, b"x" * 10_000)
    entry = await store.open(entry_id)
    await entry.discard(Span(0, 5000))
    path = await store.export(entry_id, tmp_path / "film.mp4", partial=True)
    assert path.read_bytes() == bytes(5000) + b"x" * 5000


@pytest.mark.asyncio
async def test_an_export_overwrites_nothing(shelf, tmp_path):
    """A file that is there already stays as it is."""
    store = shelf.store()
    entry_id = await shelf.put(store, b"abc")
    target = tmp_path / "film.mp4"
    target.write_text("precious")
    with pytest.raises(StoreError, match="there already"):
        await store.export(entry_id, target)
    assert target.read_text() == "precious"
    assert not list(tmp_path.glob(".film*"))


@pytest.mark.asyncio
async def test_damaged_bytes_are_not_exported(shelf, tmp_path):
    """An entry that fails its check gives an error and no file."""
    store = shelf.store()
    entry_id = await shelf.put(store, shelf.data(1000))
    await store.aclose()
    shelf.flip(shelf.root / "data" / entry_id, 500)
    with pytest.raises(StoreCorruptError):
        await shelf.store().export(entry_id, tmp_path / "film.mp4")
    assert not (tmp_path / "film.mp4").exists()


@pytest.mark.asyncio
async def test_exporting_nothing_says_so(shelf, tmp_path):
    """An unknown entry is not found."""
    with pytest.raises(EntryNotFoundError):
        await shelf.store().export("0" * 32, tmp_path / "film.mp4")


@pytest.mark.asyncio
async def test_a_file_system_without_links_gets_the_copy_too(shelf, tmp_path, monkeypatch):
    """Where a second name cannot be made, the copy is renamed, and still overwrites nothing."""

    def no_links(*args):
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(_export.os, "link", no_links)
    store = shelf.store()
    entry_id = await shelf.put(store, b"abc")
    path = await store.export(entry_id, tmp_path / "film.mp4")
    assert path.read_bytes() == b"abc"
    with pytest.raises(StoreError, match="there already"):
        await store.export(entry_id, tmp_path / "film.mp4")
