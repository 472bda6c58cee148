"""One configuration out of flags, variables, files and defaults, and where each value is from."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import attrs

from cachestream.config._convert import split_words
from cachestream.config._files import find_files
from cachestream.config._layers import (
    ROWS,
    EnvironmentLayer,
    FileLayer,
    FlagLayer,
    Layer,
    Raw,
    warn_of_unknown,
)
from cachestream.config._plugin import OptionRow, Plugin, converted, describe_options, nearest
from cachestream.errors import ConfigurationError
from cachestream.registry import Kind, Registry
from cachestream.settings import Settings

__all__ = ["Configuration", "load"]

_DEFAULTS: Final[dict[Kind, tuple[str, ...]]] = {
    "store": ("disk",),
    "transport": ("http",),
    "frontend": ("loopback",),
}


@attrs.frozen(kw_only=True)
class Configuration:
    """What was configured, and where.

    Attributes:
        settings: The settings that were given, in their own types.
        store: The store and its options.
        transports: The transports and their options.
        frontend: The frontend and its options.
        origins: Where each value is from: by setting, by kind (``store``), and by
            ``kind.plugin.option``. What is not in it has its default.
        files: The files that were read, the one that goes first first.
    """

    settings: Mapping[str, Any] = attrs.field(factory=dict, repr=False)
    store: Plugin = Plugin("disk")
    transports: tuple[Plugin, ...] = (Plugin("http"),)
    frontend: Plugin = Plugin("loopback")
    origins: Mapping[str, str] = attrs.field(factory=dict)
    files: tuple[Path, ...] = ()

    def get(self, name: str, default: Any = None) -> Any:
        """Return a setting that was given, else ``default``."""
        return self.settings.get(name, default)

    def arguments(self, **overrides: Any) -> dict[str, Any]:
        """Return the keyword arguments of a `cachestream.CacheManager`.

        Args:
            overrides: Settings, ``store``, ``transport`` and ``frontend`` that go before what
                was configured.

        Raises:
            ConfigurationError: If one is unknown or wrong.
        """
        parts = {
            "store": self.store,
            "transport": self.transports,
            "frontend": self.frontend,
        }
        parts |= {name: overrides.pop(name) for name in parts.keys() & overrides.keys()}
        try:
            return {"settings": Settings(**{**self.settings, **overrides}), **parts}
        except TypeError as error:
            raise ConfigurationError(f"an unknown setting: {error}") from error


def load(
    file: str | Path | None = None,
    *,
    settings: Mapping[str, Any] | None = None,
    options: Sequence[str] = (),
    defaults: Mapping[str, Any] | None = None,
    environ: Mapping[str, str] | None = None,
    directory: Path | None = None,
    registry: Registry | None = None,
) -> Configuration:
    """Read the configuration; what goes first wins: given, variables, files, defaults.

    Args:
        file: The only file to read; ``none`` for no file. None for what ``CACHESTREAM_CONFIG``
            names, and without it ``cachestream.toml`` in the current directory (unless other
            users can change it), in the user's configuration directory and in the system's.
        settings: Settings that were given by flags or by a program, and ``store``,
            ``transport`` and ``frontend``.
        options: Options of plug-ins that were given so: ``store.s3.bucket=films``.
        defaults: Settings to have when nobody gives them.
        environ: The environment, the process's if None.
        directory: The current directory, the process's if None.
        registry: Where plug-ins are found.

    Raises:
        ConfigurationError: If a file, a name or a value is wrong; it says which and where.
        PluginError: If a chosen plug-in with options cannot be loaded.

    Example:
        >>> load("none", settings={"max_size": "5GiB"}, environ={}).settings["max_size"]
        5368709120
    """
    environ = os.environ if environ is None else environ
    registry = registry or Registry()
    warn_of_unknown(environ)
    files = find_files(file, environ, directory or Path.cwd())
    layers: list[Layer] = [
        FlagLayer(settings or {}, options),
        EnvironmentLayer(environ),
        *(FileLayer(each, environ) for each in files),
        FlagLayer(defaults or {}, origin="default of this command"),
    ]
    return _Merge(layers, registry).result(tuple(each.path for each in files))


class _Merge:
    """Takes each value from the first layer that has it."""

    def __init__(self, layers: Sequence[Layer], registry: Registry) -> None:
        self._layers = layers
        self._registry = registry
        self._origins: dict[str, str] = {}
        self._named: dict[tuple[Kind, str], list[str]] = {}

    def result(self, files: tuple[Path, ...]) -> Configuration:
        self._check_tables()
        settings = {name: self._setting(name, row) for name, row in ROWS.items()}
        return Configuration(
            settings={name: value for name, value in settings.items() if name in self._origins},
            store=self._plugins("store")[0],
            transports=self._plugins("transport"),
            frontend=self._plugins("frontend")[0],
            origins=self._origins,
            files=files,
        )

    def _first(self, found: Iterable[Raw | None]) -> Raw | None:
        return next((raw for raw in found if raw is not None), None)

    def _setting(self, name: str, row: OptionRow) -> Any:
        raw = self._first(layer.setting(name) for layer in self._layers)
        if raw is None:
            return None
        value = _located(raw, lambda: _checked(name, raw, row))
        self._origins[name] = raw.origin
        return value

    def _plugins(self, kind: Kind) -> tuple[Plugin, ...]:
        """Return the chosen plug-ins of a kind; only transports may be several."""
        names = _DEFAULTS[kind]
        raw = self._first(layer.setting(kind) for layer in self._layers)
        if raw is not None:
            self._origins[kind] = raw.origin
            chosen = split_words(raw.value) if isinstance(raw.value, str) else raw.value
            if not isinstance(chosen, list | tuple) or not chosen:
                raise ConfigurationError(f"{kind} must be a name ({raw.origin})")
            names = tuple(map(str, chosen))
        if len(names) > 1 and kind != "transport":
            raise ConfigurationError(
                f"{kind} must be one name, not {', '.join(names)} "
                f"({self._origins.get(kind, 'default')})"
            )
        return tuple(Plugin(name, **self._options(kind, name)) for name in names)

    def _options(self, kind: Kind, name: str) -> dict[str, Any]:
        if not any(layer.may_have_options(kind, name) for layer in self._layers):
            return {}  # and its module is not imported before it is used
        cls = self._registry.get(kind, name)
        rows = {row.name: row for row in describe_options(cls)} if hasattr(cls, "Options") else {}
        for option in self._named.get((kind, name), ()):
            if option not in rows:
                raise ConfigurationError(
                    f"the {kind} {name!r} has no option {option!r}",
                    hint=nearest(option, rows, "Its options are") or "It has no options at all.",
                )
        values = {row.name: self._option(kind, name, row) for row in rows.values()}
        return {
            option: value
            for option, value in values.items()
            if f"{kind}.{name}.{option}" in self._origins
        }

    def _option(self, kind: Kind, plugin: str, row: OptionRow) -> Any:
        raw = self._first(layer.option(kind, plugin, row) for layer in self._layers)
        if raw is None:
            return None
        place = f"{kind}.{plugin}.{row.name}"
        self._origins[place] = raw.origin
        return _located(raw, lambda: converted(raw.value, row, place, raw.base))

    def _check_tables(self) -> None:
        """Make sure that all options are for plug-ins that there are."""
        for layer in self._layers:
            for kind, name, options in layer.plugins():
                known = {info.name for info in self._registry.listing() if info.kind == kind}
                if name.rpartition(":")[2] not in known:
                    raise ConfigurationError(
                        f"options are given for the {kind} {name!r}, which is not installed",
                        hint=nearest(name, known, "Installed are"),
                    )
                self._named.setdefault((kind, name), []).extend(options)


def _checked(name: str, raw: Raw, row: OptionRow) -> Any:
    """Return a setting in its type, within its bounds."""
    value = converted(raw.value, row, name, raw.base)
    Settings(**{name: value})
    return value


def _located(raw: Raw, make: Any) -> Any:
    """Return what ``make`` returns; its error is told with the place of the value."""
    try:
        return make()
    except ConfigurationError as error:
        raise ConfigurationError(f"{error.message} ({raw.origin})", hint=error.hint) from None
