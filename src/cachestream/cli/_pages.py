"""Generated pages of the reference that no command is about: errors, events, plug-ins."""

from __future__ import annotations

import inspect
import re
from typing import Any, Final

import attrs

from cachestream import errors, events
from cachestream.cli._options import format_default
from cachestream.config import OptionRow, describe_options
from cachestream.registry import GROUPS, KINDS, Registry

__all__ = ["errors_page", "events_page", "metrics_page", "plugins_page"]

_ERRORS_INTRO: Final = """\
# Errors

Everything that cachestream raises is a {py:exc}`cachestream.errors.CacheStreamError`.
No error of a library comes out of it, but it is chained as the cause.

Each has `message` (what happened), `url` (the source URL, or None) and `hint` (what to do, or
None). What it is printed as leaves the query of the URL out, for it may hold a secret.
"""

_ERRORS_TABLE: Final = """\
*Status* is what a frontend answers with, *token* what logs and the `detail` of Cache-Status say.

| error | status | token | meaning |
|---|---|---|---|"""

_EVENTS_INTRO: Final = """\
# Events

A program gives functions as `listeners` to {py:class}`cachestream.CacheManager`; each is called
with every event, on the event loop, in the order in which things happen. It must return at once.
An exception in one is logged and changes nothing.

| event | when | fields besides `source` |
|---|---|---|"""

_PLUGINS_INTRO: Final = """\
# Entry points and plug-ins

Transports, stores and frontends are found by name: ours and those of other distributions stand in
the same entry-point groups. Looking around reads metadata only; a plug-in is imported when its name
is used, so a broken one never stops a program that does not use it.

| group | interface | chosen by |
|---|---|---|"""

_PLUGINS_OUTRO: Final = """\
`fsspec.specs` has `cachestream` too, so that `cachestream::https://…` works wherever fsspec does;
see [fsspec](fsspec.md).

| `CACHESTREAM_PLUGINS` | which plug-ins may be used |
|---|---|
| not set, or `all` | all |
| `off` | ours |
| `s3,signed` | ours, and those two |

A name that two distributions claim raises {py:exc}`cachestream.errors.PluginConflictError` when it
is used; write `"distribution:name"` then. Nobody can claim one of our names.
`cachestream plugins` lists what there is, and `--check` imports it.

Options go with the name: `Plugin("objects", url="s3://bucket/cache")` in Python, a table
`[store.objects]` in [a file](../how-to/configure.md#a-file), `CACHESTREAM_STORE_OBJECTS_URL` as a
variable, `--option store.objects.url=s3://bucket/cache` as a flag.
"""


_METRICS_INTRO: Final = """\
# Metrics

What `/-/metrics` shows; how to get there is told in [watch it](../how-to/metrics.md).
Counters begin with the manager; gauges are as of the scrape.
Beside these there are those of the process, as every Prometheus client has them:
`process_open_fds`, `process_max_fds`, `process_resident_memory_bytes` and so on.

| metric | kind | labels | meaning |
|---|---|---|---|"""

_METRICS_OUTRO: Final = """\
The label `outcome` says how a request was answered. Each request has one in the end:

| outcome | means |
|---|---|
| `hit` | all of it was held |
| `miss` | nothing was held |
| `partial` | some was held, the rest was fetched |
| `stale` | what was held had to be checked at the origin first |
| `bypass` | it went past the store |
| `denied` | it was not let in, or named nothing that may be asked for |
| `refused` | the origin refused it (4xx), or its range lies past the end |
| `failed` | it could not be answered (5xx) |
| `abandoned` | the client left before there was an answer |

```{eval-rst}
.. automodule:: cachestream.metrics
   :members: MetricsCollector, MetricsPage
```

What serves the page is {py:class}`cachestream.frontends.AdminServer`.
"""


def metrics_page() -> str:
    """Return the page with one row for each metric, as its collector describes it."""
    # Here and not above: it needs an extra.
    from cachestream.metrics import METRICS

    rows = [
        f"| `{each.name}` | {each.kind} | {', '.join(f'`{label}`' for label in each.labels)} "
        f"| {each.help} |"
        for each in METRICS
    ]
    return "\n".join([_METRICS_INTRO, *rows, "", _METRICS_OUTRO])


