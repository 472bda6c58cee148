"""The process of a limited origin: ``python -m benchmarks.limited_origin --port 8000 FOLDER``."""

from __future__ import annotations

import argparse
import asyncio
import json
from pathlib import Path

from cachestream.testing.origin import FileContent, Origin, OriginRequest

__all__ = ["main"]


def _state(origin: Origin) -> bytes:
    """Return what was asked and sent, as JSON; what looks at that does not count."""
    asked = [
        request
        for request in origin.requests
        if request.method == "GET" and request.path.endswith(".bin")
    ]
    state = {
        "requests": len(asked),
        "content": sum(request.bytes_sent for request in asked),
        "under_way": sum(not request.done for request in asked),
    }
    return json.dumps(state).encode()


def _listing(root: Path) -> bytes:
    """Return a page of links, by which some find out what there is."""
    links = (f'<a href="{file.name}">{file.name}</a>' for file in sorted(root.glob("*.bin")))
    return f"<html><body>{''.join(links)}</body></html>".encode()


async def _run(options: argparse.Namespace) -> None:
    # A small buffer, so that what counts as sent is what somebody has nearly read.
    async with Origin(port=options.port, send_buffer=128 * 1024) as origin:

        def state(_: OriginRequest) -> bytes:
            return _state(origin)

        origin.add("/-/state", state, cache_control="no-store")
        origin.add("/", _listing(options.root), content_type="text/html")
        for file in options.root.glob("*.bin"):
            origin.add(
                f"/{file.name}",
                FileContent.open(file),
                latency=options.latency,
                rate=options.rate,
                cache_control="public, max-age=86400",
            )
        await asyncio.Event().wait()


def main() -> None:
    """Run until killed."""
    parser = argparse.ArgumentParser(description="An origin with latency and a limited rate.")
    parser.add_argument("root", type=Path, help="folder of the files")
    parser.add_argument("--port", type=int, required=True, help="port of 127.0.0.1")
    parser.add_argument("--latency", type=float, default=0.0, help="seconds before each answer")
    parser.add_argument("--rate", type=float, help="bytes a second and connection")
    asyncio.run(_run(parser.parse_args()))


if __name__ == "__main__":
    main()
