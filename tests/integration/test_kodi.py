"""Kodi's requests are answered as it needs, and its add-on keeps a cache running."""

from __future__ import annotations

import contextlib
import importlib.util
import random
import re
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any
from urllib.request import urlopen
from xml.etree import ElementTree

import pytest

from cachestream import CacheManager
from cachestream.core.urls import local_path
from cachestream.testing._raw_client import RawClient, request_bytes
from cachestream.testing.origin import Origin, OriginThread, pattern

ADDON = Path(__file__).parents[2] / "contrib" / "kodi" / "service.cachestream"
PATIENCE_S = 60.0
LENGTH = 3_000_000
DATA = pattern("kodi", LENGTH)
# What Kodi 20 sends with each request, by libcurl.
KODI = (
    ("User-Agent", "Kodi/20.1 (X11; Linux x86_64) Debian App_Bitness/64 Version/20.1"),
    ("Accept", "*/*"),
    ("Accept-Charset", "UTF-8,*;q=0.8"),
)

MakeCache = Callable[..., Awaitable[CacheManager]]


def load(path: Path, name: str) -> ModuleType:
    """Import a module of the add-on by its place."""
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


child = load(ADDON / "resources" / "lib" / "child.py", "kodi_addon_child")


# -- what Kodi asks of an HTTP server ------------------------------------------


@pytest.mark.asyncio
async def test_a_library_scan_learns_size_and_date(origin: Origin, make_cache: MakeCache) -> None:
    """HEAD says length, date and type, as Kodi's stat needs; a page would be a directory to it."""
    origin.add("/film.mkv", DATA)
    cache = await make_cache()
    url = cache.get_cache_url(origin.url("/film.mkv"))
    base, path = _split(url)
    async with RawClient(base) as client:
        head = await client.ask(path, *KODI, method="HEAD", host=base.partition("://")[2])
    assert head.status == 200
    assert head.fields.get("content-length") == str(LENGTH)
    assert head.fields.get("last-modified") is not None
    assert head.fields.get("accept-ranges") == "bytes"
    assert "html" not in (head.fields.get("content-type") or "")
    assert origin.bytes_sent() == 0


@pytest.mark.asyncio
async def test_kodi_opens_a_film_and_seeks_by_two_connections(
    origin: Origin, make_cache: MakeCache
) -> None:
    """It leaves the first answer unread, reads others, and goes back to the first."""
    origin.add("/film.mkv", DATA)
    cache = await make_cache(completion="demand")
    base, path = _split(cache.get_cache_url(origin.url("/film.mkv")))
    host = base.partition("://")[2]
    async with RawClient(base) as first, RawClient(base) as second:
        await first.send(request_bytes(path, *KODI, ("Range", "bytes=0-"), host=host))
        await first.arriving()
        near_the_end = ("Range", f"bytes={LENGTH - 1000}-")
        sought = await second.ask(path, *KODI, near_the_end, host=host)
        assert (sought.status, sought.content) == (206, DATA.bytes(LENGTH - 1000, LENGTH))
        again = await second.ask(path, *KODI, ("Range", "bytes=500000-500099"), host=host)
        assert (again.status, again.content) == (206, DATA.bytes(500_000, 500_100))
        opened = await first.receive()
    assert (opened.status, opened.content) == (206, DATA.bytes())
    assert opened.fields.get("content-range") == f"bytes 0-{LENGTH - 1}/{LENGTH}"
    assert opened.fields.get("content-length") == str(LENGTH)
    assert opened.fields.get("transfer-encoding") is None  # Kodi could not seek


@pytest.mark.asyncio
async def test_a_seek_to_the_end_is_no_film(origin: Origin, make_cache: MakeCache) -> None:
    """A range from the very end is 416, which Kodi takes for the end."""
    origin.add("/film.mkv", DATA)
    cache = await make_cache()
    base, path = _split(cache.get_cache_url(origin.url("/film.mkv")))
    async with RawClient(base) as client:
        got = await client.ask(
            path, *KODI, ("Range", f"bytes={LENGTH}-"), host=base.partition("://")[2]
        )
    assert (got.status, got.fields.get("content-range")) == (416, f"bytes */{LENGTH}")


