"""The heads of a bucket as one store knows them, and the loop that changes one."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import AsyncGenerator, Callable, Iterable
from contextlib import aclosing
from typing import Final
from weakref import WeakValueDictionary

import attrs
from cachestream.abc import Key
from cachestream.errors import StoreError

from cachestream_s3._bucket import ConflictError
from cachestream_s3._heads import EntryHead, Head, hashed
from cachestream_s3._swaps import Swaps, Version

__all__ = ["Catalog"]

_ATTEMPTS: Final = 60
"""So often a swap is tried again. Each failure means that another node succeeded."""

_PAUSE_S: Final = 0.02
"""A node that lost waits up to this, and up to twice that the next time, so that all get on."""

_LONGEST_PAUSE_S: Final = 1.0

log = logging.getLogger("cachestream_s3")


@attrs.frozen
class _Known:
    version: Version
    head: Head | None

    @property
    def room(self) -> int:
        return 0 if self.head is None else sum(each.room for each in self.head.entries)


class Catalog:
    """Heads by the hash of their key; one that was read is asked for by its token only.

    Attributes:
        room: Room of all known entries, in bytes.
        gone: Entries that are being removed; they are not seen any more.
    """

    def __init__(self, swaps: Swaps, max_requests: int) -> None:
        self.room = 0
        self.gone: set[str] = set()
        self._swaps = swaps
        self._known: dict[str, _Known] = {}
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        self._requests = asyncio.Semaphore(max_requests)

    # -- looking ---------------------------------------------------------

    def entries(self) -> Iterable[tuple[Key, EntryHead]]:
        """Yield all known entries."""
        for known in self._known.values():
            if known.head is not None:
                for entry in known.head.entries:
                    yield known.head.key, entry

    def find_known(self, entry_id: str) -> EntryHead | None:
        """Return an entry as it was last seen."""
        known = self._known.get(entry_id[:32])
        return None if known is None or known.head is None else known.head.find(entry_id)

    def known_head(self, key_hash: str) -> Head | None:
        """Return the head of a key as it was last seen."""
        known = self._known.get(key_hash)
        return None if known is None else known.head

    async def head(self, key_hash: str) -> Head | None:
        """Return the head of a key as it is now."""
        known = await self._read(key_hash)
        return None if known is None else known.head

    async def find(self, entry_id: str) -> EntryHead | None:
        """Return an entry as it is now."""
        head = await self.head(entry_id[:32])
        return None if head is None else head.find(entry_id)

    async def refresh(self) -> None:
        """Look at all heads; those that are as they were are not read again."""
        seen = set()
        async with aclosing(self.pages()) as pages:
            async for hashes in pages:
                seen.update(hashes)
        for key_hash in self._known.keys() - seen:
            self._learn(key_hash, None)

    async def pages(self, after: str | None = None) -> AsyncGenerator[list[str], None]:
        """Yield hashes in order, some hundred at a time, once their heads are known.

        Args:
            after: Hashes below this beginning of one are left out.
        """
        page: dict[str, str] = {}
        async with aclosing(self._swaps.list(after)) as found:
            async for key_hash, token in found:
                page[key_hash] = token
                if len(page) >= 500:
                    await self._load(page)
                    yield list(page)
                    page = {}
        if page:
            await self._load(page)
            yield list(page)

    async def _load(self, page: dict[str, str]) -> None:
        async with asyncio.TaskGroup() as group:
            for key_hash, token in page.items():
                known = self._known.get(key_hash)
                if known is None or known.version.token != token:
                    group.create_task(self._fetch(key_hash, token))

    async def _fetch(self, key_hash: str, token: str) -> None:
        async with self._requests:
            self._learn(key_hash, await self._swaps.fetch(key_hash, token))

    async def _read(self, key_hash: str) -> _Known | None:
        known = self._known.get(key_hash)
        try:
            async with self._requests:
                version = await self._swaps.read(
                    key_hash, None if known is None else known.version.token
                )
        except ConflictError:
            # Neither changed nor gone. The token is as good as new.
            if known is None:
                raise StoreError(f"the head {key_hash} changes faster than it is read") from None
            current = self._known.get(key_hash)
            if current is known:
                version = Version(known.version.data, known.version.token)
                self._known[key_hash] = attrs.evolve(known, version=version)
            return self._known.get(key_hash)
        self._learn(key_hash, version)
        return self._known.get(key_hash)

    def _learn(self, key_hash: str, version: Version | None) -> None:
        old = self._known.pop(key_hash, None)
        if old is not None:
            self.room -= old.room
        if version is None:
            return
        try:
            head: Head | None = Head.from_json(version.data, key_hash)
            if head is not None and not self.gone.isdisjoint(e.entry_id for e in head.entries):
                head = attrs.evolve(head, entries=self._left(head))
        except ValueError as exc:
            # Somebody else's, or of a later release: a miss, and not to be written over.
            log.warning("the head %s cannot be understood: %s", key_hash, exc)
            head = None
        known = self._known[key_hash] = _Known(version, head)
        self.room += known.room

    def _left(self, head: Head) -> tuple[EntryHead, ...]:
        return tuple(each for each in head.entries if each.entry_id not in self.gone)

    def hide(self, entry_id: str) -> None:
        """See an entry no more, from now on; the next change of its head removes it."""
        self.gone.add(entry_id)
        known = self._known.get(entry_id[:32])
        if known is not None and known.head is not None:
            head = attrs.evolve(known.head, entries=self._left(known.head))
            new = self._known[entry_id[:32]] = attrs.evolve(known, head=head)
            self.room += new.room - known.room

    def unhide(self, entry_id: str) -> None:
        """See an entry again that could not be removed, when its head is next read."""
        self.gone.discard(entry_id)
        self._learn(entry_id[:32], None)

    # -- changing --------------------------------------------------------

    async def change(self, key: Key, new: Callable[[Head], Head | None]) -> Head:
        """Change the head of a key, whatever others do to it at the same time.

        Args:
            new: Returns what shall be there instead of what is there, None to leave it. It is
                called anew with what somebody else has written meanwhile; when an answer was
                lost it may find its own work done.

        Returns:
            The head as it is then.

        Raises:
            StoreError: If the bucket fails, or others are always first.
        """
        key_hash = hashed(key)
        lock = self._locks.setdefault(key_hash, asyncio.Lock())
        async with lock:
            known = self._known.get(key_hash) or await self._read(key_hash)
            for attempt in range(_ATTEMPTS):
                if known is not None and known.head is None:
                    raise StoreError(
                        f"the head {key_hash} was written by another program or release",
                        hint="Use another prefix.",
                    )
                before = Head(key=key) if known is None or known.head is None else known.head
                after = new(before)
                if after is None:
                    return before
                version = None if known is None else known.version
                if await self._try(key_hash, version, after):
                    return after
                known = await self._read(key_hash)
                if known is not None and known.head and known.head.nonce == after.nonce:
                    return known.head  # it was done; only the answer got lost
                pause = min(_LONGEST_PAUSE_S, _PAUSE_S * 2 ** min(attempt, 10))
                await asyncio.sleep(random.uniform(0, pause))  # noqa: S311 - no secret
            raise StoreError(
                f"other nodes changed the head {key_hash} {_ATTEMPTS} times in a row",
                hint="Try again later.",
            )

    async def _try(self, key_hash: str, old: Version | None, head: Head) -> bool:
        try:
            async with self._requests:
                version = await self._swaps.swap(key_hash, old, head.to_json())
        except ConflictError:
            return False
        self._learn(key_hash, version)
        return True
