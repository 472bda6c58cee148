"""Source URLs, and the local URLs that stand for them.

Everything here works on raw text. Percent-encoding comes back exactly as it was given;
what a URL may not contain (spaces, non-ASCII, …) is percent-encoded as UTF-8, in the places
where browsers do it, so that a local URL survives being pasted into one.

A local path names its source (``url_for`` of a frontend puts its base URL before it)::

    https://example.com/v.mp4          /example.com/v.mp4
    http://example.com:8080/v.mp4      /http/example.com:8080/v.mp4
    https://intranet/v.mp4             /https/intranet/v.mp4
    s3://bucket/key                    /s3/bucket/key

The first segment is an authority if it contains ``.`` or ``:`` or begins with ``[``, and
otherwise a scheme. With a token ``/~TOKEN`` comes before all that, so that relative links
in a playlist keep it.

`InvalidURLError.status` says how a server answers: 404 when a target names no source at all
(no or an unknown scheme, `NOT_SOURCES`, a wrong or missing token), 400 when it names one
that cannot be.
"""

from __future__ import annotations

import hmac
import ipaddress
import re
from functools import lru_cache
from typing import Final, NoReturn
from urllib.parse import quote, unquote

import yarl

from cachestream.errors import InvalidURLError

__all__ = [
    "DEFAULT_PORTS",
    "NOT_SOURCES",
    "UNIX_URL",
    "default_key",
    "display",
    "local_path",
    "matches_token",
    "normalize",
    "normalize_host",
    "origin_form",
    "origin_of",
    "resolve_location",
    "same_origin",
    "source_of",
    "split_authority",
    "split_token",
]

DEFAULT_PORTS: Final = {"http": 80, "https": 443, "ws": 80, "wss": 443, "ftp": 21, "sftp": 22}
"""Ports that are left out of a normalised URL."""

NOT_SOURCES: Final = frozenset({"/favicon.ico", "/robots.txt"})
"""What browsers and crawlers ask any server for; never the name of a host."""

UNIX_URL: Final = "http://cachestream.localhost"
"""What local URLs begin with where only a Unix socket is listened on.

No origin is called so: a client has to be told of the socket, and then names any host.
"""

# RFC 3986 appendix B, in one piece.
_REFERENCE: Final = re.compile(
    r"(?:([^:/?#]+):)?(?://([^/?#]*))?([^?#]*)(?:\?([^#]*))?(?:#.*)?", re.DOTALL
)
# RFC 3986 allows a dot in a scheme, but no scheme that can be fetched has one, and the
# first segment of a local path could not be told from a host.
_SCHEME: Final = re.compile(r"[a-z][a-z0-9+-]*")
_AUTHORITY: Final = re.compile(r"(\[[^\[\]]*\]|[^:\[\]]*)(?::([0-9]*))?")
_LABEL: Final = re.compile(r"[a-z0-9_-]{1,63}")
_MAX_HOST: Final = 254  # with the final dot of a fully qualified name
_ABSOLUTE_FORM: Final = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://[^/?#]*")

_TOKEN_PREFIX: Final = re.compile(rf"({_ABSOLUTE_FORM.pattern})?/(?:~|%7E)([^/?#]*)", re.IGNORECASE)

_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f-\x9f]")
# Everything but what browsers leave alone in a path and in a query. A percent sign is left
# alone even where no two digits follow: the origin gets what the player was given.
_UNSAFE_IN_PATH: Final = re.compile(r"[^!$-;=@-\[\]_a-z|~]+")
_UNSAFE_IN_QUERY: Final = re.compile(r"[^!$-;=?-~]+")
# What nearly every request names, and what needs no change: looked at once instead of in parts.
_NORMAL: Final = re.compile(
    r"https?://[a-z0-9_-]{1,30}(?:\.[a-z0-9_-]{1,30}){0,6}/[!$-;=@-\[\]_a-z|~]*(?:\?[!$-;=?-~]*)?"
)
_MAYBE_DOTS: Final = re.compile(r"/(?:\.|%2e)", re.IGNORECASE)

# Clients that escape what they need not; no authority contains these characters escaped.
_ESCAPED: Final = {"%5b": "[", "%5d": "]", "%3a": ":"}
_ESCAPED_IN_AUTHORITY: Final = re.compile(r"%5b|%5d|%3a", re.IGNORECASE)

_LOCAL_FORM: Final = "Write /example.com/file, or /http/example.com/file"
_FULL_URL: Final = "Write the whole URL, as in https://example.com/file"


