"""HTTP fields as an immutable value, and which of them may be kept (RFC 9110 §5)."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from typing import Final

import attrs

__all__ = [
    "ESSENTIAL",
    "HOP_BY_HOP",
    "MAX_FIELD_BYTES",
    "MAX_LINES",
    "MAX_TOTAL_BYTES",
    "NEVER_STORED",
    "Fields",
    "end_to_end",
    "is_field_value",
    "is_token",
    "parse_directives",
    "split_list",
    "storable_fields",
]


@attrs.frozen(repr=False)
class Fields:
    """Field lines in the order they came; names compare without case.

    Names keep the spelling they came with. Repeated names stay separate lines, so that
    ``Set-Cookie`` is never joined.

    Example:
        >>> fields = Fields.of(("ETag", '"a"'), ("Vary", "Accept"), ("vary", "Cookie"))
        >>> fields.get("etag"), fields.joined("Vary")
        ('"a"', 'Accept, Cookie')
    """

    lines: tuple[tuple[str, str], ...] = ()

    @classmethod
    def of(cls, *lines: tuple[str, str]) -> Fields:
        """Make fields from name and value pairs."""
        return cls(lines)

    @classmethod
    def parse(cls, lines: Iterable[tuple[str, str]]) -> Fields:
        """Make fields from any iterable of name and value pairs (a mapping's items)."""
        return cls(tuple((str(name), str(value)) for name, value in lines))

    def __iter__(self) -> Iterator[tuple[str, str]]:
        return iter(self.lines)

    def __len__(self) -> int:
        return len(self.lines)

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and self.get(name) is not None

    def __repr__(self) -> str:
        # Values may hold credentials; names are enough to understand a log line.
        return f"Fields({', '.join(name for name, _ in self.lines)})"

    def get(self, name: str, default: str | None = None) -> str | None:
        """Return the value of the first line with this name."""
        wanted = name.lower()
        for key, value in self.lines:
            if key.lower() == wanted:
                return value
        return default

    def get_all(self, name: str) -> tuple[str, ...]:
        """Return the values of all lines with this name, in order."""
        wanted = name.lower()
        return tuple(value for key, value in self.lines if key.lower() == wanted)

    def joined(self, name: str) -> str | None:
        """Return all values of a list field as one (RFC 9110 §5.3); None if absent."""
        values = self.get_all(name)
        return ", ".join(values) if values else None

    def replace(self, *lines: tuple[str, str]) -> Fields:
        """Return these fields with the given names set to the given values."""
        gone = {name.lower() for name, _ in lines}
        kept = tuple(line for line in self.lines if line[0].lower() not in gone)
        return Fields(kept + lines)

    def without(self, *names: str) -> Fields:
        """Return these fields less those names."""
        gone = {name.lower() for name in names}
        return Fields(tuple(line for line in self.lines if line[0].lower() not in gone))

    def filter(self, keep: Callable[[str], bool]) -> Fields:
        """Return the lines whose lower-case name passes ``keep``."""
        return Fields(tuple(line for line in self.lines if keep(line[0].lower())))


# ---------------------------------------------------------------------------
# Grammar
# ---------------------------------------------------------------------------

_TOKEN: Final = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")

# Control characters would split a message or a log line. Lone surrogates are bytes that were
# not UTF-8; they cannot be sent on as text.
_UNSENDABLE: Final = re.compile(r"[\x00-\x08\x0a-\x1f\x7f\ud800-\udfff]")

_OWS: Final = " \t"

# A quoted string may hold commas, and quoted pairs; one that is never closed reaches to the end.
_ELEMENT: Final = re.compile(r'(?:[^,"]+|"(?:[^"\\]|\\.)*(?:"|\\?\Z))+', re.DOTALL)
_QUOTED: Final = re.compile(r'"((?:[^"\\]|\\.)*)"', re.DOTALL)
_QUOTED_PAIR: Final = re.compile(r"\\(.)", re.DOTALL)


def is_token(text: str) -> bool:
    """Tell whether ``text`` is a token: a field name, a directive (RFC 9110 §5.6.2)."""
    return _TOKEN.fullmatch(text) is not None


def is_field_value(text: str) -> bool:
    """Tell whether ``text`` may be sent as a field value: nothing in it can split a message."""
    return _UNSENDABLE.search(text) is None


def split_list(value: str) -> tuple[str, ...]:
    """Return the elements of a list field (RFC 9110 §5.6.1).

    Commas in quoted strings do not split. White space around elements is removed, empty
    elements are dropped, quotes stay. Not for entity tags, in which a backslash escapes
    nothing.
    """
    elements = (match[0].strip(_OWS) for match in _ELEMENT.finditer(value))
    return tuple(element for element in elements if element)


def parse_directives(value: str) -> dict[str, str | None]:
    """Read a list of directives, as in Cache-Control (RFC 9111 §5.2).

    Returns:
        Lower-case names with their arguments, None where there is none; quoted strings are
        unquoted. The first of two directives with one name counts. What is no directive is
        left out.
    """
    directives: dict[str, str | None] = {}
    for element in split_list(value):
        name, equals, argument = element.partition("=")
        if is_token(name):
            directives.setdefault(name.lower(), _unquote(argument) if equals else None)
    return directives


def _unquote(text: str) -> str:
    match = _QUOTED.fullmatch(text)
    return text if match is None else _QUOTED_PAIR.sub(r"\1", match[1])


# ---------------------------------------------------------------------------
# Which fields go on, and which are kept
# ---------------------------------------------------------------------------

MAX_LINES: Final = 100
"""How many field lines of an origin are kept."""

MAX_FIELD_BYTES: Final = 8 * 1024
"""A field value of more bytes than this is dropped."""

MAX_TOTAL_BYTES: Final = 64 * 1024
"""How many bytes all field lines of an origin may take; later ones are dropped."""

HOP_BY_HOP: Final = frozenset(
    {
        "connection",
        "http2-settings",
        "keep-alive",
        "proxy-authenticate",
        "proxy-authentication-info",
        "proxy-authorization",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    }
)
"""Fields that are meant for one connection (RFC 9110 §7.6.1, RFC 9111 §3.1)."""

NEVER_STORED: Final = frozenset(
    {
        # Who the user is.
        "authentication-info",
        "authorization",
        "cookie",
        "cookie2",
        "set-cookie",
        "set-cookie2",
        "set-login",
        "www-authenticate",
        # What the origin says of itself as a site, where it is reached, whom it trusts. Sent
        # from our own origin it would bind, or open, everything else that we serve.
        "accept-ch",
        "activate-storage-access",
        "alt-svc",
        "alt-used",
        "clear-site-data",
        "content-security-policy",
        "content-security-policy-report-only",
        "critical-ch",
        "cross-origin-embedder-policy",
        "cross-origin-embedder-policy-report-only",
        "cross-origin-opener-policy",
        "cross-origin-opener-policy-report-only",
        "cross-origin-resource-policy",
        "document-policy",
        "expect-ct",
        "feature-policy",
        "nel",
        "origin-agent-cluster",
        "permissions-policy",
        "public-key-pins",
        "public-key-pins-report-only",
        "refresh",
        "report-to",
        "reporting-endpoints",
        "service-worker-allowed",
        "speculation-rules",
        "strict-transport-security",
        "timing-allow-origin",
        "x-frame-options",
    }
)
"""Fields bound to a user, a connection or the origin's own site; never stored or replayed.

`storable_fields` adds every name that begins with ``proxy-``, ``sec-``, ``access-control-`` or
``attribution-reporting-``.
"""

_NEVER_STORED_PREFIXES: Final = ("access-control-", "attribution-reporting-", "proxy-", "sec-")

# Said by `Representation.complete_length`, or true of one message only.
_OF_THE_MESSAGE: Final = frozenset({"content-length", "content-range", "transfer-encoding"})

ESSENTIAL: Final = frozenset(
    {
        "accept-ranges",
        "age",
        "cache-control",
        "content-encoding",
        "content-length",
        "content-type",
        "date",
        "etag",
        "expires",
        "last-modified",
        "transfer-encoding",
        "vary",
    }
)
"""What is kept when not all fields are: enough to serve, to validate and to judge freshness."""


def end_to_end(fields: Fields) -> Fields:
    """Return the fields that may be passed on, made harmless (RFC 9110 §7.6.1).

    Dropped are hop-by-hop fields and those that Connection names, names that are no tokens,
    values with control characters or of more than `MAX_FIELD_BYTES`, and whatever goes beyond
    `MAX_LINES` or `MAX_TOTAL_BYTES`.
    """
    named = {option.lower() for option in split_list(fields.joined("connection") or "")}
    kept: list[tuple[str, str]] = []
    total = 0
    for name, value in fields:
        if name.lower() in HOP_BY_HOP or name.lower() in named:
            continue
        if not is_token(name) or not is_field_value(value):
            continue
        size = len(value.encode())
        if size > MAX_FIELD_BYTES:
            continue
        total += len(f"{name}: \r\n") + size
        if len(kept) == MAX_LINES or total > MAX_TOTAL_BYTES:
            break
        kept.append((name, value))
    return Fields(tuple(kept))


def storable_fields(fields: Fields, *, essential_only: bool) -> Fields:
    """Return the response fields that may be stored with a representation.

    Args:
        fields: As the origin sent them.
        essential_only: Keep those of `ESSENTIAL` only.
    """

    def keep(name: str) -> bool:
        if name in _OF_THE_MESSAGE or name in NEVER_STORED:
            return False
        if name.startswith(_NEVER_STORED_PREFIXES):
            return False
        return name in ESSENTIAL if essential_only else True

    return end_to_end(fields).filter(keep)
