"""The default store: a sparse file an entry, and an index of what is in them."""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import time
from collections.abc import Callable
from pathlib import Path
from typing import Literal, Self

import attrs

from cachestream.abc import (
    Entry,
    EntryRecord,
    Key,
    Store,
    StoreCapabilities,
    StoreUsage,
)
from cachestream.backends._entry import DiskEntry
from cachestream.backends._export import export
from cachestream.backends._external import create_part, open_external, part_of, present
from cachestream.backends._files import identity_of, medium_errors, share
from cachestream.backends._format import Head, KeyRow, WriteMark, is_entry_id
from cachestream.backends._host import DiskOptions, Host
from cachestream.backends._index import index_errors
from cachestream.backends._punch import punch_supported
from cachestream.backends._reading import verify
from cachestream.backends._shared import Shared
from cachestream.core.representation import Representation
from cachestream.core.spans import UNBOUNDED, Span
from cachestream.errors import ClosedError, EntryNotFoundError, StoreError
from cachestream.settings import MIB, Durability, Settings

__all__ = ["DiskStore"]


class DiskStore(Store):
    """Keeps entries in a directory; several processes may use it at a time.

    Written bytes can be read at once. Committed ones survive the process; what was damaged
    at rest is found when it is first read after an opening, and is a hole then. An entry is
    written by one process at a time; others see what it had committed when they opened it.

    When ``max_size`` is reached, idle entries that are not pinned give way, least recently
    used first. Entries with a ``file`` are the user's: they do not count for the limit, and
    stay until they are deleted.

    Args:
        root: Directory of the store; made with mode 0700 if it is missing.
        max_size: Room that entries may take, in bytes on the disk; None for no limit.
        min_free: Room left to others on the disk, in bytes.
        durability: What committed bytes survive: ``process`` (its death) or ``power`` (a
            power cut too; data is synced before the index speaks of it).
        high_water: How many written bytes a slow disk may lag behind, over all writers, in bytes.
        clock: Returns seconds since the epoch.
    """

    def __init__(
        self,
        root: Path,
        *,
        max_size: int | None = None,
        min_free: int = 256 * MIB,
        durability: Durability = "process",
        high_water: int = 25 * MIB,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.capabilities = StoreCapabilities(
            persistent=True,
            zero_copy=True,
            partial_eviction=punch_supported(),
            external_files=True,
        )
        self._options = DiskOptions(
            root=Path(os.path.abspath(root)),
            max_size=max_size,
            min_free=min_free,
            durability=durability,
            high_water=high_water,
            clock=clock,
        )
        self._host: Host | None = None
        self._closed = False

    @classmethod
    def from_settings(cls, settings: Settings) -> Self:
        """Make the store that ``settings`` describe; nothing is opened yet."""
        return cls(
            settings.cache_dir,
            max_size=settings.max_size,
            min_free=settings.min_free,
            durability=settings.durability,
            high_water=settings.max_buffer_size,
        )

    async def __aenter__(self) -> Self:
        await self._open_host()
        return self

    # -- finding entries -------------------------------------------------

    async def select(self, key: Key) -> tuple[EntryRecord, ...]:
        """Return the published entries of ``key``, newest first; those whose file is gone not."""
        host = await self._open_host()
        with index_errors(), host.catalog.index.snapshot():
            names = [name for name, _ in host.catalog.key(key).entries]
            found = [(name, host.catalog.record(name)) for name in names if name not in host.going]
        records = []
        for entry_id, pair in found:
            if pair is None:
                # A damaged head: nobody can say any more what the data is.
                host.root.unlink_data(entry_id)
                host.remove_rows([entry_id])
            elif entry_id in host.live or self._has_file(host, pair[0], entry_id):
                records.append(self._as_known(host, pair[1]))
            else:
                host.remove_rows([entry_id])
        records.sort(key=lambda record: (record.created, record.entry_id), reverse=True)
        return tuple(records)

    async def records(
        self,
        *,
        after: str | None = None,
        limit: int = 1000,
        order: Literal["id", "accessed"] = "id",
    ) -> tuple[EntryRecord, ...]:
        """Return up to ``limit`` published entries."""
        host = await self._open_host()
        if order == "accessed":
            await host.access.flush()
            found = await host.in_index(host.catalog.oldest, limit)
        else:
            found = await host.in_index(host.catalog.page, after, limit)
        return tuple(self._as_known(host, record) for record in found)

    async def has_authority(self, origin: str) -> bool:
        """Tell whether a published entry came from ``origin``."""
        host = await self._open_host()
        with index_errors():
            return host.catalog.has_origin(origin)

    async def usage(self) -> StoreUsage:
        """Return how full the store is; files of the user's do not count."""
        host = await self._open_host()
        await host.change(host.catalog.totals)
        for shared in host.open_entries:
            if shared.writers:  # others take what they took at their last commit
                shared.measure()
        return StoreUsage(
            entries=host.room.entries,
            allocated_bytes=host.room.allocated,
            limit_bytes=self._options.max_size,
            evicted_entries=host.room.evicted_entries,
            evicted_bytes=host.room.evicted_bytes,
            failed_commits=host.committer.failed,
        )

    # -- entries ---------------------------------------------------------

    async def create(
        self, key: Key, source: str, representation: Representation, *, file: str | None = None
    ) -> Entry:
        """Make a new, empty entry, with its data beside ``file`` if the user named one."""
        host = await self._open_host()
        file = None if file is None else _absolute(file)
        if file is None:
            host.room.reserve_entry(source)
        now = host.now()
        # Identifiers rise with time, so that a listing by identifier is one by age.
        entry_id = f"{now:016x}{secrets.token_hex(8)}"
        head = Head(key=key, source=source, representation=representation, created=now, file=file)
        with medium_errors(source):
            lock = host.root.lock(entry_id)
        if lock is None:
            raise StoreError("the new entry is locked by somebody else", url=source)
        host.make_blanks()
        try:
            rivals = await self._begin(host, head, entry_id)
            return self._create_file(host, head, entry_id, lock, rivals)
        except BaseException:
            host.change_later(host.catalog.settle, entry_id)
            host.root.unlock(entry_id, lock)
            raise

    async def open(self, entry_id: str) -> Entry:
        """Open a published entry; what it holds is checked when it is first read."""
        host = await self._open_host()
        while entry_id not in host.live:
            await self._open_file(host, entry_id)
            if host.stopped:
                raise ClosedError("this store is closed")
        shared = host.live[entry_id]
        host.access.note(entry_id)
        return host.handle(shared)

    async def delete(self, entry_id: str) -> None:
        """Delete an entry, its file too; open handles stay readable."""
        host = await self._open_host()
        await host.delete(entry_id)

    async def touch(self, entry_id: str, *, pinned: bool | None = None) -> None:
        """Note that an entry is used now, and set its pin; nothing happens if there is none."""
        host = await self._open_host()
        host.access.note(entry_id)
        if pinned is not None:
            await host.access.flush({entry_id: pinned})

    async def aclose(self) -> None:
        """Commit everything, close all that is open, and end the threads."""
        await self._stop(crash=False)

    # -- what only this store can do -------------------------------------

    async def abandon(self) -> None:
        """Close without committing anything: what a killed process leaves behind, for tests."""
        await self._stop(crash=True)

    def path_of(self, entry_id: str) -> Path:
        """Return where the data of a published entry lies.

        Raises:
            EntryNotFoundError: If there is no such entry.
            ClosedError: If the store is not open.
        """
        if self._closed or self._host is None or not self._host.ready:
            raise ClosedError("this store is not open")
        shared = self._host.live.get(entry_id)
        head = self._host.catalog.head(entry_id) if shared is None else shared.head
        if head is None:
            raise EntryNotFoundError(f"there is no entry {entry_id!r}")
        if head.file is None:
            return self._options.root / "data" / entry_id
        return Path(head.file) if head.final else part_of(head.file)

    async def verify(self, entry_id: str) -> list[Span]:
        """Check all stored bytes of an entry against their sums.

        Returns:
            The spans that failed, in order; they are holes from then on.

        Raises:
            EntryNotFoundError: If there is no such entry.
            StoreError: If the medium fails.
        """
        entry = await self.open(entry_id)
        assert isinstance(entry, DiskEntry)
        try:
            return await verify(entry.shared, Span(0, UNBOUNDED), again=True)
        finally:
            await entry.aclose()

    async def export(self, entry_id: str, path: str | Path, *, partial: bool = False) -> Path:
        """Copy an entry to a file of its own, sharing blocks where the file system can.

        The bytes are checked first. The copy appears under its name when it is whole.

        Args:
            path: Where the copy shall be; nothing may be there yet.
            partial: Accept an incomplete entry; its holes are zeros in the copy.

        Returns:
            The absolute path of the copy.

        Raises:
            EntryNotFoundError: If there is no such entry.
            NotStoredError: If it is not complete, and ``partial`` is False.
            StoreCorruptError: If some of it fails its check.
            StoreError: If something is at ``path`` already, or the medium fails.
        """
        entry = await self.open(entry_id)
        assert isinstance(entry, DiskEntry)
        try:
            return await export(entry.shared, Path(_absolute(path)), partial=partial)
        finally:
            await entry.aclose()

    async def prune_orphans(self) -> int:
        """Remove data files that no entry speaks of, as after the loss of an index.

        Files that a living process has open are left. Reads the whole directory.

        Returns:
            How many files were removed.
        """
        host = await self._open_host()
        with medium_errors():
            names = await host.in_io(host.root.list_data)
            names = [name for name in names if is_entry_id(name) and name not in host.live]
            return await host.in_index(host.prune, names)

    # -- within ----------------------------------------------------------

    async def _open_host(self) -> Host:
        if self._closed:
            raise ClosedError("this store is closed")
        if self._host is None or self._host.failed:
            self._host = Host(self._options)
        host = self._host
        if not host.ready:
            await host.wait_open()
        return host

    async def _stop(self, *, crash: bool) -> None:
        if self._closed:
            return
        self._closed = True
        host = self._host
        if host is None:
            return
        try:
            await host.wait_open()
        except Exception:  # whoever opened it was told
            return
        error: StoreError | None = None
        if not crash:
            for handle in list(host.handles):
                try:
                    await handle.aclose()
                except StoreError as exc:
                    error = exc
            with contextlib.suppress(StoreError):
                await host.access.flush()
        await host.stop(crash=crash)
        if error is not None:
            raise error

    @staticmethod
    async def _begin(host: Host, head: Head, entry_id: str) -> KeyRow:
        """Return what is published for the key of a new entry.

        After a crash the lock file tells of a data file that the index does not know; where
        else a file was begun, a row must tell before it is.
        """
        if head.file is not None:
            mark = WriteMark(0, head.file)
            await asyncio.shield(host.in_index(host.catalog.begin, entry_id, mark))
        with index_errors():
            return host.catalog.key(head.key)

    def _create_file(
        self, host: Host, head: Head, entry_id: str, lock: int, rivals: KeyRow
    ) -> Entry:
        with medium_errors(head.source):
            if head.file is None:
                descriptor = host.root.create_data(entry_id)
            else:
                descriptor = create_part(head.file, entry_id)
                share(descriptor)
            try:
                if head.representation.complete_length:
                    os.ftruncate(descriptor, head.representation.complete_length)
                if head.file is not None:
                    head = attrs.evolve(head, identity=identity_of(descriptor))
                host.room.check_free(descriptor, 0, head.source)
            except BaseException:
                os.close(descriptor)
                if head.file is None:
                    host.root.unlink_data(entry_id)
                else:
                    part_of(head.file).unlink(missing_ok=True)
                raise
        return host.handle(Shared(host, entry_id, head, descriptor, lock, rivals))

    async def _open_file(self, host: Host, entry_id: str) -> None:
        """Open an entry that is not open yet; somebody else may do so meanwhile.

        Raises:
            EntryNotFoundError: If there is none, or its file is not the one it was.
        """
        with index_errors():
            head = None if entry_id in host.going else host.catalog.head(entry_id)
        if head is None:
            raise EntryNotFoundError(f"there is no entry {entry_id!r}")
        try:
            with medium_errors(head.source):
                job = host.in_io(_open_data, host, head, entry_id)
                descriptor = await asyncio.shield(job)
        except asyncio.CancelledError:
            job.add_done_callback(_close_result)
            raise
        except StoreError as exc:
            if isinstance(exc.__cause__, FileNotFoundError):
                host.remove_rows([entry_id])
                raise EntryNotFoundError(
                    f"the file of entry {entry_id!r} is gone, or another one", url=head.source
                ) from exc
            raise
        if entry_id in host.live or host.stopped:
            os.close(descriptor)
            return
        lock: int | None = None
        try:
            with medium_errors(head.source), index_errors():
                lock = host.root.lock(entry_id)
                host.make_blanks()
                # Read after locking: what another process committed before it let go is there.
                with host.catalog.index.snapshot():
                    fresh = host.catalog.head(entry_id)
                    counts = host.catalog.counts(entry_id)
                    segments = host.catalog.segments(entry_id)
            if fresh is None:
                raise EntryNotFoundError(f"there is no entry {entry_id!r}")
            shared = Shared(host, entry_id, fresh, descriptor, lock, None)
        except BaseException:
            os.close(descriptor)
            if lock is not None:
                host.root.unlock(entry_id, lock)
            raise
        shared.load(segments, counts)
        host.live[entry_id] = shared

    @staticmethod
    def _has_file(host: Host, head: Head, entry_id: str) -> bool:
        return host.root.has_data(entry_id) if head.file is None else present(head)

    @staticmethod
    def _as_known(host: Host, record: EntryRecord) -> EntryRecord:
        """Return a record with what the index is still to be told of."""
        shared = host.live.get(record.entry_id)
        if shared is not None and shared.writable:
            record = attrs.evolve(record, representation=shared.head.representation)
        accessed = host.access.last(record.entry_id, round(record.accessed * 1e6)) / 1e6
        allocated = record.allocated_bytes
        if record.file is not None:
            # The index counts no room for files of the user's.
            with contextlib.suppress(OSError):
                allocated = os.stat(record.file, follow_symlinks=False).st_blocks * 512
        return attrs.evolve(record, accessed=accessed, allocated_bytes=allocated)


def _absolute(path: str | Path) -> str:
    return os.path.abspath(path)


def _open_data(host: Host, head: Head, entry_id: str) -> int:
    """Open a data file and lock it as in use; runs in a thread."""
    descriptor = host.root.open_data(entry_id) if head.file is None else open_external(head)
    try:
        # Whoever holds it alone is making holes, or is about to remove it.
        share(descriptor)
        if os.fstat(descriptor).st_nlink == 0:
            raise FileNotFoundError(2, "the file was removed")
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def _close_result(done: asyncio.Future[int]) -> None:
    if not done.cancelled() and done.exception() is None:
        os.close(done.result())
