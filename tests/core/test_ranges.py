"""Range and Content-Range, against an oracle in plain sets and string methods."""

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cachestream.core.ranges import (
    MAX_RANGES,
    ContentRange,
    RangeSpec,
    content_range,
    parse_content_range,
    parse_range,
    range_field,
    resolve,
    unsatisfied_range,
)
from cachestream.core.spans import Span
from cachestream.testing import strategies as our

any_text = our.hostile_text()
small = st.integers(0, 40)
specs = our.range_specs(40)


# -- parsing ---------------------------------------------------------------


def oracle_parse(value: str) -> list[tuple[str, str]] | None:
    """Read a Range field with string methods only; the texts before and after each dash."""
    head, equals, tail = value.strip(" \t").partition("=")
    if equals != "=" or head.casefold() != "bytes" or not head.isascii():
        return None
    found = []
    for piece in tail.split(","):
        piece = piece.strip(" \t")
        if piece == "":
            continue
        before, dash, after = piece.partition("-")
        digits = before + after
        if dash == "" or digits == "" or not (digits.isascii() and digits.isdigit()):
            return None
        if len(before) > 18 or len(after) > 18:
            return None
        if before and after and int(before) > int(after):
            return None
        found.append((before, after))
    return found or None


range_like = st.lists(
    st.sampled_from(
        ["bytes=", "BYTES=", "bytes", "items=", "=", "-", "-", ",", ",", " ", "\t", "0", "7", "42",
         "9" * 18, "9" * 19, "٣", "+1", "x", "\n", "0-", "-5", "3-9", "9-3"]
    ),
    max_size=10,
).map("".join)  # fmt: skip


@given(range_like | range_like.map("bytes={}".format))
@settings(deadline=None, max_examples=400)
def test_parsing_agrees_with_the_oracle(value: str) -> None:
    """A field is read, or ignored, as plain string methods say."""
    expected = oracle_parse(value)
    found = parse_range(value)
    if expected is None:
        assert found is None
        return
    assert found is not None
    for spec, (before, after) in zip(found, expected, strict=True):
        assert spec.first_pos == (int(before) if before else None)
        assert spec.last_pos == (int(after) if before and after else None)
        assert spec.suffix_length == (None if before else int(after))


@given(any_text)
@settings(deadline=None)
def test_no_text_makes_the_parsers_raise(text: str) -> None:
    """Whatever a client or an origin sends is a value or None."""
    for value in (text, f"bytes={text}"):
        found = parse_range(value)
        assert found is None or all(isinstance(spec, RangeSpec) for spec in found)
    for value in (text, f"bytes {text}"):
        part = parse_content_range(value)
        assert part is None or isinstance(part, ContentRange)


@given(st.lists(specs, min_size=1, max_size=MAX_RANGES))
@settings(deadline=None)
def test_parsing_is_the_inverse_of_writing(listed: list[RangeSpec]) -> None:
    """Specs written as a field come back in the same order."""
    assert parse_range("bytes=" + ",".join(map(str, listed))) == tuple(listed)


@pytest.mark.parametrize(
    ("value", "written"),
    [
        ("bytes=0-99", ["0-99"]),
        ("bytes=5-", ["5-"]),
        ("bytes=-10", ["-10"]),
        ("Bytes=0-0 , -1,\t7-", ["0-0", "-1", "7-"]),
        ("bytes=,,0-1,,", ["0-1"]),
        ("bytes=007-0010", ["7-10"]),
        ("bytes=-0", ["-0"]),
        ("bytes=999999999999999999-", ["999999999999999999-"]),
    ],
)
def test_ranges_that_count(value: str, written: list[str]) -> None:
    """RFC 9110 §14.1: these are ranges, in the client's order."""
    found = parse_range(value)
    assert found is not None
    assert list(map(str, found)) == written


@pytest.mark.parametrize(
    "value",
    [
        "", "bytes", "bytes=", "bytes=,", "items=0-1", "bytes=-", "bytes=a-b", "bytes=1",
        "bytes=2-1", "bytes=0-1,2-1", "bytes=0-1;2-3", "bytes=1--2", "bytes= 1 - 2",
        "bytes =0-1", "bytes=0x1-2", "bytes=1-2-3", "bytes=+1-2", "bytes=1_0-2_0",
        "bytes=1000000000000000000-", "bytes=-1000000000000000000", "bytes=٣-٤", "bytes=0-1\n",
    ],
)  # fmt: skip
def test_ranges_that_are_ignored(value: str) -> None:
    """RFC 9110 §14.2: a malformed field, another unit or an endless number is no range."""
    assert parse_range(value) is None


