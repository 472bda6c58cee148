"""A transport that knows several places for one resource."""

from __future__ import annotations

import contextlib
import time
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from typing import ClassVar, Final, Self

import attrs

from cachestream.abc import Transport, UpstreamRequest, UpstreamResponse
from cachestream.core.decisions import REDIRECTS
from cachestream.core.fields import Fields
from cachestream.core.urls import display, normalize, origin_of, resolve_location, same_origin
from cachestream.errors import InvalidURLError, TransportError
from cachestream.settings import Settings
from cachestream.transports._http import HttpTransport
from cachestream.transports._mirrors_identity import (
    CONDITIONS,
    Identity,
    asked_by,
    conditions_failed,
    marks_of_held,
    rewritten,
)
from cachestream.transports._mirrors_judging import Judge
from cachestream.transports._mirrors_options import (
    MirrorsFunction,
    MirrorsOptions,
    mirrors_by_prefix,
)
from cachestream.transports._mirrors_round import MAX_SOURCES, Health, Mirror, Round, exhausted
from cachestream.transports._mirrors_sampling import Sampling
from cachestream.transports._wrapper import ResponseWrapper, TransportWrapper

__all__ = ["MirrorsTransport"]

# All that may go to another origin than the one that was named: any other field may be a
# credential, and what a mirror needs `prepare` of the inner transport adds.
_HARMLESS: Final = frozenset(
    {"accept", "accept-encoding", "accept-language", "range", "user-agent"}
    | {name.lower() for name in CONDITIONS}
)

_MAX_HOPS: Final = 64

_PATIENCE: Final = 2
"""After so many failures in a row the source may replace a version that only mirrors had."""


