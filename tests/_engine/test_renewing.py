"""Another URL for one that has expired: who is asked, how often, and for how long."""

import asyncio
import functools
import threading

import pytest

from cachestream._engine.renewing import renew_url
from cachestream.core.ranges import RangeSpec
from cachestream.errors import (
    ConfigurationError,
    ConnectError,
    UpstreamStatusError,
    UpstreamTimeoutError,
)

SOURCE = "https://origin.example/film.mp4"
NEW = "https://cdn.example/film?signature=new"


def with_resource(on_bench, check, refresh, **settings):
    """Run a check of a resource whose URL the given function renews."""

    async def scenario(bench):
        bench.pool.name(SOURCE, key=None, refresh=refresh)
        resource = bench.resource()
        await check(bench, resource)
        bench.pool.release_resource(resource)

    on_bench(scenario, script=[], **settings)


def test_those_who_are_refused_together_are_renewed_together(on_bench):
    """Eight connections whose URL has expired cost one call."""
    calls = []

    async def refresh(source, status):
        calls.append((source, status))
        await asyncio.sleep(1)
        return NEW

    async def check(bench, resource):
        asked = resource.url
        got = await asyncio.gather(*(renew_url(resource, 403, asked) for _ in range(8)))
        assert got == [True] * 8
        assert calls == [(SOURCE, 403)]
        assert resource.url == NEW
        assert not bench.transport.refreshed

    with_resource(on_bench, check, refresh)


def test_the_transport_is_asked_where_the_function_knows_nothing(on_bench):
    """None of the one passes the question on to the other."""

    async def refresh(source, status):
        return None

    async def check(bench, resource):
        assert not await renew_url(resource, 410, resource.url)
        bench.transport.renewed = NEW
        assert await renew_url(resource, 410, resource.url)
        assert bench.transport.refreshed == [410, 410]
        assert resource.url == NEW

    with_resource(on_bench, check, refresh)


def test_a_new_url_is_normalised(on_bench):
    """What is asked is spelt as any other source is."""

    async def refresh(source, status):
        return "HTTPS://CDN.example:443/a b#part"

    async def check(bench, resource):
        assert await renew_url(resource, 403, resource.url)
        assert resource.url == "https://cdn.example/a%20b"

    with_resource(on_bench, check, refresh)


@pytest.mark.parametrize("answer", [7, b"https://cdn.example/", "no url", "gopher://cdn.example/"])
def test_what_is_no_url_is_refused(on_bench, answer):
    """The old URL stays, and the error says what came."""

    async def refresh(source, status):
        return answer

    async def check(bench, resource):
        with pytest.raises(ConfigurationError):
            await renew_url(resource, 403, resource.url)
        assert resource.url == SOURCE

    with_resource(on_bench, check, refresh)


def test_renewing_takes_no_longer_than_a_request_may(on_bench):
    """A function that never returns ends in a timeout, whoever waits for it."""

    async def refresh(source, status):
        await asyncio.Event().wait()

    async def check(bench, resource):
        got = await asyncio.gather(
            *(renew_url(resource, 403, SOURCE) for _ in range(2)), return_exceptions=True
        )
        assert [type(each) for each in got] == [UpstreamTimeoutError] * 2
        assert bench.loop.time() < 31

    with_resource(on_bench, check, refresh, request_timeout=30.0)


def test_a_timeout_of_the_function_is_its_own(on_bench):
    """Its error is not taken for ours."""

    async def refresh(source, status):
        raise TimeoutError("the site is slow")

    async def check(bench, resource):
        with pytest.raises(TimeoutError, match="the site is slow"):
            await renew_url(resource, 403, SOURCE)

    with_resource(on_bench, check, refresh)


