"""What S3 says when it refuses a signature, in words that help."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Final
from urllib.parse import parse_qs, urlsplit

from cachestream.abc import UpstreamRequest

from cachestream_signed._errors import SignatureRefusedError
from cachestream_signed._signer import Refusal

__all__ = ["ENDED", "code_of", "explain", "token_of"]

_FIELD: Final = "X-Amz-Security-Token"

ENDED: Final = frozenset({"ExpiredToken", "TokenRefreshRequired", "RequestExpired"})
"""What says that temporary credentials have ended."""

# Pages are small and flat; a parser of XML would have to be guarded against what it can do.
_CODE: Final = re.compile(rb"<Code>\s*([A-Za-z0-9.]{1,80})\s*</Code>")
_REGION: Final = re.compile(rb"<Region>\s*([a-z0-9-]{1,40})\s*</Region>")

_HAS_EXPIRED: Final = b"Request has expired"
_TIME: Final = re.compile(r"\b[0-9]{8}T[0-9]{6}Z\b")
_SKEWED: Final = frozenset({"RequestTimeTooSkewed", "RequestInTheFuture"})
_HINTS: Final = {
    "SignatureDoesNotMatch": "Check the secret key, and that no proxy changes the URL or Range",
    "InvalidAccessKeyId": "Check the access key, and that it is one of this server",
    "InvalidToken": "Check the session token: it belongs to another key, or is cut off",
    "ExpiredToken": "Get new temporary credentials",
    "TokenRefreshRequired": "Get new temporary credentials",
    "RequestExpired": "Get new temporary credentials",
    "AuthorizationHeaderMalformed": "Check the region and the service of the rule",
    "AuthorizationQueryParametersError": "Check the region and the lifetime of the rule",
}


def code_of(content: bytes) -> str:
    """Return the error code of a page, empty if it has none."""
    match = _CODE.search(content)
    return match[1].decode("ascii") if match else ""


def token_of(sent: UpstreamRequest) -> str | None:
    """Return the session token that a request was sent with, None if there is none."""
    query = parse_qs(urlsplit(sent.url).query)
    return sent.fields.get(_FIELD) or query.get(_FIELD, [None])[0]


def explain(
    sent: UpstreamRequest, refusal: Refusal, *, region: str
) -> SignatureRefusedError | None:
    """Return an error that says what to do; None if the signature is not what is wrong.

    The page itself is not passed on then: it may repeat what was signed, a session token
    included. One that says AccessDenied goes on as it is, as from any origin.
    """
    code = code_of(refusal.content)
    if code in _SKEWED or (code == "AccessDenied" and _HAS_EXPIRED in refusal.content):
        # What was signed a moment ago has expired only if two clocks differ.
        message, hint = _skewed(sent, refusal), "Set the clock (NTP)"
    elif code not in _HINTS:
        return None
    else:
        message, hint = f"the origin refuses the signature: {code}", _HINTS[code]
        named = _REGION.search(refusal.content)
        if named and named[1].decode() != region:
            hint = f"The rule says region {region}; the origin says {named[1].decode()}"
    return SignatureRefusedError(
        message, status=refusal.status, code=code, url=sent.source, hint=hint
    )


def _skewed(sent: UpstreamRequest, refusal: Refusal) -> str:
    message = "the origin refuses the signature: the clock of this machine is wrong"
    signed = _TIME.search(f"{sent.fields.get('x-amz-date')} {sent.url}")
    try:
        there = parsedate_to_datetime(refusal.date or "")
    except ValueError:
        return message
    if signed is None:
        return message
    here = datetime.strptime(signed[0], "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
    off = (here - there).total_seconds()
    return f"{message}, {abs(off):.0f} s {'ahead of' if off > 0 else 'behind'} the origin's"
