"""Format 1 of the disk store's index: what each row is called, and what it says.

Every row is sealed with a sum over its name and its content, so that a damaged, moved or
planted row reads as if it were not there. Numbers are little-endian; times are microseconds
since the epoch. The rows:

    z:format             number of the format
    z:totals             how many entries there are, and the room they take
    k:<sum of key>       which entries a key has, and which variant each is
    e:<id>               head: key, source, representation, creation, file
    c:<id>               counts: bytes stored, room taken
    t:<id>               last access, and the pin
    s:<id>:<number>      a segment of 64 MiB: its stored spans and its extents with their sums
    l:<time>:<id>        what may be evicted, least recently used first
    p:<time>:<id>        what may not: pinned entries, and files of the user's
    o:<sum of origin>    how many entries came from an origin
    w:<id>               open for writing, not published, or deleted while open
"""

from __future__ import annotations

import functools
import hashlib
import json
import re
import struct
from itertools import chain
from typing import Any, Final

import attrs
import xxhash

from cachestream.abc import Key
from cachestream.backends._names import Variant
from cachestream.core.representation import Representation
from cachestream.core.spans import SpanSet

__all__ = [
    "FORMAT",
    "FORMAT_ROW",
    "TOTALS_ROW",
    "Access",
    "Counts",
    "Extent",
    "Head",
    "Identity",
    "KeyRow",
    "Totals",
    "WriteMark",
    "is_entry_id",
    "key_row",
    "order_row",
    "origin_row",
    "pack_segment",
    "seal",
    "segment_row",
    "unpack_extents",
    "unpack_spans",
    "unseal",
]

FORMAT: Final = 1
FORMAT_ROW: Final = "z:format"
TOTALS_ROW: Final = "z:totals"

_SUM: Final = struct.Struct("<Q")
_PAIR: Final = struct.Struct("<QQ")
_ACCESS: Final = struct.Struct("<QB")
_SEGMENT: Final = struct.Struct("<II")
_EXTENT: Final = struct.Struct("<QQQ")
_NONSENSE: Final = (
    ValueError,
    KeyError,
    TypeError,
    AttributeError,
    OverflowError,
    RecursionError,
)
"""What reading JSON of any shape may raise."""

_ENTRY_ID: Final = re.compile(r"[0-9a-f]{32}\Z")


def is_entry_id(text: str) -> bool:
    """Tell whether ``text`` can be the identifier of an entry, and so a file name of ours."""
    return _ENTRY_ID.match(text) is not None


def seal(name: str, content: bytes) -> bytes:
    """Return what is stored in the row ``name``: a sum over both, then the content."""
    return _SUM.pack(_sum_of(name, content)) + content


def unseal(name: str, value: bytes) -> bytes | None:
    """Return the content of the row ``name``, None if it is damaged."""
    content = value[_SUM.size :]
    if len(value) < _SUM.size or _SUM.unpack_from(value)[0] != _sum_of(name, content):
        return None
    return content


def _sum_of(name: str, content: bytes) -> int:
    state = xxhash.xxh3_64(name.encode("utf-8", "surrogatepass"))
    state.update(b"\0")
    state.update(content)
    return int(state.intdigest())


def _digest(text: str) -> str:
    # Keys are of any length and may hold anything; a row's name is short and plain. The
    # sum is a strong one, as a key comes from whoever names a URL.
    data = text.encode("utf-8", "surrogatepass")
    return hashlib.blake2b(data, digest_size=16).hexdigest()


def key_row(key: Key) -> str:
    """Return the name of the row that lists the entries of ``key``."""
    return f"k:{_digest(key)}"


def origin_row(origin: str) -> str:
    """Return the name of the row that counts the entries from ``origin``."""
    return f"o:{_digest(origin)}"


def segment_row(entry_id: str, number: int) -> str:
    """Return the name of the row of an entry's segment."""
    return f"s:{entry_id}:{number:08x}"


@attrs.frozen
class Identity:
    """Which file this was when we last wrote it; another one is not ours."""

    dev: int
    ino: int
    size: int
    mtime_ns: int

    def same_file(self, other: Identity) -> bool:
        """Tell whether both are one inode, whatever has been written to it."""
        return (self.dev, self.ino) == (other.dev, other.ino)


@attrs.frozen(kw_only=True)
class Head:
    """What a published entry is; written seldom.

    Attributes:
        created: Microseconds since the epoch.
        file: Path the user named, absolute; None for a file of the store.
        final: Whether the file lies there, whole; else it is still ``.NAME.part``.
        identity: Which file it was; only with ``file``.
    """

    key: Key
    source: str
    representation: Representation
    created: int
    file: str | None = None
    final: bool = False
    identity: Identity | None = None

    def pack(self) -> bytes:
        """Return the content of the row."""
        record = {
            "format": FORMAT,
            "key": self.key,
            "source": self.source,
            "representation": self.representation.to_json().decode(),
            "created": self.created,
            "file": self.file,
            "final": self.final,
            "identity": None if self.identity is None else attrs.astuple(self.identity),
        }
        return json.dumps(record, separators=(",", ":")).encode()

    @classmethod
    def unpack(cls, content: bytes) -> Head | None:
        """Read a row; None if it is none of this format."""
        return _unpack_head(content)


# An entry that is looked up and opened is read three times in a row.
@functools.lru_cache(64)
def _unpack_head(content: bytes) -> Head | None:
    try:
        record: Any = json.loads(content)
        if record["format"] != FORMAT:
            return None
        identity = record["identity"]
        return Head(
            key=Key(str(record["key"])),
            source=str(record["source"]),
            representation=Representation.from_json(record["representation"].encode()),
            created=int(record["created"]),
            file=None if record["file"] is None else str(record["file"]),
            final=bool(record["final"]),
            identity=None if identity is None else Identity(*map(int, identity)),
        )
    except _NONSENSE:
        return None


