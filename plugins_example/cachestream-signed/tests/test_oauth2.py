"""Tokens from a real OAuth 2.0 server (Authlib), shown to a resource that verifies them."""

import asyncio
import contextlib
import re
import ssl
import stat

import pytest
import trustme
from cachestream import HttpTransport
from cachestream.errors import ConfigurationError, ConnectError, TransportError
from cachestream.testing import Origin

from cachestream_signed import Bearer, CredentialsError, OAuth2
from cachestream_signed import _oauth2 as module
from support import CLIENT_ID, CLIENT_SECRET, Clock, OAuthServer, exchange, netloc

CLIENT = {"client_id": CLIENT_ID, "client_secret": CLIENT_SECRET}


def make_rule(oauth, *, clock=None, **options):
    more = {} if clock is None else {"clock": clock}
    source = OAuth2(oauth.token_url, **{**CLIENT, **more, **options})
    return Bearer(oauth.authority, token=source, **more)


@pytest.mark.asyncio
@pytest.mark.parametrize("auth_method", ["basic", "post"])
async def test_client_credentials_open_the_resource(sign, oauth, film, auth_method):
    """The server gives a token, and its resource lets the holder read ranges."""
    transport = sign(make_rule(oauth, auth_method=auth_method, scope="read"))
    got = await exchange(transport, oauth.film_url, ("Range", "bytes=5-99"))
    assert got == (206, film[5:100])
    got = await exchange(transport, oauth.film_url, ("Range", "bytes=5-9"), ("If-Range", '"old"'))
    assert got == (200, film)
    assert len(oauth.issued) == 1
    assert oauth.asked[0]["grant_type"] == "client_credentials"
    assert ("client_secret" in oauth.asked[0]) == (auth_method == "post")


@pytest.mark.asyncio
async def test_the_endpoint_proves_who_it_is(sign, film, tmp_path):
    """With its authority in ca_file a secret is sent to it, without that nothing is."""
    authority = trustme.CA()
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    path = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(path)
    with OAuthServer(film, context) as oauth:
        for ca_file in (None, path):
            inner = HttpTransport(ca_file=path)
            transport = sign(make_rule(oauth, ca_file=ca_file), inner=inner)
            if ca_file is None:
                with pytest.raises(ConnectError) as caught:
                    await exchange(transport, oauth.film_url)
                assert "ca_file" in str(caught.value)
                assert oauth.asked == []
            else:
                assert await exchange(transport, oauth.film_url) == (200, film)


@pytest.mark.asyncio
async def test_without_a_rule_nothing_opens(sign, oauth):
    """The resource does check: who has no token gets 401."""
    transport = sign(Bearer("example.com", token="x"))
    assert (await exchange(transport, oauth.film_url))[0] == 401
    forged = sign(Bearer(oauth.authority, token="e30.e30.e30"))
    assert (await exchange(forged, oauth.film_url))[0] == 401


@pytest.mark.asyncio
async def test_many_requests_ask_for_one_token(sign, oauth):
    """However many begin together, the token endpoint is asked once."""
    oauth.gate.clear()
    transport = sign(make_rule(oauth))
    urls = [oauth.film_url] * 12
    tasks = [
        asyncio.ensure_future(exchange(transport, url, ("Range", "bytes=0-0"))) for url in urls
    ]
    while not oauth.asked:
        await asyncio.sleep(0.01)
    oauth.gate.set()
    assert {status for status, _ in await asyncio.gather(*tasks)} == {206}
    assert (len(oauth.asked), len(oauth.issued)) == (1, 1)


@pytest.mark.asyncio
async def test_a_token_that_is_revoked_is_replaced_once(sign, oauth):
    """A 401 gets another token, for all who hold the old one, and the request goes again."""
    transport = sign(make_rule(oauth))
    assert (await exchange(transport, oauth.film_url, ("Range", "bytes=0-0")))[0] == 206
    oauth.revoked.update(oauth.issued)
    got = await asyncio.gather(
        *(exchange(transport, oauth.film_url, ("Range", "bytes=0-0")) for _ in range(8))
    )
    assert {status for status, _ in got} == {206}
    assert len(oauth.issued) == 2


@pytest.mark.asyncio
async def test_a_resource_that_always_refuses_is_asked_twice(sign, oauth):
    """There is one renewal an exchange: then the 401 is the answer, with its page."""

    class Everything(set):
        def __contains__(self, token):
            return True

    oauth.revoked = Everything()
    transport = sign(make_rule(oauth))
    assert await exchange(transport, oauth.film_url) == (401, b"no")
    assert [status for _, status in oauth.requests] == [401, 401]
    assert len(oauth.issued) == 2


@pytest.mark.asyncio
async def test_a_token_is_renewed_by_its_time(sign, oauth):
    """What expires_in says is counted from when the token was asked for."""
    clock = Clock()
    oauth.lifetime = 600
    transport = sign(make_rule(oauth, clock=clock))
    for after, tokens in [(0, 1), (500, 1), (41, 2), (500, 2), (1000, 3)]:
        clock.now += after
        assert (await exchange(transport, oauth.film_url, ("Range", "bytes=0-0")))[0] == 206
        assert len(oauth.issued) == tokens
    assert 401 not in [status for _, status in oauth.requests]


@pytest.mark.asyncio
async def test_a_refresh_token_gets_tokens(sign, oauth):
    """With one the grant is refresh_token, and the client still says who it is."""
    transport = sign(make_rule(oauth, refresh_token=oauth.refresh_token))
    assert (await exchange(transport, oauth.film_url, ("Range", "bytes=0-0")))[0] == 206
    assert oauth.asked[0]["grant_type"] == "refresh_token"


