"""The doctor finds what is wrong with a plug-in, and touches nothing of its user's."""

import inspect
import json
import re
import subprocess
import sys
from pathlib import Path

import attrs
import pytest

from cachestream.backends import DiskStore
from cachestream.errors import ConfigurationError, PluginConflictError, PluginNotFoundError
from cachestream.registry import Registry
from cachestream.testing import FrontendContract, StoreContract, TransportContract
from cachestream.testing.doctor import Check, Order, diagnose, find_plugin
from cachestream.testing.doctor._quick import LEFT_OUT
from cachestream.testing.doctor._scratch import remove, scratch_values

# Each starts several processes, on a machine that may be busy.
pytestmark = pytest.mark.timeout(400)

GOOD = ["loads", "subclass", "api_version", "options", "configured", "made", "offers", "contract"]

PROJECT = """
[build-system]
requires = ["hatchling"]
build-backend = "hatchling.build"

[project]
name = "cachestream-shelves"
version = "1.5"

[project.entry-points."cachestream.stores"]
shelf = "shelves:ShelfStore"
zeros = "shelves:ZerosStore"
forgetful = "shelves:ForgetfulStore"
stuck = "shelves:StuckStore"
bucket = "shelves:BucketStore"
full = "shelves:FullStore"
hooked = "shelves:HookedStore"
old = "shelves:OldStore"
partial = "shelves:PartialStore"
function = "shelves:function"
missing = "shelves_missing:Store"
hanging = "shelves_hanging:Store"
exiting = "shelves_exiting:Store"
both = "shelves:ShelfStore"

[project.entry-points."cachestream.transports"]
following = "shelves:FollowingTransport"
odd = "shelves:OddTransport"
both = "shelves:OddTransport"

[tool.hatch.build.targets.wheel]
only-include = ["shelves.py", "shelves_missing.py", "shelves_hanging.py", "shelves_exiting.py"]
"""

SHELVES = '''
import asyncio, os, sys
from pathlib import Path
import attrs
from cachestream.abc import Store, StoreCapabilities, Transport
from cachestream.backends import DiskStore, MemoryMedium, MemoryStore
from cachestream.errors import InvalidURLError
from cachestream.transports import HttpTransport

os.write(1, b"printed by a plug-in\\n")
print("and once more")

@attrs.frozen(kw_only=True)
class ShelfOptions:
    path: Path = attrs.field(metadata={"help": "where the shelf is"})
    token: str = attrs.field(default="hunter2", metadata={"help": "a key", "secret": True})
    span_size: int = attrs.field(default=1024, metadata={"unit": "bytes"})

class ShelfStore(DiskStore):
    """Keeps entries on a shelf."""
    Options = ShelfOptions
    @classmethod
    def from_settings(cls, settings, options):
        return cls(options.path, max_size=settings.max_size, min_free=0)

class ZerosStore(MemoryStore):
    async def create(self, *args, **kw):
        entry = await super().create(*args, **kw)
        async def read(span):
            return entry.read_nowait(span) or bytes(len(span))
        entry.read = read
        return entry

class ForgetfulStore(MemoryStore):
    """Says that it is persistent, and keeps all in this process alone."""
    places = {}
    def __init__(self, place, **kw):
        super().__init__(self.places.setdefault(str(place), MemoryMedium()), **kw)
    @classmethod
    def from_settings(cls, settings):
        return cls(settings.cache_dir, max_size=settings.max_size)

class StuckStore(MemoryStore):
    async def select(self, key):
        await asyncio.Event().wait()

@attrs.frozen(kw_only=True)
class BucketOptions:
    bucket: str = attrs.field(metadata={"help": "name of the bucket"})

class BucketStore(MemoryStore):
    Options = BucketOptions
    @classmethod
    def from_settings(cls, settings, options):
        return cls(max_size=settings.max_size)

class FullStore(DiskStore):
    """Takes no notice of where it is told to be."""
    @classmethod
    def from_settings(cls, settings):
        return cls(Path(os.environ["SHELF"]), max_size=settings.max_size, min_free=0)

class HookedStore(DiskStore):
    @attrs.frozen(kw_only=True)
    class Options:
        bucket: str
    @classmethod
    def from_settings(cls, settings, options):
        root = Path(os.environ["SHELF"]) / options.bucket
        return cls(root, max_size=settings.max_size, min_free=0)
    @classmethod
    def scratch_options(cls, values, token):
        return {**values, "bucket": token.replace("/", "-")}

class OldStore(MemoryStore):
    api_version = 0

class PartialStore(Store):
    async def select(self, key):
        return ()

def function():
    pass

class FollowingTransport(HttpTransport):
    async def fetch(self, request):
        response = await super().fetch(request)
        location = response.fields.get("location")
        if response.status == 302:
            await response.aclose()
            origin = "/".join(request.url.split("/")[:3])
            return await super().fetch(attrs.evolve(request, url=origin + location))
        return response

class OddTransport(Transport):
    schemes = frozenset({"odd"})
    async def fetch(self, request):
        raise InvalidURLError("nothing is served", url=request.url)
    async def aclose(self):
        pass
'''