@attrs.frozen
class Counts:
    """How many bytes of an entry are committed, and the room it takes."""

    stored: int = 0
    allocated: int = 0

    def pack(self) -> bytes:
        """Return the content of the row."""
        return _PAIR.pack(self.stored, self.allocated)

    @classmethod
    def unpack(cls, content: bytes | None) -> Counts:
        """Read a row; a missing one counts nothing."""
        valid = content is not None and len(content) == _PAIR.size
        return cls(*_PAIR.unpack(content)) if valid and content else cls()


@attrs.frozen
class Totals:
    """How many entries are published, and the room all take that count."""

    entries: int = 0
    allocated: int = 0

    def pack(self) -> bytes:
        """Return the content of the row; a total never falls below nothing."""
        return _PAIR.pack(max(0, self.entries), max(0, self.allocated))

    @classmethod
    def unpack(cls, content: bytes | None) -> Totals | None:
        """Read a row; None if there is none."""
        if content is None or len(content) != _PAIR.size:
            return None
        return cls(*_PAIR.unpack(content))


@attrs.frozen
class Access:
    """When an entry was last used, in microseconds since the epoch, and what keeps it.

    Attributes:
        accessed: Microseconds since the epoch.
        pinned: Whether somebody asked that it stays.
        external: Whether its file is the user's.
    """

    accessed: int = 0
    pinned: bool = False
    external: bool = False

    @property
    def evictable(self) -> bool:
        """Whether the store may evict the entry to make room."""
        return not (self.pinned or self.external)

    def pack(self) -> bytes:
        """Return the content of the row."""
        return _ACCESS.pack(self.accessed, self.pinned | self.external << 1)

    @classmethod
    def unpack(cls, content: bytes | None) -> Access:
        """Read a row; a missing one was never used."""
        if content is None or len(content) != _ACCESS.size:
            return cls()
        accessed, flags = _ACCESS.unpack(content)
        return cls(accessed, bool(flags & 1), bool(flags & 2))


@attrs.frozen
class KeyRow:
    """The published entries of a key: identifier and variant, oldest first."""

    key: Key
    entries: tuple[tuple[str, Variant], ...] = ()

    def pack(self) -> bytes:
        """Return the content of the row."""
        return json.dumps({"key": self.key, "entries": self.entries}).encode()

    @classmethod
    def unpack(cls, key: Key, content: bytes | None) -> KeyRow:
        """Read a row; one that is missing, or another key's, lists nothing."""
        try:
            record: Any = json.loads(content or b"{}")
            if record["key"] != key:
                return cls(key)
            entries = tuple(
                (str(name), tuple((str(k), None if v is None else str(v)) for k, v in variant))
                for name, variant in record["entries"]
                if is_entry_id(str(name))
            )
        except _NONSENSE:
            return cls(key)
        return cls(key, entries)

    def find(self, variant: Variant) -> str | None:
        """Return the entry of ``variant``."""
        return next((name for name, other in self.entries if other == variant), None)

    def without(self, entry_id: str) -> KeyRow:
        """Return the row less one entry."""
        return KeyRow(self.key, tuple(pair for pair in self.entries if pair[0] != entry_id))


@attrs.frozen
class WriteMark:
    """An entry that a process has in hand: what to look at if it never came back.

    Attributes:
        allocated: Room of it in the totals that no other row speaks for.
        file: Path the user named, if its data lies beside it.
    """

    allocated: int = 0
    file: str | None = None

    def pack(self) -> bytes:
        """Return the content of the row."""
        return json.dumps({"allocated": self.allocated, "file": self.file}).encode()

    @classmethod
    def unpack(cls, content: bytes | None) -> WriteMark:
        """Read a row; one that makes no sense speaks for nothing."""
        try:
            record: Any = json.loads(content or b"{}")
            file = record["file"]
            return cls(max(0, int(record["allocated"])), None if file is None else str(file))
        except _NONSENSE:
            return cls()


def order_row(entry_id: str, access: Access) -> str:
    """Return the name of the row that puts an entry in order of last access."""
    return f"{'l' if access.evictable else 'p'}:{access.accessed:016x}:{entry_id}"


Extent = tuple[int, int, int]
"""Start, stop and xxh3 sum of bytes that are checked together."""


def pack_segment(extents: list[Extent]) -> bytes:
    """Return the content of a segment's row: what is stored in it, and the sums."""
    spans: list[int] = []
    for start, stop, _ in extents:
        if spans and spans[-1] == start:
            spans[-1] = stop
        else:
            spans += (start, stop)
    return b"".join(
        (
            _SEGMENT.pack(len(spans) // 2, len(extents)),
            struct.pack(f"<{len(spans)}Q", *spans),
            struct.pack(f"<{3 * len(extents)}Q", *chain.from_iterable(extents)),
        )
    )


def unpack_spans(content: bytes) -> SpanSet | None:
    """Read the spans of a segment's row, None if it is none."""
    if len(content) < _SEGMENT.size:
        return None
    spans, extents = _SEGMENT.unpack_from(content)
    if len(content) != _SEGMENT.size + 16 * spans + _EXTENT.size * extents:
        return None
    try:
        return SpanSet.unpack(content[_SEGMENT.size : _SEGMENT.size + 16 * spans])
    except ValueError:
        return None


def unpack_extents(content: bytes) -> list[Extent]:
    """Read the extents of a segment's row that `unpack_spans` could read."""
    spans, _ = _SEGMENT.unpack_from(content)
    return list(_EXTENT.iter_unpack(content[_SEGMENT.size + 16 * spans :]))
