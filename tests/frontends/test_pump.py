from __future__ import annotations

import errno
import os
from collections.abc import Callable
from typing import TypeVar

import pytest

from cachestream.abc import Body, Buffer, End, Piece
from cachestream.frontends._links import Link
from cachestream.frontends._pump import PIECE, TURN, ContentError, Pump
from cachestream.testing.fakes import BytesBody, FakeBody, MixedBody, ScratchFile, pattern

T = TypeVar("T")

HEAD = b"HTTP/1.1 200 OK\r\n\r\n"


class RecordingLink(Link):
    """Takes what it is given, at most ``room`` bytes a call, and writes down who called."""

    def __init__(self, *, zero_copy: bool = True, room: int = 1 << 30) -> None:
        self.zero_copy = zero_copy
        self.room = room
        self.data = b""
        self.calls: list[tuple[str, int]] = []
        self.turns = [0]
        self.settled = False
        self.errors: list[OSError] = []

    def _take(self, name: str, data: bytes) -> int:
        if self.errors:
            raise self.errors.pop()
        data = data[: self.room]
        self.calls.append((name, len(data)))
        self.turns[-1] += len(data)
        self.data += data
        return len(data)

    def send(self, lead: bytes, piece: Buffer) -> int:
        return self._take("send", lead + bytes(piece))

    def send_corked(self, lead: bytes) -> int:
        return self._take("corked", lead)

    def uncork(self) -> None:
        self.calls.append(("uncork", 0))

    def sendfile(self, descriptor: int, offset: int, count: int) -> int:
        return self._take("sendfile", os.pread(descriptor, count, offset))

    async def by_turns(self, step: Callable[[], T | None]) -> T:
        while True:
            self.turns.append(0)
            result = step()
            if result is not None:
                return result

    async def settle(self) -> None:
        self.settled = True

    def release(self) -> None:
        raise AssertionError("the connection releases its link")


async def _wait(body: Body, limit: int) -> Piece | End:
    return await body.next(limit)


async def _pump(link: Link, body: FakeBody, length: int | None, *, chunked: bool = False) -> Pump:
    pump = Pump(link, HEAD, body, length=length, chunked=chunked)
    await pump.run(_wait)
    return pump


@pytest.mark.asyncio
async def test_small_answers_leave_in_one_call() -> None:
    """Head and a small piece are one segment, wherever the piece lies."""
    data = pattern(10_000)
    with ScratchFile(data) as file:
        for body in (BytesBody(data), MixedBody([file.region()])):
            link = RecordingLink()
            pump = await _pump(link, body, len(data))
            assert link.calls == [("send", len(HEAD) + len(data))]
            assert link.data == HEAD + data
            assert (pump.sent, link.settled) == (len(data), True)


@pytest.mark.asyncio
async def test_head_waits_for_the_file_that_follows_at_once() -> None:
    """Before a larger region the head is held back, for the region to push it out."""
    data = pattern(65_536)
    with ScratchFile(data) as file:
        link = RecordingLink()
        await _pump(link, MixedBody([file.region()]), len(data))
    assert link.calls == [("corked", len(HEAD)), ("sendfile", 65_536)]


@pytest.mark.asyncio
async def test_head_is_pushed_if_the_file_cannot_follow() -> None:
    """A head that was held back goes as soon as the region has to wait."""
    data = pattern(65_536)

    class Full(RecordingLink):
        def sendfile(self, descriptor: int, offset: int, count: int) -> int:
            if len(self.turns) == 1:
                raise BlockingIOError
            return super().sendfile(descriptor, offset, count)

    with ScratchFile(data) as file:
        link = Full()
        await _pump(link, MixedBody([file.region()]), len(data))
    assert link.calls == [("corked", len(HEAD)), ("uncork", 0), ("sendfile", 65_536)]
    assert link.data == HEAD + data


@pytest.mark.parametrize("room", [1 << 30, 100_000, 7_777])
@pytest.mark.parametrize("zero_copy", [True, False])
@pytest.mark.asyncio
async def test_no_turn_is_longer_than_its_budget(zero_copy: bool, room: int) -> None:
    """However much the socket takes, one turn sends no more than its share."""
    data = pattern(2_000_000)
    with ScratchFile(data) as file:
        link = RecordingLink(zero_copy=zero_copy, room=room)
        script = [file.region(0, 1_000_000), data[1_000_000:1_000_001], file.region(1_000_001)]
        await _pump(link, MixedBody(script), len(data))
    assert link.data == HEAD + data
    assert max(link.turns) <= TURN


@pytest.mark.asyncio
async def test_tiny_pieces_end_a_turn_too() -> None:
    """A turn ends after a number of pieces, even if they have hardly any bytes."""
    link = RecordingLink()
    await _pump(link, BytesBody(pattern(10_000), piece=1), 10_000)
    assert len(link.turns) > 100


@pytest.mark.asyncio
async def test_empty_pieces_end_a_turn_too() -> None:
    """Empty pieces mean nothing, and cannot hold the loop."""
    link = RecordingLink()
    await _pump(link, MixedBody([b""] * 1000 + [b"x"]), 1, chunked=False)
    assert link.data == HEAD + b"x"
    assert len(link.turns) > 10


