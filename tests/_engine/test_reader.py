"""A reader gives bytes in order, waits for what is not there, and owns nothing but its place."""

import asyncio

import pytest

from cachestream.abc import END
from cachestream.core.ranges import RangeSpec
from cachestream.core.spans import Span
from cachestream.errors import (
    ClosedError,
    ConnectError,
    RepresentationChangedError,
    StoreCorruptError,
    UpstreamTimeoutError,
)
from cachestream.testing.simulation import Version


async def reading(bench, spec=None, **changes):
    """Return a resource and a reader of it."""
    resource = bench.resource(**changes)
    try:
        return resource, await bench.pool.obtain(resource, spec)
    finally:
        bench.pool.release_resource(resource)


async def drain(reader) -> bytes:
    """Read to the end."""
    got = bytearray()
    while (piece := await reader.next(7000)) is not END:
        got += piece
    return bytes(got)


async def blocked(reader) -> "asyncio.Future":
    """Return a read that is under way, once it waits for its byte."""
    reading = asyncio.ensure_future(reader.next(1000))
    while not reader.waiting:
        assert not reading.done()
        await asyncio.sleep(0)
    return reading


def test_pieces_come_in_order_and_within_the_limit(on_bench, content):
    """Each piece has at least a byte and at most the limit; after the last comes END, again."""

    async def scenario(bench):
        _, reader = await reading(bench, RangeSpec(100, 59_999))
        got = bytearray()
        while (piece := await reader.next(999)) is not END:
            assert 0 < len(piece) <= 999
            got += piece
        assert bytes(got) == content[100:60_000]
        assert await reader.next(999) is END
        assert reader.take_nowait(999) is END
        reader.close()

    on_bench(scenario)


def test_what_is_not_there_yet_is_not_given_without_waiting(on_bench, content):
    """`take_nowait` says None at the first missing byte, and gives what is stored."""

    async def scenario(bench):
        _, reader = await reading(bench)
        while reader.take_nowait(10_000) is not None:
            pass
        position = reader.position
        assert position not in reader.entry.spans
        piece = await reader.next(10_000)
        assert bytes(piece) == content[position : position + len(piece)]
        reader.close()

    on_bench(scenario, read_ahead=0)


def test_a_piece_is_leased_until_the_next_call(on_bench):
    """What a client is sending cannot be evicted; what it has sent can."""

    async def scenario(bench):
        _, reader = await reading(bench)
        await drain(reader)
        reader.close()
        resource, again = await reading(bench)
        entry = again.entry
        await again.next(1000)
        assert await entry.discard(Span(0, 1000)) == 0
        await again.next(1000)
        assert await entry.discard(Span(0, 1000)) == 1000
        again.close()
        assert await entry.discard(Span(1000, 2000)) == 1000
        assert not resource.readers

    on_bench(scenario)


def test_a_closed_reader_raises_and_closing_twice_is_nothing(on_bench):
    """Who reads on after the close is told so, also when waiting in another task."""

    async def scenario(bench):
        resource, reader = await reading(bench, read_ahead=0)
        while reader.take_nowait(10_000) is not None:
            pass
        waiting = await blocked(reader)
        reader.close()
        reader.close()
        with pytest.raises(ClosedError):
            await waiting
        with pytest.raises(ClosedError):
            await reader.next(1000)
        assert not resource.readers
        assert len(resource.waiters) == 0

    on_bench(scenario)


def test_a_cancelled_wait_leaves_the_reader_usable(on_bench, content):
    """A wait that was given up loses no byte and no place."""

    async def scenario(bench):
        resource, reader = await reading(bench, read_ahead=0)
        got = bytearray()
        while (piece := reader.take_nowait(10_000)) is not None:
            got += piece
        waiting = await blocked(reader)
        waiting.cancel()
        await asyncio.wait((waiting,))
        assert len(resource.waiters) == 0
        assert bytes(got) + await drain(reader) == content
        reader.close()

    on_bench(scenario)


