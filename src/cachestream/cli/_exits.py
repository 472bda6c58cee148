"""Exit codes, and which error ends with which."""

from __future__ import annotations

import enum
from typing import IO, Any, Final

import click

from cachestream.errors import (
    CacheStreamError,
    ConfigurationError,
    EntryNotFoundError,
    NotStoredError,
    PluginConflictError,
    PluginNotFoundError,
    RepresentationChangedError,
    ServerUnavailableError,
    StoreBusyError,
    StoreConflictError,
    StoreCorruptError,
    TransportError,
)

__all__ = ["EPILOG", "Exit", "Failure", "exit_code"]


class Exit(enum.IntEnum):
    """What the command line's exit code says."""

    OK = 0
    FAILURE = 1
    USAGE = 2
    NOT_FOUND = 3
    UPSTREAM = 4
    INTEGRITY = 5
    UNREACHABLE = 6
    BUSY = 75
    INTERRUPTED = 130
    TERMINATED = 143

    @property
    def meaning(self) -> str:
        """One line for the help and the docs."""
        return _MEANINGS[self]


_MEANINGS: Final = {
    Exit.OK: "all went well",
    Exit.FAILURE: "something failed; the message says what",
    Exit.USAGE: "a command, flag, URL or setting is wrong",
    Exit.NOT_FOUND: "not in the cache, and the origin was not to be asked",
    Exit.UPSTREAM: "the origin could not be reached, or answered with an error",
    Exit.INTEGRITY: "stored bytes fail their check",
    Exit.UNREACHABLE: "no local server answers",
    Exit.BUSY: "another process holds what is needed; try again",
    Exit.INTERRUPTED: "interrupted (Ctrl-C)",
    Exit.TERMINATED: "terminated; `serve` ends with 0 when told to stop",
}

EPILOG: Final = "\b\nExit codes:\n" + "\n".join(
    f"  {code.value:>3}  {code.meaning}" for code in Exit
)

# The first that fits counts, so the narrower error stands before the wider one.
_CODES: Final[tuple[tuple[type[CacheStreamError], Exit], ...]] = (
    (ConfigurationError, Exit.USAGE),
    (PluginNotFoundError, Exit.USAGE),
    (PluginConflictError, Exit.USAGE),
    (NotStoredError, Exit.NOT_FOUND),
    (EntryNotFoundError, Exit.NOT_FOUND),
    (TransportError, Exit.UPSTREAM),
    (RepresentationChangedError, Exit.UPSTREAM),
    (StoreCorruptError, Exit.INTEGRITY),
    (ServerUnavailableError, Exit.UNREACHABLE),
    (StoreBusyError, Exit.BUSY),
    (StoreConflictError, Exit.BUSY),
)


def exit_code(error: CacheStreamError) -> Exit:
    """Return the exit code an error ends the program with."""
    return next((code for kind, code in _CODES if isinstance(error, kind)), Exit.FAILURE)


class Failure(click.ClickException):
    """Ends the program with a message on stderr and one of our exit codes."""

    def __init__(self, message: str, code: Exit = Exit.FAILURE) -> None:
        super().__init__(message)
        self.exit_code = int(code)  # type: ignore[misc] # click reads it from the instance

    @classmethod
    def from_error(cls, error: CacheStreamError) -> Failure:
        """Return what an error of the package ends the program with."""
        return cls(str(error), exit_code(error))

    def show(self, file: IO[Any] | None = None) -> None:
        """Print the message, as other tools do, after the program's name."""
        click.echo(f"cachestream: {self.format_message()}", file=file, err=file is None)
