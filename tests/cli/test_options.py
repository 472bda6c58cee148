"""Each setting is a flag and a variable, made from its metadata."""

import typing
from pathlib import Path
from typing import Any

import attrs
import click
import pytest
from click.testing import CliRunner

from cachestream.cli._options import (
    _NO_FLAG,
    ALL,
    ORIGIN,
    SERVER,
    STORE,
    STREAM,
    SettingsCommand,
    flag_names,
    format_default,
    with_settings,
)
from cachestream.config import Configuration
from cachestream.settings import MIB, Settings, describe

Given = dict[str, Any]


def given_by(
    *arguments: str, env: dict[str, str] | None = None, **defaults: object
) -> dict[str, Any]:
    """Return what a command with all settings is given for these arguments."""
    seen: list[Given] = []

    @click.command(cls=SettingsCommand)
    @with_settings(ALL, **defaults)
    def command(given: Configuration, /) -> None:
        seen.append(dict(given.settings))

    result = CliRunner(env={"CACHESTREAM_CONFIG": "none", **(env or {})}).invoke(
        command, arguments, catch_exceptions=False
    )
    assert result.exit_code == 0, result.output
    return seen[0]


def test_nothing_given_is_nothing_passed_on() -> None:
    """The defaults stay where they are defined."""
    assert given_by() == {}


@pytest.mark.parametrize(
    ("arguments", "name", "value"),
    [
        (["--max-size", "5GiB"], "max_size", 5 * 1024**3),
        (["--max-size", "none"], "max_size", None),
        (["--read-ahead", "500kB"], "read_ahead", 500_000),
        (["--pause-after", "1m"], "pause_after", 60.0),
        (["--max-wait", "none"], "max_wait", None),
        (["--port", "80"], "port", 80),
        (["-p", "0"], "port", 0),
        (["--cache-dir", "/x"], "cache_dir", Path("/x")),
        (["--completion", "Demand"], "completion", "demand"),
        (["--offline"], "offline", True),
        (["--only-if-cached"], "offline", True),
        (["--no-save-metadata"], "save_metadata", False),
        (["--verify-tls"], "verify_tls", True),
        (["--allow", "a.example", "--allow-hosts", "*.b"], "allow_hosts", ("a.example", "*.b")),
        (["-H", "A: 1", "--header", "B: 2"], "request_headers", {"A": "1", "B": "2"}),
        (["--range-request-split-threshold", "none"], "range_request_split_threshold", None),
        (
            ["--range-request-split-threshold", "adaptive"],
            "range_request_split_threshold",
            "adaptive",
        ),
        (["--range-request-split-threshold", "2MiB"], "range_request_split_threshold", 2 * MIB),
        (["--token", "abc"], "token", "abc"),
        (["--max-connections", "3"], "max_connections", 3),
    ],
)
def test_flags(arguments: list[str], name: str, value: object) -> None:
    """A flag gives its setting the value in the setting's own type."""
    given = given_by(*arguments)
    assert given == {name: value}
    assert getattr(Settings(**given), name) == value


@pytest.mark.parametrize(
    ("variable", "text", "value"),
    [
        ("CACHESTREAM_MAX_SIZE", "1k", 1024),
        ("CACHESTREAM_ALLOW_HOSTS", "a.example, b.example", ("a.example", "b.example")),
        ("CACHESTREAM_REQUEST_HEADERS", "A: 1\nB: 2, 3", {"A": "1", "B": "2, 3"}),
        ("CACHESTREAM_OFFLINE", "yes", True),
        ("CACHESTREAM_SAVE_METADATA", "0", False),
        ("CACHESTREAM_RANGE_REQUEST_SPLIT_THRESHOLD", "none", None),
    ],
)
def test_variables(variable: str, text: str, value: object) -> None:
    """Every flag has a variable that says the same."""
    name = variable.removeprefix("CACHESTREAM_").lower()
    assert given_by(env={variable: text}) == {name: value}


def test_a_flag_wins_over_its_variable() -> None:
    """What is typed goes before what is set."""
    assert given_by("--port", "1", env={"CACHESTREAM_PORT": "2"}) == {"port": 1}


def test_a_command_may_have_its_own_default() -> None:
    """A default of the command is passed on, and is overridden by what is given."""
    assert given_by(port=4612) == {"port": 4612}
    assert given_by("--port", "0", port=4612) == {"port": 0}


def test_every_setting_has_a_flag_but_those_of_programs() -> None:
    """Only what is a function, and whether there is a server, has no flag."""
    names = {row["name"] for row in describe()}
    assert set(ALL) == names - _NO_FLAG
    assert len(ALL) == len(set(ALL))
    hints = typing.get_type_hints(Settings)
    assert {n for n in _NO_FLAG if "Callable" not in str(hints[n])} == {"start_server"}
    assert all(flag_names(name) for name in ALL)
    assert not any(flag_names(name) for name in _NO_FLAG)


def test_the_groups_are_what_they_say() -> None:
    """No group has what belongs to another."""
    assert not set(STREAM) & {*STORE, *SERVER, *ORIGIN}
    assert "verify_tls" in ORIGIN
    assert {*STREAM, *STORE, *SERVER, *ORIGIN} == set(ALL)


def test_help_shows_settings_after_options() -> None:
    """A command's own options come first; each setting shows help and default."""

    @click.command(cls=SettingsCommand)
    @with_settings(("max_size", "pause_after", "cache_dir"))
    @click.option("--own", help="mine")
    def command(given: Configuration, /, own: str) -> None:
        raise AssertionError("not run")

    text = CliRunner().invoke(command, ["--help"]).output
    assert text.index("--own") < text.index("Settings") < text.index("--max-size")
    assert "[10s]" in text
    assert "the user's" in text
    assert str(Path.home()) not in text


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("read_ahead", "1 MiB"),
        ("max_size", "none"),
        ("pause_after", "10s"),
        ("offline", "no"),
        ("max_connections", "8"),
        ("completion", "auto"),
        ("request_headers", "none"),
        ("retry_delay", "0.5s"),
        ("port", "0"),
        ("cache_dir", "the user's cache directory"),
    ],
)
def test_defaults_as_shown(name: str, text: str) -> None:
    """A default is shown in the unit of its setting."""
    (row,) = (row for row in describe() if row["name"] == name)
    assert format_default(row) == text


def test_every_flag_is_described() -> None:
    """No setting is without a line of help."""
    assert all(field.metadata["help"] for field in attrs.fields(Settings))
