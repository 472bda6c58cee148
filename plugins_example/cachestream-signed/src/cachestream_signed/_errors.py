"""What can go wrong with signatures; both are errors of cachestream."""

from __future__ import annotations

from cachestream.errors import CacheStreamError

__all__ = ["CredentialsError", "SignatureRefusedError"]


class CredentialsError(CacheStreamError):
    """The credentials for an origin cannot be had: no file, no profile, a refused refresh.

    It is not tried again by itself, since a person has to do something. That an endpoint
    cannot be reached just now is a `cachestream.errors.TransportError` instead.
    """

    status_hint = 502
    outcome = "credentials"


class SignatureRefusedError(CacheStreamError):
    """The origin understood that a request was signed, and says why that did not help.

    Attributes:
        status: The origin's status code.
        code: The origin's own word for it, such as ``RequestTimeTooSkewed``.
    """

    status_hint = 502
    outcome = "signature-refused"

    def __init__(
        self, message: str, *, status: int, code: str, url: str | None = None, hint: str | None
    ) -> None:
        super().__init__(message, url=url, hint=hint)
        self.status = status
        self.code = code
        if status == 403:
            # What a client would see of it without a cache.
            self.status_hint = status  # type: ignore[misc]  # one instance differs from its class
