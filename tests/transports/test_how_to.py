"""The examples of the how-to pages do what the pages say."""

import hashlib
import hmac
import re
from pathlib import Path

import pytest

from cachestream import CacheManager
from cachestream.abc import UpstreamRequest
from cachestream.testing._raw_client import RawClient
from cachestream.testing.origin import Origin, pattern
from cachestream.transports import (
    FilesystemTransport,
    HttpTransport,
    LoggingTransport,
    MirrorsTransport,
)

HOW_TO = Path(__file__).parents[2] / "docs" / "how-to"
CONTENT = pattern("how-to", 3_000_000)


def examples(page):
    """Run the Python examples of a page in one namespace, and return it."""
    namespace = {"__name__": "example"}
    for code in re.findall(r"```python\n(.*?)```", (HOW_TO / page).read_text(), re.DOTALL):
        exec(compile(code, page, "exec"), namespace)
    return namespace


async def play(transport, source, tmp_path):
    """Read a source through the local server."""
    async with CacheManager(
        transport=transport,
        cache_dir=tmp_path / "cache",
        min_free=0,
        allow_hosts=("any",),
        retry_delay=0.01,
    ) as cache:
        base = cache.base_url.rstrip("/")
        path = cache.get_cache_url(source).removeprefix(base)
        async with RawClient(cache.base_url) as client:
            got = await client.ask(path, host=base.partition("://")[2])
    await transport.aclose()
    return got


@pytest.mark.asyncio
async def test_signed_requests_are_accepted(tmp_path):
    """What the example signs is what the origin receives, each request anew."""
    async with Origin() as origin:
        text = (HOW_TO / "sign-requests.md").read_text()
        code = re.search(r"```python\n(.*?)```", text, re.DOTALL)[1]
        namespace = {"__name__": "example"}
        exec(code.replace("https://media.example.com", origin.url("")), namespace)

        def check(request):
            stamp = request.fields.get("X-Time") or ""
            signed = f"{request.method} {origin.url(request.target)} {stamp}".encode()
            right = hmac.new(b"secret", signed, hashlib.sha256).hexdigest()
            return None if request.fields.get("X-Signature") == right else 403

        origin.add("/film.mp4", CONTENT, require=check)
        got = await play(namespace["Signed"](b"secret"), origin.url("/film.mp4"), tmp_path)
        assert (got.status, got.content) == (200, CONTENT.bytes())
        refused = await play(namespace["Signed"](b"wrong"), origin.url("/film.mp4"), tmp_path / "b")
        assert refused.status == 403


@pytest.mark.asyncio
async def test_a_bearer_token_goes_to_its_host_only():
    """The wrapper of the example adds the token where it belongs, and nowhere else."""
    wrapper = examples("sign-requests.md")["Bearer"](HttpTransport(), "hush", "a.example")
    sent = {}
    for url in ("https://a.example/x", "https://a.example.evil/x", "http://a.example/x"):
        request = await wrapper.prepare(make_request(url))
        sent[url] = request.fields.get("Authorization")
    await wrapper.aclose()
    assert list(sent.values()) == ["Bearer hush", None, None]


def make_request(url):
    """Return a request for a URL."""
    return UpstreamRequest(url=url, source=url)


@pytest.mark.asyncio
async def test_an_expired_url_is_renewed_in_mid_play(tmp_path):
    """When the origin says 403 in mid-film, the download goes on with a new URL."""
    renewing = examples("sign-requests.md")["Renewing"]
    async with Origin() as origin:
        source = origin.url("/film.mp4?key=1")
        asked = []

        async def resolve(known):
            asked.append(known)
            return origin.url("/film.mp4?key=2")

        first = origin.add("/film.mp4?key=1", CONTENT)
        first.require = lambda request: 403 if origin.bytes_sent() else None
        first.drop(1_000_000, 1)
        origin.add("/film.mp4?key=2", CONTENT)
        got = await play(renewing(resolve), source, tmp_path)
    assert (got.status, got.content, got.complete) == (200, CONTENT.bytes(), True)
    assert asked == [source]


def test_the_transports_of_the_pages_can_be_made():
    """What the examples construct is what they say."""
    assert isinstance(examples("sign-requests.md")["transport"], LoggingTransport)
    assert isinstance(examples("filesystems.md")["transport"], MirrorsTransport)


@pytest.mark.asyncio
async def test_local_paths_are_as_the_table_says(tmp_path):
    """Each source of the table has the local path beside it."""
    rows = re.findall(
        r"^\| `(\w+://[^`]+)` \| `([^`]+)` \|$",
        (HOW_TO / "filesystems.md").read_text(),
        re.MULTILINE,
    )
    assert len(rows) == 4
    transport = FilesystemTransport(allow_file=True)
    async with CacheManager(transport=transport, cache_dir=tmp_path / "cache", min_free=0) as cache:
        for source, path in rows:
            local = cache.get_cache_url(source)
            assert local.removeprefix(cache.base_url.rstrip("/")) == path
    await transport.aclose()
