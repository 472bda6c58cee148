"""What origins serve, and how received bytes are checked: content follows from the name."""

from __future__ import annotations

import mmap
import os
from functools import cache
from pathlib import Path
from typing import Final

import attrs

from cachestream.testing.origin import pattern

__all__ = ["FULL", "MIB", "QUICK", "TINY", "Item", "Library", "Scale", "WrongBytesError", "check"]

MIB: Final = 1 << 20
_SMALL: Final = 512
_PER_FOLDER: Final = 1000


class WrongBytesError(Exception):
    """Somebody sent bytes, a length or a status that are not right."""


@attrs.frozen(kw_only=True)
class Scale:
    """How big everything is; sizes in bytes, times in seconds.

    Attributes:
        film: The usual file.
        archive: A file that is read here and there.
        big: A file that takes a while.
        copies: How many files of a film's size there are.
        seconds: How long a load lasts.
        herd: Clients that ask for one cold file at once.
        crowd: Slow clients.
        ranges: Length of a trace of random ranges.
        entries: Small files.
        rate: What a limited origin sends, bytes a second and connection.
    """

    film: int = 64 * MIB
    archive: int = 256 * MIB
    big: int = 1024 * MIB
    copies: int = 7
    seconds: float = 5.0
    herd: int = 100
    crowd: int = 500
    ranges: int = 200
    entries: int = 100_000
    rate: int = 4 * MIB


FULL: Final = Scale()
QUICK: Final = Scale(copies=3, seconds=2.0, entries=1000)
TINY: Final = Scale(
    film=2 * MIB,
    archive=4 * MIB,
    big=8 * MIB,
    copies=2,
    seconds=1.0,
    herd=4,
    crowd=5,
    ranges=12,
    entries=100,
)


@attrs.frozen
class Item:
    """A file of an origin.

    Attributes:
        name: Its path, without a slash at the start.
        size: Its length in bytes.
    """

    name: str
    size: int


class Library:
    """The files that origins serve, made where they are missing.

    Args:
        root: Folder they are in.
        scale: How big they are.
    """

    def __init__(self, root: Path, scale: Scale) -> None:
        self.root = root
        self.scale = scale
        self.small = [
            Item(f"small/{number // _PER_FOLDER:03d}/{number % _PER_FOLDER:03d}.bin", _SMALL)
            for number in range(scale.entries)
        ]

    @property
    def film(self) -> Item:
        """The first of `films`."""
        return self._item("film-0", self.scale.film)

    @property
    def films(self) -> list[Item]:
        """Files of one size, each with bytes of its own."""
        return [self._item(f"film-{n}", self.scale.film) for n in range(self.scale.copies)]

    @property
    def archive(self) -> Item:
        """The file that is read here and there."""
        return self._item("archive", self.scale.archive)

    @property
    def big(self) -> Item:
        """The file that takes a while."""
        return self._item("big", self.scale.big)

    @property
    def clip(self) -> Item:
        """A file to wake a server up with."""
        return self._item("clip", MIB)

    def _item(self, stem: str, size: int) -> Item:
        return Item(f"{stem}-{size}.bin", size)

    def make(self) -> None:
        """Write the files that are missing, but for the small ones."""
        self.root.mkdir(parents=True, exist_ok=True)
        for item in (self.clip, *self.films, self.archive, self.big):
            if not (self.root / item.name).exists():
                _write(self.root / item.name, item)

    def make_small(self) -> None:
        """Write the small files that are missing."""
        for number, item in enumerate(self.small):
            path = self.root / item.name
            if not path.exists():
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(self.small_content(number))

    def small_content(self, number: int) -> bytes:
        """Return the bytes of a small file."""
        return pattern("small").bytes(number * _SMALL, (number + 1) * _SMALL)

    def content(self, item: Item) -> memoryview:
        """Return the right bytes of a file."""
        return _mapped(self.root / item.name)


def _write(path: Path, item: Item) -> None:
    content = pattern(item.name, item.size)
    part = path.with_suffix(".part")
    with part.open("wb") as file:
        for start in range(0, item.size, MIB):
            file.write(content.bytes(start, min(start + MIB, item.size)))
    os.replace(part, path)


@cache
def _mapped(path: Path) -> memoryview:
    with path.open("rb") as file:
        return memoryview(mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ))


def check(got: bytearray, length: int, right: memoryview, start: int) -> None:
    """Compare the first ``length`` bytes of ``got`` with the content from ``start`` on.

    Raises:
        WrongBytesError: At the first piece that differs, or is beyond the end.
    """
    # A bytearray compares with any buffer at the speed of memory; two views do not.
    piece = got if length == len(got) else got[:length]
    if piece != right[start : start + length]:
        raise WrongBytesError(f"wrong bytes in [{start}, {start + length})")
