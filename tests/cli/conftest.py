"""A cache of its own for each test, and commands run as processes."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

Run = Callable[..., subprocess.CompletedProcess[bytes]]
Start = Callable[..., subprocess.Popen[bytes]]


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """Return variables that give each test a cache of its own."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith("CACHESTREAM_")}
    return {**kept, "CACHESTREAM_PLUGINS": "off", "CACHESTREAM_CACHE_DIR": str(tmp_path / "cache")}


@pytest.fixture
def run(tmp_path: Path, environment: dict[str, str]) -> Run:
    """Return a function that runs a command to its end, in a directory of its own."""

    def run(*arguments: str) -> subprocess.CompletedProcess[bytes]:
        return subprocess.run(
            [sys.executable, "-m", "cachestream", *arguments],
            capture_output=True,
            cwd=tmp_path,
            env=environment,
            check=False,
            timeout=60,
        )

    return run


@pytest.fixture
def start(tmp_path: Path, environment: dict[str, str]) -> Start:
    """Return a function that starts a command; the caller waits for it."""

    def start(*arguments: str) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [sys.executable, "-m", "cachestream", *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd=tmp_path,
            env=environment,
        )

    return start
