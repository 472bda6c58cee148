"""Validators and preconditions (RFC 9110 §8.8, §13)."""

from __future__ import annotations

import enum
import math
import re
from datetime import date, datetime, timedelta
from typing import Final

import attrs

from cachestream.core.fields import Fields

__all__ = [
    "EntityTag",
    "Precondition",
    "evaluate_preconditions",
    "format_http_date",
    "if_range_matches",
    "parse_http_date",
]

# etagc (RFC 9110 §8.8.3): visible but the quote, and whatever obs-text was decoded to.
# A backslash escapes nothing here, so a list of tags is no list of quoted strings.
_TAG: Final = re.compile(r'(W/)?"([\x21\x23-\x7e\x80-\U0010ffff]*)"')
_OWS: Final = " \t"


@attrs.frozen
class EntityTag:
    """An entity tag: its opaque text without the quotes, and whether it is weak."""

    opaque: str
    weak: bool = False

    @classmethod
    def parse(cls, text: str) -> EntityTag | None:
        """Read one entity tag; None when it is none."""
        match = _TAG.fullmatch(text.strip(_OWS))
        return None if match is None else cls(match[2], match[1] is not None)

    def __str__(self) -> str:
        return f'{"W/" if self.weak else ""}"{self.opaque}"'

    def strong_match(self, other: EntityTag) -> bool:
        """Tell whether both are strong and equal: the same bytes (RFC 9110 §8.8.3.2)."""
        return not self.weak and not other.weak and self.opaque == other.opaque

    def weak_match(self, other: EntityTag) -> bool:
        """Tell whether both say the same, weak or not: as good as the same bytes."""
        return self.opaque == other.opaque


# ---------------------------------------------------------------------------
# HTTP-date (RFC 9110 §5.6.7)
# ---------------------------------------------------------------------------

_DAYS: Final = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_MONTHS: Final = (
    "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
)  # fmt: skip
_MONTH_NUMBERS: Final = {name.lower(): number for number, name in enumerate(_MONTHS, 1)}

_TIME: Final = r"(?P<hour>[01][0-9]|2[0-3]):(?P<minute>[0-5][0-9]):(?P<second>[0-5][0-9]|60)"
_MONTH: Final = rf"(?P<month>{'|'.join(_MONTHS)})"
_DAY: Final = rf"(?:{'|'.join(_DAYS)})"
_LONG_DAY: Final = r"(?:Mon|Tues|Wednes|Thurs|Fri|Satur|Sun)day"

# RFC 9111 §4.2 lets a cache compare names without case; everything else is exact, because a
# date that is not quite one ("UTC", one-digit hours) must not make an answer seem fresh.
_DATE_FORMS: Final = tuple(
    re.compile(pattern, re.IGNORECASE | re.ASCII)
    for pattern in (
        rf"{_DAY}, (?P<day>[0-9]{{2}}) {_MONTH} (?P<year>[0-9]{{4}}) {_TIME} GMT",
        rf"{_LONG_DAY}, (?P<day>[0-9]{{2}})-{_MONTH}-(?P<year>[0-9]{{2}}) {_TIME} GMT",
        rf"{_DAY} {_MONTH} (?P<day>[0-9]{{2}}| [0-9]) {_TIME} (?P<year>[0-9]{{4}})",
    )
)

_EPOCH: Final = date(1970, 1, 1).toordinal()

# Nothing on the web is older; "Jan 0001" is a program's way to say that it does not know.
_FIRST_YEAR: Final = 1900

# The rule for two digits ("not more than 50 years ahead") needs a clock, which the core has
# not. POSIX's pivot agrees with it for every date that the obsolete form still carries.
_PIVOT: Final = 70

_FIRST_SECOND: Final = (date(_FIRST_YEAR, 1, 1).toordinal() - _EPOCH) * 86_400
_LAST_SECOND: Final = (date(9999, 12, 31).toordinal() - _EPOCH) * 86_400 + 86_399


def parse_http_date(text: str) -> float | None:
    """Read an HTTP-date in any of its three forms; None when it is none (RFC 9110 §5.6.7).

    Two-digit years from 70 on are of the last century. Years before 1900 are no dates.
    The name of the day is not compared with the date.

    Returns:
        Seconds since the epoch, negative before 1970.
    """
    stripped = text.strip(_OWS)
    for form in _DATE_FORMS:
        match = form.fullmatch(stripped)
        if match is not None:
            return _seconds(match)
    return None


