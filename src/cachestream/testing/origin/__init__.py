"""A real local origin that truncates, stalls, lies about ranges and changes its content.

`Origin` runs in the event loop of a test, `OriginThread` in a thread of its own, and
``python -m cachestream.testing.origin`` as a process. It needs nothing but the standard
library's sockets and answers in raw bytes, so that it can lie at every level of HTTP.
"""

from cachestream.testing.origin._content import (
    BytesContent,
    Content,
    FileContent,
    Pattern,
    pattern,
)
from cachestream.testing.origin._served import Data, OriginRequest, Served
from cachestream.testing.origin._server import Origin
from cachestream.testing.origin._thread import OriginThread

__all__ = [
    "BytesContent",
    "Content",
    "Data",
    "FileContent",
    "Origin",
    "OriginRequest",
    "OriginThread",
    "Pattern",
    "Served",
    "pattern",
]
