"""The stores that cachestream brings along."""

from cachestream.backends._disk import DiskStore
from cachestream.backends._memory import MemoryMedium, MemoryStore
from cachestream.backends._objects import ObjectsStore

__all__ = ["DiskStore", "MemoryMedium", "MemoryStore", "ObjectsStore"]
