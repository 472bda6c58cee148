"""From a request's head to an answer: who may come in, which bytes, which status."""

import asyncio

import pytest

from cachestream._engine.answering import CacheHandler
from cachestream.abc import END, RequestHead
from cachestream.core.fields import Fields
from cachestream.errors import CacheStreamError
from cachestream.events import RequestAnswered
from cachestream.testing.simulation import Version

TARGET = "/origin.example/film.mp4"


def request(*fields, target=TARGET, method="GET"):
    """Return a request's head."""
    return RequestHead(method=method, target=target, fields=Fields.of(*fields))


async def rest(answer) -> bytes:
    """Return the content of an answer, and close it."""
    got = bytearray()
    try:
        while (piece := await answer.body.next(10_000)) is not END:
            got += piece
    finally:
        answer.close()
    return bytes(got)


def extra(answer, name):
    """Return a field of this answer alone."""
    return dict(answer.extra).get(name)


def handled(on_bench, check, **options):
    """Run a check with a handler."""

    async def scenario(bench):
        await check(bench, CacheHandler(bench.context, bench.pool))

    on_bench(scenario, **options)


def test_a_cold_file_is_answered_whole_and_then_from_the_cache(on_bench, content):
    """A miss waits for the origin, a hit does not wait at all."""

    async def check(bench, handler):
        assert handler.answer_nowait(request()) is None
        cold = await handler.answer(request())
        assert (cold.head.status, cold.length) == (200, len(content))
        assert "uri-miss" in extra(cold, "Cache-Status")
        assert await rest(cold) == content
        warm = handler.answer_nowait(request())
        assert warm.head.status == 200
        assert extra(warm, "Cache-Status") == "cachestream; hit"
        assert await rest(warm) == content
        assert bench.context.counters.hits == 1
        assert [event.status for event in bench.seen(RequestAnswered)] == [200, 200]

    handled(on_bench, check)


@pytest.mark.parametrize(
    ("value", "start", "stop"),
    [
        ("bytes=0-", 0, 100_000),
        ("bytes=0-0", 0, 1),
        ("bytes=50000-50999", 50_000, 51_000),
        ("bytes=99999-200000", 99_999, 100_000),
        ("bytes=-500", 99_500, 100_000),
        ("bytes=-200000", 0, 100_000),
    ],
)
def test_a_range_is_answered_by_206_cold_and_warm(on_bench, content, value, start, stop):
    """Every satisfiable range is a part, with its Content-Range, whoever comes first."""

    async def check(bench, handler):
        for _ in range(2):
            answer = await handler.answer(request(("Range", value)))
            assert answer.head.status == 206
            assert extra(answer, "Content-Range") == f"bytes {start}-{stop - 1}/100000"
            assert answer.length == stop - start
            assert await rest(answer) == content[start:stop]

    handled(on_bench, check)


@pytest.mark.parametrize("value", ["bytes=5-1", "items=0-5", "bytes=x", "bytes=0-1,5-6", ""])
def test_a_range_that_is_none_is_ignored(on_bench, content, value):
    """Malformed, foreign and several ranges get the whole (RFC 9110 §14.2)."""

    async def check(bench, handler):
        answer = await handler.answer(request(("Range", value)))
        assert answer.head.status == 200
        assert await rest(answer) == content

    handled(on_bench, check)


def test_a_range_past_the_end_is_416_on_both_routes(on_bench):
    """The length is told, before anything is stored and after."""

    async def check(bench, handler):
        past = request(("Range", "bytes=100000-"))
        cold = await handler.answer(past)
        assert (cold.head.status, extra(cold, "Content-Range")) == (416, "bytes */100000")
        await rest(await handler.answer(request()))
        warm = handler.answer_nowait(past)
        assert (warm.head.status, extra(warm, "Content-Range")) == (416, "bytes */100000")

    handled(on_bench, check)


@pytest.mark.parametrize(
    ("fields", "status"),
    [
        ((("If-None-Match", '"v1"'),), 304),
        ((("If-None-Match", '"v2"'),), 200),
        ((("If-None-Match", "*"),), 304),
        ((("If-Match", '"v1"'),), 200),
        ((("If-Match", '"v2"'),), 412),
        ((("If-Range", '"v1"'), ("Range", "bytes=0-9")), 206),
        ((("If-Range", '"v2"'), ("Range", "bytes=0-9")), 200),
        ((("If-Range", 'W/"v1"'), ("Range", "bytes=0-9")), 200),
    ],
)
def test_preconditions_are_evaluated(on_bench, fields, status):
    """304 and 412 come without content, and a failed If-Range gets all (RFC 9110 §13)."""

    async def check(bench, handler):
        await rest(await handler.answer(request()))
        answer = handler.answer_nowait(request(*fields))
        assert answer.head.status == status
        content = await rest(answer)
        if status == 304:
            assert (content, answer.length) == (b"", None)
            assert answer.head.fields.get("etag") == '"v1"'

    handled(on_bench, check)


