"""A seeded simulation: an event loop with virtual time, and an origin that lives in memory.

Everything that happens is decided by one random generator: the order in which ready
callbacks run, what the origin does to each exchange, when clients come, seek and leave.
So a run can be repeated exactly by its seed, takes no real time to wait, and explores
schedules that no test on a real network would meet.
"""

from __future__ import annotations

import asyncio
import random
import selectors
from collections import deque
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any, Final, TypeVar

import attrs

from cachestream.abc import Buffer, Transport, UpstreamRequest, UpstreamResponse
from cachestream.core.fields import Fields
from cachestream.core.ranges import content_range, parse_range, resolve, unsatisfied_range
from cachestream.core.spans import Span
from cachestream.core.validators import format_http_date
from cachestream.errors import (
    ClosedError,
    ConnectError,
    UpstreamProtocolError,
    UpstreamTimeoutError,
)

__all__ = ["Faults", "SimLoop", "SimOrigin", "SimTransport", "StuckError", "Version", "simulate"]

T = TypeVar("T")

EPOCH: Final = 1_800_000_000.0
"""Wall-clock time at the start of every simulation."""


class StuckError(AssertionError):
    """Nothing is ready and nothing is due: somebody waits for what never comes."""


class _VirtualSelector(selectors.DefaultSelector):
    """Instead of waiting for a timer, moves the loop's clock to it."""

    loop: SimLoop

    def select(self, timeout: float | None = None) -> list[Any]:
        events = super().select(0)
        if events:
            return events
        if timeout is None:
            raise StuckError("the simulation is stuck: no task can go on")
        self.loop.elapsed(timeout)
        return []


class SimLoop(asyncio.SelectorEventLoop):
    """An event loop whose time is virtual and whose order of callbacks is random.

    Args:
        chance: Decides the order.
        after_step: Called between iterations, to check invariants.
    """

    def __init__(self, chance: random.Random, after_step: Callable[[], None] | None = None) -> None:
        self._now = 0.0
        selector = _VirtualSelector()
        selector.loop = self
        super().__init__(selector)
        self._chance = chance
        self._after_step = after_step
        self.steps = 0

    def time(self) -> float:
        """Return virtual seconds."""
        return self._now

    def wall_clock(self) -> float:
        """Return virtual seconds since the epoch."""
        return EPOCH + self._now

    def elapsed(self, timeout: float) -> None:
        """Advance to the next timer, shuffle what is ready, and check."""
        self._now += max(timeout, 0.0)
        self.steps += 1
        ready: deque[Any] = self._ready  # type: ignore[attr-defined]
        if len(ready) > 1:
            order = list(ready)
            self._chance.shuffle(order)
            ready.clear()
            ready.extend(order)
        if self._after_step is not None:
            self._after_step()


def simulate(
    scenario: Callable[[SimLoop], Coroutine[Any, Any, T]],
    chance: random.Random,
    after_step: Callable[[SimLoop], None] | None = None,
) -> T:
    """Run ``scenario`` in a loop of its own; nothing may be left running at its end.

    Raises:
        StuckError: If everybody waits for ever.
        AssertionError: If a task outlives the scenario.
    """
    loop = SimLoop(chance)
    if after_step is not None:
        loop._after_step = lambda: after_step(loop)
    try:
        result = loop.run_until_complete(scenario(loop))
        left = [task for task in asyncio.all_tasks(loop) if not task.done()]
        if left:
            raise AssertionError(f"left running: {left}")
        return result
    finally:
        loop.close()


@attrs.frozen(eq=False)
class Version:
    """One version of the content, with its validators."""

    content: bytes
    etag: str | None
    last_modified: float | None = None


@attrs.define(kw_only=True)
class Faults:
    """Chances, each from 0 to 1, of what goes wrong in one exchange."""

    refuse: float = 0.0
    unavailable: float = 0.0
    drop: float = 0.0
    stall: float = 0.0
    ignore_range: float = 0.0
    short: float = 0.0
    lie: float = 0.0
    spurious_416: float = 0.0
    change: float = 0.0


@attrs.define(eq=False)
class SimOrigin:
    """An origin with one resource whose content may change.

    Attributes:
        versions: All that there were, oldest first; the last is current.
        chance: Decides the faults.
        faults: How likely each is.
        ranges: Whether ranges are answered.
        tells_length: Whether a whole answer has a Content-Length.
        fields: Further fields of every answer.
        make: Makes the next version.
        served: Half-open spans of content sent, with their version.
    """

    versions: list[Version]
    chance: random.Random
    faults: Faults = attrs.field(factory=Faults)
    ranges: bool = True
    tells_length: bool = True
    fields: Fields = attrs.field(factory=Fields)
    make: Callable[[int], Version] | None = None
    requests: int = 0
    served: list[tuple[Version, Span]] = attrs.field(factory=list)

    @property
    def current(self) -> Version:
        """The version that is served now."""
        return self.versions[-1]

    def change(self) -> None:
        """Replace the content."""
        if self.make is not None:
            self.versions.append(self.make(len(self.versions)))

    def happens(self, chance: float) -> bool:
        """Decide by chance."""
        return self.chance.random() < chance


