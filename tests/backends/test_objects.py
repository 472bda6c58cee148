"""The objects store keeps every promise of a store, on more than one filesystem."""

import asyncio
import itertools
import json
import random
import re
import socket
import subprocess
import sys
import threading
from pathlib import Path

import fsspec
import pytest
from fsspec.implementations.memory import MemoryFileSystem

from cachestream import CacheManager, Settings
from cachestream.abc import Key, Store
from cachestream.backends import ObjectsStore
from cachestream.core.representation import Representation
from cachestream.core.spans import Span
from cachestream.errors import (
    ConfigurationError,
    EntryNotFoundError,
    StoreCorruptError,
    StoreError,
    StoreFullError,
)
from cachestream.testing import SwiftServer
from cachestream.testing.origin import Origin, OriginThread, pattern
from cachestream.testing.stores import StoreContract

KIB = 1024
MIB = 1024 * KIB
SOURCE = "https://example.com/a.mp4"
KEY = Key(SOURCE)
DAY_S = 86_400.0
PATIENCE_S = 45.0
NUMBERS = itertools.count()


class ObjectsPlace:
    """A folder on a filesystem, and the stores opened at it.

    The back door goes another way where the store's own way is a server.
    """

    def __init__(self, url, *, back_door=None, back_options=None, **options):
        self.url, self.options = url, options
        self.back_door = back_door or url
        self.back_options = back_options or {}
        self.stores: list[ObjectsStore] = []

    def door(self):
        """Return a filesystem of this test's own, and the folder there."""
        fs, root = fsspec.core.url_to_fs(self.back_door, **self.back_options)
        return fs, root.rstrip("/")

    def store(self, **options):
        """Return a new store here."""
        store = ObjectsStore(self.url, **{**self.options, **options})
        self.stores.append(store)
        return store

    async def open(self, *, max_size: int | None = None) -> Store:
        return self.store(max_size=max_size)

    async def crash(self) -> None:
        for store in self.stores:
            await store.abandon()

    def files(self, folder=""):
        """Return the paths of all objects, without the help of a store."""
        fs, root = self.door()
        prefix = f"{root}/"
        try:
            return sorted(path.removeprefix(prefix) for path in fs.find(prefix + folder))
        except FileNotFoundError:
            return []

    def get(self, name):
        """Return the content of an object."""
        fs, root = self.door()
        return fs.cat_file(f"{root}/{name}")

    def put(self, name, data):
        """Write an object behind the store's back."""
        fs, root = self.door()
        path = f"{root}/{name}"
        fs.makedirs(path.rpartition("/")[0], exist_ok=True)
        fs.pipe_file(path, data)

    def remove(self, name):
        """Remove an object behind the store's back."""
        fs, root = self.door()
        fs.rm_file(f"{root}/{name}")

    def record(self, entry_id):
        """Return the name and the content of an entry's record."""
        names = [name for name in self.files("records") if f"/{entry_id}." in name]
        return names[-1], json.loads(self.get(names[-1]))

    def raw(self, entry_id: str) -> "RawObjects":
        return RawObjects(self, entry_id)


class RawObjects:
    """The objects of an entry."""

    def __init__(self, place, entry_id):
        self.place, self.entry_id = place, entry_id

    def at(self, position):
        """Return start and name of the object that has a byte."""
        for start, stop, digest, nonce, _, live in self.place.record(self.entry_id)[1]["parts"]:
            if any(first <= position < last for first, last in live):
                return start, f"data/{self.entry_id}/{start}-{stop}-{digest}.{nonce}"
        raise AssertionError(f"byte {position} is in no object")

    def read(self, span: Span) -> bytes:
        data, position = b"", span.start
        while position < span.stop:
            start, name = self.at(position)
            data += self.place.get(name)[position - start : span.stop - start]
            position = span.start + len(data)
        return data

    def corrupt(self, position: int) -> None:
        start, name = self.at(position)
        data = bytearray(self.place.get(name))
        data[position - start] ^= 1
        self.place.put(name, bytes(data))


def memory_place(**options):
    """Return a new place in memory."""
    return ObjectsPlace(f"memory://objects-{next(NUMBERS)}", **options)


class TestObjectsInMemory(StoreContract):
    """With objects as large as they are by default."""

    @pytest.fixture
    def place(self):
        return memory_place()


