"""Places that fail, fill up, vanish or were tampered with: playback goes on, with right bytes."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import pickle
import resource
import shutil
import signal
import sqlite3
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest
import pytest_asyncio

from cachestream.errors import ConfigurationError, StoreError, StoreFullError
from cachestream.events import Event, StoreFailed
from cachestream.testing.origin import Origin, pattern

MIB = 1 << 20
LENGTH = 6 * MIB
FILM = pattern("film", LENGTH)
DATA = FILM.bytes()

pytestmark = pytest.mark.asyncio


class Failures:
    """A listener that keeps the failures of the store."""

    def __init__(self) -> None:
        self.seen: list[StoreFailed] = []

    def __call__(self, event: Event) -> None:
        """Take note."""
        if isinstance(event, StoreFailed):
            self.seen.append(event)


@pytest.fixture
def failures() -> Failures:
    """Listen for failures of the store."""
    return Failures()


@pytest.fixture
def film(origin: Origin) -> str:
    """Serve a film of several requests, and return its URL."""
    origin.add("/film.bin", FILM)
    return origin.url("/film.bin")


@contextlib.contextmanager
def file_limit(size: int) -> Iterator[None]:
    """Let no file of this process grow beyond ``size`` bytes, as on a full disk."""
    _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
        signal.signal(signal.SIGXFSZ, before)


@pytest.fixture
def small_disk(tmp_path) -> Iterator[Path]:
    """Return a directory with room for 2 MiB: a disk of its own, or else no file may be larger."""
    place = tmp_path / "disk"
    place.mkdir(mode=0o700)
    options = ["-t", "tmpfs", "-o", "size=2m,mode=700", "tmpfs"]
    mounted = shutil.which("mount") is not None and (
        subprocess.run(["mount", *options, place], capture_output=True).returncode == 0
    )
    if not mounted:
        with file_limit(MIB):
            yield place
        return
    try:
        yield place
    finally:
        subprocess.run(["umount", "--lazy", place], check=True, capture_output=True)


async def held(cache, source) -> bytes:
    """Return the stored bytes from the first on, checked; they must be right."""
    record = await cache.get_cache_record(source)
    if record is None:
        return b""
    entry = await cache.store.open(record.entry_id)
    try:
        for span in entry.spans:
            assert bytes(await entry.read(span)) == DATA[span.start : span.stop]
        first = next(iter(entry.spans), None)
        return b"" if first is None else bytes(await entry.read(first))
    finally:
        with contextlib.suppress(StoreFullError):  # what is written cannot be committed then
            await entry.aclose()


# ---------------------------------------------------------------------------
# A directory that cannot be used
# ---------------------------------------------------------------------------


async def test_a_root_that_is_no_directory_is_a_clear_error(open_cache, tmp_path):
    """The program hears of it when it starts the cache, with the path in the message."""
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises((ConfigurationError, StoreError)) as caught:
        await open_cache(cache_dir=tmp_path / "file" / "cache")
    assert caught.value.__cause__ is not None or "file" in str(caught.value)


@pytest.mark.parametrize("mode", [0o777, 0o770, 0o722])
async def test_a_root_that_others_may_write_to_is_refused(open_cache, tmp_path, mode):
    """Where others could plant entries, nothing is read and nothing written."""
    root = tmp_path / "cache"
    root.mkdir()
    root.chmod(mode)
    with pytest.raises(ConfigurationError, match="others may write"):
        await open_cache()
    assert list(root.iterdir()) == []


@pytest.mark.parametrize("name", ["data", "index", "locks"])
async def test_a_directory_in_the_root_that_is_a_link_is_refused(open_cache, tmp_path, name):
    """Nothing is written through a link that somebody laid into the root."""
    root, elsewhere = tmp_path / "cache", tmp_path / "elsewhere"
    root.mkdir(mode=0o700)
    elsewhere.mkdir()
    (root / name).symlink_to(elsewhere)
    with pytest.raises(ConfigurationError, match="no plain directory"):
        await open_cache()
    assert list(elsewhere.iterdir()) == []


async def test_a_manager_that_could_not_start_leaves_nothing_and_another_can(
    open_cache, read, tmp_path, film
):
    """After the mode is put right, a new manager works."""
    root = tmp_path / "cache"
    root.mkdir()
    root.chmod(0o777)
    with pytest.raises(ConfigurationError):
        await open_cache()
    root.chmod(0o700)
    cache = await open_cache()
    got = await read(cache, film, 0, 1000)
    assert (got.status, got.content) == (206, DATA[:1000])


# ---------------------------------------------------------------------------
# No room
# ---------------------------------------------------------------------------


async def test_a_disk_that_fills_up_in_mid_play_does_not_stop_it(
    open_cache, read, small_disk, film, failures
):
    """What does not fit on the disk goes through memory, and what is on it stays right."""
    cache = await open_cache(cache_dir=small_disk / "cache", listeners=(failures,))
    got = await read(cache, film)
    assert (got.status, got.complete) == (200, True)
    assert got.content == DATA
    assert failures.seen
    again = await read(cache, film, 5 * MIB, 5 * MIB + 1000)
    assert again.content == DATA[5 * MIB : 5 * MIB + 1000]
    await held(cache, film)


async def test_a_full_disk_can_be_opened_again(open_cache, read, small_disk, film):
    """After a restart on the full disk, clients get right bytes."""
    cache = await open_cache(cache_dir=small_disk / "cache")
    assert (await read(cache, film)).content == DATA
    await cache.aclose()
    again = await open_cache(cache_dir=small_disk / "cache")
    assert (await read(again, film)).content == DATA
    await held(again, film)


async def test_a_limit_below_the_size_of_the_file_holds(open_cache, read, film, failures):
    """A file larger than max_size is played in full, and the store stays within its limit."""
    cache = await open_cache(max_size=2 * MIB, listeners=(failures,))
    got = await read(cache, film)
    assert (got.status, got.complete) == (200, True)
    assert got.content == DATA
    assert failures.seen
    assert (await cache.usage()).allocated_bytes <= 2 * MIB
    await held(cache, film)


async def test_a_store_with_no_room_at_all_lets_everything_through(
    open_cache, read, film, failures
):
    """With max_size 0 nothing is stored, and everything is served."""
    cache = await open_cache(max_size=0, listeners=(failures,))
    for _ in range(2):
        got = await read(cache, film)
        assert (got.status, got.content == DATA, got.complete) == (200, True, True)
    assert failures.seen
    assert (await cache.usage()).allocated_bytes == 0


async def test_a_download_that_does_not_fit_is_a_clear_error(open_cache, film):
    """A program that wants all of it stored is told that it cannot be, and does not hang."""
    cache = await open_cache(max_size=2 * MIB)
    stream = cache.create_stream(film)
    async with asyncio.timeout(45):
        with pytest.raises(StoreError):
            await stream.download()
    stream.release()


async def test_room_that_others_need_is_left_to_them(open_cache, read, film, failures):
    """A disk with less than min_free left is not filled further; clients do not notice."""
    cache = await open_cache(min_free=1 << 60, listeners=(failures,))
    got = await read(cache, film, 0, 100_000)
    assert (got.status, got.content) == (206, DATA[:100_000])
    assert failures.seen
    assert (await cache.usage()).entries == 0


# ---------------------------------------------------------------------------
# A directory that vanishes
# ---------------------------------------------------------------------------


async def test_a_root_that_vanishes_in_mid_play_does_not_stop_it(
    open_cache, origin, tmp_path, film, failures
):
    """A reader that has begun reads on to the end, and others get their files through memory."""
    cache = await open_cache(listeners=(failures,))
    origin.add("/other.bin", pattern("other", 300_000))
    stream = cache.create_stream(film)
    got = bytearray()
    async with asyncio.timeout(45), await stream.request() as response:
        async for piece in response:
            if not got:
                shutil.rmtree(tmp_path / "cache")
            got += piece
    assert got == DATA
    stream.release()
    other = cache.create_stream(origin.url("/other.bin"))
    async with asyncio.timeout(45), await other.request() as response:
        assert await response.read() == pattern("other", 300_000).bytes()
    other.release()
    assert failures.seen


async def test_data_files_that_vanish_are_fetched_anew(open_cache, read, tmp_path, film):
    """An entry whose file somebody removed is a miss, not an error."""
    cache = await open_cache()
    assert (await read(cache, film, 0, 1000)).content == DATA[:1000]
    await cache.aclose()
    for path in (tmp_path / "cache" / "data").iterdir():
        path.unlink()
    again = await open_cache()
    got = await read(again, film, 0, 1000)
    assert (got.status, got.content) == (206, DATA[:1000])


async def test_a_root_that_vanished_between_two_lives_is_made_anew(
    open_cache, read, tmp_path, film
):
    """An empty cache is a right cache."""
    cache = await open_cache()
    assert (await read(cache, film)).content == DATA
    await cache.aclose()
    shutil.rmtree(tmp_path / "cache")
    again = await open_cache()
    assert (await read(again, film)).content == DATA


# ---------------------------------------------------------------------------
# Damage and planted things
# ---------------------------------------------------------------------------


async def filled(open_cache, read, film) -> None:
    """Fill a cache and close it."""
    cache = await open_cache()
    assert (await read(cache, film)).content == DATA
    await cache.aclose()


@pytest.mark.parametrize("damage", ["garbage", "truncated", "empty", "zeros", "directory"])
async def test_a_corrupt_index_is_set_aside(open_cache, read, tmp_path, film, damage):
    """A database that cannot be read is moved aside, and the cache begins anew."""
    await filled(open_cache, read, film)
    index = tmp_path / "cache" / "index" / "cache.db"
    content = index.read_bytes()
    index.unlink()
    if damage == "directory":
        index.mkdir()
    else:
        index.write_bytes(
            {
                "garbage": os.urandom(len(content)),
                "truncated": content[: len(content) // 2 + 100],
                "empty": b"",
                "zeros": bytes(len(content)),
            }[damage]
        )
    cache = await open_cache()
    got = await read(cache, film)
    assert (got.status, got.content == DATA, got.complete) == (200, True, True)
    await held(cache, film)


@pytest.mark.parametrize("place", [0.02, 0.2, 0.4, 0.6, 0.8, 0.98])
async def test_a_flipped_bit_in_the_index_never_gives_a_wrong_byte(
    open_cache, read, tmp_path, film, place
):
    """Wherever the index was damaged at rest, clients get right bytes."""
    await filled(open_cache, read, film)
    index = tmp_path / "cache" / "index" / "cache.db"
    with index.open("r+b") as file:
        size = file.seek(0, os.SEEK_END)
        for position in range(int(size * place), min(size, int(size * place) + 64)):
            file.seek(position)
            old = file.read(1)[0]
            file.seek(position)
            file.write(bytes([old ^ 0x11]))
    cache = await open_cache()
    got = await read(cache, film)
    assert (got.status, got.content == DATA, got.complete) == (200, True, True)


async def test_damaged_data_is_found_and_fetched_anew(open_cache, read, origin, tmp_path, film):
    """Bytes that fail their sum are a hole, and only they are fetched again."""
    await filled(open_cache, read, film)
    (path,) = (tmp_path / "cache" / "data").iterdir()
    with path.open("r+b") as file:
        file.seek(3 * MIB + 5)
        file.write(b"\x00\x01\x02")
    origin.reset_log()
    cache = await open_cache()
    got = await read(cache, film)
    assert (got.status, got.content == DATA, got.complete) == (200, True, True)
    assert 0 < origin.bytes_sent() <= 2 * MIB


async def test_a_data_file_cut_short_is_fetched_anew(open_cache, read, tmp_path, film):
    """What is no longer in the file is not read as zeros."""
    await filled(open_cache, read, film)
    (path,) = (tmp_path / "cache" / "data").iterdir()
    os.truncate(path, 2 * MIB + 17)
    cache = await open_cache()
    got = await read(cache, film)
    assert (got.status, got.content == DATA, got.complete) == (200, True, True)


class Exploit:
    """What a hostile pickle would do."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self):
        """Create a file when unpickled."""
        return (os.mkdir, (str(self.marker),))


