"""Asking an origin about a resource without taking its content: HEAD, and validation."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final, Literal

import attrs

from cachestream.core.decisions import TEMPORARY, Accept, Asked, Reply, judge_reply
from cachestream.core.fields import Fields, storable_fields
from cachestream.core.representation import Comparison, Representation, compare
from cachestream.errors import (
    NotStoredError,
    TransportError,
    UpstreamProtocolError,
    UpstreamStatusError,
)

from .exchange import exchange, fields_for
from .retrying import RetryPolicy
from .witness import Witness

if TYPE_CHECKING:
    from cachestream.abc import HeldContent, UpstreamResponse

    from .resource import Resource

__all__ = ["fetch_head", "validate"]

HEAD_HOSTILE: Final = frozenset({400, 403, 404, 405, 500, 501})
"""Statuses by which origins refuse HEAD although they would answer GET."""


async def fetch_head(resource: Resource) -> Representation:
    """Return what the origin says of the resource, by HEAD, else by a range of one byte.

    Raises:
        TransportError: If the origin refuses both, or fails as often as a first head may.
        NotStoredError: If the resource is offline.
    """
    if resource.settings.offline:
        raise NotStoredError("offline, and nothing is known of it", url=resource.source)
    retries = RetryPolicy(resource)
    while True:
        asked = resource.url
        try:
            return await _fetch_head(resource)
        except TransportError as error:
            refused = error.status if isinstance(error, UpstreamStatusError) else 0
            if await retries.renew(refused, asked):
                continue
            if not _may_pass(error):
                raise
            resource.context.counters.origin_failures += 1
            pause = retries.failed(error, begun=False)
            if pause is None:
                raise
        await asyncio.sleep(pause)


def _may_pass(error: TransportError) -> bool:
    """Tell whether asking again may help; an answer that cannot be used would come again."""
    if isinstance(error, UpstreamStatusError):
        return error.status in TEMPORARY
    return not isinstance(error, UpstreamProtocolError)


async def _fetch_head(resource: Resource) -> Representation:
    status, found = await _ask(resource, "HEAD", Fields())
    if found is None and status in HEAD_HOSTILE:
        status, found = await _ask(resource, "GET", Fields.of(("Range", "bytes=0-0")))
    if found is None:
        raise UpstreamStatusError(
            f"the origin answered {status}", status=status, url=resource.source
        )
    return found


async def validate(resource: Resource, known: Representation) -> tuple[bool, Representation]:
    """Ask whether ``known`` is still current; return that, and what is known afterwards.

    A conditional request for one byte: an origin without conditions still answers with a
    head that can be compared, and none sends the content (RFC 9110 §13.1.2, RFC 9111 §4.3).

    Raises:
        TransportError: If the origin fails or refuses.
    """
    conditions = [("Range", "bytes=0-0")]
    tag = known.fields.get("etag")
    modified = known.fields.get("last-modified")
    if tag is not None:
        conditions.append(("If-None-Match", tag))
    elif modified is not None:
        conditions.append(("If-Modified-Since", modified))
    held = None if resource.held is None else Witness(resource.context, resource.held.entry)
    retries = RetryPolicy(resource)
    while True:
        asked = resource.url
        status, found = await _ask(resource, "GET", Fields.of(*conditions), held=held)
        if found is not None or not await retries.renew(status, asked):
            break
    if status == 304:
        return True, known if found is None else _freshened(known, found)
    if status == 416 and known.complete_length == 0:
        return True, known
    if found is None:
        raise UpstreamStatusError(
            f"the origin answered {status}", status=status, url=resource.source
        )
    verdict = compare(known, found)
    if verdict is Comparison.UNKNOWN:
        same = known.complete_length is not None
        return same and known.complete_length == found.complete_length, known
    return verdict is not Comparison.DIFFERENT, known


async def _ask(
    resource: Resource,
    method: Literal["GET", "HEAD"],
    more: Fields,
    *,
    held: HeldContent | None = None,
) -> tuple[int, Representation | None]:
    """Send one request and judge its head; the content is not read."""
    fields = fields_for(resource.context, resource.source, resource.settings, resource.forwarded)
    fields = fields.replace(*more)
    response = await exchange(
        resource.context,
        resource.source,
        resource.url,
        fields,
        method=method,
        secure_only=not resource.settings.allow_insecure_redirects,
        held=held,
    )
    async with response:
        return response.status, _judged(resource, response, fields)


def _judged(
    resource: Resource, response: UpstreamResponse, fields: Fields
) -> Representation | None:
    reply = Reply(
        status=response.status,
        fields=response.fields,
        request_time=response.request_time,
        response_time=response.response_time,
    )
    essential = not resource.settings.save_all_headers
    if response.status == 304:
        kept = storable_fields(response.fields, essential_only=essential)
        return Representation(fields=kept, response_time=reply.response_time)
    start = 0 if "range" in fields else None
    asked = Asked(start=start, stop=1 if start == 0 else None, fields=fields)
    verdict = judge_reply(asked, None, reply, essential_only=essential)
    if isinstance(verdict, Accept):
        return verdict.representation
    if response.status < 400 and response.status != 304:
        raise UpstreamProtocolError(
            "the origin's answer cannot be used", url=resource.source, hint=str(verdict)
        )
    return None


def _freshened(known: Representation, found: Representation) -> Representation:
    """Update stored fields from a 304 (RFC 9111 §4.3.4)."""
    return attrs.evolve(
        known,
        fields=known.fields.replace(*found.fields),
        request_time=found.request_time,
        response_time=found.response_time,
    )
