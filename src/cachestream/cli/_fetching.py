"""`get`, `cat` and `prefetch`: bytes through the cache to a file, to stdout, or just in."""

from __future__ import annotations

import asyncio
import os
import stat
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING
from urllib.parse import unquote, urlsplit

import click

from cachestream.cli._exits import EPILOG, Failure, exit_code
from cachestream.cli._options import ORIGIN, PLUGINS, STORE, STREAM, SettingsCommand, with_settings
from cachestream.cli._output import Meter, notice, open_meter
from cachestream.cli._session import open_cache, run
from cachestream.cli._values import RangeType, SizeType
from cachestream.core.ranges import RangeSpec
from cachestream.core.urls import display
from cachestream.errors import CacheStreamError, RangeNotSatisfiableError

if TYPE_CHECKING:
    from cachestream.config import Configuration
    from cachestream.manager import CacheManager
    from cachestream.stream import CacheStream

__all__ = ["cat", "get", "prefetch"]

quiet_option = click.option("--quiet", "-q", is_flag=True, help="Show no progress.")


@click.command(cls=SettingsCommand, epilog=EPILOG)
@click.argument("url")
@click.option(
    "--output", "-o", metavar="FILE", help="Where to; - is stdout.  [the URL's last segment]"
)
@click.option("--force", "-f", is_flag=True, help="Replace a file that --output did not name.")
@quiet_option
@with_settings(PLUGINS, STORE, STREAM, ORIGIN)
def get(
    given: Configuration,
    /,
    url: str,
    output: str | None,
    force: bool,
    quiet: bool,
) -> None:
    """Fetch URL to a file, through the cache.

    What is held is not fetched again, so an interrupted fetch goes on where it was.
    """
    target = output or _name_from(url)
    if output is None and not force and os.path.lexists(target):
        raise Failure(f"{target} exists; name it with --output, or replace it with --force")
    run(_get(given, url, target, quiet))


def _name_from(url: str) -> str:
    """Return the file name a URL suggests: one that is no path and not hidden."""
    last = unquote(urlsplit(url).path.rpartition("/")[2], errors="replace")
    name = "".join("_" if c in "/\\\0" or not c.isprintable() else c for c in last).lstrip(".")
    return name or "index"


async def _get(given: Configuration, url: str, target: str, quiet: bool) -> None:
    async with open_cache(given, start_server=False) as cache:
        with open_meter(quiet=quiet) as meter:
            if target == "-":
                await _copy(cache, url, None, sys.stdout.buffer, meter, "stdout")
                return
            with _whole_file(target) as file:
                size = await _copy(cache, url, None, file, meter, target)
    notice(f"{target}: {size} bytes")


@contextmanager
def _whole_file(target: str) -> Iterator[IO[bytes]]:
    """Open a file under another name until it is whole: no half of one looks like it."""
    partial = Path(f"{target}.part-{os.getpid()}")
    try:
        with open(partial, "wb") as file:
            yield file
        os.replace(partial, target)
    except OSError as error:
        raise Failure(f"cannot write {target}: {error.strerror or error}") from error
    finally:
        partial.unlink(missing_ok=True)


@click.command(cls=SettingsCommand, epilog=EPILOG)
@click.argument("url")
@click.option(
    "--range", "-r", "span", type=RangeType(), help="Inclusive: 0-499, 500- or the last, -500."
)
@with_settings(PLUGINS, STORE, STREAM, ORIGIN)
def cat(given: Configuration, /, url: str, span: RangeSpec | None) -> None:
    """Write URL, or a range of its bytes, to stdout, through the cache."""
    run(_cat(given, url, span))


async def _cat(given: Configuration, url: str, span: RangeSpec | None) -> None:
    async with open_cache(given, start_server=False) as cache:
        with open_meter(quiet=True) as meter:
            await _copy(cache, url, span, sys.stdout.buffer, meter, "stdout")


