"""Live resources: one a key, for as long as somebody uses them and a little longer."""

import asyncio

import pytest

from cachestream.core.ranges import RangeSpec
from cachestream.errors import ClosedError
from cachestream.events import StreamCreated, StreamDisposed

SOURCE = "https://origin.example/film.mp4"


def test_one_resource_a_key(on_bench):
    """However a URL is spelt, and however often it is asked for, there is one resource."""

    async def scenario(bench):
        one = bench.pool.retain(SOURCE)
        two = bench.pool.retain("HTTPS://ORIGIN.example:443/film.mp4#fragment")
        assert one is two
        assert bench.pool.get(SOURCE) is one
        assert bench.pool.get("https://origin.example/other") is None
        assert len(bench.seen(StreamCreated)) == 1
        bench.pool.release_resource(one)
        bench.pool.release_resource(two)

    on_bench(scenario)


def test_an_unused_resource_pauses_and_then_ends(on_bench):
    """Its downloads stop after a while, and later its entry is closed."""

    async def scenario(bench):
        resource = bench.resource()
        await bench.read(RangeSpec(0, 999), resource)
        bench.pool.release_resource(resource)
        await asyncio.sleep(9)
        assert not resource.scheduler.paused
        await asyncio.sleep(2)
        assert resource.scheduler.paused
        assert not resource.downloads
        await asyncio.sleep(20)
        assert resource.closed
        assert bench.pool.get(SOURCE) is None
        assert len(bench.seen(StreamDisposed)) == 1
        assert not bench.store._handles

    on_bench(scenario, pause_after=10.0, dispose_after=30.0, completion="complete")


def test_whoever_comes_back_in_time_finds_it_going_on(on_bench, content):
    """Retaining a paused resource calls its end off."""

    async def scenario(bench):
        resource = bench.resource()
        await bench.read(RangeSpec(0, 999), resource)
        bench.pool.release_resource(resource)
        await asyncio.sleep(15)
        assert resource.scheduler.paused
        assert await bench.read() == content
        assert bench.pool.get(SOURCE) is resource
        await asyncio.sleep(25)
        assert not resource.closed
        await asyncio.sleep(10)
        assert resource.closed

    on_bench(scenario, pause_after=10.0, dispose_after=30.0)


def test_a_short_disposal_needs_no_pause(on_bench):
    """If the end comes before the pause, it comes at the pause's time."""

    async def scenario(bench):
        resource = bench.resource()
        bench.pool.release_resource(resource)
        await asyncio.sleep(6)
        assert resource.closed

    on_bench(scenario, pause_after=5.0, dispose_after=1.0)


def test_releases_never_go_below_zero(on_bench):
    """One release too many is no harm to who comes next."""

    async def scenario(bench):
        resource = bench.resource()
        bench.pool.release_resource(resource)
        bench.pool.release_resource(resource)
        bench.pool.retain_resource(resource)
        assert resource.retained == 1
        bench.pool.release_resource(resource)

    on_bench(scenario)


def test_a_disposed_resource_fails_its_readers_and_makes_room_for_another(on_bench, content):
    """Disposal closes it whoever uses it; the next user gets a new one with the same bytes."""

    async def scenario(bench):
        resource = bench.resource()
        reader = await bench.pool.obtain(resource, None)
        await asyncio.gather(bench.pool.dispose(resource), bench.pool.dispose(resource))
        assert resource.closed
        with pytest.raises(ClosedError):
            while True:
                await reader.next(10_000)
        reader.close()
        bench.pool.release_resource(resource)
        assert await bench.read() == content
        assert bench.pool.get(SOURCE) is not resource

    on_bench(scenario)


