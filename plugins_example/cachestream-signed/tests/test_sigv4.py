"""SigV4, checked by an object store that is not ours: OpenStack Swift behind its S3 interface."""

import asyncio
import logging
import time
from urllib.parse import parse_qs, quote

import attrs
import pytest
import pytest_asyncio
from botocore.credentials import Credentials, RefreshableCredentials
from cachestream.errors import ConfigurationError
from cachestream.testing import Origin

from cachestream_signed import CredentialsError, SignatureRefusedError, SigV4
from cachestream_signed import _sigv4 as module
from support import Clock, exchange, make_cache, make_request, netloc, read_url

NAMES = ["film.mp4", "a b+c~é(1)/x,y;z=!'*.bin", "100%25", "🎬//double"]
DIGITS = b"0123456789" * 100


@pytest.fixture
def keys(swift):
    return {
        "region": swift.region,
        "access_key": swift.access_key_id,
        "secret_key": swift.secret_access_key,
    }


@pytest.fixture
def bucket(swift):
    name = swift.create_bucket()
    for each in NAMES:
        swift.request("PUT", f"/{name}/{quote(each)}", content=DIGITS)
    return f"{swift.endpoint_url}/{name}"


def make_rule(bucket, keys, **more):
    return SigV4(netloc(bucket), **{**keys, **more})


@pytest.mark.asyncio
@pytest.mark.parametrize("query", [False, True])
async def test_objects_are_read_by_range(sign, bucket, keys, query):
    """Whatever an object is called and however its URL is spelled, the store gives its bytes."""
    transport = sign(make_rule(bucket, keys, query=query))
    for name in NAMES:
        for safe in ("/", "/-._~+()!,;=*'"):
            url = f"{bucket}/{quote(name, safe=safe)}"
            got = await exchange(transport, url, ("Range", "bytes=3-6"))
            assert (name, got) == (name, (206, b"3456"))


@pytest.mark.asyncio
@pytest.mark.parametrize("query", [False, True])
async def test_ranges_are_conditional_as_they_should_be(sign, bucket, keys, query, swift):
    """Signed conditions are those that the store judges by (it takes no notice of If-Range)."""
    transport = sign(make_rule(bucket, keys, query=query))
    url = f"{bucket}/film.mp4"
    made = await transport.prepare(make_request(url, method="HEAD"))
    async with await transport.fetch(made) as response:
        assert (response.status, response.fields.get("Content-Length")) == (200, "1000")
        tag = response.fields.get("ETag")
    part = ("Range", "bytes=990-")
    assert await exchange(transport, url, part, ("If-Range", tag)) == (206, DIGITS[990:])
    assert (await exchange(transport, url, part, ("If-Match", '"other"')))[0] == 412
    assert (await exchange(transport, url, ("If-None-Match", tag)))[0] == 304


@pytest.mark.asyncio
@pytest.mark.parametrize("query", [False, True])
async def test_what_is_in_the_query_is_signed_too(sign, bucket, keys, query):
    """Parameters stay, in any spelling, and an older signature is taken away."""
    transport = sign(make_rule(bucket, keys, query=query))
    for parameters in (
        "response-content-type=video/mp4",
        "response-content-type=a%2fb+c&response-cache-control",
        "response-content-type=video%2Fmp4&X-Amz-Signature=old&X-Amz-Date=old&x-amz-expires=1",
    ):
        assert await exchange(transport, f"{bucket}/film.mp4?{parameters}") == (200, DIGITS)


@pytest.mark.asyncio
@pytest.mark.parametrize("query", [False, True])
@pytest.mark.parametrize(
    ("wrong", "code", "words"),
    [
        ({"secret_key": "canary"}, "SignatureDoesNotMatch", "Check the secret key"),
        ({"access_key": "nobody"}, "SignatureDoesNotMatch", "Check the secret key"),
        ({"region": "eu-west-1"}, None, "The rule says region eu-west-1; the origin says us-east"),
    ],
)
async def test_wrong_keys_are_refused(sign, bucket, keys, query, wrong, code, words):
    """The store says no, and the error says why and what to look at."""
    transport = sign(make_rule(bucket, keys, query=query, **wrong))
    with pytest.raises(SignatureRefusedError) as caught:
        await exchange(transport, f"{bucket}/film.mp4?x=hush")
    assert caught.value.code == (code or caught.value.code)
    assert caught.value.status_hint == (403 if code else 502)
    text = str(caught.value)
    assert words in text
    assert bucket in text
    assert "hush" not in text
    assert "canary" not in text


