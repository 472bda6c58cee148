"""Files on fsspec filesystems, as threads of a transport use them: everything here may block.

A filesystem that speaks to one server over one connection (FTP, SFTP) cannot be shared by
threads, so each exchange borrows one for itself and gives it back for the next.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Callable, Mapping
from typing import Any, Final
from urllib.parse import unquote

import attrs
import fsspec
from fsspec.spec import AbstractFileSystem

from cachestream.core.urls import display, normalize
from cachestream.errors import ClosedError, ConfigurationError, InvalidURLError, TransportError
from cachestream.transports._filesystem_facts import Facts, facts_of

__all__ = ["LOCAL", "PIECE", "Access", "Filesystems", "Place"]

PIECE: Final = 1 << 20
"""Bytes of one read: one round trip each, and all that an exchange holds in memory."""

LOCAL: Final = frozenset({"file", "local"})
"""Schemes of the machine's own files."""

_SHARED: Final = LOCAL | {"memory"}

# Schemes whose URLs name a server that is logged in to.
_SERVERS: Final = frozenset({"ftp", "sftp", "ssh", "smb", "webdav", "webhdfs", "hdfs"})
_SECRETS: Final = frozenset(
    {"username", "user", "password", "passwd", "token", "pkey", "key_filename", "passphrase"}
)


@attrs.frozen
class Place:
    """Where a file is.

    Attributes:
        scheme: Lower case.
        authority: Host and port, or the bucket.
        path: Decoded, with its leading slash.
        shown: The URL as it may be shown.
    """

    scheme: str
    authority: str
    path: str
    shown: str

    @classmethod
    def parse(cls, url: str, schemes: frozenset[str]) -> Place:
        """Read a URL.

        Raises:
            InvalidURLError: If it names no file of these schemes.
        """
        scheme, _, rest = normalize(url).partition("://")
        authority, slash, raw = rest.partition("/")
        shown = display(url)
        if scheme not in schemes:
            raise InvalidURLError("no filesystem serves URLs of this scheme", url=shown)
        if "?" in raw:
            raise InvalidURLError(
                "a file's URL has no query", url=shown, hint="Write %3F for a ? in its name"
            )
        path = slash + unquote(raw)
        # A line break would end a command of FTP, and begin another.
        if any(ord(char) < 32 or ord(char) == 127 for char in path) or ".." in path.split("/"):
            raise InvalidURLError("the path is none that a filesystem should see", url=shown)
        if scheme in LOCAL and authority != "localhost":
            raise InvalidURLError(
                "a local file has the host localhost",
                url=shown,
                hint="Write file://localhost/path",
            )
        return cls(scheme, authority, path, shown)

    @property
    def origin(self) -> str:
        """``scheme://authority``."""
        return f"{self.scheme}://{self.authority}"


class Filesystems:
    """Makes filesystems, and keeps those that can be used again.

    Args:
        options: By scheme or by ``scheme://authority``, which goes before it: what the
            filesystem's class is made with.

    Raises:
        ConfigurationError: If a whole scheme is given what only one server should be told.
    """

    def __init__(self, options: Mapping[str, Mapping[str, Any]]) -> None:
        for name, given in options.items():
            if name in _SERVERS and _SECRETS & given.keys():
                raise ConfigurationError(
                    f"storage_options would tell every {name} server a password",
                    hint=f"Name the server: '{name}://host' instead of '{name}'",
                )
        self._options = dict(options)
        self._idle: dict[str, list[AbstractFileSystem]] = {}
        self._lock = threading.Lock()
        self._closed = False

    def borrow(self, place: Place, *, fresh: bool) -> tuple[AbstractFileSystem, bool]:
        """Return a filesystem for a place, and whether it was used before.

        Args:
            place: What shall be read from it.
            fresh: Not one that was used before.
        """
        with self._lock:
            idle = self._idle.get(place.origin)
            if idle and not fresh:
                return (idle[-1] if _shared(idle[-1], place) else idle.pop()), True
        return self._make(place), False

    def _make(self, place: Place) -> AbstractFileSystem:
        try:
            cls = fsspec.get_filesystem_class(place.scheme)
        except (ImportError, ValueError) as exc:
            raise InvalidURLError(
                f"there is no filesystem for {place.scheme} URLs", url=place.shown, hint=str(exc)
            ) from exc
        named: dict[str, Any] = cls._get_kwargs_from_urls(f"{place.origin}/")
        options = {
            **self._options.get(place.scheme, {}),
            **self._options.get(place.origin, {}),
            **named,
        }
        made: AbstractFileSystem = cls(skip_instance_cache=True, **options)
        return made

    def give_back(self, filesystem: AbstractFileSystem, place: Place) -> None:
        """Keep a filesystem for the next who needs one."""
        with self._lock:
            idle = self._idle.setdefault(place.origin, [])
            if not self._closed:
                if not _shared(filesystem, place) or not idle:
                    idle.append(filesystem)
                return
        _close(filesystem)

    def close(self) -> None:
        """Close those that nobody uses, and later those that are given back."""
        with self._lock:
            self._closed = True
            idle = [each for every in self._idle.values() for each in every]
            self._idle.clear()
        for filesystem in idle:
            _close(filesystem)


