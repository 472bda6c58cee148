"""Configuration: one TOML file, variables, flags; and plug-ins chosen by name with options.

    [cachestream]
    max_size = "50GiB"
    store = "objects"

    [store.objects]
    url = "s3://bucket/cache"

The same as variables: ``CACHESTREAM_MAX_SIZE=50GiB CACHESTREAM_STORE_OBJECTS_URL=s3://…``. A
flag goes before a variable, a variable before a file, ``./cachestream.toml`` before the
user's file, and that before the system's.
"""

from __future__ import annotations

from cachestream.config._files import FILE_NAME, search_path
from cachestream.config._layers import ROWS, variable_of
from cachestream.config._load import Configuration, load
from cachestream.config._parts import Parts
from cachestream.config._plugin import (
    MASK,
    OptionRow,
    Plugin,
    describe_options,
    make_options,
    make_plugin,
    nearest,
)

__all__ = [
    "FILE_NAME",
    "MASK",
    "ROWS",
    "Configuration",
    "OptionRow",
    "Parts",
    "Plugin",
    "describe_options",
    "load",
    "make_options",
    "make_plugin",
    "nearest",
    "search_path",
    "variable_of",
]
