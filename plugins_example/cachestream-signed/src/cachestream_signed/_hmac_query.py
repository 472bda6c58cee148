"""Expiring URLs: a signature in the query, made with a key that the origin has too."""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
import string
import time
from collections.abc import Callable, Mapping
from typing import Any, Final, Literal
from urllib.parse import urlsplit

import attrs
from cachestream.abc import UpstreamRequest
from cachestream.errors import ConfigurationError

from cachestream_signed._query import decoded_path, raw_path, split_query, with_query
from cachestream_signed._signer import Signer

__all__ = ["HmacQuery", "SecureLink", "TempUrl"]

_IN_MESSAGE: Final = frozenset({"method", "expires", "path", "raw_path", "query", "host"})
_IN_PARAMETERS: Final = frozenset({"expires", "signature"})
_SLASHES: Final = re.compile(rb"//+")

Encoding = Literal["hex", "base64", "base64url"]


class HmacQuery(Signer):
    """Adds a signature and its end to the query, new for each request.

    So a film may be longer than a signature lasts. What is signed is a template: ``{method}``,
    ``{expires}`` (seconds since the epoch), ``{path}`` (percent-decoded), ``{raw_path}`` (as on
    the wire), ``{query}`` (without what is added), ``{host}`` (with its port, if there is one in
    the URL). What is added are templates too, of ``{signature}`` and ``{expires}``.

    The source stays what it was, so nothing of this is in the cache key.

    Args:
        origins: As for `Signer`.
        key: The secret; a text is encoded as UTF-8.
        message: What is signed.
        parameters: What is added to the query, in this order.
        digest: A hash function of `hashlib`.
        encoding: How the signature is written; ``base64url`` is without padding.
        lifetime: Seconds that a signature lasts.
        clock: Seconds since the epoch.
        more: As for `Signer`.

    Raises:
        ConfigurationError: If a template, the digest or the lifetime cannot be used.

    Example:
        >>> HmacQuery(
        ...     "cdn.example.com",
        ...     key=bytes.fromhex("0102"),
        ...     message="exp={expires}~url={raw_path}",
        ...     parameters={"token": "exp={expires}~hmac={signature}"},
        ... )
        HmacQuery('cdn.example.com')
    """

    # A listener learns one signature that ends, and that is for content which it has heard.
    sends_secret = False

    def __init__(
        self,
        *origins: str,
        key: bytes | str,
        message: str = "{method}\n{expires}\n{path}",
        parameters: Mapping[str, str],
        digest: str = "sha256",
        encoding: Encoding = "hex",
        lifetime: float = 3600.0,
        clock: Callable[[], float] = time.time,
        **more: Any,
    ) -> None:
        super().__init__(*origins, **more)
        self.key = key.encode() if isinstance(key, str) else key
        if not self.key:
            raise ConfigurationError("the key of a signature is empty", hint="Give it a long one")
        self._message = _template(message, _IN_MESSAGE)
        self._parameters = {
            name: _template(text, _IN_PARAMETERS) for name, text in parameters.items()
        }
        if not any("signature" in dict.fromkeys(names(each)) for each in self._parameters.values()):
            raise ConfigurationError("no parameter has {signature} in it")
        self._digest = digest
        try:
            self._encode = _ENCODE[encoding]
            self.digest(b"")  # some of hashlib's have no fixed length, and some may be forbidden
        except (KeyError, ValueError, TypeError) as exc:
            raise ConfigurationError(
                f"{digest} written as {encoding} is no signature",
                hint="Digests are those of hashlib; encodings are hex, base64 and base64url",
            ) from exc
        if not lifetime >= 1:
            raise ConfigurationError(f"lifetime={lifetime!r} is wrong: it is at least 1 second")
        self._lifetime = lifetime
        self._clock = clock

    async def sign(self, request: UpstreamRequest) -> UpstreamRequest:
        # A source may be a URL that somebody signed long ago.
        unsigned = with_query(request.url, (), without=self._parameters)
        expires = str(int(self._clock() + self._lifetime))
        parts = urlsplit(unsigned)
        values = {
            "method": request.method.encode(),
            "expires": expires.encode(),
            "path": self.path(unsigned),
            "raw_path": raw_path(unsigned).encode(),
            "query": "&".join(split_query(unsigned)[1]).encode(),
            "host": parts.netloc.encode(),
        }
        message = b"".join(
            literal.encode() + (b"" if name is None else values[name])
            for literal, name in self._message
        )
        signature = self._encode(self.digest(message))
        texts = {"signature": signature, "expires": expires}
        added = [
            (name, "".join(literal + texts.get(part or "", "") for literal, part in template))
            for name, template in self._parameters.items()
        ]
        return attrs.evolve(request, url=with_query(unsigned, added))

    def path(self, url: str) -> bytes:
        """Return what stands for ``{path}``."""
        return decoded_path(url)

    def digest(self, message: bytes) -> bytes:
        """Return the signature of a message."""
        return hmac.new(self.key, message, self._digest).digest()


