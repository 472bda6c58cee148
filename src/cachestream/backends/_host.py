"""An open disk store's machinery: its directories, its threads, and what is in hand.

Everything here lives on one event loop. Two kinds of thread serve it: one for the index, so
that its changes keep their order, and a few for data that is not in memory yet or a disk
that is slow. No task is ever started: work in a thread ends in a callback on the loop.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
from collections.abc import Callable, Collection, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Final, ParamSpec, TypeVar

import attrs

from cachestream.backends._access import AccessTimes
from cachestream.backends._catalog import Catalog, Changes, Removed
from cachestream.backends._commits import Committer
from cachestream.backends._entry import DiskEntry
from cachestream.backends._external import unlink_external
from cachestream.backends._files import Root, medium_errors, try_exclusive
from cachestream.backends._format import Totals, WriteMark, is_entry_id
from cachestream.backends._index import Index
from cachestream.backends._room import Room
from cachestream.errors import StoreFullError
from cachestream.settings import Durability

if TYPE_CHECKING:
    from cachestream.backends._shared import Shared

__all__ = ["DiskOptions", "Host"]

log = logging.getLogger("cachestream.backends.disk")

P = ParamSpec("P")
T = TypeVar("T")

# An answer is on its way by then.
_BLANKS_DELAY_S: Final = 0.02

# Losing up to this much time of writing is the price of committing in groups; syncing is
# dear, so it is done less often.
_DELAY_S = {"process": 0.025, "power": 1.0}


@attrs.frozen(kw_only=True)
class DiskOptions:
    """The options of a `DiskStore`, as its constructor describes them."""

    root: Path
    max_size: int | None
    min_free: int
    durability: Durability
    high_water: int
    clock: Callable[[], float]


class Host:
    """What the parts of one open store share.

    Attributes:
        live: Entries that are open, by identifier; deleted ones are not among them.
        open_entries: All entries that are open, deleted ones included.
        going: Entries that were evicted, but are in the index still.
        handles: Handles that are open.
        backlog: How many bytes all writers together have taken that are in no file yet.
        stopped: Whether the end has begun; nothing is asked of the threads any more.
    """

    def __init__(self, options: DiskOptions) -> None:
        self.options = options
        self.loop = asyncio.get_running_loop()
        self.live: dict[str, Shared] = {}
        self.open_entries: set[Shared] = set()
        self.going: set[str] = set()
        self.handles: set[DiskEntry] = set()
        self.backlog = 0
        self.stopped = False
        self.committer = Committer(self, _DELAY_S[options.durability])
        self.room = Room(self, options.max_size, options.min_free)
        self.access = AccessTimes(self)
        self._index_pool = ThreadPoolExecutor(1, "cachestream-index")
        self._io_pool = ThreadPoolExecutor(4, "cachestream-io")
        self._jobs: set[asyncio.Future[object]] = set()
        self._blanks: asyncio.TimerHandle | None = None
        self.root: Root
        self.catalog: Catalog
        self._opening = self.in_index(self._open)
        self._opening.add_done_callback(self._opened)

    async def wait_open(self) -> None:
        """Return when the directories and the index are open, and a crash is cleared up.

        Raises:
            ConfigurationError: If the directory cannot be trusted.
            StoreError: If the medium fails.
        """
        # Several callers may wait for the same opening, and one of them be cancelled.
        await asyncio.shield(self._opening)

    @property
    def ready(self) -> bool:
        """Whether all is open."""
        return self._opening.done() and self._opening.exception() is None

    @property
    def failed(self) -> bool:
        """Whether opening has failed; the threads are gone then."""
        return self._opening.done() and self._opening.exception() is not None

    def now(self) -> int:
        """Return the time in microseconds since the epoch."""
        return int(self.options.clock() * 1e6)

    # -- work in threads -------------------------------------------------

    def in_index(
        self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs
    ) -> asyncio.Future[T]:
        """Run ``function`` in the index thread, after all that was asked of it before."""
        return self._track(
            self.loop.run_in_executor(self._index_pool, lambda: function(*args, **kwargs))
        )

    def in_io(
        self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs
    ) -> asyncio.Future[T]:
        """Run ``function`` in a thread for data."""
        return self._track(
            self.loop.run_in_executor(self._io_pool, lambda: function(*args, **kwargs))
        )

    def make_blanks(self) -> None:
        """Have files made for the entries to come, if there are few: soon, and not right now.

        Now somebody waits for the first byte, and the file system would be busy.
        """
        if self._blanks is None and self.root.blanks.are_few:
            self._blanks = self.loop.call_later(_BLANKS_DELAY_S, self._make_blanks)

    def _make_blanks(self) -> None:
        if not self.stopped:
            self.in_io(self.root.make_blanks).add_done_callback(self._blanks_made)

    def _blanks_made(self, done: asyncio.Future[None]) -> None:
        self._blanks = None

    async def change(
        self, function: Callable[P, Totals], *args: P.args, **kwargs: P.kwargs
    ) -> None:
        """Run a transaction in the index thread, and take over the totals it returns."""
        # The change is made even if nobody waits for it any more, so the totals must be
        # taken over in any case: by the callback, not here.
        job = self.in_index(function, *args, **kwargs)
        job.add_done_callback(lambda done: self._take_totals(done, 0))
        await asyncio.shield(job)

    def change_later(
        self,
        function: Callable[..., Totals],
        *args: object,
        expected: int = 0,
    ) -> None:
        """Run a transaction in the index thread without waiting; ``expected`` was counted."""
        job = self.in_index(function, *args)
        job.add_done_callback(lambda done: self._take_totals(done, expected))
        job.add_done_callback(_log_failure)

    def remove_rows(
        self, entry_ids: list[str], rows: Iterable[str] = (), *, expected: int = 0
    ) -> None:
        """Take entries whose files are gone out of the index, without waiting."""
        self.going.update(entry_ids)
        job = self.in_index(self._remove_rows, entry_ids, rows)
        job.add_done_callback(lambda done: self._take_totals(done, expected))
        job.add_done_callback(lambda done: self.going.difference_update(entry_ids))
        job.add_done_callback(_log_failure)

    def close_later(self, descriptor: int) -> None:
        """Close a file in a thread, as freeing a large one takes time."""
        self.in_io(os.close, descriptor)

    # -- entries ---------------------------------------------------------

    def handle(self, shared: Shared) -> DiskEntry:
        """Return a new handle of an open entry."""
        handle = DiskEntry(self, shared)
        self.handles.add(handle)
        return handle

    def publish(
        self, shared: Shared, changes: Changes
    ) -> asyncio.Future[tuple[Totals, Removed | None]]:
        """Make an entry visible; it is so, or not, whether anybody waits or not."""
        rival = shared.rival
        job = self.in_index(self._publish, shared, changes, rival, self.live.keys() & {rival})
        job.add_done_callback(lambda done: self._published(shared, changes, done))
        return job

    async def delete(self, entry_id: str) -> None:
        """Remove an entry, and its file."""
        job = self.in_index(self.catalog.remove, [entry_id], self.live.keys() & {entry_id})
        job.add_done_callback(self._deleted)
        await asyncio.shield(job)

    def prune(self, names: Iterable[str]) -> int:
        """Remove those data files that no row speaks of; runs in the index thread."""
        known = {entry_id for entry_id, _ in self.catalog.marks()}
        pruned = 0
        for name in names:
            if name in known or self.catalog.head(name) is not None:
                continue
            with contextlib.suppress(FileNotFoundError):
                descriptor = self.root.open_data(name)
                try:
                    if try_exclusive(descriptor):
                        self.root.unlink_data(name)
                        pruned += 1
                finally:
                    os.close(descriptor)
        return pruned

    def drop_files(self, removed: Iterable[Removed], *, external: bool) -> None:
        """Remove the files of entries that have left the index.

        Args:
            external: Whether that goes for files of the user's, too.
        """
        for item in removed:
            shared = self.live.get(item.entry_id)
            if shared is not None:
                shared.forget_published()
            if item.head is None or item.head.file is None:
                with contextlib.suppress(OSError):
                    self.root.unlink_data(item.entry_id)
            elif external:
                identity = item.head.identity if shared is None else shared.head.identity
                unlink_external(item.head.file, item.entry_id, identity)

    # -- the end ---------------------------------------------------------

    async def stop(self, *, crash: bool = False) -> None:
        """Wait for the threads to finish, and close what is open.

        Args:
            crash: Leave all as it is, for the next opening to clear up.
        """
        self.stopped = True
        if self._blanks is not None:
            self._blanks.cancel()
        self.committer.stop()
        self.access.stop()
        # A job that is under way may still use a file, so files are closed after it.
        await self._wait_jobs()
        for shared in list(self.open_entries):
            if crash:
                shared.abandon()
            else:
                shared.let_go(force=True)
        await self._wait_jobs()
        self.catalog.index.close()
        await self.in_index(self.catalog.index.close)
        self._index_pool.shutdown()
        self._io_pool.shutdown()
        self.root.close()

    def _opened(self, done: asyncio.Future[Totals]) -> None:
        if done.exception() is None:
            self.room.settle(done.result())
        else:
            self._index_pool.shutdown()
            self._io_pool.shutdown()

    def _open(self) -> Totals:
        root = Root(self.options.root)
        try:
            index = Index(root.path / "index", synced=self.options.durability == "power")
            with medium_errors(), root.starting():
                totals = self._open_index(root, index)
            try:
                self.root, self.catalog = root, Catalog(index)
                return self._reconcile(totals)
            except BaseException:
                index.close()
                raise
        except BaseException:
            root.close()
            raise

    def _open_index(self, root: Root, index: Index) -> Totals:
        try:
            totals = index.open()
        except StoreFullError:
            # What is stored can be read from a full disk, too.
            index.close()
            if not root.release_spare():
                raise
            return index.open()
        root.keep_spare()
        return totals

    def _reconcile(self, totals: Totals) -> Totals:
        """Clear up after processes that died; looks at nothing but what they had in hand."""
        in_hand = dict.fromkeys(filter(is_entry_id, self.root.list_locks()), WriteMark(0, None))
        for entry_id, mark in {**in_hand, **dict(self.catalog.marks())}.items():
            lock = self.root.lock(entry_id)
            if lock is None:  # a living process has it
                continue
            try:
                with medium_errors():
                    totals = self._clear_up(entry_id, mark)
            finally:
                self.root.unlock(entry_id, lock)
        return totals

    def _clear_up(self, entry_id: str, mark: WriteMark) -> Totals:
        head = self.catalog.head(entry_id)
        if head is None and mark.file is None:
            self.root.unlink_data(entry_id)
        elif head is None and mark.file is not None:
            unlink_external(mark.file, entry_id, None)
        elif self.root.has_data(entry_id):
            # What was written after the last commit is a hole now, but takes room.
            self.catalog.reweigh(entry_id, self.root.room_of(entry_id))
        return self.catalog.settle(entry_id)

    def _publish(
        self, shared: Shared, changes: Changes, rival: str | None, open_here: Collection[str]
    ) -> tuple[Totals, Removed | None]:
        with medium_errors(shared.source):
            changes, _ = shared.before_commit(changes)
            if self.options.durability == "power" and shared.counted:
                self.root.sync_data()
        return self.catalog.publish(changes, rival, self.now(), open_here)

    def _published(
        self,
        shared: Shared,
        changes: Changes,
        done: asyncio.Future[tuple[Totals, Removed | None]],
    ) -> None:
        if done.cancelled() or done.exception() is not None:
            shared.changes_lost(changes)
            return
        totals, superseded = done.result()
        shared.set_published()
        shared.changes_committed(changes, hidden=False)
        self.room.settle(totals)
        if superseded is not None:
            self.drop_files([superseded], external=False)
        if shared.head.file is not None:
            shared.mark()  # complete or not: the file may take its name now

    def _deleted(self, done: asyncio.Future[tuple[Totals, list[Removed]]]) -> None:
        if not done.cancelled() and done.exception() is None:
            totals, removed = done.result()
            self.room.settle(totals)
            self.drop_files(removed, external=True)

    def _remove_rows(self, entry_ids: list[str], rows: Iterable[str]) -> Totals:
        totals, _ = self.catalog.remove(entry_ids, frozenset(), rows)
        return totals

    def _take_totals(self, done: asyncio.Future[Totals], expected: int) -> None:
        if not done.cancelled() and done.exception() is None:
            self.room.settle(done.result(), expected)

    async def _wait_jobs(self) -> None:
        while self._jobs:
            await asyncio.wait(self._jobs)

    def _track(self, job: asyncio.Future[T]) -> asyncio.Future[T]:
        self._jobs.add(job)  # type: ignore[arg-type]  # futures are invariant
        job.add_done_callback(self._jobs.discard)
        return job


def _log_failure(done: asyncio.Future[Totals]) -> None:
    if not done.cancelled() and done.exception() is not None:
        log.error("a change of the index failed: %s", done.exception())