def test_too_many_distinct_ranges_are_ignored() -> None:
    """Sixteen ranges count, seventeen do not; those that touch or overlap count as one."""
    apart = [f"{number * 10}-{number * 10 + 1}" for number in range(MAX_RANGES + 1)]
    assert parse_range("bytes=" + ",".join(apart[:-1])) is not None
    assert parse_range("bytes=" + ",".join(apart)) is None
    touching = [f"{number}-{number}" for number in range(100)]
    assert parse_range("bytes=" + ",".join(touching)) is not None
    assert parse_range("bytes=" + ",".join([*apart[:-1], "-1"])) is None
    assert parse_range("bytes=" + ",".join([*apart[:-2], "-1", "-5", "-9"])) is not None


def test_an_absurd_number_of_specs_is_ignored() -> None:
    """The same bytes listed a thousand times are an attack, not a wish."""
    assert parse_range("bytes=" + ",".join(["0-0"] * 1000)) is None
    assert parse_range("bytes=" + "," * 100_000 + "0-0") is None


@pytest.mark.parametrize(
    "arguments",
    [(), (None, 5), (5, 4), (-1,), (0, None, 3), (None, None, -1), (None, 4, 3)],
)
def test_a_spec_that_is_no_range_cannot_be_made(arguments: tuple[int | None, ...]) -> None:
    """Exactly one of first_pos and suffix_length is set, and nothing is negative."""
    with pytest.raises(ValueError, match="not a range"):
        RangeSpec(*arguments)


# -- resolving -------------------------------------------------------------


def oracle_bytes(spec: RangeSpec, length: int) -> set[int]:
    """List the positions that a spec names, byte by byte."""
    if spec.suffix_length is not None:
        return {p for p in range(length) if p >= length - spec.suffix_length}
    assert spec.first_pos is not None
    last = length if spec.last_pos is None else spec.last_pos
    return {p for p in range(length) if spec.first_pos <= p <= last}


def positions(span: Span) -> set[int]:
    return set(range(span.start, span.stop))


@given(st.lists(specs, max_size=10), st.integers(0, 45))
@settings(deadline=None, max_examples=300)
def test_resolving_gives_the_bytes_named_once_each(listed: list[RangeSpec], length: int) -> None:
    """The spans hold exactly the bytes named, are disjoint and do not touch."""
    spans = resolve(tuple(listed), length)
    wanted = set().union(*(oracle_bytes(spec, length) for spec in listed))
    assert set().union(*map(positions, spans)) == wanted
    assert sum(map(len, spans)) == len(wanted) <= length
    assert all(spans)
    ordered = sorted(spans)
    assert all(one.stop < two.start for one, two in pairwise(ordered))


@given(st.lists(specs, max_size=10), st.integers(0, 45))
@settings(deadline=None)
def test_resolving_keeps_the_order_of_the_client(listed: list[RangeSpec], length: int) -> None:
    """A span stands where the first of the ranges it is made of stood."""
    spans = resolve(tuple(listed), length)
    first_seen = [
        next(
            index
            for index, spec in enumerate(listed)
            if oracle_bytes(spec, length) and oracle_bytes(spec, length) <= positions(span)
        )
        for span in spans
    ]
    assert first_seen == sorted(first_seen)


