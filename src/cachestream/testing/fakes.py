"""Stand-ins for a handler and its bodies, to test a frontend without an engine.

They are strict where the real ones are: a piece is only good until the next call, and
whoever keeps it longer sends rubbish, which a byte-exact test then finds.
"""

from __future__ import annotations

import asyncio
import os
import tempfile
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from types import TracebackType
from typing import Self, TypeAlias

from cachestream.abc import (
    END,
    Answer,
    AnswerHead,
    Body,
    Buffer,
    End,
    FileRegion,
    Handler,
    Piece,
    RequestHead,
)
from cachestream.core.fields import Fields

__all__ = [
    "BytesBody",
    "FailingBody",
    "FakeBody",
    "FakeHandler",
    "MixedBody",
    "RegionBody",
    "ScratchFile",
    "WaitingBody",
    "answer_with",
    "pattern",
]


def pattern(length: int, *, seed: int = 0) -> bytes:
    """Return bytes that show a shift, a swap or a repetition; equal for equal arguments."""
    # The period is prime, so that no two blocks of a usual size are alike.
    block = bytes((i * 7 + i // 251 + seed) % 256 for i in range(65_521))
    return (block * (length // len(block) + 1))[:length]


class FakeBody(Body):
    """What the bodies here have in common: they count, and tell when they are closed.

    Attributes:
        calls: How often a piece was asked for.
        given: Bytes given so far.
        limits: The limits asked with.
        closed: Set when the body is closed.
        close_count: How often it was closed.
    """

    def __init__(self) -> None:
        self.calls = 0
        self.given = 0
        self.limits: set[int] = set()
        self.closed = asyncio.Event()
        self.close_count = 0

    def take_nowait(self, limit: int) -> Piece | End | None:
        if limit < 1:
            raise AssertionError("a limit is at least 1")
        if self.closed.is_set():
            raise AssertionError("a piece was asked for after close")
        self.calls += 1
        self.limits.add(limit)
        piece = self.piece(limit)
        if piece is not None and piece is not END:
            self.given += piece.length if isinstance(piece, FileRegion) else len(piece)
        return piece

    def piece(self, limit: int) -> Piece | End | None:
        """Return what `take_nowait` returns; for subclasses."""
        return END

    async def next(self, limit: int) -> Piece | End:
        piece = self.take_nowait(limit)
        if piece is None:
            raise AssertionError("this body has nothing to wait for")
        return piece

    def close(self) -> None:
        self.close_count += 1
        self.closed.set()


class BytesBody(FakeBody):
    """Bytes in memory, in pieces that live in one buffer that the next piece overwrites.

    Args:
        data: The content.
        piece: Most bytes of a piece, besides the limit asked for.
        nowait: If False, `take_nowait` always says that it would block.
    """

    def __init__(self, data: bytes, *, piece: int = 65_536, nowait: bool = True) -> None:
        super().__init__()
        self._data = memoryview(data)
        self._piece = piece
        self._nowait = nowait
        self._buffer = bytearray(min(piece, len(data)))
        self._position = 0

    def take_nowait(self, limit: int) -> Piece | End | None:
        return super().take_nowait(limit) if self._nowait else None

    async def next(self, limit: int) -> Piece | End:
        piece = super().take_nowait(limit)
        assert piece is not None
        return piece

    def piece(self, limit: int) -> Piece | End:
        size = min(limit, self._piece, len(self._data) - self._position)
        if not size:
            return END
        self._buffer[:size] = self._data[self._position : self._position + size]
        self._position += size
        return memoryview(self._buffer)[:size]

    def close(self) -> None:
        super().close()
        self._buffer[:] = bytes(len(self._buffer))


class ScratchFile:
    """An unnamed file with content, to be left open while regions of it are sent.

    Attributes:
        descriptor: Its descriptor, open until the context is left.
    """

    def __init__(self, data: bytes) -> None:
        self._file = tempfile.TemporaryFile()  # noqa: SIM115  # closed in __exit__
        self._file.write(data)
        self._file.flush()
        self.descriptor = self._file.fileno()
        self.length = len(data)

    def region(self, offset: int = 0, length: int | None = None) -> FileRegion:
        """Return a region, by default all from ``offset`` on."""
        return FileRegion(
            self.descriptor, offset, self.length - offset if length is None else length
        )

    def truncate(self, length: int) -> None:
        """Shorten the file, as nobody should while a region of it is leased."""
        os.ftruncate(self.descriptor, length)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._file.close()


Script: TypeAlias = "Buffer | FileRegion | Exception | None"
"""One step of a `MixedBody`: a piece, an error, or None for a piece that must be awaited."""


class MixedBody(FakeBody):
    """Gives the pieces of a script, split where they are longer than the limit.

    After a None in the script, `take_nowait` says that it would block until `next` was
    called once. An exception is raised. After the script comes `END`.
    """

    def __init__(self, script: Iterable[Script]) -> None:
        super().__init__()
        self._script = list(script)

    def piece(self, limit: int) -> Piece | End | None:
        if not self._script:
            return END
        step = self._script[0]
        if step is None:
            return None
        if isinstance(step, Exception):
            raise step
        head, rest = _split(step, limit)
        self._script[:1] = [] if rest is None else [rest]
        return head

    async def next(self, limit: int) -> Piece | End:
        await asyncio.sleep(0)
        while self._script and self._script[0] is None:
            del self._script[0]
        piece = self.take_nowait(limit)
        assert piece is not None
        return piece


def _split(
    piece: Buffer | FileRegion, limit: int
) -> tuple[Buffer | FileRegion, Buffer | FileRegion | None]:
    if isinstance(piece, FileRegion):
        if piece.length <= limit:
            return piece, None
        return (
            FileRegion(piece.descriptor, piece.offset, limit),
            FileRegion(piece.descriptor, piece.offset + limit, piece.length - limit),
        )
    return (piece, None) if len(piece) <= limit else (piece[:limit], piece[limit:])


class RegionBody(MixedBody):
    """A region of a file, or several."""

    def __init__(self, *regions: FileRegion) -> None:
        super().__init__(regions)


class FailingBody(MixedBody):
    """Gives some bytes and then fails.

    Args:
        data: What comes before the failure.
        error: What is raised.
        awaited: Whether the failure comes from `next` instead of `take_nowait`.
    """

    def __init__(self, data: bytes, error: Exception, *, awaited: bool = False) -> None:
        super().__init__([*([data] if data else []), *([None] if awaited else []), error])


class WaitingBody(FakeBody):
    """Gives what it is fed, and waits for more like a body whose bytes are on their way.

    Attributes:
        waiting: Set while somebody waits in `next`.
    """

    def __init__(self) -> None:
        super().__init__()
        self.waiting = asyncio.Event()
        self._fed: deque[Piece | End] = deque()
        self._arrived = asyncio.Event()

    def feed(self, piece: Piece | End) -> None:
        """Add a piece of any size, or `END`."""
        self._fed.append(piece)
        self._arrived.set()

    def piece(self, limit: int) -> Piece | End | None:
        return self._fed.popleft() if self._fed else None

    async def next(self, limit: int) -> Piece | End:
        while not self._fed:
            self._arrived.clear()
            self.waiting.set()
            try:
                await self._arrived.wait()
            finally:
                self.waiting.clear()
        return await super().next(limit)


def answer_with(
    body: Body | bytes = b"",
    *,
    status: int = 200,
    fields: Iterable[tuple[str, str]] = (),
    extra: Iterable[tuple[str, str]] = (),
    length: int | None = None,
) -> Answer:
    """Make an answer.

    Args:
        body: The content; bytes are given in pieces of 64 KiB, with their length.
        length: Content-Length of any other body; None for an unknown one.
    """
    if isinstance(body, bytes):
        length, body = len(body), BytesBody(body)
    return Answer(
        head=AnswerHead(status, Fields.parse(fields)), extra=tuple(extra), length=length, body=body
    )


Answering: TypeAlias = Callable[[RequestHead], Answer]
"""Makes an answer to a request, or raises."""


class FakeHandler(Handler):
    """Answers by a table of paths; everything else is 404.

    Args:
        routes: What makes the answer, by path (the target up to ``?``). The path ``*``
            stands for all that are not named.
        nowait: Whether `answer_nowait` answers; otherwise every answer is awaited.

    Attributes:
        heads: The requests, as they came.
        answers: The answers given.
        gate: What `answer` waits for, if not None.
        arrived: Set when `answer` was called.
        cancelled: Set when a call of `answer` was cancelled.
    """

    def __init__(
        self, routes: Mapping[str, Answering] | None = None, *, nowait: bool = True
    ) -> None:
        self.routes = dict(routes or {})
        self.nowait = nowait
        self.heads: list[RequestHead] = []
        self.answers: list[Answer] = []
        self.gate: asyncio.Event | None = None
        self.arrived = asyncio.Event()
        self.cancelled = asyncio.Event()

    def answer_nowait(self, head: RequestHead) -> Answer | None:
        return self._answer(head) if self.nowait else None

    async def answer(self, head: RequestHead) -> Answer:
        if self.nowait:
            raise AssertionError("answer_nowait had an answer")
        self.arrived.set()
        try:
            if self.gate is not None:
                await self.gate.wait()
            else:
                await asyncio.sleep(0)
        except asyncio.CancelledError:
            self.cancelled.set()
            raise
        return self._answer(head)

    def _answer(self, head: RequestHead) -> Answer:
        self.heads.append(head)
        make = self.routes.get(head.target.partition("?")[0]) or self.routes.get("*")
        answer = answer_with(status=404) if make is None else make(head)
        self.answers.append(answer)
        return answer

    def all_closed(self) -> bool:
        """Whether every answer was closed."""
        return all(
            body.close_count > 0
            for body in (answer.body for answer in self.answers)
            if isinstance(body, FakeBody)
        )
