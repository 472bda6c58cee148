"""Hypothesis strategies for the values that cross our interfaces; need hypothesis.

Each is a function that returns a strategy, so that a test says how large its values may be:

    from hypothesis import given
    from cachestream.testing import strategies as our

    @given(our.span_sets(limit=100), our.spans(limit=100))
    def test_discarding_leaves_nothing(spans, span):
        ...
"""

from __future__ import annotations

import string
from typing import Final

from hypothesis import strategies as st

from cachestream.abc import EntryRecord, Key
from cachestream.core.fields import Fields, is_field_value
from cachestream.core.ranges import RangeSpec
from cachestream.core.representation import Representation
from cachestream.core.spans import UNBOUNDED, Span, SpanSet
from cachestream.core.urls import normalize
from cachestream.core.validators import EntityTag

__all__ = [
    "entity_tags",
    "entry_records",
    "field_lines",
    "field_names",
    "field_values",
    "fields",
    "hostile_text",
    "hosts",
    "keys",
    "moments",
    "nonempty_spans",
    "range_specs",
    "representations",
    "sources",
    "span_sets",
    "spans",
    "tokens",
]

TOKEN_CHARACTERS: Final = string.ascii_letters + string.digits + "!#$%&'*+-.^_`|~"
"""What a token may be made of (RFC 9110 §5.6.2)."""

_IDENTIFIERS: Final = string.ascii_letters + string.digits + "-_"
_ESCAPES: Final = ("%20", "%2F", "%2f", "%C3%BC", "%", "%zz", "%2e", "..", ".", "//", "~")


# -- bytes -----------------------------------------------------------------------


def spans(limit: int = 1000) -> st.SearchStrategy[Span]:
    """Spans within ``[0, limit)``, empty ones among them."""
    positions = st.integers(0, limit)
    return st.tuples(positions, positions).map(lambda pair: Span(min(pair), max(pair)))


def nonempty_spans(limit: int = 1000) -> st.SearchStrategy[Span]:
    """Spans within ``[0, limit)`` of a byte at least."""
    return spans(limit).filter(bool)


def span_sets(limit: int = 1000, *, most: int = 8) -> st.SearchStrategy[SpanSet]:
    """Sets made of at most ``most`` spans within ``[0, limit)``."""
    return st.lists(spans(limit), max_size=most).map(SpanSet)


def range_specs(limit: int = 1000) -> st.SearchStrategy[RangeSpec]:
    """One range of a Range field: closed, open, or a suffix (RFC 9110 §14.1.2)."""
    positions = st.integers(0, limit)
    return st.one_of(
        st.tuples(positions, positions).map(lambda pair: RangeSpec(min(pair), max(pair))),
        positions.map(RangeSpec),
        positions.map(lambda length: RangeSpec(suffix_length=length)),
    )


# -- text of HTTP ------------------------------------------------------------------


def hostile_text(most: int = 40) -> st.SearchStrategy[str]:
    """Any text at all: control characters, lone surrogates, characters of any plane."""
    return st.text(st.characters(exclude_categories=()), max_size=most)


def tokens(most: int = 8) -> st.SearchStrategy[str]:
    """Tokens (RFC 9110 §5.6.2)."""
    return st.text(TOKEN_CHARACTERS, min_size=1, max_size=most)


def field_names(most: int = 8) -> st.SearchStrategy[str]:
    """Names of fields, few enough that some occur twice, in any case."""
    return st.text("abcXYZ-0", min_size=1, max_size=most)


def field_values(most: int = 20) -> st.SearchStrategy[str]:
    """Values that can be sent."""
    return hostile_text(most).filter(is_field_value)


def field_lines(most: int = 6) -> st.SearchStrategy[list[tuple[str, str]]]:
    """Lines of fields that can be sent."""
    return st.lists(st.tuples(field_names(), field_values()), max_size=most)


