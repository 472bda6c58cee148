"""Real yt-dlp: URLs that expire in mid-play, and downloads that go through the cache."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
import re
import subprocess
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from cachestream import CacheManager
from cachestream.testing.origin import FileContent, Origin, OriginRequest

pytestmark = [pytest.mark.integration, pytest.mark.slow]

PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "yt-dlp.md"
YT_DLP = Path(sys.executable).with_name("yt-dlp")
QUIET = ("--ignore-config", "--no-warnings", "--quiet", "--no-cache-dir", "--no-progress")
SIGNING_KEY = b"the site's own"
SECONDS = 8

MakeCache = Callable[..., Awaitable[CacheManager]]


@pytest.fixture(scope="module")
def media(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make a film of some megabytes, and the same as a playlist of segments."""
    place = tmp_path_factory.mktemp("site")
    start = ["ffmpeg", "-nostdin", "-v", "error"]
    source = "testsrc2=size=160x120:rate=25,noise=alls=40:allf=t:all_seed=7"
    coding = ["-c:v", "libx264", "-preset", "ultrafast", "-qp", "12", "-g", "25"]
    film = place / "film.mp4"
    lavfi = ["-f", "lavfi", "-i", source, "-t", str(SECONDS), *coding, "-pix_fmt", "yuv420p"]
    subprocess.run([*start, *lavfi, "-movflags", "+faststart", film], check=True)
    hls = ["-hls_time", "1", "-hls_playlist_type", "vod", place / "film.m3u8"]
    subprocess.run([*start, "-i", film, "-c", "copy", "-f", "hls", *hls], check=True)
    assert film.stat().st_size > 3_000_000
    assert len(list(place.glob("*.ts"))) == SECONDS
    return place


class Site:
    """A video site: its pages give out signed URLs, and each lasts for so many bytes."""

    def __init__(self, origin: Origin, film: Path, lasts: int) -> None:
        self.origin = origin
        self.lasts = lasts
        self.issued = 0
        self.page = origin.url("/watch/42")
        origin.add("/watch/42", self._page, content_type="text/html; charset=utf-8")
        origin.add("/media/42.mp4", FileContent.open(film), require=self._check, etag='"film"')

    def _page(self, request: OriginRequest) -> bytes:
        """Issue a URL; an older one has expired from now on."""
        self.issued += 1
        self._begun = self.sent
        url = f"/media/42.mp4?expires={self.issued}&amp;signature={self._sign(self.issued)}"
        video = f'<video src="{url}" type="video/mp4"></video>'
        return f"<html><title>A film</title><body>{video}</body></html>".encode()

    @staticmethod
    def _sign(expires: int) -> str:
        return hmac.new(SIGNING_KEY, str(expires).encode(), hashlib.sha256).hexdigest()

    def _check(self, request: OriginRequest) -> int | None:
        right = f"expires={self.issued}&signature={self._sign(self.issued)}"
        fresh = self.sent - self._begun < self.lasts
        return None if request.target.endswith(f"?{right}") and fresh else 403

    @property
    def sent(self) -> int:
        """How many bytes of the film were sent."""
        return sum(
            item.bytes_sent
            for item in self.origin.requests_for("/media/42.mp4")
            if item.status in (200, 206)
        )


