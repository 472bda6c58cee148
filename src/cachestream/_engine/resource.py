"""A live resource: its entry, its readers, its downloads. All mutable stream state is here.

Theory of operation. There is one path from upstream to client: a `Download` writes into
the entry and calls `stored`; a `Reader` waits until the bytes it wants are stored and reads
them from the entry. Everything that happens (a reader waits, moves, leaves; a download ends,
fails, learns something; the program wants all) changes state in one synchronous step and
then calls `Scheduler.replan`, which asks the pure planner what shall run now and starts, extends,
shortens or stops downloads accordingly.

Who waits: readers, each for one byte (`waiters`); learners, for the first head (`obtain` of
an unknown resource); completers, for the last byte (`complete`). Who wakes them: `stored`
wakes the readers of a span; `adopted` wakes learners; `download_ended` and
`download_failed` wake completers. A failure is handed to just those who depend on it.

The order in which a version changes: readers of the old entry are outdated (they go on if
all they want is stored, else they fail), the other downloads are stopped, and only then
is the new entry made. No response mixes two versions, since a reader never changes its entry
but for an overlay of the same version.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Final

import attrs

from cachestream.abc import Entry, EntryRecord, Key
from cachestream.core.decisions import is_fresh, is_linear
from cachestream.core.fields import Fields
from cachestream.core.ranges import RangeSpec, resolve
from cachestream.core.representation import Representation
from cachestream.core.spans import UNBOUNDED, Span, SpanSet
from cachestream.core.urls import display
from cachestream.errors import (
    CacheStreamError,
    ClosedError,
    RangeNotSatisfiableError,
    RepresentationChangedError,
    StoreError,
    TransportError,
    UpstreamTimeoutError,
)
from cachestream.events import (
    DownloadFinished,
    RepresentationChanged,
    ResourceCompleted,
    StoreFailed,
)
from cachestream.settings import StreamSettings

from .checking import fetch_head, validate
from .context import EngineContext
from .download import Download
from .entries import create_entry, lay_ring_over
from .ephemeral import EphemeralEntry
from .holding import HeldEntry
from .reader import Reader
from .scheduling import Scheduler
from .signal import Signal
from .waiters import Waiters

if TYPE_CHECKING:
    from .pool import ResourcePool

__all__ = ["NotSharedError", "Resource"]

logger: Final = logging.getLogger("cachestream.engine")

MAX_CHANGES: Final = 4
"""How many new versions in a row a request puts up with before its first byte."""


class NotSharedError(Exception):
    """The running exchange cannot serve another reader; it needs one of its own."""


class Resource:
    """One resource while it is in use, made and kept by the pool."""

    def __init__(
        self,
        context: EngineContext,
        pool: ResourcePool,
        key: Key,
        source: str,
        settings: StreamSettings,
        *,
        file: str | None = None,
        private: bool = False,
    ) -> None:
        self.context = context
        self.pool = pool
        self.key = key
        self.source = source
        named = context.names.of(key)
        self.url = source if named is None else named.url
        self.refresh = None if named is None else named.refresh
        self.renewing = asyncio.Lock()
        self.settings = settings
        self.file = file
        self.private = private
        self.forwarded = Fields()
        self.representation: Representation | None = None
        self.held: HeldEntry | None = None
        self.readers: dict[Reader, None] = {}  # in the order they came
        self.waiters = Waiters()
        self.retained = 0
        self.used = float("-inf")  # when a shortcut was last taken, by the loop's clock
        self.disposal_pending = False
        self.closed = False
        self.progressed = float("-inf")
        self.last_error: Exception | None = None
        self._loaded = False
        self._lock = asyncio.Lock()
        self._asking = asyncio.Lock()
        self.scheduler = Scheduler(self)
        self.changed = Signal()
        self._learned = Signal()
        self._completed = False

    # -- what it is -------------------------------------------------------

    @property
    def shown(self) -> str:
        """The source as logs may have it: no secrets."""
        return display(self.source)

    @property
    def entry(self) -> Entry | None:
        """The entry of the current version, None until something is known or stored."""
        return None if self.held is None else self.held.entry

    @property
    def spans(self) -> SpanSet:
        """Which bytes of the current version can be read."""
        return SpanSet() if self.held is None else self.held.entry.spans

    @property
    def downloads(self) -> dict[int, Download]:
        """The running downloads by number."""
        return self.scheduler.downloads

    @property
    def complete_length(self) -> int | None:
        """Length of the current version, None while unknown."""
        return None if self.representation is None else self.representation.complete_length

    @property
    def is_complete(self) -> bool:
        """Whether every byte is held."""
        return self.held is not None and self.spans.total == self.complete_length

    @property
    def is_committed(self) -> bool:
        """Whether every byte is held and survives."""
        return self._completed and self.is_complete

    @property
    def is_ephemeral(self) -> bool:
        """Whether bytes pass through a ring instead of the store."""
        return isinstance(self.entry, EphemeralEntry)

    @property
    def linear(self) -> bool:
        """Whether the content comes in one exchange only."""
        return self.representation is not None and is_linear(
            self.representation, trust_weak=self.settings.trust_weak_validators
        )

    # -- obtaining --------------------------------------------------------

    async def ready(self) -> None:
        """Open what the store holds, once."""
        if self._loaded:
            return
        async with self._lock:
            if not self._loaded:
                await self._load()
                self._loaded = True

    async def _load(self) -> None:
        await self.pool.settled(self.key)
        try:
            for record in await self.context.store.select(self.key):
                if record.representation.matches_request(self.forwarded):
                    await self._open(record)
                    return
        except StoreError as error:
            logger.warning("the store failed to open %s: %s", self.shown, error)
            self.context.emit(StoreFailed(self.source, error))

    async def _open(self, record: EntryRecord) -> None:
        entry = await self.context.store.open(record.entry_id)
        self.held = HeldEntry(self.context, entry)
        self.representation = entry.representation
        self._completed = self.is_complete
        if not entry.writable and not self._completed:
            lay_ring_over(self, entry)

    def obtain_nowait(self, spec: RangeSpec | None) -> Reader | None:
        """Return a reader whose first byte is stored, or None if something must be awaited."""
        if self.held is None or self.closed or self._unshareable or not self.is_current:
            return None
        span = self._resolve(spec)
        if span and span.start not in self.held.entry.spans:
            return None
        reader = self._new_reader(spec)
        reader.begun = True
        return reader

    async def obtain(self, spec: RangeSpec | None) -> Reader:
        """Return a reader of the range whose first byte can be read.

        Raises:
            RangeNotSatisfiableError: If the range lies past the end.
            CacheStreamError: If the first byte cannot be had.
            NotSharedError: If the running exchange cannot be joined.
        """
        await self.ready()
        await self._make_current()
        for _ in range(MAX_CHANGES):
            try:
                if self.held is None:
                    await self._learn(spec)
                if self._unshareable:
                    raise NotSharedError
                return await self._begin(spec)
            except RepresentationChangedError:
                continue
        raise RepresentationChangedError(
            "the origin changes faster than it can be read", url=self.source
        )

    @property
    def is_current(self) -> bool:
        """Whether what is held may be used without asking the origin about it first."""
        settings = self.settings
        if settings.validation == "never" or settings.offline or self.representation is None:
            return True
        return settings.validation == "stale" and is_fresh(
            self.representation, self.context.clock()
        )

    async def _make_current(self) -> None:
        """Ask the origin about what is held, if the settings want that, one at a time.

        A check that fails changes nothing: what is stored is served (offline first).
        """
        if self.is_current or self.held is None:
            return
        known = self.representation
        async with self._asking:
            if self.representation is not known:
                return  # another request has just asked
            try:
                valid = await self.validate(force=True)
            except TransportError as error:
                logger.info("could not validate %s: %s", self.shown, error)
                return
        if valid is False:
            await self.reset(outdated=True)

    async def _begin(self, spec: RangeSpec | None) -> Reader:
        reader = self._new_reader(spec)
        try:
            await reader.wait_begun()
        except BaseException:
            reader.close()
            raise
        return reader

    @property
    def _unshareable(self) -> bool:
        """Whether bytes of a single exchange have been forgotten that a new reader needs."""
        entry = self.entry
        return isinstance(entry, EphemeralEntry) and entry.trimmed and self.linear

    def _new_reader(self, spec: RangeSpec | None) -> Reader:
        if self.held is None or self.closed:
            raise ClosedError("the stream is closed", url=self.source)
        span = self._resolve(spec)
        reader = Reader(self, self.held, span, self.scheduler.follow(span.start))
        self.readers[reader] = None
        self.pool.retain_resource(self)
        return reader

    def _resolve(self, spec: RangeSpec | None) -> Span:
        """Return the bytes a range names; without a known length a range is ignored."""
        length = self.complete_length
        if length is None:
            return Span(0, UNBOUNDED)
        if spec is None:
            return Span(0, length)
        spans = resolve((spec,), length)
        if not spans:
            raise RangeNotSatisfiableError(
                f"the range {spec} lies past the end",
                complete_length=length,
                url=self.source,
            )
        return spans[0]

    async def _learn(self, spec: RangeSpec | None) -> None:
        """Wait until a first exchange has brought a head, and an entry for its bytes."""
        if self.closed:
            raise ClosedError("the stream is closed", url=self.source)
        self.scheduler.check_upstream(Span(0, 0))
        self.pool.retain_resource(self)
        probe = None
        try:
            probe = self.scheduler.probe(spec)
            if not await self._learned.wait(self.settings.request_timeout):
                raise UpstreamTimeoutError(
                    "the origin did not answer in time", url=self.source
                ) from self.last_error
        finally:
            self.scheduler.probed(probe)  # its reader comes in this very step
            self.pool.release_resource(self)

    def use_url(self, url: str) -> None:
        """Ask this URL from now on; what earlier ones were refused with is forgotten."""
        self.url = url
        self.scheduler.remember_refusal(None)
        named = self.context.names.of(self.key)
        if named is not None:
            named.url = url

    # -- called by readers ------------------------------------------------

    def reader_waits(self, reader: Reader) -> None:
        """Make sure that somebody fetches what ``reader`` waits for."""
        if reader.entry is not self.entry:
            reader.outdate()
            return
        self.scheduler.check_upstream(Span(reader.position, reader.remaining.stop))
        self.scheduler.reader_waits(reader)

    def reader_closed(self, reader: Reader) -> None:
        """Forget a reader; what it was fetching is finished as far as it is worth it."""
        self.readers.pop(reader, None)
        self.scheduler.reader_leaves(reader)
        if isinstance(reader.entry, EphemeralEntry):
            reader.entry.trim()
            self._drop_ephemeral()
        self.scheduler.replan()
        reader.held.release()
        self.pool.release_resource(self)

    def _drop_ephemeral(self) -> None:
        """After the last reader of a ring nothing is left to keep: forget what is known."""
        entry = self.entry
        if not isinstance(entry, EphemeralEntry) or self.scheduler.completers:
            return
        if any(reader.entry is entry for reader in self.readers):
            return
        self.scheduler.stop_all()
        held, self.held = self.held, None
        self.representation = None
        self._loaded = entry.base is None
        if held is not None:
            held.release()

    # -- called by downloads ----------------------------------------------

    def stored(self, span: Span) -> None:
        """Note that ``span`` of the current entry can be read now."""
        self.progressed = asyncio.get_running_loop().time()
        self.last_error = None
        self.waiters.wake(span)
        self.changed.fire()

    async def adopt(self, download: Download, representation: Representation) -> None:
        """Make an entry for the first version seen, and let everybody use it."""
        held = await create_entry(self, representation)
        self.held = held
        self.representation = held.entry.representation
        self._completed = False
        download.use(held)
        self.scheduler.remember_refusal(None)
        self._learned.fire()
        self.changed.fire()

    async def supersede(self, download: Download, representation: Representation) -> None:
        """Give up the version held so far for another one (engine rule 9)."""
        old, self.held = self.held, None
        self.representation = None
        self.scheduler.forget_trails()
        self.scheduler.stop_others(download)
        for reader in list(self.readers):
            reader.outdate()
        self.context.emit(RepresentationChanged(self.source))
        try:
            await download.leave_entry()
            await self.adopt(download, representation)
        finally:
            if old is not None:
                old.release()

    async def learn(self, representation: Representation) -> None:
        """Take over what a later exchange said of the same version."""
        if self.held is None or representation == self.representation:
            return
        self.representation = representation
        try:
            await self.held.entry.update(representation)
        except StoreError as error:
            self.context.emit(StoreFailed(self.source, error))

    async def learn_length(self, length: int) -> None:
        """An exchange of unknown length ended cleanly: now the length is known."""
        if self.representation is None:
            return
        await self.learn(attrs.evolve(self.representation, complete_length=length))
        self.waiters.wake(Span(length, UNBOUNDED))
        self.changed.fire()

    def hand_over(self, error: StoreError) -> HeldEntry:
        """The store fails: go on through a ring over what is stored, at the next byte."""
        assert self.held is not None
        logger.warning("the store failed for %s, going on from memory: %s", self.shown, error)
        self.context.emit(StoreFailed(self.source, error))
        return lay_ring_over(self, self.held.entry)

    def download_ended(self, download: Download) -> None:
        """Forget a download that reached its end."""
        self.scheduler.ended(download)
        span = Span(download.began, download.position)
        self.context.emit(DownloadFinished(self.source, span, download.received))
        self.scheduler.replan()
        self.changed.fire()

    def download_failed(self, download: Download, error: CacheStreamError) -> None:
        """Hand a final failure to all who depend on this download."""
        self.scheduler.ended(download)
        self.last_error = error
        for reader in self.dependents(download):
            reader.fail(error)
        if self.held is None or not self.downloads:
            self._learned.fail(error)
        self.changed.fail(error)
        self.scheduler.stop_filling()
        if any(reader.waiting and reader.error is None for reader in self.readers):
            self.scheduler.replan_later()

    def attempt_failed(self, download: Download, error: CacheStreamError, tries: int) -> None:
        """Note a failure that will be tried again; who has not begun yet need not wait long."""
        self.last_error = error
        if tries >= download.quick_tries:
            for reader in self.dependents(download):
                if not reader.begun:
                    reader.fail(error)

    def dependents(self, download: Download) -> list[Reader]:
        """Return the readers that wait for a byte of this download."""
        lease = Span(download.position, max(download.position, download.stop))
        return [
            reader
            for reader in self.readers
            if reader.waiting and (reader.position in lease or self.linear)
        ]

    def completed(self) -> None:
        """Note completion once all bytes are committed."""
        if self._completed or not self.is_complete or self.is_ephemeral:
            return
        self._completed = True
        for reader in self.readers:
            self.context.ahead.release(reader)  # nothing is left to fetch for it
        self.context.emit(ResourceCompleted(self.source, self.complete_length or 0))
        self.changed.fire()

    # -- asking without content -------------------------------------------

    async def head(self) -> Representation:
        """Return what is known of the resource, asking the origin once if nothing is.

        Raises:
            CacheStreamError: If nothing is known and the origin does not say.
        """
        await self.ready()
        if self.representation is not None:
            return self.representation
        async with self._asking:
            if self.representation is None:
                self.scheduler.check_upstream(Span(0, 0))
                found = await fetch_head(self)
                if self.representation is None:
                    self.representation = found
            return self.representation

    async def validate(self, *, force: bool = False) -> bool | None:
        """Ask the origin whether what is held is current; None if there is nothing to ask about.

        Without ``force`` an answer that its origin called fresh is taken for current.

        Raises:
            TransportError: If the origin fails; nothing that is held is touched.
        """
        await self.ready()
        held, known = self.held, self.representation
        if held is None or known is None or self.downloads or self.is_ephemeral:
            return None
        if not force and is_fresh(known, self.context.clock()):
            return True
        valid, fresher = await validate(self, known)
        if valid and self.held is held:
            await self.learn(fresher)
        return valid

    # -- completing -------------------------------------------------------

    async def complete(self) -> None:
        """Fetch every byte; return when all are stored.

        Raises:
            CacheStreamError: If that is not possible.
        """
        await self.ready()
        self.scheduler.completers += 1
        try:
            while not self._completed:
                await self._complete_some()
        finally:
            self.scheduler.completers -= 1

    async def _complete_some(self) -> None:
        """Go on towards the last byte until something changes."""
        if self.closed:
            raise ClosedError("the stream was disposed", url=self.source)
        if self.held is None:
            await self._learn(None)
        if self.is_ephemeral:
            raise StoreError(
                "this content cannot be stored",
                url=self.source,
                hint="It is marked no-store, has no end, or the store is failing.",
            )
        if self.is_complete and not self.scheduler.tasks:
            self.completed()
            return
        if not self.is_complete:
            self.scheduler.check_upstream(next(self.spans.gaps(Span(0, UNBOUNDED))))
            self.scheduler.replan()
        await self.changed.wait()

    # -- pausing, resetting, closing --------------------------------------

    def pause(self) -> None:
        """Stop downloading until somebody retains the resource again."""
        self.scheduler.paused = True
        self.scheduler.stop_all()
        self.changed.fire()

    def resume(self) -> None:
        """Go on after a pause."""
        if self.scheduler.paused:
            self.scheduler.paused = False
            self.scheduler.replan()

    async def reset(self, *, outdated: bool = False) -> None:
        """Forget and delete everything held; readers that have begun fail.

        Args:
            outdated: There is a new version: readers that have all they want go on.
        """
        await self.ready()
        held, self.held = self.held, None
        self.representation = None
        self._completed = False
        self.scheduler.remember_refusal(None)
        self.scheduler.stop_all()
        error = RepresentationChangedError("the cache was reset", url=self.source)
        for reader in list(self.readers):
            if outdated:
                reader.outdate()
            else:
                reader.fail(error)
        self._learned.fail(error)
        try:
            await self.scheduler.wait_idle()
            if held is not None and held.entry.entry_id:
                await self.context.store.delete(held.entry.entry_id)
        except BaseException:
            if held is not None:  # nobody else would: it is not ours any more
                held.delete_on_close = True
                held.release()
            raise
        if held is not None:
            await held.arelease()
        self.changed.fire()

    async def aclose(self) -> None:
        """Stop everything and close the entry; waiting readers fail. Idempotent."""
        if self.closed:
            return
        self.closed = True
        self.scheduler.close()
        error = ClosedError("the stream was disposed", url=self.source)
        for reader in list(self.readers):
            reader.fail(error)
        self._learned.fail(error)
        self.changed.fail(error)
        await self.scheduler.wait_idle()
        async with self._lock:  # a load that is under way ends first
            self._loaded = True
        if self.held is not None:
            await self._close_entry(self.held)
            self.held = None

    async def _close_entry(self, held: HeldEntry) -> None:
        settings = self.settings
        keep = settings.save_metadata if self.is_complete else settings.save_partial_cache
        if not keep and self.is_complete:
            keep = await self._is_external(held.entry.entry_id)
        held.delete_on_close = not keep and not self.is_ephemeral
        await held.arelease()

    async def _is_external(self, entry_id: str) -> bool:
        """Tell whether an entry's data lies in a file that the program named; it stays."""
        try:
            records = await self.context.store.select(self.key)
        except StoreError:
            return True  # in doubt nothing is deleted
        return any(each.file is not None for each in records if each.entry_id == entry_id)
