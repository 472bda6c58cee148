"""The heads of answers: what is shared, what is of one answer, and what errors look like."""

import pytest

from cachestream._engine.heads import HeadMaker, PageBody, error_answer, status_answer
from cachestream.abc import END
from cachestream.core.decisions import Outcome
from cachestream.core.fields import Fields
from cachestream.core.representation import Representation
from cachestream.errors import (
    ClosedError,
    ConnectError,
    NotStoredError,
    RangeNotSatisfiableError,
    TLSError,
    UpstreamProtocolError,
    UpstreamStatusError,
    UpstreamTimeoutError,
)

NOW = 1_800_000_000.0
STORED = Fields.of(
    ("Content-Type", "video/mp4"),
    ("ETag", '"v1"'),
    ("Cache-Control", "max-age=60"),
    ("Age", "5"),
    ("X-Other", "1"),
    ("Connection", "X-Hop"),
    ("X-Hop", "1"),
)


def representation(fields=STORED, **changes):
    """Return a version of 1000 bytes that came 7 seconds ago."""
    given = {"complete_length": 1000, "response_time": NOW - 7, **changes}
    return Representation(fields=fields, **given)


def made(on_bench, check, **settings):
    """Run a check of a head maker."""

    async def scenario(bench):
        resource = bench.resource()
        bench.context.clock = lambda: NOW
        check(HeadMaker(bench.context), resource)
        bench.pool.release_resource(resource)

    on_bench(scenario, script=[], **settings)


def body_of(answer) -> bytes:
    """Return all of a page."""
    parts = []
    while (piece := answer.body.take_nowait(7)) is not END:
        parts.append(bytes(piece))
    return b"".join(parts)


def test_one_head_a_version_and_status_is_made(on_bench):
    """A frontend may keep what it rendered, as the head is the same object until a change."""

    def check(maker, resource):
        version = representation()
        assert maker.make(resource, version, 200) is maker.make(resource, version, 200)
        assert maker.make(resource, version, 206) is not maker.make(resource, version, 200)
        assert maker.make(resource, version, 206).status == 206
        assert maker.make(resource, representation(), 200) is not maker.make(resource, version, 200)

    made(on_bench, check)


def test_stored_fields_are_copied_by_choice_and_hop_by_hop_ones_never(on_bench):
    """The essential fields always, others by setting, those of a connection never."""

    def few(maker, resource):
        fields = maker.make(resource, representation(), 200).fields
        assert fields.get("etag") == '"v1"'
        assert fields.get("content-type") == "video/mp4"
        assert fields.get("accept-ranges") == "bytes"
        assert all(name not in fields for name in ("x-other", "x-hop", "age", "connection"))

    def all_of_them(maker, resource):
        fields = maker.make(resource, representation(), 200).fields
        assert fields.get("x-other") == "1"
        assert all(name not in fields for name in ("x-hop", "age", "connection"))

    made(on_bench, few)
    made(on_bench, all_of_them, copy_cached_response_headers=True)


def test_cached_content_is_guarded_and_configured_fields_win(on_bench):
    """A stranger's page may not act on our origin; the program may say otherwise."""

    def guarded(maker, resource):
        stored = STORED.replace(("Content-Security-Policy", "default-src *"))
        fields = maker.make(resource, representation(stored), 200).fields
        assert fields.get("content-security-policy") == "sandbox"
        assert fields.get("x-content-type-options") == "nosniff"

    def configured(maker, resource):
        fields = maker.make(resource, representation(), 200).fields
        assert fields.get("etag") == "ours"
        assert fields.get("content-security-policy") == "none"

    made(on_bench, guarded, copy_cached_response_headers=True)
    ours = {"ETag": "ours", "Content-Security-Policy": "none"}
    made(on_bench, configured, response_headers=ours)


@pytest.mark.parametrize("told", [None, "application/octet-stream", "Binary/Octet-Stream; x=y"])
def test_a_missing_media_type_is_guessed(on_bench, told):
    """Players want to know; the name of the source tells."""

    def check(maker, resource):
        fields = Fields() if told is None else Fields.of(("Content-Type", told))
        head = maker.make(resource, representation(fields), 200)
        assert head.fields.get("content-type") == "video/mp4"

    made(on_bench, check)


