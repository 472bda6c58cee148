"""Sizes and durations are read as people write them, and shown as people say them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cachestream.core.quantities import format_duration, format_size, parse_duration, parse_size


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("0", 0),
        ("500", 500),
        ("500B", 500),
        ("500MB", 500_000_000),
        ("5GiB", 5 * 1024**3),
        ("5G", 5 * 1024**3),
        ("5g", 5 * 1024**3),
        ("1.5 KiB", 1536),
        (" .5k ", 512),
        ("2TB", 2 * 10**12),
        ("9007199254740993", 9007199254740993),
        ("1PiB", 1024**5),
    ],
)
def test_sizes(text: str, size: int) -> None:
    """A size is a number with a unit: B and kB and MB are decimal, KiB and K binary."""
    assert parse_size(text) == size


@pytest.mark.parametrize(
    "text", ["", "GiB", "5 XB", "-5", "1.5", "5GiBs", "1,5G", "٣", "1e9", "inf"]
)
def test_what_is_no_size(text: str) -> None:
    """Anything else is refused with an example."""
    with pytest.raises(ValueError, match=r"MB|whole number"):
        parse_size(text)


@given(st.integers(0, 2**60))
def test_a_formatted_size_reads_back_to_about_itself(size: int) -> None:
    """A size as shown is within a twentieth of the size meant."""
    assert parse_size(format_size(size)) == pytest.approx(size, rel=0.05)


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (1024, "1 KiB"),
        (1536, "1.5 KiB"),
        (1024**2 - 1, "1.0 MiB"),
        (25 * 1024**2, "25 MiB"),
        (3 * 1024**6, "3072 PiB"),
    ],
)
def test_sizes_are_shown_in_the_largest_unit(size: int, text: str) -> None:
    """The largest binary unit that keeps the number at least 1 is used."""
    assert format_size(size) == text


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("10", 10),
        ("10s", 10),
        ("5m", 300),
        ("1.5h", 5400),
        ("250ms", 0.25),
        ("1h30m", 5400),
        ("2d", 172800),
        ("0", 0),
        (" 1m 5s ", 65),
    ],
)
def test_durations(text: str, seconds: float) -> None:
    """A duration is seconds, or numbers with units one after the other."""
    assert parse_duration(text) == pytest.approx(seconds)


@pytest.mark.parametrize("text", ["", "s", "-1s", "10 parsecs", "1h-", "5M", "nan", "inf"])
def test_what_is_no_duration(text: str) -> None:
    """Anything else is refused with an example."""
    with pytest.raises(ValueError, match="write it like"):
        parse_duration(text)


@given(st.integers(0, 10**7))
def test_a_formatted_duration_reads_back_to_about_itself(seconds: int) -> None:
    """A duration as shown is within a twentieth of the one meant."""
    assert parse_duration(format_duration(seconds)) == pytest.approx(seconds, rel=0.05)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.5, "0.5s"),
        (0.25, "0.25s"),
        (2, "2s"),
        (59.6, "1m"),
        (185, "3m05s"),
        (7200, "2h"),
        (7260, "2h01m"),
        (90000, "1d01h"),
        (86400, "1d"),
    ],
)
def test_durations_are_shown_in_two_units_at_most(seconds: float, text: str) -> None:
    """A duration is shown as a person would say it."""
    assert format_duration(seconds) == text
