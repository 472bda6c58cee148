"""Group commit: what all entries have written is committed together, now and then.

An entry that has something new is marked. The first mark starts a short delay; when it is
over, or enough bytes have come together, the changes of all marked entries are taken as
values on the event loop and written in one transaction in the index thread. One round runs
at a time; what is marked meanwhile waits for the next.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from cachestream.backends._catalog import Changes
from cachestream.backends._files import medium_errors
from cachestream.backends._format import Totals
from cachestream.errors import CacheStreamError, ClosedError
from cachestream.settings import MIB

if TYPE_CHECKING:
    from cachestream.backends._host import Host
    from cachestream.backends._shared import Shared

__all__ = ["COMMIT_BYTES", "Committer"]

log = logging.getLogger("cachestream.backends.disk")

COMMIT_BYTES: Final = 16 * MIB
"""A commit is made after this many bytes at the latest: what a crash may cost."""


class Committer:
    """Commits what is marked.

    Args:
        delay: How long a mark waits for others, in seconds.

    Attributes:
        failed: How many rounds failed.
    """

    def __init__(self, host: Host, delay: float) -> None:
        self._host = host
        self._delay = delay
        self.failed = 0
        self._dirty: set[Shared] = set()
        self._bytes = 0
        self._timer: asyncio.TimerHandle | None = None
        self._running = self._stopped = False
        self._this_round: list[asyncio.Future[None]] = []
        self._next_round: list[asyncio.Future[None]] = []

    def mark(self, shared: Shared, size: int = 0) -> None:
        """Note that ``shared`` has something to commit, ``size`` new bytes with it."""
        self._dirty.add(shared)
        self._bytes += size
        if self._running or self._stopped:
            return
        if self._bytes >= COMMIT_BYTES:
            self._start()
        elif self._timer is None:
            self._timer = self._host.loop.call_later(self._delay, self._start)

    async def flush(self) -> None:
        """Return when all that was marked before this call is committed.

        Raises:
            StoreError: If it could not be committed; it stays marked.
        """
        if self._stopped:
            raise ClosedError("this store is closed")
        waiter: asyncio.Future[None] = self._host.loop.create_future()
        if self._dirty:
            self._next_round.append(waiter)
            if not self._running:
                self._start()
        elif self._running:
            self._this_round.append(waiter)
        else:
            return
        await waiter

    def has(self, shared: Shared) -> bool:
        """Tell whether an entry is marked."""
        return shared in self._dirty

    def forget(self, shared: Shared) -> None:
        """Drop the mark of an entry that is closed."""
        self._dirty.discard(shared)

    def stop(self) -> None:
        """Start no round any more; those who wait for one are told."""
        self._stopped = True
        self._cancel_timer()
        waiters, self._next_round = self._next_round, []
        for waiter in waiters:
            if not waiter.done():
                waiter.set_exception(ClosedError("this store is closed"))

    def _cancel_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _start(self) -> None:
        self._cancel_timer()
        self._running = True
        self._this_round, self._next_round = self._next_round, []
        self._bytes = 0
        dirty, self._dirty = self._dirty, set()
        batch = [(shared, shared.take_changes()) for shared in dirty]
        job = self._host.in_index(self._write, batch)
        job.add_done_callback(lambda done: self._finish(batch, done))

    def _write(
        self, batch: list[tuple[Shared, Changes]]
    ) -> tuple[Totals, frozenset[str], list[Callable[[], None]]]:
        """Make the data safe, then say so; runs in the index thread."""
        prepared, notes = [], []
        for shared, changes in batch:
            # Each one may end with its file complete, and so with a new head.
            with medium_errors(shared.source):
                ready, note = shared.before_commit(changes)
            prepared.append(ready)
            notes.append(note)
        totals, hidden = self._host.catalog.apply(prepared)
        return totals, hidden, notes

    def _finish(
        self,
        batch: list[tuple[Shared, Changes]],
        done: asyncio.Future[tuple[Totals, frozenset[str], list[Callable[[], None]]]],
    ) -> None:
        self._running = False
        waiters, self._this_round = self._this_round, []
        error = done.exception() if not done.cancelled() else asyncio.CancelledError()
        if error is None:
            totals, hidden, notes = done.result()
            for note in notes:
                note()
            for shared, changes in batch:
                shared.changes_committed(changes, hidden=changes.entry_id in hidden)
            self._host.room.settle(totals)
        else:
            self.failed += 1
            # They stay marked, but nothing is tried again before there is something new:
            # a full disk is not helped by asking it forty times a second.
            for shared, changes in batch:
                self._dirty.add(shared)
                shared.changes_lost(changes)
            self._report(error, waiters)
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(None)
        if self._next_round:
            self._start()
        elif self._dirty and error is None:
            for shared in list(self._dirty):
                self.mark(shared)

    def _report(self, error: BaseException, waiters: list[asyncio.Future[None]]) -> None:
        if not isinstance(error, CacheStreamError) or not waiters:
            log.error("committing to the store failed: %s", error)
        for waiter in waiters:
            if not waiter.done():
                waiter.set_exception(error)
