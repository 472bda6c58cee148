"""The generated pages of the reference: ``python -m cachestream.cli.docs --write DIR``.

Settings and commands are described once, in the code; these pages are made from there, and
a test checks that the ones in ``docs/reference`` are current.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import click

from cachestream.cli import program
from cachestream.cli._exits import Exit
from cachestream.cli._options import (
    ALL,
    ORIGIN,
    SERVER,
    STORE,
    STREAM,
    SettingOption,
    flag_names,
    format_default,
)
from cachestream.cli._pages import errors_page, events_page, metrics_page, plugins_page
from cachestream.settings import describe

__all__ = ["PAGES", "cli_page", "settings_page"]

_NOTE = "<!-- Made by `make docs` from the code; changes belong there. -->\n"

_SETTINGS_INTRO = """# Settings

A program gives settings to {py:class}`cachestream.CacheManager`, as a
{py:class}`cachestream.Settings` value or as keyword arguments. Those of streams can also be given
to a single one ({py:meth}`cachestream.CacheManager.create_stream`).

All but those for programs only can also stand in a file, in variables and in flags:
`max_size = "5GiB"`, `CACHESTREAM_MAX_SIZE=5GiB`, `--max-size 5GiB`. A flag goes before a variable,
and that before a file; see [configure it](../how-to/configure.md).

- Sizes are bytes in Python; elsewhere also `500MB` (decimal), `64KiB` or `64K` (binary).
- Times are seconds in Python; elsewhere also `250ms`, `10s`, `5m`, `1h30m`.
- Several values are a tuple in Python; a flag is repeated, a variable holds them with spaces or
  commas between. Fields are a mapping in Python, `'Name: value'` as a flag, one a line in a
  variable.
- What is marked *secret* is never logged.
"""

_CLI_INTRO = """# Command line

`cachestream COMMAND`, or `python -m cachestream COMMAND`. Results go to stdout; progress,
notices and errors go to stderr. On a terminal progress is a bar with rate and time left
(without colours if `NO_COLOR` is set); elsewhere it is a line every few seconds.

Every command takes `--help`. Commands that read take `--json`. Sizes in JSON are bytes, times
are seconds since the epoch, spans are half-open pairs.

What is logged goes to stderr. Before the command stand `-v` to log more, `-vv` for all with a
line a request, and `--log-format json` (or `CACHESTREAM_LOG_FORMAT=json`) for one JSON object a
line; see [logs](../how-to/logs.md).

Each setting is also a variable, as `CACHESTREAM_MAX_SIZE`; see [settings](settings.md).
`CACHESTREAM_STORE` stands for `--store`, `CACHESTREAM_PLUGINS` limits plug-ins. A secret is
better put in a variable than in a flag: other users can see the flags of a process.
"""

_SERVE_NOTE = """\
`serve` listens on a loopback address, port 4612 unless told otherwise, so that a local URL
stays the same over restarts. There any upstream host may be asked, private and loopback ones
included, and it says so; `--allow HOST` narrows that. Never asked are its own listener and
link-local metadata addresses. A wider address needs `--token`.

