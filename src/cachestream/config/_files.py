"""Configuration files: where they are, and what is in them."""

from __future__ import annotations

import logging
import os
import stat
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import attrs
import platformdirs

from cachestream.errors import ConfigurationError

__all__ = ["FILE_NAME", "ConfigFile", "find_files", "search_path"]

FILE_NAME: Final = "cachestream.toml"
NO_FILE: Final = "none"
VARIABLE: Final = "CACHESTREAM_CONFIG"
_MAX_BYTES: Final = 1 << 20

_logger = logging.getLogger("cachestream.config")


@attrs.frozen
class ConfigFile:
    """What one file says.

    Attributes:
        path: Where it is.
        content: The tables of its TOML.
        readable_by_others: Whether other users can read it.
    """

    path: Path
    content: Mapping[str, Any]
    readable_by_others: bool


def search_path(directory: Path) -> tuple[Path, ...]:
    """Return where files are looked for when none is named; the first goes before the others.

    Args:
        directory: The current directory.
    """
    return (
        directory / FILE_NAME,
        platformdirs.user_config_path("cachestream") / FILE_NAME,
        platformdirs.site_config_path("cachestream") / FILE_NAME,
        *((Path("/etc/cachestream") / FILE_NAME,) if os.name == "posix" else ()),
    )


def find_files(
    named: str | Path | None, environ: Mapping[str, str], directory: Path
) -> tuple[ConfigFile, ...]:
    """Return the files that count, the one that goes first first.

    Args:
        named: The only file to read, ``none`` for no file at all, None for what the variable
            says, and without it the `search_path`.
        environ: The environment.
        directory: The current directory.

    Raises:
        ConfigurationError: If a named file is not there, or one cannot be read or parsed.
    """
    chosen = str(named or environ.get(VARIABLE, ""))
    if chosen == NO_FILE:
        return ()
    if chosen:
        return (_read(Path(chosen).expanduser()),)
    here, *others = search_path(directory)
    paths = [here] if _is_ours(here) else []
    seen: dict[Path, None] = dict.fromkeys(paths)
    seen |= dict.fromkeys(path for path in others if path.is_file())
    return tuple(_read(path) for path in seen)


def _is_ours(path: Path) -> bool:
    """Return whether a file of the current directory may say what this program does.

    A directory that all may write to is no place for orders.
    """
    try:
        facts = path.stat()
    except OSError:
        return False
    if not stat.S_ISREG(facts.st_mode):
        return False
    if os.name == "posix" and (
        facts.st_uid not in (os.getuid(), 0) or facts.st_mode & stat.S_IWOTH
    ):
        _logger.warning("%s is ignored: other users can change it", path)
        return False
    return True


def _read(path: Path) -> ConfigFile:
    path = path.absolute()
    try:
        with path.open("rb") as file:
            mode = os.fstat(file.fileno()).st_mode
            if not stat.S_ISREG(mode):
                raise ConfigurationError(f"the configuration {path} is no regular file")
            text = file.read(_MAX_BYTES + 1)
        if len(text) > _MAX_BYTES:
            raise ConfigurationError(f"the configuration {path} is larger than 1 MiB")
        content = tomllib.loads(text.decode("utf-8"))
    except OSError as error:
        raise ConfigurationError(
            f"the configuration {path} cannot be read: {error.strerror or error}"
        ) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"the configuration {path} is no TOML: {error}") from error
    return ConfigFile(path, content, bool(mode & (stat.S_IROTH | stat.S_IRGRP)))
