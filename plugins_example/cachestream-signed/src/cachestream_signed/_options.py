"""The options of the transport in a configuration: one line of text a rule."""

from __future__ import annotations

import base64
import binascii
import difflib
import os
import shlex
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final, NoReturn
from urllib.parse import unquote

import attrs
from cachestream import Settings
from cachestream.errors import ConfigurationError

from cachestream_signed._bearer import Bearer
from cachestream_signed._hmac_query import HmacQuery, SecureLink, TempUrl
from cachestream_signed._netrc import Netrc
from cachestream_signed._oauth2 import OAuth2
from cachestream_signed._signer import Signer
from cachestream_signed._sigv4 import SigV4
from cachestream_signed._tokens import TokenFile

__all__ = ["Options", "parse_rule"]

_TRUE: Final = {"yes": True, "true": True, "on": True, "no": False, "false": False, "off": False}


@attrs.frozen(kw_only=True)
class Options:
    """What ``[transport.signed]`` says."""

    rules: Mapping[str, str] = attrs.field(
        factory=dict,
        metadata={
            "help": "from origins (example.com, *.example.com:8443) to how to sign for them; "
            "the first that matches counts"
        },
    )

    def make_rules(self, settings: Settings) -> tuple[Signer, ...]:
        """Return the rules, in order.

        Raises:
            ConfigurationError: If one cannot be understood.
        """
        return tuple(parse_rule(key, text, settings) for key, text in self.rules.items())


def parse_rule(origins: str, text: str, settings: Settings | None = None) -> Signer:
    """Make a rule of its text: a kind, and words like ``name=value`` as a shell reads them.

    Secrets are not written into it: ``NAME_env`` names an environment variable that has one,
    ``NAME_file`` a file.

    Args:
        origins: One or more, with commas or spaces between them.
        text: Such as ``sigv4 region=eu-west-1 profile=films``.
        settings: Where the authorities are taken from that are trusted.

    Raises:
        ConfigurationError: If the kind or a word is unknown, or a secret is not there.

    Example:
        >>> parse_rule("media.example.com", "netrc file=/etc/cache/netrc")
        Netrc('media.example.com')
    """
    words = _Words(origins, text)
    maker = _KINDS.get(words.kind)
    if maker is None:
        words.fail(f"no kind of signature is called {words.kind!r}", words.kind, _KINDS)
    named = origins.replace(",", " ").split()
    if not named:
        words.fail("it names no origin")
    signer = maker(named, words, settings or Settings())
    words.finish()
    return signer


class _Words:
    """The words of a rule; each is taken once, and none may be left."""

    def __init__(self, origins: str, text: str) -> None:
        self._origins = origins
        self._taken: list[str] = []
        try:
            self.kind, *rest = shlex.split(text) or [""]
        except ValueError:
            self.fail("a quote is not closed")
        self._left: dict[str, str] = {}
        for word in rest:
            name, equals, value = word.partition("=")
            if not equals or name in self._left:
                self.fail("a word is not NAME=VALUE, or is there twice")
            self._left[name] = value

    def fail(self, problem: str, word: str = "", known: Any = ()) -> NoReturn:
        near = difflib.get_close_matches(word, known, n=1)
        hint = f"Did you mean {near[0]}?" if near else f"Known are: {', '.join(sorted(known))}"
        raise ConfigurationError(
            f"the rule for {self._origins!r} cannot be used: {problem}",
            hint=hint if known else "Write a kind and words, such as: sigv4 region=eu-west-1",
        )

    def finish(self) -> None:
        for name in self._left:
            self.fail(f"{self.kind} has no word {name!r}", name, self._taken)

    def take(self, *names: str) -> dict[str, Any]:
        """Return those of the words that are there."""
        self._taken += names
        return {name: self._left.pop(name) for name in names if name in self._left}

    def numbers(self, *names: str) -> dict[str, Any]:
        found = self.take(*names)
        for name, value in found.items():
            if not (value.isascii() and value.isdigit() and len(value) < 10):
                self.fail(f"{name} is a whole number of seconds")
        return {name: int(value) for name, value in found.items()}

    def switches(self, *names: str) -> dict[str, Any]:
        found = self.take(*names)
        for name, value in found.items():
            if value.lower() not in _TRUE:
                self.fail(f"{name} is yes or no")
        return {name: _TRUE[value.lower()] for name, value in found.items()}

    def secrets(self, *names: str, needed: bool = False) -> dict[str, Any]:
        """Return secrets by name, from where ``NAME_env`` and ``NAME_file`` say."""
        found = {}
        for name in names:
            if name in self._left:
                self.fail(f"{name} is a secret: name where it is, by {name}_env or {name}_file")
            value = self._secret(name)
            if value:
                found[name] = value
            elif needed:
                self.fail(f"it needs {name}_env or {name}_file")
        return found

    def _secret(self, name: str) -> str | None:
        place = self.take(f"{name}_env", f"{name}_file")
        if len(place) > 1:
            self.fail(f"{name}_env and {name}_file are there: one is enough")
        for word, where in place.items():
            if word.endswith("_env"):
                value = os.environ.get(where)
                if not value:
                    self.fail(f"the environment has no {where}")
                return value
            try:
                value = Path(where).expanduser().read_text("utf-8").strip()
            except (OSError, ValueError, RuntimeError):
                self.fail(f"the file {where} cannot be read")
            if not value:
                self.fail(f"the file {where} is empty")
            return value
        return None

    def more(self) -> dict[str, Any]:
        """Return what every kind of signature has."""
        return self.switches("follow_redirects", "allow_http")

    def parameters(self) -> dict[str, Any]:
        """Return parameters of a query and their templates: ``sig={signature}&end={expires}``."""
        found = self.take("parameters")
        if not found:
            return {}
        pairs = (each.partition("=") for each in found["parameters"].split("&"))
        return {"parameters": {name: unquote(value) for name, _, value in pairs}}


