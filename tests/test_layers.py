"""Imports only go down: the contracts in pyproject.toml hold."""

import re
import subprocess
import sys
import tomllib
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


def test_the_page_on_layers_shows_those_that_there_are() -> None:
    """The picture has the layers of the contract, in their order."""
    text = (ROOT / "docs" / "explanation" / "layers.md").read_text(encoding="utf-8")
    picture = text.partition("```text\n")[2].partition("```")[0]
    shown = [re.split(r"  +", line)[0] for line in picture.splitlines()]
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]
    assert shown == contracts["contracts"][0]["layers"]
