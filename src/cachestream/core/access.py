"""Who may come in, and which upstreams may be named.

The rules guard a listener on loopback against web pages (DNS rebinding, cross-site requests),
against other users of the machine (a token), and against being used as an open proxy.
"""

from __future__ import annotations

import ipaddress
import re
from typing import Final, TypeAlias

import attrs

from cachestream.core.fields import Fields
from cachestream.core.urls import (
    DEFAULT_PORTS,
    matches_token,
    origin_of,
    split_authority,
    split_token,
)
from cachestream.errors import ConfigurationError, InvalidURLError

__all__ = [
    "AccessPolicy",
    "Denial",
    "UpstreamPolicy",
    "cors_fields",
    "is_metadata_address",
    "is_public_address",
    "judge_client",
]


# ---------------------------------------------------------------------------
# Clients
# ---------------------------------------------------------------------------


def _lower(values: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(value.strip().lower().removesuffix("/") for value in values)


@attrs.frozen(kw_only=True)
class AccessPolicy:
    """Which clients may ask.

    Attributes:
        token: The secret that every request target must carry; None for none.
        server_names: Further values of Host to answer to; one without a port goes with any.
        allow_origins: Web origins whose pages may read from here, ``https://example.com``;
            ``*`` for all, ``null`` for sandboxed ones.
    """

    token: str | None = attrs.field(default=None, repr=False)
    server_names: tuple[str, ...] = attrs.field(default=(), converter=_lower)
    allow_origins: tuple[str, ...] = attrs.field(default=(), converter=_lower)

    def __attrs_post_init__(self) -> None:
        if self.token == "":
            raise ConfigurationError("an empty token protects nothing", hint="Leave it out")

    def allows_origin(self, origin: str) -> bool:
        """Tell whether a page of ``origin``, as in an Origin field, may read from here."""
        return "*" in self.allow_origins or origin.lower() in self.allow_origins


@attrs.frozen
class Denial:
    """Why a request is not let in: the status to answer, and one line for the client."""

    status: int
    detail: str


_MISDIRECTED: Final = Denial(421, "this server does not answer to that host name")
_FOREIGN_PAGE: Final = Denial(403, "pages of other sites may not read from here")
_NOT_HERE: Final = Denial(404, "there is nothing here")

_ABSOLUTE_FORM: Final = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://([^/?#]*)")
_PORT: Final = re.compile(r"[0-9]{1,5}")
_ORIGIN: Final = re.compile(r"https?://(.+)", re.IGNORECASE)


def judge_client(
    target: str, fields: Fields, served: frozenset[str], policy: AccessPolicy
) -> Denial | None:
    """Judge whether a request may be answered at all; None if it may.

    In this order: a Host (and the authority of an absolute-form target) that is not one of
    ours is 421, which stops DNS rebinding; a request that another site's page makes is 403,
    unless it is a top-level navigation or the origin is allowed; a wrong or missing token is
    404, and so tells nothing.

    Args:
        target: The raw request target.
        fields: The request's fields.
        served: Authorities the listener answers to, lower case with port. Empty when the
            frontend has checked the Host itself.
        policy: What is configured.
    """
    hosts, sites, modes, destinations, origins = _gather(fields)
    if served:
        if len(hosts) != 1 or not _is_ours(hosts[0], served, policy):
            return _MISDIRECTED
        absolute = _ABSOLUTE_FORM.match(target)
        if absolute is not None and not _is_ours(absolute[1], served, policy):
            return _MISDIRECTED
    own = hosts[0].lower() if len(hosts) == 1 else None
    for origin in origins:
        if not policy.allows_origin(origin) and not _is_own_origin(origin, own):
            return _FOREIGN_PAGE
    if any(site not in _OWN_SITES for site in sites):
        navigates = modes == ["navigate"] and destinations == ["document"]
        # An origin that got here is allowed, or our own under the name the page used.
        if not navigates and not any(map(policy.allows_origin, origins)):
            return _FOREIGN_PAGE
    if policy.token is not None and not matches_token(split_token(target)[0], policy.token):
        return _NOT_HERE
    return None


# "none" is a person who typed or opened the URL. A value that is not known yet is foreign.
_OWN_SITES: Final = frozenset({"same-origin", "none"})

_GATHERED: Final = {
    "host": 0,
    "sec-fetch-site": 1,
    "sec-fetch-mode": 2,
    "sec-fetch-dest": 3,
    "origin": 4,
}


def _gather(fields: Fields) -> tuple[list[str], ...]:
    """Collect what is judged in one pass: this is on the path of every request."""
    found: tuple[list[str], ...] = ([], [], [], [], [])
    for name, value in fields:
        index = _GATHERED.get(name.lower())
        if index is not None:
            found[index].append(value)
    return found


def _is_ours(authority: str, served: frozenset[str], policy: AccessPolicy) -> bool:
    """Compare literally: no trailing dot, user information or other spelling is understood."""
    authority = authority.lower()
    if authority in served or authority in policy.server_names:
        return True
    name, colon, port = authority.rpartition(":")
    return bool(colon) and _PORT.fullmatch(port) is not None and name in policy.server_names


def _is_own_origin(origin: str, own: str | None) -> bool:
    match = _ORIGIN.fullmatch(origin)
    return match is not None and match[1].lower() == own


# What a player in a page needs to read beyond the fields that CORS always shows.
_EXPOSED: Final = (
    "Accept-Ranges, Age, Cache-Status, Content-Disposition, Content-Encoding, Content-Range, "
    "Date, ETag, Server-Timing"
)


def cors_fields(fields: Fields, policy: AccessPolicy) -> tuple[tuple[str, str], ...]:
    """Return the CORS fields of an answer to a request with these fields.

    Nothing is sent unless origins are configured; then every answer varies by Origin, and one
    to an allowed origin names it. Credentials are never allowed.
    """
    if not policy.allow_origins:
        return ()
    vary = ("Vary", "Origin")
    origins = fields.get_all("origin")
    if len(origins) != 1 or not policy.allows_origin(origins[0]):
        return (vary,)
    if origins[0] != "null" and not _SERIALIZED_ORIGIN.fullmatch(origins[0]):
        return (vary,)
    return (
        ("Access-Control-Allow-Origin", origins[0]),
        ("Access-Control-Expose-Headers", _EXPOSED),
        vary,
    )


_SERIALIZED_ORIGIN: Final = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://[A-Za-z0-9._:\[\]-]+")


# ---------------------------------------------------------------------------
# Upstreams
# ---------------------------------------------------------------------------


@attrs.frozen
class UpstreamPolicy:
    """Which upstream hosts a client may name.

    Attributes:
        allow_hosts: ``example.com`` (on any port), ``example.com:8080``, ``*.example.com``
            (its subdomains, not itself), an origin ``https://example.com``, or ``any``.

    Raises:
        ConfigurationError: If an entry is none of these.
    """

    allow_hosts: tuple[str, ...] = ()
    any: bool = attrs.field(init=False, eq=False, repr=False)
    _exact: frozenset[str] = attrs.field(init=False, eq=False, repr=False)
    _suffixes: tuple[tuple[str, int | None], ...] = attrs.field(init=False, eq=False, repr=False)

    def __attrs_post_init__(self) -> None:
        exact: set[str] = set()
        suffixes: list[tuple[str, int | None]] = []
        for entry in self.allow_hosts:
            try:
                _add_entry(entry.strip(), exact, suffixes)
            except ValueError as exc:
                raise ConfigurationError(
                    f"allow_hosts has {entry!r}, which is no host",
                    hint="Use example.com, example.com:8080, *.example.com or any",
                ) from exc
        object.__setattr__(self, "any", "any" in exact)
        object.__setattr__(self, "_exact", frozenset(exact))
        object.__setattr__(self, "_suffixes", tuple(suffixes))

    def allows(self, url: str) -> bool:
        """Tell whether the host of ``url`` may be asked; never for what is no URL."""
        try:
            origin = origin_of(url)
        except InvalidURLError:
            return False
        if self.any or origin in self._exact:
            return True
        scheme, _, authority = origin.partition("://")
        host, port = _split_normal(authority)
        port = DEFAULT_PORTS.get(scheme) if port is None else port
        if host in self._exact or f"{host}:{port}" in self._exact:
            return True
        for suffix, wanted in self._suffixes:
            if host.endswith(suffix) and wanted in {None, port}:
                return True
        return False


def _add_entry(entry: str, exact: set[str], suffixes: list[tuple[str, int | None]]) -> None:
    if "://" in entry:
        exact.add(origin_of(entry))
    elif entry.startswith("*."):
        host, port = split_authority(entry[2:])
        suffixes.append((f".{host}", port))
    else:
        host, port = split_authority(_bracketed(entry))
        exact.add(host if port is None else f"{host}:{port}")


def _split_normal(authority: str) -> tuple[str, int | None]:
    """Split an authority that is normalised already."""
    if authority.endswith("]") or ":" not in authority:
        return authority, None
    host, _, port = authority.rpartition(":")
    return host, int(port)


def _bracketed(entry: str) -> str:
    """Let people write ``::1`` for ``[::1]``."""
    return f"[{entry}]" if entry.count(":") > 1 and "[" not in entry else entry


# ---------------------------------------------------------------------------
# Addresses
# ---------------------------------------------------------------------------

_Address: TypeAlias = ipaddress.IPv4Address | ipaddress.IPv6Address
_Network: TypeAlias = ipaddress.IPv4Network | ipaddress.IPv6Network


def _networks(*texts: str) -> tuple[_Network, ...]:
    return tuple(map(ipaddress.ip_network, texts))


# Where clouds tell a machine its secrets.
_METADATA: Final = _networks(
    "169.254.0.0/16",  # link-local: AWS, Azure, Google, Oracle, OpenStack and more
    "fe80::/10",
    "100.100.100.200/32",  # Alibaba
    "168.63.129.16/32",  # Azure's platform
    "192.0.0.192/32",  # Oracle, of old
    "fd00:ec2::254/128",  # AWS
    "fd20:ce::254/128",  # Google
    "fd00:c1::a9fe:a9fe/128",  # Oracle
)

# `is_global` calls these global, or did in some version of Python.
_NOT_PUBLIC: Final = _networks(
    "100.64.0.0/10",  # carriers' shared space
    "192.0.0.0/24",  # protocol assignments
    "192.88.99.0/24",  # 6to4 relays
    "2001::/23",  # protocol assignments, Teredo among them
    "2002::/16",  # 6to4: any IPv4 address in disguise
    "3fff::/20",  # documentation
)

# Elsewhere lie NAT64 (64:ff9b::/96, 64:ff9b:1::/48), IPv4-compatible and translated addresses,
# local and unassigned ones.
_GLOBAL_UNICAST: Final = ipaddress.IPv6Network("2000::/3")

_NAT64: Final = ipaddress.IPv6Network("64:ff9b::/96")
_COMPATIBLE: Final = _networks("::/96", "::ffff:0:0:0/96")


def is_metadata_address(address: str) -> bool:
    """Tell whether an IP address is link-local or a cloud's metadata service.

    IPv4 addresses in disguise (mapped, NAT64, 6to4, Teredo, …) are looked through. Text that is no
    IP address counts as one: what cannot be judged is not to be asked.
    """
    parsed = _parse_address(address)
    return parsed is None or any(
        each.version == network.version and each in network
        for each in _disguises(parsed)
        for network in _METADATA
    )


def is_public_address(address: str) -> bool:
    """Tell whether an IP address is surely one of the public internet.

    Stricter than `ipaddress`'s ``is_global``: addresses that hide another one (NAT64, 6to4,
    Teredo) are not public, mapped ones are judged as what they map, and text that is no IP
    address is not public either.
    """
    parsed = _parse_address(address)
    if isinstance(parsed, ipaddress.IPv6Address):
        parsed = parsed.ipv4_mapped or parsed
    if parsed is None or not parsed.is_global or parsed.is_multicast:
        return False
    if isinstance(parsed, ipaddress.IPv6Address) and parsed not in _GLOBAL_UNICAST:
        return False
    return not any(
        parsed.version == network.version and parsed in network for network in _NOT_PUBLIC
    )


def _parse_address(address: str) -> _Address | None:
    text = address.strip().removeprefix("[").removesuffix("]").partition("%")[0]
    try:
        return ipaddress.ip_address(text)
    except ValueError:
        return None


def _disguises(address: _Address) -> tuple[_Address, ...]:
    """Return the address and whatever IPv4 address it may stand for."""
    if isinstance(address, ipaddress.IPv4Address):
        return (address,)
    hidden = [address.ipv4_mapped, address.sixtofour, *(address.teredo or ())]
    if address in _NAT64 or any(address in network for network in _COMPATIBLE):
        hidden.append(ipaddress.IPv4Address(int(address) & 0xFFFF_FFFF))
    return (address, *(each for each in hidden if each is not None))
