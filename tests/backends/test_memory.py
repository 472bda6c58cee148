"""The memory store keeps every promise of a store."""

import pytest

from cachestream.abc import Key, Store
from cachestream.backends import MemoryMedium, MemoryStore
from cachestream.core.representation import Representation
from cachestream.core.spans import Span
from cachestream.settings import Settings
from cachestream.testing.stores import StoreContract

KEY = Key("https://example.com/a")


class MemoryPlace:
    """A medium, and the stores opened on it."""

    def __init__(self, *, persistent: bool) -> None:
        self.medium = MemoryMedium() if persistent else None
        self.stores: list[MemoryStore] = []

    async def open(self, *, max_size: int | None = None) -> Store:
        store = MemoryStore(self.medium, max_size=max_size, clock=Clock())
        self.stores.append(store)
        return store

    async def crash(self) -> None:
        for store in self.stores:
            store.crash()

    def raw(self, entry_id: str) -> "RawCell":
        assert self.medium is not None
        return RawCell(self.medium, entry_id)


class RawCell:
    """The bytes of an entry on a medium."""

    def __init__(self, medium: MemoryMedium, entry_id: str) -> None:
        self.medium, self.entry_id = medium, entry_id

    def read(self, span: Span) -> bytes:
        return self.medium.raw(self.entry_id, span)

    def corrupt(self, position: int) -> None:
        self.medium.corrupt(self.entry_id, position)


class Clock:
    """A clock that moves whenever it is looked at."""

    now = 1_700_000_000.0

    def __call__(self) -> float:
        Clock.now += 1
        return Clock.now


class TestMemoryStore(StoreContract):
    """On a medium of the caller's own, what is committed survives."""

    @pytest.fixture
    def place(self) -> MemoryPlace:
        return MemoryPlace(persistent=True)


class TestMemoryStoreOfItsOwn(StoreContract):
    """Without one, nothing survives, and the store says so."""

    @pytest.fixture
    def place(self) -> MemoryPlace:
        return MemoryPlace(persistent=False)


@pytest.mark.asyncio
async def test_settings_give_the_limit() -> None:
    """A store made from settings keeps their max_size."""
    store = MemoryStore.from_settings(Settings(max_size=12345))
    assert (await store.usage()).limit_bytes == 12345


@pytest.mark.asyncio
async def test_what_gives_way_is_counted() -> None:
    """Entries that were evicted, and the room that gave, are in the usage."""
    store = MemoryStore(max_size=10_000)
    for number in range(3):
        entry = await store.create(Key(f"k{number}"), KEY, Representation(complete_length=4096))
        writer = entry.writer(0)
        writer.write(bytes(4096))
        await writer.aclose()
        await entry.publish()
        await entry.aclose()
    usage = await store.usage()
    assert (usage.entries, usage.evicted_entries) == (2, 1)
    assert usage.evicted_bytes == 4096
    await store.aclose()


@pytest.mark.asyncio
async def test_closing_the_store_closes_what_is_open() -> None:
    """Handles that were left open are committed and closed with their store."""
    medium = MemoryMedium()
    store = MemoryStore(medium)
    entry = await store.create(KEY, KEY, Representation(complete_length=3))
    await entry.publish()
    entry.writer(0).write(b"abc")
    await store.aclose()
    again = await MemoryStore(medium).open(entry.entry_id)
    assert await again.read(Span(0, 3)) == b"abc"


@pytest.mark.asyncio
async def test_identifiers_are_the_same_every_time() -> None:
    """Two runs over new mediums give the same identifiers, so that a simulation repeats."""
    ids = [
        (await MemoryStore(MemoryMedium()).create(KEY, KEY, Representation())).entry_id
        for _ in range(2)
    ]
    assert ids[0] == ids[1]
