"""A protocol for libmpv: ``cachestream://https://…`` is read through a cache, without HTTP.

    with cachestream.blocking.CacheManager() as cache:
        player = mpv.MPV()
        protocol = register(player, cache)
        player.play(protocol.url_for("https://example.com/film.mp4"))
        player.wait_for_playback()
        player.terminate()

It needs python-mpv (on the package index ``mpv``) and libmpv 2. mpv's own threads call in
here; each waits for the cache's loop, and where mpv quits or goes on to another file, any
wait ends at once. Nothing here raises into mpv: a failure is logged,
told to ``on_error``, and becomes mpv's error code.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import itertools
import logging
import re
from collections.abc import Callable, Coroutine
from typing import Any, Final, TypeVar

from cachestream import manager as _manager
from cachestream.blocking import CacheManager
from cachestream.core.urls import display, normalize
from cachestream.errors import CacheStreamError, ClosedError, ConfigurationError

__all__ = ["MpvProtocol", "register"]

logger: Final = logging.getLogger("cachestream.mpv")

T = TypeVar("T")
OnError = Callable[[str, CacheStreamError], object]

_NAME: Final = re.compile(r"[a-z][a-z0-9+-]*")
_LOADING_FAILED: Final = -13
_UNSUPPORTED: Final = -18
_FAILED: Final = -20  # what mpv calls a generic error
_READ_FAILED: Final = -1


def register(
    player: Any,
    cache: CacheManager,
    *,
    name: str = "cachestream",
    on_error: OnError | None = None,
) -> MpvProtocol:
    """Let a player read ``NAME://SOURCE`` through a cache, for as long as the player lives.

    Keys, ways to renew URLs and settings that were given to the cache for a source hold here, too.
    Terminate the player before the cache is closed; what it reads afterwards fails.

    Args:
        player: An ``mpv.MPV`` of python-mpv.
        cache: An open cache.
        name: The protocol's name.
        on_error: Called in a thread of mpv's with the source and what went wrong.

    Raises:
        ConfigurationError: If the name is taken or no name, or the cache is another one.
    """
    if not isinstance(cache, CacheManager):
        raise ConfigurationError(
            f"mpv reads from its own threads, which a {type(cache).__name__} does not allow",
            hint="Use cachestream.blocking.CacheManager, or play a local URL.",
        )
    if not _NAME.fullmatch(name):
        raise ConfigurationError(f"mpv has no protocol that is called {name!r}")
    if name in (player.protocol_list or ()):
        raise ConfigurationError(
            f"mpv has a protocol {name!r} already", hint="Choose another name."
        )
    import mpv

    protocol = MpvProtocol(cache, name, on_error)
    protocol.attach(mpv, player)
    # libmpv calls these functions until the player ends: they must live as long.
    kept = getattr(player, "_cachestream_protocols", ())
    player._cachestream_protocols = (*kept, protocol)
    return protocol


class MpvProtocol:
    """A registered protocol and what mpv has open through it; made by `register`."""

    def __init__(self, cache: CacheManager, name: str, on_error: OnError | None) -> None:
        self.name = name
        self._cache = cache
        self._on_error = on_error
        self._streams: dict[int, _Stream] = {}
        self._numbers = itertools.count(1)  # to mpv, 0 is no cookie
        self._callbacks: dict[str, Any] = {}
        self._open_callback: Any = None

    @property
    def open_streams(self) -> int:
        """How many streams mpv has open."""
        return len(self._streams)

    def url_for(self, source: str) -> str:
        """Return what mpv plays for a source URL.

        Raises:
            InvalidURLError: If it is no URL that can be fetched.
        """
        return f"{self.name}://{normalize(source)}"

    def attach(self, module: Any, player: Any) -> None:
        """Give mpv the functions it calls; python-mpv copies each byte by itself, these do not."""
        self._callbacks = {
            "read": module.StreamReadFn(self._read),
            "seek": module.StreamSeekFn(self._seek),
            "size": module.StreamSizeFn(self._size),
            "close": module.StreamCloseFn(self._close),
            "cancel": module.StreamCancelFn(self._cancel),
        }
        self._open_callback = module.StreamOpenFn(self._open)
        try:
            module.backend.mpv_stream_cb_add_ro(
                player.handle, self.name.encode(), None, self._open_callback
            )
        except Exception as error:  # python-mpv maps each of mpv's codes to another class
            raise ConfigurationError(
                f"mpv refuses the protocol {self.name!r}: {error}",
                hint="It may be registered with this player already: choose another name.",
            ) from error

    # -- called by mpv ----------------------------------------------------

    def _open(self, _: object, uri: bytes, info: Any) -> int:
        """Open without waiting for the origin: there is nothing yet that mpv could cancel."""
        source = uri.decode("utf-8", "surrogateescape").removeprefix(f"{self.name}://")
        try:
            stream = _Stream(self._cache, source)
        except Exception as error:
            self._note(source, error)
            return _LOADING_FAILED
        number = next(self._numbers)
        self._streams[number] = stream
        info.contents.cookie = number
        for name, callback in self._callbacks.items():
            setattr(info.contents, name, callback)
        return 0

    def _read(self, number: int, buffer: Any, size: int) -> int:
        stream = self._streams[number]
        data = self._guarded(stream, lambda: stream.read(size), None)
        if data is None:
            return _READ_FAILED
        ctypes.memmove(buffer, data, len(data))
        return len(data)

    def _seek(self, number: int, position: int) -> int:
        return self._streams[number].seek(position) if position >= 0 else _FAILED

    def _size(self, number: int) -> int:
        stream = self._streams[number]
        length = self._guarded(stream, stream.size, None)
        return _UNSUPPORTED if length is None else length

    def _cancel(self, number: int) -> None:
        stream = self._streams.get(number)
        if stream is not None:
            stream.cancel()

    def _close(self, number: int) -> None:
        self._streams.pop(number).close()

    def _guarded(self, stream: _Stream, call: Callable[[], T], otherwise: T) -> T:
        """Return what a call returns; nothing is raised into C."""
        try:
            return call()
        except Exception as error:
            if not stream.cancelled:
                self._note(stream.source, error)
            return otherwise

    def _note(self, source: str, error: Exception) -> None:
        """Tell the program; whatever it raises goes no further."""
        if not isinstance(error, CacheStreamError):
            logger.error("cannot read %s for mpv", display(source), exc_info=error)
            error = CacheStreamError(f"reading failed: {error!r}", url=source)
        else:
            logger.warning("mpv cannot read %s: %s", display(source), error)
        if self._on_error is not None:
            try:
                self._on_error(source, error)
            except Exception:
                logger.exception("on_error failed")


class _Stream:
    """What mpv has opened once: one file, of which one call runs at a time."""

    def __init__(self, cache: CacheManager, source: str) -> None:
        self.source = source
        self.cancelled = False
        self._cache = cache
        self._position = 0
        self._task: asyncio.Task[Any] | None = None
        self._file = cache.run(lambda manager: manager.open_file(source))

    def read(self, size: int) -> bytes:
        """Return the next bytes, as soon as there are any; none at the end."""
        data = self._call(lambda: self._read_at(self._position, size))
        self._position += len(data)
        return data

    async def _read_at(self, position: int, size: int) -> bytes:
        await self._file.seek(position)
        return await self._file.read1(size)

    def seek(self, position: int) -> int:
        """Read on from here; nothing is waited for."""
        self._position = position
        return position

    def size(self) -> int | None:
        """Return the complete length in bytes, None if the origin does not tell."""
        return self._call(self._file.size)

    def _call(self, work: Callable[[], Coroutine[Any, Any, T]]) -> T:
        async def step(_: _manager.CacheManager) -> T:
            if self.cancelled:
                raise ClosedError("mpv has given this up", url=self.source)
            self._task = asyncio.current_task()
            try:
                return await work()
            finally:
                self._task = None

        return self._cache.run(step)

    def cancel(self) -> None:
        """End the call that runs, and every later one; called from another thread than they."""
        self.cancelled = True

        async def step(_: _manager.CacheManager) -> None:
            if self._task is not None:
                self._task.cancel()

        with contextlib.suppress(CacheStreamError):  # closed: then nothing waits
            self._cache.run(step)

    def close(self) -> None:
        """Give the file up."""
        with contextlib.suppress(CacheStreamError):
            self._cache.run(lambda _: self._file.aclose())
