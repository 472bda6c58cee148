"""Futures of those who wait for an event that has no position: a first head, any change."""

from __future__ import annotations

import asyncio

__all__ = ["Signal"]


class Signal:
    """Everybody who waits now is woken by the next `fire` or `fail`."""

    def __init__(self) -> None:
        self._futures: dict[asyncio.Future[bool], None] = {}  # in the order they came

    def __bool__(self) -> bool:
        return bool(self._futures)

    async def wait(self, timeout: float | None = None) -> bool:
        """Wait; False if it took longer than ``timeout`` seconds.

        Raises:
            Exception: What `fail` was given.
        """
        loop = asyncio.get_running_loop()
        future: asyncio.Future[bool] = loop.create_future()
        self._futures[future] = None
        timer = None if timeout is None else loop.call_later(timeout, _settle, future, False)
        try:
            return await future
        finally:
            if timer is not None:
                timer.cancel()
            self._futures.pop(future, None)
            if future.done() and not future.cancelled():
                future.exception()  # seen, whatever became of us

    def fire(self) -> None:
        """Wake all."""
        futures, self._futures = self._futures, {}
        for future in futures:
            _settle(future, True)

    def fail(self, error: Exception) -> None:
        """Raise ``error`` in all."""
        futures, self._futures = self._futures, {}
        for future in futures:
            if not future.done():
                future.set_exception(error)


def _settle(future: asyncio.Future[bool], result: bool) -> None:
    if not future.done():
        future.set_result(result)
