"""Configuration files are found in their order, and read with care."""

import logging
import os
from pathlib import Path

import pytest

from cachestream.config._files import FILE_NAME, find_files, search_path
from cachestream.errors import ConfigurationError


@pytest.fixture
def places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Path]:
    """Return a directory for each place of the search path."""
    folders = {name: tmp_path / name for name in ("here", "user", "system")}
    monkeypatch.setenv("XDG_CONFIG_HOME", str(folders["user"]))
    monkeypatch.setenv("XDG_CONFIG_DIRS", str(folders["system"]))
    paths = {
        "here": folders["here"] / FILE_NAME,
        "user": folders["user"] / "cachestream" / FILE_NAME,
        "system": folders["system"] / "cachestream" / FILE_NAME,
    }
    for path in paths.values():
        path.parent.mkdir(parents=True)
    return paths


def found(places: dict[str, Path], named: str | None = None, **environ: str) -> list[Path]:
    """Return the files that count."""
    return [file.path for file in find_files(named, environ, places["here"].parent)]


def test_the_nearest_file_goes_first(places: dict[str, Path]) -> None:
    """The current directory goes before the user's, and that before the system's."""
    assert found(places) == []
    for name in ("system", "user", "here"):
        places[name].write_text("")
    assert found(places) == [places["here"], places["user"], places["system"]]
    assert search_path(places["here"].parent)[:3] == tuple(places.values())


def test_a_named_file_is_the_only_one(places: dict[str, Path], tmp_path: Path) -> None:
    """A flag or the variable names one file, or none; the flag goes first."""
    for path in places.values():
        path.write_text("")
    own, other = tmp_path / "own.toml", tmp_path / "other.toml"
    own.write_text("")
    other.write_text("")
    assert found(places, str(own)) == [own]
    assert found(places, CACHESTREAM_CONFIG=str(other)) == [other]
    assert found(places, str(own), CACHESTREAM_CONFIG=str(other)) == [own]
    assert found(places, "none") == []
    assert found(places, CACHESTREAM_CONFIG="none") == []


def test_a_file_that_others_can_change_gives_no_orders(
    places: dict[str, Path], caplog: pytest.LogCaptureFixture
) -> None:
    """In the current directory, a file all may write to is left out, with a warning."""
    places["here"].write_text("")
    places["here"].chmod(0o666)
    with caplog.at_level(logging.WARNING, "cachestream.config"):
        assert found(places) == []
    assert "other users can change it" in caplog.text


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root can chown")
def test_a_file_of_another_user_gives_no_orders(places: dict[str, Path]) -> None:
    """In the current directory, somebody else's file is left out."""
    places["here"].write_text("")
    os.chown(places["here"], 12345, 12345)
    assert found(places) == []


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"a = ", "is no TOML"),
        (b"a = 1\na = 2", "is no TOML"),
        (b"\xff", "is no TOML"),
        (b"#" * (1 << 20 | 1), "larger than 1 MiB"),
    ],
)
def test_what_is_no_configuration_is_refused(tmp_path: Path, content: bytes, reason: str) -> None:
    """The error names the file."""
    path = tmp_path / "bad.toml"
    path.write_bytes(content)
    with pytest.raises(ConfigurationError, match=reason) as caught:
        find_files(path, {}, tmp_path)
    assert str(path) in str(caught.value)


def test_a_named_file_must_be_there(tmp_path: Path) -> None:
    """A name that leads nowhere, or to a directory, is an error."""
    with pytest.raises(ConfigurationError, match="No such file"):
        find_files(tmp_path / "missing.toml", {}, tmp_path)
    with pytest.raises(ConfigurationError, match="cannot be read"):
        find_files(tmp_path, {}, tmp_path)


def test_who_can_read_it_is_known(tmp_path: Path) -> None:
    """A file that is the user's alone is told from others."""
    path = tmp_path / "c.toml"
    path.write_text("")
    for mode, readable in ((0o600, False), (0o640, True), (0o604, True)):
        path.chmod(mode)
        (file,) = find_files(path, {}, tmp_path)
        assert file.readable_by_others is readable
