"""What a `cachestream.abc.SpanWriter` promises."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

import pytest

from cachestream.abc import SpanWriter
from cachestream.core.spans import Span
from cachestream.errors import ClosedError, StoreFullError
from cachestream.testing.stores._places import (
    KEY,
    SOURCE,
    Place,
    closing,
    content,
    fill,
    only,
    representation,
)

__all__ = ["WritingPromises"]

KIB = 1024


def _write_all(writer: SpanWriter, pieces: Iterable[bytes]) -> None:
    for piece in pieces:
        writer.write(piece)


class WritingPromises:
    """Promises of `SpanWriter`, one test each."""

    @pytest.mark.asyncio
    async def test_bytes_can_be_read_as_soon_as_write_returns(self, place: Place) -> None:
        """Without any await between, what was written is in the spans and can be read."""
        data = content(200 * KIB)
        async with closing(place) as store:
            entry = await store.create(KEY, SOURCE, representation(len(data)))
            writer = entry.writer(0)
            for start in range(0, len(data), 7001):
                piece = data[start : start + 7001]
                writer.write(piece)
                span = Span(start, start + len(piece))
                assert entry.spans.covers(span)
                assert entry.read_nowait(span) == piece
            assert entry.read_nowait(Span(0, len(data))) == data

    @pytest.mark.asyncio
    async def test_position_is_where_the_next_byte_goes(self, place: Place) -> None:
        """A writer begins where it was told, and moves on by what it took over."""
        async with closing(place) as store:
            entry = await store.create(KEY, SOURCE, representation(1000))
            writer = entry.writer(100)
            assert writer.position == 100
            writer.write(b"abc")
            assert writer.position == 103
            writer.write(b"de")
            assert list(entry.spans) == [Span(100, 105)]
            assert entry.read_nowait(Span(100, 105)) == b"abcde"

    @pytest.mark.asyncio
    @pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
    async def test_write_takes_any_buffer(self, place: Place, kind: type) -> None:
        """Bytes, bytearrays and memoryviews are all pieces."""
        async with closing(place) as store:
            entry = await store.create(KEY, SOURCE, representation(10))
            entry.writer(0).write(kind(b"0123456789"))
            assert entry.read_nowait(Span(0, 10)) == b"0123456789"

    @pytest.mark.asyncio
    async def test_an_empty_piece_changes_nothing(self, place: Place) -> None:
        """Writing no bytes is allowed and stores none."""
        async with closing(place) as store:
            entry = await store.create(KEY, SOURCE, representation(10))
            assert entry.writer(5).write(b"")
            assert not entry.spans

    @pytest.mark.asyncio
    async def test_bytes_that_are_stored_already_are_not_written_again(self, place: Place) -> None:
        """A piece that overlaps stored bytes fills the holes and leaves the rest as it was."""
        async with closing(place) as store:
            entry = await store.create(KEY, SOURCE, representation(10))
            await fill(entry, b"AAAA", 3)
            writer = entry.writer(0)
            writer.write(b"bbbbbbbbbb")
            assert writer.position == 10
            await writer.aclose()
            assert entry.read_nowait(Span(0, 10)) == b"bbbAAAAbbb"
            await entry.publish()
            await entry.aclose()
            again = await store.open((await only(store)).entry_id)
            assert await again.read(Span(0, 10)) == b"bbbAAAAbbb"

    @pytest.mark.asyncio
    async def test_drain_makes_room_for_more(self, place: Place) -> None:
        """A writer that is drained whenever it says so takes any amount."""
        data = content(3 * 1024 * KIB)
        async with closing(place) as store:
            entry = await store.create(KEY, SOURCE, representation(len(data)))
            writer = entry.writer(0)
            for start in range(0, len(data), 256 * KIB):
                if not writer.write(data[start : start + 256 * KIB]):
                    await writer.drain()
            await writer.drain()
            await writer.aclose()
            assert await entry.read(Span(0, len(data))) == data

    @pytest.mark.asyncio
    @pytest.mark.parametrize("step", ["drain", "commit", "aclose"])
    async def test_a_step_that_was_cancelled_can_be_repeated(self, place: Place, step: str) -> None:
        """Whoever waited for it gave up; what was written is neither lost nor stuck."""
        data = content(1024 * KIB)
        async with closing(place) as store:
            entry = await store.create(KEY, SOURCE, representation(len(data)))
            writer = entry.writer(0)
            for turns, start in enumerate(range(0, len(data), 128 * KIB)):
                writer.write(data[start : start + 128 * KIB])
                if step == "aclose" and start + 128 * KIB < len(data):
                    continue
                waiting = asyncio.ensure_future(getattr(writer, step)())
                for _ in range(turns):
                    await asyncio.sleep(0)
                waiting.cancel()
                await asyncio.wait((waiting,))
            async with asyncio.timeout(60):
                await getattr(writer, step)()
                await writer.aclose()
                await entry.publish()
                await entry.aclose()
            again = await store.open(entry.entry_id)
            assert await again.read(Span(0, len(data))) == data

    @pytest.mark.asyncio
    async def test_several_writers_fill_disjoint_holes(self, place: Place) -> None:
        """Writers that take turns on different holes do not disturb each other."""
        data = content(900 * KIB)
        async with closing(place) as store:
            entry = await store.create(KEY, SOURCE, representation(len(data)))
            thirds = [0, 300 * KIB, 600 * KIB]
            writers = [entry.writer(start) for start in thirds]
            for step in range(0, 300 * KIB, 50_000):
                for writer, start in zip(writers, thirds, strict=True):
                    stop = min(step + 50_000, 300 * KIB)
                    writer.write(data[start + step : start + stop])
                await writers[step // 50_000 % 3].commit()
            for writer in writers:
                await writer.aclose()
            await entry.publish()
            await entry.aclose()
            again = await store.open(entry.entry_id)
            assert await again.read(Span(0, len(data))) == data

    @pytest.mark.asyncio
    async def test_aclose_is_idempotent_and_ends_the_writer(self, place: Place) -> None:
        """A closed writer can be closed again, and takes nothing more."""
        async with closing(place) as store:
            entry = await store.create(KEY, SOURCE, representation(10))
            writer = entry.writer(0)
            writer.write(b"abc")
            await writer.aclose()
            await writer.aclose()
            with pytest.raises(ClosedError):
                writer.write(b"d")
            assert entry.read_nowait(Span(0, 3)) == b"abc"

    @pytest.mark.asyncio
    async def test_nothing_of_a_piece_without_room_counts_as_stored(self, place: Place) -> None:
        """A write past the limit raises, stores nothing of the piece, and leaves what was there."""
        async with closing(place, max_size=256 * KIB) as store:
            entry = await store.create(KEY, SOURCE, representation(None))
            writer = entry.writer(0)
            data = content(512 * KIB)
            pieces = (data[start : start + 64 * KIB] for start in range(0, len(data), 64 * KIB))
            with pytest.raises(StoreFullError):
                _write_all(writer, pieces)
            held = entry.spans.total
            assert held <= 256 * KIB
            assert held % (64 * KIB) == 0
            assert writer.position == held
            assert await entry.read(Span(0, held)) == data[:held]
            assert (await store.usage()).allocated_bytes <= 256 * KIB
