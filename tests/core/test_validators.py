"""Entity tags, HTTP-dates and preconditions."""

from datetime import UTC, datetime
from email.utils import format_datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cachestream.core.fields import Fields
from cachestream.core.validators import (
    EntityTag,
    Precondition,
    evaluate_preconditions,
    format_http_date,
    if_range_matches,
    parse_http_date,
)
from cachestream.testing import strategies as our

any_text = our.hostile_text()
tags = our.entity_tags()

NOON = 784_111_777.0
DATE = "Sun, 06 Nov 1994 08:49:37 GMT"
EARLIER = "Sun, 06 Nov 1994 08:49:36 GMT"
LATER = "Sun, 06 Nov 1994 08:49:38 GMT"


# -- entity tags -------------------------------------------------------------


@given(tags)
@settings(deadline=None)
def test_a_tag_comes_back(tag: EntityTag) -> None:
    """Writing and parsing an entity tag are inverses."""
    assert EntityTag.parse(str(tag)) == tag
    assert EntityTag.parse(f" {tag}\t") == tag


@given(any_text)
@settings(deadline=None)
def test_any_text_is_a_tag_or_none(text: str) -> None:
    """No text makes the parser raise, and what it took it gives back."""
    tag = EntityTag.parse(text)
    assert tag is None or str(tag) == text.strip(" \t")


@pytest.mark.parametrize(
    "text",
    ["", "a", "'a'", '"a', 'a"', 'w/"a"', 'W/ "a"', '"a" ,', '"a b"', '"a"\n', '"\x7f"', "*"],
)
def test_what_is_no_tag(text: str) -> None:
    """RFC 9110 §8.8.3: quotes on both sides, W in upper case, no spaces within."""
    assert EntityTag.parse(text) is None


def test_a_backslash_is_a_character_like_any_other() -> None:
    """Entity tags know no escapes."""
    assert EntityTag.parse('"a\\"') == EntityTag("a\\")


@pytest.mark.parametrize(
    ("one", "other", "strong", "weak"),
    [
        ('W/"1"', 'W/"1"', False, True),
        ('W/"1"', 'W/"2"', False, False),
        ('W/"1"', '"1"', False, True),
        ('"1"', '"1"', True, True),
        ('"1"', '"2"', False, False),
    ],
)
def test_comparison(one: str, other: str, strong: bool, weak: bool) -> None:
    """The table of RFC 9110 §8.8.3.2, both ways round."""
    left, right = EntityTag.parse(one), EntityTag.parse(other)
    assert left is not None
    assert right is not None
    assert left.strong_match(right) is right.strong_match(left) is strong
    assert left.weak_match(right) is right.weak_match(left) is weak


# -- dates -----------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        (DATE, NOON),
        ("Sunday, 06-Nov-94 08:49:37 GMT", NOON),
        ("Sun Nov  6 08:49:37 1994", NOON),
        ("Sun Nov 16 08:49:37 1994", NOON + 864_000),
        ("sun, 06 nov 1994 08:49:37 gmt", NOON),
        (f" {DATE}\t", NOON),
        ("Thu, 01 Jan 1970 00:00:00 GMT", 0.0),
        ("Wed, 31 Dec 1969 23:59:59 GMT", -1.0),
        ("Mon, 06 Nov 1994 08:49:37 GMT", NOON),
        ("Fri, 31 Dec 9999 23:59:59 GMT", 253_402_300_799.0),
        ("Thursday, 01-Jan-70 00:00:00 GMT", 0.0),
        ("Tuesday, 31-Dec-69 23:59:59 GMT", 3_155_759_999.0),
        ("Sat, 31 Dec 2016 23:59:60 GMT", 1_483_228_800.0),
    ],
)
def test_dates(text: str, seconds: float) -> None:
    """RFC 9110 §5.6.7: all three forms, without case (RFC 9111 §4.2), leap seconds too."""
    assert parse_http_date(text) == seconds


@pytest.mark.parametrize(
    "text",
    [
        "", "0", "-1", "never", "1994-11-06T08:49:37Z",
        "Sun, 06 Nov 1994 08:49:37", "Sun, 06 Nov 1994 08:49:37 UTC",
        "Sun, 06 Nov 1994 08:49:37 +0000", "Sun, 6 Nov 1994 08:49:37 GMT",
        "Sun, 06 Nov 94 08:49:37 GMT", "Sun, 06 Nov 1994 8:49:37 GMT",
        "Sun,  06 Nov 1994 08:49:37 GMT", "Sun 06 Nov 1994 08:49:37 GMT",
        "Sun, 06-Nov-1994 08:49:37 GMT", "06 Nov 1994 08:49:37 GMT",
        "Sun, 06 Nov 1994 08.49.37 GMT", "Sun, 06 Nov 1994 24:00:00 GMT",
        "Sun, 06 Nov 1994 08:60:37 GMT", "Sun, 06 Nov 1994 08:49:61 GMT",
        "Wed, 31 Feb 2024 00:00:00 GMT", "Sun, 00 Nov 1994 08:49:37 GMT",
        "Mon, 01 Jan 0001 00:00:00 GMT", "Sun, 31 Dec 1899 23:59:59 GMT",
        "Sun, 06 Nov ١٩٩٤ 08:49:37 GMT", DATE + "\n", DATE + ", " + DATE,
    ],
)  # fmt: skip
def test_what_is_no_date(text: str) -> None:
    """Nothing but the three forms counts, nor a day or year that was not."""
    assert parse_http_date(text) is None


