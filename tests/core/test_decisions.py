"""Verdicts on origins' answers, one table a kind of answer."""

from __future__ import annotations

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

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
    is_fresh,
    is_linear,
    is_storable,
    judge_reply,
)
from cachestream.core.fields import Fields
from cachestream.core.representation import Representation
from cachestream.core.validators import format_http_date

NOW = 1_800_000_000.0
DATE = ("Date", format_http_date(NOW))
OLD = ("Last-Modified", format_http_date(NOW - 1000))
NEW = ("Last-Modified", format_http_date(NOW - 10))
ETAG = ("ETag", '"v1"')
OTHER = ("ETag", '"v2"')
WEAK = ("ETag", 'W/"v1"')

WHOLE = Asked()
PART = Asked(start=100, stop=200)
SAFE = Asked(start=100, stop=200, conditional=True)
OPEN = Asked(start=100)
FIRST = Asked(start=0, stop=100)
SUFFIX = Asked(suffix=50)


def reply(status: int, *fields: tuple[str, str]) -> Reply:
    """Return a head with a Date."""
    return Reply(status=status, fields=Fields.of(DATE, *fields), response_time=NOW)


def part(start: int, stop: int, length: int | str = 1000, *fields: tuple[str, str]) -> Reply:
    """Return a 206 for ``[start, stop)``."""
    return reply(206, ("Content-Range", f"bytes {start}-{stop - 1}/{length}"), *fields)


def known(*fields: tuple[str, str], length: int | None = 1000) -> Representation:
    """Return what an earlier exchange told."""
    return Representation(
        fields=Fields.of(DATE, *fields), complete_length=length, ranges=True, response_time=NOW
    )


# ---------------------------------------------------------------------------
# Statuses
# ---------------------------------------------------------------------------


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_names_where_to_ask(status):
    """A 3xx with Location is followed, and one without is no answer."""
    assert judge_reply(WHOLE, None, reply(status, ("Location", "/b"))) == Redirect("/b")
    assert isinstance(judge_reply(WHOLE, None, reply(status)), Broken)


@pytest.mark.parametrize("status", [408, 425, 429, 500, 502, 503, 504])
def test_a_temporary_failure_is_tried_again(status):
    """Statuses that blame the moment carry the Retry-After that came with them."""
    assert judge_reply(PART, None, reply(status)) == Retry(status, None)
    later = reply(status, ("Retry-After", "7"))
    assert judge_reply(PART, known(ETAG), later) == Retry(status, "7")


@pytest.mark.parametrize("status", [400, 401, 403, 404, 405, 410, 451, 501, 505, 599, 204, 300])
def test_any_other_status_is_a_refusal(status):
    """Clients get the origin's status as it is."""
    assert judge_reply(PART, None, reply(status)) == Refuse(status)


@pytest.mark.parametrize("status", [100, 101, 103, 304])
def test_a_status_that_cannot_end_the_exchange_is_broken(status):
    """Neither an interim status nor a 304 to no condition brings content."""
    assert isinstance(judge_reply(PART, None, reply(status)), Broken)


# ---------------------------------------------------------------------------
# 206
# ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("asked", "answer", "start", "stop"),
    [
        (PART, part(100, 200), 100, 200),
        (PART, part(100, 150), 100, 150),  # a server may send less
        (PART, part(100, 200, "*"), 100, 200),
        (OPEN, part(100, 1000), 100, 1000),
        (FIRST, part(0, 60, 60), 0, 60),
        (SUFFIX, part(950, 1000), 950, 1000),
        (SUFFIX, part(0, 20, 20), 0, 20),  # shorter than the suffix
    ],
)
def test_a_first_part_is_accepted_for_what_it_says(asked, answer, start, stop):
    """A 206 that fits the request brings bytes, length and the knowledge that ranges work."""
    verdict = judge_reply(asked, None, answer)
    assert isinstance(verdict, Accept)
    assert (verdict.start, verdict.stop, verdict.changed) == (start, stop, False)
    assert verdict.representation.ranges is True
    assert verdict.representation.status == 200


