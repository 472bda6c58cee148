"""Which places are asked in which order, and what came of a round of asking them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import attrs

from cachestream.abc import UpstreamRequest, UpstreamResponse
from cachestream.core.urls import display, origin_of
from cachestream.errors import (
    CacheStreamError,
    ConnectError,
    TransportError,
    UpstreamTimeoutError,
)

__all__ = ["MAX_SOURCES", "Health", "Mirror", "Round", "exhausted"]

MAX_SOURCES: Final = 4096
"""How many sources, and places, are remembered."""


@attrs.frozen
class Mirror:
    """One place: the name it is remembered by, and where to ask it now."""

    name: str
    url: str

    @property
    def host(self) -> str:
        """Host and port, for messages."""
        return origin_of(self.url).partition("://")[2]


class Health:
    """Until when each place that failed is put back."""

    def __init__(self, cool_down: float, clock: Callable[[], float]) -> None:
        self._cool_down = cool_down
        self._clock = clock
        self._until: dict[str, float] = {}

    def failed(self, key: str) -> None:
        """Put a place, or all of an origin, back for a while."""
        now = self._clock()
        if len(self._until) >= MAX_SOURCES:
            self._until = {key: until for key, until in self._until.items() if until > now}
        self._until[key] = now + self._cool_down

    def worked(self, mirror: Mirror) -> None:
        """Take note that a place answers."""
        for key in (mirror.name, origin_of(mirror.url)):
            self._until.pop(key, None)

    def until(self, mirror: Mirror) -> float:
        """Return until when a place is put back, 0 if it is not."""
        keys = (mirror.name, origin_of(mirror.url))
        latest = max(self._until.get(key, 0.0) for key in keys)
        return latest if latest > self._clock() else 0.0


@attrs.define(eq=False)
class Round:
    """What came of asking the places of one request.

    Attributes:
        reasons: What came of each, for people.
        errors: Failures of the network.
        others: Those with other content.
        refusal: The most telling answer with an error status.
    """

    reasons: list[str] = attrs.field(factory=list)
    errors: list[TransportError] = attrs.field(factory=list)
    others: list[Mirror] = attrs.field(factory=list)
    refusal: UpstreamResponse | None = None

    def differs(self, mirror: Mirror, reason: str) -> None:
        """Take note of a place with other content."""
        self.others.append(mirror)
        self.reasons.append(f"{mirror.host}: {reason}")

    def failed(self, mirror: Mirror, error: TransportError) -> None:
        """Take note of a place that could not be asked."""
        self.errors.append(error)
        self.reasons.append(f"{mirror.host}: {error.outcome}")

    async def refused(self, mirror: Mirror, response: UpstreamResponse) -> None:
        """Keep a refusal, in case that nobody does better; one by a fault of the server first."""
        self.reasons.append(f"{mirror.host}: status {response.status}")
        worse = response
        if self.refusal is None or response.status >= 500 > self.refusal.status:
            self.refusal, worse = response, self.refusal or response
        if worse is not self.refusal:
            await worse.aclose()

    def take_answer(self) -> UpstreamResponse | None:
        """Hand out the refusal that stands for all: "not found" only if every place says so."""
        if self.refusal is None:
            return None
        certain = not self.errors and not self.others
        if not certain and self.refusal.status < 500:
            return None
        answer, self.refusal = self.refusal, None
        return answer

    async def aclose(self) -> None:
        """Close what nobody took."""
        if self.refusal is not None:
            await self.refusal.aclose()


def exhausted(request: UpstreamRequest, count: int, result: Round) -> CacheStreamError:
    """Return the error that says how many were tried, and what came of each."""
    if count == 1 and result.errors:
        return result.errors[0]
    kind: type[TransportError] = TransportError
    for each in (ConnectError, UpstreamTimeoutError):
        if len(result.errors) == count and all(isinstance(e, each) for e in result.errors):
            kind = each
    error = kind(
        f"none of {count} mirrors can be used",
        url=display(request.source),
        hint="; ".join(result.reasons),
    )
    error.__cause__ = result.errors[-1] if result.errors else None
    return error
