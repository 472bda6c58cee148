"""A client in a process of its own that asks for a few bytes again and again.

``python -m benchmarks.probe URL NAME HEX`` asks for the first bytes of a file, which are ``HEX``.
It writes ``ready`` once it has them, goes on until its input ends, and writes the times of all
answers since, in seconds, as JSON.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import threading
from functools import partial
from pathlib import Path
from typing import Final, Self

from benchmarks.client import NoAnswerError, connect, fetch
from benchmarks.content import Item

__all__ = ["Probe", "main"]

_REST_S: Final = 0.0005
_END_LIMIT_S: Final = 60.0


class Probe:
    """The process, between entering and leaving; `times` are there afterwards.

    It has an interpreter of its own, so that clients that read at the same time cannot hold it up
    otherwise than by using the cores.

    Args:
        base: URL of the server.
        item: The file to ask for.
        right: Its first bytes, as many as shall be asked for.

    Raises:
        NoAnswerError: On entering or leaving, if an answer was wrong or did not come.
    """

    def __init__(self, base: str, item: Item, right: bytes) -> None:
        self._command = [sys.executable, "-m", "benchmarks.probe", base, item.name, right.hex()]
        self.times: list[float] = []

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(
            self._command,
            cwd=Path(__file__).parents[1],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert self._process.stdout
        if self._process.stdout.readline() != "ready\n":
            self._end()
        return self

    def __exit__(self, *_: object) -> None:
        self.times = json.loads(self._end())

    def _end(self) -> str:
        """Let it end; return what it wrote."""
        try:
            written, errors = self._process.communicate(timeout=_END_LIMIT_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            written, errors = self._process.communicate()
        if self._process.returncode:
            raise NoAnswerError(f"the probe failed: {errors[-500:]}")
        return written


def main(arguments: list[str] | None = None) -> int:
    """Ask until the input ends; the time of what is under way then counts as well."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.probe")
    parser.add_argument("base")
    parser.add_argument("name")
    parser.add_argument("right", type=bytes.fromhex)
    options = parser.parse_args(arguments)
    item, right = Item(options.name, len(options.right)), options.right
    connection = connect(options.base)
    ask = partial(fetch, options.base, item, right, start=0, length=len(right))
    ask(connection=connection)
    print("ready", flush=True)
    stopped = threading.Event()
    threading.Thread(target=_wait_for_end, args=(stopped,), daemon=True).start()
    times = [ask(connection=connection).total]
    while not stopped.wait(_REST_S):
        times.append(ask(connection=connection).total)
    connection.close()
    print(json.dumps(times))
    return 0


def _wait_for_end(stopped: threading.Event) -> None:
    sys.stdin.read()
    stopped.set()


if __name__ == "__main__":
    sys.exit(main())
