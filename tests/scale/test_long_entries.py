"""An entry of 100 GiB in 100,000 pieces costs what a small one costs, but for reading its index."""

import asyncio
import sys

import pytest

from cachestream import CacheManager
from cachestream.testing.origin import OriginThread, pattern

pytestmark = [pytest.mark.integration, pytest.mark.slow]

MIB = 1024 * 1024
FEW, MANY = 100, 100_000
PIECE = 256 * 1024


class Calls:
    """Counts the calls that Python code of this thread makes while it is entered."""

    count = 0

    def __enter__(self):
        sys.setprofile(self._note)
        return self

    def __exit__(self, *_):
        sys.setprofile(None)

    def _note(self, frame, event, argument):
        self.count += event == "call"


@pytest.fixture
def origin():
    """Serve a file for each number of spans, which stay what they are."""
    with OriginThread() as running:
        for spans in (FEW, MANY):
            running.add(f"/{spans}.bin", pattern("long", spans * MIB), etag='"1"')
        yield running


def right(start: int, stop: int) -> bytes:
    """Return what is there: the origin's bytes, but for the zeros that were held before."""
    content = bytearray(pattern("long").bytes(start, stop))
    for place in range(-(-start // MIB) * MIB, stop, MIB):
        content[place - start] = 0
    return bytes(content)


async def read(cache: CacheManager, url: str, start: int) -> int:
    """Read a piece that has a held byte in its middle; return how many calls that took."""
    async with cache.open(url) as file:
        await file.seek(start)
        with Calls() as calls:
            got = await file.read(PIECE)
    assert got == right(start, start + PIECE)
    return calls.count


@pytest.mark.asyncio
async def test_reading_costs_the_same_with_very_many_spans(long_entry, origin):
    """Holes and what is held, in the middle of few spans and of very many."""
    costs = {}
    for spans in (FEW, MANY):
        url = origin.url(f"/{spans}.bin")
        crowd, before = long_entry(spans, url), origin.bytes_sent()
        options = {"cache_dir": crowd.root, "min_free": 0, "completion": "demand"}
        async with asyncio.timeout(60), CacheManager(**options) as cache:
            starts = [(spans // 2 + 4 * n - 40) * MIB - PIECE // 2 for n in range(1, 21)]
            await read(cache, url, starts[0])
            holes = [await read(cache, url, start) for start in starts[1:]]
            held = [await read(cache, url, start) for start in starts]
            usage = await cache.usage()
        costs[spans] = sorted(holes)[10], sorted(held)[10]
        assert origin.bytes_sent() - before <= len(starts) * (MIB + 2 * PIECE)
        assert usage.entries == 1
    for few, many in zip(costs[FEW], costs[MANY], strict=True):
        assert many <= 1.2 * few + 20, costs
