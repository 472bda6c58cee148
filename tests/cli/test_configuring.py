"""`config` shows what is in effect and where it is from, and shows no secret."""

import json
import tomllib
from pathlib import Path

import pytest

from cachestream.cli._configuring import Row
from cachestream.config import ROWS, load
from cachestream.registry import Registry
from cachestream.settings import Settings

from .conftest import Run

TEXT = """
[cachestream]
max_size = "5 GiB"
pause_after = "1m30s"
token = "canary-token"
store = "objects"
allow_hosts = ["a.example", "b.example"]
request_headers = { Authorization = "canary-field" }

[store.objects]
url = "memory://films"
storage_options = { secret = "canary-option" }
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Write a configuration."""
    path = tmp_path / "own.toml"
    path.write_text(TEXT)
    path.chmod(0o600)
    return path


def test_what_is_shown_says_the_same_again(run: Run, file: Path, tmp_path: Path) -> None:
    """The output is a file with the same values, secrets and the environment's left out."""
    shown = run("config", "show", "--config", str(file), "--port", "5").stdout.decode()
    again = tomllib.loads(shown)
    assert again["store"]["objects"]["url"] == "memory://films"
    copy = tmp_path / "copy.toml"
    copy.write_text(shown)
    first = load(file, environ={}, registry=Registry("off"))
    second = load(copy, environ={}, registry=Registry("off"))
    public = first.settings.keys() - {"token", "request_headers"}
    assert public == {"max_size", "pause_after", "allow_hosts"}
    assert all(second.settings[name] == first.settings[name] for name in public)
    assert second.settings["port"] == 5
    assert second.store.name == "objects"


def test_no_secret_is_shown(run: Run, file: Path) -> None:
    """Tokens, fields and options that are secret are masked everywhere."""
    for extra in ([], ["--origin"], ["--all"], ["--json"]):
        done = run("config", "show", "--config", str(file), *extra)
        assert done.returncode == 0
        assert b"canary" not in done.stdout + done.stderr
        assert b"***" in done.stdout


def test_where_a_value_is_from_is_said(run: Run, file: Path, environment: dict[str, str]) -> None:
    """Each value has its flag, variable or file beside it."""
    environment["CACHESTREAM_MAX_CONNECTIONS"] = "3"
    done = run("config", "show", "--config", str(file), "-o", "--port", "5", "--all")
    lines = done.stdout.decode().splitlines()
    assert "port = 5  # flag" in lines
    assert "max_connections = 3  # variable CACHESTREAM_MAX_CONNECTIONS" in lines
    assert f'max_size = "5 GiB"  # {file}' in lines
    assert f'url = "memory://films"  # {file}' in lines
    assert '# retry_delay = "0.5s"  # default' in lines
    assert '# part_size = "4 MiB"  # default' in lines


def test_it_is_json_too(run: Run, file: Path) -> None:
    """Each value is an object with its origin; sizes are bytes."""
    rows = json.loads(run("config", "show", "--config", str(file), "--json").stdout)
    by_name = {(row["table"], row["name"]): row for row in rows}
    assert by_name["cachestream", "max_size"]["value"] == 5 << 30
    assert by_name["cachestream", "max_size"]["origin"] == str(file)
    assert by_name["store.objects", "url"]["value"] == "memory://films"
    assert ("cachestream", "proxy") not in by_name


def test_a_wrong_file_is_told(run: Run, file: Path) -> None:
    """An unknown key is answered with the nearest, and the exit code says usage."""
    file.write_text("[cachestream]\nmaxsize = 1")
    done = run("config", "show", "--config", str(file))
    assert done.returncode == 2
    assert b"no setting is called 'maxsize'. Did you mean 'max_size'" in done.stderr


def test_places_are_listed(run: Run, tmp_path: Path) -> None:
    """The nearest comes first, and whether a file is there is said."""
    (tmp_path / "cachestream.toml").write_text("")
    first, *others = json.loads(run("config", "path", "--json").stdout)
    assert first == {"path": str(tmp_path / "cachestream.toml"), "exists": True}
    assert len(others) >= 2
    assert "cachestream.toml" in run("config", "path").stdout.decode()


def test_the_template_is_a_file_that_changes_nothing(run: Run, tmp_path: Path) -> None:
    """As it is, all are comments; with the marks removed, all are the defaults."""
    text = run("config", "template").stdout.decode()
    assert tomllib.loads(text) == {"cachestream": {}}
    lines = [
        line.removeprefix("# ")
        for line in text.splitlines()
        if line.removeprefix("# ").partition(" = ")[0] in ROWS or line.startswith("[")
    ]
    path = tmp_path / "all.toml"
    path.write_text("\n".join(line for line in lines if "…" not in line))
    path.chmod(0o600)
    settings = load(path, environ={}).arguments()["settings"]
    assert settings == Settings()


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (None, "bytes", '"none"'),
        (5 << 30, "bytes", '"5 GiB"'),
        ((5 << 30) + 1, "bytes", "5368709121"),
        (0, "bytes", "0"),
        (90.0, "seconds", '"1m30s"'),
        (0.123456, "seconds", "0.123456"),
        (True, "", "true"),
        (("a", 'b"'), "", '["a", "b\\""]'),
        ({"A b": "1"}, "", '{ "A b" = "1" }'),
        ({}, "", "{}"),
        (Path("/x"), "", '"/x"'),
    ],
)
def test_values_are_toml(value: object, unit: str, text: str) -> None:
    """A value is written so that it is read back as it was."""
    assert Row("t", "n", value, unit=unit).text == text
    assert tomllib.loads(f"n = {text}")


def test_every_kind_of_plugin_is_chosen_by_a_flag(run: Run) -> None:
    """Store, transports and frontend are named; one that is not there is a wrong flag."""
    flags = ("--store", "memory", "--transport", "http", "--transport", "filesystem")
    shown = run("config", "show", *flags, "--frontend", "loopback").stdout.decode()
    assert tomllib.loads(shown)["cachestream"] | {"cache_dir": ""} == {
        "store": "memory",
        "transport": ["http", "filesystem"],
        "frontend": "loopback",
        "cache_dir": "",
    }
    done = run("serve", "--port", "0", "--frontend", "loopbak")
    assert done.returncode == 2
    assert b"Did you mean 'loopback'" in done.stderr


def test_a_plugin_with_options_serves_by_flags(run: Run) -> None:
    """A store chosen and configured on the command line is opened."""
    flags = ("--store", "objects", "--option", "store.objects.url=memory://by-flags")
    done = run("ls", *flags)
    assert done.returncode == 0, done.stderr
    wrong = run("ls", "--store", "objects", "--option", "store.objects.ulr=memory://x")
    assert wrong.returncode == 2
    assert b"Did you mean 'url'" in wrong.stderr
