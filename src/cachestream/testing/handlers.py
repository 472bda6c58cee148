"""The contract of handlers and of the bodies they give, as tests: subclass it, give fixtures.

Example:
    A handler's own tests::

        class TestMyHandler(HandlerContract):
            @pytest.fixture
            def handler(self):
                return MyHandler(...)

            @pytest.fixture
            def content(self):
                return b"..."  # what GET /whole is answered with
"""

from __future__ import annotations

import asyncio
import os
from typing import Any

import pytest

from cachestream.abc import (
    END,
    Answer,
    AnswerHead,
    Body,
    End,
    FileRegion,
    Handler,
    Piece,
    RequestHead,
    Slice,
)
from cachestream.core.fields import Fields
from cachestream.core.ranges import content_range
from cachestream.core.spans import Span
from cachestream.errors import CacheStreamError

__all__ = ["HandlerContract", "bytes_of", "read_all"]

_PATIENCE_S = 60.0
_LIMITS = pytest.mark.parametrize("limit", [1000, 65_536, 1024 * 1024])


def bytes_of(piece: Piece) -> bytes:
    """Return the bytes of a piece, wherever they are."""
    if isinstance(piece, FileRegion):
        return os.pread(piece.descriptor, piece.length, piece.offset)
    return bytes(piece)


async def read_all(body: Body, limit: int = 65_536) -> bytes:
    """Return all that a body gives, at once where it can be and waiting where not.

    Raises:
        CacheStreamError: What the body raises.
        AssertionError: If a piece is empty, or larger than the limit.
    """
    parts: list[bytes] = []
    async with asyncio.timeout(_PATIENCE_S):
        while True:
            piece: Piece | End | None = body.take_nowait(limit)
            if piece is None:
                piece = await body.next(limit)
            if piece is END:
                return b"".join(parts)
            data = bytes_of(piece)
            assert 0 < len(data) <= limit
            parts.append(data)


async def ask(handler: Handler, head: RequestHead) -> Answer:
    """Return the handler's answer, as a frontend gets it."""
    async with asyncio.timeout(_PATIENCE_S):
        return handler.answer_nowait(head) or await handler.answer(head)


async def hold(handler: Handler, target: str) -> AnswerHead:
    """Read all of a target, so that it is held if it can be; return the head of the answer."""
    answer = await ask(handler, RequestHead(method="GET", target=target))
    await read_all(answer.body)
    answer.close()
    return answer.head


def fields_of(answer: Answer) -> Fields:
    """Return all fields of an answer, shared ones and its own."""
    return Fields((*answer.head.fields, *answer.extra))


