"""Whether two mirrors have the same content, as far as their answers tell.

What goes up to the engine are the validators of one mirror, the first that answered. Another
mirror's answer is used only where its own say that it has the same bytes; and it is asked with
its own, since it would not know another's.
"""

from __future__ import annotations

from typing import Final

import attrs

from cachestream.abc import UpstreamRequest, UpstreamResponse
from cachestream.core.fields import Fields, parse_directives
from cachestream.core.ranges import parse_content_range
from cachestream.core.validators import EntityTag

__all__ = ["CONDITIONS", "Identity", "Marks", "asked_by", "marks_of", "rewritten"]

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
    def strong(self) -> EntityTag | None:
        """The entity tag, if it is a strong one."""
        tag = None if self.etag is None else EntityTag.parse(self.etag)
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

    def fits(self, other: Marks, *, trust_length: bool) -> bool:
        """Tell whether another mirror's answer describes the same bytes.

        Lengths must be known and equal. A digest that both have settles it, then strong entity
        tags, then equal times of modification; ``trust_length`` stands in for what only
        one of them has, and where tags differ, which many servers make from an inode.
        """
        if self.length is None or self.length != other.length or self.coding != other.coding:
            return False
        common = self.digests.keys() & other.digests.keys()
        if common:
            return all(self.digests[name] == other.digests[name] for name in common)
        if self.strong is not None and other.strong is not None:
            return self.strong == other.strong or trust_length
        if self.etag is None and other.etag is None and self.modified is not None:
            return self.modified == other.modified or trust_length
        return trust_length


@attrs.define(eq=False)
class Identity:
    """What is known of one source, over all of its mirrors.

    Attributes:
        owner: The mirror whose validators go up to the engine, None before the first answer.
        marks: What that mirror said.
        own: What each mirror said of itself when it was last used.
        hops: Where a mirror redirected to, and which mirror that was.
    """

    owner: str | None = None
    marks: Marks = attrs.field(factory=Marks)
    own: dict[str, Marks] = attrs.field(factory=dict)
    hops: dict[str, str] = attrs.field(factory=dict)

    def accepts(self, mirror: str, marks: Marks, *, trust_length: bool) -> bool:
        """Tell whether an answer of ``mirror`` may be used, and remember what it said.

        The owner's may always: that *it* has changed the engine sees by its validators.
        """
        if self.owner is None or self.owner == mirror:
            if self.marks.length != marks.length or self.marks.validators != marks.validators:
                self.own.clear()  # what others said was compared with another version
            self.owner, self.marks = mirror, marks
        else:
            known = self.own.get(mirror)
            # Where only lengths are compared, a mirror's own change must not pass unseen.
            changed = known is not None and known.validators != marks.validators
            if changed or not marks.fits(self.marks, trust_length=trust_length):
                self.own.pop(mirror, None)
                return False
        self.own[mirror] = marks
        return True

    def forget(self) -> None:
        """Let the next answer say what this source is."""
        self.owner, self.marks = None, Marks()
        self.own.clear()


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
    digests = _digests(fields)
    md5 = fields.get("content-md5")
    if response.status == 200 and md5 is not None:  # of this message's content, not of a part
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


def asked_by(request: UpstreamRequest, mirror: str, identity: Identity) -> Fields:
    """Return the fields to ask ``mirror`` with: its own validators instead of the owner's.

    Where none of its own is known the condition is left out; its answer is compared anyway
    before it is used.
    """
    fields = request.fields
    if identity.owner is None or identity.owner == mirror:
        return fields
    own = identity.own.get(mirror)
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


def rewritten(fields: Fields, marks: Marks) -> Fields:
    """Return an answer's fields with the validators that the engine knows."""
    fields = fields.without(*_VALIDATORS)
    lines = zip(_VALIDATORS, marks.validators, strict=True)
    return fields.replace(*((name, value) for name, value in lines if value is not None))
