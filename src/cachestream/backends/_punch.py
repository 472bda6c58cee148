"""System calls that Python does not offer: holes in files, and reflinks."""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import sys
from collections.abc import Callable
from typing import Final

__all__ = ["clone", "punch", "punch_supported"]

_KEEP_SIZE: Final = 0x01
_PUNCH_HOLE: Final = 0x02
_FICLONE: Final = 0x40049409
_COPY_STEP: Final = 8 * 1024 * 1024


def _find_fallocate() -> Callable[[int, int, int, int], int] | None:
    if not sys.platform.startswith("linux"):
        return None
    try:
        function = ctypes.CDLL(None, use_errno=True).fallocate64
    except (OSError, AttributeError):
        return None
    function.argtypes = (ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64)
    function.restype = ctypes.c_int
    return function


_fallocate: Final = _find_fallocate()


def punch_supported() -> bool:
    """Tell whether this system can make holes; a file system may still say no."""
    return _fallocate is not None


def punch(descriptor: int, start: int, stop: int) -> bool:
    """Make ``[start, stop)`` a hole and give its whole blocks back.

    Returns:
        False if the file system cannot do that; nothing has changed then.

    Raises:
        OSError: If the medium fails.
    """
    if _fallocate is None:
        return False
    if _fallocate(descriptor, _KEEP_SIZE | _PUNCH_HOLE, start, stop - start) == 0:
        return True
    number = ctypes.get_errno()
    if number in (errno.EOPNOTSUPP, errno.ENOSYS, errno.EPERM, errno.ETXTBSY):
        return False
    raise OSError(number, os.strerror(number))


def clone(
    source: int,
    target: int,
    spans: list[tuple[int, int]],
    length: int,
    *,
    share_blocks: bool = True,
) -> None:
    """Copy ``spans`` of one open file to another of ``length`` bytes.

    Args:
        share_blocks: Share all blocks of the file where the file system can.

    Raises:
        OSError: If the medium fails or is full.
    """
    if not (share_blocks and _reflink(source, target)):
        for start, stop in spans:
            _copy(source, target, start, stop)
    os.ftruncate(target, length)


def _reflink(source: int, target: int) -> bool:
    try:
        fcntl.ioctl(target, _FICLONE, source)
    except OSError:  # not on this file system, or not between these two
        return False
    return True


def _copy(source: int, target: int, start: int, stop: int) -> None:
    position, in_kernel = start, hasattr(os, "copy_file_range")
    while position < stop:
        size = min(_COPY_STEP, stop - position)
        if in_kernel:
            try:
                copied = os.copy_file_range(source, target, size, position, position)
            except OSError as exc:
                if exc.errno not in (errno.EXDEV, errno.EINVAL, errno.EOPNOTSUPP, errno.ENOSYS):
                    raise
                in_kernel = False
                continue
        else:
            copied = os.pwrite(target, os.pread(source, size, position), position)
        if copied == 0:
            raise OSError(errno.EIO, "the file is shorter than its stored spans")
        position += copied
