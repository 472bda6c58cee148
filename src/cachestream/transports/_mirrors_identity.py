"""Whether two places have the same content, as far as their answers tell.

What goes up to the engine are the validators of the version that it knows, those of the first
place that answered. Another place's answer is used only where it has the same bytes; and it is
asked with its own validators, since it would not know another's.
"""

from __future__ import annotations

import asyncio
from typing import Final

import attrs

from cachestream.abc import UpstreamRequest, UpstreamResponse
from cachestream.core.fields import Fields, parse_directives
from cachestream.core.ranges import parse_content_range
from cachestream.core.representation import Representation
from cachestream.core.validators import EntityTag

__all__ = [
    "CONDITIONS",
    "Identity",
    "Marks",
    "asked_by",
    "conditions_failed",
    "marks_of",
    "marks_of_held",
    "rewritten",
]

CONDITIONS: Final = ("If-Range", "If-None-Match", "If-Modified-Since")
"""Fields that carry a validator of what the engine holds."""

_VALIDATORS: Final = ("ETag", "Last-Modified")

# RFC 3230 §4.1.1 and RFC 9530 §2: names of one algorithm that give the same bytes.
_ALGORITHMS: Final = {"sha-256", "sha-512", "md5"}


@attrs.frozen(kw_only=True)
class Marks:
    """What one answer says of the whole representation.

    Attributes:
        length: Complete length in bytes, None if unknown.
        etag: The ETag as it came.
        modified: The Last-Modified as it came.
        coding: The Content-Encoding, lower case, empty for none.
        digests: Digests of all of it, by algorithm.
    """

    length: int | None = None
    etag: str | None = None
    modified: str | None = None
    coding: str = ""
    digests: dict[str, str] = attrs.field(factory=dict)

    @property
    def tag(self) -> EntityTag | None:
        """The entity tag, None if there is none or it is malformed."""
        return None if self.etag is None else EntityTag.parse(self.etag)

    @property
    def strong(self) -> EntityTag | None:
        """The entity tag, if it is a strong one."""
        tag = self.tag
        return None if tag is None or tag.weak else tag

    @property
    def validators(self) -> tuple[str | None, str | None]:
        """What would differ after a change."""
        return self.etag, self.modified

    def completed(self, known: Marks | None) -> Marks:
        """Return these marks with the validators that a part was sent without.

        A 206 in answer to If-Range may leave out what the client has (RFC 9110 §15.3.7).
        """
        if known is None or known.length != self.length:
            return self
        return attrs.evolve(
            self,
            etag=known.etag if self.etag is None else self.etag,
            modified=known.modified if self.modified is None else self.modified,
        )

    def may_fit(self, other: Marks) -> bool:
        """Tell whether two places could have the same bytes, whatever their validators say.

        Lengths must be known and equal, and so must codings, and a digest that both have.
        """
        if self.length is None or self.length != other.length or self.coding != other.coding:
            return False
        common = self.digests.keys() & other.digests.keys()
        return all(self.digests[name] == other.digests[name] for name in common)

    def fits(self, other: Marks, *, trust_length: bool) -> bool:
        """Tell whether another place's answer describes the same bytes, without seeing any.

        A digest that both have settles it, then strong entity tags, then equal times of
        modification; ``trust_length`` stands in for what only one of them has, and where tags
        differ, which many servers make from an inode.
        """
        if not self.may_fit(other):
            return False
        if self.digests.keys() & other.digests.keys():
            return True
        if self.strong is not None and other.strong is not None:
            return self.strong == other.strong or trust_length
        if self.etag is None and other.etag is None and self.modified is not None:
            return self.modified == other.modified or trust_length
        return trust_length

    def agrees(self, other: Marks) -> bool:
        """Tell whether nothing that both say differs."""
        pairs = (
            (self.length, other.length),
            (self.etag, other.etag),
            (self.modified, other.modified),
        )
        return all(None in pair or pair[0] == pair[1] for pair in pairs)

    def contradicts(self, other: Marks) -> bool:
        """Tell whether the engine takes the two for different versions, whatever it trusts."""
        if None not in (self.length, other.length) and self.length != other.length:
            return True
        mine, theirs = self.tag, other.tag
        if mine is not None and theirs is not None:
            return not mine.weak_match(theirs)
        if self.modified is not None and other.modified is not None:
            return self.modified != other.modified
        return self.coding != other.coding


