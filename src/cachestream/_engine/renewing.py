"""Another URL for a source whose URL the origin refuses: one that has expired, as a rule."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import inspect
import threading
from typing import TYPE_CHECKING, TypeVar

from cachestream.abc import RefreshFunction
from cachestream.core.urls import normalize
from cachestream.errors import ConfigurationError, UpstreamTimeoutError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from .resource import Resource

__all__ = ["renew_url"]

T = TypeVar("T")


async def renew_url(resource: Resource, status: int, asked: str) -> bool:
    """Have ``resource`` ask another URL than ``asked``, which was refused; True if there is one.

    One asks at a time: connections that are refused together are renewed together.

    Raises:
        UpstreamTimeoutError: If it takes longer than a request may.
        ConfigurationError: If the new URL cannot be asked.
        Exception: What the program's function raises.
    """
    limit = resource.settings.request_timeout
    within = asyncio.timeout(limit)
    try:
        async with within, resource.renewing:
            if resource.url != asked:
                return True
            renewed = await _ask(resource, status)
    except TimeoutError as error:
        if not within.expired():
            raise  # it is the function's own
        raise UpstreamTimeoutError(
            f"the URL was not renewed within {limit:g} s", url=resource.source
        ) from error
    if renewed is None:
        return False
    resource.use_url(_checked(resource, renewed))
    return True


async def _ask(resource: Resource, status: int) -> str | None:
    """Ask the program's own function, and the transport if that knows nothing."""
    if resource.refresh is not None:
        renewed = await _call(resource.refresh, resource.source, status)
        if renewed is not None:
            return renewed
    return await resource.context.transport.refresh(resource.source, status)


async def _call(refresh: RefreshFunction, source: str, status: int) -> str | None:
    """Await an asynchronous function; let any other one run where it may block."""
    asynchronous = inspect.iscoroutinefunction(refresh)
    call = functools.partial(refresh, source, status)
    result: Awaitable[str | None] | str | None = call() if asynchronous else await _in_thread(call)
    return result if result is None or isinstance(result, str) else await result


async def _in_thread(function: Callable[[], T]) -> T:
    """Call a function in a thread of its own, which nobody waits for at the end.

    The loop's executor would be joined when the loop closes, so that a function that never
    returns would keep the program from ending.
    """
    loop = asyncio.get_running_loop()
    future: asyncio.Future[T] = loop.create_future()

    def settle(result: T | None, error: BaseException | None) -> None:
        if future.done():
            return
        if error is None:
            future.set_result(result)  # type: ignore[arg-type]  # a result without an error
        else:
            future.set_exception(error)

    def work() -> None:
        result, failed = None, None
        try:
            result = function()
        except Exception as error:
            failed = error
        except BaseException as error:  # SystemExit of a library's command line, for example
            failed = RuntimeError(f"renewing ended with {error!r}")
        with contextlib.suppress(RuntimeError):  # the loop has been closed meanwhile
            loop.call_soon_threadsafe(settle, result, failed)

    threading.Thread(target=work, name="cachestream: refresh", daemon=True).start()
    return await future


def _checked(resource: Resource, renewed: object) -> str:
    """Return a renewed URL in the spelling that is used throughout."""
    if not isinstance(renewed, str):
        raise ConfigurationError(
            f"refresh returned {renewed!r}, which is no URL",
            url=resource.source,
            hint="Return the new URL as text, or None if there is none.",
        )
    url = normalize(renewed)
    schemes = resource.context.transport.schemes
    if url.partition(":")[0] not in schemes:
        raise ConfigurationError(
            "refresh returned a URL that no transport serves",
            url=url,
            hint="These are served: " + ", ".join(sorted(schemes)),
        )
    return url