@pytest.mark.parametrize(
    ("asked", "answer"),
    [
        (WHOLE, part(0, 1000)),  # nobody asked for a part
        (PART, reply(206)),  # no Content-Range
        (PART, reply(206, ("Content-Range", "bytes */1000"))),
        (PART, reply(206, ("Content-Range", "bytes 100-199/150"))),  # ends past the length
        (PART, reply(206, ("Content-Range", "bytes 200-100/1000"))),
        (PART, reply(206, ("Content-Range", "lines 100-199/1000"))),
        (PART, reply(206, ("Content-Range", "bytes=100-199/1000"))),
        (PART, part(101, 201)),  # shifted
        (PART, part(99, 199)),
        (PART, part(0, 100)),
        (PART, part(100, 201)),  # more than was asked for
        (PART, part(100, 200, 1000, ("Content-Length", "99"))),
        (PART, part(100, 200, 1000, ("Content-Length", "101"))),
        (OPEN, part(0, 1000)),
        (SUFFIX, part(940, 1000)),
        (SUFFIX, part(949, 999)),
        (SUFFIX, part(950, 1000, "*")),  # which suffix that is cannot be told
    ],
)
def test_a_part_that_does_not_fit_is_broken(asked, answer):
    """Nothing of a 206 is used whose place is in doubt."""
    assert isinstance(judge_reply(asked, None, answer), Broken)
    assert isinstance(judge_reply(asked, known(ETAG), answer), Broken)


def test_the_framing_overrides_a_content_length_beside_it():
    """With Transfer-Encoding, Content-Length says nothing (RFC 9112 §6.3)."""
    fields = (("Content-Length", "3"), ("Transfer-Encoding", "chunked"))
    assert isinstance(judge_reply(PART, None, part(100, 200, 1000, *fields)), Accept)
    whole = judge_reply(WHOLE, None, reply(200, *fields))
    assert isinstance(whole, Accept)
    assert whole.representation.complete_length is None


@pytest.mark.parametrize(
    ("before", "fields", "trusting", "changed"),
    [
        ((ETAG,), (ETAG,), False, False),
        ((ETAG,), (OTHER,), False, True),
        ((ETAG,), (WEAK,), False, True),
        ((ETAG,), (), False, True),
        ((), (ETAG,), False, True),
        ((WEAK,), (WEAK,), False, True),  # weak validators join nothing
        ((WEAK,), (WEAK,), True, False),
        ((WEAK,), (("ETag", 'W/"v2"'),), True, True),
        ((OLD,), (OLD,), False, False),  # old enough at the time to be strong
        ((OLD,), (NEW,), False, True),
        ((), (), False, True),
        ((), (), True, False),
        ((ETAG, OLD), (ETAG, NEW), False, False),  # the tag says more than the date
        ((ETAG,), (ETAG, ("Content-Encoding", "gzip")), False, True),
        ((ETAG,), (ETAG, ("Content-Encoding", "identity")), False, False),
        ((), (("Content-Encoding", "br"),), True, True),
    ],
)
def test_parts_join_under_strong_validators_only(before, fields, trusting, changed):
    """A part is of the known version only if a strong validator, or the user, says so."""
    verdict = judge_reply(SAFE, known(*before), part(100, 200, 1000, *fields), trust_weak=trusting)
    assert isinstance(verdict, Accept)
    assert verdict.changed is changed


def test_a_last_modified_too_young_to_be_strong_joins_nothing():
    """A file changed in the second in which it was read could have changed again."""
    young = ("Last-Modified", DATE[1])
    verdict = judge_reply(SAFE, known(young), part(100, 200, 1000, young))
    assert isinstance(verdict, Accept)
    assert verdict.changed


@pytest.mark.parametrize("trusting", [False, True])
def test_another_complete_length_is_another_version(trusting):
    """Even under one entity tag, parts of different lengths are never joined."""
    verdict = judge_reply(SAFE, known(ETAG), part(100, 200, 1001, ETAG), trust_weak=trusting)
    assert isinstance(verdict, Accept)
    assert verdict.changed
    assert verdict.representation.complete_length == 1001


