"""A request that stalls while somebody waits is asked once more, and the first answer goes on."""

import asyncio
from types import MappingProxyType

import pytest

from cachestream._engine.hosts import LEAST_PATIENCE_S
from cachestream.testing.simulation import SimResponse, SimTransport

LATENCY = 0.05
STALL = 9.0
USUAL = 20


class Moody(SimTransport):
    """Answers in a short time, but for some requests; these stall before or in their content."""

    slow_heads = slow_contents = frozenset()
    statuses = MappingProxyType({})

    async def fetch(self, request):
        number = self.origin.requests
        self._watch(request)
        self.origin.requests += 1
        asked_at = self.now()
        await asyncio.sleep(STALL if number in self.slow_heads else LATENCY)
        status, fields, span = self._answer(request)
        status = self.statuses.get(number, status)
        stalls = number in self.slow_contents
        return MoodyResponse(self, request.url, status, fields, span, asked_at, stalls)


class MoodyResponse(SimResponse):
    def __init__(self, *told):
        super().__init__(*told[:-1])
        self._stalls = told[-1]

    async def __aiter__(self):
        content = self._transport.origin.current.content
        for start in range(self._span.start, self._span.stop, 1000):
            if self._stalls and start > self._span.start + 3000:
                await asyncio.sleep(STALL)
            await asyncio.sleep(0.001)
            stop = min(start + 1000, self._span.stop)
            self._transport.origin.served.append((None, stop - start))
            yield content[start:stop]


@pytest.fixture
def read(on_bench, content):
    """Read the film from an origin that is known; return the time, the requests and the bytes."""

    def run(*, known=USUAL, latency=LATENCY, origin=None, read=None, **moods):
        seen = []

        async def scenario(bench):
            moody = Moody(bench.origin, watch=bench.transport.asked.append)
            moody.asked = bench.transport.asked
            vars(moody).update(moods)
            bench.context.transport = bench.transport = moody
            resource = bench.resource()
            host = resource.scheduler.sharing.host
            for _ in range(known):
                host.answered(latency)
            began = bench.loop.time()
            if read is None:
                assert await bench.read(None, resource) == content
            else:
                await read(resource)
            took = bench.loop.time() - began
            bench.pool.release_resource(resource)
            assert host.open <= len(resource.downloads)
            seen.extend((took, len(bench.asked), sum(size for _, size in bench.origin.served)))

        on_bench(scenario, origin=origin, max_connections=2)
        return seen

    return run


def test_a_head_that_does_not_come_is_asked_for_again(read):
    """The second request of many that are usually answered in time goes on in its place."""
    usual, count, _ = read()
    took, asked, _ = read(slow_heads={0})
    assert took < usual + 3 * LEAST_PATIENCE_S
    assert asked == count + 1


def test_content_that_stalls_is_asked_for_again_from_there(read, content):
    """What has come is kept, and the rest comes over another connection."""
    usual, count, _ = read()
    took, asked, sent = read(slow_contents={0})
    assert took < usual + 4 * LEAST_PATIENCE_S
    assert asked <= count + 1
    assert sent == len(content)


def test_a_second_request_that_is_refused_ends_nothing(read):
    """An origin that allows no second connection goes on with the first, if slowly."""
    for status in (403, 429, 503):
        took, *_ = read(slow_heads={0}, statuses={1: status})
        assert took > STALL


def test_an_answer_that_comes_after_all_goes_on(read, content):
    """Whichever of both is first is used, and the other one is given up."""
    took, _, sent = read(slow_contents={0}, slow_heads={1})
    assert took > STALL
    assert sent <= len(content) + 1000


def test_too_few_answers_say_nothing_of_what_is_usual(read):
    """An origin that was hardly ever asked may be a slow one."""
    took, *_ = read(known=3, slow_heads={0})
    assert took > STALL


def test_an_origin_that_is_always_slow_is_waited_for(read):
    """If answers usually take long, one more that does is no reason."""
    _, count, _ = read()
    took, asked, _ = read(slow_heads={0}, latency=STALL)
    assert asked == count
    assert took > STALL


def test_few_of_all_requests_are_asked_again(read, content):
    """An origin where everything stalls does not get twice the requests."""
    _, count, _ = read()
    _, asked, sent = read(slow_contents=set(range(100)))
    assert asked <= count + 3
    assert sent == len(content)


def test_content_of_an_origin_without_ranges_is_not_asked_for_again(read, content):
    """What cannot be joined would have to come a second time."""

    def without_ranges(origin):
        origin.ranges = False

    _, asked, sent = read(slow_contents={0}, origin=without_ranges)
    assert asked == 1
    assert sent == len(content)


def test_where_nobody_waits_nothing_is_asked_again(read):
    """A download for later may take its time."""

    async def complete(resource):
        await resource.complete()

    took, *_ = read(slow_contents={1}, read=complete)
    assert took > STALL