class TempUrl(HmacQuery):
    """Temporary URLs of OpenStack Swift.

    Args:
        origins: As for `Signer`.
        key: The account's or container's key.
        digest: One that the server allows: ``sha256``, ``sha512`` or the old ``sha1``.
        more: As for `HmacQuery`.
    """

    def __init__(self, *origins: str, key: bytes | str, digest: str = "sha256", **more: Any):
        super().__init__(
            *origins,
            key=key,
            message="{method}\n{expires}\n{path}",
            parameters={"temp_url_sig": "{signature}", "temp_url_expires": "{expires}"},
            digest=digest,
            **more,
        )


class SecureLink(HmacQuery):
    """Links of nginx's ``secure_link`` module: a plain MD5 with the key in its message.

    The defaults are for this configuration::

        secure_link $arg_md5,$arg_expires;
        secure_link_md5 "$secure_link_expires$uri KEY";

    Args:
        origins: As for `Signer`.
        key: The word in the configuration.
        message: The expression there; ``{key}`` stands for the word, ``{path}`` for ``$uri``.
        parameters: As for `HmacQuery`.
        more: As for `HmacQuery`.
    """

    def __init__(
        self,
        *origins: str,
        key: str,
        message: str = "{expires}{path} {key}",
        parameters: Mapping[str, str] | None = None,
        **more: Any,
    ) -> None:
        if "{key}" not in message:
            raise ConfigurationError("message has no {key} in it, so that anybody could sign")
        super().__init__(
            *origins,
            key=key,
            message=message.replace("{key}", key.replace("{", "{{").replace("}", "}}")),
            parameters=parameters or {"md5": "{signature}", "expires": "{expires}"},
            digest="md5",
            encoding="base64url",
            **more,
        )

    def path(self, url: str) -> bytes:
        """Return ``$uri``: decoded, and with single slashes."""
        return _SLASHES.sub(b"/", super().path(url))

    def digest(self, message: bytes) -> bytes:
        # The module knows no other one.
        return hashlib.md5(message, usedforsecurity=False).digest()


_ENCODE: Final[Mapping[str, Callable[[bytes], str]]] = {
    "hex": bytes.hex,
    "base64": lambda raw: base64.b64encode(raw).decode("ascii"),
    "base64url": lambda raw: base64.urlsafe_b64encode(raw).decode("ascii").rstrip("="),
}

_Template = tuple[tuple[str, str | None], ...]


def names(template: _Template) -> list[str]:
    """Return the names in a template."""
    return [name for _, name in template if name is not None]


def _template(text: str, known: frozenset[str]) -> _Template:
    try:
        parsed = [
            (literal, name, spec, conversion)
            for literal, name, spec, conversion in string.Formatter().parse(text)
        ]
    except ValueError:
        parsed = [("", "?", "", None)]
    template = tuple((literal, name) for literal, name, _, _ in parsed)
    wrong = [name for name in names(template) if name not in known]
    if wrong or any(spec or conversion for _, _, spec, conversion in parsed):
        # Not the text itself, which may have a key in it.
        raise ConfigurationError(
            "a template cannot be understood",
            hint=f"It may have {', '.join(f'{{{name}}}' for name in sorted(known))}; "
            "write {{ and }} for braces",
        )
    return template