def test_a_failure_of_the_function_is_the_cause_of_the_refusal(on_bench, line):
    """The client gets the origin's answer; the program finds why there was no other."""

    async def refresh(source, status):
        raise LookupError("no such video")

    async def scenario(bench):
        bench.pool.name(SOURCE, key=None, refresh=refresh)
        with pytest.raises(UpstreamStatusError) as caught:
            await bench.read(RangeSpec(0, 99))
        assert caught.value.status == 403
        assert isinstance(caught.value.__cause__, LookupError)

    on_bench(scenario, script=[line(403)])


def test_a_failure_of_the_network_is_tried_again(on_bench, line, content):
    """Where asking for a URL fails as an exchange does, it passes as an exchange does."""
    answers = [ConnectError("no route to the site"), NEW]

    async def refresh(source, status):
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    async def scenario(bench):
        bench.pool.name(SOURCE, key=None, refresh=refresh)
        assert await bench.read(RangeSpec(0, 99)) == content[:100]
        assert [each.url for each in bench.transport.asked] == [SOURCE, SOURCE, NEW]

    fields = (("Content-Range", f"bytes 0-99/{len(content)}"), ("Content-Length", "100"))
    good = line(206, (*fields, ("ETag", '"v1"')), content[:100])
    on_bench(scenario, script=[line(403), line(403), good], read_ahead=0)


class Sync:
    """A function that blocks, as most extractors do, and notes its thread."""

    def __init__(self, answer):
        self.answer = answer
        self.thread = None

    def __call__(self, source, status):
        self.thread = threading.current_thread()
        if isinstance(self.answer, BaseException):
            raise self.answer
        return self.answer


@pytest.mark.asyncio
async def test_a_function_that_blocks_runs_in_a_thread(resource):
    """The loop goes on meanwhile; a partial or a coroutine that comes of it is right, too."""
    refresh = Sync(NEW)
    resource.refresh = functools.partial(refresh)
    assert await renew_url(resource, 403, SOURCE)
    assert refresh.thread is not threading.current_thread()
    assert resource.url == NEW

    async def later(url):
        return url

    resource.refresh = lambda source, status: later(f"{NEW}er")
    assert await renew_url(resource, 403, NEW)
    assert resource.url == f"{NEW}er"


@pytest.mark.asyncio
@pytest.mark.parametrize("error", [LookupError("gone"), SystemExit(2)], ids=repr)
async def test_an_error_in_the_thread_comes_out(resource, error):
    """Even a library that wants to exit ends nothing but this call."""
    resource.refresh = Sync(error)
    with pytest.raises(type(error) if isinstance(error, Exception) else RuntimeError):
        await renew_url(resource, 403, SOURCE)


def test_a_thread_that_never_ends_holds_nothing_up():
    """Whoever waited can be cancelled, and its loop closed, while the function still blocks."""
    go_on, begun, ended = threading.Event(), threading.Event(), threading.Event()

    def refresh(source, status):
        begun.set()
        go_on.wait(60)
        ended.set()
        return NEW

    async def main():
        resource = make_resource()
        resource.refresh = refresh
        task = asyncio.ensure_future(renew_url(resource, 403, SOURCE))
        await asyncio.to_thread(begun.wait, 60)
        task.cancel()
        await asyncio.wait([task])
        assert task.cancelled()
        assert not resource.renewing.locked()

    asyncio.run(main())
    assert not ended.is_set()
    go_on.set()
    assert ended.wait(60)


@pytest.fixture
def resource():
    """Return as much of a resource as renewing needs, on a real loop."""
    return make_resource()


def make_resource():
    """Return as much of a resource as renewing needs."""
    return FakeResource()


class FakeResource:
    """A resource without an engine."""

    source = url = SOURCE

    class settings:  # noqa: N801
        request_timeout = 60.0

    class context:  # noqa: N801
        class transport:  # noqa: N801
            schemes = frozenset({"https"})

            @staticmethod
            async def refresh(source, status):
                return None

    def __init__(self):
        self.renewing = asyncio.Lock()
        self.refresh = None

    def use_url(self, url):
        self.url = url
