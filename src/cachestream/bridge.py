"""An event loop in a thread of its own, and the way to it for all other threads."""

from __future__ import annotations

import asyncio
import contextlib
import os
import threading
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from concurrent.futures import Future, InvalidStateError
from typing import Any, Final, Generic, TypeVar

import attrs

from cachestream.errors import CallTimeoutError, ClosedError, ForkedError, WrongThreadError

__all__ = ["Bridge"]

T = TypeVar("T")
Work = Callable[[], Coroutine[Any, Any, T]]
Undo = Callable[[T], Coroutine[Any, Any, None]]

_CLOSED: Final = "this cache is not open"
_HINT: Final = "Use `with cachestream.blocking.CacheManager() as cache`."


@attrs.define(eq=False)
class _Call(Generic[T]):
    """One coroutine on its way through the loop.

    The future decides races: whoever settles it first, the loop with a result or the caller
    by giving up, wins; the other one sees that it lost. It is never set running, so that the
    caller can give up at any time.
    """

    work: Work[T]
    undo: Undo[T] | None = None
    future: Future[T] = attrs.field(factory=Future)
    task: asyncio.Task[None] | None = None

    def fail(self, error: BaseException) -> None:
        """Raise ``error`` in the caller, if it still waits."""
        with contextlib.suppress(InvalidStateError):
            self.future.set_exception(error)

    async def give(self, result: T) -> None:
        """Hand the result over, or put it away if nobody waits for it any more."""
        try:
            self.future.set_result(result)
        except InvalidStateError:
            if self.undo is not None:
                await self.undo(result)

    def cancel(self) -> None:
        """Cancel what runs; on the loop."""
        if self.task is not None:
            self.task.cancel()


