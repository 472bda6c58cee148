"""One request, its redirects, and what may follow them."""

import attrs
import pytest

from cachestream._engine.exchange import MAX_REDIRECTS, exchange, fields_for
from cachestream.core.fields import Fields
from cachestream.errors import ConnectError, TooManyRedirectsError, UpstreamProtocolError

SOURCE = "https://origin.example/film.mp4"
SECRET = Fields.of(("Authorization", "x"), ("Cookie", "a=b"), ("Range", "bytes=0-9"))


async def ask(bench, fields=SECRET, **options):
    """Exchange, and close the response."""
    response = await exchange(bench.context, SOURCE, SOURCE, fields, **options)
    async with response:
        return response


def test_an_answer_that_is_no_redirect_is_returned_as_it_is(on_bench, line):
    """Every status but a redirect's is data."""

    async def scenario(bench):
        for status in (200, 206, 304, 404, 500):
            assert (await ask(bench)).status == status
        assert bench.context.counters.origin_requests == 5

    on_bench(scenario, script=[line(status) for status in (200, 206, 304, 404, 500)])


def test_a_redirect_without_location_is_returned(on_bench, line):
    """Who cannot be followed is judged by the caller."""

    async def scenario(bench):
        assert (await ask(bench)).status == 302

    on_bench(scenario, script=[line(302)])


def test_redirects_are_followed_and_counted(on_bench, line):
    """Each hop is a request of its own, with its number, and relative targets are resolved."""

    async def scenario(bench):
        response = await ask(bench, attempt=2)
        assert response.status == 200
        urls = [(each.url, each.hop, each.attempt) for each in bench.transport.asked]
        assert urls == [
            (SOURCE, 0, 2),
            ("https://origin.example/b", 1, 2),
            ("https://origin.example/b?c", 2, 2),
        ]
        assert all(each.source == SOURCE for each in bench.transport.asked)
        assert bench.context.counters.origin_requests == 3

    lines = [line(302, (("Location", "b"),)), line(307, (("Location", "?c"),)), line()]
    on_bench(scenario, script=lines)


def test_credentials_end_where_the_origin_changes_and_do_not_come_back(on_bench, line):
    """Host, port and scheme make an origin; a redirect back does not restore what was dropped."""

    async def scenario(bench):
        await ask(bench)
        names = [{name.lower() for name, _ in each.fields} for each in bench.transport.asked]
        assert names[0] == {"authorization", "cookie", "range"}
        assert names[1:] == [{"range"}, {"range"}]

    there = line(302, (("Location", "https://origin.example:8443/b"),))
    back = line(302, (("Location", SOURCE),))
    on_bench(scenario, script=[there, back, line()])


def test_credentials_stay_within_their_origin(on_bench, line):
    """A redirect to another path of the origin carries all fields."""

    async def scenario(bench):
        await ask(bench)
        assert bench.transport.asked[1].fields == SECRET

    on_bench(scenario, script=[line(302, (("Location", "/b"),)), line()])


def test_a_redirect_from_https_to_http_needs_leave(on_bench, line):
    """It is refused by default, followed when allowed, and http may redirect as it likes."""
    plain = line(302, (("Location", "http://origin.example/b"),))

    async def refused(bench):
        with pytest.raises(UpstreamProtocolError, match="plain http"):
            await ask(bench)
        assert len(bench.transport.asked) == 1

    async def allowed(bench):
        assert (await ask(bench, secure_only=False)).status == 200

    on_bench(refused, script=[plain])
    on_bench(allowed, script=[plain, line()])


def test_too_many_redirects_are_an_error(on_bench, line):
    """After ten hops it is given up, and no response is left open."""

    async def scenario(bench):
        with pytest.raises(TooManyRedirectsError):
            await ask(bench)
        assert len(bench.transport.asked) == MAX_REDIRECTS + 1

    on_bench(scenario, script=[line(302, (("Location", "/a"),))] * 20)


def test_every_hop_is_prepared(on_bench, line):
    """A signature is made over what is sent, for each hop anew."""

    async def scenario(bench):
        async def prepare(request):
            mark = ("Signature", request.url)
            return attrs.evolve(request, fields=request.fields.replace(mark))

        bench.transport.prepare = prepare
        await ask(bench)
        signed = [each.fields.get("signature") for each in bench.transport.asked]
        assert signed == [SOURCE, "https://elsewhere.example/"]

    lines = [line(302, (("Location", "https://elsewhere.example/"),)), line()]
    on_bench(scenario, script=lines)


def test_what_the_transport_raises_comes_through(on_bench):
    """Only the network raises, and its error is the caller's."""

    async def scenario(bench):
        with pytest.raises(ConnectError):
            await ask(bench)

    on_bench(scenario, script=[ConnectError("refused")])


def test_configured_fields_go_to_named_origins_only(on_bench):
    """A client that makes up a URL carries none of the program's credentials there."""

    async def scenario(bench):
        settings = bench.context.settings
        named = fields_for(bench.context, SOURCE, settings, Fields())
        other = fields_for(bench.context, "https://evil.example/", settings, Fields())
        assert named.get("x-key") == "secret"
        assert named.get("user-agent") == other.get("user-agent") == "player"
        assert "x-key" not in other

    on_bench(scenario, request_headers={"X-Key": "secret", "User-Agent": "player"})


def test_the_program_wins_over_the_client_and_identity_is_asked_for(on_bench):
    """Forwarded fields give way to configured ones; coding is asked not to be applied."""

    async def scenario(bench):
        forwarded = Fields.of(("Referer", "client"), ("Accept-Language", "de"))
        fields = fields_for(bench.context, SOURCE, bench.context.settings, forwarded)
        assert fields.get("referer") == "program"
        assert fields.get("accept-language") == "de"
        assert fields.get("user-agent") == "ours"
        assert fields.get("accept-encoding") == "identity"

    on_bench(scenario, request_headers={"Referer": "program"}, user_agent="ours")
