"""What readers want becomes downloads, and no more than that."""

import asyncio
from functools import partial
from types import SimpleNamespace

import pytest

from cachestream._engine import scheduling
from cachestream.abc import END
from cachestream.core.ranges import RangeSpec
from cachestream.core.spans import Span
from cachestream.errors import NotStoredError, UpstreamStatusError
from cachestream.events import DownloadFinished, DownloadStarted, ResourceCompleted


class Standing(SimpleNamespace):
    """What looks like a reader, and does not move."""

    __hash__ = object.__hash__


def stored(bench, resource) -> int:
    """Return how many bytes are held."""
    return resource.spans.total


async def settle(bench, resource) -> None:
    """Wait until its downloads have ended."""
    await asyncio.sleep(0)  # readers that moved are planned for in the loop's next turn
    await resource.scheduler.wait_idle()


def test_on_demand_only_what_was_asked_is_fetched(on_bench):
    """A range request fetches the range, whatever the settings for reading ahead."""

    async def scenario(bench):
        resource = bench.resource()
        await bench.read(RangeSpec(10_000, 10_999), resource)
        await settle(bench, resource)
        assert list(resource.spans) == [Span(10_000, 11_000)]
        bench.pool.release_resource(resource)

    on_bench(scenario, completion="demand")


def test_complete_fills_every_hole_for_any_request(on_bench, content):
    """One small range leads to the whole file."""

    async def scenario(bench):
        resource = bench.resource()
        await bench.read(RangeSpec(10_000, 10_999), resource)
        await settle(bench, resource)
        assert resource.is_complete
        assert sum(len(span) for _, span in bench.origin.served) == len(content)
        bench.pool.release_resource(resource)

    on_bench(scenario, completion="complete")


def test_ahead_fetches_a_window_before_the_reader(on_bench):
    """What was asked and the window after it, and not the whole file."""

    async def scenario(bench):
        resource = bench.resource()
        reader = await bench.pool.obtain(resource, RangeSpec(10_000, 10_999))
        await reader.next(100)
        await settle(bench, resource)
        assert resource.spans.covers(Span(10_000, 30_000))
        assert stored(bench, resource) < 40_000
        reader.close()
        bench.pool.release_resource(resource)

    on_bench(scenario, completion="ahead", max_read_ahead=20_000)


def test_auto_completes_after_enough_in_sequence(on_bench):
    """Scattered ranges fetch little; a reader that goes on gets the file completed."""

    async def scenario(bench):
        resource = bench.resource()
        for first in (0, 30_000, 60_000):
            await bench.read(RangeSpec(first, first + 999), resource)
        await settle(bench, resource)
        assert stored(bench, resource) < 30_000
        await bench.read(RangeSpec(0, 25_000), resource)
        await settle(bench, resource)
        assert resource.is_complete
        bench.pool.release_resource(resource)

    on_bench(scenario, completion="auto", complete_after=20_000, read_ahead=0, max_read_ahead=0)


def test_consecutive_ranges_count_as_one_sequence(on_bench):
    """A player that reads in chunks of ranges is recognised as one that goes on."""

    async def scenario(bench):
        resource = bench.resource()
        for first in range(0, 25_000, 5_000):
            await bench.read(RangeSpec(first, first + 4_999), resource)
        await settle(bench, resource)
        assert resource.is_complete
        bench.pool.release_resource(resource)

    on_bench(scenario, completion="auto", complete_after=20_000, read_ahead=0, max_read_ahead=0)


def test_a_seek_far_ahead_gets_a_connection_of_its_own(on_bench, content):
    """A reader beyond the window does not wait for all that lies between."""

    async def scenario(bench):
        resource = bench.resource()
        first = await bench.pool.obtain(resource, None)
        far = await bench.pool.obtain(resource, RangeSpec(90_000, 90_999))
        assert 90_000 in resource.spans
        assert not resource.spans.covers(Span(0, 90_000))
        first.close()
        far.close()
        bench.pool.release_resource(resource)

    on_bench(scenario, read_ahead=0, max_read_ahead=0)


