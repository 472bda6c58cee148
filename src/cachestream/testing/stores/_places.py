"""What the contract asks of an author: a place that outlives the stores opened at it."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final, Protocol

from cachestream.abc import Entry, EntryRecord, Key, Store
from cachestream.core.representation import Representation
from cachestream.core.spans import Span

__all__ = [
    "KEY",
    "SOURCE",
    "Place",
    "RawEntry",
    "closing",
    "content",
    "fill",
    "only",
    "published",
    "representation",
]

KEY: Final = Key("https://example.com/video.mp4")
SOURCE: Final = "https://example.com/video.mp4"


class RawEntry(Protocol):
    """A back door to an entry's bytes, so that a store cannot vouch for itself."""

    def read(self, span: Span) -> bytes:
        """Return the bytes of ``span`` as they lie on the medium."""
        ...

    def corrupt(self, position: int) -> None:
        """Change one bit of the byte at ``position`` behind the store's back."""
        ...


class Place(Protocol):
    """Where a store keeps its entries; the fixture of `StoreContract`."""

    async def open(self, *, max_size: int | None = None) -> Store:
        """Return a new store at this place; others may be open at it."""
        ...

    async def crash(self) -> None:
        """End every store that is open here as a killed process does: nothing is committed."""
        ...

    def raw(self, entry_id: str) -> RawEntry:
        """Return the back door to a published entry."""
        ...


def content(length: int, seed: int = 0) -> bytes:
    """Return bytes that are the same for the same seed, and nothing like zeros."""
    return random.Random(seed).randbytes(length)


def representation(length: int | None, *, tag: str = "a", language: str = "") -> Representation:
    """Return what a representation of ``length`` bytes says; ``language`` is its variant."""
    value = Representation(complete_length=length, response_time=float(len(tag)))
    selecting = (("accept-language", language),) if language else ()
    return Representation(
        complete_length=value.complete_length,
        response_time=value.response_time,
        selecting=selecting,
    )


@asynccontextmanager
async def closing(place: Place, *, max_size: int | None = None) -> AsyncIterator[Store]:
    """Open the store, and close it at the end."""
    store = await place.open(max_size=max_size)
    async with store:
        yield store


async def fill(entry: Entry, data: bytes, position: int = 0) -> None:
    """Write and commit ``data``."""
    writer = entry.writer(position)
    for start in range(0, len(data), 64 * 1024):
        if not writer.write(data[start : start + 64 * 1024]):
            await writer.drain()
    await writer.aclose()


async def published(
    store: Store, data: bytes, *, key: Key = KEY, source: str = SOURCE, language: str = ""
) -> str:
    """Store ``data`` as a complete, published entry, closed again; return its identifier."""
    entry = await store.create(key, source, representation(len(data), language=language))
    await fill(entry, data)
    await entry.publish()
    await entry.aclose()
    return entry.entry_id


async def only(store: Store, key: Key = KEY) -> EntryRecord:
    """Return the one entry of ``key``."""
    (record,) = await store.select(key)
    return record
