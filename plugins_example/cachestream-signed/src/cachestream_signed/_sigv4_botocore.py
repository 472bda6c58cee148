"""The signature itself, by botocore. Nothing else imports its classes for signing."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Final

from botocore.auth import (
    SIGV4_TIMESTAMP,
    UNSIGNED_PAYLOAD,
    S3SigV4Auth,
    S3SigV4QueryAuth,
    SigV4Auth,
    SigV4QueryAuth,
)
from botocore.awsrequest import AWSRequest

if TYPE_CHECKING:
    from botocore.credentials import ReadOnlyCredentials

__all__ = ["sign"]


class _Quiet(SigV4Auth):  # type: ignore[misc]  # botocore has no types
    """Signs for a time that it is given, and logs nothing.

    botocore writes the canonical request to its log at DEBUG, and that has the session token in
    it. The steps are those of `SigV4Auth.add_auth`.
    """

    now = 0.0

    def add_auth(self, request: AWSRequest) -> None:
        request.context["timestamp"] = time.strftime(SIGV4_TIMESTAMP, time.gmtime(self.now))
        self._modify_request_before_signing(request)
        text = self.string_to_sign(request, self.canonical_request(request))
        self._inject_signature_to_request(request, self.signature(text, request))


class _S3(_Quiet, S3SigV4Auth):  # type: ignore[misc]
    def payload(self, request: AWSRequest) -> Any:
        # Also over http, where botocore would hash the content: GET and HEAD have none.
        return UNSIGNED_PAYLOAD


class _S3Query(_Quiet, S3SigV4QueryAuth):  # type: ignore[misc]
    pass


class _Field(_Quiet):
    pass


class _Query(_Quiet, SigV4QueryAuth):  # type: ignore[misc]
    pass


_CLASSES: Final = {
    (True, False): _S3,
    (True, True): _S3Query,
    (False, False): _Field,
    (False, True): _Query,
}


def sign(
    method: str,
    url: str,
    fields: dict[str, str],
    credentials: ReadOnlyCredentials,
    now: float,
    *,
    service: str,
    region: str,
    lifetime: int | None,
) -> tuple[str, list[tuple[str, str]]]:
    """Sign one request without content.

    Args:
        method: GET or HEAD.
        url: Strictly encoded.
        fields: Those to sign besides Host; none of them is signed in a query.
        credentials: The key.
        now: Seconds since the epoch.
        service: The service's name; ``s3`` has rules of its own.
        region: The region's name.
        lifetime: Seconds that a signature in the query lasts; None for one in a field.

    Returns:
        The URL to ask, and the fields to set.
    """
    cls = _CLASSES[service == "s3", lifetime is not None]
    more = {} if lifetime is None else {"expires": lifetime}
    signer = cls(credentials, service, region, **more)
    signer.now = now
    # A link is made for whoever has it, whichever range they want.
    signed = {} if lifetime is not None else fields
    request = AWSRequest(method=method, url=url, headers=signed)
    signer.add_auth(request)
    added = [(name, value) for name, value in request.headers.items() if name not in signed]
    return request.url, [(name, str(value)) for name, value in added]
