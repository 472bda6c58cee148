"""Leases on spans of one entry, and what they leave free."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from cachestream.abc import Lease
from cachestream.core.spans import Span, SpanSet

__all__ = ["LeaseBook"]


class LeaseBook:
    """The leases of one entry; taking and releasing one costs the same for any number.

    Args:
        on_idle: Called each time the last lease is released.
    """

    __slots__ = ("_leases", "_on_idle")

    def __init__(self, on_idle: Callable[[], None]) -> None:
        self._leases: set[_SpanLease] = set()
        self._on_idle = on_idle

    def __bool__(self) -> bool:
        return bool(self._leases)

    def take(self, span: Span) -> Lease:
        """Return a new lease on ``span``; empty spans are leased too, and hold nothing."""
        lease = _SpanLease(self, span)
        self._leases.add(lease)
        return lease

    def unleased(self, span: Span) -> Iterator[Span]:
        """Yield the parts of ``span`` that no lease covers, in order."""
        held = SpanSet(lease.span for lease in self._leases if lease.span.overlaps(span))
        return held.gaps(span)

    def _end(self, lease: _SpanLease) -> None:
        if lease in self._leases:
            self._leases.remove(lease)
            if not self._leases:
                self._on_idle()


class _SpanLease(Lease):
    __slots__ = ("_book", "span")

    def __init__(self, book: LeaseBook, span: Span) -> None:
        self._book = book
        self.span = span

    def release(self) -> None:
        self._book._end(self)