@pytest.mark.asyncio
async def test_without_a_rule_the_store_says_no(sign, bucket):
    """It does check: an unsigned request is refused."""
    transport = sign(SigV4("example.com", access_key="a", secret_key="b"))
    assert (await exchange(transport, f"{bucket}/film.mp4"))[0] in range(400, 500)


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("query", "off", "word"),
    [(False, -7200, "behind"), (False, 7200, "ahead of"), (True, -7200, "behind")],
)
async def test_a_wrong_clock_is_a_clear_error(sign, bucket, keys, query, off, word):
    """The error says that it is the clock, and by how much."""
    rule = make_rule(bucket, keys, query=query, lifetime=60, clock=lambda: time.time() + off)
    with pytest.raises(SignatureRefusedError) as caught:
        await exchange(sign(rule), f"{bucket}/film.mp4")
    assert "clock of this machine is wrong" in str(caught.value)
    assert f"s {word} the origin's" in str(caught.value)
    seconds = int(str(caught.value).split(" s ")[0].rpartition(" ")[2])
    assert abs(seconds - 7200) < 300


@pytest.mark.asyncio
async def test_each_attempt_is_signed_anew(sign, bucket, keys):
    """A request that is repeated later has a signature of its own, and the store takes it."""
    clock = Clock(time.time() - 600)
    transport = sign(make_rule(bucket, keys, clock=clock))
    url = f"{bucket}/film.mp4"
    assert (await exchange(transport, url))[0] == 200
    clock.now += 1200
    stale = await transport.prepare(make_request(url))
    fresh = await transport.prepare(make_request(url, attempt=1))
    names = ("X-Amz-Date", "Authorization")
    assert all(stale.fields.get(name) == fresh.fields.get(name) for name in names)
    clock.now += 1
    again = await transport.prepare(make_request(url, attempt=2))
    assert all(stale.fields.get(name) != again.fields.get(name) for name in names)
    async with await transport.fetch(again) as response:
        assert response.status == 200


@pytest.mark.asyncio
async def test_a_film_plays_from_a_bucket(sign, swift, bucket, keys, film, tmp_path):
    """A player seeks in it, everything is right, and the second time nothing is asked."""
    swift.request("PUT", f"/{bucket.rpartition('/')[2]}/movie.bin", content=film)
    transport = sign(make_rule(bucket, keys))
    async with make_cache(tmp_path, transport) as cache:
        url = cache.get_cache_url(f"{bucket}/movie.bin")
        assert await read_url(url, 2_000_000, 2_000_100) == (206, film[2_000_000:2_000_100])
        assert await read_url(url) == (200, film)
        asked = cache.statistics().origin_requests
        assert await read_url(url) == (200, film)
        assert cache.statistics().origin_requests == asked


@pytest.mark.asyncio
async def test_a_wrong_key_is_told_to_the_player_at_once(sign, bucket, keys, tmp_path):
    """Who plays gets the status of the store, and a page that says what to do."""
    transport = sign(make_rule(bucket, keys, secret_key="canary"))
    async with make_cache(tmp_path, transport) as cache:
        status, page = await read_url(cache.get_cache_url(f"{bucket}/film.mp4"))
        assert status == 403
        assert b"SignatureDoesNotMatch" in page
        assert b"Check the secret key" in page
        assert b"StringToSign" not in page
        assert cache.statistics().origin_requests == 1


# ---------------------------------------------------------------------------
# Credentials
# ---------------------------------------------------------------------------


@pytest.mark.asyncio
async def test_profiles_are_found(sign, bucket, keys, swift, monkeypatch, tmp_path):
    """Without keys in the rule botocore's chain is asked, here for a profile in a file."""
    path = tmp_path / "credentials"
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(path))
    path.write_text(
        f"[films]\naws_access_key_id = {keys['access_key']}\n"
        f"aws_secret_access_key = {keys['secret_key']}\n"
    )
    rule = SigV4(netloc(bucket), region=swift.region, profile="films")
    transport = sign(rule)
    got = await asyncio.gather(*(exchange(transport, f"{bucket}/film.mp4") for _ in range(5)))
    assert got == [(200, DIGITS)] * 5


