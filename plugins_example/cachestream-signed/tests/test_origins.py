"""Which URLs a rule is for."""

import pytest
from cachestream.errors import ConfigurationError
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cachestream_signed import OriginPattern


@pytest.mark.parametrize(
    ("pattern", "yes", "no"),
    [
        (
            "example.com",
            ["https://example.com/", "https://EXAMPLE.com./a?b", "https://example.com:443/"],
            [
                "http://example.com/",
                "https://example.com:8443/",
                "https://a.example.com/",
                "https://example.com.evil/",
                "https://evil/example.com",
                "https://example.com@evil/",
                "https://evilexample.com/",
                "s3://example.com/",
            ],
        ),
        (
            "*.example.com",
            ["https://a.example.com/", "https://b.a.example.com/"],
            ["https://example.com/", "https://evilexample.com/", "http://a.example.com/"],
        ),
        (
            "example.com:8443",
            ["https://example.com:8443/"],
            ["https://example.com/", "https://example.com:18443/", "http://example.com:8443/"],
        ),
        ("example.com:*", ["https://example.com/", "https://example.com:1/"], ["https://a.com:1/"]),
        (
            "http://nas.local:80",
            ["http://nas.local/", "http://nas.local:80/"],
            ["https://nas.local/", "http://nas.local:8080/"],
        ),
        ("HTTPS://Example.com/", ["https://example.com/"], ["http://example.com/"]),
        (
            "localhost:8080",
            ["http://localhost:8080/", "https://localhost:8080/"],
            ["http://localhost/", "http://127.0.0.1:8080/"],
        ),
        ("127.0.0.1", ["http://127.0.0.1/", "https://127.0.0.1/"], ["http://127.0.0.2/"]),
        ("[::1]:81", ["http://[::1]:81/", "http://[0:0::1]:81/"], ["http://[::2]:81/"]),
        ("bücher.example", ["https://xn--bcher-kva.example/"], ["https://bucher.example/"]),
        (
            "*",
            ["https://a/", "https://b:99/", "http://127.0.0.1:99/", "http://localhost/"],
            ["http://a/", "ftp://a/"],
        ),
    ],
)
def test_patterns_match_their_origins_and_no_others(pattern, yes, no):
    """A pattern is for the scheme, host and port that it says, however a URL is spelled."""
    parsed = OriginPattern.parse(pattern)
    assert [url for url in yes if not parsed.matches(url)] == []
    assert [url for url in no if parsed.matches(url)] == []


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "https://",
        "a b",
        "a.com/path",
        "user@a.com",
        "a.com:0",
        "a.com:99999",
        "a.com:x",
        "*a.com",
        "a.*.com",
        "*.",
        "[::1",
        "[zz]",
        "ftp://a.com",
        "https://a.com?x",
        "a..com",
    ],
)
def test_what_is_no_origin_is_refused(text):
    """A rule that could never match, or would match too much, is an error at the start."""
    with pytest.raises(ConfigurationError) as caught:
        OriginPattern.parse(text)
    assert repr(text) in str(caught.value)


LETTERS = st.text("htps:/[].*@aA1?#% ü\ud800\0")


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.text() | LETTERS, st.text() | LETTERS)
def test_no_text_breaks_matching(pattern, url):
    """Whatever is written, parsing says it is an error, and matching says no."""
    try:
        parsed = OriginPattern.parse(pattern)
    except ConfigurationError:
        return
    assert parsed.matches(url) in (True, False)
