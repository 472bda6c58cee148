"""curl, the strictest of clients: what it writes and how it ends through the cache."""

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from cachestream import CacheManager
from cachestream.testing.origin import Origin, pattern

pytestmark = pytest.mark.integration

MakeCache = Callable[..., Awaitable[CacheManager]]

SIZE = 3_000_001
DATA = pattern("curl", SIZE).bytes()
QUIET = ("--silent", "--show-error", "--noproxy", "*", "--max-time", "40")
PARTIAL_FILE = 18
HTTP_ERROR = 22


@pytest.mark.asyncio
async def test_whole(programs: Any, origin: Origin, make_cache: MakeCache) -> None:
    """A plain GET writes the whole file; the second asks the origin nothing."""
    origin.add("/a.bin", DATA)
    cache = await make_cache()
    url = cache.get_cache_url(origin.url("/a.bin"))
    assert (await programs.run("curl", *QUIET, url)).check() == DATA
    origin.reset_log()
    assert (await programs.run("curl", *QUIET, url)).check() == DATA
    assert origin.count() == 0


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("wanted", "expected", "content_range"),
    [
        ("0-", DATA, f"bytes 0-{SIZE - 1}/{SIZE}"),
        ("0-0", DATA[:1], f"bytes 0-0/{SIZE}"),
        ("1000000-1999999", DATA[1_000_000:2_000_000], f"bytes 1000000-1999999/{SIZE}"),
        ("2999999-9999999", DATA[2_999_999:], f"bytes 2999999-{SIZE - 1}/{SIZE}"),
        ("-500", DATA[-500:], f"bytes {SIZE - 500}-{SIZE - 1}/{SIZE}"),
        ("-9999999", DATA, f"bytes 0-{SIZE - 1}/{SIZE}"),
    ],
)
async def test_ranges(
    wanted: str,
    expected: bytes,
    content_range: str,
    programs: Any,
    origin: Origin,
    make_cache: MakeCache,
) -> None:
    """A range is answered by 206 and just its bytes, cold and held."""
    origin.add("/a.bin", DATA)
    cache = await make_cache(completion="demand")
    url = cache.get_cache_url(origin.url("/a.bin"))
    # What -w writes comes after the content.
    shown = f"206 {content_range}".encode()
    for _ in range(2):
        asked = ("-r", wanted, "-w", "%{http_code} %header{content-range}", url)
        assert (await programs.run("curl", *QUIET, *asked)).check() == expected + shown


@pytest.mark.asyncio
async def test_a_range_past_the_end(programs: Any, origin: Origin, make_cache: MakeCache) -> None:
    """It is 416 with the length, which --fail turns into an exit code."""
    origin.add("/a.bin", DATA)
    cache = await make_cache()
    url = cache.get_cache_url(origin.url("/a.bin"))
    asked = ("--fail", "-r", f"{SIZE}-", "-w", "%{http_code} %header{content-range}", url)
    done = await programs.run("curl", *QUIET, *asked)
    assert done.code == HTTP_ERROR
    assert done.out == f"416 bytes */{SIZE}".encode()


@pytest.mark.asyncio
async def test_resume(programs: Any, origin: Origin, make_cache: MakeCache, tmp_path: Path) -> None:
    """``curl -C -`` goes on where a file ends."""
    origin.add("/a.bin", DATA)
    cache = await make_cache()
    url = cache.get_cache_url(origin.url("/a.bin"))
    part = tmp_path / "part.bin"
    part.write_bytes(DATA[:1_234_567])
    (await programs.run("curl", *QUIET, "-C", "-", "-o", part, url)).check()
    assert part.read_bytes() == DATA


