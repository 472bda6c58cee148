"""What the objects store writes beside the data: names, and one JSON record an entry.

    data/<entry id>/<start>-<stop>-<xxh3>.<nonce>   bytes of a span; never changed
    records/<key hash>/<entry id>.<revision>        what is known of a published entry
    origins/<origin hash>/<entry id>                says that an entry came from an origin

A record is never written over: a new revision is written beside the old one, which is then
removed. Whoever reads takes the highest revision that can be understood, so a record that was
cut off in writing costs the last commit and nothing more, on any file system.
Names are made from checked parts only; nothing that a record says becomes a path as it is.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
import secrets
from typing import Any, Final

import attrs

from cachestream.abc import EntryRecord, Key
from cachestream.core.representation import Representation
from cachestream.core.spans import UNBOUNDED, Span, SpanSet

__all__ = [
    "CELL",
    "FORMAT",
    "PartRecord",
    "Record",
    "born",
    "data_folder",
    "hashed",
    "is_entry_id",
    "key_folder",
    "marker_name",
    "new_entry_id",
    "origin_folder",
    "parse_record_name",
    "record_name",
]

FORMAT: Final = 1
"""Number of the persisted form; a record of another one is a miss, and is left alone."""

CELL: Final = 256 * 1024
"""Each so many bytes of an object have a sum of their own: that much is lost to a bad bit."""

_ENTRY: Final = re.compile(r"[0-9a-f]{32}-[0-9a-f]{12}-[0-9a-f]{12}", re.ASCII)
_RECORD: Final = re.compile(rf"({_ENTRY.pattern})\.([0-9a-f]{{16}})", re.ASCII)
_DIGEST: Final = re.compile(r"[0-9a-f]{16}", re.ASCII)
_NONCE: Final = re.compile(r"[0-9a-f]{8}", re.ASCII)


# ---------------------------------------------------------------------------
# Names
# ---------------------------------------------------------------------------


def hashed(text: str) -> str:
    """Return 128 bits of the SHA-256 of ``text`` in hex; strangers choose what is hashed."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:32]


def new_entry_id(key: Key, now: float) -> str:
    """Return an identifier that says which key it is filed under and when it was made."""
    moment = min(max(0, int(now * 1000)), 0xFFFFFFFFFFFF)
    return f"{hashed(key)}-{moment:012x}-{secrets.token_hex(6)}"


def is_entry_id(name: str) -> bool:
    """Tell whether this can be the identifier of an entry."""
    return _ENTRY.fullmatch(name) is not None


def born(entry_id: str) -> float:
    """Return when an entry was made, from its identifier; seconds since the epoch."""
    return int(entry_id.split("-")[1], 16) / 1000


def data_folder(entry_id: str) -> str:
    """Return where an entry's objects are."""
    return f"data/{entry_id}"


def key_folder(key_hash: str) -> str:
    """Return where the records of a key are."""
    return f"records/{key_hash}"


def record_name(entry_id: str, revision: int) -> str:
    """Return the name of a revision of an entry's record."""
    return f"{key_folder(entry_id[:32])}/{entry_id}.{revision:016x}"


def parse_record_name(name: str) -> tuple[str, int] | None:
    """Return identifier and revision from the last part of a record's name."""
    match = _RECORD.fullmatch(name)
    return None if match is None else (match[1], int(match[2], 16))


def origin_folder(origin: str) -> str:
    """Return where the entries of an origin are noted."""
    return f"origins/{hashed(origin)}"


def marker_name(origin: str, entry_id: str) -> str:
    """Return the name of the small object that says an entry came from ``origin``."""
    return f"{origin_folder(origin)}/{entry_id}"


# ---------------------------------------------------------------------------
# Records
# ---------------------------------------------------------------------------


