"""The stores that cachestream brings along."""

from cachestream.backends._disk import DiskStore
from cachestream.backends._memory import MemoryMedium, MemoryStore

__all__ = ["DiskStore", "MemoryMedium", "MemoryStore"]
