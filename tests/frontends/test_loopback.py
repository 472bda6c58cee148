from __future__ import annotations

import asyncio
import logging
import socket

import pytest
import yarl

from cachestream.abc import RequestHead
from cachestream.errors import ConfigurationError, InvalidURLError, ServerUnavailableError
from cachestream.frontends import LoopbackFrontend, _loopback
from cachestream.frontends._addresses import listen_error
from cachestream.settings import Settings
from cachestream.testing._raw_client import RawClient, request_bytes
from cachestream.testing.fakes import FakeHandler, answer_with

SOURCE = "https://example.com/video.mp4"


def _handler() -> FakeHandler:
    return FakeHandler({"*": lambda _: answer_with(b"content")})


async def _served(frontend: LoopbackFrontend, address: str | None = None) -> RequestHead:
    handler = _handler()
    async with frontend.serve(handler) as base:
        port = yarl.URL(base).port
        async with RawClient(base if address is None else f"http://{address}:{port}") as client:
            assert (await client.ask("/")).status == 200
    return handler.heads[0]


@pytest.mark.asyncio
async def test_answers_to_the_three_loopback_names() -> None:
    """By default it listens on 127.0.0.1 and answers to all names of the loopback."""
    async with LoopbackFrontend().serve(_handler()) as base, RawClient(base):
        assert yarl.URL(base).host == "127.0.0.1"
    head = await _served(LoopbackFrontend())
    names = {name.rpartition(":")[0] for name in head.served}
    assert names == {"127.0.0.1", "localhost", "[::1]"}
    assert len({name.rpartition(":")[2] for name in head.served}) == 1


@pytest.mark.parametrize(
    ("host", "name"), [("::1", "[::1]"), ("localhost", "127.0.0.1"), ("127.0.0.9", "127.0.0.9")]
)
@pytest.mark.asyncio
async def test_other_loopback_addresses(host: str, name: str) -> None:
    """Any loopback address may be listened on without a token."""
    frontend = LoopbackFrontend(host=host)
    async with frontend.serve(_handler()) as base:
        assert base == f"http://{name}:{yarl.URL(base).port}"
        assert frontend.url_for(SOURCE) == f"{base}/example.com/video.mp4"
    assert name in {served.rpartition(":")[0] for served in (await _served(frontend)).served}


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "", "192.0.2.1", "example.com"])
@pytest.mark.parametrize("token", [None, ""])
def test_wider_address_needs_a_token(host: str, token: str | None) -> None:
    """Nobody listens on more than loopback by accident."""
    with pytest.raises(ConfigurationError, match="token"):
        LoopbackFrontend(host=host, token=token)


@pytest.mark.asyncio
async def test_wildcard_answers_to_the_address_that_was_used() -> None:
    """On all addresses, each connection answers to its own local one; URLs name loopback."""
    frontend = LoopbackFrontend(host="0.0.0.0", token="secret")
    async with frontend.serve(_handler()) as base:
        assert yarl.URL(base).host == "127.0.0.1"
    head = await _served(frontend, "127.0.0.5")
    names = {served.rpartition(":")[0] for served in head.served}
    assert names == {"127.0.0.1", "localhost", "[::1]", "127.0.0.5"}


