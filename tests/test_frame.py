"""The frame does its part: what `make test` installs, and what a change must pass."""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SCRIPT = ROOT / ".ci" / "system-packages"
# What the script itself needs.
TOOLS = ("sh", "id", "env", "dirname", "grep")


@pytest.fixture
def bin_folder(tmp_path: Path) -> Path:
    """Return a directory of programs that has what the script needs and nothing else."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for tool in TOOLS:
        found = shutil.which(tool)
        assert found is not None
        (folder / tool).symlink_to(found)
    # What the machine of the test has must not matter.
    for name in ("nginx", "wrk", "fincore", "systemd-analyze"):
        add(folder, name, "exit 0")
    add(folder, "ldconfig", "echo libmpv.so.2")
    return folder


def add(folder: Path, name: str, code: str) -> None:
    """Put a program into a directory."""
    path = folder / name
    path.unlink(missing_ok=True)
    path.write_text(f"#!/bin/sh\n{code}\n")
    path.chmod(0o755)


def run(folder: Path) -> subprocess.CompletedProcess[str]:
    """Run the script with only the programs of a directory."""
    return subprocess.run(
        [SCRIPT],
        env={**os.environ, "PATH": str(folder)},
        capture_output=True,
        text=True,
        check=False,
    )


def test_nothing_is_installed_where_all_is_there(bin_folder: Path) -> None:
    """With all programs there the script does nothing and says nothing."""
    for name in ("ffmpeg", "mpv", "curl"):
        add(bin_folder, name, "exit 0")
    add(bin_folder, "apt-get", "echo called; exit 1")
    done = run(bin_folder)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_what_is_missing_is_installed_as_root(bin_folder: Path) -> None:
    """As root apt-get is called for what is missing and no more."""
    add(bin_folder, "curl", "exit 0")
    add(bin_folder, "id", "echo 0")
    log = bin_folder / "log"
    add(bin_folder, "apt-get", f'echo "$@" >> {log}')
    assert run(bin_folder).returncode == 0
    assert log.read_text() == "install --yes --no-install-recommends ffmpeg mpv\n"


def test_others_ask_sudo_and_a_fresh_system_gets_its_lists(bin_folder: Path) -> None:
    """Without root it goes by sudo; where installing fails, the lists are fetched first."""
    for name in ("mpv", "curl"):
        add(bin_folder, name, "exit 0")
    add(bin_folder, "id", "echo 1000")
    log = bin_folder / "log"
    add(bin_folder, "sudo", f'echo "sudo $3 $4" >> {log}; exec "$@"')
    updated = bin_folder / "updated"
    add(
        bin_folder,
        "apt-get",
        f'if [ "$1" = update ]; then : > {updated}; else [ -e {updated} ]; fi',
    )
    assert run(bin_folder).returncode == 0
    assert log.read_text().splitlines() == [
        "sudo apt-get install",
        "sudo apt-get update",
        "sudo apt-get install",
    ]


@pytest.mark.parametrize(("has_apt", "words"), [(False, "package manager"), (True, "Become root")])
def test_what_cannot_be_installed_is_named(bin_folder: Path, has_apt: bool, words: str) -> None:
    """Without a way to install, the message names what is missing and what to do."""
    add(bin_folder, "id", "echo 1000")
    if has_apt:
        add(bin_folder, "apt-get", "exit 0")
    done = run(bin_folder)
    assert done.returncode == 1
    assert "ffmpeg mpv curl" in done.stderr
    assert words in done.stderr


def test_a_change_must_pass_check_and_test() -> None:
    """.ci/run stops at the first failure, and calls both."""
    text = (ROOT / ".ci" / "run").read_text()
    assert os.access(ROOT / ".ci" / "run", os.X_OK)
    assert re.search(r"^set -eu$", text, re.MULTILINE)
    assert text.index("make check") < text.index("make test")


def test_every_target_is_explained() -> None:
    """`make` alone shows what there is."""
    text = (ROOT / "Makefile").read_text()
    for target in ("demo", "test", "test-long", "check", "format", "docs", "clean"):
        assert re.search(rf"^{target}:", text, re.MULTILINE)
        assert re.search(rf'@echo "make {target} ', text)
