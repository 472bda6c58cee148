"""Response heads as bytes: what every answer shares is rendered once (RFC 9112 §2–§6)."""

from __future__ import annotations

import enum
import re
import time
from collections.abc import Callable
from email.utils import formatdate
from http import HTTPStatus
from typing import Final
from weakref import WeakKeyDictionary

from cachestream.abc import Answer, AnswerHead

__all__ = [
    "Framing",
    "HeadWriter",
    "check_status",
    "field_lines",
    "framing_of",
    "kept_lines",
    "plain_answer",
    "plain_content",
]

_PHRASES: Final = {status.value: status.phrase for status in HTTPStatus}

# The connection is the frontend's affair: a handler cannot know how its answer is framed.
_OURS: Final = frozenset(
    ("connection", "content-length", "keep-alive", "trailer", "transfer-encoding", "upgrade")
)

_CONTROL: Final = re.compile(r"[\r\n\0]")


class Framing(enum.Enum):
    """How a client learns where the content ends (RFC 9112 §6)."""

    NONE = "no content"
    LENGTH = "Content-Length"
    CHUNKED = "chunked"
    CLOSE = "end of the connection"


def framing_of(method: str, status: int, length: int | None, version: tuple[int, int]) -> Framing:
    """Choose the framing of an answer (RFC 9112 §6.3)."""
    if method == "HEAD" or status < 200 or status in (204, 304):
        return Framing.NONE
    if length is not None:
        return Framing.LENGTH
    return Framing.CHUNKED if version >= (1, 1) else Framing.CLOSE


class HeadWriter:
    """Renders heads, and keeps the bytes of each `AnswerHead` as long as that one lives.

    Args:
        now: The clock for the Date field, seconds since the epoch.
    """

    def __init__(self, now: Callable[[], float] = time.time) -> None:
        self._now = now
        self._templates: WeakKeyDictionary[AnswerHead, tuple[bytes, bool]] = WeakKeyDictionary()
        self._date_second = -1
        self._date = b""

    def render(
        self, answer: Answer, framing: Framing, version: tuple[int, int], keep_alive: bool
    ) -> bytes:
        """Return the bytes of the head, its final empty line included.

        Raises:
            ValueError: If the status or a field cannot be sent, which is a handler's bug.
        """
        parts = [self.begin(answer.head, answer.extra)]
        if framing is Framing.CHUNKED:
            parts.append(b"Transfer-Encoding: chunked\r\n")
        # RFC 9110 §8.6: never in 1xx and 204; in a 304 only if it is the length of the 200.
        elif answer.length is not None and answer.head.status not in (204, 304):
            parts.append(b"Content-Length: %d\r\n" % answer.length)
        if not keep_alive:
            parts.append(b"Connection: close\r\n\r\n")
        elif version < (1, 1):
            parts.append(b"Connection: keep-alive\r\n\r\n")
        else:
            parts.append(b"\r\n")
        return b"".join(parts)

    def begin(self, head: AnswerHead, extra: tuple[tuple[str, str], ...]) -> bytes:
        """Return the status line and all fields but those that frame the message.

        Raises:
            ValueError: If the status or a field cannot be sent, which is a handler's bug.
        """
        template = self._templates.get(head)
        if template is None:
            template = self._templates[head] = self._template(head)
        shared, dated = template
        more, dated_here = _lines(extra)
        return shared + more if dated or dated_here else shared + more + self.date_line()

    @staticmethod
    def _template(head: AnswerHead) -> tuple[bytes, bool]:
        check_status(head.status)
        lines, dated = _lines(head.fields.lines)
        return b"HTTP/1.1 %d %s\r\n" % (head.status, _phrase(head.status)) + lines, dated

    def date_line(self) -> bytes:
        """Return the Date field of now; the same object within one second."""
        second = int(self._now())
        if second != self._date_second:
            self._date_second = second
            self._date = f"Date: {formatdate(second, usegmt=True)}\r\n".encode("ascii")
        return self._date


def check_status(status: int) -> None:
    """Refuse what is no status of a final answer.

    Raises:
        ValueError: If it is none, which is a handler's bug.
    """
    # 1xx is no final answer, so a handler that gives one is mistaken.
    if not 200 <= status <= 999:
        raise ValueError(f"status {status} is not one a handler can answer with")


def field_lines(
    fields: tuple[tuple[str, str], ...], *, without: frozenset[str] = frozenset()
) -> list[tuple[bytes, bytes]]:
    """Return field lines as bytes with names in lower case, for other people's servers.

    Args:
        without: Names in lower case to leave out, besides those that frame the message.

    Raises:
        ValueError: If a field has a control character, which is a handler's bug.
    """
    return [
        (name.lower().encode("utf-8", "surrogateescape"), value.encode("utf-8", "surrogateescape"))
        for name, value in kept_lines(fields)
        if name.lower() not in without
    ]


def kept_lines(fields: tuple[tuple[str, str], ...]) -> list[tuple[str, str]]:
    """Return the field lines but for those that frame the message.

    Raises:
        ValueError: If a field has a control character, which is a handler's bug.
    """
    lines = [line for line in fields if line[0].lower() not in _OURS]
    if any(_CONTROL.search(name) or _CONTROL.search(value) for name, value in lines):
        raise ValueError("a field of the answer contains a control character")
    return lines


def plain_content(status: int) -> bytes:
    """Return the one line that an answer of the frontend itself consists of."""
    return b"%d %s\n" % (status, _phrase(status))


def plain_answer(status: int) -> bytes:
    """Return a whole answer of the frontend itself, after which the connection is closed."""
    text = plain_content(status)
    return (
        b"HTTP/1.1 %d %s\r\n"
        b"Content-Type: text/plain; charset=utf-8\r\n"
        b"X-Content-Type-Options: nosniff\r\n"
        b"Content-Length: %d\r\n"
        b"Date: %s\r\n"
        b"Connection: close\r\n\r\n%s"
    ) % (
        status,
        _phrase(status),
        len(text),
        formatdate(usegmt=True).encode("ascii"),
        text,
    )


def _phrase(status: int) -> bytes:
    return _PHRASES.get(status, "").encode("ascii")


def _lines(fields: tuple[tuple[str, str], ...]) -> tuple[bytes, bool]:
    """Render field lines; tell whether Date is among them."""
    kept = []
    dated = False
    for name, value in fields:
        lower = name.lower()
        if lower in _OURS:
            continue
        dated = dated or lower == "date"
        kept.append(f"{name}: {value}\r\n")
    text = "".join(kept)
    # One line end a field, and no NUL: anything else would let a value end the head early.
    if text.count("\n") != len(kept) or text.count("\r") != len(kept) or "\0" in text:
        raise ValueError("a field of the answer contains a control character")
    # As aiohttp decodes what it receives, so that foreign bytes come out as they came in.
    return text.encode("utf-8", "surrogateescape"), dated
