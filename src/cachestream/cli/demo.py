"""`demo`: the main job shown on this machine alone, with figures that must hold.

A local origin sends a media file slowly. A real ``cachestream serve`` stands before it, and
is killed in the middle. What the origin sent, the origin itself counts.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

import attrs
import click

from cachestream.cli._exits import EPILOG, Failure
from cachestream.cli._media import make_media
from cachestream.cli._output import Meter, columns, open_meter
from cachestream.cli._session import run
from cachestream.core.quantities import format_size
from cachestream.core.urls import local_path

if TYPE_CHECKING:
    from aiohttp import ClientSession

    from cachestream.testing.origin import Origin

__all__ = ["Step", "demo"]

_MIB: Final = 1 << 20
_SEEK_AT: Final = 0.25
_KILL_AT: Final = 0.5
_SEEK_TO: Final = 0.9
_SEEK_BYTES: Final = 128 << 10
# What may be lost when the server is killed: a commit that was due, and what was on the way.
_LOST_BYTES: Final = 2 * _MIB
_START_TIMEOUT_S: Final = 20.0
# Small, so that what the origin has sent is what the server has received.
_SEND_BUFFER: Final = 64 << 10


@attrs.frozen
class Step:
    """One thing that was shown.

    Attributes:
        name: What it was.
        delivered: Bytes that the reader got.
        origin: Bytes that the origin sent meanwhile, by its own count.
        seconds: How long it took.
    """

    name: str
    delivered: int
    origin: int
    seconds: float

    @property
    def cells(self) -> tuple[str, ...]:
        """Its row in the table."""
        held = max(0, self.delivered - self.origin)
        sizes = (format_size(size) for size in (self.delivered, self.origin, held))
        return (*sizes, f"{self.seconds:.2f} s", self.name)


@click.command(epilog=EPILOG)
@click.option(
    "--seconds",
    type=click.FloatRange(1, 600),
    default=8.0,
    show_default=True,
    help="How long the origin needs to send the file once.",
)
def demo(seconds: float) -> None:
    """Show the main job without a network, in about ten seconds.

    A player starts at once, seeks, survives a kill and a restart, and the second time
    nothing is fetched. It fails if a figure is not as it should be.
    """
    with tempfile.TemporaryDirectory(prefix="cachestream-demo-") as name:
        click.echo("making a media file")
        media = make_media(Path(name))
        story = run(tell(media, Path(name) / "cache", seconds))
    head = ("DELIVERED", "ORIGIN SENT", "WAS HELD", "TOOK", "WHAT")
    click.echo("")
    click.echo(columns(head, [step.cells for step in story.steps], right=4))
    sent = format_size(story.sent())
    click.echo(f"\nThe file has {format_size(story.size)}; the origin sent {sent} in all.")
    if story.broken:
        raise Failure("not as promised: " + "; ".join(story.broken))
    click.echo("All as promised: what was held was not fetched again.")


async def tell(media: Path, cache_dir: Path, seconds: float) -> Story:
    """Show everything, in order, and return what was seen."""
    # Here and not above: the command line starts without an HTTP library.
    from aiohttp import ClientSession

    from cachestream.testing.origin import Origin

    async with Origin(send_buffer=_SEND_BUFFER) as origin, ClientSession() as http:
        story = Story(media, cache_dir, seconds, origin, http)
        await story.first_act()
        await origin.wait_idle()
        await story.second_act()
    return story


class Story:
    """The demonstration as a sequence of steps.

    Args:
        media: The file that the origin serves.
        cache_dir: Where the server keeps bytes.
        seconds: How long the origin needs to send the file once.
        origin: The origin, which listens.
        http: What the player asks with.
    """

    def __init__(
        self, media: Path, cache_dir: Path, seconds: float, origin: Origin, http: ClientSession
    ) -> None:
        self.content = media.read_bytes()
        self.size = len(self.content)
        self.path = f"/{media.name}"
        self.cache_dir = cache_dir
        self.origin = origin
        self.http = http
        self.steps: list[Step] = []
        self.broken: list[str] = []
        rate = self.size / seconds
        origin.add(self.path, self.content, rate=rate, content_type="application/octet-stream")
        click.echo(
            f"an origin at {origin.url(self.path)} "
            f"sends {format_size(self.size)} at {format_size(int(rate))}/s"
        )

    async def first_act(self) -> None:
        """Play, seek, and be killed."""
        async with self._server() as (url, process):
            click.echo(f"a player reads {url}")
            with open_meter() as meter:
                await self._play_seek_kill(url, process, meter)

    async def second_act(self) -> None:
        """Go on after a restart, and read again."""
        lost = self.sent()
        async with self._server() as (url, _):
            click.echo("the server was killed and is there again; the player asks once more")
            with open_meter() as meter:
                await self._read_whole(url, "read all after the restart", meter)
            self._expect(
                self.sent() <= self.size + _LOST_BYTES,
                f"the origin sent {format_size(self.sent())} in all, "
                f"{format_size(lost)} of it before the kill",
            )
            before = self.sent()
            click.echo("and a second time")
            with open_meter() as meter:
                await self._read_whole(url, "read all a second time", meter)
            self._expect(self.sent() == before, "the second time was not free")

    @asynccontextmanager
    async def _server(self) -> AsyncIterator[tuple[str, asyncio.subprocess.Process]]:
        """Run ``cachestream serve``; yields the local URL of the file, and the process."""
        # Settings of the person who looks on are none of the demonstration's.
        clean = {k: v for k, v in os.environ.items() if not k.startswith("CACHESTREAM_")}
        clean["CACHESTREAM_CONFIG"] = "none"
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "cachestream", "serve", "--port", "0"),
            *("--cache-dir", str(self.cache_dir)),
            # With all connections that pay, most of the file would be there before the seek.
            *("--max-connections", "2"),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env={**clean, "CACHESTREAM_PLUGINS": "off"},
        )
        assert process.stdout is not None
        assert process.stderr is not None
        try:
            async with asyncio.timeout(_START_TIMEOUT_S):
                base = (await process.stdout.readline()).decode().strip()
            if not base:
                raise Failure(f"serve did not start: {(await process.stderr.read()).decode()}")
            yield base + local_path(self.origin.url(self.path)), process
        finally:
            if process.returncode is None:
                process.terminate()
            await process.communicate()

    async def _play_seek_kill(
        self, url: str, process: asyncio.subprocess.Process, meter: Meter
    ) -> None:
        """Read from the start; seek at a quarter, and kill the server at the half."""
        from aiohttp import ClientError

        began = time.monotonic()
        got = 0
        sought = False
        try:
            async with self.http.get(url) as response:
                async for piece in response.content.iter_any():
                    if not got:
                        self._note("start to play", len(piece), began, 0)
                        self._expect(
                            self.sent() < self.size * _SEEK_AT, "the start was not at once"
                        )
                    got += len(piece)
                    meter.update("play", got, self.size)
                    if not sought and got >= self.size * _SEEK_AT:
                        sought = True
                        await self._seek(url)
                    if got >= self.size * _KILL_AT and process.returncode is None:
                        process.kill()
                        await process.wait()
        except ClientError:
            pass  # cut, visibly: what was promised of an answer that cannot be completed
        else:
            self.broken.append("an answer ended as if it were whole when the server was killed")
        self._note("play to the half, then kill -9", got, began, 0)

    async def _seek(self, url: str) -> None:
        """Ask for bytes far ahead of what is there."""
        start = int(self.size * _SEEK_TO)
        stop = min(self.size, start + _SEEK_BYTES)
        began, before = time.monotonic(), self.sent()
        headers = {"Range": f"bytes={start}-{stop - 1}"}
        async with self.http.get(url, headers=headers) as response:
            piece = await response.read()
        self._expect(response.status == 206, f"the seek was answered {response.status}")
        self._expect(piece == self.content[start:stop], "the seek brought wrong bytes")
        # Had it waited for the download to come there, most of the file would have been sent.
        self._expect(self.sent() - before < self.size * 0.3, "the seek was not answered at once")
        self._note("seek to 90%", len(piece), began, before)

    async def _read_whole(self, url: str, name: str, meter: Meter) -> None:
        began, before = time.monotonic(), self.sent()
        digest = hashlib.sha256()
        got = 0
        async with self.http.get(url) as response:
            async for piece in response.content.iter_any():
                digest.update(piece)
                got += len(piece)
                meter.update(name, got, self.size)
        right = hashlib.sha256(self.content).digest()
        self._expect(digest.digest() == right, f"{name}: wrong bytes")
        self._note(name, got, began, before)

    def sent(self) -> int:
        """Return how many bytes the origin has sent, by its own count."""
        return self.origin.bytes_sent(self.path)

    def _note(self, name: str, delivered: int, began: float, before: int) -> None:
        self.steps.append(Step(name, delivered, self.sent() - before, time.monotonic() - began))

    def _expect(self, holds: bool, otherwise: str) -> None:
        if not holds:
            self.broken.append(otherwise)
