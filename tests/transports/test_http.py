"""What the HTTP transport does beyond the contract: TLS, proxies, passwords, addresses."""

import asyncio
import datetime
import os
import ssl
import threading

import aiohttp
import attrs
import pytest
import pytest_asyncio
import trustme

from cachestream.abc import UpstreamRequest
from cachestream.core.fields import Fields
from cachestream.errors import (
    AccessDeniedError,
    ConfigurationError,
    TLSError,
    TransportError,
    UpstreamProtocolError,
)
from cachestream.settings import Settings
from cachestream.testing.origin import Origin
from cachestream.testing.transports import Collector
from cachestream.transports import HttpTransport


async def get(transport, url, *lines):
    """Return status and content of one exchange."""
    request = UpstreamRequest(url=url, source=url, fields=Fields(lines))
    sink = Collector()
    async with await transport.fetch(await transport.prepare(request)) as response:
        await response.pour(sink)
        return response.status, bytes(sink.content)


@pytest_asyncio.fixture
async def origin():
    async with Origin() as origin:
        origin.add("/file", b"content")
        yield origin


@pytest.fixture(scope="module")
def authority():
    return trustme.CA()


@pytest.fixture
def ca_file(authority, tmp_path):
    path = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(str(path))
    return path


def server_context(certificate):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    certificate.configure_cert(context)
    return context


# -- TLS ------------------------------------------------------------------


@pytest.mark.asyncio
async def test_a_custom_authority_is_trusted(authority, ca_file):
    """With its authority in ca_file a TLS origin is read."""
    context = server_context(authority.issue_cert("127.0.0.1"))
    async with Origin(ssl_context=context) as origin:
        origin.add("/file", b"secret")
        transport = HttpTransport(ca_file=ca_file)
        try:
            assert await get(transport, origin.url("/file")) == (200, b"secret")
        finally:
            await transport.aclose()


@pytest.mark.asyncio
async def test_an_unknown_authority_is_a_clear_error(authority):
    """Without it the error names the certificate and says what to do."""
    context = server_context(authority.issue_cert("127.0.0.1"))
    async with Origin(ssl_context=context) as origin:
        transport = HttpTransport()
        try:
            with pytest.raises(TLSError) as caught:
                await get(transport, origin.url("/file"))
        finally:
            await transport.aclose()
    assert "certificate" in str(caught.value)
    assert caught.value.hint


@pytest.mark.asyncio
async def test_an_expired_certificate_is_a_clear_error(authority, ca_file):
    """An expired certificate is called so."""
    past = datetime.datetime.now(datetime.UTC) - datetime.timedelta(days=2)
    context = server_context(authority.issue_cert("127.0.0.1", not_after=past))
    async with Origin(ssl_context=context) as origin:
        transport = HttpTransport(ca_file=ca_file)
        try:
            with pytest.raises(TLSError) as caught:
                await get(transport, origin.url("/file"))
        finally:
            await transport.aclose()
    assert "expired" in str(caught.value)


@pytest.mark.asyncio
async def test_a_client_certificate_is_shown(authority, ca_file, tmp_path):
    """An origin that wants a client certificate gets the configured one."""
    context = server_context(authority.issue_cert("127.0.0.1"))
    context.verify_mode = ssl.CERT_REQUIRED
    authority.configure_trust(context)
    own = authority.issue_cert("client@example.org")
    path = tmp_path / "client.pem"
    own.private_key_and_cert_chain_pem.write_to_path(str(path))
    async with Origin(ssl_context=context) as origin:
        origin.add("/file", b"for members")
        member = HttpTransport(ca_file=ca_file, client_cert=path)
        stranger = HttpTransport(ca_file=ca_file)
        try:
            assert await get(member, origin.url("/file")) == (200, b"for members")
            with pytest.raises(TransportError, match="client_cert"):
                await get(stranger, origin.url("/file"))
        finally:
            await member.aclose()
            await stranger.aclose()


def test_a_missing_authority_file_is_a_configuration_error(tmp_path):
    """A ca_file that is not there is named at once, not at the first request."""
    with pytest.raises(ConfigurationError) as caught:
        HttpTransport(ca_file=tmp_path / "nothing.pem")
    assert "nothing.pem" in str(caught.value)


# -- addresses ------------------------------------------------------------


@pytest.mark.asyncio
async def test_the_address_filter_sees_the_final_address(origin):
    """Literals and names are both judged by the address that is connected to."""
    seen = []
    transport = HttpTransport(address_filter=lambda address, port: seen.append((address, port)))
    try:
        await get(transport, origin.url("/file"))
        named = origin.url("/file").replace("127.0.0.1", "localhost")
        await get(transport, named)
    finally:
        await transport.aclose()
    assert seen[0] == ("127.0.0.1", origin.port)
    assert seen[-1][1] == origin.port
    assert {address for address, _ in seen} <= {"127.0.0.1", "::1"}


@pytest.mark.asyncio
async def test_a_denied_address_is_an_access_error(origin):
    """What the filter raises reaches the caller, and nothing is connected."""

    def deny(address, port):
        raise AccessDeniedError("not there")

    transport = HttpTransport(address_filter=deny)
    try:
        with pytest.raises(AccessDeniedError):
            await get(transport, origin.url("/file"))
    finally:
        await transport.aclose()
    assert origin.count() == 0


