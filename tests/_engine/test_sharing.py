"""When several connections share a resource, and when more of them would bring nothing."""

import asyncio
from types import SimpleNamespace

import pytest

from cachestream._engine.sharing import TICK_S, WAITED_FOR_US


@pytest.mark.parametrize(("piece", "eager"), [(WAITED_FOR_US, False), (16 * 1024, True)])
def test_who_cannot_keep_up_with_one_connection_needs_no_second(on_bench, piece, eager):
    """Large pieces have waited for us; small ones are waited for, and more may bring more."""

    async def scenario(bench):
        resource = bench.resource()
        sharing = resource.scheduler.sharing
        resource.scheduler.downloads[1] = SimpleNamespace(flowing=True)
        for _ in range(20):
            sharing.starved()
            sharing.received(piece)
            await asyncio.sleep(TICK_S)
        assert sharing.eager is eager
        sharing.received(1)
        await asyncio.sleep(TICK_S)
        sharing.received(1)
        assert sharing.eager  # it is judged by what came last
        resource.scheduler.downloads.clear()
        bench.pool.release_resource(resource)

    on_bench(scenario)