def _shared(filesystem: AbstractFileSystem, place: Place) -> bool:
    """Tell whether several threads may use one filesystem."""
    return bool(filesystem.async_impl) or place.scheme in _SHARED


def _close(filesystem: AbstractFileSystem) -> None:
    # There is no common way; these are the connections of FTP and SFTP.
    for name in ("ftp", "client"):
        close = getattr(getattr(filesystem, name, None), "close", None)
        if close is not None:
            with contextlib.suppress(Exception):
                close()


class Access:
    """One exchange's use of a file; one thread at a time.

    Args:
        filesystems: Lends the filesystem.
        place: Where the file is.
        clock: Seconds since the epoch.
    """

    def __init__(self, filesystems: Filesystems, place: Place, clock: Callable[[], float]) -> None:
        self._filesystems = filesystems
        self._place = place
        self._clock = clock
        self._filesystem: AbstractFileSystem | None = None
        self._path = ""
        self._file: Any = None
        self._facts: Facts | None = None
        self._sound = False
        self._reused = False
        self._closed = False

    def open(self) -> Facts | None:
        """Return what is known of the file, None if there is only a directory.

        An error over a connection that was used before may be that connection's alone; some
        filesystems even call it a missing file. So it counts only over a new one.
        """
        try:
            return self._open(fresh=False)
        except Exception:
            filesystem = self._filesystem
            if filesystem is None or not self._reused or _shared(filesystem, self._place):
                raise
            _close(filesystem)
            return self._open(fresh=True)

    def _open(self, *, fresh: bool) -> Facts | None:
        place = self._place
        self._filesystem, self._reused = self._filesystems.borrow(place, fresh=fresh)
        self._check_wanted()
        if "host" in type(self._filesystem)._get_kwargs_from_urls(f"{place.origin}/"):
            self._path = place.path
        elif place.scheme in LOCAL:
            self._path = os.path.realpath(place.path)
        else:
            self._path = f"{place.authority}{place.path}"
        self._facts = self._look()
        self._sound = True
        return self._facts

    def _check_wanted(self) -> None:
        """Let go of what was opened after nobody waited for it any more."""
        if self._closed:
            self.close()
            raise ClosedError("nobody waits for this file", url=self._place.shown)

    def _look(self) -> Facts | None:
        filesystem = self._filesystem
        assert filesystem is not None
        filesystem.invalidate_cache()  # by a listing that is kept a change would be missed
        info = filesystem.info(self._path)
        modified: object = None
        with contextlib.suppress(NotImplementedError, AttributeError):
            if self._place.scheme == "memory":
                modified = filesystem.modified(self._path)
        return facts_of(info, modified, self._clock())

    def read(self, start: int, length: int) -> bytes:
        """Return at most ``length`` bytes from ``start`` on; none at the end.

        Raises:
            TransportError: If the file is not the one any more that was opened.
        """
        self._sound = False
        content = self._read(start, length)
        # Looked at after each piece, before anybody gets it: two versions are never mixed.
        now = self._look()
        if self._facts is None or now is None or not now.same_as(self._facts):
            raise TransportError(
                "the file was changed while it was being read", url=self._place.shown
            )
        self._sound = True
        return content

    def _read(self, start: int, length: int) -> bytes:
        filesystem = self._filesystem
        assert filesystem is not None
        # Object stores answer a range in one request; memory's file objects are shared.
        if filesystem.async_impl or self._place.scheme == "memory":
            return bytes(filesystem.cat_file(self._path, start=start, end=start + length))
        if self._file is None:
            self._file = filesystem.open(self._path, "rb", block_size=PIECE, cache_type="none")
            self._check_wanted()
        self._file.seek(start)
        return bytes(self._file.read(length))

    def close(self) -> None:
        """Give the filesystem back, or close it where it is in doubt; idempotent."""
        self._closed = True
        file, self._file = self._file, None
        if file is not None:
            with contextlib.suppress(Exception):
                file.close()
        filesystem, self._filesystem = self._filesystem, None
        if filesystem is None:
            return
        if self._sound:
            self._filesystems.give_back(filesystem, self._place)
        elif not _shared(filesystem, self._place):
            _close(filesystem)

    def abandon(self) -> None:
        """Close while a thread may still be using it."""
        self._sound = False
        self.close()
