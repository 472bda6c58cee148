"""The manager without ``await``: from many threads, with time limits, to its end, and forked."""

from __future__ import annotations

import asyncio
import inspect
import io
import os
import re
import signal
import subprocess
import sys
import textwrap
import threading
import time
import zipfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

import cachestream
from cachestream import Statistics, blocking, stream
from cachestream._engine.file import CacheFile
from cachestream.errors import (
    CallTimeoutError,
    ClosedError,
    ConfigurationError,
    InvalidURLError,
    RangeNotSatisfiableError,
    UpstreamStatusError,
    WrongThreadError,
)
from cachestream.events import Event, ResourceCompleted
from cachestream.testing.origin import OriginThread, pattern

LENGTH = 3_000_000
DATA = pattern("blocking", LENGTH).bytes()
PATIENCE_S = 45.0

OpenCache = Callable[..., blocking.CacheManager]


@pytest.fixture
def origin() -> Iterator[OriginThread]:
    """Run an origin with one resource."""
    with OriginThread() as running:
        running.add("/a.bin", DATA)
        yield running


@pytest.fixture
def source(origin: OriginThread) -> str:
    """Return the URL of the resource."""
    return origin.url("/a.bin")


@pytest.fixture
def open_cache(tmp_path: Path) -> Iterator[OpenCache]:
    """Open caches in the test's own directory."""
    opened: list[blocking.CacheManager] = []

    def open_one(directory: str = "cache", **changes: Any) -> blocking.CacheManager:
        changes = {"retry_delay": 0.01, "max_retry_delay": 0.05, "min_free": 0, **changes}
        cache = blocking.CacheManager(cache_dir=tmp_path / directory, **changes)
        cache.start(timeout=PATIENCE_S)
        opened.append(cache)
        return cache

    yield open_one
    for cache in opened:
        cache.close(timeout=PATIENCE_S)


@pytest.fixture
def cache(open_cache: OpenCache) -> blocking.CacheManager:
    """Open one cache."""
    return open_cache()


def gated(origin: OriginThread, path: str = "/gated.bin") -> tuple[str, Callable[[], None]]:
    """Serve something that is not answered before the second of what is returned is called."""
    gate = asyncio.Event()
    origin.add(path, DATA, gate=gate)
    return origin.url(path), lambda: origin.call(gate.set)


def wait_idle(cache: blocking.CacheManager) -> Statistics:
    """Wait until nobody reads any more, and return the numbers."""
    end = time.monotonic() + PATIENCE_S
    while (numbers := cache.statistics(timeout=PATIENCE_S)).open_readers:
        assert time.monotonic() < end, numbers
    return numbers


# ---------------------------------------------------------------------------
# The same names
# ---------------------------------------------------------------------------

ASYNC_ONLY = {
    # `from_config` makes one and waits for nothing; the others are asynchronous interfaces.
    cachestream.CacheManager: {
        *("aclose", "handler", "inspector", "open", "open_file", "store"),
        "from_config",
    },
    stream.CacheStream: {"mark_disposed", "release"},
    stream.CacheResponse: {"aclose", "close"},
    CacheFile: {"aclose", "read1"},
}


@pytest.mark.parametrize(
    ("kind", "ours"),
    [
        (cachestream.CacheManager, blocking.CacheManager),
        (stream.CacheStream, blocking.CacheStream),
        (stream.CacheResponse, blocking.CacheResponse),
        (CacheFile, blocking.CacheFile),
    ],
)
def test_all_names_are_there(kind: type, ours: type) -> None:
    """Every public name of an asynchronous class is here, with its arguments and a timeout."""
    for name in {each for each in dir(kind) if not each.startswith("_")} - ASYNC_ONLY[kind]:
        theirs = inspect.getattr_static(kind, name)
        here = inspect.getattr_static(ours, name, None)
        if isinstance(theirs, property):
            assert isinstance(here, property) or name == "status", name
        elif kind is not CacheFile and name != "create_stream_settings":
            wanted = {**inspect.signature(theirs).parameters}
            given = {**inspect.signature(here).parameters}
            limit = given.pop("timeout")
            assert (limit.default, limit.kind) == (None, limit.KEYWORD_ONLY), name
            assert [*map(str, given.values())] == [*map(str, wanted.values())], name
        else:
            assert callable(here), name