@pytest.mark.asyncio
@pytest.mark.parametrize("host", ["169.254.169.254", "[fe80::1]", "[::ffff:169.254.169.254]"])
async def test_metadata_addresses_are_never_asked(host):
    """Link-local and metadata addresses are denied before a connection is tried."""
    transport = HttpTransport(connect_timeout=1.0)
    try:
        with pytest.raises(AccessDeniedError):
            await get(transport, f"http://{host}/latest/meta-data/")
    finally:
        await transport.aclose()


# -- proxies and passwords ------------------------------------------------


@pytest.mark.asyncio
async def test_a_proxy_is_used_when_asked_for(origin):
    """With `proxy` the request goes to the proxy, in absolute form."""
    async with Origin() as proxy:
        proxy.add("/file", b"from the proxy")
        transport = HttpTransport(proxy=f"http://127.0.0.1:{proxy.port}")
        try:
            assert await get(transport, origin.url("/file")) == (200, b"from the proxy")
        finally:
            await transport.aclose()
        assert proxy.requests[0].target == origin.url("/file")
    assert origin.count() == 0


@pytest.mark.asyncio
async def test_the_environment_is_read_only_when_asked_for(origin, monkeypatch, tmp_path):
    """Proxies and netrc of the environment count with `trust_env` alone."""
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login me password secret\n")
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))
    plain, trusting = HttpTransport(), HttpTransport(trust_env=True)
    try:
        await get(plain, origin.url("/file"))
        await get(trusting, origin.url("/file"))
    finally:
        await plain.aclose()
        await trusting.aclose()
    assert "Authorization" not in origin.requests[0].fields
    assert (origin.requests[1].fields.get("Authorization") or "").startswith("Basic ")


# -- sessions -------------------------------------------------------------


@pytest.mark.asyncio
async def test_a_session_of_the_users_own_stays_open(origin):
    """A given session is used and not closed."""
    async with aiohttp.ClientSession(headers={"X-Mine": "yes"}) as session:
        transport = HttpTransport(session=session)
        await get(transport, origin.url("/file"))
        await transport.aclose()
        assert not session.closed
    assert origin.requests[0].fields.get("X-Mine") == "yes"


@pytest.mark.asyncio
async def test_a_connector_of_the_users_own_stays_open(origin):
    """A given connector is used and not closed."""
    connector = aiohttp.TCPConnector(limit=3)
    transport = HttpTransport(connector=connector)
    await get(transport, origin.url("/file"))
    await transport.aclose()
    assert not connector.closed
    await connector.close()


@pytest.mark.asyncio
async def test_connections_are_kept_for_the_next_request(origin):
    """Two requests one after the other use one connection."""
    transport = HttpTransport()
    try:
        await get(transport, origin.url("/file"))
        await get(transport, origin.url("/file"))
    finally:
        await transport.aclose()
    assert origin.requests[0].connection == origin.requests[1].connection


@pytest.mark.asyncio
async def test_nothing_is_left_after_aclose(origin):
    """Descriptors, tasks and threads are as many as before."""

    def held():
        return (
            len(os.listdir("/proc/self/fd")),
            len(asyncio.all_tasks()),
            threading.active_count(),
        )

    await get_once(origin)  # the loop's own helpers exist from the first use on
    await origin.wait_connections(0)
    before = held()
    await get_once(origin)
    await origin.wait_connections(0)
    assert held() == before


async def get_once(origin):
    transport = HttpTransport()
    await get(transport, origin.url("/file"))
    await transport.aclose()


# -- signing, settings, heads ---------------------------------------------


@pytest.mark.asyncio
async def test_a_subclass_signs_by_overriding_prepare(origin):
    """What `prepare` returns is what is sent."""

    class Signed(HttpTransport):
        async def prepare(self, request):
            return attrs.evolve(request, fields=request.fields.replace(("X-Sign", request.method)))

    transport = Signed()
    try:
        await get(transport, origin.url("/file"))
    finally:
        await transport.aclose()
    assert origin.requests[0].fields.get("X-Sign") == "GET"


@pytest.mark.asyncio
async def test_it_is_made_from_settings(origin):
    """`from_settings` takes what the settings say."""
    transport = HttpTransport.from_settings(Settings(user_agent="tester/1"))
    try:
        await get(transport, origin.url("/file"))
    finally:
        await transport.aclose()
    assert origin.requests[0].fields.get("User-Agent") == "tester/1"


@pytest.mark.asyncio
async def test_interim_heads_are_skipped(origin):
    """1xx heads before the real one are no answer."""
    origin.add("/file", b"content", interim=(103,))
    transport = HttpTransport()
    try:
        assert await get(transport, origin.url("/file")) == (200, b"content")
    finally:
        await transport.aclose()


@pytest.mark.asyncio
@pytest.mark.parametrize(
    "head",
    [
        b"HTTP/1.1 200 OK\r\nX: " + b"x" * 200_000 + b"\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n" + b"A: b\r\n" * 20_000 + b"\r\n",
        b"HTTP/1.1 999999 OK\r\n\r\n",
        b"\r\n\r\n\x00\x01\x02\r\n\r\n",
    ],
)
async def test_absurd_heads_are_protocol_errors(origin, head):
    """Heads that are too large or senseless raise, and take no memory."""
    origin.add("/file", b"", raw_head=head)
    transport = HttpTransport(read_timeout=2.0)
    try:
        with pytest.raises(UpstreamProtocolError):
            await get(transport, origin.url("/file"))
    finally:
        await transport.aclose()
