"""Progress is a bar on a terminal and lines elsewhere; results are columns or JSON."""

import io
import os
import pty
import subprocess
import sys

import pytest

from cachestream.cli._output import (
    LineMeter,
    SilentMeter,
    columns,
    is_terminal,
    open_meter,
    progress_text,
)

BAR = """
from cachestream.cli._output import open_meter
with open_meter() as meter:
    for done in range(0, 1001, 100):
        meter.update("film [x].mp4", done * 1024, 1024_000)
"""


class Clock:
    """A clock that goes on when told to."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


def run_on_terminal(code: str, **env: str) -> str:
    """Run code with stderr on a pseudo-terminal and return what it showed."""
    master, slave = pty.openpty()
    environment = {k: v for k, v in os.environ.items() if k not in {"NO_COLOR", "TERM"}}
    with subprocess.Popen(
        [sys.executable, "-c", code],
        stderr=slave,
        env={**environment, "TERM": "xterm-256color", "COLUMNS": "100", **env},
    ) as process:
        os.close(slave)
        shown = b""
        while True:
            try:
                piece = os.read(master, 65536)
            except OSError:  # what Linux says when the other side is closed
                break
            if not piece:
                break
            shown += piece
        os.close(master)
    assert process.returncode == 0
    return shown.decode()


def test_a_terminal_gets_a_bar_with_rate_and_time_left() -> None:
    """On a terminal progress is a bar; a name with brackets is shown as it is."""
    shown = run_on_terminal(BAR)
    assert "film [x].mp4" in shown
    assert "━" in shown
    assert "/s" in shown or "?" in shown
    assert "\x1b[38;5" in shown or "\x1b[3" in shown


def test_no_color_is_honoured() -> None:
    """With NO_COLOR set the bar has no colours."""
    shown = run_on_terminal(BAR, NO_COLOR="1")
    assert "film" in shown
    assert "\x1b[38;" not in shown
    assert "\x1b[32m" not in shown


def test_a_dumb_terminal_gets_lines() -> None:
    """A terminal that cannot move its cursor gets lines."""
    shown = run_on_terminal(BAR, TERM="dumb")
    assert "film [x].mp4: 100%, 1000 KiB of 1000 KiB" in shown
    assert "━" not in shown


def test_lines_come_every_few_seconds_and_at_the_end() -> None:
    """A meter of lines prints seldom, and always the last state."""
    clock, stream = Clock(), io.StringIO()
    with LineMeter(stream, clock) as meter:
        for second in range(12):
            clock.now = float(second)
            meter.update("film", 1024 * second, 20 * 1024)
    lines = stream.getvalue().splitlines()
    assert lines == [
        "film: 25%, 5 KiB of 20 KiB, 1 KiB/s, 15s left",
        "film: 50%, 10 KiB of 20 KiB, 1 KiB/s, 10s left",
        "film: 55%, 11 KiB of 20 KiB, 1 KiB/s, 9s left",
    ]


def test_what_was_held_before_is_no_part_of_the_rate() -> None:
    """A resumed fetch shows the rate of what came now."""
    clock, stream = Clock(), io.StringIO()
    with LineMeter(stream, clock) as meter:
        meter.update("film", 1000 * 1024, 2000 * 1024)
        clock.now = 5.0
        meter.update("film", 1005 * 1024, 2000 * 1024)
    assert stream.getvalue().splitlines()[-1].startswith("film: 50%, 1005 KiB of 2.0 MiB, 1 KiB/s")


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ((0, None, 0.0), "0 B"),
        ((5, None, 2048.0), "5 B, 2 KiB/s"),
        ((0, 0, 0.0), "0 B of 0 B"),
        ((10, 10, 5.0), "100%, 10 B of 10 B, 5 B/s"),
    ],
)
def test_progress_in_words(arguments: tuple[int, int | None, float], text: str) -> None:
    """Unknown lengths and rates are left out, not invented."""
    assert progress_text(*arguments) == text


def test_quiet_shows_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    """A quiet meter prints nothing."""
    meter = open_meter(quiet=True)
    assert isinstance(meter, SilentMeter)
    with meter:
        meter.update("film", 1, 2)
    assert capsys.readouterr() == ("", "")


def test_what_is_no_terminal_gets_lines() -> None:
    """A pipe or a file is no terminal."""
    assert not is_terminal(io.StringIO())


def test_columns_are_aligned() -> None:
    """Numbers are aligned right, texts left, and no line ends in spaces."""
    text = columns(("N", "NAME"), [("1", "a"), ("100", "bcd")], right=1)
    assert text.splitlines() == ["  N  NAME", "  1  a", "100  bcd"]
