"""The file system of fsspec, against a real origin in a thread."""

import asyncio
import io
import itertools
import os
import pickle
import random
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import fsspec
import pytest
from fsspec.asyn import get_loop, sync

from cachestream.errors import ConfigurationError
from cachestream.fsspec import DEFAULTS, CachestreamFile, CachestreamFileSystem, close_caches
from cachestream.testing.origin import OriginThread, pattern

KIB = 1024
MIB = 1024 * KIB
PATIENCE_S = 60.0

Open = Callable[..., CachestreamFileSystem]


@pytest.fixture
def origin() -> Iterator[OriginThread]:
    """Run an origin for one test."""
    with OriginThread() as running:
        yield running


@pytest.fixture
def options(tmp_path: Path) -> Iterator[dict[str, Any]]:
    """Return options for a cache of the test's own, closed afterwards."""
    yield {
        "cache_dir": str(tmp_path / "cache"),
        "min_free": 0,
        "retry_delay": 0.01,
        "max_retry_delay": 0.05,
        "error_ttl": 0.0,
    }
    close_caches()
    CachestreamFileSystem.clear_instance_cache()


@pytest.fixture
def filesystem(options: dict[str, Any]) -> Open:
    """Make file systems on that cache, with some options changed."""
    return lambda **changes: fsspec.filesystem("cachestream", **{**options, **changes})


def union(spans: list[tuple[int, int]]) -> int:
    """Return how many different bytes the spans have."""
    return len(set().union(*(range(*span) for span in spans)))


# -- files --------------------------------------------------------------------


def test_the_chain_opens_a_file(origin: OriginThread, options: dict[str, Any]) -> None:
    """`cachestream::http://…` opens a file that reads, seeks, tells and knows its size."""
    data = pattern("chain", 3 * MIB)
    origin.add("/a.bin", data)
    with fsspec.open("cachestream::" + origin.url("/a.bin"), cachestream=options) as file:
        assert file.size == 3 * MIB
        assert file.read(100) == data.bytes(0, 100)
        assert file.tell() == 100
        assert file.seek(-10, os.SEEK_END) == 3 * MIB - 10
        assert file.read() == data.bytes(3 * MIB - 10, 3 * MIB)
        assert file.read(5) == b""
        buffer = bytearray(1000)
        file.seek(MIB)
        assert file.readinto(buffer) == 1000
        assert buffer == data.bytes(MIB, MIB + 1000)
        assert file.seek(-500, os.SEEK_CUR) == MIB + 500
    with pytest.raises(ValueError, match="closed"):
        file.read(1)


def test_a_file_behaves_as_one_in_memory(origin: OriginThread, filesystem: Open) -> None:
    """Any order of reads, lines and seeks gives what it gives with `io.BytesIO`."""
    dice = random.Random(7)
    lines = [b"x" * dice.choice((0, 3, 90, 5000, 70_000)) for _ in range(60)]
    data = b"\n".join(lines)
    origin.add("/lines.txt", data)
    model = io.BytesIO(data)
    with filesystem().open(origin.url("/lines.txt")) as file:
        for _ in range(300):
            size = dice.choice((-1, 0, 1, 100, 10_000, 200_000)) if dice.random() < 0.9 else None
            match dice.randrange(4):
                case 0:
                    assert file.read(size) == model.read(size)
                case 1 | 2:
                    assert file.readline(size) == model.readline(size)
                case _:
                    place = dice.randrange(len(data) + 10)
                    assert file.seek(place) == model.seek(place)
            assert file.tell() == model.tell()
        file.seek(0)
        assert list(file) == data.splitlines(keepends=True)


def test_text_is_decoded(origin: OriginThread, options: dict[str, Any]) -> None:
    """fsspec's text mode works on top."""
    origin.add("/t.txt", "grün\nund blau\n".encode())
    with fsspec.open("cachestream::" + origin.url("/t.txt"), "rt", cachestream=options) as file:
        assert file.readlines() == ["grün\n", "und blau\n"]


