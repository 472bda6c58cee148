"""The disk store keeps every promise of a store."""

import asyncio
import os
import resource
import shutil
import signal
import subprocess
import sys
import textwrap

import pytest

from cachestream.abc import Key, Store
from cachestream.backends import DiskStore, _writer
from cachestream.core.spans import Span
from cachestream.errors import ClosedError, EntryNotFoundError, StoreBusyError, StoreFullError
from cachestream.settings import Settings
from cachestream.testing.stores import StoreContract


class DiskPlace:
    """A directory, and the stores opened at it."""

    def __init__(self, root, **options):
        self.root = root
        self.options = options
        self.stores: list[DiskStore] = []

    async def open(self, *, max_size: int | None = None) -> Store:
        store = DiskStore(self.root, max_size=max_size, min_free=0, **self.options)
        self.stores.append(store)
        return store

    async def crash(self) -> None:
        for store in self.stores:
            await store.abandon()

    def raw(self, entry_id: str) -> "RawFile":
        return RawFile(self.root / "data" / entry_id)


class RawFile:
    """The bytes of a data file."""

    def __init__(self, path):
        self.path = path

    def read(self, span: Span) -> bytes:
        with self.path.open("rb") as file:
            file.seek(span.start)
            return file.read(len(span))

    def corrupt(self, position: int) -> None:
        with self.path.open("r+b") as file:
            file.seek(position)
            (old,) = file.read(1)
            file.seek(position)
            file.write(bytes([old ^ 1]))


class TestDiskStore(StoreContract):
    """By default, committed bytes survive the process."""

    @pytest.fixture
    def place(self, tmp_path):
        return DiskPlace(tmp_path / "cache")


class TestDiskStoreWithPower(StoreContract):
    """With syncing, all promises hold as well."""

    @pytest.fixture
    def place(self, tmp_path):
        return DiskPlace(tmp_path / "cache", durability="power")


class TestDiskStoreOnSlowDisk(StoreContract):
    """With every write made by a thread and served from its backlog, all promises hold."""

    @pytest.fixture
    def place(self, tmp_path, monkeypatch):
        monkeypatch.setattr(_writer, "_SLOW_S", -1.0)
        monkeypatch.setattr(_writer, "_LARGE", 0)
        return DiskPlace(tmp_path / "cache", high_water=100_000)


CHILD = """
    import asyncio, random, sys
    from pathlib import Path
    from cachestream.abc import Key
    from cachestream.backends import DiskStore
    from cachestream.core.representation import Representation

    async def main(root, seed, durability):
        store = DiskStore(Path(root), min_free=0, durability=durability)
        data = random.Random(int(seed)).randbytes(20_000_000)
        key = Key("https://example.com/" + seed)
        entry = await store.create(key, key, Representation(complete_length=len(data)))
        await entry.publish()
        chance = random.Random(seed + "c")
        writers = [entry.writer(start) for start in (0, 7_000_001, 15_000_000)]
        stops = [7_000_001, 15_000_000, len(data)]
        print(entry.entry_id, flush=True)
        while True:
            number = chance.randrange(3)
            writer, stop = writers[number], stops[number]
            size = chance.choice([10, 5000, 65536, 262144])
            piece = data[writer.position : min(stop, writer.position + size)]
            if not writer.write(piece):
                await writer.drain()
            if chance.random() < 0.05:
                held = entry.spans.total
                await writer.commit()
                print(held, flush=True)
            if entry.spans.total == len(data):
                await writer.commit()
                print(entry.spans.total, flush=True)
                await asyncio.Event().wait()
            await asyncio.sleep(0)

    asyncio.run(main(*sys.argv[1:]))
"""


def child(root, seed, durability="process"):
    """Start a process that writes and commits until it is killed."""
    code = textwrap.dedent(CHILD)
    return subprocess.Popen(
        [sys.executable, "-c", code, str(root), str(seed), durability], stdout=subprocess.PIPE
    )


@pytest.mark.asyncio
@pytest.mark.slow
@pytest.mark.parametrize("seed", range(4))
async def test_a_killed_process_leaves_what_it_committed(shelf, seed):
    """After kill -9 in the middle of writing, every span the index claims is there and right."""
    process = child(shelf.root, seed, "power" if seed % 2 else "process")
    entry_id = process.stdout.readline().decode().strip()
    committed = 0
    for _ in range(3 + seed * 2):
        committed = int(process.stdout.readline())
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdout.close()
    data = shelf.data(20_000_000, seed)
    store = shelf.store()
    entry = await store.open(entry_id)
    assert entry.writable
    assert entry.spans.total >= committed > 0
    for span in list(entry.spans):
        assert await entry.read(span) == data[span.start : span.stop]
    usage = await store.usage()
    path = store.path_of(entry_id)
    assert usage.allocated_bytes == path.stat().st_blocks * 512


