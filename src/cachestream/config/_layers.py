"""What each source of configuration says, still as it was written."""

from __future__ import annotations

import difflib
import logging
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final, Protocol

import attrs

from cachestream.config._files import ConfigFile
from cachestream.config._plugin import OptionRow, describe_options, nearest
from cachestream.errors import ConfigurationError
from cachestream.registry import KINDS, Kind
from cachestream.settings import Settings

__all__ = [
    "MAIN",
    "ROWS",
    "EnvironmentLayer",
    "FileLayer",
    "FlagLayer",
    "Layer",
    "Raw",
    "variable_of",
    "warn_of_unknown",
]

MAIN: Final = "cachestream"
"""The table of a file that has the settings, and the beginning of all variables."""

ROWS: Final[dict[str, OptionRow]] = {
    row.name: row
    for row in describe_options(Settings)
    if "Callable" not in str(row.type) and row.name != "start_server"
}
"""The settings that can be written down: all but functions."""

_logger = logging.getLogger("cachestream.config")
_OTHERS: Final = ("CONFIG", "LOG_FORMAT", "PLUGINS")
_INDIRECT: Final = frozenset({"file", "env"})


@attrs.frozen
class Raw:
    """A value as it was written, and where.

    Attributes:
        value: Text, or what TOML has.
        origin: Where it was written, as a person would look for it.
        base: What its relative paths start from.
    """

    value: Any = attrs.field(repr=False)
    origin: str
    base: Path | None = None


class Layer(Protocol):
    """One source of configuration."""

    def setting(self, name: str) -> Raw | None:
        """Return what it says of a setting, or of ``store``, ``transport`` or ``frontend``."""

    def option(self, kind: Kind, plugin: str, row: OptionRow) -> Raw | None:
        """Return what it says of an option of a plug-in."""

    def plugins(self) -> Iterable[tuple[Kind, str, Iterable[str]]]:
        """Return the plug-ins that it names options for, with these options' names."""

    def may_have_options(self, kind: Kind, plugin: str) -> bool:
        """Return whether it may say something of a plug-in's options."""


class FlagLayer:
    """What was given by flags, or by a program.

    Args:
        settings: Settings that were given, in their own types.
        options: ``kind.plugin.option=value`` each.
        origin: What to call it.

    Raises:
        ConfigurationError: If an option is not written so.
    """

    def __init__(
        self, settings: Mapping[str, Any], options: Iterable[str] = (), origin: str = "flag"
    ) -> None:
        self._settings = settings
        self._origin = origin
        self._options: dict[tuple[Kind, str], dict[str, str]] = {}
        for text in options:
            place, equals, value = text.partition("=")
            kind, _, rest = place.partition(".")
            plugin, _, option = rest.rpartition(".")
            if not (equals and plugin and option and kind in KINDS):
                raise ConfigurationError(
                    f"the option {place!r} is not written like KIND.PLUGIN.OPTION=VALUE",
                    hint="For example store.objects.url=memory://films.",
                )
            self._options.setdefault((kind, plugin), {})[option] = value

    def setting(self, name: str) -> Raw | None:
        return Raw(self._settings[name], self._origin) if name in self._settings else None

    def option(self, kind: Kind, plugin: str, row: OptionRow) -> Raw | None:
        given = self._options.get((kind, plugin), {})
        return Raw(given[row.name], self._origin) if row.name in given else None

    def plugins(self) -> Iterable[tuple[Kind, str, Iterable[str]]]:
        return [(kind, plugin, given) for (kind, plugin), given in self._options.items()]

    def may_have_options(self, kind: Kind, plugin: str) -> bool:
        return (kind, plugin) in self._options


class EnvironmentLayer:
    """What variables say; an empty one says nothing.

    Args:
        environ: The environment.
    """

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._environ = environ

    def _get(self, *words: str) -> Raw | None:
        name = variable_of(*words)
        value = self._environ.get(name, "")
        return Raw(value, f"variable {name}") if value else None

    def setting(self, name: str) -> Raw | None:
        return self._get(name)

    def option(self, kind: Kind, plugin: str, row: OptionRow) -> Raw | None:
        return self._get(kind, plugin, row.name)

    def plugins(self) -> Iterable[tuple[Kind, str, Iterable[str]]]:
        return ()  # a variable's name does not say where the plug-in's ends

    def may_have_options(self, kind: Kind, plugin: str) -> bool:
        beginning = variable_of(kind, plugin, "")
        return any(name.startswith(beginning) for name in self._environ)