# ---------------------------------------------------------------------------
# Using it
# ---------------------------------------------------------------------------


def test_a_stream_from_head_to_disposal(cache, source, tmp_path):
    """A stream is asked for its head, read, downloaded, exported and disposed of."""
    one = cache.create_stream(source, completion="demand")
    assert one.head(timeout=PATIENCE_S).complete_length == LENGTH
    assert one.representation.complete_length == LENGTH
    assert (one.source, one.is_retained, one.retain_count) == (source, True, 1)
    assert one.settings.completion == "demand"
    with one.request(10, 20) as response:
        assert (response.status, response.content_length, response.start) == (206, 10, 10)
        assert response.complete_length == LENGTH
        assert response.fields.get("ETag") == '"v1"'
        assert response.read(timeout=PATIENCE_S) == DATA[10:20]
    with one.request() as response:
        assert response.status == 200
        assert response.read(5, timeout=PATIENCE_S) == DATA[:5]
        assert b"".join(response) == DATA[5:]
    path = one.download(timeout=PATIENCE_S)
    assert path == one.file
    assert path.read_bytes() == DATA
    assert (one.progress, one.is_downloading, one.last_error) == (1.0, False, None)
    assert cache.export(source, tmp_path / "out.bin").read_bytes() == DATA
    assert one.validate_cache(force=True, timeout=PATIENCE_S) is True
    assert cache.get_existing_stream(source) == one
    assert cache.all_streams == (one,)
    assert one.cache_url == cache.get_cache_url(source)
    assert one.key == cache.get_cache_record(source).key
    one.retain()
    one.release()
    assert one.dispose(timeout=PATIENCE_S)
    assert one.is_disposed
    assert cache.get_existing_stream(source) is None


def test_what_is_stored_is_looked_after(cache, source):
    """Records, usage, verification and deletion work as they do with ``await``."""
    assert cache.pre_cache_url(source, bytes=1000, timeout=PATIENCE_S) is not None
    assert cache.pre_cache_url(source, timeout=PATIENCE_S).read_bytes() == DATA
    (record,) = cache.cache_records(limit=10)
    assert record.complete
    assert cache.get_cache_record(source).entry_id == record.entry_id
    assert cache.cache_records(after=record.entry_id) == ()
    assert cache.usage().entries == 1
    assert [bad for _, bad in cache.verify(timeout=PATIENCE_S)] == [()]
    assert [bad for _, bad in cache.verify(source)] == [()]
    assert cache.statistics().bytes_from_origin == LENGTH
    assert cache.delete_cache(partial_only=True) == 0
    assert cache.delete(source)
    assert not cache.delete(source)
    assert cache.get_cache_record(source) is None
    assert cache.ensure_active() is False


def test_settings_and_facts(open_cache):
    """What needs no loop is there at once."""
    cache = open_cache(completion="ahead")
    assert cache.settings.completion == "ahead"
    assert cache.create_stream_settings(max_connections=1).max_connections == 1
    assert cache.has_server
    assert cache.base_url.startswith("http://127.0.0.1:")
    assert not cache.is_closed
    without = open_cache("other", start_server=False)
    assert not without.has_server


def test_states_until_it_is_complete(cache, source):
    """States are a plain iteration; the last one before we leave is the complete one."""
    one = cache.create_stream(source)
    with ThreadPoolExecutor(1) as pool:
        done = pool.submit(one.download)
        seen = []
        for state in one.states(timeout=PATIENCE_S):
            seen.append(state)
            if state.complete:
                break
        done.result(PATIENCE_S)
    assert seen[-1].progress == 1.0
    assert [each.position for each in seen] == sorted(each.position for each in seen)


