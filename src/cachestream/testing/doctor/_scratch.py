"""A place of its own for a store that is examined, never the one that is configured.

A store whose place follows from the setting ``cache_dir`` needs nothing: that is a directory
which is removed. Otherwise one of its options must say where it is, and can be changed:

- ``prefix``: a random word is appended to it;
- ``url``: a random folder is appended to it;
- ``path``, ``root``, ``directory`` or ``folder``: replaced by a directory that is removed.

A store that is placed in another way has a class method ``scratch_options(values, token)``:
it is given the options by name and a random word, and returns them with a place that is empty
and that nobody else uses. One whose entries leave something behind when they are deleted has a
coroutine class method ``remove_scratch(values)``, which is given those options at the end and
removes everything there.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from cachestream.abc import Store
from cachestream.config import OptionRow, describe_options
from cachestream.errors import CacheStreamError, ConfigurationError

__all__ = ["NEEDED", "empty", "is_outside", "remove", "scratch_values"]

_DIRECTORIES: Final = ("path", "root", "directory", "folder")

NEEDED: Final = (
    "give it an option `prefix`, `url` or `path` that says where its entries lie, "
    "or a class method `scratch_options(values, token)`"
)
"""What a store has to have to be examined at a place of its own."""


def scratch_values(
    cls: type, values: Mapping[str, Any], directory: Path, token: str
) -> dict[str, Any]:
    """Return the options of a store with a place of its own instead of the configured one.

    Args:
        cls: The store's class.
        values: The configured options, by name.
        directory: A directory that is removed afterwards.
        token: A word that nobody else has.

    Raises:
        ConfigurationError: If it cannot be told what its own place would be.
    """
    hook = getattr(cls, "scratch_options", None)
    if hook is not None:
        return dict(hook(dict(values), token))
    rows = {row.name: row for row in _rows(cls)}
    for name in ("prefix", "url"):
        if name in rows:
            before = values.get(name, "" if rows[name].required else rows[name].default) or ""
            if name == "url" and not before:
                raise ConfigurationError("its option `url` must be given, to make a folder there")
            return {**values, name: _below(str(before), token, prefix=name == "prefix")}
    for name in _DIRECTORIES:
        if name in rows:
            place = directory / token.replace("/", "-")
            return {**values, name: place if rows[name].type is not str else str(place)}
    if values or any(row.required for row in rows.values()):
        raise ConfigurationError("it cannot be told where its entries lie", hint=NEEDED)
    return dict(values)


def _rows(cls: type) -> tuple[OptionRow, ...]:
    return describe_options(cls) if hasattr(cls, "Options") else ()


def _below(before: str, token: str, *, prefix: bool) -> str:
    """Return a place below another one; a prefix ends as the one before it did."""
    head = before.rstrip("/")
    after = f"{token}/" if prefix and (not before or before.endswith("/")) else token
    return f"{head}/{after}" if head else after


def is_outside(cls: type) -> bool:
    """Tell whether the place of a store may be another one than a local directory."""
    names = {row.name for row in _rows(cls)}
    return hasattr(cls, "scratch_options") or bool(names & {"prefix", "url"})


async def empty(store: Store) -> None:
    """Delete what the examination has stored, as far as the store lets it."""
    with contextlib.suppress(CacheStreamError):
        while records := await store.records(limit=100):
            for record in records:
                await store.delete(record.entry_id)


def remove(values: Mapping[str, Any]) -> str | None:
    """Remove a folder that a URL names; return what is left and why, None if nothing is.

    Args:
        values: Options that `scratch_values` returned; without a URL there is no folder.
    """
    url = values.get("url")
    if not isinstance(url, str) or "://" not in url:
        return None
    # Here and not above: only few stores need it.
    from fsspec.core import url_to_fs

    path = url.rstrip("/")
    try:
        filesystem, path = url_to_fs(url, **values.get("storage_options", {}))
        with contextlib.suppress(FileNotFoundError):
            filesystem.rm(path, recursive=True)
    except Exception as error:  # whatever a filesystem raises
        return f"the folder {path.rpartition('/')[2]} is left: {type(error).__name__}: {error}"
    return None
