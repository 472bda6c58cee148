"""Asking without content: what is it, and is what we have current?"""

import pytest

from cachestream._engine.checking import fetch_head, validate
from cachestream.core.fields import Fields
from cachestream.core.representation import Representation
from cachestream.errors import (
    ConnectError,
    NotStoredError,
    UpstreamProtocolError,
    UpstreamStatusError,
)

ETAG = ("ETag", '"v1"')
LENGTH = ("Content-Length", "1000")
FIRST = ("Content-Range", "bytes 0-0/1000")


def known(*fields, length=1000):
    """Return what is held."""
    return Representation(fields=Fields.of(*fields), complete_length=length)


def test_a_head_is_asked_by_head(on_bench, line):
    """One HEAD tells length and validators, and reads no content."""

    async def scenario(bench):
        resource = bench.resource()
        found = await fetch_head(resource)
        assert found.complete_length == 1000
        assert str(found.entity_tag) == '"v1"'
        assert [each.method for each in bench.transport.asked] == ["HEAD"]
        bench.pool.release_resource(resource)

    on_bench(scenario, script=[line(200, (ETAG, LENGTH))])


@pytest.mark.parametrize("status", [400, 403, 404, 405, 500, 501])
def test_an_origin_that_dislikes_head_is_asked_for_one_byte(on_bench, line, status):
    """Some origins refuse HEAD although they would answer GET."""

    async def scenario(bench):
        resource = bench.resource()
        found = await fetch_head(resource)
        assert found.complete_length == 1000
        asked = [(each.method, each.fields.get("range")) for each in bench.transport.asked]
        assert asked == [("HEAD", None), ("GET", "bytes=0-0")]
        bench.pool.release_resource(resource)

    on_bench(scenario, script=[line(status), line(206, (ETAG, FIRST))])


def test_a_refusal_of_both_is_the_origins_status(on_bench, line):
    """What the origin says to the second request is what clients get."""

    async def scenario(bench):
        resource = bench.resource()
        with pytest.raises(UpstreamStatusError) as caught:
            await fetch_head(resource)
        assert caught.value.status == 410
        bench.pool.release_resource(resource)

    on_bench(scenario, script=[line(404), line(410)])


def test_an_unusable_answer_is_an_error_of_protocol(on_bench, line):
    """A part that is not the one asked for tells nothing."""

    async def scenario(bench):
        resource = bench.resource()
        with pytest.raises(UpstreamProtocolError):
            await fetch_head(resource)
        bench.pool.release_resource(resource)

    wrong = line(206, (("Content-Range", "bytes 5-5/1000"),))
    on_bench(scenario, script=[line(405), wrong])


def test_nothing_is_asked_offline(on_bench):
    """An offline stream that knows nothing says so."""

    async def scenario(bench):
        resource = bench.resource(offline=True)
        with pytest.raises(NotStoredError):
            await fetch_head(resource)
        assert not bench.transport.asked
        bench.pool.release_resource(resource)

    on_bench(scenario, script=[])


@pytest.mark.parametrize(
    ("held", "condition"),
    [
        (known(ETAG, ("Last-Modified", "x")), ("if-none-match", '"v1"')),
        (known(("Last-Modified", "Sun, 06 Nov 1994 08:49:37 GMT")),
         ("if-modified-since", "Sun, 06 Nov 1994 08:49:37 GMT")),
        (known(), None),
    ],
    ids=["tag", "date", "neither"],
)  # fmt: skip
def test_a_check_is_conditional_and_asks_for_one_byte(on_bench, line, held, condition):
    """The best validator there is is sent, and never more content than a byte asked for."""

    async def scenario(bench):
        resource = bench.resource()
        valid, fresher = await validate(resource, held)
        assert valid
        assert fresher.complete_length == 1000
        (asked,) = bench.transport.asked
        assert asked.fields.get("range") == "bytes=0-0"
        if condition is None:
            assert not any(name.lower().startswith("if-") for name, _ in asked.fields)
        else:
            assert asked.fields.get(condition[0]) == condition[1]
        bench.pool.release_resource(resource)

    on_bench(scenario, script=[line(304)])


def test_a_304_freshens_the_stored_fields(on_bench, line):
    """New fields replace old ones, the rest and the length stay (RFC 9111 §4.3.4)."""

    async def scenario(bench):
        resource = bench.resource()
        held = known(ETAG, ("Cache-Control", "max-age=1"), ("X-Kept", "1"))
        valid, fresher = await validate(resource, held)
        assert valid
        assert fresher.fields.get("cache-control") == "max-age=9"
        assert fresher.fields.get("x-kept") == "1"
        assert fresher.complete_length == 1000
        assert fresher.response_time > 0
        bench.pool.release_resource(resource)

    on_bench(scenario, script=[line(304, (("Cache-Control", "max-age=9"),))])


@pytest.mark.parametrize(
    ("fields", "valid"),
    [
        ((ETAG, FIRST), True),
        ((("ETag", '"v2"'), FIRST), False),
        ((ETAG, ("Content-Range", "bytes 0-0/999")), False),
        ((FIRST,), True),
        ((("Content-Range", "bytes 0-0/1001"),), False),
    ],
)
def test_an_origin_without_conditions_is_compared_by_its_head(on_bench, line, fields, valid):
    """Tags decide, else lengths: nothing more can be known."""

    async def scenario(bench):
        resource = bench.resource()
        assert (await validate(resource, known(ETAG)))[0] is valid
        bench.pool.release_resource(resource)

    on_bench(scenario, script=[line(206, fields)])


def test_an_empty_file_is_current_when_there_is_no_byte_to_ask_for(on_bench, line):
    """A 416 for the first byte of nothing means that it is still empty."""

    async def scenario(bench):
        resource = bench.resource()
        assert (await validate(resource, known(ETAG, length=0)))[0] is True
        bench.pool.release_resource(resource)

    on_bench(scenario, script=[line(416, (("Content-Range", "bytes */0"),))])


@pytest.mark.parametrize("status", [403, 404, 500, 503])
def test_a_failing_check_is_an_error_and_no_verdict(on_bench, line, status):
    """Neither current nor outdated: the caller decides what to do then."""

    async def scenario(bench):
        resource = bench.resource()
        with pytest.raises(UpstreamStatusError) as caught:
            await validate(resource, known(ETAG))
        assert caught.value.status == status
        bench.pool.release_resource(resource)

    on_bench(scenario, script=[line(status)])


def test_a_check_that_cannot_connect_is_an_error(on_bench):
    """The transport's error comes through."""

    async def scenario(bench):
        resource = bench.resource()
        with pytest.raises(ConnectError):
            await validate(resource, known(ETAG))
        bench.pool.release_resource(resource)

    on_bench(scenario, script=[ConnectError("refused")])
