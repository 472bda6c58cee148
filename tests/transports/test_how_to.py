"""The examples of the how-to pages do what the pages say."""

import hashlib
import hmac
import importlib
import re
import sys
import tomllib
from pathlib import Path

import pytest

from cachestream import CacheManager, Settings
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


@pytest.fixture
def signed_example(monkeypatch):
    """Return the package of the example that the page points to."""
    folder = HOW_TO.parents[1] / "plugins_example" / "cachestream-signed"
    monkeypatch.syspath_prepend(folder / "src")
    yield importlib.import_module("cachestream_signed")
    for name in [each for each in sys.modules if each.partition(".")[0] == "cachestream_signed"]:
        del sys.modules[name]


@pytest.mark.asyncio
async def test_the_lines_for_the_example_sign(signed_example, tmp_path):
    """Each rule of the page is one, and signs for the host that it names."""
    text = re.search(r"```toml\n(.*?)```", (HOW_TO / "sign-requests.md").read_text(), re.DOTALL)[1]
    for name in ("token", "cdn"):
        (tmp_path / name).write_text("hush")
    (tmp_path / ".netrc").write_text("machine media.example.com login me password hush\n")
    (tmp_path / ".netrc").chmod(0o600)
    read = tomllib.loads(text.replace("/run/secrets", str(tmp_path)))
    assert read["cachestream"]["transport"] == "signed"
    rules = read["transport"]["signed"]["rules"]
    rules["media.example.com"] += f" file={tmp_path / '.netrc'}"
    options = signed_example.Options(rules=rules)
    transport = signed_example.SignedTransport.from_settings(Settings(), options)
    sent = {}
    for host in ("api", "cdn", "media", "other"):
        request = await transport.prepare(make_request(f"https://{host}.example.com/film"))
        sent[host] = (request.fields.get("Authorization"), "md5=" in request.url)
    await transport.aclose()
    assert sent == {
        "api": ("Bearer hush", False),
        "cdn": (None, True),
        "media": ("Basic bWU6aHVzaA==", False),
        "other": (None, False),
    }


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
