"""Beside hishel's state machine: both use the same answers unasked, but for what is listed here."""

import uuid
from unittest import mock

import hishel
import pytest
from hishel import CacheOptions, Entry, FromCache, Headers, IdleClient, Request, Response
from hypothesis import given
from hypothesis import strategies as st

from cachestream.core.fields import Fields, parse_directives
from cachestream.core.freshness import Use, delta_seconds, judge_use
from cachestream.core.representation import Representation
from cachestream.core.validators import format_http_date, parse_http_date

NOW = 1_700_000_000
URL = "https://example.com/film.mp4"
OPTIONS = CacheOptions(shared=False, supported_methods=["GET"], allow_stale=False)

DIFFERENCES = {
    "age": "it counts from Date alone; here Age counts too (RFC 9111 §4.2.3), and without Date"
    " the time since the answer came",
    "request": "it follows no-cache only; here max-age, min-fresh, max-stale and Pragma count"
    " (§5.2.1, §5.4)",
    "heuristic": "its guess grows with the time since the answer; here it counts to Date (§4.2.2)",
    "unreadable": "it passes over a max-age that is no number; here that means stale (§4.2.1)",
    "fields": "it uses an answer with no-cache for some fields; here that means all (§5.2.2.4)",
}
"""Where the two differ on purpose, and why; each is shown by an example below."""


def answer(received: int, lines: list[tuple[str, str]]) -> Representation:
    """Return what is stored of an answer that took no time."""
    return Representation(
        fields=Fields.of(*lines), request_time=float(received), response_time=float(received)
    )


def ours(stored: Representation, request: Fields, now: int) -> bool:
    """Tell whether we use what is stored without asking."""
    return judge_use(stored, request, float(now), validation="stale").use is Use.AS_IS


def theirs(stored: Representation, request: Fields, now: int) -> bool:
    """Tell whether hishel does."""
    entry = Entry(
        id=uuid.UUID(int=1),
        request=Request("GET", URL, Headers({})),
        response=Response(200, Headers(dict(stored.fields))),
    )
    asked = Request("GET", URL, Headers(dict(request)))
    with mock.patch.object(hishel._core._spec.time, "time", return_value=float(now)):
        return isinstance(IdleClient(options=OPTIONS).next(asked, [entry]), FromCache)


def differs(stored: Representation, request: Fields) -> set[str]:
    """Return which of the differences there may be."""
    told = parse_directives(stored.fields.joined("cache-control") or "")
    date = parse_http_date(stored.fields.get("date") or "")
    explicit = "max-age" in told or "expires" in stored.fields
    found = {
        "age": "age" in stored.fields or date is None or date > stored.response_time,
        "request": bool({"max-age", "min-fresh", "max-stale"} & _directives(request))
        or "pragma" in request,
        "heuristic": not explicit and "last-modified" in stored.fields,
        "unreadable": "max-age" in told and delta_seconds(told["max-age"]) is None,
        "fields": told.get("no-cache") is not None,
    }
    return {name for name, is_so in found.items() if is_so}


def _directives(request: Fields) -> set[str]:
    return set(parse_directives(request.joined("cache-control") or ""))


DIRECTIVES = st.one_of(
    st.sampled_from(["no-cache", "no-store", "private", "public", "must-revalidate", "immutable"]),
    st.sampled_from(["max-age=x", 'no-cache="set-cookie"', "stale-while-revalidate=60"]),
    st.integers(0, 500).map(lambda seconds: f"max-age={seconds}"),
    st.integers(0, 500).map(lambda seconds: f"s-maxage={seconds}"),
)
DATES = st.integers(-1000, 1000).map(lambda distance: format_http_date(NOW + distance))
LINES = st.fixed_dictionaries(
    {},
    optional={
        "Date": st.one_of(DATES, st.just("yesterday")),
        "Cache-Control": st.lists(DIRECTIVES, max_size=3, unique=True).map(", ".join),
        "Expires": st.one_of(DATES, st.just("0")),
        "Last-Modified": DATES,
        "Age": st.integers(0, 500).map(str),
    },
)
REQUESTS = st.sampled_from(["", "no-cache", "max-age=0", "max-stale", "min-fresh=5", "no-store"])


@given(LINES, REQUESTS, st.integers(0, 1000))
def test_both_use_the_same_answers(lines, wanted, later):
    """For any answer and any request that no difference is about."""
    stored = answer(NOW, list(lines.items()))
    request = Fields.of(("Cache-Control", wanted)) if wanted else Fields()
    if not differs(stored, request):
        assert ours(stored, request, NOW + later) == theirs(stored, request, NOW + later)


DATED = ("Date", format_http_date(NOW))
FRESH = ("Cache-Control", "max-age=60")


@pytest.mark.parametrize(
    ("name", "lines", "request_lines", "later", "used"),
    [
        ("age", [DATED, FRESH, ("Age", "50")], [], 20, False),
        ("age", [FRESH], [], 61, False),
        ("request", [DATED, FRESH], [("Cache-Control", "max-age=5")], 10, False),
        ("request", [DATED, FRESH], [("Cache-Control", "min-fresh=55")], 10, False),
        ("request", [DATED, FRESH], [("Cache-Control", "max-stale")], 100, True),
        ("request", [DATED, FRESH], [("Pragma", "no-cache")], 10, False),
        ("heuristic", [DATED, ("Last-Modified", format_http_date(NOW - 1000))], [], 105, False),
        (
            "unreadable",
            [DATED, ("Cache-Control", "max-age=x"), ("Expires", format_http_date(NOW + 60))],
            [],
            10,
            False,
        ),
        ("fields", [DATED, ("Cache-Control", 'no-cache="a", max-age=60')], [], 10, False),
    ],
)
def test_each_difference_is_one(name, lines, request_lines, later, used):
    """What is listed is so today: we do what its line says, and hishel the other."""
    stored, request = answer(NOW, lines), Fields.of(*request_lines)
    assert name in DIFFERENCES
    assert name in differs(stored, request)
    assert ours(stored, request, NOW + later) is used
    assert theirs(stored, request, NOW + later) is not used


def test_every_difference_has_a_reason():
    """The list and what looks for its members name the same."""
    everything = answer(NOW, [("Age", "1"), ("Cache-Control", 'max-age=x, no-cache="a"')])
    assert differs(everything, Fields.of(("Pragma", "no-cache"))) <= set(DIFFERENCES)
