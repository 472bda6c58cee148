"""What lies in the bucket: names, and the head of a resource as JSON.

    heads/<key hash>             names the entries of a key and the objects of each (`if-match`)
    heads/<key hash>/<number>    the same, as a row of immutable revisions (`create`)
    data/<entry id>/<start>-<stop>-<sum>-<nonce>    bytes of a span; never changed
    origins/<origin hash>/<key hash>                an entry of this key came from the origin
    sweep/<entry id>.<nonce>                        this entry may have objects no head names

Names are made from checked parts only, and nothing that a head says becomes a name as it is:
whoever can write in the bucket may lie about bytes, but cannot lead a store out of its prefix.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import math
import re
import secrets
from typing import Any, Final
from urllib.parse import urlsplit

import attrs
import xxhash
from cachestream.abc import EntryRecord, Key
from cachestream.core.representation import Representation
from cachestream.core.spans import UNBOUNDED, Span, SpanSet

__all__ = [
    "CELL",
    "FORMAT",
    "EntryHead",
    "Head",
    "PartHead",
    "hashed",
    "is_entry_id",
    "new_entry_id",
    "origin_of",
    "sums_of",
    "variant_of",
]

FORMAT: Final = 1
"""Number of the persisted form; a head of another one is a miss, and is never overwritten."""

CELL: Final = 256 * 1024
"""Each so many bytes of an object have a sum of their own: that much a bad bit costs."""

_ENTRY: Final = re.compile(r"[0-9a-f]{32}-[0-9a-f]{12}-[0-9a-f]{12}", re.ASCII)
_DIGEST: Final = re.compile(r"[0-9a-f]{16}", re.ASCII)
_PORTS: Final = {"http": 80, "https": 443}


def hashed(text: str) -> str:
    """Return 128 bits of the SHA-256 of ``text`` in hex; strangers choose what is hashed."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:32]


def new_entry_id(key: Key, now: float) -> str:
    """Return an identifier that says which key it is filed under and when it was made."""
    return f"{hashed(key)}-{min(max(0, int(now * 1000)), 2**48 - 1):012x}-{secrets.token_hex(6)}"


def is_entry_id(text: str) -> bool:
    """Tell whether this can be the identifier of an entry."""
    return _ENTRY.fullmatch(text) is not None


def variant_of(representation: Representation) -> tuple[tuple[str, str | None], ...]:
    """Return what tells two variants of a key apart; the order of Vary does not matter."""
    return tuple(sorted(representation.selecting, key=lambda pair: (pair[0], pair[1] or "")))


