"""The managers behind all file systems of a process: one for each set of settings.

They live on fsspec's own event loop, in its thread, whatever loop or thread asks. They are
closed when the process ends, and before it forks: a child must inherit neither open files nor
an open SQLite database, whose locks it would take for its own. The parent opens its
managers anew when they are next used; what was reading meanwhile goes on where it was.
"""

from __future__ import annotations

import asyncio
import atexit
import logging
import os
import threading
from collections.abc import Callable, Coroutine
from typing import Any, Final, TypeVar

import attrs
from fsspec.asyn import get_loop

from cachestream.errors import ClosedError, ForkedError, WrongThreadError
from cachestream.manager import CacheManager
from cachestream.settings import Settings

__all__ = ["close_caches", "on_loop", "use"]

logger: Final = logging.getLogger("cachestream.fsspec")

T = TypeVar("T")

CLOSE_TIMEOUT_S: Final = 30.0
"""How long the end of a process, or a fork, waits for managers to write what they have."""


@attrs.define(eq=False)
class _Caches:
    """The managers on one loop; everything here happens in its thread."""

    loop: asyncio.AbstractEventLoop
    open: list[CacheManager] = attrs.field(factory=list)
    lock: asyncio.Lock = attrs.field(factory=asyncio.Lock)
    allowed: asyncio.Event = attrs.field(factory=asyncio.Event)

    def __attrs_post_init__(self) -> None:
        self.allowed.set()

    async def manager(self, settings: Settings) -> CacheManager:
        """Return the manager with these settings, started if need be."""
        while True:
            if self.allowed.is_set():
                for manager in self.open:
                    if manager.settings is settings or manager.settings == settings:
                        return manager
            await self.allowed.wait()
            async with self.lock:
                if not self.allowed.is_set() or any(m.settings == settings for m in self.open):
                    continue
                manager = CacheManager(settings)
                await manager.start()
                self.open.append(manager)

    async def close(self, *, forbid: bool = False) -> None:
        """Close all; with ``forbid`` none is opened any more until `allowed` is set."""
        if forbid:
            self.allowed.clear()
        async with self.lock:
            closing, self.open = self.open, []
            for manager in closing:
                try:
                    await manager.aclose()
                except Exception:
                    logger.exception("closing a cache failed")


_caches: _Caches | None = None
_inherited: bool = False
_guard = threading.Lock()


def _here() -> _Caches:
    """Return the managers of this process."""
    global _caches
    if _inherited:
        raise ForkedError(
            "this process was forked while caches were open",
            hint="Do not fork inside fsspec's event loop; or use the start method `spawn`.",
        )
    with _guard:
        loop = get_loop()
        if _caches is None or _caches.loop is not loop:
            _caches = _Caches(loop)
        return _caches


async def on_loop(work: Coroutine[Any, Any, T]) -> T:
    """Await ``work`` on fsspec's loop, from whatever loop this is."""
    loop = get_loop()
    if asyncio.get_running_loop() is loop:
        return await work
    return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(work, loop))


async def use(settings: Settings, act: Callable[[CacheManager], Coroutine[Any, Any, T]]) -> T:
    """Return what ``act`` returns for the manager; again with a new one if it is closed meanwhile.

    Must run on fsspec's loop. ``act`` only reads, so that doing it again does no harm.
    """
    caches = _here()
    while True:
        manager = await caches.manager(settings)
        try:
            return await act(manager)
        except ClosedError:
            if not manager.is_closed:
                raise


def close_caches() -> None:
    """Close all caches that file systems of this process have opened; they open again when used.

    What is held is committed, and other processes may write it from then on.

    Raises:
        WrongThreadError: If this is the thread of fsspec's event loop.
    """
    if _caches is not None and _is_running(_caches.loop):
        raise WrongThreadError("caches cannot be closed from the event loop they live on")
    _close()


def _close(*, forbid: bool = False) -> bool:
    """Close all managers from another thread; False if that was not possible."""
    caches = _caches
    if caches is None or not caches.loop.is_running():
        return True
    if _is_running(caches.loop):
        return not caches.open
    done = asyncio.run_coroutine_threadsafe(caches.close(forbid=forbid), caches.loop)
    try:
        done.result(CLOSE_TIMEOUT_S)
    except TimeoutError:
        logger.warning("closing the caches took too long")
        return False
    return True


def _is_running(loop: asyncio.AbstractEventLoop) -> bool:
    """Tell whether ``loop`` is the one that runs in this thread."""
    try:
        return asyncio.get_running_loop() is loop
    except RuntimeError:
        return False


# -- forks and the end --------------------------------------------------------

_closed_for_fork = True


def _before_fork() -> None:
    global _closed_for_fork
    _closed_for_fork = _close(forbid=True)


def _after_fork_in_parent() -> None:
    caches = _caches
    if caches is not None and not caches.loop.is_closed():
        caches.loop.call_soon_threadsafe(caches.allowed.set)


def _after_fork_in_child() -> None:
    global _caches, _guard, _inherited
    _caches, _guard = None, threading.Lock()
    _inherited = _inherited or not _closed_for_fork


if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=_before_fork,
        after_in_parent=_after_fork_in_parent,
        after_in_child=_after_fork_in_child,
    )

# `atexit` is too late: by then the thread pools, in which a store commits, take no work any
# more. These callbacks run in the opposite order of registration, so ours comes before theirs.
_register: Callable[[Callable[[], object]], object] = getattr(
    threading, "_register_atexit", atexit.register
)
_register(_close)