def test_scattered_reads_fetch_what_they_ask_for(origin: OriginThread, filesystem: Open) -> None:
    """Reads here and there cost just their bytes, and none twice."""
    data = pattern("scattered", 8 * MIB)
    origin.add("/a.bin", data)
    reads = [(5 * MIB, 1000), (0, 10), (7 * MIB, 70_000), (MIB, 1), (5 * MIB + 500, 1000)]
    with filesystem().open(origin.url("/a.bin")) as file:
        for _ in range(2):
            for start, size in reads:
                file.seek(start)
                assert file.read(size) == data.bytes(start, start + size)
    assert origin.bytes_sent() == union([(start, start + size) for start, size in reads])


def test_reading_on_reads_ahead(origin: OriginThread, filesystem: Open) -> None:
    """Small reads in sequence cost few requests, and no byte twice."""
    data = pattern("sequence", 4 * MIB)
    origin.add("/a.bin", data)
    with filesystem().open(origin.url("/a.bin")) as file:
        for start in range(0, 4 * MIB, 8 * KIB):
            assert file.read(8 * KIB) == data.bytes(start, start + 8 * KIB)
    assert origin.bytes_sent() == 4 * MIB
    assert origin.count() < 40


def test_a_file_of_unknown_length(origin: OriginThread, filesystem: Open) -> None:
    """Without a length a file can be read and sought, but not from its end."""
    data = pattern("unknown", 300_000)
    origin.add("/a.bin", data, framing="chunked", ranges=False, head=True)
    fs = filesystem()
    with fs.open(origin.url("/a.bin")) as file:
        with pytest.raises(io.UnsupportedOperation):
            file.seek(0, os.SEEK_END)
        file.seek(200_000)
        assert file.read(10) == data.bytes(200_000, 200_010)
        file.seek(0)
        assert file.read() == data.bytes(0, 300_000)
    assert fs.cat_file(origin.url("/a.bin"), 1000, 2000) == data.bytes(1000, 2000)


def test_two_versions_are_never_mixed_in_a_file(origin: OriginThread, filesystem: Open) -> None:
    """An open file fails once the origin has another version; opened anew it reads that."""
    old, new = pattern("old", 4 * MIB), pattern("new", 4 * MIB)
    served = origin.add("/a.bin", old)
    fs = filesystem()
    with fs.open(origin.url("/a.bin")) as file:
        assert file.read(100) == old.bytes(0, 100)
        served.change(new, etag='"v2"')
        for place in (2 * MIB, 3 * MIB):
            file.seek(place)
            with pytest.raises(OSError, match="version"):
                file.read(100)
    with fs.open(origin.url("/a.bin")) as file:
        assert file.read() == new.bytes(0, 4 * MIB)


# -- bytes without a file -------------------------------------------------------


@pytest.mark.parametrize(
    ("start", "end"),
    [
        (None, None),
        (0, 10),
        (10, None),
        (-10, None),
        (-20, -10),
        (100, -100),
        (None, -5),
        (50, 50),
        (60, 50),
        (999_990, 2_000_000),
        (1_000_000, None),
        (5_000_000, 6_000_000),
    ],
)
def test_cat_file_is_a_slice(
    origin: OriginThread, filesystem: Open, start: int | None, end: int | None
) -> None:
    """`cat_file` gives what a slice of the content gives, whatever its bounds."""
    data = pattern("slice", 1_000_000).bytes(0, 1_000_000)
    origin.add("/a.bin", data)
    assert filesystem().cat_file(origin.url("/a.bin"), start, end) == data[start:end]


def test_cat_ranges_are_fetched_together(origin: OriginThread, filesystem: Open) -> None:
    """Many ranges at once are right, cost what they ask for and small gaps, and nothing twice."""
    data = pattern("ranges", 6 * MIB)
    origin.add("/a.bin", data)
    dice = random.Random(3)
    starts = dice.sample(range(0, 6 * MIB - 50_000, 64 * KIB), 40)
    spans = [(start, start + dice.randrange(1, 50_000)) for start in starts]
    url = origin.url("/a.bin")
    fs = filesystem()
    for _ in range(2):
        got = fs.cat_ranges([url] * 40, [a for a, _ in spans], [b for _, b in spans])
        assert got == [data.bytes(*span) for span in spans]
    near = DEFAULTS["range_request_split_threshold"]
    pairs = itertools.pairwise(sorted(spans))
    gaps = [(a, b) for (_, a), (b, _) in pairs if 0 < b - a < near]
    assert union(spans) <= origin.bytes_sent() <= union(spans + gaps)