def fields(most: int = 6) -> st.SearchStrategy[Fields]:
    """Fields that can be sent."""
    return field_lines(most).map(Fields.parse)


def entity_tags() -> st.SearchStrategy[EntityTag]:
    """Entity tags, strong and weak (RFC 9110 §8.8.3)."""
    opaque = st.text(
        st.characters(min_codepoint=0x21, exclude_characters='"\x7f', exclude_categories=["Cs"]),
        max_size=12,
    )
    return st.builds(EntityTag, opaque, st.booleans())


def moments() -> st.SearchStrategy[float]:
    """Times, in seconds since the epoch."""
    return st.floats(0, 4e9, allow_nan=False)


# -- URLs ----------------------------------------------------------------------------


def hosts() -> st.SearchStrategy[str]:
    """Host names, in any case and script, and IP literals, as they stand in a URL."""
    labels = st.text("abcXYZ019_-", min_size=1, max_size=8)
    names = st.lists(labels, min_size=1, max_size=4).map(".".join)
    return st.one_of(
        names,
        names.map(lambda name: name + "."),
        st.ip_addresses(v=4).map(str),
        st.ip_addresses(v=6).map("[{}]".format),
        st.sampled_from(["bücher.example", "例え.テスト", "LOCALHOST", "faß.de"]),
    )


def sources() -> st.SearchStrategy[str]:
    """URLs that a person may write for something to fetch; not yet in their normal form."""
    ports = st.one_of(st.just(""), st.just(":"), st.integers(1, 65535).map(":{}".format))
    visible = st.text(
        st.characters(exclude_categories=("Cc", "Cs"), exclude_characters="?#"), max_size=12
    )
    paths = st.lists(visible | st.sampled_from(_ESCAPES), max_size=5).map("/".join)
    tails = paths.flatmap(
        lambda path: st.one_of(
            st.just(f"/{path}" if path else ""),
            visible.map(lambda query: f"/{path}?{query}?&a=b"),
            st.just(f"?{path}"),
        )
    )
    schemes = st.sampled_from(["http", "https", "HTTPS", "s3", "memory"])
    return st.builds("{}://{}{}{}".format, schemes, hosts(), ports, tails)


def keys() -> st.SearchStrategy[Key]:
    """Keys that a store files entries under."""
    return st.text("abc/?=&%-0", max_size=12).map(lambda tail: Key(f"https://example.com/{tail}"))


# -- what a store keeps ----------------------------------------------------------------


def representations(
    *, complete_length: st.SearchStrategy[int | None] | None = None
) -> st.SearchStrategy[Representation]:
    """Versions of a resource with any fields, length and variant.

    Args:
        complete_length: Of which lengths; None for any, unknown ones among them.
    """
    values = field_values()
    lengths = st.none() | st.integers(0, UNBOUNDED) if complete_length is None else complete_length
    return st.builds(
        Representation,
        status=st.integers(100, 599),
        fields=fields(),
        complete_length=lengths,
        ranges=st.none() | st.booleans(),
        request_time=moments(),
        response_time=moments(),
        selecting=st.lists(st.tuples(field_names(), st.none() | values), max_size=3).map(tuple),
    )


def entry_records() -> st.SearchStrategy[EntryRecord]:
    """Records of published entries."""
    return st.builds(
        EntryRecord,
        entry_id=st.text(_IDENTIFIERS, min_size=1, max_size=32),
        key=keys(),
        source=sources().filter(_is_normal).map(normalize),
        representation=representations(),
        stored_bytes=st.integers(0, 2**53),
        allocated_bytes=st.integers(0, 2**53),
        created=moments(),
        accessed=moments(),
        pinned=st.booleans(),
        file=st.none() | st.text("abc/.", min_size=1, max_size=12),
    )


def _is_normal(source: str) -> bool:
    """Tell whether a URL can be fetched at all."""
    try:
        normalize(source)
    except ValueError:
        return False
    return True
