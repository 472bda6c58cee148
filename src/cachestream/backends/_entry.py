"""A handle of an open entry of the disk store."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from cachestream.abc import Buffer, Entry, FileRegion, Lease, SpanWriter
from cachestream.backends import _reading
from cachestream.backends._discarding import discard
from cachestream.backends._shared import Shared
from cachestream.backends._writer import DiskWriter
from cachestream.core.representation import Representation
from cachestream.core.spans import Span, SpanSet
from cachestream.errors import ClosedError, EntryNotFoundError, StoreBusyError

if TYPE_CHECKING:
    from cachestream.backends._host import Host

__all__ = ["DiskEntry"]


class DiskEntry(Entry):
    """One handle; all handles of an entry in one process share its file and its spans."""

    def __init__(self, host: Host, shared: Shared) -> None:
        self.entry_id = shared.entry_id
        self.key, self.source = shared.head.key, shared.head.source
        self.writable = shared.writable
        self.shared = shared
        self._host = host
        self._writers: list[DiskWriter] = []
        self._closed = False
        shared.handles += 1

    @property
    def representation(self) -> Representation:
        """Which version this entry holds, as last updated."""
        return self.shared.head.representation

    @property
    def spans(self) -> SpanSet:
        """Which bytes can be read now."""
        return self.shared.spans

    def read_nowait(self, span: Span) -> Buffer | None:
        """Return the bytes of ``span`` if they are verified and in memory."""
        self._check()
        return _reading.read_nowait(self.shared, span)

    async def read(self, span: Span) -> Buffer:
        """Return the bytes of ``span``, checking them first if that was not done yet."""
        self._check()
        return await _reading.read(self.shared, span)

    def region_nowait(self, span: Span) -> FileRegion | None:
        """Return where the verified start of ``span`` lies in the data file, if it is in memory."""
        self._check()
        return _reading.region_nowait(self.shared, span)

    def lease(self, span: Span) -> Lease:
        """Keep stored bytes of ``span`` where they are, and the file open, until it ends."""
        self._check()
        return self.shared.leases.take(span)

    def writer(self, position: int) -> SpanWriter:
        """Return a writer whose first byte goes to ``position``."""
        self._check_writable()
        writer = DiskWriter(self.shared, position)
        self._writers.append(writer)
        return writer

    async def publish(self) -> None:
        """Make the entry visible in place of the same variant's, with all that is flushed."""
        self._check_writable()
        shared, host = self.shared, self._host
        if shared.published:
            return
        if shared.deleted:
            raise EntryNotFoundError("this entry was deleted", url=self.source)
        changes = shared.take_changes(everything=True)
        await asyncio.shield(host.publish(shared, changes))

    async def update(self, representation: Representation) -> None:
        """Replace what is known of the same version."""
        self._check_writable()
        shared = self.shared
        shared.set_representation(representation)
        if shared.published and not shared.deleted:
            # Every answer for a part brings its dates: worth a commit, but not one of its own.
            shared.mark()

    async def discard(self, span: Span) -> int:
        """Forget the unleased bytes of ``span``; external files keep their blocks."""
        self._check_writable()
        return await discard(self.shared, span)

    async def aclose(self) -> None:
        """Commit, and give the handle up."""
        if self._closed:
            return
        self._closed = True
        self._host.handles.discard(self)
        shared = self.shared
        if self._host.stopped:
            return
        try:
            for writer in self._writers:
                await writer.aclose()
            if shared.published and (shared.dirty or self._host.committer.has(shared)):
                await self._host.committer.flush()
        finally:
            shared.handles -= 1
            shared.let_go()

    def _check(self) -> None:
        if self._closed or self._host.stopped:
            raise ClosedError("this entry is closed", url=self.source)

    def _check_writable(self) -> None:
        self._check()
        if not self.writable:
            raise StoreBusyError("another process is writing this entry", url=self.source)
