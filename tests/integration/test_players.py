"""Real players play through the cache as they play the file itself."""

import asyncio
import json
import os
import signal
import subprocess
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from cachestream import CacheManager
from cachestream.testing.origin import FileContent, Origin, Served

pytestmark = [pytest.mark.integration, pytest.mark.slow]

MEDIA = ("first.mp4", "last.mp4", "film.mkv", "song.mp3", "song.flac")
SECONDS = 16
NEAR_THE_END = str(SECONDS * 0.9)

PICTURE = (
    "-f", "lavfi", "-i",
    f"testsrc2=size=160x120:rate=25:duration={SECONDS},noise=alls=40:allf=t:all_seed=7",
)  # fmt: skip
SOUND = ("-f", "lavfi", "-i", f"sine=frequency=440:duration={SECONDS}")
NOISE = ("-f", "lavfi", "-i", f"anoisesrc=seed=7:sample_rate=44100:duration={SECONDS * 4}")
VIDEO = ("-c:v", "libx264", "-preset", "ultrafast", "-qp", "12", "-g", "25", "-pix_fmt", "yuv420p")
# The noise makes about 10 MB of it: more than the cache reads ahead or asks for at once.
HOW: Mapping[str, tuple[str, ...]] = {
    "first.mp4": (*PICTURE, *SOUND, *VIDEO, "-c:a", "aac", "-movflags", "+faststart"),
    "last.mp4": (*PICTURE, *SOUND, *VIDEO, "-c:a", "aac"),
    "film.mkv": (*PICTURE, *SOUND, *VIDEO, "-c:a", "flac"),
    "song.mp3": (*NOISE, "-c:a", "libmp3lame", "-b:a", "320k"),
    "song.flac": (*NOISE, "-c:a", "flac"),
}
MPV = ("--no-config", "--vo=null", "--ao=null", "--ao-null-untimed", "--untimed", "--no-ytdl")

MakeCache = Callable[..., Awaitable[CacheManager]]
Eventually = Callable[[Callable[[], object]], Awaitable[None]]


