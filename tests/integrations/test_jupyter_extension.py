"""A real Jupyter server passes films on, by its extension and by jupyter-server-proxy."""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import attrs
import pytest

from cachestream.integrations.jupyter import EXTENSION, PROXIED, url_for
from cachestream.testing.origin import OriginThread, pattern

pytestmark = [pytest.mark.integration, pytest.mark.slow]

TOKEN = "hush"
BASE_URL = "/user/ada/"
LENGTH = 3_000_000
DATA = pattern("jupyter", LENGTH)
PATIENCE_S = 60.0
MODULES = {"cachestream.integrations.jupyter_extension": True, "jupyter_server_proxy": True}


@attrs.frozen
class Got:
    """An answer."""

    status: int
    fields: dict[str, str]
    content: bytes


class Jupyter:
    """A running Jupyter server."""

    def __init__(self, process: subprocess.Popen[bytes], port: int) -> None:
        self.process = process
        self.port = port

    def connect(self) -> http.client.HTTPConnection:
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE_S)

    def ask(self, path: str, method: str = "GET", token: str | None = TOKEN, **more: str) -> Got:
        fields = {name.replace("_", "-"): value for name, value in more.items()}
        if token is not None:
            fields["Authorization"] = f"token {token}"
        connection = self.connect()
        try:
            connection.request(method, path, headers=fields)
            answer = connection.getresponse()
            names = {name.lower(): value for name, value in answer.getheaders()}
            return Got(answer.status, names, answer.read())
        finally:
            connection.close()


@pytest.fixture(scope="module")
def jupyter(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Jupyter]:
    """Run a server with a token and a base URL."""
    place = tmp_path_factory.mktemp("jupyter")
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("CACHESTREAM_", "JUPYTER"))}
    names = ("CONFIG_DIR", "DATA_DIR", "RUNTIME_DIR")
    environment = {
        **kept,
        **{f"JUPYTER_{name}": str(place / name.lower()) for name in names},
        "HOME": str(place),
        "CACHESTREAM_PLUGINS": "off",
        "CACHESTREAM_CACHE_DIR": str(place / "cache"),
        "CACHESTREAM_MIN_FREE": "0",
        "CACHESTREAM_COMPLETION": "demand",
        "CACHESTREAM_RETRY_DELAY": "0.01",
        "CACHESTREAM_REQUEST_TIMEOUT": "40",
    }
    options = {
        "ServerApp.ip": "127.0.0.1",
        "ServerApp.port": "0",
        "ServerApp.base_url": BASE_URL,
        "ServerApp.root_dir": str(place),
        "ServerApp.open_browser": "False",
        "ServerApp.allow_root": "True",
        "ServerApp.jpserver_extensions": repr(MODULES),
        "IdentityProvider.token": TOKEN,
    }
    with (place / "log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "jupyter_server"]
            + [f"--{name}={value}" for name, value in options.items()],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            env=environment,
            cwd=place,
        )
    try:
        yield Jupyter(process, _wait_for_port(process, place))
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(timeout=PATIENCE_S)
        finally:
            process.kill()
            process.wait()
    log_text = (place / "log").read_text()
    assert "Traceback" not in log_text, log_text


def _wait_for_port(process: subprocess.Popen[bytes], place: Path) -> int:
    """Read the port from the file that the server writes when it listens."""
    listed = place / "runtime_dir" / f"jpserver-{process.pid}.json"
    waiting = threading.Event()
    for _ in range(int(PATIENCE_S * 20)):
        if process.poll() is not None:
            break
        if listed.exists() and (text := listed.read_text()).endswith("}"):
            port = json.loads(text)["port"]
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    return int(port)
        waiting.wait(0.05)
    pytest.fail((place / "log").read_text())


@pytest.fixture
def origin() -> Iterator[OriginThread]:
    """Run an origin."""
    with OriginThread() as running:
        running.add("/film.mp4", DATA, content_type="video/mp4")
        yield running


