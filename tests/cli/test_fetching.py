"""`get`, `cat` and `prefetch` bring bytes through the cache."""

import json
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from cachestream.cli._fetching import _name_from
from cachestream.testing.origin import OriginThread, pattern

SIZE = 3 << 20
DATA = pattern("film", SIZE).bytes()

Run = Callable[..., subprocess.CompletedProcess[bytes]]
Start = Callable[..., subprocess.Popen[bytes]]


@pytest.fixture
def origin() -> Iterator[OriginThread]:
    """Run an origin with one file."""
    with OriginThread() as origin:
        origin.add("/film.bin", DATA)
        yield origin


@pytest.fixture
def url(origin: OriginThread) -> str:
    """Return the URL of the file."""
    return origin.url("/film.bin")


def wait_sent(origin: OriginThread, size: int) -> None:
    """Wait until the origin has sent ``size`` bytes."""
    origin.run(origin.origin.wait(lambda: origin.origin.bytes_sent() >= size))


def wait_stored(run: Run, url: str, size: int) -> None:
    """Wait until another process sees ``size`` bytes of a URL."""
    for _ in range(40):
        done = run("info", url, "--json")
        if done.returncode == 0 and json.loads(done.stdout)["stored_bytes"] >= size:
            return
    raise AssertionError(f"{size} bytes were never committed: {done.stdout!r} {done.stderr!r}")


def test_get_writes_a_file_of_the_urls_name(run: Run, url: str, tmp_path: Path) -> None:
    """Without --output the file has the name of the URL's last segment, and only that is left."""
    done = run("get", url)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "film.bin").read_bytes() == DATA
    assert sorted(path.name for path in tmp_path.iterdir()) == ["cache", "film.bin"]
    assert b"film.bin: 100%, 3 MiB of 3 MiB" in done.stderr
    assert done.stdout == b""


def test_get_twice_asks_the_origin_once(run: Run, origin: OriginThread, url: str) -> None:
    """What is held is not fetched again, by another process neither."""
    assert run("get", url, "-o", "a").returncode == 0
    sent, requests = origin.bytes_sent(), origin.count()
    assert run("get", url, "-o", "b").returncode == 0
    assert sent == SIZE
    assert (origin.bytes_sent(), origin.count()) == (sent, requests)


def test_get_keeps_a_file_that_is_there(run: Run, url: str, tmp_path: Path) -> None:
    """A file that --output did not name is replaced only with --force."""
    (tmp_path / "film.bin").write_text("mine")
    done = run("get", url)
    assert done.returncode == 1
    assert b"--force" in done.stderr
    assert (tmp_path / "film.bin").read_text() == "mine"
    assert run("get", url, "--force").returncode == 0
    assert (tmp_path / "film.bin").read_bytes() == DATA


def test_get_replaces_the_file_that_was_named(run: Run, url: str, tmp_path: Path) -> None:
    """A file that --output names is replaced."""
    (tmp_path / "out").write_text("old")
    assert run("get", url, "-o", "out", "-q").returncode == 0
    assert (tmp_path / "out").read_bytes() == DATA


def test_get_to_stdout_prints_bytes_alone(run: Run, url: str) -> None:
    """With - as output stdout has the bytes and nothing else."""
    done = run("get", url, "-o", "-")
    assert (done.returncode, done.stdout) == (0, DATA)


def test_quiet_shows_no_progress(run: Run, url: str) -> None:
    """With --quiet only the result is told."""
    assert run("get", url, "-q", "-o", "x").stderr == f"x: {SIZE} bytes\n".encode()


def test_get_of_what_cannot_be_had_leaves_nothing(
    run: Run, origin: OriginThread, tmp_path: Path
) -> None:
    """A failing origin ends with 4, and leaves neither the file nor a part of it."""
    done = run("get", origin.url("/missing"), "-o", "out")
    assert done.returncode == 4
    assert b"404" in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["cache"]


def test_get_into_what_cannot_be_written_fails(run: Run, url: str) -> None:
    """A directory that is not there is a clear error."""
    done = run("get", url, "-o", "nowhere/out")
    assert done.returncode == 1
    assert b"cannot write nowhere/out: No such file or directory" in done.stderr