@pytest.mark.asyncio
async def test_taken_port_is_said() -> None:
    """A port that another program has is a configuration error that names it."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        frontend = LoopbackFrontend(port=port)
        with pytest.raises(ConfigurationError, match=rf"port {port} .* is taken.*another port"):
            async with frontend.serve(_handler()):
                pass
    with pytest.raises(ServerUnavailableError):
        frontend.url_for(SOURCE)
    async with frontend.serve(_handler()) as base:
        assert yarl.URL(base).port == port


@pytest.mark.asyncio
async def test_foreign_address_is_said() -> None:
    """An address of another machine is a configuration error."""
    frontend = LoopbackFrontend(host="192.0.2.1", token="secret")
    with pytest.raises(ConfigurationError, match=r"192\.0\.2\.1"):
        async with frontend.serve(_handler()):
            pass


@pytest.mark.asyncio
async def test_forbidden_port_is_said() -> None:
    """A port that only the superuser may use is a configuration error with advice."""
    error = listen_error("127.0.0.1", 80, PermissionError(13, "no"))
    assert "above 1023" in str(error)


@pytest.mark.asyncio
async def test_serves_one_handler_at_a_time() -> None:
    """Serving twice at a time is a configuration error, and harms the first in no way."""
    frontend = LoopbackFrontend()
    async with frontend.serve(_handler()) as base, RawClient(base) as client:
        with pytest.raises(ConfigurationError, match="already"):
            async with frontend.serve(_handler()):
                pass
        assert (await client.ask("/")).status == 200


@pytest.mark.asyncio
async def test_settings_are_taken_over() -> None:
    """Host, port, token, idle timeout and schemes come from where they are set."""
    settings = Settings(host="::1", token="t/k", client_idle_timeout=9.0)
    frontend = LoopbackFrontend.from_settings(settings, schemes=frozenset({"s3"}))
    async with frontend.serve(_handler()) as base:
        assert base.startswith("http://[::1]:")
        assert frontend.url_for("s3://bucket/key") == f"{base}/~t%2Fk/s3/bucket/key"
        with pytest.raises(InvalidURLError, match="https"):
            frontend.url_for(SOURCE)
    assert frontend._limits.client_idle == 9.0


@pytest.mark.asyncio
async def test_token_is_part_of_local_urls() -> None:
    """With a token, a URL without it is none of ours."""
    frontend = LoopbackFrontend(token="secret")
    async with frontend.serve(_handler()) as base:
        url = frontend.url_for(SOURCE)
        assert url == f"{base}/~secret/example.com/video.mp4"
        assert frontend.source_for(url) == SOURCE
        for wrong in ("/example.com/video.mp4", "/~other/example.com/video.mp4"):
            assert frontend.source_for(base + wrong) is None
            with pytest.raises(InvalidURLError):
                frontend.url_for(base + wrong)


@pytest.mark.asyncio
async def test_all_names_of_the_listener_are_local() -> None:
    """A local URL is known by whatever loopback name it uses, and another port is not ours."""
    frontend = LoopbackFrontend()
    async with frontend.serve(_handler()) as base:
        port = yarl.URL(base).port
        for name in ("LOCALHOST", "[::1]", "127.0.0.1"):
            url = f"http://{name}:{port}/example.com/video.mp4?a=%41#t"
            assert frontend.source_for(url) == SOURCE + "?a=%41"
            assert frontend.url_for(url) == url
        other = f"http://127.0.0.1:{(port or 0) % 65535 + 1}/example.com/video.mp4"
        assert frontend.source_for(other) is None
        assert frontend.url_for(other).startswith(f"{base}/http/127.0.0.1:")
        for nothing in ("", "/", "/favicon.ico", "?x", "#x", "/gopher/x/y"):
            with pytest.raises(InvalidURLError):
                frontend.url_for(base + nothing)


@pytest.mark.asyncio
async def test_lost_listener_is_replaced() -> None:
    """A listener that is gone is replaced on its port; old connections stay."""
    frontend = LoopbackFrontend()
    async with frontend.serve(_handler()) as base, RawClient(base) as client:
        assert (await client.ask("/")).status == 200
        assert frontend._listener is not None
        frontend._listener.close()
        await asyncio.sleep(0)
        with pytest.raises(ConnectionRefusedError):
            await RawClient(base).__aenter__()
        assert await asyncio.gather(*(frontend.ensure_active() for _ in range(3))) == [
            True,
            False,
            False,
        ]
        assert frontend.base_url == base
        async with RawClient(base) as second:
            assert (await second.ask("/")).status == 200
        assert (await client.ask("/")).status == 200


@pytest.mark.asyncio
async def test_somebody_elses_listener_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """If another program listens on the port now, that is said: it is not taken for ours."""
    monkeypatch.setattr(_loopback, "_PROBE_TIMEOUT_S", 0.05)
    frontend = LoopbackFrontend()
    async with frontend.serve(_handler()) as base:
        assert frontend._listener is not None
        frontend._listener.close()
        await asyncio.sleep(0)
        with (
            socket.create_server(("127.0.0.1", yarl.URL(base).port or 0)),
            pytest.raises(ConfigurationError, match="is taken"),
        ):
            await frontend.ensure_active()
        assert await frontend.ensure_active()


@pytest.mark.asyncio
async def test_full_house_still_answers_its_own_probe() -> None:
    """`ensure_active` does not take a full frontend for a dead one."""
    frontend = LoopbackFrontend(max_clients=1)
    async with frontend.serve(_handler()) as base, RawClient(base) as client:
        assert (await client.ask("/")).status == 200
        assert not await frontend.ensure_active()
        assert frontend.clients == 1


@pytest.mark.asyncio
async def test_it_counts() -> None:
    """Requests, bytes of content and open connections are counted."""
    frontend = LoopbackFrontend()
    async with frontend.serve(_handler()) as base, RawClient(base) as client:
        await client.ask("/")
        await client.ask("/", method="HEAD")
        assert (frontend.requests, frontend.bytes_sent, frontend.clients) == (2, 7, 1)


@pytest.mark.asyncio
async def test_stubborn_handler_does_not_keep_it_open(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A handler that does not end when cancelled is left to itself after a while, and named."""
    monkeypatch.setattr(_loopback, "_CLOSE_TIMEOUT_S", 0.05)
    release = asyncio.Event()

    class Stubborn(FakeHandler):
        async def answer(self, head: RequestHead) -> object:  # type: ignore[override]
            self.arrived.set()
            while not release.is_set():
                try:
                    await release.wait()
                except asyncio.CancelledError:
                    self.cancelled.set()
            raise asyncio.CancelledError

    handler = Stubborn(nowait=False)
    frontend = LoopbackFrontend()
    async with asyncio.timeout(20):
        async with frontend.serve(handler) as base:
            client = await RawClient(base).__aenter__()
            await client.send(request_bytes("/"))
            await handler.arrived.wait()
        assert handler.cancelled.is_set()
        assert await client.ended()
        client.close()
        release.set()
        while len(asyncio.all_tasks()) > 1:
            await asyncio.sleep(0)
    assert any("does not end" in record.message for record in caplog.records)


@pytest.mark.asyncio
async def test_one_debug_line_a_request(caplog: pytest.LogCaptureFixture) -> None:
    """Each request is one line at DEBUG, without the secrets of its target."""
    frontend = LoopbackFrontend(token="secret")
    with caplog.at_level(logging.DEBUG, logger="cachestream.access"):
        async with frontend.serve(_handler()) as base, RawClient(base) as client:
            await client.ask("/~secret/example.com/v.mp4?sig=hidden")
            await client.ask("/example.com/v.mp4")
    lines = [record.getMessage() for record in caplog.records]
    assert len(lines) == 2
    assert "example.com/v.mp4" in lines[0]
    assert "200 7 bytes" in lines[0]
    assert not any("secret" in line or "hidden" in line for line in lines)