def errors_page() -> str:
    """Return the page with the tree of errors, and what each means."""
    tree = inspect.cleandoc(errors.__doc__ or "").split("\n\n")[1]
    parts = [_ERRORS_INTRO, "## The tree\n", f"```text\n{inspect.cleandoc(tree)}\n```\n"]
    parts += ["## What each means\n", _ERRORS_TABLE]
    names = re.findall(r"\b[A-Z]\w+Error\b", re.sub(r"\([^)]*\)", "", tree))
    details = []
    for name in names:
        kind = getattr(errors, name)
        role = "{py:exc}`~cachestream.errors." + name + "`"
        parts.append(f"| {role} | {kind.status_hint} | `{kind.outcome}` | {_first(kind)} |")
        details.append(f".. autoexception:: cachestream.errors.{name}")
    parts += ["", "## Each by itself\n", _eval_rst([".. py:module:: cachestream.errors", *details])]
    return "\n".join(parts)


def events_page() -> str:
    """Return the page with one row for each event."""
    parts = [_EVENTS_INTRO]
    details = []
    for name in events.__all__:
        kind = getattr(events, name)
        if inspect.isclass(kind) and issubclass(kind, events.Event) and kind is not events.Event:
            own = [field for field in attrs.fields(kind) if not field.inherited]
            fields = ", ".join(f"`{field.name}`: {_type(field)}" for field in own) or "none"
            role = "{py:class}`~cachestream.events." + name + "`"
            parts.append(f"| {role} | {_first(kind)} | {fields} |")
        details.append(f".. autoclass:: cachestream.events.{name}")
    parts += ["", "## Each by itself\n", _eval_rst([".. py:module:: cachestream.events", *details])]
    return "\n".join(parts)


def plugins_page() -> str:
    """Return the page with the entry-point groups, and what we list there ourselves."""
    parts = [_PLUGINS_INTRO]
    for kind in KINDS:
        role = "{py:class}`cachestream.abc." + kind.capitalize() + "`"
        parts.append(f"| `{GROUPS[kind]}` | {role} | `CacheManager({kind}=…)`, `--{kind}` |")
    parts += ["", _PLUGINS_OUTRO]
    registry = Registry("off")
    ours = [i for i in registry.listing(load=True) if i.distribution == "cachestream"]
    for kind in KINDS:
        parts += [f"## Our {kind}s\n", "| name | class | what it is |\n|---|---|---|"]
        mine = [info for info in ours if info.kind == kind]
        for info in mine:
            role = "{py:class}`~" + info.target.replace(":", ".") + "`"
            parts.append(f"| `{info.name}` | {role} | {_cell(_markdown(info.doc))} |")
        parts.append("")
        for info in mine:
            parts += _options_of(f"{kind}.{info.name}", registry.get(kind, info.name))
    return "\n".join(parts)


def _options_of(name: str, cls: type) -> list[str]:
    """Return the options of a plug-in as a table, nothing if it has none."""
    rows = describe_options(cls) if hasattr(cls, "Options") else ()
    if not rows:
        return []
    parts = [f"### Options of `{name}`\n", "| option | default | meaning |\n|---|---|---|"]
    for row in rows:
        default = "must be given" if row.required else _default(row)
        meaning = row.help + (f" ({row.unit})" if row.unit else "")
        meaning += "; *secret*" if row.secret else ""
        parts.append(f"| `{row.name}` | {_cell(default)} | {_cell(meaning)} |")
    return [*parts, ""]


def _default(row: OptionRow) -> str:
    if isinstance(row.default, tuple) and row.default:
        return ", ".join(str(value) for value in row.default)
    return format_default(attrs.asdict(row, recurse=False))


def _first(kind: type) -> str:
    """Return the first sentence of a docstring as the cell of a table."""
    return _cell(_markdown(inspect.cleandoc(kind.__doc__ or "").partition("\n\n")[0]))


def _markdown(text: str) -> str:
    """Return a docstring's text as Markdown, where any backticks are code."""
    return " ".join(text.split()).replace("``", "`")


def _type(field: attrs.Attribute[Any]) -> str:
    return f"`{_cell(str(field.type).removeprefix('cachestream.'))}`"


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def _eval_rst(directives: list[str]) -> str:
    return "```{eval-rst}\n" + "\n\n".join(directives) + "\n```\n"
