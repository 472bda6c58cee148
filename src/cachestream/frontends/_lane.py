"""The fast lane: a plain GET of stored bytes is answered in the turn that it arrives in.

Most requests of players and data libraries are like the one before but for their Range.
What a head says besides that is parsed and judged once, strictly, and remembered by its
very bytes. Whatever is out of the ordinary is left to aiohttp's parser, untouched: the lane
only ever takes a request that comes whole, alone, without content, on an idle connection.
"""

from __future__ import annotations

import asyncio
import re
from typing import Final, TypeVar

from cachestream.abc import AnswerHead, Handler, RequestHead, Shortcut, Slice
from cachestream.core.fields import Fields
from cachestream.frontends._heads import HeadWriter

__all__ = ["Lane", "Ready"]

T = TypeVar("T")

PARTIAL: Final = 206

KNOWN: Final = 256
"""How many heads are remembered for one kind of client."""

LONGEST: Final = 4096
"""Longer heads are left to the ordinary way, in bytes."""

_RANGE: Final = b"\r\nRange: bytes="
_END: Final = b"\r\n\r\n"
_RANGE_SIZE: Final = len(_RANGE)
_DIGITS: Final = 18

_AGAIN_S: Final = 1.0
"""So long a head that cannot be answered fast is left to the ordinary way."""

# Visible ASCII and spaces between; nothing that two parsers could read differently.
_HEAD: Final = re.compile(
    rb"GET (/[!-~]*) HTTP/1\.1\r\n((?:[!#$%&'*+.^_`|~0-9A-Za-z-]+:[ \t]?[ -~]*\r\n)*)\r\n"
)

# What frames a message, or changes what the connection is for.
_SPECIAL: Final = frozenset(
    (
        "content-length",
        "expect",
        "http2-settings",
        "keep-alive",
        "proxy-connection",
        "range",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    )
)


class Ready:
    """One head that was judged, and what all answers to it begin with.

    Attributes:
        target: The request target.
        shortcut: How it is answered.
    """

    __slots__ = ("_date", "_extra", "_head", "_lead", "shortcut", "target")

    def __init__(self, target: str, shortcut: Shortcut) -> None:
        self.target = target
        self.shortcut = shortcut
        self._head: AnswerHead | None = None
        self._extra: object = None
        self._date = b""
        self._lead = b""

    def lead(self, part: Slice, heads: HeadWriter) -> bytes:
        """Return the head of an answer as bytes."""
        date, head = heads.date_line(), part.head
        if part.extra is not self._extra or date is not self._date or head is not self._head:
            self._head, self._extra, self._date = head, part.extra, date
            self._lead = heads.begin(head, part.extra)
        start, stop = part.start, part.stop
        if head.status != PARTIAL:
            return b"%bContent-Length: %d\r\n\r\n" % (self._lead, stop - start)
        return b"%bContent-Range: bytes %d-%d/%d\r\nContent-Length: %d\r\n\r\n" % (
            self._lead,
            start,
            stop - 1,
            part.complete_length,
            stop - start,
        )


class Lane:
    """The heads that came from clients of one address to one name of the listener.

    Args:
        handler: Who answers.
        served: As in `RequestHead`.
        client: As in `RequestHead`.
    """

    def __init__(self, handler: Handler, served: frozenset[str], client: str | None) -> None:
        self._handler = handler
        self._served = served
        self._client = client
        self._known: dict[bytes, Ready] = {}
        self._barren: dict[bytes, float] = {}
        self._time = asyncio.get_running_loop().time

    def match(self, data: bytes, limit: int) -> tuple[Ready, Slice] | None:
        """Return what a request is answered with, None to leave it to the ordinary way.

        Args:
            data: What was received.
            limit: Most bytes of content.
        """
        if data.find(_END) != len(data) - 4:
            return None  # not the whole of one head and nothing else
        at = data.find(_RANGE)
        if at < 0:
            base, first, last = data, None, None
        else:
            stop = data.find(b"\r\n", at + 2)
            one, _, two = data[at + _RANGE_SIZE : stop].partition(b"-")
            if not one.isdigit() or len(one) > _DIGITS:
                return None
            if two and not (two.isdigit() and len(two) <= _DIGITS):
                return None
            base, first, last = data[:at] + data[stop:], int(one), int(two) if two else None
        ready = self._known.get(base) or self._learn(base)
        if ready is None:
            return None
        part = ready.shortcut.take(first, last, limit)
        if part is not None:
            return ready, part
        if not ready.shortcut.alive:
            del self._known[base]
        return None

    def _learn(self, base: bytes) -> Ready | None:
        """Judge a head; one that has no shortcut is not judged again for a while."""
        now = self._time()
        if self._barren.get(base, 0.0) > now:
            return None
        head = self._parse(base)
        shortcut = None if head is None else self._handler.shortcut(head)
        if head is None or shortcut is None:
            _remember(self._barren, base, now + _AGAIN_S)
            return None
        return _remember(self._known, base, Ready(head.target, shortcut))

    def _parse(self, base: bytes) -> RequestHead | None:
        """Read a head, None if it is anything but a plain GET."""
        match = _HEAD.fullmatch(base) if len(base) <= LONGEST else None
        if match is None:
            return None
        lines = []
        for line in match[2].decode("ascii").split("\r\n")[:-1]:
            name, _, value = line.partition(":")
            value = value.strip(" \t")
            if not _is_plain(name.lower(), value):
                return None
            lines.append((name, value))
        return RequestHead(
            method="GET",
            target=match[1].decode("ascii"),
            fields=Fields(tuple(lines)),
            served=self._served,
            client=self._client,
        )


def _remember(memory: dict[bytes, T], base: bytes, value: T) -> T:
    """Keep a value; the oldest of too many is forgotten."""
    if len(memory) >= KNOWN:
        del memory[next(iter(memory))]
    memory[base] = value
    return value


def _is_plain(name: str, value: str) -> bool:
    if name == "connection":
        return value.lower() == "keep-alive"
    return name not in _SPECIAL
