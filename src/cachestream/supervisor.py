"""One task that holds everything a manager opens, and owns every task it starts."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import AsyncExitStack
from typing import Any, Final

__all__ = ["Supervisor"]

logger: Final = logging.getLogger("cachestream.manager")


class Supervisor:
    """Opens things in one task and closes them there, in the opposite order.

    So a manager may be entered in one task and closed in another, as application servers
    and notebooks do, although task groups and context managers belong to one task.

    Args:
        assemble: Opens everything on the given stack; called once, in the supervising task.
    """

    def __init__(self, assemble: Callable[[AsyncExitStack], Awaitable[None]]) -> None:
        self._assemble = assemble
        self._task: asyncio.Task[None] | None = None
        self._group: asyncio.TaskGroup | None = None
        self._stop = asyncio.Event()
        self.tasks: set[asyncio.Task[None]] = set()

    @property
    def started(self) -> bool:
        """Whether `start` was called."""
        return self._task is not None

    async def start(self) -> None:
        """Open everything; what was opened is closed again if that fails.

        Raises:
            Exception: What ``assemble`` raised.
        """
        ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._task = asyncio.create_task(self._supervise(ready), name="cachestream")
        try:
            await asyncio.shield(ready)
        except asyncio.CancelledError:
            await self.aclose()
            raise
        except BaseException:
            await asyncio.wait((self._task,))
            raise

    async def _supervise(self, ready: asyncio.Future[None]) -> None:
        try:
            async with AsyncExitStack() as stack:
                await self._assemble(stack)
                ready.set_result(None)
                await self._stop.wait()
        except BaseException as error:
            if ready.done():
                raise
            ready.set_exception(_single(error))
            ready.exception()  # seen, even if nobody waits any more

    async def own_tasks(self, stack: AsyncExitStack) -> None:
        """From here on tasks may run; what is opened before outlives them."""
        self._group = await stack.enter_async_context(asyncio.TaskGroup())

    def run(self, work: Coroutine[Any, Any, None], name: str) -> asyncio.Task[None]:
        """Run ``work`` as a task; a bug in it is logged and ends only it."""
        assert self._group is not None
        task = self._group.create_task(_guard(work, name), name=f"cachestream: {name}")
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)
        task.add_done_callback(lambda _: work.close())  # it may be cancelled before it began
        return task

    async def aclose(self) -> None:
        """Close everything and wait until nothing runs; idempotent."""
        self._stop.set()
        if self._task is not None:
            await asyncio.shield(self._wait())

    async def _wait(self) -> None:
        assert self._task is not None
        await asyncio.wait((self._task,))
        if not self._task.cancelled() and (error := self._task.exception()):
            raise error


async def _guard(work: Coroutine[Any, Any, None], name: str) -> None:
    try:
        await work
    except Exception:
        logger.exception("%s failed unexpectedly", name)


def _single(error: BaseException) -> BaseException:
    """Return the one error in a group, so that callers can catch it by its type."""
    while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]
    return error
