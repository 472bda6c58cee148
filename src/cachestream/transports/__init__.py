"""Transports: how origins are asked. To write one, subclass `cachestream.abc.Transport`."""

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
