"""Reads one version of a resource at any position, on fsspec's loop."""

from __future__ import annotations

from typing import Final, TypeAlias

from cachestream.core.fields import Fields
from cachestream.errors import RangeNotSatisfiableError, RepresentationChangedError
from cachestream.fsspec._caches import use
from cachestream.manager import CacheManager
from cachestream.settings import Settings, StreamSettings
from cachestream.stream import CacheResponse

__all__ = ["Cursor", "Version", "version_of"]

IN_A_ROW: Final = 2
"""So many reads that each go on where the last ended are followed by a read-ahead."""

Version: TypeAlias = tuple[str | None, str | None]


def version_of(fields: Fields) -> Version:
    """Return what tells versions of a resource apart: entity tag and modification time."""
    return fields.get("etag"), fields.get("last-modified")


class Cursor:
    """Asks for what is read and no more, until reads go on in sequence; then reads ahead.

    The first read-ahead is `Settings.read_ahead`, and it grows up to `Settings.max_read_ahead`.
    A cursor survives the end of its manager (a fork closes it): it goes on with the next one.
    Not for several tasks at a time.

    Args:
        settings: Which manager to use.
        stream_settings: Settings of the stream, its request headers among them.
        version: The version to read; another one is an error.
    """

    def __init__(
        self, source: str, settings: Settings, stream_settings: StreamSettings, version: Version
    ) -> None:
        self._source = source
        self._settings = settings
        self._stream_settings = stream_settings
        self._version = version
        self._manager: CacheManager | None = None
        self._response: CacheResponse | None = None
        self._position = 0
        self._end: int | None = None
        self._reads = 0
        self._run = 0

    async def read(self, start: int, size: int | None) -> bytes:
        """Return the bytes from ``start`` on, fewer than ``size`` only at the end.

        Args:
            size: How many; None for all to the end.

        Raises:
            RepresentationChangedError: If the origin has another version now.
            CacheStreamError: If they cannot be had.
        """
        if start != self._position:
            self._stop_reading()
            self._reads = self._run = 0
            self._position = start
        data = await use(self._settings, lambda manager: self._read(manager, start, size))
        self._position = start + len(data)
        self._reads += 1
        self._run += len(data)
        return data

    async def _read(self, manager: CacheManager, start: int, size: int | None) -> bytes:
        if manager is not self._manager:
            self.close()
            self._manager = manager
        parts: list[bytes] = []
        position, stop = start, None if size is None else start + size
        try:
            while stop is None or position < stop:
                if self._response is None and not await self._begin(position, stop):
                    break
                assert self._response is not None
                data = await self._response.read(-1 if stop is None else stop - position)
                parts.append(data)
                position += len(data)
                short = stop is None or position < stop
                used_up = self._end is not None and position >= self._end
                if short or used_up:
                    self._stop_reading()
                if short and not used_up:
                    break  # the end of the content
        except BaseException:
            self._stop_reading()
            raise
        return parts[0] if len(parts) == 1 else b"".join(parts)

    async def _begin(self, start: int, stop: int | None) -> bool:
        """Start to read at ``start``, perhaps further than ``stop``; False past the end."""
        if stop is not None and self._reads >= IN_A_ROW:
            settings = self._stream_settings
            ahead = min(max(settings.read_ahead, self._run), settings.max_read_ahead)
            stop = max(stop, start + ahead)
        response = await self._request(start, stop)
        if response is None:
            return False
        self._response, self._end = response, stop
        if version_of(response.fields) != self._version:
            raise RepresentationChangedError(
                "the origin has another version than the one that was opened", url=self._source
            )
        # Without a known length a range is ignored: what comes before it is read over.
        skip = start - response.start
        while skip > 0:
            data = await response.read(min(skip, 1 << 20))
            if not data:
                self._stop_reading()
                return False
            skip -= len(data)
        return True

    async def _request(self, start: int, stop: int | None) -> CacheResponse | None:
        """Return a response from ``start`` on; None past the end.

        The stream is not kept: a file that is open but not read stops no other process from
        writing the entry.
        """
        assert self._manager is not None
        stream = self._manager.create_stream(self._source, settings=self._stream_settings)
        try:
            return await stream.request(start, stop)
        except RangeNotSatisfiableError:
            return None
        finally:
            if not self._manager.is_closed:
                stream.release()

    def _stop_reading(self) -> None:
        response, self._response = self._response, None
        if response is not None:
            response.close()

    def close(self) -> None:
        """Stop reading; idempotent. Reading again begins again."""
        if self._manager is not None and not self._manager.is_closed:
            self._stop_reading()
        self._response = self._manager = None