class MirrorsTransport(TransportWrapper):
    """Asks several URLs for one resource, the next when one fails.

    The URL that was asked for comes first, then its mirrors in their order; one that failed (no
    connection, a timeout, an answer that breaks off, 404, 5xx) goes to the end for a while. The
    first answer says what the resource is. Another place's answer is used only for the same
    bytes: its length must be equal, and before it is joined to bytes that are held, a few of
    those, chosen at random, are fetched from it and compared. If they are equal its validators
    do not matter; if not, it is not asked again for this version. Where nothing can be compared,
    a digest or validator must be equal. So a download goes on at another place where it broke
    off, and other content is never mixed in.

    `prepare` of the inner transport is called for each place that is asked, so that what is
    signed is what is sent; other fields than harmless ones do not go to another origin.

    Args:
        inner: Performs the exchanges; it is owned.
        mirrors: The other URLs of a source URL, or a function that returns them.
        trust_length: Take equal length for equal content where no bytes can be compared, and
            validators differ or only one place has one. Many servers make tags from an inode;
            but two versions of a file may have one length.
        cool_down: Seconds for which a place that failed is asked last.
        sampling: How much is compared.
        clock: Seconds, from any start.

    Raises:
        InvalidURLError: If a URL in ``mirrors`` cannot be.
    """

    Options: ClassVar = MirrorsOptions

    def __init__(
        self,
        inner: Transport,
        mirrors: Mapping[str, Sequence[str]] | MirrorsFunction,
        *,
        trust_length: bool = False,
        cool_down: float = 30.0,
        sampling: Sampling | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__(inner)
        if callable(mirrors):
            self._mirrors = mirrors
        else:
            known = {normalize(url): tuple(map(normalize, mirrors[url])) for url in mirrors}
            self._mirrors = lambda source: known.get(source, ())
        self._health = Health(cool_down, clock)
        self._judge = Judge(self._send, sampling or Sampling(), trust_length=trust_length)
        self._identities: OrderedDict[str, Identity] = OrderedDict()

    @classmethod
    def from_settings(cls, settings: Settings, options: MirrorsOptions | None = None) -> Self:
        """Make one over HTTP as ``settings`` say; without options it knows no mirrors."""
        options = options or MirrorsOptions()
        return cls(
            HttpTransport.from_settings(settings),
            mirrors_by_prefix(options.mirrors),
            trust_length=options.trust_length,
            cool_down=options.cool_down,
            sampling=options.sampling,
        )

    async def prepare(self, request: UpstreamRequest) -> UpstreamRequest:
        """Return the request as it is: it is prepared when it is known who will be asked."""
        return request

    async def fetch(self, request: UpstreamRequest) -> UpstreamResponse:
        others = self._mirrors(request.source)
        if not others:
            return await self.inner.fetch(await self.inner.prepare(request))
        identity = self._identity(request)
        if request.hop:
            return await self._follow(request, identity)
        places = {request.source: request.url}
        places.update((url, url) for url in map(normalize, others) if url not in places)
        mirrors = [Mirror(name, url) for name, url in places.items()]
        mirrors.sort(key=self._health.until)
        result = Round()
        try:
            for mirror in mirrors:
                response = await self._try(request, mirror, identity, result)
                if response is not None:
                    return response
            response = await self._begin_anew(request, identity, result) or result.take_answer()
            if response is None:
                raise exhausted(request, len(mirrors), result)
            return response
        finally:
            await result.aclose()

    def _identity(self, request: UpstreamRequest) -> Identity:
        identity = self._identities.pop(request.source, None) or Identity()
        self._identities[request.source] = identity
        if len(self._identities) > MAX_SOURCES:
            self._identities.popitem(last=False)
        if request.held is not None:
            identity.expect(marks_of_held(request.held.representation))
        return identity

    async def _begin_anew(
        self, request: UpstreamRequest, identity: Identity, result: Round
    ) -> UpstreamResponse | None:
        """Take other content where nothing is held, or where the engine sees that it is other."""
        conditional = any(name in request.fields for name in CONDITIONS)
        if result.others and not conditional and request.held is None:
            identity.forget()
            return await self._try(request, result.others[0], identity, result)
        sources = [mirror for mirror in result.others if mirror.name == request.source]
        if sources and request.attempt >= _PATIENCE:
            # Those who had the version are gone. The source itself says that there is another.
            known = identity.marks
            identity.forget()
            identity.expect(known)
            return await self._try(request, sources[0], identity, result)
        return None

    async def _try(
        self, request: UpstreamRequest, mirror: Mirror, identity: Identity, result: Round
    ) -> UpstreamResponse | None:
        """Ask one place; None if another one has to be asked."""
        if mirror.name in identity.rejected:
            result.differs(mirror, identity.rejected[mirror.name])
            return None
        try:
            response = await self._ask(request, mirror, identity)
            async with _closing_on_error(response):
                if response.status == 404 or response.status >= 500:
                    missing = response.status == 404
                    self._health.failed(mirror.name if missing else origin_of(mirror.url))
                    await result.refused(mirror, response)
                    return None
                reason = await self._judge.judge(response, request, mirror, identity)
                if reason is not None:
                    self._health.failed(mirror.name)
                    result.differs(mirror, reason)
                    await response.aclose()
                    return None
            response = await self._asked_rightly(response, request, mirror, identity)
        except TransportError as error:
            self._health.failed(origin_of(mirror.url))
            result.failed(mirror, error)
            return None
        self._health.worked(mirror)
        return self._answer(response, request, mirror, identity)

    async def _ask(
        self, request: UpstreamRequest, mirror: Mirror, identity: Identity
    ) -> UpstreamResponse:
        return await self._send(request, mirror, asked_by(request, mirror.name, identity))

    async def _send(
        self, request: UpstreamRequest, mirror: Mirror, fields: Fields
    ) -> UpstreamResponse:
        if not same_origin(request.url, mirror.url):
            fields = fields.filter(lambda name: name in _HARMLESS)
        sent = attrs.evolve(request, url=mirror.url, fields=fields)
        return await self.inner.fetch(await self.inner.prepare(sent))

    async def _asked_rightly(
        self,
        response: UpstreamResponse,
        request: UpstreamRequest,
        mirror: Mirror,
        identity: Identity,
    ) -> UpstreamResponse:
        """Ask once more for the range where all came, only for a validator it does not know."""
        own = identity.own.get(mirror.name)
        if own is None or identity.owner == mirror.name:
            return response
        if "range" not in request.fields or not conditions_failed(request.fields, response, own):
            return response
        await response.aclose()
        again = await self._ask(request, mirror, identity)
        async with _closing_on_error(again):
            if again.status not in {200, 206} or await self._judge.judge(
                again, request, mirror, identity
            ):
                raise TransportError("a mirror changed its mind", url=display(request.source))
        return again

    async def _follow(self, request: UpstreamRequest, identity: Identity) -> UpstreamResponse:
        """Go where a place redirected to; its failures are that place's."""
        mirror = Mirror(identity.hops.get(request.url, request.source), request.url)
        try:
            response = await self._ask(request, mirror, identity)
            async with _closing_on_error(response):
                reason = await self._judge.judge(response, request, mirror, identity)
                if reason is not None:
                    raise TransportError(
                        f"a mirror redirects to {reason}", url=display(request.source)
                    )
        except TransportError:
            self._health.failed(mirror.name)
            raise
        if response.status == 404 or response.status >= 500:
            self._health.failed(mirror.name)
            return response
        return self._answer(response, request, mirror, identity)

    def _answer(
        self,
        response: UpstreamResponse,
        request: UpstreamRequest,
        mirror: Mirror,
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
        elif response.status in {200, 206, 304} and identity.replaces(mirror.name):
            answer.fields = rewritten(response.fields, identity.marks)
        return answer


class _Mirrored(ResponseWrapper):
    """Puts its place back when content breaks off."""

    def __init__(self, inner: UpstreamResponse, broken: Callable[[], None]) -> None:
        super().__init__(inner)
        self._broken = broken

    def failed(self, error: Exception) -> None:
        if isinstance(error, TransportError):
            self._broken()


@contextlib.asynccontextmanager
async def _closing_on_error(response: UpstreamResponse) -> AsyncIterator[None]:
    """Close a response that will not be handed out."""
    try:
        yield
    except BaseException:
        await response.aclose()
        raise
