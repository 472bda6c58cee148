"""Plug-ins are found by metadata, loaded on use, and never in the way of others."""

import importlib
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from cachestream.abc import API_VERSION, Store, Transport
from cachestream.errors import PluginConflictError, PluginLoadError, PluginNotFoundError
from cachestream.registry import BY_HAND, GROUPS, KINDS, OWN, PluginInfo, Registry

Install = Callable[..., None]

STORE = '''
from cachestream.abc import Store

class S3Store(Store):
    """Keeps bytes in a bucket.

    More about it.
    """
'''


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Install]:
    """Return a function that puts a real distribution (metadata and module) on the path."""
    monkeypatch.delenv("CACHESTREAM_PLUGINS", raising=False)
    monkeypatch.syspath_prepend(str(tmp_path))
    before = set(sys.modules)

    def make(
        distribution: str,
        entry_points: str,
        *,
        version: str = "1.2",
        modules: dict[str, str] | None = None,
    ) -> None:
        folder = tmp_path / f"{distribution.replace('-', '_')}-{version}.dist-info"
        folder.mkdir()
        (folder / "METADATA").write_text(
            f"Metadata-Version: 2.1\nName: {distribution}\nVersion: {version}\n"
        )
        (folder / "entry_points.txt").write_text(textwrap.dedent(entry_points))
        for name, code in (modules or {}).items():
            (tmp_path / f"{name}.py").write_text(code)
        importlib.invalidate_caches()

    yield make
    for name in set(sys.modules) - before:
        del sys.modules[name]


@pytest.fixture
def s3(install: Install) -> None:
    """Install a distribution with one good store called s3."""
    install(
        "cachestream-s3",
        """
        [cachestream.stores]
        s3 = fake_s3:S3Store
        """,
        modules={"fake_s3": STORE},
    )


def named(registry: Registry, name: str, distribution: str, *, load: bool = False) -> PluginInfo:
    """Return the one listed plug-in of that name and distribution."""
    (info,) = (
        info
        for info in registry.listing(load=load)
        if info.name == name and info.distribution == distribution
    )
    return info


def test_ours_are_listed_in_the_same_groups() -> None:
    """Our own back ends come through the groups that strangers use."""
    ours = {(i.kind, i.name) for i in Registry("off").listing() if i.distribution == OWN}
    assert ours >= {
        ("transport", "filesystem"),
        ("transport", "http"),
        ("transport", "mirrors"),
        ("store", "disk"),
        ("store", "memory"),
        ("store", "objects"),
        ("frontend", "loopback"),
    }


def test_groups_are_named_after_the_kinds() -> None:
    """Each kind has one group, the kind's plural."""
    assert [GROUPS[kind] for kind in KINDS] == [
        "cachestream.transports",
        "cachestream.stores",
        "cachestream.frontends",
    ]


@pytest.mark.usefixtures("s3")
def test_a_plugin_is_imported_when_its_name_is_used() -> None:
    """Making a registry and listing it import nothing; getting a name does, once."""
    registry = Registry()
    assert named(registry, "s3", "cachestream-s3").status == "ok"
    assert "fake_s3" not in sys.modules
    cls = registry.get("store", "s3")
    assert "fake_s3" in sys.modules
    assert cls is registry.get("store", "s3")
    assert issubclass(cls, Store)


@pytest.mark.usefixtures("s3")
def test_listing_says_where_a_plugin_comes_from() -> None:
    """A row has kind, name, distribution, version and target, and no docs before a load."""
    info = named(Registry(), "s3", "cachestream-s3")
    assert info == PluginInfo(
        kind="store",
        name="s3",
        distribution="cachestream-s3",
        version="1.2",
        target="fake_s3:S3Store",
    )
    assert info.qualified_name == "cachestream-s3:s3"
    assert info.origin == "cachestream-s3 1.2"


@pytest.mark.usefixtures("s3")
def test_listing_with_load_has_the_first_line_of_the_docs() -> None:
    """When asked to load, the listing has one line of docs a plug-in."""
    info = named(Registry(), "s3", "cachestream-s3", load=True)
    assert (info.status, info.doc) == ("ok", "Keeps bytes in a bucket.")


def test_an_unknown_name_brings_the_nearest_known_ones() -> None:
    """A mistyped name is answered with the names it might have been."""
    with pytest.raises(PluginNotFoundError, match=r"no store is called 'dsik'.*'disk'"):
        Registry("off").get("store", "dsik")


def test_a_name_far_from_all_brings_the_known_ones() -> None:
    """A name like no other is answered with all that are known."""
    with pytest.raises(PluginNotFoundError, match=r"Known are disk, memory"):
        Registry("off").get("store", "zzzzzz")


def test_without_our_metadata_the_error_says_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    """A copy of the package without metadata gives a clear error, not an empty list."""
    monkeypatch.setattr("cachestream.registry.distributions", lambda: iter(()))
    with pytest.raises(PluginNotFoundError, match="install the package"):
        Registry("off").get("store", "disk")