@pytest.mark.parametrize("kind", ["pickle", "pickled key", "filename", "text file", "blob file"])
async def test_planted_rows_are_never_executed_and_never_name_a_file(
    open_cache, read, tmp_path, film, kind
):
    """Every row that is not plain bytes is a miss: no code runs and no file outside is touched."""
    await filled(open_cache, read, film)
    marker, victim = tmp_path / "executed", tmp_path / "victim"
    victim.write_bytes(b"precious")
    hostile = pickle.dumps(Exploit(marker))
    name = os.path.relpath(victim, tmp_path / "cache" / "index")
    # Modes of diskcache: 1 raw, 2 binary file, 3 text file, 4 pickle.
    change = {
        "pickle": ("UPDATE Cache SET mode = 4, value = ?", (hostile,)),
        "pickled key": ("UPDATE Cache SET raw = 0, key = CAST(? || rowid AS BLOB)", (hostile,)),
        "filename": ("UPDATE Cache SET mode = 2, value = NULL, filename = ?", (name,)),
        "text file": ("UPDATE Cache SET mode = 3, value = NULL, filename = ?", (name,)),
        "blob file": ("UPDATE Cache SET mode = 1, filename = ?", (str(victim),)),
    }[kind]
    with contextlib.closing(sqlite3.connect(tmp_path / "cache" / "index" / "cache.db")) as base:
        base.execute(*change)
        base.commit()
    cache = await open_cache()
    got = await read(cache, film)
    assert (got.status, got.content == DATA, got.complete) == (200, True, True)
    await cache.delete(film)
    await cache.delete_cache()
    await cache.verify()
    await cache.usage()
    assert not marker.exists()
    assert victim.read_bytes() == b"precious"