`--admin-port` opens a second port for [health checks and metrics](../how-to/metrics.md); its URL
is printed on stderr.
"""

_PLAY_NOTE = """\
`play` ends with the player's own exit code.
"""


_GROUPS: Final = {
    "Of streams": STREAM,
    "Of the store": STORE,
    "Of the local server": SERVER,
    "Of the way to origins": ORIGIN,
}


def settings_page() -> str:
    """Return the page with one row for each setting."""
    rows = {row["name"]: row for row in describe()}
    for_programs = tuple(name for name in rows if name not in ALL)
    parts = [_NOTE, _SETTINGS_INTRO]
    for title, names in {**_GROUPS, "For programs only": for_programs}.items():
        parts.append(f"## {title}\n")
        parts.append("| setting | default | meaning | flag |\n|---|---|---|---|")
        parts.extend(_settings_row(rows[name]) for name in names)
        parts.append("")
    return "\n".join(parts)


def _settings_row(row: dict[str, Any]) -> str:
    meaning = row["help"] + (f" ({row['unit']})" if row["unit"] else "")
    meaning += "; *secret*" if row["secret"] else ""
    names = [name for flag in flag_names(row["name"]) for name in flag.split("/")]
    flags = ", ".join(f"`{name}`" for name in names) or "none: for programs"
    return f"| `{row['name']}` | {format_default(row)} | {_cell(meaning)} | {flags} |"


def cli_page() -> str:
    """Return the page with each command, its own options, and the exit codes."""
    parts = [_NOTE, _CLI_INTRO, "## Exit codes\n", "| code | meaning |\n|---|---|"]
    parts.extend(f"| {code.value} | {_cell(code.meaning)} |" for code in Exit)
    parts += ["", "## Commands"]
    for name, command in _every_command(program):
        parts.append(_command(name, command))
    return "\n".join(parts)


def _every_command(group: click.Group, prefix: str = "") -> Iterator[tuple[str, click.Command]]:
    """Yield all commands, those of a group after it and with its name before theirs."""
    for name, command in group.commands.items():
        yield f"{prefix}{name}", command
        if isinstance(command, click.Group):
            yield from _every_command(command, f"{prefix}{name} ")


def _command(name: str, command: click.Command) -> str:
    context = click.Context(
        command, info_name=name, parent=click.Context(program, info_name="cachestream")
    )
    usage = " ".join(["cachestream", name, *command.collect_usage_pieces(context)])
    parts = [f"\n### {name}\n", f"```\n{usage}\n```\n", _paragraphs(command.help or "")]
    notes = {"serve": _SERVE_NOTE, "play": _PLAY_NOTE}
    parts.append(notes.get(name, ""))
    rows = []
    for param in command.params:
        record = param.get_help_record(context)
        if record is not None and not isinstance(param, SettingOption | click.Argument):
            rows.append(f"| `{_cell(record[0])}` | {_cell(record[1])} |")
    if rows:
        parts.append("| option | meaning |\n|---|---|\n" + "\n".join(rows) + "\n")
    settings = [param.name for param in command.params if isinstance(param, SettingOption)]
    if settings:
        parts.append(f"Settings: {_named_groups(settings)}.\n")
    return "\n".join(part for part in parts if part)


def _named_groups(names: list[str]) -> str:
    """Return the groups that are all there as links, and the rest by name."""
    words = []
    for title, group in _GROUPS.items():
        if set(group) <= set(names):
            anchor = title.lower().replace(" ", "-")
            words.append(f"those [{title[0].lower()}{title[1:]}](settings.md#{anchor})")
            names = [name for name in names if name not in group]
    return ", ".join(words + [f"`{flag_names(name)[0]}`" for name in names])


def _paragraphs(text: str) -> str:
    """Return a docstring as Markdown: each paragraph on one line."""
    paragraphs = [" ".join(part.split()) for part in text.split("\n\n")]
    return "\n\n".join(paragraphs) + "\n"


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


PAGES: Final[Mapping[str, Callable[[], str]]] = {
    "settings.md": settings_page,
    "cli.md": cli_page,
    "errors.md": lambda: f"{_NOTE}\n{errors_page()}",
    "events.md": lambda: f"{_NOTE}\n{events_page()}",
    "metrics.md": lambda: f"{_NOTE}\n{metrics_page()}",
    "plug-ins.md": lambda: f"{_NOTE}\n{plugins_page()}",
}
"""The generated pages by file name."""


@click.command()
@click.option("--write", "folder", required=True, type=click.Path(path_type=Path, file_okay=False))
def _write(folder: Path) -> None:
    """Write the generated pages of the reference into a folder."""
    for name, page in PAGES.items():
        (folder / name).write_text(page(), encoding="utf-8")
        click.echo(folder / name)


if __name__ == "__main__":
    sys.exit(_write())