def origin_of(url: str) -> str:
    """Return ``scheme://host[:port]`` in one spelling; of a text that is no URL, itself."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port
    except ValueError:
        return url
    host = f"[{host}]" if ":" in host else host
    shown = "" if port is None or port == _PORTS.get(parts.scheme) else f":{port}"
    return f"{parts.scheme}://{host}{shown}"


def sums_of(data: bytes | bytearray | memoryview) -> bytes:
    """Return the xxh3 sum of each cell, one after the other."""
    view = memoryview(data)
    return b"".join(
        xxhash.xxh3_64_digest(view[start : start + CELL]) for start in range(0, len(view), CELL)
    )


@attrs.frozen(kw_only=True)
class PartHead:
    """One object: which bytes it was made of, their sums, and which of them still count."""

    start: int
    stop: int
    digest: str
    nonce: str
    sums: bytes
    live: tuple[Span, ...]

    @property
    def name(self) -> str:
        """The last part of the object's name."""
        return f"{self.start}-{self.stop}-{self.digest}-{self.nonce}"

    def to_json(self) -> list[Any]:
        """Return what `from_json` reads."""
        live = [[span.start, span.stop] for span in self.live]
        sums = base64.b64encode(self.sums).decode()
        return [self.start, self.stop, self.digest, self.nonce, sums, live]

    @classmethod
    def from_json(cls, value: Any) -> PartHead:
        """Read what `to_json` made; ValueError or TypeError if it contradicts itself."""
        start, stop, digest, nonce, sums, live = value
        whole = _span(start, stop)
        if not (whole and _DIGEST.fullmatch(digest) and _DIGEST.fullmatch(nonce)):
            raise ValueError("an object has no proper name")
        cells = base64.b64decode(sums, validate=True)
        if len(cells) != 8 * -(-len(whole) // CELL):
            raise ValueError("the sums do not fit the object")
        spans = tuple(_span(*pair) for pair in live)
        if not spans or not all(span and whole.covers(span) for span in spans):
            raise ValueError("the spans do not fit the object")
        return cls(start=start, stop=stop, digest=digest, nonce=nonce, sums=cells, live=spans)


@attrs.frozen(kw_only=True)
class EntryHead:
    """What is known of one published entry."""

    entry_id: str
    source: str
    representation: Representation
    created: float
    accessed: float
    pinned: bool = False
    parts: tuple[PartHead, ...] = ()

    @property
    def room(self) -> int:
        """How many bytes its objects have."""
        return sum(part.stop - part.start for part in self.parts)

    def record(self, key: Key, accessed: float = 0.0) -> EntryRecord:
        """Return what the interface shows of it."""
        return EntryRecord(
            entry_id=self.entry_id,
            key=key,
            source=self.source,
            representation=self.representation,
            stored_bytes=sum(len(span) for part in self.parts for span in part.live),
            allocated_bytes=self.room,
            created=self.created,
            accessed=max(self.accessed, accessed),
            pinned=self.pinned,
        )

    def to_json(self) -> dict[str, Any]:
        """Return what `from_json` reads."""
        return {
            "entry_id": self.entry_id,
            "source": self.source,
            "representation": json.loads(self.representation.to_json()),
            "created": self.created,
            "accessed": self.accessed,
            "pinned": self.pinned,
            "parts": [part.to_json() for part in self.parts],
        }

    @classmethod
    def from_json(cls, value: Any, key: Key) -> EntryHead:
        """Read what `to_json` made; ValueError or TypeError if it cannot be."""
        entry_id, source = value["entry_id"], value["source"]
        if not (isinstance(source, str) and is_entry_id(entry_id)):
            raise ValueError("an entry has no proper name")
        if entry_id[:32] != hashed(key):
            raise ValueError("an entry is another key's")
        parts = tuple(map(PartHead.from_json, _list(value["parts"])))
        seen = SpanSet()
        for part in parts:
            for span in part.live:
                if seen.add(span) != len(span):
                    raise ValueError("two objects claim the same bytes")
        return cls(
            entry_id=entry_id,
            source=source,
            representation=Representation.from_json(json.dumps(value["representation"]).encode()),
            created=_moment(value["created"]),
            accessed=_moment(value["accessed"]),
            pinned=value["pinned"] is True,
            parts=parts,
        )


@attrs.frozen(kw_only=True)
class Head:
    """All entries of one key; at most one a variant.

    Attributes:
        nonce: Differs with each writing, so that a writer knows its own again.
    """

    key: Key
    entries: tuple[EntryHead, ...] = ()
    nonce: str = attrs.field(factory=lambda: secrets.token_hex(8), eq=False)

    def find(self, entry_id: str) -> EntryHead | None:
        """Return one of the entries."""
        return next((each for each in self.entries if each.entry_id == entry_id), None)

    def with_entry(self, new: EntryHead) -> Head:
        """Return a head with this entry in the place of the one it continues."""
        kept = tuple(each for each in self.entries if each.entry_id != new.entry_id)
        return Head(key=self.key, entries=(*kept, new))

    def without(self, entry_ids: frozenset[str]) -> Head:
        """Return a head without these entries."""
        kept = tuple(each for each in self.entries if each.entry_id not in entry_ids)
        return Head(key=self.key, entries=kept)

    def to_json(self) -> bytes:
        """Return the persisted form: UTF-8 JSON with a format number."""
        value = {
            "format": FORMAT,
            "nonce": self.nonce,
            "key": self.key,
            "entries": [each.to_json() for each in self.entries],
        }
        return json.dumps(value, separators=(",", ":")).encode()

    @classmethod
    def from_json(cls, data: bytes, key_hash: str) -> Head:
        """Read what `to_json` wrote.

        Raises:
            ValueError: If this is no such head, or one of another format or key.
        """
        try:
            value = json.loads(data)
            number = value["format"]
            if type(number) is not int or number != FORMAT:
                raise ValueError(f"head format {number!r} is not known")
            key, nonce = Key(value["key"]), value["nonce"]
            if not isinstance(nonce, str) or hashed(key) != key_hash:
                raise ValueError("the head is another key's")
            entries = tuple(EntryHead.from_json(each, key) for each in _list(value["entries"]))
            variants = {variant_of(each.representation) for each in entries}
            if len(variants) != len(entries):
                raise ValueError("two entries claim one variant")
            return cls(key=key, entries=entries, nonce=nonce)
        except (
            AttributeError,
            KeyError,
            TypeError,
            OverflowError,
            RecursionError,
            ValueError,
            binascii.Error,
        ) as exc:
            raise ValueError(f"not a head: {exc}") from exc


def _span(start: object, stop: object) -> Span:
    if type(start) is not int or type(stop) is not int or stop > UNBOUNDED:
        raise ValueError("a span is out of bounds")
    return Span(start, stop)


def _list(value: object) -> list[Any]:
    if not isinstance(value, list):
        raise TypeError("a list is none")
    return value


def _moment(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError("a time is no number")
    moment = float(value)
    if not math.isfinite(moment):
        raise ValueError("a time is not finite")
    return moment
