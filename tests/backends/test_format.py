"""Rows of the index come back as they were, and damaged ones not at all."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cachestream.abc import Key
from cachestream.backends import _format as fmt
from cachestream.core.fields import Fields
from cachestream.core.representation import Representation
from cachestream.core.spans import Span

TEXT = st.text(st.characters(codec="utf-8"))
NUMBER = st.integers(0, 2**53)
ID = "0123456789abcdef" * 2


@given(st.text(), st.binary())
def test_a_sealed_row_opens_under_its_own_name_only(name, content):
    """Content comes back unchanged; under another name, or changed, it does not."""
    value = fmt.seal(name, content)
    assert fmt.unseal(name, value) == content
    assert fmt.unseal(name + "x", value) is None
    assert fmt.unseal(name, value + b"x") is None
    assert fmt.unseal(name, value[:-1]) is None
    assert fmt.unseal(name, bytes([value[0] ^ 1]) + value[1:]) is None


@given(TEXT, TEXT, NUMBER, st.none() | TEXT, st.booleans(), st.none() | NUMBER)
def test_a_head_comes_back(key, source, created, file, final, size):
    """Packing and unpacking a head changes nothing."""
    identity = None if size is None else fmt.Identity(1, 2, size, 4)
    head = fmt.Head(
        key=Key(key),
        source=source,
        representation=Representation(fields=Fields.of(("ETag", '"a"')), complete_length=size),
        created=created,
        file=file,
        final=final,
        identity=identity,
    )
    assert fmt.Head.unpack(head.pack()) == head


@given(st.binary())
def test_nonsense_is_no_row(content):
    """Whatever bytes a row holds, unpacking gives nothing rather than an error."""
    assert fmt.Head.unpack(content) is None
    assert fmt.KeyRow.unpack(Key("k"), content) == fmt.KeyRow(Key("k"))
    assert fmt.WriteMark.unpack(content) == fmt.WriteMark()
    assert isinstance(fmt.Counts.unpack(content), fmt.Counts)
    assert isinstance(fmt.Access.unpack(content), fmt.Access)
    fmt.unpack_spans(content)


@pytest.mark.parametrize(
    "content",
    [
        b"[]",
        b"3",
        b"null",
        b'{"format":2,"key":"k"}',
        b'{"format":1,"key":"k","source":"s","representation":3,"created":0}',
        b'{"entries":[["x"]],"key":"k"}',
        b'{"allocated":"many","file":null}',
        b"[" * 100_000,
    ],
)
def test_json_of_another_shape_is_no_row(content):
    """Valid JSON that is not ours reads as nothing, however deep it is."""
    assert fmt.Head.unpack(content) is None
    assert fmt.KeyRow.unpack(Key("k"), content).entries == ()
    assert fmt.WriteMark.unpack(content) == fmt.WriteMark()


def test_a_key_row_lists_entries_of_its_key_only():
    """Another key's row, or an identifier that could name a file elsewhere, is left out."""
    row = fmt.KeyRow(Key("k"), ((ID, (("accept", None),)), ("../../etc/passwd", ())))
    assert fmt.KeyRow.unpack(Key("k"), row.pack()).entries == ((ID, (("accept", None),)),)
    assert fmt.KeyRow.unpack(Key("other"), row.pack()).entries == ()


@given(NUMBER, NUMBER, st.booleans(), st.booleans())
def test_small_rows_come_back(one, two, pinned, external):
    """Counts, totals, access and marks are as they were written."""
    for value in (
        fmt.Counts(one, two),
        fmt.Totals(one, two),
        fmt.Access(one, pinned, external),
        fmt.WriteMark(one, None),
    ):
        assert type(value).unpack(value.pack()) == value


@given(st.lists(st.integers(1, 1000), max_size=30))
def test_a_segment_comes_back(sizes):
    """Spans and extents are as packed; extents that touch are one span."""
    extents, position = [], 0
    for size in sizes:
        start = position + (size % 3) * 10
        extents.append((start, start + size, size * 7))
        position = start + size
    content = fmt.pack_segment(extents)
    spans = fmt.unpack_spans(content)
    assert fmt.unpack_extents(content) == extents
    assert spans is not None
    assert spans.total == sum(sizes)
    assert all(spans.covers(Span(start, stop)) for start, stop, _ in extents)


def test_the_order_of_rows_is_the_order_of_time():
    """Names sort by time; pinned entries and files of the user's are apart."""
    old, new = fmt.Access(9), fmt.Access(10)
    assert fmt.order_row(ID, old) < fmt.order_row(ID, new)
    for kept in (fmt.Access(5, pinned=True), fmt.Access(5, external=True)):
        assert not kept.evictable
        assert fmt.order_row(ID, kept).startswith("p:")