class HandlerContract:
    """Everything that `cachestream.abc.Handler`, `Answer` and `Body` promise.

    Fixture ``handler``: what is tested. Fixture ``content``: what it answers a GET of ``whole``
    with, at least 200,000 bytes. Fixtures ``whole``, ``cut`` and ``failing``: raw request targets
    of that, of content that breaks off after its first bytes, and of an origin that fails. Needs
    pytest-asyncio.
    """

    @pytest.fixture
    def handler(self) -> Handler:
        """Return the handler to test."""
        raise NotImplementedError("the contract needs a fixture `handler`")

    @pytest.fixture
    def content(self) -> bytes:
        """Return what a GET of ``whole`` is answered with."""
        raise NotImplementedError("the contract needs a fixture `content`")

    @pytest.fixture
    def whole(self) -> str:
        """Return a target that is answered with ``content``."""
        return "/whole"

    @pytest.fixture
    def cut(self) -> str:
        """Return a target whose content breaks off."""
        return "/cut"

    @pytest.fixture
    def failing(self) -> str:
        """Return a target whose origin fails before it answers."""
        return "/failing"

    @_LIMITS
    @pytest.mark.asyncio
    async def test_content_is_given_in_pieces(
        self, handler: Handler, whole: str, content: bytes, limit: int
    ) -> None:
        """All bytes come in order, no piece is empty or larger than the limit, and then END."""
        for _ in range(2):
            answer = await ask(handler, RequestHead(method="GET", target=whole))
            assert answer.head.status == 200
            assert answer.length in (None, len(content))
            assert await read_all(answer.body, limit) == content
            answer.close()

    @pytest.mark.asyncio
    async def test_a_piece_is_good_until_the_next_call(
        self, handler: Handler, whole: str, content: bytes
    ) -> None:
        """However long a client takes, what it was given stays as it is until it asks for more."""
        answer = await ask(handler, RequestHead(method="GET", target=whole))
        other = await ask(handler, RequestHead(method="GET", target=whole))
        piece = await answer.body.next(10_000)
        assert piece is not END
        assert await read_all(other.body) == content
        other.close()
        assert bytes_of(piece) == content[: len(bytes_of(piece))]
        answer.close()

    @pytest.mark.asyncio
    async def test_take_nowait_gives_what_next_would(
        self, handler: Handler, whole: str, content: bytes
    ) -> None:
        """A body may be asked on either way by turns; no byte is left out or given twice."""
        answer = await ask(handler, RequestHead(method="GET", target=whole))
        got, awaited = b"", False
        async with asyncio.timeout(_PATIENCE_S):
            while True:
                piece = answer.body.take_nowait(9_999) if not awaited else None
                piece = await answer.body.next(20_001) if piece is None else piece
                awaited = not awaited
                if piece is END:
                    break
                got += bytes_of(piece)
        assert got == content
        answer.close()

    @pytest.mark.asyncio
    async def test_a_range_is_a_part(self, handler: Handler, whole: str, content: bytes) -> None:
        """A part has its own status, length and Content-Range (RFC 9110 §15.3.7)."""
        head = RequestHead(
            method="GET", target=whole, fields=Fields.of(("Range", "bytes=5-100004"))
        )
        answer = await ask(handler, head)
        if answer.head.status == 200:
            assert await read_all(answer.body) == content
        else:
            assert answer.head.status == 206
            told = fields_of(answer).get("Content-Range")
            assert told == content_range(Span(5, 100_005), len(content))
            assert answer.length == 100_000
            assert await read_all(answer.body) == content[5:100_005]
        answer.close()

    @pytest.mark.asyncio
    async def test_head_has_a_length_and_no_content(
        self, handler: Handler, whole: str, content: bytes
    ) -> None:
        """The answer to HEAD says how long it would be, and its body is empty."""
        answer = await ask(handler, RequestHead(method="HEAD", target=whole))
        assert answer.head.status == 200
        assert answer.length in (None, len(content))
        assert await read_all(answer.body) == b""
        answer.close()

    @pytest.mark.asyncio
    async def test_both_routes_answer_alike(
        self, handler: Handler, whole: str, content: bytes
    ) -> None:
        """What is answered at once has the status, length and content of what is awaited."""
        head = RequestHead(method="GET", target=whole)
        (await ask(handler, head)).close()
        quick = handler.answer_nowait(head)
        if quick is None:
            return
        assert (quick.head.status, quick.length) == (200, len(content))
        assert await read_all(quick.body) == content
        quick.close()

    @pytest.mark.asyncio
    @pytest.mark.parametrize(
        "head",
        [
            RequestHead(method="BREW", target="/whole"),
            RequestHead(method="get", target="/whole"),
            RequestHead(method="GET", target=""),
            RequestHead(method="GET", target="nonsense"),
            RequestHead(method="GET", target="*"),
            RequestHead(method="GET", target="/%00%ff/../../etc/passwd"),
            RequestHead(method="GET", target="http://[::1/"),
            RequestHead(method="GET", target="/x", fields=Fields.of(("Host", "a b"))),
            RequestHead(method="GET", target="/x", fields=Fields.of(("Range", "bytes=9-1"))),
            RequestHead(method="GET", target="/x", served=frozenset({"127.0.0.1:1"})),
        ],
        ids=str,
    )
    async def test_a_bad_request_is_answered(self, handler: Handler, head: RequestHead) -> None:
        """Whatever is asked, there is an answer with a status of HTTP, and nothing is raised."""
        answer = await ask(handler, head)
        assert 200 <= answer.head.status <= 599
        answer.close()

    @pytest.mark.asyncio
    async def test_a_failing_origin_is_answered(self, handler: Handler, failing: str) -> None:
        """An origin that fails before its head is an answer with an error status."""
        answer = await ask(handler, RequestHead(method="GET", target=failing))
        assert 400 <= answer.head.status <= 599
        await read_all(answer.body)
        answer.close()

    @pytest.mark.asyncio
    async def test_content_that_breaks_off_raises(self, handler: Handler, cut: str) -> None:
        """A body that cannot be completed raises, so that the connection is cut."""
        answer = await ask(handler, RequestHead(method="GET", target=cut))
        assert answer.head.status == 200
        with pytest.raises(CacheStreamError):
            await read_all(answer.body)
        answer.close()

    @pytest.mark.asyncio
    async def test_closing_is_idempotent_and_disturbs_nobody(
        self, handler: Handler, whole: str, content: bytes
    ) -> None:
        """An answer that is closed early, and again, changes nothing for others."""
        answers = [await ask(handler, RequestHead(method="GET", target=whole)) for _ in range(3)]
        await answers[0].body.next(1000)
        for answer in answers[:2]:
            answer.close()
            answer.close()
        assert await read_all(answers[2].body) == content
        answers[2].close()

    @pytest.mark.asyncio
    async def test_no_field_breaks_the_head(
        self, handler: Handler, whole: str, failing: str
    ) -> None:
        """Control characters occur in no field of an answer."""
        for target in (whole, failing, "/\r\nX-Evil: 1", "/%0d%0aX-Evil: 1"):
            answer = await ask(handler, RequestHead(method="GET", target=target))
            for name, value in fields_of(answer):
                assert not {*"\r\n\0"} & {*name, *value}
            answer.close()

    @pytest.mark.asyncio
    async def test_a_shortcut_answers_alike(
        self, handler: Handler, whole: str, content: bytes
    ) -> None:
        """Where there is a shortcut, it gives the status and the bytes of the ordinary way."""
        shared = await hold(handler, whole)
        shortcut = handler.shortcut(RequestHead(method="GET", target=whole))
        size = len(content)
        if shortcut is None:
            return
        assert shortcut.alive
        for first, last, limit in (
            (100, 70_099, size),
            (size - 9, None, size),
            (0, 2 * size, size),
        ):
            part = shortcut.take(first, last, limit)
            stop = size if last is None else min(last + 1, size)
            assert part is None or _is_part(part, content, first, stop)
        part = shortcut.take(None, None, size)
        assert part is None or (part.head is shared and _is_part(part, content, 0, size))
        assert shortcut.take(0, 999, 999) is None
        assert shortcut.take(size, None, size) is None
        assert shortcut.take(9, 1, size) is None

    @pytest.mark.asyncio
    async def test_the_rest_of_a_shortcut_can_be_had(
        self, handler: Handler, whole: str, content: bytes
    ) -> None:
        """What does not fit into a turn is kept by its body, until that is closed."""
        await hold(handler, whole)
        shortcut = handler.shortcut(RequestHead(method="GET", target=whole))
        part = None if shortcut is None else shortcut.take(1000, 50_999, len(content))
        if shortcut is None or part is None:
            return
        body = shortcut.rest(part, 20_000)
        assert await read_all(body, 7000) == content[21_000:51_000]
        body.close()
        body.close()

    @pytest.mark.asyncio
    @pytest.mark.parametrize(
        "change",
        [
            {"method": "HEAD"},
            {"method": "BREW"},
            {"target": "nonsense"},
            {"fields": Fields.of(("If-None-Match", '"a"'))},
            {"fields": Fields.of(("If-Range", '"a"'))},
            {"fields": Fields.of(("Host", "evil.example")), "served": frozenset({"127.0.0.1:1"})},
            {"fields": Fields.of(("Origin", "https://evil.example"))},
            {"fields": Fields.of(("Sec-Fetch-Site", "cross-site"))},
        ],
        ids=str,
    )
    async def test_only_a_plain_request_has_a_shortcut(
        self, handler: Handler, whole: str, change: dict[str, Any]
    ) -> None:
        """What is refused, conditional or no GET is left to the ordinary way."""
        await hold(handler, whole)
        head = RequestHead(**{"method": "GET", "target": whole, **change})
        assert handler.shortcut(head) is None


def _is_part(part: Slice, content: bytes, start: int, stop: int) -> bool:
    """Tell whether a slice is these bytes of the content."""
    data = os.pread(part.descriptor, stop - start, part.offset)
    return (part.start, part.stop, part.complete_length, data) == (
        start,
        stop,
        len(content),
        content[start:stop],
    )