def test_without_splitting_everybody_waits_for_the_one_download(on_bench, content):
    """With no threshold a reader far ahead waits, and nothing is fetched twice."""

    async def scenario(bench):
        resource = bench.resource()
        first = await bench.pool.obtain(resource, None)
        far = await bench.pool.obtain(resource, RangeSpec(90_000, 90_999))
        assert resource.spans.covers(Span(0, 90_001))
        first.close()
        far.close()
        bench.pool.release_resource(resource)

    on_bench(scenario, range_request_split_threshold=None)


def test_after_its_reader_a_download_ends_unless_it_is_worth_finishing(on_bench):
    """Nobody wants more: what was leased is finished, and nothing new begins."""

    async def scenario(bench):
        resource = bench.resource()
        reader = await bench.pool.obtain(resource, None)
        reader.close()
        await settle(bench, resource)
        assert 0 < stored(bench, resource) < 40_000
        bench.pool.release_resource(resource)

    on_bench(scenario, read_ahead=8_000, max_read_ahead=8_000)


def test_offline_and_refused_resources_say_so_before_anybody_waits(on_bench, line):
    """Going upstream is of no use: the reason is raised at once."""

    async def offline(bench):
        resource = bench.resource(offline=True)
        with pytest.raises(NotStoredError) as caught:
            resource.scheduler.check_upstream(Span(5, 10))
        assert caught.value.span == Span(5, 10)
        bench.pool.release_resource(resource)

    async def refused(bench):
        resource = bench.resource()
        error = UpstreamStatusError("no", status=404)
        resource.scheduler.remember_refusal(error)
        assert resource.scheduler.is_refusal(error)
        with pytest.raises(UpstreamStatusError):
            resource.scheduler.check_upstream(Span(0, 1))
        bench.loop.elapsed(2.1)
        resource.scheduler.check_upstream(Span(0, 1))
        resource.scheduler.remember_refusal(error)
        resource.scheduler.remember_refusal(None)
        resource.scheduler.check_upstream(Span(0, 1))
        bench.pool.release_resource(resource)

    on_bench(offline, script=[])
    on_bench(refused, script=[], error_ttl=2.0)


def test_a_refusal_fails_those_who_wait_but_not_whose_byte_is_on_its_way(on_bench):
    """A reader of a download that runs is not disturbed by the refusal of another one."""

    async def scenario(bench):
        resource = bench.resource()
        running = await bench.pool.obtain(resource, None)
        while running.take_nowait(10_000) is not None:
            pass
        resource.scheduler.remember_refusal(UpstreamStatusError("no", status=403))
        assert resource.downloads
        resource.scheduler.replan()
        assert running.error is None
        running.close()
        bench.pool.release_resource(resource)

    on_bench(scenario, completion="complete", error_ttl=60.0)


def test_trails_are_followed_once_and_few_are_kept(on_bench):
    """Where a reader ended is remembered for the one that goes on, and forgotten for a change."""

    async def scenario(bench):
        resource = bench.resource()
        scheduler = resource.scheduler
        await bench.read(RangeSpec(0, 999), resource)
        assert scheduler.follow(1000) == 1000
        assert scheduler.follow(1000) == 0
        for first in range(0, 40_000, 1000):
            await bench.read(RangeSpec(first, first + 499), resource)
        found = [scheduler.follow(first + 500) for first in range(0, 40_000, 1000)]
        assert sum(each > 0 for each in found) == scheduling.TRAILS
        await bench.read(RangeSpec(0, 999), resource)
        scheduler.forget_trails()
        assert scheduler.follow(1000) == 0
        bench.pool.release_resource(resource)

    on_bench(scenario)


def test_reading_ahead_grows_with_the_sequence(on_bench):
    """A reader that goes on is kept ahead of, within the bounds of the settings."""

    async def scenario(bench):
        resource = bench.resource()
        reader = await bench.pool.obtain(resource, None)
        assert resource.scheduler.read_ahead(reader) == 10_000
        while await reader.next(10_000) is not END:
            pass
        assert resource.scheduler.read_ahead(reader) == 50_000
        reader.close()
        bench.pool.release_resource(resource)

    on_bench(scenario, read_ahead=10_000, max_read_ahead=50_000)


