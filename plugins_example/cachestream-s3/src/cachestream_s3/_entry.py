"""Handles: what the engine holds of an open entry."""

from __future__ import annotations

from cachestream.abc import Buffer, Entry, Lease, SpanWriter
from cachestream.core.representation import Representation
from cachestream.core.spans import Span, SpanSet
from cachestream.errors import CacheStreamError, ClosedError, StoreBusyError

from cachestream_s3._open import OpenEntry
from cachestream_s3._writer import S3Writer

__all__ = ["S3Entry", "S3Lease"]


class S3Lease(Lease):
    """Keeps bytes from being discarded."""

    def __init__(self, shared: OpenEntry, span: Span) -> None:
        self.span = span
        self._shared = shared
        shared.leases.add(self)

    def release(self) -> None:
        """End the promise; idempotent."""
        self._shared.leases.discard(self)


class S3Entry(Entry):
    """One handle of an entry; all handles in one store share its bytes."""

    def __init__(self, shared: OpenEntry) -> None:
        self.entry_id, self.key, self.source = shared.entry_id, shared.key, shared.source
        self.writable = shared.writable
        self._shared = shared
        self._writers: list[S3Writer] = []
        self._closed = False
        shared.handles += 1
        shared.store.handles.add(self)

    @property
    def representation(self) -> Representation:
        """Which version this entry holds."""
        return self._shared.representation

    @property
    def spans(self) -> SpanSet:
        """Which bytes can be read now, from memory or from the bucket."""
        return self._shared.spans

    def read_nowait(self, span: Span) -> Buffer | None:
        """Return the bytes if all of them are in memory."""
        self._check()
        return self._shared.read_nowait(span)

    async def read(self, span: Span) -> Buffer:
        """Return the bytes, checked against their sums."""
        self._check()
        return await self._shared.read(span)

    def lease(self, span: Span) -> Lease:
        """Keep stored bytes where they are."""
        self._check()
        return S3Lease(self._shared, span)

    def writer(self, position: int) -> SpanWriter:
        """Return a writer."""
        self._check()
        if not self.writable:
            raise StoreBusyError("another store here is writing this entry", url=self.source)
        writer = S3Writer(self._shared, position)
        self._writers.append(writer)
        return writer

    async def publish(self) -> None:
        """Make the entry visible to all nodes."""
        self._check()
        await self._shared.store.publish(self._shared)

    async def update(self, representation: Representation) -> None:
        """Replace what is known of the version."""
        self._check()
        shared = self._shared
        if representation != shared.representation:
            shared.representation = representation
            shared.dirty = True
            await shared.commit()

    async def discard(self, span: Span) -> int:
        """Forget unleased bytes."""
        self._check()
        return await self._shared.discard(span)

    async def aclose(self) -> None:
        """Commit, and give the handle up; again after a cancelled attempt."""
        self._closed = True
        shared = self._shared
        if self not in shared.store.handles:
            return
        failure: CacheStreamError | None = None
        for close in [*(writer.aclose for writer in self._writers), self._commit]:
            try:
                await close()
            except CacheStreamError as exc:
                failure = exc  # the others are closed all the same
        if self in shared.store.handles:
            shared.store.handles.discard(self)
            shared.handles -= 1
            if shared.handles == 0:
                shared.store.left(shared)
        if failure is not None:
            raise failure

    async def _commit(self) -> None:
        if not self._shared.store.closed:
            await self._shared.commit()

    def _check(self) -> None:
        self._shared.store.check_open()
        if self._closed:
            raise ClosedError("this entry is closed", url=self.source)
