"""An entry as this process has it open: one file, one set of spans, for all its handles.

It is open as long as a handle, a lease or a commit on its way needs it. Bytes go through
three states: in a writer's backlog (readable from there), in the file (readable from it),
committed (the index says so, and they survive a crash). ``spans`` holds all three.
"""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Callable
from typing import TYPE_CHECKING

import attrs

from cachestream.backends._catalog import Changes, Removed
from cachestream.backends._extents import ExtentTable
from cachestream.backends._external import finish, unlink_external
from cachestream.backends._files import identity_of
from cachestream.backends._format import Counts, Head, KeyRow
from cachestream.backends._leases import LeaseBook
from cachestream.backends._names import variant_of
from cachestream.backends._room import BLOCK
from cachestream.core.representation import Representation
from cachestream.core.spans import Span, SpanSet

if TYPE_CHECKING:
    from cachestream.backends._host import Host
    from cachestream.backends._writer import DiskWriter

__all__ = ["Shared"]

log = logging.getLogger("cachestream.backends.disk")


class Shared:
    """One open entry.

    Args:
        descriptor: Its open data file, locked as in use.
        lock: Its open lock file; None if another process is writing the entry.
        rivals: What was published for its key when it was created; None if it is published.

    Attributes:
        spans: Bytes that can be read.
        verified: Bytes whose sum was checked since the opening, or that were written since.
        unflushed: Bytes that are in a writer's backlog only.
        booked: Room of it that the totals in the index contain.
    """

    def __init__(
        self,
        host: Host,
        entry_id: str,
        head: Head,
        descriptor: int,
        lock: int | None,
        rivals: KeyRow | None,
    ) -> None:
        self.host = host
        self.entry_id = entry_id
        self.head = head
        self.descriptor = descriptor
        self.writable = lock is not None
        self.published = rivals is None
        self.deleted = False
        self.spans, self.verified, self.unflushed = SpanSet(), SpanSet(), SpanSet()
        self.extents = ExtentTable()
        self.leases = LeaseBook(self.let_go)
        self.writers: set[DiskWriter] = set()
        self.handles = 0
        self.allocated = self.booked = 0
        self._lock = lock
        self._rivals = rivals
        self._holds = 0
        self._closed = False
        self._marked = rivals is not None
        self._news = False
        host.open_entries.add(self)

    @property
    def source(self) -> str:
        """The source URL."""
        return self.head.source

    @property
    def counted(self) -> bool:
        """Whether its room counts for the store's limit; the user's own files do not."""
        return self.head.file is None

    @property
    def rival(self) -> str | None:
        """What was published for this variant when the entry was created."""
        variant = variant_of(self.head.representation)
        return None if self._rivals is None else self._rivals.find(variant)

    def load(self, segments: list[tuple[int, bytes]], counts: Counts) -> None:
        """Take over what the index says of a published entry."""
        for number, content in segments:
            self.spans.update(self.extents.load(number, content))
        self.allocated = self.booked = counts.allocated

    # -- room ------------------------------------------------------------

    def blocks_for(self, span: Span) -> int:
        """Return how many bytes of room writing ``span`` takes at most."""
        first, last = span.start // BLOCK * BLOCK, -(-span.stop // BLOCK) * BLOCK
        room = last - first
        # Blocks at the edges are there already if something is stored in them.
        for block in {first, last - BLOCK}:
            if next(self.spans.within(Span(block, block + BLOCK)), None) is not None:
                room -= BLOCK
        return room

    def expect(self, room: int) -> None:
        """Count room that is about to be taken; `measure` corrects it when it is."""
        if self.counted:
            self.host.room.expect(room)
            self.allocated += room

    def measure(self) -> None:
        """Ask the file how much room it takes.

        While there is a backlog nobody can say which part of it is in the file already, so
        what was expected stands.
        """
        if self.counted and not self._closed and not self.unflushed:
            room = os.fstat(self.descriptor).st_blocks * 512
            self.host.room.expect(room - self.allocated)
            self.allocated = room

    # -- committing ------------------------------------------------------

    @property
    def dirty(self) -> bool:
        """Whether something is not committed yet, or on its way."""
        tails = any(writer.has_tail for writer in self.writers)
        return self.extents.dirty or tails or self._news or self._holds > 0

    def mark(self, size: int = 0) -> None:
        """Ask for a commit."""
        self.host.committer.mark(self, size)

    def take_changes(self, *, everything: bool = False) -> Changes:
        """Return what is to be committed; `changes_committed` or `changes_lost` must follow."""
        self._holds += 1
        for writer in self.writers:
            writer.seal_tail()
        self.measure()
        self._marked = True
        news, self._news = self._news or everything, False
        return Changes(
            entry_id=self.entry_id,
            segments=self.extents.take_dirty(everything=everything),
            counts=Counts(self.extents.total, self.allocated),
            head=self.head if news else None,
            file=self.head.file,
        )

    def before_commit(self, changes: Changes) -> tuple[Changes, Callable[[], None]]:
        """Make the data safe before the index speaks of it; runs in the index thread.

        Returns:
            The changes to commit, and what to call on the loop when they are.

        Raises:
            OSError: If the medium fails.
        """
        if self.host.options.durability == "power" and changes.segments:
            getattr(os, "fdatasync", os.fsync)(self.descriptor)
        head = self.head
        # An unpublished file may still lose to another one, and must not take its name.
        if head.file is None or not self.published:
            return changes, _nothing
        final = head.final
        complete = changes.counts.stored == head.representation.complete_length
        if complete and not final and not self.deleted:
            try:
                final = finish(head.file, self.descriptor)
            except OSError as exc:
                # The data is safe where it is; other entries are committed with this one.
                log.warning("%s cannot be given its name: %s", head.file, exc)
        if not final:
            return changes, _nothing
        new = attrs.evolve(head, final=True, identity=identity_of(self.descriptor))
        if new == head:
            return changes, _nothing
        return attrs.evolve(changes, head=new), lambda: self._finished(new)

    def changes_committed(self, changes: Changes, *, hidden: bool) -> None:
        """Note that ``changes`` are in the index; ``hidden`` if the entry is not published."""
        self.host.room.expect(self.booked - changes.counts.allocated)
        self.booked = changes.counts.allocated
        if hidden and self.published and not self.deleted:
            # Another process deleted it, or evicted it before we had it open.
            self.forget_published()
        self._release()

    def changes_lost(self, changes: Changes) -> None:
        """Note that ``changes`` did not get into the index; they stay to be committed."""
        self.extents.mark_dirty(changes.segments)
        self._news = self._news or changes.head is not None
        self._release()

    def set_representation(self, representation: Representation) -> None:
        """Replace what is known of this version; the next commit tells of it."""
        self.head = attrs.evolve(self.head, representation=representation)
        self._news = True

    def set_published(self) -> None:
        """Note that the index shows the entry now."""
        self.published = True
        self._rivals = None
        self.host.live[self.entry_id] = self

    def forget_published(self) -> None:
        """Note that the index does not show the entry any more."""
        self.deleted = self._marked = True
        if self.host.live.get(self.entry_id) is self:
            del self.host.live[self.entry_id]

    # -- its end ---------------------------------------------------------

    def let_go(self, *, force: bool = False) -> None:
        """Close the file if nobody needs it; an unpublished entry vanishes then.

        Args:
            force: Close it even if leases are left.
        """
        needed = self.handles or self.leases or self._holds
        if self._closed or (needed and not force):
            return
        self._closed = True
        host = self.host
        host.committer.forget(self)
        host.open_entries.discard(self)
        if host.live.get(self.entry_id) is self:
            del host.live[self.entry_id]
        gone = self.deleted or not self.published
        if not self.published:
            host.drop_files([Removed(self.entry_id, self.head)], external=False)
            if self.head.file is not None:
                unlink_external(self.head.file, self.entry_id, self.head.identity)
        if gone:
            host.close_later(self.descriptor)
        else:
            os.close(self.descriptor)
        freed = -self.booked if gone else 0
        host.room.expect(self.booked - self.allocated + freed)
        if self._marked:
            host.change_later(host.catalog.settle, self.entry_id, expected=freed)
        if self._lock is not None:
            host.root.unlock(self.entry_id, self._lock)

    def abandon(self) -> None:
        """Close the files and leave all else as it is, as a killed process does."""
        if not self._closed:
            self._closed = True
            self.host.open_entries.discard(self)
            with contextlib.suppress(OSError):
                os.close(self.descriptor)
            if self._lock is not None:
                os.close(self._lock)

    def _release(self) -> None:
        self._holds -= 1
        self.let_go()

    def _finished(self, head: Head) -> None:
        # What is known of the representation may have been replaced meanwhile.
        self.head = attrs.evolve(self.head, final=head.final, identity=head.identity)


def _nothing() -> None:
    """Do nothing."""
