"""Proof that a store takes bytes: some go through it as those of a download would."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Final

from cachestream._engine.context import EngineContext
from cachestream.abc import Key, Store
from cachestream.core.representation import Representation
from cachestream.core.spans import Span
from cachestream.errors import CacheStreamError
from cachestream.inspection._values import text_of

__all__ = ["LIMIT_S", "StoreProof"]

LIMIT_S: Final = 5.0
"""How long a store or a frontend may take to answer a question, in seconds."""

MAX_AGE_S: Final = 1.0
"""How old a proof may be: whoever asks more often does not make the store work."""

_URL: Final = "http://readiness.invalid/"
_BYTES: Final = b"readiness"


class StoreProof:
    """Proves that the store of an engine takes bytes.

    The work is a task of the manager's: it ends as it should even if whoever asked is gone,
    and many who ask at a time wait for one.

    Args:
        monotonic: Seconds from any start, for the age of a proof.
        limit: How long the store may take, in seconds.
    """

    def __init__(
        self, monotonic: Callable[[], float] = time.monotonic, limit: float = LIMIT_S
    ) -> None:
        self._monotonic = monotonic
        self._limit = limit
        self._task: asyncio.Task[None] | None = None
        self._found: tuple[float, str | None] | None = None

    async def check(self, context: EngineContext) -> str | None:
        """Return why the store takes no bytes, None if it does."""
        if self._found is not None and self._monotonic() - self._found[0] < MAX_AGE_S:
            return self._found[1]
        if self._task is None or self._task.done():
            self._found = None
            try:
                self._task = context.spawn(self._prove(context.store), "readiness")
            except CacheStreamError as error:
                return text_of(error)
        # Twice the limit, for what was begun has to be undone as well.
        await asyncio.wait((self._task,), timeout=2 * self._limit)
        return "the check did not end" if self._found is None else self._found[1]

    def cancel(self) -> None:
        """Give up what is being tried."""
        if self._task is not None:
            self._task.cancel()

    async def _prove(self, store: Store) -> None:
        failure = None
        try:
            async with asyncio.timeout(self._limit):
                await _write_something(store)
        except TimeoutError:
            failure = f"it took no byte within {self._limit:g} s"
        except CacheStreamError as error:
            failure = text_of(error)
        except Exception as error:  # a plug-in's bug is a reason like any other
            failure = f"it failed unexpectedly: {type(error).__name__}"
        self._found = (self._monotonic(), failure)


async def _write_something(store: Store) -> None:
    """Put a few bytes through the store as a download does; nothing of them stays.

    Raises:
        StoreError: If the store cannot take them.
    """
    size = len(_BYTES)
    entry = await store.create(Key(_URL), _URL, Representation(complete_length=size))
    try:
        writer = entry.writer(0)
        try:
            writer.write(_BYTES)
            await writer.commit()
        finally:
            await writer.aclose()
        await entry.read(Span(0, size))
    finally:
        await entry.aclose()  # it was never published, so it vanishes
