"""The interface of signatures: one method to write, and three that may be."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar

import attrs
from cachestream.abc import UpstreamRequest
from cachestream.errors import CacheStreamError, ConfigurationError

from cachestream_signed._origins import OriginPattern, same_origin

__all__ = ["Refusal", "Signer"]


@attrs.frozen(kw_only=True)
class Refusal:
    """An origin's answer to a signed request, as far as it says why it refuses.

    Attributes:
        status: Its status code.
        content: The beginning of its page, at most 64 KiB.
        date: Its Date field, None if it has none.
    """

    status: int
    content: bytes = attrs.field(default=b"", repr=False)
    date: str | None = None


class Signer(ABC):
    """Signs requests to the origins that it names.

    Args:
        origins: As `OriginPattern` reads them; at least one.
        follow_redirects: Sign also what another origin redirects to. By default a request is
            signed only at the origin that the program named: whoever can make that origin
            redirect must not get at content with somebody else's credentials.
        allow_http: Allow origins of other machines without TLS.

    Raises:
        ConfigurationError: If no origin is named, or one is in plain http that may not be.

    Example:
        An API key in a field::

            class ApiKey(Signer):
                def __init__(self, *origins, key):
                    super().__init__(*origins)
                    self._key = key

                async def sign(self, request):
                    fields = request.fields.replace(("X-Api-Key", self._key))
                    return attrs.evolve(request, fields=fields)
    """

    sends_secret: ClassVar[bool] = True
    """Whether a listener on the wire would learn a secret; if so, http needs ``allow_http``."""

    for_any_host: ClassVar[bool] = False
    """Whether ``*`` may be its origin, since it looks itself for which hosts it has something."""

    refusals: ClassVar[frozenset[int]] = frozenset()
    """The statuses for which `renew` and `explain` are asked."""

    def __init__(
        self, *origins: str, follow_redirects: bool = False, allow_http: bool = False
    ) -> None:
        if not origins:
            raise ConfigurationError(
                f"{type(self).__name__} names no origin to sign for",
                hint="Give it at least one, such as example.com",
            )
        self.origins = tuple(OriginPattern.parse(origin) for origin in origins)
        self.follow_redirects = follow_redirects
        if not self.for_any_host and not all(origin.host for origin in self.origins):
            raise ConfigurationError(
                f"{type(self).__name__} would sign for every host that there is",
                hint="Name those that the credentials are for",
            )
        plain = [origin.text for origin in self.origins if origin.is_plain]
        if plain and self.sends_secret and not allow_http:
            raise ConfigurationError(
                f"{type(self).__name__} would send a secret to {plain[0]} in plain text",
                hint="Use https, or say allow_http if that network can be trusted",
            )

    def __repr__(self) -> str:
        # What else a signer has may be secret.
        return f"{type(self).__name__}({', '.join(repr(each.text) for each in self.origins)})"

    def covers(self, request: UpstreamRequest) -> bool:
        """Tell whether this is the signer for a request, before it is signed."""
        if not any(origin.matches(request.url) for origin in self.origins):
            return False
        if request.hop == 0 or self.follow_redirects:
            return True
        return same_origin(request.url, request.source)

    @abstractmethod
    async def sign(self, request: UpstreamRequest) -> UpstreamRequest:
        """Return the request to send; called for each exchange with one that is not signed.

        It must be safe to call many times at once, and must not keep the event loop waiting.

        Raises:
            CredentialsError: If a person has to do something first.
            TransportError: If it may help to try again.
        """

    async def renew(self, sent: UpstreamRequest, refusal: Refusal) -> bool:
        """Tell whether to sign anew and send once more; asked once for an exchange.

        Get other credentials here, if ``refusal`` says that those in ``sent`` do not count any
        more. False lets the answer go on to who asked.
        """
        return False

    def explain(self, sent: UpstreamRequest, refusal: Refusal) -> CacheStreamError | None:
        """Return an error to raise instead of the answer, None to let it go on."""
        return None

    async def aclose(self) -> None:
        """Give up what is held; idempotent."""
        return
