"""Data libraries and worker processes read through the cache; the origin counts what it sends."""

import gc
import io
import multiprocessing
import zipfile
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from operator import methodcaller
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zarr
from zarr.storage import FsspecStore, LocalStore

from cachestream.fsspec import CachestreamFileSystem, close_caches
from cachestream.testing.origin import OriginThread, pattern

KIB = 1024
MIB = 1024 * KIB
PATIENCE_S = 60.0

METHODS = sorted({"fork", "spawn"} & set(multiprocessing.get_all_start_methods()))


@pytest.fixture
def origin() -> Iterator[OriginThread]:
    """Run an origin for one test."""
    with OriginThread() as running:
        yield running


@pytest.fixture
def options(tmp_path: Path) -> Iterator[dict[str, Any]]:
    """Return options for a cache of the test's own, closed afterwards."""
    yield {"cache_dir": str(tmp_path / "cache"), "min_free": 0}
    close_caches()
    CachestreamFileSystem.clear_instance_cache()


def serve_folder(origin: OriginThread, folder: Path, at: str) -> None:
    """Serve every file of a folder."""
    for path in folder.rglob("*"):
        if path.is_file():
            origin.add(f"{at}/{path.relative_to(folder).as_posix()}", path.read_bytes())


# -- worker processes -----------------------------------------------------------


def read_in_pool(method: str, calls: list[methodcaller], target: Any) -> list[Any]:
    """Make each call on ``target`` in one of two new processes."""
    context = multiprocessing.get_context(method)
    with ProcessPoolExecutor(2, mp_context=context) as pool:
        running = [pool.submit(call, target) for call in calls]
        return [each.result(PATIENCE_S) for each in running]


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_worker_processes_share_a_cache(
    origin: OriginThread, options: dict[str, Any], method: str
) -> None:
    """Workers read right, fetch each byte at most once each, and keep it for all that follow.

    The parent has the cache open when it forks, and goes on with it afterwards.
    """
    data = pattern("pool", 2 * MIB)
    origin.add("/a.bin", data)
    fs, path = fsspec.core.url_to_fs("cachestream::" + origin.url("/a.bin"), cachestream=options)
    calls = [methodcaller("cat_file", path, 0, 2 * MIB)] * 2
    with fs.open(path) as file:
        assert file.read(1000) == data.bytes(0, 1000)
        if method == "spawn":
            close_caches()  # one process at a time writes an entry; a fork does this by itself
        assert read_in_pool(method, calls, fs) == [data.bytes(0, 2 * MIB)] * 2
        assert origin.bytes_sent("/a.bin") <= 2 * 2 * MIB
        assert file.read(1000) == data.bytes(1000, 2000)
        assert fs.cat_file(path) == data.bytes(0, 2 * MIB)
    close_caches()
    origin.reset_log()
    assert read_in_pool(method, calls, fs) == [data.bytes(0, 2 * MIB)] * 2
    assert origin.bytes_sent("/a.bin") == 0


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_workers_read_files_of_their_own(
    origin: OriginThread, options: dict[str, Any], method: str
) -> None:
    """Where each file has one reader, all workers together fetch each byte once, for good."""
    files = {f"/{n}.bin": pattern(f"own {n}", 300 * KIB) for n in range(8)}
    for path, data in files.items():
        origin.add(path, data)
    fs = fsspec.filesystem("cachestream", **options)
    calls = [methodcaller("cat_file", origin.url(path)) for path in files]
    for _ in range(2):
        assert read_in_pool(method, calls, fs) == [d.bytes(0, 300 * KIB) for d in files.values()]
        assert origin.bytes_sent() == 8 * 300 * KIB


# -- Parquet ----------------------------------------------------------------------


@pytest.fixture
def table() -> pa.Table:
    """Return a table of eight columns that do not compress."""
    dice = np.random.default_rng(1)
    return pa.table({f"c{n}": dice.random(100_000) for n in range(8)})


@pytest.fixture
def parquet(table: pa.Table) -> bytes:
    """Return it as a Parquet file of four row groups, some 6 MB."""
    file = io.BytesIO()
    pq.write_table(table, file, row_group_size=25_000, use_dictionary=False, compression="none")
    return file.getvalue()


def test_pandas_fetches_the_columns_it_reads(
    origin: OriginThread, options: dict[str, Any], table: pa.Table, parquet: bytes
) -> None:
    """One column of eight costs well under a quarter of the file; read again, nothing."""
    origin.add("/t.parquet", parquet)
    for _ in range(2):
        frame = pd.read_parquet(
            "cachestream::" + origin.url("/t.parquet"),
            columns=["c3"],
            storage_options={"cachestream": options},
        )
        assert np.array_equal(frame["c3"], table["c3"])
        assert 100_000 * 8 <= origin.bytes_sent() < len(parquet) / 4
        close_caches()


def test_pyarrow_reads_columns_and_row_groups(
    origin: OriginThread, options: dict[str, Any], table: pa.Table, parquet: bytes
) -> None:
    """A column of a row group costs its part; the whole table afterwards only what is missing."""
    origin.add("/t.parquet", parquet)
    fs, path = fsspec.core.url_to_fs(
        "cachestream::" + origin.url("/t.parquet"), cachestream=options
    )
    with fs.open(path) as file:
        part = pq.ParquetFile(file).read_row_group(2, columns=["c5"])
    assert part["c5"].to_pylist() == table["c5"][50_000:75_000].to_pylist()
    assert origin.bytes_sent() < len(parquet) / 8
    assert pq.read_table(path, filesystem=fs).equals(table)
    assert origin.bytes_sent() <= len(parquet)


