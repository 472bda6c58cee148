"""The local URLs of a frontend: what it is called, and which source a URL of its own names."""

from __future__ import annotations

import re
from typing import Final

import attrs

from cachestream.core.urls import (
    DEFAULT_PORTS,
    display,
    local_path,
    normalize,
    origin_form,
    source_of,
)
from cachestream.errors import ConfigurationError, InvalidURLError

__all__ = ["LOOPBACK_NAMES", "LocalUrls", "authorities_of", "check_base_url", "host_value"]

LOOPBACK_NAMES: Final = ("127.0.0.1", "localhost", "[::1]")
"""What the loopback is called in a URL; a listener there answers to all of them."""

_ANY: Final = "*"
_HOST: Final = re.compile(r"(?:\[[0-9a-f:.]+\]|[a-z0-9._-]+)(?::[0-9]{1,5})?")


def check_base_url(url: str) -> str:
    """Return the URL that clients see before every local path, without a final slash.

    Raises:
        ConfigurationError: If it is no http or https URL, or has a query or a fragment.
    """
    hint = "Write it as clients see it, such as https://films.example/media"
    try:
        base = normalize(url)
    except InvalidURLError as error:
        message = f"{display(url)} is no base URL: {error.message}"
        raise ConfigurationError(message, hint=hint) from error
    if base.partition("://")[0] not in ("http", "https") or "?" in base or "#" in url:
        raise ConfigurationError(f"{display(url)} is no base URL", hint=hint)
    return base.rstrip("/")


def host_value(name: str) -> str:
    """Return a further value that Host may have, in lower case; ``*`` stands for all.

    Raises:
        ConfigurationError: If it is no host with or without a port.
    """
    lower = name.strip().lower()
    if lower != _ANY and not _HOST.fullmatch(lower):
        raise ConfigurationError(
            f"{name!r} is no host to answer to", hint="Write films.example or films.example:8443"
        )
    return lower


def authorities_of(base: str) -> frozenset[str]:
    """Return what Host says in requests to a base URL: with a default port, or without it."""
    scheme, _, rest = base.partition("://")
    authority = rest.partition("/")[0]
    host, colon, port = authority.rpartition(":")
    if not colon or authority.endswith("]"):
        host, port = authority, str(DEFAULT_PORTS[scheme])
    default = int(port) == DEFAULT_PORTS[scheme]
    names = LOOPBACK_NAMES if host in LOOPBACK_NAMES else (host,)
    found = {f"{name}:{port}" for name in names}
    return frozenset(found.union(names) if default else found)


@attrs.frozen(kw_only=True)
class LocalUrls:
    """Maps sources to local URLs and back.

    Attributes:
        base: What every local URL begins with, without a final slash.
        authorities: Hosts (with port, unless it is the default one) of local URLs.
        schemes: URL schemes that can be fetched, lower case.
        token: The secret first segment of every local path, None for none.
        protocols: What a local URL may begin with, ``http`` and ``https``.
    """

    base: str
    authorities: frozenset[str]
    schemes: frozenset[str]
    token: str | None = attrs.field(default=None, repr=False)
    protocols: frozenset[str] = frozenset({"http"})
    _prefix: str = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        _, slash, path = self.base.partition("://")[2].partition("/")
        object.__setattr__(self, "_prefix", slash + path)

    def url_for(self, source: str) -> str:
        """Return the local URL of ``source``; of a local URL, itself.

        Raises:
            InvalidURLError: If ``source`` is no URL that can be fetched.
        """
        if self.is_local(source):
            if self.source_for(source) is None:
                raise InvalidURLError("this local URL stands for no source", url=display(source))
            return source
        scheme = normalize(source).partition("://")[0]
        if scheme not in self.schemes:
            raise InvalidURLError(
                f"no transport serves {scheme!r} URLs",
                url=display(source),
                hint="Known schemes: " + ", ".join(sorted(self.schemes)),
            )
        return self.base + local_path(source, token=self.token)

    def source_for(self, url: str) -> str | None:
        """Return the source URL of a local URL, None if it is none of ours."""
        if not self.is_local(url):
            return None
        try:
            target = origin_form(url).removeprefix(self._prefix)
            return source_of(target, token=self.token, schemes=self.schemes)
        except InvalidURLError:
            return None

    def is_local(self, url: str) -> bool:
        """Tell whether a URL leads here, by any of the names."""
        scheme, mark, rest = url.partition("://")
        if not mark or scheme.lower() not in self.protocols:
            return False
        named, slash, path = rest.replace("?", "/").replace("#", "/").partition("/")
        if named.lower() not in self.authorities:
            return False
        return f"{slash}{path}/".startswith(f"{self._prefix}/")
