"""Origins that speak TLS: trusted, expired, unknown, and those that ask who we are."""

import asyncio
import contextlib
import datetime
import socket
import ssl
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
import trustme

from cachestream import CacheManager
from cachestream.errors import TransportError
from cachestream.testing.origin import Origin, pattern

pytestmark = pytest.mark.integration

MakeCache = Callable[..., Awaitable[CacheManager]]
Secured = Callable[..., Awaitable[Origin]]

DATA = pattern("tls", 2_000_000).bytes()
PATIENCE_S = 45.0


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    """Make the authority that a cache is told to trust."""
    return trustme.CA()


@pytest.fixture
def ca_file(authority: trustme.CA, tmp_path: Path) -> Path:
    """Write the authority's certificate where ``ca_file`` can name it."""
    path = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(path)
    return path


@pytest_asyncio.fixture
async def secured() -> AsyncIterator[Secured]:
    """Run origins that speak TLS with a certificate, and serve one file."""
    async with AsyncExitStack() as stack:

        async def start(certificate: trustme.LeafCert, clients: trustme.CA | None = None) -> Origin:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            certificate.configure_cert(context)
            if clients is not None:
                context.verify_mode = ssl.CERT_REQUIRED
                clients.configure_trust(context)
            origin = await stack.enter_async_context(Origin(ssl_context=context))
            origin.add("/film.bin", DATA)
            return origin

        yield start


async def get(programs: Any, cache: CacheManager, source: str) -> tuple[int, bytes]:
    """Ask the local server; return status and content."""
    url = cache.get_cache_url(source)
    asked = (
        "--silent",
        "--show-error",
        "--noproxy",
        "*",
        "--max-time",
        "40",
        "-w",
        "\n%{http_code}",
        url,
    )
    content, _, status = (await programs.run("curl", *asked)).check().rpartition(b"\n")
    return int(status), content


async def check_refused(programs: Any, cache: CacheManager, source: str, *words: str) -> None:
    """Every way in must fail with these words, and nothing may be stored."""
    status, page = await get(programs, cache, source)
    assert status == 502
    for word in (*words, source):
        assert word in page.decode(), page
    stream = cache.create_stream(source)
    async with asyncio.timeout(PATIENCE_S):
        with pytest.raises(TransportError) as caught:
            await stream.download()
    assert caught.value.hint is not None
    for word in words:
        assert word in str(caught.value)
    stream.release()
    assert await cache.cache_records() == ()


@pytest.mark.asyncio
async def test_a_trusted_origin(
    authority: trustme.CA,
    ca_file: Path,
    secured: Secured,
    programs: Any,
    make_cache: MakeCache,
) -> None:
    """With its authority in ``ca_file`` an origin is served and kept as any other."""
    origin = await secured(authority.issue_cert("127.0.0.1"))
    cache = await make_cache(ca_file=ca_file)
    assert await get(programs, cache, origin.url("/film.bin")) == (200, DATA)
    await cache.pre_cache_url(origin.url("/film.bin"))
    origin.reset_log()
    assert await get(programs, cache, origin.url("/film.bin")) == (200, DATA)
    assert origin.count() == 0


@pytest.mark.asyncio
async def test_an_origin_that_drops_tls_connections(
    authority: trustme.CA,
    ca_file: Path,
    secured: Secured,
    programs: Any,
    make_cache: MakeCache,
) -> None:
    """A TLS connection that is lost in mid-body is resumed, and nobody notices."""
    origin = await secured(authority.issue_cert("127.0.0.1"))
    origin.files["/film.bin"].drop(after=700_000, times=2)
    cache = await make_cache(ca_file=ca_file, retry_delay=0.01)
    assert await get(programs, cache, origin.url("/film.bin")) == (200, DATA)
    assert cache.statistics().origin_failures >= 1  # how many bodies are long enough varies


@pytest.mark.asyncio
async def test_an_expired_certificate(
    authority: trustme.CA,
    ca_file: Path,
    secured: Secured,
    programs: Any,
    make_cache: MakeCache,
) -> None:
    """It is a 502 that names the certificate, says that it has expired, and what to do."""
    long_ago = datetime.datetime(2020, 1, 1, tzinfo=datetime.UTC)
    origin = await secured(authority.issue_cert("127.0.0.1", not_after=long_ago))
    cache = await make_cache(ca_file=ca_file)
    await check_refused(
        programs,
        cache,
        origin.url("/film.bin"),
        "certificate has expired",
        "must renew it",
        "this machine's clock",
    )


