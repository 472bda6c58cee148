"""Where the bytes of a resource go: the store, or a ring."""

import pytest

from cachestream._engine.entries import create_entry, lay_ring_over
from cachestream._engine.ephemeral import EphemeralEntry
from cachestream.backends import MemoryStore
from cachestream.core.fields import Fields
from cachestream.core.ranges import RangeSpec
from cachestream.core.representation import Representation
from cachestream.errors import StoreConflictError, StoreError, StoreFullError
from cachestream.events import StoreFailed

PLAIN = Representation(complete_length=1000)
SECRET = Representation(fields=Fields.of(("Cache-Control", "no-store")), complete_length=1000)


def test_what_may_be_stored_gets_a_published_entry(on_bench):
    """The entry is in the store at once, so that a crash keeps what was committed."""

    async def scenario(bench):
        resource = bench.resource()
        held = await create_entry(resource, PLAIN)
        (record,) = await bench.store.select(resource.key)
        assert record.entry_id == held.entry.entry_id
        await held.arelease()
        bench.pool.release_resource(resource)

    on_bench(scenario)


def test_what_may_not_be_stored_gets_a_ring(on_bench):
    """no-store, and what a private reader fetches for itself, never reach the store."""

    async def scenario(bench):
        resource = bench.resource()
        for representation, private in ((SECRET, False), (PLAIN, True)):
            resource.private = private
            held = await create_entry(resource, representation)
            assert isinstance(held.entry, EphemeralEntry)
            await held.arelease()
        resource.private = False
        assert not await bench.store.select(resource.key)
        assert not bench.seen(StoreFailed)
        bench.pool.release_resource(resource)

    on_bench(scenario)


@pytest.mark.parametrize("error", [StoreFullError("full"), StoreError("gone")])
def test_a_store_that_makes_no_entry_is_replaced_by_a_ring(on_bench, error):
    """Playback goes on, and the program is told."""

    class Broken(MemoryStore):
        async def create(self, *args, **more):
            raise error

    async def scenario(bench):
        resource = bench.resource()
        held = await create_entry(resource, PLAIN)
        assert isinstance(held.entry, EphemeralEntry)
        (event,) = bench.seen(StoreFailed)
        assert event.error is error
        await held.arelease()
        bench.pool.release_resource(resource)

    on_bench(scenario, store=lambda loop: Broken(clock=loop.wall_clock))


def test_an_entry_that_cannot_be_published_is_closed(on_bench):
    """Another writer was first: this one's entry vanishes, and a ring takes its place."""

    class Beaten(MemoryStore):
        async def create(self, *args, **more):
            entry = await super().create(*args, **more)

            async def publish():
                raise StoreConflictError("another was first")

            entry.publish = publish
            return entry

    async def scenario(bench):
        resource = bench.resource()
        held = await create_entry(resource, PLAIN)
        assert isinstance(held.entry, EphemeralEntry)
        assert not bench.store._handles
        await held.arelease()
        bench.pool.release_resource(resource)

    on_bench(scenario, store=lambda loop: Beaten(clock=loop.wall_clock))


def test_a_ring_over_an_entry_takes_its_readers_along(on_bench, content):
    """Who reads goes on over the ring, which reads what is stored from the entry below."""

    async def scenario(bench):
        resource = bench.resource()
        reader = await bench.pool.obtain(resource, RangeSpec(0, 59_999))
        base = resource.entry
        held = lay_ring_over(resource, base)
        assert resource.is_ephemeral
        assert reader.entry is held.entry
        assert reader.entry.base is base
        got = bytearray()
        for _ in range(200):
            piece = await reader.next(1000)
            if not isinstance(piece, bytes | bytearray | memoryview):
                break
            got += piece
        assert bytes(got) == content[:60_000]
        with pytest.raises(StoreError):
            lay_ring_over(resource, held.entry)
        reader.close()
        bench.pool.release_resource(resource)

    on_bench(scenario)
