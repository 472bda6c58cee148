"""Signatures in the query, checked by a real nginx and by Swift."""

import asyncio
import hashlib
import hmac
import time
from urllib.parse import quote

import attrs
import pytest
from cachestream import HttpTransport
from cachestream.core.fields import Fields
from cachestream.errors import ConfigurationError, TransportError
from cachestream.testing.origin import pattern
from cachestream.transports import ResponseWrapper, TransportWrapper

from cachestream_signed import HmacQuery, SecureLink, Signer, TempUrl
from support import MIB, PATIENCE_S, Clock, exchange, make_cache, make_request, netloc, read_url

KEY = "canary key {x}%"
SECURE_LINK = """
location / {
    secure_link $arg_md5,$arg_expires;
    secure_link_md5 "$secure_link_expires$uri canary key {x}%";
    if ($secure_link = "") { return 403; }
    if ($secure_link = "0") { return 410; }
}
"""
NAMES = ["film.mp4", "a b+c~é/x,y;z=!'.bin", "100%25"]


@pytest.fixture
def server(nginx):
    server = nginx(SECURE_LINK)
    for name in NAMES:
        server.add(name, b"0123456789")
    return server


@pytest.mark.asyncio
async def test_nginx_accepts_secure_links(sign, server):
    """Whatever a file is called, the link opens it, by range too, and other parameters stay."""
    transport = sign(SecureLink(server.authority, key=KEY))
    for name in NAMES:
        for path in (f"/{quote(name)}", f"//{quote(name, safe='/+')}?a=b+c&d"):
            got = await exchange(transport, server.url(path), ("Range", "bytes=2-4"))
            assert (path, got) == (path, (206, b"234"))
    lines = await server.log(lambda lines: len(lines) == 2 * len(NAMES))
    assert sum("?a=b+c&d&md5=" in line for line in lines) == len(NAMES)


@pytest.mark.asyncio
async def test_nginx_refuses_other_links(sign, server):
    """It does check: no link, a wrong key and a link that has ended open nothing."""
    url = server.url("/film.mp4")
    assert (await exchange(sign(SecureLink("a.example", key=KEY)), url))[0] == 403
    assert (await exchange(sign(SecureLink(server.authority, key="wrong")), url))[0] == 403
    late = SecureLink(server.authority, key=KEY, clock=lambda: time.time() - 7200)
    assert (await exchange(sign(late), url))[0] == 410


@pytest.mark.asyncio
async def test_an_old_link_is_replaced(sign, server):
    """A source that somebody signed long ago plays: its signature is taken away."""
    transport = sign(SecureLink(server.authority, key=KEY))
    url = server.url("/film.mp4?md5=old&expires=1")
    assert await exchange(transport, url) == (200, b"0123456789")


class Once(Signer):
    """Signs once and for all, as a program does that makes a link itself."""

    sends_secret = False

    def __init__(self, inner, *origins):
        super().__init__(*origins)
        self._inner = inner
        self._url = None

    async def sign(self, request):
        if self._url is None:
            self._url = (await self._inner.sign(request)).url
        return attrs.evolve(request, url=self._url)


class Breaking(TransportWrapper):
    """Gives the first piece of its first answer; when it is told to go on, the line breaks."""

    def __init__(self):
        super().__init__(HttpTransport())
        self.broken, self.go = asyncio.Event(), asyncio.Event()

    async def fetch(self, request):
        response = await super().fetch(request)
        return response if self.go.is_set() else _Broken(response, self)


class _Broken(ResponseWrapper):
    def __init__(self, inner, line):
        super().__init__(inner)
        self._line = line

    async def pour(self, sink):
        piece = await anext(aiter(self.inner))
        sink.write(piece)
        self._line.broken.set()
        await self._line.go.wait()
        raise TransportError("the line broke")


@pytest.mark.asyncio
async def test_a_film_may_be_longer_than_a_link(sign, server, tmp_path):
    """A link ends while the film plays, and the player does not notice.

    The same film through a link that is made once is cut: so it is the new link that helps.
    """
    content = pattern("long", 3 * MIB).bytes()
    server.add("long", content)
    source = server.url("/long")
    rule = SecureLink(server.authority, key=KEY, lifetime=4)
    once = Once(rule, server.authority)
    lines = [Breaking(), Breaking()]
    options = {"max_connections": 1, "allow_hosts": ("any",)}
    async with (
        make_cache(tmp_path / "a", sign(rule, inner=lines[0]), **options) as cache,
        make_cache(tmp_path / "b", sign(once, inner=lines[1]), **options) as other,
    ):
        playing = asyncio.gather(
            read_url(cache.get_cache_url(source)),
            read_url(other.get_cache_url(source)),
            return_exceptions=True,
        )
        async with asyncio.timeout(PATIENCE_S):
            for line in lines:
                await line.broken.wait()
            # Until nginx says itself that the link which was made once has ended.
            while (await exchange(sign(once), source))[0] != 410:
                await asyncio.sleep(0.2)
        for line in lines:
            line.go.set()
        good, bad = await playing
        assert good == (200, content)
        assert cache.statistics().bytes_from_origin == len(content)
        assert bad != good
        assert isinstance(bad, Exception) or bad[0] == 410


