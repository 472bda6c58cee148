"""`CacheManager` for programs without an event loop: the same names, without ``await``.

    with cachestream.blocking.CacheManager() as cache:
        url = cache.get_cache_url("https://example.com/video.mp4")
        with cache.open("https://example.com/data.zip") as file:
            names = zipfile.ZipFile(file).namelist()

A manager hosts an event loop in one thread of its own. Everything here may be used from any
other thread, by many at a time. A call that waits takes ``timeout`` in seconds, None for no
limit; when it is over, `CallTimeoutError` is raised and the work is cancelled, as it is by
Ctrl-C. Properties are looked up on the loop, too, and are never torn. In a forked child
everything but closing raises `ForkedError`, and in the thread of the loop, where callbacks and
listeners run, `WrongThreadError`. Errors are those of the asynchronous classes otherwise.
"""

from __future__ import annotations

import contextlib
import io
import os
import threading
import warnings
from collections.abc import Callable, Coroutine, Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Self, TypeVar

import attrs

from cachestream import manager as _manager
from cachestream import stream as _stream
from cachestream._engine import file as _file
from cachestream.abc import EntryRecord, Frontend, Key, RefreshFunction, Store, StoreUsage
from cachestream.bridge import Bridge
from cachestream.config import Plugin, load
from cachestream.core.fields import Fields
from cachestream.core.representation import Representation
from cachestream.core.spans import Span
from cachestream.core.status import Statistics
from cachestream.errors import CacheStreamError, ClosedError
from cachestream.events import Listener
from cachestream.manager import TransportChoice
from cachestream.registry import Registry
from cachestream.settings import Settings, StreamSettings
from cachestream.stream import CacheState

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

__all__ = ["BUFFER_SIZE", "CacheFile", "CacheManager", "CacheResponse", "CacheStream"]

BUFFER_SIZE: Final = 256 * 1024
"""Bytes that an open file reads at a time: as much as a reader hands out in one piece."""

PIECE: Final = 1 << 20

T = TypeVar("T")


