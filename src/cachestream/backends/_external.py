"""Data files that lie where the user said, outside the store's root.

While incomplete, the data of ``NAME`` lies beside it as ``.NAME.part``; when every byte is
committed it is renamed. A mark in an extended attribute says which entry a file belongs to,
so that no row of the index, damaged or planted, makes the store remove or overwrite a file
that it did not make. File systems without such attributes get the weaker proof: device,
inode, size and time of the last change.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from pathlib import Path
from typing import Final

from cachestream.backends._files import PLAIN, identity_of
from cachestream.backends._format import Head, Identity
from cachestream.errors import StoreError

__all__ = ["create_part", "finish", "open_external", "part_of", "present", "unlink_external"]

_MARK: Final = "user.cachestream.entry"


def part_of(file: str) -> Path:
    """Return where the data of ``file`` lies until it is complete."""
    path = Path(file)
    return path.with_name(f".{path.name}.part")


def create_part(file: str, entry_id: str) -> int:
    """Make the file for the data of a new entry; return it open.

    Raises:
        StoreError: If something that the store did not make is in the way.
        OSError: If the medium fails.
    """
    path, part = Path(file), part_of(file)
    path.parent.mkdir(parents=True, exist_ok=True)
    for taken in (path, part):
        if not _may_replace(taken):
            raise StoreError(
                f"{taken} is there already, and was not made by this cache",
                hint="Move it away, or name another file.",
            )
    # A part that is left belongs to an older version of the file: whoever has it open
    # keeps it, but it will never get the name.
    with contextlib.suppress(FileNotFoundError):
        part.unlink()
    descriptor = os.open(part, os.O_RDWR | os.O_CREAT | os.O_EXCL | PLAIN, 0o600)
    os.fchmod(descriptor, 0o600)
    with contextlib.suppress(OSError, AttributeError):
        os.setxattr(descriptor, _MARK, entry_id.encode())
    return descriptor


def open_external(head: Head) -> int:
    """Open the data file of an entry and check that it still is the one we wrote.

    Raises:
        FileNotFoundError: If it is missing, or another file has taken its place.
        OSError: If it cannot be opened.
    """
    if head.file is None or head.identity is None:
        raise FileNotFoundError(errno.ENOENT, "the entry names no file")
    # A crash may have come between the renaming and the note of it.
    places = [Path(head.file)] if head.final else [part_of(head.file), Path(head.file)]
    for place in places:
        try:
            descriptor = os.open(place, os.O_RDWR | PLAIN)
        except OSError as exc:
            if exc.errno in (errno.ENOENT, errno.ELOOP, errno.ENXIO, errno.EISDIR, errno.ENOTDIR):
                continue
            raise
        if stat.S_ISREG(os.fstat(descriptor).st_mode) and _is_same(head, identity_of(descriptor)):
            return descriptor
        os.close(descriptor)
    raise FileNotFoundError(errno.ENOENT, "the file is not the one that was stored")


def present(head: Head) -> bool:
    """Tell whether `open_external` would find the file."""
    if head.file is None or head.identity is None:
        return False
    places = [Path(head.file)] if head.final else [part_of(head.file), Path(head.file)]
    for place in places:
        with contextlib.suppress(OSError):
            found = place.lstat()
            known = Identity(found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns)
            if stat.S_ISREG(found.st_mode) and _is_same(head, known):
                return True
    return False


def finish(file: str, descriptor: int) -> bool:
    """Give the complete data its name; return False if it lost its place to something else.

    Raises:
        OSError: If the medium fails.
    """
    part = part_of(file)
    try:
        named = part.lstat()
    except FileNotFoundError:
        return False
    ours = os.fstat(descriptor)
    if (named.st_dev, named.st_ino) != (ours.st_dev, ours.st_ino) or not _may_replace(Path(file)):
        return False
    os.rename(part, file)
    return True


def unlink_external(file: str, entry_id: str, identity: Identity | None) -> None:
    """Remove the data file of an entry, whole or part, if it is provably that entry's."""
    for place in (part_of(file), Path(file)):
        with contextlib.suppress(OSError):
            descriptor = os.open(place, os.O_RDONLY | PLAIN)
            try:
                mark = _mark_of(descriptor)
                known = identity_of(descriptor)
                ours = mark == entry_id or (mark is None and known == identity)
                if ours and stat.S_ISREG(os.fstat(descriptor).st_mode):
                    place.unlink()
            finally:
                os.close(descriptor)


def _is_same(head: Head, found: Identity) -> bool:
    if head.identity is None:
        return False
    # An incomplete file changes after each commit, so its size and time say nothing.
    return found == head.identity if head.final else found.same_file(head.identity)


def _may_replace(path: Path) -> bool:
    """Tell whether nothing is there, or a plain file that carries our mark."""
    try:
        descriptor = os.open(path, os.O_RDONLY | PLAIN)
    except FileNotFoundError:
        return True
    except OSError:
        return False
    try:
        return stat.S_ISREG(os.fstat(descriptor).st_mode) and bool(_mark_of(descriptor))
    finally:
        os.close(descriptor)


def _mark_of(descriptor: int) -> str | None:
    """Return which entry a file belongs to, "" for none, None where nobody can say."""
    try:
        return os.getxattr(descriptor, _MARK).decode(errors="replace")
    except AttributeError:
        return None
    except OSError as exc:
        return None if exc.errno in (errno.ENOTSUP, errno.ENOSYS) else ""