def _refuse(message: str, url: str, hint: str | None = None, status: int = 400) -> NoReturn:
    raise InvalidURLError(message, url=display(url), hint=hint, status=status) from None


# ---------------------------------------------------------------------------
# Source URLs
# ---------------------------------------------------------------------------

_REMEMBERED: Final = 512
"""How many results of a pure function are kept: a player asks for one URL many times."""


@lru_cache(_REMEMBERED)
def normalize(source: str) -> str:
    """Return the one spelling of a source URL that is used throughout.

    Scheme and host become lower case (an international host its ASCII form), a default port
    and the fragment go, an empty path becomes ``/``, dot segments are removed. The rest
    stays as it is, but for characters that a URL may not contain. Normalising twice changes
    nothing more.

    Raises:
        InvalidURLError: If the URL is relative, has no host, carries user information or
            control characters, or its scheme, host or port cannot be.
    """
    if _NORMAL.fullmatch(source) and not _MAYBE_DOTS.search(source):
        return source
    if _CONTROL.search(source):
        _refuse("a URL has no control characters", source, "Percent-encode them")
    match = _REFERENCE.fullmatch(source)
    scheme, authority, path, query = match.groups() if match else ("", None, "", None)
    if not scheme:
        _refuse("the URL has no scheme", source, _FULL_URL)
    scheme = scheme.lower()
    if not _SCHEME.fullmatch(scheme):
        _refuse("the URL has no valid scheme", source, _FULL_URL)
    if not authority:
        _refuse("the URL has no host", source, _FULL_URL)
    return f"{scheme}://{_authority(scheme, authority, source)}{_tail(path, query, source)}"


def _authority(scheme: str, authority: str, source: str) -> str:
    if "@" in authority:
        _refuse(
            "a URL must not carry a user name or password",
            source,
            "Configure credentials as request fields instead",
        )
    try:
        host, port = split_authority(authority)
    except ValueError as exc:
        _refuse(str(exc), source)
    if port is None or port == DEFAULT_PORTS.get(scheme):
        return host
    return f"{host}:{port}"


def split_authority(authority: str) -> tuple[str, int | None]:
    """Return host (as `normalize_host` gives it) and port of ``host[:port]``.

    Raises:
        ValueError: If host or port cannot be.
    """
    match = _AUTHORITY.fullmatch(authority)
    if match is None:
        raise ValueError("the host or port of the URL cannot be read")
    host, port = match.groups()
    if not port:  # an empty port is the default one (RFC 3986 §3.2.3)
        return normalize_host(host), None
    digits = port.lstrip("0")
    if not digits or len(digits) > 5 or int(digits) > 65535:
        raise ValueError("the port of the URL is not between 1 and 65535")
    return normalize_host(host), int(digits)


def normalize_host(host: str) -> str:
    """Return a host in lower case and ASCII; an IPv6 address in brackets, compressed.

    Raises:
        ValueError: If it is no host.
    """
    if host.startswith("["):
        return _ipv6(host)
    if not host.isascii() and len(host) <= _MAX_HOST:  # international names are slow to read
        host = _to_ascii(host)
    host = host.lower()
    # The final dot of a fully qualified name is no empty label.
    labels = host.removesuffix(".").split(".")
    if len(host) > _MAX_HOST or not all(map(_LABEL.fullmatch, labels)):
        raise ValueError("the host of the URL is not a host name")
    return host


def _ipv6(host: str) -> str:
    try:
        address = ipaddress.IPv6Address(host[1:-1])
    except ValueError:
        raise ValueError("the host of the URL is not an IPv6 address") from None
    if address.scope_id is not None:
        raise ValueError("an IPv6 address in a URL has no zone")
    mapped = address.ipv4_mapped  # spelled in one way by every version of Python
    return f"[{address.compressed}]" if mapped is None else f"[::ffff:{mapped}]"


def _to_ascii(host: str) -> str:
    try:
        encoded = yarl.URL.build(scheme="http", host=host).raw_host
    except ValueError:
        encoded = None
    if not encoded or not encoded.isascii():
        raise ValueError("the host of the URL is no international host name")
    return encoded


def _tail(path: str, query: str | None, source: str) -> str:
    path = path or "/"
    if _MAYBE_DOTS.search(path):
        path = _remove_dot_segments(path)
    try:
        path = _UNSAFE_IN_PATH.sub(_percent_encode, path)
        return path if query is None else f"{path}?{_UNSAFE_IN_QUERY.sub(_percent_encode, query)}"
    except UnicodeEncodeError:
        _refuse("the URL is not Unicode text", source)


