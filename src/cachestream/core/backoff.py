"""How long to wait before asking an origin again (RFC 9110 §10.2.3)."""

from __future__ import annotations

import re
from typing import Final

from cachestream.core.validators import parse_http_date

__all__ = ["MAX_RETRY_AFTER", "delay", "parse_retry_after"]

MAX_RETRY_AFTER: Final = 86_400.0
"""A longer Retry-After than a day is taken for a day, in seconds."""

# Doubling stops mattering long before this; it keeps 2**attempt a finite float.
_MAX_DOUBLINGS: Final = 64

_SECONDS: Final = re.compile(r"[0-9]+")


def delay(attempt: int, *, first: float, cap: float, jitter: float) -> float:
    """Return how long to wait before a retry, in seconds.

    Args:
        attempt: How many retries there were before this one; 0 for the first.
        first: The wait before the first retry, doubled with each attempt; seconds.
        cap: The longest wait; seconds.
        jitter: A random number in [0, 1), so that clients do not come back in step.

    Returns:
        Between half of the wait (jitter 0) and the whole of it (jitter towards 1).
    """
    whole = min(cap, first * 2.0 ** min(max(attempt, 0), _MAX_DOUBLINGS))
    return whole * (1.0 + jitter) / 2.0


def parse_retry_after(value: str, now: float) -> float | None:
    """Read a Retry-After field: a number of seconds, or an HTTP-date.

    Args:
        value: The field value.
        now: Seconds since the epoch.

    Returns:
        Seconds from ``now``, between 0 and `MAX_RETRY_AFTER`; None when it is malformed.
    """
    text = value.strip(" \t")
    if _SECONDS.fullmatch(text):
        digits = text.lstrip("0") or "0"
        # Text that long would make int() slow or refuse; its value is a day anyway.
        return MAX_RETRY_AFTER if len(digits) > 6 else min(float(digits), MAX_RETRY_AFTER)
    moment = parse_http_date(text)
    return None if moment is None else min(max(0.0, moment - now), MAX_RETRY_AFTER)
