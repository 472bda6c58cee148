"""Flags made from the metadata of `cachestream.settings`: one for each setting of a kind.

A setting ``max_size`` is the flag ``--max-size``. What was given by flags goes before what the
environment and the configuration files say; the command gets the whole. Only what was given
somewhere reaches it, so that the defaults stay where they are defined.
"""

from __future__ import annotations

import functools
import typing
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Concatenate, Final, ParamSpec, TypeVar, cast

import attrs
import click

from cachestream.cli._values import HEADER, WORDS, DurationType, SizeType
from cachestream.config import ROWS, Configuration, load
from cachestream.core.quantities import format_duration, format_size
from cachestream.settings import Settings, StreamSettings, describe

__all__ = [
    "ALL",
    "FRONTEND",
    "ORIGIN",
    "PLUGINS",
    "SERVER",
    "STORE",
    "STREAM",
    "SettingsCommand",
    "configured",
    "flag_names",
    "format_default",
    "with_settings",
]

P = ParamSpec("P")
R = TypeVar("R")

_KEY: Final = "cachestream.cli.given"
_CONFIG: Final = "cachestream.cli.config"
_OPTIONS: Final = "cachestream.cli.options"
_NONE: Final = object()  # what the word `none` is to click, for which None means: not given
_TYPES: Final = typing.get_type_hints(Settings)
# What only a program can give, or a command decides: what cannot be written in a file either.
_NO_FLAG: Final = frozenset(_TYPES) - frozenset(ROWS)
# Shorter words for what is typed often, or what other tools call so.
_ALIASES: Final[dict[str, tuple[str, ...]]] = {
    "allow_hosts": ("--allow",),
    "offline": ("--only-if-cached",),
    "port": ("-p",),
    "request_headers": ("--header", "-H"),
}
_PLACES: Final = {"cache_dir": "the user's cache directory"}

PLUGINS: Final = ("store", "transport")
"""The flags that choose plug-ins; a command that fetches nothing has only the first."""

FRONTEND: Final = ("frontend",)
"""The flag of whatever serves."""

_PLUGIN_HELP: Final = {
    "frontend": "Plug-in that answers clients.  [loopback]",
    "store": "Plug-in that keeps the bytes, or 'distribution:name'.  [disk]",
    "transport": "Plug-in that asks origins; may be repeated, one for each URL scheme.  [http]",
}
_ROWS: Final = {row["name"]: row for row in describe() if row["name"] not in _NO_FLAG}
STREAM: Final = tuple(f.name for f in attrs.fields(StreamSettings) if f.name in _ROWS)
STORE: Final = ("cache_dir", "max_size", "min_free", "durability")
SERVER: Final = (
    "host",
    "port",
    "socket_path",
    "socket_mode",
    "socket_activation",
    "public_url",
    "token",
    "server_names",
    "allow_hosts",
    "allow_origins",
    "client_idle_timeout",
    "admin_port",
    "admin_host",
    "admin_open",
)
ORIGIN: Final = tuple(name for name in _ROWS if name not in {*STREAM, *STORE, *SERVER})
ALL: Final = (*STORE, *SERVER, *STREAM, *ORIGIN)


class SettingOption(click.Option):
    """An option that was made from a setting."""


class SettingsCommand(click.Command):
    """A command whose help lists its own options first, and the settings after them."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the two lists."""
        own: list[tuple[str, str]] = []
        settings: list[tuple[str, str]] = []
        for param in self.get_params(ctx):
            record = param.get_help_record(ctx)
            if record is not None:
                (settings if isinstance(param, SettingOption) else own).append(record)
        with formatter.section("Options"):
            formatter.write_dl(own)
        if settings:
            with formatter.section("Settings (also as variables: CACHESTREAM_MAX_SIZE=5GiB)"):
                formatter.write_dl(settings)


def flag_names(name: str) -> list[str]:
    """Return the flags of a setting as click declares them, the main one first; [] if none."""
    if name not in _ROWS:
        return []
    flag = "--" + name.replace("_", "-")
    if _TYPES[name] is bool:
        flag = f"{flag}/--no-{flag[2:]}"
    return [flag, *_ALIASES.get(name, ())]


def format_default(row: dict[str, Any]) -> str:
    """Return a setting's default as a person reads it; ``row`` is one of `describe`."""
    value, unit = row["default"], row["unit"]
    if row["name"] in _PLACES:
        return _PLACES[row["name"]]
    if value is None or value == () or value == {}:
        return "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int | float) and unit in {"bytes", "seconds"}:
        return format_size(int(value)) if unit == "bytes" else format_duration(value)
    return str(value)


