"""For how long an answer is used without asking its origin, and what else decides that.

Pure functions of what is stored, the fields of a request, and the time (RFC 9111 §4.2 and §5.2,
RFC 5861, RFC 8246). They are those of a private cache, to which ``s-maxage``, ``proxy-revalidate``
and ``private`` say nothing.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from typing import Final, Literal, TypeAlias

import attrs

from cachestream.core.fields import Fields, parse_directives, split_list
from cachestream.core.representation import Representation
from cachestream.core.validators import parse_http_date

__all__ = [
    "Freshness",
    "Usage",
    "Use",
    "Validation",
    "born",
    "delta_seconds",
    "forbids_storing",
    "freshness_of",
    "judge_use",
    "wants_only_stored",
]

Validation: TypeAlias = Literal["never", "stale", "always"]
Directives: TypeAlias = Mapping[str, str | None]

MOST_S: Final = 2**31
"""What a larger number of seconds counts as (RFC 9111 §1.2.2)."""

HEURISTIC_SHARE: Final = 0.1
MOST_HEURISTIC_S: Final = 7 * 24 * 3600.0
"""Without a lifetime, a tenth of the time since the last change, and a week at most (§4.2.2)."""

HEURISTIC_STATUS: Final = frozenset({200, 203, 204, 206, 300, 301, 308, 404, 405, 410, 414, 501})
"""Statuses whose answers may be given a lifetime (RFC 9110 §15.1)."""


@attrs.frozen
class Freshness:
    """How old an answer is, and how old it may get; in seconds.

    Attributes:
        age: Its current age (RFC 9111 §4.2.3), at least 0.
        lifetime: Its freshness lifetime (§4.2.1), at least 0.
        explicit: Whether the origin said so, and nobody guessed.
    """

    age: float
    lifetime: float
    explicit: bool = True

    @property
    def ttl(self) -> float:
        """How long it stays fresh from now on; below 0 for how long it has been stale."""
        return self.lifetime - self.age

    @property
    def is_fresh(self) -> bool:
        """Whether its lifetime is greater than its age."""
        return self.lifetime > self.age


class Use(enum.Enum):
    """What to do with an answer that is held, for one request."""

    AS_IS = "use it"
    MEANWHILE = "use it, and ask the origin about it in the background"
    VALIDATE = "ask the origin about it first"


@attrs.frozen(kw_only=True)
class Usage:
    """A judgement about one answer and one request.

    Attributes:
        use: What to do.
        on_error: Whether it may be used where asking the origin fails.
        freshness: What that is based on.
    """

    use: Use
    on_error: bool
    freshness: Freshness


def delta_seconds(text: str | None) -> int | None:
    """Read a number of seconds (RFC 9111 §1.2.2); None if it is none."""
    text = (text or "").strip()
    if not (text.isascii() and text.isdigit()):
        return None
    return min(int(text), MOST_S) if len(text) <= 20 else MOST_S


def directives_of(fields: Fields) -> Directives:
    """Return a request's directives; those of Pragma where it has no Cache-Control (§5.4)."""
    value = fields.joined("cache-control")
    if value is None and "no-cache" in parse_directives(fields.joined("pragma") or ""):
        return {"no-cache": None}
    return parse_directives(value or "")


def _told(representation: Representation) -> Directives:
    """Return the directives of an answer; Pragma is no field of answers."""
    return parse_directives(representation.fields.joined("cache-control") or "")


def born(representation: Representation) -> float:
    """Return when an answer was of age 0, in seconds since the epoch (RFC 9111 §4.2.3).

    The greater counts of what the caches on its way said and of what the origin's Date tells.
    """
    told = split_list(representation.fields.joined("age") or "")
    delay = max(0.0, representation.response_time - representation.request_time)
    corrected = (delta_seconds(told[0]) or 0) + delay if told else delay
    date = parse_http_date(representation.fields.get("date") or "")
    apparent = 0.0 if date is None else max(0.0, representation.response_time - date)
    return representation.response_time - max(apparent, corrected)


def freshness_of(representation: Representation, now: float, *, heuristic: bool) -> Freshness:
    """Return how old an answer is and may get.

    Args:
        representation: What is stored of it.
        now: Seconds since the epoch.
        heuristic: Guess a lifetime where the origin names none.
    """
    told = _told(representation)
    return _freshness(representation, told, now, heuristic=heuristic)