def test_a_failure_is_raised_from_the_next_byte_on(on_bench):
    """The first error stays, and it wakes a waiting reader."""

    async def scenario(bench):
        _, reader = await reading(bench, read_ahead=0)
        while reader.take_nowait(10_000) is not None:
            pass
        waiting = await blocked(reader)
        reader.fail(ConnectError("first"))
        reader.fail(ConnectError("second"))
        with pytest.raises(ConnectError, match="first"):
            await waiting
        with pytest.raises(ConnectError, match="first"):
            reader.take_nowait(1000)
        reader.close()

    on_bench(scenario)


def test_an_outdated_reader_goes_on_only_if_it_has_everything(on_bench, content):
    """All of the old version, or a visible cut; never the new version's bytes."""

    async def scenario(bench):
        _, whole = await reading(bench)
        await drain(whole)
        whole.close()
        _, reader = await reading(bench)
        await reader.next(1000)
        reader.outdate()
        assert content[1000:] == await drain(reader)
        reader.close()
        _, poor = await reading(bench)
        await poor.entry.discard(Span(50_000, 60_000))
        poor.outdate()
        with pytest.raises(RepresentationChangedError):
            await poor.next(1000)
        poor.close()

    on_bench(scenario)


def test_silence_of_the_origin_ends_a_wait(on_bench):
    """After the request timeout without progress the reader fails, with the cause chained."""

    async def scenario(bench):
        _, reader = await reading(bench, read_ahead=0)
        while reader.take_nowait(10_000) is not None:
            pass
        bench.origin.faults.stall = 2.0
        began = bench.loop.time()
        with pytest.raises(UpstreamTimeoutError):
            await drain(reader)
        assert bench.loop.time() - began >= 10
        reader.close()

    on_bench(scenario, request_timeout=10.0, completion="demand")


def test_a_wait_may_have_a_limit_of_its_own(on_bench):
    """`max_wait` ends a wait for one byte even if others get theirs."""

    async def scenario(bench):
        _, reader = await reading(bench, read_ahead=0)
        while reader.take_nowait(10_000) is not None:
            pass
        bench.origin.faults.stall = 2.0
        began = bench.loop.time()
        with pytest.raises(UpstreamTimeoutError):
            await drain(reader)
        assert bench.loop.time() - began < 5
        reader.close()

    on_bench(scenario, max_wait=3.0)


def test_damaged_bytes_are_fetched_anew(on_bench, content):
    """A read that fails its check becomes a hole, and the reader waits for right bytes."""

    async def scenario(bench):
        _, first = await reading(bench)
        await drain(first)
        first.close()
        _, reader = await reading(bench)
        entry = reader.entry
        right, bad = entry.read, [Span(0, 7000)]
        entry.read_nowait = lambda span: None

        async def read(span):
            if bad:
                await entry.discard(Span(0, 3000))
                raise StoreCorruptError("bad", span=bad.pop())
            return await right(span)

        entry.read = read
        # The piece is leased while it is read, so only what is free can be forgotten.
        assert await drain(reader) == content
        reader.close()

    on_bench(scenario)


def test_what_remains_is_bounded_by_the_length_once_it_is_known(on_bench, content):
    """A reader of unknown length ends when the length is learned."""

    def untold(origin):
        origin.ranges = origin.tells_length = False

    async def scenario(bench):
        _, reader = await reading(bench)
        assert reader.open_ended
        assert reader.remaining.stop > len(content)
        assert await drain(reader) == content
        assert not reader.remaining
        reader.close()

    on_bench(scenario, origin=untold)


def test_an_empty_representation_ends_at_once(on_bench):
    """There is nothing to wait for in an empty file."""

    async def scenario(bench):
        _, reader = await reading(bench)
        assert reader.take_nowait(10) is END
        reader.close()

    on_bench(scenario, origin=lambda origin: origin.versions.append(Version(b"", '"v2"')))
