"""Parts of URLs, changed without touching the other parts' spelling."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final
from urllib.parse import quote, unquote_to_bytes

__all__ = ["decoded_path", "raw_path", "split_query", "strict_path", "strict_query", "with_query"]

_SAFE_VALUE: Final = "-._~/*=:,!"


def split_query(url: str) -> tuple[str, list[str]]:
    """Return a URL without its query, and the query's parameters as they are spelled."""
    base, mark, query = url.partition("?")
    return base, query.split("&") if mark and query else []


def with_query(url: str, added: Iterable[tuple[str, str]], *, without: Iterable[str] = ()) -> str:
    """Return a URL with parameters added at the end, percent-encoded.

    Parameters of the same names, and those in ``without``, go; the others stay as spelled.
    """
    base, parameters = split_query(url)
    added = list(added)
    gone = {name for name, _ in added} | set(without)
    kept = [each for each in parameters if each.partition("=")[0] not in gone]
    kept += [f"{quote(name)}={quote(value, safe=_SAFE_VALUE)}" for name, value in added]
    return f"{base}?{'&'.join(kept)}" if kept else base


def raw_path(url: str) -> str:
    """Return the path of a URL as it is on the wire."""
    rest = url.partition("?")[0].partition("://")[2]
    return "/" + rest.partition("/")[2]


def decoded_path(url: str) -> bytes:
    """Return the path of a URL, percent-decoded."""
    return unquote_to_bytes(raw_path(url))


def strict_path(url: str) -> str:
    """Return a URL whose path is spelled in the one way that SigV4 is made over.

    A server that signs what it has decoded, as S3 does, has no other spelling to go by.
    """
    path, base = raw_path(url), url.partition("?")[0]
    strict = quote(unquote_to_bytes(path), safe="/-._~")
    root = base[: base.index("/", base.index("://") + 3)] if base.count("/") > 2 else base
    return root + strict + url[len(base) :]


def strict_query(url: str, *, without: frozenset[str] = frozenset()) -> str:
    """Return a URL whose query is spelled strictly, less the parameters ``without``.

    Names are compared in lower case. A plus sign is a space, as in forms.
    """
    base, parameters = split_query(url)
    kept = []
    for parameter in parameters:
        name, _, value = parameter.partition("=")
        if name.lower() not in without:
            kept.append(f"{_strict(name)}={_strict(value)}")
    return f"{base}?{'&'.join(kept)}" if kept else base


def _strict(text: str) -> str:
    return quote(unquote_to_bytes(text.replace("+", "%20")), safe="-._~")