MODULES = {
    "shelves": SHELVES,
    "shelves_missing": "import a_library_that_is_not_there\n",
    "shelves_hanging": "import time\ntime.sleep(600)\n",
    "shelves_exiting": "import os, sys\nprint('no licence', file=sys.stderr)\nos._exit(3)\n",
}


@pytest.fixture(scope="session")
def target(tmp_path_factory):
    """Build and install a distribution into a directory of its own."""
    project = tmp_path_factory.mktemp("project")
    folder = tmp_path_factory.mktemp("target")
    (project / "pyproject.toml").write_text(PROJECT)
    for name, code in MODULES.items():
        (project / f"{name}.py").write_text(code)
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-index", "--no-deps"]
    command += ["--no-build-isolation", "--disable-pip-version-check"]
    subprocess.run([*command, "--target", str(folder), str(project)], check=True, timeout=100)
    return folder


@pytest.fixture
def shelves(target, monkeypatch):
    """Let this process, and those it starts, see that distribution."""
    monkeypatch.setenv("CACHESTREAM_PLUGINS", "all")
    monkeypatch.syspath_prepend(str(target))


async def examined(name, tmp_path, *options, timeout=60.0, url=None, config="none"):
    """Examine a plug-in; return its checks by name."""
    info = find_plugin(Registry(), name)
    directory = tmp_path / "doctor"
    directory.mkdir()
    order = Order(
        kind=info.kind, name=name, target=info.target, directory=str(directory),
        token="cachestream-doctor-0123", config=config, options=options, url=url,
    )  # fmt: skip
    return {check.name: check async for check in diagnose(order, timeout=timeout)}


def assert_well(checks):
    """Make sure that every check went well, and that the contract was more than a formality."""
    assert [name for name in checks if name != "removed"] == GOOD
    assert {check.status for check in checks.values()} == {"ok"}, checks
    assert checks["contract"].facts["kept"] >= 13


# -- ours -----------------------------------------------------------------------


@pytest.mark.asyncio
@pytest.mark.slow
@pytest.mark.parametrize("name", ["http", "mirrors", "filesystem", "loopback"])
async def test_our_transports_and_frontends_are_well(name, tmp_path):
    """Made by their names, they keep the quick part of their contracts."""
    assert_well(await examined(name, tmp_path))


@pytest.mark.asyncio
@pytest.mark.slow
@pytest.mark.parametrize("name", ["disk", "memory", "objects"])
async def test_our_stores_are_well_and_stay_in_their_own_place(name, tmp_path, monkeypatch):
    """Made by their names, they keep their promises; the configured place is as it was."""
    real = tmp_path / "real"
    monkeypatch.setenv("CACHESTREAM_CACHE_DIR", str(real))
    options = [f"store.objects.url=file://{real}/objects"] if name == "objects" else []
    (real / "objects").mkdir(parents=True)
    checks = await examined(name, tmp_path, *options)
    assert_well(checks)
    assert checks["offers"].facts["capabilities"]["persistent"] is (name != "memory")
    assert [path.name for path in real.rglob("*")] == ["objects"]


# -- a stranger's -----------------------------------------------------------------


