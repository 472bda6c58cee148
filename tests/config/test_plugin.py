"""Plug-ins are chosen by name with options, which their own classes check."""

from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import attrs
import pytest

from cachestream.abc import Store
from cachestream.backends import MemoryStore
from cachestream.config import Plugin, describe_options, make_options, make_plugin
from cachestream.errors import ConfigurationError, PluginNotFoundError
from cachestream.registry import Registry
from cachestream.settings import Settings


def _short(instance: object, attribute: object, value: str) -> None:
    if len(value) > 8:
        raise ValueError("a bucket has a short name")


@attrs.frozen(kw_only=True)
class Options:
    """Options of every type."""

    bucket: str = attrs.field(validator=_short, metadata={"help": "where it is"})
    secret: str | None = attrs.field(default=None, metadata={"secret": True})
    part_size: int = attrs.field(default=4096, metadata={"unit": "bytes", "help": "of one part"})
    timeout: float = attrs.field(default=1.0, metadata={"unit": "seconds"})
    flat: bool = False
    root: Path = Path()
    style: Literal["path", "host"] = "path"
    zones: tuple[str, ...] = ()
    tags: Mapping[str, str] = attrs.field(factory=dict)


class Bucket(MemoryStore):
    """A store with options."""

    Options = Options

    def __init__(self, options: Options) -> None:
        super().__init__()
        self.options = options

    @classmethod
    def from_settings(cls, settings: Settings, options: Options) -> "Bucket":  # type: ignore[override]
        return cls(options)


@pytest.fixture
def registry() -> Registry:
    """Return a registry with a store that has options."""
    registry = Registry("off")
    registry.register("store", "bucket", Bucket)
    return registry


def made(registry: Registry, **options: object) -> Options:
    """Return the options a plug-in was made with."""
    store = make_plugin(registry, "store", Plugin("bucket", **options), Settings())
    assert isinstance(store, Bucket)
    return store.options


def test_options_come_in_their_types(registry: Registry) -> None:
    """Text is read as the option's type says; what has the type stays."""
    options = made(
        registry, bucket="films", part_size="1MiB", timeout="2m", flat="yes", zones="a b", root="x"
    )
    assert options == Options(
        bucket="films",
        part_size=1 << 20,
        timeout=120.0,
        flat=True,
        zones=("a", "b"),
        root=Path("x"),
    )
    assert made(registry, bucket="b", tags={"a": "b"}).tags == {"a": "b"}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, r"store\.bucket needs the option 'bucket'\. Where it is"),
        ({"bucket": "b", "part_siz": 1}, r"no option 'part_siz'\. Did you mean 'part_size'\?"),
        ({"bucket": "b", "xyz": 1}, r"no option 'xyz'\. Its options are: bucket, flat"),
        ({"bucket": 3}, r"store\.bucket\.bucket=3 is wrong: a text is expected"),
        ({"bucket": "b", "part_size": "big"}, "part_size='big' is wrong: .* Of one part"),
        ({"bucket": "b", "style": "x"}, "one of path, host"),
        (
            {"bucket": "much too long"},
            "the options of store.bucket are wrong: a bucket has a short",
        ),
    ],
)
def test_wrong_options_are_told(
    registry: Registry, options: dict[str, object], message: str
) -> None:
    """The error names the plug-in and the option, and says what would do."""
    with pytest.raises(ConfigurationError, match=message):
        made(registry, **options)


def test_a_secret_is_in_no_error_and_no_repr(registry: Registry) -> None:
    """Neither a wrong secret nor a good one is ever shown."""
    with pytest.raises(ConfigurationError) as caught:
        made(registry, bucket="b", secret=["canary"])
    assert "canary" not in str(caught.value)
    assert "canary" not in repr(Plugin("bucket", secret="canary"))


def test_a_plugin_without_options_takes_none() -> None:
    """Options that nobody reads are an error, not silence."""
    with pytest.raises(ConfigurationError, match="'memory' takes no options, but was given size"):
        make_plugin(Registry("off"), "store", Plugin("memory", size=3), Settings())


def test_a_plugin_must_be_there(registry: Registry) -> None:
    """An unknown name is answered with the nearest."""
    with pytest.raises(PluginNotFoundError, match="Did you mean 'bucket'"):
        make_plugin(registry, "store", Plugin("buckett"), Settings())


def test_a_plugin_without_from_settings_is_called(registry: Registry) -> None:
    """A class that needs nothing may be as simple as that."""

    class Simple(MemoryStore):
        from_settings = None  # type: ignore[assignment]

    registry.register("store", "simple", Simple)
    assert isinstance(make_plugin(registry, "store", Plugin("simple"), Settings()), Simple)


def test_options_are_described() -> None:
    """Each has its type, default, help and unit; a class without options has none."""
    rows = {row.name: row for row in describe_options(Bucket)}
    assert rows["bucket"].required
    assert not rows["part_size"].required
    assert (rows["part_size"].default, rows["part_size"].unit) == (4096, "bytes")
    assert rows["secret"].secret
    assert rows["tags"].default == {}
    assert describe_options(Store) == ()


def test_relative_paths_start_where_they_were_written() -> None:
    """An option's path starts from the base that is given."""
    options = make_options(Bucket, {"bucket": "b", "root": "x"}, "store.bucket", base=Path("/etc"))
    assert options.root == Path("/etc/x")


def test_plugins_are_values() -> None:
    """Two with the same name and options are equal."""
    assert Plugin("a", b=1) == Plugin("a", b=1)
    assert Plugin("a", b=1) != Plugin("a", b=2)
    assert Plugin("a") != "a"
    assert len({Plugin("a"), Plugin("a")}) == 1
