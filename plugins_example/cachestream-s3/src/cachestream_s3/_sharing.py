"""Which entries the stores of this process have open, by the place they share."""

from __future__ import annotations

from collections import Counter
from typing import Final
from weakref import WeakValueDictionary

__all__ = ["Sharing", "sharing_of"]


class Sharing:
    """What stores of one process at one place know of each other.

    Nodes may write one entry at a time, each its own objects. Within a process it would be
    waste: one store writes there, and the others read what is committed.
    """

    def __init__(self) -> None:
        self._writers: dict[str, object] = {}
        self._opens: Counter[str] = Counter()

    def claim(self, entry_id: str, store: object) -> bool:
        """Note that ``store`` opens an entry; tell whether it may write it."""
        self._opens[entry_id] += 1
        return self._writers.setdefault(entry_id, store) is store

    def release(self, entry_id: str, store: object) -> None:
        """Note that ``store`` closed an entry."""
        if self._writers.get(entry_id) is store:
            del self._writers[entry_id]
        self._opens[entry_id] -= 1
        if self._opens[entry_id] <= 0:
            del self._opens[entry_id]

    def is_open(self, entry_id: str) -> bool:
        """Tell whether any store has an entry open."""
        return entry_id in self._opens


_PLACES: Final[WeakValueDictionary[str, Sharing]] = WeakValueDictionary()


def sharing_of(place: str) -> Sharing:
    """Return what the stores at a place share; it goes with the last of them."""
    return _PLACES.setdefault(place, Sharing())
