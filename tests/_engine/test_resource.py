"""A resource in use: obtaining readers, knowing, completing, resetting, ending."""

import asyncio

import pytest

from cachestream.abc import END
from cachestream.core.fields import Fields
from cachestream.core.ranges import RangeSpec
from cachestream.core.spans import Span
from cachestream.errors import (
    ClosedError,
    ConnectError,
    NotStoredError,
    RangeNotSatisfiableError,
    RepresentationChangedError,
    StoreError,
    UpstreamTimeoutError,
)
from cachestream.events import RepresentationChanged, ResourceCompleted, StoreFailed
from cachestream.testing.simulation import Version


async def drain(reader) -> bytes:
    """Read to the end, and close."""
    got = bytearray()
    try:
        while (piece := await reader.next(7000)) is not END:
            got += piece
    finally:
        reader.close()
    return bytes(got)


def new_version(bench, content=bytes(100_000)) -> bytes:
    """Let the origin have another version, and return its content."""
    bench.origin.versions.append(Version(content, '"v2"'))
    return content


# ---------------------------------------------------------------------------
# Obtaining
# ---------------------------------------------------------------------------


def test_an_unknown_resource_is_learned_from_its_first_bytes(on_bench, content):
    """Length, validators and range support come from the answer to the first range wanted."""

    async def scenario(bench):
        resource = bench.resource()
        assert resource.complete_length is None
        assert resource.obtain_nowait(None) is None
        reader = await resource.obtain(RangeSpec(70_000, 70_999))
        assert bench.asked == ["bytes=70000-70999"]
        assert resource.complete_length == len(content)
        assert await drain(reader) == content[70_000:71_000]
        bench.pool.release_resource(resource)

    on_bench(scenario)


def test_what_is_stored_is_obtained_without_waiting(on_bench, content):
    """`obtain_nowait` gives a reader whose first byte is there, and else None."""

    async def scenario(bench):
        resource = bench.resource()
        await bench.read(RangeSpec(0, 999), resource)
        reader = resource.obtain_nowait(RangeSpec(500, 999))
        assert await drain(reader) == content[500:1000]
        assert resource.obtain_nowait(RangeSpec(50_000, 50_999)) is None
        with pytest.raises(RangeNotSatisfiableError):
            resource.obtain_nowait(RangeSpec(100_000))
        bench.pool.release_resource(resource)

    on_bench(scenario)


def test_a_range_past_the_end_leaves_nothing_behind(on_bench):
    """The error tells the length; no reader and no download is left of it."""

    async def scenario(bench):
        resource = bench.resource()
        for _ in range(2):
            with pytest.raises(RangeNotSatisfiableError) as caught:
                await resource.obtain(RangeSpec(100_000))
            assert caught.value.complete_length == 100_000
        await resource.scheduler.wait_idle()
        assert not resource.readers
        assert not resource.downloads
        bench.pool.release_resource(resource)

    on_bench(scenario)


def test_an_origin_that_is_silent_is_given_up(on_bench):
    """Learning has the same limit as any wait."""

    async def scenario(bench):
        resource = bench.resource()
        bench.origin.faults.stall = 2.0
        with pytest.raises(UpstreamTimeoutError):
            await resource.obtain(None)
        assert bench.loop.time() == pytest.approx(10, abs=1)
        bench.pool.release_resource(resource)

    on_bench(scenario, request_timeout=10.0)


def test_an_origin_that_fails_tells_all_who_wait(on_bench):
    """Everybody gets the failure of the one exchange, and the next who comes tries again."""

    async def scenario(bench):
        resource = bench.resource()
        bench.origin.faults.refuse = 1.0
        results = await asyncio.gather(
            *(resource.obtain(None) for _ in range(5)), return_exceptions=True
        )
        assert all(isinstance(each, ConnectError) for each in results)
        tries = bench.origin.requests
        assert tries < 10
        bench.origin.faults.refuse = 0.0
        (await resource.obtain(None)).close()
        bench.pool.release_resource(resource)

    on_bench(scenario)


def test_an_origin_that_always_changes_is_given_up(on_bench):
    """A request puts up with a few new versions before its first byte, not with any number."""

    async def scenario(bench):
        resource = bench.resource()
        await bench.read(RangeSpec(0, 999), resource)
        versions = iter(range(2, 1000))

        def change(number):
            return Version(bytes([number % 256]) * 100_000, f'"v{number}"')

        fetch = bench.transport.fetch

        async def changing(request):
            bench.origin.versions.append(change(next(versions)))
            return await fetch(request)

        bench.transport.fetch = changing
        with pytest.raises(RepresentationChangedError):
            await drain(await resource.obtain(RangeSpec(50_000, 99_999)))
        bench.pool.release_resource(resource)

    on_bench(scenario, read_ahead=0, max_read_ahead=0)


# ---------------------------------------------------------------------------
# Being current
# ---------------------------------------------------------------------------


