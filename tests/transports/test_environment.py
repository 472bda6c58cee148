"""Proxies and passwords: of settings, and of the environment for those who ask for it."""

import asyncio
import ssl
from base64 import b64encode
from contextlib import asynccontextmanager

import pytest
import trustme

from cachestream.abc import UpstreamRequest
from cachestream.core.fields import Fields
from cachestream.errors import ConfigurationError, ConnectError
from cachestream.testing.origin import Origin
from cachestream.testing.transports import Collector
from cachestream.transports import HttpTransport

VARIABLES = ["HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY", "NETRC"]
BASIC = "Basic " + b64encode(b"us er:pass:word").decode()


@pytest.fixture(autouse=True)
def environment(monkeypatch, tmp_path):
    """Begin with an environment that says nothing."""
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    return monkeypatch


class TunnelProxy:
    """A small proxy that understands CONNECT, and asks for a password if it has one."""

    def __init__(self, password=None, status=None):
        self.password = password
        self.status = status
        self.targets = []
        self.tasks = set()

    async def __aenter__(self):
        self.server = await asyncio.start_server(self.serve, "127.0.0.1", 0)
        self.port = self.server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *exc):
        self.server.close()
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)
        await self.server.wait_closed()

    async def serve(self, reader, writer):
        self.tasks.add(asyncio.current_task())
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            method, target, _ = head.split(" ", 2)
            self.targets.append((method, target))
            given = f"Proxy-Authorization: {self.password}\r\n" in head
            if self.password is not None and not given:
                self.status = 407
            if self.status is not None:
                writer.write(b"HTTP/1.1 %d No\r\nContent-Length: 0\r\n\r\n" % self.status)
                await writer.drain()
                return
            writer.write(b"HTTP/1.1 200 Yes\r\n\r\n")
            host, port = target.rsplit(":", 1)
            far_reader, far_writer = await asyncio.open_connection(host, int(port))
            try:
                async with asyncio.TaskGroup() as group:
                    group.create_task(self.pump(reader, far_writer))
                    group.create_task(self.pump(far_reader, writer))
            finally:
                far_writer.transport.abort()
        finally:
            writer.transport.abort()

    async def pump(self, reader, writer):
        while piece := await reader.read(65536):
            writer.write(piece)
            await writer.drain()
        raise ConnectionError


@asynccontextmanager
async def transport_with(**options):
    transport = HttpTransport(**options)
    try:
        yield transport
    finally:
        await transport.aclose()


async def get(transport, url, *lines):
    sink = Collector()
    request = UpstreamRequest(url=url, source=url, fields=Fields(lines))
    async with await transport.fetch(request) as response:
        await response.pour(sink)
    return sink.content


@pytest.fixture
def tls(tmp_path):
    """Return a server's context and the file of the authority to trust."""
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    path = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(str(path))
    return context, path


@pytest.mark.asyncio
async def test_https_goes_through_a_tunnel(tls):
    """TLS is spoken with the origin through the proxy, which gets the password and sees no path."""
    context, ca_file = tls
    proxy = TunnelProxy(BASIC)
    async with proxy, Origin(ssl_context=context) as origin:
        origin.add("/a", b"hello")
        url = f"http://us%20er:pass%3Aword@127.0.0.1:{proxy.port}"
        async with transport_with(ca_file=ca_file, proxy=url) as transport:
            assert await get(transport, origin.url("/a")) == b"hello"
            assert await get(transport, origin.url("/a")) == b"hello"
        assert proxy.targets == [("CONNECT", origin.authority)]
        assert "Proxy-Authorization" not in origin.requests[0].fields


@pytest.mark.asyncio
@pytest.mark.parametrize("status", [403, 502])
async def test_a_refused_tunnel_is_no_connection(tls, status):
    """What the proxy refuses is an error that names its status, and no secret."""
    context, ca_file = tls
    async with TunnelProxy(status=status) as proxy, Origin(ssl_context=context) as origin:
        url = f"http://user:canary@127.0.0.1:{proxy.port}"
        async with transport_with(ca_file=ca_file, proxy=url) as transport:
            with pytest.raises(ConnectError, match=str(status)) as caught:
                await get(transport, origin.url("/a?sig=canary"))
    assert "canary" not in repr(caught.value) + str(caught.value) + str(caught.value.__cause__)


@pytest.mark.asyncio
async def test_a_wrong_proxy_password_says_so(tls):
    """A 407 points at the setting."""
    context, ca_file = tls
    async with TunnelProxy(BASIC) as proxy, Origin(ssl_context=context) as origin:
        url = f"http://127.0.0.1:{proxy.port}"
        async with transport_with(ca_file=ca_file, proxy=url) as transport:
            with pytest.raises(ConnectError, match="user name and password"):
                await get(transport, origin.url("/a"))