@pytest.fixture(scope="session")
def media(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make the media files, once a test process."""
    place = tmp_path_factory.mktemp("media")
    for name, how in HOW.items():
        try:
            made = subprocess.run(
                ["ffmpeg", "-nostdin", "-v", "error", *how, place / name], capture_output=True
            )
        except FileNotFoundError:
            pytest.fail("ffmpeg is not installed; run: apt-get install ffmpeg")
        assert made.returncode == 0, made.stderr
    return place


def put(origin: Origin, path: Path, **knobs: Any) -> Served:
    """Serve a file under its own name."""
    return origin.add(f"/{path.name}", FileContent.open(path), **knobs)


def stalling_start(path: Path) -> Callable[[Any], Mapping[str, object] | None]:
    """Make an origin's plan: what begins in the first half stands still after 512 KiB."""
    half = path.stat().st_size // 2

    def plan(request: Any) -> Mapping[str, object] | None:
        first = int((request.range or "bytes=0-").partition("=")[2].partition("-")[0])
        return {"stall_after": 512 * 1024} if first < half else None

    return plan


async def frames(programs: Any, place: str | Path, *where: str) -> bytes:
    """Decode something with ffmpeg and return the checksum of each frame."""
    done = await programs.run("ffmpeg", *decoding(place, *where))
    listed = done.check()
    assert listed.count(b"\n") > 20, "hardly a frame was decoded"
    return listed


def decoding(place: str | Path, *where: str) -> tuple[str | Path, ...]:
    return ("-nostdin", "-v", "error", *where, "-i", place, "-f", "framemd5", "-")


async def probe(programs: Any, place: str | Path) -> Any:
    """Return what ffprobe sees, but for the name."""
    asked = ("-v", "error", "-show_format", "-show_streams", "-of", "json", place)
    seen = json.loads((await programs.run("ffprobe", *asked)).check())
    del seen["format"]["filename"]
    return seen


def held(cache: CacheManager) -> int:
    """Return how much a cache holds for clients or for itself at this moment."""
    now = cache.statistics()
    return now.open_readers + now.waiting_readers + now.running_downloads


@pytest.mark.asyncio
@pytest.mark.parametrize("name", MEDIA)
async def test_decoding_through_the_cache_is_decoding_the_file(
    name: str, media: Path, programs: Any, origin: Origin, make_cache: MakeCache
) -> None:
    """Every frame is the same, streams and duration are, and a second play costs nothing."""
    put(origin, media / name)
    cache = await make_cache()
    url = cache.get_cache_url(origin.url(f"/{name}"))
    expected = await frames(programs, media / name)
    assert await frames(programs, url) == expected
    assert await probe(programs, url) == await probe(programs, media / name)
    await cache.pre_cache_url(origin.url(f"/{name}"))
    assert origin.bytes_sent() >= (media / name).stat().st_size

    origin.reset_log()
    assert await frames(programs, url) == expected
    assert origin.count() == 0


@pytest.mark.asyncio
@pytest.mark.parametrize("where", [("-ss", NEAR_THE_END), ("-sseof", "-1")], ids=" ".join)
@pytest.mark.parametrize("name", MEDIA)
async def test_a_seek_near_the_end_finds_the_same_frames(
    name: str,
    where: tuple[str, ...],
    media: Path,
    programs: Any,
    origin: Origin,
    make_cache: MakeCache,
) -> None:
    """A seek in a file of which nothing is held gives the frames a seek in the file gives."""
    put(origin, media / name)
    cache = await make_cache(completion="demand")
    url = cache.get_cache_url(origin.url(f"/{name}"))
    assert await frames(programs, url, *where) == await frames(programs, media / name, *where)


@pytest.mark.asyncio
async def test_a_seek_does_not_wait_for_what_lies_before_it(
    media: Path, programs: Any, origin: Origin, make_cache: MakeCache
) -> None:
    """Near the end is played while a crawling origin has hardly sent the start."""
    path = media / "film.mkv"
    put(origin, path, plan=stalling_start(path))
    cache = await make_cache()
    url = cache.get_cache_url(origin.url("/film.mkv"))
    where = ("-ss", NEAR_THE_END)
    assert await frames(programs, url, *where) == await frames(programs, path, *where)
    # The start stands still for ever, so nothing but its first bytes can have come.
    state = cache.create_stream(origin.url("/film.mkv")).state
    assert state.position <= 1024 * 1024


@pytest.mark.asyncio
@pytest.mark.parametrize("name", MEDIA)
async def test_mpv_plays_to_the_end(
    name: str, media: Path, programs: Any, origin: Origin, make_cache: MakeCache
) -> None:
    """mpv starts on a cold file, comes to its end, and the next play asks the origin nothing."""
    put(origin, media / name)
    cache = await make_cache()
    url = cache.get_cache_url(origin.url(f"/{name}"))
    done = await programs.run("mpv", *MPV, url)
    assert b"(End of file)" in done.check()

    await cache.pre_cache_url(origin.url(f"/{name}"))
    origin.reset_log()
    assert b"(End of file)" in (await programs.run("mpv", *MPV, url)).check()
    assert origin.count() == 0


@pytest.mark.asyncio
@pytest.mark.parametrize("name", MEDIA)
async def test_mpv_seeks(
    name: str, media: Path, programs: Any, origin: Origin, make_cache: MakeCache
) -> None:
    """mpv starts at 90 % and plays the rest, though the first half does not come."""
    # mpv reads an mp3 from its start to where it seeks to, from wherever it comes.
    plan = None if name == "song.mp3" else stalling_start(media / name)
    put(origin, media / name, plan=plan)
    cache = await make_cache()
    url = cache.get_cache_url(origin.url(f"/{name}"))
    done = await programs.run("mpv", *MPV, "--start=90%", "--msg-level=all=error,cplayer=info", url)
    assert b"(End of file)" in done.check()
    assert b"[ffmpeg" not in done.out, done.out


@pytest.mark.asyncio
async def test_a_server_process_plays_after_a_restart_without_the_origin(
    media: Path, programs: Any, origin: Origin, serve: Callable[..., Any]
) -> None:
    """What one `cachestream serve` has played, the next one plays with the origin away."""
    path = media / "first.mp4"
    put(origin, path)
    source = origin.url("/first.mp4")
    expected = await frames(programs, path)
    server = serve()
    assert await frames(programs, server.url(source)) == expected
    assert await frames(programs, server.url(source)) == expected
    assert await asyncio.to_thread(server.end) == 0

    await origin.down()
    again = serve().url(source)
    assert await frames(programs, again) == expected
    assert b"(End of file)" in (await programs.run("mpv", *MPV, again)).check()


@pytest.mark.asyncio
@pytest.mark.parametrize("name", ["first.mp4", "song.flac"])
async def test_two_players_of_a_cold_file_cost_the_origin_one_download(
    name: str, media: Path, programs: Any, origin: Origin, make_cache: MakeCache
) -> None:
    """Both decode every frame, and the origin sends each byte once."""
    path = media / name
    put(origin, path, rate=4_000_000)
    cache = await make_cache()
    url = cache.get_cache_url(origin.url(f"/{name}"))
    expected = await frames(programs, path)
    both = [programs.run("ffmpeg", *decoding(url)) for _ in range(2)]
    for done in await asyncio.gather(*both):
        assert done.check() == expected
    await cache.pre_cache_url(origin.url(f"/{name}"))
    assert origin.bytes_sent() == path.stat().st_size


@pytest.mark.asyncio
@pytest.mark.parametrize("name", ["first.mp4", "last.mp4", "song.flac"])
async def test_a_player_that_is_killed_changes_nothing_for_another(
    name: str,
    media: Path,
    programs: Any,
    origin: Origin,
    make_cache: MakeCache,
    eventually: Eventually,
) -> None:
    """The other one decodes every frame, and in the end nothing is held for either."""
    path = media / name
    put(origin, path, rate=4_000_000)
    cache = await make_cache()
    url = cache.get_cache_url(origin.url(f"/{name}"))
    # Read in real time, so that it cannot have come to the end when it is killed.
    killed = await programs.start("ffmpeg", *decoding(url, "-re"))
    other = await programs.start("ffmpeg", *decoding(url))
    await origin.wait(lambda: origin.bytes_sent() > path.stat().st_size // 2, timeout=60)
    os.kill(killed.pid, signal.SIGKILL)
    assert (await programs.finish(killed)).code == -signal.SIGKILL
    assert (await programs.finish(other)).check() == await frames(programs, path)
    await cache.pre_cache_url(origin.url(f"/{name}"))
    await eventually(lambda: held(cache) == 0)
