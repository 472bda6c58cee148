"""The directories of a disk store, and how files in them are opened without being fooled.

A store's root holds ``data`` (one file an entry), ``locks`` (one an entry in somebody's hands)
and ``index``. Names are 32 hexadecimal digits, opened relative to a descriptor of their
directory and never through a link; what is opened must be a plain file of ours with one name.

Two locks, both by flock, as they vanish with their process: whoever has a data file open
holds it shared, so bytes are only punched out when nobody else can be reading them; and one
process at a time holds the lock file of an entry, and may write it.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from cachestream.backends._blanks import Blanks
from cachestream.backends._format import Identity
from cachestream.errors import ConfigurationError, StoreError, StoreFullError

__all__ = ["PLAIN", "Root", "identity_of", "medium_errors", "share", "store_error", "try_exclusive"]

_CACHEDIR_TAG: Final = (
    b"Signature: 8a477f597d28d172789f06886806bc55\n"
    b"# This directory holds a cache made by cachestream; backups may leave it out.\n"
)
_SPARE: Final = 256 * 1024
"""Enough for SQLite's side files and some transactions."""

_DIRECTORY: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
PLAIN: Final = os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY
_NO_PLAIN_FILE: Final = frozenset({errno.ELOOP, errno.EISDIR, errno.ENXIO, errno.ENODEV})
_FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


def store_error(exc: OSError, url: str | None = None) -> StoreError:
    """Return the store's error for one of the operating system."""
    if exc.errno in _FULL:
        return StoreFullError(
            f"no room is left on the store's disk: {exc.strerror}",
            url=url,
            hint="Free some room, or set max_size so that the store frees its own.",
        )
    hints = {
        errno.EACCES: "Check the owner and mode of the store's directory.",
        errno.EROFS: "The file system is read-only.",
        errno.EIO: "The disk fails; look at the system's log.",
        errno.ENOENT: "Something removed files of the store.",
    }
    return StoreError(
        f"the store's disk failed: {exc.strerror or exc}",
        url=url,
        hint=hints.get(exc.errno or 0),
    )


@contextlib.contextmanager
def medium_errors(url: str | None = None) -> Iterator[None]:
    """Turn errors of the operating system into those of the store."""
    try:
        yield
    except OSError as exc:
        raise store_error(exc, url) from exc


def identity_of(descriptor: int) -> Identity:
    """Return which file is open, as it is now."""
    found = os.fstat(descriptor)
    return Identity(found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns)


