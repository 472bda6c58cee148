"""cachestream as a file system of fsspec: ``cachestream::https://example.com/data.parquet``.

    with fsspec.open("cachestream::https://example.com/data.csv", cachestream={"max_size": 2**33}):
        ...

The options under ``cachestream`` are fields of `cachestream.Settings`; the ``headers`` under
``https`` are sent to the origin.
"""

from cachestream.fsspec._caches import close_caches
from cachestream.fsspec._file import AsyncCachestreamFile, CachestreamFile
from cachestream.fsspec._filesystem import DEFAULTS, CachestreamFileSystem

__all__ = [
    "DEFAULTS",
    "AsyncCachestreamFile",
    "CachestreamFile",
    "CachestreamFileSystem",
    "close_caches",
]
