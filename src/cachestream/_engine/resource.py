"""A live resource: its entry, its readers, its downloads. All mutable stream state is here.

Theory of operation. There is one path from upstream to client: a `Download` writes into
the entry and calls `stored`; a `Reader` waits until the bytes it wants are stored and reads
them from the entry. Everything that happens (a reader waits, moves, leaves; a download ends,
fails, learns something; the program wants all) changes state in one synchronous step and
then calls `replan`, which asks the pure planner what shall run now and starts, extends,
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
from cachestream.core.decisions import is_fresh, is_linear, is_storable
from cachestream.core.fields import Fields
from cachestream.core.planning import (
    Extend,
    PlanState,
    Running,
    Shorten,
    Start,
    Stop,
    Want,
    plan,
)
from cachestream.core.ranges import RangeSpec, resolve
from cachestream.core.representation import Representation
from cachestream.core.spans import UNBOUNDED, Span, SpanSet
from cachestream.errors import (
    CacheStreamError,
    ClosedError,
    NotStoredError,
    RangeNotSatisfiableError,
    RepresentationChangedError,
    StoreError,
    UpstreamTimeoutError,
)
from cachestream.events import (
    DownloadFinished,
    DownloadStarted,
    RepresentationChanged,
    ResourceCompleted,
    StoreFailed,
)
from cachestream.settings import KIB, MIB, StreamSettings

from .checking import fetch_head, validate
from .context import EngineContext
from .download import Download
from .ephemeral import EphemeralEntry
from .holding import HeldEntry
from .reader import Reader
from .waiters import Waiters

if TYPE_CHECKING:
    from .pool import ResourcePool

__all__ = ["NotSharedError", "Resource"]

logger: Final = logging.getLogger("cachestream.engine")

REUSE_WINDOW: Final = MIB
"""How far past a download a reader waits for it when the setting says adaptive."""

KEEP: Final = 256 * KIB
"""What is worth finishing of a download that nobody wants while others wait."""

LEAST_WANT: Final = 256 * KIB
"""Least that a reader wants of what was asked for, so that no request is for crumbs."""

TRAILS: Final = 16
"""How many ends of earlier readers are remembered, to recognise one that goes on."""

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
        self.url = source
        self.settings = settings
        self.file = file
        self.private = private
        self.forwarded = Fields()
        self.representation: Representation | None = None
        self.held: HeldEntry | None = None
        self.readers: set[Reader] = set()
        self.downloads: dict[int, Download] = {}
        self.tasks: set[asyncio.Task[None]] = set()
        self.waiters = Waiters()
        self.retained = 0
        self.paused = False
        self.disposal_pending = False
        self.closed = False
        self.progressed = float("-inf")
        self.last_error: Exception | None = None
        self.refusal: CacheStreamError | None = None
        self._refused_until = 0.0
        self._loaded = False
        self._lock = asyncio.Lock()
        self._learners: set[asyncio.Future[None]] = set()
        self._watchers: set[asyncio.Future[None]] = set()
        self._completers = 0
        self._fill = False
        self._completed = False
        self._trails: dict[int, int] = {}
        self._idents = 0
        self._timer: asyncio.TimerHandle | None = None

    # -- what it is -------------------------------------------------------

    @property
    def entry(self) -> Entry | None:
        """The entry of the current version, None until something is known or stored."""
        return None if self.held is None else self.held.entry

    @property
    def spans(self) -> SpanSet:
        """Which bytes of the current version can be read."""
        return SpanSet() if self.held is None else self.held.entry.spans

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
            logger.warning("the store failed to open %s: %s", self.key, error)
            self.context.emit(StoreFailed(self.source, error))

    async def _open(self, record: EntryRecord) -> None:
        entry = await self.context.store.open(record.entry_id)
        self.held = HeldEntry(self.context, entry)
        self.representation = entry.representation
        self._completed = self.is_complete
        if not entry.writable and not self._completed:
            self._overlay(entry)

    def obtain_nowait(self, spec: RangeSpec | None) -> Reader | None:
        """Return a reader whose first byte is stored, or None if something must be awaited."""
        if self.held is None or self.closed or self._unshareable:
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
        reader = Reader(self, self.held, span, self._trails.pop(span.start, 0))
        self.readers.add(reader)
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
        self._check_upstream(Span(0, 0))
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._learners.add(future)
        self.pool.retain_resource(self)
        try:
            if not self.downloads:
                self._probe(spec)
            limit = self.settings.request_timeout
            await asyncio.wait((future,), timeout=limit)
            if not future.done():
                raise UpstreamTimeoutError(
                    "the origin did not answer in time", url=self.source
                ) from self.last_error
            future.result()
        finally:
            self._learners.discard(future)
            if future.done() and not future.cancelled():
                future.exception()
            self.pool.release_resource(self)

    def _probe(self, spec: RangeSpec | None) -> None:
        """Start the first download: it asks for the first bytes wanted and learns the rest."""
        ahead = max(self.settings.read_ahead, LEAST_WANT)
        if spec is not None and spec.suffix_length is not None:
            self._start(Span(0, UNBOUNDED), suffix=spec.suffix_length)
            return
        start = 0 if spec is None or spec.first_pos is None else spec.first_pos
        stop = start + ahead
        if spec is not None and spec.last_pos is not None:
            stop = min(stop, spec.last_pos + 1)
        self._start(Span(start, stop))

    def _check_upstream(self, hole: Span) -> None:
        """Raise if going upstream is of no use now."""
        if self.settings.offline:
            raise NotStoredError(
                f"offline, and bytes {hole} are not held", span=hole, url=self.source
            )
        if self.refusal is not None and asyncio.get_running_loop().time() < self._refused_until:
            raise self.refusal

    # -- planning ---------------------------------------------------------

    def read_ahead(self, reader: Reader) -> int:
        """Return how far before a reader's position is fetched, in bytes."""
        settings = self.settings
        if settings.completion == "ahead":
            return settings.max_read_ahead
        grown = min(max(settings.read_ahead, reader.sequential), settings.max_read_ahead)
        return max(grown, LEAST_WANT)

    def _want(self, reader: Reader) -> Want:
        """Return what a reader wants now: bounded, whatever the client asked for."""
        remaining = reader.remaining
        stop = reader.position + self.read_ahead(reader)
        goes_on = reader.joined or self.settings.completion in ("ahead", "complete")
        if self.settings.completion == "demand" or not goes_on:
            stop = min(stop, remaining.stop)
        return Want(Span(reader.position, max(stop, reader.position)))

    def replan(self) -> None:
        """Let the downloads run that are wanted now."""
        if self.closed or self.paused or self.held is None or self.settings.offline:
            return
        entry = self.held.entry
        current = [reader for reader in self.readers if reader.entry is entry and not reader.error]
        if self.refusal is not None and asyncio.get_running_loop().time() < self._refused_until:
            self._refuse_waiting(current)
            return
        current.sort(key=lambda reader: (not reader.waiting, reader.position))
        wants = [self._want(reader) for reader in current if reader.remaining]
        if self._wants_all(current):
            wants.append(Want(Span(0, UNBOUNDED), urgent=False))
        state = PlanState(
            stored=entry.spans,
            wants=tuple(wants),
            running=tuple(
                Running(each.ident, each.position, each.stop, self._keep(each, current))
                for each in self.downloads.values()
            ),
            window=self._window,
            limit=self.settings.max_connections,
            complete_length=self.complete_length,
            linear=self.linear,
        )
        for action in plan(state):
            match action:
                case Start(span):
                    self._start(span)
                case Extend(ident, stop) | Shorten(ident, stop):
                    self.downloads[ident].stop = stop
                case Stop(ident):
                    self.downloads.pop(ident).cancel()

    def _wants_all(self, current: list[Reader]) -> bool:
        if self.is_ephemeral and not self._completers:
            return False
        completion = self.settings.completion
        if completion == "complete" and current:
            self._fill = True
        if completion == "auto" and any(
            reader.sequential >= self.settings.complete_after for reader in current
        ):
            self._fill = True
        return self._fill or self._completers > 0

    @property
    def _window(self) -> int | None:
        threshold = self.settings.range_request_split_threshold
        return REUSE_WINDOW if threshold == "adaptive" else threshold

    @staticmethod
    def _keep(download: Download, current: list[Reader]) -> int:
        """Return up to where a download is worth finishing although nobody wants it now."""
        if not any(reader.waiting for reader in current):
            return download.stop
        return min(download.stop, download.position + KEEP)

    def _refuse_waiting(self, current: list[Reader]) -> None:
        for reader in current:
            if reader.waiting and self.refusal is not None:
                reader.fail(self.refusal)

    def _start(self, span: Span, *, suffix: int | None = None) -> None:
        self._idents += 1
        download = Download(self, self._idents, span, self.held, suffix=suffix)
        self.downloads[download.ident] = download
        self.context.emit(DownloadStarted(self.source, span))
        try:
            download.task = self.context.spawn(download.run(), f"download {self.key}")
        except ClosedError:
            del self.downloads[download.ident]
            download.abandon()
            raise
        self.tasks.add(download.task)
        download.task.add_done_callback(self._task_done)
        self._touch()

    def _task_done(self, task: asyncio.Task[None]) -> None:
        self.tasks.discard(task)
        self._touch()

    # -- called by readers ------------------------------------------------

    def reader_waits(self, reader: Reader) -> None:
        """Make sure that somebody fetches what ``reader`` waits for."""
        if reader.entry is not self.entry:
            reader.outdate()
            return
        self._check_upstream(Span(reader.position, reader.remaining.stop))
        self.replan()

    def reader_moved(self, reader: Reader) -> None:
        """Let downloads keep ahead of ``reader``, and the ring forget what is behind it."""
        entry = reader.entry
        if isinstance(entry, EphemeralEntry):
            entry.trim()
        if entry is self.entry and not self.is_complete:
            self.replan()

    def reader_closed(self, reader: Reader) -> None:
        """Forget a reader; what it was fetching is finished as far as it is worth it."""
        self.readers.discard(reader)
        if reader.begun and reader.sequential:
            self._trails[reader.position] = reader.sequential
            while len(self._trails) > TRAILS:
                del self._trails[next(iter(self._trails))]
        if isinstance(reader.entry, EphemeralEntry):
            reader.entry.trim()
            self._drop_ephemeral()
        self.replan()
        reader.held.release()
        self.pool.release_resource(self)

    def _drop_ephemeral(self) -> None:
        """After the last reader of a ring nothing is left to keep: forget what is known."""
        entry = self.entry
        if not isinstance(entry, EphemeralEntry) or self._completers:
            return
        if any(reader.entry is entry for reader in self.readers):
            return
        self._stop_downloads()
        held, self.held = self.held, None
        self.representation = None
        self._loaded = entry.base is None
        if held is not None:
            held.release()

    # -- called by downloads ----------------------------------------------

    def stored(self, span: Span) -> None:
        """Note that ``span`` of the current entry can be read now."""
        self.progressed = asyncio.get_running_loop().time()
        self.waiters.wake(span)
        self._touch()

    async def adopt(self, download: Download, representation: Representation) -> None:
        """Make an entry for the first version seen, and let everybody use it."""
        held = await self._create(representation)
        self.held = held
        self.representation = held.entry.representation
        self._completed = False
        download.use(held)
        self.refusal = None
        learners, self._learners = self._learners, set()
        for learner in learners:
            if not learner.done():
                learner.set_result(None)
        self._touch()

    async def supersede(self, download: Download, representation: Representation) -> None:
        """Give up the version held so far for another one (engine rule 9)."""
        old, self.held = self.held, None
        self.representation = None
        self._trails.clear()
        for other in list(self.downloads.values()):
            if other is not download:
                self.downloads.pop(other.ident).cancel()
        for reader in list(self.readers):
            reader.outdate()
        self.context.emit(RepresentationChanged(self.source))
        await download.leave_entry()
        await self.adopt(download, representation)
        if old is not None:
            old.release()

    def switch_linear(self, download: Download) -> None:
        """The origin has no ranges after all: this exchange serves everybody."""
        for other in list(self.downloads.values()):
            if other is not download:
                self.downloads.pop(other.ident).cancel()

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
        self._touch()

    def hand_over(self, error: StoreError) -> HeldEntry:
        """The store fails: go on through a ring over what is stored, at the next byte."""
        assert self.held is not None
        logger.warning("the store failed for %s, going on from memory: %s", self.key, error)
        self.context.emit(StoreFailed(self.source, error))
        return self._overlay(self.held.entry)

    def _overlay(self, base: Entry) -> HeldEntry:
        """Put a ring over a stored entry; its readers and downloads use it from now on."""
        old = self.held
        if old is None or isinstance(base, EphemeralEntry):
            raise StoreError("the memory ring failed", url=self.source)
        ring = self._ring(base.representation, base)
        self.held = HeldEntry(self.context, ring)
        ring.on_close = old.release
        for reader in self.readers:
            if reader.entry is base:
                reader.entry = ring
                reader.held.release()
                reader.held = self.held.retain()
        for download in self.downloads.values():
            download.move(self.held)
        return self.held

    def download_ended(self, download: Download) -> None:
        """Forget a download that reached its end."""
        self.downloads.pop(download.ident, None)
        self.context.emit(
            DownloadFinished(
                self.source, Span(download.began, download.position), download.received
            )
        )
        self.replan()
        self._touch()

    def download_failed(self, download: Download, error: CacheStreamError) -> None:
        """Hand a final failure to all who depend on this download."""
        self.downloads.pop(download.ident, None)
        self.last_error = error
        lease = Span(download.position, max(download.position, download.stop))
        for reader in list(self.readers):
            if reader.waiting and (reader.position in lease or self.linear):
                reader.fail(error)
        if self.held is None or not self.downloads:
            self._fail_all(self._learners, error)
        self._fail_all(self._watchers, error)
        if not self._completers:
            self._fill = False
        if any(reader.waiting and reader.error is None for reader in self.readers):
            self._replan_later()
        self._touch()

    def _replan_later(self) -> None:
        """Plan again after a pause: what fails at once must not be tried without end."""
        if self._timer is None and not self.closed:
            loop = asyncio.get_running_loop()
            self._timer = loop.call_later(max(0.1, self.settings.retry_delay), self._replan_due)

    def _replan_due(self) -> None:
        self._timer = None
        self.replan()

    def attempt_failed(self, download: Download, error: CacheStreamError, tries: int) -> None:
        """Note a failure that will be tried again; who has not begun yet need not wait long."""
        self.last_error = error
        if tries < download.quick_tries:
            return
        lease = Span(download.position, max(download.position, download.stop))
        for reader in list(self.readers):
            if reader.waiting and not reader.begun and (reader.position in lease or self.linear):
                reader.fail(error)

    def remember_refusal(self, error: CacheStreamError) -> None:
        """Answer with this refusal for a short time instead of asking again."""
        self.refusal = error
        self._refused_until = asyncio.get_running_loop().time() + self.settings.error_ttl

    async def completed(self) -> None:
        """Note completion once all bytes are committed."""
        if self._completed or not self.is_complete or self.is_ephemeral:
            return
        self._completed = True
        self.context.emit(ResourceCompleted(self.source, self.complete_length or 0))
        self._touch()

    @staticmethod
    def _fail_all(futures: set[asyncio.Future[None]], error: Exception) -> None:
        for future in list(futures):
            if not future.done():
                future.set_exception(error)
        futures.clear()

    # -- entries ----------------------------------------------------------

    async def _create(self, representation: Representation) -> HeldEntry:
        """Make an entry in the store, or a ring where nothing may or can be stored."""
        if self.private or not is_storable(representation):
            return HeldEntry(self.context, self._ring(representation, None))
        try:
            entry = await self.context.store.create(
                self.key, self.source, representation, file=self.file
            )
            try:
                await entry.publish()
            except BaseException:
                await entry.aclose()
                raise
        except StoreError as error:
            logger.warning("nothing is stored of %s: %s", self.key, error)
            self.context.emit(StoreFailed(self.source, error))
            return HeldEntry(self.context, self._ring(representation, None))
        return HeldEntry(self.context, entry)

    def _ring(self, representation: Representation, base: Entry | None) -> EphemeralEntry:
        limit = max(256 * KIB, self.settings.max_buffer_size // self.settings.max_connections)
        entry: EphemeralEntry
        entry = EphemeralEntry(
            self.key,
            self.source,
            representation,
            limit=limit,
            readers=lambda: (reader.remaining for reader in self.readers if reader.entry is entry),
            base=base,
        )
        return entry

    # -- asking without content -------------------------------------------

    async def head(self) -> Representation:
        """Return what is known of the resource, asking the origin if nothing is.

        Raises:
            CacheStreamError: If nothing is known and the origin does not say.
        """
        await self.ready()
        if self.representation is None:
            self._check_upstream(Span(0, 0))
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

    # -- completing, watching ---------------------------------------------

    async def complete(self) -> None:
        """Fetch every byte; return when all are stored.

        Raises:
            CacheStreamError: If that is not possible.
        """
        await self.ready()
        self._completers += 1
        try:
            while not self._completed:
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
                if self.is_complete and not self.tasks:
                    await self.completed()
                    return
                if not self.is_complete:
                    self._check_upstream(next(self.spans.gaps(Span(0, UNBOUNDED))))
                    self.replan()
                await self.changed(fail=True)
        finally:
            self._completers -= 1

    async def changed(self, *, fail: bool = False) -> None:
        """Wait for the next change of state; with ``fail``, raise a download's failure."""
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._watchers.add(future)
        try:
            await asyncio.wait((future,))
            if fail:
                future.result()
        finally:
            self._watchers.discard(future)
            if future.done() and not future.cancelled():
                future.exception()

    def _touch(self) -> None:
        """Wake all who watch the state; each sees the latest, however many changes there were."""
        watchers, self._watchers = self._watchers, set()
        for watcher in watchers:
            if not watcher.done():
                watcher.set_result(None)

    # -- pausing, resetting, closing --------------------------------------

    def pause(self) -> None:
        """Stop downloading until somebody retains the resource again."""
        self.paused = True
        self._fill = False
        self._stop_downloads()
        self._touch()

    def resume(self) -> None:
        """Go on after a pause."""
        if self.paused:
            self.paused = False
            self.replan()

    def _stop_downloads(self) -> None:
        for download in list(self.downloads.values()):
            download.cancel()
        self.downloads.clear()

    async def reset(self) -> None:
        """Forget and delete everything held; readers that have begun fail."""
        await self.ready()
        held, self.held = self.held, None
        self.representation = None
        self.refusal = None
        self._completed = False
        self._stop_downloads()
        for reader in list(self.readers):
            reader.fail(RepresentationChangedError("the cache was reset", url=self.source))
        self._fail_all(self._learners, RepresentationChangedError("the cache was reset"))
        if self.tasks:
            await asyncio.wait(self.tasks)
        if held is not None:
            entry_id = held.entry.entry_id
            await held.arelease()
            if entry_id:
                await self.context.store.delete(entry_id)
        self._touch()

    async def aclose(self) -> None:
        """Stop everything and close the entry; waiting readers fail. Idempotent."""
        if self.closed:
            return
        self.closed = True
        if self._timer is not None:
            self._timer.cancel()
        error = ClosedError("the stream was disposed", url=self.source)
        self._stop_downloads()
        for reader in list(self.readers):
            reader.fail(error)
        self._fail_all(self._learners, error)
        self._fail_all(self._watchers, error)
        if self.tasks:
            await asyncio.wait(self.tasks)
        async with self._lock:  # a load that is under way ends first
            self._loaded = True
        if self.held is not None:
            await self._close_entry(self.held)
            self.held = None

    async def _close_entry(self, held: HeldEntry) -> None:
        settings = self.settings
        keep = settings.save_metadata if self.is_complete else settings.save_partial_cache
        held.delete_on_close = not keep and not self.is_ephemeral
        await held.arelease()