@pytest.mark.asyncio
async def test_an_unknown_authority(
    authority: trustme.CA,
    secured: Secured,
    programs: Any,
    make_cache: MakeCache,
    tmp_path: Path,
) -> None:
    """It is a 502 that names the setting to trust it with, whatever else is trusted."""
    origin = await secured(authority.issue_cert("127.0.0.1"))
    words = ("certificate comes from an unknown authority", "ca_file")
    await check_refused(programs, await make_cache(), origin.url("/film.bin"), *words)

    other = tmp_path / "other.pem"
    trustme.CA().cert_pem.write_to_path(other)
    cache = await make_cache(ca_file=other, cache_dir=tmp_path / "other")
    await check_refused(programs, cache, origin.url("/film.bin"), *words)


@pytest.mark.asyncio
async def test_a_certificate_for_another_host(
    authority: trustme.CA,
    ca_file: Path,
    secured: Secured,
    programs: Any,
    make_cache: MakeCache,
) -> None:
    """A certificate of a trusted authority is refused for a host that it is not for."""
    origin = await secured(authority.issue_cert("other.example"))
    cache = await make_cache(ca_file=ca_file)
    await check_refused(programs, cache, origin.url("/film.bin"), "certificate is for another")


@pytest.mark.asyncio
async def test_an_unchecked_certificate(
    secured: Secured, programs: Any, make_cache: MakeCache
) -> None:
    """With ``verify_tls=False`` any certificate will do."""
    origin = await secured(trustme.CA().issue_cert("other.example"))
    cache = await make_cache(verify_tls=False)
    assert await get(programs, cache, origin.url("/film.bin")) == (200, DATA)


@pytest.mark.asyncio
@pytest.mark.parametrize("apart", [False, True], ids=["one file", "key apart"])
async def test_a_client_certificate(
    apart: bool,
    authority: trustme.CA,
    ca_file: Path,
    secured: Secured,
    programs: Any,
    make_cache: MakeCache,
    tmp_path: Path,
) -> None:
    """An origin that asks who we are is shown the certificate, its key in one file or apart."""
    mine = authority.issue_cert("me.example")
    chain = tmp_path / "me.pem"
    settings: dict[str, Path] = {"client_cert": chain}
    if apart:
        mine.cert_chain_pems[0].write_to_path(chain)
        settings["client_key"] = tmp_path / "me.key"
        mine.private_key_pem.write_to_path(settings["client_key"])
    else:
        mine.private_key_and_cert_chain_pem.write_to_path(chain)
    origin = await secured(authority.issue_cert("127.0.0.1"), authority)
    cache = await make_cache(ca_file=ca_file, **settings)
    assert await get(programs, cache, origin.url("/film.bin")) == (200, DATA)


@pytest.mark.asyncio
async def test_an_origin_that_misses_a_client_certificate_in_silence(
    authority: trustme.CA,
    ca_file: Path,
    secured: Secured,
    programs: Any,
    make_cache: MakeCache,
) -> None:
    """Where the origin only closes the connection, the answer guesses what it may have wanted."""
    origin = await secured(authority.issue_cert("127.0.0.1"), authority)
    cache = await make_cache(ca_file=ca_file, retry_delay=0.01)
    source = origin.url("/film.bin")
    await check_refused(programs, cache, source, "closed the connection", "client_cert")
    assert origin.count() == 0


@pytest.mark.asyncio
async def test_an_origin_that_says_that_it_misses_a_client_certificate(
    authority: trustme.CA, ca_file: Path, programs: Any, make_cache: MakeCache
) -> None:
    """Its alert becomes a 502 that says which settings show one."""
    cache = await make_cache(ca_file=ca_file)
    with alerting(authority) as source:
        await check_refused(programs, cache, source, "CERTIFICATE", "client_cert", "client_key")


@contextlib.contextmanager
def alerting(authority: trustme.CA) -> Iterator[str]:
    """Run a server that alerts clients without a certificate; asyncio's drop the alert."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    context.verify_mode = ssl.CERT_REQUIRED
    authority.configure_trust(context)

    def refuse(connection: socket.socket) -> None:
        connection.settimeout(PATIENCE_S)
        tls = context.wrap_socket(connection, server_side=True, do_handshake_on_connect=False)
        with tls, contextlib.suppress(OSError):
            with contextlib.suppress(ssl.SSLError):
                tls.do_handshake()
            # Closing with a request unread would reset the connection, and lose the alert.
            tls.shutdown(socket.SHUT_WR)
            while tls.recv(4096):
                pass

    def serve() -> None:
        with listener:
            while True:
                connection, _ = listener.accept()
                with connection:
                    if stopped.is_set():
                        return
                    refuse(connection)

    stopped = threading.Event()
    listener = socket.create_server(("127.0.0.1", 0))
    address = listener.getsockname()
    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield f"https://127.0.0.1:{address[1]}/film.bin"
    finally:
        stopped.set()
        socket.create_connection(address).close()
        thread.join()