@pytest.fixture
def recipe() -> dict[str, Any]:
    """Return what the how-to page defines."""
    code = re.search(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    assert code is not None
    namespace: dict[str, Any] = {"__name__": "recipe"}
    exec(compile(code[1], str(PAGE), "exec"), namespace)
    return namespace


@pytest.fixture
def small_requests(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the engine ask for less at a time than a URL lasts for."""
    monkeypatch.setattr("cachestream._engine.download.FIRST_REQUEST", 256 * 1024)
    monkeypatch.setattr("cachestream._engine.download.LARGEST_REQUEST", 256 * 1024)


def once(path: Path) -> int:
    """Return what the origin sends of a file at least.

    It may be a little more, since a client that seeks or leaves can cut a connection short while
    some bytes are under way; it is never the file twice.
    """
    return path.stat().st_size


async def frames(programs: Any, place: str | Path) -> bytes:
    """Decode something with ffmpeg and return the checksum of each frame."""
    arguments = ("-nostdin", "-v", "error", "-i", place, "-f", "framemd5", "-")
    listed: bytes = (await programs.run("ffmpeg", *arguments)).check()
    assert listed.count(b"\n") > 20 * SECONDS
    return listed


@pytest.mark.asyncio
async def test_a_film_is_played_while_its_urls_expire(
    programs: Any,
    origin: Origin,
    make_cache: MakeCache,
    media: Path,
    recipe: dict[str, Any],
    small_requests: None,
) -> None:
    """ffmpeg decodes every frame over several URLs, and the site sends the film once."""
    film = media / "film.mp4"
    site = Site(origin, film, lasts=1_000_000)
    cache = await make_cache(retry_delay=0.01)
    stream = await recipe["stream_of"](cache, site.page)
    assert await frames(programs, stream.cache_url) == await frames(programs, film)
    await stream.download()
    assert site.issued >= 3
    asked = origin.requests_for("/media/42.mp4")
    assert all("Mozilla" in (each.fields.get("User-Agent") or "") for each in asked)
    assert once(film) <= site.sent < 2 * once(film)
    stream.release()


@pytest.mark.asyncio
async def test_next_week_nothing_is_fetched_again(
    programs: Any, origin: Origin, make_cache: MakeCache, media: Path, recipe: dict[str, Any]
) -> None:
    """Another URL of the same film, in another process, finds all that was stored."""
    film = media / "film.mp4"
    site = Site(origin, film, lasts=100_000_000)
    cache = await make_cache()
    stream = await recipe["stream_of"](cache, site.page)
    first = stream.source
    await stream.download()
    key = stream.key
    stream.release()
    await cache.aclose()

    origin.reset_log()
    cache = await make_cache()
    stream = await recipe["stream_of"](cache, site.page)
    assert (stream.source != first, stream.key) == (True, key)
    assert await frames(programs, stream.cache_url) == await frames(programs, film)
    assert site.sent == 0
    stream.release()
    await cache.aclose()

    cache = await make_cache()
    (record,) = await cache.store.select(key)
    stream = cache.create_stream(record.source, key=key)  # as the page says: no yt-dlp at all
    assert await frames(programs, stream.cache_url) == await frames(programs, film)
    assert site.sent == 0
    stream.release()


@pytest.mark.asyncio
async def test_yt_dlp_downloads_a_file_through_the_cache(
    programs: Any, origin: Origin, make_cache: MakeCache, media: Path, tmp_path: Path
) -> None:
    """In chunks or at once, the file is right, and the origin sends the film once."""
    film = media / "film.mp4"
    origin.add("/film.mp4", FileContent.open(film), content_type="video/mp4")
    cache = await make_cache()
    local = cache.get_cache_url(origin.url("/film.mp4"))
    for name, arguments in {"one.mp4": ("--http-chunk-size", "300K"), "two.mp4": ()}.items():
        path = tmp_path / name
        (await programs.run(str(YT_DLP), *QUIET, *arguments, "-o", path, local)).check()
        assert path.read_bytes() == film.read_bytes()
        assert once(film) <= origin.bytes_sent() < 2 * once(film)


@pytest.mark.asyncio
async def test_yt_dlp_fetches_fragments_through_the_cache(
    programs: Any, origin: Origin, make_cache: MakeCache, media: Path, tmp_path: Path
) -> None:
    """Four at a time, each once; ffmpeg and yt-dlp find the same film in them."""
    for path in media.glob("film*"):
        kind = "application/vnd.apple.mpegurl" if path.suffix == ".m3u8" else None
        origin.add(f"/{path.name}", FileContent.open(path), content_type=kind)
    cache = await make_cache()
    local = cache.get_cache_url(origin.url("/film.m3u8"))
    names = ("one.mp4", "two.mp4")
    for name in names:
        arguments = ("-N", "4", "--hls-prefer-native", "--fixup", "never", "-o", tmp_path / name)
        (await programs.run(str(YT_DLP), *QUIET, *arguments, local)).check()
    one, two = ((tmp_path / name).read_bytes() for name in names)
    assert one == two == b"".join(path.read_bytes() for path in sorted(media.glob("*.ts")))
    for path in media.glob("*.ts"):
        assert once(path) <= origin.bytes_sent(f"/{path.name}") < 2 * once(path)


@pytest.mark.asyncio
async def test_what_yt_dlp_found_can_be_fetched_through_the_cache(
    programs: Any, origin: Origin, make_cache: MakeCache, media: Path, tmp_path: Path
) -> None:
    """Its list of formats, with local URLs, is as good to it as its own."""
    film = media / "film.mp4"
    site = Site(origin, film, lasts=100_000_000)
    cache = await make_cache()
    found = json.loads((await programs.run(str(YT_DLP), *QUIET, "-J", site.page)).check())
    for form in found["formats"]:
        form["url"] = cache.get_cache_url(form["url"], key=f"film {form['format_id']}")
    listed = tmp_path / "film.info.json"
    await asyncio.to_thread(listed.write_text, json.dumps(found))
    path = tmp_path / "film.mp4"
    (await programs.run(str(YT_DLP), *QUIET, "--load-info-json", listed, "-o", path)).check()
    assert path.read_bytes() == film.read_bytes()
    assert once(film) <= site.sent < 2 * once(film)
