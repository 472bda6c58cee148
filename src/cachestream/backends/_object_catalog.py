"""Which entries there are: records read, written and removed, and what is known of them.

A record object never changes under its name, so one that was read once is known for good;
looking again costs a listing and the records that are new.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from typing import Final, TypeAlias

import attrs

from cachestream.abc import Key
from cachestream.backends._names import Variant, origin_of, variant_of
from cachestream.backends._object_medium import ObjectMedium
from cachestream.backends._object_records import (
    Record,
    born,
    data_folder,
    hashed,
    is_entry_id,
    key_folder,
    marker_name,
    origin_folder,
    parse_record_name,
    record_name,
)
from cachestream.errors import StoreError

__all__ = ["Catalog", "remove_record", "superseded"]

_Revisions: TypeAlias = dict[str, list[int]]

_PAGE: Final = 64
"""How many records are asked for at a time."""

_ORPHAN_S: Final = 86_400.0
"""Objects without a record are removed when they are so old: until then somebody may be about
to publish them."""


class Catalog:
    """The records of a place, as one store knows them.

    Args:
        is_open: Tells whether the store has an entry open; its room is counted there then.

    Attributes:
        known: The published entries that were seen.
        gone: Entries that this store removed; they do not come back from an older listing.
        closed_room: Room of the known entries that are not open, in bytes.
    """

    def __init__(self, medium: ObjectMedium, is_open: Callable[[str], bool]) -> None:
        self.medium = medium
        self.known: dict[str, Record] = {}
        self.gone: set[str] = set()
        self.closed_room = 0
        self._is_open = is_open
        self._hopeless: dict[str, int] = {}

    def learn(self, record: Record) -> None:
        """Note what a record says, unless a later one is known."""
        old = self.known.get(record.entry_id)
        if record.entry_id in self.gone or (old is not None and old.revision > record.revision):
            return
        self.forget(record.entry_id)
        self.known[record.entry_id] = record
        if not self._is_open(record.entry_id):
            self.closed_room += record.room

    def forget(self, entry_id: str) -> None:
        """Note that an entry is not there."""
        record = self.known.pop(entry_id, None)
        if record is not None and not self._is_open(entry_id):
            self.closed_room -= record.room

    # -- looking ---------------------------------------------------------

    async def find(self, entry_id: str) -> Record | None:
        """Return the record of an entry."""
        if not is_entry_id(entry_id) or entry_id in self.gone:
            return None
        found = await self._of_folder(entry_id[:32])
        return found.get(entry_id)

    async def of_key(self, key: Key) -> list[Record]:
        """Return the records of a key, newest first; there may be two of a variant."""
        found = [each for each in (await self._of_folder(hashed(key))).values() if each.key == key]
        return sorted(found, key=_age, reverse=True)

    async def _of_folder(self, key_hash: str) -> dict[str, Record]:
        folder = key_folder(key_hash)
        # A record may be replaced between the listing and the reading: look once more then.
        for _ in range(3):
            there = _revisions(await self.medium.run(self.medium.names, folder))
            there = {name: found for name, found in there.items() if name[:32] == key_hash}
            await self._load(there)
            if all(name in self.known or name in self._hopeless for name in there):
                break
        return {name: self.known[name] for name in there if name in self.known}

    async def refresh(self) -> None:
        """Look at all that is there; reads the records that are new."""
        before = set(self.known)
        there = _revisions(await self.medium.run(self.medium.deep_names, "records"))
        await self._load(there)
        for entry_id in before - there.keys():
            if not self._is_open(entry_id):
                self.forget(entry_id)

    async def _load(self, there: _Revisions) -> None:
        wanted = [
            (entry_id, found)
            for entry_id, found in there.items()
            if not self._is_known(entry_id, max(found))
        ]
        for start in range(0, len(wanted), _PAGE):
            jobs = {
                self.medium.submit(read_record, self.medium, entry_id, found): (entry_id, found)
                for entry_id, found in wanted[start : start + _PAGE]
            }
            if jobs:
                await asyncio.wait(jobs)
            for job, (entry_id, found) in jobs.items():
                record, hopeless = job.result()
                if record is not None:
                    self.learn(record)
                elif hopeless:
                    self._hopeless[entry_id] = max(found)

    def _is_known(self, entry_id: str, revision: int) -> bool:
        if entry_id in self.gone or self._hopeless.get(entry_id) == revision:
            return True
        record = self.known.get(entry_id)
        return record is not None and record.revision >= revision

    async def has_origin(self, origin: str) -> bool:
        """Tell whether a published entry came from ``origin``."""
        origin = origin_of(origin)
        for entry_id in await self.medium.run(self.medium.names, origin_folder(origin)):
            # The marker may be older than the entry's end, or planted: ask the record.
            record = await self.find(entry_id)
            if record is not None and origin_of(record.source) == origin:
                return True
        return False

    # -- changing --------------------------------------------------------

    async def mark_origin(self, record: Record) -> None:
        """Note where an entry came from, before it is published."""
        name = marker_name(origin_of(record.source), record.entry_id)
        await self.medium.run(self.medium.put, name, b"1")

    async def write(self, record: Record, *, adopt_pin: bool = False) -> Record | None:
        """Write the next revision of a record.

        Args:
            adopt_pin: Keep the pin that somebody else has set since the last revision.

        Returns:
            What was written, None if the entry was removed by somebody else.
        """
        written = await self.medium.run(write_record, self.medium, record, adopt_pin)
        if written is not None:
            self.learn(written)
        return written

    async def remove(self, record: Record) -> None:
        """Remove an entry's record, and the note of its origin."""
        self.forget(record.entry_id)
        self.gone.add(record.entry_id)
        try:
            await self.medium.run(remove_record, self.medium, record)
        except StoreError:
            self.gone.discard(record.entry_id)  # it is there still
            self.learn(record)
            raise

    async def sweep(self, now: float, keep: frozenset[str]) -> None:
        """Remove old objects that no record speaks of: what crashes have left."""
        await self.medium.run(_sweep, self.medium, now, keep)


