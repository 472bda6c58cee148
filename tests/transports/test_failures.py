"""What goes wrong says what it was and what to do, and shows no secret."""

import asyncio
import socket
import ssl
import threading
import traceback
from contextlib import asynccontextmanager, suppress

import pytest
import trustme

from cachestream.errors import (
    ConfigurationError,
    ConnectError,
    InvalidURLError,
    TLSError,
    UpstreamProtocolError,
)
from cachestream.testing.origin import Origin
from cachestream.testing.transports import Collector, ask
from cachestream.transports import HttpTransport


@pytest.fixture(scope="module")
def authority():
    """Return an authority that nobody trusts by default."""
    return trustme.CA()


@pytest.fixture
def ca_file(authority, tmp_path):
    """Return the file to trust it with."""
    path = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(str(path))
    return path


def server_context(certificate):
    """Return a context for a server with this certificate."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    certificate.configure_cert(context)
    return context


@asynccontextmanager
async def transport_with(**options):
    """Give a transport and close it."""
    transport = HttpTransport(**options)
    try:
        yield transport
    finally:
        await transport.aclose()


async def failure(url, **options):
    """Return the error of an exchange, having looked for secrets in all that may be shown."""
    async with transport_with(**options) as transport:
        with pytest.raises(Exception) as caught:
            async with ask(transport, f"{url}?X-Amz-Signature=canary") as response:
                await response.pour(Collector())
    error = caught.value
    chain = [error, error.__cause__, getattr(error.__cause__, "__cause__", None)]
    assert all("canary" not in f"{each!r} {each}" for each in chain)
    assert "canary" not in "".join(traceback.format_exception_only(error))
    return error


@pytest.mark.asyncio
async def test_a_certificate_for_another_host(authority, ca_file):
    """The host name is what has to be looked at."""
    for name, url in (("127.0.0.1", "localhost"), ("localhost", "127.0.0.1")):
        async with Origin(ssl_context=server_context(authority.issue_cert(name))) as origin:
            error = await failure(f"https://{url}:{origin.port}/a", ca_file=ca_file)
        assert type(error) is TLSError
        assert "for another" in error.message
        assert "host name" in error.hint


@pytest.mark.asyncio
async def test_an_unknown_authority(authority):
    """The way out is to trust it, by the setting's name."""
    async with Origin(ssl_context=server_context(authority.issue_cert("127.0.0.1"))) as origin:
        error = await failure(origin.url("/a"))
    assert type(error) is TLSError
    assert ("unknown authority" in error.message, "ca_file" in error.hint) == (True, True)


@pytest.mark.asyncio
async def test_certificates_need_not_be_checked(authority, ca_file):
    """With verify_tls off any certificate will do, with or without files of one's own."""
    async with Origin(ssl_context=server_context(authority.issue_cert("elsewhere"))) as origin:
        origin.add("/a", b"hello")
        for options in ({}, {"ca_file": ca_file}):
            async with (
                transport_with(verify_tls=False, **options) as transport,
                ask(transport, origin.url("/a")) as response,
            ):
                assert response.status == 200


