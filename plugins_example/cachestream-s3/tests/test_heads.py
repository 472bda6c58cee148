"""What a head says is checked before it is believed."""

from __future__ import annotations

import json
import random

import pytest
from cachestream.abc import Key
from cachestream.core.representation import Representation
from cachestream.core.spans import Span

from cachestream_s3._heads import CELL, EntryHead, Head, PartHead, hashed, new_entry_id, sums_of

KEY = Key("https://example.com/a")
DATA = random.Random(1).randbytes(CELL + 5)


def head():
    """Return a head with one entry of one object."""
    part = PartHead(
        start=10,
        stop=10 + len(DATA),
        digest="0" * 16,
        nonce="1" * 16,
        sums=sums_of(DATA),
        live=(Span(10, 20), Span(30, 40)),
    )
    entry = EntryHead(
        entry_id=new_entry_id(KEY, 1000.0),
        source="https://example.com/a",
        representation=Representation(complete_length=1000),
        created=1000.0,
        accessed=1001.0,
        pinned=True,
        parts=(part,),
    )
    return Head(key=KEY, entries=(entry,))


def changed(act):
    """Return a head's JSON after a change."""
    value = json.loads(head().to_json())
    act(value, value["entries"][0], value["entries"][0]["parts"])
    return json.dumps(value).encode()


def test_a_head_is_read_as_it_was_written():
    """Nothing is lost between the two, the nonce included."""
    one = head()
    again = Head.from_json(one.to_json(), hashed(KEY))
    assert again == one
    assert again.nonce == one.nonce


@pytest.mark.parametrize(
    "act",
    [
        lambda head, entry, parts: head.update(format=2),
        lambda head, entry, parts: head.update(format=True),
        lambda head, entry, parts: head.update(key="https://example.com/b"),
        lambda head, entry, parts: head.update(key=7),
        lambda head, entry, parts: head.update(nonce=None),
        lambda head, entry, parts: head.update(entries={}),
        lambda head, entry, parts: head["entries"].append(entry),
        lambda head, entry, parts: entry.update(entry_id="../../elsewhere"),
        lambda head, entry, parts: entry.update(entry_id="0" * 32 + entry["entry_id"][32:]),
        lambda head, entry, parts: entry.update(created=float("nan")),
        lambda head, entry, parts: entry.update(accessed="now"),
        lambda head, entry, parts: entry.update(source=None),
        lambda head, entry, parts: entry.update(representation=[]),
        lambda head, entry, parts: entry.pop("parts"),
        lambda head, entry, parts: parts.append(parts[0]),
        lambda head, entry, parts: parts[0].pop(),
        lambda head, entry, parts: parts[0].__setitem__(0, -1),
        lambda head, entry, parts: parts[0].__setitem__(1, 2**70),
        lambda head, entry, parts: parts[0].__setitem__(2, "../x"),
        lambda head, entry, parts: parts[0].__setitem__(3, "/" * 16),
        lambda head, entry, parts: parts[0].__setitem__(4, "AAAA"),
        lambda head, entry, parts: parts[0].__setitem__(4, "not base64!"),
        lambda head, entry, parts: parts[0].__setitem__(5, []),
        lambda head, entry, parts: parts[0].__setitem__(5, [[0, 20]]),
        lambda head, entry, parts: parts[0].__setitem__(5, [[15, 15]]),
    ],
)
def test_a_head_that_contradicts_itself_is_refused(act):
    """Whoever writes in the bucket can make misses, and nothing worse."""
    # Two entries of one variant are refused too: `entries.append` repeats one.
    with pytest.raises(ValueError, match="not a head"):
        Head.from_json(changed(act), hashed(KEY))


@pytest.mark.parametrize("data", [b"", b"null", b"[1]", b"{}", b"\xff", b"[" * 100_000])
def test_what_is_no_json_of_ours_is_refused(data):
    """No text makes the parser raise anything but its own error."""
    with pytest.raises(ValueError, match="not a head"):
        Head.from_json(data, hashed(KEY))
