"""Settings are described once, checked when made, and frozen."""

from pathlib import Path
from typing import Any

import attrs
import platformdirs
import pytest

from cachestream.errors import ConfigurationError
from cachestream.settings import MIB, Settings, StreamSettings, default_cache_dir, describe


def test_every_field_is_described() -> None:
    """Each setting has a row with a line of help, and a unit where it is a size or a time."""
    rows = {row["name"]: row for row in describe()}
    assert list(rows) == [field.name for field in attrs.fields(Settings)]
    for row in rows.values():
        assert row["help"]
        assert "\n" not in row["help"]
        assert row["unit"] in {"", "bytes", "seconds"}


def test_secrets_are_marked() -> None:
    """What may hold a credential is a secret."""
    secret = {row["name"] for row in describe() if row["secret"]}
    assert secret == {"request_headers", "token", "client_key", "proxy"}


def test_streams_have_part_of_them() -> None:
    """Whatever a stream may have, the manager has as its default."""
    of_streams = [row["name"] for row in describe(StreamSettings)]
    assert of_streams == [row["name"] for row in describe()][: len(of_streams)]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("max_buffer_size", 25 * MIB),
        ("save_partial_cache", True),
        ("save_metadata", True),
        ("save_all_headers", True),
        ("read_timeout", 30.0),
        ("request_timeout", 60.0),
        ("pause_after", 10.0),
        ("dispose_after", 300.0),
        ("copy_cached_response_headers", False),
        ("validation", "never"),
        ("host", "127.0.0.1"),
        ("offline", False),
        ("verify_tls", True),
        ("trust_env", False),
        ("forward_fields", ()),
        ("allow_hosts", ()),
    ],
)
def test_defaults(name: str, value: object) -> None:
    """The defaults that users rely on stay what they are."""
    assert getattr(Settings(), name) == value


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("port", -1),
        ("port", 65536),
        ("port", True),
        ("port", "80"),
        ("max_buffer_size", MIB - 1),
        ("max_size", -1),
        ("read_timeout", 0),
        ("read_timeout", None),
        ("read_timeout", "30"),
        ("completion", "sometimes"),
        ("validation", True),
        ("durability", "none"),
        ("max_connections", 0),
        ("dispose_after", -1.0),
        ("read_ahead", float("nan")),
    ],
)
def test_a_wrong_value_is_refused(name: str, value: Any) -> None:
    """The error names the setting and its value, and is a ValueError too."""
    with pytest.raises(ConfigurationError, match=f"setting {name}=") as caught:
        Settings(**{name: value})
    assert isinstance(caught.value, ValueError)


@pytest.mark.parametrize("name", ["max_size", "max_wait", "client_idle_timeout"])
def test_what_may_be_none(name: str) -> None:
    """A limit may be none."""
    assert getattr(Settings(**{name: None}), name) is None


def test_settings_of_a_stream() -> None:
    """A stream has the manager's settings, but for what is changed."""
    settings = Settings(completion="demand", read_ahead=5, max_size=7)
    stream = settings.for_stream(read_ahead=6)
    assert type(stream) is StreamSettings
    assert (stream.completion, stream.read_ahead) == ("demand", 6)
    assert settings.read_ahead == 5


@pytest.mark.parametrize("name", ["max_size", "nonsense"])
def test_a_stream_has_no_setting_of_the_manager(name: str) -> None:
    """A name that no stream setting has is refused."""
    with pytest.raises(ConfigurationError, match=f"no stream setting is called '{name}'"):
        Settings().for_stream(**{name: 1})


def test_settings_are_values() -> None:
    """Equal settings are equal, and none can be changed."""
    assert Settings(port=5) == Settings(port=5)
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        Settings().port = 5  # type: ignore[misc]


def test_the_cache_is_the_users() -> None:
    """Without a directory it is the user's cache directory, not a temporary one."""
    assert default_cache_dir() == Path(platformdirs.user_cache_path("cachestream"))
    assert Settings().cache_dir == default_cache_dir()
