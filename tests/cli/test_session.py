"""Commands run to their end, and their errors and interrupts have exit codes."""

import asyncio
import os
import signal

import click
import pytest
from click.testing import CliRunner

from cachestream.cli._exits import Exit
from cachestream.cli._session import Program, run
from cachestream.errors import NotStoredError


@pytest.fixture
def group() -> Program:
    """Return a group whose commands fail in several ways."""

    @click.group(cls=Program)
    def group() -> None:
        """Do nothing itself."""

    @group.command()
    def miss() -> None:
        raise NotStoredError("bytes are missing")

    @group.command()
    @click.argument("name")
    def kill(name: str) -> None:
        async def wait() -> None:
            os.kill(os.getpid(), getattr(signal, name))
            await asyncio.Event().wait()

        run(wait())

    assert isinstance(group, Program)
    return group


def test_an_error_becomes_its_exit_code(group: Program) -> None:
    """An error of the package ends with its code and a message."""
    result = CliRunner().invoke(group, ["miss"])
    assert result.exit_code == Exit.NOT_FOUND
    assert result.output == "cachestream: bytes are missing\n"


@pytest.mark.parametrize(
    ("name", "code"), [("SIGINT", Exit.INTERRUPTED), ("SIGTERM", Exit.TERMINATED)]
)
def test_signals_end_a_command(group: Program, name: str, code: Exit) -> None:
    """Ctrl-C ends with 130, SIGTERM with 143."""
    assert CliRunner().invoke(group, ["kill", name]).exit_code == code


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_lets_a_command_close_what_it_opened(number: signal.Signals) -> None:
    """What is open is closed before the program ends, in order."""
    closed: list[str] = []

    async def work() -> None:
        try:
            os.kill(os.getpid(), number)
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)
            closed.append("closed")

    with pytest.raises((KeyboardInterrupt, click.exceptions.Exit)):
        run(work())
    assert closed == ["closed"]


def test_run_returns_what_the_command_returns() -> None:
    """A command's result is passed on."""

    async def work() -> int:
        return 7

    assert run(work()) == 7
