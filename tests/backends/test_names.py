"""Origins and variants have one spelling."""

import pytest

from cachestream.backends._names import origin_of, variant_of
from cachestream.core.representation import Representation


@pytest.mark.parametrize(
    ("url", "origin"),
    [
        ("https://Example.com/a?b", "https://example.com"),
        ("HTTPS://example.com:443", "https://example.com"),
        ("http://example.com:443/", "http://example.com:443"),
        ("http://user:pass@[2001:DB8::1]:8080/a", "http://[2001:db8::1]:8080"),
        ("s3://bucket/key", "s3://bucket"),
        ("https://example.com:port/", "https://example.com:port/"),
        ("http://[::1", "http://[::1"),
    ],
)
def test_origin_is_scheme_host_and_port(url, origin):
    """Case, userinfo and default ports do not matter; what is no URL is its own origin."""
    assert origin_of(url) == origin


def test_variant_is_the_sorted_selecting_fields():
    """The order of Vary is no difference; a missing field is not an empty one."""
    one = Representation(selecting=(("b", None), ("a", "x")))
    two = Representation(selecting=(("a", "x"), ("b", None)))
    three = Representation(selecting=(("a", "x"), ("b", "")))
    assert variant_of(one) == variant_of(two) != variant_of(three)