def test_preconditions_hold_for_what_is_not_held_yet(on_bench):
    """A cold resource is looked at first; then the precondition is that of its version."""

    async def check(bench, handler):
        answer = await handler.answer(request(("If-None-Match", '"v1"')))
        assert answer.head.status == 304
        answer.close()

    handled(on_bench, check)


@pytest.mark.parametrize("length", [100_000, 50_000], ids=["as long", "shorter"])
def test_a_range_for_another_version_than_the_one_that_comes_gets_all_of_that(on_bench, length):
    """If-Range is judged by the version whose bytes are sent, though it changed meanwhile."""

    async def check(bench, handler):
        await rest(await handler.answer(request(("Range", "bytes=0-999"))))
        new = bytes(length)
        bench.origin.versions.append(Version(new, '"v2"'))
        wanted = request(("Range", "bytes=80000-80999"), ("If-Range", '"v1"'))
        answer = await handler.answer(wanted)
        assert answer.head.fields.get("etag") == '"v2"'
        assert answer.head.status == 200
        assert await rest(answer) == new

    handled(on_bench, check)


def test_a_head_request_has_the_fields_and_no_content(on_bench):
    """HEAD asks the origin for no content, and a stored file answers it alone."""

    async def check(bench, handler):
        cold = await handler.answer(request(method="HEAD"))
        assert (cold.head.status, cold.length) == (200, 100_000)
        assert await rest(cold) == b""
        await rest(await handler.answer(request()))
        count = bench.origin.requests
        warm = handler.answer_nowait(request(("Range", "bytes=0-9"), method="HEAD"))
        assert (warm.head.status, warm.length) == (200, 100_000)
        assert await rest(warm) == b""
        assert bench.origin.requests == count

    handled(on_bench, check)


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "get"])
def test_other_methods_are_405(on_bench, method):
    """Only GET and HEAD are answered, and the answer says so."""

    async def check(bench, handler):
        answer = handler.answer_nowait(request(method=method))
        assert answer.head.status == 405
        assert extra(answer, "Allow") == "GET, HEAD"

    handled(on_bench, check)


@pytest.mark.parametrize(
    ("target", "status"),
    [("/favicon.ico", 404), ("/", 404), ("/gopher/a.example/x", 404), ("/http/a.example:x/", 400)],
)
def test_a_target_that_names_no_source_is_refused_at_once(on_bench, target, status):
    """Nothing has to be awaited to say no."""

    async def check(bench, handler):
        answer = handler.answer_nowait(request(target=target))
        assert answer.head.status == status

    handled(on_bench, check)


def test_upstreams_are_those_named_stored_or_allowed(on_bench):
    """Any other host is 403, and its origin is not asked."""

    async def check(bench, handler):
        other = request(target="/other.example/x")
        assert handler.answer_nowait(other) is None
        assert (await handler.answer(other)).head.status == 403
        assert bench.origin.requests == 0
        await rest(await handler.answer(request()))  # named by the program
        bench.context.named_origins.clear()
        again = CacheHandler(bench.context, bench.pool)
        assert again.answer_nowait(request()) is None
        assert await rest(await again.answer(request()))  # in the index
        answer = again.answer_nowait(request())
        assert answer.head.status == 200  # remembered
        answer.close()

    async def allowed(bench, handler):
        answer = await handler.answer(request(target="/other.example/x"))
        assert answer.head.status == 200
        await rest(answer)

    handled(on_bench, check)
    handled(on_bench, allowed, allow_hosts=("other.example",))


def test_both_routes_admit_by_the_same_rules(on_bench):
    """A denied client is denied whether or not the answer would have to be awaited."""
    foreign = ("Sec-Fetch-Site", "cross-site")

    async def check(bench, handler):
        await rest(await handler.answer(request()))
        assert handler.answer_nowait(request(foreign)).head.status == 403
        assert (await handler.answer(request(foreign))).head.status == 403
        assert (await handler.answer(request(foreign, target="/o.example/x"))).head.status == 403

    handled(on_bench, check)


