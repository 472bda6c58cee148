"""What an origin serves: content of any size that need not be in memory."""

from __future__ import annotations

import hashlib
import os
from functools import lru_cache
from pathlib import Path
from typing import Final, Protocol

import attrs

__all__ = ["BytesContent", "Content", "FileContent", "Pattern", "pattern"]

_BLOCK: Final = 1 << 20
# Odd, so that 2**20 blocks (1 TiB) have 2**20 different rotations; far from any multiple of a
# page or of 64 KiB, so that content which is misplaced by a round number never looks right.
_STEP: Final = 0x9E375


class Content(Protocol):
    """Content that can be read at any position.

    Attributes:
        length: Number of bytes, None for a stream without end.
    """

    @property
    def length(self) -> int | None: ...

    def bytes(self, start: int, stop: int) -> bytes:
        """Return the bytes of ``[start, stop)``, which lies within the content."""
        ...


@lru_cache(maxsize=32)
def _twice(seed: str) -> memoryview:
    block = hashlib.shake_256(seed.encode()).digest(_BLOCK)
    return memoryview(block + block)


@attrs.frozen
class Pattern:
    """Bytes that follow from a seed and a position alone; each 1 MiB block differs.

    Make one with `pattern`. It costs 2 MiB of memory a seed whatever its length.

    Attributes:
        seed: Two patterns with different seeds differ everywhere.
        length: Number of bytes, None for a stream without end.
    """

    seed: str
    length: int | None

    def bytes(self, start: int = 0, stop: int | None = None) -> bytes:
        """Return the bytes of ``[start, stop)``; up to the end if ``stop`` is None.

        Raises:
            ValueError: If ``stop`` is None and there is no end.
        """
        if stop is None:
            stop = self.length
        if stop is None:
            raise ValueError("a pattern without end needs a stop")
        if self.length is not None:
            stop = min(stop, self.length)
        twice = _twice(self.seed)
        parts = []
        while start < stop:
            block, offset = divmod(start, _BLOCK)
            size = min(_BLOCK - offset, stop - start)
            turned = (block * _STEP) % _BLOCK + offset
            # `turned` can pass the first copy; the second makes up for a block at most.
            turned -= _BLOCK if turned >= _BLOCK else 0
            parts.append(twice[turned : turned + size])
            start += size
        return parts[0].tobytes() if len(parts) == 1 else b"".join(parts)


def pattern(seed: int | str = 0, length: int | None = None) -> Pattern:
    """Make deterministic content.

    Args:
        seed: What it depends on.
        length: Number of bytes, None for a stream without end.

    Example:
        >>> video = pattern("video", 3 << 30)
        >>> video.bytes(2 << 30, (2 << 30) + 4) == video.bytes(0, 4)
        False
    """
    return Pattern(str(seed), length)


@attrs.frozen
class BytesContent:
    """Content held in memory."""

    data: bytes = attrs.field(repr=lambda data: f"<{len(data)} bytes>")

    @property
    def length(self) -> int:
        """Number of bytes."""
        return len(self.data)

    def bytes(self, start: int, stop: int) -> bytes:
        """Return the bytes of ``[start, stop)``."""
        return self.data[start:stop]


@attrs.define(eq=False)
class FileContent:
    """Content of a file on disk, read as it is asked for; open until it is garbage.

    Attributes:
        length: Size of the file in bytes when it was opened.
    """

    length: int
    _descriptor: int = attrs.field(repr=False)

    @classmethod
    def open(cls, path: Path | str) -> FileContent:
        """Open a file.

        Raises:
            OSError: If it cannot be read.
        """
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        return cls(os.fstat(descriptor).st_size, descriptor)

    def bytes(self, start: int, stop: int) -> bytes:
        """Return the bytes of ``[start, stop)``."""
        return os.pread(self._descriptor, stop - start, start)

    def __del__(self) -> None:
        os.close(self._descriptor)
