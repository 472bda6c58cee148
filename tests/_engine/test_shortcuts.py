"""Shortcuts: what they save, and when they must not be taken."""

import logging
import os
import time

import pytest
import pytest_asyncio

from cachestream import CacheManager
from cachestream.abc import RequestHead
from cachestream.core.spans import Span
from cachestream.events import RequestAnswered
from cachestream.testing.origin import Origin, pattern

KIB = 1 << 10
MIB = 1 << 20
LIMIT = 4 * MIB
OLD = pattern("old", MIB + 123).bytes()
NEW = pattern("new", MIB + 123).bytes()

pytestmark = pytest.mark.asyncio


@pytest_asyncio.fixture
async def origin():
    """Serve one file."""
    async with Origin() as origin:
        origin.add("/a.bin", OLD)
        yield origin


class World:
    """A cache, and how its handler is asked."""

    def __init__(self, cache, origin):
        self.cache = cache
        self.source = origin.url("/a.bin")
        self.head = RequestHead(method="GET", target=f"/http/{origin.authority}/a.bin")
        self.now = time.time() + 5
        self.events = []

    async def hold(self):
        """Have all of the file, as a live resource."""
        await self.cache.pre_cache_url(self.source)
        return self.cache.create_stream(self.source)

    def shortcut(self):
        return self.cache._handler.shortcut(self.head)

    @property
    def resource(self):
        return self.cache._pool.get(self.source)

    @property
    def counters(self):
        return self.cache._context.counters


@pytest_asyncio.fixture
async def world(origin, tmp_path):
    events = []
    async with CacheManager(
        cache_dir=tmp_path, min_free=0, start_server=False, listeners=[events.append]
    ) as cache:
        world = World(cache, origin)
        world.events = events
        cache._context.clock = lambda: world.now
        yield world


def content(part):
    return os.pread(part.descriptor, part.stop - part.start, part.offset)


async def test_each_answer_is_counted(world):
    """A shortcut is a hit like any other, in numbers and in events."""
    await world.hold()
    shortcut, before = world.shortcut(), world.counters.hits
    size = world.counters.bytes_from_store
    assert content(shortcut.take(5, 104, LIMIT)) == OLD[5:105]
    assert content(shortcut.take(None, None, LIMIT)) == OLD
    assert world.counters.hits == before + 2
    assert world.counters.bytes_from_store == size + 100 + len(OLD)
    answered = [each.status for each in world.events if isinstance(each, RequestAnswered)]
    assert answered[-2:] == [206, 200]


async def test_nobody_is_told_of_answers_who_does_not_care(origin, tmp_path):
    """The manager's own listener is none of those."""
    async with CacheManager(cache_dir=tmp_path, min_free=0, start_server=False) as cache:
        assert cache._context.tells_answers == logging.getLogger("cachestream.engine").isEnabledFor(
            logging.DEBUG
        )


async def test_there_is_none_before_all_is_held(world):
    """Where something is missing, downloads have to be planned."""
    await world.cache.pre_cache_url(world.source, bytes=100 * KIB)
    stream = world.cache.create_stream(world.source)
    assert world.shortcut() is None
    await stream.download()
    assert world.shortcut() is not None


async def test_there_is_none_for_a_resource_that_is_not_live(world):
    """What is not in memory takes the ordinary way, which opens it."""
    assert world.shortcut() is None


async def test_there_is_none_where_the_origin_has_to_be_asked(origin, tmp_path):
    """What must be validated each time has no shortcut."""
    async with CacheManager(
        cache_dir=tmp_path, min_free=0, start_server=False, validation="always"
    ) as cache:
        world = World(cache, origin)
        await world.hold()
        assert world.shortcut() is None


async def test_a_shortcut_dies_with_its_version(world, origin):
    """Bytes of another version are never taken for those of this one."""
    stream = await world.hold()
    shortcut = world.shortcut()
    assert shortcut.alive
    assert shortcut.take(0, 9, LIMIT) is not None
    origin.add("/a.bin", NEW)
    await stream.reset_cache()
    assert not shortcut.alive
    assert shortcut.take(0, 9, LIMIT) is None
    await stream.download()
    assert not shortcut.alive
    assert shortcut.take(0, 9, LIMIT) is None
    assert content(world.shortcut().take(0, 9, LIMIT)) == NEW[:10]


async def test_a_shortcut_dies_with_its_resource(world):
    """It does not keep what it points at."""
    await world.hold()
    shortcut, resource = world.shortcut(), world.resource
    assert shortcut.take(0, 9, LIMIT) is not None
    await world.cache._pool.dispose(resource)
    assert not shortcut.alive
    assert shortcut.take(0, 9, LIMIT) is None


async def test_bytes_that_were_given_up_are_not_sent(world):
    """Eviction of a span is noticed at once, whatever was found out before."""
    await world.hold()
    shortcut = world.shortcut()
    assert shortcut.take(0, 300 * KIB, LIMIT) is not None
    assert await world.resource.entry.discard(Span(64 * KIB, 128 * KIB))
    assert shortcut.take(0, 300 * KIB, LIMIT) is None
    assert content(shortcut.take(0, 64 * KIB - 1, LIMIT)) == OLD[: 64 * KIB]
    assert content(shortcut.take(256 * KIB, None, LIMIT)) == OLD[256 * KIB :]


async def test_bytes_that_were_not_checked_are_not_sent(world, origin, tmp_path):
    """After a restart the first reader checks the sums."""
    await world.hold()
    await world.cache.aclose()
    async with CacheManager(
        cache_dir=tmp_path, min_free=0, start_server=False, allow_hosts=("any",)
    ) as cache:
        again = World(cache, origin)
        cache.create_stream(again.source)
        await again.resource.ready()
        shortcut = again.shortcut()
        assert shortcut.take(0, 9, LIMIT) is None
        answer = await cache._handler.answer(again.head)
        await answer.body.next(64 * KIB)
        answer.close()
        assert content(shortcut.take(0, 9, LIMIT)) == OLD[:10]


async def test_fields_are_made_once_a_second(world):
    """Age goes on, and within one second the fields are the same object."""
    await world.hold()
    shortcut = world.shortcut()
    first = shortcut.take(0, 9, LIMIT).extra
    assert shortcut.take(5, 9, LIMIT).extra is first
    world.now += 61
    later = shortcut.take(5, 9, LIMIT).extra
    assert int(dict(later)["Age"]) == int(dict(first)["Age"]) + 61
    assert dict(later)["Cache-Status"] == "cachestream; hit"
    world.now -= 61  # the clock was set
    assert dict(shortcut.take(5, 9, LIMIT).extra)["Age"] == dict(first)["Age"]


async def test_a_resource_in_use_by_shortcuts_stays(origin, tmp_path):
    """Being used puts the end off that comes some time after the last use."""
    async with CacheManager(
        cache_dir=tmp_path, min_free=0, start_server=False, pause_after=3600, dispose_after=7200
    ) as cache:
        world = World(cache, origin)
        stream = await world.hold()
        shortcut, resource = world.shortcut(), world.resource
        assert shortcut.take(0, 9, LIMIT) is not None
        stream.release()
        assert not resource.retained
        cache._pool._dispose_later(resource)
        assert world.resource is resource
        resource.used = float("-inf")
        cache._pool._dispose_later(resource)
        assert world.resource is None
