"""The objects store keeps every promise of a store, on more than one filesystem."""

import itertools
import json

import fsspec
import pytest

from cachestream.abc import Store
from cachestream.backends import ObjectsStore
from cachestream.core.spans import Span
from cachestream.testing.stores import StoreContract

KIB = 1024
NUMBERS = itertools.count()


class ObjectsPlace:
    """A folder on a filesystem, and the stores opened at it."""

    def __init__(self, url, **options):
        self.url, self.options = url, options
        self.stores: list[ObjectsStore] = []

    def store(self, **options):
        """Return a new store here."""
        store = ObjectsStore(self.url, **{**self.options, **options})
        self.stores.append(store)
        return store

    async def open(self, *, max_size: int | None = None) -> Store:
        return self.store(max_size=max_size)

    async def crash(self) -> None:
        for store in self.stores:
            await store.abandon()

    def files(self, folder=""):
        """Return the paths of all objects, without the help of a store."""
        fs, root = fsspec.core.url_to_fs(self.url, use_listings_cache=False)
        prefix = f"{root.rstrip('/')}/"
        try:
            return sorted(path.removeprefix(prefix) for path in fs.find(prefix + folder))
        except FileNotFoundError:
            return []

    def get(self, name):
        """Return the content of an object."""
        fs, root = fsspec.core.url_to_fs(self.url, use_listings_cache=False)
        return fs.cat_file(f"{root.rstrip('/')}/{name}")

    def put(self, name, data):
        """Write an object behind the store's back."""
        fs, root = fsspec.core.url_to_fs(self.url, use_listings_cache=False)
        path = f"{root.rstrip('/')}/{name}"
        fs.makedirs(path.rpartition("/")[0], exist_ok=True)
        fs.pipe_file(path, data)

    def remove(self, name):
        """Remove an object behind the store's back."""
        fs, root = fsspec.core.url_to_fs(self.url, use_listings_cache=False)
        fs.rm_file(f"{root.rstrip('/')}/{name}")

    def record(self, entry_id):
        """Return the name and the content of an entry's record."""
        names = [name for name in self.files("records") if f"/{entry_id}." in name]
        return names[-1], json.loads(self.get(names[-1]))

    def raw(self, entry_id: str) -> "RawObjects":
        return RawObjects(self, entry_id)


class RawObjects:
    """The objects of an entry."""

    def __init__(self, place, entry_id):
        self.place, self.entry_id = place, entry_id

    def at(self, position):
        """Return start and name of the object that has a byte."""
        for start, stop, digest, nonce, _, live in self.place.record(self.entry_id)[1]["parts"]:
            if any(first <= position < last for first, last in live):
                return start, f"data/{self.entry_id}/{start}-{stop}-{digest}.{nonce}"
        raise AssertionError(f"byte {position} is in no object")

    def read(self, span: Span) -> bytes:
        data, position = b"", span.start
        while position < span.stop:
            start, name = self.at(position)
            data += self.place.get(name)[position - start : span.stop - start]
            position = span.start + len(data)
        return data

    def corrupt(self, position: int) -> None:
        start, name = self.at(position)
        data = bytearray(self.place.get(name))
        data[position - start] ^= 1
        self.place.put(name, bytes(data))


def memory_place(**options):
    """Return a new place in memory."""
    return ObjectsPlace(f"memory://objects-{next(NUMBERS)}", **options)


class TestObjectsInMemory(StoreContract):
    """With objects as large as they are by default."""

    @pytest.fixture
    def place(self):
        return memory_place()


class TestObjectsInFiles(StoreContract):
    """With small objects, so that most entries have many."""

    @pytest.fixture
    def place(self, tmp_path):
        return ObjectsPlace(f"file://{tmp_path}/cache", part_size=64 * KIB)