@pytest.mark.parametrize(
    ("code", "cause"),
    [
        ("import nothing_like_this", ModuleNotFoundError),
        ("raise RuntimeError('no licence')", RuntimeError),
        ("raise SystemExit(3)", SystemExit),
        ("def (", SyntaxError),
        ("Other = 1", AttributeError),
    ],
)
def test_a_broken_plugin_names_its_distribution_and_cause(
    install: Install, code: str, cause: type[BaseException]
) -> None:
    """Whatever breaks at import is chained, and the distribution and version are named."""
    install(
        "cachestream-bad",
        "[cachestream.stores]\nbad = fake_bad:BadStore\n",
        modules={"fake_bad": code},
    )
    registry = Registry()
    with pytest.raises(PluginLoadError, match=r"'bad' of cachestream-bad 1\.2") as caught:
        registry.get("store", "bad")
    assert isinstance(caught.value.__cause__, cause)
    assert named(registry, "bad", "cachestream-bad").status == "ok"
    listed = named(registry, "bad", "cachestream-bad", load=True)
    assert listed.status == "broken"
    assert listed.detail.startswith(cause.__name__)


def test_a_broken_plugin_does_not_touch_the_others(install: Install) -> None:
    """One that cannot be imported leaves every other name usable."""
    install(
        "cachestream-bad",
        "[cachestream.stores]\nbad = fake_bad:BadStore\ngood = fake_good:S3Store\n",
        modules={"fake_bad": "raise RuntimeError", "fake_good": STORE},
    )
    assert Registry().get("store", "good").__name__ == "S3Store"


@pytest.mark.parametrize("value", ["S3Store = 3", "class S3Store: pass", "def S3Store(): pass"])
def test_what_is_no_store_is_refused(install: Install, value: str) -> None:
    """An entry point that is no subclass of its interface is refused, and which is named."""
    install(
        "cachestream-odd",
        "[cachestream.stores]\nodd = fake_odd:S3Store\n",
        modules={"fake_odd": value},
    )
    with pytest.raises(PluginLoadError, match=r"no subclass of cachestream\.abc\.Store"):
        Registry().get("store", "odd")


def test_another_version_of_the_interfaces_is_refused(install: Install) -> None:
    """A plug-in made for other interfaces is refused with both versions named."""
    install(
        "cachestream-new",
        "[cachestream.stores]\nnew = fake_new:S3Store\n",
        modules={"fake_new": STORE + "    api_version = 99\n"},
    )
    with pytest.raises(PluginLoadError, match=rf"version 99 .* version {API_VERSION}") as caught:
        Registry().get("store", "new")
    assert "cachestream-new" in str(caught.value)
    assert named(Registry(), "new", "cachestream-new", load=True).status == "broken"


@pytest.fixture
def rivals(install: Install) -> None:
    """Install two distributions that both claim the store s3."""
    for name, version in (("alpha-s3", "1.0"), ("beta-s3", "2.0")):
        module = f"fake_{name[:-3]}"
        install(
            name,
            f"[cachestream.stores]\ns3 = {module}:S3Store\n",
            version=version,
            modules={module: STORE},
        )


@pytest.mark.usefixtures("rivals")
def test_two_claims_of_one_name_are_a_conflict_when_used() -> None:
    """Using a name that two distributions claim names both, with their versions."""
    with pytest.raises(PluginConflictError) as caught:
        Registry().get("store", "s3")
    for words in ("alpha-s3 1.0", "beta-s3 2.0", "'alpha-s3:s3'", "'beta-s3:s3'"):
        assert words in str(caught.value)


@pytest.mark.usefixtures("rivals")
def test_a_conflict_hurts_nobody_who_does_not_use_the_name() -> None:
    """Other names work, and the listing shows both rivals as in conflict."""
    registry = Registry()
    assert named(registry, "s3", "alpha-s3").status == "conflict"
    assert "beta-s3 2.0" in named(registry, "s3", "alpha-s3").detail
    assert named(registry, "s3", "beta-s3").status == "conflict"
    assert named(registry, "disk", OWN).status == "ok"


@pytest.mark.usefixtures("rivals")
@pytest.mark.parametrize("name", ["beta-s3:s3", "Beta_S3:s3"])
def test_a_qualified_name_resolves_a_conflict(name: str) -> None:
    """``distribution:name`` says which one is meant, however the distribution is spelt."""
    assert Registry().get("store", name).__module__ == "fake_beta"


@pytest.mark.usefixtures("rivals")
def test_limiting_the_plugins_resolves_a_conflict() -> None:
    """A name that only one enabled distribution claims is no conflict."""
    assert Registry("alpha-s3:s3").get("store", "s3").__module__ == "fake_alpha"


