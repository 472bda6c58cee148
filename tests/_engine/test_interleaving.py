"""Picture and sound at two places of one file: a player that goes to and fro costs few requests."""

import asyncio

import pytest

from cachestream.core.ranges import RangeSpec

PIECE = 2_000
"""What is read at one place before the other has its turn, in bytes: a fiftieth of the film."""

FEW = 12

COMPLETIONS = ["demand", "auto", "ahead", "complete"]


async def read_on(reader, content, position, stop):
    """Read a piece at a position and compare it; return where the next begins."""
    end = min(position + PIECE, stop)
    while position < end:
        piece = bytes(await reader.next(end - position))
        assert piece == content[position : position + len(piece)]
        position += len(piece)
    return position


@pytest.fixture
def played(on_bench, content):
    """Play both halves of the film at once; return what was asked, and how much was sent."""

    def run(play, completion):
        seen = []

        async def scenario(bench):
            resource = bench.resource()
            await play(bench, resource, len(content) // 2)
            await resource.scheduler.wait_idle()
            bench.pool.release_resource(resource)
            seen.extend((bench.asked, sum(len(span) for _, span in bench.origin.served)))

        on_bench(
            scenario,
            completion=completion,
            read_ahead=8_000,
            max_read_ahead=32_000,
            complete_after=20_000,
        )
        return seen

    return run


@pytest.mark.parametrize("completion", COMPLETIONS)
@pytest.mark.parametrize("pause", [0.0, 0.05])
def test_a_player_that_seeks_to_and_fro_goes_on_where_it_was(played, content, completion, pause):
    """Each seek is a request of its own to us, and hardly ever one to the origin."""

    async def play(bench, resource, half):
        places = [0, half]
        for _ in range(half // PIECE):
            for index, stop in ((0, half), (1, 2 * half)):
                reader = await bench.pool.obtain(resource, RangeSpec(places[index], None))
                places[index] = await read_on(reader, content, places[index], stop)
                reader.close()
                await asyncio.sleep(pause)

    asked, sent = played(play, completion)
    assert sent == len(content)
    assert len(asked) <= FEW


@pytest.mark.parametrize("completion", COMPLETIONS)
def test_two_connections_of_a_player_take_nothing_from_one_another(played, content, completion):
    """Two readers in turns share the film, and no byte of it comes twice."""

    async def play(bench, resource, half):
        places = [0, half]
        readers = [await bench.pool.obtain(resource, RangeSpec(place, None)) for place in places]
        for _ in range(half // PIECE):
            for index, stop in ((0, half), (1, 2 * half)):
                places[index] = await read_on(readers[index], content, places[index], stop)
                await asyncio.sleep(0.02)
        for reader in readers:
            reader.close()

    asked, sent = played(play, completion)
    assert sent == len(content)
    assert len(asked) <= FEW