class CacheManager:
    """Downloads, caches and streams at the same time, for threads.

    It is a context manager, to be entered once. When it is left, or after `close`, nothing of
    it runs any more, and calls that still waited in other threads have got `ClosedError`.

    Args:
        settings: How to work; the defaults if None.
        store: A store, or the name of a plug-in. A store that is given is not closed.
        transport: A transport, or the name of a plug-in. One that is given is not closed.
        frontend: A frontend, or the name of a plug-in.
        registry: Where plug-ins are found.
        listeners: Called with each event, in the loop's thread.
        overrides: Fields of `Settings` to change.
    """

    def __init__(
        self,
        settings: Settings | None = None,
        *,
        store: Store | Plugin | str = "disk",
        transport: TransportChoice = "http",
        frontend: Frontend | Plugin | str = "loopback",
        registry: Registry | None = None,
        listeners: Sequence[Listener] = (),
        **overrides: Any,
    ) -> None:
        self._manager = _manager.CacheManager(
            settings,
            store=store,
            transport=transport,
            frontend=frontend,
            registry=registry,
            listeners=listeners,
            **overrides,
        )
        self._bridge = Bridge("cachestream")
        self._lock = threading.Lock()
        self._begun = False

    @classmethod
    def from_config(cls, file: str | Path | None = None, **overrides: Any) -> Self:
        """Make one as a configuration file and the environment say; see `cachestream.config`.

        Args:
            file: The only file to read; None for those that are found, ``none`` for none.
            overrides: Settings, ``store``, ``transport`` and ``frontend`` that go first.

        Raises:
            ConfigurationError: If a file, a name or a value is wrong; it says which and where.
        """
        return cls(**load(file).arguments(**overrides))

    # -- life -------------------------------------------------------------

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def start(self, *, timeout: float | None = None) -> None:
        """Start the thread, open the store and listen; idempotent.

        Raises:
            ConfigurationError: If a setting is wrong or the address cannot be listened on.
            PluginError: If a plug-in cannot be used.
            StoreError: If the store cannot be opened.
        """
        try:
            with self._lock:
                if not self._begun:
                    self._begun = True
                    self._bridge.start()
            self._bridge.call(self._manager.start, timeout)
        except BaseException:
            with contextlib.suppress(CacheStreamError):
                self._bridge.stop(timeout)  # cancels what has begun
            raise

    def close(self, *, timeout: float | None = None) -> None:
        """End everything and wait for the end; idempotent.

        In a forked child it does nothing: what runs belongs to the parent.

        Raises:
            CallTimeoutError: If it took longer than ``timeout``; it goes on ending, and may be
                waited for by another call.
        """
        if self._bridge.is_inherited or not self._begun:
            return
        with contextlib.suppress(ClosedError):  # another thread was quicker
            self._bridge.call(self._manager.aclose, timeout)
        self._bridge.stop(timeout)

    def __del__(self, _warn: Callable[..., None] = warnings.warn) -> None:
        if getattr(self, "_begun", False) and not self._manager.is_closed:
            _warn(f"unclosed {self!r}", ResourceWarning, source=self, stacklevel=2)

    def run(
        self,
        work: Callable[[_manager.CacheManager], Coroutine[Any, Any, T]],
        *,
        timeout: float | None = None,
    ) -> T:
        """Run a coroutine of one's own on the loop; return its result.

        For what has no counterpart here: the ``store``, the ``handler``, several things at a time.

        Args:
            work: Called with the asynchronous manager.
            timeout: Seconds to wait at most.
        """
        return self._bridge.call(lambda: work(self._manager), timeout)

    # -- facts ------------------------------------------------------------

    @property
    def settings(self) -> Settings:
        """The settings in force."""
        return self._manager.settings

    @property
    def base_url(self) -> str | None:
        """The local server's URL, None without one."""
        return self._manager.base_url

    @property
    def admin_url(self) -> str | None:
        """The URL of the port for health checks and metrics, None without one."""
        return self._manager.admin_url

    @property
    def has_server(self) -> bool:
        """Whether local URLs can be made."""
        return self._manager.has_server

    @property
    def is_closed(self) -> bool:
        """Whether `close` was called."""
        return self._manager.is_closed

    @property
    def all_streams(self) -> tuple[CacheStream, ...]:
        """The streams of all live resources."""
        found = self._bridge.ask(lambda: self._manager.all_streams)
        return tuple(CacheStream(self._bridge, each) for each in found)

    def statistics(self, *, timeout: float | None = None) -> Statistics:
        """Return the numbers so far."""
        return self._bridge.ask(self._manager.statistics, timeout)

    def usage(self, *, timeout: float | None = None) -> StoreUsage:
        """Return how full the store is."""
        return self._bridge.call(self._manager.usage, timeout)

    def ensure_active(self, *, timeout: float | None = None) -> bool:
        """Make sure that the local server answers; True if it had to be opened anew."""
        return self._bridge.call(self._manager.ensure_active, timeout)

    # -- URLs and streams -------------------------------------------------

    def get_cache_url(
        self,
        source: str,
        *,
        key: str | None = None,
        refresh: RefreshFunction | None = None,
        file: str | Path | None = None,
        timeout: float | None = None,
    ) -> str:
        """Return the local URL of ``source``; nothing is fetched before somebody asks for it.

        Args:
            source: The source URL; a local URL gives itself.
            key: Its cache key instead of one made of the URL; two URLs with one key are one
                resource, and the newest is asked. It is remembered until the manager closes.
            refresh: Called when the origin refuses the URL (401, 403, 410); returns a new one.
            file: Where its data shall be kept.
            timeout: Seconds to wait at most.

        Raises:
            InvalidURLError: If it is no URL that can be fetched.
            ServerUnavailableError: If there is no local server.
        """
        return self._bridge.ask(
            lambda: self._manager.get_cache_url(source, key=key, refresh=refresh, file=file),
            timeout,
        )

    def create_stream(
        self,
        source: str,
        *,
        key: str | None = None,
        refresh: RefreshFunction | None = None,
        file: str | Path | None = None,
        settings: StreamSettings | None = None,
        timeout: float | None = None,
        **changes: Any,
    ) -> CacheStream:
        """Return the stream of ``source``, retained once more; it is made if need be.

        Args:
            source: The source URL or its local URL.
            key: Its cache key instead of one made of the URL; two URLs with one key are one
                resource, and the newest is asked. It is remembered until the manager closes.
            refresh: Called when the origin refuses the URL (401, 403, 410); returns a new one.
                It runs in a thread of its own, so it may block.
            file: Where its data shall be kept.
            settings: Settings for this stream instead of the manager's.
            timeout: Seconds to wait at most.
            changes: Single settings to change.

        Raises:
            InvalidURLError: If it is no URL that can be fetched.
            ConfigurationError: If a setting is wrong, or data is already kept elsewhere.
        """
        made = self._bridge.ask(
            lambda: self._manager.create_stream(
                source, key=key, refresh=refresh, file=file, settings=settings, **changes
            ),
            timeout,
            undo=_release,
        )
        return CacheStream(self._bridge, made)

    def pre_cache_url(
        self,
        source: str,
        *,
        bytes: int | None = None,
        key: str | None = None,
        refresh: RefreshFunction | None = None,
        file: str | Path | None = None,
        timeout: float | None = None,
    ) -> Path | None:
        """Fetch a resource ahead of its use; return its file if the store has files.

        Args:
            source: The source URL.
            bytes: Only so many from the start; None for all.
            key: See `create_stream`.
            refresh: See `create_stream`.
            file: Where its data shall be kept.
            timeout: Seconds to wait at most.

        Raises:
            CacheStreamError: If it cannot be had.
        """
        return self._bridge.call(
            lambda: self._manager.pre_cache_url(
                source, bytes=bytes, key=key, refresh=refresh, file=file
            ),
            timeout,
        )

    def get_existing_stream(self, url: str, *, timeout: float | None = None) -> CacheStream | None:
        """Return the live stream of a source or local URL, not retained; None if there is none."""
        found = self._bridge.ask(lambda: self._manager.get_existing_stream(url), timeout)
        return None if found is None else CacheStream(self._bridge, found)

    def open(
        self,
        source: str,
        *,
        key: str | None = None,
        refresh: RefreshFunction | None = None,
        buffer_size: int = BUFFER_SIZE,
        timeout: float | None = None,
    ) -> CacheFile:
        """Open a resource as a binary file; nothing is fetched before the first read.

        Args:
            source: The source URL or its local URL.
            key: See `create_stream`.
            refresh: See `create_stream`.
            buffer_size: Bytes to read at a time at most.
            timeout: Seconds that this and each single read of the file may take.

        Raises:
            InvalidURLError: If it is no URL that can be fetched.
        """
        opened = self._bridge.call(
            lambda: self._manager.open_file(source, key=key, refresh=refresh),
            timeout,
            undo=_file.CacheFile.aclose,
        )
        return CacheFile(_RawFile(self._bridge, opened, timeout), buffer_size)

    def create_stream_settings(self, **changes: Any) -> StreamSettings:
        """Return the manager's settings for one stream, with some of them changed."""
        return self._manager.create_stream_settings(**changes)

    # -- what is stored ---------------------------------------------------

    def get_cache_record(self, url: str, *, timeout: float | None = None) -> EntryRecord | None:
        """Return what the store knows of a source or local URL, None if nothing."""
        return self._bridge.call(lambda: self._manager.get_cache_record(url), timeout)

    def cache_records(
        self,
        *,
        limit: int = 500,
        after: str | None = None,
        active: bool | None = None,
        timeout: float | None = None,
    ) -> tuple[EntryRecord, ...]:
        """Return a page of what is stored.

        Args:
            limit: Most records to return.
            after: The ``entry_id`` to go on after.
            active: Only those in use (True) or not in use (False).
            timeout: Seconds to wait at most.
        """
        return self._bridge.call(
            lambda: self._manager.cache_records(limit=limit, after=after, active=active), timeout
        )

    def delete(self, url: str, *, timeout: float | None = None) -> bool:
        """Delete what is stored of a source or local URL; True if there was anything."""
        return self._bridge.call(lambda: self._manager.delete(url), timeout)

    def delete_cache(self, *, partial_only: bool = False, timeout: float | None = None) -> int:
        """Delete all entries that are not in use; return how many.

        Args:
            partial_only: Leave complete ones alone.
            timeout: Seconds to wait at most.
        """
        return self._bridge.call(
            lambda: self._manager.delete_cache(partial_only=partial_only), timeout
        )

    def verify(
        self, url: str | None = None, *, timeout: float | None = None
    ) -> list[tuple[EntryRecord, tuple[Span, ...]]]:
        """Read all stored bytes, or those of one URL, and check them.

        Returns:
            Each record with the spans that failed; those are forgotten and fetched anew
            when they are next asked for.
        """
        return self._bridge.call(lambda: self._manager.verify(url), timeout)

    def export(self, url: str, path: str | Path, *, timeout: float | None = None) -> Path:
        """Copy a stored resource to a file of its own; it must be complete.

        Raises:
            StoreError: If it is not complete, or cannot be written.
        """
        return self._bridge.call(lambda: self._manager.export(url, path), timeout)


