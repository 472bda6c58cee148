"""A disk store at a place of its own, and what many tests do with one."""

import random

import pytest_asyncio

from cachestream.abc import Key
from cachestream.backends import DiskStore
from cachestream.core.representation import Representation

SOURCE = "https://example.com/video.mp4"


class Shelf:
    """A directory for disk stores, all of which are closed at the end of the test."""

    key = Key(SOURCE)
    source = SOURCE

    def __init__(self, root):
        self.root = root
        self.stores = []

    def store(self, **options):
        """Return a new store here."""
        store = DiskStore(self.root, **{"min_free": 0, **options})
        self.stores.append(store)
        return store

    @staticmethod
    def data(length, seed=0):
        """Return bytes that are the same each time."""
        return random.Random(seed).randbytes(length)

    async def create(self, store, length=None, *, number=0, **options):
        """Return a new entry."""
        source = f"{SOURCE}?{number}" if number else SOURCE
        known = Representation(complete_length=length)
        return await store.create(Key(source), source, known, **options)

    async def put(self, store, data, *, number=0, **options):
        """Store and publish ``data``; return the identifier."""
        entry = await self.create(store, len(data), number=number, **options)
        writer = entry.writer(0)
        for start in range(0, len(data), 65536):
            if not writer.write(data[start : start + 65536]):
                await writer.drain()
        await entry.publish()
        await entry.aclose()
        return entry.entry_id

    def flip(self, path, position):
        """Change a bit of a file."""
        with path.open("r+b") as file:
            file.seek(position)
            (old,) = file.read(1)
            file.seek(position)
            file.write(bytes([old ^ 1]))


@pytest_asyncio.fixture
async def shelf(tmp_path):
    """Return a place for disk stores."""
    shelf = Shelf(tmp_path / "cache")
    yield shelf
    for store in shelf.stores:
        await store.abandon()
