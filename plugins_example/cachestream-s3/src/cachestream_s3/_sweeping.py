"""Removing objects that no head names: what was discarded, and what crashes have left.

Before an object is put, or the head stops naming one, a note is left for its entry. Whoever
finds a note that is old enough lists the objects of that entry alone and compares them with
the head, so that nothing but the notes has to be looked through.
"""

from __future__ import annotations

import asyncio
import logging
import re
import secrets
from typing import TYPE_CHECKING, Final

from cachestream.errors import StoreError

if TYPE_CHECKING:
    from cachestream_s3._store import S3Store

__all__ = ["Sweeper"]

_NOTE: Final = re.compile(r"sweep/([0-9a-f]{32}-[0-9a-f]{12}-[0-9a-f]{12})\.[0-9a-f]{8}", re.ASCII)

_LEAST_PAUSE_S: Final = 1.0

log = logging.getLogger("cachestream_s3")


class Sweeper:
    """Leaves notes, and follows them up."""

    def __init__(self, store: S3Store) -> None:
        self._store = store
        self._task: asyncio.Task[None] | None = None

    async def note(self, entry_id: str) -> None:
        """Leave a note for an entry."""
        await self._store.bucket.put(f"sweep/{entry_id}.{secrets.token_hex(4)}", b"1")

    def start(self) -> None:
        """Follow notes up from now on, as long as the store is open."""
        if self._task is None:
            self._task = self._store.start(self._run())

    def stop(self) -> None:
        """Begin nothing new."""
        if self._task is not None:
            self._task.cancel()

    async def _run(self) -> None:
        while True:
            # Notes are left all the time; each is followed up at most twice as late as it may.
            await asyncio.sleep(max(_LEAST_PAUSE_S, self._store.options.remove_after))
            try:
                await self.collect()
            except StoreError as exc:
                log.warning("objects that nobody needs could not be removed: %s", exc)

    async def collect(self) -> int:
        """Follow all old notes up; return how many objects were removed."""
        bucket = self._store.bucket
        notes: dict[str, list[tuple[str, float]]] = {}
        async for each in bucket.list("sweep/"):
            match = _NOTE.fullmatch(each.name)
            if match is not None:
                notes.setdefault(match[1], []).append((each.name, each.modified))
        removed = 0
        limit = self._store.now() - self._store.options.remove_after
        for entry_id, found in notes.items():
            old = [name for name, modified in found if modified <= limit]
            if old and not self._store.is_open(entry_id):
                count, rest = await self._sweep(entry_id, limit)
                removed += count
                if not rest:
                    await bucket.delete(old)
        return removed

    async def _sweep(self, entry_id: str, limit: float) -> tuple[int, bool]:
        """Remove old objects of an entry; tell how many, and whether younger ones are left."""
        bucket, folder = self._store.bucket, f"data/{entry_id}/"
        there = [each async for each in bucket.list(folder)]
        # The head is read after the listing: what is named by then was put before.
        head = await self._store.catalog.find(entry_id)
        named = set() if head is None else {folder + part.name for part in head.parts}
        loose = [each for each in there if each.name not in named]
        old = [each.name for each in loose if each.modified <= limit]
        await bucket.delete(old)
        return len(old), len(loose) > len(old)