@pytest.mark.asyncio
@pytest.mark.parametrize("region", [None, "us-east-1", "eu-west-1"])
async def test_the_region_is_that_of_the_configuration(sign, bucket, keys, monkeypatch, region):
    """Where the rule names none it is looked up; the store tells a wrong one from a right one."""
    if region is not None:
        monkeypatch.setenv("AWS_DEFAULT_REGION", region)
    transport = sign(make_rule(bucket, keys, region=None))
    if region == "eu-west-1":
        with pytest.raises(SignatureRefusedError) as caught:
            await exchange(transport, f"{bucket}/film.mp4")
        assert "The rule says region eu-west-1" in str(caught.value)
    else:
        assert await exchange(transport, f"{bucket}/film.mp4") == (200, DIGITS)


@pytest.mark.asyncio
@pytest.mark.parametrize("profile", [None, "nobody"])
async def test_no_credentials_are_a_clear_error(sign, bucket, profile):
    """Where the chain finds nothing the error says so, before anything is sent."""
    transport = sign(SigV4(netloc(bucket), profile=profile))
    with pytest.raises(CredentialsError) as caught:
        await exchange(transport, f"{bucket}/film.mp4")
    assert "AWS credentials" in str(caught.value)
    assert (profile or "") in str(caught.value)


@pytest.mark.asyncio
async def test_credentials_that_end_are_renewed_once_for_all(sign, bucket, keys):
    """Many requests that find them ended share one renewal, off the event loop."""
    renewals = []

    def renew():
        renewals.append(1)
        end = time.gmtime(time.time() + 3600)
        return {
            "access_key": keys["access_key"],
            "secret_key": keys["secret_key"],
            "token": None,
            "expiry_time": time.strftime("%Y-%m-%dT%H:%M:%SZ", end),
        }

    old = {**renew(), "secret_key": "ended"}
    old["expiry_time"] = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() - 10))
    credentials = RefreshableCredentials.create_from_metadata(old, renew, "test")
    rule = SigV4(netloc(bucket), region=keys["region"], credentials=credentials)
    transport = sign(rule)
    got = await asyncio.gather(*(exchange(transport, f"{bucket}/film.mp4") for _ in range(6)))
    assert got == [(200, DIGITS)] * 6
    assert len(renewals) == 2


@pytest.mark.asyncio
async def test_a_renewal_that_fails_is_a_clear_error(sign, bucket):
    """What the chain raises becomes an error of ours that does not repeat it."""

    def renew():
        raise RuntimeError("canary")

    now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() - 10))
    old = {"access_key": "a", "secret_key": "b", "token": "c", "expiry_time": now}
    credentials = RefreshableCredentials.create_from_metadata(old, renew, "test")
    transport = sign(SigV4(netloc(bucket), credentials=credentials))
    with pytest.raises(CredentialsError) as caught:
        await exchange(transport, f"{bucket}/film.mp4")
    assert "canary" not in str(caught.value)


def token_in(request):
    """Return the session token that a request has, wherever it is."""
    query = parse_qs(request.target.partition("?")[2]).get("X-Amz-Security-Token", [None])
    return request.fields.get("X-Amz-Security-Token") or query[0]


@pytest_asyncio.fixture
async def bucket_of_one_token():
    """Return an origin that takes one session token only, and refuses others as S3 does."""
    page = b"<Error><Code>ExpiredToken</Code><Token-0>canary</Token-0></Error>"
    refuse = {"status": 400, "status_body": page}
    async with Origin() as origin:
        served = origin.add("/a", b"content")
        served.plan = lambda request: None if token_in(request) == "canary+/=new" else refuse
        yield origin


@pytest.mark.asyncio
@pytest.mark.parametrize("query", [False, True])
async def test_a_token_that_has_ended_is_looked_up_again(
    sign, monkeypatch, bucket_of_one_token, query
):
    """When S3 says ExpiredToken the chain is asked once more, for all who were refused."""
    origin = bucket_of_one_token
    found = []

    def look_up(self):
        found.append("canary+/=new" if found else "canary+/=old")
        return Credentials("a", "b", found[-1])

    monkeypatch.setattr(module.SigV4, "_look_up", look_up)
    gate = origin.files["/a"].gate = asyncio.Event()
    transport = sign(SigV4(origin.authority, query=query))
    asked = asyncio.gather(*(exchange(transport, origin.url("/a")) for _ in range(6)))
    await origin.wait_request(6)
    gate.set()
    assert await asked == [(200, b"content")] * 6
    assert (len(found), origin.count()) == (2, 12)
    assert await exchange(transport, origin.url("/a")) == (200, b"content")
    assert (len(found), origin.count()) == (2, 13)