@attrs.define(eq=False)
class Identity:
    """What is known of one source, over all of its places.

    Attributes:
        owner: The place whose validators go up to the engine; None before the first answer,
            and after a restart, until one has them.
        marks: What that place said.
        own: What each place said of itself when it was last used.
        proven: Places whose bytes were compared, while they say what is in ``own``.
        rejected: Places that have other bytes, and why nobody asks them again.
        hops: Where a place redirected to, and which place that was.
        checking: Held while a place is compared, so that many requests compare it once.
    """

    owner: str | None = None
    marks: Marks = attrs.field(factory=Marks)
    own: dict[str, Marks] = attrs.field(factory=dict)
    proven: set[str] = attrs.field(factory=set)
    rejected: dict[str, str] = attrs.field(factory=dict)
    hops: dict[str, str] = attrs.field(factory=dict)
    checking: asyncio.Lock = attrs.field(factory=asyncio.Lock)

    @property
    def is_known(self) -> bool:
        """Whether there is a version to compare with."""
        return self.owner is not None or self.marks != Marks()

    def replaces(self, place: str) -> bool:
        """Tell whether the validators that go up are others than those of ``place``."""
        return self.is_known and self.owner != place

    def expect(self, marks: Marks) -> None:
        """Take note of which version the engine holds; of another one nothing is known."""
        if not self.is_known or not self.marks.agrees(marks):
            self.forget()
            self.marks = marks

    def belongs_to(self, place: str, marks: Marks) -> None:
        """Let the validators of ``place`` go up from now on: *its* changes the engine sees."""
        if not (self.marks.length == marks.length and self.marks.validators == marks.validators):
            self.forget()  # what others said was compared with another version
        self.owner, self.marks = place, marks
        self.own[place] = marks

    def accept(self, place: str, marks: Marks, *, proven: bool) -> None:
        """Take note that what ``place`` has is the same."""
        self.own[place] = marks
        if proven:
            self.proven.add(place)
        if self.owner is None and any(marks.validators) and marks.agrees(self.marks):
            self.owner = place  # after a restart: it has the validators of what is held

    def refuse(self, place: str) -> None:
        """Take note that what ``place`` said before counts no more."""
        self.own.pop(place, None)
        self.proven.discard(place)

    def reject(self, place: str, reason: str) -> None:
        """Never ask ``place`` again for this version."""
        self.refuse(place)
        self.rejected[place] = reason

    def forget(self) -> None:
        """Let the next answer say what this source is."""
        self.owner, self.marks = None, Marks()
        self.own.clear()
        self.proven.clear()
        self.rejected.clear()


def marks_of(response: UpstreamResponse) -> Marks:
    """Return what an answer with status 200 or 206 says of the whole representation."""
    fields = response.fields
    length: int | None = None
    if response.status == 206:
        place = parse_content_range(fields.get("content-range") or "")
        length = None if place is None else place.complete_length
    else:
        text = fields.get("content-length") or ""
        length = int(text) if text.isascii() and text.isdigit() else None
    md5 = fields.get("content-md5")
    # Content-MD5 is of this message's content, not of the whole that a part is from.
    return _marks(fields, length, md5 if response.status == 200 else None)


def marks_of_held(representation: Representation) -> Marks:
    """Return what is known of the version that the engine holds."""
    return _marks(representation.fields, representation.complete_length, None)


def _marks(fields: Fields, length: int | None, md5: str | None) -> Marks:
    digests = _digests(fields)
    if md5 is not None:
        digests.setdefault("md5", md5.strip())
    return Marks(
        length=length,
        etag=fields.get("etag"),
        modified=fields.get("last-modified"),
        coding=(fields.get("content-encoding") or "").strip().lower(),
        digests=digests,
    )


def _digests(fields: Fields) -> dict[str, str]:
    """Read Repr-Digest (RFC 9530 §3) and Digest (RFC 3230 §4.3.2): of all, even in a 206."""
    found: dict[str, str] = {}
    for name in ("digest", "repr-digest"):
        for algorithm, value in parse_directives(fields.joined(name) or "").items():
            key = {"sha": "sha-1"}.get(algorithm.lower(), algorithm.lower())
            if key in _ALGORITHMS and value:
                # RFC 9530 writes bytes as :base64:.
                found[key] = value.strip().strip(":")
    return found


def asked_by(request: UpstreamRequest, place: str, identity: Identity) -> Fields:
    """Return the fields to ask ``place`` with: its own validators instead of the owner's.

    Where none of its own is known the condition is left out; its answer is compared anyway
    before it is used.
    """
    fields = request.fields
    own = identity.own.get(place)
    at_home = identity.owner is None and (place == request.source or not identity.is_known)
    if identity.owner == place or (at_home and own is None):
        return fields
    for name in CONDITIONS:
        value = fields.get(name)
        if value is None:
            continue
        replacement = None if own is None else _translated(value, identity.marks, own)
        if name == "If-Range" and (own is None or (own.etag is not None and own.strong is None)):
            replacement = None  # a weak tag never matches, and all of it would come
        fields = fields.without(name)
        if replacement is not None:
            fields = fields.replace((name, replacement))
    return fields


def _translated(value: str, marks: Marks, own: Marks) -> str | None:
    if value == marks.etag:
        return own.etag
    return own.modified if value == marks.modified else None


def conditions_failed(sent: Fields, response: UpstreamResponse, own: Marks) -> bool:
    """Tell whether all came only because the place knows its bytes by another validator."""
    condition = sent.get("if-range")
    return response.status == 200 and condition is not None and condition not in own.validators


def rewritten(fields: Fields, marks: Marks) -> Fields:
    """Return an answer's fields with the validators that the engine knows."""
    fields = fields.without(*_VALIDATORS)
    lines = zip(_VALIDATORS, marks.validators, strict=True)
    return fields.replace(*((name, value) for name, value in lines if value is not None))
