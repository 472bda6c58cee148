"""The access log: one line a request, in the logger ``cachestream.access``, at DEBUG.

Nothing is made of a request unless the logger is enabled. Of its URL the token and the values
of the query are masked; no field but Range is shown.
"""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Callable
from typing import Final

import attrs

from cachestream.abc import Answer, Handler, RequestHead
from cachestream.core.urls import display

__all__ = ["AccessRecord", "access_logger", "cache_outcome", "finish", "recorded"]

access_logger: Final = logging.getLogger("cachestream.access")

_LONGEST_RANGE: Final = 100


@attrs.define(eq=False, kw_only=True)
class AccessRecord:
    """What becomes of one request; `write` makes the line of it.

    Attributes:
        method: As the client sent it.
        target: The raw request target.
        range: The Range field, None without one.
        client: Address of the peer, None where there is none.
        now: Seconds from any start.
        status: What was answered, None while nothing is.
        outcome: How the cache answered, as in Cache-Status.
        sent: Bytes of content handed to the kernel.
        complete: Whether the whole answer left.
    """

    method: str
    target: str
    range: str | None
    client: str | None
    now: Callable[[], float]
    status: int | None = None
    outcome: str | None = None
    sent: int = 0
    complete: bool = False
    _began: float = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self._began = self.now()

    def answered(self, answer: Answer) -> None:
        """Note what is going to be answered."""
        self.status = answer.head.status
        self.outcome = cache_outcome(answer)

    def write(self) -> None:
        """Write the line."""
        facts = {
            "method": self.method,
            "url": display(self.target),
            "range": _shown_range(self.range),
            "status": self.status,
            "bytes_sent": self.sent,
            "duration_s": round(self.now() - self._began, 6),
            "outcome": self.outcome,
            "client": self.client,
            "complete": self.complete,
        }
        access_logger.debug(
            "%s %s %s%s %s %d bytes %.3f s %s%s",
            facts["client"] or "-",
            facts["method"],
            facts["url"],
            "" if facts["range"] is None else f" [{facts['range']}]",
            "-" if self.status is None else self.status,
            self.sent,
            facts["duration_s"],
            self.outcome or "-",
            "" if self.complete else ", cut",
            extra=facts,
        )


class _Recording(Handler):
    """A handler whose one answer is noted."""

    def __init__(self, inner: Handler, head: RequestHead) -> None:
        self.inner = inner
        self.expected: int | None = None
        self.record = AccessRecord(
            method=head.method,
            target=head.target,
            range=head.fields.get("range"),
            client=head.client,
            now=time.monotonic,
        )

    def answer_nowait(self, head: RequestHead) -> Answer | None:
        answer = self.inner.answer_nowait(head)
        return answer if answer is None else self._noted(head, answer)

    async def answer(self, head: RequestHead) -> Answer:
        return self._noted(head, await self.inner.answer(head))

    def _noted(self, head: RequestHead, answer: Answer) -> Answer:
        self.record.answered(answer)
        empty = head.method == "HEAD" or answer.head.status in (204, 304)
        self.expected = 0 if empty else answer.length
        return answer


def recorded(handler: Handler, head: RequestHead) -> Handler:
    """Return a handler to put one request to: ``handler`` itself, unless a line is wanted."""
    return _Recording(handler, head) if access_logger.isEnabledFor(logging.DEBUG) else handler


def finish(handler: Handler, sent: int) -> None:
    """Write the line of a request that was put to a handler of `recorded`; in a ``finally``.

    Args:
        sent: Bytes of content that left.
    """
    if isinstance(handler, _Recording):
        record = handler.record
        record.sent = sent
        known = handler.expected is not None
        record.complete = record.status is not None and (
            sent == handler.expected if known else sys.exc_info()[0] is None
        )
        record.write()


def cache_outcome(answer: Answer) -> str | None:
    """Return the first parameter of an answer's Cache-Status (RFC 9211 §2), None without one."""
    for name, value in answer.extra:
        if name == "Cache-Status":
            parts = value.split(";", 2)
            return parts[1].strip().removeprefix("fwd=") if len(parts) > 1 else None
    return None


def _shown_range(value: str | None) -> str | None:
    if value is None or (value.isprintable() and len(value) <= _LONGEST_RANGE):
        return value
    return "(unreadable)"
