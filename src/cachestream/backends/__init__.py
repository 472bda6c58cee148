"""The stores that cachestream brings along."""

from cachestream.backends._memory import MemoryMedium, MemoryStore

__all__ = ["MemoryMedium", "MemoryStore"]
