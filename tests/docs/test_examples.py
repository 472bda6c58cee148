"""What the pages show works: every Python and console block runs, page by page.

The blocks of a page run in order, in a directory of the page's own, against a loopback origin in
place of example.com:

- A block that begins with ``# NAME.py`` is that file, or goes on with it; a command must use it.
- In a console block lines with ``$`` are commands; what follows is what they print, with ``…`` for
  any text. Without any, the command just has to succeed.
- `BACKGROUND` are commands that run until the page ends, or until they are started again.
- All other Python runs in one process, block by block; a ``main`` that is defined is run.
"""

import contextlib
import functools
import json
import os
import random
import re
import shlex
import signal
import socket
import subprocess
import sys
import threading
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
TIMEOUT_S = 600.0

BACKGROUND = (
    "cachestream serve",
    "python -m cachestream.testing.origin",
    "uvicorn ",
    "hypercorn ",
    "nginx ",
)

# What cannot be had on loopback, and what stands for it.
STANDS_FOR = {
    "docs/how-to/share-between-machines.md": {"s3://bucket/": "memory://bucket/"},
    "docs/how-to/fsspec.md": {'https={"headers"': 'http={"headers"'},
    "docs/how-to/objects.md": {
        "s3://bucket/cache": "memory://bucket/cache",
        'storage_options={"endpoint_url": "https://s3.example.net"},': "",
    },
}

PORT = re.compile(r"(127\.0\.0\.1:|localhost:|--(?:admin-)?port[ =]|\bport ?= ?)(\d{4,5})\b")

DRIVER = """
import asyncio, inspect, json, sys
space = {"__name__": "__main__"}
for place, code in json.load(sys.stdin):
    space.pop("main", None)
    print(f"running {place}", file=sys.stderr)
    exec(compile(code, place, "exec"), space)
    if inspect.iscoroutinefunction(space.get("main")) and "asyncio.run(" not in code:
        asyncio.run(space["main"]())
closing = sys.modules.get("cachestream.fsspec")
if closing is not None:
    closing.close_caches()
"""


class Ports:
    """Maps the ports that a page names to free ones, outside of what the kernel gives out."""

    def __init__(self) -> None:
        self._known: dict[str, str] = {}

    def __call__(self, number: str) -> str:
        while number not in self._known:
            port = random.randrange(15000, 32000)
            with contextlib.suppress(OSError), socket.socket() as probe:
                probe.bind(("127.0.0.1", port))
                self._known[number] = str(port)
        return self._known[number]

    def put(self, text: str) -> str:
        """Return a text with the ports that stand for those it names."""
        return PORT.sub(lambda match: match[1] + self(match[2]), text)


class Server:
    """A command that runs beside the others."""

    def __init__(self, command: str, **options: Any) -> None:
        self.command = command
        self.lines: list[str] = []
        self._ended = False
        self._changed = threading.Condition()
        self._process = subprocess.Popen(
            ["bash", "-c", f"exec env {command}"],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            **options,
        )
        self._thread = threading.Thread(target=self._listen)
        self._thread.start()

    def _listen(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            with self._changed:
                self.lines.append(line.rstrip("\n"))
                self._changed.notify_all()
        with self._changed:
            self._ended = True
            self._changed.notify_all()

    def wait_for(self, expected: list[str]) -> bool:
        """Wait until it has printed what is expected, or anything if nothing is."""
        with self._changed:
            self._changed.wait_for(
                lambda: self._ended or self._has_printed(expected), timeout=TIMEOUT_S
            )
            return self._has_printed(expected)

    def _has_printed(self, expected: list[str]) -> bool:
        return bool(self.lines) and (not expected or matches(expected, self.lines, so_far=True))

    def end(self) -> int:
        """Stop it as Ctrl-C does, and return its exit code; 0 too if that signal ended it."""
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGINT)
        try:
            code = self._process.wait(timeout=120)
        except subprocess.TimeoutExpired:
            self._process.kill()
            code = self._process.wait()
        self._thread.join()
        assert self._process.stdout is not None
        self._process.stdout.close()
        return 0 if code in (-signal.SIGINT, 128 + signal.SIGINT) else code


def matches(expected: list[str], lines: list[str], so_far: bool = False) -> bool:
    """Tell whether lines are as expected, where ``…`` is any text, or any lines."""
    pattern = "".join(
        r"(?:[^\n]*\n)*"
        if line.strip() == "…"
        else re.escape(line.rstrip()).replace("…", r"[^\n]*") + r"\n"
        for line in expected
    )
    text = "".join(f"{line.rstrip()}\n" for line in lines)
    return (re.match if so_far else re.fullmatch)(pattern, text) is not None


def commands_of(code: str) -> Iterator[tuple[str, list[str]]]:
    """Yield each command of a console block, and the lines that it shall print."""
    command, shown = "", []
    for line in code.splitlines():
        if line.startswith("$ "):
            if command:
                yield command, shown
            command, shown = line[2:], []
        elif command.endswith("\\"):
            command = command[:-1] + line.strip()
        elif line.strip():
            shown.append(line)
    yield command, shown


def is_only_checked(command: str) -> bool:
    """Tell whether a command would run these tests, or install what is being tested."""
    return command.startswith(("make ", "pip install ", "git clone "))


