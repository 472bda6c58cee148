"""A whole cache plays: credentials end in mid-play, and none of them shows anywhere."""

import asyncio
import base64
import logging

import aiohttp
import pytest
from cachestream.errors import CacheStreamError
from cachestream.testing import Origin, pattern

from cachestream_signed import Bearer, HmacQuery, Netrc, OAuth2, SecureLink, SigV4
from support import (
    CLIENT_ID,
    CLIENT_SECRET,
    MIB,
    PATIENCE_S,
    Clock,
    make_cache,
    read_url,
)

CANARY = "canary-7f3a-9b1c-55d0-e2"


def oauth_rule(oauth, origin, clock):
    client = {"client_id": CLIENT_ID, "client_secret": CLIENT_SECRET}
    return Bearer(
        origin.authority, token=OAuth2(oauth.token_url, **client, clock=clock), clock=clock
    )


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("ended", "refusals"),
    [
        ("revoked", 1),  # seen by the origin's answer
        ("expired", 0),  # known before anything is sent
    ],
)
async def test_a_token_ends_in_mid_play(sign, oauth, tmp_path, ended, refusals):
    """The player gets every byte, each byte is fetched once, and there is one renewal."""
    content = pattern("film", 32 * MIB)
    clock, gate = Clock(), asyncio.Event()
    async with Origin() as origin:
        film = origin.add("/film", content, require=oauth.check)
        # A slow origin: it falls silent in mid-answer until it is told to go on.
        slow = {"stall_after": 300_000, "stall_times": None, "stall_gate": gate}
        film.plan = lambda request: None if gate.is_set() else slow
        options = {"max_connections": 1, "completion": "complete"}
        async with make_cache(tmp_path, sign(oauth_rule(oauth, origin, clock)), **options) as cache:
            playing = asyncio.ensure_future(read_url(cache.get_cache_url(origin.url("/film"))))
            await origin.wait(lambda: origin.bytes_sent() == 300_000, PATIENCE_S)
            if ended == "revoked":
                oauth.revoked.update(oauth.issued)
            else:
                clock.now += 3600
            before = origin.count()
            gate.set()
            assert await playing == (200, content.bytes())
            assert cache.statistics().bytes_from_origin == 32 * MIB
            assert cache.statistics().origin_failures == 0
        statuses = [each.status for each in origin.requests]
        assert statuses.count(401) == refusals
        assert set(statuses) - {401} == {206}
        assert len(statuses) > before + refusals, "nothing was asked after the token had ended"
        assert len(oauth.issued) == 2
        tokens = [each.fields.get("Authorization") for each in origin.requests]
        sent = [f"Bearer {oauth.issued[number]}" for number in (0, 1)]
        kept = before + refusals
        assert tokens == sent[:1] * kept + sent[1:] * (len(tokens) - kept)
        got = [each for each in origin.requests if each.status == 206]
        assert sum(each.bytes_sent for each in got) == 32 * MIB


@pytest.mark.asyncio
async def test_many_players_share_one_renewal(sign, oauth, tmp_path):
    """A token that is refused to all at a time is renewed once, and everybody plays on."""
    films = {f"/{number}": pattern(number, 300_000) for number in range(8)}
    async with Origin() as origin:
        gate = asyncio.Event()
        for path, content in films.items():
            origin.add(path, content, require=oauth.check, gate=gate)
        origin.add("/first", b"x", require=oauth.check)
        transport = sign(oauth_rule(oauth, origin, Clock()))
        async with make_cache(tmp_path, transport) as cache:
            assert await read_url(cache.get_cache_url(origin.url("/first"))) == (200, b"x")
            oauth.revoked.update(oauth.issued)
            urls = [cache.get_cache_url(origin.url(path)) for path in films]
            playing = asyncio.gather(*map(read_url, urls))
            await origin.wait_request(1 + len(films), timeout=PATIENCE_S)
            gate.set()
            assert await playing == [(200, content.bytes()) for content in films.values()]
        assert len(oauth.issued) == 2
        assert sum(each.status == 401 for each in origin.requests) == len(films)


@pytest.mark.asyncio
async def test_a_token_endpoint_that_is_down_for_a_while(sign, oauth, tmp_path):
    """The player waits, as for any origin that is in trouble, and then plays."""
    async with Origin() as origin:
        origin.add("/film", b"content", require=oauth.check)
        oauth.down = 503
        transport = sign(oauth_rule(oauth, origin, Clock()))
        async with make_cache(tmp_path, transport, retry_delay=0.3) as cache:
            playing = asyncio.ensure_future(read_url(cache.get_cache_url(origin.url("/film"))))
            while not oauth.asked:
                await asyncio.sleep(0.01)
            oauth.down = None
            assert await playing == (200, b"content")


