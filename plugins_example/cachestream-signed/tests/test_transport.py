"""The transport finds the rule for each request, and gives no credentials away."""

import asyncio

import attrs
import pytest
from cachestream import HttpTransport
from cachestream.errors import CacheStreamError, ConfigurationError, UpstreamProtocolError
from cachestream.testing import Origin, pattern
from cachestream.transports import (
    LoggingTransport,
    MirrorsTransport,
    SchemeTransport,
    TransportWrapper,
)

from cachestream_signed import Bearer, SignedTransport, Signer
from support import PATIENCE_S, exchange, make_cache, make_request, read_url


class ApiKey(Signer):
    """A signature of a stranger's: a key in a field."""

    refusals = frozenset({401, 403})

    def __init__(self, *origins, key="key", **more):
        super().__init__(*origins, **more)
        self.key = key
        self.signed = 0
        self.renewals = []
        self.seen = []
        self.error = None
        self.closed = 0

    async def sign(self, request):
        self.signed += 1
        return attrs.evolve(request, fields=request.fields.replace(("X-Api-Key", self.key)))

    async def renew(self, sent, refusal):
        self.seen.append(refusal)
        if not self.renewals:
            return False
        self.key = self.renewals.pop(0)
        return True

    def explain(self, sent, refusal):
        return self.error

    async def aclose(self):
        self.closed += 1


def needs(key):
    """Return a check of the key for an origin."""
    return lambda request: None if request.fields.get("X-Api-Key") == key else 401


def sent_keys(origin):
    return [each.fields.get("X-Api-Key") for each in origin.requests]


@pytest.mark.asyncio
async def test_the_first_rule_that_matches_signs(sign):
    """Later ones are not asked, and others' hosts get nothing."""
    first, second = ApiKey("a.example", key="1"), ApiKey("*.example", "b.test", key="2")
    transport = sign(first, second)
    keys = {}
    for host in ("a.example", "b.example", "b.test", "c.test", "a.example.evil"):
        prepared = await transport.prepare(make_request(f"https://{host}/"))
        keys[host] = prepared.fields.get("X-Api-Key")
    assert list(keys.values()) == ["1", "2", "2", None, None]
    assert transport.rule_for(make_request("https://a.example/")) is first


@pytest.mark.asyncio
@pytest.mark.parametrize("follow", [False, True])
async def test_credentials_do_not_follow_to_another_origin(sign, tmp_path, follow):
    """Another origin gets none, unless a rule for it says that it may be redirected to."""
    async with Origin() as named, Origin() as other:
        named.add("/a", redirect=named.url("/b"))
        named.add("/b", redirect=other.url("/c"))
        other.add("/c", b"content")
        transport = sign(
            ApiKey(named.authority, key="named"),
            ApiKey(other.authority, key="other", follow_redirects=follow),
        )
        async with make_cache(tmp_path, transport) as cache:
            assert await read_url(cache.get_cache_url(named.url("/a"))) == (200, b"content")
        assert sent_keys(named) == ["named", "named"]
        assert sent_keys(other) == ["other" if follow else None]


@pytest.mark.asyncio
async def test_a_rule_for_both_origins_does_not_sign_at_the_second(sign, tmp_path):
    """Also where one rule names both: who redirects must not choose what is read."""
    async with Origin() as named, Origin() as other:
        named.add("/a", redirect=other.url("/secret"))
        other.add("/secret", b"content", require=needs("k"))
        transport = sign(ApiKey(named.authority, other.authority, key="k"))
        async with make_cache(tmp_path, transport) as cache:
            assert (await read_url(cache.get_cache_url(named.url("/a"))))[0] == 401
        assert sent_keys(other) == [None]


@pytest.mark.asyncio
async def test_a_redirect_back_home_is_signed(sign):
    """The origin that was named may redirect to itself, by any way."""
    transport = sign(ApiKey("a.example"))
    for url, source, hop, signed in [
        ("https://a.example/x", "https://a.example/", 1, True),
        ("https://a.example:443/x", "https://A.example/", 2, True),
        ("https://a.example/x", "https://b.example/", 1, False),
        ("https://a.example/x", "http://a.example/", 1, False),
        ("https://a.example/renewed", "https://b.example/", 0, True),
    ]:
        prepared = await transport.prepare(make_request(url, source=source, hop=hop))
        assert ((url, source), "X-Api-Key" in prepared.fields) == ((url, source), signed)


@pytest.mark.asyncio
async def test_a_refused_request_is_signed_once_more(sign):
    """If the rule has other credentials; what was refused is closed, and its page was seen."""
    async with Origin() as origin:
        origin.add("/a", b"content", require=needs("new"))
        rule = ApiKey(origin.authority, key="old")
        rule.renewals = ["new", "never"]
        transport = sign(rule)
        got = await exchange(transport, origin.url("/a"), ("Range", "bytes=2-4"))
        assert got == (206, b"nte")
        assert sent_keys(origin) == ["old", "new"]
        assert [each.fields.get("Range") for each in origin.requests] == ["bytes=2-4"] * 2
        assert [(each.status, each.content) for each in rule.seen] == [(401, b"refused")]
        await transport.aclose()
        await origin.wait_connections(0)