def _sigv4(origins: list[str], words: _Words, settings: Settings) -> Signer:
    return SigV4(
        *origins,
        **words.take("region", "service", "profile"),
        **words.secrets("access_key", "secret_key", "session_token"),
        **words.switches("query"),
        **words.numbers("lifetime"),
        **words.more(),
    )


def _bearer(origins: list[str], words: _Words, settings: Settings) -> Signer:
    file = words.take("token_file")
    token = TokenFile(file["token_file"]) if file else words.secrets("token", needed=True)["token"]
    return Bearer(*origins, token=token, **words.more())


def _oauth2(origins: list[str], words: _Words, settings: Settings) -> Signer:
    given = words.take(
        "token_url", "client_id", "scope", "audience", "auth_method", "refresh_token_file"
    )
    for name in ("token_url", "client_id"):
        if name not in given:
            words.fail(f"it needs {name}")
    source = OAuth2(
        given.pop("token_url"),
        client_id=given.pop("client_id"),
        **given,
        **words.secrets("client_secret"),
        ca_file=settings.ca_file,
    )
    return Bearer(*origins, token=source, **words.more())


def _netrc(origins: list[str], words: _Words, settings: Settings) -> Signer:
    return Netrc(*origins, **words.take("file"), **words.more())


def _tempurl(origins: list[str], words: _Words, settings: Settings) -> Signer:
    return TempUrl(
        *origins,
        **words.secrets("key", needed=True),
        **words.take("digest"),
        **words.numbers("lifetime"),
        **words.more(),
    )


def _secure_link(origins: list[str], words: _Words, settings: Settings) -> Signer:
    return SecureLink(
        *origins,
        **words.secrets("key", needed=True),
        **words.take("message"),
        **words.parameters(),
        **words.numbers("lifetime"),
        **words.more(),
    )


def _hmac(origins: list[str], words: _Words, settings: Settings) -> Signer:
    key = words.secrets("key", needed=True)["key"]
    coded = words.take("key_encoding").get("key_encoding", "text")
    decode = _KEYS.get(coded)
    if decode is None:
        words.fail(f"no key is encoded as {coded!r}", coded, _KEYS)
    try:
        decoded = decode(key)
    except (binascii.Error, ValueError):
        words.fail(f"the key is not {coded}")
    parameters = words.parameters()
    if not parameters:
        words.fail("it needs parameters='NAME={signature}&NAME={expires}'")
    return HmacQuery(
        *origins,
        key=decoded,
        **parameters,
        **words.take("message", "digest", "encoding"),
        **words.numbers("lifetime"),
        **words.more(),
    )


_KEYS: Final[Mapping[str, Callable[[str], bytes]]] = {
    "text": str.encode,
    "hex": bytes.fromhex,
    "base64": lambda text: base64.b64decode(text, validate=True),
}

_KINDS: Final[Mapping[str, Callable[[list[str], _Words, Settings], Signer]]] = {
    "bearer": _bearer,
    "hmac": _hmac,
    "netrc": _netrc,
    "oauth2": _oauth2,
    "secure_link": _secure_link,
    "sigv4": _sigv4,
    "tempurl": _tempurl,
}