@pytest.mark.asyncio
@pytest.mark.slow
async def test_a_strangers_good_store_is_well(shelves, tmp_path):
    """A store of another distribution works at a directory of its own, with its options shown."""
    real = tmp_path / "shelf"
    file = tmp_path / "cachestream.toml"
    file.write_text(f'[store.shelf]\npath = "{real}"\ntoken = "t0psecret"\n')
    checks = await examined("shelf", tmp_path, config=str(file))
    assert_well(checks)
    assert not real.exists()
    assert checks["configured"].facts["given"] == ["path", "token"]
    rows = {row["name"]: row for row in checks["options"].facts["options"]}
    assert rows["path"]["required"]
    assert (rows["span_size"]["unit"], rows["span_size"]["default"]) == ("bytes", 1024)
    told = json.dumps([attrs.asdict(check) for check in checks.values()])
    assert "hunter2" not in told
    assert "t0psecret" not in told


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("name", "check", "reason"),
    [
        ("missing", "loads", "No module named 'a_library_that_is_not_there'"),
        ("exiting", "loads", "no licence"),
        ("function", "subclass", "no subclass of cachestream.abc.Store"),
        ("partial", "subclass", "are missing: aclose, create, delete"),
        ("old", "api_version", "made for version 0 of the interfaces"),
        ("shelf", "made", "needs the option 'path'. Where the shelf is"),
    ],
)
async def test_what_is_wrong_is_told_where_it_shows(shelves, tmp_path, name, check, reason):
    """The check that fails says why; those after it are not reached."""
    checks = await examined(name, tmp_path)
    assert list(checks) == GOOD
    assert checks[check].status == "failed"
    assert reason in checks[check].detail
    place = GOOD.index(check)
    assert {checks[each].status for each in GOOD[:place]} <= {"ok"}
    assert {checks[each].status for each in GOOD[place + 1 :]} == {"not reached"}


@pytest.mark.asyncio
async def test_wrong_options_are_told(shelves, tmp_path):
    """A value that does not fit is told with its option, and a secret one is not repeated."""
    checks = await examined("shelf", tmp_path, "store.shelf.span_size=much")
    assert checks["configured"].status == "failed"
    assert "store.shelf.span_size" in checks["configured"].detail


@pytest.mark.asyncio
async def test_a_plugin_that_hangs_has_a_time_limit(shelves, tmp_path):
    """An import that never ends is a failed check."""
    checks = await examined("hanging", tmp_path, timeout=3.0)
    assert checks["loads"] == Check(name="loads", status="failed", detail="not done after 3 s")


@pytest.mark.asyncio
@pytest.mark.slow
async def test_a_promise_that_hangs_is_named(shelves, tmp_path):
    """A contract that does not go on says in which test."""
    checks = await examined("stuck", tmp_path, timeout=20.0)
    assert checks["contract"].status == "failed"
    assert re.match(r"not done after 20 s: test_\w+: \w", checks["contract"].detail)


@pytest.mark.asyncio
@pytest.mark.slow
async def test_a_store_that_reads_holes_as_zeros_is_found(shelves, tmp_path):
    """The broken promise is named in one line, with the test that found it."""
    checks = await examined("zeros", tmp_path)
    contract = checks["contract"]
    assert contract.status == "failed"
    assert "\n" not in contract.detail
    broken = {each["test"]: each for each in contract.facts["broken"]}
    hole = broken["test_a_hole_is_never_read_as_zeros"]
    assert hole["promise"].startswith("Reading a span with a hole raises")
    assert "NotStoredError" in hole["reason"]
    assert contract.detail.startswith(f"broken: {contract.facts['broken'][0]['promise']}")


@pytest.mark.asyncio
@pytest.mark.slow
async def test_a_store_that_loses_bytes_when_it_is_killed_is_found(shelves, tmp_path):
    """A store that keeps all promises but one, which only another process shows."""
    checks = await examined("forgetful", tmp_path)
    (broken,) = checks["contract"].facts["broken"]
    assert broken["test"] == "test_committed_bytes_survive_a_killed_process"
    assert "had committed before it was killed is there and right" in checks["contract"].detail