@attrs.frozen(repr=False)
class CacheStream:
    """One resource in the hands of the program; two of these are equal if they are of one stream.

    It is retained when made; after the last `release` it pauses and is later disposed of.
    """

    _bridge: Bridge
    _stream: _stream.CacheStream

    # -- facts ------------------------------------------------------------

    @property
    def source(self) -> str:
        """The source URL."""
        return self._stream.source

    @property
    def key(self) -> Key:
        """The cache key."""
        return self._stream.key

    @property
    def cache_url(self) -> str | None:
        """The local URL, None without a local server."""
        return self._bridge.ask(lambda: self._stream.cache_url)

    @property
    def settings(self) -> StreamSettings:
        """The settings in force."""
        return self._bridge.ask(lambda: self._stream.settings)

    @property
    def representation(self) -> Representation | None:
        """What is known of the content now."""
        return self._bridge.ask(lambda: self._stream.representation)

    @property
    def file(self) -> Path | None:
        """Where the data lies, None if nowhere yet."""
        return self._bridge.ask(lambda: self._stream.file)

    @property
    def state(self) -> CacheState:
        """The latest state."""
        return self._bridge.ask(lambda: self._stream.state)

    @property
    def progress(self) -> float | None:
        """See `CacheState.progress`."""
        return self.state.progress

    @property
    def last_error(self) -> Exception | None:
        """The last failure of a download, None if there was none since the last progress."""
        return self._bridge.ask(lambda: self._stream.last_error)

    @property
    def is_downloading(self) -> bool:
        """Whether a download runs."""
        return self._bridge.ask(lambda: self._stream.is_downloading)

    @property
    def is_disposed(self) -> bool:
        """Whether the stream was closed; known after the manager's end, too."""
        return self._stream.is_disposed

    @property
    def is_retained(self) -> bool:
        """Whether the program holds it."""
        return self._bridge.ask(lambda: self._stream.is_retained)

    @property
    def retain_count(self) -> int:
        """How often the program holds it."""
        return self._bridge.ask(lambda: self._stream.retain_count)

    # -- doing ------------------------------------------------------------

    def download(self, *, timeout: float | None = None) -> Path | None:
        """Fetch all of it; return the file it is in, None if the store has no files.

        Raises:
            CacheStreamError: If it cannot be had or stored.
            ClosedError: If the stream is disposed of meanwhile.
        """
        return self._bridge.call(self._stream.download, timeout)

    def head(self, *, timeout: float | None = None) -> Representation:
        """Return what is known of the content, asking the origin if nothing is."""
        return self._bridge.call(self._stream.head, timeout)

    def request(
        self, start: int = 0, end: int | None = None, *, timeout: float | None = None
    ) -> CacheResponse:
        """Return the bytes from ``start`` to ``end`` (exclusive; None: to the end).

        Args:
            start: First byte.
            end: One past the last byte.
            timeout: Seconds until the first bytes are there.

        Raises:
            ValueError: If ``end`` is not after ``start``.
            RangeNotSatisfiableError: If ``start`` lies past the end.
        """
        response = self._bridge.call(
            lambda: self._stream.request(start, end), timeout, undo=_stream.CacheResponse.aclose
        )
        return CacheResponse(self._bridge, response)

    def states(self, *, timeout: float | None = None) -> Iterator[CacheState]:
        """Yield the latest state at once, then each change, until the stream is disposed of.

        A slow consumer misses intermediate states, never the latest.

        Args:
            timeout: Seconds to wait for each change.
        """
        try:
            yield from self._bridge.iterate(self._stream.states(), timeout)
        except ClosedError:
            if not self.is_disposed:
                raise

    def validate_cache(
        self, *, force: bool = False, reset_invalid: bool = False, timeout: float | None = None
    ) -> bool | None:
        """Ask the origin whether what is held is current; None if there is nothing to ask about.

        Args:
            force: Ask although the stored answer is fresh.
            reset_invalid: Delete what is held if it is not current.
            timeout: Seconds to wait at most.

        Raises:
            TransportError: If the origin fails; nothing is deleted then.
        """
        return self._bridge.call(
            lambda: self._stream.validate_cache(force=force, reset_invalid=reset_invalid), timeout
        )

    def reset_cache(self, *, timeout: float | None = None) -> None:
        """Delete what is held; who reads it now fails, who comes later gets it anew."""
        self._bridge.call(self._stream.reset_cache, timeout)

    # -- its life ---------------------------------------------------------

    def retain(self, *, timeout: float | None = None) -> None:
        """Hold it once more; a pending pause or disposal is called off."""
        self._bridge.ask(self._stream.retain, timeout)

    def release(self) -> None:
        """Hold it once less, never below zero; returns at once, and after the end does nothing."""
        self._bridge.post(lambda: _release(self._stream))

    def dispose(self, *, force: bool = False, timeout: float | None = None) -> bool:
        """Release it, and close it as soon as nobody holds it; with ``force`` now.

        Returns:
            True when it is closed, False if somebody retained it again meanwhile.
        """
        return self._bridge.call(lambda: self._stream.dispose(force=force), timeout)


