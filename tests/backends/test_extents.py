"""The table of extents against a plain list."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cachestream.backends._extents import CELL, SEGMENT, ExtentTable
from cachestream.backends._format import pack_segment
from cachestream.core.spans import UNBOUNDED, Span

POSITIONS = st.integers(0, 3 * SEGMENT // CELL).map(lambda cell: cell * CELL)


@given(st.dictionaries(POSITIONS, st.integers(1, CELL), max_size=20), POSITIONS, POSITIONS)
def test_overlapping_finds_what_a_list_finds(extents, one, two):
    """Extents that share a byte with a span are found in order, over all segments."""
    table = ExtentTable()
    for start, size in extents.items():
        table.put((start, start + size, size))
    span = Span(min(one, two) + 5, max(one, two) + 6)
    everything = sorted((start, start + size, size) for start, size in extents.items())
    assert table.overlapping(span) == [
        extent for extent in everything if extent[0] < span.stop and extent[1] > span.start
    ]
    assert table.overlapping(Span(0, UNBOUNDED)) == everything
    assert table.total == sum(extents.values())


def test_only_changed_segments_are_written():
    """A change makes one row dirty, and taking the rows makes them clean."""
    table = ExtentTable()
    table.put((0, 10, 1))
    table.put((SEGMENT, SEGMENT + 5, 2))
    assert sorted(table.take_dirty()) == [0, 1]
    assert not table.dirty
    table.put((SEGMENT, SEGMENT + 9, 3))
    assert table.take_dirty() == {1: pack_segment([(SEGMENT, SEGMENT + 9, 3)])}
    table.remove((0, 10, 1))
    assert table.take_dirty() == {0: None}
    assert table.total == 9


def test_a_loaded_segment_is_as_it_was_stored():
    """Spans come at once, extents when they are asked for, and neither is dirty."""
    table = ExtentTable()
    extents = [(SEGMENT, SEGMENT + 100, 1), (SEGMENT + 100, SEGMENT + 200, 2)]
    spans = table.load(1, pack_segment(extents))
    assert list(spans) == [Span(SEGMENT, SEGMENT + 200)]
    assert table.total == 200
    assert extents[1] in table
    assert (SEGMENT, SEGMENT + 100, 9) not in table
    assert not table.dirty
    assert table.take_dirty(everything=True) == {1: pack_segment(extents)}


@pytest.mark.parametrize(
    "extents",
    [
        [(10, 5, 1)],
        [(0, CELL + 1, 1)],
        [(0, 10, 1), (5, 20, 2)],
        [(SEGMENT, SEGMENT + 5, 1)],
    ],
)
def test_a_segment_that_makes_no_sense_holds_nothing(extents):
    """Extents out of order, over a cell's end, or of another segment are not believed."""
    table = ExtentTable()
    spans = table.load(0, pack_segment(extents))
    assert table.overlapping(Span(0, UNBOUNDED)) == []
    assert table.total == 0 or not spans


def test_an_extent_grows_in_place():
    """Putting an extent with the same start replaces it; a vanished one cannot be removed."""
    table = ExtentTable()
    table.put((5, 10, 1))
    table.put((5, 20, 2))
    assert table.overlapping(Span(0, 100)) == [(5, 20, 2)]
    assert not table.remove((5, 10, 1))
    table.take_dirty()
    table.put((5, 20, 2))
    assert not table.dirty
    table.mark_dirty([3])
    assert table.take_dirty() == {3: None}
