"""Imports only go down: the contracts in pyproject.toml hold."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
CODE = "from importlinter.cli import lint_imports_command as main; main()"


def test_the_import_contracts_hold() -> None:
    """No module imports from a layer above its own, and the core stays pure."""
    done = subprocess.run(
        [sys.executable, "-c", CODE, "--no-cache", "--no-logo", "--config", "pyproject.toml"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "0 broken" in done.stdout