def test_a_joined_part_keeps_what_was_known_and_takes_what_is_new():
    """Later fields win, and a length that is not told again stays known (RFC 9111 §3.4)."""
    before = known(ETAG, ("X-A", "1"), ("X-B", "1"))
    verdict = judge_reply(SAFE, before, part(100, 200, "*", ETAG, ("X-B", "2")))
    assert isinstance(verdict, Accept)
    merged = verdict.representation
    assert merged.complete_length == 1000
    assert (merged.fields.get("x-a"), merged.fields.get("x-b")) == ("1", "2")


def test_a_changed_part_takes_nothing_over_from_the_old_version():
    """Fields of two versions are not mixed either."""
    verdict = judge_reply(SAFE, known(ETAG, ("X-A", "1")), part(100, 200, 1000, OTHER))
    assert isinstance(verdict, Accept)
    assert verdict.representation.fields.get("x-a") is None


# ---------------------------------------------------------------------------
# 200 and 203
# ---------------------------------------------------------------------------


@pytest.mark.parametrize("status", [200, 203])
def test_a_whole_answer_begins_at_the_first_byte(status):
    """A 200 brings everything, with the length that it states."""
    verdict = judge_reply(WHOLE, None, reply(status, ("Content-Length", "1000"), ETAG))
    assert isinstance(verdict, Accept)
    assert (verdict.start, verdict.stop, verdict.changed) == (0, 1000, False)
    assert verdict.representation.status == 200


@pytest.mark.parametrize(
    "length", [(), (("Content-Length", "x"),), (("Content-Length", "-1"),),
               (("Content-Length", "9" * 30),)],
)  # fmt: skip
def test_a_length_that_cannot_be_is_unknown(length):
    """Without a usable Content-Length the end is where the content ends."""
    verdict = judge_reply(WHOLE, None, reply(200, *length))
    assert isinstance(verdict, Accept)
    assert verdict.stop is None
    assert verdict.representation.complete_length is None


@pytest.mark.parametrize(
    ("asked", "fields", "ranges"),
    [
        (PART, (), False),  # it was asked for a part and did not give one
        (PART, (("Accept-Ranges", "bytes"),), False),
        (WHOLE, (("Accept-Ranges", "bytes"),), True),
        (WHOLE, (("Accept-Ranges", "none"),), False),
        (WHOLE, (), None),
        (SAFE, (), None),  # a new version: nothing is said of ranges
        (SAFE, (("Accept-Ranges", "none"),), False),
    ],
)
def test_a_whole_answer_tells_whether_there_are_ranges(asked, fields, ranges):
    """A 200 to a plain range means that there are none; to If-Range it need not."""
    verdict = judge_reply(asked, None, reply(200, ("Content-Length", "1000"), *fields))
    assert isinstance(verdict, Accept)
    assert verdict.representation.ranges is ranges


def test_a_whole_answer_to_if_range_is_the_notice_of_a_change():
    """A 200 with another tag supersedes what is held, from its first byte on."""
    verdict = judge_reply(SAFE, known(ETAG), reply(200, ("Content-Length", "900"), OTHER))
    assert isinstance(verdict, Accept)
    assert (verdict.start, verdict.stop, verdict.changed) == (0, 900, True)


def test_a_whole_answer_of_the_same_version_says_that_there_are_no_ranges():
    """A 200 with the very tag that was asked about keeps what is held."""
    verdict = judge_reply(SAFE, known(ETAG), reply(200, ("Content-Length", "1000"), ETAG))
    assert isinstance(verdict, Accept)
    assert not verdict.changed
    assert verdict.representation.ranges is False


@pytest.mark.parametrize(
    ("before", "now", "trusting", "changed"),
    [
        ((), (), False, True),
        ((WEAK,), (WEAK,), False, True),
        ((WEAK,), (WEAK,), True, False),
        ((), (), True, False),
        ((), (("Content-Encoding", "gzip"),), True, True),
    ],
)
def test_a_whole_answer_without_strong_validator_starts_anew(before, now, trusting, changed):
    """What cannot be proved to be the same is not joined to what is held."""
    answer = reply(200, ("Content-Length", "1000"), *now)
    verdict = judge_reply(WHOLE, known(*before), answer, trust_weak=trusting)
    assert isinstance(verdict, Accept)
    assert verdict.changed is changed


