"""A request of a download that is sent before its answer is needed.

It is the next one, sent before the answer to the last has ended: between the last byte of an
answer and the first of the next a line would be silent for as long as the origin takes to
answer (engine rule 5). Or it is the same once more, because the origin keeps somebody waiting
for longer than it usually does (rule 6).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any, Final

from cachestream.abc import UpstreamResponse
from cachestream.core.decisions import Asked
from cachestream.errors import TransportError

from .hosts import FORBIDDEN, TOO_MANY, Host

if TYPE_CHECKING:
    from .resource import Resource

__all__ = ["Ahead", "Successor"]

SERVED: Final = frozenset({200, 206})


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

    @property
    def is_served(self) -> bool:
        """Whether the origin has answered with content."""
        task = self._task
        if not task.done() or task.cancelled() or task.exception() is not None:
            return False
        return task.result().status in SERVED

    def when_done(self, callback: Callable[[], None]) -> None:
        """Call back when the answer has come, or will not come."""
        self._task.add_done_callback(lambda done: callback())

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
        self.cancel()
        if not self._task.done():  # without need there is no wait here: it could be cancelled
            await asyncio.wait((self._task,))
        if not self._task.cancelled() and self._task.exception() is None:
            await self._task.result().aclose()

    def cancel(self) -> None:
        """Give the request up; an answer that has come is still to be closed."""
        self._leave()
        self._task.cancel()

    def _leave(self) -> None:
        if self._host is not None:
            self._host.open -= 1
            self._host = None


class Successor:
    """What a download has sent ahead: one request at most."""

    def __init__(self, resource: Resource) -> None:
        self._resource = resource
        self._ahead: Ahead | None = None
        self._left: list[Ahead] = []

    @property
    def is_out(self) -> bool:
        """Whether there is one, over a connection of its own."""
        return self._ahead is not None

    def send(self, asked: Asked, url: str, answer: Coroutine[Any, Any, UpstreamResponse]) -> Ahead:
        """Let a request be the one that is sent ahead, instead of what was before."""
        self.leave()
        self._ahead = Ahead(asked, url, answer, self._resource.scheduler.sharing.host)
        return self._ahead

    def leave(self) -> None:
        """Do without what was sent."""
        if self._ahead is not None:
            self._ahead.cancel()
            self._left.append(self._ahead)
            self._ahead = None

    async def aclose(self) -> None:
        """Close what is left."""
        self.leave()
        while self._left:
            await self._left[-1].aclose()
            self._left.pop()

    async def take(
        self, fits: Callable[[Asked, str], bool]
    ) -> tuple[Asked, str, UpstreamResponse] | None:
        """Return what was asked, where, and the answer; None if there is none of use.

        A failure costs nothing but itself: an origin that refuses the request allows one
        connection less, and is asked again the ordinary way.
        """
        ahead = self._ahead
        if ahead is None or not fits(ahead.asked, ahead.url):
            await self.aclose()
            return None
        self._ahead = None
        try:
            response = await ahead.take()
        except TransportError:
            return None
        if response.status in TOO_MANY or response.status == FORBIDDEN:
            await response.aclose()
            host = self._resource.scheduler.sharing.host
            host.refused(asyncio.get_running_loop().time(), host.open)
            return None
        return ahead.asked, ahead.url, response


def _retrieve(task: asyncio.Task[UpstreamResponse]) -> None:
    """See the exception, lest the loop complains of one that nobody needs any more."""
    if not task.cancelled():
        task.exception()