class TestObjectsInFiles(StoreContract):
    """With small objects, so that most entries have many."""

    @pytest.fixture
    def place(self, tmp_path):
        return ObjectsPlace(f"file://{tmp_path}/cache", part_size=64 * KIB)


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """Run an FTP server; return its URL and its directory."""
    root = tmp_path_factory.mktemp("ftp")
    command = [sys.executable, "-m", "pyftpdlib", "-i", "127.0.0.1", "-p", "0", "-w"]
    command += ["-d", str(root), "-u", "user", "-P", "secret"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        found = None
        while found is None:
            line = process.stderr.readline()
            assert line, "the server ended"
            found = re.search(r"starting FTP server on 127\.0\.0\.1:(\d+)", line)
        drain = threading.Thread(target=process.stderr.read)
        drain.start()
        yield f"ftp://127.0.0.1:{found[1]}", root
        process.terminate()
        drain.join()


class TestObjectsOverFTP(StoreContract):
    """On a server that can neither replace a file at once nor read at several places."""

    @pytest.fixture
    def place(self, server):
        options = {"username": "user", "password": "secret"}
        url, root = server
        name = f"cache-{next(NUMBERS)}"
        return ObjectsPlace(
            f"{url}/{name}",
            back_door=f"file://{root}/{name}",
            storage_options=options,
            part_size=64 * KIB,
        )


@pytest.fixture(scope="module")
def swift():
    """Run an object store that speaks S3."""
    with SwiftServer() as server:
        yield server


@pytest.fixture
def bucket_place(swift):
    """Return a new bucket."""
    options = {
        "key": swift.access_key_id,
        "secret": swift.secret_access_key,
        "endpoint_url": swift.endpoint_url,
    }
    return ObjectsPlace(
        f"s3://{swift.create_bucket()}/cache",
        back_options={**options, "use_listings_cache": False},
        storage_options=options,
        part_size=128 * KIB,
    )


class TestObjectsOnS3(StoreContract):
    """On a real object store, which has no folders and where every call is a request."""

    pytestmark = pytest.mark.slow

    @pytest.fixture
    def place(self, bucket_place):
        return bucket_place

    # A request costs a hundred times what memory does, and the model asks for many.
    @pytest.mark.asyncio
    @pytest.mark.parametrize("seed", range(2))
    async def test_a_store_does_what_its_model_does(self, place, seed):
        await super().test_a_store_does_what_its_model_does(place, seed)


# ---------------------------------------------------------------------------
# What tests do with a store
# ---------------------------------------------------------------------------


def content(length, seed=0):
    """Return bytes that are the same each time."""
    return random.Random(seed).randbytes(length)


async def put(store, data, *, length=None, key=KEY):
    """Store and publish bytes; return the identifier."""
    known = Representation(complete_length=length or len(data))
    entry = await store.create(key, key, known)
    entry.writer(0).write(data)
    await entry.publish()
    await entry.aclose()
    return entry.entry_id


@pytest.fixture
def place():
    """Return a place in memory, with small objects."""
    return memory_place(part_size=64 * KIB)


class Gate:
    """Stands before all writing to memory; closed, it keeps threads waiting or makes them fail."""

    def __init__(self):
        self.open = threading.Event()
        self.open.set()
        self.arrived = threading.Event()
        self.fails_for = None
        self.written = []

    def pass_through(self, path):
        """Wait, fail, or take note."""
        if self.fails_for is not None and self.fails_for in path:
            raise OSError("the bucket is on fire")
        self.arrived.set()
        assert self.open.wait(PATIENCE_S)
        self.written.append(path)


@pytest.fixture
def gate(monkeypatch):
    """Put a gate before all writing to memory."""
    gate = Gate()
    plain = MemoryFileSystem.pipe_file

    def pipe_file(self, path, value, **options):
        gate.pass_through(path)
        return plain(self, path, value, **options)

    monkeypatch.setattr(MemoryFileSystem, "pipe_file", pipe_file)
    yield gate
    gate.open.set()


# ---------------------------------------------------------------------------
# Crashes
# ---------------------------------------------------------------------------


@pytest.mark.asyncio
async def test_a_crash_between_data_and_record_costs_the_last_commit(place, gate):
    """Objects that no record names are holes, and go with their entry."""
    data = content(300 * KIB)
    store = place.store()
    entry = await store.create(KEY, SOURCE, Representation(complete_length=len(data)))
    await entry.publish()
    writer = entry.writer(0)
    writer.write(data[: 100 * KIB])
    await writer.commit()
    gate.fails_for = "/records/"
    writer.write(data[100 * KIB :])
    with pytest.raises(StoreError, match="on fire"):
        await writer.commit()
    await place.crash()
    gate.fails_for = None
    assert len(place.files("data")) > len(place.record(entry.entry_id)[1]["parts"])
    async with place.store() as store:
        again = await store.open(entry.entry_id)
        assert list(again.spans) == [Span(0, 100 * KIB)]
        assert await again.read(Span(0, 100 * KIB)) == data[: 100 * KIB]
        await again.aclose()
        await store.delete(entry.entry_id)
    assert place.files() == []


@pytest.mark.asyncio
async def test_a_failed_commit_can_be_made_up_for(place, gate):
    """When the place works again, the next commit has all that was written."""
    data = content(200 * KIB)
    async with place.store() as store:
        entry = await store.create(KEY, SOURCE, Representation(complete_length=len(data)))
        await entry.publish()
        gate.fails_for = "/records/"
        writer = entry.writer(0)
        writer.write(data)
        with pytest.raises(StoreError):
            await writer.commit()
        gate.fails_for = None
        await writer.commit()
        assert (await store.select(KEY))[0].complete


@pytest.mark.asyncio
async def test_bytes_that_could_not_be_put_are_holes(place, gate):
    """A failing place makes the writer fail; what it lost takes no room and can come again."""
    data = content(100 * KIB)
    async with place.store(max_size=MIB) as store:
        entry = await store.create(KEY, SOURCE, Representation(complete_length=len(data)))
        await entry.publish()
        gate.fails_for = "/data/"
        writer = entry.writer(0)
        writer.write(data)
        with pytest.raises(StoreError, match="on fire"):
            await writer.commit()
        with pytest.raises(StoreError):
            writer.write(b"more")
        assert not entry.spans
        assert (await store.usage()).allocated_bytes == 0
        gate.fails_for = None
        again = entry.writer(0)
        again.write(data)
        await again.commit()
        assert await entry.read(Span(0, len(data))) == data


@pytest.mark.asyncio
async def test_a_full_medium_is_told_as_full(place, monkeypatch):
    """No space left on the device is `StoreFullError`."""

    def pipe_file(self, path, value, **options):
        raise OSError(28, "No space left on device")

    async with place.store() as store:
        entry = await store.create(KEY, SOURCE, Representation(complete_length=3))
        with monkeypatch.context() as patch:
            patch.setattr(MemoryFileSystem, "pipe_file", pipe_file)
            writer = entry.writer(0)
            writer.write(b"abc")
            with pytest.raises(StoreFullError):
                await writer.commit()


@pytest.mark.asyncio
async def test_a_record_that_was_cut_off_gives_way_to_the_one_before(place):
    """The highest revision that can be understood counts; the next one comes after both."""
    async with place.store() as store:
        entry_id = await put(store, b"abc", length=6)
    name = place.record(entry_id)[0]
    stem, _, revision = name.rpartition(".")
    torn = f"{stem}.{int(revision, 16) + 1:016x}"
    place.put(torn, place.get(name)[:-40])
    async with place.store() as store:
        entry = await store.open(entry_id)
        assert await entry.read(Span(0, 3)) == b"abc"
        entry.writer(3).write(b"def")
        await entry.aclose()
    assert place.record(entry_id)[0] == f"{stem}.{int(revision, 16) + 2:016x}"
    assert len(place.files("records")) == 1
    async with place.store() as store:
        assert (await store.select(KEY))[0].complete


@pytest.mark.asyncio
async def test_what_was_superseded_when_a_process_died_is_not_seen(place):
    """Of two records of one variant the newer one counts, and the older one is removed."""
    async with place.store() as store:
        old_id = await put(store, b"old")
        kept = {name: place.get(name) for name in place.files()}
        new_id = await put(store, b"new")
    for name, data in kept.items():
        place.put(name, data)
    async with place.store() as store:
        assert [record.entry_id for record in await store.select(KEY)] == [new_id]
        assert (await store.usage()).entries == 1
    assert not [name for name in place.files() if old_id in name]
    assert [name for name in place.files() if new_id in name]


@pytest.mark.asyncio
async def test_orphans_are_removed_when_nobody_can_be_about_to_publish_them(place):
    """Objects without a record go a day after their entry was made, and not before."""
    now = 1_700_000_000.0
    for moment in (now, now + DAY_S - 100):
        store = place.store(clock=lambda moment=moment: moment)
        entry = await store.create(KEY, SOURCE, Representation())
        writer = entry.writer(0)
        writer.write(b"abc")
        await writer.commit()
        await store.abandon()
    async with place.store(clock=lambda: now + DAY_S + 1) as store:
        assert (await store.usage()).allocated_bytes == 0
    (left,) = place.files("data")
    assert entry.entry_id in left


# ---------------------------------------------------------------------------
# Hostile and damaged places
# ---------------------------------------------------------------------------


def changed(**changes):
    """Return a change to a record."""
    return lambda record: json.dumps({**record, **changes})


def with_part(number, value):
    """Return a change to the first part of a record."""

    def change(record):
        record["parts"][0][number] = value
        return json.dumps(record)

    return change


HOSTILE = {
    "no JSON": lambda record: "{",
    "empty": lambda record: "",
    "a list": lambda record: "[]",
    "a deep one": lambda record: "[" * 100_000,
    "a pickle": lambda record: "cos\nsystem\n(S'true'\ntR.",
    "a later format": changed(format=2),
    "a format that is no number": changed(format=True),
    "another entry": changed(entry_id="../../etc/passwd"),
    "another key": changed(key="https://example.com/b"),
    "no source": changed(source=None),
    "no time": changed(created="now"),
    "an endless time": changed(accessed=float("inf")),
    "no representation": changed(representation={"format": 1}),
    "a later representation": changed(representation={"format": 2}),
    "parts that are none": changed(parts=[1]),
    "a digest that is a path": with_part(2, "../../../../etc/passwd"),
    "a nonce that is a path": with_part(3, "/../../x"),
    "a negative start": with_part(0, -1),
    "a start that is no number": with_part(0, "0"),
    "a stop out of bounds": with_part(1, 2**70),
    "too few sums": with_part(4, []),
    "nothing that counts": with_part(5, []),
    "bytes outside of the object": with_part(5, [[0, 4]]),
    "bytes twice": with_part(5, [[0, 2], [1, 3]]),
}


@pytest.mark.asyncio
@pytest.mark.parametrize("change", HOSTILE.values(), ids=HOSTILE)
async def test_a_record_that_cannot_be_trusted_is_a_miss(place, change):
    """Whatever a record says, it is not found, harms nothing and is left alone."""
    async with place.store() as store:
        entry_id = await put(store, b"abc")
    name, record = place.record(entry_id)
    place.put(name, change(record).encode())
    before = place.files()
    async with place.store(max_size=MIB) as store:
        assert await store.select(KEY) == ()
        assert await store.records() == ()
        assert not await store.has_authority("https://example.com")
        assert (await store.usage()).allocated_bytes == 0
        with pytest.raises(EntryNotFoundError):
            await store.open(entry_id)
        await store.delete(entry_id)
        await store.touch(entry_id, pinned=True)
        new_id = await put(store, b"new")
        assert [each.entry_id for each in await store.select(KEY)] == [new_id]
    assert set(before) <= set(place.files())


@pytest.mark.asyncio
async def test_names_that_are_not_ours_are_passed_over(place):
    """Strange objects in our folders are neither read nor removed."""
    async with place.store() as store:
        entry_id = await put(store, b"abc")
    strange = [
        f"records/{entry_id[:32]}/readme.txt",
        f"records/{entry_id[:32]}/{'0' * 32}-{'0' * 12}-{'0' * 12}.{'0' * 16}",
        "records/x/y/z",
        f"records/{entry_id[:32]}/{entry_id}.1",
        "data/notes.txt",
    ]
    for name in strange:
        place.put(name, b"{}")
    async with place.store(max_size=MIB) as store:
        assert [each.entry_id for each in await store.select(KEY)] == [entry_id]
        assert [each.entry_id for each in await store.records()] == [entry_id]
        await store.usage()
    assert set(strange) <= set(place.files())


@pytest.mark.asyncio
@pytest.mark.parametrize("damage", ["gone", "short", "empty"])
async def test_an_object_that_is_gone_or_cut_off_is_a_hole(place, damage):
    """The bytes it had are missing, those of other objects are not, and they can come again."""
    data = content(200 * KIB)
    async with place.store() as store:
        entry_id = await put(store, data)
    _, name = place.raw(entry_id).at(70 * KIB)
    if damage == "gone":
        place.remove(name)
    else:
        place.put(name, place.get(name)[:-1] if damage == "short" else b"")
    async with place.store() as store:
        entry = await store.open(entry_id)
        with pytest.raises(StoreCorruptError) as caught:
            await entry.read(Span(0, len(data)))
        bad = caught.value.span
        assert bad == Span(64 * KIB, 128 * KIB)
        assert list(entry.spans) == [Span(0, bad.start), Span(bad.stop, len(data))]
        entry.writer(bad.start).write(data[bad.start : bad.stop])
        await entry.aclose()
    async with place.store() as store:
        entry = await store.open(entry_id)
        assert await entry.read(Span(0, len(data))) == data


@pytest.mark.asyncio
async def test_a_planted_note_of_an_origin_lets_nobody_in(place):
    """An origin is known by a record that came from it, not by the small object alone."""
    async with place.store() as store:
        entry_id = await put(store, b"abc")
        (marker,) = place.files("origins")
        assert await store.has_authority("https://example.com")
        other = await store.create(KEY, "https://evil.example", Representation())
        await store.catalog.mark_origin(other._shared.record)
        (planted,) = set(place.files("origins")) - {marker}
        place.put(f"{planted.rpartition('/')[0]}/{entry_id}", b"1")
        assert not await store.has_authority("https://evil.example")


@pytest.mark.asyncio
async def test_a_place_out_of_reach_is_not_taken_for_an_empty_one(place, monkeypatch):
    """While nothing can be asked, everything raises and nothing that is stored is forgotten."""
    data = content(100 * KIB)

    def fail(self, *args, **options):
        raise ConnectionResetError("nobody there")

    async with place.store() as store:
        entry_id = await put(store, data)
    async with place.store() as store:
        entry = await store.open(entry_id)
        with monkeypatch.context() as patch:
            for name in ("ls", "find", "cat_file", "pipe_file", "rm_file"):
                patch.setattr(MemoryFileSystem, name, fail)
            for act in (
                lambda: store.select(KEY),
                lambda: store.records(),
                lambda: store.has_authority("https://example.com"),
                lambda: store.delete(entry_id),
                lambda: entry.read(Span(0, 10)),
                lambda: entry.update(Representation(complete_length=len(data))),
            ):
                with pytest.raises(StoreError, match="nobody there"):
                    await act()
        assert await entry.read(Span(0, len(data))) == data
        await entry.aclose()
        assert [record.entry_id for record in await store.select(KEY)] == [entry_id]


@pytest.mark.asyncio
@pytest.mark.parametrize("is_open", [False, True])
async def test_a_deletion_that_failed_can_be_tried_again(place, monkeypatch, is_open):
    """What could not be removed is still seen, and goes at the next try."""

    def fail(self, *args, **options):
        raise OSError("not now")

    async with place.store() as store:
        entry_id = await put(store, b"abc")
        entry = await store.open(entry_id) if is_open else None
        with monkeypatch.context() as patch:
            patch.setattr(MemoryFileSystem, "rm_file", fail)
            with pytest.raises(StoreError, match="not now"):
                await store.delete(entry_id)
        assert len(await store.select(KEY)) == 1
        await store.delete(entry_id)
        if entry is not None:
            assert await entry.read(Span(0, 3)) == b"abc"
            await entry.aclose()
    assert place.files() == []


@pytest.mark.asyncio
async def test_a_server_that_hung_up_is_called_again(server):
    """A connection that was idle for too long is made anew, and nothing is taken for missing."""
    url, _ = server
    options = {"username": "user", "password": "secret"}
    name = f"{url}/cache-{next(NUMBERS)}"
    async with ObjectsStore(name, storage_options=options) as store:
        entry_id = await put(store, b"abc", length=6)
        for _ in range(2):
            store.medium._fs.ftp.sock.shutdown(socket.SHUT_RDWR)
            assert len(await store.select(KEY)) == 1
        store.medium._fs.ftp.sock.shutdown(socket.SHUT_RDWR)
        entry = await store.open(entry_id)
        store.medium._fs.ftp.sock.shutdown(socket.SHUT_RDWR)
        entry.writer(3).write(b"def")
        await entry.aclose()
        assert (await store.select(KEY))[0].complete


# ---------------------------------------------------------------------------
# Buckets
# ---------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.asyncio
async def test_a_mistyped_bucket_is_named_and_not_made(swift, bucket_place):
    """Nothing is found in a bucket that is not there, and nothing can be put there."""
    async with bucket_place.store() as right:
        await put(right, b"abc")
    place = ObjectsPlace("s3://no-such-bucket/cache", **bucket_place.options)
    with pytest.raises(StoreError, match=r"s3://no-such-bucket/cache.*does not exist"):
        async with place.store() as store:
            assert await store.select(KEY) == ()
            await put(store, b"abc")
    listing = swift.request("GET")[2].decode().split()
    assert bucket_place.url.split("/")[2] in listing
    assert "no-such-bucket" not in listing


@pytest.mark.slow
@pytest.mark.asyncio
async def test_wrong_credentials_say_so(bucket_place):
    """What the server says of a signature is in the error, and the secret is not."""
    wrong = bucket_place.options["storage_options"] | {"secret": "guessed"}
    async with bucket_place.store(storage_options=wrong) as store:
        with pytest.raises(StoreError, match="signature") as caught:
            await store.select(KEY)
    assert "guessed" not in str(caught.value)


@pytest.mark.slow
@pytest.mark.asyncio
async def test_an_endpoint_that_does_not_answer_says_so(bucket_place):
    """Where nobody listens, the error names the place, and nothing hangs."""
    with socket.create_server(("127.0.0.1", 0)) as unused:
        port = unused.getsockname()[1]
    options = bucket_place.options["storage_options"] | {
        "endpoint_url": f"http://127.0.0.1:{port}",
        "config_kwargs": {"retries": {"max_attempts": 0}},
    }
    async with bucket_place.store(storage_options=options) as store:
        with pytest.raises(StoreError, match=rf"{bucket_place.url} failed: .*:{port}"):
            await store.select(KEY)


@pytest.mark.asyncio
async def test_a_password_in_a_url_is_not_shown():
    """The place is named in errors, without whoever may enter it."""
    medium = ObjectsStore("ftp://user:hidden@127.0.0.1:9/cache").medium
    with pytest.raises(StoreError, match=r"ftp://127\.0\.0\.1:9/cache") as caught:
        await medium.run(medium.names, "records")
    medium.close()
    assert "hidden" not in str(caught.value)


# ---------------------------------------------------------------------------
# Other processes
# ---------------------------------------------------------------------------


def elsewhere(place):
    """Return a store at the same place that knows nothing of this process's other stores."""
    store = place.store(storage_options={"process": next(NUMBERS)})
    assert store.medium.sharing is not place.stores[0].medium.sharing
    return store


@pytest.mark.asyncio
async def test_an_entry_that_another_process_deleted_does_not_come_back(place):
    """Who has it open writes on for itself, and leaves nothing behind."""
    async with place.store() as store, elsewhere(place) as other:
        entry_id = await put(store, b"abc", length=6)
        entry = await store.open(entry_id)
        await other.delete(entry_id)
        writer = entry.writer(3)
        writer.write(b"def")
        await writer.commit()
        assert await store.select(KEY) == ()
        assert await other.select(KEY) == ()
        assert await entry.read(Span(3, 6)) == b"def"
        await entry.aclose()
    assert place.files() == []


@pytest.mark.asyncio
async def test_processes_that_write_one_entry_never_mix_up_bytes(place):
    """Whatever of both is known in the end, each byte of it is right."""
    data = content(300 * KIB)
    async with place.store() as store, elsewhere(place) as other:
        entry_id = await put(store, data[:1000], length=len(data))
        here, there = await store.open(entry_id), await other.open(entry_id)
        here.writer(1000).write(data[1000 : 200 * KIB])
        there.writer(100 * KIB).write(data[100 * KIB :])
        await asyncio.gather(here.aclose(), there.aclose())
    async with place.store() as store:
        entry = await store.open(entry_id)
        assert entry.spans.total > 100 * KIB
        for span in list(entry.spans):
            assert await entry.read(span) == data[span.start : span.stop]


@pytest.mark.asyncio
async def test_what_another_process_publishes_is_seen(place):
    """Neither select nor a page of records is older than the last publication."""
    async with place.store() as store, elsewhere(place) as other:
        assert await store.records() == ()
        entry_id = await put(other, b"abc")
        assert [each.entry_id for each in await store.records()] == [entry_id]
        await other.delete(entry_id)
        assert await store.records() == ()
        assert await store.select(KEY) == ()


@pytest.mark.asyncio
async def test_a_pin_that_another_process_sets_stays(place):
    """Who writes an entry keeps the pin that somebody else has put on it meanwhile."""
    async with place.store() as store, elsewhere(place) as other:
        entry_id = await put(store, b"abc", length=6)
        entry = await store.open(entry_id)
        await other.touch(entry_id, pinned=True)
        entry.writer(3).write(b"def")
        await entry.aclose()
        (record,) = await other.select(KEY)
        assert (record.pinned, record.complete) == (True, True)


@pytest.mark.asyncio
async def test_what_is_published_later_counts_whatever_the_clocks_say(place):
    """A machine whose clock is slow supersedes what was published before all the same."""
    async with place.store(clock=lambda: 2000.0) as store:
        await put(store, b"old")
    async with place.store(clock=lambda: 1000.0) as store:
        entry_id = await put(store, b"new")
        (record,) = await store.select(KEY)
        assert record.entry_id == entry_id
        assert record.created > 2000.0


# ---------------------------------------------------------------------------
# The event loop, and threads
# ---------------------------------------------------------------------------


@pytest.mark.asyncio
async def test_a_slow_place_holds_up_nobody_but_who_waits_for_it(place, gate):
    """While objects are on their way, the loop runs and their bytes can be read."""
    data = content(200 * KIB)
    async with place.store() as store:
        entry = await store.create(KEY, SOURCE, Representation(complete_length=len(data)))
        gate.open.clear()
        writer = entry.writer(0)
        assert not writer.write(data)
        async with asyncio.timeout(PATIENCE_S), asyncio.TaskGroup() as group:
            commit = group.create_task(writer.commit())
            await asyncio.to_thread(gate.arrived.wait, PATIENCE_S)
            assert not commit.done()
            assert entry.read_nowait(Span(10, len(data))) == data[10:]
            assert await entry.read(Span(0, len(data))) == data
            assert gate.written == []
            gate.open.set()
        await writer.aclose()


@pytest.mark.asyncio
async def test_a_cancelled_commit_leaves_everything_as_it_should_be(place, gate):
    """Who is cancelled in a commit has left it when it is over; the next one goes on from there."""
    data = content(100 * KIB)
    async with place.store() as store:
        entry = await store.create(KEY, SOURCE, Representation(complete_length=2 * len(data)))
        await entry.publish()
        writer = entry.writer(0)
        writer.write(data)
        await writer.flush()
        gate.arrived.clear()
        gate.open.clear()
        commit = asyncio.ensure_future(writer.commit())
        await asyncio.to_thread(gate.arrived.wait, PATIENCE_S)
        commit.cancel()
        await asyncio.sleep(0)
        assert not commit.done()
        gate.open.set()
        with pytest.raises(asyncio.CancelledError):
            await commit
        writer.write(data)
        await writer.aclose()
        await entry.aclose()
    async with place.store() as store:
        assert (await store.select(KEY))[0].complete
        assert len(place.files("records")) == 1


@pytest.mark.asyncio
async def test_nothing_runs_after_the_end(place):
    """A closed store has no thread, and has removed what it said it would."""
    before = threading.active_count()
    async with place.store(max_size=300 * KIB) as store:
        for number in range(4):
            await put(store, content(200 * KIB, number), key=Key(f"{SOURCE}?{number}"))
        usage = await store.usage()
        assert (usage.entries, usage.evicted_entries) == (1, 3)
        assert usage.evicted_bytes >= 3 * 200 * KIB
    assert threading.active_count() == before
    assert sum(len(place.get(name)) for name in place.files("data")) == 200 * KIB


# ---------------------------------------------------------------------------
# Objects, room, and what is written when
# ---------------------------------------------------------------------------


@pytest.mark.asyncio
async def test_a_download_is_committed_as_it_goes():
    """Who only writes and drains loses at most the last 16 MiB and what is in memory."""
    place = memory_place()
    data = content(MIB)
    store = place.store()
    entry = await store.create(KEY, SOURCE, Representation())
    await entry.publish()
    writer = entry.writer(0)
    for _ in range(40):
        if not writer.write(data):
            await writer.drain()
    await place.crash()
    async with place.store() as store:
        entry = await store.open(entry.entry_id)
        assert entry.spans.run_stop(0) >= 12 * MIB


@pytest.mark.asyncio
async def test_objects_of_which_nothing_counts_are_removed(place):
    """Discarding takes whole objects away at once, and keeps those that it only touches."""
    data = content(256 * KIB)
    async with place.store() as store:
        entry = await store.open(await put(store, data))
        assert len(place.files("data")) == 4
        assert await entry.discard(Span(10, 200 * KIB)) == 200 * KIB - 10
        await store.medium.settle()
        assert len(place.files("data")) == 2
        assert await entry.read(Span(0, 10)) == data[:10]
        assert await entry.read(Span(200 * KIB, 256 * KIB)) == data[200 * KIB :]


@pytest.mark.asyncio
async def test_the_rest_of_a_large_object_is_written_anew():
    """Where most of an object was discarded, its room comes back all the same."""
    place = memory_place()
    data = content(3 * MIB)
    async with place.store() as store:
        entry = await store.open(await put(store, data))
        await entry.discard(Span(MIB, 3 * MIB))
        await store.medium.settle()
        assert sum(len(place.get(name)) for name in place.files("data")) == MIB
        assert (await store.usage()).allocated_bytes == MIB
        assert await entry.read(Span(0, MIB)) == data[:MIB]


@pytest.mark.asyncio
async def test_times_of_access_are_written_together(place, gate):
    """Touching writes nothing; closing the store does, and the order is kept."""
    async with place.store() as store:
        ids = [await put(store, b"x", key=Key(f"{SOURCE}?{number}")) for number in range(3)]
        gate.written.clear()
        for entry_id in (ids[2], ids[0], ids[1]):
            await store.touch(entry_id)
        assert gate.written == []
    async with place.store() as store:
        found = [record.entry_id for record in await store.records(order="accessed")]
        assert found == [ids[2], ids[0], ids[1]]


@pytest.mark.asyncio
async def test_many_times_of_access_do_not_wait_for_the_end(place, gate):
    """When many have come together they are written, and only once."""
    async with place.store() as store:
        entry_id = await put(store, b"x")
        gate.written.clear()
        await store.touch(entry_id)
        for number in range(255):
            await store.touch(f"{number:032x}-{0:012x}-{0:012x}")
        assert len(gate.written) == 1
    assert len(gate.written) == 1


@pytest.mark.asyncio
async def test_records_are_read_once(place, monkeypatch):
    """Looking again costs no reading of records that did not change."""
    async with place.store() as store:
        for number in range(5):
            await put(store, b"x", key=Key(f"{SOURCE}?{number}"))
    read = []
    plain = MemoryFileSystem.cat_file

    def cat_file(self, path, **options):
        read.append(path)
        return plain(self, path, **options)

    monkeypatch.setattr(MemoryFileSystem, "cat_file", cat_file)
    async with place.store() as store:
        for _ in range(3):
            assert len(await store.records()) == 5
            assert (await store.usage()).entries == 5
        await store.select(Key(f"{SOURCE}?1"))
        assert len(read) == 5


@pytest.mark.asyncio
async def test_a_folder_of_ours_is_private(tmp_path):
    """On the local disk, nobody else can read what is kept."""
    place = ObjectsPlace(f"file://{tmp_path}/cache")
    async with place.store() as store:
        await put(store, b"abc")
    assert (tmp_path / "cache").stat().st_mode & 0o777 == 0o700


# ---------------------------------------------------------------------------
# Making one
# ---------------------------------------------------------------------------


@pytest.mark.asyncio
async def test_settings_and_options_make_a_store():
    """The limit is the manager's, and the rest is the store's own options."""
    place = memory_place()
    options = ObjectsStore.Options(url=place.url, part_size=1000)
    async with ObjectsStore.from_settings(Settings(max_size=12345), options) as store:
        assert store.part_size == 1000
        assert (await store.usage()).limit_bytes == 12345
        await put(store, b"abc")
    assert place.files("records")


@pytest.mark.parametrize(
    ("url", "options"),
    [("nothing://x", {}), ("memory://x", {"part_size": 0}), ("memory://x", {"max_size": -1})],
)
def test_what_cannot_be_is_refused(url, options):
    """An unknown filesystem or a size that makes no sense is a wrong setting."""
    with pytest.raises(ConfigurationError):
        ObjectsStore(url, **options)


# ---------------------------------------------------------------------------
# With everything else
# ---------------------------------------------------------------------------


async def read_all(cache, source):
    """Read a source through a stream."""
    stream = cache.create_stream(source)
    got = bytearray()
    async with asyncio.timeout(PATIENCE_S), await stream.request() as answer:
        async for piece in answer:
            got += piece
    stream.release()
    return bytes(got)


@pytest.mark.asyncio
async def test_a_manager_plays_through_it(tmp_path):
    """What was played is complete afterwards, and plays again without the origin."""
    place = ObjectsPlace(f"file://{tmp_path}/cache", part_size=256 * KIB)
    data = pattern("objects", 3 * MIB + 17).bytes()
    async with Origin() as origin:
        origin.add("/a.mp4", data)
        source = origin.url("/a.mp4")
        async with place.store() as store, CacheManager(store=store, min_free=0) as cache:
            assert await read_all(cache, source) == data
        asked = origin.count("/a.mp4")
        assert origin.bytes_sent("/a.mp4") < 2 * len(data)
        async with place.store() as store:
            (record,) = await store.records()
            assert record.complete
            async with CacheManager(store=store, offline=True) as cache:
                assert await read_all(cache, source) == data
        assert origin.count("/a.mp4") == asked


@pytest.mark.asyncio
async def test_a_manager_mends_what_is_damaged(tmp_path):
    """Bytes that changed at rest are fetched again, and nobody is given wrong ones."""
    place = ObjectsPlace(f"file://{tmp_path}/cache", part_size=64 * KIB)
    data = pattern("objects", MIB).bytes()
    async with Origin() as origin:
        origin.add("/a.mp4", data)
        source = origin.url("/a.mp4")
        async with place.store() as store, CacheManager(store=store) as cache:
            assert await read_all(cache, source) == data
            ((entry_id),) = [record.entry_id for record in await store.records()]
        place.raw(entry_id).corrupt(500_000)
        before = origin.bytes_sent("/a.mp4")
        async with place.store() as store, CacheManager(store=store) as cache:
            assert await read_all(cache, source) == data
        again = origin.bytes_sent("/a.mp4") - before
        assert 0 < again <= 256 * KIB


def test_the_example_of_the_page_runs():
    """What the how-to shows works as it stands, with places of this test's own."""
    page = Path(__file__).parents[2] / "docs" / "how-to" / "objects.md"
    (code,) = re.findall(r"```python\n(.*?)```", page.read_text(), re.DOTALL)
    place = memory_place()
    with OriginThread() as origin:
        origin.add("/video.mp4", pattern("page", MIB))
        code = code.replace("s3://bucket/cache", place.url)
        code = code.replace("https://example.com", origin.url(""))
        exec(compile(code, str(page), "exec"), {"__name__": "__main__"})
    assert sum(len(place.get(name)) for name in place.files("data")) == MIB
