"""What an ASGI scope says of a request, in our terms: the target as sent, below the mount."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import quote, unquote

from cachestream.abc import RequestHead
from cachestream.core.fields import Fields

__all__ = ["below_mount", "request_head"]

_ORIGIN: Final = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://[^/]*")

# What stays as it is where only a decoded path is known; a percent sign never does.
_SAFE: Final = "/:@!$&'()*+,;=~[]-._"


def request_head(scope: Mapping[str, Any], served: frozenset[str]) -> RequestHead | None:
    """Return the head of a request; None if its path is not below the mount point.

    Args:
        scope: An ASGI scope of type ``http``.
        served: See `RequestHead.served`.
    """
    path = _below_mount(scope)
    if path is None:
        return None
    query: bytes = scope.get("query_string") or b""
    target = path + ("?" + _text(query) if query else "")
    client = scope.get("client")
    return RequestHead(
        method=scope["method"],
        target=target,
        fields=Fields(tuple((_text(name), _text(value)) for name, value in scope["headers"])),
        version=_version(scope.get("http_version", "1.1")),
        served=served,
        client=str(client[0]) if client else None,
    )


def _text(data: bytes) -> str:
    return data.decode("utf-8", "surrogateescape")


def _version(text: str) -> tuple[int, int]:
    major, _, minor = text.partition(".")
    return int(major), int(minor or 0)


def _below_mount(scope: Mapping[str, Any]) -> str | None:
    """Return the raw path without the mount path, ``/`` at least.

    ``root_path`` is the mount path. It is decoded, and ``raw_path`` is not: so the prefix of
    the raw path that decodes to it is what has to go. Where a proxy removed the prefix that
    the application was told of (`app_root_path`), only what was mounted below it is there.
    """
    root = scope.get("root_path", "").rstrip("/")
    raw = scope.get("raw_path")
    whole = _text(raw.partition(b"?")[0]) if raw else quote(scope["path"], safe=_SAFE)
    for mount in dict.fromkeys((root, root.removeprefix(scope.get("app_root_path", "")))):
        rest = _without(whole, mount.rstrip("/"))
        if rest is not None:
            return rest
    return None


def below_mount(target: str, mount: str) -> str | None:
    """Return a request target without the mount path; None if it is not below it.

    Args:
        target: As sent: in origin form, or in absolute form, which keeps its authority.
        mount: The mount path, decoded, without a final slash.
    """
    path, mark, query = target.partition("?")
    origin = _ORIGIN.match(path)
    authority = origin[0] if origin is not None else ""
    rest = _without(path[len(authority) :], mount)
    return None if rest is None else authority + rest + mark + query


def _without(whole: str, mount: str) -> str | None:
    if not mount:
        return whole if whole.startswith("/") else None
    end = len(mount)
    if whole.startswith(mount) and whole[end : end + 1] in ("/", ""):
        return whole[end:] or "/"
    # Some of it is percent-encoded; each byte takes three characters at most.
    longest = 3 * len(mount.encode("utf-8", "surrogateescape"))
    end = whole.find("/", 1)
    while 0 < end <= longest:
        if unquote(whole[:end]) == mount:
            return whole[end:]
        end = whole.find("/", end + 1)
    return "/" if len(whole) <= longest and unquote(whole) == mount else None