@pytest.mark.asyncio
async def test_what_stands_behind_the_bar_reaches_the_origin(
    origin: Origin, make_cache: MakeCache
) -> None:
    """Kodi sends ``|User-Agent=…&Referer=…`` as fields; those that are named go on."""
    origin.add("/film.mkv", DATA)
    cache = await make_cache(forward_fields=("User-Agent", "Referer"))
    base, path = _split(cache.get_cache_url(origin.url("/film.mkv")))
    fields = (("User-Agent", "Films/1"), ("Referer", "https://films.example/"))
    async with RawClient(base) as client:
        await client.ask(path, *fields, ("Range", "bytes=0-9"), host=base.partition("://")[2])
    sent = origin.requests[0].fields
    assert [sent.get(name) for name, _ in fields] == [value for _, value in fields]


@pytest.mark.asyncio
@pytest.mark.integration
async def test_libcurl_keeps_its_connection(
    programs: Any, origin: Origin, make_cache: MakeCache
) -> None:
    """The library that Kodi uses asks, opens and seeks over one connection."""
    origin.add("/film.mkv", DATA)
    cache = await make_cache()
    url = cache.get_cache_url(origin.url("/film.mkv"))
    shown = ("-o", "/dev/null", "-s", "-S", "-w", "%{http_code} %{num_connects} %{size_download}\n")
    fields = [word for name, value in KODI for word in ("-H", f"{name}: {value}")]
    steps = [("-I",), ("-r", "0-"), ("-r", "2999000-")]
    words: list[str] = []
    for step in steps:
        words += [*(["--next"] if words else []), *shown, *fields, *step, url]
    done = await programs.run("curl", *words)
    lines = [line.split() for line in done.check().decode().splitlines()]
    assert lines == [["200", "1", "0"], ["206", "0", str(LENGTH)], ["206", "0", "1000"]]


def _split(url: str) -> tuple[str, str]:
    """Return base URL and path."""
    match = re.fullmatch(r"(http://[^/]+)(/.*)", url)
    assert match is not None
    return match[1], match[2]


# -- the add-on --------------------------------------------------------------------


def test_the_description_of_the_add_on_is_complete() -> None:
    """Kodi finds its name, its service and its licence, and the files that it names are there."""
    root = ElementTree.parse(ADDON / "addon.xml").getroot()
    assert root.get("id") == ADDON.name
    assert re.fullmatch(r"\d+\.\d+\.\d+", root.get("version") or "")
    assert root.find("requires/import[@addon='xbmc.python']") is not None
    (service,) = root.findall("extension[@point='xbmc.service']")
    assert (ADDON / (service.get("library") or "missing")).is_file()
    (metadata,) = root.findall("extension[@point='xbmc.addon.metadata']")
    for name in ("summary", "description", "platform", "license"):
        assert metadata.findtext(name)
    icon = ADDON / (metadata.findtext("assets/icon") or "missing")
    assert icon.read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
    assert int.from_bytes(icon.read_bytes()[16:20]) == 256


def test_every_setting_has_its_words_and_is_read() -> None:
    """Labels and help texts exist, and the service asks for just these settings."""
    settings = ElementTree.parse(ADDON / "resources" / "settings.xml").getroot()
    language = ADDON / "resources" / "language" / "resource.language.en_gb" / "strings.po"
    known = set(re.findall(r'msgctxt "#(\d+)"', language.read_text()))
    used = {each.get(name) for each in settings.iter() for name in ("label", "help")} - {None}
    assert used == known
    assert {each.text for each in settings.iter("heading")} <= known
    names = {str(each.get("id")) for each in settings.iter("setting")}
    assert names == set(re.findall(r'"(\w+)"', _names_line()))