def _percent_encode(match: re.Match[str]) -> str:
    # Servers decode bytes that are not UTF-8 to lone surrogates; they become those bytes again.
    return "".join(f"%{byte:02X}" for byte in match[0].encode("utf-8", "surrogateescape"))


def _remove_dot_segments(path: str) -> str:
    """Resolve ``.`` and ``..`` (RFC 3986 §5.2.4), escaped ones too (§6.2.2.2).

    Browsers take ``%2e`` for a dot here, so an escaped one would not come back anyway.
    """
    kept: list[str] = []
    segments = path.split("/")[1:]
    for segment in segments:
        plain = segment.lower().replace("%2e", ".")
        if plain == "..":
            del kept[-1:]
        elif plain != ".":
            kept.append(segment)
    if plain in {".", ".."}:
        kept.append("")
    return "/" + "/".join(kept)


@lru_cache(_REMEMBERED)
def origin_of(url: str) -> str:
    """Return ``scheme://host[:port]``, without a default port.

    Raises:
        InvalidURLError: As `normalize`.
    """
    url = normalize(url)
    return url[: url.index("/", url.index("://") + 3)]


def same_origin(a: str, b: str) -> bool:
    """Tell whether two URLs have the same scheme, host and port.

    Raises:
        InvalidURLError: As `normalize`, for either.
    """
    return origin_of(a) == origin_of(b)


def default_key(source: str) -> str:
    """Return the cache key of a source: its normalised URL, never less.

    Raises:
        InvalidURLError: As `normalize`.
    """
    return normalize(source)


def resolve_location(base: str, location: str) -> str:
    """Return where a Location field leads, normalised (RFC 9110 §10.2.2, RFC 3986 §5.2).

    Args:
        base: The URL that answered with it.
        location: The field value, absolute or relative.

    Raises:
        InvalidURLError: If it is empty, or leads to what is no source.
    """
    base = normalize(base)
    location = location.strip(" \t")
    match = _REFERENCE.fullmatch(location)
    if not location or match is None:
        _refuse("the redirect leads nowhere", base)
    scheme, authority, path, query = match.groups()
    if scheme is not None:
        return normalize(location)
    if authority is not None:
        return normalize(f"{base.partition(':')[0]}:{location}")
    start = base.index("/", base.index("://") + 3)
    base_path, mark, base_query = base[start:].partition("?")
    if not path:
        path = base_path
        query = base_query if query is None and mark else query
    elif not path.startswith("/"):
        path = base_path.rpartition("/")[0] + "/" + path
    return normalize(base[:start] + path + ("" if query is None else f"?{query}"))


# ---------------------------------------------------------------------------
# Local URLs
# ---------------------------------------------------------------------------


def local_path(source: str, *, token: str | None = None) -> str:
    """Return the path and query of the local URL that stands for ``source``.

    Raises:
        InvalidURLError: As `normalize`.
    """
    scheme, _, rest = normalize(source).partition("://")
    authority = rest.partition("/")[0]
    prefix = "" if token is None else f"/~{quote(token, safe='')}"
    if scheme == "https" and _is_authority(authority):
        return f"{prefix}/{rest}"
    return f"{prefix}/{scheme}/{rest}"


def source_of(target: str, *, token: str | None = None, schemes: frozenset[str]) -> str:
    """Return the source URL that a raw request target stands for, normalised.

    The inverse of `local_path`; the long form of a short path is understood too, and so is an
    absolute-form target, whose authority `cachestream.core.access` judges.

    Args:
        target: The request target as sent, or a local URL.
        token: The token that it must carry; None if it must carry none.
        schemes: The schemes that can be fetched, lower case.

    Raises:
        InvalidURLError: If it stands for no source; ``status`` is 404 or 400, see above.
    """
    target = origin_form(target)
    if token is not None:
        given, target = split_token(target)
        if not matches_token(given, token):
            raise InvalidURLError("there is nothing here", status=404)
    path, mark, query = target.partition("?")
    first, slash, rest = path[1:].partition("/")
    first = _unescape_authority(first)
    if path in NOT_SOURCES or not first:
        _refuse("the path names no source", target, _LOCAL_FORM, status=404)
    if first.endswith(":"):  # /https://example.com/file
        _refuse("a local path has no colon after a scheme", target, _LOCAL_FORM)
    if _is_authority(first):
        scheme, authority = "https", first
    else:
        scheme = first.lower()
        authority, slash, rest = rest.partition("/")
        authority = _unescape_authority(authority)
    if scheme not in schemes:
        _refuse("the path begins with no host and no known scheme", target, status=404)
    return normalize(f"{scheme}://{authority}{slash}{rest}{mark}{query}")