@pytest.mark.asyncio
@pytest.mark.slow
async def test_two_processes_share_one_root(shelf):
    """While one process writes an entry, another reads what is committed and writes its own."""
    process = child(shelf.root, 7)
    try:
        entry_id = process.stdout.readline().decode().strip()
        committed = int(process.stdout.readline())
        store = shelf.store()
        entry = await store.open(entry_id)
        assert not entry.writable
        with pytest.raises(StoreBusyError):
            entry.writer(0)
        data = shelf.data(20_000_000, 7)
        for span in list(entry.spans):
            assert await entry.read(span) == data[span.start : span.stop]
        mine = await shelf.put(store, shelf.data(300_000, 1))
        assert await (await store.open(mine)).read(Span(0, 300_000)) == shelf.data(300_000, 1)
        assert (await store.usage()).entries == 2
        await entry.aclose()
    finally:
        process.kill()
        process.wait()
        process.stdout.close()
    entry = await store.open(entry_id)
    assert entry.writable
    assert committed > 0


@pytest.mark.asyncio
async def test_a_file_size_limit_is_a_full_store(shelf):
    """What the system does not let a file hold is refused, and nothing of it is stored."""
    entry = await shelf.create(shelf.store(), None)
    writer = entry.writer(0)
    writer.write(b"x" * 5000)
    old = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, old[1]))
    try:
        with pytest.raises(StoreFullError):
            writer.write(b"y" * 500_000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, old)
    assert list(entry.spans) == [Span(0, 5000)]


@pytest.fixture
def small_disk(tmp_path):
    """Return a mounted file system of 2 MiB; without the right to mount, None."""
    path = tmp_path / "small"
    path.mkdir(mode=0o700)
    mount = shutil.which("mount")
    command = [mount, "-t", "tmpfs", "-o", "size=2m,mode=700", "tmpfs", str(path)]
    if os.geteuid() or mount is None or subprocess.run(command, check=False).returncode:
        yield None
        return
    yield path
    subprocess.run(["umount", "-l", str(path)], check=True)


@pytest.mark.asyncio
async def test_a_disk_that_is_full_loses_nothing_that_was_stored(shelf, small_disk, monkeypatch):
    """When the disk is full the write raises, and what was committed is there after a restart."""
    shelf.root = (small_disk or shelf.root) / "cache"
    shelf.root.parent.mkdir(exist_ok=True)
    if small_disk is None:
        pwrite = os.pwrite

        def full(descriptor, data, position):
            if position > 1_000_000:
                raise OSError(28, "No space left on device")
            return pwrite(descriptor, data, position)

        monkeypatch.setattr(os, "pwrite", full)
    data = shelf.data(4_000_000)
    store = shelf.store()
    entry = await shelf.create(store, len(data))
    await entry.publish()
    writer = entry.writer(0)

    async def fill():
        for start in range(0, len(data), 100_000):
            writer.write(data[start : start + 100_000])
            await asyncio.sleep(0)

    with pytest.raises(StoreFullError):
        await fill()
    held = entry.spans.total
    assert held >= 500_000
    assert await entry.read(Span(0, held)) == data[:held]
    await store.abandon()
    store = shelf.store()
    entry = await store.open(entry.entry_id)
    for span in list(entry.spans):
        assert await entry.read(span) == data[span.start : span.stop]
    await entry.aclose()
    await store.delete(entry.entry_id)
    await store.aclose()


@pytest.mark.asyncio
async def test_path_of_says_where_the_data_is(shelf):
    """The path of a published entry is within the root, and nothing is said of others."""
    store = shelf.store()
    with pytest.raises(ClosedError):
        store.path_of("0" * 32)
    entry_id = await shelf.put(store, b"abc")
    path = store.path_of(entry_id)
    assert path == shelf.root / "data" / entry_id
    assert path.read_bytes() == b"abc"
    for name in ("0" * 32, "../../etc/passwd"):
        with pytest.raises(EntryNotFoundError):
            store.path_of(name)


@pytest.mark.asyncio
async def test_settings_make_a_store(tmp_path):
    """Directory, limits, durability and backlog come from the settings."""
    settings = Settings(
        cache_dir=tmp_path / "c", max_size=7_000_000, min_free=0, durability="power"
    )
    async with DiskStore.from_settings(settings) as store:
        assert (await store.usage()).limit_bytes == 7_000_000
        assert (tmp_path / "c" / "data").is_dir()
        assert store.capabilities.persistent
        assert await store.select(Key("k")) == ()


@pytest.mark.asyncio
async def test_a_damaged_entry_is_a_miss_and_gives_its_room_back(shelf):
    """An entry whose head is unreadable is not listed, and its file goes."""
    store = shelf.store()
    entry_id = await shelf.put(store, b"abc")
    index = store._host.catalog.index

    def damage():
        with index.transaction():
            index.put(f"e:{entry_id}", b"nonsense")

    await store._host.in_index(damage)
    assert await store.select(shelf.key) == ()
    usage = await store.usage()
    assert (usage.entries, usage.allocated_bytes) == (0, 0)
    assert list((shelf.root / "data").iterdir()) == []
    await shelf.put(store, b"new")
    assert len(await store.select(shelf.key)) == 1