@pytest.mark.asyncio
async def test_head(programs: Any, origin: Origin, make_cache: MakeCache) -> None:
    """HEAD shows length, type and range support, and has no content."""
    origin.add("/a.bin", DATA, content_type="video/mp4")
    cache = await make_cache()
    url = cache.get_cache_url(origin.url("/a.bin"))
    head = (await programs.run("curl", *QUIET, "--head", url)).check().decode()
    first, *lines = head.rstrip().split("\r\n")
    fields = {name.lower(): value for name, value in (line.split(": ", 1) for line in lines)}
    assert first == "HTTP/1.1 200 OK"
    assert fields["content-length"] == str(SIZE)
    assert fields["content-type"] == "video/mp4"
    assert fields["accept-ranges"] == "bytes"
    assert fields["etag"] == '"v1"'
    assert origin.bytes_sent() < SIZE


@pytest.mark.asyncio
@pytest.mark.parametrize("framing", ["length", "chunked"])
async def test_http_1_0(framing: str, programs: Any, origin: Origin, make_cache: MakeCache) -> None:
    """An HTTP/1.0 client gets the bytes without chunks, of known and of unknown length."""
    origin.add("/a.bin", DATA, framing=framing, ranges=framing == "length")
    cache = await make_cache()
    url = cache.get_cache_url(origin.url("/a.bin"))
    done = await programs.run("curl", *QUIET, "--http1.0", "--include", url)
    head, _, content = done.check().partition(b"\r\n\r\n")
    assert content == DATA
    assert b"transfer-encoding" not in head.lower()


@pytest.mark.asyncio
@pytest.mark.parametrize("status", [403, 404, 410, 503])
async def test_fail(status: int, programs: Any, origin: Origin, make_cache: MakeCache) -> None:
    """An error of the origin's is curl's error too, and its status is seen."""
    origin.add("/a.bin", DATA).fail(status)
    cache = await make_cache(retry_delay=0.01)
    url = cache.get_cache_url(origin.url("/a.bin"))
    done = await programs.run("curl", *QUIET, "--fail", "-w", "%{http_code}", url)
    assert (done.code, done.out) == (HTTP_ERROR, str(status).encode())


@pytest.mark.asyncio
async def test_a_response_that_is_cut_is_seen_as_cut(
    programs: Any, origin: Origin, make_cache: MakeCache
) -> None:
    """When the rest never comes curl says that the file is partial, and keeps what is right."""
    served = origin.add("/a.bin", DATA, drop_after=1_000_000)
    served.plan = lambda request: {"status": 503} if origin.count() > 1 else None
    cache = await make_cache(request_timeout=0.5, retry_delay=0.05, max_retry_delay=0.1)
    url = cache.get_cache_url(origin.url("/a.bin"))
    done = await programs.run("curl", *QUIET, url)
    assert done.code == PARTIAL_FILE
    assert done.out == DATA[: len(done.out)]
    assert 0 < len(done.out) <= 1_000_000


@pytest.mark.asyncio
async def test_several_urls_over_one_connection(
    programs: Any, origin: Origin, make_cache: MakeCache, tmp_path: Path
) -> None:
    """Answers of every kind leave the connection in a state that the next can use."""
    origin.add("/a.bin", DATA)
    origin.add("/empty.bin", b"")
    origin.add("/chunks.bin", DATA[:100_000], framing="chunked", ranges=False)
    cache = await make_cache()
    base = origin.url().rstrip("/")
    names = ("a.bin", "gone.bin", "empty.bin", "chunks.bin", "a.bin")
    arguments: list[str] = []
    for number, name in enumerate(names):
        place = str(tmp_path / f"{number}.out")
        arguments += ["-o", place, cache.get_cache_url(f"{base}/{name}")]
    done = await programs.run("curl", *QUIET, "-w", "%{http_code} %{num_connects}\n", *arguments)
    # The number of new connections: one for the first, none for those after it.
    assert done.check() == b"200 1\n404 0\n200 0\n200 0\n200 0\n"
    contents = [(tmp_path / f"{number}.out").read_bytes() for number in (0, 2, 3, 4)]
    assert contents == [DATA, b"", DATA[:100_000], DATA]
