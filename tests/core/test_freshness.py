"""How old an answer is, how old it may get, and who may be given it, by RFC 9111."""

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from cachestream.core.fields import Fields
from cachestream.core.freshness import (
    MOST_S,
    Freshness,
    Use,
    born,
    delta_seconds,
    forbids_storing,
    freshness_of,
    judge_use,
    wants_only_stored,
)
from cachestream.core.representation import Representation
from cachestream.core.validators import format_http_date

NOW = 1_700_000_000.0
HOUR = 3600
WEEK = 7 * 24 * HOUR


def answer(*lines, delay=0.0, received=NOW, date=NOW, status=200):
    """Return an answer that came at a time, with a Date unless that is None."""
    dated = () if date is None else (("Date", format_http_date(date)),)
    return Representation(
        status=status,
        fields=Fields.of(*dated, *lines),
        request_time=received - delay,
        response_time=received,
    )


def control(value, **more):
    """Return an answer with this Cache-Control."""
    return answer(("Cache-Control", value), **more)


def asking(value=None, **more):
    """Return a request's fields."""
    lines = () if value is None else (("Cache-Control", value),)
    return Fields.of(*lines, *more.items())


def use(representation, later=0.0, request=None, validation="stale", **options):
    """Return what a request gets so many seconds later."""
    asked = asking() if request is None else request
    return judge_use(representation, asked, NOW + later, validation=validation, **options).use


# -- numbers ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("0", 0), (" 60 ", 60), ("2147483649", MOST_S), ("9" * 30, MOST_S), ("007", 7)],
)
def test_seconds_are_digits_with_a_bound(text, seconds):
    """RFC 9111 §1.2.2: what is too large counts as 2^31."""
    assert delta_seconds(text) == seconds


@pytest.mark.parametrize("text", [None, "", "-1", "+1", "1.5", "1s", "١", "1 2", "0x1"])
def test_anything_else_is_no_number_of_seconds(text):
    """A lifetime that cannot be read is none, and not some other one."""
    assert delta_seconds(text) is None


# -- age (§4.2.3) -------------------------------------------------------------


def test_age_counts_from_the_answer():
    """Where nobody says anything else, an answer is born when it came."""
    assert born(answer()) == NOW
    assert freshness_of(answer(), NOW + 30, heuristic=False).age == 30


def test_age_counts_what_caches_on_the_way_said():
    """Age and the time that the answer took are added."""
    assert born(answer(("Age", "100"), delay=3)) == NOW - 103
    assert born(answer(("Age", "100, 7"))) == NOW - 100
    assert born(answer(("Age", "old"))) == NOW


def test_age_counts_from_an_earlier_date():
    """The greater of both counts; a Date in the future makes nothing younger."""
    assert born(answer(date=NOW - 500)) == NOW - 500
    assert born(answer(("Age", "900"), date=NOW - 500)) == NOW - 900
    assert born(answer(date=NOW + 500)) == NOW
    assert born(answer(date=None)) == NOW


def test_a_clock_set_back_makes_no_negative_age():
    """Nothing is younger than just made."""
    assert freshness_of(answer(), NOW - 1000, heuristic=False).age == 0


# -- lifetime (§4.2.1, §4.2.2) ------------------------------------------------


@pytest.mark.parametrize(
    ("lines", "lifetime"),
    [
        ([("Cache-Control", "max-age=60")], 60),
        ([("Cache-Control", 'max-age="60"')], 60),
        ([("Cache-Control", "MAX-AGE=60")], 60),
        ([("Cache-Control", "max-age=60, max-age=120")], 60),
        ([("Cache-Control", "public"), ("Cache-Control", "max-age=60")], 60),
        ([("Cache-Control", "max-age=60"), ("Expires", "0")], 60),
        ([("Cache-Control", "max-age=nonsense"), ("Expires", format_http_date(NOW + 99))], 0),
        ([("Cache-Control", "max-age"), ("Expires", format_http_date(NOW + 99))], 0),
        ([("Cache-Control", "s-maxage=999, max-age=60")], 60),
        ([("Expires", format_http_date(NOW + 99))], 99),
        ([("Expires", format_http_date(NOW - 99))], 0),
        ([("Expires", "0")], 0),
        ([("Expires", "soon"), ("Last-Modified", format_http_date(NOW - 10_000))], 0),
    ],
)
def test_a_lifetime_that_was_named(lines, lifetime):
    """max-age goes before Expires, s-maxage is for others, and what makes no sense is 0."""
    found = freshness_of(answer(*lines), NOW, heuristic=True)
    assert (found.lifetime, found.explicit) == (lifetime, True)