def _names_line() -> str:
    (line,) = re.findall(r"names = \((.*?)\)", (ADDON / "service.py").read_text())
    return str(line)


def test_settings_become_a_command_line() -> None:
    """What is empty is left out, and further arguments are split as a shell does."""
    settings = {
        "program": sys.executable,
        "port": "4700",
        "cache_dir": "",
        "max_size": "20GiB",
        "arguments": "--allow 'films.example' --offline",
    }
    command = child.command_of(settings)
    expected = [sys.executable, "serve", "--port", "4700", "--max-size", "20GiB"]
    assert command == [*expected, "--allow", "films.example", "--offline"]
    assert child.command_of({"program": "no such program"}) == ["no such program", "serve"]


class Clock:
    """Seconds that go on when told."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def port() -> int:
    """Return a free port outside of what the kernel gives out, so that it stays free."""
    while True:
        chosen = random.randrange(15000, 32000)
        with contextlib.suppress(OSError), socket.socket() as probe:
            probe.bind(("127.0.0.1", chosen))
            return chosen


@pytest.fixture
def make_child(port: int) -> Iterator[Callable[..., Any]]:
    """Make children, and stop each."""
    made: list[Any] = []

    def make(command: list[str], **options: Any) -> Any:
        made.append(child.Child(command, port, **{"log": lambda line: None, **options}))
        return made[-1]

    yield make
    for each in made:
        each.stop()


def serving(port: int, place: Path) -> list[str]:
    """Return the command of a real cache."""
    command = [sys.executable, "-m", "cachestream", "serve", "--port", str(port)]
    return [*command, "--cache-dir", str(place / "cache"), "--min-free", "0"]


class Lines:
    """Collects what a child prints, and waits for it."""

    def __init__(self) -> None:
        self.seen: list[str] = []
        self._changed = threading.Condition()

    def __call__(self, line: str) -> None:
        with self._changed:
            self.seen.append(line)
            self._changed.notify_all()

    def wait_for(self, text: str, times: int = 1) -> None:
        with self._changed:
            found = self._changed.wait_for(
                lambda: sum(text in line for line in self.seen) >= times, PATIENCE_S
            )
        assert found, f"{text!r} never came: {self.seen}"


@pytest.mark.integration
@pytest.mark.slow
def test_a_cache_runs_while_it_is_tended(
    make_child: Callable[..., Any], port: int, tmp_path: Path
) -> None:
    """It plays, is started again after it was killed, and is gone after the end."""
    lines, clock = Lines(), Clock()
    tended = make_child(serving(port, tmp_path), log=lines, clock=clock)
    with OriginThread() as origin:
        origin.add("/film.mkv", DATA)
        url = f"http://127.0.0.1:{port}" + local_path(origin.url("/film.mkv"))
        for start in (1, 2):
            tended.tend()
            lines.wait_for(f"http://127.0.0.1:{port}", start)
            with urlopen(url, timeout=PATIENCE_S) as answer:
                assert answer.read() == DATA.bytes()
            process = tended.process
            tended.tend()
            assert tended.process is process
            process.send_signal(signal.SIGKILL)
            process.wait(PATIENCE_S)
            tended.tend()
            assert tended.process is None
            lines.wait_for("it ended with code -9; trying again in", start)
            clock.now += 10
    tended.tend()
    lines.wait_for(f"http://127.0.0.1:{port}", 3)
    process = tended.process
    tended.stop()
    assert process.returncode == 0
    assert not child.is_taken(port)


def test_pauses_grow_while_it_fails(make_child: Callable[..., Any]) -> None:
    """A program that ends at once is tried less and less often, up to once a minute."""
    lines, clock = Lines(), Clock()
    tended = make_child([sys.executable, "-c", "raise SystemExit(3)"], log=lines, clock=clock)
    waited = []
    for _ in range(9):
        tended.tend()
        tended.process.wait(PATIENCE_S)
        tended.tend()
        assert tended.process is None
        pause = float(lines.seen[-1].split()[-2])
        clock.now += pause - 0.5
        tended.tend()
        assert tended.process is None
        clock.now += 0.5
        waited.append(pause)
    assert waited == [1, 2, 4, 8, 16, 32, 60, 60, 60]


def test_a_program_that_is_missing_is_told(make_child: Callable[..., Any]) -> None:
    """The log says which one, and that it is tried again."""
    lines = Lines()
    tended = make_child(["/no/such/cachestream"], log=lines)
    tended.tend()
    assert tended.process is None
    assert lines.seen == [
        "/no/such/cachestream cannot be run: No such file or directory; trying again in 1 s"
    ]


def test_a_cache_that_runs_already_is_left_alone(make_child: Callable[..., Any], port: int) -> None:
    """Nothing is started on a port that is served, until it is free."""
    lines, clock = Lines(), Clock()
    tended = make_child([sys.executable, "-c", "import time; time.sleep(600)"], log=lines)
    tended._clock = clock
    with socket.create_server(("127.0.0.1", port)):
        for _ in range(3):
            tended.tend()
            clock.now += 5
    assert tended.process is None
    assert lines.seen == [f"port {port} is served already; nothing is started"]
    tended.tend()
    assert tended.process is not None


def test_a_child_that_does_not_listen_is_killed(make_child: Callable[..., Any]) -> None:
    """Kodi's end is not held up."""
    stubborn = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
    stubborn += "print('ready', flush=True); signal.pause()"
    lines = Lines()
    tended = make_child([sys.executable, "-c", stubborn], log=lines)
    tended.tend()
    lines.wait_for("ready")
    process = tended.process
    tended.stop(patience=0.2)
    assert process.returncode == -signal.SIGKILL
    assert "is killed" in lines.seen[-1]


