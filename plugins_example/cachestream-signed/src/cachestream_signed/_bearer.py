"""Bearer tokens in requests (RFC 6750)."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from typing import Any

import attrs
from cachestream.abc import UpstreamRequest

from cachestream_signed._signer import Refusal, Signer
from cachestream_signed._tokens import Token, TokenFunction, TokenKeeper, TokenSource

__all__ = ["Bearer"]


class Bearer(Signer):
    """Sends a bearer token, which is renewed before it ends and when the origin says 401.

    Args:
        origins: As for `Signer`.
        token: A `TokenSource` such as `TokenFile` or `OAuth2`, or a function that returns a
            token (``str`` or `Token`), or the token itself.
        clock: Seconds since the epoch.
        more: As for `Signer`.

    Raises:
        ConfigurationError: As `Signer`.
        CredentialsError: If a token that is given cannot be sent.

    Example:
        >>> Bearer("api.example.com", token="mF_9.B5f-4.1JqM")
        Bearer('api.example.com')
    """

    refusals = frozenset({401})

    def __init__(
        self,
        *origins: str,
        token: TokenSource
        | Callable[[], str | Token]
        | Callable[[], Awaitable[str | Token]]
        | Token
        | str,
        clock: Callable[[], float] = time.time,
        **more: Any,
    ) -> None:
        super().__init__(*origins, **more)
        if isinstance(token, str):
            token = Token(token)
        self._keeper = TokenKeeper(_source(token), clock)

    async def sign(self, request: UpstreamRequest) -> UpstreamRequest:
        token = await self._keeper.current()
        fields = request.fields.replace(("Authorization", f"Bearer {token.value}"))
        return attrs.evolve(request, fields=fields)

    async def renew(self, sent: UpstreamRequest, refusal: Refusal) -> bool:
        value = (sent.fields.get("Authorization") or "").removeprefix("Bearer ")
        return await self._keeper.replace(value)


class _Fixed(TokenSource):
    """A token that stays what it is."""

    def __init__(self, token: Token) -> None:
        self._token = token

    async def token(self) -> Token:
        return self._token


def _source(token: Any) -> TokenSource:
    if isinstance(token, Token):
        return _Fixed(attrs.evolve(token, expires_at=None))
    return token if isinstance(token, TokenSource) else TokenFunction(token)
