"""The store: entries by key in a bucket that several nodes share."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Coroutine, Mapping
from contextlib import aclosing, suppress
from typing import Any, ClassVar, Final, Literal, Self

import attrs
from cachestream.abc import Entry, EntryRecord, Key, Store, StoreCapabilities, StoreUsage
from cachestream.config import make_options
from cachestream.core.representation import Representation
from cachestream.errors import (
    CacheStreamError,
    ClosedError,
    ConfigurationError,
    EntryNotFoundError,
    StoreConflictError,
    StoreError,
    StoreFullError,
)
from cachestream.settings import Settings

from cachestream_s3._bucket import Bucket, ConflictError
from cachestream_s3._catalog import Catalog
from cachestream_s3._entry import S3Entry
from cachestream_s3._heads import (
    EntryHead,
    Head,
    hashed,
    is_entry_id,
    new_entry_id,
    origin_of,
    variant_of,
)
from cachestream_s3._open import OpenEntry
from cachestream_s3._options import S3Options
from cachestream_s3._parts import CellCache
from cachestream_s3._sharing import Sharing, sharing_of
from cachestream_s3._swaps import CreateSwaps, IfMatchSwaps
from cachestream_s3._sweeping import Sweeper

__all__ = ["S3Store"]

_TOUCHED: Final = 256
"""So many times of access are kept in memory before they are written."""

_USAGE_S: Final = 30.0
"""What other nodes stored is counted anew after so long."""

log = logging.getLogger("cachestream_s3")


class S3Store(Store):
    """Keeps entries in a bucket; any number of nodes may use one prefix of it.

    What one node commits, all see. Nodes that write one entry at the same time each keep what
    they wrote; of two that publish one variant, the second is told.

    Args:
        options: Where the bucket is, and how it is used.
        max_size: Bytes that all objects under the prefix may take, None for no limit. With a
            limit, all heads are read at the first use.
        clock: Returns seconds since the epoch.

    Raises:
        ConfigurationError: If no client can be made of the options.
    """

    Options: ClassVar = S3Options

    def __init__(
        self,
        options: S3Options,
        *,
        max_size: int | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        if max_size is not None and max_size < 0:
            raise ConfigurationError("max_size must be at least 0")
        self.capabilities = StoreCapabilities(persistent=True, partial_eviction=True)
        self.options = options
        self.bucket = Bucket(options)
        swaps = {"if-match": IfMatchSwaps, "create": CreateSwaps}[options.swap](self.bucket)
        self.catalog = Catalog(swaps, options.max_requests)
        self.cells = CellCache(options.read_cache)
        self.shared: Sharing = sharing_of(options.place)
        self.handles: set[S3Entry] = set()
        self.closed = False
        self._sweeper = Sweeper(self)
        self._max_size = max_size
        self._clock = clock
        self._open: dict[str, OpenEntry] = {}
        self._touched: dict[str, float] = {}
        self._tasks: set[asyncio.Task[Any]] = set()
        self._puts = asyncio.Semaphore(options.max_requests)
        self._looked = float("-inf")
        self._evicted_entries = self._evicted_bytes = self._failed = 0

    @classmethod
    def from_settings(cls, settings: Settings, options: S3Options) -> Self:
        """Make a store of a configuration, with the limit of ``settings``."""
        return cls(options, max_size=settings.max_size)

    @classmethod
    async def remove_scratch(cls, values: Mapping[str, Any]) -> None:
        """Remove every object under a prefix; the doctor calls it for the one it has made.

        Args:
            values: The store's options by name.
        """
        bucket = Bucket(make_options(cls, values, "store.s3"))
        async with aclosing(bucket.list("")) as found:
            names = [each.name async for each in found]
        await bucket.delete(names)

    # -- entries ---------------------------------------------------------

    async def select(self, key: Key) -> tuple[EntryRecord, ...]:
        """Return the published entries of ``key``, newest first."""
        self.check_open()
        head = await self.catalog.head(hashed(key))
        if head is None or head.key != key:
            return ()
        found = sorted(head.entries, key=lambda each: (each.created, each.entry_id), reverse=True)
        return tuple(self._record(key, each) for each in found)

    async def create(
        self, key: Key, source: str, representation: Representation, *, file: str | None = None
    ) -> Entry:
        """Make a new, empty entry; files of the user's are not supported."""
        self.check_open()
        if file is not None:
            raise StoreError("a bucket keeps no files", url=source, hint="Use the disk store.")
        await self._look_if_limited()
        self.make_room(1)
        found = await self.select(key)
        # What comes later must be younger, whatever the clocks of two nodes say.
        now = max([self._clock(), *(each.created + 1e-6 for each in found)])
        head = EntryHead(
            entry_id=new_entry_id(key, now),
            source=source,
            representation=representation,
            created=now,
            accessed=now,
        )
        shared = self._opened(key, head, published=False)
        shared.rivals = {variant_of(each.representation): each.entry_id for each in found}
        return S3Entry(shared)

    async def open(self, entry_id: str) -> Entry:
        """Open a published entry."""
        self.check_open()
        if not is_entry_id(entry_id):
            raise EntryNotFoundError(f"there is no entry {entry_id!r}")
        await self._look_if_limited()
        head = await self.catalog.head(entry_id[:32])
        entry = None if head is None else head.find(entry_id)
        # Somebody else may have opened it while we looked.
        shared = self._open.get(entry_id)
        if head is None or entry is None or (shared is not None and not shared.published):
            raise EntryNotFoundError(f"there is no entry {entry_id!r}")
        if shared is None:
            shared = self._opened(head.key, entry, published=True)
        shared.accessed = self._clock()
        return S3Entry(shared)

    async def publish(self, shared: OpenEntry) -> None:
        """Make an entry visible; for `Entry.publish`."""
        if shared.published:
            return
        # First of all, so that whoever finds the entry may ask its origin.
        origin = hashed(origin_of(shared.source))
        await self.bucket.put(f"origins/{origin}/{hashed(shared.key)}", b"1")
        rival = shared.rivals.get(variant_of(shared.representation))
        if rival is not None:
            await self.note(rival)
        await shared.publish()
        if rival is not None and rival in self._open:
            self._open[rival].deleted = True

    def renewed(self, head: Head, shared: OpenEntry, *, publish: bool) -> Head | None:
        """Return a head with an entry as it is here; None if another node deleted it.

        Raises:
            StoreConflictError: If it shall be published, and another one of its variant was.
        """
        if head.find(shared.entry_id) is None:
            if not publish:
                return None
            variant = variant_of(shared.representation)
            for other in head.entries:
                if variant_of(other.representation) != variant:
                    continue
                if other.entry_id != shared.rivals.get(variant):
                    raise StoreConflictError("another node published this first", url=shared.source)
                head = head.without(frozenset({other.entry_id}))
        return head.with_entry(shared.merged(head))

    async def delete(self, entry_id: str) -> None:
        """Delete an entry on all nodes; open handles stay readable for `remove_after`."""
        self.check_open()
        if not is_entry_id(entry_id):
            return
        head = await self.catalog.head(entry_id[:32])
        if head is None or head.find(entry_id) is None:
            return
        await self.note(entry_id)
        await self.catalog.change(head.key, _without(entry_id))
        if entry_id in self._open:
            self._open[entry_id].deleted = True

    def _opened(self, key: Key, head: EntryHead, *, published: bool) -> OpenEntry:
        shared = self._open[head.entry_id] = OpenEntry(self, key, head, published=published)
        self._sweeper.start()
        return shared

    def left(self, shared: OpenEntry) -> None:
        """Note that nobody has an entry open any more."""
        if self._open.pop(shared.entry_id, None) is not None:
            self.shared.release(shared.entry_id, self)
        if shared.published and not shared.deleted:
            self._touched[shared.entry_id] = max(
                shared.accessed, self._touched.get(shared.entry_id, 0.0)
            )

    # -- all of them -----------------------------------------------------

    async def records(
        self,
        *,
        after: str | None = None,
        limit: int = 1000,
        order: Literal["id", "accessed"] = "id",
    ) -> tuple[EntryRecord, ...]:
        """Return up to ``limit`` published entries; a page costs a listing of its names."""
        self.check_open()
        if order == "accessed":
            await self._look()
            found = [self._record(key, entry) for key, entry in self.catalog.entries()]
            found.sort(key=lambda each: (each.accessed, each.entry_id))
            return tuple(found[:limit])
        found = []
        # The names of all entries of a key begin with its hash, and are in its head.
        start = None if after is None else after[:31]
        async with aclosing(self.catalog.pages(start)) as pages:
            async for hashes in pages:
                for key_hash in hashes:
                    found += self._of_hash(key_hash, after)
                if len(found) >= limit:
                    break
        return tuple(found[:limit])

    def _of_hash(self, key_hash: str, after: str | None) -> list[EntryRecord]:
        head = self.catalog.known_head(key_hash)
        entries = () if head is None else head.entries
        found = sorted(each.entry_id for each in entries if after is None or each.entry_id > after)
        by_id = {each.entry_id: each for each in entries}
        return [] if head is None else [self._record(head.key, by_id[each]) for each in found]

    def _record(self, key: Key, entry: EntryHead) -> EntryRecord:
        shared = self._open.get(entry.entry_id)
        accessed = max(
            self._touched.get(entry.entry_id, 0.0), 0.0 if shared is None else shared.accessed
        )
        return entry.record(key, accessed)

    async def touch(self, entry_id: str, *, pinned: bool | None = None) -> None:
        """Note that an entry is used now; a pin is written at once.

        Times of access are written when many have come together, and when the store is closed.
        """
        self.check_open()
        if not is_entry_id(entry_id):
            return
        self._touched[entry_id] = now = self._clock()
        if entry_id in self._open:
            self._open[entry_id].accessed = now
        if pinned is not None:
            await self._write_touched({entry_id: now}, pinned=pinned)
        elif len(self._touched) >= _TOUCHED:
            await self._write_touched(dict(self._touched))

    async def _write_touched(
        self, touched: dict[str, float], *, pinned: bool | None = None
    ) -> None:
        async def write(entry_id: str, accessed: float) -> None:
            known = self.catalog.find_known(entry_id)
            if pinned is None and known is not None and known.accessed >= accessed:
                return
            head = await self.catalog.head(entry_id[:32])
            if head is not None:
                await self.catalog.change(head.key, _touched(entry_id, accessed, pinned))

        jobs = [self.start(write(*each)) for each in touched.items()]
        if jobs:
            await asyncio.wait(jobs)
        for entry_id, accessed in touched.items():
            if self._touched.get(entry_id) == accessed and pinned is None:
                del self._touched[entry_id]
        for job in jobs:
            job.result()

    async def has_authority(self, origin: str) -> bool:
        """Tell whether a published entry came from ``origin``."""
        self.check_open()
        origin = origin_of(origin)
        if any(origin_of(entry.source) == origin for _, entry in self.catalog.entries()):
            return True
        folder = f"origins/{hashed(origin)}/"
        async with aclosing(self.bucket.list(folder)) as found:
            async for each in found:
                # The note may be older than the entry's end, or planted: ask the head.
                head = await self.catalog.head(each.name.removeprefix(folder))
                entries = () if head is None else head.entries
                if any(origin_of(entry.source) == origin for entry in entries):
                    return True
        return False

    async def usage(self) -> StoreUsage:
        """Return how full the store is; what other nodes did may be half a minute old."""
        self.check_open()
        if time.monotonic() - self._looked > _USAGE_S:
            await self._look()
        return StoreUsage(
            entries=sum(1 for _ in self.catalog.entries()),
            allocated_bytes=self._allocated,
            limit_bytes=self._max_size,
            evicted_entries=self._evicted_entries,
            evicted_bytes=self._evicted_bytes,
            failed_commits=self._failed,
        )

    async def collect(self) -> int:
        """Remove objects that no head names and that are old enough; return how many.

        This happens by itself while the store is open.
        """
        self.check_open()
        return await self._sweeper.collect()

    async def aclose(self) -> None:
        """Commit and close; handles that are still open are closed too."""
        if self.closed:
            return
        failure: CacheStreamError | None = None
        try:
            for handle in list(self.handles):
                try:
                    await handle.aclose()
                except CacheStreamError as exc:
                    failure = exc  # the others are closed all the same
            await self._write_touched(dict(self._touched))
            self._sweeper.stop()
            while self._tasks:
                await asyncio.wait(set(self._tasks))
        finally:
            await self.abandon()
        if failure is not None:
            raise failure

    async def abandon(self) -> None:
        """End as a killed process does: what was not committed is lost."""
        self.closed = True
        for task in list(self._tasks):
            task.cancel()
        if self._tasks:
            await asyncio.wait(set(self._tasks))
        for entry_id in self._open:
            self.shared.release(entry_id, self)
        self._open.clear()

    def check_open(self) -> None:
        """Raise `ClosedError` if the store is closed."""
        if self.closed:
            raise ClosedError("this store is closed")

    # -- room ------------------------------------------------------------

    @property
    def _allocated(self) -> int:
        """Room of all known entries; those that are open here count as they are here."""
        room = self.catalog.room
        for shared in self._open.values():
            known = self.catalog.find_known(shared.entry_id)
            gathered = sum(each.part.size for each in shared.writers if each.part is not None)
            room += shared.room + gathered - (0 if known is None else known.room)
        return room

    def make_room(self, wanted: int) -> None:
        """Evict until ``wanted`` more bytes fit; heads and objects follow in the background.

        Raises:
            StoreFullError: If they do not fit even then; nothing is evicted in vain.
        """
        if self._max_size is None or self._allocated + wanted <= self._max_size:
            return
        excess = self._allocated + wanted - self._max_size
        idle = [
            (self._record(key, entry).accessed, entry.entry_id, entry.room)
            for key, entry in self.catalog.entries()
            if not entry.pinned and entry.entry_id not in self._open
        ]
        if sum(room for _, _, room in idle) < excess:
            raise StoreFullError(
                f"the bucket's limit of {self._max_size} bytes is reached",
                hint="Raise max_size, or unpin or delete something.",
            )
        for _, entry_id, room in sorted(idle):
            if excess <= 0:
                break
            excess -= room
            self._evict(entry_id, room)

    def _evict(self, entry_id: str, room: int) -> None:
        self._evicted_entries += 1
        self._evicted_bytes += room
        head = self.catalog.known_head(entry_id[:32])
        assert head is not None
        self.catalog.hide(entry_id)
        self._touched.pop(entry_id, None)

        async def remove() -> None:
            try:
                await self.note(entry_id)
                await self.catalog.change(head.key, _without(entry_id))
            except StoreError as exc:
                log.warning("the entry %s could not be removed: %s", entry_id, exc)
                self.catalog.unhide(entry_id)

        self.start(remove())

    async def _look(self) -> None:
        await self.catalog.refresh()
        self._looked = time.monotonic()

    async def _look_if_limited(self) -> None:
        if self._max_size is not None and self._looked == float("-inf"):
            await self._look()

    # -- what open entries need ------------------------------------------

    def start(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Run something that ends before the store is closed."""
        if self.closed:
            work.close()
            raise ClosedError("this store is closed")
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled():
            task.exception()  # whoever waits for it raises it

    async def put_part(self, name: str, data: bytes) -> None:
        """Write an object of a new name."""
        async with self._puts:
            # Its name is ours alone: if it is there, it was written and the answer got lost.
            with suppress(ConflictError):
                await self.bucket.create(name, data)

    async def note(self, entry_id: str) -> None:
        """Note in the bucket that an entry may have objects that no head names."""
        await self._sweeper.note(entry_id)

    def now(self) -> float:
        """Return the time, in seconds since the epoch."""
        return self._clock()

    def is_open(self, entry_id: str) -> bool:
        """Tell whether a store of this process has an entry open."""
        return self.shared.is_open(entry_id)


def _without(entry_id: str) -> Callable[[Head], Head | None]:
    return lambda head: head.without(frozenset({entry_id}))


def _touched(entry_id: str, accessed: float, pinned: bool | None) -> Callable[[Head], Head | None]:
    def change(head: Head) -> Head | None:
        entry = head.find(entry_id)
        if entry is None:
            return None
        pin = entry.pinned if pinned is None else pinned
        new = attrs.evolve(entry, accessed=max(entry.accessed, accessed), pinned=pin)
        return None if new == entry else head.with_entry(new)

    return change
