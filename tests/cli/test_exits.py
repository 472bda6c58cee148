"""Every error ends the program with a documented code."""

import click
import pytest

from cachestream import errors
from cachestream.cli._exits import EPILOG, Exit, Failure, exit_code


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (errors.CacheStreamError("x"), 1),
        (errors.StoreFullError("x"), 1),
        (errors.PluginNotFoundError("x"), 2),
        (errors.PluginLoadError("x"), 1),
        (errors.ConfigurationError("x"), 2),
        (errors.InvalidURLError("x"), 2),
        (errors.NotStoredError("x"), 3),
        (errors.EntryNotFoundError("x"), 3),
        (errors.ConnectError("x"), 4),
        (errors.TLSError("x"), 4),
        (errors.UpstreamTimeoutError("x"), 4),
        (errors.UpstreamProtocolError("x"), 4),
        (errors.RepresentationChangedError("x"), 4),
        (errors.StoreCorruptError("x"), 5),
        (errors.ServerUnavailableError("x"), 6),
        (errors.StoreBusyError("x"), 75),
        (errors.StoreConflictError("x"), 75),
    ],
)
def test_codes(error: errors.CacheStreamError, code: int) -> None:
    """The kind of an error decides the code."""
    assert exit_code(error) == code


def test_the_help_has_every_code() -> None:
    """The list in the help is complete, one line a code."""
    for code in Exit:
        assert f"{code.value:>3}  {code.meaning}" in EPILOG


def test_a_failure_shows_message_and_hint(capsys: pytest.CaptureFixture[str]) -> None:
    """What went wrong and what to do about it go to stderr."""
    error = errors.ConnectError("refused", url="https://a.example/", hint="Is it up?")
    failure = Failure.from_error(error)
    assert isinstance(failure, click.ClickException)
    failure.show()
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err == "cachestream: refused (https://a.example/). Is it up?\n"
    assert failure.exit_code == 4
