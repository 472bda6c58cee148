"""What a person writes becomes what an annotation says, or the error says what is expected."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cachestream.config._convert import convert, split_fields, split_words

OPTIONAL_SIZE = int | None
THRESHOLD = int | Literal["adaptive"] | None
WORDS = tuple[str, ...]
TABLE = Mapping[str, str]


@pytest.mark.parametrize(
    ("value", "hint", "unit", "expected"),
    [
        ("text", str, "", "text"),
        ("yes", bool, "", True),
        ("Off", bool, "", False),
        (True, bool, "", True),
        ("42", int, "", 42),
        (42, int, "", 42),
        ("5GiB", int, "bytes", 5 << 30),
        (1024, int, "bytes", 1024),
        ("1.5", float, "", 1.5),
        (2, float, "", 2.0),
        ("1m30s", float, "seconds", 90.0),
        ("250ms", float | None, "seconds", 0.25),
        ("none", OPTIONAL_SIZE, "bytes", None),
        (None, OPTIONAL_SIZE, "bytes", None),
        ("64K", OPTIONAL_SIZE, "bytes", 65536),
        ("adaptive", THRESHOLD, "bytes", "adaptive"),
        ("none", THRESHOLD, "bytes", None),
        ("2MiB", THRESHOLD, "bytes", 2 << 20),
        ("Demand", Literal["auto", "demand"], "", "demand"),
        ("a, b c", WORDS, "", ("a", "b", "c")),
        (["a b", "c"], WORDS, "", ("a b", "c")),
        ([], WORDS, "", ()),
        ("A: 1\nB: 2: 3\n", TABLE, "", {"A": "1", "B": "2: 3"}),
        ({"A": "1"}, TABLE, "", {"A": "1"}),
        ("1, 2", tuple[int, ...], "", (1, 2)),
        ("/x", Path, "", Path("/x")),
        ("x", Path | None, "", Path("x")),
        (Path("x"), Path, "", Path("x")),
    ],
)
def test_what_is_written_becomes_what_is_meant(
    value: Any, hint: Any, unit: str, expected: Any
) -> None:
    """Text may stand for every type; what TOML has is taken as it is."""
    converted = convert(value, hint, unit)
    assert converted == expected
    assert type(converted) is type(expected)


@pytest.mark.parametrize(
    ("value", "hint", "unit", "reason"),
    [
        (1, str, "", "a text is expected, not a whole number"),
        ("maybe", bool, "", "yes or no"),
        (1, bool, "", "yes or no"),
        ("4.2", int, "", "a whole number is expected"),
        (True, int, "", "not a boolean"),
        (4.2, int, "bytes", "not a number"),
        ("5 parsecs", int, "bytes", "write it like"),
        ("5 parsecs", OPTIONAL_SIZE, "bytes", "write it like .*, or none"),
        ("x", THRESHOLD, "bytes", "or adaptive or none"),
        ("soon", float, "seconds", "write it like"),
        ("nan", float, "", "a number is expected"),
        ("x", Literal["auto", "demand"], "", "one of auto, demand"),
        ({}, WORDS, "", "a list is expected, not a table"),
        ([1], WORDS, "", "a text is expected"),
        ("no colon", TABLE, "", "name: value"),
        ([], TABLE, "", "a table is expected, not an array"),
        ({"A": 1}, TABLE, "", "a text is expected"),
        ("", Path, "", "a path is expected"),
        (3, Path, "", "a text is expected"),
    ],
)
def test_what_cannot_be_is_refused(value: Any, hint: Any, unit: str, reason: str) -> None:
    """The error says what is expected."""
    with pytest.raises(ValueError, match=reason):
        convert(value, hint, unit)


def test_a_path_starts_where_its_file_is(monkeypatch: pytest.MonkeyPatch) -> None:
    """A relative path starts from the base; an absolute one and the home directory do not."""
    monkeypatch.setenv("HOME", "/home/somebody")
    base = Path("/etc/cachestream")
    assert convert("cache", Path, base=base) == base / "cache"
    assert convert("/var/cache", Path, base=base) == Path("/var/cache")
    assert convert("~/cache", Path | None, base=base) == Path("/home/somebody/cache")


@given(st.lists(st.from_regex(r"[^\s,]+", fullmatch=True)))
def test_words_are_split_at_commas_and_spaces(words: list[str]) -> None:
    """What is joined by either is split again."""
    assert split_words(", ".join(words)) == tuple(words)
    assert split_words(" ".join(words)) == tuple(words)


def test_a_name_may_have_a_colon() -> None:
    """A colon with a space behind it goes before one without."""
    assert split_fields("a.example:8443: bearer\nB:2") == {"a.example:8443": "bearer", "B": "2"}


def test_a_line_that_is_no_field_is_not_repeated() -> None:
    """What has no colon may be a secret."""
    with pytest.raises(ValueError, match="each line") as caught:
        split_fields("A: 1\nsecret-without-a-name")
    assert "secret" not in str(caught.value)
