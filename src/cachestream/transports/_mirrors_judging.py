"""Whether a place's answer may be used: by what it says, and by a few of its bytes."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from typing import Final, TypeAlias

import attrs

from cachestream.abc import UpstreamRequest, UpstreamResponse
from cachestream.core.fields import Fields
from cachestream.core.ranges import parse_content_range, range_field
from cachestream.core.spans import Span
from cachestream.core.urls import display
from cachestream.transports._mirrors_identity import (
    CONDITIONS,
    Identity,
    Marks,
    asked_by,
    marks_of,
)
from cachestream.transports._mirrors_round import Mirror
from cachestream.transports._mirrors_sampling import Finding, Sampling, compare_samples

__all__ = ["Judge"]

logger: Final = logging.getLogger("cachestream.transport")

Send: TypeAlias = Callable[[UpstreamRequest, Mirror, Fields], Awaitable[UpstreamResponse]]

_OTHER: Final = "other content"


@attrs.frozen(eq=False)
class Judge:
    """Compares places; what it finds is kept in their `Identity`.

    Attributes:
        send: Asks a place.
        sampling: How much is compared.
        trust_length: Whether equal length will do where no bytes can be compared.
    """

    send: Send
    sampling: Sampling
    trust_length: bool = attrs.field(kw_only=True)

    async def judge(
        self,
        response: UpstreamResponse,
        request: UpstreamRequest,
        mirror: Mirror,
        identity: Identity,
    ) -> str | None:
        """Return why an answer cannot be used, None if it can; remember what it says."""
        name = mirror.name
        if response.status == 416 and identity.owner not in (None, name):
            told = parse_content_range(response.fields.get("content-range") or "")
            fits = told is not None and told.complete_length == identity.marks.length
            return None if fits else _OTHER
        if response.status not in {200, 206}:
            return None
        marks = marks_of(response)
        if response.status == 206 and "if-range" in asked_by(request, name, identity):
            marks = marks.completed(identity.own.get(name, identity.marks))
        if identity.owner == name or not identity.is_known:
            identity.belongs_to(name, marks)
            return None
        at_home = identity.owner is None and name == request.source
        if at_home and any(marks.validators) and marks.agrees(identity.marks):
            identity.belongs_to(name, marks)
            return None
        reason = await self._compare(request, mirror, marks, identity)
        # That the source itself has another version is for the engine to see, if it can.
        if reason is not None and at_home and marks.contradicts(identity.marks):
            identity.belongs_to(name, marks)
            return None
        return reason

    async def _compare(
        self, request: UpstreamRequest, mirror: Mirror, marks: Marks, identity: Identity
    ) -> str | None:
        """Return why a place's content is not the one that is known, None if it is."""
        name = mirror.name
        known = identity.own.get(name)
        changed = known is not None and known.validators != marks.validators
        if changed:
            identity.refuse(name)  # what was compared was another version
        if not marks.may_fit(identity.marks):
            identity.refuse(name)
            return _OTHER
        finding = await self._sample(request, mirror, marks, identity)
        # Without bytes to compare, a place's own change must not pass unseen.
        fits = not changed and marks.fits(identity.marks, trust_length=self.trust_length)
        if finding.same or (finding.same is None and fits):
            identity.accept(name, marks, proven=bool(finding.same))
            return None
        identity.refuse(name)
        if finding.span is None:
            return _OTHER
        return self._reject(request, mirror, finding.span, identity)

    async def _sample(
        self, request: UpstreamRequest, mirror: Mirror, marks: Marks, identity: Identity
    ) -> Finding:
        """Compare some held bytes with a place's, once for all requests."""

        async def ask(span: Span) -> UpstreamResponse:
            fields = request.fields.without(*CONDITIONS, "Range")
            fields = fields.replace(("Range", range_field(span.start, span.stop)))
            return await self.send(attrs.evolve(request, held=None), mirror, fields)

        async with identity.checking:
            if mirror.name in identity.proven:
                return Finding(True)
            if request.held is None:
                return Finding(None)
            samples = await request.held.samples(self.sampling.count, self.sampling.size)
            finding = await compare_samples(samples, marks, ask, self.sampling.timeout)
            if finding.same:
                identity.accept(mirror.name, marks, proven=True)
            return finding

    @staticmethod
    def _reject(request: UpstreamRequest, mirror: Mirror, span: Span, identity: Identity) -> str:
        """Drop a place for this version, and tell everybody once."""
        reason = f"its bytes {span} are not those that are held"
        if mirror.name not in identity.rejected:
            logger.warning("%s is not used as a mirror: %s", display(mirror.url), reason)
            if request.held is not None:
                request.held.differs(mirror.url, span)
            identity.reject(mirror.name, reason)
        return reason