@pytest.mark.asyncio
async def test_a_link_is_not_in_the_cache_key(sign, server, tmp_path):
    """The next day, with another link, what is held is a hit; without a rule, too."""
    clock = Clock()
    source = server.url("/film.mp4")
    for asked, rule in (
        (1, SecureLink(server.authority, key=KEY, clock=clock)),
        (0, SecureLink(server.authority, key=KEY, lifetime=100_000)),
        (0, SecureLink("a.example", key=KEY)),
    ):
        async with make_cache(tmp_path, sign(rule)) as cache:
            assert await read_url(cache.get_cache_url(source)) == (200, b"0123456789")
            entries = [each.key for each in await cache.store.records()]
            assert entries == [source]
            assert cache.statistics().origin_requests == asked


@pytest.fixture
def container(swift):
    name = swift.create_bucket()
    for each in NAMES:
        swift.request("PUT", f"/{name}/{quote(each)}", content=b"0123456789")
    return f"{swift.storage_url}/{name}"


@pytest.mark.asyncio
@pytest.mark.parametrize("digest", ["sha256", "sha512"])
async def test_swift_accepts_temporary_urls(sign, swift, container, digest):
    """Whatever an object is called, GET and HEAD with ranges are let in."""
    transport = sign(TempUrl(netloc(container), key=swift.tempurl_key, digest=digest))
    for name in NAMES:
        for path in (quote(name), quote(name, safe="/+,;=!'")):
            url = f"{container}/{path}"
            assert await exchange(transport, url, ("Range", "bytes=2-4")) == (206, b"234")
            assert await exchange(transport, url, method="HEAD") == (200, b"")


@pytest.mark.asyncio
async def test_swift_refuses_other_temporary_urls(sign, swift, container):
    """It does check: no signature, a wrong key and one that has ended open nothing."""
    url, host = f"{container}/film.mp4", netloc(container)
    key = swift.tempurl_key
    late = TempUrl(host, key=key, clock=lambda: time.time() - 7200)
    for rule in (TempUrl("a.example", key=key), TempUrl(host, key="wrong"), late):
        assert (await exchange(sign(rule), url))[0] == 401
    assert await exchange(sign(TempUrl(host, key=key)), url) == (200, b"0123456789")


@pytest.mark.asyncio
async def test_templates_say_what_is_signed():
    """A token as content networks want it: one parameter, with a key in hex."""
    key = bytes.fromhex("00ff10")
    rule = HmacQuery(
        "cdn.example.com",
        key=key,
        message="exp={expires}~url={raw_path}?{query}~{method}~{host}~{path}",
        parameters={"hdnts": "exp={expires}~acl=/*~hmac={signature}", "v": "1"},
        encoding="base64url",
        lifetime=60,
        clock=lambda: 1000.9,
    )
    signed = await rule.sign(make_request("https://cdn.example.com/a%20b?x=%2f&v=0&y", hop=0))
    message = b"exp=1060~url=/a%20b?x=%2f&y~GET~cdn.example.com~/a b"
    digest = hmac.new(key, message, hashlib.sha256).digest()
    url, mark, signature = signed.url.partition("~hmac=")
    assert url == "https://cdn.example.com/a%20b?x=%2f&y&hdnts=exp=1060~acl=/*"
    assert mark
    signature, _, rest = signature.partition("&")
    assert rest == "v=1"
    assert len(signature) == 43
    assert digest == _unpadded(signature)
    assert signed.fields == Fields()


def _unpadded(text):
    import base64

    return base64.urlsafe_b64decode(text + "=")


@pytest.mark.parametrize(
    "wrong",
    [
        {"key": ""},
        {"message": "{canary}"},
        {"message": "{"},
        {"message": "{}"},
        {"message": "{path!r}"},
        {"message": "{path:>9}"},
        {"message": "{path.x}"},
        {"parameters": {"sig": "{path}"}},
        {"parameters": {"sig": "x"}},
        {"parameters": {}},
        {"digest": "md99"},
        {"digest": "shake_128"},
        {"encoding": "rot13"},
        {"lifetime": 0},
        {"lifetime": float("nan")},
    ],
)
def test_what_would_sign_nothing_is_refused(wrong):
    """A rule that is wrong shows before anybody plays."""
    right = {"key": "k", "parameters": {"sig": "{signature}"}}
    assert HmacQuery("a.example", **right)
    with pytest.raises(ConfigurationError):
        HmacQuery("a.example", **{**right, **wrong})


def test_a_secure_link_needs_its_key():
    """Without it in the message anybody could make a link."""
    with pytest.raises(ConfigurationError):
        SecureLink("a.example", key="k", message="{expires}{path}")
