"""Opening a cache for a command, and running the command in an event loop."""

from __future__ import annotations

import asyncio
import logging
import signal
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any, TypeVar

import click

from cachestream.cli._exits import Exit, Failure
from cachestream.errors import CacheStreamError

if TYPE_CHECKING:
    from cachestream.manager import CacheManager

__all__ = ["Program", "configure_logging", "open_cache", "run", "store_option"]

T = TypeVar("T")
F = TypeVar("F", bound=Callable[..., object])


def store_option(function: F) -> F:
    """Add ``--store``, which names the plug-in that keeps the bytes."""
    return click.option(
        "--store",
        envvar="CACHESTREAM_STORE",
        metavar="NAME",
        help="Plug-in that keeps the bytes, or 'distribution:name'.  [disk]",
    )(function)


def open_cache(given: dict[str, Any], store: str | None, **settings: object) -> CacheManager:
    """Return a manager with what was given on the command line; the caller enters it.

    Args:
        given: Settings that were given.
        store: Name of the store plug-in, None for the default.
        settings: Settings that the command decides.
    """
    # Here and not above: it imports aiohttp, which `--help` and `url` have no use for.
    from cachestream.manager import CacheManager

    return CacheManager(store=store or "disk", **{**given, **settings})


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


def configure_logging(verbosity: int) -> None:
    """Send the package's log to stderr; the library itself never does."""
    levels = (logging.WARNING, logging.INFO, logging.DEBUG)
    logging.basicConfig(format="%(levelname)s %(name)s: %(message)s")
    logging.getLogger("cachestream").setLevel(levels[min(verbosity, len(levels) - 1)])


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
