"""Transports: how origins are asked. To write one, subclass `cachestream.abc.Transport`."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from cachestream.transports._filesystem import FilesystemTransport
    from cachestream.transports._http import HttpTransport
    from cachestream.transports._logging import LatencyTransport, LoggingTransport
    from cachestream.transports._mirrors import MirrorsTransport
    from cachestream.transports._mirrors_sampling import Sampling
    from cachestream.transports._scheme import SchemeTransport
    from cachestream.transports._wrapper import ResponseWrapper, TransportWrapper

__all__ = [
    "FilesystemTransport",
    "HttpTransport",
    "LatencyTransport",
    "LoggingTransport",
    "MirrorsTransport",
    "ResponseWrapper",
    "Sampling",
    "SchemeTransport",
    "TransportWrapper",
]

_HOMES: Final = {
    "FilesystemTransport": "transports._filesystem",
    "HttpTransport": "transports._http",
    "LatencyTransport": "transports._logging",
    "LoggingTransport": "transports._logging",
    "MirrorsTransport": "transports._mirrors",
    "ResponseWrapper": "transports._wrapper",
    "Sampling": "transports._mirrors_sampling",
    "SchemeTransport": "transports._scheme",
    "TransportWrapper": "transports._wrapper",
}


def __getattr__(name: str) -> object:
    """Import what is asked for when it is: most programs need one or two of these."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    found: object = getattr(import_module(f"cachestream.{_HOMES[name]}"), name)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