class CacheResponse:
    """Some bytes of a stream, read directly, without the local server.

    Iterate over it, and close it (``with`` does).

    Attributes:
        start: First byte.
        complete_length: Length of the whole content, None if unknown.
        content_length: Length of what was asked for, None if unknown.
        fields: The source's stored fields.
        status: 200 for all of the content, 206 for a part.
    """

    def __init__(self, bridge: Bridge, response: _stream.CacheResponse) -> None:
        self._bridge = bridge
        self._response = response
        self.start: int = response.start
        self.complete_length: int | None = response.complete_length
        self.content_length: int | None = response.content_length
        self.fields: Fields = response.fields
        self.status: int = response.status
        self._closed = False

    def __iter__(self) -> Iterator[bytes]:
        return self.pieces()

    def pieces(self, *, timeout: float | None = None) -> Iterator[bytes]:
        """Yield what comes, as it comes; an iteration that was left early may be gone on with.

        Args:
            timeout: Seconds to wait for each piece. When it is over, the response is closed.
        """
        with self._closing_on_error():
            yield from self._bridge.iterate(aiter(self._response), timeout)

    def read(self, size: int = -1, *, timeout: float | None = None) -> bytes:
        """Return the next ``size`` bytes, fewer only at the end; all that are left if negative.

        An error closes the response.
        """
        with self._closing_on_error():
            return self._bridge.call(lambda: self._response.read(size), timeout)

    @contextlib.contextmanager
    def _closing_on_error(self) -> Iterator[None]:
        """Close it where a piece may have been lost between the loop and the caller."""
        if self._closed:
            raise ClosedError("the response is closed")
        try:
            yield
        except GeneratorExit:
            raise
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Stop reading; idempotent, returns at once."""
        self._closed = True
        self._bridge.post(self._response.aclose)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


class CacheFile(io.BufferedReader):
    """A resource as a binary file, for whatever library reads one; close it (``with`` does).

    Several threads may use it, each call at a time. After an error the position is somewhere
    in what was asked for: ``seek`` before reading on. Its ``name`` is the URL without its query.
    """

    def __init__(self, raw: _RawFile, buffer_size: int) -> None:
        super().__init__(raw, buffer_size)
        self._unbuffered = raw

    @property
    def source(self) -> str:
        """The source URL."""
        return self._unbuffered.source

    def size(self) -> int | None:
        """Return the complete length in bytes, None if the origin does not tell."""
        return self._unbuffered.size()


class _RawFile(io.RawIOBase):
    """The unbuffered file. It knows the position itself, so a read that fails moves nothing."""

    def __init__(self, bridge: Bridge, file: _file.CacheFile, timeout: float | None) -> None:
        self._bridge = bridge
        self._file = file
        self._timeout = timeout
        self._position = 0
        self._lock = threading.Lock()
        self.source = file.source
        self.name = file.source.partition("?")[0]

    def readable(self) -> bool:
        self._check_open()
        return True

    def seekable(self) -> bool:
        self._check_open()
        return True

    def readinto(self, buffer: WriteableBuffer) -> int:
        """Read as many bytes as are there, at least one; 0 at the end."""
        self._check_open()
        self._bridge.check()  # before the lock, which may be taken for ever in a forked child
        with memoryview(buffer) as whole, whole.cast("B") as view, self._lock:
            position = self._position
            data = self._bridge.call(lambda: self._read(position, len(view)), self._timeout)
            view[: len(data)] = data
            self._position = position + len(data)
            return len(data)

    async def _read(self, position: int, size: int) -> bytes:
        await self._file.seek(position)
        return await self._file.read1(size)

    def readall(self) -> bytes:
        """Read to the end."""
        return b"".join(iter(lambda: self.read(PIECE) or b"", b""))

    def seek(self, offset: int, whence: int = os.SEEK_SET, /) -> int:
        """Move the position; only from the end does it have to ask.

        Raises:
            ValueError: If that is before the start, or the end is not known.
        """
        self._check_open()
        self._bridge.check()
        with self._lock:
            base: int | None = 0
            if whence == os.SEEK_CUR:
                base = self._position
            elif whence == os.SEEK_END:
                base = self.size()
            elif whence != os.SEEK_SET:
                raise ValueError(f"no way to seek: {whence}")
            if base is None:
                raise io.UnsupportedOperation("the end of this resource is not known")
            if base + offset < 0:
                raise ValueError("a position before the start")
            self._position = base + offset
            return self._position

    def tell(self) -> int:
        self._check_open()
        return self._position

    def size(self) -> int | None:
        """Return the complete length in bytes, None if the origin does not tell."""
        self._check_open()
        return self._bridge.call(self._file.size, self._timeout)

    def close(self) -> None:
        """Give the reader up; idempotent, returns at once."""
        if not self.closed:
            super().close()
            self._bridge.post(self._file.aclose)

    def _check_open(self) -> None:
        if self.closed:
            raise ValueError("I/O operation on closed file")


async def _release(stream: _stream.CacheStream) -> None:
    stream.release()
