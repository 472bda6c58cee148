"""A real libmpv plays through a cache, by a protocol of its own."""

from __future__ import annotations

import gc
import queue
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import mpv
import pytest

from cachestream import CacheManager, blocking
from cachestream.errors import (
    CacheStreamError,
    ClosedError,
    ConfigurationError,
    InvalidURLError,
    UpstreamStatusError,
)
from cachestream.integrations.mpv import MpvProtocol, register
from cachestream.testing.origin import FileContent, OriginThread

pytestmark = [pytest.mark.integration, pytest.mark.slow]

PATIENCE_S = 60.0
SECONDS = 12
OPTIONS: dict[str, Any] = {
    "vo": "null",
    "ao": "null",
    "ao_null_untimed": True,
    "untimed": True,
    "ytdl": False,
    "config": False,
}
END_OF_FILE, STOPPED, FAILED = 0, 2, 4

OpenCache = Callable[..., blocking.CacheManager]


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make a film of some megabytes, its index at the end."""
    path = tmp_path_factory.mktemp("mpv") / "film.mp4"
    size = "testsrc2=size=160x120:rate=25,noise=alls=40:allf=t:all_seed=7"
    command = ["ffmpeg", "-nostdin", "-v", "error", "-f", "lavfi", "-i", size]
    command += ["-t", str(SECONDS), "-c:v", "libx264", "-preset", "ultrafast", "-qp", "12"]
    subprocess.run([*command, "-g", "25", "-pix_fmt", "yuv420p", path], check=True)
    assert path.stat().st_size > 4_000_000
    return path


@pytest.fixture
def origin(film: Path) -> Iterator[OriginThread]:
    """Run an origin that has the film."""
    with OriginThread() as running:
        running.add("/film.mp4", FileContent.open(film))
        yield running


@pytest.fixture
def cache(tmp_path: Path) -> Iterator[blocking.CacheManager]:
    """Open a cache that fetches only what is asked for."""
    with blocking.CacheManager(
        cache_dir=tmp_path / "cache",
        min_free=0,
        completion="demand",
        retry_delay=0.01,
        max_retry_delay=0.05,
        start_server=False,
    ) as opened:
        yield opened


class Player:
    """A player with a protocol, and how its files ended."""

    def __init__(self, cache: blocking.CacheManager, **options: Any) -> None:
        self.errors: list[tuple[str, CacheStreamError]] = []
        self.mpv = mpv.MPV(**{**OPTIONS, **options})
        self.protocol = register(self.mpv, cache, on_error=lambda *error: self.errors.append(error))
        self._endings: queue.Queue[int] = queue.Queue()
        self._loaded = threading.Event()
        self.mpv.register_event_callback(self._on_event)

    def _on_event(self, event: Any) -> None:
        if event.event_id.value == mpv.MpvEventID.END_FILE:
            self._endings.put(event.data.reason)
        elif event.event_id.value == mpv.MpvEventID.FILE_LOADED:
            self._loaded.set()

    def play(self, source: str) -> None:
        self.mpv.play(self.protocol.url_for(source))

    def ended(self) -> int:
        """Wait for the end of a file; return its reason."""
        return self._endings.get(timeout=PATIENCE_S)

    def loaded(self) -> None:
        assert self._loaded.wait(PATIENCE_S)

    def terminate(self) -> None:
        self.mpv.terminate()


@pytest.fixture
def make_player(cache: blocking.CacheManager) -> Iterator[Callable[..., Player]]:
    """Make players, and end each that is left."""
    made: list[Player] = []

    def make(**options: Any) -> Player:
        made.append(Player(cache, **options))
        return made[-1]

    yield make
    for player in made:
        if player.mpv.handle is not None:
            player.terminate()


@pytest.fixture
def player(make_player: Callable[..., Player]) -> Player:
    """Make one player."""
    return make_player()


def held(cache: blocking.CacheManager) -> int:
    """Return how many readers a cache has, and who waits."""
    now = cache.statistics()
    return now.open_readers + now.waiting_readers


def test_mpv_plays_to_the_end(
    player: Player, cache: blocking.CacheManager, origin: OriginThread, film: Path
) -> None:
    """The origin sends hardly a byte twice, and for a second play none."""
    source = origin.url("/film.mp4")
    player.play(source)
    assert player.ended() == END_OF_FILE
    cache.pre_cache_url(source)
    # A seek may cut a connection short with some bytes under way.
    assert film.stat().st_size <= origin.bytes_sent() < 2 * film.stat().st_size
    origin.reset_log()
    player.play(source)
    assert player.ended() == END_OF_FILE
    assert origin.count() == 0
    assert not player.errors


def test_mpv_shows_the_frames_of_the_file(
    make_player: Callable[..., Player], origin: OriginThread, film: Path, tmp_path: Path
) -> None:
    """What libmpv decodes through the protocol is what it decodes from the file."""
    pictures = []
    for name, by_protocol in (("one", True), ("two", False)):
        place = tmp_path / name
        options = {"vo": "image", "vo_image_outdir": str(place), "vo_image_format": "png"}
        player = make_player(**options, frames=8, sid=False, start="50%")
        if by_protocol:
            player.play(origin.url("/film.mp4"))
        else:
            player.mpv.play(str(film))
        assert player.ended() == END_OF_FILE
        player.terminate()
        pictures.append([path.read_bytes() for path in sorted(place.iterdir())])
    assert len(pictures[0]) == 8
    assert pictures[0] == pictures[1]


def test_a_seek_does_not_wait_for_what_lies_before_it(
    make_player: Callable[..., Player], origin: OriginThread, film: Path
) -> None:
    """The last tenth is played while the start stands still for ever."""
    half = film.stat().st_size // 2

    def plan(request: Any) -> dict[str, object] | None:
        first = int((request.range or "bytes=0-").partition("=")[2].partition("-")[0])
        return {"stall_after": 256 * 1024} if first < half else None

    origin.add("/film.mp4", FileContent.open(film), plan=plan)
    player = make_player(start="90%")
    player.play(origin.url("/film.mp4"))
    assert player.ended() == END_OF_FILE


def test_a_dropped_connection_is_invisible(
    player: Player, cache: blocking.CacheManager, origin: OriginThread, film: Path
) -> None:
    """The film comes to its end though the origin hangs up now and then."""
    served = origin.add("/film.mp4", FileContent.open(film))
    served.drop(1_000_000, 3)
    player.play(origin.url("/film.mp4"))
    assert player.ended() == END_OF_FILE
    assert not player.errors


def test_content_of_unknown_length_is_played(
    player: Player, origin: OriginThread, film: Path, tmp_path: Path
) -> None:
    """Chunks without a length are enough to play by."""
    ts = tmp_path / "film.ts"
    remux = ["ffmpeg", "-nostdin", "-v", "error", "-i", film, "-c", "copy", ts]
    subprocess.run(remux, check=True)
    origin.add("/film.ts", FileContent.open(ts), framing="chunked", ranges=False)
    player.play(origin.url("/film.ts"))
    assert player.ended() == END_OF_FILE
    assert not player.errors


def test_a_refusal_ends_the_file_and_tells_the_program(
    player: Player, origin: OriginThread
) -> None:
    """mpv says that loading failed; the program learns of the 404."""
    source = origin.url("/missing.mp4")
    player.play(source)
    assert player.ended() == FAILED
    (failed, error), *_ = player.errors
    assert failed == source
    assert isinstance(error, UpstreamStatusError)
    assert error.status == 404


def test_a_url_that_cannot_be_fetched_fails_at_once(player: Player, origin: OriginThread) -> None:
    """What the cache cannot understand is told as its own error."""
    player.mpv.play("cachestream://gopher://example.com/film.mp4")
    assert player.ended() == FAILED
    assert isinstance(player.errors[0][1], InvalidURLError)
    assert player.protocol.open_streams == 0


@pytest.mark.parametrize("after", [0, 300_000], ids=["before the head", "in the content"])
@pytest.mark.parametrize("how", ["quit", "stop", "next"])
def test_mpv_waits_for_nobody_when_it_is_told_to_end(
    how: str,
    after: int,
    player: Player,
    cache: blocking.CacheManager,
    origin: OriginThread,
    film: Path,
) -> None:
    """An origin that stands still keeps mpv from nothing, and nothing is held afterwards."""
    origin.add("/other.mp4", FileContent.open(film))
    served = origin.add("/film.mp4", FileContent.open(film))
    if after:
        served.stall(after, None)
    else:
        served.latency = 3600.0
    player.play(origin.url("/film.mp4"))
    origin.wait_request(1, "/film.mp4", timeout=PATIENCE_S)
    if how == "next":
        player.mpv.command("loadfile", player.protocol.url_for(origin.url("/other.mp4")))
        assert player.ended() == STOPPED
        assert player.ended() == END_OF_FILE
    elif how == "stop":
        player.mpv.command("stop")
        assert player.ended() == STOPPED
    player.terminate()
    assert player.protocol.open_streams == 0
    assert held(cache) == 0
    assert not player.errors


def test_one_film_can_be_open_twice(
    make_player: Callable[..., Player], cache: blocking.CacheManager, origin: OriginThread
) -> None:
    """A file added to itself as a second track, and a second player, read on their own."""
    url = "cachestream://" + origin.url("/film.mp4")
    one, two = make_player(external_files=[url]), make_player()
    for player in (one, two):
        player.play(origin.url("/film.mp4"))
    assert [one.ended(), two.ended()] == [END_OF_FILE] * 2
    gc.collect()
    for player in (one, two):
        player.terminate()
        assert player.protocol.open_streams == 0
        assert not player.errors
    assert held(cache) == 0


def test_a_cache_may_be_closed_first(
    player: Player, cache: blocking.CacheManager, origin: OriginThread, film: Path
) -> None:
    """What mpv reads of a closed cache fails; mpv goes on and can be ended."""
    served = origin.add("/film.mp4", FileContent.open(film))
    served.stall(300_000, None)
    player.play(origin.url("/film.mp4"))
    origin.wait_request(1, "/film.mp4", timeout=PATIENCE_S)
    cache.close(timeout=PATIENCE_S)
    assert player.ended() in (FAILED, END_OF_FILE)
    player.play(origin.url("/film.mp4"))
    assert player.ended() == FAILED
    assert any(isinstance(error, ClosedError) for _, error in player.errors)
    player.terminate()


def test_what_was_said_of_a_source_holds(
    player: Player, cache: blocking.CacheManager, origin: OriginThread, film: Path
) -> None:
    """A URL that has expired is renewed while libmpv plays."""
    issued = ["1"]

    def check(request: Any) -> int | None:
        return None if request.target.endswith("=2") else 403

    def refresh(source: str, status: int) -> str:
        issued.append("2")
        return origin.url("/signed.mp4?signature=2")

    origin.add("/signed.mp4", FileContent.open(film), require=check)
    source = origin.url("/signed.mp4?signature=1")
    stream = cache.create_stream(source, key="film", refresh=refresh)
    player.play(source)
    assert player.ended() == END_OF_FILE
    assert issued == ["1", "2"]
    stream.release()


def test_names_and_caches_that_cannot_be_are_refused(
    player: Player, cache: blocking.CacheManager, tmp_path: Path
) -> None:
    """A name that is taken or no name, or a cache of the event loop, is an error of ours."""
    for name in ("cachestream", "http", "file", "no name", "", "Ü"):
        with pytest.raises(ConfigurationError):
            register(player.mpv, cache, name=name)
    wrong: Any = CacheManager(cache_dir=tmp_path / "other")
    with pytest.raises(ConfigurationError, match="blocking"):
        register(player.mpv, wrong)
    other = register(player.mpv, cache, name="films")
    assert isinstance(other, MpvProtocol)
    assert other.url_for("HTTP://example.com:80/a b") == "films://http://example.com/a%20b"
    with pytest.raises(InvalidURLError):
        other.url_for("film.mp4")


def test_an_error_of_the_programs_own_callback_goes_no_further(
    cache: blocking.CacheManager, origin: OriginThread, caplog: pytest.LogCaptureFixture
) -> None:
    """It is logged, and mpv goes on."""

    def fails(source: str, error: CacheStreamError) -> None:
        raise ValueError("the program is wrong")

    player = Player(cache)
    try:
        register(player.mpv, cache, name="films", on_error=fails)
        player.mpv.play("films://" + origin.url("/missing"))
        assert player.ended() == FAILED
    finally:
        player.terminate()
    assert "the program is wrong" in caplog.text