@pytest.mark.asyncio
async def test_a_token_that_stays_the_same_is_not_sent_again(
    sign, monkeypatch, bucket_of_one_token
):
    """If the chain has no other one the error says so, and S3 is not asked twice."""
    origin = bucket_of_one_token
    monkeypatch.setattr(module.SigV4, "_look_up", lambda self: Credentials("a", "b", "canary"))
    with pytest.raises(SignatureRefusedError) as caught:
        await exchange(sign(SigV4(origin.authority)), origin.url("/a"))
    assert "Get new temporary credentials" in str(caught.value)
    assert "canary" not in str(caught.value)
    assert origin.count() == 1


@pytest.mark.asyncio
async def test_only_what_no_proxy_changes_is_signed(sign):
    """Host, the fields of AWS and the ranges; Accept-Encoding and others may change on the way."""
    rule = SigV4("a.example", access_key="k", secret_key="s", session_token="t")
    fields = (("Range", "bytes=0-1"), ("If-Range", '"x"'), ("Accept-Encoding", "identity"))
    signed = await rule.sign(make_request("https://a.example/b", *fields))
    names = signed.fields.get("Authorization").split("SignedHeaders=")[1].split(",")[0]
    assert names == "host;if-range;range;x-amz-content-sha256;x-amz-date;x-amz-security-token"
    assert signed.fields.get("X-Amz-Content-SHA256") == "UNSIGNED-PAYLOAD"
    assert [line for line in signed.fields if line in fields] == list(fields)


@pytest.mark.asyncio
async def test_other_services_have_their_own_rules(sign):
    """Only S3 takes an unsigned payload, and leaves the path as it is."""
    rule = SigV4("a.example", service="execute-api", access_key="k", secret_key="s")
    signed = await rule.sign(make_request("https://a.example/a%20b?c=d"))
    assert "/execute-api/aws4_request" in signed.fields.get("Authorization")
    assert signed.fields.get("X-Amz-Content-SHA256") is None
    assert signed.url == "https://a.example/a%20b?c=d"


@pytest.mark.asyncio
async def test_nothing_of_a_signature_is_logged(sign, caplog):
    """Not even at DEBUG, where botocore writes what it signs, session token included."""
    caplog.set_level(logging.DEBUG)
    for query in (False, True):
        rule = SigV4(
            "a.example",
            access_key="k",
            secret_key="canary-secret",
            session_token="canary-session",
            query=query,
        )
        signed = await rule.sign(make_request("https://a.example/b"))
        assert "canary" not in repr(rule)
        assert "canary" not in repr(signed)
    assert "canary" not in caplog.text


@pytest.mark.parametrize(
    "wrong",
    [
        {"access_key": "a"},
        {"secret_key": "a"},
        {"access_key": "a", "secret_key": "b", "profile": "c"},
        {"lifetime": 0},
        {"lifetime": 700_000},
    ],
)
def test_arguments_that_contradict_each_other_are_refused(wrong):
    """A rule that is wrong shows before anybody plays."""
    with pytest.raises(ConfigurationError):
        SigV4("a.example", **wrong)


def test_botocore_is_asked_for_only_by_sigv4(monkeypatch):
    """Without it there is an error that says how to install it."""
    modules = __import__("sys").modules
    monkeypatch.delitem(modules, "cachestream_signed._sigv4_botocore", raising=False)
    monkeypatch.setitem(modules, "botocore.auth", None)
    with pytest.raises(ConfigurationError) as caught:
        SigV4("a.example", access_key="a", secret_key="b")
    assert "pip install 'cachestream-signed[sigv4]'" in str(caught.value)


def test_a_request_keeps_what_the_engine_says(bucket):
    """Signing changes URL and fields, and no other attribute of a request."""
    names = {each.name for each in attrs.fields(type(make_request(bucket)))}
    assert {"url", "source", "method", "fields", "attempt", "hop"} <= names
