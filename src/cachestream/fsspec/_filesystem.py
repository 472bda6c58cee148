"""The file system itself: what fsspec asks for, in terms of streams."""

from __future__ import annotations

import datetime
import os
from collections.abc import Callable, Coroutine, Mapping
from pathlib import Path
from typing import Any, ClassVar, Final, TypeVar

import attrs
from fsspec.asyn import AsyncFileSystem, get_loop
from fsspec.implementations.chained import ChainedFileSystem
from fsspec.utils import tokenize

from cachestream.core.representation import Representation
from cachestream.errors import ConfigurationError, RangeNotSatisfiableError
from cachestream.fsspec._caches import on_loop, use
from cachestream.fsspec._cursor import Cursor, version_of
from cachestream.fsspec._errors import os_errors
from cachestream.fsspec._file import AsyncCachestreamFile, CachestreamFile
from cachestream.settings import KIB, Settings
from cachestream.stream import CacheStream

__all__ = ["DEFAULTS", "CachestreamFileSystem"]

T = TypeVar("T")

DEFAULTS: Final[Mapping[str, Any]] = {
    # Data libraries read here and there: nothing is fetched that nobody asked for.
    "completion": "demand",
    # Ranges that are nearer than this come in one request, others in their own.
    "range_request_split_threshold": 64 * KIB,
    # A store of arrays is thousands of small files: none is kept open for long, and
    # another process may write what this one has let go.
    "pause_after": 1.0,
    "dispose_after": 1.0,
}
"""Settings that have another default in file systems."""

_PATHS: Final = frozenset({"cache_dir", "ca_file", "client_cert", "client_key"})
_FSSPEC_OPTIONS: Final = frozenset({"use_listings_cache", "listings_expiry_time", "max_paths"})


class CachestreamFileSystem(AsyncFileSystem, ChainedFileSystem):  # type: ignore[misc]
    """Reads files of HTTP origins through a cache that all instances and processes can share.

    Made by fsspec from ``cachestream::https://…``. Read-only. It is pickled by its arguments;
    instances with the same arguments are one, and all with the same settings share one
    cache manager, which is opened at the first use and closed when the process ends or forks.

    Args:
        fo: The inner URL; fsspec gives it.
        target_protocol: The inner protocol, ``http`` or ``https``; fsspec gives it.
        target_options: Options of the inner protocol; of these ``headers`` are sent to the origin,
            beside those in the setting ``request_headers``.
        asynchronous: Whether the coroutines are called from a loop of the caller's own.
        loop: Another loop than fsspec's for the blocking methods.
        batch_size: How many files or ranges are read at a time.
        options: Fields of `cachestream.Settings`; of these `DEFAULTS` are other than elsewhere.

    Raises:
        ConfigurationError: If an option is unknown or wrong, or the inner protocol is no HTTP.
    """

    protocol: ClassVar[str] = "cachestream"
    cachable = True
    _pid: int

    def __init__(
        self,
        fo: str | None = None,
        target_protocol: str | None = None,
        target_options: Mapping[str, Any] | None = None,
        *,
        asynchronous: bool = False,
        loop: Any = None,
        batch_size: int | None = None,
        **options: Any,
    ) -> None:
        if target_protocol not in (None, "http", "https"):
            raise ConfigurationError(
                f"cachestream cannot read {target_protocol} URLs",
                hint="Chain it with http:// or https://.",
            )
        own = {name: options.pop(name) for name in _FSSPEC_OPTIONS & options.keys()}
        self._settings = _settings(options)
        headers = dict((target_options or {}).get("headers") or {})
        self._stream_settings = self._settings.for_stream(
            request_headers={**self._settings.request_headers, **headers}
        )
        super().__init__(asynchronous=asynchronous, loop=loop, batch_size=batch_size, **own)

    @property
    def loop(self) -> Any:
        """The loop of the blocking methods; after a fork that of this process."""
        if self._pid != os.getpid():
            self._pid = os.getpid()
            self._loop = None if self.asynchronous else get_loop()
        return self._loop

    @property
    def fsid(self) -> str:
        """The cache directory, after the name of the protocol."""
        return f"cachestream:{self._settings.cache_dir}"

    @classmethod
    def _strip_protocol(cls, path: Any) -> Any:
        """Return the inner URL as it is: a slash at its end is a part of it."""
        if isinstance(path, list):
            return [cls._strip_protocol(each) for each in path]
        path = os.fspath(path) if hasattr(path, "__fspath__") else str(path)
        for prefix in ("cachestream://", "cachestream::"):
            path = path.removeprefix(prefix)
        return path

    def unstrip_protocol(self, name: str) -> str:
        """Return the chained URL of a path."""
        return "cachestream::" + str(self._strip_protocol(name))

    # -- reading ------------------------------------------------------------

    async def _with_stream(
        self, path: str, act: Callable[[CacheStream], Coroutine[Any, Any, T]]
    ) -> T:
        """Return what ``act`` returns for the stream of ``path``, on fsspec's loop."""

        async def work() -> T:
            return await use(self._settings, once)

        async def once(manager: Any) -> T:
            stream = manager.create_stream(path, settings=self._stream_settings)
            try:
                return await act(stream)
            finally:
                if not manager.is_closed:
                    stream.release()

        with os_errors():
            return await on_loop(work())

    async def _cat_file(
        self, path: str, start: int | None = None, end: int | None = None, **kwargs: Any
    ) -> bytes:
        """Return the bytes of ``[start, end)``; negative positions count from the end."""

        async def read(stream: CacheStream) -> bytes:
            first, stop = start or 0, end
            if first < 0 or (stop is not None and stop < 0):
                length = (await stream.head()).complete_length
                if length is None:
                    return (await _read(stream, 0, None))[start:end]
                first, stop, _ = slice(start, end).indices(length)
            return await _read(stream, first, stop)

        return await self._with_stream(self._strip_protocol(path), read)

    async def _info(self, path: str, **kwargs: Any) -> dict[str, Any]:
        """Return name, size, type, etag, mimetype, and mtime if the origin tells it."""
        path = self._strip_protocol(path)
        return _info_of(path, await self._with_stream(path, lambda stream: stream.head()))

    async def _ls(self, path: str, detail: bool = True, **kwargs: Any) -> list[Any]:
        """Return the file itself: HTTP has no directories."""
        info = await self._info(path)
        return [info if detail else info["name"]]

    async def _isdir(self, path: str) -> bool:
        return False

    def _open(self, path: str, mode: str = "rb", **kwargs: Any) -> CachestreamFile:
        """Open a file to read; `open` calls this. Options of other file systems are ignored."""
        _check_mode(mode)
        details = self.info(path)
        return CachestreamFile(self, details["name"], details, self._cursor(details))

    async def open_async(self, path: str, mode: str = "rb", **kwargs: Any) -> AsyncCachestreamFile:
        """Open a file to read in an event loop.

        Raises:
            NotImplementedError: If ``mode`` is another than ``rb``.
            OSError: If nothing can be learnt of the file; see ``info``.
        """
        _check_mode(mode)
        details = await self._info(path)
        return AsyncCachestreamFile(self, details["name"], details, self._cursor(details))

    def _cursor(self, details: Mapping[str, Any]) -> Cursor:
        version = (details["etag"], details["last_modified"])
        return Cursor(details["name"], self._settings, self._stream_settings, version)

    # -- what is known of a file ----------------------------------------------

    def ukey(self, path: str) -> str:
        """Return a token of the URL and the version that is read now."""
        info = self.info(path)
        token: str = tokenize(
            info["name"], info["size"], info["etag"] or info["last_modified"], "cachestream"
        )
        return token

    def modified(self, path: str) -> datetime.datetime:
        """Return when the file was last modified, as its origin says.

        Raises:
            NotImplementedError: If it does not say.
        """
        mtime = self.info(path).get("mtime")
        if mtime is None:
            raise NotImplementedError("the origin does not say when it was modified")
        return datetime.datetime.fromtimestamp(mtime, tz=datetime.UTC)