@pytest.mark.asyncio
async def test_what_others_add_is_sent_again(sign):
    """A wrapper outside may add fields after the signature; they are there the second time."""

    class Outside(TransportWrapper):
        async def prepare(self, request):
            request = await super().prepare(request)
            return attrs.evolve(request, fields=request.fields.replace(("X-Outside", "1")))

    async with Origin() as origin:
        origin.add("/a", b"x", require=needs("new"))
        rule = ApiKey(origin.authority, key="old")
        rule.renewals = ["new"]
        assert await exchange(Outside(sign(rule)), origin.url("/a")) == (200, b"x")
        assert sent_keys(origin) == ["old", "new"]
        assert [each.fields.get("X-Outside") for each in origin.requests] == ["1", "1"]


@pytest.mark.asyncio
async def test_what_others_send_elsewhere_is_not_signed_again(sign):
    """A wrapper outside that changes the URL gets the answer as it is; so does a signer there."""

    class Elsewhere(TransportWrapper):
        async def fetch(self, request):
            return await super().fetch(attrs.evolve(request, url=f"{request.url}?elsewhere"))

    async with Origin() as origin:
        origin.add("/a", b"x").fail(401)
        rule = ApiKey(origin.authority)
        rule.renewals = ["new"]
        assert (await exchange(Elsewhere(sign(rule)), origin.url("/a")))[0] == 401
        assert (origin.count(), rule.seen) == (1, [])
        outer, inner = ApiKey(origin.authority), ApiKey(origin.authority)
        outer.renewals, inner.renewals = ["outer"], ["inner"]
        origin.reset_log()
        nested = sign(outer, inner=SignedTransport([inner]))
        assert (await exchange(nested, origin.url("/a")))[0] == 401
        assert (sent_keys(origin), inner.seen) == (["key", "outer"], [])


@pytest.mark.asyncio
async def test_a_request_is_signed_twice_at_most(sign):
    """Whatever the rule says: the second refusal is the answer, as it came."""
    async with Origin() as origin:
        served = origin.add("/a", b"content", fields=(("WWW-Authenticate", "Bearer"),))
        served.fail(403, body=b"because")
        rule = ApiKey(origin.authority)
        rule.renewals = ["b", "c", "d"]
        transport = sign(rule)
        request = await transport.prepare(make_request(origin.url("/a")))
        async with await transport.fetch(request) as response:
            assert response.status == 403
            assert response.fields.get("Content-Length") == "7"
            assert [bytes(piece) async for piece in response] == [b"because"]
        assert origin.count() == 2


@pytest.mark.asyncio
@pytest.mark.parametrize("status", [200, 206, 304, 404, 410, 416, 429, 500, 503])
async def test_other_answers_are_left_alone(sign, status):
    """Only the statuses that a rule names are looked at."""
    async with Origin() as origin:
        origin.add("/a", b"x").fail(status, body=b"page")
        rule = ApiKey(origin.authority)
        rule.renewals = ["never"]
        got = await exchange(sign(rule), origin.url("/a"))
        assert got == (status, b"" if status == 304 else b"page")
        assert (origin.count(), rule.seen) == (1, [])


@pytest.mark.asyncio
async def test_a_rule_may_explain_a_refusal(sign):
    """Its error is raised instead of the answer, whose connection is let go."""
    async with Origin() as origin:
        origin.add("/a", b"x").fail(403)
        rule = ApiKey(origin.authority)
        rule.error = CacheStreamError("your licence has ended")
        transport = sign(rule)
        with pytest.raises(CacheStreamError) as caught:
            await exchange(transport, origin.url("/a"))
        assert caught.value is rule.error
        await transport.aclose()
        await origin.wait_connections(0)


@pytest.mark.asyncio
@pytest.mark.parametrize("knobs", [{"drop_after": 10}, {"framing": "chunked", "drop_after": 5}])
async def test_a_page_that_breaks_off_is_still_a_refusal(sign, knobs):
    """What came of it is what is passed on."""
    async with Origin() as origin:
        origin.add("/a", b"x", status=401, status_body=b"p" * 100_000, **knobs)
        rule = ApiKey(origin.authority)
        status, page = await exchange(sign(rule), origin.url("/a"))
        assert (status, page) == (401, b"p" * len(page))
        assert rule.seen[0].content == page


