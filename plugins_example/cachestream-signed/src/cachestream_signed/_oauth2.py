"""Tokens from an OAuth 2.0 token endpoint (RFC 6749)."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import os
import ssl
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote

import aiohttp
import yarl
from cachestream.errors import (
    ConfigurationError,
    ConnectError,
    TransportError,
    UpstreamProtocolError,
    UpstreamTimeoutError,
)

from cachestream_signed._errors import CredentialsError
from cachestream_signed._origins import is_loopback
from cachestream_signed._tokens import Token, TokenSource, expand

if TYPE_CHECKING:
    from oauthlib.oauth2 import Client

__all__ = ["OAuth2"]

_MAX_ANSWER: Final = 256 * 1024
_INSTALL: Final = "Install it with: pip install 'cachestream-signed[oauth2]'"
_FORM: Final = {
    "Content-Type": "application/x-www-form-urlencoded",
    "Accept": "application/json",
}


class OAuth2(TokenSource):
    """Gets tokens by client credentials, or by a refresh token (RFC 6749 §4.4 and §6).

    Args:
        token_url: The endpoint; https, or on this machine.
        client_id: Who this client is.
        client_secret: Its password, None for a public client.
        scope: What is asked for, words with spaces between them; None for the default.
        audience: Whom the token is for, where an endpoint wants to be told.
        refresh_token: Refresh by this token instead of client credentials.
        refresh_token_file: A file with that token. When the endpoint gives out another one the
            file is replaced, so that the next process can go on.
        auth_method: How the client says who it is: ``basic`` in a field, ``post`` in the form.
        ca_file: Authorities to trust for the endpoint instead of the system's, in PEM form.
        timeout: Seconds until the endpoint has answered.
        clock: Seconds since the epoch.

    Raises:
        ConfigurationError: If the endpoint cannot be asked safely, or arguments contradict
            each other.
    """

    def __init__(
        self,
        token_url: str,
        *,
        client_id: str,
        client_secret: str | None = None,
        scope: str | None = None,
        audience: str | None = None,
        refresh_token: str | None = None,
        refresh_token_file: str | Path | None = None,
        auth_method: str = "basic",
        ca_file: Path | None = None,
        timeout: float = 20.0,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._url = _endpoint(token_url)
        self._client_secret = client_secret
        self._scope = scope
        self._more = {} if audience is None else {"audience": audience}
        self._refresh_token = refresh_token
        self._refresh_file = None if refresh_token_file is None else expand(refresh_token_file)
        if refresh_token is not None and refresh_token_file is not None:
            raise ConfigurationError("refresh_token and refresh_token_file are given: choose one")
        if auth_method not in {"basic", "post"}:
            raise ConfigurationError(f"auth_method {auth_method!r} is neither basic nor post")
        self._auth_method = auth_method
        self._ssl = _tls(ca_file)
        self._timeout = timeout
        self._clock = clock
        self._client = _client(client_id)

    def __repr__(self) -> str:
        return f"OAuth2({str(self._url)!r})"

    async def token(self) -> Token:
        if self._refresh_file is not None and self._refresh_token is None:
            self._refresh_token = await asyncio.to_thread(_read, self._refresh_file)
        asked_at = self._clock()
        status, text = await self._post(self._form())
        if status == 429 or status >= 500:
            raise TransportError(
                f"the token endpoint answered {status}", url=str(self._url), hint="Try later"
            )
        answer = self._parsed(status, text)
        await self._rotate(answer.get("refresh_token"))
        lifetime = answer.get("expires_in")
        # Counted from when it was asked for: the answer may have been under way for a while.
        expires_at = None if lifetime is None else asked_at + float(lifetime)
        return Token(answer["access_token"], expires_at, asked_at)

    def _form(self) -> str:
        more: dict[str, Any] = dict(self._more)
        if self._auth_method == "post" and self._client_secret is not None:
            more["client_secret"] = self._client_secret
        # A client that names itself in a field must not do so in the form too (RFC 6749 §2.3).
        named = self._auth_method == "post" or self._client_secret is None
        if self._refresh_token is None:
            return str(
                self._client.prepare_request_body(
                    scope=self._scope, include_client_id=named, **more
                )
            )
        if named:
            more["client_id"] = self._client.client_id
        return str(
            self._client.prepare_refresh_body(
                refresh_token=self._refresh_token, scope=self._scope, **more
            )
        )

    async def _post(self, form: str) -> tuple[int, str]:
        headers = dict(_FORM)
        if self._auth_method == "basic" and self._client_secret is not None:
            # Both are encoded before they are joined (RFC 6749 §2.3.1): a space as %20, which
            # every decoder understands, and not as a plus sign.
            pair = ":".join(
                quote(each, safe="") for each in (self._client.client_id, self._client_secret)
            )
            headers["Authorization"] = "Basic " + base64.b64encode(pair.encode()).decode("ascii")
        timeout = aiohttp.ClientTimeout(total=self._timeout)
        try:
            # One connection for a request that is made once in a while: nothing to keep open.
            async with (
                aiohttp.ClientSession(timeout=timeout) as session,
                session.post(
                    self._url, data=form, headers=headers, allow_redirects=False, ssl=self._ssl
                ) as response,
            ):
                content = await response.content.read(_MAX_ANSWER)
                while len(content) < _MAX_ANSWER and not response.content.at_eof():
                    content += await response.content.read(_MAX_ANSWER - len(content))
                return response.status, content.decode("utf-8", "replace")
        except TimeoutError as exc:
            raise UpstreamTimeoutError(
                f"the token endpoint did not answer within {self._timeout:g} s", url=str(self._url)
            ) from exc
        except (aiohttp.ClientConnectionError, OSError) as exc:
            raise ConnectError(
                "the token endpoint cannot be reached",
                url=str(self._url),
                hint="See whether it is up, and its certificate is trusted (ca_file)",
            ) from exc
        except aiohttp.ClientError as exc:
            raise UpstreamProtocolError(
                "the token endpoint's answer cannot be read", url=str(self._url)
            ) from exc

    def _parsed(self, status: int, text: str) -> dict[str, Any]:
        from oauthlib.oauth2 import OAuth2Error

        try:
            answer: dict[str, Any] = self._client.parse_request_body_response(text)
        except OAuth2Error as exc:
            # The error's name only: its description may repeat what was sent.
            code = str(exc.error or "")[:60]
            if status in {400, 401, 403} or code != "missing_token":
                raise CredentialsError(
                    f"the token endpoint refuses ({status}): {code if code.isprintable() else '?'}",
                    url=str(self._url),
                    hint="Check client_id, its secret, the scope; a refresh token may have ended",
                ) from None
            answer = {}
        except (ValueError, TypeError, AttributeError):
            answer = {}
        token, kind = answer.get("access_token"), answer.get("token_type", "Bearer")
        usable = isinstance(token, str) and isinstance(kind, str)
        lifetime = answer.get("expires_in")
        if status != 200 or not usable or not isinstance(lifetime, int | float | None):
            raise UpstreamProtocolError(
                f"the token endpoint answered {status} with what is no token", url=str(self._url)
            )
        if kind.lower() != "bearer":
            raise CredentialsError("the token endpoint gives no bearer tokens", url=str(self._url))
        return answer

    async def _rotate(self, refresh_token: str | None) -> None:
        """Keep a new refresh token; the old one may count no more (RFC 6749 §6)."""
        if not refresh_token or self._refresh_token in (None, refresh_token):
            return
        self._refresh_token = refresh_token
        if self._refresh_file is not None:
            await asyncio.to_thread(_replace, self._refresh_file, refresh_token)


def _client(client_id: str) -> Client:
    try:
        from oauthlib.oauth2 import BackendApplicationClient
    except ImportError as exc:
        raise ConfigurationError("OAuth2 needs the package oauthlib", hint=_INSTALL) from exc
    return BackendApplicationClient(client_id)


def _endpoint(text: str) -> yarl.URL:
    try:
        url = yarl.URL(text)
        usable = url.scheme in {"http", "https"} and bool(url.raw_host) and url.user is None
    except ValueError:
        usable = False
    if not usable:
        raise ConfigurationError(
            "token_url is no http or https URL", hint="Write it without a user name or password"
        )
    if url.scheme == "http" and not is_loopback(url.raw_host or ""):
        raise ConfigurationError(
            "token_url would send the client's secret in plain text", url=text, hint="Use https"
        )
    return url


def _tls(ca_file: Path | None) -> ssl.SSLContext | bool:
    try:
        return True if ca_file is None else ssl.create_default_context(cafile=str(ca_file))
    except (OSError, ssl.SSLError) as exc:
        raise ConfigurationError(f"ca_file {ca_file} cannot be used") from exc


def _read(path: Path) -> str:
    try:
        return path.read_text("ascii").strip()
    except (OSError, ValueError) as exc:
        raise CredentialsError(
            f"the refresh token file {path} cannot be read",
            hint="See that it exists and that this user may read it",
        ) from exc


def _replace(path: Path, text: str) -> None:
    """Write a file that only its owner may read, all of it or nothing."""
    try:
        descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        try:
            with os.fdopen(descriptor, "w") as file:
                file.write(f"{text}\n")
            Path(name).replace(path)
        except BaseException:
            with contextlib.suppress(OSError):
                Path(name).unlink()
            raise
    except OSError as exc:
        raise CredentialsError(
            f"the new refresh token cannot be written to {path}: {exc.strerror}",
            hint="Make its directory writable: the old token may count no more",
        ) from exc
