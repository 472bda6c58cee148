"""What was learnt of each origin: how it answers, and how many connections it allows."""

from __future__ import annotations

from collections import OrderedDict, deque
from typing import Final

import attrs

__all__ = ["FORBIDDEN", "TOO_MANY", "Host", "Hosts"]

TOO_MANY: Final = frozenset({429, 503})
FORBIDDEN: Final = 403
"""Statuses by which origins refuse a client's second, fourth or eighth connection."""

KNOWN: Final = 1000
"""How many origins are remembered."""

REFUSAL_S: Final = 60.0
"""For so many seconds an origin that refused a connection is taken at its word."""

SMOOTHING: Final = 0.2

SAMPLES: Final = 100
"""Of so many answers, the last ones, it is known how long they took."""

LEAST_SAMPLES: Final = 10
"""With fewer nobody can say what is unusual."""

LEAST_PATIENCE_S: Final = 0.1
"""For a shorter time it is never worth while to ask again, in seconds."""

UNUSUAL: Final = 1.5
"""Waiting for so many times what 95 of 100 answers take is unusual."""

HEDGED: Final = 0.05
"""Most of an origin's exchanges that are asked again, as a share of all."""


@attrs.define(eq=False)
class Host:
    """One origin: scheme, host and port.

    Attributes:
        open: Downloads from it that run.
        spread: How many connections paid for one resource, as far as it was tried.
        latency: Smoothed time from a request to its head, in seconds; None before the first.
        answers: Heads that came.
        hedges: Requests that were sent because another one stalled.
    """

    open: int = 0
    spread: int = 1
    latency: float | None = None
    answers: int = 0
    hedges: int = 0
    _allowed: int | None = None
    _allowed_until: float = 0.0
    _times: deque[float] = attrs.field(factory=lambda: deque(maxlen=SAMPLES))

    def answered(self, seconds: float) -> None:
        """Note how long a head was waited for."""
        before = seconds if self.latency is None else self.latency
        self.latency = before + SMOOTHING * (seconds - before)
        self.answers += 1
        self._times.append(seconds)

    @property
    def patience(self) -> float | None:
        """How long to wait before an exchange is taken for one that stalls, in seconds.

        None while too little is known of how long the origin usually takes.
        """
        if len(self._times) < LEAST_SAMPLES:
            return None
        times = sorted(self._times)
        return max(LEAST_PATIENCE_S, UNUSUAL * times[len(times) * 95 // 100])

    def may_hedge(self) -> bool:
        """Tell whether one request more than necessary is still few among all."""
        return self.hedges < 1 + HEDGED * self.answers

    def refused(self, now: float, allowed: int) -> None:
        """Note that it refused one more than ``allowed`` connections."""
        self._allowed, self._allowed_until = max(1, allowed), now + REFUSAL_S
        self.spread = min(self.spread, self._allowed)

    def room(self, now: float, most: int, own: int) -> int:
        """Return how many connections a resource may have that has ``own`` now; at least one.

        Args:
            now: The loop's time.
            most: How many all resources together may have.
            own: How many of the open ones are the resource's.
        """
        if self._allowed is not None and now < self._allowed_until:
            most = min(most, self._allowed)
        return max(1, most - (self.open - own))


class Hosts:
    """All origins that were asked; the one longest not asked is forgotten first."""

    def __init__(self) -> None:
        self._hosts: OrderedDict[str, Host] = OrderedDict()

    def of(self, origin: str) -> Host:
        """Return what is known of an origin, which is made known by that."""
        host = self._hosts.get(origin)
        if host is None:
            host = self._hosts[origin] = Host()
            self._forget()
        self._hosts.move_to_end(origin)
        return host

    def _forget(self) -> None:
        for origin in list(self._hosts)[: max(0, len(self._hosts) - KNOWN)]:
            if not self._hosts[origin].open:
                del self._hosts[origin]
