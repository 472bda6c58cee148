"""A file over a resource: read, seek, tell."""

import io
import os
import random
import tempfile

import pytest

from cachestream._engine.file import CacheFile, materialise
from cachestream.abc import FileRegion
from cachestream.errors import ClosedError, ConnectError
from cachestream.testing.simulation import Version

SOURCE = "https://origin.example/film.mp4"


def opened(bench) -> CacheFile:
    """Open the film."""
    return CacheFile(bench.pool, bench.pool.retain(SOURCE))


def test_reading_and_seeking_are_those_of_a_file(on_bench, content):
    """Against a file in memory: any reads and seeks give the same bytes and positions."""

    async def scenario(bench):
        chance = random.Random(4)
        model = io.BytesIO(content)
        async with opened(bench) as file:
            assert file.source == SOURCE
            for _ in range(60):
                kind = chance.randrange(4)
                if kind < 2:
                    size = chance.choice((0, 1, 500, 9_000))
                    assert await file.read(size) == model.read(size)
                elif kind == 2:
                    offset = chance.randrange(0, 101_000)
                    assert await file.seek(offset) == model.seek(offset)
                else:
                    offset = chance.randrange(-1000, 10)
                    assert await file.seek(offset, os.SEEK_END) == model.seek(offset, os.SEEK_END)
                assert file.tell() == model.tell()
            await file.seek(-100, os.SEEK_CUR)
            model.seek(-100, os.SEEK_CUR)
            assert await file.read() == model.read()

    on_bench(scenario)


def test_nothing_is_fetched_before_the_first_read(on_bench):
    """Opening costs no request."""

    async def scenario(bench):
        async with opened(bench) as file:
            await file.seek(500)
        assert bench.origin.requests == 0

    on_bench(scenario)


def test_reading_on_keeps_the_reader_and_seeking_changes_it(on_bench):
    """A sequence of reads is one reader; a seek elsewhere gives the old one up."""

    async def scenario(bench):
        async with opened(bench) as file:
            await file.read(1000)
            (reader,) = bench.pool.get(SOURCE).readers
            await file.read(1000)
            assert set(bench.pool.get(SOURCE).readers) == {reader}
            await file.seek(50_000)
            await file.read(1000)
            (other,) = bench.pool.get(SOURCE).readers
            assert other is not reader
        assert not bench.pool.get(SOURCE).readers

    on_bench(scenario)


def test_reading_past_the_end_gives_nothing(on_bench):
    """As with any file there is no error there."""

    async def scenario(bench):
        async with opened(bench) as file:
            assert await file.seek(100_000) == 100_000
            assert await file.read(10) == b""
            await file.seek(200_000)
            assert await file.read() == b""

    on_bench(scenario)


def test_an_empty_resource_is_an_empty_file(on_bench):
    """It has a size, and no byte."""

    async def scenario(bench):
        async with opened(bench) as file:
            assert await file.read() == b""
            assert await file.size() == 0

    on_bench(scenario, origin=lambda origin: origin.versions.append(Version(b"", '"v2"')))


def test_a_position_before_the_start_is_refused(on_bench):
    """The position stays where it was."""

    async def scenario(bench):
        async with opened(bench) as file:
            await file.seek(10)
            with pytest.raises(ValueError, match="before the start"):
                await file.seek(-11, os.SEEK_CUR)
            assert file.tell() == 10

    on_bench(scenario)


def test_the_end_of_content_of_unknown_length_cannot_be_sought(on_bench, content):
    """Until it has been read; a position within is reached by reading up to it."""

    def untold(origin):
        origin.ranges = origin.tells_length = False

    async def scenario(bench):
        async with opened(bench) as file:
            assert await file.size() is None
            with pytest.raises(ValueError, match="not known"):
                await file.seek(0, os.SEEK_END)
            await file.seek(70_000)
            assert await file.read() == content[70_000:]

    on_bench(scenario, origin=untold)


def test_a_failure_loses_no_position(on_bench, content):
    """After an error the file can be read on from where it was."""

    async def scenario(bench):
        async with opened(bench) as file:
            assert await file.read(1000) == content[:1000]
            bench.origin.faults.refuse = 1.0
            await file.seek(90_000)
            with pytest.raises(ConnectError):
                await file.read(10)
            assert file.tell() == 90_000
            bench.origin.faults.refuse = 0.0
            assert await file.read(10) == content[90_000:90_010]

    on_bench(scenario, request_timeout=5.0)


def test_a_closed_file_raises(on_bench):
    """Closing is idempotent, and gives the resource back."""

    async def scenario(bench):
        file = opened(bench)
        await file.read(10)
        await file.aclose()
        await file.aclose()
        with pytest.raises(ClosedError):
            await file.read(10)
        assert bench.pool.get(SOURCE).retained == 0

    on_bench(scenario)


def test_a_piece_in_a_file_becomes_bytes():
    """A region is read from where it lies; bytes stay what they are."""
    with tempfile.TemporaryFile() as file:
        file.write(b"0123456789")
        file.flush()
        assert materialise(FileRegion(file.fileno(), 2, 5)) == b"23456"
    assert materialise(memoryview(b"abc")) == b"abc"
