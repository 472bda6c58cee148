"""How a cache is mounted in web applications, to be type-checked only."""

from __future__ import annotations

from typing import assert_type

from aiohttp import web
from fastapi import FastAPI
from starlette.applications import Starlette
from starlette.middleware.gzip import GZipMiddleware
from starlette.routing import Mount

from cachestream import CacheManager
from cachestream.frontends import AiohttpFrontend, AsgiFrontend, LoopbackFrontend


def starlette() -> Starlette:
    door = AsgiFrontend("https://films.example/media", hosts=["www.films.example"], token="t")
    return Starlette(routes=[Mount("/media", door), Mount("/small", GZipMiddleware(door))])


def fastapi() -> FastAPI:
    door = AsgiFrontend("https://films.example/media")
    app = FastAPI()
    app.mount("/media", door)
    return app


def standalone() -> Starlette:
    door = AsgiFrontend("https://films.example", client_idle_timeout=60.0)
    return Starlette(routes=[Mount("/", door.standalone(CacheManager(frontend=door)))])


def aiohttp() -> web.Application:
    door = AiohttpFrontend("https://films.example/media", schemes=frozenset({"https"}))
    app = web.Application()
    app.add_subapp("/media/", door.app)
    assert_type(door.source_for("https://films.example/media/a.example/x"), str | None)
    return app


async def unix() -> None:
    place = "/run/cachestream/socket"
    door = LoopbackFrontend(
        socket_path=place, socket_mode="0660", public_url="https://films.example"
    )
    async with CacheManager(frontend=door) as cache:
        assert_type(cache.get_cache_url("https://a.example/x"), str)
    async with CacheManager(socket_path=place, public_url="https://films.example") as cache:
        assert_type(cache.get_cache_url("https://a.example/x"), str)