@pytest.mark.asyncio
async def test_a_rotated_refresh_token_is_kept(sign, oauth, tmp_path):
    """A server that gives another one each time is followed, also by the next process."""
    path = tmp_path / "refresh"
    path.write_text(f"{oauth.refresh_token}\n")
    oauth.rotate = True
    for round_ in range(3):
        transport = sign(make_rule(oauth, refresh_token_file=path))
        assert (await exchange(transport, oauth.film_url, ("Range", "bytes=0-0")))[0] == 206
        oauth.revoked.update(oauth.issued)
        assert (await exchange(transport, oauth.film_url, ("Range", "bytes=0-0")))[0] == 206
        assert len(oauth.issued) == 2 * (round_ + 1)
    assert path.read_text().strip() == oauth.refresh_token
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [each.name for each in tmp_path.iterdir() if "refresh" in each.name] == ["refresh"]


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("options", "code"),
    [
        ({"client_secret": "canary-wrong"}, "invalid_client"),
        ({"client_id": "nobody"}, "invalid_client"),
        ({"refresh_token": "canary-wrong"}, "invalid_grant"),
    ],
)
async def test_a_refusal_of_the_endpoint_is_a_clear_error(sign, oauth, options, code):
    """It names the endpoint and the error's code, and no secret."""
    transport = sign(make_rule(oauth, **options))
    with pytest.raises(CredentialsError) as caught:
        await exchange(transport, oauth.film_url)
    text = str(caught.value)
    assert code in text
    assert oauth.token_url in text
    assert "canary" not in text
    assert oauth.requests == []


@pytest.mark.asyncio
@pytest.mark.parametrize("status", [429, 500, 503])
async def test_an_endpoint_in_trouble_may_be_asked_again(sign, oauth, status):
    """That is an error of the transport, which the engine tries again."""
    oauth.down = status
    transport = sign(make_rule(oauth))
    with pytest.raises(TransportError) as caught:
        await exchange(transport, oauth.film_url)
    assert str(status) in str(caught.value)
    oauth.down = None
    assert (await exchange(transport, oauth.film_url))[0] == 200


@pytest.mark.asyncio
async def test_an_endpoint_that_is_not_there_is_a_connect_error(sign, oauth):
    """The error names the endpoint, not the film."""
    async with Origin() as origin:
        url = origin.url("/token")
    transport = sign(Bearer(oauth.authority, token=OAuth2(url, **CLIENT)))
    with pytest.raises(ConnectError) as caught:
        await exchange(transport, oauth.film_url)
    assert netloc(url) in str(caught.value)


@pytest.mark.asyncio
@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"<html>",
        b"[]",
        b"7",
        b'{"access_token": 7}',
        b'{"access_token": "a b", "token_type": "Bearer"}',
        b'{"access_token": "a", "token_type": "mac"}',
        b'{"access_token": "a", "token_type": "Bearer", "expires_in": "soon"}',
        b'{"access_token": "a", "token_type": 7}',
        b'{"error": "canary\\n\\u0000"}',
        b"\xff" * 300_000,
    ],
)
async def test_an_answer_that_is_no_token_is_a_clear_error(answer):
    """Whatever comes from an endpoint, it becomes one of our errors."""
    head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
    async with endpoint(head + b"Content-Length: %d\r\n\r\n" % len(answer) + answer) as (url, _):
        with pytest.raises((CredentialsError, TransportError)) as caught:
            await OAuth2(url, client_id="a").token()
    assert "\n" not in str(caught.value)


@contextlib.asynccontextmanager
async def endpoint(answer):
    """Serve one answer to whatever is asked; gives the URL and what was asked."""
    asked = []

    async def serve(reader, writer):
        head = await reader.readuntil(b"\r\n\r\n")
        length = int(re.search(rb"(?i)content-length: (\d+)", head)[1])
        asked.append((head.split()[1], await reader.readexactly(length)))
        writer.write(answer)
        with contextlib.suppress(ConnectionError):
            await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/token", asked


@pytest.mark.asyncio
async def test_an_endpoint_that_redirects_is_not_followed():
    """A secret goes to the endpoint that was named, and nowhere else."""
    answer = b"HTTP/1.1 307 X\r\nLocation: /b\r\nContent-Length: 0\r\n\r\n"
    async with endpoint(answer) as (url, asked):
        with pytest.raises(TransportError):
            await OAuth2(url, client_id="a").token()
    assert [target for target, _ in asked] == [b"/token"]


@pytest.mark.parametrize(
    ("url", "options"),
    [
        ("http://login.example.com/token", {}),
        ("ftp://login.example.com/token", {}),
        ("login.example.com", {}),
        ("https://me:secret@login.example.com/", {}),
        ("https://a/", {"auth_method": "mail"}),
        ("https://a/", {"refresh_token": "a", "refresh_token_file": "b"}),
        ("https://a/", {"ca_file": "/nonexistent"}),
    ],
)
def test_what_cannot_be_asked_safely_is_refused_at_the_start(url, options):
    """A configuration that is wrong shows before anybody plays."""
    with pytest.raises(ConfigurationError) as caught:
        OAuth2(url, client_id="a", **options)
    assert "secret" not in str(caught.value).replace("client's secret", "")


def test_oauthlib_is_asked_for_only_by_oauth2(monkeypatch):
    """Without it there is an error that says how to install it."""
    monkeypatch.setitem(__import__("sys").modules, "oauthlib.oauth2", None)
    with pytest.raises(ConfigurationError) as caught:
        OAuth2("https://a/", client_id="a")
    assert "pip install 'cachestream-signed[oauth2]'" in str(caught.value)
    assert module.OAuth2 is OAuth2