def test_a_token_is_demanded(on_bench):
    """Without the secret first segment nothing is answered."""

    async def check(bench, handler):
        assert (await handler.answer(request())).head.status in (403, 404)
        assert (await handler.answer(request(target="/~wrong" + TARGET))).head.status in (403, 404)
        assert await rest(await handler.answer(request(target="/~secret" + TARGET)))

    handled(on_bench, check, token="secret")


def test_an_origins_failure_is_an_answer(on_bench, line):
    """The handler raises nothing: errors are answers with the status that they hint at."""

    async def check(bench, handler):
        answer = await handler.answer(request())
        assert (answer.head.status, await rest(answer)) == (404, b"gone")
        again = await handler.answer(request())
        assert again.head.status == 404
        assert len(bench.transport.asked) == 1

    handled(on_bench, check, script=[line(404, (), b"gone")])


def test_a_failing_origin_does_not_take_away_what_is_held(on_bench, content):
    """What is stored is answered, what is not is the failure's status."""

    async def check(bench, handler):
        await rest(await handler.answer(request(("Range", "bytes=0-999"))))
        bench.origin.faults.refuse = 1.0
        held = await handler.answer(request(("Range", "bytes=0-999")))
        assert await rest(held) == content[:1000]
        assert (await handler.answer(request(("Range", "bytes=90000-")))).head.status == 502

    handled(on_bench, check, request_timeout=2.0)


def test_offline_what_is_held_is_served_and_the_first_hole_is_504(on_bench, content):
    """Nothing goes upstream, and the client is told what is missing."""

    async def check(bench, handler):
        await rest(await handler.answer(request(("Range", "bytes=0-999"))))
        resource = bench.pool.get("https://origin.example/film.mp4")
        resource.settings = bench.context.settings.for_stream(offline=True)
        count = bench.origin.requests
        held = await handler.answer(request(("Range", "bytes=0-999")))
        assert await rest(held) == content[:1000]
        assert (await handler.answer(request(("Range", "bytes=5000-5999")))).head.status == 504
        cut = await handler.answer(request())
        with pytest.raises(CacheStreamError):
            await rest(cut)
        assert bench.origin.requests == count

    handled(on_bench, check)


def test_chosen_fields_of_the_client_go_upstream(on_bench, line):
    """A field is forwarded by name only, and none by default."""
    fields = (("User-Agent", "player"), ("Cookie", "a=b"))
    head = (("Content-Length", "3"), ("ETag", '"v1"'))

    async def chosen(bench, handler):
        await rest(await handler.answer(request(*fields)))
        sent = bench.transport.asked[0].fields
        assert sent.get("user-agent") == "player"
        assert "cookie" not in sent

    async def none(bench, handler):
        await rest(await handler.answer(request(*fields)))
        assert bench.transport.asked[0].fields.get("user-agent") is None

    handled(on_bench, chosen, script=[line(200, head, b"abc")], forward_fields=("User-Agent",))
    handled(on_bench, none, script=[line(200, head, b"abc")])


def test_a_stranger_gets_no_leave_to_read_across_origins(on_bench):
    """Only an allowed web origin is told that it may read."""

    async def check(bench, handler):
        for origin, allowed in (("https://ours.example", True), ("https://evil.example", False)):
            answer = await handler.answer(request(("Origin", origin)))
            told = extra(answer, "Access-Control-Allow-Origin")
            assert told == (origin if allowed else None)
            await rest(answer)

    handled(on_bench, check, allow_origins=("https://ours.example",))


def test_content_of_unknown_length_has_no_length(on_bench, content):
    """It is streamed at once; a range of it is ignored until the length is known."""

    async def check(bench, handler):
        answer = await handler.answer(request(("Range", "bytes=5-9")))
        assert (answer.head.status, answer.length) == (200, None)
        assert await rest(answer) == content
        known = await handler.answer(request(("Range", "bytes=5-9")))
        assert (known.head.status, await rest(known)) == (206, content[5:10])

    def untold(origin):
        origin.ranges = origin.tells_length = False

    handled(on_bench, check, origin=untold)


def test_many_clients_of_a_cold_file_share_one_download(on_bench, content):
    """However many come at once, the origin sends each byte once."""

    async def check(bench, handler):
        answers = await asyncio.gather(*(handler.answer(request()) for _ in range(20)))
        bodies = await asyncio.gather(*(rest(answer) for answer in answers))
        assert all(body == content for body in bodies)
        assert sum(len(span) for _, span in bench.origin.served) == len(content)

    handled(on_bench, check)