@pytest.mark.asyncio
async def test_plain_http_is_asked_of_the_proxy_with_its_password():
    """For http the proxy gets the whole URL, exactly encoded, and its own password."""
    target = "/a%20b?c=%2F"
    async with Origin() as proxy:
        proxy.fallback = proxy.add("/x", b"from the proxy")
        options = {"proxy": f"http://us%20er:pass%3Aword@{proxy.authority}"}
        async with transport_with(**options) as transport:
            content = await get(transport, f"http://192.0.2.1{target}")
        assert content == b"from the proxy"
        assert proxy.requests[0].target == f"http://192.0.2.1{target}"
        assert proxy.requests[0].fields.get("Proxy-Authorization") == BASIC


@pytest.mark.asyncio
async def test_a_proxy_that_is_not_there_says_so():
    """The error is about the proxy, not about the origin."""
    async with Origin() as proxy:
        pass
    async with transport_with(proxy=f"http://{proxy.authority}") as transport:
        with pytest.raises(ConnectError, match="proxy cannot be reached"):
            await get(transport, "http://192.0.2.1/")


@pytest.mark.asyncio
async def test_a_proxy_of_the_environment_is_used_only_when_asked(environment):
    """HTTP_PROXY counts with trust_env alone, and not for hosts in NO_PROXY."""
    async with Origin() as origin, Origin() as proxy:
        origin.add("/a", b"direct")
        proxy.add("/a", b"proxied")
        environment.setenv("http_proxy", f"http://{proxy.authority}")
        async with transport_with() as transport:
            assert await get(transport, origin.url("/a")) == b"direct"
        async with transport_with(trust_env=True) as transport:
            assert await get(transport, origin.url("/a")) == b"proxied"
            environment.setenv("no_proxy", "127.0.0.1")
            assert await get(transport, origin.url("/a")) == b"direct"


@pytest.mark.asyncio
async def test_the_setting_wins_over_the_environment(environment):
    """A proxy that was named is used, whatever the environment says."""
    environment.setenv("http_proxy", "http://127.0.0.1:1")
    environment.setenv("no_proxy", "*")
    async with Origin() as proxy:
        proxy.add("/a", b"proxied")
        options = {"proxy": proxy.authority, "trust_env": True}
        async with transport_with(**options) as transport:
            assert await get(transport, "http://192.0.2.1/a") == b"proxied"


@pytest.mark.asyncio
async def test_netrc_fills_in_what_the_request_does_not_say(environment, tmp_path):
    """A password of netrc goes to its machine, and never over an Authorization that is given."""
    (tmp_path / ".netrc").write_text("machine 127.0.0.1 login me password secret")
    (tmp_path / ".netrc").chmod(0o600)
    async with Origin() as origin:
        origin.add("/a", b"x")
        async with transport_with(trust_env=True) as transport:
            await get(transport, origin.url("/a"))
            await get(transport, origin.url("/a"), ("Authorization", "Bearer mine"))
            await get(transport, origin.url("/a").replace("127.0.0.1", "localhost"))
        sent = [item.fields.get_all("Authorization") for item in origin.requests]
        expected = "Basic " + b64encode(b"me:secret").decode()
        assert sent == [(expected,), ("Bearer mine",), ()]


def test_a_malformed_netrc_shows_no_password(environment, tmp_path):
    """The error tells the line, not what is in it."""
    path = tmp_path / "netrc"
    path.write_text("machine a login b password c\nmachine canary canary canary\n")
    path.chmod(0o600)
    environment.setenv("NETRC", str(path))
    with pytest.raises(ConfigurationError, match="line 2") as caught:
        HttpTransport(trust_env=True)
    assert "canary" not in str(caught.value)
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__


def test_a_netrc_that_is_named_must_be_there(environment, tmp_path):
    """Without NETRC a missing file is no error; with it, it is."""
    HttpTransport(trust_env=True)
    environment.setenv("NETRC", str(tmp_path / "nowhere"))
    with pytest.raises(ConfigurationError, match="NETRC"):
        HttpTransport(trust_env=True)


@pytest.mark.parametrize(
    "text", ["socks5://user:canary@127.0.0.1:1", "http://", "ftp://a", "http://a:99999", "http://["]
)
def test_what_is_no_http_proxy_is_refused(environment, text):
    """A proxy that cannot be used is refused at once, without its password in the text."""
    with pytest.raises(ConfigurationError, match="http://host:port") as caught:
        HttpTransport(proxy=text)
    assert "canary" not in str(caught.value)
    environment.setenv("https_proxy", text)
    with pytest.raises(ConfigurationError):
        HttpTransport(trust_env=True)


@pytest.mark.asyncio
async def test_a_proxy_without_scheme_is_http():
    """Host and port are enough."""
    async with Origin() as proxy:
        proxy.add("/a", b"x")
        async with transport_with(proxy=proxy.authority) as transport:
            assert await get(transport, "http://192.0.2.1/a") == b"x"
