"""A transport that knows several places for one resource."""

from __future__ import annotations

import contextlib
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, Self

import attrs

from cachestream.abc import Transport, UpstreamRequest, UpstreamResponse
from cachestream.core.decisions import REDIRECTS
from cachestream.core.ranges import parse_content_range
from cachestream.core.urls import display, normalize, origin_of, resolve_location, same_origin
from cachestream.errors import (
    CacheStreamError,
    ConnectError,
    InvalidURLError,
    TransportError,
    UpstreamTimeoutError,
)
from cachestream.settings import Settings
from cachestream.transports._http import HttpTransport
from cachestream.transports._mirrors_identity import (
    CONDITIONS,
    Identity,
    asked_by,
    marks_of,
    rewritten,
)
from cachestream.transports._wrapper import ResponseWrapper, TransportWrapper

__all__ = ["MirrorsTransport"]

# All that may go to another origin than the one that was named: any other field may be a
# credential, and what a mirror needs `prepare` of the inner transport adds.
_HARMLESS: Final = frozenset(
    {"accept", "accept-encoding", "accept-language", "range", "user-agent"}
    | {name.lower() for name in CONDITIONS}
)

_MAX_SOURCES: Final = 4096
_MAX_HOPS: Final = 64


@attrs.frozen
class _Mirror:
    """One place: the name it is remembered by, and where to ask it now."""

    name: str
    url: str


class _Health:
    """Until when each place that failed is put back."""

    def __init__(self, cool_down: float, clock: Callable[[], float]) -> None:
        self._cool_down = cool_down
        self._clock = clock
        self._until: dict[str, float] = {}

    def failed(self, key: str) -> None:
        now = self._clock()
        if len(self._until) >= _MAX_SOURCES:
            self._until = {key: until for key, until in self._until.items() if until > now}
        self._until[key] = now + self._cool_down

    def worked(self, mirror: _Mirror) -> None:
        for key in (mirror.name, origin_of(mirror.url)):
            self._until.pop(key, None)

    def until(self, mirror: _Mirror) -> float:
        """Return until when a place is put back, 0 if it is not."""
        keys = (mirror.name, origin_of(mirror.url))
        latest = max(self._until.get(key, 0.0) for key in keys)
        return latest if latest > self._clock() else 0.0


@attrs.define(eq=False)
class _Round:
    """What came of asking the mirrors of one request."""

    reasons: list[str] = attrs.field(factory=list)
    errors: list[TransportError] = attrs.field(factory=list)
    others: list[_Mirror] = attrs.field(factory=list)  # those with other content
    refusal: UpstreamResponse | None = None  # the most telling answer with an error status

    async def refused(self, response: UpstreamResponse) -> None:
        """Keep a refusal, in case that nobody does better; one by a fault of the server first."""
        worse = response
        if self.refusal is None or response.status >= 500 > self.refusal.status:
            self.refusal, worse = response, self.refusal or response
        if worse is not self.refusal:
            await worse.aclose()

    @property
    def answer(self) -> UpstreamResponse | None:
        """The refusal that stands for all: "not found" only if every mirror says so."""
        if self.refusal is None:
            return None
        certain = not self.errors and not self.others
        return self.refusal if certain or self.refusal.status >= 500 else None


