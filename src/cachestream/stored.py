"""What a manager keeps: records of it, deleting, checking and exporting it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path
from typing import Final

from cachestream._engine.pool import ResourcePool
from cachestream.abc import EntryRecord, Store
from cachestream.core.spans import Span
from cachestream.errors import StoreCorruptError, StoreError
from cachestream.settings import MIB

__all__ = ["StoredEntries"]

PAGE: Final = 500


class StoredEntries(ABC):
    """The part of a manager that looks after what is stored.

    It knows live resources, so that nothing in use is deleted under its readers.
    """

    @property
    @abstractmethod
    def store(self) -> Store:
        """The store."""

    @property
    @abstractmethod
    def _pool_in_use(self) -> ResourcePool:
        """The live resources.

        Raises:
            ClosedError: If the manager is not open.
        """

    @abstractmethod
    def _source(self, url: str) -> str:
        """Return the normalised source of a source or local URL."""

    async def get_cache_record(self, url: str) -> EntryRecord | None:
        """Return what the store knows of a source or local URL, None if nothing."""
        records = await self._select(url)
        return records[0] if records else None

    async def _select(self, url: str) -> tuple[EntryRecord, ...]:
        key = self._pool_in_use.context.key(self._source(url))
        return await self.store.select(key)

    async def cache_records(
        self, *, limit: int = PAGE, after: str | None = None, active: bool | None = None
    ) -> tuple[EntryRecord, ...]:
        """Return a page of what is stored.

        Args:
            limit: Most records to return.
            after: The ``entry_id`` to go on after.
            active: Only those in use (True) or not in use (False).
        """
        found: list[EntryRecord] = []
        while len(found) < limit:
            page = await self.store.records(after=after, limit=min(PAGE, limit))
            if not page:
                break
            after = page[-1].entry_id
            found += [each for each in page if active is None or self._in_use(each) is active]
        return tuple(found[:limit])

    def _in_use(self, record: EntryRecord) -> bool:
        resource = self._pool_in_use.resources.get(record.key)
        return resource is not None and (
            resource.entry is not None and resource.entry.entry_id == record.entry_id
        )

    async def delete(self, url: str) -> bool:
        """Delete what is stored of a source or local URL; True if there was anything."""
        records = await self._select(url)
        resource = self._pool_in_use.get(self._source(url))
        if resource is not None:
            await resource.reset()
        for record in records:
            await self.store.delete(record.entry_id)
        return bool(records)

    async def delete_cache(self, *, partial_only: bool = False) -> int:
        """Delete all entries that are not in use; return how many.

        Args:
            partial_only: Leave complete ones alone.
        """
        count, after = 0, None
        while page := await self.store.records(after=after, limit=PAGE):
            after = page[-1].entry_id
            for record in page:
                if self._in_use(record) or (partial_only and record.complete):
                    continue
                await self.store.delete(record.entry_id)
                count += 1
        return count

    async def verify(self, url: str | None = None) -> list[tuple[EntryRecord, tuple[Span, ...]]]:
        """Read all stored bytes, or those of one URL, and check them.

        Returns:
            Each record with the spans that failed; those are forgotten and fetched anew
            when they are next asked for.
        """
        results = []
        if url is not None:
            return [(record, await self._verify(record)) for record in await self._select(url)]
        after = None
        while page := await self.store.records(after=after, limit=PAGE):
            after = page[-1].entry_id
            results += [(record, await self._verify(record)) for record in page]
        return results

    async def _verify(self, record: EntryRecord) -> tuple[Span, ...]:
        bad: list[Span] = []
        try:
            entry = await self.store.open(record.entry_id)
        except StoreError:
            return (Span(0, record.representation.complete_length or 0),)
        try:
            position = 0
            while (start := entry.spans.next_start(position)) is not None:
                span = Span(start, min(entry.spans.run_stop(start), start + MIB))
                position = span.stop
                try:
                    await entry.read(span)
                except StoreCorruptError as error:
                    bad.append(error.span or span)
                    if bad[-1].start not in entry.spans:  # forgotten: look at what is left
                        position = start
                except StoreError:
                    bad.append(span)
        finally:
            await entry.aclose()
        return tuple(bad)

    async def export(self, url: str, path: str | Path) -> Path:
        """Copy a stored resource to a file of its own; it must be complete.

        Raises:
            StoreError: If it is not complete, or cannot be written.
        """
        record = await self.get_cache_record(url)
        if record is None or not record.complete:
            raise StoreError("only what is complete can be exported", url=url)
        await self._export(record.entry_id, Path(path))
        return Path(path)

    async def _export(self, entry_id: str, path: Path) -> None:
        exporter = getattr(self.store, "export", None)
        if exporter is None:
            raise StoreError("this store cannot export files")
        await exporter(entry_id, path)
