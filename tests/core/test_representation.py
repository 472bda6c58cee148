"""Representations: validators, persistence, Vary, and whether two are the same version."""

import json
from typing import Any

import attrs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cachestream.core.fields import Fields
from cachestream.core.representation import (
    FORMAT,
    Comparison,
    Representation,
    compare,
    selecting_for,
)
from cachestream.core.spans import UNBOUNDED
from cachestream.core.validators import EntityTag
from cachestream.testing import strategies as our

MODIFIED = "Sun, 06 Nov 1994 08:49:37 GMT"
LATER = "Sun, 06 Nov 1994 08:49:38 GMT"

any_text = our.hostile_text(20)
fields = our.fields()
representations = our.representations()


def having(length: int | None = None, **lines: str) -> Representation:
    """Make a representation with these fields; underscores stand for dashes."""
    pairs = ((name.replace("_", "-"), value) for name, value in lines.items())
    return Representation(fields=Fields.parse(pairs), complete_length=length)


# -- validators ----------------------------------------------------------------


def test_validators_are_read_from_the_fields() -> None:
    """ETag and Last-Modified are parsed; malformed ones are as good as none."""
    representation = having(ETag='W/"a"', Last_Modified=MODIFIED)
    assert representation.entity_tag == EntityTag("a", weak=True)
    assert representation.last_modified == 784_111_777.0
    assert having(ETag="a", Last_Modified="yesterday").entity_tag is None
    assert having(ETag="a", Last_Modified="yesterday").last_modified is None
    assert Representation().entity_tag is None


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        ({"ETag": '"a"'}, '"a"'),
        ({"ETag": '"a"', "Last_Modified": MODIFIED, "Date": LATER}, '"a"'),
        ({"ETag": 'W/"a"', "Last_Modified": MODIFIED, "Date": LATER}, None),
        ({"Last_Modified": MODIFIED, "Date": LATER}, MODIFIED),
        ({"Last_Modified": MODIFIED, "Date": MODIFIED}, None),
        ({"Last_Modified": MODIFIED}, None),
        ({"Last_Modified": MODIFIED, "Date": "junk"}, None),
        ({"Date": LATER}, None),
        ({}, None),
    ],
)
def test_the_strong_validator(lines: dict[str, str], expected: str | None) -> None:
    """A strong tag, else a date with a second between it and Date (RFC 9110 §8.8.2.2)."""
    representation = having(**lines)
    assert representation.strong_validator == expected
    assert representation.strong_date is ("Last_Modified" in lines and lines.get("Date") == LATER)


# -- persistence ---------------------------------------------------------------


@given(representations)
@settings(deadline=None)
def test_the_persisted_form_comes_back(representation: Representation) -> None:
    """`from_json` is the inverse of `to_json`."""
    assert Representation.from_json(representation.to_json()) == representation


@given(st.binary(max_size=60) | any_text.map(lambda text: json.dumps(text).encode()))
@settings(deadline=None)
def test_any_bytes_are_a_record_or_a_value_error(data: bytes) -> None:
    """What is no record is a ValueError and nothing else."""
    with pytest.raises(ValueError, match="not a stored representation"):
        Representation.from_json(data)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=6,
)


@given(st.sampled_from(sorted(json.loads(Representation().to_json()))), json_values)
@settings(deadline=None)
def test_any_value_in_a_record_is_taken_or_refused(name: str, value: object) -> None:
    """A record with one value of another kind is read to valid facts or is a ValueError."""
    record = json.loads(Representation().to_json()) | {name: value}
    try:
        representation = Representation.from_json(json.dumps(record).encode())
    except ValueError:
        return
    assert Representation.from_json(representation.to_json()) == representation


@pytest.mark.parametrize(
    "change",
    [
        {"format": FORMAT + 1},
        {"format": True},
        {"format": None},
        {"status": "200"},
        {"status": -1},
        {"complete_length": -1},
        {"complete_length": 1.5},
        {"complete_length": True},
        {"complete_length": UNBOUNDED + 1},
        {"fields": [["X-A", "a\r\nSet-Cookie: b"]]},
        {"fields": [["X A", "1"]]},
        {"fields": [["X-A"]]},
        {"fields": None},
        {"request_time": float("nan")},
        {"response_time": float("inf")},
        {"response_time": None},
        {"selecting": [["accept"]]},
    ],
)
def test_a_planted_record_is_refused(change: dict[str, Any]) -> None:
    """Wrong formats, impossible numbers and fields that would split a message are a miss."""
    record = json.loads(Representation().to_json()) | change
    with pytest.raises(ValueError, match="not a stored representation"):
        Representation.from_json(json.dumps(record).encode())


@pytest.mark.parametrize("data", [b"[" * 100_000, b"null", b"[]", b'"x"', b"{}", b"\xff", b""])
def test_hostile_bytes_are_refused(data: bytes) -> None:
    """Nesting without end and JSON of another shape are a ValueError too."""
    with pytest.raises(ValueError, match="not a stored representation"):
        Representation.from_json(data)


def test_unknown_members_of_a_record_are_ignored() -> None:
    """A later version may add to the record without a new format number."""
    record = json.loads(Representation().to_json()) | {"colour": "blue"}
    assert Representation.from_json(json.dumps(record).encode()) == Representation()


# -- Vary ----------------------------------------------------------------------


REQUEST = Fields.of(("Accept-Language", "de , en"), ("accept-language", "fr"), ("X-A", "1"))


