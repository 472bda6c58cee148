"""Which downloads of a resource run: gathers what the pure planner needs, and obeys it."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from cachestream.abc import Entry
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
from cachestream.core.ranges import RangeSpec
from cachestream.core.spans import UNBOUNDED, Span
from cachestream.errors import CacheStreamError, ClosedError, NotStoredError
from cachestream.events import DownloadStarted
from cachestream.settings import KIB

from .download import Download
from .ephemeral import EphemeralEntry
from .sharing import AHEAD_EACH, Sharing

if TYPE_CHECKING:
    from .reader import Reader
    from .resource import Resource

__all__ = ["Scheduler"]

KEEP: Final = 256 * KIB
"""What is worth finishing of a download that nobody wants while others wait."""

LEAST_WANT: Final = 256 * KIB
"""Least that a reader wants of what was asked for, so that no request is for crumbs."""

TRAILS: Final = 16
"""How many ends of earlier readers are remembered, to recognise one that goes on."""


class Scheduler:
    """Starts, extends, shortens and stops the downloads of one resource."""

    def __init__(self, resource: Resource) -> None:
        self._resource = resource
        self.sharing = Sharing(resource)
        self.downloads: dict[int, Download] = {}
        self.tasks: set[asyncio.Task[None]] = set()
        self.paused = False
        self.completers = 0
        self._probe: Download | None = None
        self._fill = False
        self._trails: dict[int, int] = {}
        self._idents = 0
        self._timer: asyncio.TimerHandle | None = None
        self._soon: asyncio.Handle | None = None
        self._refusal: CacheStreamError | None = None
        self._refused_until = 0.0

    # -- what is wanted ---------------------------------------------------

    def read_ahead(self, reader: Reader) -> int:
        """Return how far before a reader's position is fetched, in bytes.

        All readers share a budget; what one waits for is never refused.
        """
        settings = self._resource.settings
        grown = max(settings.read_ahead, reader.sequential, self.sharing.ahead)
        if settings.completion == "ahead":
            grown = settings.max_read_ahead
        wanted = max(min(grown, settings.max_read_ahead), LEAST_WANT)
        return self._resource.context.ahead.grant(reader, wanted, least=LEAST_WANT)

    def _want(self, reader: Reader) -> Want:
        """Return what a reader wants now: bounded, whatever the client asked for."""
        stop = max(reader.position + self.read_ahead(reader), self._sent_before(reader.position))
        completion = self._resource.settings.completion
        goes_on = reader.joined or completion in ("ahead", "complete")
        if completion == "demand" or not goes_on:
            stop = min(stop, reader.remaining.stop)
        return Want(Span(reader.position, max(stop, reader.position)))

    def _sent_before(self, position: int) -> int:
        """Return up to where an origin is sending what a reader will get to soon; 0 if nothing.

        The reader may have become less greedy since, but to cut that short would waste it.
        """
        reach = position + len(self.downloads) * AHEAD_EACH
        return max(
            (
                min(each.asked, each.stop)
                for each in self.downloads.values()
                if position <= each.position < reach
            ),
            default=0,
        )

    def _wants_all(self, current: list[Reader]) -> bool:
        """Tell whether every hole shall be filled (engine rule 7)."""
        if self._resource.is_ephemeral and not self.completers:
            return False
        self._note_fill(current)
        return self._fill or self.completers > 0

    def _note_fill(self, current: list[Reader]) -> None:
        settings = self._resource.settings
        if settings.completion == "complete" and current:
            self._fill = True
        if settings.completion == "auto" and any(
            reader.sequential >= settings.complete_after for reader in current
        ):
            self._fill = True

    def follow(self, position: int) -> int:
        """Return how much an earlier reader that ended at ``position`` read in sequence."""
        return self._trails.pop(position, 0)

    def reader_leaves(self, reader: Reader) -> None:
        """Remember where a reader ended, so that the next can go on from there."""
        self._resource.context.ahead.release(reader)
        if reader.entry is self._resource.entry and not self._resource.is_ephemeral:
            self._note_fill([reader])  # it may have moved since the last plan
        if reader.begun and reader.sequential:
            self._trails[reader.position] = reader.sequential
            while len(self._trails) > TRAILS:
                del self._trails[next(iter(self._trails))]

    def forget_trails(self) -> None:
        """Forget where readers ended; the content is another one."""
        self._trails.clear()

    # -- planning ---------------------------------------------------------

    def replan(self) -> None:
        """Let the downloads run that are wanted now."""
        self._forget_soon()
        resource = self._resource
        entry = resource.entry
        if resource.closed or self.paused or entry is None or resource.settings.offline:
            return
        if resource.is_complete and not self.downloads:
            return
        current = [
            reader for reader in resource.readers if reader.entry is entry and not reader.error
        ]
        refusal = self._current_refusal()
        if refusal is not None:
            for reader in current:
                if reader.waiting and not self._is_leased(reader.position):
                    reader.fail(refusal)
            return
        if not self.downloads and not self._lacks_any(entry, current):
            return
        current.sort(key=lambda reader: (not reader.waiting, reader.waiting_since, reader.position))
        for action in plan(self._state(entry, current)):
            match action:
                case Start(span):
                    self.start(span)
                case Extend(ident, stop) | Shorten(ident, stop):
                    self.downloads[ident].stop = stop
                case Stop(ident):
                    self._stop(ident)

    def _lacks_any(self, entry: Entry, current: list[Reader]) -> bool:
        """Tell whether there may be a byte to fetch for anybody."""
        if self._wants_all(current):
            return True
        return any(not entry.spans.covers(self._want(reader).span) for reader in current)

    def _stop(self, ident: int) -> None:
        """Stop a download, unless it is about to end by itself and to tell of it."""
        if not self.downloads[ident].is_filled:
            self.downloads.pop(ident).cancel()

    def _is_leased(self, position: int) -> bool:
        """Tell whether a running download is going to store the byte at ``position``."""
        linear = self._resource.linear
        return any(
            linear or each.position <= position < each.stop for each in self.downloads.values()
        )

    def _state(self, entry: Entry, current: list[Reader]) -> PlanState:
        resource = self._resource
        wants = [self._want(reader) for reader in current if reader.remaining]
        probe = self._probe
        if probe is not None and probe.ident in self.downloads and probe.position < probe.stop:
            wants.insert(0, Want(Span(probe.position, probe.stop)))
        if self._wants_all(current):
            wants.append(Want(Span(0, UNBOUNDED), urgent=False))
        threshold = resource.settings.range_request_split_threshold
        waiting = any(reader.waiting for reader in current)
        return PlanState(
            stored=entry.spans,
            wants=tuple(wants),
            running=tuple(
                Running(each.ident, each.position, each.stop, _keep(each, waiting), each.asked)
                for each in self.downloads.values()
            ),
            window=self.sharing.window if threshold == "adaptive" else threshold,
            limit=self.sharing.limit,
            spread=self.sharing.target,
            least_part=self.sharing.least_part,
            least_cut=self.sharing.least_cut,
            complete_length=resource.complete_length,
            linear=resource.linear,
        )

    def replan_soon(self) -> None:
        """Plan in the loop's next turn: once for all readers that move in this one."""
        if self._soon is None and not self._resource.closed:
            self._soon = asyncio.get_running_loop().call_soon(self.replan)

    def _forget_soon(self) -> None:
        if self._soon is not None:
            self._soon.cancel()
            self._soon = None

    def replan_later(self) -> None:
        """Plan again after a pause: what fails at once must not be tried without end."""
        if self._timer is None and not self._resource.closed:
            pause = max(0.1, self._resource.settings.retry_delay)
            self._timer = asyncio.get_running_loop().call_later(pause, self._replan_due)

    def _replan_due(self) -> None:
        self._timer = None
        self.replan()

    # -- starting and stopping --------------------------------------------

    def probe(self, spec: RangeSpec | None) -> Download | None:
        """Start the first download: it asks for the first bytes wanted and learns the rest.

        Returns:
            The download, wanted until `probed`; None if others run already.
        """
        if self.downloads:
            return None
        if spec is not None and spec.suffix_length is not None:
            self._probe = self.start(Span(0, UNBOUNDED), suffix=spec.suffix_length)
            return self._probe
        start = 0 if spec is None or spec.first_pos is None else spec.first_pos
        stop = start + max(self._resource.settings.read_ahead, LEAST_WANT)
        if spec is not None and spec.last_pos is not None:
            stop = min(stop, spec.last_pos + 1)
        self._probe = self.start(Span(start, stop))
        return self._probe

    def probed(self, probe: Download | None) -> None:
        """Who probed has been told: its reader, if it makes one, wants the bytes from now on.

        Until then nobody else may take the connection: others that waited for the same head
        may be told first, and would end a download that seems to be nobody's.
        """
        if probe is not None and probe is self._probe:
            self._probe = None

    def start(self, span: Span, *, suffix: int | None = None) -> Download:
        """Start a download of ``span`` and return it.

        Raises:
            ClosedError: If the cache is closing.
        """
        resource = self._resource
        self._idents += 1
        download = Download(resource, self._idents, span, resource.held, suffix=suffix)
        self.downloads[download.ident] = download
        resource.context.emit(DownloadStarted(resource.source, span))
        try:
            task = resource.context.spawn(download.run(), f"download {resource.shown}")
        except ClosedError:
            del self.downloads[download.ident]
            download.abandon()
            raise
        download.task = task
        self.tasks.add(task)
        task.add_done_callback(self._task_done)
        return download

    def _task_done(self, task: asyncio.Task[None]) -> None:
        self.tasks.discard(task)
        self._resource.changed.fire()

    def received(self, count: int) -> None:
        """Note that bytes came, and let as many connections share the rest as pay."""
        if self.sharing.received(count):
            self.replan()

    def shed(self, download: Download) -> bool:
        """Do without a connection that the origin refused, if others are served.

        Returns:
            True if it shall end; what it was to fetch is left to the others.
        """
        if not self.sharing.shed(download):
            return False
        self.ended(download)
        self.replan()
        return True

    def ended(self, download: Download) -> None:
        """Forget a download that ended by itself."""
        self.downloads.pop(download.ident, None)

    def stop_others(self, download: Download) -> None:
        """Stop all downloads but this one."""
        for other in list(self.downloads.values()):
            if other is not download:
                self.downloads.pop(other.ident).cancel()

    def stop_all(self) -> None:
        """Stop all downloads, and want nothing but what readers will ask for."""
        self._fill = False
        for download in list(self.downloads.values()):
            download.cancel()
        self.downloads.clear()

    def stop_filling(self) -> None:
        """Want no more than readers do, unless somebody waits for all of it."""
        if not self.completers:
            self._fill = False

    async def wait_idle(self) -> None:
        """Wait until no task of a download is left."""
        while self.tasks:
            await asyncio.wait(self.tasks)

    def close(self) -> None:
        """Plan no more."""
        self._forget_soon()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self.stop_all()

    # -- going upstream or not --------------------------------------------

    def check_upstream(self, hole: Span) -> None:
        """Raise if going upstream is of no use now.

        Raises:
            NotStoredError: If the stream is offline.
            UpstreamStatusError: If the origin has just refused.
        """
        if self._resource.settings.offline:
            raise NotStoredError(
                f"offline, and bytes {hole} are not held", span=hole, url=self._resource.source
            )
        refusal = self._current_refusal()
        if refusal is not None:
            raise refusal

    def remember_refusal(self, error: CacheStreamError | None) -> None:
        """Answer with this refusal for a short time instead of asking again; None: forget it."""
        self._refusal = error
        ttl = self._resource.settings.error_ttl
        self._refused_until = asyncio.get_running_loop().time() + ttl

    def is_refusal(self, error: CacheStreamError) -> bool:
        """Tell whether ``error`` is the refusal that is remembered."""
        return error is self._refusal

    def _current_refusal(self) -> CacheStreamError | None:
        if self._refusal is None:
            return None
        return self._refusal if asyncio.get_running_loop().time() < self._refused_until else None

    # -- readers ----------------------------------------------------------

    def reader_moved(self, reader: Reader) -> int:
        """Let downloads keep ahead of ``reader``, and the ring forget what is behind it.

        Returns:
            After how many bytes it shall be called again; at least one.
        """
        entry = reader.entry
        if isinstance(entry, EphemeralEntry):
            entry.trim()
        if entry is not self._resource.entry or self._resource.is_complete:
            return LEAST_WANT
        self.replan_soon()
        return max(1, self.read_ahead(reader) // 2)

    def reader_waits(self, reader: Reader) -> None:
        """Let somebody fetch what ``reader`` waits for, if nobody does."""
        self.sharing.starved()
        if self._is_coming(reader.position):
            self.replan_soon()
        else:
            self.replan()

    def _is_coming(self, position: int) -> bool:
        """Tell whether a running download is about to store the byte at ``position``."""
        reach = self.sharing.window
        return any(
            each.position <= position < min(each.stop, each.position + reach)
            for each in self.downloads.values()
        )


def _keep(download: Download, waiting: bool) -> int:
    """Return up to where a download is worth finishing although nobody wants it now."""
    return min(download.stop, download.position + KEEP) if waiting else download.stop