def test_states_end_with_the_stream(open_cache, source):
    """An iteration over states ends when the stream is disposed of, or the manager is closed."""
    cache = open_cache()
    one = cache.create_stream(source)
    states = one.states(timeout=PATIENCE_S)
    assert next(states) == one.state
    assert one.dispose(force=True, timeout=PATIENCE_S)
    assert len(list(states)) <= 1
    two = cache.create_stream(source)
    first = threading.Event()

    def follow() -> int:
        count = 0
        for _ in two.states():
            count += 1
            first.set()
        return count

    with ThreadPoolExecutor(1) as pool:
        following = pool.submit(follow)
        assert first.wait(PATIENCE_S)
        cache.close(timeout=PATIENCE_S)
        assert following.result(PATIENCE_S) >= 1


def test_errors_are_those_of_the_asynchronous_manager(cache, origin, source):
    """An error comes out as it went in, with its facts."""
    with pytest.raises(InvalidURLError):
        cache.get_cache_url("nonsense")
    with pytest.raises(InvalidURLError):
        cache.open("ftp://example.com/a")
    with pytest.raises(ConfigurationError):
        blocking.CacheManager(no_such_setting=1)
    with pytest.raises(UpstreamStatusError) as caught:
        cache.pre_cache_url(origin.url("/missing"), timeout=PATIENCE_S)
    assert caught.value.status == 404
    one = cache.create_stream(source)
    with pytest.raises(RangeNotSatisfiableError):
        one.request(LENGTH + 1, timeout=PATIENCE_S)
    with pytest.raises(ValueError, match="not a range"):
        one.request(5, 5)
    one.release()


def test_a_head_is_asked_for_again(cache, origin):
    """A head that an origin refuses for the moment is asked for again, a few times."""
    origin.add("/busy.bin", DATA).fail(503, times=2)
    with cache.open(origin.url("/busy.bin"), timeout=PATIENCE_S) as file:
        assert file.size() == LENGTH
    origin.add("/down.bin", DATA).fail(503)
    with cache.open(origin.url("/down.bin"), timeout=PATIENCE_S) as file:
        with pytest.raises(UpstreamStatusError) as caught:
            file.size()
    assert caught.value.status == 503
    assert origin.count("/busy.bin") == origin.count("/down.bin") == 3


def test_an_iteration_over_a_response_can_be_gone_on_with(cache, source):
    """Leaving an iteration early loses nothing; after `close` nothing is given any more."""
    one = cache.create_stream(source)
    response = one.request()
    first = next(iter(response))
    assert first == DATA[: len(first)]
    rest = b"".join(response.pieces(timeout=PATIENCE_S))
    assert first + rest == DATA
    response.close()
    response.close()
    with pytest.raises(ClosedError):
        response.read()
    with pytest.raises(ClosedError):
        next(iter(response))
    one.release()
    assert wait_idle(cache).open_readers == 0


def test_an_asynchronous_function_of_ones_own(cache, source):
    """What has no counterpart can be run on the loop, with the asynchronous manager."""
    cache.pre_cache_url(source, timeout=PATIENCE_S)

    async def look(inner: cachestream.CacheManager) -> int:
        async with inner.open(source) as file:
            await file.seek(7)
            assert await file.read1(5) == DATA[7:12]
        return len(await inner.store.select(inner.create_stream(source).key))

    assert cache.run(look, timeout=PATIENCE_S) == 1


def test_a_reset_makes_readers_fail(cache, source):
    """After a reset nothing is held."""
    one = cache.create_stream(source)
    one.download(timeout=PATIENCE_S)
    one.reset_cache(timeout=PATIENCE_S)
    assert one.state.stored_bytes == 0
    assert cache.get_cache_record(source) is None


# ---------------------------------------------------------------------------
# The file
# ---------------------------------------------------------------------------