async def _copy(
    cache: CacheManager,
    url: str,
    span: RangeSpec | None,
    out: IO[bytes],
    meter: Meter,
    name: str,
) -> int:
    """Write the bytes of a URL as they arrive, and return how many there were."""
    blocks = _may_block(out)
    async with _stream(cache, url) as stream:
        start, end = await _bounds(stream, span)
        response = await stream.request(start, end)
        try:
            total = response.complete_length if span is None else None
            done = 0
            async for piece in response:
                if blocks:
                    # A pipe that nobody reads must not stop the downloads.
                    await asyncio.to_thread(out.write, piece)
                else:
                    out.write(piece)
                done += len(piece)
                meter.update(name, done, total)
        finally:
            await response.aclose()
    out.flush()
    return done


def _may_block(out: IO[bytes]) -> bool:
    """Tell whether writing may wait for somebody else."""
    try:
        return not stat.S_ISREG(os.fstat(out.fileno()).st_mode)
    except OSError:  # what is no real file does not wait
        return False


async def _bounds(stream: CacheStream, span: RangeSpec | None) -> tuple[int, int | None]:
    """Return a range as half-open positions; only a suffix needs to know the length."""
    if span is None:
        return 0, None
    if span.first_pos is not None:
        return span.first_pos, None if span.last_pos is None else span.last_pos + 1
    length = (await stream.head()).complete_length
    if length is None:
        raise RangeNotSatisfiableError("the length is unknown, and so are the last bytes")
    found = span.span(length)
    if not found:
        raise RangeNotSatisfiableError("there are no last bytes", complete_length=length)
    return found.start, found.stop


@asynccontextmanager
async def _stream(cache: CacheManager, url: str) -> AsyncIterator[CacheStream]:
    """Hold a stream while it is used."""
    stream = cache.create_stream(url)
    try:
        yield stream
    finally:
        stream.release()


@click.command(cls=SettingsCommand, epilog=EPILOG)
@click.argument("urls", nargs=-1, required=True, metavar="URL...")
@click.option("--bytes", "size", type=SizeType(), help="Only the first so many bytes of each.")
@click.option(
    "--jobs", "-j", type=click.IntRange(1, 64), default=2, show_default=True, help="At a time."
)
@quiet_option
@with_settings(PLUGINS, STORE, STREAM, ORIGIN)
def prefetch(
    given: Configuration,
    /,
    urls: tuple[str, ...],
    size: int | None,
    jobs: int,
    quiet: bool,
) -> None:
    """Fetch URLs into the cache, whole or only their beginning.

    One that fails does not stop the others; the exit code is that of the first failure.
    """
    failures = run(_prefetch(given, dict.fromkeys(urls), size, jobs, quiet))
    for url, error in failures:
        notice(f"{display(url)}: {error}")
    if failures:
        raise Failure(f"{len(failures)} of {len(urls)} failed", exit_code(failures[0][1]))


async def _prefetch(
    given: Configuration,
    urls: dict[str, None],
    size: int | None,
    jobs: int,
    quiet: bool,
) -> list[tuple[str, CacheStreamError]]:
    failed: dict[str, CacheStreamError] = {}
    free = asyncio.Semaphore(jobs)

    async def one(url: str, meter: Meter) -> None:
        try:
            async with free:
                await _fetch_in(cache, url, size, meter)
        except CacheStreamError as error:
            failed[url] = error

    async with open_cache(given, start_server=False) as cache:
        with open_meter(quiet=quiet) as meter:
            async with asyncio.TaskGroup() as tasks:
                for url in urls:
                    tasks.create_task(one(url, meter))
    return [(url, failed[url]) for url in urls if url in failed]


async def _fetch_in(cache: CacheManager, url: str, size: int | None, meter: Meter) -> None:
    async with _stream(cache, url) as stream:
        # No TaskGroup, which would wrap the one error that can come out of this.
        watcher = asyncio.create_task(_watch(stream, display(url), size, meter))
        try:
            await cache.pre_cache_url(url, bytes=size)
        finally:
            watcher.cancel()
            await asyncio.wait((watcher,))


async def _watch(stream: CacheStream, name: str, size: int | None, meter: Meter) -> None:
    """Show the states of a stream until cancelled."""
    async for state in stream.states():
        total = state.complete_length
        if size is not None:
            total = size if total is None else min(size, total)
        meter.update(name, state.stored_bytes, total)
