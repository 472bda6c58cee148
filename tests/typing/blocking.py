"""What users of `cachestream.blocking` write, to be type-checked only."""

import io
from collections.abc import Iterator
from pathlib import Path
from typing import assert_type

import cachestream
from cachestream import CacheState, Statistics, blocking
from cachestream.core.representation import Representation


async def count(manager: cachestream.CacheManager) -> int:
    """Do something on the loop."""
    return len(await manager.store.records())


def manager() -> None:
    """Use a manager."""
    with blocking.CacheManager(max_size=10) as cache:
        assert_type(cache.get_cache_url("https://example.com/a", timeout=1), str)
        assert_type(cache.pre_cache_url("https://example.com/a", timeout=1.5), Path | None)
        assert_type(cache.statistics(), Statistics)
        assert_type(cache.run(count, timeout=None), int)
        with cache.open("https://example.com/a", buffer_size=1024) as file:
            reader: io.BufferedReader = file
            assert_type(reader.read(10), bytes)
            assert_type(file.size(), int | None)


def stream(cache: blocking.CacheManager) -> None:
    """Use a stream."""
    one = cache.create_stream("https://example.com/a", completion="demand", timeout=5)
    assert_type(one, blocking.CacheStream)
    assert_type(one.head(timeout=1), Representation)
    assert_type(one.states(), Iterator[CacheState])
    with one.request(0, 10) as response:
        for piece in response:
            assert_type(piece, bytes)
        assert_type(response.read(5, timeout=1), bytes)
