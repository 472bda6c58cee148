"""The next request leaves before the last answer ends, and never changes what is stored."""

import asyncio
import random

import pytest

from cachestream._engine import sharing
from cachestream.errors import ConnectError, UpstreamStatusError
from cachestream.testing.simulation import SimResponse, SimTransport

LATENCY = 0.5
RATE = 50_000.0


class Steady(SimTransport):
    """Answers after a fixed time, at a fixed rate; notes how many requests overlap."""

    running = most = 0
    refuse_second = None

    async def fetch(self, request):
        self.running += 1
        self.most = max(self.most, self.running)
        try:
            return await self._fetch(request)
        except BaseException:
            self.running -= 1
            raise

    async def _fetch(self, request):
        self._watch(request)
        self.origin.requests += 1
        asked_at = self.now()
        await asyncio.sleep(LATENCY)
        second = self.running > 1
        if second and isinstance(self.refuse_second, Exception):
            raise self.refuse_second
        status, fields, span = self._answer(request)
        if second and self.refuse_second is not None:
            status = self.refuse_second
        return SteadyResponse(self, request.url, status, fields, span, asked_at)


class SteadyResponse(SimResponse):
    async def __aiter__(self):
        content = self._transport.origin.current.content
        for start in range(self._span.start, self._span.stop, 1000):
            await asyncio.sleep(1000 / RATE)
            stop = min(start + 1000, self._span.stop)
            yield content[start:stop]

    async def aclose(self):
        self._transport.running -= not self._closed
        await super().aclose()


@pytest.fixture(autouse=True)
def small_lead(monkeypatch):
    monkeypatch.setattr(sharing, "LEAST_LEAD", 1000)


@pytest.fixture
def fetched(on_bench, content):
    """Fetch the film over a steady line; return the time it took, and the transport."""

    def run(*, refuse=None, **settings):
        seen = []

        async def scenario(bench):
            steady = Steady(bench.origin, watch=bench.transport.asked.append)
            steady.asked = bench.transport.asked
            steady.refuse_second = refuse
            bench.context.transport = bench.transport = steady
            began = bench.loop.time()
            assert await bench.read() == content
            seen.extend((bench.loop.time() - began, steady, list(bench.asked)))

        on_bench(scenario, completion="complete", **settings)
        return seen

    return run


def test_the_line_is_not_silent_between_two_requests(fetched):
    """With room for a second connection each request but the first leaves early."""
    alone, steady, asked = fetched(max_connections=1)
    assert steady.most == 1
    early, steady, again = fetched(max_connections=2)
    assert steady.most == 2
    assert len(asked) >= 3
    assert early < alone - LATENCY
    assert len(again) == len(set(again))


@pytest.mark.parametrize(
    "refuse",
    [503, 403, ConnectError("no", url="x"), UpstreamStatusError("no", status=429, url="x")],
)
def test_an_origin_that_allows_one_connection_is_served_over_one(fetched, refuse):
    """The refused request costs nothing but itself, and is not tried again soon."""
    took, steady, asked = fetched(refuse=refuse, max_connections=2)
    alone, _, alone_asked = fetched(max_connections=1)
    assert took <= alone + 2 * LATENCY
    assert len(asked) <= len(alone_asked) + 3
    assert steady.running == 0


def test_what_was_sent_ahead_is_given_up_with_its_download(on_bench):
    """A client that leaves while the next answer is on its way leaves nothing open."""

    async def scenario(bench):
        chance = random.Random(7)
        for _ in range(40):
            steady = Steady(bench.origin, watch=bench.transport.asked.append)
            steady.asked = bench.transport.asked
            bench.context.transport = bench.transport = steady
            resource = bench.resource()
            task = asyncio.ensure_future(bench.read(None, resource))
            await asyncio.sleep(chance.random() * 4)
            task.cancel()
            await asyncio.wait((task,))
            await resource.reset()
            assert steady.running == 0
            assert resource.scheduler.sharing.host.open == 0
            bench.pool.release_resource(resource)

    on_bench(scenario, completion="complete", max_connections=2)
