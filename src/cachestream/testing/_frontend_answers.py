"""What a frontend promises about answers: written faithfully, whole or visibly cut."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import ClassVar

import aiohttp
import pytest

from cachestream.abc import Answer, AnswerHead, Body, Frontend
from cachestream.core.fields import Fields
from cachestream.errors import UpstreamTimeoutError
from cachestream.testing._frontend_requests import ROUTES, Lines, answering
from cachestream.testing._raw_client import RawClient
from cachestream.testing.fakes import (
    BytesBody,
    FailingBody,
    FakeHandler,
    MixedBody,
    RegionBody,
    ScratchFile,
    answer_with,
    pattern,
)

__all__ = ["AnswerPromises"]

MIB = 1024 * 1024
SIZES = (0, 1, 16_384, 16_385, 65_000, 65_535, 65_536, 66_000, 262_144, 262_145, 5 * MIB)
KINDS = ("bytes", "awaited", "region", "mixed")


def body_of(kind: str, scratch: ScratchFile, data: bytes) -> Body:
    """Return a body that gives ``data``, which is also what the file holds."""
    if kind == "bytes":
        return BytesBody(data)
    if kind == "awaited":
        return BytesBody(data, nowait=False)
    if not data:
        return MixedBody([])
    if kind == "region":
        return RegionBody(scratch.region())
    # Pieces of all kinds and sizes by turns; an empty one, which means nothing, too.
    script: list[object] = []
    position = 0
    for number in range(len(data)):
        size = min((1, 700, 20_000, 90_001, 300_000)[number % 5], len(data) - position)
        if not size:
            break
        here = slice(position, position + size)
        script.append(scratch.region(position, size) if number % 2 else memoryview(data)[here])
        script.extend([None, b""] if number % 7 == 3 else [])
        position += size
    return MixedBody(script)  # type: ignore[arg-type]  # all are steps


class AnswerPromises:
    """One test a promise; see `cachestream.testing.frontends.FrontendContract`.

    Attributes:
        frames: Whether the frontend itself says where its messages end.
    """

    frames: ClassVar[bool] = True

    def shown(self, lines: Lines) -> Lines:
        """Return field lines as far as the frontend keeps them; here: as they are."""
        return lines

    @pytest.fixture
    def scratch(self) -> Iterator[Callable[[bytes], ScratchFile]]:
        """Make files that are closed after the test."""
        with contextlib.ExitStack() as files:
            yield lambda data: files.enter_context(ScratchFile(data))

    @ROUTES
    @pytest.mark.asyncio
    async def test_status_and_fields_are_written(self, frontend: Frontend, nowait: bool) -> None:
        """Status, shared fields and fields of this answer alone arrive as they were given."""
        fields = (("ETag", '"a"'), ("X-Text", "žluť"), ("Set-Cookie", "a=1"), ("set-cookie", "b"))
        extra = (("Content-Range", "bytes 0-6/9"), ("Cache-Status", "cachestream; hit"))
        handler = FakeHandler(
            {"*": lambda _: answer_with(b"content", status=206, fields=fields, extra=extra)},
            nowait=nowait,
        )
        async with frontend.serve(handler) as base, RawClient(base) as client:
            response = await client.ask("/")
        expected = self.shown((*fields, *extra))
        lines = [line for line in self.shown(response.fields.lines) if line in expected]
        assert response.status == 206
        assert lines == list(expected)

    @pytest.mark.asyncio
    async def test_shared_head_serves_many_answers(self, frontend: Frontend) -> None:
        """Answers with one head differ in what is theirs alone."""
        head = AnswerHead(206, Fields.of(("X-Shared", "yes")))

        def answer(request: object) -> Answer:
            number = len(handler.answers)
            body = BytesBody(b"x" * number)
            return Answer(head=head, extra=(("X-Number", str(number)),), length=number, body=body)

        handler = FakeHandler({"*": answer})
        async with frontend.serve(handler) as base, RawClient(base) as client:
            responses = [await client.ask("/") for _ in range(3)]
        assert [response.fields.get("X-Number") for response in responses] == ["0", "1", "2"]
        assert [response.content for response in responses] == [b"", b"x", b"xx"]
        assert {response.fields.get("X-Shared") for response in responses} == {"yes"}

    @pytest.mark.asyncio
    async def test_date_is_there_once(self, frontend: Frontend) -> None:
        """Every answer has one Date, whether the handler gives one or not."""
        given = [("date", "Mon, 01 Jan 2024 00:00:00 GMT")]
        handler = FakeHandler(
            {
                "/none": lambda _: answer_with(b""),
                "/shared": lambda _: answer_with(b"", fields=given),
                "/extra": lambda _: answer_with(b"", extra=given),
            }
        )
        async with frontend.serve(handler) as base, RawClient(base) as client:
            dates = [(await client.ask(path)).fields.get_all("Date") for path in handler.routes]
        assert [len(each) for each in dates] == [1, 1, 1]
        assert all(date.endswith(" GMT") for (date,) in dates)

    @pytest.mark.asyncio
    async def test_date_of_the_handler_goes_first(self, frontend: Frontend) -> None:
        """If the handler gives a Date, that is the one."""
        given = "Mon, 01 Jan 2024 00:00:00 GMT"
        handler = FakeHandler(
            {
                "/shared": lambda _: answer_with(b"", fields=[("date", given)]),
                "/extra": lambda _: answer_with(b"", extra=[("Date", given)]),
            }
        )
        async with frontend.serve(handler) as base, RawClient(base) as client:
            dates = [(await client.ask(path)).fields.get_all("Date") for path in handler.routes]
        assert dates == [(given,), (given,)]

    @ROUTES
    @pytest.mark.parametrize("target", ["/", "/bug"])
    @pytest.mark.asyncio
    async def test_no_version_is_revealed(
        self, frontend: Frontend, target: str, nowait: bool
    ) -> None:
        """No answer tells versions of the software that made it."""
        handler = answering(nowait=nowait)
        handler.routes["/bug"] = _bug
        async with frontend.serve(handler) as base, RawClient(base) as client:
            fields = (await client.ask(target)).fields
        assert not any(char.isdigit() for char in fields.get("Server") or "")
        assert "X-Powered-By" not in fields

    @pytest.mark.parametrize("length", [7, None])
    @pytest.mark.parametrize("version", ["1.0", "1.1"])
    @pytest.mark.asyncio
    async def test_length_decides_the_framing(
        self, frontend: Frontend, length: int | None, version: str
    ) -> None:
        """A known length is Content-Length; an unknown one chunked, or closing for HTTP/1.0."""
        handler = FakeHandler({"*": lambda _: answer_with(BytesBody(b"content"), length=length)})
        async with frontend.serve(handler) as base, RawClient(base) as client:
            response = await client.ask("/", ("Connection", "keep-alive"), version=version)
            if response.framing == "length":
                assert (await client.ask("/")).content == b"content"
        expected = "length" if length else {"1.0": "close", "1.1": "chunked"}[version]
        assert (response.framing, response.content) == (expected, b"content")
        assert response.complete

    @ROUTES
    @pytest.mark.parametrize(
        ("version", "option", "goes_on"),
        [
            ("1.1", None, True),
            ("1.1", "close", False),
            ("1.1", "x, Close", False),
            ("1.0", None, False),
            ("1.0", "keep-alive", True),
            ("1.0", "close", False),
        ],
    )
    @pytest.mark.asyncio
    async def test_keep_alive(
        self, frontend: Frontend, version: str, option: str | None, goes_on: bool, nowait: bool
    ) -> None:
        """The connection goes on if the client's version and Connection say so."""
        handler = answering(nowait=nowait)
        fields = (("Connection", option),) if option else ()
        async with frontend.serve(handler) as base, RawClient(base) as client:
            response = await client.ask("/", *fields, version=version)
            said = (response.fields.get("Connection") or "").lower()
            if goes_on:
                assert said == ("keep-alive" if version == "1.0" else "")
                assert (await client.ask("/")).content == b"content"
            else:
                assert said == "close"
                assert await client.ended()

    @ROUTES
    @pytest.mark.parametrize("length", [7, None])
    @pytest.mark.asyncio
    async def test_head_has_no_content(
        self, frontend: Frontend, length: int | None, nowait: bool
    ) -> None:
        """HEAD gets the fields of a GET, no content, and the connection goes on."""
        handler = FakeHandler(
            {"*": lambda _: answer_with(BytesBody(b"content"), length=length)}, nowait=nowait
        )
        async with frontend.serve(handler) as base, RawClient(base) as client:
            response = await client.ask("/", method="HEAD")
            assert response.status == 200
            assert response.fields.get("Content-Length") == (str(length) if length else None)
            assert (await client.ask("/")).content == b"content"

    @pytest.mark.parametrize("status", [204, 304])
    @pytest.mark.asyncio
    async def test_status_without_content(self, frontend: Frontend, status: int) -> None:
        """A 204 or 304 has no content and no length, whatever the body gives."""
        handler = FakeHandler(
            {"/empty": lambda _: answer_with(b"content", status=status), "*": _content}
        )
        async with frontend.serve(handler) as base, RawClient(base) as client:
            response = await client.ask("/empty")
            assert (response.status, response.fields.get("Content-Length")) == (status, None)
            assert "Transfer-Encoding" not in response.fields
            assert (await client.ask("/")).content == b"content"

    @ROUTES
    @pytest.mark.parametrize("kind", KINDS)
    @pytest.mark.parametrize("size", SIZES)
    @pytest.mark.asyncio
    async def test_content_is_exact(
        self,
        frontend: Frontend,
        scratch: Callable[[bytes], ScratchFile],
        kind: str,
        size: int,
        nowait: bool,
    ) -> None:
        """Bodies from memory, files or both arrive byte for byte, with or without a length."""
        data = pattern(size)
        file = scratch(data)
        handler = FakeHandler(
            {
                "/length": lambda _: answer_with(body_of(kind, file, data), length=size),
                "/chunked": lambda _: answer_with(body_of(kind, file, data)),
            },
            nowait=nowait,
        )
        async with frontend.serve(handler) as base:
            async with RawClient(base) as client:
                responses = [await client.ask(path) for path in handler.routes]
            async with RawClient(base) as client:
                responses.append(await client.ask("/chunked", version="1.0"))
        if self.frames:
            framings = [response.framing for response in responses]
            assert framings == ["length", "chunked", "close"]
        assert all(response.complete for response in responses)
        assert [response.content == data for response in responses] == [True, True, True]
        assert handler.all_closed()

    @pytest.mark.asyncio
    async def test_both_routes_write_the_same(self, frontend: Frontend) -> None:
        """An answer given at once and one that was awaited are the same bytes."""
        received = []
        for nowait in (True, False):
            handler = FakeHandler(
                {"*": lambda _: answer_with(b"c" * 1000, extra=[("Date", "today")])}, nowait=nowait
            )
            async with frontend.serve(handler) as base, RawClient(base) as client:
                response = await client.ask("/", ("Connection", "close"))
                fields = response.fields
                if fields.get("date") != "today":  # a server around it has a clock of its own
                    fields = fields.without("date")
                received.append((response.status, fields.lines, response.content))
        assert received[0] == received[1]

    @pytest.mark.asyncio
    async def test_usual_client_understands(self, frontend: Frontend) -> None:
        """A client library reads answers of all framings over kept connections."""
        data = pattern(300_000)
        handler = FakeHandler(
            {
                "/length": lambda _: answer_with(data),
                "/chunked": lambda _: answer_with(BytesBody(data, piece=10_007)),
            }
        )
        async with frontend.serve(handler) as base, aiohttp.ClientSession() as session:
            for path in ["/length", "/chunked"] * 3:
                async with session.get(base + path) as response:
                    assert await response.read() == data
            async with session.head(base + "/length") as response:
                assert response.content_length == len(data)

    @pytest.mark.parametrize("awaited", [False, True])
    @pytest.mark.parametrize("sent", [0, 1000, 1_000_000])
    @pytest.mark.parametrize("length", [2_000_000, None])
    @pytest.mark.asyncio
    async def test_failure_is_visible(
        self, frontend: Frontend, length: int | None, sent: int, awaited: bool
    ) -> None:
        """A body that fails cuts the connection: no client can take the answer for whole."""
        handler = _failing(sent, length, awaited=awaited)
        async with frontend.serve(handler) as base, RawClient(base) as client:
            complete = await _receive_cut(client, "1.1")
        assert not complete
        assert handler.all_closed()

    @pytest.mark.parametrize("awaited", [False, True])
    @pytest.mark.parametrize("sent", [0, 1000, 1_000_000])
    @pytest.mark.asyncio
    async def test_failure_is_visible_to_old_clients(
        self, frontend: Frontend, sent: int, awaited: bool
    ) -> None:
        """Where the end of the connection is the end of the content, it is reset instead."""
        handler = _failing(sent, None, awaited=awaited)
        async with frontend.serve(handler) as base, RawClient(base) as client:
            complete = await _receive_cut(client, "1.0")
        assert not complete
        assert handler.all_closed()

    @pytest.mark.parametrize("kind", ["short", "long", "file"])
    @pytest.mark.asyncio
    async def test_wrong_length_is_visible(
        self, frontend: Frontend, scratch: Callable[[bytes], ScratchFile], kind: str
    ) -> None:
        """A body that is shorter or longer than its length is cut, and never spills over."""
        file = scratch(pattern(100_000))
        length = 90_000 if kind == "long" else 110_000
        body = RegionBody(file.region(0, length)) if kind == "file" else BytesBody(pattern(100_000))
        handler = FakeHandler({"*": lambda _: answer_with(body, length=length)})
        async with frontend.serve(handler) as base, RawClient(base) as client:
            complete = await _receive_cut(client, "1.1")
            # A client may have all bytes that were announced, but then no byte more.
            assert await client.ended()
        assert not complete

    @pytest.mark.parametrize(
        "line", [("X-Bad", "a\r\nX-Evil: 1"), ("X-Bad: a\nX-Evil", "1"), ("X-Bad", "a\0b")]
    )
    @pytest.mark.parametrize("place", ["fields", "extra"])
    @pytest.mark.asyncio
    async def test_control_characters_never_leave(
        self, frontend: Frontend, line: tuple[str, str], place: str
    ) -> None:
        """A field that would break the head is a handler's bug: 500, and no such field."""
        handler = FakeHandler(
            {
                "*": lambda _: answer_with(
                    b"content",
                    fields=[line] if place == "fields" else (),
                    extra=[line] if place == "extra" else (),
                )
            }
        )
        async with frontend.serve(handler) as base, RawClient(base) as client:
            response = await client.ask("/")
        assert response.status == 500
        assert "X-Evil" not in response.fields
        assert handler.all_closed()

    @pytest.mark.asyncio
    async def test_framing_is_not_the_handlers(self, frontend: Frontend) -> None:
        """Fields that frame the message are the frontend's alone."""
        wrong = [("Content-Length", "1"), ("Transfer-Encoding", "gzip"), ("Connection", "x")]
        handler = FakeHandler({"*": lambda _: answer_with(b"content", fields=wrong, extra=wrong)})
        async with frontend.serve(handler) as base, RawClient(base) as client:
            for _ in range(2):
                response = await client.ask("/")
                assert response.content == b"content"
                assert response.fields.get_all("Content-Length") == ("7",)
                assert "Transfer-Encoding" not in response.fields


def _bug(request: object) -> Answer:
    raise ZeroDivisionError("secret detail")


def _content(request: object) -> Answer:
    return answer_with(b"content")


def _failing(sent: int, length: int | None, *, awaited: bool) -> FakeHandler:
    """Return a handler whose answers fail after so many bytes."""
    error = UpstreamTimeoutError("the origin is silent")
    return FakeHandler(
        {
            "*": lambda _: answer_with(
                FailingBody(pattern(sent), error, awaited=awaited), length=length
            )
        }
    )


async def _receive_cut(client: RawClient, version: str) -> bool:
    """Ask for an answer that will be cut; return whether it looked complete.

    Where nothing was sent yet, an answer that says so will do as well.
    """
    try:
        response = await client.ask("/", version=version)
        return response.complete and response.status < 500
    except (EOFError, ConnectionResetError):
        return False
