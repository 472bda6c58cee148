"""Local URLs for notebooks, and a server behind jupyter-server-proxy.

What a page shows is fetched by the browser, which may be on another machine than the kernel.
Where Jupyter's own server has the extension (``cachestream.integrations.jupyter_extension``), or
jupyter-server-proxy, a URL below Jupyter's reaches the cache from wherever the notebook does::

    from IPython.display import Video
    Video(url=url_for("https://example.com/film.mp4"))

This module imports nothing of Jupyter, so that any kernel can use it.
"""

from __future__ import annotations

import os
import re
import secrets
import sys
from typing import Any, Final

from cachestream.core.urls import local_path
from cachestream.errors import InvalidURLError

__all__ = ["EXTENSION", "PROXIED", "setup", "url_for"]

EXTENSION: Final = "cachestream"
"""The path of the server extension, below Jupyter's base URL."""

PROXIED: Final = "cachestream-proxy"
"""The path of the process behind jupyter-server-proxy, below Jupyter's base URL."""

# What jupyter-server-proxy decodes and does not encode again.
_LOST: Final = re.compile(r"%(?:2[1346789ABCDEF]|3[ABDF]|40|5[BD])", re.IGNORECASE)


def url_for(source: str, *, base_url: str | None = None, path: str = EXTENSION) -> str:
    """Return the URL by which a page of Jupyter reads ``source`` through the cache.

    It is relative to the host that the page came from, so it is right behind any proxy.

    Args:
        source: The source URL.
        base_url: Jupyter's base URL, ``/`` or ``/user/NAME/``; None for what JupyterHub says in
            the environment, else ``/``.
        path: `EXTENSION` or `PROXIED`.

    Raises:
        InvalidURLError: If it is no URL that can be fetched, or jupyter-server-proxy would
            change it.
    """
    if base_url is None:
        base_url = os.environ.get("JUPYTERHUB_SERVICE_PREFIX", "/")
    local = local_path(source)
    if path == PROXIED and _LOST.search(local.partition("?")[0]):
        raise InvalidURLError(
            "jupyter-server-proxy would decode a part of this URL's path",
            url=source,
            hint="Use the server extension, which passes URLs on as they are.",
        )
    return f"{base_url.rstrip('/')}/{path}{local}"


def setup() -> dict[str, Any]:
    """Tell jupyter-server-proxy how to start a cache, and how to ask it.

    The process listens on loopback with a token that only the proxy knows, so that other users of
    the machine are kept out; whoever may use this Jupyter server may use the cache.
    jupyter-server-proxy holds each answer in memory and refuses more than 100 MB: for films there
    is the server extension.
    """
    token = secrets.token_urlsafe(32)
    command = [sys.executable, "-m", "cachestream", "serve"]
    return {
        "command": [*command, "--host", "127.0.0.1", "--port", "{port}"],
        "environment": {"CACHESTREAM_TOKEN": token},
        "timeout": 60,
        "mappath": lambda path: f"/~{token}{path}",
        # Jupyter has looked at the Host of the browser; the cache knows only its own.
        "request_headers_override": {"Host": "127.0.0.1:{port}"},
        "launcher_entry": {"enabled": False},
    }