def test_expires_counts_from_date():
    """The origin's clock may be wrong, as long as it is wrong in both fields."""
    wrong = answer(("Expires", format_http_date(NOW - HOUR + 60)), date=NOW - HOUR)
    assert freshness_of(wrong, NOW, heuristic=False).lifetime == 60
    undated = answer(("Expires", format_http_date(NOW + 60)), date=None)
    assert freshness_of(undated, NOW, heuristic=False).lifetime == 60


def test_a_lifetime_that_is_guessed():
    """A tenth of the time since the last change, a week at most, and only if that is wanted."""
    recent = answer(("Last-Modified", format_http_date(NOW - 1000)))
    assert freshness_of(recent, NOW, heuristic=True) == Freshness(0, 100, explicit=False)
    assert freshness_of(recent, NOW, heuristic=False) == Freshness(0, 0, explicit=False)
    ancient = answer(("Last-Modified", format_http_date(NOW - 1000 * WEEK)))
    assert freshness_of(ancient, NOW, heuristic=True).lifetime == WEEK
    assert freshness_of(answer(), NOW, heuristic=True).lifetime == 0
    future = answer(("Last-Modified", format_http_date(NOW + 1000)))
    assert freshness_of(future, NOW, heuristic=True).lifetime == 0
    unusual = answer(("Last-Modified", format_http_date(NOW - 1000)), status=201)
    assert freshness_of(unusual, NOW, heuristic=True).lifetime == 0


def test_fresh_ends_with_the_lifetime():
    """At an age of exactly the lifetime an answer is stale (§4.2)."""
    assert Freshness(59.9, 60).is_fresh
    assert not Freshness(60, 60).is_fresh
    assert Freshness(70, 60).ttl == -10


# -- use, by what the answer says (§4, §5.2.2) --------------------------------


@pytest.mark.parametrize(
    ("value", "later", "expected"),
    [
        ("max-age=60", 59, Use.AS_IS),
        ("max-age=60", 60, Use.VALIDATE),
        ("private, max-age=60", 59, Use.AS_IS),
        ("no-cache, max-age=60", 0, Use.VALIDATE),
        ('no-cache="set-cookie", max-age=60', 0, Use.VALIDATE),
        ("must-revalidate, max-age=60", 59, Use.AS_IS),
        ("must-revalidate, max-age=60", 61, Use.VALIDATE),
        ("max-age=60, stale-while-revalidate=30", 59, Use.AS_IS),
        ("max-age=60, stale-while-revalidate=30", 61, Use.MEANWHILE),
        ("max-age=60, stale-while-revalidate=30", 90, Use.MEANWHILE),
        ("max-age=60, stale-while-revalidate=30", 91, Use.VALIDATE),
        ("max-age=60, stale-while-revalidate", 61, Use.VALIDATE),
        ("max-age=60, stale-while-revalidate=30, must-revalidate", 61, Use.VALIDATE),
        ("max-age=60, stale-while-revalidate=30, no-cache", 61, Use.VALIDATE),
    ],
)
def test_use_follows_the_answer(value, later, expected):
    """Fresh: as it is. Stale: ask, at once or meanwhile."""
    assert use(control(value), later) is expected


@pytest.mark.parametrize(
    ("value", "allowed"),
    [
        ("max-age=60", True),
        ("max-age=60, stale-if-error=1", True),
        ("max-age=60, must-revalidate", False),
        ("no-cache", False),
        ("max-age=60, proxy-revalidate", True),
    ],
)
def test_a_failing_check_is_forgiven_unless_the_answer_forbids_it(value, allowed):
    """Offline first: what is held is used, whatever its age (§4.2.4)."""
    found = judge_use(control(value), asking(), NOW + WEEK, validation="stale")
    assert found.on_error is allowed


# -- use, by what the request says (§5.2.1) -----------------------------------


@pytest.mark.parametrize(
    ("wanted", "later", "expected"),
    [
        ("no-cache", 0, Use.VALIDATE),
        ("max-age=0", 1, Use.VALIDATE),
        ("max-age=10", 10, Use.AS_IS),
        ("max-age=10", 11, Use.VALIDATE),
        ("max-age=nonsense", 11, Use.AS_IS),
        ("min-fresh=20", 40, Use.AS_IS),
        ("min-fresh=20", 41, Use.VALIDATE),
        ("min-fresh=20, max-stale", 41, Use.VALIDATE),
        ("max-stale", 100_000, Use.AS_IS),
        ("max-stale=20", 80, Use.AS_IS),
        ("max-stale=20", 81, Use.VALIDATE),
        ("max-stale=nonsense", 61, Use.VALIDATE),
        ("max-stale=20, max-age=70", 71, Use.VALIDATE),
        ("max-stale=20, max-age=70", 69, Use.AS_IS),
        ("only-if-cached", 59, Use.AS_IS),
    ],
)
def test_use_follows_the_request(wanted, later, expected):
    """A request may want something fresher, or put up with something staler."""
    assert use(control("max-age=60"), later, asking(wanted)) is expected


