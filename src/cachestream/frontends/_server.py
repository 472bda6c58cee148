"""All connections of one listener: made here, known here, ended here."""

from __future__ import annotations

import asyncio
import contextlib
import logging

from aiohttp import web

from cachestream.frontends._connection import MAX_LINE, Connection, exchange_of
from cachestream.frontends._shared import Shared

__all__ = ["ConnectionServer"]

logger = logging.getLogger("cachestream.frontends")


class ConnectionServer(web.Server):
    """Makes a `Connection` for each client; what asyncio's listener calls.

    Args:
        shared: What its connections have in common.
    """

    def __init__(self, shared: Shared) -> None:
        super().__init__(
            exchange_of,
            handler_cancellation=True,
            keepalive_timeout=shared.limits.keepalive,
            max_line_size=MAX_LINE,
            max_field_size=MAX_LINE,
            lingering_time=shared.limits.linger,
            auto_decompress=False,
            # The access log alone costs more than all the rest of a small answer.
            access_log=None,
            logger=logger,
        )
        self.shared = shared

    def __call__(self) -> Connection:
        return Connection(self, self.shared, asyncio.get_running_loop(), **self._kwargs)

    async def cut_all(self, timeout: float) -> None:
        """Cut every connection; return when none is left, nor a task of one.

        Args:
            timeout: Seconds after which what is still there is left to itself, and logged.
        """
        shared = self.shared
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout):
                while everyone := shared.clients | shared.refused:
                    for connection in everyone:
                        connection.cut()
                    # The loop ends an aborted transport in its next turn.
                    await asyncio.sleep(0)
                if shared.tasks:
                    await asyncio.wait(shared.tasks)
        for task in shared.tasks:
            logger.error("a handler does not end when it is cancelled: %r", task)
