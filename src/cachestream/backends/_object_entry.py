"""A handle of an entry of the objects store."""

from __future__ import annotations

from cachestream.abc import Buffer, Entry, Key, Lease, SpanWriter
from cachestream.backends._object_open import OpenEntry
from cachestream.backends._object_writer import ObjectsWriter
from cachestream.core.representation import Representation
from cachestream.core.spans import Span, SpanSet
from cachestream.errors import ClosedError, NotStoredError, StoreBusyError

__all__ = ["ObjectsEntry"]


class ObjectsEntry(Entry):
    """A handle of an open entry."""

    def __init__(self, shared: OpenEntry) -> None:
        self.entry_id, self.source = shared.entry_id, shared.source
        self.key: Key = shared.record.key
        self.writable = shared.writable
        self._shared = shared
        self._closed = False
        self._writers: list[ObjectsWriter] = []
        shared.handles += 1
        shared.store.handles.add(self)

    @property
    def representation(self) -> Representation:
        """Which version this entry holds."""
        return self._shared.representation

    @property
    def spans(self) -> SpanSet:
        """Which bytes can be read now."""
        return self._shared.spans

    def read_nowait(self, span: Span) -> Buffer | None:
        """Return the bytes of ``span`` if they are in memory."""
        self._check()
        pieces, position = [], span.start
        while position < span.stop:
            found = self._shared.at(position)
            if found is None:
                return None
            stop = min(found[0], span.stop)
            piece = self._shared.take(found[1], Span(position, stop))
            if piece is None:
                return None
            pieces.append(piece)
            position = stop
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    async def read(self, span: Span) -> Buffer:
        """Return the bytes of ``span``."""
        self._check()
        shared, pieces, position = self._shared, [], span.start
        while position < span.stop:
            missing = next(shared.spans.gaps(span), None)
            found = None if missing else shared.at(position)
            if found is None:
                raise NotStoredError(
                    f"bytes {missing or span} are not stored", span=missing, url=self.source
                )
            stop = min(found[0], span.stop)
            pieces.append(await shared.fetch(found[1], Span(position, stop)))
            position = stop
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def lease(self, span: Span) -> Lease:
        """Keep stored bytes of ``span`` until the lease ends."""
        self._check()
        return self._shared.leases.take(span)

    def writer(self, position: int) -> SpanWriter:
        """Return a writer whose first byte goes to ``position``."""
        self._check_writable()
        writer = ObjectsWriter(self._shared, position)
        self._writers.append(writer)
        return writer

    async def publish(self) -> None:
        """Make the entry visible in place of the same variant's."""
        self._check()
        await self._shared.store.publish(self._shared)

    async def update(self, representation: Representation) -> None:
        """Replace what is known of this version."""
        self._check_writable()
        self._shared.representation = representation
        self._shared.dirty = True
        await self._shared.commit()

    async def discard(self, span: Span) -> int:
        """Forget the unleased bytes of ``span``; objects of which nothing is left go."""
        self._check_writable()
        shared = self._shared
        async with shared.lock:
            gone = sum(shared.forget(part) for part in list(shared.leases.unleased(span)))
            if gone:
                shared.dirty = True
                await shared.thin_out()
                await shared.write_record()
        return gone

    async def aclose(self) -> None:
        """Commit, and give the handle up."""
        if self._closed:
            return
        self._closed = True
        shared = self._shared
        shared.store.handles.discard(self)
        try:
            if not shared.store.dead:
                for writer in self._writers:
                    await writer.flush(again=False)
                await shared.commit()
        finally:
            for writer in self._writers:
                writer.leave()
            shared.handles -= 1
            shared.let_go()

    def _check(self) -> None:
        self._shared.store.check_open()
        if self._closed:
            raise ClosedError("this entry is closed", url=self.source)

    def _check_writable(self) -> None:
        self._check()
        if not self.writable:
            raise StoreBusyError("another store is writing this entry", url=self.source)