def test_selecting_fields_are_those_that_vary_names() -> None:
    """Lower-case, sorted, each once; lists in one form, absent fields as None."""
    assert selecting_for("X-A, accept-LANGUAGE, Foo, x-a", REQUEST) == (
        ("accept-language", "de, en, fr"),
        ("foo", None),
        ("x-a", "1"),
    )
    assert selecting_for(None, REQUEST) == ()
    assert selecting_for(" , ", REQUEST) == ()


def test_a_star_stands_alone_and_never_matches() -> None:
    """RFC 9111 §4.1: `Vary: *` answers no request, not even the one it answered."""
    selecting = selecting_for("Accept, *", REQUEST)
    assert selecting == (("*", None),)
    assert not Representation(selecting=selecting).matches_request(REQUEST)


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        ([("accept-language", "de"), ("ACCEPT-LANGUAGE", "en,fr")], True),
        ([("Accept-Language", "de,en,fr"), ("X-Other", "2")], True),
        ([("Accept-Language", "de, en")], False),
        ([("Accept-Language", "fr, de, en")], False),
        ([], False),
    ],
)
def test_requests_match_when_their_selecting_fields_do(
    lines: list[tuple[str, str]], expected: bool
) -> None:
    """White space, lines and case of names do not count; order and presence do."""
    representation = Representation(selecting=selecting_for("Accept-Language", REQUEST))
    assert representation.matches_request(Fields.parse(lines)) is expected


def test_an_absent_field_matches_only_its_absence() -> None:
    """A variant for requests without a field is not one for those with it, even empty."""
    representation = Representation(selecting=selecting_for("X-B", REQUEST))
    assert representation.matches_request(Fields())
    assert not representation.matches_request(Fields.of(("X-B", "")))


@given(any_text, fields)
@settings(deadline=None)
def test_a_request_matches_the_variant_it_got(vary: str, request: Fields) -> None:
    """Whatever Vary says, the same request matches again, unless it is a star."""
    selecting = selecting_for(vary, request)
    starred = selecting == (("*", None),)
    assert Representation(selecting=selecting).matches_request(request) is not starred


# -- comparison ------------------------------------------------------------------

STRONG, WEAK, DIFFERENT, UNKNOWN = Comparison
DATED = {"Last_Modified": MODIFIED, "Date": LATER}
UNDATED = {"Last_Modified": MODIFIED}


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        (having(), having(), UNKNOWN),
        (having(5), having(5), UNKNOWN),
        (having(5), having(), UNKNOWN),
        (having(5), having(6), DIFFERENT),
        (having(5, ETag='"a"'), having(6, ETag='"a"'), DIFFERENT),
        (having(None, ETag='"a"'), having(6, ETag='"a"'), STRONG),
        (having(ETag='"a"'), having(ETag='"a"'), STRONG),
        (having(ETag='"a"'), having(ETag='"b"'), DIFFERENT),
        (having(ETag='W/"a"'), having(ETag='"a"'), WEAK),
        (having(ETag='W/"a"'), having(ETag='W/"a"'), WEAK),
        (having(ETag='W/"a"', **DATED), having(ETag='W/"a"', **DATED), WEAK),
        (having(ETag='W/"a"'), having(ETag='W/"b"'), DIFFERENT),
        (having(ETag='"a"', **DATED), having(ETag='"b"', **DATED), DIFFERENT),
        (having(**DATED), having(**DATED), STRONG),
        (having(**DATED), having(**UNDATED), STRONG),
        (having(**UNDATED), having(**DATED), WEAK),
        (having(**UNDATED), having(**UNDATED), WEAK),
        (having(**DATED), having(Last_Modified=LATER), DIFFERENT),
        (having(Last_Modified=LATER), having(**DATED), DIFFERENT),
        (having(**DATED), having(), UNKNOWN),
        (having(ETag='"a"'), having(), UNKNOWN),
        (having(ETag='"a"', **DATED), having(**DATED), WEAK),
        (having(**DATED), having(ETag='"a"', **DATED), WEAK),
        (having(ETag='"a"', **DATED), having(Last_Modified=LATER), DIFFERENT),
        (having(ETag='"a"'), having(ETag='"a"', Content_Encoding="gzip"), DIFFERENT),
        (having(ETag='"a"', Content_Encoding="br"),
         having(ETag='"a"', Content_Encoding="gzip"), DIFFERENT),
        (having(ETag='"a"', Content_Encoding="GZIP"),
         having(ETag='"a"', Content_Encoding="gzip"), STRONG),
        (having(ETag='"a"'), having(ETag='"a"', Content_Encoding="identity"), STRONG),
    ],
)  # fmt: skip
def test_compare(old: Representation, new: Representation, expected: Comparison) -> None:
    """Lengths and codings first, then entity tags, then dates (RFC 9110 §8.8)."""
    assert compare(old, new) is expected


@given(representations, representations)
@settings(deadline=None)
def test_same_strong_needs_a_strong_validator(old: Representation, new: Representation) -> None:
    """Nothing is strongly the same unless the old one has a strong validator."""
    if compare(old, new) is STRONG:
        assert old.strong_validator is not None


@given(representations)
@settings(deadline=None)
def test_a_version_is_never_different_from_itself(representation: Representation) -> None:
    """Comparing with itself, at any later time, never calls for a new entry."""
    later = attrs.evolve(representation, response_time=representation.response_time + 60)
    assert compare(representation, later) is not DIFFERENT
