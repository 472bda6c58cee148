"""The transport: finds the rule for each request, and lets it sign."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Iterable
from typing import Final, Self, TypeVar

import attrs
from cachestream import HttpTransport, Settings, Transport
from cachestream.abc import Buffer, Sink, UpstreamRequest, UpstreamResponse
from cachestream.errors import ConfigurationError, TransportError
from cachestream.transports import ResponseWrapper, TransportWrapper

from cachestream_signed import _options
from cachestream_signed._signer import Refusal, Signer

__all__ = ["SignedTransport"]

_PAGE: Final = 64 * 1024
"""How many bytes of a refusal are looked at; those of S3 have about 1,000."""

_PAGE_S: Final = 10.0
"""How many seconds they may take."""

T = TypeVar("T")


@attrs.frozen(kw_only=True)
class _SignedRequest(UpstreamRequest):
    """A request that carries what is needed to sign it once more."""

    unsigned: UpstreamRequest = attrs.field(repr=False, eq=False)
    signed: UpstreamRequest = attrs.field(repr=False, eq=False)
    signer: Signer

    @classmethod
    async def make(cls, unsigned: UpstreamRequest, signer: Signer) -> Self:
        signed = await signer.sign(unsigned)
        values = {each.name: getattr(signed, each.name) for each in attrs.fields(UpstreamRequest)}
        return cls(**values, unsigned=unsigned, signed=signed, signer=signer)

    def to_unsigned(self) -> UpstreamRequest:
        """Return the request to sign once more, with fields that were added since."""
        added = [line for line in self.fields if line not in self.signed.fields.lines]
        return attrs.evolve(self.unsigned, fields=self.unsigned.fields.replace(*added))


class SignedTransport(TransportWrapper):
    """Signs requests by the first rule that covers them; others go as they are.

    A request is signed for each attempt and each hop, so that no signature is older than what
    it is for. When an origin refuses one whose credentials can be renewed, it is signed and
    sent once more within the same exchange.

    Args:
        rules: In the order in which they are looked at.
        inner: Any transport, which it owns from then on; None for an `HttpTransport`.

    Raises:
        ConfigurationError: If there is no rule.

    Example:
        >>> transport = SignedTransport([Netrc("media.example.com")])
        >>> sorted(transport.schemes)
        ['http', 'https']
    """

    Options = _options.Options

    def __init__(self, rules: Iterable[Signer], inner: Transport | None = None) -> None:
        super().__init__(HttpTransport() if inner is None else inner)
        self.rules = tuple(rules)
        if not self.rules:
            raise ConfigurationError(
                "there is no rule to sign by",
                hint='Give one, such as rules = {"example.com" = "netrc"}',
            )

    @classmethod
    def from_settings(cls, settings: Settings, options: _options.Options | None = None) -> Self:
        """Make one as a configuration says; how origins are asked is said by ``settings``.

        Raises:
            ConfigurationError: If a rule cannot be understood.
        """
        options = _options.Options() if options is None else options
        rules = options.make_rules(settings)
        return cls(rules, HttpTransport.from_settings(settings))

    def rule_for(self, request: UpstreamRequest) -> Signer | None:
        """Return the rule that signs a request, None if it goes as it is."""
        return next((rule for rule in self.rules if rule.covers(request)), None)

    async def prepare(self, request: UpstreamRequest) -> UpstreamRequest:
        # What the inner transport adds is signed too.
        request = await super().prepare(request)
        signer = self.rule_for(request)
        if signer is None:
            return request
        return await _SignedRequest.make(request, signer)

    async def fetch(self, request: UpstreamRequest) -> UpstreamResponse:
        response = await self.inner.fetch(request)
        if not isinstance(request, _SignedRequest) or not self._may_sign_again(request):
            return response
        signer = request.signer
        if response.status not in signer.refusals:
            return response
        response, refusal = await _closing_on_error(response, _look_at(response))
        if await _closing_on_error(response, signer.renew(request, refusal)):
            await response.aclose()
            request = await _SignedRequest.make(request.to_unsigned(), signer)
            response = await self.inner.fetch(request)
            if response.status not in signer.refusals:
                return response
            response, refusal = await _closing_on_error(response, _look_at(response))
        error = signer.explain(request, refusal)
        if error is not None:
            await response.aclose()
            raise error
        return response

    def _may_sign_again(self, request: _SignedRequest) -> bool:
        """Tell whether it was signed here, and goes where that was for."""
        ours = any(request.signer is rule for rule in self.rules)
        return ours and request.url == request.signed.url

    async def aclose(self) -> None:
        try:
            await super().aclose()
        finally:
            for rule in self.rules:
                await rule.aclose()


async def _closing_on_error(response: UpstreamResponse, step: Awaitable[T]) -> T:
    """Await ``step``; if it fails, nobody else is there to close the response."""
    try:
        return await step
    except BaseException:
        await response.aclose()
        raise


async def _look_at(response: UpstreamResponse) -> tuple[UpstreamResponse, Refusal]:
    """Read the beginning of a refusal; return it to be read once more, and what it says."""
    page = _Page()
    try:
        async with asyncio.timeout(_PAGE_S):
            await response.pour(page)
    except (TransportError, TimeoutError):
        pass  # what came of it is worth more than the fault
    refusal = Refusal(
        status=response.status,
        content=bytes(page.content),
        date=response.fields.get("date"),
    )
    return _Replayed(response, refusal.content), refusal


class _Page:
    """Keeps the beginning of a page."""

    def __init__(self) -> None:
        self.content = bytearray()

    def write(self, piece: Buffer) -> bool:
        self.content += piece[: _PAGE - len(self.content)]
        return len(self.content) < _PAGE

    async def drain(self) -> bool:
        return False


class _Replayed(ResponseWrapper):
    """A response whose content was read already, at least the part that is passed on."""

    def __init__(self, inner: UpstreamResponse, content: bytes) -> None:
        super().__init__(inner)
        self._content = content
        self.fields = inner.fields.without("content-length", "transfer-encoding").replace(
            ("Content-Length", str(len(content)))
        )

    def __aiter__(self) -> AsyncIterator[Buffer]:
        return self._pieces()

    async def _pieces(self) -> AsyncIterator[Buffer]:
        if self._content:
            yield self._content

    async def pour(self, sink: Sink) -> bool:
        return not self._content or sink.write(self._content) or await sink.drain()
