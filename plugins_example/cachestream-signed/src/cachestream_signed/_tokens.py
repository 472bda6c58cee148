"""Bearer tokens: where they come from, and one renewal for all who wait."""

from __future__ import annotations

import asyncio
import inspect
import re
import time
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final

import attrs
from cachestream.errors import (
    CacheStreamError,
    ConfigurationError,
    UpstreamTimeoutError,
)

from cachestream_signed._errors import CredentialsError

__all__ = ["Token", "TokenFile", "TokenFunction", "TokenKeeper", "TokenSource", "expand"]

_B64TOKEN: Final = re.compile(r"[A-Za-z0-9._~+/-]+=*")  # RFC 6750 §2.1
_MAX_FILE: Final = 64 * 1024

RENEW_BEFORE_S: Final = 60.0
"""A token is renewed so many seconds before its end, or a tenth of its life if that is less."""

PAUSE_S: Final = 5.0
"""After a renewal failed, a token that still counts is used for so long before the next try."""

PATIENCE_S: Final = 30.0
"""How many seconds a source may take."""


def _is_token(instance: object, attribute: attrs.Attribute[str], value: str) -> None:
    if not isinstance(value, str) or not _B64TOKEN.fullmatch(value):
        raise CredentialsError(
            "what was given as a bearer token is none",
            hint="It is letters, digits and -._~+/= without spaces (RFC 6750 §2.1)",
        )


@attrs.frozen
class Token:
    """A bearer token; its text is in no representation of it.

    Attributes:
        value: What is sent.
        expires_at: When it ends, seconds since the epoch; None if that is not known.
        issued_at: When it came, seconds since the epoch.

    Raises:
        CredentialsError: If the value cannot be sent.
    """

    value: str = attrs.field(repr=False, validator=_is_token)
    expires_at: float | None = None
    issued_at: float = attrs.field(factory=time.time)

    def counts(self, now: float) -> bool:
        """Whether it is worth sending."""
        return self.expires_at is None or now < self.expires_at

    def is_due(self, now: float) -> bool:
        """Whether it is time to renew it."""
        if self.expires_at is None:
            return False
        ahead = min(RENEW_BEFORE_S, (self.expires_at - self.issued_at) / 10)
        return now >= self.expires_at - ahead


class TokenSource(ABC):
    """Where tokens come from."""

    @abstractmethod
    async def token(self) -> Token:
        """Return a token, a new one if the last is not good any more.

        It is called by one at a time. It must not keep the event loop waiting.

        Raises:
            CredentialsError: If a person has to do something first.
            TransportError: If it may help to try again.
        """


def expand(path: str | Path) -> Path:
    """Return a path whose ``~`` is resolved.

    Raises:
        ConfigurationError: If there is no such user, or none with a home directory.
    """
    try:
        return Path(path).expanduser()
    except RuntimeError as exc:
        raise ConfigurationError(f"the path {path} has no home directory") from exc


class TokenFile(TokenSource):
    """A file that holds a token, and is replaced by somebody when that ends.

    It is read for every request, as is needed for tokens that a supervisor rotates.

    Args:
        path: The file. White space around the token is left out.
    """

    def __init__(self, path: str | Path) -> None:
        self._path = expand(path)

    async def token(self) -> Token:
        text = await asyncio.to_thread(self._read)
        now = time.time()
        return Token(text.strip(), now, now)

    def _read(self) -> str:
        try:
            with self._path.open("rb") as file:
                return file.read(_MAX_FILE).decode("ascii", "replace")
        except (OSError, ValueError) as exc:  # ValueError: no path has a NUL
            raise CredentialsError(
                f"the token file {str(self._path)!r} cannot be read: {type(exc).__name__}",
                hint="See that it exists and that this user may read it",
            ) from exc


class TokenFunction(TokenSource):
    """A function that returns a token, or its text.

    Args:
        function: Called without arguments; one that is not a coroutine function is called in a
            thread. A text has no known end: it is used until the origin says 401.
    """

    def __init__(
        self, function: Callable[[], str | Token] | Callable[[], Awaitable[str | Token]]
    ) -> None:
        self._function = function

    async def token(self) -> Token:
        try:
            if inspect.iscoroutinefunction(self._function):
                result = await self._function()
            else:
                result = await asyncio.to_thread(self._function)
                if inspect.isawaitable(result):
                    result = await result
        except CacheStreamError:
            raise
        except Exception as exc:
            # Not its text: who raised it may have put a secret into it.
            raise CredentialsError(
                f"the function that gives tokens failed: {type(exc).__name__}",
                hint="See the cause",
            ) from exc
        return result if isinstance(result, Token) else Token(result)


class TokenKeeper:
    """Keeps the current token of a source, and renews it once for all who want it.

    A token that is due is renewed by whoever comes first; others use it while it counts, and
    wait together when it does not. If the renewal fails all who waited get that failure.

    Args:
        source: Where tokens come from.
        clock: Seconds since the epoch.
    """

    def __init__(self, source: TokenSource, clock: Callable[[], float] = time.time) -> None:
        self._source = source
        self._clock = clock
        self._token: Token | None = None
        self._error: Exception | None = None
        self._lock = asyncio.Lock()
        self._round = 0
        self._not_before = 0.0

    async def current(self) -> Token:
        """Return a token to send.

        Raises:
            CredentialsError, TransportError: As `TokenSource.token`.
        """
        now, token = self._clock(), self._token
        if token is None or not token.counts(now):
            return await self._renewed(self._round)
        if token.is_due(now) and now >= self._not_before and not self._lock.locked():
            try:
                return await self._renewed(self._round)
            except CacheStreamError:
                # It counts for a while yet; soon somebody tries again.
                self._not_before = now + PAUSE_S
        return token

    async def replace(self, refused: str) -> bool:
        """Get another token than the one that was refused; False if there is none."""
        if self._token is None or self._token.value == refused:
            await self._renewed(self._round)
        return self._token is not None and self._token.value != refused

    async def _renewed(self, seen: int) -> Token:
        """Renew, unless somebody did so since the round that the caller has seen."""
        async with self._lock:
            if self._round == seen:
                self._token, self._error = await self._asked()
                self._round += 1
            if self._error is not None:
                raise self._error
            assert self._token is not None
            return self._token

    async def _asked(self) -> tuple[Token | None, Exception | None]:
        try:
            async with asyncio.timeout(PATIENCE_S):
                return await self._source.token(), None
        except TimeoutError as exc:
            error: Exception = UpstreamTimeoutError(
                f"no token came within {PATIENCE_S:.0f} s",
                hint="See whether the endpoint or function that gives tokens answers",
            )
            error.__cause__ = exc
        except CacheStreamError as exc:
            error = exc
        return self._token, error
