"""An entry is closed after its last user, once."""

import asyncio

import pytest

from cachestream._engine.holding import HeldEntry
from cachestream.abc import Key
from cachestream.core.representation import Representation
from cachestream.errors import ClosedError


async def made(bench) -> HeldEntry:
    """Return a published entry in use once."""
    entry = await bench.store.create(Key("k"), "https://a.example/", Representation())
    await entry.publish()
    return HeldEntry(bench.context, entry)


def test_the_last_release_closes_the_entry(on_bench):
    """As long as one user is left, the entry stays open."""

    async def scenario(bench):
        held = await made(bench)
        held.retain()
        held.release()
        assert not bench.tasks
        held.release()
        await asyncio.wait(bench.tasks)
        with pytest.raises(ClosedError):
            held.entry.writer(0)

    on_bench(scenario)


def test_an_awaited_release_returns_when_the_entry_is_closed(on_bench):
    """Whoever needs the close to be over waits for it, and it is over."""

    async def scenario(bench):
        held = await made(bench)
        await held.arelease()
        with pytest.raises(ClosedError):
            held.entry.writer(0)

    on_bench(scenario)


def test_a_cancelled_release_closes_the_entry_all_the_same(on_bench):
    """The close is the manager's affair, not that of who waits for it."""

    async def scenario(bench):
        held = await made(bench)
        waiting = asyncio.ensure_future(held.arelease())
        await asyncio.sleep(0)
        waiting.cancel()
        await asyncio.wait((waiting, *bench.tasks))
        with pytest.raises(ClosedError):
            held.entry.writer(0)

    on_bench(scenario)


def test_an_entry_that_is_not_wanted_any_more_is_deleted_at_its_close(on_bench):
    """`delete_on_close` takes the entry out of the store after its last user."""

    async def scenario(bench):
        held = await made(bench)
        held.delete_on_close = True
        assert await bench.store.select(Key("k"))
        await held.arelease()
        assert not await bench.store.select(Key("k"))

    on_bench(scenario)


def test_an_entry_can_be_let_go_after_the_end(on_bench):
    """A release after the manager's close is no crash; an awaited one closes at once."""

    async def scenario(bench):
        held = await made(bench)
        bench.context.closing = True
        await held.arelease()
        with pytest.raises(ClosedError):
            held.entry.writer(0)
        bench.context.closing = False

    on_bench(scenario)
