"""Frontends: how clients reach a `cachestream.abc.Handler`."""

from cachestream.frontends._activation import count_inherited, passed_only_loopback
from cachestream.frontends._admin import AdminServer
from cachestream.frontends._aiohttp import AiohttpFrontend
from cachestream.frontends._asgi import AsgiFrontend
from cachestream.frontends._loopback import LoopbackFrontend
from cachestream.frontends._mounted import MountedFrontend

__all__ = [
    "AdminServer",
    "AiohttpFrontend",
    "AsgiFrontend",
    "LoopbackFrontend",
    "MountedFrontend",
    "count_inherited",
    "passed_only_loopback",
]
