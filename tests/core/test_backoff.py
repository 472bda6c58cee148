"""How long to wait before asking again."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cachestream.core.backoff import MAX_RETRY_AFTER, delay, parse_retry_after
from cachestream.core.validators import format_http_date
from cachestream.testing import strategies as our

NOW = 1_700_000_000.0


@pytest.mark.parametrize(
    ("attempt", "jitter", "expected"),
    [
        (0, 0.0, 0.25),
        (0, 0.5, 0.375),
        (1, 0.0, 0.5),
        (3, 0.0, 2.0),
        (9, 0.0, 15.0),
        (10_000, 0.0, 15.0),
        (-3, 0.0, 0.25),
    ],
)
def test_delay(attempt: int, jitter: float, expected: float) -> None:
    """Doubled with each attempt up to the cap, and half of it at least."""
    assert delay(attempt, first=0.5, cap=30.0, jitter=jitter) == expected


@given(
    st.integers(0, 10**9),
    st.floats(0, 1e6),
    st.floats(0, 1e6),
    st.floats(0, 1, exclude_max=True),
)
@settings(deadline=None)
def test_delay_lies_between_half_and_whole(
    attempt: int, first: float, cap: float, jitter: float
) -> None:
    """Whatever the settings, jitter takes away at most half, and the cap holds."""
    found = delay(attempt, first=first, cap=cap, jitter=jitter)
    whole = min(cap, first * 2.0 ** min(attempt, 64))
    assert whole / 2 <= found <= whole
    assert delay(attempt + 1, first=first, cap=cap, jitter=jitter) >= found


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("0", 0.0),
        ("120", 120.0),
        (" 007\t", 7.0),
        ("86400", MAX_RETRY_AFTER),
        ("86401", MAX_RETRY_AFTER),
        ("9" * 5000, MAX_RETRY_AFTER),
        ("0" * 5000 + "5", 5.0),
        (format_http_date(NOW + 90), 90.0),
        (format_http_date(NOW - 90), 0.0),
        (format_http_date(NOW + 1e9), MAX_RETRY_AFTER),
    ],
)
def test_retry_after(value: str, expected: float) -> None:
    """Seconds or a date (RFC 9110 §10.2.3), never negative, a day at most."""
    assert parse_retry_after(value, NOW) == expected


@pytest.mark.parametrize("value", ["", "-1", "1.5", "soon", "١٢", "1 2", "5\n", "0x5", "1e3"])
def test_a_malformed_retry_after_is_none(value: str) -> None:
    """What is neither form says nothing."""
    assert parse_retry_after(value, NOW) is None


@given(our.hostile_text(30), st.floats(0, 1e10))
@settings(deadline=None)
def test_no_text_makes_the_parser_raise(value: str, now: float) -> None:
    """Any text is a wait within bounds, or None."""
    found = parse_retry_after(value, now)
    assert found is None or 0 <= found <= MAX_RETRY_AFTER