def test_get_goes_on_after_a_kill(
    run: Run, start: Start, origin: OriginThread, url: str, tmp_path: Path
) -> None:
    """A fetch that was killed in the middle resumes; what was committed is not fetched again."""
    origin.origin.files["/film.bin"].stall(after=SIZE // 2, times=1)
    with start("get", url, "-o", "out") as process:
        wait_sent(origin, SIZE // 2)
        wait_stored(run, url, SIZE // 2)
        process.kill()
    done = run("get", url, "-o", "out")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "out").read_bytes() == DATA
    assert origin.bytes_sent() == SIZE


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)], ids=["SIGINT", "SIGTERM"]
)
def test_an_interrupted_get_leaves_nothing(
    start: Start, origin: OriginThread, url: str, tmp_path: Path, number: int, code: int
) -> None:
    """Ctrl-C ends with 130, SIGTERM with 143; no part of the file is left, and no traceback."""
    origin.origin.files["/film.bin"].stall(after=SIZE // 2)
    with start("get", url, "-o", "out") as process:
        wait_sent(origin, SIZE // 2)
        process.send_signal(number)
        _, shown = process.communicate(timeout=20)
    assert process.returncode == code
    assert b"Traceback" not in shown
    assert [path.name for path in tmp_path.iterdir()] == ["cache"]


@pytest.mark.parametrize(
    ("text", "first", "stop"),
    [("0-99", 0, 100), ("100-", 100, SIZE), ("-100", SIZE - 100, SIZE), ("5-999999999", 5, SIZE)],
)
def test_cat_prints_a_range(run: Run, url: str, text: str, first: int, stop: int) -> None:
    """A range is inclusive, may be open or a suffix, and is clamped at the end."""
    done = run("cat", url, "--range", text)
    assert (done.returncode, done.stdout) == (0, DATA[first:stop]), done.stderr


def test_cat_of_a_small_range_asks_for_little(run: Run, origin: OriginThread, url: str) -> None:
    """A range far from the end does not fetch the file to its end."""
    assert run("cat", url, "-r", "0-99", "--completion", "demand").returncode == 0
    assert origin.bytes_sent() < SIZE


@pytest.mark.parametrize("text", [f"{SIZE}-", "-0"])
def test_a_range_past_the_end_fails(run: Run, url: str, text: str) -> None:
    """No byte is there, so nothing is printed and the code is 1."""
    done = run("cat", url, "-r", text)
    assert (done.returncode, done.stdout) == (1, b"")


def test_a_malformed_range_is_a_usage_error(run: Run, url: str) -> None:
    """What is no range is refused before anything is asked."""
    assert run("cat", url, "-r", "5-1").returncode == 2


def test_only_if_cached_asks_nobody(run: Run, origin: OriginThread, url: str) -> None:
    """With --only-if-cached a miss ends with 3, and the origin hears nothing."""
    assert run("cat", url, "--only-if-cached").returncode == 3
    assert origin.count() == 0
    assert run("get", url, "-o", "out").returncode == 0
    asked = origin.count()
    assert run("cat", url, "--only-if-cached").stdout == DATA
    assert origin.count() == asked


def test_a_closed_pipe_ends_cat(start: Start, url: str) -> None:
    """When nobody reads any more, the program ends, without a traceback."""
    with start("cat", url) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.read(10) == DATA[:10]
        process.stdout.close()
        assert b"Traceback" not in process.stderr.read()
    assert process.returncode == 1


def test_an_unreachable_origin_ends_with_4(run: Run) -> None:
    """Nobody there is an upstream error that names the URL."""
    done = run("cat", "http://127.0.0.1:9/x", "--request-timeout", "1s")
    assert done.returncode == 4
    assert b"127.0.0.1:9" in done.stderr
    assert b"Traceback" not in done.stderr


@pytest.mark.parametrize("text", ["example", "ftp://example.com/x", "http://u:p@h/"])
def test_what_is_no_url_ends_with_2(run: Run, text: str) -> None:
    """A URL that cannot be fetched is a usage error."""
    done = run("cat", text)
    assert done.returncode == 2
    assert b"Traceback" not in done.stderr


def test_a_wrong_setting_ends_with_2(run: Run, url: str) -> None:
    """A value that a setting refuses is a usage error that names the setting."""
    done = run("cat", url, "--max-buffer-size", "1k")
    assert done.returncode == 2
    assert b"max_buffer_size" in done.stderr


def test_prefetch_fetches_everything(run: Run, origin: OriginThread, url: str) -> None:
    """After a prefetch the whole file is there, and reading it asks nobody."""
    done = run("prefetch", url)
    assert done.returncode == 0, done.stderr
    assert origin.bytes_sent() == SIZE
    assert b"100%" in done.stderr
    assert run("cat", url, "--offline").stdout == DATA


def test_prefetch_can_fetch_the_beginning(run: Run, origin: OriginThread, url: str) -> None:
    """With --bytes so many bytes are there, and the origin sent no whole file."""
    assert run("prefetch", url, "--bytes", "64k", "--completion", "demand").returncode == 0
    assert run("cat", url, "--offline", "-r", "0-65535").stdout == DATA[: 64 << 10]
    assert origin.bytes_sent() < SIZE


def test_a_failing_prefetch_does_not_stop_the_others(
    run: Run, origin: OriginThread, url: str
) -> None:
    """Each URL stands for itself; the code is that of the first failure, and it is named."""
    missing = origin.url("/missing")
    done = run("prefetch", missing, url)
    assert done.returncode == 4
    assert missing.encode() in done.stderr
    assert b"1 of 2 failed" in done.stderr
    assert b"Traceback" not in done.stderr
    assert run("cat", url, "--offline").stdout == DATA


@pytest.mark.parametrize(
    ("url", "name"),
    [
        ("https://a.example/x/film.mp4?y=1#z", "film.mp4"),
        ("https://a.example/a%20b", "a b"),
        ("https://a.example/", "index"),
        ("https://a.example", "index"),
        ("https://a.example/%2e%2e", "index"),
        ("https://a.example/..%2f..%2fetc%2fpasswd", "_.._etc_passwd"),
        ("https://a.example/.bashrc", "bashrc"),
        ("https://a.example/a%00b%0ac", "a_b_c"),
    ],
)
def test_the_name_from_a_url_is_no_path(url: str, name: str) -> None:
    """A URL cannot name a file elsewhere, or a hidden one."""
    assert _name_from(url) == name
