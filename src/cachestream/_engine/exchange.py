"""One request to an origin: prepared, allowed, sent, and its redirects followed."""

from __future__ import annotations

from typing import Final, Literal

import attrs

from cachestream.abc import HeldContent, UpstreamRequest, UpstreamResponse
from cachestream.core.decisions import REDIRECTS
from cachestream.core.fields import Fields
from cachestream.core.urls import origin_of, resolve_location, same_origin
from cachestream.errors import TooManyRedirectsError, UpstreamProtocolError
from cachestream.settings import StreamSettings

from .context import EngineContext

__all__ = ["exchange", "fields_for"]

MAX_REDIRECTS: Final = 10

HARMLESS: Final = frozenset(
    {
        "accept",
        "accept-encoding",
        "accept-language",
        "if-modified-since",
        "if-none-match",
        "if-range",
        "range",
        "user-agent",
    }
)
"""Fields that may follow a redirect to another origin; every other one may be a credential."""


async def exchange(
    context: EngineContext,
    source: str,
    url: str,
    fields: Fields,
    *,
    method: Literal["GET", "HEAD"] = "GET",
    attempt: int = 0,
    secure_only: bool = True,
    held: HeldContent | None = None,
) -> UpstreamResponse:
    """Send one request and follow its redirects; the caller closes the response.

    Every hop is prepared anew, so a signature is made over what is sent. Credentials end
    where the origin changes (RFC 9110 §15.4, rule S12).

    Raises:
        TransportError: If the network or the origin fails.
        AccessDeniedError: If an address on the way may not be asked.
    """
    request = UpstreamRequest(
        url=url, source=source, method=method, fields=fields, attempt=attempt, held=held
    )
    for _ in range(MAX_REDIRECTS + 1):
        prepared = await context.transport.prepare(request)
        context.counters.origin_requests += 1
        response = await context.transport.fetch(prepared)
        location = response.fields.get("location")
        if response.status not in REDIRECTS or not location:
            return response
        await response.aclose()
        request = _next_hop(request, location, secure_only)
    raise TooManyRedirectsError(
        f"the origin redirected more than {MAX_REDIRECTS} times",
        url=source,
        hint="Ask the final URL directly, or look for a redirect loop at the origin.",
    )


def _next_hop(request: UpstreamRequest, location: str, secure_only: bool) -> UpstreamRequest:
    target = resolve_location(request.url, location)
    if secure_only and request.url.startswith("https:") and target.startswith("http:"):
        raise UpstreamProtocolError(
            "the origin redirects from https to plain http",
            url=request.source,
            hint="Name the http URL yourself, or set allow_insecure_redirects.",
        )
    fields = request.fields
    if not same_origin(request.url, target):
        fields = fields.filter(lambda name: name in HARMLESS)
    return attrs.evolve(request, url=target, fields=fields, hop=request.hop + 1)


def fields_for(
    context: EngineContext, source: str, settings: StreamSettings, forwarded: Fields
) -> Fields:
    """Return the fields that every request for ``source`` carries (engine rule 13).

    The manager's own ``request_headers`` go only to origins that the program named: a client
    that makes up a URL must not carry the program's credentials to a host of its choice.
    """
    configured = Fields.parse(settings.request_headers.items())
    if origin_of(source) not in context.named_origins:
        configured = configured.filter(lambda name: name in HARMLESS)
    fields = forwarded.replace(*configured)
    agent = context.settings.user_agent
    if agent is not None and "user-agent" not in fields:
        fields = fields.replace(("User-Agent", agent))
    if "accept-encoding" not in fields:
        fields = fields.replace(("Accept-Encoding", "identity"))
    return fields
