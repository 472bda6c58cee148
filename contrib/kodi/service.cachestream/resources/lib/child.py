"""A child process that is started again when it ends. Nothing here needs Kodi."""

from __future__ import annotations

import contextlib
import os
import shlex
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Mapping

FIRST_PAUSE_S = 1.0
LONGEST_PAUSE_S = 60.0
HEALTHY_S = 60.0
"""A child that lived so long was well: the next pause is the first one again."""

# Where programs are that a user has installed, which is not in the path of what starts Kodi.
PLACES = ("~/.local/bin", "/usr/local/bin", "/usr/bin")


def command_of(settings: Mapping[str, str]) -> list[str]:
    """Return the command line that the add-on's settings describe; what is empty is left out."""
    command = [find_program(settings.get("program") or "cachestream"), "serve"]
    for name in ("port", "cache_dir", "max_size"):
        if settings.get(name):
            command += ["--" + name.replace("_", "-"), settings[name]]
    return command + shlex.split(settings.get("arguments") or "")


def find_program(name: str) -> str:
    """Return the path of a program; the name as it is if there is none."""
    path = os.pathsep.join([os.environ.get("PATH", ""), *map(os.path.expanduser, PLACES)])
    return shutil.which(os.path.expanduser(name), path=path) or name


def is_taken(port: int) -> bool:
    """Tell whether somebody listens on a loopback port."""
    with socket.socket() as probe:
        probe.settimeout(1.0)
        return probe.connect_ex(("127.0.0.1", port)) == 0


class Child:
    """Runs a command while it is tended, with pauses that grow while it fails.

    Where another program has the port already, a cache that the system runs for example, that
    one is left to it.

    Args:
        command: What to run.
        port: The port that it will listen on.
        log: Is given each line that it prints, and what happens to it.
        clock: Seconds that only go up.
    """

    def __init__(
        self,
        command: list[str],
        port: int,
        log: Callable[[str], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.command = command
        self.port = port
        self.process: subprocess.Popen[str] | None = None
        self._log = log
        self._clock = clock
        self._started = 0.0
        self._not_before = float("-inf")
        self._pause = FIRST_PAUSE_S
        self._reader: threading.Thread | None = None
        self._left_alone = False

    def tend(self) -> None:
        """Start the child if it does not run and it is time; call this every second or so."""
        if self.process is not None:
            code = self.process.poll()
            if code is None:
                return
            self._ended(f"it ended with code {code}")
        if self._clock() < self._not_before:
            return
        if is_taken(self.port):
            if not self._left_alone:
                self._log(f"port {self.port} is served already; nothing is started")
            self._left_alone = True
            self._not_before = self._clock() + FIRST_PAUSE_S
            return
        self._left_alone = False
        self._start()

    def _start(self) -> None:
        self._started = self._clock()
        try:
            self.process = subprocess.Popen(  # noqa: S603  # what the user has set
                self.command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                errors="replace",
            )
        except OSError as error:
            self._ended(f"{self.command[0]} cannot be run: {error.strerror}")
            return
        self._reader = threading.Thread(target=self._read, args=(self.process,), daemon=True)
        self._reader.start()

    def _read(self, process: subprocess.Popen[str]) -> None:
        assert process.stdout is not None
        with process.stdout:
            for line in process.stdout:
                self._log(line.rstrip())

    def _ended(self, why: str) -> None:
        """Set the time of the next attempt."""
        self._join()
        self.process = None
        if self._clock() - self._started > HEALTHY_S:
            self._pause = FIRST_PAUSE_S
        self._not_before = self._clock() + self._pause
        self._log(f"{why}; trying again in {self._pause:g} s")
        self._pause = min(self._pause * 2, LONGEST_PAUSE_S)

    def stop(self, patience: float = 10.0) -> None:
        """End the child: first politely, so that it commits what it holds."""
        if self.process is None:
            return
        with contextlib.suppress(OSError):
            self.process.terminate()
        try:
            self.process.wait(patience)
        except subprocess.TimeoutExpired:
            self._log(f"it has not ended within {patience:g} s and is killed")
            self.process.kill()
            self.process.wait()
        self._join()
        self.process = None

    def _join(self) -> None:
        if self._reader is not None:
            self._reader.join(5.0)
            self._reader = None
