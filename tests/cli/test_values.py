"""Sizes, durations, ranges and fields are types of flags."""

import click
import pytest

from cachestream.cli._values import (
    HEADER,
    WORDS,
    DurationType,
    RangeType,
    SizeType,
    parse_one_range,
)


@pytest.mark.parametrize(
    ("text", "positions"),
    [
        ("0-499", (0, 499, None)),
        ("500-", (500, None, None)),
        ("-500", (None, None, 500)),
        ("bytes=7-7", (7, 7, None)),
    ],
)
def test_ranges(text: str, positions: tuple[int | None, int | None, int | None]) -> None:
    """One range is read in HTTP's inclusive form."""
    spec = parse_one_range(text)
    assert (spec.first_pos, spec.last_pos, spec.suffix_length) == positions


@pytest.mark.parametrize("text", ["", "-", "5-1", "a-b", "1-2,9-10", "1:2"])
def test_what_is_no_range(text: str) -> None:
    """Anything else, several ranges included, is refused with an example."""
    with pytest.raises(ValueError, match="write it like"):
        parse_one_range(text)


def test_words_stand_for_values() -> None:
    """A type can take words besides values, whatever their case."""
    kind = SizeType(none=None, adaptive="adaptive")
    assert kind.convert("Adaptive", None, None) == "adaptive"
    assert kind.convert("none", None, None) is None
    with pytest.raises(click.BadParameter, match="none or adaptive"):
        kind.convert("some", None, None)


@pytest.mark.parametrize("kind", [SizeType(), DurationType(), RangeType()])
def test_a_wrong_value_is_a_usage_error(kind: click.ParamType[object]) -> None:
    """Whatever the parser refuses, click reports as a bad parameter."""
    with pytest.raises(click.BadParameter):
        kind.convert("?", None, None)


def test_a_value_that_is_read_already_stays() -> None:
    """A type leaves a value of its own alone, as click asks of it."""
    assert SizeType().convert(5, None, None) == 5


def test_fields_are_split_at_the_first_colon() -> None:
    """A field value may have colons and spaces."""
    assert HEADER.convert("X-Time:  12:30 ", None, None) == ("X-Time", "12:30")


@pytest.mark.parametrize("text", ["secret", "Na me: secret", ": secret"])
def test_a_malformed_field_is_refused_without_its_value(text: str) -> None:
    """The message does not repeat what may be a secret."""
    with pytest.raises(click.BadParameter) as caught:
        HEADER.convert(text, None, None)
    assert "secret" not in caught.value.message


def test_variables_hold_several_values() -> None:
    """A variable holds words split by commas or spaces, and fields one a line."""
    assert WORDS.split_envvar_value("a, b  c") == ["a", "b", "c"]
    assert HEADER.split_envvar_value("A: 1, 2\n\nB: 3\n") == ["A: 1, 2", "B: 3"]
