"""A download: pours upstream responses into one hole of an entry, resuming after failures."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Final

from cachestream.abc import Buffer, Entry, SpanWriter, UpstreamResponse
from cachestream.core.decisions import (
    Accept,
    Asked,
    AskWhole,
    Broken,
    Redirect,
    Refuse,
    Reply,
    Retry,
    Unsatisfiable,
    Verdict,
    is_linear,
    judge_reply,
)
from cachestream.core.ranges import range_field
from cachestream.core.representation import Representation
from cachestream.core.spans import UNBOUNDED, Span
from cachestream.errors import (
    CacheStreamError,
    ConnectError,
    RangeNotSatisfiableError,
    StoreError,
    TLSError,
    TransportError,
    UpstreamProtocolError,
    UpstreamStatusError,
)
from cachestream.events import DownloadFailed
from cachestream.settings import MIB

from .ahead import Ahead, Successor
from .exchange import exchange, fields_for
from .hedging import Hedging
from .holding import HeldEntry
from .hosts import FORBIDDEN, TOO_MANY, Host
from .retrying import QUICK_TRIES, RetryPolicy, status_error
from .witness import Witness

if TYPE_CHECKING:
    from .resource import Resource

__all__ = ["Download"]

logger: Final = logging.getLogger("cachestream.engine")

FIRST_REQUEST: Final = 8 * MIB
LARGEST_REQUEST: Final = 64 * MIB
SHARED_REQUEST: Final = 4 * MIB
"""Requests grow between these: few enough for speed, bounded so that a seek wastes little."""


class Download:
    """Fills ``[position, stop)`` of an entry; the planner may move ``stop`` while it runs.

    It is the `Sink` of its responses: it writes what falls into the hole and skips the rest.
    """

    quick_tries = QUICK_TRIES

    def __init__(
        self,
        resource: Resource,
        ident: int,
        span: Span,
        held: HeldEntry | None,
        *,
        suffix: int | None = None,
    ) -> None:
        self.resource = resource
        self.ident = ident
        self.began = self.position = span.start
        self.stop = span.stop
        self.asked = 0
        self.received = 0
        self.flowing = False
        self.task: asyncio.Task[None] | None = None
        self._held = None if held is None else held.retain()
        self._suffix = suffix
        self._url = resource.url
        self._whole = False
        self._writer: SpanWriter | None = None
        self._old_writers: list[SpanWriter] = []
        self._wire = 0
        self._content_stop = UNBOUNDED
        self._sated = False
        self._size = FIRST_REQUEST
        self._retries = RetryPolicy(resource)
        self.successor = Successor(resource)
        self.is_draining = False
        self._hedging = Hedging(self)
        self._cancelled = False
        self._started = False

    # -- running ----------------------------------------------------------

    async def run(self) -> None:
        """Fetch until the hole is filled, nobody wants more, or it is of no use."""
        self._started = True
        host = self.host
        host.open += 1
        try:
            while not self._done:
                try:
                    await self._attempt()
                except TransportError as error:
                    await self.successor.aclose()
                    await self._after_failure(error)
            if not self._cancelled:
                self.resource.download_ended(self)
        except CacheStreamError as error:
            self._give_up(error)
        except Exception as error:
            logger.exception("a download of %s failed unexpectedly", self.resource.shown)
            self._give_up(
                CacheStreamError(f"the download failed: {error!r}", url=self.resource.source)
            )
        finally:
            host.open -= 1
            try:
                await self.successor.aclose()
            finally:
                await self._finish()

    @property
    def _done(self) -> bool:
        return self._cancelled or (self._held is not None and self.position >= self.stop)

    @property
    def is_filled(self) -> bool:
        """Whether all it was to fetch has come: it is about to end by itself."""
        return self._sated and self.position >= self.stop

    def cancel(self) -> None:
        """Stop at once; the caller has taken the lease away, so nothing more is written."""
        self._cancelled = True
        if not self._started:
            self.abandon()  # its task will never run
        if self.task is not None:
            self.task.cancel()

    def abandon(self) -> None:
        """Give up what a download holds that never ran."""
        if self._held is not None:
            self._held.release()
            self._held = None

    def _give_up(self, error: CacheStreamError) -> None:
        if not self._cancelled:
            if isinstance(error, UpstreamStatusError):  # whoever comes next need not ask
                self.resource.scheduler.remember_refusal(error)
            self.resource.context.emit(DownloadFailed(self.resource.source, error, None))
            self.resource.download_failed(self, error)

    async def _finish(self) -> None:
        """Commit what was written; a failing store is reported, not raised."""
        await self.leave_entry()
        if not self._cancelled:
            self.resource.completed()

    # -- one exchange -----------------------------------------------------

    async def _attempt(self) -> None:
        resource = self.resource
        self.flowing = self._sated = False
        asked, response = await self._answer()
        async with response:
            if self._cancelled:
                return
            known = None if self._held is None else self._held.entry.representation
            reply = Reply(
                status=response.status,
                fields=response.fields,
                request_time=response.request_time,
                response_time=response.response_time,
            )
            verdict = judge_reply(
                asked,
                known,
                reply,
                trust_weak=resource.settings.trust_weak_validators,
                essential_only=not resource.settings.save_all_headers,
            )
            await self._act(asked, verdict, response)

    async def _answer(self) -> tuple[Asked, UpstreamResponse]:
        """Return what was asked, and the answer: one that is on its way already, or a new one."""
        taken = await self.successor.take(self._fits)
        if taken is not None:
            asked, self._url, response = taken
            self.asked = _end_of(asked)
            return asked, response
        asked, self._url = self._ask(self.position, self._size), self.resource.url
        self.asked = _end_of(asked)
        clock = asyncio.get_running_loop().time
        began = clock()
        work = self._exchange(asked, self._url)
        first = await self._hedging.over(work, lambda: self._ask_again(asked))
        self.host.answered(clock() - began)
        return (asked, first) if first is not None else await self._answer()

    async def _exchange(self, asked: Asked, url: str) -> UpstreamResponse:
        resource = self.resource
        return await exchange(
            resource.context,
            resource.source,
            url,
            asked.fields,
            attempt=self._retries.failures,
            secure_only=not resource.settings.allow_insecure_redirects,
            held=self._witness(),
        )

    # -- requests sent ahead ----------------------------------------------

    def _ask_ahead(self) -> None:
        """Send the next request, if what is left of this answer will be here before its answer."""
        left = self._content_stop - self._wire
        sharing = self.resource.scheduler.sharing
        if self.successor.is_out or self.stop <= self._content_stop or left <= 0:
            return
        if left > sharing.lead or self._whole or not self._joins_more or not sharing.has_room:
            return
        asked = self._ask(self._content_stop, min(self._size * 2, LARGEST_REQUEST))
        self._send_ahead(asked)
        self.asked = _end_of(asked)

    def _ask_again(self, asked: Asked) -> Ahead | None:
        """Send a request once more that stalls; None where that cannot be."""
        if asked.start is None or self._whole or self.resource.linear:
            return None
        return self._send_ahead(asked) if self.resource.scheduler.sharing.has_room else None

    def _ask_for_rest(self) -> Ahead | None:
        """Ask for the rest of an answer that stalls; None where that cannot be."""
        if not self._joins_more or self.position >= self.stop:
            return None
        return self._ask_again(self._ask(self.position, self._size))

    def _send_ahead(self, asked: Asked) -> Ahead:
        url = self.resource.url
        return self.successor.send(asked, url, self._exchange(asked, url))

    @property
    def _joins_more(self) -> bool:
        """Whether what is held can be joined to parts of other answers."""
        if self._held is None or self.resource.is_ephemeral or self.resource.linear:
            return False
        return self._held.entry.representation.strong_validator is not None

    def _fits(self, asked: Asked, url: str) -> bool:
        """Tell whether an answer would go on right where the download is, in the same version."""
        if self._whole or url != self.resource.url or asked.start != self.position:
            return False
        known = None if self._held is None else self._held.entry.representation.strong_validator
        return asked.fields.get("if-range") == known

    @property
    def host(self) -> Host:
        """What is known of the origin that it asks."""
        return self.resource.scheduler.sharing.host

    @property
    def is_waited_for(self) -> bool:
        """Whether somebody waits for what comes next."""
        return self._held is None or bool(self.resource.dependents(self))

    def _witness(self) -> Witness | None:
        """Return what is held, if the answer may be joined to it rather than begin anew."""
        if self._held is None:
            return None
        known = self._held.entry.representation
        joins = known.strong_validator is not None or self.resource.settings.trust_weak_validators
        return Witness(self.resource.context, self._held.entry) if joins else None

    def _ask(self, start: int, most: int) -> Asked:
        """Decide what to ask for: at most ``most`` bytes from a start, a suffix, or all of it."""
        resource = self.resource
        fields = fields_for(
            resource.context, resource.source, resource.settings, resource.forwarded
        )
        known = None if self._held is None else self._held.entry.representation
        if self._whole or (known is not None and resource.linear):
            return Asked(fields=fields)
        if self._suffix is not None and known is None:
            return Asked(
                suffix=self._suffix, fields=fields.replace(("Range", f"bytes=-{self._suffix}"))
            )
        # While several share what is wanted, short requests can be shared without being cut.
        shared = known is not None and resource.scheduler.sharing.target > 1
        size = min(most, SHARED_REQUEST) if shared else most
        stop = min(self.stop, start + size)
        fields = fields.replace(("Range", range_field(start, stop)))
        validator = None if known is None else known.strong_validator
        if validator is not None:
            fields = fields.replace(("If-Range", validator))
        return Asked(start=start, stop=stop, conditional=validator is not None, fields=fields)

    async def _act(self, asked: Asked, verdict: Verdict, response: UpstreamResponse) -> None:
        source = self.resource.source
        match verdict:
            case Accept():
                await self._accept(asked, verdict, response)
            case AskWhole():
                if self._whole:
                    raise UpstreamStatusError("the origin answered 416", status=416, url=source)
                self._whole = True
            case Refuse(status):
                await self._refused(status, response)
            case Retry(status):
                raise await status_error(self.resource, status, response)
            case Unsatisfiable(length):
                raise RangeNotSatisfiableError(
                    "the range lies past the end", complete_length=length, url=source
                )
            case Broken(reason):
                raise UpstreamProtocolError(
                    f"the origin's answer cannot be used: {reason}",
                    url=source,
                    hint="Nothing of it was stored.",
                )
            case Redirect():
                raise UpstreamProtocolError("a redirect that cannot be followed", url=source)

    async def _accept(self, asked: Asked, verdict: Accept, response: UpstreamResponse) -> None:
        """Take the content in, once it is clear which version and which bytes it is."""
        resource = self.resource
        new = verdict.representation
        part = asked.ranged and (verdict.start, verdict.stop) != (0, new.complete_length)
        if part and (self._held is None or verdict.changed) and self._needs_whole(new):
            self._whole = True  # parts of this version could never be joined
            return
        planned = None if verdict.changed or self._held is None else _grounds(resource)
        if verdict.changed:
            self._place(verdict)
            await resource.supersede(self, new)
        elif self._held is None:
            self._place(verdict)
            await resource.adopt(self, new)
        else:
            await resource.learn(new)
        if self._cancelled:
            return
        if resource.linear:
            resource.scheduler.stop_others(self)
            self._take_all()
        if planned != _grounds(resource):  # a later answer seldom says anything new
            resource.scheduler.replan()
        await self._pour(verdict, response)

    def _needs_whole(self, representation: Representation) -> bool:
        return is_linear(representation, trust_weak=self.resource.settings.trust_weak_validators)

    def _place(self, verdict: Accept) -> None:
        """Move the lease to where the content begins (a suffix, or a whole answer)."""
        wanted = self.stop - self.position
        self.began = self.position = verdict.start
        length = verdict.representation.complete_length
        end = UNBOUNDED if length is None else length
        self.stop = min(verdict.start + wanted, end) if verdict.start else min(self.stop, end)
        if verdict.stop is not None and self._suffix is not None:
            self.stop = verdict.stop
        self._suffix = None

    def _take_all(self) -> None:
        """Lease everything from the first missing byte on: there is one exchange for all."""
        assert self._held is not None
        length = self._held.entry.representation.complete_length
        end = UNBOUNDED if length is None else length
        gap = next(self._held.entry.spans.gaps(Span(0, end)), None)
        self.began = self.position = end if gap is None else gap.start
        self.stop = end

    async def _pour(self, verdict: Accept, response: UpstreamResponse) -> None:
        self._wire = verdict.start
        stop = verdict.stop if verdict.stop is not None else verdict.representation.complete_length
        self._content_stop = UNBOUNDED if stop is None else stop
        clean = await self._hedging.over(response.pour(self), self._ask_for_rest)
        if not clean or self._cancelled:
            return
        if self._content_stop < UNBOUNDED:
            if self._wire < min(self._content_stop, self.stop):
                raise UpstreamProtocolError(
                    f"the content ended at byte {self._wire} instead of {self._content_stop}",
                    url=self.resource.source,
                )
            self._size = min(self._size * 2, LARGEST_REQUEST)
            self._whole = False
            return
        await self.resource.learn_length(self._wire)
        self.stop = min(self.stop, self._wire)
        self._whole = False

    # -- the sink ---------------------------------------------------------

    def write(self, piece: Buffer) -> bool:
        """Store what of ``piece`` falls into the hole; True to go on."""
        if self._cancelled:
            return False
        start = self._wire
        self._wire += len(piece)
        self.received += len(piece)
        self.resource.context.counters.bytes_from_origin += len(piece)
        self._retries.progressed()
        self.flowing = True
        flowing = self._store(memoryview(piece), start)
        self.resource.scheduler.received(len(piece))
        if self._cancelled:
            return False
        self._ask_ahead()
        at_end = self._wire >= self._content_stop  # read on to the end: it keeps the connection
        self._sated = at_end or self._wire >= self.stop
        return flowing and (at_end or self._wire < self.stop)

    def _store(self, piece: memoryview, start: int) -> bool:
        stop = min(start + len(piece), self.stop, self._content_stop)
        begin = max(start, self.position)
        if begin >= stop:
            self.resource.progressed = asyncio.get_running_loop().time()
            return True
        flowing = True
        for gap in list(self._entry.spans.gaps(Span(begin, stop))):
            flowing = self._write(gap, piece[gap.start - start : gap.stop - start]) and flowing
        self.position = stop
        self.resource.stored(Span(begin, stop))
        return flowing

    def _write(self, gap: Span, piece: memoryview) -> bool:
        """Write one gap; a failing store is replaced by a ring at this very byte."""
        try:
            return self._writer_at(gap.start).write(piece)
        except StoreError as error:
            self._hand_over(error)
            return self._writer_at(gap.start).write(piece)

    async def drain(self) -> bool:
        """Wait until the entry has room; False when no more is wanted."""
        if self._writer is not None:
            self.is_draining = True
            try:
                await self._writer.drain()
            except StoreError as error:
                self._hand_over(error)
            finally:
                self.is_draining = False
        if self._cancelled:
            return False
        return self._wire >= self._content_stop or self._wire < self.stop

    @property
    def _entry(self) -> Entry:
        assert self._held is not None
        return self._held.entry

    def _writer_at(self, position: int) -> SpanWriter:
        if self._writer is not None and self._writer.position != position:
            self._old_writers.append(self._writer)
            self._writer = None
        if self._writer is None:
            self._writer = self._entry.writer(position)
        return self._writer

    # -- which entry ------------------------------------------------------

    def use(self, held: HeldEntry) -> None:
        """Write into this entry from now on."""
        if self._held is not None:
            self._held.release()
        self._held = held.retain()

    def move(self, held: HeldEntry) -> None:
        """Go on in another entry of the same version; the old writer is closed at the end."""
        if self._writer is not None:
            self._old_writers.append(self._writer)
            self._writer = None
        self.use(held)

    async def leave_entry(self) -> None:
        """Commit what was written to the entry used so far, and let it go."""
        writers = [*self._old_writers, *([] if self._writer is None else [self._writer])]
        self._old_writers, self._writer = [], None
        held, self._held = self._held, None
        try:
            for writer in writers:
                try:
                    await writer.aclose()
                except StoreError:
                    logger.warning(
                        "stored bytes of %s were lost", self.resource.shown, exc_info=True
                    )
        finally:
            if held is not None:
                held.release()

    def _hand_over(self, error: StoreError) -> None:
        """Let a ring replace the failing entry for everybody, from the next byte on."""
        if self.resource.held is self._held:
            self.resource.hand_over(error)
        elif self.resource.held is not None:
            self.move(self.resource.held)

    # -- failures ---------------------------------------------------------

    async def _refused(self, status: int, response: UpstreamResponse) -> None:
        """The origin says no: renew the URL if somebody can, else remember the refusal."""
        if await self._retries.renew(status, self._url):
            return
        if status == FORBIDDEN and self._shed():
            return
        error = await status_error(self.resource, status, response)
        self.resource.scheduler.remember_refusal(error)
        raise error from self._retries.renewal_error

    async def _after_failure(self, error: TransportError) -> None:
        """Wait before the next attempt, or raise when there is no point in one.

        Attempts start again from the first missing byte, with pauses that double.
        """
        resource = self.resource
        if resource.scheduler.is_refusal(error):
            raise error
        resource.context.counters.origin_failures += 1
        if _means_too_many(error) and self._shed():
            return
        pause = self._retries.failed(error, begun=self._held is not None)
        if pause is None:
            raise error
        resource.attempt_failed(self, error, self._retries.failures)
        resource.context.emit(DownloadFailed(resource.source, error, pause))
        logger.info("retrying %s in %.2f s: %s", resource.shown, pause, error)
        await asyncio.sleep(pause)

    def _shed(self) -> bool:
        """End quietly if this is one connection more than the origin allows."""
        if self._held is None or self.received or not self.resource.scheduler.shed(self):
            return False
        logger.info("%s allows no more connections", self.resource.shown)
        self._cancelled = True
        return True


def _end_of(asked: Asked) -> int:
    """Return up to where a request asks; 0 where it does not say."""
    return asked.stop if asked.ranged and asked.stop is not None else 0


def _means_too_many(error: TransportError) -> bool:
    """Tell whether an origin says so that it allows no more connections."""
    if isinstance(error, UpstreamStatusError):
        return error.status in TOO_MANY
    return isinstance(error, ConnectError) and not isinstance(error, TLSError)


def _grounds(resource: Resource) -> tuple[bool, int | None]:
    """Return what of an answer a plan depends on."""
    return resource.linear, resource.complete_length
