"""Which URLs a rule is for."""

from __future__ import annotations

import ipaddress
import re
from typing import Final, Self

import attrs
import yarl
from cachestream.errors import ConfigurationError

__all__ = ["OriginPattern", "is_loopback", "same_origin"]

_PATTERN: Final = re.compile(
    r"(?:(?P<scheme>https?)://)?"
    r"(?P<host>\[[0-9A-Fa-f:.]+\]|[^\s/:@\[\]?#]+)"
    r"(?::(?P<port>\*|[0-9]{1,5}))?/?",
    re.IGNORECASE,
)
_HOST: Final = re.compile(r"[a-z0-9_-]+(?:\.[a-z0-9_-]+)*")
_DEFAULT_PORTS: Final = {"http": 80, "https": 443}
_HINT: Final = "Write example.com, *.example.com, example.com:8443 or http://nas.local:8080"


@attrs.frozen
class OriginPattern:
    """One or more origins: ``[scheme://]host[:port]``.

    Without a scheme it is https, and http too where the host is this machine. Without a port
    it is the scheme's own; ``:*`` is any. ``*.example.com`` is every host below example.com,
    but not that one. ``*`` alone is every host.

    Attributes:
        text: As it was written.
        schemes: Those that match.
        host: In lower case and ASCII, without ``*.``; empty for every host.
        port: None for the scheme's own, 0 for any.
        subdomains: Whether it is hosts below ``host`` that match.
    """

    text: str
    schemes: frozenset[str]
    host: str
    port: int | None = None
    subdomains: bool = False

    @classmethod
    def parse(cls, text: str) -> Self:
        """Make one from its text.

        Raises:
            ConfigurationError: If it names no origin.
        """
        match = _PATTERN.fullmatch(text)
        if match is None:
            raise ConfigurationError(f"{text!r} names no origin", hint=_HINT)
        scheme, host, port = (match["scheme"] or "").lower(), match["host"], match["port"]
        subdomains = host.startswith("*.")
        name = "" if host == "*" else _normal(host.removeprefix("*."), text)
        if scheme:
            schemes = frozenset({scheme})
        else:
            local = is_loopback(name) or not name
            schemes = frozenset({"https", "http"}) if local else frozenset({"https"})
        number = None if port is None else 0 if port == "*" else int(port)
        if number is not None and port != "*" and not 0 < number < 65536:
            raise ConfigurationError(f"the port of {text!r} is not between 1 and 65535", hint=_HINT)
        return cls(text, schemes, name, 0 if not name and port is None else number, subdomains)

    @property
    def is_plain(self) -> bool:
        """Whether it lets requests go to another machine without TLS."""
        return "http" in self.schemes and bool(self.host) and not is_loopback(self.host)

    def matches(self, url: str) -> bool:
        """Tell whether ``url`` is at one of these origins. Never raises."""
        origin = _origin(url)
        if origin is None:
            return False
        scheme, host, port = origin
        if scheme not in self.schemes:
            return False
        if not self.host:
            return scheme == "https" or is_loopback(host)
        if port != (_DEFAULT_PORTS[scheme] if self.port is None else self.port or port):
            return False
        return host.endswith(f".{self.host}") if self.subdomains else host == self.host


def same_origin(a: str, b: str) -> bool:
    """Tell whether two URLs have one scheme, host and port; False if either has none."""
    first = _origin(a)
    return first is not None and first == _origin(b)


def is_loopback(host: str) -> bool:
    """Tell whether a host, in lower case and without brackets, is this machine."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _origin(url: str) -> tuple[str, str, int] | None:
    try:
        parsed = yarl.URL(url, encoded=True)
        scheme, host, port = parsed.scheme.lower(), parsed.raw_host, parsed.port
    except ValueError:
        return None
    if scheme not in _DEFAULT_PORTS or not host or port is None:
        return None
    try:
        if ":" in host:
            host = ipaddress.IPv6Address(host).compressed
    except ValueError:
        return None
    return scheme, host.lower().removesuffix("."), port


def _normal(host: str, text: str) -> str:
    """Return a host as it stands in a URL that was normalised, without brackets."""
    if "*" in host:
        raise ConfigurationError(f"{text!r} has a * that is not its first label", hint=_HINT)
    try:
        if host.startswith("["):
            return ipaddress.IPv6Address(host[1:-1]).compressed
        name = (yarl.URL.build(scheme="http", host=host).raw_host or "").lower().removesuffix(".")
    except ValueError:
        name = ""
    if not _HOST.fullmatch(name):
        raise ConfigurationError(f"the host of {text!r} is no host name", hint=_HINT)
    return name