def test_ranges_of_files_that_nothing_is_known_of(origin: OriginThread, filesystem: Open) -> None:
    """More ranges than connections, asked for before anything is known, cost just their bytes.

    Whoever asked first may be told last: the others must not end its download to get theirs.
    """
    data = pattern("unknown files", 2 * MIB)
    spans = [(start, start + 10_000) for start in range(0, 2 * MIB, 64 * KIB)]
    fs = filesystem(range_request_split_threshold=0)
    for number in range(8):
        origin.add(f"/{number}.bin", data)
        url = origin.url(f"/{number}.bin")
        got = fs.cat_ranges([url] * len(spans), [a for a, _ in spans], [b for _, b in spans])
        assert got == [data.bytes(*span) for span in spans]
        assert origin.bytes_sent(f"/{number}.bin") == union(spans)


def test_cat_ranges_returns_errors_in_their_places(origin: OriginThread, filesystem: Open) -> None:
    """One file that is missing does not spoil the others."""
    origin.add("/a.bin", b"abcdef")
    urls = [origin.url("/a.bin"), origin.url("/missing")]
    first, second = filesystem().cat_ranges(urls, [1, 1], [3, 3])
    assert first == b"bc"
    assert isinstance(second, FileNotFoundError)


def test_threads_share_downloads(origin: OriginThread, filesystem: Open) -> None:
    """Readers in many threads get the right bytes, and each byte is fetched once."""
    data = pattern("threads", 2 * MIB)
    origin.add("/a.bin", data)
    fs, url = filesystem(), origin.url("/a.bin")
    wrong: list[int] = []

    def read(number: int) -> None:
        with fs.open(url) as file:
            if file.read() != data.bytes(0, 2 * MIB):
                wrong.append(number)

    threads = [threading.Thread(target=read, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE_S)
    assert not wrong
    assert origin.bytes_sent() == 2 * MIB


# -- facts ----------------------------------------------------------------------


def test_info_tells_what_the_origin_tells(origin: OriginThread, filesystem: Open) -> None:
    """Name, size, type, entity tag and media type are there; asking costs no content."""
    origin.add("/a.csv", b"1,2\n", etag='"e"', content_type="text/csv; charset=utf-8")
    fs, url = filesystem(), origin.url("/a.csv")
    info = fs.info(url)
    assert (info["name"], info["size"], info["type"]) == (url, 4, "file")
    assert (info["etag"], info["mimetype"]) == ('"e"', "text/csv")
    assert fs.modified(url).timestamp() == info["mtime"]
    assert fs.exists(url)
    assert fs.isfile(url)
    assert not fs.isdir(url)
    assert fs.ls(url, detail=False) == [url]
    assert origin.bytes_sent() == 0


def test_the_key_follows_the_version(origin: OriginThread, filesystem: Open) -> None:
    """`ukey` is stable for one version, and another for the next."""
    served = origin.add("/a.bin", b"one", etag='"1"')
    fs, url = filesystem(validation="always"), origin.url("/a.bin")
    key = fs.ukey(url)
    assert fs.ukey(url) == key
    close_caches()
    served.change(b"two", etag='"2"')
    assert fs.ukey(url) != key


def test_names_keep_their_slash() -> None:
    """A URL is taken as it is, with or without the prefix."""
    for prefix in ("", "cachestream::", "cachestream://"):
        path = CachestreamFileSystem._strip_protocol(prefix + "https://example.com/a/")
        assert path == "https://example.com/a/"


def test_headers_of_the_inner_options_are_sent(
    origin: OriginThread, options: dict[str, Any]
) -> None:
    """The `headers` of `http` go to the origin with every request, beside the setting's."""
    origin.add("/a.bin", b"abc", require=lambda r: None if "x-key" in r.fields else 403)
    chained = "cachestream::" + origin.url("/a.bin")
    own = {**options, "request_headers": {"X-Own": "1"}}
    with fsspec.open(chained, cachestream=own, http={"headers": {"X-Key": "2"}}) as file:
        assert file.read() == b"abc"
    assert {(r.fields.get("x-own"), r.fields.get("x-key")) for r in origin.requests} == {("1", "2")}


# -- errors ---------------------------------------------------------------------


def test_what_is_missing_is_not_found(origin: OriginThread, filesystem: Open) -> None:
    """404 is `FileNotFoundError` from every method, and `exists` says no."""
    fs, url = filesystem(), origin.url("/missing")
    for call in (fs.open, fs.cat_file, fs.info, fs.ukey, fs.ls):
        with pytest.raises(FileNotFoundError):
            call(url)
    assert not fs.exists(url)
    assert not fs.isfile(url)


@pytest.mark.parametrize(
    ("status", "kind"), [(410, FileNotFoundError), (403, PermissionError), (401, PermissionError)]
)
def test_refusals_have_their_kind(
    origin: OriginThread, filesystem: Open, status: int, kind: type[OSError]
) -> None:
    """What the origin says decides the kind of `OSError`."""
    origin.add("/a.bin", b"abc").fail(status)
    with pytest.raises(kind):
        filesystem().cat_file(origin.url("/a.bin"))


def test_offline_is_not_missing(origin: OriginThread, filesystem: Open) -> None:
    """Offline serves what is held; the rest is an `OSError`, never taken for a missing file."""
    data = pattern("offline", MIB)
    origin.add("/a.bin", data)
    url = origin.url("/a.bin")
    filesystem().cat_file(url, 0, 1000)
    close_caches()
    fs = filesystem(offline=True)
    assert fs.cat_file(url, 0, 1000) == data.bytes(0, 1000)
    for call in (lambda: fs.cat_file(url, 5000, 6000), lambda: fs.exists(origin.url("/b.bin"))):
        with pytest.raises(OSError, match="offline") as caught:
            call()
        assert not isinstance(caught.value, FileNotFoundError)


def test_an_origin_that_is_gone_is_a_connection_error(
    origin: OriginThread, filesystem: Open
) -> None:
    """A refused connection is a `ConnectionError`, and no reason to say that nothing exists."""
    with OriginThread() as other:
        url = other.url("/a.bin")
    fs = filesystem()
    with pytest.raises(ConnectionError):
        fs.cat_file(url)
    with pytest.raises(ConnectionError):
        fs.exists(url)


@pytest.mark.parametrize("mode", ["wb", "ab", "xb", "r+b"])
def test_it_only_reads(filesystem: Open, mode: str) -> None:
    """Opening to write fails at once, and says why."""
    with pytest.raises(NotImplementedError, match="only reads"):
        filesystem().open("https://example.com/a", mode)


def test_wrong_options_are_named(filesystem: Open) -> None:
    """An unknown or wrong setting, and a protocol that is no HTTP, fail when the system is made."""
    for wrong in ({"cache_dri": "x"}, {"max_size": -1}, {"target_protocol": "s3"}):
        with pytest.raises(ConfigurationError, match=r"cache_dri|max_size|s3"):
            filesystem(**wrong)


# -- instances and processes ------------------------------------------------------


def test_instances_are_pickled_by_their_arguments(origin: OriginThread, filesystem: Open) -> None:
    """What comes out of a pickle is the same instance, and an open file reads on."""
    data = pattern("pickle", 100_000)
    origin.add("/a.bin", data)
    fs = filesystem()
    assert pickle.loads(pickle.dumps(fs)) is fs
    assert filesystem() is fs
    with fs.open(origin.url("/a.bin")) as file:
        file.seek(1000)
        with pickle.loads(pickle.dumps(file)) as other:
            assert isinstance(other, CachestreamFile)
            assert other.read(10) == data.bytes(1000, 1010)


def test_settings_decide_what_is_shared(origin: OriginThread, filesystem: Open) -> None:
    """Instances with different arguments share a cache; what one fetched the other has."""
    data = pattern("shared", 100_000)
    origin.add("/a.bin", data)
    first = filesystem()
    second = filesystem(target_protocol="http", target_options={"headers": {"X-A": "b"}})
    assert first is not second
    first.cat_file(origin.url("/a.bin"))
    assert second.cat_file(origin.url("/a.bin")) == data.bytes(0, 100_000)
    assert origin.bytes_sent() == 100_000


def test_other_loops_can_use_it(origin: OriginThread, options: dict[str, Any]) -> None:
    """Coroutines work in a loop of one's own; so do files for event loops."""
    data = pattern("loops", MIB)
    origin.add("/a.bin", data)
    url = origin.url("/a.bin")

    async def main() -> None:
        fs = fsspec.filesystem("cachestream", asynchronous=True, **options)
        got = await fs._cat_ranges([url] * 3, [0, 10, 500_000], [10, 30, 500_100])
        assert got == [data.bytes(0, 10), data.bytes(10, 30), data.bytes(500_000, 500_100)]
        async with await fs.open_async(url) as file:
            await file.seek(-5, os.SEEK_END)
            assert await file.read() == data.bytes(MIB - 5, MIB)
            await file.seek(0)
            assert await file.read() == data.bytes(0, MIB)
            assert file.tell() == MIB
        with pytest.raises(ValueError, match="closed"):
            await file.read(1)
        with pytest.raises(FileNotFoundError):
            await fs.open_async(origin.url("/missing"))

    asyncio.run(main())
    assert origin.bytes_sent("/a.bin") == MIB


def test_a_file_survives_the_end_of_its_cache(origin: OriginThread, filesystem: Open) -> None:
    """After `close_caches` open files read on, and nothing is fetched anew."""
    data = pattern("survives", MIB)
    origin.add("/a.bin", data)
    with filesystem().open(origin.url("/a.bin")) as file:
        assert file.read(MIB // 2) == data.bytes(0, MIB // 2)
        close_caches()
        assert file.read() == data.bytes(MIB // 2, MIB)
        file.seek(0)
        assert file.read() == data.bytes(0, MIB)
    assert origin.bytes_sent() == MIB


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_fork_in_the_middle_of_a_read(origin: OriginThread, filesystem: Open) -> None:
    """A read that waits in another thread while the process forks gets its bytes afterwards."""
    data = pattern("fork", MIB)
    gate = origin.call(asyncio.Event)
    origin.add("/a.bin", data).stall(1000, times=1, gate=gate)
    fs, url = filesystem(), origin.url("/a.bin")
    got: list[bytes] = []
    reading = threading.Thread(target=lambda: got.append(fs.cat_file(url)))
    reading.start()
    origin.wait_request(1, "/a.bin")
    child = os.fork()
    if child == 0:
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    origin.call(gate.set)
    reading.join(PATIENCE_S)
    assert got == [data.bytes(0, MIB)]


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_fork_inside_the_loop_is_refused(origin: OriginThread, filesystem: Open) -> None:
    """Where open caches cannot be closed before a fork, the child fails and uses none."""
    origin.add("/a.bin", b"abc")
    fs, url = filesystem(), origin.url("/a.bin")
    fs.cat_file(url)

    async def fork() -> int:
        child = os.fork()
        if child == 0:
            code = 1
            try:
                fs.cat_file(url)
            except OSError as error:
                code = 42 if "forked" in str(error) else 2
            finally:
                os._exit(code)
        return child

    child = sync(get_loop(), fork)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 42
    assert fs.cat_file(url) == b"abc"


def test_caches_are_not_closed_from_their_own_loop(origin: OriginThread, filesystem: Open) -> None:
    """`close_caches` in fsspec's loop would wait for itself: it says so."""
    origin.add("/a.bin", b"abc")
    filesystem().cat_file(origin.url("/a.bin"))

    async def close() -> None:
        close_caches()

    with pytest.raises(RuntimeError, match="event loop"):
        sync(get_loop(), close)


PROGRAM = """
import sys, fsspec
url, cache = sys.argv[1:]
fs = fsspec.filesystem("cachestream", cache_dir=cache, min_free=0)
file = fs.open(url)
assert len(file.read(100_000)) == 100_000
fs.cat_file(url, 500_000, None)
"""


def test_the_end_of_a_process_is_quiet(origin: OriginThread, options: dict[str, Any]) -> None:
    """A program that closes nothing ends without a word, and what it read is kept."""
    origin.add("/a.bin", pattern("quiet", MIB))
    url = origin.url("/a.bin")
    for _ in range(2):
        done = subprocess.run(
            [sys.executable, "-W", "error", "-c", PROGRAM, url, options["cache_dir"]],
            capture_output=True,
            text=True,
            timeout=PATIENCE_S,
            check=False,
        )
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
        assert origin.bytes_sent() == 100_000 + MIB - 500_000


def test_fsspec_finds_it_by_its_entry_point() -> None:
    """The name is in the group from which fsspec reads, and leads to the class."""
    (found,) = entry_points(group="fsspec.specs", name="cachestream")
    assert found.load() is CachestreamFileSystem
    assert fsspec.get_filesystem_class("cachestream") is CachestreamFileSystem