def path_of(origin: OriginThread, path: str = EXTENSION, name: str = "/film.mp4") -> str:
    """Return where the server has a film of the origin's."""
    return url_for(origin.url(name), base_url=BASE_URL, path=path)


@pytest.mark.parametrize("path", [EXTENSION, PROXIED])
def test_ranges_come_through(jupyter: Jupyter, origin: OriginThread, path: str) -> None:
    """A range, the whole and a HEAD are right, and what is held is not asked for again."""
    url = path_of(origin, path)
    part = jupyter.ask(url, Range="bytes=1000-1999")
    assert (part.status, part.content) == (206, DATA.bytes(1000, 2000))
    assert part.fields["content-range"] == f"bytes 1000-1999/{LENGTH}"
    assert part.fields["content-type"] == "video/mp4"
    whole = jupyter.ask(url)
    assert (whole.status, whole.content) == (200, DATA.bytes())
    assert jupyter.ask(url, Range="bytes=9999999-").status == 416
    asked = origin.count()
    # A connection may be cut short with some bytes under way.
    assert LENGTH <= origin.bytes_sent() < 2 * LENGTH
    head = jupyter.ask(url, "HEAD")
    assert (head.status, head.content) == (200, b"")
    if path == EXTENSION:  # jupyter-server-proxy says 0 to any HEAD
        assert head.fields["content-length"] == str(LENGTH)
    assert "hit" in jupyter.ask(url).fields["cache-status"]
    assert origin.count() == asked


@pytest.mark.parametrize("path", [EXTENSION, PROXIED])
def test_whoever_may_not_use_jupyter_may_not_use_the_cache(
    jupyter: Jupyter, origin: OriginThread, path: str
) -> None:
    """Without the token, or with a wrong one, nothing is fetched."""
    for token in (None, "wrong"):
        got = jupyter.ask(path_of(origin, path), token=token)
        assert got.status in (302, 403)
        assert DATA.bytes(0, 100) not in got.content
    assert origin.count() == 0


@pytest.mark.parametrize("path", [EXTENSION, PROXIED])
def test_an_error_of_the_origin_comes_through(
    jupyter: Jupyter, origin: OriginThread, path: str
) -> None:
    """404 is 404."""
    assert jupyter.ask(path_of(origin, path, "/missing")).status == 404


def test_other_methods_are_refused(jupyter: Jupyter, origin: OriginThread) -> None:
    """Nothing can be sent to a cache."""
    assert jupyter.ask(path_of(origin), "PUT").status == 405
    assert jupyter.ask(path_of(origin), "POST").status in (403, 405)
    assert origin.count() == 0


def test_a_page_of_another_site_may_not_read(jupyter: Jupyter, origin: OriginThread) -> None:
    """The rules of the cache hold behind Jupyter's, too."""
    got = jupyter.ask(path_of(origin), Sec_Fetch_Site="cross-site", Sec_Fetch_Mode="no-cors")
    assert got.status == 403
    assert origin.count() == 0


def test_content_is_no_page_of_jupyters(jupyter: Jupyter, origin: OriginThread) -> None:
    """A script in what was fetched cannot act as the user of the server."""
    origin.add("/page", b"<script>alert(1)</script>", content_type="text/html")
    got = jupyter.ask(path_of(origin, name="/page"))
    assert "sandbox" in got.fields["content-security-policy"]
    assert got.fields["x-content-type-options"] == "nosniff"


