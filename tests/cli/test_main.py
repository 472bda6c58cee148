"""The program as a whole: how it is started, what it imports, what its help says."""

import os
import subprocess
import sys
from importlib.metadata import entry_points, version

import pytest
from click.testing import CliRunner

from cachestream.cli import main, program

COMMANDS = {
    *("serve", "url", "get", "cat", "play", "prefetch", "ls", "info", "rm", "prune"),
    *("verify", "stats", "plugins", "config", "demo", "completion"),
}
HEAVY = ("aiohttp", "fsspec", "diskcache", "rich", "cachestream.manager")
IMPORTS = """
import sys
sys.argv = ["cachestream", *sys.argv[1:]]
from cachestream.cli import main
try:
    main()
finally:
    print([name for name in HEAVY if name in sys.modules], file=sys.stderr)
"""


def run(*arguments: str, code: str | None = None) -> subprocess.CompletedProcess[str]:
    """Run the program, or code, in a process of its own."""
    how = ["-m", "cachestream"] if code is None else ["-c", code]
    return subprocess.run(
        [sys.executable, *how, *arguments],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "CACHESTREAM_PLUGINS": "off"},
    )


def test_it_has_every_command() -> None:
    """The commands are these, and each has a line of help."""
    assert set(program.commands) == COMMANDS
    assert all(command.get_short_help_str() for command in program.commands.values())


def test_python_dash_m_works() -> None:
    """``python -m cachestream`` is the same program."""
    done = run("--version")
    assert (done.returncode, done.stdout) == (0, f"cachestream {version('cachestream')}\n")


def test_the_script_is_installed() -> None:
    """The package installs the program under its name."""
    (script,) = entry_points(group="console_scripts", name="cachestream")
    assert script.load() is main


@pytest.mark.parametrize(
    "arguments",
    [
        ["--help"],
        ["--version"],
        ["serve", "--help"],
        ["get", "--help"],
        ["plugins"],
        ["url", "https://example.com/"],
        ["completion", "fish"],
    ],
    ids=" ".join,
)
def test_light_commands_import_nothing_heavy(arguments: list[str]) -> None:
    """What opens no cache imports neither an HTTP library nor a terminal one."""
    done = run(*arguments, code=f"HEAVY = {HEAVY}{IMPORTS}")
    assert done.returncode == 0, done.stderr
    assert done.stderr.splitlines()[-1] == "[]"


@pytest.mark.parametrize("command", ["", *sorted(COMMANDS)])
def test_every_help_has_the_exit_codes(command: str) -> None:
    """Wherever help is asked for, the exit codes are listed."""
    result = CliRunner().invoke(program, [*command.split(), "--help"])
    assert result.exit_code == 0
    assert "75  another process holds what is needed" in result.output


@pytest.mark.parametrize(
    "arguments", [["nonsense"], ["get"], ["serve", "--port", "x"], ["serve", "--nonsense"]]
)
def test_wrong_usage_ends_with_2(arguments: list[str]) -> None:
    """An unknown command or flag, or a missing argument, is a usage error."""
    done = run(*arguments)
    assert done.returncode == 2
    assert "Usage: cachestream" in done.stderr
