"""What the parts of the transport contract share: an origin, a sink, a way to ask."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import pytest_asyncio

from cachestream.abc import Buffer, Transport, UpstreamRequest, UpstreamResponse
from cachestream.core.fields import Fields
from cachestream.testing.origin import Origin

__all__ = ["Collector", "TransportPromises", "ask"]


class Collector:
    """A sink that keeps the very pieces it was given.

    Args:
        room: Bytes after which `write` says that there is no more room; None for always.
        wanted: Bytes after which no further byte is wanted; None for all.

    Attributes:
        pieces: As they came; joined only at the end, so that a piece which is changed after it
            was handed over shows.
        drained: How often `drain` was called.
    """

    def __init__(self, *, room: int | None = None, wanted: int | None = None) -> None:
        self.pieces: list[Buffer] = []
        self.received = 0
        self.drained = 0
        self._room = room
        self._wanted = wanted
        self._pending = 0

    def write(self, piece: Buffer) -> bool:
        """Take a piece; it must not come before a `drain` that was asked for."""
        if self._full():
            raise AssertionError("a piece came before drain was called")
        self.pieces.append(piece)
        self.received += len(piece)
        self._pending += len(piece)
        return not self._full()

    def _full(self) -> bool:
        if self._wanted is not None and self.received >= self._wanted:
            return True
        return self._room is not None and self._pending > self._room

    async def drain(self) -> bool:
        """Make room."""
        self.drained += 1
        self._pending = 0
        return self._wanted is None or self.received < self._wanted

    @property
    def content(self) -> bytes:
        """All that was received."""
        return b"".join(self.pieces)


@asynccontextmanager
async def ask(
    transport: Transport, url: str, *fields: tuple[str, str], **options: Any
) -> AsyncIterator[UpstreamResponse]:
    """Perform one exchange, and leave its response at the end."""
    request = UpstreamRequest(url=url, source=url, fields=Fields(fields), **options)
    async with await transport.fetch(request) as response:
        yield response


class TransportPromises:
    """The fixtures of the contract."""

    @pytest.fixture
    def transport(self) -> Transport:
        """Return the transport to test; the contract closes it."""
        raise NotImplementedError("the contract needs a fixture `transport`")

    @pytest.fixture
    def impatient(self, transport: Transport) -> Transport:
        """Return one that gives a silent origin up after about 0.2 seconds."""
        return transport

    @pytest_asyncio.fixture(autouse=True)
    async def closing(self, transport: Transport, impatient: Transport) -> AsyncIterator[None]:
        """Close the transports after each test."""
        yield
        await transport.aclose()
        await impatient.aclose()

    @pytest_asyncio.fixture
    async def origin(self) -> AsyncIterator[Origin]:
        """Serve from a real origin that does what it is told."""
        async with Origin() as origin:
            yield origin