def test_jupyters_token_goes_no_further(jupyter: Jupyter, origin: OriginThread) -> None:
    """A token in the query is taken out; the source's own parameters stay as they are."""
    plain = jupyter.ask(f"{path_of(origin)}?token={TOKEN}", token=None, Range="bytes=0-9")
    assert plain.status == 206
    cookie = plain.fields["set-cookie"].partition(";")[0]
    target = "/film.mp4?a=%2F&token=mine&b"
    origin.add(target, DATA)
    url = url_for(origin.url(target), base_url=BASE_URL)
    assert jupyter.ask(url, token=None, Cookie=cookie, Range="bytes=0-9").status == 206
    assert origin.requests[-1].target == target
    origin.add("/film.mp4?x=1&y=", DATA)
    more = path_of(origin, name=f"/film.mp4?x=1&token={TOKEN}&y=")
    assert jupyter.ask(more, token=None, Range="bytes=0-9").status == 206
    expected = {"/film.mp4", "/film.mp4?x=1&y=", target}
    assert {each.target for each in origin.requests} == expected
    sent = [value for each in origin.requests for _, value in each.fields]
    assert not any(TOKEN in value for value in sent)


def test_urls_come_through_as_they_are(jupyter: Jupyter, origin: OriginThread) -> None:
    """Escapes in a path are the origin's to read."""
    for target in ("/a%2Fb.mp4", "/%E4%23?x=%3F", "/a//b", "/100%25"):
        origin.add(target, DATA)
        url = url_for(origin.url(target), base_url=BASE_URL)
        assert jupyter.ask(url, Range="bytes=0-9").content == DATA.bytes(0, 10)
        assert origin.requests[-1].target == target


def test_a_dropped_connection_is_resumed_and_a_lost_one_cut(
    jupyter: Jupyter, origin: OriginThread
) -> None:
    """What cannot be completed is never ended as if it were."""
    served = origin.add("/film.mp4", DATA)
    served.drop(1_000_000, 2)
    assert jupyter.ask(path_of(origin)).content == DATA.bytes()
    lost = origin.add("/lost.mp4", DATA, framing="chunked", etag=None, last_modified=None)
    lost.ranges = False
    lost.drop(500_000, None)
    with pytest.raises(http.client.IncompleteRead):
        jupyter.ask(path_of(origin, name="/lost.mp4"))


def test_a_film_is_sent_while_it_comes(jupyter: Jupyter, origin: OriginThread) -> None:
    """The first bytes are there while the origin holds the last ones back, and none is buffered."""
    served = origin.add("/endless.mp4", pattern("endless", 1 << 40), content_type="video/mp4")
    served.stall(2_000_000, None)
    connection = jupyter.connect()
    fields = {"Authorization": f"token {TOKEN}", "Range": "bytes=0-"}
    connection.request("GET", path_of(origin, name="/endless.mp4"), headers=fields)
    answer = connection.getresponse()
    assert answer.status == 206
    assert answer.headers["content-length"] == str(1 << 40)
    assert answer.read(1_000_000) == pattern("endless", 1 << 40).bytes(0, 1_000_000)
    connection.close()  # a client that leaves is no error; the log is looked at in the end
    assert jupyter.ask(path_of(origin), Range="bytes=0-9").status == 206


def test_many_clients_at_a_time_are_served(jupyter: Jupyter, origin: OriginThread) -> None:
    """Sixteen readers of one cold film cost one download."""
    origin.add("/busy.mp4", DATA)
    url, got = path_of(origin, name="/busy.mp4"), []
    readers = [
        threading.Thread(target=lambda: got.append(jupyter.ask(url).content)) for _ in range(16)
    ]
    for reader in readers:
        reader.start()
    for reader in readers:
        reader.join(PATIENCE_S)
    assert [content == DATA.bytes() for content in got] == [True] * 16
    assert LENGTH <= origin.bytes_sent("/busy.mp4") < 2 * LENGTH


def test_the_extension_says_what_it_is(jupyter: Jupyter) -> None:
    """A path that names no source is not found, and Jupyter itself goes on."""
    assert jupyter.ask(f"{BASE_URL}{EXTENSION}/favicon.ico").status == 404
    status: Any = json.loads(jupyter.ask(f"{BASE_URL}api/status").content)
    assert status["kernels"] == 0