def test_stored_answers_are_validated_as_the_settings_say(on_bench, content):
    """never asks nothing, stale asks after the lifetime, always asks each time."""

    async def scenario(bench, expected):
        resource = bench.resource()
        assert await drain(await resource.obtain(None)) == content
        counts = []
        for age in (0, 120):
            await asyncio.sleep(age)
            before = bench.origin.requests
            assert await drain(await resource.obtain(None)) == content
            counts.append(bench.origin.requests - before)
        assert counts == expected
        bench.pool.release_resource(resource)

    def minute(origin):
        origin.fields = Fields.of(("Cache-Control", "max-age=60"))

    expectations = {"never": [0, 0], "stale": [0, 1], "always": [1, 1]}
    for validation, expected in expectations.items():
        on_bench(
            lambda bench, expected=expected: scenario(bench, expected),
            validation=validation,
            origin=minute,
        )


def test_an_outdated_answer_is_replaced_when_it_is_checked(on_bench, content):
    """The next reader gets the new version; one that has all of the old reads it to the end."""

    async def scenario(bench):
        resource = bench.resource()
        await bench.read(None, resource)
        old = await resource.obtain(None)
        await old.next(1000)
        new = new_version(bench)
        assert await drain(await resource.obtain(None)) == new
        assert await drain(old) == content[1000:]
        bench.pool.release_resource(resource)

    on_bench(scenario, validation="always")


def test_a_failing_check_serves_what_is_stored(on_bench, content):
    """Offline first: the origin's silence is no reason to fail."""

    async def scenario(bench):
        resource = bench.resource()
        await bench.read(None, resource)
        bench.origin.faults.refuse = 1.0
        assert await drain(await resource.obtain(None)) == content
        bench.pool.release_resource(resource)

    on_bench(scenario, validation="always")


def test_validating_tells_and_touches_nothing(on_bench, content):
    """True, False, or None when there is nothing to ask about; nothing is deleted for it."""

    async def scenario(bench):
        resource = bench.resource()
        assert await resource.validate() is None
        await bench.read(None, resource)
        await resource.scheduler.wait_idle()
        assert await resource.validate(force=True) is True
        new_version(bench)
        assert await resource.validate(force=True) is False
        assert await bench.read(None, resource) == content
        bench.origin.faults.refuse = 1.0
        with pytest.raises(ConnectError):
            await resource.validate(force=True)
        assert resource.is_complete
        bench.pool.release_resource(resource)

    on_bench(scenario)


def test_a_fresh_answer_is_not_asked_about_without_need(on_bench):
    """Within its lifetime an answer is current, unless the check is forced."""

    async def scenario(bench):
        resource = bench.resource()
        await bench.read(None, resource)
        await resource.scheduler.wait_idle()
        before = bench.origin.requests
        assert await resource.validate() is True
        assert bench.origin.requests == before
        assert await resource.validate(force=True) is True
        assert bench.origin.requests == before + 1
        bench.pool.release_resource(resource)

    def hour(origin):
        origin.fields = Fields.of(("Cache-Control", "max-age=3600"))

    on_bench(scenario, origin=hour)


def test_a_change_is_told_once_and_supersedes_the_stored_entry(on_bench):
    """The store has one entry of the variant afterwards: the new one."""

    async def scenario(bench):
        resource = bench.resource()
        await bench.read(RangeSpec(0, 999), resource)
        new = new_version(bench)
        assert await bench.read(RangeSpec(50_000, 59_999), resource) == new[50_000:60_000]
        assert len(bench.seen(RepresentationChanged)) == 1
        (record,) = await bench.store.select(resource.key)
        assert record.representation.fields.get("etag") == '"v2"'
        bench.pool.release_resource(resource)

    on_bench(scenario)


# ---------------------------------------------------------------------------
# Knowing without reading
# ---------------------------------------------------------------------------


def test_a_head_is_asked_once(on_bench):
    """What is known is not asked again; a stored entry answers without a request."""

    async def scenario(bench):
        resource = bench.resource()
        assert (await resource.head()).complete_length == 100_000
        assert (await resource.head()).complete_length == 100_000
        assert bench.origin.requests == 1
        bench.pool.release_resource(resource)

    on_bench(scenario)


def test_what_was_stored_is_known_in_the_next_life(on_bench, content):
    """A resource opens what the store holds, and completes it from there."""

    async def scenario(bench):
        first = bench.resource()
        await bench.read(RangeSpec(0, 49_999), first)
        await bench.pool.dispose(first)
        served = sum(len(span) for _, span in bench.origin.served)
        resource = bench.resource()
        await resource.ready()
        assert resource.spans.covers(Span(0, 50_000))
        assert resource.complete_length == len(content)
        await resource.complete()
        assert sum(len(span) for _, span in bench.origin.served) == len(content)
        assert served >= 50_000
        bench.pool.release_resource(resource)

    on_bench(scenario)


def test_a_store_that_cannot_be_opened_is_gone_without(on_bench, content):
    """The program is told, and the content comes from the origin."""

    async def scenario(bench):
        async def broken(key):
            raise StoreError("the disk is gone")

        bench.store.select = broken
        assert await bench.read() == content
        assert bench.seen(StoreFailed)

    on_bench(scenario)


# ---------------------------------------------------------------------------
# Completing
# ---------------------------------------------------------------------------