@given(any_text | st.text("SunMoJaGT, 0123456789:-", max_size=32))
@settings(deadline=None)
def test_no_text_makes_the_date_parser_raise(text: str) -> None:
    """Any text is a date or None."""
    found = parse_http_date(text)
    assert found is None or isinstance(found, float)


moments = st.integers(-2_208_988_800, 253_402_300_799)


@given(moments)
@settings(deadline=None)
def test_a_date_comes_back(seconds: int) -> None:
    """Writing and parsing are inverses for every second from 1900 to 9999."""
    assert parse_http_date(format_http_date(seconds)) == seconds


@given(st.integers(0, 4_102_444_799), st.floats(0, 0.99))
@settings(deadline=None)
def test_dates_are_written_as_the_standard_library_does(seconds: int, fraction: float) -> None:
    """The preferred form, in any locale, fractions dropped."""
    expected = format_datetime(datetime.fromtimestamp(seconds, UTC), usegmt=True)
    assert format_http_date(seconds + fraction) == expected


def test_a_moment_out_of_bounds_becomes_the_nearest_date() -> None:
    """No number makes a date that nobody could read."""
    assert format_http_date(float("inf")) == "Fri, 31 Dec 9999 23:59:59 GMT"
    assert format_http_date(-1e30) == "Mon, 01 Jan 1900 00:00:00 GMT"


# -- preconditions -----------------------------------------------------------

PROCEED, NOT_MODIFIED, FAILED = Precondition


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        ({}, PROCEED),
        # Step 1 of RFC 9110 §13.2.2: If-Match, compared strongly
        ({"If-Match": '"a"'}, PROCEED),
        ({"If-Match": "*"}, PROCEED),
        ({"If-Match": '"x", "a"'}, PROCEED),
        ({"If-Match": '"x"'}, FAILED),
        ({"If-Match": 'W/"a"'}, FAILED),
        ({"If-Match": "junk"}, FAILED),
        # Step 2: If-Unmodified-Since, only without If-Match
        ({"If-Unmodified-Since": DATE}, PROCEED),
        ({"If-Unmodified-Since": LATER}, PROCEED),
        ({"If-Unmodified-Since": EARLIER}, FAILED),
        ({"If-Unmodified-Since": "junk"}, PROCEED),
        ({"If-Match": '"a"', "If-Unmodified-Since": EARLIER}, PROCEED),
        # Step 3: If-None-Match, compared weakly
        ({"If-None-Match": '"a"'}, NOT_MODIFIED),
        ({"If-None-Match": 'W/"a"'}, NOT_MODIFIED),
        ({"If-None-Match": "*"}, NOT_MODIFIED),
        ({"If-None-Match": ' * '}, NOT_MODIFIED),
        ({"If-None-Match": '"x","a"'}, NOT_MODIFIED),
        ({"If-None-Match": '"x\\", "a"'}, NOT_MODIFIED),
        ({"If-None-Match": '"x", W/"y"'}, PROCEED),
        ({"If-None-Match": "a"}, PROCEED),
        # Step 4: If-Modified-Since, only without If-None-Match
        ({"If-Modified-Since": DATE}, NOT_MODIFIED),
        ({"If-Modified-Since": LATER}, NOT_MODIFIED),
        ({"If-Modified-Since": EARLIER}, PROCEED),
        ({"If-Modified-Since": "junk"}, PROCEED),
        ({"If-None-Match": '"x"', "If-Modified-Since": LATER}, PROCEED),
        # What fails first decides
        ({"If-Match": '"x"', "If-None-Match": '"a"'}, FAILED),
        ({"If-Match": '"a"', "If-None-Match": '"a"'}, NOT_MODIFIED),
        ({"If-Unmodified-Since": EARLIER, "If-None-Match": '"a"'}, FAILED),
        ({"If-Unmodified-Since": DATE, "If-Modified-Since": DATE}, NOT_MODIFIED),
    ],
)  # fmt: skip
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_preconditions_of_reading(
    method: str, lines: dict[str, str], expected: Precondition
) -> None:
    """The order and the comparisons of RFC 9110 §13.2.2, for GET and HEAD alike."""
    found = evaluate_preconditions(
        method, Fields.parse(lines.items()), entity_tag=EntityTag("a"), last_modified=NOON
    )
    assert found is expected


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        ({"If-None-Match": '"a"'}, FAILED),
        ({"If-None-Match": "*"}, FAILED),
        ({"If-Modified-Since": DATE}, PROCEED),
        ({"If-Match": '"x"'}, FAILED),
    ],
)
def test_preconditions_of_other_methods(lines: dict[str, str], expected: Precondition) -> None:
    """Only a reading method is answered with 304, and If-Modified-Since is for those alone."""
    fields = Fields.parse(lines.items())
    found = evaluate_preconditions("DELETE", fields, entity_tag=EntityTag("a"), last_modified=NOON)
    assert found is expected


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        ({"If-Match": '"a"'}, FAILED),
        ({"If-Match": "*"}, PROCEED),
        ({"If-None-Match": '"a"'}, PROCEED),
        ({"If-None-Match": "*"}, NOT_MODIFIED),
        ({"If-Unmodified-Since": EARLIER}, PROCEED),
        ({"If-Modified-Since": LATER}, PROCEED),
    ],
)
def test_a_representation_without_validators(lines: dict[str, str], expected: Precondition) -> None:
    """A tag list never names it, the star does, and dates are ignored (§13.1.3, §13.1.4)."""
    fields = Fields.parse(lines.items())
    assert evaluate_preconditions("GET", fields, entity_tag=None, last_modified=None) is expected