def test_ranges_are_offered_only_where_the_length_is_known(on_bench):
    """Without a length no range can be answered."""

    def check(maker, resource):
        head = maker.make(resource, representation(complete_length=None), 200)
        assert "accept-ranges" not in head.fields

    made(on_bench, check)


@pytest.mark.parametrize(
    ("outcome", "shown"),
    [
        (Outcome.HIT, "cachestream; hit"),
        (Outcome.MISS, "cachestream; fwd=uri-miss; stored"),
        (Outcome.PARTIAL, "cachestream; fwd=partial; stored"),
    ],
)
def test_an_answer_says_how_it_came_about_and_how_old_it_is(on_bench, outcome, shown):
    """Cache-Status names the outcome, and Age adds what was told to what has passed."""

    def check(maker, resource):
        fields = dict(maker.own_fields(resource, representation(), outcome))
        assert fields["Cache-Status"] == shown
        assert fields["Age"] == "12"

    made(on_bench, check)


@pytest.mark.parametrize("told", ["-5", "x", "9" * 20, ""])
def test_an_age_that_is_none_counts_for_nothing(on_bench, told):
    """A wrong Age of the origin, or a clock that went back, never makes a negative one."""

    def check(maker, resource):
        old = representation(Fields.of(("Age", told)))
        assert dict(maker.own_fields(resource, old, Outcome.HIT))["Age"] == "7"
        ahead = representation(Fields(), response_time=NOW + 100)
        assert dict(maker.own_fields(resource, ahead, Outcome.HIT))["Age"] == "0"

    made(on_bench, check)


@pytest.mark.parametrize(
    ("error", "status", "proxy"),
    [
        (ConnectError("x"), 502, "destination_unavailable"),
        (TLSError("x"), 502, "tls_protocol_error"),
        (UpstreamTimeoutError("x"), 504, "http_response_timeout"),
        (UpstreamProtocolError("x"), 502, "http_protocol_error"),
        (NotStoredError("x"), 504, "destination_unavailable"),
        (ClosedError("x"), 503, None),
    ],
)
def test_an_error_is_its_status_and_its_message(error, status, proxy):
    """Clients get the status hint, what happened, and whose failure it was."""
    answer = error_answer(error)
    assert answer.head.status == status
    extra = dict(answer.extra)
    assert extra.get("Proxy-Status", "").partition("error=")[2] == (proxy or "")
    assert f"detail={error.outcome}" in extra["Cache-Status"]
    content = body_of(answer)
    assert content == f"{error}\n".encode()
    assert answer.length == len(content)
    assert answer.head.fields.get("cache-control") == "no-store"


def test_a_range_past_the_end_tells_the_length():
    """416 carries Content-Range, if the length is known (RFC 9110 §15.5.17)."""
    known = error_answer(RangeNotSatisfiableError("x", complete_length=9))
    assert dict(known.extra)["Content-Range"] == "bytes */9"
    unknown = error_answer(RangeNotSatisfiableError("x"))
    assert "Content-Range" not in dict(unknown.extra)


def test_an_origins_refusal_is_forwarded_with_its_page():
    """Status, page, type and Retry-After go on, and none of them can split a message."""
    error = UpstreamStatusError("x", status=429)
    error.content, error.media_type, error.retry_after = b"<p>later", "text/html", "120"
    answer = error_answer(error)
    assert answer.head.status == 429
    assert body_of(answer) == b"<p>later"
    assert answer.head.fields.get("content-type") == "text/html"
    assert answer.head.fields.get("content-security-policy") == "sandbox"
    assert dict(answer.extra)["Retry-After"] == "120"
    error.media_type, error.retry_after = "text/html\r\nX: y", "1\r\nX: y"
    forged = error_answer(error)
    assert forged.head.fields.get("content-type") == "application/octet-stream"
    assert "Retry-After" not in dict(forged.extra)


def test_a_status_answer_says_one_thing():
    """A short text with its length and further fields."""
    answer = status_answer(405, "no", ("Allow", "GET"))
    assert (answer.head.status, answer.length, answer.extra) == (405, 3, (("Allow", "GET"),))
    assert body_of(answer) == b"no\n"


def test_a_page_is_given_in_pieces_and_can_be_closed():
    """A body in memory keeps to the limit, and has nothing to give back."""
    page = PageBody(b"abcdef")
    assert bytes(page.take_nowait(4)) == b"abcd"
    assert bytes(page.take_nowait(4)) == b"ef"
    assert page.take_nowait(4) is END
    page.close()