def test_completing_fetches_every_byte_once(on_bench, content):
    """It returns when all is committed, tells so once, and costs nothing the second time."""

    async def scenario(bench):
        resource = bench.resource()
        await bench.read(RangeSpec(40_000, 49_999), resource)
        await asyncio.gather(*(resource.complete() for _ in range(3)))
        assert resource.is_committed
        assert sum(len(span) for _, span in bench.origin.served) == len(content)
        (event,) = bench.seen(ResourceCompleted)
        assert event.length == len(content)
        before = bench.origin.requests
        await resource.complete()
        assert bench.origin.requests == before
        bench.pool.release_resource(resource)

    on_bench(scenario)


def test_completing_fails_clearly_where_it_cannot(on_bench):
    """no-store, offline and a failing origin are reasons; none of them is waited out for ever."""

    async def secret(bench):
        resource = bench.resource()
        with pytest.raises(StoreError, match="cannot be stored"):
            await resource.complete()
        bench.pool.release_resource(resource)

    async def offline(bench):
        resource = bench.resource(offline=True)
        with pytest.raises(NotStoredError):
            await resource.complete()
        bench.pool.release_resource(resource)

    async def failing(bench):
        resource = bench.resource()
        await bench.read(RangeSpec(0, 999), resource)
        bench.origin.faults.refuse = 1.0
        with pytest.raises(ConnectError):
            await resource.complete()
        assert isinstance(resource.last_error, ConnectError)
        bench.pool.release_resource(resource)

    def no_store(origin):
        origin.fields = Fields.of(("Cache-Control", "no-store"))

    on_bench(secret, origin=no_store)
    on_bench(offline)
    on_bench(failing, request_timeout=5.0)


def test_a_completer_survives_a_pause_and_a_change(on_bench):
    """A pause stops it until somebody comes back; a new version is completed instead."""

    async def scenario(bench):
        resource = bench.resource()
        completing = asyncio.ensure_future(resource.complete())
        while not resource.spans.total:
            await asyncio.sleep(0.01)
        resource.pause()
        new_version(bench)
        await asyncio.sleep(50)
        assert not completing.done()
        resource.resume()
        await completing
        assert str(resource.representation.entity_tag) == '"v2"'
        assert resource.is_committed
        bench.pool.release_resource(resource)

    on_bench(scenario)


# ---------------------------------------------------------------------------
# Resetting and ending
# ---------------------------------------------------------------------------


def test_a_reset_deletes_what_is_held_and_fails_its_readers(on_bench, content):
    """Who comes later gets it anew, from the origin."""

    async def scenario(bench):
        resource = bench.resource()
        await bench.read(None, resource)
        reader = await resource.obtain(None)
        await reader.next(1000)
        await resource.reset()
        assert not resource.spans
        assert not await bench.store.select(resource.key)
        with pytest.raises(RepresentationChangedError):
            await reader.next(1000)
        reader.close()
        assert await bench.read(None, resource) == content
        bench.pool.release_resource(resource)

    on_bench(scenario)


def test_a_reset_forgets_a_refusal(on_bench, line, content):
    """The program wants it anew now, whatever the origin has said."""
    whole = (("Content-Length", "5"), ("ETag", '"v1"'))

    async def scenario(bench):
        resource = bench.resource()
        for _ in range(2):
            with pytest.raises(Exception, match="404"):
                await resource.obtain(None)
        await resource.reset()
        assert await drain(await resource.obtain(None)) == b"abcde"
        assert len(bench.asked) == 2
        bench.pool.release_resource(resource)

    on_bench(scenario, script=[line(404), line(200, whole, b"abcde")], error_ttl=60.0)


@pytest.mark.parametrize(
    ("settings", "part", "whole"),
    [
        ({}, True, True),
        ({"save_partial_cache": False}, False, True),
        ({"save_metadata": False}, True, False),
    ],
)
def test_what_is_kept_at_the_end_is_a_setting(on_bench, settings, part, whole):
    """Incomplete and complete entries are kept or deleted when the stream is closed."""

    async def scenario(bench, spec, kept):
        resource = bench.resource()
        await bench.read(spec, resource)
        await resource.scheduler.wait_idle()
        await bench.pool.dispose(resource)
        assert bool(await bench.store.select(resource.key)) is kept

    on_bench(lambda bench: scenario(bench, RangeSpec(0, 999), part), **settings)
    on_bench(lambda bench: scenario(bench, None, whole), **settings)


def test_the_end_wakes_everybody(on_bench):
    """Readers, completers and those who wait for a first head are told, at once."""

    async def scenario(bench):
        resource = bench.resource()
        bench.origin.faults.stall = 2.0
        learning = asyncio.ensure_future(resource.obtain(None))
        completing = asyncio.ensure_future(resource.complete())
        await asyncio.sleep(1)
        await bench.pool.dispose(resource)
        for each in (learning, completing):
            with pytest.raises(ClosedError):
                await each
        with pytest.raises(ClosedError):
            await resource.obtain(None)
        await resource.aclose()
        assert bench.loop.time() < 5

    on_bench(scenario)