def test_a_file_is_what_io_says(cache, source, origin):
    """The file reads, seeks and tells as any other, and its name ends as its path."""
    with cache.open(source + "?secret=1", timeout=PATIENCE_S) as file:
        assert isinstance(file, io.BufferedReader)
        assert isinstance(file.raw, io.RawIOBase)
        assert file.readable()
        assert file.seekable()
        assert not file.writable()
        assert file.name == source
        assert file.source == source + "?secret=1"
        assert origin.count() == 0
        assert file.size() == LENGTH
        assert file.read(10) == DATA[:10]
        assert file.tell() == 10
        assert file.seek(-10, os.SEEK_END) == LENGTH - 10
        assert file.read() == DATA[-10:]
        assert file.read(1) == b""
        assert file.seek(LENGTH + 100) == LENGTH + 100
        assert file.read(1) == b""
        assert file.seek(1_000_000) == 1_000_000
        assert file.seek(5, os.SEEK_CUR) == 1_000_005
        buffer = bytearray(400_000)
        assert file.readinto(buffer) == 400_000
        assert buffer == DATA[1_000_005:1_400_005]
        file.seek(0)
        assert file.read() == DATA
        for wrong in (lambda: file.raw.seek(-1), lambda: file.raw.seek(0, 9)):
            with pytest.raises(ValueError):
                wrong()
    for closed in (file.read, file.tell, file.raw.size, file.raw.readable, file.raw.seekable):
        with pytest.raises(ValueError, match="closed file"):
            closed()
    file.close()
    assert wait_idle(cache).open_readers == 0


def test_a_file_gives_what_is_there(cache, origin):
    """A read that asks for less than a buffer does not wait for the whole buffer."""
    gate = asyncio.Event()
    served = origin.add("/slow.bin", DATA)
    served.stall(after=100_000, times=None, gate=gate)
    with cache.open(origin.url("/slow.bin"), buffer_size=1 << 20, timeout=PATIENCE_S) as file:
        assert file.read(4) == DATA[:4]
        origin.call(gate.set)
        assert file.read(200_000) == DATA[4:200_004]


def test_a_file_of_unknown_length(cache, origin):
    """Where the origin does not tell the length, there is no way from the end."""
    origin.add("/chunked.bin", DATA[:1000], framing="chunked", ranges=False, stall_after=500)
    with cache.open(origin.url("/chunked.bin"), timeout=PATIENCE_S) as file:
        assert file.read(500) == DATA[:500]
        assert file.size() is None
        with pytest.raises(io.UnsupportedOperation):
            file.seek(0, os.SEEK_END)


def test_a_read_that_took_too_long_moves_nothing(cache, origin):
    """After a timeout the unbuffered position is where it was, and reading goes on from there."""
    gate = asyncio.Event()
    origin.add("/stall.bin", DATA).stall(after=1000, times=None, gate=gate)
    with cache.open(origin.url("/stall.bin"), timeout=0.3) as file:
        raw = file.raw
        got = b""
        with pytest.raises(CallTimeoutError):
            while True:
                got += raw.read(1 << 20)
        assert raw.tell() == len(got)
        assert got == DATA[: len(got)]
        origin.call(gate.set)
        while len(got) < LENGTH:
            try:
                got += raw.read(1 << 20)
            except CallTimeoutError:  # a busy machine; nothing may be lost by it
                continue
        assert got == DATA
    assert wait_idle(cache).open_readers == 0


def test_a_file_that_is_dropped_closes_itself(cache, source):
    """A file whose last reference goes away gives its reader up."""
    file = cache.open(source, timeout=PATIENCE_S)
    assert file.read(1) == DATA[:1]
    assert cache.statistics().open_readers == 1
    del file
    assert wait_idle(cache).open_readers == 0


# ---------------------------------------------------------------------------
# Threads, timeouts, interrupts
# ---------------------------------------------------------------------------


