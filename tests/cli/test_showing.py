"""`url`, `plugins` and `completion` open no cache."""

import json
import os
import socket

import pytest
from click.testing import CliRunner, Result

from cachestream.cli import program
from cachestream.core.urls import source_of
from cachestream.errors import PluginLoadError
from cachestream.registry import PluginInfo, Registry


def cachestream(*arguments: str, **env: str) -> Result:
    """Run a command in this process."""
    return CliRunner(env={"CACHESTREAM_PLUGINS": "off", **env}).invoke(program, arguments)


def test_url_prints_the_local_url_of_the_default_server() -> None:
    """The local URL is that of `serve` without flags."""
    result = cachestream("url", "https://example.com/a b.mp4?x=1")
    assert result.exit_code == 0
    assert result.output == "http://127.0.0.1:4612/example.com/a%20b.mp4?x=1\n"


def test_url_takes_host_port_and_token() -> None:
    """The server's place and token can be given, as flags or variables."""
    result = cachestream(
        "url", "https://example.com/", "--host", "::1", "--port", "80", CACHESTREAM_TOKEN="s/t"
    )
    assert result.output == "http://[::1]:80/~s%2Ft/example.com/\n"


def test_url_prints_json() -> None:
    """With --json each URL comes with the one it stands for."""
    source = "http://127.0.0.1:8000/x"
    (row,) = json.loads(cachestream("url", source, "--json").output)
    assert row["source"] == source
    path = row["url"].removeprefix("http://127.0.0.1:4612")
    assert source_of(path, schemes=frozenset({"http"})) == source


@pytest.mark.parametrize("source", ["example", "https://u:p@example.com/", "https:///x"])
def test_url_refuses_what_is_no_url(source: str) -> None:
    """A malformed URL is a usage error, and its secrets are not repeated."""
    result = cachestream("url", source)
    assert result.exit_code == 2
    assert "cachestream: " in result.output
    assert "u:p" not in result.output


def test_url_check_finds_a_listener() -> None:
    """With --check a server that listens is enough."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = str(listener.getsockname()[1])
        assert cachestream("url", "https://a.example/", "--check", "-p", port).exit_code == 0


def test_url_is_that_of_a_socket_or_of_a_proxy() -> None:
    """A server on a Unix socket, or behind a proxy, has other local URLs."""
    source = "https://a.example/x"
    result = cachestream("url", source, "--socket-path", "/run/s")
    assert result.output == "http://cachestream.localhost/a.example/x\n"
    more = ("--socket-path", "@s", "--public-url", "https://films.example/media/")
    assert cachestream("url", source, *more).output == ("https://films.example/media/a.example/x\n")


def test_url_check_finds_a_unix_socket() -> None:
    """With --check a listener on the socket is looked for."""
    place = f"@cachestream-{os.getpid()}"
    with socket.socket(socket.AF_UNIX) as listener:
        command = ("url", "https://a.example/", "--check", "--socket-path", place)
        assert cachestream(*command).exit_code == 6
        listener.bind("\0" + place[1:])
        listener.listen()
        assert cachestream(*command).exit_code == 0


def test_url_check_without_a_server_ends_with_6() -> None:
    """With --check and nobody there the code is 6, and what to do is said."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = str(unused.getsockname()[1])
        result = cachestream("url", "https://a.example/", "--check", "-p", port)
    assert result.exit_code == 6
    assert "cachestream serve" in result.output


def test_plugins_lists_ours() -> None:
    """Each plug-in has a row of kind, name, distribution, version and status."""
    lines = cachestream("plugins").output.splitlines()
    assert lines[0].split() == ["KIND", "NAME", "DISTRIBUTION", "VERSION", "STATUS"]
    assert any(line.split()[:3] == ["store", "disk", "cachestream"] for line in lines)


def test_plugins_prints_json() -> None:
    """With --json a row has all that is known."""
    rows = json.loads(cachestream("plugins", "--json").output)
    row = next(row for row in rows if row["name"] == "disk")
    assert row["status"] == "ok"
    assert row["target"] == "cachestream.backends:DiskStore"


def test_plugins_check_fails_for_a_broken_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """With --check a plug-in that cannot be imported is named, and the code is 1."""

    def broken(self: Registry, kind: str, name: str) -> type:
        if name == "cachestream:disk":
            raise PluginLoadError("no") from ImportError("no libdisk")
        return Registry

    monkeypatch.setattr(Registry, "get", broken)
    result = cachestream("plugins", "--check")
    assert result.exit_code == 1
    assert "ImportError: no libdisk" in result.output
    assert "broken: cachestream:disk" in result.output


def test_plugins_shows_conflicts(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is against a plug-in stands in its row."""
    info = PluginInfo(
        kind="store",
        name="s3",
        distribution="a",
        version="1",
        target="a:A",
        status="conflict",
        detail="claimed by b 2 too",
    )
    monkeypatch.setattr(Registry, "listing", lambda self, *, load: (info,))
    assert "conflict  claimed by b 2 too" in cachestream("plugins").output


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_completion_prints_a_script(shell: str) -> None:
    """The script is for that shell and for this program."""
    result = cachestream("completion", shell)
    assert result.exit_code == 0
    assert "_CACHESTREAM_COMPLETE" in result.output


def test_completion_completes_commands_and_flags() -> None:
    """What the script asks the program is answered with commands and flags."""
    words = {"COMP_WORDS": "cachestream pr", "COMP_CWORD": "1"}
    result = CliRunner(env={"_CACHESTREAM_COMPLETE": "bash_complete", **words}).invoke(
        program, prog_name="cachestream"
    )
    assert {line.partition(",")[2] for line in result.output.split()} == {"prefetch", "prune"}


def test_completion_knows_no_other_shell() -> None:
    """Another shell is a usage error."""
    assert cachestream("completion", "csh").exit_code == 2