# ---------------------------------------------------------------------------
# 416
# ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("asked", "before", "field", "verdict"),
    [
        (PART, None, "bytes */50", Unsatisfiable(50)),
        (PART, None, "bytes */100", Unsatisfiable(100)),
        (PART, None, "bytes */101", AskWhole()),  # it could have answered
        (PART, None, None, AskWhole()),
        (PART, None, "nonsense", AskWhole()),
        (FIRST, None, "bytes */1000", AskWhole()),  # our own range: the client wants all
        (SUFFIX, None, "bytes */1000", AskWhole()),
        (PART, known(ETAG), "bytes */50", AskWhole()),  # it has another version now
        (SAFE, known(ETAG), None, AskWhole()),
    ],
)
def test_a_416_is_believed_only_for_a_clients_range_past_the_end(asked, before, field, verdict):
    """A range that we made up is asked again without one, and only a true end is passed on."""
    fields = () if field is None else (("Content-Range", field),)
    assert judge_reply(asked, before, reply(416, *fields)) == verdict


@pytest.mark.parametrize("asked", [FIRST, PART, SUFFIX])
def test_a_416_of_length_nothing_is_an_empty_file(asked):
    """There is no byte to ask for in an empty file, so this is its 200."""
    verdict = judge_reply(asked, None, reply(416, ("Content-Range", "bytes */0"), ETAG))
    assert isinstance(verdict, Accept)
    assert (verdict.start, verdict.stop) == (0, 0)
    assert verdict.representation.complete_length == 0


def test_a_416_to_no_range_is_broken():
    """Without a Range there is nothing that could not be satisfied."""
    assert isinstance(judge_reply(WHOLE, None, reply(416)), Broken)


# ---------------------------------------------------------------------------
# What is kept of the head
# ---------------------------------------------------------------------------


def test_fields_of_the_message_and_of_the_user_are_not_kept():
    """A stored head has no framing, no credentials, nothing of one connection."""
    told = (
        ("Connection", "X-Hop"),
        ("X-Hop", "1"),
        ("Set-Cookie", "a=b"),
        ("Content-Length", "100"),
        ("X-Kept", "yes"),
    )
    verdict = judge_reply(PART, None, part(100, 200, 1000, *told))
    assert isinstance(verdict, Accept)
    names = {name.lower() for name, _ in verdict.representation.fields}
    assert names == {"date", "x-kept"}


def test_only_the_essential_fields_are_kept_on_request():
    """With ``essential_only`` nothing is kept that is not needed to serve and validate."""
    answer = reply(200, ETAG, ("X-Kept", "no"), ("Content-Type", "video/mp4"))
    verdict = judge_reply(WHOLE, None, answer, essential_only=True)
    assert isinstance(verdict, Accept)
    names = {name.lower() for name, _ in verdict.representation.fields}
    assert names == {"date", "etag", "content-type"}


def test_the_selecting_fields_of_vary_are_remembered_as_sent():
    """A stored answer knows for which request fields it was chosen (RFC 9111 §4.1)."""
    asked = attrs.evolve(WHOLE, fields=Fields.of(("Accept-Language", "de")))
    verdict = judge_reply(asked, None, reply(200, ("Vary", "Accept-Language, X-None")))
    assert isinstance(verdict, Accept)
    assert verdict.representation.selecting == (("accept-language", "de"), ("x-none", None))


