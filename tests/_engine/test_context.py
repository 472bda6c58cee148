"""What the parts of the engine share."""

import asyncio

import pytest

from cachestream.errors import ClosedError
from cachestream.events import Event
from cachestream.settings import Settings


def test_a_key_is_made_by_the_settings_or_by_default(on_bench):
    """Two URLs with one key are one resource."""

    async def by_default(bench):
        assert bench.context.key("https://a.example/x?y") != bench.context.key(
            "https://a.example/x"
        )

    async def by_setting(bench):
        one = bench.pool.retain("https://a.example/x?token=1")
        two = bench.pool.retain("https://a.example/x?token=2")
        assert one is two
        bench.pool.release_resource(one)
        bench.pool.release_resource(two)

    on_bench(by_default)
    on_bench(by_setting, key=lambda source: source.split("?")[0])


def test_a_failing_listener_disturbs_nobody(on_bench, caplog):
    """Other listeners are still called, and the failure is logged."""

    async def scenario(bench):
        def broken(event):
            raise OSError("listener")

        seen = []
        bench.context.listeners = [broken, seen.append]
        bench.context.emit(Event("https://a.example/?secret"))
        assert len(seen) == 1

    on_bench(scenario)
    assert "a listener failed" in caplog.text
    assert "secret" not in caplog.text


def test_nothing_is_started_once_the_end_has_begun(on_bench):
    """After the close has begun, a coroutine is refused, and never left unawaited."""

    async def scenario(bench):
        ran = asyncio.Event()

        async def work():
            ran.set()

        bench.context.closing = True
        with pytest.raises(ClosedError):
            bench.context.spawn(work(), "late")
        bench.context.closing = False
        await bench.context.spawn(work(), "in time")
        assert ran.is_set()

    on_bench(scenario)


def test_named_origins_are_those_of_whole_sources(on_bench):
    """An origin is scheme, host and port; naming one says nothing of another."""

    async def scenario(bench):
        bench.context.named_origins.clear()
        bench.context.name_origin("https://a.example/x")
        assert bench.context.named_origins == {"https://a.example"}

    on_bench(scenario)


def test_the_upstream_policy_is_that_of_the_settings(on_bench):
    """Which hosts any client may name is a setting."""

    async def scenario(bench):
        assert bench.context.upstream_policy.allows("https://a.example/x")
        assert not bench.context.upstream_policy.allows("https://b.example/x")

    on_bench(scenario, allow_hosts=("a.example",))
    assert Settings().allow_hosts == ()