async def _read(stream: CacheStream, start: int, stop: int | None) -> bytes:
    """Return the bytes of ``[start, stop)`` as far as there are any."""
    if stop is not None and stop <= start:
        return b""
    try:
        response = await stream.request(start, stop)
    except RangeNotSatisfiableError:
        return b""
    async with response:
        size = -1 if stop is None else stop - response.start
        data = await response.read(size)
        # Without a known length a range is ignored, and the content comes from its start.
        return data if response.start == start else data[start - response.start :]


def _info_of(path: str, known: Representation) -> dict[str, Any]:
    etag, last_modified = version_of(known.fields)
    info: dict[str, Any] = {
        "name": path,
        "size": known.complete_length,
        "type": "file",
        "etag": etag,
        "mimetype": (known.fields.get("content-type") or "").partition(";")[0].strip() or None,
        "last_modified": last_modified,
    }
    if known.last_modified is not None:
        info["mtime"] = known.last_modified
    return info


def _settings(options: Mapping[str, Any]) -> Settings:
    """Return the settings that options of a file system stand for."""
    fields = attrs.fields_dict(Settings)
    values: dict[str, Any] = dict(DEFAULTS)
    for name, value in options.items():
        if name not in fields:
            raise ConfigurationError(f"no setting is called {name!r}")
        if name in _PATHS and isinstance(value, str):
            value = Path(value).expanduser()
        values[name] = tuple(value) if isinstance(value, list) else value
    values["start_server"] = False
    settings = Settings(**values)
    # Two names of one directory are one cache.
    return attrs.evolve(settings, cache_dir=Path(os.path.abspath(settings.cache_dir)))


def _check_mode(mode: str) -> None:
    if mode not in ("rb", "r"):
        raise NotImplementedError(f"cachestream only reads: the mode is rb, not {mode!r}")
