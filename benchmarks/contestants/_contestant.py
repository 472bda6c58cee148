"""What a contestant is."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import ClassVar, Literal, TypeAlias
from urllib.parse import urlsplit

from benchmarks.processes import PATH, Child

__all__ = ["Contestant", "Role", "authority"]

Role: TypeAlias = Literal["direct", "ours", "peer", "mark"]


def authority(url: str) -> str:
    """Return host and port of a URL."""
    return urlsplit(url).netloc


class Contestant(ABC):
    """A server that may be started, ended and started again over the same folder.

    Attributes:
        name: What it is called in options and tables.
        note: How it is set up.
        role: ``peer`` caches and counts for the best peer; ``mark`` is a mark to compare with,
            but no cache that serves; ``ours`` and ``direct`` are what they say.
        programs: What has to be installed for it.
        modules: What has to be importable for it.
        cannot: Scenarios that it cannot do, and why.
    """

    name: ClassVar[str]
    note: ClassVar[str]
    role: ClassVar[Role] = "peer"
    programs: ClassVar[Sequence[str]] = ()
    modules: ClassVar[Sequence[str]] = ()
    cannot: ClassVar[Mapping[str, str]] = {}
    version_command: ClassVar[Sequence[str]] = ()

    def __init__(self) -> None:
        self._child: Child | None = None

    @abstractmethod
    def start(self, folder: Path, origin: str) -> str:
        """Serve ``origin`` and keep everything in ``folder``.

        Returns:
            The base URL: with a slash and the name of a file it is that file.

        Raises:
            StartError: If it does not listen in time.
        """

    def launch(self, command: Sequence[object], port: int, folder: Path, **env: str) -> str:
        """Start a process, which `stop` and `kill` will end; return its base URL."""
        log = folder.with_name(f"{self.name}.log")
        self._child = Child(command, port, log, env=env)
        return f"http://127.0.0.1:{port}"

    def pids(self) -> list[int]:
        """Return its processes; none for one that is no process."""
        return self._child.pids() if self._child else []

    def stop(self) -> None:
        """End it as a service manager does."""
        if self._child:
            self._child.stop()
            self._child = None

    def kill(self) -> None:
        """Kill it, as a crash does; idempotent."""
        if self._child:
            self._child.kill()
            self._child = None

    @classmethod
    def missing(cls) -> list[str]:
        """Return what is not installed of what it needs."""
        programs = [name for name in cls.programs if not shutil.which(name, path=PATH)]
        return programs + [name for name in cls.modules if not importlib.util.find_spec(name)]

    @classmethod
    def version(cls) -> str:
        """Return its version, empty if it has none or does not say."""
        if not cls.version_command or cls.missing():
            return ""
        done = subprocess.run(
            cls.version_command,
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
            env={**os.environ, "PATH": PATH},
        )
        found = re.search(r"\d+(?:\.\d+)+", done.stdout + done.stderr)
        return found[0] if found else ""