def test_two_resources_never_share_an_entry(on_bench, content):
    """A new one waits until the old one has closed its entry."""

    async def scenario(bench):
        old = bench.resource()
        await bench.read(RangeSpec(0, 49_999), old)
        ending = asyncio.ensure_future(bench.pool.dispose(old))
        await asyncio.sleep(0)
        requests = bench.origin.requests
        assert await bench.read(RangeSpec(0, 49_999)) == content[:50_000]
        assert bench.origin.requests == requests
        await ending
        await bench.pool.settled(old.key)
        bench.pool.release_resource(old)

    on_bench(scenario)


def test_who_cannot_share_an_exchange_gets_one_of_its_own(on_bench, content):
    """A ring that has forgotten what a late reader needs is not shared with it."""

    def endless(origin):
        origin.ranges = False
        origin.fields = origin.fields.replace(("Cache-Control", "no-store"))

    async def scenario(bench):
        resource = bench.resource()
        first = await bench.pool.obtain(resource, None)
        got = bytearray()
        while len(got) < 60_000:
            got += await first.next(5_000)
        late = await bench.pool.obtain(resource, None)
        assert late.resource in bench.pool.private
        for reader, begun in ((late, b""), (first, bytes(got))):
            rest = bytearray()
            while isinstance(piece := await reader.next(10_000), bytes | memoryview | bytearray):
                rest += piece
            assert begun + bytes(rest) == content
            reader.close()
        bench.pool.release_resource(resource)
        await asyncio.sleep(1)
        assert not bench.pool.private
        assert bench.origin.requests == 2

    on_bench(scenario, origin=endless)


def test_after_the_end_nothing_can_be_retained(on_bench):
    """A closed pool refuses, and what was live is closed."""

    async def scenario(bench):
        resource = bench.resource()
        await bench.read(RangeSpec(0, 999), resource)
        await bench.pool.aclose()
        assert resource.closed
        with pytest.raises(ClosedError):
            bench.pool.retain(SOURCE)

    on_bench(scenario)


def test_of_too_many_that_nobody_uses_the_one_used_longest_ago_ends(on_bench):
    """Open files are few: idle streams end early, but none that is used or downloads."""

    async def scenario(bench):
        pool = bench.pool
        pool._most_idle = 3
        made = [pool.retain(f"{SOURCE}?{number}") for number in range(5)]
        for resource in made[:4]:
            pool.release_resource(resource)
        await asyncio.sleep(0.1)
        assert [resource.closed for resource in made] == [True, False, False, False, False]
        again = pool.retain(f"{SOURCE}?1")
        assert again is made[1]
        pool.release_resource(again)
        pool.release_resource(made[4])
        await asyncio.sleep(0.1)
        assert [resource.closed for resource in made] == [True, False, True, False, False]

    on_bench(scenario)


def test_an_idle_stream_that_shortcuts_use_is_not_the_one_to_end(on_bench):
    """A shortcut does not retain, but it is a use."""

    async def scenario(bench):
        pool = bench.pool
        pool._most_idle = 2
        made = [pool.retain(f"{SOURCE}?{number}") for number in range(3)]
        for resource in made[:2]:
            pool.release_resource(resource)
        await asyncio.sleep(0.1)
        made[0].used = bench.loop.time()
        pool.release_resource(made[2])
        await asyncio.sleep(0.1)
        assert [resource.closed for resource in made] == [False, True, False]

    on_bench(scenario)


def test_a_stream_that_is_downloading_does_not_end_for_another(on_bench):
    """What was begun goes on until it pauses."""

    async def scenario(bench):
        pool = bench.pool
        pool._most_idle = 0
        resource = bench.resource(completion="complete")
        reader = await pool.obtain(resource, None)
        await reader.next(1000)
        reader.close()
        pool.release_resource(resource)
        await asyncio.sleep(0)
        assert not resource.closed
        assert resource.downloads
        await resource.scheduler.wait_idle()
        other = pool.retain(f"{SOURCE}?other")
        pool.release_resource(other)
        await asyncio.sleep(0.1)
        assert resource.closed
        assert other.closed

    on_bench(scenario)