@pytest.mark.asyncio
@pytest.mark.slow
async def test_a_transport_that_follows_redirects_is_found(shelves, tmp_path):
    """The contract of transports is run against an origin on this machine."""
    checks = await examined("following", tmp_path)
    broken = {each["test"] for each in checks["contract"].facts["broken"]}
    assert "test_redirects_are_not_followed" in broken


@pytest.mark.asyncio
async def test_a_store_without_a_place_of_its_own_is_not_run(shelves, tmp_path):
    """What is needed is said; nothing is stored in a bucket that is somebody's."""
    checks = await examined("bucket", tmp_path, "store.bucket.bucket=films")
    assert checks["made"].status == "ok"
    assert checks["contract"].status == "failed"
    assert "an option `prefix`, `url` or `path`" in checks["contract"].detail


@pytest.mark.asyncio
async def test_a_place_that_is_not_empty_is_left_alone(shelves, tmp_path, monkeypatch):
    """A store that takes no notice of where it is told to be is not run where entries are."""
    monkeypatch.setenv("SHELF", str(tmp_path / "real"))
    async with DiskStore(tmp_path / "real", min_free=0) as store:
        for number in range(3):
            await _put(store, f"https://example.com/{number}")
        before = await store.records()
    checks = await examined("full", tmp_path)
    assert checks["contract"].status == "failed"
    assert "its own place is not empty" in checks["contract"].detail
    assert checks["contract"].facts["kept"] == 0
    async with DiskStore(tmp_path / "real", min_free=0) as store:
        assert await store.records() == before


async def _put(store, source):
    from cachestream.testing.stores._places import published

    await published(store, b"real bytes", key=source, source=source)


@pytest.mark.asyncio
@pytest.mark.slow
async def test_a_store_may_say_how_it_is_placed(shelves, tmp_path, monkeypatch):
    """A class method gives it a bucket of its own; the configured one is not touched."""
    monkeypatch.setenv("SHELF", str(tmp_path / "real"))
    checks = await examined("hooked", tmp_path, "store.hooked.bucket=films")
    assert_well(checks)
    names = {path.name.partition("-0123")[0] for path in (tmp_path / "real").iterdir()}
    assert names == {"cachestream-doctor"}


@pytest.mark.asyncio
async def test_a_transport_of_other_schemes_needs_something_to_read(shelves, tmp_path):
    """What cannot be made up is asked for."""
    checks = await examined("odd", tmp_path)
    assert checks["contract"].status == "failed"
    assert "for URLs of odd: name one with --url" in checks["contract"].detail


@pytest.mark.asyncio
async def test_what_a_transport_shall_read_can_be_named(shelves, tmp_path):
    """With a URL the transport is asked for that, and for nothing else."""
    file = tmp_path / "film.mp4"
    file.write_bytes(bytes(range(256)) * 100)
    option = "transport.filesystem.allow_file=yes"
    checks = await examined("filesystem", tmp_path, option, url=f"file://localhost{file}")
    assert_well(checks)


@pytest.mark.asyncio
async def test_without_pytest_the_extra_is_named(tmp_path, monkeypatch):
    """All but the last check work without it, and that says what to install."""
    shadow = tmp_path / "shadow"
    shadow.mkdir()
    (shadow / "sitecustomize.py").write_text(
        "import importlib.util as u\n"
        "find = u.find_spec\n"
        "u.find_spec = lambda name, *rest: None if name == 'pytest' else find(name, *rest)\n"
    )
    monkeypatch.syspath_prepend(str(shadow))
    checks = await examined("memory", tmp_path)
    assert checks["offers"].status == "ok"
    assert checks["contract"].status == "failed"
    assert "pip install 'cachestream[testing]'" in checks["contract"].detail


# -- finding ----------------------------------------------------------------------


def test_a_name_may_be_of_several_kinds(shelves):
    """Then the kind must be said."""
    with pytest.raises(ConfigurationError, match="--kind"):
        find_plugin(Registry(), "both")
    assert find_plugin(Registry(), "both", "transport").target == "shelves:OddTransport"