class Bridge:
    """Hosts one event loop in one daemon thread, and runs coroutines there for other threads.

    `start` and `stop` bracket its life; it is used once. All methods may be called from any
    thread. After `stop` the thread has ended, and whoever still waited got a `ClosedError`.

    Args:
        name: Name of the thread.
    """

    def __init__(self, name: str) -> None:
        self._process: int | None = None
        # Reentrant: a finalizer that runs inside may `post`.
        self._lock = threading.RLock()
        self._calls: set[_Call[Any]] = set()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stopped: asyncio.Event | None = None
        self._open = False
        self._thread = threading.Thread(target=self._main, name=name, daemon=True)
        self._started: Future[None] = Future()

    @property
    def is_inherited(self) -> bool:
        """Whether this is a child that was forked from the process with the thread."""
        return self._process not in (None, os.getpid())

    def start(self) -> None:
        """Start the thread; return when the loop runs.

        Raises:
            RuntimeError: If it was started before.
        """
        self._process = os.getpid()
        self._thread.start()
        self._started.result()

    def stop(self, timeout: float | None = None) -> None:
        """Cancel what runs, and return when the thread has ended; idempotent.

        Args:
            timeout: Seconds to wait at most, None for no limit.

        Raises:
            CallTimeoutError: If the thread has not ended in time; it goes on ending.
            WrongThreadError: If called in that thread.
        """
        self.check()
        if self._thread.ident is None:
            return
        with self._lock:
            if self._open and self._loop is not None and self._stopped is not None:
                self._loop.call_soon_threadsafe(self._stopped.set)
        self._thread.join(timeout)
        if self._thread.is_alive():
            raise CallTimeoutError(f"the loop has not ended within {timeout} s")

    def call(
        self,
        work: Work[T],
        timeout: float | None = None,
        *,
        undo: Undo[T] | None = None,
    ) -> T:
        """Run a coroutine on the loop, and return its result or raise its error.

        Whatever ends the wait early, Ctrl-C included, cancels the coroutine.

        Args:
            work: Makes the coroutine; called on the loop.
            timeout: Seconds to wait at most, None for no limit.
            undo: Puts away, on the loop, a result that came too late for the caller.

        Raises:
            CallTimeoutError: If it took longer than ``timeout``.
            ClosedError: If the loop does not run, or was stopped meanwhile.
            ForkedError: In a forked child.
            WrongThreadError: In the loop's own thread, which would wait for itself.
        """
        self.check()
        call = _Call(work, undo)
        try:
            self._submit(call)
            call.future.exception(timeout)  # unlike `result`, it raises only what ends the wait
        except TimeoutError:
            if self._abandon(call):
                raise CallTimeoutError(f"this took longer than {timeout} s") from None
        except BaseException:
            if not self._abandon(call) and undo is not None and not call.future.exception():
                result = call.future.result()
                self.post(lambda: undo(result))
            raise
        try:
            return call.future.result()
        finally:
            del call  # an error's traceback leads here, and there: no cycle

    def ask(
        self,
        function: Callable[[], T],
        timeout: float | None = None,
        *,
        undo: Undo[T] | None = None,
    ) -> T:
        """Call a plain function on the loop and return its result; see `call`."""

        async def work() -> T:
            return function()

        return self.call(work, timeout, undo=undo)

    def iterate(self, source: AsyncIterator[T], timeout: float | None = None) -> Iterator[T]:
        """Yield what an asynchronous iterator yields, each waited for as in `call`.

        It is closed at the end, however that comes.
        """

        async def step() -> tuple[T, ...]:
            async for item in source:
                return (item,)
            return ()

        try:
            while items := self.call(step, timeout):
                yield from items
        finally:
            aclose: Work[None] | None = getattr(source, "aclose", None)
            if aclose is not None:
                self.post(aclose)

    def post(self, work: Work[None]) -> None:
        """Run a coroutine on the loop without waiting; what is called later begins later.

        It never blocks and never raises, so that finalizers may use it in whatever thread
        they run; where the loop is gone, what it held is gone too.
        """
        if self.is_inherited:
            return
        with contextlib.suppress(ClosedError):
            self._submit(_Call(work))

    def check(self) -> None:
        """Make sure that this thread may wait for the loop.

        Raises:
            ForkedError: In a forked child.
            WrongThreadError: In the loop's own thread.
        """
        if self.is_inherited:
            raise ForkedError(
                "this object belongs to the process that this one was forked from",
                hint="Make a new cachestream.blocking.CacheManager in each process.",
            )
        if threading.current_thread() is self._thread:
            raise WrongThreadError(
                "a blocking call in the thread that hosts the event loop would never return",
                hint="Callbacks and listeners run there: hand the work to another thread.",
            )

    # -- in the caller's thread -------------------------------------------

    def _submit(self, call: _Call[Any]) -> None:
        # Under the lock, so that a call is either refused or among those that are failed at
        # the end; none can get lost between a stopped loop and a closed one.
        with self._lock:
            if not self._open or self._loop is None:
                raise ClosedError(_CLOSED, hint=_HINT)
            self._calls.add(call)
            self._loop.call_soon_threadsafe(self._begin, call)

    def _abandon(self, call: _Call[Any]) -> bool:
        """Give a call up and cancel it; False if it ended before."""
        if not call.future.cancel():
            return False
        with self._lock:
            if self._open and self._loop is not None:
                self._loop.call_soon_threadsafe(call.cancel)
        return True

    # -- in the loop's thread ---------------------------------------------

    def _main(self) -> None:
        try:
            # Leaving the runner cancels what is left and ends the loop's own threads.
            with asyncio.Runner() as runner:
                runner.run(self._host())
        except BaseException as error:
            if self._started.done():
                raise
            self._started.set_exception(error)  # no descriptors for a loop, for example
        finally:
            for call in tuple(self._calls):
                call.fail(ClosedError(_CLOSED, hint=_HINT))
            self._calls.clear()

    async def _host(self) -> None:
        self._stopped = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self._open = True
        self._started.set_result(None)
        try:
            await self._stopped.wait()
        finally:
            with self._lock:
                self._open = False

    def _begin(self, call: _Call[Any]) -> None:
        if call.future.cancelled() or not self._open:
            self._calls.discard(call)
            call.fail(ClosedError(_CLOSED, hint=_HINT))
            return
        assert self._loop is not None
        call.task = self._loop.create_task(self._run(call), name="cachestream: blocking call")

    async def _run(self, call: _Call[Any]) -> None:
        try:
            result = await call.work()
        except asyncio.CancelledError:
            call.fail(ClosedError("the cache was closed meanwhile"))
            raise
        except BaseException as error:  # the caller's to handle, whatever it is
            call.fail(error)
        else:
            await call.give(result)
        finally:
            self._calls.discard(call)
            del call