@attrs.frozen(kw_only=True)
class PartRecord:
    """One object: what it holds, its sums, and which of its bytes still count.

    Attributes:
        digest: xxh3 of the whole, in hex.
        nonce: What tells it from another object of the same bytes.
        cells: xxh3 of each `CELL` bytes.
        live: The spans that count; the others were discarded or failed their check.
    """

    start: int
    stop: int
    digest: str
    nonce: str
    cells: tuple[int, ...]
    live: tuple[Span, ...]

    def to_json(self) -> list[Any]:
        """Return what `from_json` reads."""
        cells = [f"{value:016x}" for value in self.cells]
        live = [[span.start, span.stop] for span in self.live]
        return [self.start, self.stop, self.digest, self.nonce, cells, live]

    @classmethod
    def from_json(cls, value: Any) -> PartRecord:
        """Read what `to_json` made.

        Raises:
            ValueError: If it contradicts itself. TypeError likewise.
        """
        start, stop, digest, nonce, cells, live = value
        whole = _span(start, stop)
        if not (whole and _DIGEST.fullmatch(digest) and _NONCE.fullmatch(nonce)):
            raise ValueError("an object has no proper name")
        if len(cells) != -(-len(whole) // CELL) or not all(map(_DIGEST.fullmatch, cells)):
            raise ValueError("the sums do not fit the object")
        spans = tuple(_span(*pair) for pair in live)
        if not spans or not all(span and whole.covers(span) for span in spans):
            raise ValueError("the spans do not fit the object")
        return cls(
            start=start,
            stop=stop,
            digest=digest,
            nonce=nonce,
            cells=tuple(int(cell, 16) for cell in cells),
            live=spans,
        )


@attrs.frozen(kw_only=True)
class Record:
    """What is known of one published entry."""

    entry_id: str
    key: Key
    source: str
    representation: Representation
    created: float
    accessed: float
    pinned: bool = False
    parts: tuple[PartRecord, ...] = ()
    revision: int = 0

    @property
    def room(self) -> int:
        """How many bytes its objects have."""
        return sum(part.stop - part.start for part in self.parts)

    @property
    def public(self) -> EntryRecord:
        """What the interface shows of it."""
        return EntryRecord(
            entry_id=self.entry_id,
            key=self.key,
            source=self.source,
            representation=self.representation,
            stored_bytes=sum(len(span) for part in self.parts for span in part.live),
            allocated_bytes=self.room,
            created=self.created,
            accessed=self.accessed,
            pinned=self.pinned,
        )

    def to_json(self) -> bytes:
        """Return the persisted form: UTF-8 JSON with a format number."""
        return json.dumps(
            {
                "format": FORMAT,
                "entry_id": self.entry_id,
                "key": self.key,
                "source": self.source,
                "representation": json.loads(self.representation.to_json()),
                "created": self.created,
                "accessed": self.accessed,
                "pinned": self.pinned,
                "parts": [part.to_json() for part in self.parts],
            },
            separators=(",", ":"),
        ).encode()

    @classmethod
    def from_json(cls, data: bytes, entry_id: str, revision: int) -> Record:
        """Read what `to_json` wrote under the name of ``entry_id``.

        Raises:
            ValueError: If this is no such record, or one of another format or entry.
        """
        try:
            value = json.loads(data)
            number = value["format"]
            if type(number) is not int or number != FORMAT:
                raise ValueError(f"record format {number!r} is not known")
            key, source = value["key"], value["source"]
            if not (isinstance(key, str) and isinstance(source, str)):
                raise TypeError("key and source are texts")
            if value["entry_id"] != entry_id or hashed(key) != entry_id[:32]:
                raise ValueError("the record is another entry's")
            parts = tuple(map(PartRecord.from_json, value["parts"]))
            _check_disjoint(parts)
            return cls(
                entry_id=entry_id,
                key=Key(key),
                source=source,
                representation=Representation.from_json(
                    json.dumps(value["representation"]).encode()
                ),
                created=_moment(value["created"]),
                accessed=_moment(value["accessed"]),
                pinned=value["pinned"] is True,
                parts=parts,
                revision=revision,
            )
        except (KeyError, TypeError, OverflowError, RecursionError, ValueError) as exc:
            raise ValueError(f"not a record: {exc}") from exc


def _check_disjoint(parts: tuple[PartRecord, ...]) -> None:
    """Refuse a record in which two objects claim one byte."""
    seen = SpanSet()
    for part in parts:
        for span in part.live:
            if seen.add(span) != len(span):
                raise ValueError("two objects claim the same bytes")


def _span(start: object, stop: object) -> Span:
    if type(start) is not int or type(stop) is not int or stop > UNBOUNDED:
        raise ValueError("a span is out of bounds")
    return Span(start, stop)


def _moment(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError("a time is no number")
    moment = float(value)
    if not math.isfinite(moment):
        raise ValueError("a time is not finite")
    return moment