def test_a_name_may_be_unknown_or_left_out(shelves, monkeypatch):
    """What is like it is named, and what left it out."""
    with pytest.raises(PluginNotFoundError, match="Did you mean 'shelf'"):
        find_plugin(Registry(), "shelv")
    with pytest.raises(PluginNotFoundError, match="lists what is installed"):
        find_plugin(Registry(), "xyzzy", "store")
    with pytest.raises(PluginNotFoundError, match="CACHESTREAM_PLUGINS leaves it out"):
        find_plugin(Registry("off"), "shelf")
    assert find_plugin(Registry(), "cachestream_shelves:shelf").version == "1.5"


def test_a_name_may_be_claimed_twice(shelves, tmp_path, monkeypatch):
    """Then the distribution must be said."""
    folder = tmp_path / "rival-1.0.dist-info"
    folder.mkdir()
    (folder / "METADATA").write_text("Metadata-Version: 2.1\nName: rival\nVersion: 1.0\n")
    (folder / "entry_points.txt").write_text("[cachestream.stores]\nshelf = rival:Store\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(PluginConflictError, match="'rival:shelf'"):
        find_plugin(Registry(), "shelf")
    assert find_plugin(Registry(), "rival:shelf").target == "rival:Store"


# -- places -----------------------------------------------------------------------


def store_with(**options):
    """Return a class with these options, by name: type or (type, default)."""
    fields = {
        name: attrs.field(type=kind[0], default=kind[1]) if isinstance(kind, tuple)
        else attrs.field(type=kind)
        for name, kind in options.items()
    }  # fmt: skip
    return type("Store", (), {"Options": attrs.make_class("Options", fields, kw_only=True)})


@pytest.mark.parametrize(
    ("options", "values", "expected"),
    [
        ({"prefix": (str, "")}, {}, {"prefix": "TOKEN/"}),
        ({"prefix": (str, "a/")}, {}, {"prefix": "a/TOKEN/"}),
        ({"prefix": (str, "films")}, {}, {"prefix": "films/TOKEN"}),
        ({"prefix": str, "bucket": str}, {"bucket": "b"}, {"bucket": "b", "prefix": "TOKEN/"}),
        ({"url": str}, {"url": "s3://b/c/"}, {"url": "s3://b/c/TOKEN"}),
        ({"url": str, "prefix": (str, "")}, {"url": "x:"}, {"url": "x:", "prefix": "TOKEN/"}),
        ({"root": Path}, {"root": Path("/real")}, {"root": Path("/scratch/TOKEN")}),
        ({"path": (str, "x")}, {}, {"path": "/scratch/TOKEN"}),
        ({"level": (int, 3)}, {}, {}),
    ],
)  # fmt: skip
def test_a_place_of_its_own_is_made_of_the_options(options, values, expected):
    """Only what says where entries lie is changed."""
    assert scratch_values(store_with(**options), values, Path("/scratch"), "TOKEN") == expected


@pytest.mark.parametrize(
    ("options", "values"),
    [({"bucket": str}, {"bucket": "b"}), ({"url": str}, {}), ({"host": (str, "")}, {"host": "a"})],
)
def test_without_such_an_option_there_is_no_place(options, values):
    """It is refused to guess where a store might be."""
    with pytest.raises(ConfigurationError):
        scratch_values(store_with(**options), values, Path("/scratch"), "TOKEN")


def test_a_folder_that_cannot_be_removed_is_told():
    """What is left is named."""
    assert remove({"path": "/x"}) is None
    assert remove({"url": "memory://nothing-there"}) is None
    told = remove({"url": "no-such-scheme://user:secret@host/folder"})
    assert "folder is left" in told
    assert "secret" not in told


# -- what is left out ---------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "contract"),
    [("store", StoreContract), ("transport", TransportContract), ("frontend", FrontendContract)],
)
def test_what_is_left_out_is_there(kind, contract):
    """Every test that the doctor leaves out is one of the contract."""
    assert [name for name in LEFT_OUT[kind] if not hasattr(contract, name)] == []


def test_no_test_that_needs_a_back_door_is_run():
    """Whatever crashes a place, or looks behind a store's back, is left out."""
    needing = {
        name
        for name, test in inspect.getmembers(StoreContract, inspect.isfunction)
        if name.startswith("test_")
        and re.search(r"place\.(crash|raw)|Run\(|_comes_back_empty", inspect.getsource(test))
    }
    assert needing == set(LEFT_OUT["store"])