class SimTransport(Transport):
    """Serves a `SimOrigin` without a network."""

    schemes = frozenset({"http", "https"})

    def __init__(
        self,
        origin: SimOrigin,
        *,
        read_timeout: float = 30.0,
        clock: Callable[[], float] | None = None,
        watch: Callable[[UpstreamRequest], None] | None = None,
    ) -> None:
        self.origin = origin
        self.open_responses = 0
        self._read_timeout = read_timeout
        self._clock = clock
        self._watch = watch
        self._closed = False

    def now(self) -> float:
        """Return the wall-clock time."""
        if self._clock is not None:
            return self._clock()
        return EPOCH + asyncio.get_running_loop().time()

    async def fetch(self, request: UpstreamRequest) -> UpstreamResponse:
        """Answer, or fail as chance will have it."""
        origin, faults = self.origin, self.origin.faults
        if self._closed:
            raise ClosedError("the transport is closed")
        if self._watch is not None:
            self._watch(request)
        origin.requests += 1
        asked_at = self.now()
        await asyncio.sleep(origin.chance.random() * 0.2)
        if origin.happens(faults.refuse):
            raise ConnectError("connection refused", url=request.source)
        if origin.happens(faults.stall / 2):
            await asyncio.sleep(self._read_timeout)
            raise UpstreamTimeoutError("no head in time", url=request.source)
        if origin.happens(faults.change):
            origin.change()
        status, fields, span = self._answer(request)
        return SimResponse(self, request.url, status, fields, span, asked_at)

    def _answer(self, request: UpstreamRequest) -> tuple[int, Fields, Span]:
        origin, faults = self.origin, self.origin.faults
        version = origin.current
        length = len(version.content)
        common = [("Date", format_http_date(self.now())), *origin.fields]
        if origin.happens(faults.unavailable):
            return 503, Fields.of(("Content-Length", "0"), ("Retry-After", "1")), Span(0, 0)
        if version.etag is not None:
            common.append(("ETag", version.etag))
        if version.last_modified is not None:
            common.append(("Last-Modified", format_http_date(version.last_modified)))
        known = request.fields.get("if-none-match")
        if known is not None and known == version.etag:
            return 304, Fields.parse(common), Span(0, 0)
        span = self._range(request, version)
        if span is None:
            if origin.tells_length:
                common.append(("Content-Length", str(length)))
            return 200, Fields.parse(common), Span(0, length)
        if not span or origin.happens(faults.spurious_416):
            common.append(("Content-Range", unsatisfied_range(length)))
            return 416, Fields.parse([*common, ("Content-Length", "0")]), Span(0, 0)
        told = span
        suffix = (request.fields.get("range") or "").startswith("bytes=-")
        if not suffix and origin.happens(faults.lie):  # a lie about a suffix cannot be seen
            told = Span(span.start + 1, span.stop + 1)
            length += 1
        common.append(("Content-Range", content_range(told, length)))
        common.append(("Content-Length", str(len(span))))
        return 206, Fields.parse(common), span

    def _range(self, request: UpstreamRequest, version: Version) -> Span | None:
        """Return what the Range names; None to ignore it, empty if unsatisfiable."""
        value = request.fields.get("range")
        if value is None or not self.origin.ranges:
            return None
        if self.origin.happens(self.origin.faults.ignore_range):
            return None
        condition = request.fields.get("if-range")
        if condition is not None and condition not in _validators(version):
            return None
        specs = parse_range(value)
        if specs is None:
            return None
        spans = resolve(specs, len(version.content))
        return spans[0] if spans else Span(0, 0)

    async def aclose(self) -> None:
        """Fetch no more."""
        self._closed = True


def _validators(version: Version) -> set[str]:
    found = set()
    if version.etag is not None and not version.etag.startswith("W/"):
        found.add(version.etag)
    if version.last_modified is not None:
        found.add(format_http_date(version.last_modified))
    return found


class SimResponse(UpstreamResponse):
    """Content in pieces of random size, with random pauses, perhaps not to its end."""

    def __init__(
        self,
        transport: SimTransport,
        url: str,
        status: int,
        fields: Fields,
        span: Span,
        asked_at: float,
    ) -> None:
        self.status = status
        self.fields = fields
        self.url = url
        self.request_time = asked_at
        self.response_time = transport.now()
        self._transport = transport
        self._version = transport.origin.current
        self._span = span
        self._closed = False
        transport.open_responses += 1

    async def __aiter__(self) -> AsyncIterator[Buffer]:
        origin, faults = self._transport.origin, self._transport.origin.faults
        chance = origin.chance
        ends_at = self._span.stop
        fault = None
        if len(self._span) > 1:
            for name in ("drop", "stall", "short"):
                told = name != "short" or "content-length" in self.fields
                if told and origin.happens(getattr(faults, name)):
                    fault = name
                    ends_at = chance.randrange(self._span.start, self._span.stop)
                    break
        position = self._span.start
        while position < ends_at and not self._closed:
            stop = min(ends_at, position + chance.choice((1, 700, 4096, 16384, 65536)))
            if chance.random() < 0.3:
                await asyncio.sleep(chance.random() * 0.05)
            piece = Span(position, stop)
            origin.served.append((self._version, piece))
            yield self._version.content[position:stop]
            position = stop
        if fault == "drop":
            raise UpstreamProtocolError("the connection was lost", url=self.url)
        if fault == "stall":
            await asyncio.sleep(self._transport._read_timeout)
            raise UpstreamTimeoutError("the origin stalled", url=self.url)

    async def aclose(self) -> None:
        """Release the exchange."""
        if not self._closed:
            self._closed = True
            self._transport.open_responses -= 1
