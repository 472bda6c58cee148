"""A reverse proxy that keeps nothing: ``aiohttp_proxy.py PORT ORIGIN FOLDER``."""

from __future__ import annotations

import sys

import aiohttp
from aiohttp import web

_PIECE = 64 * 1024
_ON = ("Range", "If-Range")
_BACK = ("Content-Length", "Content-Range", "Content-Type", "ETag", "Accept-Ranges")


def _application(origin: str) -> web.Application:
    session = web.AppKey("session", aiohttp.ClientSession)
    app = web.Application()

    async def opened(app: web.Application) -> None:
        connector = aiohttp.TCPConnector(limit=0)
        app[session] = aiohttp.ClientSession(
            connector=connector,
            timeout=aiohttp.ClientTimeout(total=None),
            auto_decompress=False,
        )

    async def answer(request: web.Request) -> web.StreamResponse:
        fields = {name: request.headers[name] for name in _ON if name in request.headers}
        async with app[session].get(origin + request.path, headers=fields) as upstream:
            back = {name: upstream.headers[name] for name in _BACK if name in upstream.headers}
            response = web.StreamResponse(status=upstream.status, headers=back)
            await response.prepare(request)
            async for piece in upstream.content.iter_chunked(_PIECE):
                await response.write(piece)
            await response.write_eof()
            return response

    app.on_startup.append(opened)
    app.router.add_get("/{path:.*}", answer)
    return app


if __name__ == "__main__":
    web.run_app(
        _application(sys.argv[2]),
        host="127.0.0.1",
        port=int(sys.argv[1]),
        access_log=None,
        backlog=4096,
        print=lambda *_: None,
    )