@pytest.mark.parametrize(
    ("value", "length", "expected"),
    [
        ("bytes=0-", 10, [(0, 10)]),
        ("bytes=2-99", 10, [(2, 10)]),
        ("bytes=-3", 10, [(7, 10)]),
        ("bytes=-30", 10, [(0, 10)]),
        ("bytes=10-", 10, []),
        ("bytes=-0", 10, []),
        ("bytes=0-", 0, []),
        ("bytes=-5", 0, []),
        ("bytes=20-30,1-2", 10, [(1, 3)]),
        ("bytes=5-6,0-1", 10, [(5, 7), (0, 2)]),
        ("bytes=5-6,0-1,2-3", 10, [(5, 7), (0, 4)]),
        ("bytes=5-6,0-1,2-4", 10, [(0, 7)]),
        ("bytes=0-0,-1", 10, [(0, 1), (9, 10)]),
    ],
)
def test_resolving(value: str, length: int, expected: list[tuple[int, int]]) -> None:
    """Clamped, merged, in order; nothing satisfiable is an empty result."""
    parsed = parse_range(value)
    assert parsed is not None
    assert [(span.start, span.stop) for span in resolve(parsed, length)] == expected


# -- Content-Range ---------------------------------------------------------


@given(small, st.integers(1, 40), st.none() | st.integers(0, 40))
@settings(deadline=None)
def test_content_range_comes_back(start: int, size: int, beyond: int | None) -> None:
    """Writing and parsing a Content-Range are inverses, known length or not."""
    span = Span(start, start + size)
    length = None if beyond is None else span.stop + beyond
    written = content_range(span, length)
    assert parse_content_range(written) == ContentRange(span, length)
    assert parse_content_range(written.replace("bytes", "Bytes")) == ContentRange(span, length)


def test_the_wire_form_is_inclusive() -> None:
    """The last position is one less than the stop of the span."""
    assert content_range(Span(0, 100), 1000) == "bytes 0-99/1000"
    assert content_range(Span(0, 100), None) == "bytes 0-99/*"
    assert parse_content_range("bytes 0-99/1000") == ContentRange(Span(0, 100), 1000)


def test_unsatisfied_ranges() -> None:
    """A 416 names the length alone."""
    assert unsatisfied_range(1000) == "bytes */1000"
    assert parse_content_range("bytes */1000") == ContentRange(None, 1000)
    assert parse_content_range("bytes */0") == ContentRange(None, 0)
    assert unsatisfied_range(None) == "bytes */*"
    assert parse_content_range("bytes */*") is None


@pytest.mark.parametrize(
    "value",
    [
        "", "bytes", "bytes 0-9", "bytes 9-0/10", "bytes 0-10/10", "bytes 0-9/5", "items 0-9/10",
        "bytes=0-9/10", "bytes  0-9/10", "bytes 0 - 9/10", "bytes 0-9 / 10", "bytes -9/10",
        "bytes 0-/10", "bytes 0-9/", "bytes 0-9/10, bytes 10-19/20", "bytes 0-9/x",
        "bytes 0-9/1000000000000000000", "bytes 0-9/-1", "bytes ٠-٩/10", "0-9/10", "bytes */",
    ],
)  # fmt: skip
def test_a_content_range_in_doubt_is_none(value: str) -> None:
    """Nothing is repaired: bytes whose place is in doubt must not be stored."""
    assert parse_content_range(value) is None


@pytest.mark.parametrize(("span", "length"), [(Span(5, 5), 10), (Span(5, 11), 10), (Span(0, 1), 0)])
def test_no_content_range_is_written_for_what_is_no_part(span: Span, length: int) -> None:
    """An empty span, or one past the end, has no Content-Range."""
    with pytest.raises(ValueError, match="no part"):
        content_range(span, length)


@given(small, st.none() | st.integers(1, 40), st.integers(0, 100))
@settings(deadline=None)
def test_range_field_asks_for_the_span(start: int, size: int | None, length: int) -> None:
    """What is asked for with `range_field` is what the other side resolves."""
    stop = None if size is None else start + size
    parsed = parse_range(range_field(start, stop))
    assert parsed is not None
    end = length if stop is None else min(stop, length)
    assert resolve(parsed, length) == ((Span(start, end),) if start < end else ())


def test_range_field_writes_the_wire_form() -> None:
    """Bounded and open requests, as they are sent."""
    assert range_field(0, 100) == "bytes=0-99"
    assert range_field(7, None) == "bytes=7-"


@pytest.mark.parametrize(("start", "stop"), [(5, 5), (5, 4), (-1, None), (-1, 3)])
def test_range_field_never_asks_for_nothing(start: int, stop: int | None) -> None:
    """No byte at all cannot be asked for."""
    with pytest.raises(ValueError, match="no bytes"):
        range_field(start, stop)
