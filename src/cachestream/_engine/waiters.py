"""Who waits for which byte. A waiter names its position and is woken by whoever stores it."""

from __future__ import annotations

import asyncio
from bisect import bisect_left, insort

from cachestream.core.spans import Span

__all__ = ["Waiter", "Waiters"]

Waiter = asyncio.Future[None]


class Waiters:
    """Futures ordered by position; waking a span costs what it wakes, not what waits."""

    def __init__(self) -> None:
        self._order: list[tuple[int, int]] = []
        self._futures: dict[tuple[int, int], Waiter] = {}
        self._tickets: dict[Waiter, tuple[int, int]] = {}
        self._count = 0

    def __len__(self) -> int:
        return len(self._order)

    def enter(self, position: int) -> Waiter:
        """Return a future that is done when the byte at ``position`` is stored or has failed."""
        self._count += 1
        ticket = (position, self._count)
        future: Waiter = asyncio.get_running_loop().create_future()
        insort(self._order, ticket)
        self._futures[ticket] = future
        self._tickets[future] = ticket
        return future

    def leave(self, future: Waiter) -> None:
        """Wait no longer; nothing happens if the future has been woken."""
        ticket = self._tickets.pop(future, None)
        if ticket is not None:
            del self._futures[ticket]
            del self._order[bisect_left(self._order, ticket)]

    def wake(self, span: Span) -> None:
        """Wake all who wait for a byte of ``span``."""
        for future in self._take(span):
            if not future.done():
                future.set_result(None)

    def fail(self, span: Span, error: Exception) -> None:
        """Raise ``error`` in all who wait for a byte of ``span``."""
        for future in self._take(span):
            if not future.done():
                future.set_exception(error)

    def _take(self, span: Span) -> list[Waiter]:
        low = bisect_left(self._order, (span.start, 0))
        if low == len(self._order) or self._order[low][0] >= span.stop:
            return []
        high = bisect_left(self._order, (span.stop, 0))
        tickets = self._order[low:high]
        del self._order[low:high]
        futures = [self._futures.pop(ticket) for ticket in tickets]
        for future in futures:
            del self._tickets[future]
        return futures
