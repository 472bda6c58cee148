"""Opening a cache for a command, and running the command in an event loop."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Coroutine
from typing import TYPE_CHECKING, Any, TypeVar

import click

from cachestream.cli._exits import Exit, Failure
from cachestream.errors import CacheStreamError

if TYPE_CHECKING:
    from cachestream.config import Configuration
    from cachestream.manager import CacheManager

__all__ = ["Program", "open_cache", "run"]

T = TypeVar("T")


def open_cache(given: Configuration, **settings: object) -> CacheManager:
    """Return a manager as it was configured; the caller enters it.

    Args:
        given: What was configured, by flags and elsewhere.
        settings: Settings that the command decides.
    """
    # Here and not above: it imports aiohttp, which `--help` and `url` have no use for.
    from cachestream.manager import CacheManager

    # A file may say how `serve` shall be watched; other commands are not servers.
    return CacheManager(**given.arguments(**{"admin_port": None, **settings}))


def run(main: Coroutine[Any, Any, T]) -> T:
    """Run a command to its end; Ctrl-C and SIGTERM cancel it, so that it closes what it opened."""

    async def terminable() -> T:
        task = asyncio.current_task()
        assert task is not None
        terminated = False

        def terminate() -> None:
            nonlocal terminated
            terminated = True
            task.cancel()

        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, terminate)
        try:
            return await main
        except asyncio.CancelledError:
            if terminated:
                raise click.exceptions.Exit(Exit.TERMINATED) from None
            raise

    return asyncio.run(terminable())


class Program(click.Group):
    """The group of all commands: it gives errors and interrupts their exit codes."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run the chosen command."""
        try:
            return super().invoke(ctx)
        except CacheStreamError as error:
            raise Failure.from_error(error) from error
        except KeyboardInterrupt:
            raise click.exceptions.Exit(Exit.INTERRUPTED) from None