async def test_a_data_file_that_became_a_link_is_never_followed(open_cache, read, tmp_path, film):
    """A link in the place of an entry's file is a miss, and what it names stays as it is."""
    await filled(open_cache, read, film)
    victim = tmp_path / "victim"
    victim.write_bytes(bytes(LENGTH))
    for path in (tmp_path / "cache" / "data").iterdir():
        path.unlink()
        path.symlink_to(victim)
    cache = await open_cache()
    got = await read(cache, film)
    assert (got.status, got.content == DATA, got.complete) == (200, True, True)
    await cache.delete(film)
    assert victim.read_bytes() == bytes(LENGTH)


async def test_an_index_that_became_a_link_is_never_followed(open_cache, read, tmp_path, film):
    """A link in the place of the database is set aside, and what it names stays as it is."""
    await filled(open_cache, read, film)
    victim = tmp_path / "victim"
    victim.write_bytes(b"")
    index = tmp_path / "cache" / "index" / "cache.db"
    index.unlink()
    index.symlink_to(victim)
    cache = await open_cache()
    got = await read(cache, film)
    assert (got.status, got.content == DATA, got.complete) == (200, True, True)
    assert victim.read_bytes() == b""


async def test_a_pipe_in_the_place_of_a_data_file_blocks_nobody(open_cache, read, tmp_path, film):
    """What is no plain file is a miss, at once."""
    await filled(open_cache, read, film)
    for path in (tmp_path / "cache" / "data").iterdir():
        path.unlink()
        os.mkfifo(path)
    cache = await open_cache()
    got = await read(cache, film)
    assert (got.status, got.content == DATA, got.complete) == (200, True, True)