def test_many_threads_read_right(cache, origin, source):
    """Many threads read all of it in their own ways, and a byte is fetched once."""
    one = cache.create_stream(source)

    def read(number: int) -> bytes:
        if number % 3 == 0:
            with one.request(timeout=PATIENCE_S) as response:
                return response.read(timeout=PATIENCE_S)
        with cache.open(source, timeout=PATIENCE_S, buffer_size=10_000 * number) as file:
            half = file.seek(LENGTH // 2 * (number % 2))
            tail = file.read()
            file.seek(0)
            return file.read(half) + tail

    with ThreadPoolExecutor(12) as pool:
        assert all(got == DATA for got in pool.map(read, range(24)))
    assert origin.bytes_sent("/a.bin") >= LENGTH
    assert wait_idle(cache).bytes_from_origin == LENGTH
    one.release()


def test_one_file_in_many_threads(cache, source):
    """Threads that share one file get pieces that make up the whole, each once."""
    with cache.open(source, timeout=PATIENCE_S) as file, ThreadPoolExecutor(8) as pool:
        pieces = pool.map(lambda _: file.raw.read(10_000), range(40))
        got = sum(len(piece) for piece in pieces)
        assert got == file.raw.tell()
        file.raw.seek(0)
        whole = set()
        for piece in pool.map(lambda _: file.read(100_000), range(30)):
            assert piece in (DATA[at : at + 100_000] for at in range(0, LENGTH, 100_000))
            whole.add(piece)
        assert len(whole) == 30


def test_every_wait_has_its_limit(cache, origin):
    """A call that takes longer than it may raises our TimeoutError, and leaves nothing behind."""
    url, open_gate = gated(origin)
    one = cache.create_stream(url)
    calls: list[Callable[[], object]] = [
        lambda: cache.pre_cache_url(url, timeout=0.05),
        lambda: one.head(timeout=0.05),
        lambda: one.download(timeout=0.05),
        lambda: one.request(timeout=0.05),
        lambda: list(one.states(timeout=0.05)),
        lambda: cache.open(url, timeout=0.05).read(1),
    ]
    for call in calls:
        with pytest.raises(TimeoutError) as caught:
            call()
        assert isinstance(caught.value, CallTimeoutError)
    assert wait_idle(cache).waiting_readers == 0
    open_gate()
    with one.request(timeout=PATIENCE_S) as response:
        assert response.read(timeout=PATIENCE_S) == DATA
    one.release()


def test_a_piece_that_took_too_long_closes_the_response(cache, origin):
    """A response that ran out of time is closed, since a piece may have been lost."""
    origin.add("/stall.bin", DATA).stall(after=1000, times=None)
    one = cache.create_stream(origin.url("/stall.bin"))
    response = one.request(timeout=PATIENCE_S)
    with pytest.raises(CallTimeoutError):
        list(response.pieces(timeout=0.2))
    with pytest.raises(ClosedError):
        response.read()
    assert wait_idle(cache).open_readers == 0
    one.release()


def test_a_callback_may_not_block(open_cache, source):
    """A blocking call in a listener, which runs on the loop, raises instead of hanging."""
    raised: list[str] = []

    def listen(event: Event) -> None:
        if isinstance(event, ResourceCompleted):
            for call in (cache.statistics, cache.close, lambda: cache.open(source)):
                try:
                    call()
                except WrongThreadError as error:
                    raised.append(str(error))

    cache = open_cache(listeners=[listen])
    cache.pre_cache_url(source, timeout=PATIENCE_S)
    assert len(raised) == 3
    assert "another thread" in raised[0]


def test_a_call_while_another_loop_runs(cache, source):
    """A program with a loop of its own may call from there: it is another thread."""

    async def main() -> int:
        return len(await asyncio.to_thread(lambda: cache.open(source).read())) + len(
            cache.open(source).read(10)
        )

    assert asyncio.run(main()) == LENGTH + 10


def run_script(script: str, *arguments: str) -> subprocess.Popen[str]:
    """Start a Python program with its output piped."""
    return subprocess.Popen(
        [sys.executable, "-W", "ignore::DeprecationWarning", "-c", script, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


INTERRUPTED = textwrap.dedent("""
    import sys, threading
    from cachestream import blocking
    url, root, how = sys.argv[1:]
    with blocking.CacheManager(cache_dir=root, min_free=0) as cache:
        try:
            if how == "file":
                cache.open(url).read(10)
            else:
                cache.pre_cache_url(url)
        except KeyboardInterrupt:
            while cache.statistics().open_readers:
                pass
            print("interrupted", flush=True)
    print(threading.active_count())
""")


@pytest.mark.parametrize("how", ["call", "file"])
def test_ctrl_c_cancels(origin, tmp_path, how):
    """Ctrl-C in a waiting call raises there at once, cancels the work, and the manager closes."""
    url, _ = gated(origin)
    process = run_script(INTERRUPTED, url, str(tmp_path), how)
    try:
        origin.wait_request(1, "/gated.bin", PATIENCE_S)
        process.send_signal(signal.SIGINT)
        out, shown = process.communicate(timeout=PATIENCE_S)
    finally:
        process.kill()
        process.communicate()
    assert (process.returncode, out) == (0, "interrupted\n1\n"), shown


FORKED = textwrap.dedent("""
    import os, sys
    from cachestream import blocking
    from cachestream.errors import ForkedError
    url, root = sys.argv[1:]

    def attempt(name, call):
        try:
            call()
        except ForkedError:
            return
        os.write(1, f"{name} did not raise\\n".encode())

    with blocking.CacheManager(cache_dir=root, min_free=0) as cache:
        stream = cache.create_stream(url)
        response = stream.request()
        file = cache.open(url)
        begin = file.read(10)
        states = stream.states()
        next(states)
        child = os.fork()
        if child == 0:
            try:
                attempt("statistics", cache.statistics)
                attempt("start", cache.start)
                attempt("url", lambda: cache.get_cache_url(url))
                attempt("state", lambda: stream.state)
                attempt("head", stream.head)
                attempt("download", lambda: stream.download(timeout=1))
                attempt("states", lambda: next(states))
                attempt("response", response.read)
                attempt("raw", lambda: file.raw.read(5))
                attempt("seek", lambda: file.raw.seek(5))
                attempt("size", file.size)
                attempt("open", lambda: cache.open(url))
                file.close(), response.close(), stream.release(), cache.close()
                with blocking.CacheManager(cache_dir=root + "/child", min_free=0) as own:
                    assert own.open(url).read(10) == begin
            except BaseException as error:
                os.write(1, f"{error!r}\\n".encode())
            os._exit(0)
        os.waitpid(child, 0)
        assert file.read(10) != begin
        assert len(response.read()) == file.size()
    print("parent", flush=True)
""")


def test_what_is_inherited_raises(source, tmp_path):
    """In a forked child everything raises but closing, which does nothing to the parent's."""
    process = run_script(FORKED, source, str(tmp_path))
    out, shown = process.communicate(timeout=PATIENCE_S)
    assert (process.returncode, out) == (0, "parent\n"), shown


# ---------------------------------------------------------------------------
# Its end
# ---------------------------------------------------------------------------


def test_nothing_is_left(origin, source, tmp_path):
    """After the end there are no more threads and descriptors than before the start."""

    def live(number: int) -> None:
        with blocking.CacheManager(cache_dir=tmp_path / str(number), min_free=0) as cache:
            file = cache.open(source)
            assert file.read() == DATA
            cache.create_stream(source).download()
            cache.verify()
            cache.create_stream(source).request()

    def left() -> tuple[int, int]:
        origin.run(origin.origin.wait(lambda: not origin.origin.connections, PATIENCE_S))
        return threading.active_count(), len(os.listdir("/proc/self/fd"))

    live(0)
    before = left()
    live(1)
    live(2)
    assert left() == before


def test_use_after_the_end_and_before_the_start(tmp_path, source):
    """Before the start and after the end calls raise, closing does not."""
    cache = blocking.CacheManager(cache_dir=tmp_path, min_free=0)
    cache.close()
    with pytest.raises(ClosedError, match="with cachestream"):
        cache.statistics()
    with cache:
        cache.start()
        one = cache.create_stream(source)
        response = one.request(timeout=PATIENCE_S)
        file = cache.open(source)
        file.read(1)
    assert cache.is_closed
    calls: list[Callable[[], object]] = [
        cache.statistics,
        cache.start,
        lambda: cache.open(source),
        lambda: cache.get_cache_url(source),
        lambda: one.state,
        one.download,
        response.read,
        lambda: file.raw.read(1),
    ]
    for call in calls:
        with pytest.raises(ClosedError):
            call()
    assert one.is_disposed
    cache.close()
    file.close()
    response.close()
    one.release()


def test_the_end_wakes_waiting_threads(open_cache, origin):
    """Closing a manager makes calls that wait in other threads raise."""
    url, _ = gated(origin)
    cache = open_cache()
    with ThreadPoolExecutor(3) as pool:
        waiting = [
            pool.submit(cache.pre_cache_url, url),
            pool.submit(lambda: cache.open(url).read(1)),
            pool.submit(lambda: cache.create_stream(url).head()),
        ]
        origin.wait_request(1, "/gated.bin", PATIENCE_S)
        cache.close(timeout=PATIENCE_S)
        for each in waiting:
            with pytest.raises(ClosedError):
                each.result(PATIENCE_S)


def test_several_may_close_at_a_time(open_cache, source):
    """Whoever closes a manager that is being closed waits for its end, too."""
    cache = open_cache()
    cache.pre_cache_url(source, timeout=PATIENCE_S)
    with ThreadPoolExecutor(6) as pool:
        for done in [pool.submit(cache.close) for _ in range(6)]:
            done.result(PATIENCE_S)
    assert "cachestream" not in [each.name for each in threading.enumerate()]


def test_a_start_that_fails_leaves_nothing(tmp_path):
    """An error at the start is raised by it, and the thread has ended."""
    (tmp_path / "file").write_text("in the way")
    before = threading.active_count()
    cache = blocking.CacheManager(cache_dir=tmp_path / "file" / "cache", min_free=0)
    with pytest.raises(cachestream.CacheStreamError):
        cache.start(timeout=PATIENCE_S)
    assert threading.active_count() == before
    cache.close()


def test_two_managers_in_one_process(open_cache, source, origin):
    """Managers have threads and stores of their own, and do not disturb each other."""
    first, second = open_cache("one"), open_cache("two")
    with first.open(source) as one, second.open(source) as two:
        assert one.read() == two.read() == DATA
        first.close(timeout=PATIENCE_S)
        two.seek(10)
        assert two.read(10) == DATA[10:20]
    assert second.statistics().bytes_from_origin == LENGTH
    assert second.pre_cache_url(source, timeout=PATIENCE_S).read_bytes() == DATA


def test_an_unclosed_manager_warns(tmp_path):
    """A manager that was started and dropped warns, as files do."""
    cache = blocking.CacheManager(cache_dir=tmp_path, min_free=0)
    cache.start()
    with pytest.warns(ResourceWarning, match="unclosed"):
        cache.__del__()
    cache.close()


# ---------------------------------------------------------------------------
# What the documentation shows
# ---------------------------------------------------------------------------

GUIDE = Path(__file__).parents[1] / "docs" / "how-to" / "blocking.md"
EXAMPLES = re.findall(r"```python\n(.*?)```", GUIDE.read_text(encoding="utf-8"), re.DOTALL)


@pytest.mark.parametrize("code", EXAMPLES, ids=range(len(EXAMPLES)))
def test_what_the_guide_shows(code, origin, tmp_path, monkeypatch, capsys):
    """Each example of the how-to page runs as it stands, with a local origin."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as writer:
        writer.writestr("inside.txt", "text")
    origin.add("/archive.zip", packed.getvalue())
    for name in ("/video.mp4", "/song.mp3"):
        origin.add(name, DATA)
    exec(compile(code.replace("https://example.com", origin.url("")), "guide", "exec"), {})
    shown = capsys.readouterr().out
    if "zipfile" in code:
        assert "['inside.txt']" in shown
        assert (tmp_path / "cachestream").is_dir()
    elif "run(count)" in code:
        assert shown == "0\n"
    else:
        assert sum(int(line) for line in shown.split() if line.isdigit()) == 1024
