"""Wrappers of transports that are useful while one looks for a fault."""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Awaitable, Callable
from typing import Final

from cachestream.abc import Buffer, Sink, Transport, UpstreamRequest, UpstreamResponse
from cachestream.core.urls import display
from cachestream.errors import CacheStreamError, ConfigurationError
from cachestream.transports._wrapper import ResponseWrapper, TransportWrapper

__all__ = ["LatencyTransport", "LoggingTransport"]

_LOGGER: Final = logging.getLogger("cachestream.transport")


class LoggingTransport(TransportWrapper):
    """Logs one line an exchange, when it has ended.

    The line has method, URL, range, status, content bytes received, seconds since the request,
    and how it failed. Values of the query are masked, and of the fields only Range is shown, so
    no credential gets into a log.

    Args:
        inner: Any transport.
        logger: Where to; None for ``cachestream.transport``.
        level: At which level.
        clock: Seconds, from any start.
    """

    def __init__(
        self,
        inner: Transport,
        logger: logging.Logger | None = None,
        *,
        level: int = logging.DEBUG,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__(inner)
        self._logger = logger or _LOGGER
        self._level = level
        self._clock = clock

    async def fetch(self, request: UpstreamRequest) -> UpstreamResponse:
        start = self._clock()
        try:
            response = await self.inner.fetch(request)
        except BaseException as error:
            self._write(request, "-", 0, start, error)
            raise
        return _Logged(response, lambda logged: self._ended(request, start, logged))

    def _ended(self, request: UpstreamRequest, start: float, logged: _Logged) -> None:
        self._write(request, str(logged.status), logged.received, start, logged.error)

    def _write(
        self,
        request: UpstreamRequest,
        status: str,
        received: int,
        start: float,
        error: BaseException | None,
    ) -> None:
        # Not the text of the error: who raised it may have put a secret into it.
        failure = "" if error is None else f" {_outcome(error)}"
        asked = request.fields.get("range")
        self._logger.log(
            self._level,
            "%s %s%s %s %d bytes %.3f s%s",
            request.method,
            display(request.url),
            "" if asked is None else f" [{asked}]",
            status,
            received,
            self._clock() - start,
            failure,
        )


def _outcome(error: BaseException) -> str:
    return error.outcome if isinstance(error, CacheStreamError) else type(error).__name__


class _Logged(ResponseWrapper):
    """Counts content, and tells once how it ended."""

    def __init__(self, inner: UpstreamResponse, ended: Callable[[_Logged], None]) -> None:
        super().__init__(inner)
        self.received = 0
        self.error: Exception | None = None
        self._ended: Callable[[_Logged], None] | None = ended

    def failed(self, error: Exception) -> None:
        self.error = error

    async def __anext__(self) -> Buffer:
        piece = await super().__anext__()
        self.received += len(piece)
        return piece

    async def pour(self, sink: Sink) -> bool:
        return await super().pour(_Counting(sink, self))

    async def aclose(self) -> None:
        ended, self._ended = self._ended, None
        try:
            await super().aclose()
        finally:
            if ended is not None:
                ended(self)


class _Counting:
    """A sink in front of another one."""

    def __init__(self, sink: Sink, logged: _Logged) -> None:
        self._sink = sink
        self._logged = logged

    def write(self, piece: Buffer) -> bool:
        self._logged.received += len(piece)
        return self._sink.write(piece)

    async def drain(self) -> bool:
        return await self._sink.drain()


class LatencyTransport(TransportWrapper):
    """Waits before each exchange, as if the origin were far away.

    Args:
        inner: Any transport.
        delay: Seconds to wait at least.
        jitter: Seconds to wait more at most; each exchange draws its own.
        sleep: Waits.
        draw: Returns a number from 0 to 1.

    Raises:
        ConfigurationError: If a time is negative.
    """

    def __init__(
        self,
        inner: Transport,
        delay: float,
        jitter: float = 0.0,
        *,
        sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
        draw: Callable[[], float] = random.random,
    ) -> None:
        if delay < 0 or jitter < 0:
            raise ConfigurationError("delay and jitter must not be negative")
        super().__init__(inner)
        self._delay = delay
        self._jitter = jitter
        self._sleep = sleep
        self._draw = draw

    async def fetch(self, request: UpstreamRequest) -> UpstreamResponse:
        await self._sleep(self._delay + self._jitter * self._draw())
        return await self.inner.fetch(request)