@pytest.mark.asyncio
async def test_an_endless_page_is_not_read_to_its_end(sign):
    """64 KiB of it are enough, and its connection is given up."""
    async with Origin() as origin:
        origin.add("/a", pattern("endless"), plan=lambda _: None, require=lambda _: None)
        origin.files["/a"].raw_head = b"HTTP/1.1 401 No\r\nConnection: close\r\n\r\n"
        rule = ApiKey(origin.authority)
        transport = sign(rule)
        async with asyncio.timeout(PATIENCE_S):
            status, page = await exchange(transport, origin.url("/a"))
        assert (status, len(page)) == (401, 64 * 1024)
        await origin.wait_connections(0)


@pytest.mark.asyncio
async def test_an_error_of_a_rule_leaves_nothing_behind(sign):
    """When signing anew fails, the answer that was refused is closed."""

    class Broken(ApiKey):
        async def renew(self, sent, refusal):
            raise UpstreamProtocolError("no")

    async with Origin() as origin:
        origin.add("/a", b"x").fail(401)
        transport = sign(Broken(origin.authority))
        with pytest.raises(UpstreamProtocolError):
            await exchange(transport, origin.url("/a"))
        await transport.aclose()
        await origin.wait_connections(0)


@pytest.mark.asyncio
async def test_it_works_around_any_transport(sign):
    """And within any: what an inner transport prepares is there when the rule signs."""

    class Adding(HttpTransport):
        async def prepare(self, request):
            return attrs.evolve(request, fields=request.fields.replace(("X-Inner", "1")))

        async def refresh(self, source, status):
            return f"{source}?{status}"

    class Echo(ApiKey):
        async def sign(self, request):
            self.key = f"after {request.fields.get('X-Inner')}"
            return await super().sign(request)

    async with Origin() as origin:
        origin.add("/a", b"x")
        inner = LoggingTransport(Adding())
        transport = SchemeTransport([SignedTransport([Echo(origin.authority)], inner)])
        assert await exchange(transport, origin.url("/a")) == (200, b"x")
        assert await transport.refresh("http://a/", 403) == "http://a/?403"
        await transport.aclose()
        assert sent_keys(origin) == ["after 1"]
        assert origin.requests[0].fields.get("X-Inner") == "1"


@pytest.mark.asyncio
async def test_mirrors_are_signed_each_by_its_own_rule(tmp_path):
    """Inside a `MirrorsTransport` each place gets the credentials that are for it."""
    async with Origin() as one, Origin() as two:
        one.add("/a", b"content").fail(503)
        two.add("/a", b"content", require=needs("two"))
        signed = SignedTransport(
            [ApiKey(one.authority, key="one"), ApiKey(two.authority, key="two")]
        )
        transport = MirrorsTransport(signed, lambda source: [two.url("/a")])
        async with make_cache(tmp_path, transport) as cache:
            assert await read_url(cache.get_cache_url(one.url("/a"))) == (200, b"content")
        await transport.aclose()
        assert set(sent_keys(one)) == {"one"}
        assert set(sent_keys(two)) == {"two"}


@pytest.mark.asyncio
async def test_closing_closes_rules_and_the_transport_inside():
    """It owns them."""
    rule, inner = ApiKey("a.example"), HttpTransport()
    transport = SignedTransport([rule], inner)
    await transport.aclose()
    await transport.aclose()
    assert rule.closed == 2
    with pytest.raises(CacheStreamError):
        await inner.fetch(make_request("http://127.0.0.1:1/"))


@pytest.mark.asyncio
async def test_a_signed_request_keeps_what_the_engine_says(sign):
    """Signing changes the URL and fields, and no other attribute of a request."""
    transport = sign(ApiKey("a.example"))
    request = make_request("https://a.example/", attempt=3, hop=0, method="HEAD")
    prepared = await transport.prepare(request)
    for field in attrs.fields(type(request)):
        if field.name != "fields":
            assert getattr(prepared, field.name) == getattr(request, field.name)
    assert prepared.fields.get("X-Api-Key") == "key"


@pytest.mark.asyncio
async def test_plain_http_has_to_be_allowed_where_a_secret_is_sent():
    """A token for another machine goes by https, unless somebody said otherwise."""
    with pytest.raises(ConfigurationError) as caught:
        Bearer("http://nas.local", token="canary")
    assert "http://nas.local" in str(caught.value)
    assert "canary" not in str(caught.value)
    rule = Bearer("http://nas.local", token="t", allow_http=True)
    assert rule.covers(make_request("http://nas.local/"))
    assert not Bearer("nas.local", token="t").covers(make_request("http://nas.local/"))


@pytest.mark.parametrize("make", [lambda: SignedTransport([]), ApiKey, lambda: ApiKey("*")])
def test_rules_for_nothing_or_everything_are_errors(make):
    """Neither can be meant: to sign for no host, or to give a key to all that there are."""
    with pytest.raises(ConfigurationError):
        make()
