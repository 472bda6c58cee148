"""The script for mpv plays through a cache what mpv is given, and what yt-dlp finds."""

from __future__ import annotations

import socket
import subprocess
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from cachestream import CacheManager
from cachestream.testing.origin import FileContent, Origin

pytestmark = [pytest.mark.integration, pytest.mark.slow]

SCRIPT = Path(__file__).parents[2] / "contrib" / "mpv" / "cachestream.lua"
YT_DLP = Path(sys.executable).with_name("yt-dlp")
MPV = ("--no-config", "--vo=null", "--ao=null", "--ao-null-untimed", "--untimed")
END = b"(End of file)"

MakeCache = Callable[..., Awaitable[CacheManager]]


@pytest.fixture(scope="module")
def media(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make a film without sound, and its sound."""
    place = tmp_path_factory.mktemp("script")
    start = ["ffmpeg", "-nostdin", "-v", "error", "-f", "lavfi", "-i"]
    picture = [
        "testsrc2=size=160x120:rate=25",
        "-t",
        "4",
        "-c:v",
        "libx264",
        "-preset",
        "ultrafast",
    ]
    subprocess.run([*start, *picture, "-pix_fmt", "yuv420p", place / "film.mp4"], check=True)
    subprocess.run([*start, "sine=frequency=440", "-t", "4", place / "sound.flac"], check=True)
    return place


@pytest.fixture
def films(origin: Origin, media: Path) -> Origin:
    """Serve both, and a page that has the film in it."""
    for name in ("film.mp4", "sound.flac"):
        origin.add(f"/{name}", FileContent.open(media / name))
    page = b'<html><title>A film</title><video src="/film.mp4"></video></html>'
    origin.add("/watch", page, content_type="text/html")
    return origin


Play = Callable[..., Awaitable[Any]]


@pytest.fixture
def play(programs: Any) -> Play:
    """Play something with the script."""

    async def run(cache: CacheManager | str, url: str, *arguments: str, **options: str) -> Any:
        base = cache if isinstance(cache, str) else cache.base_url
        given = {"base": base, **options}
        opts = [f"--script-opts-append=cachestream-{key}={value}" for key, value in given.items()]
        no_ytdl = () if any("ytdl" in each for each in arguments) else ("--no-ytdl",)
        return await programs.run(
            "mpv", *MPV, *no_ytdl, f"--script={SCRIPT}", *opts, *arguments, url
        )

    return run


@pytest.mark.asyncio
async def test_a_url_is_played_through_the_cache(
    play: Play, films: Origin, make_cache: MakeCache, media: Path
) -> None:
    """The origin sends the film once, and nothing for the second play."""
    cache = await make_cache(allow_hosts=("any",))
    source = films.url("/film.mp4")
    assert END in (await play(cache, source)).check()
    await cache.pre_cache_url(source)
    size = (media / "film.mp4").stat().st_size
    assert size <= films.bytes_sent("/film.mp4") < 2 * size
    films.reset_log()
    assert END in (await play(cache, source + "#t=1")).check()
    assert films.count() == 0
    assert cache.statistics().requests >= 2


@pytest.mark.asyncio
async def test_the_token_is_sent(play: Play, films: Origin, make_cache: MakeCache) -> None:
    """A cache with a token is read with it, whatever characters it has."""
    cache = await make_cache(allow_hosts=("any",), token="a/b c~ä")
    assert END in (await play(cache, films.url("/film.mp4"), token="a/b c~ä")).check()
    assert cache.statistics().bytes_from_origin > 0


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("options", "through"),
    [
        ({"enabled": "no"}, False),
        ({"hosts": "example.com"}, False),
        ({"hosts": "example.com,127.0.0.1"}, True),
        ({"skip_hosts": "127.0.0.1"}, False),
        ({"skip_hosts": "0.0.1"}, False),
        ({"skip_hosts": "7.0.0.1"}, True),
    ],
    ids=str,
)
async def test_some_hosts_are_asked_directly(
    options: dict[str, str], through: bool, play: Play, films: Origin, make_cache: MakeCache
) -> None:
    """The options say which URLs go through the cache; the others play without it."""
    cache = await make_cache(allow_hosts=("any",))
    assert END in (await play(cache, films.url("/film.mp4"), **options)).check()
    assert (cache.statistics().requests > 0) == through


@pytest.mark.asyncio
async def test_without_a_cache_films_are_played_all_the_same(play: Play, films: Origin) -> None:
    """If nobody listens, the origin is asked directly."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound, but it does not listen
        base = f"http://127.0.0.1:{taken.getsockname()[1]}"
        assert END in (await play(base, films.url("/film.mp4"))).check()
    assert films.count("/film.mp4") > 0


@pytest.mark.asyncio
async def test_a_local_url_stays_as_it_is(play: Play, films: Origin, make_cache: MakeCache) -> None:
    """A URL of the cache itself, and a file, are none that the script changes."""
    cache = await make_cache()
    url = cache.get_cache_url(films.url("/film.mp4"))
    assert END in (await play(cache, url)).check()


@pytest.mark.asyncio
async def test_picture_and_sound_of_an_edl_come_through_the_cache(
    play: Play, films: Origin, make_cache: MakeCache
) -> None:
    """Each URL in what yt-dlp makes of two formats is made local, with its new length."""
    cache = await make_cache(allow_hosts=("any",))
    parts = [films.url(f"/{name}") for name in ("film.mp4", "sound.flac")]
    edl = "edl://" + ";".join(f"!new_stream;!no_clip;%{len(each)}%{each}" for each in parts)
    done = await play(cache, edl)
    assert END in done.check()
    assert b"(+) Video" in done.out
    assert b"(+) Audio" in done.out
    for each in parts:
        await cache.pre_cache_url(each)
    films.reset_log()
    assert END in (await play(cache, edl)).check()
    assert films.count() == 0


@pytest.mark.asyncio
@pytest.mark.parametrize("first", ["yes", "no"])
async def test_what_yt_dlp_finds_comes_through_the_cache(
    first: str, play: Play, films: Origin, make_cache: MakeCache
) -> None:
    """mpv asks yt-dlp about a page, and plays the film in it through the cache."""
    cache = await make_cache(allow_hosts=("any",))
    film = films.url("/film.mp4")
    page = films.url("/watch")
    arguments = (
        "--ytdl=yes",
        f"--script-opts-append=ytdl_hook-try_ytdl_first={first}",
        f"--script-opts-append=ytdl_hook-ytdl_path={YT_DLP}",
    )
    assert END in (await play(cache, page, *arguments)).check()
    record = await cache.get_cache_record(film)
    assert record is not None
    assert record.stored_bytes > 0
