"""A memory medium is to its store what a disk is to a process."""

import pytest

from cachestream.abc import Key
from cachestream.backends import MemoryMedium, MemoryStore
from cachestream.backends._medium import BLOCK
from cachestream.core.representation import Representation
from cachestream.core.spans import Span

KEY = Key("https://example.com/a")


async def entry_of(medium, size=3 * BLOCK):
    """Return a published entry with some bytes, and its writer."""
    entry = await MemoryStore(medium).create(KEY, KEY, Representation())
    writer = entry.writer(0)
    writer.write(b"x" * size)
    await entry.publish()
    return entry, writer


@pytest.mark.asyncio
async def test_a_crash_gives_back_what_was_not_committed():
    """Blocks that hold uncommitted bytes only are free after a crash; their bytes are gone."""
    medium = MemoryMedium()
    entry, writer = await entry_of(medium)
    await writer.commit()
    writer.write(b"y" * 5 * BLOCK)
    assert medium.allocated == 8 * BLOCK
    medium.crash()
    assert medium.allocated == 3 * BLOCK
    assert medium.raw(entry.entry_id, Span(3 * BLOCK, 3 * BLOCK + 4)) == bytes(4)


@pytest.mark.asyncio
async def test_a_crash_ends_every_store_on_the_medium():
    """A handle from before the crash changes nothing after it."""
    medium = MemoryMedium()
    entry, writer = await entry_of(medium)
    await writer.commit()
    medium.crash()
    await writer.aclose()
    await entry.aclose()
    assert medium.raw(entry.entry_id, Span(0, 2)) == b"xx"
    assert len(medium.cells) == 1


@pytest.mark.asyncio
async def test_room_is_counted_by_blocks():
    """A byte takes a block; a block is free when its last byte is forgotten."""
    medium = MemoryMedium()
    entry, _ = await entry_of(medium, BLOCK + 1)
    assert medium.allocated == 2 * BLOCK
    await entry.discard(Span(0, BLOCK))
    assert medium.allocated == BLOCK
    await entry.discard(Span(BLOCK, BLOCK + 1))
    assert medium.allocated == 0