# ---------------------------------------------------------------------------
# Two processes, one root
# ---------------------------------------------------------------------------

OTHER = textwrap.dedent(
    """
    import asyncio, hashlib, sys
    from cachestream import CacheManager, Settings

    async def main(root, url):
        settings = Settings(
            cache_dir=root, start_server=False, min_free=0, completion="demand"
        )
        async with CacheManager(settings) as cache:
            stream = cache.create_stream(url)
            async with await stream.request(0, 2 << 20) as response:
                await response.read()
            print("half", flush=True)
            await asyncio.to_thread(sys.stdin.readline)
            async with await stream.request() as response:
                print(hashlib.sha256(await response.read()).hexdigest(), flush=True)
            await asyncio.to_thread(sys.stdin.readline)
            stream.release()

    asyncio.run(main(*sys.argv[1:]))
    """
)


class Neighbour:
    """Another process that uses the same root, step by step."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process

    async def line(self) -> str:
        """Return the next line that it prints."""
        async with asyncio.timeout(45):
            return (await self.process.stdout.readline()).decode().strip()

    def go_on(self) -> None:
        """Let it take its next step."""
        self.process.stdin.write(b"\n")


@pytest_asyncio.fixture
async def neighbour(tmp_path, film):
    """Start another process that writes the first part of the film, and then waits."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", OTHER, str(tmp_path / "cache"), film,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE,
    )  # fmt: skip
    other = Neighbour(process)
    assert await other.line() == "half"
    yield other
    if process.returncode is None:
        process.kill()
    await process.wait()


