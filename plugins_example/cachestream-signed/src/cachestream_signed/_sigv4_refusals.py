"""What S3 says when it refuses a signature, in words that help."""

from __future__ import annotations

import re
from email.utils import parsedate_to_datetime
from typing import Final

from cachestream_signed._errors import SignatureRefusedError
from cachestream_signed._signer import Refusal

__all__ = ["ENDED", "code_of", "explain"]

ENDED: Final = frozenset({"ExpiredToken", "TokenRefreshRequired", "RequestExpired"})
"""What says that temporary credentials have ended."""

# Pages are small and flat; a parser of XML would have to be guarded against what it can do.
_CODE: Final = re.compile(rb"<Code>\s*([A-Za-z0-9.]{1,80})\s*</Code>")
_REGION: Final = re.compile(rb"<Region>\s*([a-z0-9-]{1,40})\s*</Region>")

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


def explain(refusal: Refusal, *, url: str, region: str) -> SignatureRefusedError | None:
    """Return an error that says what to do; None if the signature is not what is wrong.

    The page itself is not passed on then: it may repeat what was signed, a session token
    included. One that says AccessDenied goes on as it is, as from any origin.
    """
    code = code_of(refusal.content)
    if code in _SKEWED:
        message, hint = _skewed(refusal)
    elif code not in _HINTS:
        return None
    else:
        message, hint = f"the origin refuses the signature: {code}", _HINTS[code]
        named = _REGION.search(refusal.content)
        if named and named[1].decode() != region:
            hint = f"The rule says region {region}; the origin says {named[1].decode()}"
    return SignatureRefusedError(message, status=refusal.status, code=code, url=url, hint=hint)


def _skewed(refusal: Refusal) -> tuple[str, str]:
    message = "the origin refuses the signature: the clock of this machine is wrong"
    try:
        there = parsedate_to_datetime(refusal.date or "").timestamp()
    except ValueError:
        return message, "Set the clock (NTP)"
    off = refusal.sent_at - there
    if abs(off) < 60:  # the clock that signs is not the one that was compared
        return message, "Set the clock (NTP)"
    word = "ahead of" if off > 0 else "behind"
    return f"{message}, {abs(off):.0f} s {word} the origin's", "Set the clock (NTP)"