class Page:
    """One page that is being carried out."""

    def __init__(self, blocks: list[Any], folder: Path, environment: dict[str, str], put: Any):
        self.blocks, self.folder = blocks, folder
        self.ports = Ports()
        self.environment = {**environment, "CACHESTREAM_PORT": self.ports("4612")}
        self._put = put
        self.servers: list[Server] = []
        self.files: set[str] = set()
        self.used = ""

    def local(self, text: str) -> str:
        """Return a text as it can run here."""
        for there, here in STANDS_FOR.get(self.blocks[0].page, {}).items():
            text = text.replace(there, here)
        return str(self._put(self.ports.put(text)))

    def run(self) -> None:
        """Carry out all blocks, and stop what is still running."""
        plain = []
        try:
            for block in self.blocks:
                if block.excuse is not None:
                    continue
                if block.file is not None:
                    self.save(block)
                elif block.language == "console":
                    for command, shown in commands_of(block.code):
                        if not is_only_checked(command):
                            self.do(block.place, self.local(command), self.local_lines(shown))
                elif block.language == "python":
                    plain.append((block.place, self.local(block.code)))
            if plain:
                self.run_python(plain)
        finally:
            codes = [(server.command, server.end()) for server in self.servers]
        assert [code for _, code in codes] == [0] * len(codes), codes
        programs = {name.removesuffix(".py") for name in self.files if name.endswith(".py")}
        assert {name for name in programs if name not in self.used} == set()

    def local_lines(self, lines: list[str]) -> list[str]:
        return [self.local(line) for line in lines]

    def save(self, block: Any) -> None:
        """Write a block to its file, or add it there."""
        self.files.add(block.file)
        self.used += "".join(re.findall(r"^(?:from|import) \w+", block.code, re.MULTILINE))
        with (self.folder / block.file).open("a") as file:
            file.write(self.local(block.code) + "\n\n")

    def do(self, place: str, command: str, shown: list[str]) -> None:
        """Run one command, and compare what it prints."""
        self.used += command
        options: dict[str, Any] = {"cwd": self.folder, "env": self.environment}
        if re.sub(r"^(\w+=\S+ )+", "", command).startswith(BACKGROUND):
            self.start(place, command, shown, options)
            return
        done = subprocess.run(
            ["bash", "-c", command],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            timeout=TIMEOUT_S,
            **options,
        )
        assert done.returncode == 0, f"{place}: {command}\n{done.stdout}"
        assert not shown or matches(shown, done.stdout.splitlines()), (
            f"{place}: {command}\nprinted:\n{done.stdout}\nexpected:\n" + "\n".join(shown)
        )

    def start(self, place: str, command: str, shown: list[str], options: dict[str, Any]) -> None:
        """Run a command beside the others, in place of an earlier one at the same place."""
        command = shlex.join(shlex.split(command, comments=True))
        place_of = functools.partial(re.sub, " --offline", "")
        for server in [s for s in self.servers if place_of(s.command) == place_of(command)]:
            self.servers.remove(server)
            assert server.end() == 0, f"{place}: {server.command}\n{server.lines}"
        server = Server(command, **options)
        self.servers.append(server)
        assert server.wait_for(shown), f"{place}: {command}\nprinted: {server.lines}\n{shown}"

    def run_python(self, plain: list[tuple[str, str]]) -> None:
        """Run the Python of the page in one process; warnings are errors."""
        done = subprocess.run(
            [sys.executable, "-W", "error", "-c", DRIVER],
            input=json.dumps(plain),
            capture_output=True,
            text=True,
            timeout=TIMEOUT_S,
            cwd=self.folder,
            env=self.environment,
        )
        assert done.returncode == 0, done.stderr
        assert "Warning" not in done.stderr, done.stderr


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.integration
def test_what_a_page_shows_works(
    page_blocks: list[Any],
    example_com: Any,
    shell_environment: dict[str, str],
    tmp_path: Path,
) -> None:
    """Every command and every piece of Python of a page does what the page says."""
    folder = tmp_path / "page"
    folder.mkdir()
    Page(page_blocks, folder, shell_environment, example_com.put).run()


def test_blocks_name_their_language(all_blocks: list[Any]) -> None:
    """What is Python or a command says so in the one way that makes it run."""
    wrong = [b.place for b in all_blocks if b.language in ("bash", "sh", "shell", "py", "pycon")]
    assert wrong == [], "write ```console with $ before commands, or ```python"
    for block in all_blocks:
        if block.language == "console":
            assert block.code.startswith("$ "), f"{block.place} has no command"


def test_data_in_examples_is_well_formed(all_blocks: list[Any]) -> None:
    """TOML and JSON that is shown can be read."""
    for block in all_blocks:
        try:
            if block.language == "toml":
                tomllib.loads(block.code)
            elif block.language == "json":
                json.loads(block.code)
        except ValueError as exc:
            pytest.fail(f"{block.place}: {exc}")


def test_few_blocks_are_not_run(
    all_blocks: list[Any], record_property: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    """A block that is not run says why, and there are few of them."""
    excused = [(b.place, b.excuse) for b in all_blocks if b.excuse is not None]
    commands = [
        (block.place, command)
        for block in all_blocks
        if block.language == "console" and block.excuse is None
        for command, _ in commands_of(block.code)
        if is_only_checked(command)
    ]
    record_property("blocks_not_run", len(excused))
    record_property("commands_only_checked", len(commands))
    listing = "\n".join(f"{place}: {why}" for place, why in [*excused, *commands])
    with capsys.disabled():
        if "PYTEST_XDIST_WORKER" not in os.environ:
            print(f"\n{len(excused)} blocks not run, {len(commands)} commands checked\n{listing}")
    assert len(excused) <= 8, listing
    assert all(len(why.split()) >= 3 for _, why in excused), listing
