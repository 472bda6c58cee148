"""A Unix socket to listen on: made with its permissions, in the place of a stale one only."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import re
import socket
import stat
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

import attrs

from cachestream.errors import ConfigurationError

__all__ = ["UnixPlace", "check_mode", "check_socket_path"]

_BACKLOG: Final = 1024
_MODE: Final = re.compile(r"0?[0-7]{3}")

# How long another program that begins to listen in the same directory is waited for.
_ATTEMPTS: Final = 40
_PAUSE_S: Final = 0.05


def check_socket_path(path: str) -> str:
    """Return a socket's path, or ``@name`` for one in the abstract namespace.

    Raises:
        ConfigurationError: If it is neither, or this system has no such sockets.
    """
    if not hasattr(socket, "AF_UNIX"):
        raise ConfigurationError("this system has no Unix sockets", hint="Listen on a port")
    if "\0" in path or not path.startswith(("/", "@")) or path in ("/", "@"):
        raise ConfigurationError(
            f"socket_path {path!r} is no place for a socket",
            hint="Write an absolute path, or @name for an abstract socket",
        )
    return path


def check_mode(mode: str) -> int:
    """Return the permissions that octal digits stand for.

    Raises:
        ConfigurationError: If they are none.
    """
    if not _MODE.fullmatch(mode):
        raise ConfigurationError(
            f"socket_mode {mode!r} is no file mode",
            hint="Write 0600 for this user alone, 0660 for the socket's group too",
        )
    return int(mode, 8)


@attrs.define(eq=False)
class UnixPlace:
    """A place in the file system, or in the abstract namespace, where a socket listens.

    Attributes:
        path: An absolute path, or ``@name``.
        mode: Permissions of the socket file; who may write may connect.
    """

    path: str
    mode: int
    _identity: tuple[int, int] | None = None

    @property
    def address(self) -> str:
        """What the system calls is told."""
        return f"\0{self.path[1:]}" if self.is_abstract else self.path

    @property
    def is_abstract(self) -> bool:
        """Whether there is no file."""
        return self.path.startswith("@")

    async def open(self) -> socket.socket:
        """Return a socket that listens here, in place of one that nobody answers on.

        Raises:
            ConfigurationError: If another program answers, there is another kind of file, or
                the place cannot be used.
        """
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            sock.setblocking(False)
            if self.is_abstract:
                sock.bind(self.address)
                sock.listen(_BACKLOG)
            else:
                async with self._alone():
                    self._remove_stale()
                    self._make(sock)
        except OSError as error:
            sock.close()
            raise self._error(error) from error
        except BaseException:
            sock.close()
            raise
        return sock

    def remove(self) -> None:
        """Remove the socket's file, unless another one is in its place by now."""
        identity, self._identity = self._identity, None
        with contextlib.suppress(OSError):
            found = os.lstat(self.path)
            if (found.st_dev, found.st_ino) == identity:
                os.unlink(self.path)

    def _make(self, sock: socket.socket) -> None:
        sock.bind(self.address)
        found = os.lstat(self.path)
        self._identity = (found.st_dev, found.st_ino)
        # Nobody gets in before the permissions are set: it does not listen yet.
        os.chmod(self.path, self.mode)
        sock.listen(_BACKLOG)

    @asynccontextmanager
    async def _alone(self) -> AsyncIterator[None]:
        """Keep others of our kind from removing the socket that we are about to make.

        Raises:
            ConfigurationError: If one of them takes too long.
        """
        import fcntl  # where there are Unix sockets in Python, this is there too

        directory = os.open(os.path.dirname(self.path), os.O_RDONLY | os.O_DIRECTORY)
        try:
            for attempt in range(_ATTEMPTS):
                try:
                    fcntl.flock(directory, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    if attempt == _ATTEMPTS - 1:
                        raise self._taken() from None
                    await asyncio.sleep(_PAUSE_S)
            yield
        finally:
            os.close(directory)

    def _remove_stale(self) -> None:
        try:
            found = os.lstat(self.path)
        except FileNotFoundError:
            return
        if not stat.S_ISSOCK(found.st_mode):
            raise ConfigurationError(
                f"{self.path} is there already, and is no socket",
                hint="Nothing was changed. Choose another path, or move that file away",
            )
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
            # Never waits: a socket whose queue is full says so at once.
            probe.setblocking(False)
            try:
                probe.connect(self.path)
            except ConnectionRefusedError:
                os.unlink(self.path)
                return
            except BlockingIOError:
                pass
        raise self._taken()

    def _taken(self) -> ConfigurationError:
        return ConfigurationError(
            f"another program listens on {self.path}",
            hint="Stop that program, or choose another path",
        )

    def _error(self, error: OSError) -> ConfigurationError:
        if error.errno == errno.EADDRINUSE:
            return self._taken()
        if isinstance(error, FileNotFoundError | NotADirectoryError):
            return ConfigurationError(
                f"cannot listen on {self.path}: its directory does not exist",
                hint="Make the directory first",
            )
        if isinstance(error, PermissionError):
            return ConfigurationError(
                f"cannot listen on {self.path}: this user may not write there",
                hint="Choose a path in a directory of this user, such as $XDG_RUNTIME_DIR",
            )
        return ConfigurationError(
            f"cannot listen on {self.path}: {error}",
            hint="A socket's path has at most 107 bytes",
        )
