"""`demo` shows the main job, and fails if a figure is not as promised."""

import subprocess
import sys
from collections.abc import Callable

import pytest
from click.testing import CliRunner

from cachestream.cli.demo import Step, Story, demo

Run = Callable[..., subprocess.CompletedProcess[bytes]]


@pytest.mark.slow
def test_the_demonstration_holds(run_process: Run) -> None:
    """Start, seek, kill, resume and second read are as promised, and the table says so."""
    done = run_process("demo", "--seconds", "4")
    shown = done.stdout.decode()
    assert done.returncode == 0, shown + done.stderr.decode()
    rows = shown.partition("DELIVERED")[2].splitlines()
    for name in ("start to play", "seek to 90%", "kill -9", "after the restart", "second time"):
        assert any(name in row for row in rows)
    last = next(row for row in rows if "a second time" in row)
    assert last.split("  ")[0] != "0 B"
    assert " 0 B " in last
    assert "All as promised" in shown


def test_a_broken_promise_ends_with_1(monkeypatch: pytest.MonkeyPatch) -> None:
    """A figure that is not as promised is named, after the table, and the code is 1."""
    story = object.__new__(Story)
    story.size = 2048
    monkeypatch.setattr(story, "sent", lambda: 3072)
    story.steps = [Step("read", 2048, 1024, 0.5)]
    story.broken = ["the second time was not free"]

    async def tell(*_: object) -> Story:
        return story

    # The command has the module's name in the package, and hides it.
    monkeypatch.setattr(sys.modules[Story.__module__], "tell", tell)
    result = CliRunner().invoke(demo)
    assert result.exit_code == 1
    assert "2 KiB" in result.output
    assert "the origin sent 3 KiB in all" in result.output
    assert "not as promised: the second time was not free" in result.output
    assert "All as promised" not in result.output


def test_a_row_says_what_came_from_where() -> None:
    """What was delivered and not sent by the origin was held."""
    assert Step("x", 3072, 1024, 1.5).cells == ("3 KiB", "1 KiB", "2 KiB", "1.50 s", "x")
    assert Step("x", 1024, 3072, 0.0).cells[2] == "0 B"
