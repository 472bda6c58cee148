"""Download, cache and stream remote content at the same time.

A program asks for a local URL and hands it to any player, browser or data library. Bytes
that are held come from disk; the others come from the origin while they are being stored.

    async with CacheManager() as cache:
        url = cache.get_cache_url("https://example.com/video.mp4")

Names are imported when they are first used, so that ``import cachestream`` is cheap.
"""

from __future__ import annotations

import importlib
import logging
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from cachestream.abc import Frontend, Store, Transport
    from cachestream.config import Plugin
    from cachestream.core.status import Statistics
    from cachestream.errors import CacheStreamError
    from cachestream.manager import CacheManager
    from cachestream.settings import Settings, StreamSettings
    from cachestream.stream import CacheResponse, CacheState, CacheStream
    from cachestream.transports import HttpTransport

__all__ = [
    "CacheManager",
    "CacheResponse",
    "CacheState",
    "CacheStream",
    "CacheStreamError",
    "Frontend",
    "HttpTransport",
    "Plugin",
    "Settings",
    "Statistics",
    "Store",
    "StreamSettings",
    "Transport",
    "__version__",
]

__version__ = "0.1.0"

_HOMES: Final = {
    "CacheManager": "manager",
    "CacheResponse": "stream",
    "CacheState": "stream",
    "CacheStream": "stream",
    "CacheStreamError": "errors",
    "Frontend": "abc",
    "HttpTransport": "transports",
    "Plugin": "config",
    "Settings": "settings",
    "Statistics": "core.status",
    "Store": "abc",
    "StreamSettings": "settings",
    "Transport": "abc",
}

logging.getLogger("cachestream").addHandler(logging.NullHandler())


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{home}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