@pytest.mark.asyncio
async def test_chunks_are_framed() -> None:
    """Each piece is a chunk, and the last one is empty (RFC 9112 §7.1)."""
    with ScratchFile(b"file") as file:
        link = RecordingLink()
        await _pump(link, MixedBody([b"0123456789", None, file.region()]), None, chunked=True)
    assert link.data == HEAD + b"a\r\n0123456789\r\n4\r\nfile\r\n0\r\n\r\n"


@pytest.mark.asyncio
async def test_nothing_is_held_back_while_waiting() -> None:
    """Head and framing that are there leave before the body is awaited."""
    link = RecordingLink()
    seen = []

    class Watching(MixedBody):
        async def next(self, limit: int) -> Piece | End:
            seen.append(link.data)
            return await super().next(limit)

    await _pump(link, Watching([None, b"x", None, b"y"]), None, chunked=True)
    assert seen == [HEAD, HEAD + b"1\r\nx\r\n"]


@pytest.mark.asyncio
async def test_no_piece_is_asked_for_while_one_is_held() -> None:
    """As long as the link needs the last piece, the body is not called."""

    class Holding(RecordingLink):
        held = False

        @property
        def holds_piece(self) -> bool:
            return self.held

        def send(self, lead: bytes, piece: Buffer) -> int:
            self.held = True
            return super().send(lead, piece)

        async def by_turns(self, step: Callable[[], T | None]) -> T:
            while True:
                calls = body.calls
                assert step() is None
                assert body.calls == calls
                held.append(calls)
                self.held = False
                result = step()
                if result is not None:
                    return result

    held: list[int] = []
    body = BytesBody(b"0123456789", piece=5)
    link = Holding(zero_copy=False)
    await _pump(link, body, 10)
    assert link.data == HEAD + b"0123456789"
    assert held == [1, 2]


@pytest.mark.asyncio
async def test_pieces_are_asked_for_in_portions() -> None:
    """No piece is asked for that is longer than the limit, which is less where it is waited for."""
    body = MixedBody([None, pattern(1_000_000)])
    await _pump(RecordingLink(), body, 1_000_000)
    assert body.limits == {TURN, PIECE}


@pytest.mark.parametrize("number", [errno.EINVAL, errno.ENOSYS])
@pytest.mark.asyncio
async def test_file_that_sendfile_refuses_is_read(number: int) -> None:
    """Where sendfile does not work the file is read instead."""
    data = pattern(600_000)
    with ScratchFile(data) as file:

        class Refusing(RecordingLink):
            def sendfile(self, descriptor: int, offset: int, count: int) -> int:
                raise OSError(number, "no")

        link = Refusing()
        await _pump(link, MixedBody([file.region()]), len(data))
    assert link.data == HEAD + data
    assert not link.zero_copy


@pytest.mark.parametrize("zero_copy", [True, False])
@pytest.mark.asyncio
async def test_failing_disk_is_no_clients_fault(zero_copy: bool) -> None:
    """A file that cannot be read cuts the answer with an error that says so."""

    class Failing(RecordingLink):
        def sendfile(self, descriptor: int, offset: int, count: int) -> int:
            raise OSError(errno.EIO, "Input/output error")

    with ScratchFile(pattern(100_000)) as file:
        region = file.region()
    # The file is closed now, so that reading it fails.
    with pytest.raises(ContentError, match="cannot be"):
        await _pump(Failing(zero_copy=zero_copy), MixedBody([region]), 100_000)


@pytest.mark.parametrize("zero_copy", [True, False])
@pytest.mark.parametrize("left", [0, 1000, 50_000])
@pytest.mark.asyncio
async def test_short_file_is_an_error(zero_copy: bool, left: int) -> None:
    """A region that reaches past the end of its file is never passed off as whole."""
    with ScratchFile(pattern(100_000)) as file:
        region = file.region()
        file.truncate(left)
        link = RecordingLink(zero_copy=zero_copy)
        with pytest.raises(ContentError, match="shorter"):
            await _pump(link, MixedBody([region]), 100_000)
    assert link.data == (HEAD + pattern(100_000))[: len(link.data)]


@pytest.mark.parametrize(("length", "match"), [(9, "too many"), (11, "too early")])
@pytest.mark.asyncio
async def test_length_is_kept(length: int, match: str) -> None:
    """Content that does not have the announced length is an error, and never spills over."""
    link = RecordingLink()
    with pytest.raises(ContentError, match=match):
        await _pump(link, BytesBody(b"0123456789", piece=5), length)
    assert len(link.data) <= len(HEAD) + length


@pytest.mark.asyncio
async def test_wide_memoryviews_are_bytes() -> None:
    """A view of other items than bytes is sent as the bytes it is."""
    view = memoryview(pattern(4096)).cast("I")
    link = RecordingLink()
    await _pump(link, MixedBody([view]), 4096)
    assert link.data == HEAD + pattern(4096)
