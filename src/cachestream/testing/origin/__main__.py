"""Run an origin as a process: ``python -m cachestream.testing.origin --size 1000000000``.

Prints the URL of each file, one a line, once it listens; ends on SIGINT or SIGTERM.
"""

from __future__ import annotations

import argparse
import asyncio
import mimetypes
import signal
import sys
from pathlib import Path
from urllib.parse import quote

from cachestream.testing.origin import FileContent, Origin, pattern


def _arguments(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m cachestream.testing.origin",
        description="A local HTTP origin for tests and demonstrations.",
    )
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on")
    parser.add_argument("--port", type=int, default=0, help="port, 0 for any free one")
    parser.add_argument(
        "--file", action="append", default=[], type=Path, help="file to serve under its name"
    )
    parser.add_argument(
        "--size", action="append", default=[], type=int, help="serve a pattern of so many bytes"
    )
    parser.add_argument("--rate", type=float, help="bytes a second and connection")
    parser.add_argument("--latency", type=float, default=0.0, help="seconds before each answer")
    parser.add_argument("--no-ranges", action="store_true", help="do not understand Range")
    return parser.parse_args(argv)


async def _run(options: argparse.Namespace) -> None:
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stopped.set)
    knobs = {
        "rate": options.rate,
        "latency": options.latency,
        "ranges": not options.no_ranges,
    }
    async with Origin(host=options.host, port=options.port) as origin:
        paths = []
        for file in options.file:
            path = "/" + quote(file.name)
            kind = mimetypes.guess_type(file.name)[0] or "application/octet-stream"
            origin.add(path, FileContent.open(file), content_type=kind, **knobs)
            paths.append(path)
        for size in options.size:
            path = f"/{size}.bin"
            origin.add(path, pattern(size, size), **knobs)
            paths.append(path)
        for path in paths or ["/"]:
            sys.stdout.write(origin.url(path) + "\n")
        sys.stdout.flush()
        await stopped.wait()


def main(argv: list[str] | None = None) -> None:
    """Run until a signal comes."""
    asyncio.run(_run(_arguments(argv)))


if __name__ == "__main__":
    main()