def _seconds(match: re.Match[str]) -> float | None:
    year = int(match["year"])
    if len(match["year"]) == 2:
        year += 1900 if year >= _PIVOT else 2000
    if year < _FIRST_YEAR:
        return None
    try:
        day = date(year, _MONTH_NUMBERS[match["month"].lower()], int(match["day"]))
    except ValueError:  # the 31st of a shorter month
        return None
    within = int(match["hour"]) * 3600 + int(match["minute"]) * 60 + int(match["second"])
    return float((day.toordinal() - _EPOCH) * 86_400 + within)


def format_http_date(seconds: float) -> str:
    """Return the preferred form of an HTTP-date, ``Sun, 06 Nov 1994 08:49:37 GMT``.

    Args:
        seconds: Since the epoch; fractions are dropped. Values outside the years 1900 to
            9999 become the nearest date within.
    """
    whole = math.floor(min(max(seconds, _FIRST_SECOND), _LAST_SECOND))
    moment = datetime(1970, 1, 1) + timedelta(seconds=whole)
    return (
        f"{_DAYS[moment.weekday()]}, {moment.day:02} {_MONTHS[moment.month - 1]} "
        f"{moment.year:04} {moment.hour:02}:{moment.minute:02}:{moment.second:02} GMT"
    )


# ---------------------------------------------------------------------------
# Preconditions (RFC 9110 §13)
# ---------------------------------------------------------------------------


class Precondition(enum.Enum):
    """What the preconditions of a request say about answering it."""

    PROCEED = "proceed"
    """Answer as if there were none; a Range may still depend on If-Range."""

    NOT_MODIFIED = "not-modified"
    """Answer 304: the client has it."""

    FAILED = "failed"
    """Answer 412."""


def evaluate_preconditions(
    method: str,
    fields: Fields,
    *,
    entity_tag: EntityTag | None,
    last_modified: float | None,
) -> Precondition:
    """Judge the preconditions of a request for a representation that exists.

    They are taken in the order of RFC 9110 §13.2.2: If-Match, else If-Unmodified-Since; then
    If-None-Match, else If-Modified-Since. Dates that are malformed, repeated, or have nothing
    to be compared with are ignored.

    Args:
        method: The request's method; only GET and HEAD can be answered with 304.
        fields: The request's fields.
        entity_tag: That of the selected representation, None if it has none.
        last_modified: Its Last-Modified, seconds since the epoch, None if it has none.
    """
    if_match = fields.joined("if-match")
    if if_match is not None:
        if not _lists_tag(if_match, entity_tag, strong=True):
            return Precondition.FAILED
    elif _is_newer(fields, "if-unmodified-since", last_modified):
        return Precondition.FAILED

    reading = method in {"GET", "HEAD"}
    if_none_match = fields.joined("if-none-match")
    if if_none_match is not None:
        if _lists_tag(if_none_match, entity_tag, strong=False):
            return Precondition.NOT_MODIFIED if reading else Precondition.FAILED
    elif reading and _is_newer(fields, "if-modified-since", last_modified) is False:
        return Precondition.NOT_MODIFIED
    return Precondition.PROCEED


def _lists_tag(value: str, entity_tag: EntityTag | None, *, strong: bool) -> bool:
    """Tell whether a list of entity tags, or ``*``, names ``entity_tag``."""
    if value.strip(_OWS) == "*":
        return True
    if entity_tag is None:
        return False
    listed = (EntityTag(match[2], match[1] is not None) for match in _TAG.finditer(value))
    if strong:
        return any(tag.strong_match(entity_tag) for tag in listed)
    return any(tag.weak_match(entity_tag) for tag in listed)


def _is_newer(fields: Fields, name: str, last_modified: float | None) -> bool | None:
    """Tell whether the representation is newer than a field's date; None if it does not count."""
    values = fields.get_all(name)
    moment = parse_http_date(values[0]) if len(values) == 1 else None
    if moment is None or last_modified is None:
        return None
    return last_modified > moment


def if_range_matches(
    value: str,
    *,
    entity_tag: EntityTag | None,
    last_modified: float | None,
    strong_date: bool,
) -> bool:
    """Tell whether an If-Range field lets the Range field count (RFC 9110 §13.1.5).

    The comparison is strong: a weak tag never matches, and a date only when it is the very
    Last-Modified and a strong validator.

    Args:
        value: The field value: one entity tag, or an HTTP-date.
        entity_tag: That of the selected representation.
        last_modified: Its Last-Modified, seconds since the epoch.
        strong_date: Whether that Last-Modified is a strong validator (RFC 9110 §8.8.2.2).
    """
    tag = EntityTag.parse(value)
    if tag is not None:
        return entity_tag is not None and tag.strong_match(entity_tag)
    moment = parse_http_date(value)
    return strong_date and moment is not None and moment == last_modified
