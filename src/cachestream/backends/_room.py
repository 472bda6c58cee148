"""How much room the store takes, and how it makes more: by whole idle entries.

The total in the index is as of the last commit; to it come the changes that are on their
way. A write asks before it is made, so the limit holds whatever is open. Files that the user
named do not count, and are never evicted.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

from cachestream.backends._catalog import Candidate
from cachestream.backends._format import Totals, is_entry_id
from cachestream.core.spans import Span
from cachestream.errors import StoreFullError
from cachestream.settings import MIB

if TYPE_CHECKING:
    from cachestream.backends._host import Host
    from cachestream.backends._shared import Shared

__all__ = ["BLOCK", "Room"]

BLOCK: Final = 4096
"""What a file system gives out at least; more precision would promise too much."""

_CHECK_FREE_AFTER: Final = 16 * MIB
_PAGE: Final = 64
_MOST_AHEAD: Final = 16 * MIB
_MOST_AT_ONCE: Final = 16
"""No more entries are evicted ahead of need in one step, as it holds up the event loop."""


class Room:
    """The room of one store.

    Args:
        limit: Room all entries may take, in bytes; None for no limit.
        min_free: Room left to others on the disk, in bytes.
    """

    def __init__(self, host: Host, limit: int | None, min_free: int) -> None:
        self._host = host
        self.limit = limit
        self._min_free = min_free
        self._base = Totals()
        self._pending = 0
        self._unchecked = _CHECK_FREE_AFTER
        self._reached = ""
        self.evicted_entries = 0
        self.evicted_bytes = 0

    @property
    def allocated(self) -> int:
        """Room taken now, in bytes."""
        return max(0, self._base.allocated + self._pending)

    @property
    def entries(self) -> int:
        """How many entries were published as of the last transaction."""
        return self._base.entries

    def settle(self, totals: Totals, change: int = 0) -> None:
        """Take over the totals of a transaction that contained ``change``."""
        self._base = totals
        self._pending -= change

    def expect(self, change: int) -> None:
        """Count ``change`` bytes that a transaction to come will contain."""
        self._pending += change

    def reserve(self, shared: Shared, span: Span) -> None:
        """Make sure that writing ``span`` keeps the limits, evicting if need be.

        Raises:
            StoreFullError: If it cannot.
        """
        if self.limit is not None and shared.counted:
            wanted = shared.blocks_for(span)
            if self.allocated + wanted > self.limit:
                self._make(wanted, shared.source)
        self._unchecked += len(span)
        if self._unchecked >= _CHECK_FREE_AFTER:
            self._unchecked = 0
            self.check_free(shared.descriptor, len(span), shared.source)

    def reserve_entry(self, source: str) -> None:
        """Make sure that there is room for a new entry at all.

        Raises:
            StoreFullError: If there is none.
        """
        if self.limit is not None and self.allocated + BLOCK > self.limit:
            self._make(BLOCK, source)

    def check_free(self, descriptor: int, wanted: int, source: str) -> None:
        """Make sure that the disk keeps its minimum of free room.

        Raises:
            StoreFullError: If it does not, whatever is evicted.
        """
        if not self._min_free:
            return
        found = os.fstatvfs(descriptor)
        lacking = self._min_free + wanted - found.f_bavail * found.f_frsize
        # Entries are not given up where that cannot help: on another disk, or for too little.
        helps = lacking <= self.allocated and self._host.root.is_on_disk_of(descriptor)
        if lacking > 0 and not (helps and self._evict(lacking) >= lacking):
            self._unchecked = _CHECK_FREE_AFTER
            raise StoreFullError(
                f"less than {self._min_free} bytes are left on the store's disk",
                url=source,
                hint="Free some room, or lower min_free.",
            )

    def _make(self, wanted: int, source: str) -> None:
        limit = self.limit or 0
        # A little more than is needed, so that not every write has to evict.
        lacking = self.allocated + wanted - limit
        if wanted <= limit:
            self._evict(lacking, ahead=min(limit // 64, _MOST_AHEAD))
        if self.allocated + wanted > limit:
            raise StoreFullError(
                f"the store may take {limit} bytes and is full",
                url=source,
                hint="Raise max_size, or delete or unpin entries.",
            )

    def _evict(self, wanted: int, ahead: int = 0) -> int:
        """Evict idle entries, least recently used first; return how much room that gave."""
        freed = 0
        gone: list[Candidate] = []
        for candidate in self._candidates():
            if freed >= wanted + ahead or (freed >= wanted and len(gone) >= _MOST_AT_ONCE):
                break
            if self._unlink(candidate):
                freed += self._host.catalog.room_of(candidate.entry_id)
                gone.append(candidate)
        if gone:
            self.evicted_entries += len(gone)
            self.evicted_bytes += freed
            self.expect(-freed)
            ids, rows = [one.entry_id for one in gone], [one.row for one in gone]
            self._host.remove_rows(ids, rows, expected=-freed)
        return freed

    def _candidates(self) -> Iterator[Candidate]:
        """Yield what may be evicted, least recently used first."""
        host = self._host
        # The rows of what was evicted a moment ago are still there; they are not read again.
        after = self._reached if host.going else ""
        while page := host.catalog.candidates(after, _PAGE):
            self._reached, after = after, page[-1].row
            # Uses that are not in the index yet come last within their page.
            page.sort(key=lambda found: host.access.last(found.entry_id, found.accessed))
            for candidate in page:
                if candidate.entry_id in host.live:
                    # It is used now, however long ago it was opened: out of the way with it.
                    host.access.note(candidate.entry_id)
                elif candidate.entry_id not in host.going:
                    yield candidate

    def _unlink(self, candidate: Candidate) -> bool:
        """Remove the file of an entry that nobody has open; return False if somebody has."""
        host, entry_id = self._host, candidate.entry_id
        if not is_entry_id(entry_id):
            return True  # a row that leads nowhere
        try:
            descriptor = host.root.open_data(entry_id)
        except FileNotFoundError:
            return True
        except OSError:
            return False
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            host.root.unlink_data(entry_id)
        except OSError:
            os.close(descriptor)
            return False
        # Its blocks are given back when it is closed, which takes long for a large file.
        host.close_later(descriptor)
        return True