def superseded(records: Iterable[Record]) -> list[Record]:
    """Return those records in whose place a newer one of the same variant was published."""
    newest: dict[tuple[Key, Variant], Record] = {}
    return [
        record
        for record in sorted(records, key=_age, reverse=True)
        if newest.setdefault((record.key, variant_of(record.representation)), record) is not record
    ]


def read_record(
    medium: ObjectMedium, entry_id: str, revisions: list[int]
) -> tuple[Record | None, bool]:
    """Return the latest record that can be understood; blocking.

    Returns:
        The record, and whether all revisions were there but none could be understood.
    """
    hopeless = True
    for revision in sorted(revisions, reverse=True):
        data = medium.get(record_name(entry_id, revision))
        if data is None:
            hopeless = False
            continue
        try:
            # The revision seen last is noted, so that this one is not read again.
            return Record.from_json(data, entry_id, max(revisions)), False
        except ValueError:
            continue
    return None, hopeless


def write_record(medium: ObjectMedium, record: Record, adopt_pin: bool) -> Record | None:
    """Write the next revision of a record, then remove the older ones; blocking."""
    folder = key_folder(record.entry_id[:32])
    found = _revisions(medium.names(folder)).get(record.entry_id, [])
    if record.revision and not found:
        return None
    revision = max(found, default=0) + 1
    new = attrs.evolve(record, revision=revision)
    if adopt_pin and record.revision and revision > record.revision + 1:
        other, _ = read_record(medium, record.entry_id, found)
        new = new if other is None else attrs.evolve(new, pinned=other.pinned)
    medium.put(record_name(record.entry_id, revision), new.to_json())
    medium.remove(record_name(record.entry_id, old) for old in found)
    return new


def remove_record(medium: ObjectMedium, record: Record) -> None:
    """Remove a record, then the note of its origin; blocking."""
    folder = key_folder(record.entry_id[:32])
    found = _revisions(medium.names(folder)).get(record.entry_id, [])
    medium.remove(record_name(record.entry_id, revision) for revision in sorted(found))
    medium.remove_folder(folder)
    origin = origin_of(record.source)
    medium.remove([marker_name(origin, record.entry_id)])
    medium.remove_folder(origin_folder(origin))


def _sweep(medium: ObjectMedium, now: float, keep: frozenset[str]) -> None:
    folders = [name for name in medium.names("data") if is_entry_id(name) and name not in keep]
    old = [name for name in folders if born(name) < now - _ORPHAN_S]
    if old:
        there = _revisions(medium.deep_names("records"))
        medium.remove(data_folder(name) + "/" for name in old if name not in there)


def _revisions(names: Iterable[str]) -> _Revisions:
    found: _Revisions = {}
    for parsed in map(parse_record_name, names):
        if parsed is not None:
            found.setdefault(parsed[0], []).append(parsed[1])
    return found


def _age(record: Record) -> tuple[float, str]:
    return record.created, record.entry_id
