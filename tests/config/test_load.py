"""What goes first wins, each value knows where it is from, and errors say where they are."""

from pathlib import Path

import pytest

from cachestream import CacheManager, Plugin, blocking
from cachestream.backends import ObjectsStore
from cachestream.config import ROWS, Configuration, load
from cachestream.errors import ConfigurationError, PluginNotFoundError
from cachestream.registry import Registry
from cachestream.settings import Settings, describe


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Return where a test may write a file."""
    return tmp_path / "cachestream.toml"


def loaded(file: Path | None, *options: str, **more: object) -> Configuration:
    """Load a file, with nothing from outside."""
    arguments = {"environ": {}, "registry": Registry("off"), **more}
    return load(file or "none", options=options, **arguments)  # type: ignore[arg-type]


def test_nothing_given_is_all_defaults() -> None:
    """Without any source, everything is what it is in code."""
    configuration = loaded(None)
    assert configuration == Configuration()
    assert configuration.arguments()["settings"] == Settings()


def test_what_goes_first_wins(tmp_path: Path) -> None:
    """Given before variables, those before files in their order, those before defaults."""
    near, far = tmp_path / "near", tmp_path / "far" / "cachestream"
    near.mkdir()
    far.mkdir(parents=True)
    (far / "cachestream.toml").write_text(
        "[cachestream]\nport = 1\nmax_connections = 1\nread_ahead = 1\npause_after = 1"
    )
    (near / "cachestream.toml").write_text(
        "[cachestream]\nport = 2\nmax_connections = 2\nread_ahead = 2"
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CONFIG_HOME", str(tmp_path / "far"))
        configuration = load(
            settings={"port": 4},
            defaults={"port": 0, "host": "::1"},
            environ={"CACHESTREAM_PORT": "3", "CACHESTREAM_MAX_CONNECTIONS": "3"},
            directory=near,
        )
    assert configuration.settings == {
        "port": 4,
        "max_connections": 3,
        "read_ahead": 2,
        "pause_after": 1.0,
        "host": "::1",
    }
    assert configuration.origins == {
        "port": "flag",
        "max_connections": "variable CACHESTREAM_MAX_CONNECTIONS",
        "read_ahead": str(near / "cachestream.toml"),
        "pause_after": str(far / "cachestream.toml"),
        "host": "default of this command",
    }
    assert configuration.files == (near / "cachestream.toml", far / "cachestream.toml")


def test_every_setting_but_functions_can_be_written() -> None:
    """What cannot is a function, or whether there is a server at all."""
    left = {row["name"] for row in describe()} - set(ROWS)
    assert left == {
        "cache_file_resolver",
        "key",
        "on_cache_done",
        "on_stream_created",
        "start_server",
    }


def test_plugins_are_chosen_with_their_options(file: Path) -> None:
    """Options of one plug-in may come from several sources; each knows its own."""
    file.write_text(
        '[cachestream]\nstore = "objects"\ntransport = ["http", "filesystem"]\n'
        '[store.objects]\nurl = "memory://a"\npart_size = "1MiB"\n'
    )
    configuration = loaded(
        file,
        "store.objects.part_size=2MiB",
        environ={"CACHESTREAM_STORE_OBJECTS_URL": "memory://b"},
    )
    assert configuration.store == Plugin("objects", url="memory://b", part_size=2 << 20)
    assert configuration.transports == (Plugin("http"), Plugin("filesystem"))
    assert configuration.frontend == Plugin("loopback")
    assert configuration.origins == {
        "store": str(file),
        "transport": str(file),
        "store.objects.url": "variable CACHESTREAM_STORE_OBJECTS_URL",
        "store.objects.part_size": "flag",
    }


def test_a_variable_chooses_plugins_too() -> None:
    """Several transports stand in one variable with commas between."""
    configuration = loaded(
        None, environ={"CACHESTREAM_STORE": "memory", "CACHESTREAM_TRANSPORT": "http,filesystem"}
    )
    assert configuration.store == Plugin("memory")
    assert configuration.transports == (Plugin("http"), Plugin("filesystem"))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[cachestream]\nport = 99999", r"port=99999 is wrong: .* \(PATH\)\. Port to listen on"),
        ("[cachestream]\nport = 'x'", r"port='x' is wrong: a whole number is expected.* \(PATH\)"),
        ("[cachestream]\nmax_size = '5 XB'", r"max_size='5 XB' is wrong: .*5GiB.*none \(PATH\)"),
        ("[cachestream]\ntoken = 5", r"token=\*\*\* is wrong"),
        ("[cachestream]\nstore = 5", r"store must be a name \(PATH\)"),
        ("[cachestream]\nstore = ['disk', 'memory']", r"store must be one name, not disk, memory"),
        ("[cachestream]\ntransport = []", r"transport must be a name \(PATH\)"),
        ("[store.objets]\nurl = 'x'", "'objets', which is not installed. Did you mean 'objects'"),
        (
            "[cachestream]\nstore = 'objects'\n[store.objects]\nulr = 'x'",
            "the store 'objects' has no option 'ulr'. Did you mean 'url'",
        ),
        (
            "[cachestream]\nstore = 'memory'\n[store.memory]\nurl = 'x'",
            "'memory' has no option 'url'. It has no options at all",
        ),
        (
            "[cachestream]\nstore = 'objects'\n[store.objects]\npart_size = 'x'",
            r"store\.objects\.part_size='x' is wrong: .* \(PATH\)",
        ),
    ],
)
def test_errors_say_where(file: Path, text: str, message: str) -> None:
    """The error names the value, the place it was written in, and what would do."""
    file.write_text(text)
    with pytest.raises(ConfigurationError, match=message.replace("PATH", str(file))):
        loaded(file)


def test_an_unknown_plugin_is_told_when_it_is_made(file: Path) -> None:
    """Choosing imports nothing; making the manager's parts does."""
    file.write_text('[cachestream]\nstore = "dsik"\ncache_dir = "x"')
    configuration = loaded(file)
    assert configuration.get("cache_dir") == file.parent / "x"
    assert configuration.get("port") is None
    with pytest.raises(PluginNotFoundError, match="'disk'"):
        Registry("off").get("store", configuration.store.name)


@pytest.mark.asyncio
async def test_a_manager_is_made_from_a_file(file: Path) -> None:
    """The store and settings of a file are a manager's; what a program says goes first."""
    file.write_text(
        '[cachestream]\nstore = "objects"\nport = 1\nread_ahead = "64KiB"\n'
        '[store.objects]\nurl = "memory://from-a-file"\n'
    )
    made = CacheManager.from_config(file, port=0, registry=Registry("off"))
    async with made as cache:
        assert isinstance(cache.store, ObjectsStore)
        assert cache.settings.read_ahead == 64 << 10
        assert cache.base_url is not None
    with pytest.raises(ConfigurationError, match="unknown setting"):
        CacheManager.from_config(file, prot=0)


def test_a_blocking_manager_is_made_from_a_file(file: Path) -> None:
    """The door without ``await`` has the same."""
    file.write_text('[cachestream]\nstore = "disk"\n')
    with blocking.CacheManager.from_config(file, store="memory", start_server=False) as cache:
        assert not cache.has_server
        assert not cache.usage().entries


def test_a_configuration_shows_no_secret() -> None:
    """Its text has no values."""
    assert "canary" not in repr(loaded(None, settings={"token": "canary"}))