class FileLayer:
    """What one file says.

    Args:
        file: The file.
        environ: Where ``{ env = "NAME" }`` looks.

    Raises:
        ConfigurationError: If it has what no file may have.
    """

    def __init__(self, file: ConfigFile, environ: Mapping[str, str]) -> None:
        self._file = file
        self._environ = environ
        known = {MAIN, *KINDS}
        for table, content in file.content.items():
            if table not in known:
                raise self._unknown_table(table, known)
            if not isinstance(content, Mapping):
                raise self._not_a_table(table)
            for name, inner in content.items() if table != MAIN else ():
                if not isinstance(inner, Mapping):
                    raise self._not_a_table(f"{table}.{name}")
        for name in self._main:
            if name not in ROWS and name not in KINDS:
                raise self._unknown_setting(name)

    @property
    def _main(self) -> Mapping[str, Any]:
        main: Mapping[str, Any] = self._file.content.get(MAIN, {})
        return main

    def setting(self, name: str) -> Raw | None:
        if name not in self._main:
            return None
        return self._raw(self._main[name], ROWS.get(name), f"{MAIN}.{name}")

    def option(self, kind: Kind, plugin: str, row: OptionRow) -> Raw | None:
        given = self._file.content.get(kind, {}).get(plugin, {})
        if row.name not in given:
            return None
        return self._raw(given[row.name], row, f"{kind}.{plugin}.{row.name}")

    def plugins(self) -> Iterable[tuple[Kind, str, Iterable[str]]]:
        return [
            (kind, plugin, given)
            for kind in KINDS
            for plugin, given in self._file.content.get(kind, {}).items()
        ]

    def may_have_options(self, kind: Kind, plugin: str) -> bool:
        return plugin in self._file.content.get(kind, {})

    def _raw(self, value: Any, row: OptionRow | None, where: str) -> Raw:
        is_secret = row is not None and row.secret and not _is_indirect(value)
        if is_secret and self._file.readable_by_others:
            _logger.warning(
                '%s holds the secret %s, and others can read it; chmod 600, or { file = "…" }',
                self._file.path,
                where,
            )
        resolved = self._resolved(value, row, where)
        return Raw(resolved, str(self._file.path), self._file.path.parent)

    def _resolved(self, value: Any, row: OptionRow | None, where: str) -> Any:
        """Return what ``{ file = … }`` and ``{ env = … }`` stand for, in tables too."""
        if not isinstance(value, Mapping):
            return value
        if row is not None and "Mapping" in str(row.type):
            return self._table(value, where)
        return self._one(value, where)

    def _table(self, table: Mapping[str, Any], where: str) -> dict[str, Any]:
        return {name: self._one(inner, f"{where}.{name}") for name, inner in table.items()}

    def _one(self, value: Any, where: str) -> Any:
        if not _is_indirect(value):
            return self._table(value, where) if isinstance(value, Mapping) else value
        ((way, name),) = value.items()
        if way == "env":
            if name not in self._environ:
                raise self._error(f"{where} is in the variable {name}, which is not set")
            return self._environ[name]
        path = self._file.path.parent / Path(str(name)).expanduser()
        try:
            return path.read_text(encoding="utf-8").strip("\r\n")
        except (OSError, UnicodeDecodeError) as error:
            raise self._error(f"{where} is in the file {path}, which cannot be read") from error

    # -- errors ----------------------------------------------------------

    def _error(self, text: str, hint: str = "") -> ConfigurationError:
        return ConfigurationError(f"{self._file.path}: {text}", hint=hint)

    def _unknown_table(self, name: str, known: set[str]) -> ConfigurationError:
        if name in ROWS:
            return self._error(
                f"{name!r} stands before all tables", f"Write it below a line [{MAIN}]."
            )
        return self._error(f"there is no table {name!r}", nearest(name, known, "The tables are"))

    def _not_a_table(self, name: str) -> ConfigurationError:
        return self._error(
            f"{name!r} must be a table",
            f"Choose a plug-in below [{MAIN}], and write its options below a line "
            f"[{name.partition('.')[0]}.NAME].",
        )

    def _unknown_setting(self, name: str) -> ConfigurationError:
        if any(row.name == name for row in describe_options(Settings)):
            return self._error(f"only a program can give the setting {name!r}")
        return self._error(
            f"no setting is called {name!r}", nearest(name, {*ROWS, *KINDS}, "Settings are")
        )


def _is_indirect(value: Any) -> bool:
    return isinstance(value, Mapping) and len(value) == 1 and set(value) <= _INDIRECT


def variable_of(*words: str) -> str:
    """Return the variable of a setting, or of a kind, a plug-in and its option.

    Example:
        >>> variable_of("store", "my-s3", "bucket")
        'CACHESTREAM_STORE_MY_S3_BUCKET'
    """
    return "_".join([MAIN.upper(), *(re.sub(r"\W", "_", word).upper() for word in words)])


def warn_of_unknown(environ: Mapping[str, str]) -> None:
    """Log variables that begin like ours and mean nothing, with the nearest that do."""
    known = {variable_of(name) for name in (*ROWS, *KINDS, *_OTHERS)}
    options = tuple(variable_of(kind, "") for kind in KINDS)
    for name in environ:
        if name.startswith(variable_of("")) and name not in known and not name.startswith(options):
            near = difflib.get_close_matches(name, known, n=1, cutoff=0.8)
            hint = f"; did you mean {near[0]}?" if near else ""
            _logger.warning("the variable %s means nothing%s", name, hint)
