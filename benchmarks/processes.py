"""Servers as child processes: started, waited for, measured and ended as whole trees."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final, Self

import attrs

__all__ = [
    "PATH",
    "Child",
    "Memory",
    "StartError",
    "cpu_seconds",
    "free_port",
    "memory",
    "resident",
    "tree",
]

# Where Debian puts servers, which is not in everybody's path.
PATH: Final = os.environ.get("PATH", "") + ":/usr/sbin"
_TICKS_PER_S: Final = os.sysconf("SC_CLK_TCK")
_START_LIMIT_S: Final = 30.0
_STOP_LIMIT_S: Final = 10.0
_POLL_S: Final = 0.003
_FILES_AT_ONCE: Final = 500


class StartError(Exception):
    """A server ended, or did not listen in time; the text is the end of its log."""


def free_port() -> int:
    """Return a port of 127.0.0.1 that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def tree(root: int) -> list[int]:
    """Return the living processes among ``root`` and its descendants."""
    children: dict[int, list[int]] = {}
    for name in os.listdir("/proc"):
        if name.isdigit() and (fields := _stat(int(name))):
            children.setdefault(int(fields[1]), []).append(int(name))
    found, todo = [], [root]
    while todo:
        pid = todo.pop()
        if _stat(pid):
            found.append(pid)
        todo += children.get(pid, [])
    return found


def _stat(pid: int) -> list[str]:
    """Return the fields of ``/proc/PID/stat`` after the name, none if the process is gone."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return []


def cpu_seconds(pids: Sequence[int]) -> float:
    """Return what user and system time the processes have used, in seconds."""
    stats = [fields for fields in map(_stat, pids) if fields]
    return sum(int(fields[11]) + int(fields[12]) for fields in stats) / _TICKS_PER_S


@attrs.frozen
class Memory:
    """Memory of some processes, in bytes.

    Attributes:
        pss: What they hold now; a page that several share counts once in all.
        peak: The sum of the most that each ever held, shared pages included.
    """

    pss: int = 0
    peak: int = 0


def memory(pids: Sequence[int]) -> Memory:
    """Return how much memory the processes have."""
    return Memory(
        sum(_kibibytes(pid, "smaps_rollup", "Pss") for pid in pids) * 1024,
        sum(_kibibytes(pid, "status", "VmHWM") for pid in pids) * 1024,
    )


def _kibibytes(pid: int, file: str, name: str) -> int:
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{pid}/{file}").read_text().splitlines():
            key, _, value = line.partition(":")
            if key == name:
                return int(value.split()[0])
    return 0


def resident(paths: Sequence[Path]) -> int:
    """Return how many bytes of files are in the kernel's memory, as ``fincore`` counts them."""
    options = ["fincore", "--raw", "--bytes", "--noheadings", "--output", "RES"]
    found = 0
    for at in range(0, len(paths), _FILES_AT_ONCE):
        command = [*options, "--", *map(str, paths[at : at + _FILES_AT_ONCE])]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
        found += sum(map(int, done.stdout.split()))
    return found


class Child:
    """One server in a session of its own; leaving the context kills its whole tree.

    Args:
        command: Program and arguments.
        port: Where on 127.0.0.1 it will listen.
        log: File that gets what it prints.
        env: Variables beside those of this process.

    Raises:
        StartError: If it does not listen in time.
    """

    def __init__(
        self,
        command: Sequence[object],
        port: int,
        log: Path,
        *,
        env: Mapping[str, str] | None = None,
    ) -> None:
        self.port = port
        self._log = log
        with log.open("ab") as out:
            self._process = subprocess.Popen(
                [str(word) for word in command],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                start_new_session=True,
                env={**os.environ, "PATH": PATH, **(env or {})},
            )
        try:
            self._wait_listening()
        except BaseException:
            self.kill()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.kill()

    def _wait_listening(self) -> None:
        deadline = time.monotonic() + _START_LIMIT_S
        while self._process.poll() is None and time.monotonic() < deadline:
            with contextlib.suppress(OSError):
                socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
                return
            time.sleep(_POLL_S)
        tail = self._log.read_text(errors="replace")[-1500:]
        raise StartError(f"it does not listen on {self.port}: {tail}")

    def pids(self) -> list[int]:
        """Return the living processes of its tree."""
        return tree(self._process.pid)

    def stop(self) -> None:
        """Ask it to end, as a service manager does, and kill what is left after a while."""
        left = self.pids()
        self._process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(_STOP_LIMIT_S)
        self._kill(left)

    def kill(self) -> None:
        """Kill its whole tree at once, as a crash does; idempotent."""
        self._kill(self.pids())

    def _kill(self, pids: Sequence[int]) -> None:
        for pid in pids:
            with contextlib.suppress(OSError):
                # A number may have been given to somebody else's process meanwhile.
                if os.getsid(pid) == self._process.pid:
                    os.kill(pid, signal.SIGKILL)
        self._process.wait()