def rules(kind, origin, tmp_path):
    """Return a rule whose secret is the canary, and what it sends that is as good as that."""
    host = origin.authority
    if kind == "bearer":
        return Bearer(host, token=CANARY)
    if kind == "netrc":
        path = tmp_path / "netrc"
        path.write_text(f"machine 127.0.0.1 login me password {CANARY}\n")
        path.chmod(0o600)
        return Netrc(host, file=path)
    if kind == "hmac":
        return HmacQuery(host, key=CANARY, parameters={"sig": "{signature}"})
    if kind == "secure_link":
        return SecureLink(host, key=CANARY)
    keys = {"access_key": "id", "secret_key": CANARY, "session_token": CANARY}
    return SigV4(host, **keys, query=kind == "sigv4-query")


def secrets_in(request):
    """Return what a request has of secrets: values of its query and of its fields."""
    query = request.target.partition("?")[2]
    found = [each.partition("=")[2] for each in query.split("&")]
    for name in ("Authorization", "X-Amz-Security-Token"):
        value = request.fields.get(name) or ""
        found += [value.rpartition(" ")[2].rpartition("Signature=")[2]]
    return [each for each in found if len(each) > 15]


@pytest.mark.asyncio
@pytest.mark.parametrize("kind", ["bearer", "netrc", "hmac", "secure_link", "sigv4", "sigv4-query"])
async def test_no_secret_shows_anywhere(sign, tmp_path, caplog, kind):
    """Not in logs, events, errors, answers, the index and the store, whatever goes wrong."""
    caplog.set_level(logging.DEBUG)
    seen = []
    async with Origin() as origin, Origin() as other:
        film = origin.add("/film", pattern("f", 3_000_000), fields=(("X-Kept", "yes"),))
        film.drop(1_000_000)
        origin.add("/moved", redirect=other.url("/there"))
        other.add("/there", b"content")
        origin.add("/forbidden", b"").fail(
            403, body=b"<Code>SignatureDoesNotMatch</Code> canary-7f3a-9b1c-55d0-e2"
        )
        origin.add("/absent", b"").fail(404)
        origin.add("/broken", b"", raw_head=b"nonsense\r\n\r\n", close=True)
        origin.add("/gone", b"", drop_after=-1)
        paths = ["/film", "/moved", "/absent", "/broken", "/gone", "/film?own=1"]
        if kind.startswith("sigv4"):
            paths.append("/forbidden")
        transport = sign(rules(kind, origin, tmp_path))
        options = {"listeners": [seen.append], "request_timeout": 5.0, "allow_hosts": ("any",)}
        async with make_cache(tmp_path, transport, **options) as cache:
            async with aiohttp.ClientSession() as session:
                for path in paths:
                    url = cache.get_cache_url(origin.url(path))
                    async with session.get(url) as response:
                        seen += [response.status, response.headers, await response.read()]
            stream = cache.create_stream(origin.url("/broken?x=1"))
            with pytest.raises(CacheStreamError) as caught:
                await stream.download()
            seen += [caught.value, str(caught.value), repr(caught.value), caught.value.__cause__]
            stream.release()
            await origin.down()
            async with aiohttp.ClientSession() as session:
                async with session.get(cache.get_cache_url(origin.url("/nobody"))) as response:
                    seen += [response.status, response.headers, await response.read()]
            seen += [cache, transport, transport.rules, cache.statistics()]
            seen += await cache.store.records()
        prepared = await transport.prepare(_request(origin.url("/film")))
        seen.append(prepared)
        secrets = {CANARY, base64.b64encode(f"me:{CANARY}".encode()).decode()}
        for request in origin.requests:
            assert secrets_in(request), f"nothing was signed in {request.target}"
            secrets.update(secrets_in(request))
        assert all(secrets_in(request) == [] for request in other.requests)
    stored = b"".join(
        path.read_bytes() for path in (tmp_path / "cache").rglob("*") if path.is_file()
    )
    assert b"X-Kept" in stored
    text = f"{caplog.text} {seen!r} {[str(each) for each in seen]}"
    for secret in secrets:
        assert secret not in text
        assert secret.encode() not in stored


def _request(url):
    from support import make_request

    return make_request(url)