@pytest.mark.integration
@pytest.mark.slow
def test_the_service_runs_until_kodi_ends(port: int, tmp_path: Path) -> None:
    """The add-on itself, against the stubs of Kodi's API, starts a cache and ends it."""
    program = tmp_path / "cachestream"
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -m cachestream "$@"\n')
    program.chmod(0o755)
    script = f"""
import sys, threading, urllib.request, urllib.error
import xbmc, xbmcaddon
settings = {{"program": {str(program)!r}, "port": "{port}", "max_size": "1GiB",
            "cache_dir": "", "arguments": "--min-free 0 --cache-dir {tmp_path / "cache"}"}}
printed = []
ready = threading.Event()
def log(text, level=None):
    printed.append(text)
    if "http://127.0.0.1" in text:
        ready.set()
xbmc.log = log
xbmcaddon.Addon.getSetting = lambda self, name: settings[name]
monitors, turns = [], []
def aborted(self):
    monitors.append(self)
    return len(turns) >= 2
def wait(self, timeout=-1):
    assert ready.wait({PATIENCE_S}), printed
    ready.clear()
    try:
        urllib.request.urlopen("http://127.0.0.1:{port}/favicon.ico", timeout={PATIENCE_S})
    except urllib.error.HTTPError as error:
        turns.append(error.code)
    if len(turns) == 1:
        self.onSettingsChanged()
    return False
xbmc.Monitor.abortRequested = aborted
xbmc.Monitor.waitForAbort = wait
import runpy
runpy.run_path("service.py", run_name="__main__")
print(turns)
"""
    done = subprocess.run(
        [sys.executable, "-c", f"import sys; sys.path.insert(0, '.')\n{script}"],
        cwd=ADDON,
        capture_output=True,
        text=True,
        timeout=PATIENCE_S * 2,
    )
    assert done.stdout.strip() == "[404, 404]", done.stderr
    assert not child.is_taken(port)
