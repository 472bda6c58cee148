"""An extension of Jupyter's server: a cache below its own URL, behind its own authentication.

    jupyter server extension enable cachestream.integrations.jupyter_extension

``/cachestream/example.com/film.mp4`` is then read through a cache in the server's own process, by
whoever may use the server. Bytes are sent as they arrive and as the client takes them, whatever
their number. The cache is opened at the first request, as its configuration says
(`cachestream.config`), and closed with the server.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from typing import Any, Final
from urllib.parse import unquote_plus

from jupyter_server.auth.decorator import authorized
from jupyter_server.base.handlers import JupyterHandler
from jupyter_server.extension.application import ExtensionApp
from jupyter_server.utils import url_path_join
from tornado import web
from tornado.iostream import StreamClosedError
from traitlets import Dict

from cachestream._engine.file import materialise
from cachestream.abc import END, Answer, RequestHead
from cachestream.core.fields import Fields
from cachestream.errors import CacheStreamError
from cachestream.integrations.jupyter import EXTENSION
from cachestream.manager import CacheManager

__all__ = ["CacheExtension", "CacheRequestHandler"]

logger: Final = logging.getLogger("cachestream.jupyter")

PIECE: Final = 256 * 1024
"""Bytes handed to tornado at a time: what one client holds of memory."""

# How the content is framed is tornado's affair.
_FRAMING: Final = frozenset({"connection", "content-length", "keep-alive", "transfer-encoding"})


class CacheExtension(ExtensionApp):
    """Serves a cache below ``/cachestream/`` of a Jupyter server."""

    name = EXTENSION
    extension_url = f"/{EXTENSION}/"
    load_other_extensions = True

    cache = Dict(
        help="Settings of the cache; they go before its configuration file and the environment."
    ).tag(config=True)

    def initialize_settings(self) -> None:
        """Make room for the cache, which is opened when it is first asked."""
        self._manager: CacheManager | None = None
        self._opening = asyncio.Lock()

    def initialize_handlers(self) -> None:
        """Answer below our path."""
        self.handlers.append((rf"/{EXTENSION}/.*", CacheRequestHandler, {"extension": self}))

    async def manager(self) -> CacheManager:
        """Return the cache, opened.

        Raises:
            CacheStreamError: If it cannot be opened; the next request tries again.
        """
        async with self._opening:
            if self._manager is None:
                # Whoever may use this server can fetch from anywhere already, by a kernel.
                settings = {"allow_hosts": ("any",), **self.cache, "start_server": False}
                # Jupyter has checked who asks, and the token of a server of ours is not known.
                opened = CacheManager.from_config(**{**settings, "token": None})
                await opened.start()
                self._manager = opened
        return self._manager

    async def stop_extension(self) -> None:
        """Close the cache."""
        if self._manager is not None:
            await self._manager.aclose()


class CacheRequestHandler(JupyterHandler):
    """Passes a request to the cache, and its answer to the client."""

    auth_resource = "contents"

    def initialize(self, extension: CacheExtension) -> None:
        """Note whose cache it is."""
        self._extension = extension
        self._sending: asyncio.Task[None] | None = None

    @web.authenticated
    @authorized
    async def get(self) -> None:
        """Answer as the cache does."""
        try:
            manager = await self._extension.manager()
        except CacheStreamError as error:
            raise web.HTTPError(
                503, log_message="the cache cannot be opened: %s", args=(error,)
            ) from error
        self._sending = asyncio.ensure_future(self._respond(manager))
        # In a task of its own, which ends when the client goes, wherever it is waiting.
        await asyncio.wait((self._sending,))
        if not self._sending.cancelled():
            self._sending.result()

    head = get

    def on_connection_close(self) -> None:
        """Stop wanting bytes for a client that has gone."""
        super().on_connection_close()
        if self._sending is not None:
            self._sending.cancel()

    async def _respond(self, manager: CacheManager) -> None:
        method = str(self.request.method)
        head = RequestHead(
            method=method,
            target=self._target(),
            fields=Fields.of(*self.request.headers.get_all()),
            client=self.request.remote_ip,
        )
        answer = await manager.handler.answer(head)
        try:
            self._begin(answer)
            if method == "HEAD" or answer.head.status in (204, 304):
                return
            await self._send(answer)
        except (StreamClosedError, web.Finish):
            logger.debug("the client has gone")
        except CacheStreamError as error:
            logger.info("cut an answer short: %s", error)
            with contextlib.suppress(StreamClosedError):
                self.detach().close()  # a clean end would look like the content's
        finally:
            answer.close()

    def _target(self) -> str:
        """Return the raw target below our path, without a token that was meant for Jupyter."""
        prefix = url_path_join(self.base_url, EXTENSION)
        target = str(self.request.uri)[len(prefix) :]
        provider = self.identity_provider
        if not provider.is_token_authenticated(self):
            return target
        token = provider.get_token(self)
        path, mark, query = target.partition("?")
        kept = [
            pair
            for pair in query.split("&")
            if not (pair.startswith("token=") and unquote_plus(pair[6:]) == token)
        ]
        return path + mark + "&".join(kept) if query and any(kept) else path

    def _begin(self, answer: Answer) -> None:
        """Replace Jupyter's fields by the cache's: content is not a page of Jupyter's."""
        self.clear()
        for name in list(self._headers):
            if name.lower() not in ("date", "server"):
                del self._headers[name]
        self.set_status(answer.head.status)
        for name, value in (*answer.head.fields, *answer.extra):
            if name.lower() == "date":
                self.set_header(name, value)
            elif name.lower() not in _FRAMING:
                self.add_header(name, value)
        if answer.length is not None and answer.head.status not in (204, 304):
            self.set_header("Content-Length", str(answer.length))

    async def _send(self, answer: Answer) -> None:
        while (piece := await answer.body.next(PIECE)) is not END:
            self.write(materialise(piece))
            await self.flush()  # returns when the client has room

    def compute_etag(self) -> None:
        """Leave the entity tag to the cache."""

    def check_etag_header(self) -> bool:
        """Leave conditions to the cache."""
        return False


def _jupyter_server_extension_points() -> list[dict[str, Any]]:
    return [{"module": __name__, "app": CacheExtension}]
