"""The first child process: imports a plug-in, looks at it, and makes it."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import re
import time
from collections.abc import Callable
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any, get_args

import attrs

from cachestream.abc import API_VERSION, Store, Transport
from cachestream.config import (
    MASK,
    OptionRow,
    Plugin,
    describe_options,
    make_options,
    make_plugin,
)
from cachestream.errors import CacheStreamError, ConfigurationError
from cachestream.registry import INTERFACES, Registry
from cachestream.testing.doctor._order import STEPS, Check, Order, Report
from cachestream.testing.doctor._scratch import scratch_values

__all__ = ["examine", "made", "reason_of"]


def examine(order: Order, report: Report) -> None:
    """Take the steps, and tell what comes of each; end at the first that fails."""
    examination = _Examination(order)
    for name in STEPS:
        report.tell("begins", name=name)
        began = time.perf_counter()
        step: Callable[[], Check] = getattr(examination, name)
        try:
            check = step()
        # A plug-in may raise anything, and may even try to exit.
        except (Exception, SystemExit) as error:
            check = Check(name=name, status="failed", detail=reason_of(error))
        seconds = round(time.perf_counter() - began, 4)
        report.check(attrs.evolve(check, seconds=seconds))
        if check.status == "failed":
            break


def reason_of(error: BaseException) -> str:
    """Return what went wrong in one line: ours as it is, a stranger's with its type."""
    if isinstance(error, CacheStreamError):
        cause = error.__cause__
        text = str(error)
        return text if cause is None else f"{text} ({type(cause).__name__}: {cause})"
    return " ".join(f"{type(error).__name__}: {error}".split())


@attrs.define(eq=False)
class _Examination:
    """What is known so far."""

    order: Order
    registry: Registry = attrs.field(factory=Registry)
    cls: Any = None
    plugin: Plugin | None = None
    given: dict[str, Any] = attrs.field(factory=dict)
    instance: Any = None

    def loads(self) -> Check:
        """Import its module, and get what the entry point names."""
        order = self.order
        self.cls = EntryPoint(order.name, order.target, order.group).load()
        return Check(name="loads", detail=f"from {order.target}")

    def subclass(self) -> Check:
        """Look whether it is a class of its kind with nothing missing."""
        interface = INTERFACES[self.order.kind]
        shown = f"{interface.__module__}.{interface.__qualname__}"
        if not (isinstance(self.cls, type) and issubclass(self.cls, interface)):
            raise ConfigurationError(f"{self.order.target} is no subclass of {shown}")
        if inspect.isabstract(self.cls):
            missing = ", ".join(sorted(getattr(self.cls, "__abstractmethods__", ())))
            raise ConfigurationError(f"methods of {shown} are missing: {missing}")
        return Check(name="subclass", detail=f"of {shown}")

    def api_version(self) -> Check:
        """Look whether it is made for these interfaces."""
        version = getattr(self.cls, "api_version", None)
        if version != API_VERSION:
            raise ConfigurationError(
                f"it is made for version {version} of the interfaces; "
                f"this cachestream has version {API_VERSION}"
            )
        return Check(name="api_version", detail=str(version))

    def options(self) -> Check:
        """List its options."""
        if not hasattr(self.cls, "Options"):
            return Check(name="options", detail="none")
        if not attrs.has(self.cls.Options):
            raise ConfigurationError("its Options is no attrs class")
        rows = [_described(row) for row in describe_options(self.cls)]
        return Check(
            name="options",
            detail=", ".join(row["name"] for row in rows) or "none",
            facts={"options": rows},
        )

    def configured(self) -> Check:
        """Read what files, variables and flags say of its options."""
        self.plugin, self.given = self.order.plugin(self.registry)
        return Check(
            name="configured",
            detail=", ".join(self.plugin.options) or "by defaults",
            facts={"given": list(self.plugin.options)},
        )

    def made(self) -> Check:
        """Make it, a store at a place of its own if there is one."""
        assert self.plugin is not None
        self.instance = made(self.order, self.registry, self.plugin, self.given)
        return Check(name="made")

    def offers(self) -> Check:
        """Say what it can do, and close it."""
        instance = self.instance
        detail = ""
        facts: dict[str, Any] = {}
        if isinstance(instance, Transport):
            schemes = sorted(instance.schemes)
            detail, facts = f"URLs of {', '.join(schemes)}", {"schemes": schemes}
            if not schemes or any(scheme != scheme.lower() for scheme in schemes):
                raise ConfigurationError("its schemes must be lower case, and at least one")
        elif isinstance(instance, Store):
            can = attrs.asdict(instance.capabilities)
            detail = ", ".join(name for name, value in can.items() if value) or "nothing special"
            facts = {"capabilities": can}
        if hasattr(instance, "aclose"):
            asyncio.run(instance.aclose())
        return Check(name="offers", detail=detail, facts=facts)


def made(order: Order, registry: Registry, plugin: Plugin, given: dict[str, Any]) -> Any:
    """Return an instance with the configured options; a store's is at a place of its own."""
    more: dict[str, Any] = {}
    if order.kind == "frontend":
        more["schemes"] = frozenset({"http", "https"})
    if order.kind == "store":
        cls = registry.get("store", plugin.name)
        if hasattr(cls, "Options"):
            # First as it is configured: what is missing or wrong is told as what it is.
            make_options(cls, plugin.options, f"store.{plugin.name}")
        # Where it has no place of its own, the contract's check says what is needed.
        with contextlib.suppress(ConfigurationError):
            values = scratch_values(cls, plugin.options, Path(order.directory), order.token)
            plugin = Plugin(plugin.name, **values)
    return make_plugin(registry, order.kind, plugin, order.settings(given), **more)


def _described(row: OptionRow) -> dict[str, Any]:
    """Return an option as it is listed; the default of a secret one is not shown."""
    default = None if row.required else row.default
    if row.secret and default:
        default = MASK
    return {
        "name": row.name,
        "type": _shown_type(row.type),
        "default": default,
        "required": row.required,
        "help": row.help,
        "unit": row.unit,
        "secret": row.secret,
    }


def _shown_type(hint: Any) -> str:
    text = hint.__name__ if isinstance(hint, type) and not get_args(hint) else str(hint)
    return re.sub(r"\b(collections\.abc|typing|pathlib\._local|pathlib)\.", "", text)
