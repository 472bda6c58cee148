"""Part of cachestream."""
