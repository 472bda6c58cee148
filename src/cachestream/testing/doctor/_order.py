"""What a check is to do, and what comes of it, as both cross the pipe to a child process."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, Literal, Self, TypeAlias, cast

import attrs

from cachestream.config import Plugin, load
from cachestream.registry import GROUPS, Kind, Registry
from cachestream.settings import Settings

__all__ = ["STEPS", "Check", "Order", "Report"]

STEPS: Final = ("loads", "subclass", "api_version", "options", "configured", "made", "offers")
"""What the first child process looks at, in order; each needs the ones before it."""

Status: TypeAlias = Literal["ok", "failed", "not reached"]


@attrs.frozen(kw_only=True)
class Check:
    """One check and what came of it.

    Attributes:
        name: What was checked.
        status: ``ok``, ``failed``, or ``not reached`` because of an earlier failure.
        detail: What was found, or why it failed; one line.
        seconds: How long it took.
        facts: More of it, for programs.
    """

    name: str
    status: Status = "ok"
    detail: str = ""
    seconds: float = 0.0
    facts: Mapping[str, Any] = attrs.field(factory=dict)


@attrs.frozen(kw_only=True)
class Order:
    """Which plug-in a child process examines, with which options, and where.

    Attributes:
        kind: Its kind.
        name: ``distribution:name``, or the name by which it was asked for.
        target: ``module:attribute``.
        directory: A directory that is removed afterwards.
        token: A word that nobody else has, for places outside of it.
        config: The configuration file, as `cachestream.config.load` takes it.
        options: ``kind.plugin.option=value`` each.
        url: Something that a transport can read, None if it has to be made up.
        schemes: What a transport serves, as far as that is known.
    """

    kind: Kind
    name: str
    target: str
    directory: str
    token: str
    config: str | None = None
    options: tuple[str, ...] = ()
    url: str | None = None
    schemes: tuple[str, ...] = ()

    def to_json(self) -> bytes:
        """Return the form that crosses the pipe."""
        return json.dumps(attrs.asdict(self)).encode()

    @classmethod
    def from_json(cls, data: bytes) -> Self:
        """Read what `to_json` wrote."""
        values = json.loads(data)
        for name in ("options", "schemes"):
            values[name] = tuple(values[name])
        return cls(**values)

    @property
    def group(self) -> str:
        """The entry-point group of its kind."""
        return GROUPS[self.kind]

    def plugin(self, registry: Registry) -> tuple[Plugin, dict[str, Any]]:
        """Return the plug-in as it is configured, and the settings that are.

        Raises:
            ConfigurationError: If something that is configured is wrong.
        """
        chosen = [self.name] if self.kind == "transport" else self.name
        found = load(
            self.config, settings={self.kind: chosen}, options=self.options, registry=registry
        )
        parts = {"store": found.store, "frontend": found.frontend, "transport": found.transports[0]}
        return parts[self.kind], dict(found.settings)

    def settings(self, given: Mapping[str, Any] | None = None, **more: Any) -> Settings:
        """Return settings whose cache lies in the directory that is removed afterwards."""
        own: dict[str, Any] = {"cache_dir": Path(self.directory) / "cache", "min_free": 0}
        return Settings(**{**(given or {}), **own, **more})


class Report:
    """Tells the parent process what comes of each step, a line of JSON each.

    A plug-in may print whatever it wants: what it takes for stdout is stderr.
    """

    def __init__(self) -> None:
        self._stream = os.fdopen(os.dup(1), "w", encoding="utf-8")
        os.dup2(2, 1)
        sys.stdout = sys.stderr

    def tell(self, what: str, **facts: Any) -> None:
        """Tell one thing."""
        self._stream.write(json.dumps({"what": what, **facts}, default=str) + "\n")
        self._stream.flush()

    def check(self, check: Check) -> None:
        """Tell what came of a check."""
        self.tell("check", **attrs.asdict(check))

    @staticmethod
    def read(line: bytes) -> dict[str, Any]:
        """Return what a line tells.

        Raises:
            ValueError: If it is none that `tell` wrote.
        """
        value = json.loads(line)
        if not isinstance(value, dict) or "what" not in value:
            raise ValueError("not a line of a report")
        return cast("dict[str, Any]", value)
