"""Answers from a resource that is held as a whole, in the fewest steps there can be.

A reader takes its place among others and lets downloads be planned. Where every byte is
held and committed there is nothing to plan, and a request that is answered within one turn
of the event loop needs no place.

What was found out is good for a second of the content's age, and for blocks of the file: that
they are stored, checked, in the file and in memory. It is forgotten at once when the version
changes, the entry is replaced, or any byte of it is given up.
"""

from __future__ import annotations

import asyncio
import weakref
from typing import Final

from cachestream.abc import END, Body, End, FileRegion, Piece, Shortcut, Slice
from cachestream.core.decisions import Outcome
from cachestream.core.representation import Representation
from cachestream.core.spans import Span
from cachestream.events import RequestAnswered

from .heads import HeadMaker
from .holding import HeldEntry
from .resource import Resource

__all__ = ["HeldShortcut", "shortcut_to"]

Line = tuple[str, str]

BLOCK: Final = 16
"""Binary logarithm of the size of a block of the content, in bytes: 64 KiB."""


def shortcut_to(
    resource: Resource, heads: HeadMaker, more: tuple[Line, ...]
) -> HeldShortcut | None:
    """Return a shortcut to what a resource holds, None unless that is all of it.

    Args:
        resource: A live resource that the requests may have.
        heads: Makes the fields.
        more: Further fields of every answer.
    """
    representation = resource.representation
    if representation is None or not resource.is_committed or not resource.is_current:
        return None
    length = representation.complete_length
    return HeldShortcut(resource, representation, length, heads, more) if length else None


class HeldShortcut(Shortcut):
    """Serves one version of a resource, as long as that is the current one.

    It keeps neither the resource nor its entry from ending.
    """

    def __init__(
        self,
        resource: Resource,
        representation: Representation,
        length: int,
        heads: HeadMaker,
        more: tuple[Line, ...],
    ) -> None:
        self._resource = weakref.ref(resource)
        self._representation = representation
        self._length = length
        self._heads = heads
        self._more = more
        self._clock = resource.context.clock
        self._counters = resource.context.counters
        self._born = heads.born(representation)
        self._whole = heads.make(resource, representation, 200)
        self._part = heads.make(resource, representation, 206)
        self._extra: tuple[Line, ...] = ()
        self._held: weakref.ref[HeldEntry] | None = None
        self._since = self._until = 0.0
        self._losses = 0
        self._sure: set[int] = set()
        self._descriptor = self._shift = 0
        self._tells = False

    @property
    def alive(self) -> bool:
        """Whether the version is still the current one of a live resource."""
        resource = self._resource()
        return resource is not None and self._is_live(resource)

    def _is_live(self, resource: Resource) -> bool:
        return resource.representation is self._representation and not resource.closed

    def take(self, first: int | None, last: int | None, limit: int) -> Slice | None:
        """Return the bytes of one more request, unless they are not at hand any more."""
        length, resource = self._length, self._resource()
        start = first or 0
        stop = length if last is None or last >= length else last + 1
        size = stop - start
        if resource is None or not 0 < size <= limit or not self._looks(resource):
            return None
        sure = self._sure
        for block in range(start >> BLOCK, ((stop - 1) >> BLOCK) + 1):
            if block not in sure and not self._assure(resource, block):
                return None
        head = self._whole if first is None else self._part
        counters = self._counters
        counters.requests += 1
        counters.hits += 1
        counters.bytes_from_store += size
        if self._tells:
            self._tell(resource, head.status)
        return Slice(head, self._extra, start, stop, length, self._descriptor, start + self._shift)

    def _looks(self, resource: Resource) -> bool:
        """Tell whether answers may be given; what was found out may have to be found anew."""
        held, known = resource.held, self._held
        if held is None or not self._is_live(resource):
            return False
        if (
            known is not None
            and known() is held
            and self._since <= self._clock() < self._until
            and held.entry.spans.losses == self._losses
        ):
            return True
        return self._look(resource, held)

    def _look(self, resource: Resource, held: HeldEntry) -> bool:
        """Begin another second."""
        self._sure.clear()
        self._held = None
        if not resource.is_current:
            return False
        now = self._clock()
        age = max(0, int(now - self._born))
        self._since, self._until = now, self._born + age + 1
        self._losses = held.entry.spans.losses
        own = self._heads.own_fields(resource, self._representation, Outcome.HIT)
        self._extra = (*own, *self._more)
        self._tells = resource.context.tells_answers
        self._held = weakref.ref(held)
        resource.used = asyncio.get_running_loop().time()
        return True

    def _assure(self, resource: Resource, block: int) -> bool:
        """Find out whether one block can be sent from the file at once."""
        assert resource.held is not None
        start = block << BLOCK
        stop = min(start + (1 << BLOCK), self._length)
        region = resource.held.entry.region_nowait(Span(start, stop))
        if region is None or region.length != stop - start:
            return False
        place = (region.descriptor, region.offset - start)
        if self._sure and place != (self._descriptor, self._shift):
            self._sure.clear()
            return False  # a store of many files
        self._descriptor, self._shift = place
        self._sure.add(block)
        return True

    def _tell(self, resource: Resource, status: int) -> None:
        event = RequestAnswered(resource.source, status, Outcome.HIT.value)
        resource.context.emit(event)

    def rest(self, part: Slice, sent: int) -> Body:
        """Return the body of what is left of ``part``."""
        resource = self._resource()
        assert resource is not None  # as it was in `take`, just now
        assert resource.held is not None
        return _Rest(resource.held, part, sent)


class _Rest(Body):
    """Bytes of a file that are sent by and by."""

    def __init__(self, held: HeldEntry, part: Slice, sent: int) -> None:
        start = part.start + sent
        self._held = held.retain()
        self._lease = held.entry.lease(Span(start, part.stop))
        self._descriptor, self._offset = part.descriptor, part.offset + sent
        self._left = part.stop - start
        self._closed = False

    def take_nowait(self, limit: int) -> Piece | End:
        length = min(limit, self._left)
        if not length:
            return END
        region = FileRegion(self._descriptor, self._offset, length)
        self._offset += length
        self._left -= length
        return region

    async def next(self, limit: int) -> Piece | End:
        return self.take_nowait(limit)

    def close(self) -> None:
        """Let the bytes and the entry go; idempotent."""
        if not self._closed:
            self._closed = True
            self._lease.release()
            self._held.release()
