"""cachestream: download, cache and stream remote content at the same time."""