def _is_authority(segment: str) -> bool:
    return "." in segment or ":" in segment or segment.startswith("[")


def _unescape_authority(segment: str) -> str:
    return _ESCAPED_IN_AUTHORITY.sub(lambda match: _ESCAPED[match[0].lower()], segment)


def origin_form(target: str) -> str:
    """Return a request target without scheme, authority and fragment: ``/path?query``.

    Raises:
        InvalidURLError: If it is neither in origin form nor in absolute form
            (RFC 9112 §3.2); ``status`` is 400.
    """
    target = target.partition("#")[0]
    if target.startswith("/"):
        return target
    match = _ABSOLUTE_FORM.match(target)
    if match is None:
        _refuse("the request target is no path", target)
    rest = target[match.end() :]
    return rest if rest.startswith("/") else f"/{rest}"


def split_token(target: str) -> tuple[str | None, str]:
    """Return the token of a request target, decoded, and the target without it.

    The token is None when the target carries none. Never raises.
    """
    match = _TOKEN_PREFIX.match(target)
    if match is None:
        return None, target
    rest = target[match.end() :]
    return unquote(match[2]), (match[1] or "") + (rest if rest.startswith("/") else f"/{rest}")


def matches_token(given: str | None, token: str) -> bool:
    """Compare a given token with the right one, in a time that tells nothing about it."""
    return given is not None and hmac.compare_digest(
        given.encode("utf-8", "surrogatepass"), token.encode("utf-8", "surrogatepass")
    )


# ---------------------------------------------------------------------------
# For people
# ---------------------------------------------------------------------------

# Scheme and slashes, authority, path, query: looser than any grammar, since what is shown may
# be what could not be parsed.
_SHOWN: Final = re.compile(
    r"((?:[A-Za-z][A-Za-z0-9+.-]*:)?[/\\]+)?([^/\\?#]*)([^?#]*)(?:\?([^#]*))?.*", re.DOTALL
)
_PLAIN_AUTHORITY: Final = re.compile(r"(?:\[[^\[\]]*\]|[^:\[\]]*)(?::[0-9]*)?")
_LOOPBACK: Final = re.compile(r"(?:127\.[0-9.]+|localhost|\[::1\])(?::[0-9]*)?", re.IGNORECASE)
# A token, and user information where the host of the source begins: after the token, after the
# scheme, or at the very beginning.
_LOCAL_SECRETS: Final = re.compile(
    r"(/~)[^/]+(/[^/]*@)?|(/[a-z][a-z0-9+-]*/)[^/]*@|^(/)[^/]*@", re.IGNORECASE
)
_MASK: Final = "…"


def display(url: str) -> str:
    """Return a URL for logs and messages: no secrets, no control characters. Never raises.

    User information and the fragment are left out, the values of the query are masked; so is
    the token of a local URL.
    """
    match = _SHOWN.fullmatch(url)
    lead, authority, path, query = match.groups() if match else ("", "", "", None)
    lead = lead or ""
    authority = authority.rpartition("@")[2]
    if not _PLAIN_AUTHORITY.fullmatch(authority):
        # Perhaps a password with a slash in it: show no more than can be sure to be none.
        authority = authority.partition(":")[0] + f":{_MASK}"
        path = path.rpartition("@")[2]
    if not lead.strip("/\\"):
        lead, authority, path = "", "", lead + authority + path
    if not authority or _LOOPBACK.fullmatch(authority):
        path = _LOCAL_SECRETS.sub(_mask_local, path)
    text = lead + authority + path
    if query is not None:
        text += "?" + "&".join(map(_mask, query.split("&")))
    text = _CONTROL.sub(lambda found: f"\\x{ord(found[0]):02x}", text)
    return text.encode("utf-8", "backslashreplace").decode()


def _mask_local(found: re.Match[str]) -> str:
    if found[1]:
        return f"{found[1]}{_MASK}" + ("/" if found[2] else "")
    return found[3] or found[4]


def _mask(parameter: str) -> str:
    name, equals, value = parameter.partition("=")
    if not equals:  # perhaps the whole of it is a signature
        return _MASK if name else ""
    return f"{name}={_MASK if value else ''}"
