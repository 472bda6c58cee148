"""Counts who uses an open entry, and closes it after the last."""

from __future__ import annotations

import asyncio
import logging
from typing import Final

from cachestream.abc import Entry
from cachestream.errors import CacheStreamError, ClosedError

from .context import EngineContext

__all__ = ["HeldEntry"]

logger: Final = logging.getLogger("cachestream.engine")


class HeldEntry:
    """An open entry with a count; it is closed in a task of the manager when that reaches 0."""

    def __init__(self, context: EngineContext, entry: Entry) -> None:
        self.entry = entry
        self._context = context
        self._count = 1
        self.delete_on_close = False

    def retain(self) -> HeldEntry:
        """Add a user."""
        self._count += 1
        return self

    def release(self) -> None:
        """Take a user away; after the last the entry is closed in the background."""
        if self._drop():
            try:
                self._context.spawn(self._close(), "close entry")
            except ClosedError:
                logger.error("an entry was still in use when the cache closed")

    async def arelease(self) -> None:
        """Take a user away, and wait for the close if it was the last.

        The close goes on if the waiting is cancelled.
        """
        if not self._drop():
            return
        try:
            closing = self._context.spawn(self._close(), "close entry")
        except ClosedError:
            await self._close()
        else:
            await asyncio.wait((closing,))

    def _drop(self) -> bool:
        self._count -= 1
        return self._count == 0

    async def _close(self) -> None:
        try:
            await self.entry.aclose()
            if self.delete_on_close and self.entry.entry_id:
                await self._context.store.delete(self.entry.entry_id)
        except CacheStreamError:
            logger.warning("an entry could not be closed cleanly", exc_info=True)
