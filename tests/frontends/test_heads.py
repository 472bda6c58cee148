from __future__ import annotations

import gc

import pytest

from cachestream.abc import Answer, AnswerHead
from cachestream.core.fields import Fields
from cachestream.frontends._heads import Framing, HeadWriter, framing_of, plain_answer
from cachestream.testing.fakes import BytesBody, answer_with

NOW = 1_700_000_000.9


def _render(
    answer: Answer, framing: Framing = Framing.LENGTH, *, version: int = 1, keep: bool = True
) -> bytes:
    return HeadWriter(lambda: NOW).render(answer, framing, (1, version), keep)


def test_head_byte_for_byte() -> None:
    """Shared fields, own fields, Date, length and the empty line, in this order."""
    answer = answer_with(b"abc", status=206, fields=[("ETag", '"a"')], extra=[("Age", "1")])
    assert _render(answer) == (
        b'HTTP/1.1 206 Partial Content\r\nETag: "a"\r\nAge: 1\r\n'
        b"Date: Tue, 14 Nov 2023 22:13:20 GMT\r\nContent-Length: 3\r\n\r\n"
    )


@pytest.mark.parametrize(
    ("framing", "version", "keep", "end"),
    [
        (Framing.LENGTH, 1, True, b"Content-Length: 3\r\n\r\n"),
        (Framing.LENGTH, 1, False, b"Content-Length: 3\r\nConnection: close\r\n\r\n"),
        (Framing.LENGTH, 0, True, b"Content-Length: 3\r\nConnection: keep-alive\r\n\r\n"),
        (Framing.NONE, 1, True, b"Content-Length: 3\r\n\r\n"),
    ],
)
def test_end_of_the_head(framing: Framing, version: int, keep: bool, end: bytes) -> None:
    """Length and Connection say what the framing and the version call for."""
    head = _render(answer_with(b"abc"), framing, version=version, keep=keep)
    assert head.partition(b"GMT\r\n")[2] == end


def test_unknown_length() -> None:
    """Without a length there is no Content-Length."""
    answer = answer_with(BytesBody(b"abc"))
    chunked = _render(answer, Framing.CHUNKED)
    close = _render(answer, Framing.CLOSE, version=0, keep=False)
    assert chunked.endswith(b"GMT\r\nTransfer-Encoding: chunked\r\n\r\n")
    assert close.endswith(b"GMT\r\nConnection: close\r\n\r\n")


@pytest.mark.parametrize(
    ("method", "status", "length", "version", "framing"),
    [
        ("GET", 200, 0, (1, 1), Framing.LENGTH),
        ("GET", 200, None, (1, 1), Framing.CHUNKED),
        ("GET", 200, None, (1, 0), Framing.CLOSE),
        ("HEAD", 200, 5, (1, 1), Framing.NONE),
        ("HEAD", 200, None, (1, 0), Framing.NONE),
        ("GET", 204, None, (1, 1), Framing.NONE),
        ("GET", 304, 5, (1, 1), Framing.NONE),
        ("head", 200, 5, (1, 1), Framing.LENGTH),
    ],
)
def test_framing(
    method: str, status: int, length: int | None, version: tuple[int, int], framing: Framing
) -> None:
    """The framing follows from method, status, length and version (RFC 9112 §6.3)."""
    assert framing_of(method, status, length, version) is framing


def test_shared_head_is_rendered_once() -> None:
    """The bytes of a shared head are kept as long as the head lives, and no longer."""
    writer = HeadWriter()
    head = AnswerHead(200, Fields.of(("ETag", '"a"')))
    for _ in range(3):
        answer = Answer(head=head, extra=(), length=0, body=BytesBody(b""))
        writer.render(answer, Framing.LENGTH, (1, 1), True)
    assert len(writer._templates) == 1
    del head, answer
    gc.collect()
    assert len(writer._templates) == 0


def test_date_follows_the_clock() -> None:
    """Date is rendered anew when the second changes."""
    times = iter([0.0, 0.9, 1.0])
    writer = HeadWriter(lambda: next(times))
    heads = [writer.render(answer_with(b""), Framing.LENGTH, (1, 1), True) for _ in range(3)]
    assert heads[0] == heads[1]
    assert b"00:00:01" in heads[2]


@pytest.mark.parametrize("status", [0, 99, 101, 1000])
def test_status_has_three_digits(status: int) -> None:
    """What is no final status cannot be sent."""
    with pytest.raises(ValueError, match="status"):
        _render(answer_with(b"", status=status))


def test_unknown_status_has_no_phrase() -> None:
    """A status without a name is sent with an empty phrase (RFC 9112 §4)."""
    assert _render(answer_with(b"", status=299)).startswith(b"HTTP/1.1 299 \r\n")


def test_text_that_is_no_unicode() -> None:
    """Bytes that came as surrogates leave as those bytes; other surrogates cannot leave."""
    assert b"X: \xe9\r\n" in _render(answer_with(b"", extra=[("X", "\udce9")]))
    with pytest.raises(ValueError, match="surrogates"):
        _render(answer_with(b"", extra=[("X", "\ud800")]))


def test_plain_answer_is_whole() -> None:
    """An answer of the frontend itself closes the connection and names its length."""
    head, _, content = plain_answer(503).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 503 Service Unavailable\r\n")
    assert b"\r\nConnection: close" in head
    assert b"Content-Length: %d\r\n" % len(content) in head
