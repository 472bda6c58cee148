"""The stores that cachestream brings along."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from cachestream.backends._disk import DiskStore
    from cachestream.backends._memory import MemoryMedium, MemoryStore
    from cachestream.backends._objects import ObjectsStore

__all__ = [
    "DiskStore",
    "MemoryMedium",
    "MemoryStore",
    "ObjectsStore",
]

_HOMES: Final = {
    "DiskStore": "backends._disk",
    "MemoryMedium": "backends._memory",
    "MemoryStore": "backends._memory",
    "ObjectsStore": "backends._objects",
}


def __getattr__(name: str) -> object:
    """Import what is asked for when it is: most programs need one or two of these."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    found: object = getattr(import_module(f"cachestream.{_HOMES[name]}"), name)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