@given(
    st.sampled_from([WHOLE, PART, SAFE, OPEN, FIRST, SUFFIX]),
    st.sampled_from([None, known(ETAG), known(), known(WEAK, length=None)]),
    st.integers(100, 599),
    st.lists(
        st.tuples(
            st.sampled_from(
                ["Content-Range", "Content-Length", "ETag", "Last-Modified", "Location", "Vary",
                 "Content-Encoding", "Retry-After", "Transfer-Encoding", "Accept-Ranges"]
            ),
            st.one_of(
                st.sampled_from(
                    ["bytes 100-199/1000", "bytes */1000", "bytes 0-0/*", '"v1"', "100", "*"]
                ),
                st.text(max_size=12),
            ),
        ),
        max_size=4,
    ),
    st.booleans(),
)  # fmt: skip
def test_any_head_gets_a_verdict_and_bytes_only_where_they_belong(
    asked, before, status, fields, trusting
):
    """No head makes the judge raise; what it accepts starts where it was asked, or is whole."""
    answer = Reply(status=status, fields=Fields(tuple(fields)))
    verdict = judge_reply(asked, before, answer, trust_weak=trusting)
    if not isinstance(verdict, Accept):
        return
    assert verdict.stop is None or 0 <= verdict.start <= verdict.stop
    if status == 206:
        assert asked.start is None or verdict.start == asked.start
        assert asked.stop is None or (verdict.stop is not None and verdict.stop <= asked.stop)
    else:
        assert verdict.start == 0
    length = verdict.representation.complete_length
    assert length is None or verdict.stop is None or verdict.stop <= length


# ---------------------------------------------------------------------------
# May it be stored, is it fresh, is it linear
# ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "length", "storable"),
    [
        ((), 1000, True),
        ((("Cache-Control", "no-cache"),), 1000, True),
        ((("Cache-Control", "private, max-age=0"),), 1000, True),
        ((("Cache-Control", "no-store"),), 1000, False),
        ((("Cache-Control", "max-age=60"), ("cache-control", "No-Store")), 1000, False),
        ((("Cache-Control", 'x="no-store"'),), 1000, True),
        ((("Icy-Name", "radio"),), None, False),
        ((("Icy-Name", "radio"),), 1000, True),
        ((), None, True),
    ],
)
def test_what_may_be_stored(fields, length, storable):
    """All but no-store and endless radio may be kept."""
    assert (
        is_storable(Representation(fields=Fields.of(*fields), complete_length=length)) is storable
    )


@pytest.mark.parametrize(
    ("fields", "age", "fresh"),
    [
        ((), 0, False),
        ((("Cache-Control", "max-age=60"),), 59, True),
        ((("Cache-Control", "max-age=60"),), 60, False),
        ((("Cache-Control", "max-age=60"), ("Age", "30")), 30, False),
        ((("Cache-Control", "max-age=60"), ("Age", "30")), 29, True),
        ((("Cache-Control", "max-age=60, no-cache"),), 0, False),
        ((("Cache-Control", "max-age=x"),), 0, False),
        ((("Expires", format_http_date(NOW + 60)),), 59, True),
        ((("Expires", format_http_date(NOW + 60)),), 60, False),
        ((("Expires", "0"),), 0, False),
        ((("Cache-Control", "max-age=0"), ("Expires", format_http_date(NOW + 60))), 1, False),
    ],
)
def test_freshness_is_what_the_origin_said_and_no_guess(fields, age, fresh):
    """Only max-age and Expires make an answer fresh (RFC 9111 §4.2.1)."""
    held = known(*fields)
    assert is_fresh(held, NOW + age) is fresh


@pytest.mark.parametrize(
    ("fields", "length", "ranges", "trusting", "linear"),
    [
        ((ETAG,), 1000, True, False, False),
        ((ETAG,), 1000, None, False, False),
        ((ETAG,), 1000, False, False, True),
        ((ETAG,), 1000, False, True, True),
        ((ETAG,), None, True, False, True),
        ((WEAK,), 1000, True, False, True),
        ((WEAK,), 1000, True, True, False),
        ((), 1000, True, False, True),
        ((OLD,), 1000, True, False, False),
    ],
)
def test_content_is_linear_without_ranges_length_or_strong_validator(
    fields, length, ranges, trusting, linear
):
    """Parts are fetched only where they exist and can be joined."""
    held = attrs.evolve(known(*fields, length=length), ranges=ranges)
    assert is_linear(held, trust_weak=trusting) is linear
