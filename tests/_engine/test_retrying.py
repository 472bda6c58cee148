"""What a download does after a failed exchange."""

import pytest

from cachestream._engine.retrying import ERROR_CONTENT, QUICK_TRIES, RetryPolicy, status_error
from cachestream.abc import UpstreamRequest
from cachestream.errors import (
    TLSError,
    TooManyRedirectsError,
    TransportError,
    UpstreamProtocolError,
    UpstreamStatusError,
)

SOURCE = "https://origin.example/film.mp4"
REQUEST = UpstreamRequest(url="https://origin.example/", source="https://origin.example/")
LOST = TransportError("lost")


def refused(retry_after=None):
    """Return a temporary refusal."""
    error = UpstreamStatusError("later", status=503)
    error.retry_after = retry_after
    return error


def with_policy(on_bench, check, **settings):
    """Run a check of a policy on a bench."""

    async def scenario(bench):
        resource = bench.resource()
        await check(bench, RetryPolicy(resource))
        bench.pool.release_resource(resource)

    on_bench(scenario, script=[], retry_delay=1.0, max_retry_delay=8.0, **settings)


def test_pauses_grow_and_are_capped(on_bench):
    """Each pause is within its jittered bounds, and none beyond the cap."""

    async def check(bench, policy):
        pauses = [policy.failed(LOST, begun=True) for _ in range(8)]
        assert all(pause is not None and 0 < pause <= 8.0 for pause in pauses)
        assert pauses[0] <= 1.0
        assert max(pauses) > 2.0

    with_policy(on_bench, check)


def test_without_a_head_a_few_tries_are_enough(on_bench):
    """A client that has no answer yet is told soon."""

    async def check(bench, policy):
        pauses = [policy.failed(LOST, begun=False) for _ in range(QUICK_TRIES)]
        assert pauses[-1] is None
        assert None not in pauses[:-1]

    with_policy(on_bench, check)


def test_progress_begins_the_count_anew(on_bench):
    """An origin that drops often but delivers is never given up."""

    async def check(bench, policy):
        for _ in range(20):
            assert policy.failed(LOST, begun=False) is not None
            policy.progressed()
        assert policy.failures == 0

    with_policy(on_bench, check)


def test_without_progress_the_request_timeout_ends_it(on_bench):
    """No pause leads beyond the time that a waiting request is given."""

    async def check(bench, policy):
        assert policy.failed(LOST, begun=True) is not None
        bench.loop.elapsed(61)
        assert policy.failed(LOST, begun=True) is None

    with_policy(on_bench, check, request_timeout=60.0)


@pytest.mark.parametrize("error", [TLSError("expired"), TooManyRedirectsError("loop")])
def test_what_will_not_pass_is_not_tried_again(on_bench, error):
    """A bad certificate or a redirect loop is final at once."""

    async def check(bench, policy):
        assert policy.failed(error, begun=True) is None

    with_policy(on_bench, check)


def test_a_lie_may_pass(on_bench):
    """A protocol error may be one server of many: it is tried again."""

    async def check(bench, policy):
        assert policy.failed(UpstreamProtocolError("lie"), begun=False) is not None

    with_policy(on_bench, check)


def test_retry_after_is_the_least_pause(on_bench):
    """What the origin asks for is waited, unless a client without answer would wait for long."""

    async def check(bench, policy):
        assert policy.failed(refused("4"), begun=False) >= 4
        assert policy.failed(refused("30"), begun=True) >= 30
        assert policy.failed(refused("nonsense"), begun=True) <= 8
        policy.progressed()
        assert policy.failed(refused("30"), begun=False) is None

    with_policy(on_bench, check)


def test_a_refusal_may_renew_the_url_a_few_times(on_bench):
    """401, 403 and 410 ask the transport for another URL, until that does not help."""

    async def check(bench, policy):
        bench.transport.renewed = "https://origin.example/renewed"
        assert not await policy.renew(404, "any")
        resource = bench.pool.get(SOURCE)
        for status in (401, 403, 410):
            assert await policy.renew(status, resource.url)
        assert not await policy.renew(403, bench.pool.get(SOURCE).url)
        assert bench.transport.refreshed == [401, 403, 410]
        assert resource.url.endswith("/renewed")
        policy.progressed()
        assert await policy.renew(403, resource.url)

    with_policy(on_bench, check)


def test_a_transport_that_cannot_renew_leaves_the_refusal(on_bench):
    """Without another URL the refusal stands."""

    async def check(bench, policy):
        assert not await policy.renew(403, bench.pool.get(SOURCE).url)

    with_policy(on_bench, check)


def test_an_error_carries_the_origins_page(on_bench, line):
    """Status, page, type and Retry-After are there to be passed on, and the page is bounded."""
    fields = (("Content-Type", "text/html"), ("Retry-After", "9"))

    async def scenario(bench):
        resource = bench.resource()
        for expected in (b"<p>gone", b"x" * ERROR_CONTENT, b""):
            response = await bench.transport.fetch(REQUEST)
            async with response:
                error = await status_error(resource, 503, response)
            assert (error.status, error.content) == (503, expected)
            assert (error.media_type, error.retry_after) == ("text/html", "9")
        bench.pool.release_resource(resource)

    lines = [
        line(503, fields, b"<p>gone"),
        line(503, fields, b"x" * (3 * ERROR_CONTENT)),
        line(503, fields, b"half", TransportError("lost")),
    ]
    on_bench(scenario, script=lines)