def _freshness(
    representation: Representation, told: Directives, now: float, *, heuristic: bool
) -> Freshness:
    age, fields = max(0.0, now - born(representation)), representation.fields
    if "max-age" in told:
        # What cannot be read means stale, the careful side (§4.2.1).
        return Freshness(age, float(delta_seconds(told["max-age"]) or 0))
    date = parse_http_date(fields.get("date") or "")
    made = representation.response_time if date is None else date
    if "expires" in fields:
        expires = parse_http_date(fields.get("expires") or "")
        return Freshness(age, 0.0 if expires is None else max(0.0, expires - made))
    return Freshness(age, _guess(representation, made) if heuristic else 0.0, explicit=False)


def _guess(representation: Representation, made: float) -> float:
    modified = representation.last_modified
    if modified is None or representation.status not in HEURISTIC_STATUS:
        return 0.0
    return min(max(0.0, made - modified) * HEURISTIC_SHARE, MOST_HEURISTIC_S)


def judge_use(
    representation: Representation,
    request: Fields,
    now: float,
    *,
    validation: Validation,
    heuristic: bool = True,
) -> Usage:
    """Return how an answer that is held may be used for a request (RFC 9111 §4).

    Args:
        representation: What is stored of it.
        request: The fields of the request; its Cache-Control counts with ``stale`` only.
        now: Seconds since the epoch.
        validation: ``never`` uses whatever is held, ``always`` asks each time, ``stale`` is RFC
            9111.
        heuristic: As for `freshness_of`.
    """
    told = _told(representation)
    freshness = _freshness(representation, told, now, heuristic=heuristic)
    if validation == "never":
        return Usage(use=Use.AS_IS, on_error=True, freshness=freshness)
    # RFC 9111 §4.2.4: these forbid stale answers, and no failure is an excuse.
    strict = "must-revalidate" in told or "no-cache" in told
    wanted = directives_of(request)
    use = Use.VALIDATE
    if validation == "stale" and "no-cache" not in told and "no-cache" not in wanted:
        use = _use_fresh(freshness, told, wanted)
        if use is Use.VALIDATE and not strict and not freshness.is_fresh:
            use = _use_stale(freshness, told, wanted)
    return Usage(use=use, on_error=not strict, freshness=freshness)


def _use_fresh(freshness: Freshness, told: Directives, wanted: Directives) -> Use:
    """A fresh answer is used, unless the request wants a fresher one (§5.2.1.1, §5.2.1.3)."""
    is_enough = freshness.is_fresh and freshness.ttl >= (
        delta_seconds(wanted.get("min-fresh")) or 0
    )
    # A reload that is not forced asks for max-age=0; what never changes need not be asked about
    # (RFC 8246 §2).
    if is_enough and ("immutable" in told or not _is_too_old(freshness, wanted)):
        return Use.AS_IS
    return Use.VALIDATE


def _use_stale(freshness: Freshness, told: Directives, wanted: Directives) -> Use:
    """A stale answer is used if the request puts up with it, or the origin does for a while."""
    if _is_too_old(freshness, wanted) or "min-fresh" in wanted:
        return Use.VALIDATE
    stale = -freshness.ttl
    if "max-stale" in wanted:
        limit = wanted["max-stale"]
        if limit is None or stale <= (delta_seconds(limit) or 0):
            return Use.AS_IS
    # RFC 5861 §3
    if stale <= (delta_seconds(told.get("stale-while-revalidate")) or -1):
        return Use.MEANWHILE
    return Use.VALIDATE


def _is_too_old(freshness: Freshness, wanted: Directives) -> bool:
    limit = delta_seconds(wanted.get("max-age"))
    return limit is not None and freshness.age > limit


def wants_only_stored(request: Fields) -> bool:
    """Tell whether a request is to be answered from what is held or not at all (§5.2.1.7)."""
    return "only-if-cached" in directives_of(request)


def forbids_storing(request: Fields) -> bool:
    """Tell whether nothing of the answer to a request may be kept (§5.2.1.5)."""
    return "no-store" in directives_of(request)
