"""A store for cachestream in an S3 bucket, which several nodes share.

    from cachestream import CacheManager, Plugin

    async with CacheManager(store=Plugin("s3", bucket="films")) as cache: ...

Bytes lie in immutable objects. One small head a resource names them, and changes only by
compare-and-swap, so that nodes that write at the same moment lose nothing of each other.
"""

from __future__ import annotations

from cachestream_s3._options import S3Options
from cachestream_s3._store import S3Store

__all__ = ["S3Options", "S3Store"]
