"""Fields: the value, the grammar of lists, and what may be kept."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cachestream.core.fields import (
    ESSENTIAL,
    HOP_BY_HOP,
    MAX_FIELD_BYTES,
    MAX_LINES,
    MAX_TOTAL_BYTES,
    NEVER_STORED,
    Fields,
    end_to_end,
    is_field_value,
    is_token,
    parse_directives,
    split_list,
    storable_fields,
)
from cachestream.testing import strategies as our

tokens = our.tokens()
any_text = our.hostile_text()
lines = st.lists(st.tuples(any_text, any_text), max_size=12)
quoted = st.text('ab ,=\\"', max_size=6).map(
    lambda text: '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
)

SAMPLE = Fields.of(("ETag", '"a"'), ("Vary", "Accept"), ("vary", "Cookie"), ("X-A", "1"))


def test_names_compare_without_case() -> None:
    """Every look-up ignores case, and the spelling is kept."""
    assert SAMPLE.get("etag") == '"a"'
    assert SAMPLE.get("VARY") == "Accept"
    assert SAMPLE.get_all("Vary") == ("Accept", "Cookie")
    assert SAMPLE.joined("vary") == "Accept, Cookie"
    assert "eTaG" in SAMPLE
    assert [name for name, _ in SAMPLE] == ["ETag", "Vary", "vary", "X-A"]


def test_what_is_absent_is_none() -> None:
    """A missing field is None, the default, nothing, and not contained."""
    assert SAMPLE.get("age") is None
    assert SAMPLE.get("age", "0") == "0"
    assert SAMPLE.get_all("age") == ()
    assert SAMPLE.joined("age") is None
    assert "age" not in SAMPLE
    assert 7 not in SAMPLE


def test_replace_without_and_filter_leave_the_rest_in_order() -> None:
    """They return new fields and keep the order of the lines they do not concern."""
    assert SAMPLE.replace(("VARY", "*")).lines == (
        ("ETag", '"a"'),
        ("X-A", "1"),
        ("VARY", "*"),
    )
    assert SAMPLE.without("etag", "x-a").lines == (("Vary", "Accept"), ("vary", "Cookie"))
    assert SAMPLE.filter(lambda name: name == "vary").get_all("vary") == ("Accept", "Cookie")
    assert len(SAMPLE) == 4


def test_values_never_show_in_a_repr() -> None:
    """A repr names the fields only: values may be credentials."""
    assert "hunter2" not in repr(Fields.of(("Authorization", "hunter2")))
    assert "Authorization" in repr(Fields.of(("Authorization", "hunter2")))


def test_parse_takes_the_items_of_a_mapping() -> None:
    """Configured fields come as a mapping."""
    assert Fields.parse({"A": "1", "B": "2"}.items()) == Fields.of(("A", "1"), ("B", "2"))


@pytest.mark.parametrize("text", ["ETag", "x-y_z", "!#$%&'*+-.^_`|~", "9"])
def test_tokens(text: str) -> None:
    """RFC 9110 §5.6.2: letters, digits and fifteen marks."""
    assert is_token(text)


@pytest.mark.parametrize("text", ["", "a b", "a:b", "é", "a\n", '"a"', "a/b", "a\x00", "(a)"])
def test_what_is_no_token(text: str) -> None:
    """Everything else is none, a trailing line feed included."""
    assert not is_token(text)


@pytest.mark.parametrize("text", ["", "a b\tc", "é 漢", "\x80", "~"])
def test_field_values(text: str) -> None:
    """Visible text, spaces and tabs can be sent."""
    assert is_field_value(text)


@pytest.mark.parametrize("text", ["a\r\nSet-Cookie: x", "\n", "\x00", "\x7f", "\x1b[0m", "\udcff"])
def test_what_is_no_field_value(text: str) -> None:
    """Control characters and bytes that are no text cannot be sent."""
    assert not is_field_value(text)


@pytest.mark.parametrize(
    ("value", "elements"),
    [
        ("", ()),
        (" , ,\t,", ()),
        ("a", ("a",)),
        ("a,b , c", ("a", "b", "c")),
        (',a,,"b,c",', ("a", '"b,c"')),
        ('private="a, b", max-age=1', ('private="a, b"', "max-age=1")),
        (r'"a\"b,c", d', (r'"a\"b,c"', "d")),
        ('"never, closed', ('"never, closed',)),
        ('"a\\', ('"a\\',)),
        ('"a\\\\", b', ('"a\\\\"', "b")),
    ],
)
def test_lists(value: str, elements: tuple[str, ...]) -> None:
    """RFC 9110 §5.6.1: commas split but in quoted strings, and empty elements do not count."""
    assert split_list(value) == elements


@given(st.lists(tokens | quoted, max_size=6), st.sampled_from([",", ", ", " ,\t", ",,"]))
@settings(deadline=None)
def test_split_list_is_the_inverse_of_joining(elements: list[str], comma: str) -> None:
    """What was joined with commas comes back."""
    assert split_list(comma.join(elements)) == tuple(elements)


@given(any_text)
@settings(deadline=None)
def test_list_elements_are_never_empty(value: str) -> None:
    """Any text splits into elements without white space around them, all from the text."""
    for element in split_list(value):
        assert element
        assert element == element.strip(" \t")
        assert element in value


@pytest.mark.parametrize(
    ("value", "directives"),
    [
        ("", {}),
        ("no-store", {"no-store": None}),
        ("Max-Age=60, MUST-REVALIDATE", {"max-age": "60", "must-revalidate": None}),
        ("max-age=1, max-age=2", {"max-age": "1"}),
        ('private="a, b", x=""', {"private": "a, b", "x": ""}),
        (r'x="a\"b\\"', {"x": 'a"b\\'}),
        ("max-age=", {"max-age": ""}),
        ("max-age= 5", {"max-age": " 5"}),
        ("max-age =5, , =, =3, a b", {}),
        ('x="open', {"x": '"open'}),
    ],
)
def test_directives(value: str, directives: dict[str, str | None]) -> None:
    """RFC 9111 §5.2: names without case, arguments unquoted, the first one counts."""
    assert parse_directives(value) == directives


@given(any_text)
@settings(deadline=None)
def test_any_text_gives_directives(value: str) -> None:
    """No text makes the parser raise, and every name is a lower-case token."""
    assert all(is_token(name) and name == name.lower() for name in parse_directives(value))


@given(st.dictionaries(tokens.map(str.lower), st.text('ab ,=\\"', max_size=6), max_size=5))
@settings(deadline=None)
def test_directives_come_back_from_quoted_arguments(directives: dict[str, str]) -> None:
    """Quoting an argument and parsing it are inverses."""

    def quote(text: str) -> str:
        return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'

    value = ", ".join(f"{name}={quote(argument)}" for name, argument in directives.items())
    assert parse_directives(value) == directives


def test_hop_by_hop_fields_are_dropped() -> None:
    """RFC 9110 §7.6.1: those of the list, and those that any Connection line names."""
    fields = Fields.of(
        ("Connection", "close, X-One"),
        ("connection", "x-two"),
        ("X-One", "1"),
        ("X-Two", "2"),
        ("Keep-Alive", "timeout=5"),
        ("Transfer-Encoding", "chunked"),
        ("TE", "trailers"),
        ("X-Three", "3"),
    )
    assert end_to_end(fields).lines == (("X-Three", "3"),)


def test_fields_that_could_split_a_message_are_dropped() -> None:
    """Names that are no tokens and values with control characters do not go on."""
    fields = Fields.of(
        ("X Y", "1"),
        ("", "1"),
        ("X-A", "a\r\nX-B: b"),
        ("X-C", "\udc80"),
        ("X-D", "fine"),
    )
    assert end_to_end(fields).lines == (("X-D", "fine"),)


def test_long_values_are_dropped_and_the_rest_stays() -> None:
    """A value over 8 KiB, counted in bytes, goes alone; one of 8 KiB stays."""
    fields = Fields.of(
        ("A", "x" * (MAX_FIELD_BYTES + 1)),
        ("B", "é" * (MAX_FIELD_BYTES // 2 + 1)),
        ("C", "x" * MAX_FIELD_BYTES),
        ("D", "x"),
    )
    assert [name for name, _ in end_to_end(fields)] == ["C", "D"]


def test_the_number_of_lines_is_bounded() -> None:
    """The first hundred lines stay."""
    fields = Fields(tuple((f"X-{number}", "v") for number in range(MAX_LINES + 5)))
    assert end_to_end(fields).lines == fields.lines[:MAX_LINES]


def test_the_size_of_all_lines_is_bounded() -> None:
    """Lines are kept while all of them fit in 64 KiB."""
    fields = Fields(tuple((f"X-{number}", "v" * MAX_FIELD_BYTES) for number in range(20)))
    kept = end_to_end(fields)
    assert kept.lines == fields.lines[: len(kept)]
    assert len(kept) == MAX_TOTAL_BYTES // (MAX_FIELD_BYTES + len("X-0: \r\n"))


@given(lines)
@settings(deadline=None)
def test_what_goes_on_is_a_harmless_part_of_what_came(pairs: list[tuple[str, str]]) -> None:
    """Whatever came, the result is a part of it that can be sent, and stays as it is."""
    kept = end_to_end(Fields.parse(pairs))
    assert set(kept.lines) <= set(pairs)
    assert all(is_token(name) and is_field_value(value) for name, value in kept)
    assert end_to_end(kept) == kept


@pytest.mark.parametrize(
    "name",
    [
        "Set-Cookie",
        "set-cookie2",
        "WWW-Authenticate",
        "Proxy-Status",
        "Proxy-Authenticate",
        "Proxy-Anything",
        "Authorization",
        "Cookie",
        "Authentication-Info",
        "Clear-Site-Data",
        "Strict-Transport-Security",
        "Alt-Svc",
        "NEL",
        "Report-To",
        "Access-Control-Allow-Origin",
        "Content-Security-Policy",
        "Service-Worker-Allowed",
        "Refresh",
        "Content-Length",
        "Content-Range",
        "Transfer-Encoding",
        "Connection",
    ],
)
@pytest.mark.parametrize("essential_only", [True, False])
def test_some_fields_are_never_stored(name: str, essential_only: bool) -> None:
    """What is bound to a user, a connection or the origin's site is not kept."""
    fields = Fields.of((name, "1"), ("ETag", '"a"'))
    assert storable_fields(fields, essential_only=essential_only).lines == (("ETag", '"a"'),)


def test_only_essential_fields_are_stored_when_asked() -> None:
    """`essential_only` leaves out harmless fields that nothing needs."""
    fields = Fields.of(("ETag", '"a"'), ("X-Cache", "HIT"), ("Content-Type", "text/plain"))
    assert storable_fields(fields, essential_only=False) == fields
    assert storable_fields(fields, essential_only=True) == fields.without("x-cache")


def test_the_sets_are_of_lower_case_tokens() -> None:
    """Membership is asked with lower-case names, and nothing essential is forbidden."""
    for names in (HOP_BY_HOP, NEVER_STORED, ESSENTIAL):
        assert all(is_token(name) and name == name.lower() for name in names)
    assert not ESSENTIAL & NEVER_STORED