@pytest.mark.asyncio
async def test_tls_where_plain_http_is_spoken():
    """A wrong scheme is guessed from what came."""

    async def plain(reader, writer):
        await reader.read(1)
        writer.write(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")
        await writer.drain()
        await reader.read()
        writer.transport.abort()
        done.set()

    done = asyncio.Event()
    async with await asyncio.start_server(plain, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        error = await failure(f"https://127.0.0.1:{port}/a")
        await done.wait()
    assert type(error) is TLSError
    assert "http://" in error.hint


@pytest.mark.asyncio
async def test_a_missing_client_certificate(authority, ca_file):
    """TLS 1.3 refuses it after the handshake; the hint names the setting all the same."""
    context = server_context(authority.issue_cert("127.0.0.1"))
    context.verify_mode = ssl.CERT_REQUIRED
    authority.configure_trust(context)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        # A blocking server, for asyncio's does not send the alert.
        thread = threading.Thread(target=_refuse, args=(listener, context))
        thread.start()
        port = listener.getsockname()[1]
        error = await failure(f"https://127.0.0.1:{port}/a", ca_file=ca_file)
        thread.join()
    assert type(error) is TLSError
    assert "client_cert" in error.hint


def _refuse(listener, context):
    connection, _ = listener.accept()
    connection.settimeout(10)
    with context.wrap_socket(connection, server_side=True, do_handshake_on_connect=False) as secure:
        with pytest.raises(ssl.SSLError):
            secure.do_handshake()
        # To close with the request unread would be a reset, in which the alert may be lost.
        socket.socket.shutdown(secure, socket.SHUT_WR)
        with suppress(ConnectionError):
            while socket.socket.recv(secure, 65536):
                pass


@pytest.mark.asyncio
async def test_a_name_that_cannot_be_resolved(monkeypatch):
    """The name is shown, and its spelling doubted."""

    def fake(host, *args, **kwargs):
        raise socket.gaierror(socket.EAI_NONAME, "unknown")

    monkeypatch.setattr(socket, "getaddrinfo", fake)
    error = await failure("http://films.example/a")
    assert type(error) is ConnectError
    assert "'films.example'" in error.message
    assert "spelling" in error.hint


@pytest.mark.asyncio
async def test_a_name_that_is_none():
    """A label that no name server can be asked for is the URL's fault."""
    error = await failure(f"http://{'a' * 70}.example/")
    assert isinstance(error, InvalidURLError | ConnectError)


@pytest.mark.asyncio
async def test_a_refused_connection():
    """The reason of the system is given in words."""
    async with Origin() as origin:
        await origin.down()
        error = await failure(origin.url("/a"))
    assert type(error) is ConnectError
    assert "refused" in error.message
    assert "port" in error.hint


@pytest.mark.asyncio
async def test_a_head_that_is_too_large():
    """Size is told apart from nonsense."""
    async with Origin() as origin:
        origin.add("/a", b"", raw_head=b"HTTP/1.1 200 OK\r\nX: " + b"y" * 70_000 + b"\r\n\r\n")
        error = await failure(origin.url("/a"))
    assert type(error) is UpstreamProtocolError
    assert "too large" in error.message


@pytest.mark.asyncio
async def test_a_chunk_that_is_broken_late():
    """Content that loses its framing ends with an error, and does not hang."""
    async with Origin() as origin:
        served = origin.add("/a", b"x" * 3_000_000, framing="chunked")
        served.broken_chunk_after = 2_500_000
        error = await failure(origin.url("/a"), read_timeout=5)
    assert type(error) is UpstreamProtocolError
    assert "framed" in error.message


@pytest.mark.parametrize("name", ["ca_file", "client_cert"])
@pytest.mark.parametrize("content", [None, b"rubbish"])
def test_files_that_cannot_be_used(tmp_path, name, content):
    """A file that is not there or is none is named before anything is asked."""
    path = tmp_path / "file.pem"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ConfigurationError, match=f"{name} .*file.pem"):
        HttpTransport(**{name: path})


def test_a_key_without_its_certificate(tmp_path):
    """A client key alone is a mistake."""
    with pytest.raises(ConfigurationError, match="client_cert"):
        HttpTransport(client_key=tmp_path / "key.pem")


def test_a_key_with_a_passphrase_is_refused_without_asking(authority, tmp_path):
    """Nobody sits at the terminal of a server."""
    from cryptography.hazmat.primitives import serialization

    issued = authority.issue_cert("client@example.org")
    key = serialization.load_pem_private_key(issued.private_key_pem.bytes(), None)
    path = tmp_path / "client.pem"
    secret = serialization.BestAvailableEncryption(b"secret")
    traditional = serialization.PrivateFormat.TraditionalOpenSSL
    pem = key.private_bytes(serialization.Encoding.PEM, traditional, secret)
    path.write_bytes(pem + issued.cert_chain_pems[0].bytes())
    with pytest.raises(ConfigurationError, match="passphrase"):
        HttpTransport(client_cert=path)
