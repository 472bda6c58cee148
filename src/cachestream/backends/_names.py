"""How stores name things: origins of sources, and variants of a key."""

from __future__ import annotations

from typing import Final, TypeAlias
from urllib.parse import urlsplit

from cachestream.core.representation import Representation

__all__ = ["Variant", "origin_of", "variant_of"]

Variant: TypeAlias = tuple[tuple[str, "str | None"], ...]
"""What tells two variants of one key apart: the selecting fields, in order of their names."""

_DEFAULT_PORTS: Final = {"http": 80, "https": 443}


def variant_of(representation: Representation) -> Variant:
    """Return which variant this is (RFC 9111 §4.1); the order of Vary does not matter."""
    return tuple(sorted(representation.selecting, key=lambda pair: (pair[0], pair[1] or "")))


def origin_of(url: str) -> str:
    """Return ``scheme://host[:port]`` in lower case, without userinfo and default port.

    A text that is no URL is its own origin: it then matches nothing but itself.
    """
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port
    except ValueError:
        return url
    if ":" in host:
        host = f"[{host}]"
    if port is None or port == _DEFAULT_PORTS.get(parts.scheme):
        return f"{parts.scheme}://{host}"
    return f"{parts.scheme}://{host}:{port}"
