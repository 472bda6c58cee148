"""Strategies make what they say, and enough kinds of it."""

import random

from hypothesis import find, given, settings
from hypothesis import strategies as st

from cachestream.core.fields import is_field_value, is_token
from cachestream.core.representation import Representation
from cachestream.core.urls import normalize
from cachestream.core.validators import EntityTag
from cachestream.testing import strategies as our

QUICK = settings(deadline=None, max_examples=50)


@given(our.spans(50), our.nonempty_spans(50), our.span_sets(50, most=3))
@QUICK
def test_spans_keep_their_limit(span, full, held):
    """No span reaches past the limit, and a set has no more of them than was said."""
    assert max(span.stop, full.stop, held.stop) <= 50
    assert full
    assert len(held) <= 3


@given(our.tokens(), our.field_names(), our.field_values(), our.fields())
@QUICK
def test_fields_can_be_sent(token, name, value, fields):
    """Names are tokens, and values have no control characters."""
    assert is_token(token)
    assert is_token(name)
    assert is_field_value(value)
    assert all(is_token(name) and is_field_value(value) for name, value in fields)


@given(our.entity_tags())
@QUICK
def test_tags_are_tags(tag):
    """What is written is read again."""
    assert EntityTag.parse(str(tag)) == tag


@given(our.representations(complete_length=st.just(7)), our.entry_records())
@QUICK
def test_what_a_store_keeps_is_whole(representation, record):
    """Records have sources in their normal form; representations come back from their JSON."""
    assert representation.complete_length == 7
    assert Representation.from_json(record.representation.to_json()) == record.representation
    assert normalize(record.source) == record.source
    assert record.entry_id.replace("-", "").replace("_", "").isalnum() or record.entry_id


def some(strategy, condition):
    """Return a value of which this is true; the same each time."""
    quick = settings(database=None, max_examples=5000, deadline=None)
    return find(strategy, condition, settings=quick, random=random.Random(0))


def test_every_kind_occurs():
    """Text has control characters; URLs, ranges, keys and times are of several kinds."""
    assert not some(our.hostile_text(), lambda text: not is_field_value(text)).isprintable()
    for part in ("[", "memory", "?", "%2F"):
        assert part in some(our.sources(), lambda source, part=part: part in source)
    assert some(our.range_specs(), lambda spec: spec.suffix_length is not None)
    assert some(our.range_specs(), lambda spec: spec.first_pos is not None and not spec.last_pos)
    assert some(our.keys(), lambda key: key.endswith("b")).startswith("https://")
    assert some(our.moments(), lambda moment: moment > 1) > 1
