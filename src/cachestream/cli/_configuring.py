"""`config`: what is configured, and where each value is from."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import attrs
import click

from cachestream.cli._exits import EPILOG
from cachestream.cli._options import ALL, FRONTEND, PLUGINS, SettingsCommand, with_settings
from cachestream.cli._output import columns, json_option, print_json
from cachestream.config import FILE_NAME, MASK, ROWS, OptionRow, describe_options, search_path
from cachestream.core.quantities import format_duration, format_size, parse_duration, parse_size
from cachestream.registry import KINDS, Kind, Registry

if TYPE_CHECKING:
    from cachestream.config import Configuration, Plugin

__all__ = ["Row", "config"]

_DEFAULT: Final = "default"


@attrs.frozen
class Row:
    """One value of the configuration.

    Attributes:
        table: The table of a file that it stands in.
        name: Its name there.
        value: What is in effect; a secret is masked.
        origin: Where it is from.
        unit: ``bytes``, ``seconds`` or nothing.
        help: One line.
    """

    table: str
    name: str
    value: Any
    origin: str = _DEFAULT
    unit: str = ""
    help: str = ""

    @property
    def text(self) -> str:
        """The value as TOML."""
        return _toml(self.value, self.unit)

    def plain(self) -> dict[str, Any]:
        """Return what JSON has of it."""
        value = str(self.value) if isinstance(self.value, Path) else self.value
        return {"table": self.table, "name": self.name, "value": value, "origin": self.origin}


@click.group(epilog=EPILOG)
def config() -> None:
    """Show what is configured, and where files are looked for."""


@config.command(cls=SettingsCommand, epilog=EPILOG)
@with_settings(PLUGINS, FRONTEND, ALL)
@click.option("--origin", "-o", is_flag=True, help="Say where each value is from.")
@click.option("--all", "-a", "everything", is_flag=True, help="Show defaults, as comments.")
@json_option
def show(given: Configuration, /, origin: bool, everything: bool, as_json: bool) -> None:
    """Show what flags, variables and files say together, as a file that says the same.

    A flag goes before a variable, a variable before a file, a file before the default. Secrets
    are masked. Nothing is opened and nobody is asked.
    """
    rows = [row for row in _rows(given) if everything or row.origin != _DEFAULT]
    if as_json:
        print_json([row.plain() for row in rows])
    else:
        click.echo("\n".join(_lines(rows, origin)))


@config.command(epilog=EPILOG)
@json_option
def path(as_json: bool) -> None:
    """List where files are looked for; the first that has a value goes before the others."""
    places = [{"path": str(each), "exists": each.is_file()} for each in search_path(Path.cwd())]
    if as_json:
        print_json(places)
        return
    rows = [(str(row["path"]), "there" if row["exists"] else "") for row in places]
    click.echo(columns(("FILE", ""), rows))


@config.command(epilog=EPILOG)
def template() -> None:
    """Print a file with every setting and its default, as comments, to begin with.

    cachestream config template > cachestream.toml
    """
    click.echo(f"# {FILE_NAME}: remove the # before what shall be otherwise.\n")
    click.echo("[cachestream]")
    for row in ROWS.values():
        if row.name not in KINDS:
            shown = _toml("…" if row.secret else row.default, row.unit)
            click.echo(f"\n# {row.help}{f' ({row.unit})' if row.unit else ''}")
            click.echo(f"# {row.name} = {shown}")


def _rows(given: Configuration) -> Iterator[Row]:
    chosen: dict[Kind, tuple[Plugin, ...]] = {
        "store": (given.store,),
        "transport": given.transports,
        "frontend": (given.frontend,),
    }
    for kind, plugins in chosen.items():
        names = tuple(plugin.name for plugin in plugins)
        origin = given.origins.get(kind, _DEFAULT)
        yield Row("cachestream", kind, names[0] if len(names) == 1 else names, origin)
    for name, row in ROWS.items():
        yield _row("cachestream", row, given.settings, given.origins.get(name, _DEFAULT))
    registry = Registry()
    for kind in KINDS:
        for plugin in chosen[kind]:
            yield from _option_rows(registry, kind, plugin, given.origins)


def _option_rows(
    registry: Registry, kind: Kind, plugin: Plugin, origins: Mapping[str, str]
) -> Iterator[Row]:
    table = f"{kind}.{plugin.name}"
    if not plugin.options:
        return  # and a plug-in is not imported for nothing
    for row in describe_options(registry.get(kind, plugin.name)):
        origin = origins.get(f"{table}.{row.name}", _DEFAULT)
        yield _row(table, row, plugin.options, origin)


def _row(table: str, row: OptionRow, values: Mapping[str, Any], origin: str) -> Row:
    value = values.get(row.name, None if row.required else row.default)
    if row.secret:
        value = _masked(value)
    return Row(table, row.name, value, origin, row.unit, row.help)


def _masked(value: Any) -> Any:
    """Return what may be shown of a secret: the names of a table, and whether there is one."""
    if isinstance(value, Mapping):
        return dict.fromkeys(value, MASK)
    return value if value in (None, ()) else MASK


def _lines(rows: list[Row], origin: bool) -> Iterator[str]:
    table = ""
    for row in rows:
        if row.table != table:
            if table:
                yield ""
            yield f"[{_key(row.table)}]"
            table = row.table
        mark = "# " if row.origin == _DEFAULT else ""
        yield f"{mark}{row.name} = {row.text}" + (f"  # {row.origin}" if origin else "")


def _key(table: str) -> str:
    """Return a table's name, with quotes where its plug-in's name needs them."""
    kind, dot, name = table.partition(".")
    plain = name.replace("-", "").replace("_", "")
    return table if plain.isalnum() or not dot else f"{kind}.{json.dumps(name)}"


def _toml(value: Any, unit: str) -> str:
    """Return a value as TOML; a size or duration in units only if that is exact."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, tuple | list):
        return "[" + ", ".join(_toml(item, unit) for item in value) + "]"
    if isinstance(value, Mapping):
        pairs = [f"{json.dumps(str(name))} = {_toml(item, '')}" for name, item in value.items()]
        return "{ " + ", ".join(pairs) + " }" if pairs else "{}"
    if isinstance(value, int | float):
        for name, shown, read in _UNITS:
            if unit == name and value and read(shown(value)) == value:
                return json.dumps(shown(value))
        return repr(value)
    return json.dumps("none" if value is None else str(value), ensure_ascii=False)


_UNITS: Final[Any] = (
    ("bytes", format_size, parse_size),
    ("seconds", format_duration, parse_duration),
)
