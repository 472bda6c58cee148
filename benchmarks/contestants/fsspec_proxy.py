"""fsspec's blockcache behind aiohttp: ``fsspec_proxy.py PORT ORIGIN FOLDER``."""

from __future__ import annotations

import asyncio
import os
import re
import sys
import threading
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import fsspec
from aiohttp import web

_BLOCK = 1 << 20


class _Opener:
    """Opens files of the cache; one after the other, since two first opens spoil its index."""

    def __init__(self, origin: str, folder: str) -> None:
        self._origin = origin
        self._lock = threading.Lock()
        self._files = fsspec.filesystem(
            "blockcache",
            target_protocol="http",
            cache_storage=folder,
            cache_check=3600,
            expiry_time=86400,
        )

    def __call__(self, path: str) -> Any:
        with self._lock:
            return self._files.open(self._origin + path, mode="rb", block_size=_BLOCK)


def _span(field: str, size: int) -> tuple[int, int] | None:
    found = re.fullmatch(r"bytes=(\d+)-(\d*)", field)
    return (int(found[1]), min(int(found[2] or size - 1) + 1, size)) if found else None


def _head(span: tuple[int, int] | None, size: int) -> web.StreamResponse:
    start, stop = span or (0, size)
    fields = {"Content-Length": str(stop - start), "Accept-Ranges": "bytes"}
    if span:
        fields["Content-Range"] = f"bytes {start}-{stop - 1}/{size}"
    return web.StreamResponse(status=206 if span else 200, headers=fields)


def _application(origin: str, folder: str) -> web.Application:
    opener = _Opener(origin, folder)
    pool = ThreadPoolExecutor(32)
    reading: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)

    async def answer(request: web.Request) -> web.StreamResponse:
        run = asyncio.get_running_loop().run_in_executor
        file = await run(pool, opener, request.path)
        try:
            # A complete file is opened as a plain one, which does not know its size.
            size = await run(pool, file.seek, 0, os.SEEK_END)
            span = _span(request.headers.get("Range", ""), size)
            response = _head(span, size)
            await response.prepare(request)
            start, stop = span or (0, size)
            await run(pool, file.seek, start)
            while start < stop:
                # It names a block as held before the block is there: one read at a time of a file.
                async with reading[request.path]:
                    piece = await run(pool, file.read, min(_BLOCK, stop - start))
                await response.write(piece)
                start += len(piece)
            await response.write_eof()
            return response
        finally:
            await run(pool, file.close)

    app = web.Application()
    app.router.add_get("/{path:.*}", answer)
    return app


if __name__ == "__main__":
    web.run_app(
        _application(sys.argv[2], sys.argv[3]),
        host="127.0.0.1",
        port=int(sys.argv[1]),
        access_log=None,
        backlog=4096,
        print=lambda *_: None,
    )