class MirrorsTransport(TransportWrapper):
    """Asks several URLs for one resource, the next when one fails.

    The URL that was asked for comes first, then its mirrors in their order; one that failed (no
    connection, a timeout, an answer that breaks off, 404, 5xx) goes to the end for a while. The
    first answer says what the resource is. Another mirror's answer is used only if it fits:
    equal length, and an equal digest or validator. So a download goes on at another mirror where
    it broke off, and other content is never mixed in.

    `prepare` of the inner transport is called for each mirror that is asked, so that what is
    signed is what is sent; other fields than harmless ones do not go to another origin.

    Args:
        inner: Performs the exchanges; it is owned.
        mirrors: The other URLs of a source URL, or a function that returns them.
        trust_length: Take equal length for equal content where validators differ or only one
            mirror has one. Many servers make tags from an inode; but two versions of a file may
            have one length.
        cool_down: Seconds for which a mirror that failed is asked last.
        clock: Seconds, from any start.

    Raises:
        InvalidURLError: If a URL in ``mirrors`` cannot be.
    """

    def __init__(
        self,
        inner: Transport,
        mirrors: Mapping[str, Sequence[str]] | Callable[[str], Sequence[str]],
        *,
        trust_length: bool = False,
        cool_down: float = 30.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__(inner)
        if callable(mirrors):
            self._mirrors = mirrors
        else:
            known = {normalize(url): tuple(map(normalize, mirrors[url])) for url in mirrors}
            self._mirrors = lambda source: known.get(source, ())
        self._trust_length = trust_length
        self._health = _Health(cool_down, clock)
        self._identities: OrderedDict[str, Identity] = OrderedDict()

    @classmethod
    def from_settings(
        cls,
        settings: Settings,
        *,
        mirrors: Mapping[str, Sequence[str]] | Callable[[str], Sequence[str]] | None = None,
        **kw: Any,
    ) -> Self:
        """Make one over HTTP as ``settings`` say; without ``mirrors`` it knows none."""
        return cls(HttpTransport.from_settings(settings), mirrors or {}, **kw)

    async def prepare(self, request: UpstreamRequest) -> UpstreamRequest:
        """Return the request as it is: it is prepared when it is known who will be asked."""
        return request

    async def fetch(self, request: UpstreamRequest) -> UpstreamResponse:
        others = self._mirrors(request.source)
        if not others:
            return await self.inner.fetch(await self.inner.prepare(request))
        identity = self._identity(request.source)
        if request.hop:
            return await self._follow(request, identity)
        places = {request.source: request.url}
        places.update((url, url) for url in map(normalize, others) if url not in places)
        mirrors = [_Mirror(name, url) for name, url in places.items()]
        mirrors.sort(key=self._health.until)
        result = _Round()
        try:
            for mirror in mirrors:
                response = await self._try(request, mirror, identity, result)
                if response is not None:
                    return response
            conditional = any(name in request.fields for name in CONDITIONS)
            if result.others and not conditional:
                # The engine holds nothing that could be mixed with it: begin anew.
                identity.forget()
                response = await self._try(request, result.others[0], identity, result)
                if response is not None:
                    return response
            answer = result.answer
            if answer is None:
                raise _exhausted(request, len(mirrors), result)
            result.refusal = None
            return answer
        finally:
            if result.refusal is not None:
                await result.refusal.aclose()

    def _identity(self, source: str) -> Identity:
        identity = self._identities.pop(source, None) or Identity()
        self._identities[source] = identity
        if len(self._identities) > _MAX_SOURCES:
            self._identities.popitem(last=False)
        return identity

    async def _try(
        self, request: UpstreamRequest, mirror: _Mirror, identity: Identity, result: _Round
    ) -> UpstreamResponse | None:
        """Ask one mirror; None if another one has to be asked."""
        host = origin_of(mirror.url).partition("://")[2]
        try:
            response = await self._ask(request, mirror, identity)
        except TransportError as error:
            self._health.failed(origin_of(mirror.url))
            result.errors.append(error)
            result.reasons.append(f"{host}: {error.outcome}")
            return None
        if response.status == 404 or response.status >= 500:
            missing = response.status == 404
            self._health.failed(mirror.name if missing else origin_of(mirror.url))
            result.reasons.append(f"{host}: status {response.status}")
            await result.refused(response)
            return None
        if not self._fits(response, request, mirror, identity):
            self._health.failed(mirror.name)
            result.others.append(mirror)
            result.reasons.append(f"{host}: other content")
            await response.aclose()
            return None
        self._health.worked(mirror)
        return self._answer(response, request, mirror, identity)

    async def _ask(
        self, request: UpstreamRequest, mirror: _Mirror, identity: Identity
    ) -> UpstreamResponse:
        fields = asked_by(request, mirror.name, identity)
        if not same_origin(request.url, mirror.url):
            fields = fields.filter(lambda name: name in _HARMLESS)
        sent = attrs.evolve(request, url=mirror.url, fields=fields)
        return await self.inner.fetch(await self.inner.prepare(sent))

    async def _follow(self, request: UpstreamRequest, identity: Identity) -> UpstreamResponse:
        """Go where a mirror redirected to; its failures are that mirror's."""
        mirror = _Mirror(identity.hops.get(request.url, request.source), request.url)
        try:
            response = await self._ask(request, mirror, identity)
        except TransportError:
            self._health.failed(mirror.name)
            raise
        if response.status == 404 or response.status >= 500:
            self._health.failed(mirror.name)
            return response
        if not self._fits(response, request, mirror, identity):
            self._health.failed(mirror.name)
            await response.aclose()
            raise TransportError("a mirror redirects to other content", url=display(request.source))
        return self._answer(response, request, mirror, identity)

    def _fits(
        self,
        response: UpstreamResponse,
        request: UpstreamRequest,
        mirror: _Mirror,
        identity: Identity,
    ) -> bool:
        if response.status in {200, 206}:
            marks = marks_of(response)
            if response.status == 206 and "if-range" in asked_by(request, mirror.name, identity):
                marks = marks.completed(identity.own.get(mirror.name))
            return identity.accepts(mirror.name, marks, trust_length=self._trust_length)
        if response.status == 416 and identity.owner not in (None, mirror.name):
            place = parse_content_range(response.fields.get("content-range") or "")
            return place is not None and place.complete_length == identity.marks.length
        return True

    def _answer(
        self,
        response: UpstreamResponse,
        request: UpstreamRequest,
        mirror: _Mirror,
        identity: Identity,
    ) -> UpstreamResponse:
        answer = _Mirrored(response, lambda: self._health.failed(mirror.name))
        location = response.fields.get("location")
        if response.status in REDIRECTS and location is not None:
            with contextlib.suppress(InvalidURLError):
                target = resolve_location(mirror.url, location)
                if len(identity.hops) >= _MAX_HOPS:
                    identity.hops.clear()
                identity.hops[target] = mirror.name
                if mirror.url != request.url:
                    # Whoever follows takes it for relative to what was asked for.
                    answer.fields = response.fields.replace(("Location", target))
        elif response.status in {200, 206, 304} and identity.owner not in (None, mirror.name):
            answer.fields = rewritten(response.fields, identity.marks)
        return answer


class _Mirrored(ResponseWrapper):
    """Puts its mirror back when content breaks off."""

    def __init__(self, inner: UpstreamResponse, broken: Callable[[], None]) -> None:
        super().__init__(inner)
        self._broken = broken

    def failed(self, error: Exception) -> None:
        if isinstance(error, TransportError):
            self._broken()


def _exhausted(request: UpstreamRequest, count: int, result: _Round) -> CacheStreamError:
    """Return the error that says how many were tried, and what came of each."""
    if count == 1 and result.errors:
        return result.errors[0]
    kind: type[TransportError] = TransportError
    for each in (ConnectError, UpstreamTimeoutError):
        if len(result.errors) == count and all(isinstance(e, each) for e in result.errors):
            kind = each
    error = kind(
        f"none of {count} mirrors can be used",
        url=display(request.source),
        hint="; ".join(result.reasons),
    )
    error.__cause__ = result.errors[-1] if result.errors else None
    return error