def test_ours_cannot_be_shadowed(install: Install) -> None:
    """A stranger's `memory` is not used for that name; written out in full it is."""
    install(
        "cachestream-evil",
        "[cachestream.transports]\nhttp = fake_evil:Evil\n",
        modules={
            "fake_evil": "from cachestream.abc import Transport\nclass Evil(Transport): pass\n"
        },
    )
    registry = Registry()
    info = named(registry, "http", "cachestream-evil")
    assert info.status == "conflict"
    assert "cachestream-evil:http" in info.detail
    assert named(registry, "http", OWN).status == "ok"
    assert registry._resolve("transport", "http").info.distribution == OWN
    assert registry.get("transport", "cachestream-evil:http").__name__ == "Evil"


@pytest.mark.usefixtures("s3")
@pytest.mark.parametrize("choice", ["off", "other", "off,other"])
def test_a_plugin_that_is_left_out_is_disabled(
    monkeypatch: pytest.MonkeyPatch, choice: str
) -> None:
    """CACHESTREAM_PLUGINS leaves strangers out, says so, and imports nothing of them."""
    monkeypatch.setenv("CACHESTREAM_PLUGINS", choice)
    registry = Registry()
    assert named(registry, "s3", "cachestream-s3", load=True).status == "disabled"
    with pytest.raises(PluginNotFoundError, match="CACHESTREAM_PLUGINS leaves it out"):
        registry.get("store", "s3")
    assert "fake_s3" not in sys.modules


@pytest.mark.usefixtures("s3")
@pytest.mark.parametrize("choice", ["", "all", "s3", " other , s3 ", "cachestream-s3:s3"])
def test_a_plugin_that_is_chosen_can_be_used(monkeypatch: pytest.MonkeyPatch, choice: str) -> None:
    """CACHESTREAM_PLUGINS may name plug-ins, plainly or in full; unset or empty means all."""
    monkeypatch.setenv("CACHESTREAM_PLUGINS", choice)
    assert Registry().get("store", "s3").__name__ == "S3Store"


@pytest.mark.parametrize("choice", ["off", "other"])
def test_ours_always_stay(choice: str) -> None:
    """Limiting the plug-ins never leaves out our own."""
    assert named(Registry(choice), "memory", OWN).status == "ok"


class Fake(Transport):
    """A transport registered by hand."""


def test_a_class_can_be_registered_by_hand() -> None:
    """A registered class is got by its name and listed."""
    registry = Registry("off")
    registry.register("transport", "fake", Fake)
    assert registry.get("transport", "fake") is Fake
    assert named(registry, "fake", BY_HAND, load=True).doc == "A transport registered by hand."


def test_registration_belongs_to_one_registry() -> None:
    """What one registry was given is unknown to another."""
    Registry("off").register("transport", "fake", Fake)
    with pytest.raises(PluginNotFoundError):
        Registry("off").get("transport", "fake")


@pytest.mark.usefixtures("s3")
def test_a_registered_class_goes_before_a_discovered_one() -> None:
    """A program's own choice wins over what happens to be installed."""

    class MyStore(Store):
        """Mine."""

    registry = Registry()
    registry.register("store", "s3", MyStore)
    assert registry.get("store", "s3") is MyStore
    assert registry.get("store", "cachestream-s3:s3").__name__ == "S3Store"


def test_registering_one_of_our_names_is_refused() -> None:
    """Nobody replaces a built-in, by hand neither."""
    with pytest.raises(PluginConflictError, match="'http' cannot be registered"):
        Registry("off").register("transport", "http", Fake)


def test_registering_twice_is_refused() -> None:
    """A second class under one name is a mistake, not a replacement."""
    registry = Registry("off")
    registry.register("transport", "fake", Fake)
    with pytest.raises(PluginConflictError):
        registry.register("transport", "fake", Fake)


def test_registering_another_kind_is_refused() -> None:
    """A transport is no store."""
    with pytest.raises(PluginLoadError, match="no subclass"):
        Registry("off").register("store", "fake", Fake)


def test_metadata_that_cannot_be_parsed_is_left_aside(
    install: Install, caplog: pytest.LogCaptureFixture
) -> None:
    """A stranger's malformed metadata costs that distribution only, and is logged."""
    install("broken-metadata", "[cachestream.stores]\nno equals sign\n")
    registry = Registry()
    assert named(registry, "memory", OWN).status == "ok"
    assert "broken-metadata" in caplog.text


def test_the_first_of_two_installed_copies_counts(install: Install) -> None:
    """One distribution found twice on the path is one distribution."""
    for version in ("1.0", "1.1"):
        install(
            "cachestream-twice", "[cachestream.stores]\ntwice = fake_t:S3Store\n", version=version
        )
    assert named(Registry(), "twice", "cachestream-twice").status == "ok"


def test_the_listing_is_sorted() -> None:
    """Rows come by kind, then by name."""
    rows = [(KINDS.index(i.kind), i.name) for i in Registry("off").listing()]
    assert rows == sorted(rows)