def test_readers_of_all_resources_share_what_is_fetched_in_advance(on_bench):
    """Two get a half each, what one leaves the other gets, and at the end nobody has any."""

    async def scenario(bench):
        first, second = bench.resource(), bench.pool.retain(bench.resource().source + "?b")
        budget = bench.context.ahead
        one = await bench.pool.obtain(first, RangeSpec(0, None))
        other = await bench.pool.obtain(second, RangeSpec(0, None))
        for reader in (one, other):
            await reader.next(100)
            await settle(bench, reader.resource)
        assert [stored(bench, each) for each in (first, second)] == [20_100, 20_100]
        assert budget.granted == 40_000
        other.close()
        assert len(await one.next(20_000)) == 20_000
        await settle(bench, first)
        assert stored(bench, first) == 52_100
        assert budget.granted == 32_000
        while await one.next(10_000) is not END:
            pass
        await settle(bench, first)
        assert first.is_complete
        assert budget.granted == 0
        one.close()
        for resource in (first, first, second):
            bench.pool.release_resource(resource)

    on_bench(
        scenario, completion="ahead", max_read_ahead=32_000, read_ahead=0, read_ahead_budget=40_000
    )


@pytest.mark.parametrize(
    ("position", "asked", "stop", "wanted"),
    [
        (8_000_000, 9_000_000, 12_000_000, 9_000_000),  # no further than it was asked for
        (8_000_000, 9_000_000, 8_500_000, 8_500_000),  # what was cut before stays cut
        (11_000_000, 12_000_000, 12_000_000, None),  # too far to be there soon
        (100_000, 9_000_000, 9_000_000, None),  # behind the reader
    ],
)
def test_what_is_being_sent_before_a_reader_is_not_cut(on_bench, position, asked, stop, wanted):
    """A reader that is no longer short of bytes goes on wanting what is on its way to it."""

    async def scenario(bench):
        resource = bench.resource()
        sent = SimpleNamespace(position=position, asked=asked, stop=stop, flowing=True)
        resource.scheduler.downloads[1] = resource.scheduler.downloads[2] = sent
        reader = Standing(
            position=1_000_000, sequential=0, joined=True, remaining=Span(1_000_000, 1 << 30)
        )
        usual = 1_000_000 + resource.scheduler.read_ahead(reader)
        assert resource.scheduler._want(reader).span == Span(1_000_000, wanted or usual)
        resource.scheduler.downloads.clear()
        bench.context.ahead.release(reader)
        bench.pool.release_resource(resource)

    on_bench(scenario, read_ahead=0)


def test_readers_that_move_in_one_turn_are_planned_for_once(on_bench, monkeypatch):
    """A hundred readers of the same bytes cost about as many plans as one."""
    plans = []
    monkeypatch.setattr(
        scheduling, "plan", lambda state, plan=scheduling.plan: plans.append(1) or plan(state)
    )

    async def scenario(bench, readers):
        resource = bench.resource()
        await asyncio.gather(*(bench.read(None, resource) for _ in range(readers)))
        bench.pool.release_resource(resource)

    counts = []
    for readers in (1, 100):
        on_bench(partial(scenario, readers=readers))
        counts.append(len(plans))
        plans.clear()
    assert counts[1] <= 2 * counts[0]


def test_a_download_that_has_all_its_bytes_is_left_to_tell_of_its_end(on_bench, line, monkeypatch):
    """The plan for a reader that moved in its last turn does not take its end for a stop."""

    async def scenario(bench):
        resource = bench.resource()
        monkeypatch.setattr(
            resource,
            "stored",
            lambda span, stored=resource.stored: (stored(span), resource.scheduler.replan_soon()),
        )
        assert await bench.read(None, resource) == bytes(2000)
        await settle(bench, resource)
        bench.pool.release_resource(resource)
        assert len(bench.seen(DownloadFinished)) == len(bench.seen(DownloadStarted)) == 1
        assert len(bench.seen(ResourceCompleted)) == 1

    fields = (("Content-Range", "bytes 0-1999/2000"), ("ETag", '"v1"'))
    on_bench(scenario, script=[line(206, fields, bytes(2000), linger=9)])