def with_settings(
    *groups: Iterable[str], **defaults: object
) -> Callable[[Callable[Concatenate[Configuration, P], R]], Callable[P, R]]:
    """Add the flags of some settings; the command gets the configuration as its first argument.

    Args:
        groups: Names of settings, and of `PLUGINS`.
        defaults: Values that this command has for a setting when none is given.
    """
    names = [name for group in groups for name in group]

    def decorate(function: Callable[Concatenate[Configuration, P], R]) -> Callable[P, R]:
        @functools.wraps(function)
        def command(*args: P.args, **kwargs: P.kwargs) -> R:
            return function(configured(click.get_current_context(), defaults), *args, **kwargs)

        decorated = cast("Callable[P, R]", command)
        for name in reversed(names):
            if name in _PLUGIN_HELP:
                decorated = _plugin_option(name)(decorated)
            else:
                decorated = _option(name, defaults.get(name))(decorated)
        if names and names[0] in _PLUGIN_HELP:
            decorated = _options_option(decorated)
        return _config_option(decorated)

    return decorate


def _option(name: str, default: object) -> Callable[[Callable[P, R]], Callable[P, R]]:
    row = _ROWS[name] if default is None else {**_ROWS[name], "default": default}
    return click.option(
        *flag_names(name),
        name,
        cls=SettingOption,
        expose_value=False,
        callback=_remember,
        default=None,
        help=f"{row['help']}  [{format_default(row)}]",
        **_click_type(name, row["unit"]),
    )


def configured(ctx: click.Context, defaults: dict[str, Any]) -> Configuration:
    """Return what flags, variables and files say together.

    Args:
        ctx: The command's context.
        defaults: Values that the command has for settings that nobody gives.
    """
    return load(
        ctx.meta.get(_CONFIG),
        settings=ctx.meta.get(_KEY, {}),
        options=ctx.meta.get(_OPTIONS, ()),
        defaults=defaults,
    )


def _plugin_option(name: str) -> Callable[[Callable[P, R]], Callable[P, R]]:
    return click.option(
        f"--{name}",
        metavar="NAME",
        multiple=name == "transport",
        expose_value=False,
        callback=_remember,
        help=_PLUGIN_HELP[name],
    )


def _options_option(function: Callable[P, R]) -> Callable[P, R]:
    return click.option(
        "--option",
        multiple=True,
        metavar="KIND.NAME.OPTION=VALUE",
        expose_value=False,
        callback=lambda ctx, param, value: ctx.meta.update({_OPTIONS: value}),
        help="Option of a plug-in, as store.objects.url=memory://films; may be repeated.",
    )(function)


def _config_option(function: Callable[P, R]) -> Callable[P, R]:
    return click.option(
        "--config",
        metavar="FILE",
        expose_value=False,
        callback=lambda ctx, param, value: ctx.meta.update({_CONFIG: value}),
        help="The only configuration file to read; 'none' for no file.",
    )(function)


def _remember(ctx: click.Context, param: click.Parameter, value: Any) -> None:
    """Keep a value that was given; several fields become one mapping."""
    if value is None or value == ():
        return
    kept = dict(value) if param.type is HEADER else value
    ctx.meta.setdefault(_KEY, {})[param.name] = None if kept is _NONE else kept


def _click_type(name: str, unit: str) -> dict[str, Any]:
    """Return the keyword arguments that make click read a setting of this type."""
    hint = _TYPES[name]
    optional = type(None) in typing.get_args(hint)
    if hint is bool:
        return {"is_flag": True}
    if name == "range_request_split_threshold":
        return {"type": SizeType(none=_NONE, adaptive="adaptive"), "metavar": "none|adaptive|SIZE"}
    if typing.get_origin(hint) is typing.Literal:
        return {"type": click.Choice(typing.get_args(hint), case_sensitive=False)}
    if unit in {"bytes", "seconds"}:
        words = {"none": _NONE} if optional else {}
        return {"type": SizeType(**words) if unit == "bytes" else DurationType(**words)}
    if typing.get_origin(hint) is tuple:
        return {"type": WORDS, "multiple": True, "metavar": "TEXT..."}
    if "Mapping" in str(hint):
        return {"type": HEADER, "multiple": True, "metavar": "'NAME: VALUE'"}
    if hint == int | None:
        return {"type": str, "metavar": "INTEGER|none"}
    if hint is int:
        return {"type": int}
    return {"type": click.Path(path_type=Path) if Path in (hint, *typing.get_args(hint)) else str}