class Root:
    """The open root of a store.

    Args:
        path: Made with mode 0700 if it is missing.

    Attributes:
        blanks: Files for new entries and their locks.

    Raises:
        ConfigurationError: If it belongs to somebody else, or others may write to it.
        StoreError: If it cannot be made or used.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.blanks = Blanks()
        self._descriptors: list[int] = []
        try:
            with medium_errors():
                self._root = self._open_root()
                self._data = self._subdirectory("data")
                self._locks = self._subdirectory("locks")
                self._index = self._subdirectory("index")
                self._write_tag()
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Close the descriptors of the directories, and the files that got no name."""
        self.blanks.close()
        for descriptor in self._descriptors:
            os.close(descriptor)
        self._descriptors = []

    @contextlib.contextmanager
    def starting(self) -> Iterator[None]:
        """Keep other processes from opening the same index while this one does."""
        descriptor = os.open("opening", os.O_RDWR | os.O_CREAT | PLAIN, 0o600, dir_fd=self._locks)
        try:
            os.fchmod(descriptor, 0o600)
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)

    def make_blanks(self) -> None:
        """Make files for entries to come; for a thread."""
        self.blanks.fill(self._data)

    def keep_spare(self) -> None:
        """Keep some room for the index, so that a store on a full disk can still be opened."""
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | PLAIN
        with contextlib.suppress(OSError):
            descriptor = os.open("spare", flags, 0o600, dir_fd=self._index)
            try:
                os.write(descriptor, bytes(_SPARE))
            finally:
                os.close(descriptor)

    def release_spare(self) -> bool:
        """Give the spare room to the index; return False if there is none."""
        try:
            os.unlink("spare", dir_fd=self._index)
        except OSError:
            return False
        return True

    # -- data files ------------------------------------------------------

    def create_data(self, entry_id: str) -> int:
        """Make the data file of a new entry, and return it open and locked as in use."""
        blank = self._named_blank(entry_id, self._data, fcntl.LOCK_SH)
        if blank is not None:
            return blank
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | PLAIN
        return self._prepared(os.open(entry_id, flags, 0o600, dir_fd=self._data))

    def open_data(self, entry_id: str) -> int:
        """Open a data file and check that it is one of ours.

        Raises:
            FileNotFoundError: If it is missing, or something else has its name.
        """
        try:
            descriptor = os.open(entry_id, os.O_RDWR | PLAIN, dir_fd=self._data)
        except OSError as exc:
            if exc.errno in _NO_PLAIN_FILE:
                raise FileNotFoundError(errno.ENOENT, "no data file of ours") from exc
            raise
        return checked(descriptor)

    def has_data(self, entry_id: str) -> bool:
        """Tell whether an entry has a data file."""
        try:
            found = os.stat(entry_id, dir_fd=self._data, follow_symlinks=False)
        except FileNotFoundError:
            return False
        return stat.S_ISREG(found.st_mode)

    def is_on_disk_of(self, descriptor: int) -> bool:
        """Tell whether an open file lies on the file system of the data directory."""
        return os.fstat(descriptor).st_dev == os.fstat(self._data).st_dev

    def sync_data(self) -> None:
        """Let the names of data files survive a power cut."""
        os.fsync(self._data)

    def room_of(self, entry_id: str) -> int:
        """Return how many bytes of room a data file takes."""
        return os.stat(entry_id, dir_fd=self._data, follow_symlinks=False).st_blocks * 512

    def unlink_data(self, entry_id: str) -> None:
        """Take a data file's name away; who has it open keeps it."""
        with contextlib.suppress(FileNotFoundError):
            os.unlink(entry_id, dir_fd=self._data)

    def list_data(self) -> list[str]:
        """Return the names in the data directory."""
        return os.listdir(self._data)

    # -- locks -----------------------------------------------------------

    def list_locks(self) -> list[str]:
        """Return the names of the lock files: of entries that some process has, or had, in hand."""
        return os.listdir(self._locks)

    def lock(self, entry_id: str) -> int | None:
        """Return the open lock file of an entry; None if another process holds it."""
        blank = self._named_blank(entry_id, self._locks, fcntl.LOCK_EX)
        if blank is not None:
            return blank
        flags = os.O_RDWR | os.O_CREAT | PLAIN
        while True:
            descriptor = os.open(entry_id, flags, 0o600, dir_fd=self._locks)
            try:
                os.fchmod(descriptor, 0o600)
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                ours = os.fstat(descriptor)
                named = os.stat(entry_id, dir_fd=self._locks, follow_symlinks=False)
                if (ours.st_dev, ours.st_ino) == (named.st_dev, named.st_ino):
                    return descriptor
            except BlockingIOError:
                os.close(descriptor)
                return None
            except FileNotFoundError:
                pass
            except BaseException:
                os.close(descriptor)
                raise
            # Its last holder removed it between our two steps: take the new one.
            os.close(descriptor)

    def unlock(self, entry_id: str, descriptor: int) -> None:
        """Remove and release a lock file."""
        with contextlib.suppress(OSError):
            os.unlink(entry_id, dir_fd=self._locks)
        os.close(descriptor)

    def _named_blank(self, entry_id: str, directory: int, lock: int) -> int | None:
        """Return a file made ahead, locked before it got its name; None if there is none."""
        blank = self.blanks.take()
        if blank is None:
            return None
        fcntl.flock(blank, lock | fcntl.LOCK_NB)
        return blank if self.blanks.name(blank, entry_id, directory) else None

    # -- making the directories ------------------------------------------

    def _open_root(self) -> int:
        with contextlib.suppress(FileExistsError):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            os.mkdir(self.path, 0o700)
            os.chmod(self.path, 0o700)  # whatever the umask
        # The root itself may be a link that its owner made; what is inside may not.
        descriptor = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        self._descriptors.append(descriptor)
        found = os.fstat(descriptor)
        hint = "Name a directory of your own, or run `chmod go-w` on it."
        if found.st_uid != os.geteuid():
            raise ConfigurationError(f"{self.path} belongs to another user", hint=hint)
        if stat.S_IMODE(found.st_mode) & 0o022:
            raise ConfigurationError(f"others may write to {self.path}", hint=hint)
        return descriptor

    def _subdirectory(self, name: str) -> int:
        with contextlib.suppress(FileExistsError):
            os.mkdir(name, 0o700, dir_fd=self._root)
            os.chmod(name, 0o700, dir_fd=self._root)
        try:
            descriptor = os.open(name, _DIRECTORY, dir_fd=self._root)
        except OSError as exc:
            if exc.errno in (errno.ELOOP, errno.ENOTDIR):
                raise ConfigurationError(
                    f"{self.path / name} is no plain directory", hint="Move it away."
                ) from exc
            raise
        self._descriptors.append(descriptor)
        if os.fstat(descriptor).st_uid != os.geteuid():
            raise ConfigurationError(f"{self.path / name} belongs to another user")
        os.fchmod(descriptor, 0o700)
        return descriptor

    def _write_tag(self) -> None:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | PLAIN
        with contextlib.suppress(FileExistsError):
            descriptor = os.open("CACHEDIR.TAG", flags, 0o600, dir_fd=self._root)
            try:
                os.write(descriptor, _CACHEDIR_TAG)
            finally:
                os.close(descriptor)

    @staticmethod
    def _prepared(descriptor: int) -> int:
        os.fchmod(descriptor, 0o600)
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        return descriptor


def try_exclusive(descriptor: int) -> bool:
    """Lock an open data file for us alone; False if another process has it open.

    `share` must be called afterwards in either case.
    """
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def share(descriptor: int) -> None:
    """Lock an open data file as in use.

    Changing a lock gives up the old one first, so this may have to wait while another
    process makes a hole, which takes milliseconds.
    """
    fcntl.flock(descriptor, fcntl.LOCK_SH)


def checked(descriptor: int) -> int:
    """Return ``descriptor`` if it is a plain file of ours with one name, else close it.

    Raises:
        FileNotFoundError: If it is anything else.
    """
    found = os.fstat(descriptor)
    if stat.S_ISREG(found.st_mode) and found.st_uid == os.geteuid() and found.st_nlink == 1:
        return descriptor
    os.close(descriptor)
    raise FileNotFoundError(errno.ENOENT, "what lies there is no data file of ours")
