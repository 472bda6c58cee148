"""What a notebook needs of a cache: URLs, and a cache in a running loop."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient

from cachestream.errors import InvalidURLError
from cachestream.integrations.jupyter import EXTENSION, PROXIED, setup, url_for
from cachestream.testing.origin import OriginThread, pattern

LENGTH = 2_000_000
DATA = pattern("notebook", LENGTH)


@pytest.mark.parametrize(
    ("base_url", "path", "expected"),
    [
        ("/", EXTENSION, "/cachestream/example.com/a%2Fb.mp4?c=d%26"),
        ("/user/na%20me/", EXTENSION, "/user/na%20me/cachestream/example.com/a%2Fb.mp4?c=d%26"),
        ("", EXTENSION, "/cachestream/example.com/a%2Fb.mp4?c=d%26"),
    ],
)
def test_a_url_lies_below_jupyters(base_url: str, path: str, expected: str) -> None:
    """The source is in it as it was given."""
    assert url_for("https://example.com/a%2Fb.mp4?c=d%26", base_url=base_url) == expected


def test_the_hub_says_where_a_server_is(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a base URL that of JupyterHub holds, and the root elsewhere."""
    monkeypatch.delenv("JUPYTERHUB_SERVICE_PREFIX", raising=False)
    assert url_for("http://example.com/a") == "/cachestream/http/example.com/a"
    monkeypatch.setenv("JUPYTERHUB_SERVICE_PREFIX", "/user/ada/")
    assert url_for("http://example.com/a") == "/user/ada/cachestream/http/example.com/a"


def test_what_the_proxy_would_change_is_refused() -> None:
    """An escaped slash or question mark in a path does not come through jupyter-server-proxy."""
    for path in ("a%2Fb", "a%3fb", "%23", "a%5B", "%40", "%21"):
        with pytest.raises(InvalidURLError, match="jupyter-server-proxy"):
            url_for(f"https://example.com/{path}", path=PROXIED)
    for path in ("a%20b", "%C3%A4", "a?b=c%2Fd", "100%25"):
        assert url_for(f"https://example.com/{path}", path=PROXIED).endswith(path)


def test_what_is_no_source_is_refused() -> None:
    """A path alone has no host."""
    with pytest.raises(InvalidURLError):
        url_for("film.mp4")


def test_each_server_has_a_token_of_its_own() -> None:
    """The token is in the environment and the path, and never on the command line."""
    one, two = setup(), setup()
    token = one["environment"]["CACHESTREAM_TOKEN"]
    assert len(token) >= 32
    assert token != two["environment"]["CACHESTREAM_TOKEN"]
    assert one["mappath"](path="/example.com/a") == f"/~{token}/example.com/a"
    assert not any(token in word for word in one["command"])


CELLS = (
    """
    from IPython.display import Video
    from cachestream import CacheManager
    cache = await CacheManager(cache_dir=PLACE, min_free=0, allow_hosts=("any",)).__aenter__()
    url = cache.get_cache_url(SOURCE)
    Video(url=url)
    """,
    """
    async with cache.open(SOURCE) as file:
        await file.seek(1000)
        data = await file.read(64)
    data.hex()
    """,
    """
    from urllib.request import Request, urlopen
    import asyncio
    def fetch():
        request = Request(url, headers={"Range": "bytes=0-15"})
        with urlopen(request) as response:
            return response.status, response.read().hex()
    await asyncio.to_thread(fetch)
    """,
    """
    await cache.aclose()
    from cachestream import blocking
    with blocking.CacheManager(cache_dir=PLACE, min_free=0) as blocked:
        with blocked.open(SOURCE) as file:
            text = file.read(32).hex()
    text
    """,
)


@pytest.mark.integration
@pytest.mark.slow
def test_a_notebook_reads_through_a_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A real kernel awaits a cache in cells, shows a video, and reads without await, too."""
    for name in ("JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR", "IPYTHONDIR"):
        monkeypatch.setenv(name, str(tmp_path / name))
    with OriginThread() as origin:
        origin.add("/film.mp4", DATA, content_type="video/mp4")
        names = {"SOURCE": origin.url("/film.mp4"), "PLACE": str(tmp_path / "cache")}
        first = "\n".join(f"{name} = {value!r}" for name, value in names.items())
        cells = [first, *(_dedent(cell) for cell in CELLS)]
        notebook = nbformat.v4.new_notebook(
            cells=[nbformat.v4.new_code_cell(cell) for cell in cells]
        )
        client = NotebookClient(notebook, timeout=90, kernel_name="python3")
        client.execute(env={**os.environ, "PYTHONWARNINGS": "default"})
        _, video, opened, fetched, blocked = (_result(cell) for cell in notebook.cells)
        assert '<video src="http://127.0.0.1:' in video["text/html"]
        assert opened["text/plain"] == repr(DATA.bytes(1000, 1064).hex())
        assert fetched["text/plain"] == repr((206, DATA.bytes(0, 16).hex()))
        assert blocked["text/plain"] == repr(DATA.bytes(0, 32).hex())


def _dedent(cell: str) -> str:
    return "\n".join(line[4:] for line in cell.strip("\n").splitlines())


def _result(cell: Any) -> Any:
    """Return what a cell shows; it must not have printed an error."""
    assert not [each for each in cell.outputs if each.get("name") == "stderr"]
    return cell.outputs[-1].data if cell.outputs else None
