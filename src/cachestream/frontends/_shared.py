"""What the connections of one listener share, and what they are bounded by."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

import attrs
from aiohttp import web

from cachestream.abc import END, Body, End, Handler
from cachestream.frontends._heads import HeadWriter
from cachestream.frontends._lane import Lane

if TYPE_CHECKING:
    from cachestream.frontends._connection import Connection

__all__ = ["CLOSING", "LASTING", "NO_BODY", "Limits", "Shared"]

LANES: Final = 64
"""Of clients of so many addresses heads are remembered."""

RECEIVED: Final = 64 * 1024
"""Most bytes that are received at once."""


@attrs.frozen(kw_only=True)
class Limits:
    """What a client may cost.

    Attributes:
        clients: Connections at a time.
        head_time: Seconds a request head may take to arrive.
        keepalive: Seconds a connection may rest between two requests.
        client_idle: Seconds a client may take nothing of an answer; None for ever.
        linger: Seconds a refused client gets to read why, and for which content that
            nobody asked for is drained, so that no reset overtakes the answer before it.
    """

    clients: int = 4096
    head_time: float = 10.0
    keepalive: float = 75.0
    client_idle: float | None = None
    linger: float = 1.0


@attrs.define(eq=False, kw_only=True)
class Shared:
    """What the connections of one listener have in common.

    Attributes:
        handler: Who answers.
        limits: What a client may cost.
        served: Authorities to answer to; see `RequestHead.served`.
        served_unix: The same at Unix sockets.
        add_local: Whether each connection's own local address is one of them too.
        direct: Whether to send past the transport where possible.
        heads: Renders heads.
        requests: How many requests were answered.
        bytes_sent: Bytes of content handed to the kernel.
        clients: The connections that are served.
        refused: Those that are one too many, on their way out.
        tasks: One for each connection that is served, or was until a moment ago.
        expected: Peer addresses of our own probes, and whom to tell that they arrived.
        buffer: Where all of them receive, one after the other.
    """

    handler: Handler
    limits: Limits = attrs.field(factory=Limits)
    served: frozenset[str] = frozenset()
    served_unix: frozenset[str] = frozenset()
    add_local: bool = False
    direct: bool = True
    heads: HeadWriter = attrs.field(factory=HeadWriter)
    requests: int = 0
    bytes_sent: int = 0
    clients: set[Connection] = attrs.field(factory=set)
    refused: set[Connection] = attrs.field(factory=set)
    tasks: set[asyncio.Task[None]] = attrs.field(factory=set)
    expected: dict[object, asyncio.Future[None]] = attrs.field(factory=dict)
    buffer: memoryview = attrs.field(factory=lambda: memoryview(bytearray(RECEIVED)))
    _lanes: dict[tuple[frozenset[str], str | None], Lane] = attrs.field(factory=dict)

    def lane(self, served: frozenset[str], client: str | None) -> Lane:
        """Return what is remembered of such clients' requests."""
        lane = self._lanes.get((served, client))
        if lane is None:
            if len(self._lanes) >= LANES:
                del self._lanes[next(iter(self._lanes))]
            lane = self._lanes[served, client] = Lane(self.handler, served, client)
        return lane


class Written(web.StreamResponse):
    """What aiohttp is told of an answer that has left already."""

    def __init__(self, *, keep_alive: bool) -> None:
        super().__init__()
        self._keep_alive = keep_alive

    async def prepare(self, request: web.BaseRequest) -> None:
        """Do nothing: the head has left."""

    async def write_eof(self, data: bytes | bytearray | memoryview = b"") -> None:
        """Do nothing: the content has left."""


# They carry nothing, so one of each is enough.
LASTING: Final = Written(keep_alive=True)
CLOSING: Final = Written(keep_alive=False)


class NoBody(Body):
    """Stands in for the body of an answer that has no content on the wire."""

    def take_nowait(self, limit: int) -> End:
        return END

    async def next(self, limit: int) -> End:
        return END

    def close(self) -> None:
        """Do nothing."""


NO_BODY: Final = NoBody()