def test_max_stale_does_not_overrule_the_origin():
    """What must be validated is validated (§5.2.2.2)."""
    strict = control("max-age=60, must-revalidate")
    assert use(strict, 61, asking("max-stale")) is Use.VALIDATE


def test_what_never_changes_is_not_asked_about_at_a_reload():
    """RFC 8246: not for max-age=0, but for no-cache, and only while it is fresh."""
    never = control("max-age=60, immutable")
    assert use(never, 10, asking("max-age=0")) is Use.AS_IS
    assert use(never, 10, asking("no-cache")) is Use.VALIDATE
    assert use(never, 61, asking("max-age=0")) is Use.VALIDATE


def test_pragma_counts_where_there_is_nothing_else():
    """RFC 9111 §5.4."""
    fresh = control("max-age=60")
    assert use(fresh, 0, asking(Pragma="no-cache")) is Use.VALIDATE
    assert use(fresh, 0, asking("max-age=100", Pragma="no-cache")) is Use.AS_IS


def test_requests_that_speak_of_the_cache_itself():
    """only-if-cached and no-store are told apart from what is held."""
    assert wants_only_stored(asking("only-if-cached, max-stale"))
    assert not wants_only_stored(asking("max-stale"))
    assert forbids_storing(asking("no-store"))
    assert not forbids_storing(asking("no-cache"))


# -- the setting --------------------------------------------------------------


def test_never_asks_about_nothing():
    """Offline first, as it is by default; a client cannot change that."""
    for value in ("no-cache", "max-age=0, must-revalidate"):
        found = judge_use(control(value), asking("no-cache"), NOW + WEEK, validation="never")
        assert (found.use, found.on_error) == (Use.AS_IS, True)


def test_always_asks_about_everything():
    """Even about what is fresh, and uses it all the same if that fails."""
    found = judge_use(control("max-age=60"), asking("max-stale"), NOW, validation="always")
    assert (found.use, found.on_error) == (Use.VALIDATE, True)


# -- properties ---------------------------------------------------------------

VALUES = st.sampled_from(
    [
        *("", "no-cache", "max-age=0", "max-age=60", "max-age=600, stale-while-revalidate=100"),
        *("max-age=60, must-revalidate", "max-age=600, immutable", "public", "max-age=x"),
    ]
)
WANTED = st.sampled_from(
    ["", "no-cache", "max-age=0", "max-age=30", "min-fresh=10", "max-stale", "max-stale=50"]
)
ANSWERS = st.builds(
    lambda value, modified, age, delay: answer(
        ("Cache-Control", value),
        ("Last-Modified", format_http_date(NOW - modified)),
        ("Age", str(age)),
        delay=delay,
    ),
    VALUES,
    st.integers(0, 100_000),
    st.integers(0, 1000),
    st.floats(0, 10),
)
RANK = {Use.AS_IS: 0, Use.MEANWHILE: 1, Use.VALIDATE: 2}


@given(ANSWERS, WANTED, st.floats(0, 2000), st.floats(0, 2000), st.booleans())
def test_nothing_gets_better_by_waiting(representation, wanted, first, more, heuristic):
    """What has to be validated once has to be ever after."""
    asked = asking(wanted)
    early = use(representation, first, asked, heuristic=heuristic)
    late = use(representation, first + more, asked, heuristic=heuristic)
    assert RANK[late] >= RANK[early]


@given(ANSWERS, WANTED, st.floats(0, 2000))
def test_only_a_request_or_the_origin_lets_something_stale_go(representation, wanted, later):
    """Without max-stale or stale-while-revalidate, only what is fresh is used unasked."""
    found = judge_use(representation, asking(wanted), NOW + later, validation="stale")
    assume(found.use is Use.AS_IS)
    assert found.freshness.is_fresh or "max-stale" in wanted


@given(ANSWERS, st.floats(0, 2000), st.floats(0, 2000))
def test_age_grows_with_the_time(representation, first, more):
    """Second by second, whatever it was at first."""
    early = freshness_of(representation, NOW + first, heuristic=True)
    late = freshness_of(representation, NOW + first + more, heuristic=True)
    assert late.age - early.age == pytest.approx(more, abs=1e-3)
    assert late.lifetime == early.lifetime