def test_a_weak_entity_tag_never_satisfies_if_match() -> None:
    """If-Match compares strongly on both sides; If-None-Match weakly."""
    weak = EntityTag("a", weak=True)
    for name, expected in (("If-Match", FAILED), ("If-None-Match", NOT_MODIFIED)):
        fields = Fields.of((name, 'W/"a"'))
        found = evaluate_preconditions("GET", fields, entity_tag=weak, last_modified=None)
        assert found is expected


def test_lists_may_span_lines_and_dates_may_not() -> None:
    """Entity tags of several lines are one list; two dates cancel each other."""
    fields = Fields.of(("If-None-Match", '"x"'), ("if-none-match", '"a"'))
    found = evaluate_preconditions("GET", fields, entity_tag=EntityTag("a"), last_modified=None)
    assert found is NOT_MODIFIED
    fields = Fields.of(("If-Modified-Since", LATER), ("if-modified-since", LATER))
    assert evaluate_preconditions("GET", fields, entity_tag=None, last_modified=NOON) is PROCEED


@given(st.lists(tags, min_size=1, max_size=5), tags)
@settings(deadline=None)
def test_lists_of_tags_are_searched_whole(listed: list[EntityTag], tag: EntityTag) -> None:
    """A list matches exactly when one of its tags does, by either comparison."""
    value = ", ".join(map(str, listed))
    found = evaluate_preconditions(
        "GET", Fields.of(("If-None-Match", value)), entity_tag=tag, last_modified=None
    )
    assert (found is NOT_MODIFIED) is any(tag.weak_match(other) for other in listed)
    found = evaluate_preconditions(
        "GET", Fields.of(("If-Match", value)), entity_tag=tag, last_modified=None
    )
    assert (found is PROCEED) is any(tag.strong_match(other) for other in listed)


@given(st.sampled_from(["If-Match", "If-None-Match", "If-Modified-Since"]), any_text)
@settings(deadline=None)
def test_no_text_makes_the_judgement_raise(name: str, text: str) -> None:
    """Whatever a client sends there is a judgement."""
    fields = Fields.of((name, text))
    found = evaluate_preconditions("GET", fields, entity_tag=EntityTag("a"), last_modified=NOON)
    assert isinstance(found, Precondition)


# -- If-Range ----------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "strong_date", "expected"),
    [
        ('"a"', False, True),
        ('"x"', True, False),
        ('W/"a"', True, False),
        (DATE, True, True),
        (DATE, False, False),
        (LATER, True, False),
        (EARLIER, True, False),
        ("Sunday, 06-Nov-94 08:49:37 GMT", True, True),
        ("", True, False),
        ("*", True, False),
        ('"x", "a"', True, False),
        ("junk", True, False),
    ],
)
def test_if_range(value: str, strong_date: bool, expected: bool) -> None:
    """RFC 9110 §13.1.5: one strong tag, or the very date if it is a strong validator."""
    found = if_range_matches(
        value, entity_tag=EntityTag("a"), last_modified=NOON, strong_date=strong_date
    )
    assert found is expected


@given(any_text)
@settings(deadline=None)
def test_without_validators_if_range_never_matches(value: str) -> None:
    """Nothing to compare with is no match, whatever was sent."""
    for text in (value, '"a"', DATE):
        assert not if_range_matches(text, entity_tag=None, last_modified=None, strong_date=False)
    assert not if_range_matches(
        'W/"a"', entity_tag=EntityTag("a", weak=True), last_modified=None, strong_date=False
    )
