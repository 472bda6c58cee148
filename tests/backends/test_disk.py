"""The disk store keeps every promise of a store."""

import pytest

from cachestream.abc import Store
from cachestream.backends import DiskStore, _writer
from cachestream.core.spans import Span
from cachestream.testing.stores import StoreContract


class DiskPlace:
    """A directory, and the stores opened at it."""

    def __init__(self, root, **options):
        self.root = root
        self.options = options
        self.stores: list[DiskStore] = []

    async def open(self, *, max_size: int | None = None) -> Store:
        store = DiskStore(self.root, max_size=max_size, min_free=0, **self.options)
        self.stores.append(store)
        return store

    async def crash(self) -> None:
        for store in self.stores:
            await store.abandon()

    def raw(self, entry_id: str) -> "RawFile":
        return RawFile(self.root / "data" / entry_id)


class RawFile:
    """The bytes of a data file."""

    def __init__(self, path):
        self.path = path

    def read(self, span: Span) -> bytes:
        with self.path.open("rb") as file:
            file.seek(span.start)
            return file.read(len(span))

    def corrupt(self, position: int) -> None:
        with self.path.open("r+b") as file:
            file.seek(position)
            (old,) = file.read(1)
            file.seek(position)
            file.write(bytes([old ^ 1]))


class TestDiskStore(StoreContract):
    """By default, committed bytes survive the process."""

    @pytest.fixture
    def place(self, tmp_path):
        return DiskPlace(tmp_path / "cache")


class TestDiskStoreWithPower(StoreContract):
    """With syncing, all promises hold as well."""

    @pytest.fixture
    def place(self, tmp_path):
        return DiskPlace(tmp_path / "cache", durability="power")


class TestDiskStoreOnSlowDisk(StoreContract):
    """With every write made by a thread and served from its backlog, all promises hold."""

    @pytest.fixture
    def place(self, tmp_path, monkeypatch):
        monkeypatch.setattr(_writer, "_SLOW_S", -1.0)
        monkeypatch.setattr(_writer, "_LARGE", 0)
        return DiskPlace(tmp_path / "cache", high_water=100_000)
