"""Files that have no name yet, made ahead by a thread.

To find room for a new file can take a file system a millisecond, to name one takes it some
microseconds. A file without a name is gone with its process, so a crash leaves none behind.
"""

from __future__ import annotations

import os
from typing import Final

__all__ = ["Blanks"]

_MOST: Final = 4  # two entries, each with its lock
_UNNAMED: Final = getattr(os, "O_TMPFILE", 0)  # Linux has it, on most of its file systems


class Blanks:
    """Empty files of mode 0600."""

    def __init__(self) -> None:
        self._made: list[int] = []
        self._usable = bool(_UNNAMED)

    @property
    def are_few(self) -> bool:
        """Whether `fill` should be called soon."""
        return self._usable and len(self._made) < _MOST

    def fill(self, directory: int) -> None:
        """Make some for an open directory; for a thread, one at a time.

        Where that cannot be, there will be none.
        """
        try:
            while self._usable and len(self._made) < _MOST:
                descriptor = os.open(
                    ".", os.O_RDWR | os.O_CLOEXEC | _UNNAMED, 0o600, dir_fd=directory
                )
                self._made.append(descriptor)
                os.fchmod(descriptor, 0o600)  # whatever the umask
        except OSError:
            # A full disk, say, is told by whoever makes a file that is needed.
            self._usable = False

    def take(self) -> int | None:
        """Return an open file, which the caller names or closes; None if there is none."""
        return self._made.pop() if self._made else None

    def name(self, descriptor: int, name: str, directory: int) -> bool:
        """Name a file that was taken; if the name is in use or cannot be given, close it."""
        path = f"/proc/self/fd/{descriptor}"
        try:
            os.link(path, name, src_dir_fd=directory, dst_dir_fd=directory, follow_symlinks=True)
        except OSError as error:
            os.close(descriptor)
            if not isinstance(error, FileExistsError):  # no /proc, or another file system
                self._usable = False
            return False
        return True

    def close(self) -> None:
        """Close what was not taken; `fill` must not be running."""
        self._usable = False
        while self._made:
            os.close(self._made.pop())
