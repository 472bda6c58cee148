"""The next request of a download, sent before the answer to the last one has ended.

Between the last byte of an answer and the first of the next a line would be silent for as
long as the origin takes to answer (engine rule 5). So the next request leaves while about as
much is still to come as the line brings in that time, over another connection.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

from cachestream.abc import UpstreamResponse
from cachestream.core.decisions import Asked

from .hosts import Host

__all__ = ["Ahead"]


class Ahead:
    """A request that is on its way; whoever made it takes its answer, or closes it.

    Args:
        asked: What was asked for.
        url: Where it was asked for.
        answer: Brings the answer.
        host: Has one connection more open as long as this is nobody's.
    """

    def __init__(
        self, asked: Asked, url: str, answer: Coroutine[Any, Any, UpstreamResponse], host: Host
    ) -> None:
        self.asked = asked
        self.url = url
        self._host: Host | None = host
        self._task = asyncio.get_running_loop().create_task(answer, name=f"ahead {asked.start}")
        host.open += 1
        self._task.add_done_callback(_retrieve)

    async def take(self) -> UpstreamResponse:
        """Return the answer, which is the caller's now.

        Raises:
            TransportError: If there is none.
        """
        try:
            response = await self._task
        except asyncio.CancelledError:
            await self.aclose()
            raise
        finally:
            self._leave()
        return response

    async def aclose(self) -> None:
        """Give the request up, and the answer if it has come."""
        self._leave()
        self._task.cancel()
        await asyncio.wait((self._task,))
        if not self._task.cancelled() and self._task.exception() is None:
            await self._task.result().aclose()

    def _leave(self) -> None:
        if self._host is not None:
            self._host.open -= 1
            self._host = None


def _retrieve(task: asyncio.Task[UpstreamResponse]) -> None:
    """See the exception, lest the loop complains of one that nobody needs any more."""
    if not task.cancelled():
        task.exception()