# -- zarr ---------------------------------------------------------------------------


def test_zarr_reads_an_array(origin: OriginThread, options: dict[str, Any], tmp_path: Path) -> None:
    """A zarr array comes back as written, chunk by chunk, and no chunk is fetched twice."""
    values = np.random.default_rng(2).random((400, 400))
    written = zarr.create_array(
        LocalStore(tmp_path / "zarr"), shape=(400, 400), chunks=(100, 100), dtype="f8", fill_value=0
    )
    written[:300] = values[:300]  # the last chunks are missing, which stands for zeros
    serve_folder(origin, tmp_path / "zarr", "/z")
    store = FsspecStore.from_url(
        "cachestream::" + origin.url("/z"), storage_options={"cachestream": options}, read_only=True
    )
    array = zarr.open_array(store, mode="r")
    assert np.array_equal(array[0:50, 0:250], values[0:50, 0:250])
    assert sum("/c/" in path for path in sent(origin)) == 3
    for _ in range(2):
        assert np.array_equal(array[:300], values[:300])
        assert not array[300:].any()
    assert sorted(path for path in sent(origin) if "/c/" in path) == sorted(
        f"/z/c/{i}/{j}" for i in range(3) for j in range(4)
    )


def test_zarr_reads_shards_by_ranges(
    origin: OriginThread, options: dict[str, Any], tmp_path: Path
) -> None:
    """A few chunks of a shard cost their ranges and the shard's index, not the shard."""
    values = np.random.default_rng(3).integers(0, 1 << 60, (512, 512))
    written = zarr.create_array(
        LocalStore(tmp_path / "zarr"),
        shape=(512, 512),
        chunks=(64, 64),
        shards=(512, 512),
        dtype="i8",
        compressors=None,
    )
    written[:] = values
    serve_folder(origin, tmp_path / "zarr", "/z")
    store = FsspecStore.from_url(
        "cachestream::" + origin.url("/z"), storage_options={"cachestream": options}, read_only=True
    )
    array = zarr.open_array(store, mode="r")
    assert np.array_equal(array[100:110, 100:110], values[100:110, 100:110])
    assert origin.bytes_sent("/z/c/0/0") < values.nbytes / 8
    assert np.array_equal(array[:], values)
    assert origin.bytes_sent("/z/c/0/0") <= values.nbytes + 10 * KIB


def sent(origin: OriginThread) -> list[str]:
    """Return the path of each request that was answered with content of the file."""
    return [each.path for each in origin.requests if each.status in (200, 206) and each.bytes_sent]


# -- archives -------------------------------------------------------------------------


def test_a_member_of_a_zip_is_read_alone(origin: OriginThread, options: dict[str, Any]) -> None:
    """`zip://…::cachestream::http://…` fetches the directory, the member and a read-ahead."""
    members = {f"m{n}.bin": pattern(f"zip {n}", 500_000).bytes(0, 500_000) for n in range(8)}
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    origin.add("/a.zip", packed.getvalue())
    url = "zip://m5.bin::cachestream::" + origin.url("/a.zip")
    with fsspec.open(url, cachestream=options) as file:
        assert file.read() == members["m5.bin"]
    assert origin.bytes_sent() < 500_000 + MIB + 10 * KIB


# -- beside fsspec's own caches ---------------------------------------------------------

SIZE = 32 * MIB


def tail_and_scattered(file: Any) -> list[bytes]:
    """Read as a columnar reader does: the end, then ten places, then one of them again."""
    got = []
    for start, size in [
        (SIZE - 64 * KIB, 64 * KIB),
        *((n * 3 * MIB + 12_345, 100 * KIB) for n in range(10)),
        (12_345, 100 * KIB),
    ]:
        file.seek(start)
        got.append(file.read(size))
    return got


def measure(
    origin: OriginThread, protocol: str, options: dict[str, Any], inner: dict[str, Any]
) -> list[int]:
    """Return how many bytes were fetched by a first and by a second opening of the file."""
    fetched = []
    expected = None
    for _ in range(2):
        origin.reset_log()
        url = f"{protocol}::" + origin.url("/a.bin")
        with fsspec.open(url, "rb", **{protocol: options}, http=inner) as file:
            got = tail_and_scattered(file)
        assert expected in (None, got)
        expected = got
        fetched.append(origin.bytes_sent())
    assert expected is not None
    assert expected[-1] == pattern("beside", SIZE).bytes(12_345, 12_345 + 100 * KIB)
    return fetched


@pytest.mark.parametrize(
    ("other", "inner"),
    [
        ("blockcache", {}),
        ("blockcache", {"block_size": 256 * KIB}),
        ("blockcache", {"block_size": MIB}),
        ("filecache", {}),
        ("simplecache", {}),
    ],
)
@pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning")  # theirs
def test_fewer_bytes_than_the_caches_of_fsspec(
    origin: OriginThread,
    options: dict[str, Any],
    tmp_path: Path,
    other: str,
    inner: dict[str, Any],
    record_property: Callable[[str, object], None],
) -> None:
    """The same reads cost what they ask for here, more there, and nothing the second time."""
    origin.add("/a.bin", pattern("beside", SIZE))
    theirs = measure(origin, other, {"cache_storage": str(tmp_path / other)}, inner)
    gc.collect()  # while their warning is ignored
    ours = measure(origin, "cachestream", options, {})
    record_property(f"{other} {inner}", theirs)
    record_property("cachestream", ours)
    assert ours == [64 * KIB + 10 * 100 * KIB, 0]
    assert theirs[0] > ours[0]
