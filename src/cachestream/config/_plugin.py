"""A plug-in chosen by name with its options, and how the plug-in itself is made of it."""

from __future__ import annotations

import difflib
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import attrs

from cachestream.config._convert import convert
from cachestream.errors import ConfigurationError
from cachestream.registry import Kind, Registry
from cachestream.settings import Settings

__all__ = ["OptionRow", "Plugin", "describe_options", "make_options", "make_plugin", "nearest"]

MASK: Final = "***"
_FACTS: Final = ("help", "unit", "secret")


class Plugin:
    """Names a plug-in and gives it options: ``Plugin("s3", bucket="films")``.

    Options are checked when the plug-in is made, by its own class of options: types first,
    then its own rules. Text may stand for any type, as in a file: ``span_size="8MiB"``.

    Args:
        name: Its name, or ``distribution:name``.
        options: Its options.

    Example:
        >>> Plugin("objects", url="memory://films").options["url"]
        'memory://films'
    """

    __slots__ = ("name", "options")

    def __init__(self, name: str, /, **options: Any) -> None:
        self.name = name
        self.options: Mapping[str, Any] = options

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Plugin):
            return NotImplemented
        return (self.name, self.options) == (other.name, other.options)

    def __hash__(self) -> int:
        return hash(self.name)

    def __repr__(self) -> str:
        """Return the name and which options there are; their values may be secret."""
        return f"Plugin({', '.join([repr(self.name), *(f'{name}=…' for name in self.options)])})"


@attrs.frozen(kw_only=True)
class OptionRow:
    """One option of a plug-in.

    Attributes:
        name: Its name.
        type: Its annotation, evaluated.
        default: Its default, `attrs.NOTHING` if it must be given.
        help: One line.
        unit: ``bytes``, ``seconds`` or nothing.
        secret: Whether its value is never shown.
    """

    name: str
    type: Any
    default: Any
    help: str = ""
    unit: str = ""
    secret: bool = False

    @property
    def required(self) -> bool:
        """Whether it must be given."""
        return self.default is attrs.NOTHING


def describe_options(cls: type) -> tuple[OptionRow, ...]:
    """Return the options of a plug-in, or the fields of any attrs class; () if it has none."""
    options = getattr(cls, "Options", cls)
    if not attrs.has(options):
        return ()
    hints = typing.get_type_hints(options)
    return tuple(_row(field, hints[field.name]) for field in attrs.fields(options) if field.init)


def _row(field: attrs.Attribute[Any], hint: Any) -> OptionRow:
    default: Any = field.default
    if isinstance(default, attrs.Factory):  # type: ignore[arg-type]
        default = default.factory()
    facts = {key: field.metadata[key] for key in _FACTS if key in field.metadata}
    return OptionRow(name=field.alias or field.name, type=hint, default=default, **facts)


def make_plugin(
    registry: Registry, kind: Kind, plugin: Plugin, settings: Settings, **more: Any
) -> Any:
    """Return an instance of the plug-in that ``plugin`` names.

    A class with ``Options`` is made by ``from_settings(settings, options)``; one without by
    ``from_settings(settings)``, or by calling it where it has no such method.

    Args:
        registry: Where it is found.
        kind: Its kind.
        plugin: Its name and options.
        settings: The manager's settings.
        more: What the manager tells plug-ins of this kind.

    Raises:
        ConfigurationError: If an option is unknown, missing or wrong.
        PluginError: If it cannot be had.
    """
    cls = registry.get(kind, plugin.name)
    arguments: list[Any] = [settings]
    if hasattr(cls, "Options"):
        arguments.append(make_options(cls, plugin.options, f"{kind}.{plugin.name}"))
    elif plugin.options:
        raise ConfigurationError(
            f"the {kind} {plugin.name!r} takes no options, but was given "
            + ", ".join(sorted(plugin.options))
        )
    maker = getattr(cls, "from_settings", None)
    return cls() if maker is None else maker(*arguments, **more)


def make_options(
    cls: type, values: Mapping[str, Any], where: str, *, base: Path | None = None
) -> Any:
    """Return the options of a plug-in, each of its type.

    Args:
        cls: The plug-in.
        values: What was given, by name.
        where: What errors call the place: ``store.s3``.
        base: Directory that relative paths start from.

    Raises:
        ConfigurationError: If one is unknown, missing or wrong.
    """
    rows = {row.name: row for row in describe_options(cls)}
    for name in values:
        if name not in rows:
            raise ConfigurationError(
                f"{where} has no option {name!r}", hint=nearest(name, rows, "Its options are")
            )
    missing = [name for name, row in rows.items() if row.required and name not in values]
    if missing:
        raise ConfigurationError(
            f"{where} needs the option {missing[0]!r}", hint=_help(rows[missing[0]])
        )
    given = {
        name: converted(value, rows[name], f"{where}.{name}", base)
        for name, value in values.items()
    }
    try:
        return cls.Options(**given)  # type: ignore[attr-defined]
    except ConfigurationError:
        raise
    except (TypeError, ValueError) as error:
        # attrs puts more into its arguments than its message, and a value may be secret.
        reason = str(error.args[0]) if error.args else type(error).__name__
        raise ConfigurationError(f"the options of {where} are wrong: {reason}") from None


def converted(value: Any, row: OptionRow, where: str, base: Path | None = None) -> Any:
    """Return a value in its option's type.

    Raises:
        ConfigurationError: If it cannot be.
    """
    try:
        return convert(value, row.type, row.unit, base=base)
    except ValueError as error:
        shown = MASK if row.secret or isinstance(value, Mapping) else repr(value)
        reason = "a value of another kind is expected" if row.secret else str(error)
        raise ConfigurationError(f"{where}={shown} is wrong: {reason}", hint=_help(row)) from None


def nearest(name: str, known: typing.Iterable[str], otherwise: str) -> str:
    """Return a hint: the known names that are like ``name``, else all of them."""
    names = sorted(known)
    near = difflib.get_close_matches(name.replace("-", "_").lower(), names, n=3, cutoff=0.6)
    if near:
        return "Did you mean " + " or ".join(repr(word) for word in near) + "?"
    return f"{otherwise}: {', '.join(names)}." if names else ""


def _help(row: OptionRow) -> str:
    return row.help[:1].upper() + row.help[1:] if row.help else ""