async def committed(cache, source) -> None:
    """Wait until the neighbour's part is committed."""
    async with asyncio.timeout(45):
        while True:
            record = await cache.get_cache_record(source)
            if record is not None and record.stored_bytes >= 2 * MIB:
                return
            await asyncio.sleep(0.01)


async def test_a_second_process_reads_what_is_committed_and_passes_on_the_rest(
    open_cache, read, origin, film, neighbour
):
    """Committed bytes are not fetched again, and the rest comes right, through memory."""
    cache = await open_cache()
    await committed(cache, film)
    origin.reset_log()
    part = await read(cache, film, 1000, MIB)
    assert (part.status, part.content) == (206, DATA[1000:MIB])
    assert origin.count() == 0
    got = await read(cache, film)
    assert (got.status, got.content == DATA, got.complete) == (200, True, True)
    assert origin.bytes_sent() <= LENGTH - 2 * MIB
    await held(cache, film)


async def test_two_processes_read_one_cold_file_at_a_time(
    open_cache, read, origin, film, neighbour
):
    """While one writes on and the other reads, both get right bytes, and so does the store."""
    cache = await open_cache()
    neighbour.go_on()
    got = await read(cache, film)
    assert (got.status, got.content == DATA, got.complete) == (200, True, True)
    assert await neighbour.line() == hashlib.sha256(DATA).hexdigest()
    neighbour.go_on()
    async with asyncio.timeout(45):
        assert await neighbour.process.wait() == 0
    origin.reset_log()
    after = await open_cache()
    again = await read(after, film)
    assert (again.status, again.content == DATA, again.complete) == (200, True, True)
    assert origin.count() == 0


async def test_a_process_that_is_killed_leaves_its_entry_to_the_next(
    open_cache, read, origin, film, neighbour
):
    """After kill -9 what was committed is served, and another process writes on."""
    first = await open_cache()
    await committed(first, film)
    await first.aclose()
    neighbour.process.kill()
    await neighbour.process.wait()
    origin.reset_log()
    cache = await open_cache()
    got = await read(cache, film)
    assert (got.status, got.content == DATA, got.complete) == (200, True, True)
    assert origin.bytes_sent() <= LENGTH - 2 * MIB
    assert await held(cache, film) == DATA


async def test_what_a_neighbour_deletes_can_still_be_read_to_its_end(
    open_cache, origin, film, neighbour
):
    """Deleting an entry that another process is reading takes nothing from its readers."""
    cache = await open_cache()
    await committed(cache, film)
    stream = cache.create_stream(film)
    async with asyncio.timeout(45), await stream.request() as response:
        got = bytearray()
        async for piece in response:
            if not got:
                other = await open_cache()
                await other.delete_cache()
            got += piece
    assert got == DATA
    stream.release()
    neighbour.go_on()
    assert await neighbour.line() == hashlib.sha256(DATA).hexdigest()
