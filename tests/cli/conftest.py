"""A cache of its own for each test; commands run here, or as processes."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner

from cachestream.cli import program

Done = subprocess.CompletedProcess[bytes]
Run = Callable[..., Done]
Start = Callable[..., subprocess.Popen[bytes]]


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """Return variables that give each test a cache of its own."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith("CACHESTREAM_")}
    return {
        **kept,
        "CACHESTREAM_CACHE_DIR": str(tmp_path / "cache"),
        "CACHESTREAM_CONFIG": "none",
        "CACHESTREAM_PLUGINS": "off",
    }


@pytest.fixture
def run(tmp_path: Path, environment: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> Run:
    """Return a function that runs a command in this process, in a directory of its own.

    An error that the program does not expect is the test's, not an exit code.
    """
    monkeypatch.chdir(tmp_path)
    for name in os.environ:
        if name.startswith("CACHESTREAM_"):
            monkeypatch.delenv(name)

    def run(*arguments: str) -> Done:
        result = CliRunner(env=environment).invoke(program, arguments, catch_exceptions=False)
        return Done(arguments, result.exit_code, result.stdout_bytes, result.stderr_bytes)

    return run


@pytest.fixture
def start(tmp_path: Path, environment: dict[str, str]) -> Start:
    """Return a function that starts a command as a process; the caller waits for it."""

    def start(*arguments: str) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [sys.executable, "-m", "cachestream", *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd=tmp_path,
            env=environment,
        )

    return start


@pytest.fixture
def run_process(start: Start) -> Run:
    """Return a function that runs a command as a process to its end."""

    def run(*arguments: str) -> Done:
        with start(*arguments) as process:
            out, shown = process.communicate(timeout=60)
        return Done(arguments, process.returncode, out, shown)

    return run
