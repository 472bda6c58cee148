"""What it costs to understand a message: ranges, fields, and who may come in."""

from __future__ import annotations

from typing import Final

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from cachestream.core.access import AccessPolicy, judge_client
from cachestream.core.fields import Fields, parse_directives, storable_fields
from cachestream.core.ranges import content_range, parse_content_range, parse_range, resolve
from cachestream.core.spans import Span

_SERVED: Final = frozenset({"127.0.0.1:4612", "localhost:4612"})
_TARGET: Final = "/~secret/example.com/video.mp4"
_LINES: Final = (
    ("Date", "Tue, 24 Nov 2026 10:00:00 GMT"),
    ("Content-Type", "video/mp4"),
    ("Content-Length", "1073741824"),
    ("ETag", '"5f1e-40000000"'),
    ("Last-Modified", "Mon, 23 Nov 2026 10:00:00 GMT"),
    ("Accept-Ranges", "bytes"),
    ("Cache-Control", "public, max-age=86400, stale-if-error=3600"),
    ("Connection", "keep-alive"),
    ("Server", "example"),
)
_CLIENTS: Final = {
    "player": Fields.of(
        ("Host", "127.0.0.1:4612"), ("Range", "bytes=0-65535"), ("User-Agent", "a player/1.0")
    ),
    "browser": Fields.of(
        ("Host", "127.0.0.1:4612"),
        ("User-Agent", "a browser/100.0"),
        ("Accept", "*/*"),
        ("Accept-Language", "en"),
        ("Sec-Fetch-Site", "same-origin"),
        ("Sec-Fetch-Mode", "no-cors"),
        ("Sec-Fetch-Dest", "video"),
        ("Range", "bytes=0-"),
    ),
}


@pytest.mark.parametrize("text", ["bytes=0-65535", "bytes=-500", "bytes=0-0, 5-9, 100-199, -1"])
def test_range(benchmark: BenchmarkFixture, text: str) -> None:
    """A Range field becomes spans."""

    def understand() -> tuple[Span, ...]:
        specs = parse_range(text)
        assert specs is not None
        return resolve(specs, 1 << 30)

    assert benchmark(understand)


def test_content_range(benchmark: BenchmarkFixture) -> None:
    """A Content-Range is written, and understood."""
    span = Span(1 << 20, 2 << 20)
    assert benchmark(lambda: parse_content_range(content_range(span, 1 << 30)))


def test_field_lookup(benchmark: BenchmarkFixture) -> None:
    """A field is found whatever its case."""
    fields = Fields.of(*_LINES)
    assert benchmark(fields.get, "last-modified")


def test_directives(benchmark: BenchmarkFixture) -> None:
    """A Cache-Control becomes directives."""
    assert benchmark(parse_directives, "public, max-age=86400, stale-if-error=3600")


def test_storable_fields(benchmark: BenchmarkFixture) -> None:
    """Of an origin's fields those are picked that may be kept."""
    assert benchmark(storable_fields, Fields.of(*_LINES), essential_only=False)


@pytest.mark.parametrize("client", _CLIENTS)
@pytest.mark.parametrize("token", [None, "secret"], ids=["no token", "token"])
def test_judge_client(benchmark: BenchmarkFixture, client: str, token: str | None) -> None:
    """A request is let in; this is on the path of every one."""
    policy = AccessPolicy(token=token)
    assert benchmark(judge_client, _TARGET, _CLIENTS[client], _SERVED, policy) is None
