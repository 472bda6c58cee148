"""The objects store: an immutable object a span, on any filesystem that fsspec knows.

Bytes are gathered in memory, where they can be read at once, and written as whole objects;
a record that names them is published afterwards. `_object_records` shows the lay-out. Nothing
is ever written over, so it works where a filesystem cannot do more than put, get and list.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final, Literal, Self

import attrs

from cachestream.abc import Entry, EntryRecord, Key, Store, StoreCapabilities, StoreUsage
from cachestream.backends._names import variant_of
from cachestream.backends._object_catalog import Catalog, remove_record, superseded
from cachestream.backends._object_entry import ObjectsEntry
from cachestream.backends._object_medium import ObjectMedium
from cachestream.backends._object_open import OpenEntry
from cachestream.backends._object_parts import CellCache
from cachestream.backends._object_records import Record, data_folder, is_entry_id, new_entry_id
from cachestream.core.representation import Representation
from cachestream.errors import (
    ClosedError,
    ConfigurationError,
    EntryNotFoundError,
    StoreConflictError,
    StoreError,
    StoreFullError,
)
from cachestream.settings import MIB, Settings

__all__ = ["ObjectsStore"]


_TOUCHED: Final = 256
"""So many access times are kept in memory before they are written."""

log = logging.getLogger("cachestream.backends.objects")


@attrs.define
class _Room:
    """Room of the open entries, in bytes."""

    live: int = 0


@attrs.frozen(kw_only=True)
class ObjectsOptions:
    """What a configuration says of an `ObjectsStore`; see there."""

    url: str = attrs.field(
        metadata={"help": "a folder as fsspec writes it: s3://bucket/cache, sftp://host/cache"}
    )
    storage_options: Mapping[str, Any] = attrs.field(
        factory=dict,
        metadata={"help": "credentials, endpoints and timeouts of the filesystem", "secret": True},
    )
    part_size: int = attrs.field(
        default=4 * MIB, metadata={"help": "most bytes of one object", "unit": "bytes"}
    )


class ObjectsStore(Store):
    """Keeps spans as immutable objects on any fsspec filesystem: S3, SFTP, memory.

    One process at a time should write at a place; others may read there. Two that write lose
    at most what the other one committed in the same moment, and never mix up bytes.

    Args:
        url: A folder, as fsspec writes it: ``s3://bucket/cache``, ``sftp://host/cache``.
        storage_options: What the filesystem is told: credentials, endpoints, timeouts.
        part_size: Most bytes of one object; also what a writer keeps in memory, twice.
        max_size: Bytes all objects may take; None for no limit. With a limit, all records are
            read at the first use.
        clock: Returns seconds since the epoch.

    Raises:
        ConfigurationError: If there is no such filesystem, its library is missing, or an
            argument is out of bounds.
    """

    Options = ObjectsOptions

    def __init__(
        self,
        url: str,
        *,
        storage_options: Mapping[str, Any] | None = None,
        part_size: int = 4 * MIB,
        max_size: int | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        if part_size < 1 or (max_size is not None and max_size < 0):
            raise ConfigurationError("part_size must be at least 1, and max_size at least 0")
        self.capabilities = StoreCapabilities(persistent=True, partial_eviction=True)
        self.part_size = part_size
        self.medium = ObjectMedium(url, storage_options or {})
        self.catalog = Catalog(self.medium, lambda entry_id: entry_id in self._open)
        self.cache = CellCache()
        self.room = _Room()
        self.handles: set[ObjectsEntry] = set()
        self._max_size = max_size
        self._clock = clock
        self._open: dict[str, OpenEntry] = {}
        self._touched: dict[str, float] = {}
        self._publishing = asyncio.Lock()
        self._loaded = False
        self._evicted_entries = self._evicted_bytes = 0
        self.dead = False

    @classmethod
    def from_settings(cls, settings: Settings, options: ObjectsOptions) -> Self:
        """Make a store as ``options`` say, with the limit of ``settings``."""
        return cls(
            options.url,
            storage_options=options.storage_options,
            part_size=options.part_size,
            max_size=settings.max_size,
        )

    # -- entries ---------------------------------------------------------

    async def select(self, key: Key) -> tuple[EntryRecord, ...]:
        """Return the published entries of ``key``, newest first."""
        self.check_open()
        found = await self.catalog.of_key(key)
        old = superseded(found)
        self._drop(old)
        return tuple(self._public(record) for record in found if record not in old)

    async def create(
        self, key: Key, source: str, representation: Representation, *, file: str | None = None
    ) -> Entry:
        """Make a new, empty entry; files of the user's are not supported."""
        self.check_open()
        if file is not None:
            raise StoreError(
                "the objects store keeps no files", url=source, hint="Use the disk store."
            )
        await self._load_if_limited()
        self.make_room(1)
        found = await self.select(key)
        rivals = {variant_of(each.representation): each.entry_id for each in found}
        # What comes later must be younger, whatever the clocks of two machines say.
        now = max([self._clock(), *(each.created + 1e-6 for each in found)])
        record = Record(
            entry_id=new_entry_id(key, now),
            key=key,
            source=source,
            representation=representation,
            created=now,
            accessed=now,
        )
        shared = self._opened(record, published=False)
        shared.rivals.update(rivals)
        return ObjectsEntry(shared)

    async def open(self, entry_id: str) -> Entry:
        """Open a published entry."""
        self.check_open()
        await self._load_if_limited()
        record = None if entry_id in self._open else await self.catalog.find(entry_id)
        # Somebody else may have opened it while we looked.
        shared = self._open.get(entry_id)
        if shared is None and record is not None and entry_id not in self.catalog.gone:
            shared = self._opened(record, published=True)
        if shared is None or not shared.published or shared.deleted:
            raise EntryNotFoundError(f"there is no entry {entry_id!r}")
        shared.accessed = self._clock()
        return ObjectsEntry(shared)

    async def publish(self, shared: OpenEntry) -> None:
        """Make an entry visible; for `Entry.publish`."""
        variant = variant_of(shared.representation)
        async with self._publishing:
            if shared.published:
                return
            found = await self.catalog.of_key(shared.record.key)
            rivals = [each for each in found if variant_of(each.representation) == variant]
            if rivals and rivals[0].entry_id != shared.rivals.get(variant):
                raise StoreConflictError("another writer published this first", url=shared.source)
            await self.catalog.mark_origin(shared.record)
            async with shared.lock:
                shared.published = shared.dirty = True
                try:
                    await shared.write_record()
                except BaseException:
                    # It may have been written all the same, if the answer got lost.
                    shared.published = shared.record.revision > 0
                    raise
            for rival in rivals:
                try:
                    await self._remove(rival)
                except StoreError as exc:
                    # The new one counts from now on; the old one goes when it is next seen.
                    log.warning("a superseded entry could not be removed: %s", exc)

    async def delete(self, entry_id: str) -> None:
        """Delete an entry; open handles stay readable."""
        self.check_open()
        record = await self.catalog.find(entry_id)
        if record is not None:
            await self._remove(record)

    async def _remove(self, record: Record) -> None:
        """Remove the record first, then the objects when nobody has the entry open."""
        shared = self._open.get(record.entry_id)
        if shared is None:
            await self.catalog.remove(record)
            if record.entry_id not in self._open:
                self.remove_objects(record.entry_id, [data_folder(record.entry_id) + "/"])
            return
        async with shared.lock:
            await self.catalog.remove(record)
            shared.deleted = True
        shared.let_go()

    def _opened(self, record: Record, *, published: bool) -> OpenEntry:
        if record.entry_id in self.catalog.known:
            self.catalog.closed_room -= self.catalog.known[record.entry_id].room
        shared = OpenEntry(self, record, published=published)
        self._open[record.entry_id] = shared
        return shared

    def left(self, shared: OpenEntry) -> None:
        """Note that nobody has an entry open any more."""
        entry_id = shared.entry_id
        del self._open[entry_id]
        self.room.live -= shared.room
        known = self.catalog.known.pop(entry_id, None)
        if known is not None and not shared.deleted:
            self.catalog.known[entry_id] = known
            self.catalog.closed_room += known.room
            if shared.accessed > known.accessed:
                self._touched[entry_id] = max(shared.accessed, self._touched.get(entry_id, 0.0))
        pending = self.medium.sharing.release(entry_id, self)
        if pending:
            self._in_background(self.medium.remove, pending)

    def forget(self, shared: OpenEntry) -> None:
        """Note that somebody else deleted an entry that is open here."""
        self.catalog.forget(shared.entry_id)
        self.catalog.gone.add(shared.entry_id)

    def remove_objects(self, entry_id: str, names: list[str]) -> None:
        """Remove objects that no record names, as soon as no other store here may read them."""
        sharing = self.medium.sharing
        others = sharing.opens[entry_id] - (entry_id in self._open)
        if others > 0:
            sharing.pending.setdefault(entry_id, []).extend(names)
        else:
            self._in_background(self.medium.remove, names)

    # -- all of them -----------------------------------------------------

    async def records(
        self,
        *,
        after: str | None = None,
        limit: int = 1000,
        order: Literal["id", "accessed"] = "id",
    ) -> tuple[EntryRecord, ...]:
        """Return up to ``limit`` published entries; a page costs a listing of all names."""
        self.check_open()
        await self._load()
        found = [self._public(record) for record in self.catalog.known.values()]
        if order == "accessed":
            found.sort(key=lambda each: (each.accessed, each.entry_id))
        else:
            found = sorted(
                (each for each in found if after is None or each.entry_id > after),
                key=lambda each: each.entry_id,
            )
        return tuple(found[:limit])

    async def touch(self, entry_id: str, *, pinned: bool | None = None) -> None:
        """Note that an entry is used now.

        A pin is written at once; times of access with the next record of the entry, when many
        have come together, or when the store is closed.
        """
        self.check_open()
        if not is_entry_id(entry_id):
            return
        now = self._clock()
        shared = self._open.get(entry_id)
        if shared is not None and shared.writable:
            shared.accessed = now
            if pinned is not None and pinned != shared.pinned:
                shared.pinned, shared.dirty = pinned, True
                await shared.commit()
            return
        self._touched[entry_id] = now
        if pinned is not None:
            await self._write_touched({entry_id: now}, pinned=pinned)
        elif len(self._touched) >= _TOUCHED:
            touched, self._touched = self._touched, {}
            await self._write_touched(touched)

    async def _write_touched(
        self, touched: Mapping[str, float], *, pinned: bool | None = None
    ) -> None:
        for entry_id, accessed in touched.items():
            # Who has it open for writing says when it was used last.
            if pinned is None and entry_id in self.medium.sharing.writers:
                continue
            record = await self.catalog.find(entry_id)
            if record is not None:
                pin = record.pinned if pinned is None else pinned
                new = attrs.evolve(record, accessed=accessed, pinned=pin)
                await self.catalog.write(new)
        for entry_id, accessed in touched.items():
            if self._touched.get(entry_id) == accessed:
                del self._touched[entry_id]

    async def has_authority(self, origin: str) -> bool:
        """Tell whether a published entry came from ``origin``."""
        self.check_open()
        return await self.catalog.has_origin(origin)

    async def usage(self) -> StoreUsage:
        """Return how full the store is; the first time, all records are read."""
        self.check_open()
        if not self._loaded:
            await self._load()
        return StoreUsage(
            entries=len(self.catalog.known),
            allocated_bytes=self._allocated,
            limit_bytes=self._max_size,
            evicted_entries=self._evicted_entries,
            evicted_bytes=self._evicted_bytes,
        )

    async def aclose(self) -> None:
        """Commit and close; handles that are still open are closed too."""
        if self.dead:
            return
        failure: StoreError | None = None
        try:
            for handle in list(self.handles):
                try:
                    await handle.aclose()
                except StoreError as exc:
                    failure = exc  # the others are closed all the same
            await self._write_touched(dict(self._touched))
            await self.medium.settle()
        finally:
            self._end()
        if failure is not None:
            raise failure

    async def abandon(self) -> None:
        """End as a killed process does: what was not committed is lost."""
        if not self.dead:
            self._end()

    def _end(self) -> None:
        self.dead = True
        self.medium.close()
        for entry_id in self._open:
            self.medium.sharing.release(entry_id, self)

    # -- room ------------------------------------------------------------

    @property
    def _allocated(self) -> int:
        return self.room.live + self.catalog.closed_room

    def make_room(self, wanted: int) -> None:
        """Evict until ``wanted`` more bytes fit; the objects are removed in the background.

        Raises:
            StoreFullError: If they do not fit even then; nothing is evicted in vain.
        """
        if self._max_size is None:
            return
        missing = self._allocated + wanted - self._max_size
        if missing <= 0:
            return
        victims = []
        for record in self._least_recently_used():
            victims.append(record)
            missing -= record.room
            if missing <= 0:
                self._evicted_entries += len(victims)
                self._evicted_bytes += sum(victim.room for victim in victims)
                self._drop(victims)
                return
        raise StoreFullError(
            f"the store may take {self._max_size} bytes and is full",
            hint="Raise max_size, or delete or unpin entries.",
        )

    def _least_recently_used(self) -> list[Record]:
        opens = self.medium.sharing.opens
        idle = [
            record
            for record in self.catalog.known.values()
            if not record.pinned and not opens.get(record.entry_id)
        ]
        return sorted(idle, key=lambda each: (self._accessed(each), each.entry_id))

    def _drop(self, records: Iterable[Record]) -> None:
        """Remove entries in the background: they are out of sight at once."""
        for record in records:
            if record.entry_id in self._open or record.entry_id in self.catalog.gone:
                continue
            self.catalog.forget(record.entry_id)
            self.catalog.gone.add(record.entry_id)
            self._in_background(remove_record, self.medium, record)
            self.remove_objects(record.entry_id, [data_folder(record.entry_id) + "/"])

    def _in_background(self, call: Callable[..., None], *args: object) -> None:
        job = self.medium.submit(call, *args)
        job.add_done_callback(_log_failure)

    # -- what is known ---------------------------------------------------

    def check_open(self) -> None:
        """Raise `ClosedError` after the end."""
        if self.dead:
            raise ClosedError("this store is closed")

    async def _load_if_limited(self) -> None:
        if self._max_size is not None and not self._loaded:
            await self._load()

    async def _load(self) -> None:
        await self.catalog.refresh()
        self._drop(superseded(self.catalog.known.values()))
        if not self._loaded:
            self._loaded = True
            await self.catalog.sweep(self._clock(), frozenset(self._open))

    def _accessed(self, record: Record) -> float:
        shared = self._open.get(record.entry_id)
        if shared is not None:
            return shared.accessed
        return max(record.accessed, self._touched.get(record.entry_id, 0.0))

    def _public(self, record: Record) -> EntryRecord:
        shared = self._open.get(record.entry_id)
        public = attrs.evolve(record.public, accessed=self._accessed(record))
        if shared is None:
            return public
        return attrs.evolve(
            public,
            representation=shared.representation,
            allocated_bytes=shared.room,
            pinned=shared.pinned,
        )


def _log_failure(job: asyncio.Future[None]) -> None:
    if not job.cancelled() and job.exception() is not None:
        log.warning("what is not needed any more could not be removed: %s", job.exception())
