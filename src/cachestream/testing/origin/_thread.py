"""An origin in a thread, for tests that have no event loop or start other processes."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine
from types import TracebackType
from typing import Any, Self, TypeVar

from cachestream.testing.origin._served import Data, OriginRequest, Served
from cachestream.testing.origin._server import Origin

__all__ = ["OriginThread"]

T = TypeVar("T")


class OriginThread:
    """Runs an `Origin` in a thread; a context manager.

    Knobs of a `Served` may be set from any thread. An `asyncio.Event` given as a gate must be
    set through `call`, as must everything else that belongs to the loop.

    Args:
        **options: Arguments of `Origin`.

    Attributes:
        origin: The origin, for `run` and `call`.
    """

    def __init__(self, **options: Any) -> None:
        self.origin = Origin(**options)
        self._ready = threading.Event()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._main, name="origin", daemon=True)

    def _main(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.call_soon(self._ready.set)
        try:
            self._loop.run_forever()
        finally:
            self._loop.close()

    def __enter__(self) -> Self:
        self._thread.start()
        self._ready.wait()
        try:
            self.run(self.origin.__aenter__())
        except BaseException:
            self._stop()
            raise
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        try:
            self.run(self.origin.__aexit__(exc_type, exc, traceback))
        finally:
            self._stop()

    def _stop(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine in the origin's loop and return its result."""
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result()

    def call(self, function: Callable[..., T], *args: Any) -> T:
        """Call a function in the origin's loop and return its result."""

        async def wrapped() -> T:
            return function(*args)

        return self.run(wrapped())

    def url(self, path: str = "/") -> str:
        """Return the absolute URL of ``path``."""
        return self.origin.url(path)

    def add(self, path: str, data: Data = b"", **knobs: Any) -> Served:
        """Serve ``data`` at ``path``; see `Origin.add`."""
        return self.call(lambda: self.origin.add(path, data, **knobs))

    @property
    def requests(self) -> list[OriginRequest]:
        """What was asked, in order of arrival."""
        return self.call(lambda: self.origin.requests)

    def count(self, path: str | None = None) -> int:
        """Return how many requests there were."""
        return self.call(self.origin.count, path)

    def bytes_sent(self, path: str | None = None) -> int:
        """Return how many bytes of content were sent."""
        return self.call(self.origin.bytes_sent, path)

    def reset_log(self) -> None:
        """Forget the requests so far."""
        self.call(self.origin.reset_log)

    def wait_request(
        self, n: int = 1, path: str | None = None, timeout: float = 10.0
    ) -> OriginRequest:
        """Wait for the ``n``-th request and return it."""
        return self.run(self.origin.wait_request(n, path, timeout))
