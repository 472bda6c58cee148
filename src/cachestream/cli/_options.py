"""Flags made from the metadata of `cachestream.settings`: one for each setting of a kind.

A setting ``max_size`` is the flag ``--max-size`` and the variable ``CACHESTREAM_MAX_SIZE``.
Only what was given reaches the command, so that the defaults stay where they are defined.
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
from cachestream.core.quantities import format_duration, format_size
from cachestream.settings import Settings, StreamSettings, describe

__all__ = [
    "ALL",
    "ORIGIN",
    "SERVER",
    "STORE",
    "STREAM",
    "SettingsCommand",
    "flag_names",
    "format_default",
    "with_settings",
]

P = ParamSpec("P")
R = TypeVar("R")
Given = dict[str, Any]

_KEY: Final = "cachestream.cli.given"
_NONE: Final = object()  # what the word `none` is to click, for which None means: not given
_TYPES: Final = typing.get_type_hints(Settings)
# What only a program can give, or a command decides.
_NO_FLAG: Final = frozenset(
    {"cache_file_resolver", "key", "on_cache_done", "on_stream_created", "start_server"}
)
# Shorter words for what is typed often, or what other tools call so.
_ALIASES: Final[dict[str, tuple[str, ...]]] = {
    "allow_hosts": ("--allow",),
    "offline": ("--only-if-cached",),
    "port": ("-p",),
    "request_headers": ("--header", "-H"),
}
_PLACES: Final = {"cache_dir": "the user's cache directory"}

_ROWS: Final = {row["name"]: row for row in describe() if row["name"] not in _NO_FLAG}
STREAM: Final = tuple(f.name for f in attrs.fields(StreamSettings) if f.name in _ROWS)
STORE: Final = ("cache_dir", "max_size", "min_free", "durability")
SERVER: Final = (
    "host",
    "port",
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
) -> Callable[[Callable[Concatenate[Given, P], R]], Callable[P, R]]:
    """Add the flags of some settings; the command gets what was given as its first argument.

    Args:
        groups: Names of settings.
        defaults: Values that this command has for a setting when none is given.
    """
    names = [name for group in groups for name in group]

    def decorate(function: Callable[Concatenate[Given, P], R]) -> Callable[P, R]:
        @functools.wraps(function)
        def command(*args: P.args, **kwargs: P.kwargs) -> R:
            given = cast("Given", click.get_current_context().meta.get(_KEY, {}))
            return function({**defaults, **given}, *args, **kwargs)

        decorated = cast("Callable[P, R]", command)
        for name in reversed(names):
            decorated = _option(name, defaults.get(name))(decorated)
        return decorated

    return decorate


def _option(name: str, default: object) -> Callable[[Callable[P, R]], Callable[P, R]]:
    row = _ROWS[name] if default is None else {**_ROWS[name], "default": default}
    return click.option(
        *flag_names(name),
        name,
        cls=SettingOption,
        expose_value=False,
        callback=_remember,
        envvar=f"CACHESTREAM_{name.upper()}",
        default=None,
        help=f"{row['help']}  [{format_default(row)}]",
        **_click_type(name, row["unit"]),
    )


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
    if hint is int:
        return {"type": int}
    return {"type": click.Path(path_type=Path) if Path in (hint, *typing.get_args(hint)) else str}
