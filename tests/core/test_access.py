"""Who may come in, which upstreams may be named, and what an address is."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cachestream.core.access import (
    AccessPolicy,
    UpstreamPolicy,
    cors_fields,
    is_metadata_address,
    is_public_address,
    judge_client,
)
from cachestream.core.fields import Fields
from cachestream.errors import ConfigurationError
from cachestream.testing import strategies as our

SERVED = frozenset({"127.0.0.1:4612", "localhost:4612", "[::1]:4612"})
OPEN = AccessPolicy()
TARGET = "/example.com/v.mp4"

any_text = our.hostile_text()


def status(
    *lines: tuple[str, str],
    target: str = TARGET,
    served: frozenset[str] = SERVED,
    policy: AccessPolicy = OPEN,
) -> int | None:
    """Return the status a request is denied with, None if it is let in."""
    denial = judge_client(target, Fields.of(*lines), served, policy)
    return None if denial is None else denial.status


HOST = ("Host", "127.0.0.1:4612")

# -- Host ------------------------------------------------------------------------


@pytest.mark.parametrize(
    "host", ["127.0.0.1:4612", "localhost:4612", "LocalHost:4612", "[::1]:4612"]
)
def test_our_own_names_are_let_in(host: str) -> None:
    """A Host that is one of the listener's authorities, in any case, passes."""
    assert status(("hOsT", host)) is None


@pytest.mark.parametrize(
    "host",
    [
        "", "evil.example", "evil.example:4612", "127.0.0.1", "localhost", "127.0.0.1:4613",
        "127.0.0.1:04612", "127.0.0.1.:4612", "localhost.:4612", "user@127.0.0.1:4612",
        "127.0.0.1:4612@evil.example", "127.1:4612", "2130706433:4612", "0x7f.0.0.1:4612",
        "0.0.0.0:4612", "[::]:4612", "[0:0:0:0:0:0:0:1]:4612", "::1:4612",
        "[::ffff:127.0.0.1]:4612", "[::1%25lo]:4612", "127.0.0.1:4612,evil.example",
        "127.0.0.1:4612 ", " 127.0.0.1:4612", "http://127.0.0.1:4612", "127.0.0.1:4612/",
        "127.0.0.1.evil.example:4612", "LOCALHOST\u212a:4612",
    ],
)  # fmt: skip
def test_every_other_host_is_misdirected(host: str) -> None:
    """Comparison is literal: no other name, spelling or port is ours (DNS rebinding)."""
    assert status(("Host", host)) == 421


@given(any_text)
@settings(deadline=None)
def test_no_host_but_ours_passes(host: str) -> None:
    """Any text is judged, and none but the listed ones comes in."""
    expected = None if host.lower() in SERVED else 421
    assert status(("Host", host)) == expected


def test_a_missing_or_repeated_host_is_misdirected() -> None:
    """Exactly one Host must be there, even if two agree."""
    assert status() == 421
    assert status(HOST, HOST) == 421
    assert status(HOST, ("host", "evil.example")) == 421


def test_an_absolute_target_must_be_ours_too() -> None:
    """The authority of an absolute-form target counts like the Host (RFC 9112 §3.2.2)."""
    assert status(HOST, target="http://127.0.0.1:4612/example.com/v") is None
    assert status(HOST, target="HTTP://LOCALHOST:4612/example.com/v") is None
    for target in (
        "http://evil.example/x",
        "http://127.0.0.1/x",
        "http://user@127.0.0.1:4612/x",
        "http://127.0.0.1:4612@evil.example/x",
        "http:///x",
        "https://evil.example?x",
    ):
        assert status(HOST, target=target) == 421
    assert status(("Host", "evil.example"), target="http://127.0.0.1:4612/x") == 421


def test_configured_names_pass_with_any_port_or_their_own() -> None:
    """A name without a port goes with all, one with a port with that alone."""
    policy = AccessPolicy(server_names=("Cache.lan", "other.lan:80", "[fd00::1]"))
    for host in ("cache.lan", "CACHE.lan:8080", "other.lan:80", "[fd00::1]", "[fd00::1]:1"):
        assert status(("Host", host), policy=policy) is None
    for host in (
        "cache.lan.", "cache.lan:", "cache.lan:x", "cache.lan:123456", "other.lan", "other.lan:81",
        "x.cache.lan", "cache.lan:80:80", "cache.lan:٨٠",
    ):  # fmt: skip
        assert status(("Host", host), policy=policy) == 421


def test_no_served_names_means_the_frontend_has_checked() -> None:
    """Mounted in another server, the Host is that server's affair."""
    empty: frozenset[str] = frozenset()
    assert status(("Host", "anything.example"), served=empty) is None
    assert status(served=empty, target="http://anything.example/x") is None
    assert status(("Sec-Fetch-Site", "cross-site"), served=empty) == 403


# -- pages -------------------------------------------------------------------------

ALLOWING = AccessPolicy(allow_origins=("https://app.example/", "HTTP://localhost:8888"))


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        ({}, None),
        ({"Sec-Fetch-Site": "none"}, None),
        ({"Sec-Fetch-Site": "same-origin"}, None),
        ({"Sec-Fetch-Site": "same-origin", "Sec-Fetch-Dest": "video"}, None),
        ({"Sec-Fetch-Site": "cross-site"}, 403),
        ({"Sec-Fetch-Site": "same-site"}, 403),
        ({"Sec-Fetch-Site": "unheard-of"}, 403),
        ({"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors"}, 403),
        ({"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"}, 403),
        ({"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Dest": "document"}, 403),
        ({"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate",
          "Sec-Fetch-Dest": "iframe"}, 403),
        ({"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "cors",
          "Sec-Fetch-Dest": "document"}, 403),
        ({"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate",
          "Sec-Fetch-Dest": "document"}, None),
        ({"Sec-Fetch-Site": "same-site", "Sec-Fetch-Mode": "navigate",
          "Sec-Fetch-Dest": "document"}, None),
        ({"Origin": "https://evil.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Origin": ""}, 403),
        ({"Origin": "http://127.0.0.1:4612.evil.example"}, 403),
        ({"Origin": "http://127.0.0.1:4613"}, 403),
        ({"Origin": "ftp://127.0.0.1:4612"}, 403),
        ({"Origin": "http://127.0.0.1:4612"}, None),
        ({"Origin": "http://127.0.0.1:4612", "Sec-Fetch-Site": "same-origin"}, None),
        ({"Origin": "http://127.0.0.1:4612", "Sec-Fetch-Site": "cross-site"}, 403),
        ({"Origin": "https://evil.example", "Sec-Fetch-Site": "same-origin"}, 403),
        ({"Origin": "https://evil.example", "Sec-Fetch-Site": "cross-site",
          "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"}, 403),
    ],
)  # fmt: skip
def test_pages_of_other_sites(lines: dict[str, str], expected: int | None) -> None:
    """They read nothing from here, by Sec-Fetch-Site or by Origin; navigation is exempt."""
    assert status(HOST, *lines.items()) == expected


@pytest.mark.parametrize(
    ("origin", "expected"),
    [
        ("https://app.example", None),
        ("https://APP.example", None),
        ("http://localhost:8888", None),
        ("http://app.example", 403),
        ("https://app.example:8443", 403),
        ("https://x.app.example", 403),
        ("https://app.example.evil.example", 403),
        ("null", 403),
    ],
)
def test_allowed_origins(origin: str, expected: int | None) -> None:
    """A configured origin may read, exactly that one."""
    lines = (HOST, ("Origin", origin), ("Sec-Fetch-Site", "cross-site"))
    assert status(*lines, policy=ALLOWING) == expected


def test_a_cross_site_request_without_origin_is_not_let_in_by_the_list() -> None:
    """Without an Origin nothing says that the page is an allowed one."""
    assert status(HOST, ("Sec-Fetch-Site", "cross-site"), policy=ALLOWING) == 403


def test_repeated_fields_do_not_help() -> None:
    """One foreign value among several is enough, and one navigation among several is not."""
    assert status(HOST, ("Sec-Fetch-Site", "none"), ("sec-fetch-site", "cross-site")) == 403
    assert (
        status(HOST, ("Origin", "https://app.example"), ("Origin", "https://evil.example"),
               policy=ALLOWING)
        == 403
    )  # fmt: skip
    navigation = (("Sec-Fetch-Mode", "navigate"), ("Sec-Fetch-Dest", "document"))
    lines = (HOST, ("Sec-Fetch-Site", "cross-site"), *navigation, ("Sec-Fetch-Dest", "video"))
    assert status(*lines) == 403


def test_a_star_allows_every_origin() -> None:
    """It is explicit, and takes sandboxed pages in."""
    policy = AccessPolicy(allow_origins=("*",))
    for origin in ("https://any.example", "null"):
        assert status(HOST, ("Origin", origin), ("Sec-Fetch-Site", "cross-site"),
                      policy=policy) is None  # fmt: skip


# -- token ---------------------------------------------------------------------------

SECRET = AccessPolicy(token="right/é")


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        ("/~right%2F%C3%A9/example.com/v", None),
        ("/~right%2F%C3%A9", None),
        ("http://127.0.0.1:4612/~right%2F%C3%A9/example.com/v", None),
        ("/example.com/v", 404),
        ("/~wrong/example.com/v", 404),
        ("/~/example.com/v", 404),
        ("/x/~right%2F%C3%A9/v", 404),
        ("*", 404),
        ("", 404),
    ],
)
def test_the_token_is_needed_on_every_target(target: str, expected: int | None) -> None:
    """Without it there is nothing to be found."""
    assert status(HOST, target=target, policy=SECRET) == expected


def test_host_and_page_are_judged_before_the_token() -> None:
    """A guess from a web page learns nothing about the token."""
    right, wrong = "/~right%2F%C3%A9/example.com/v", "/~wrong/example.com/v"
    for target in (right, wrong):
        assert status(("Host", "evil.example"), target=target, policy=SECRET) == 421
        assert status(HOST, ("Origin", "null"), target=target, policy=SECRET) == 403


def test_the_token_never_shows() -> None:
    """Neither the policy nor a denial says what it is."""
    assert "right" not in repr(SECRET)
    denial = judge_client("/~right/x", Fields.of(HOST), SERVED, SECRET)
    assert denial is not None
    assert "right" not in denial.detail


def test_an_empty_token_is_a_mistake() -> None:
    """It would protect nothing."""
    with pytest.raises(ConfigurationError, match="token"):
        AccessPolicy(token="")


judged_names = st.sampled_from(
    ["Host", "Origin", "Sec-Fetch-Site", "Sec-Fetch-Mode", "Sec-Fetch-Dest"]
)


@given(any_text, st.lists(st.tuples(judged_names, any_text)))
@settings(deadline=None)
def test_every_request_is_judged(target: str, lines: list[tuple[str, str]]) -> None:
    """No request makes the judgement raise, and a denial never echoes what was sent."""
    for policy in (OPEN, SECRET, ALLOWING):
        denial = judge_client(target, Fields.parse(lines), SERVED, policy)
        assert denial is None or (denial.status in {403, 404, 421} and denial.detail.isascii())


# -- CORS ----------------------------------------------------------------------------


def test_no_cors_unless_configured() -> None:
    """Without allowed origins no field is sent at all."""
    assert cors_fields(Fields.of(("Origin", "https://app.example")), OPEN) == ()


def test_cors_for_an_allowed_origin() -> None:
    """It is named, may see the fields a player needs, and gets no credentials."""
    found = dict(cors_fields(Fields.of(("Origin", "https://app.example")), ALLOWING))
    assert found["Access-Control-Allow-Origin"] == "https://app.example"
    assert "Content-Range" in found["Access-Control-Expose-Headers"]
    assert found["Vary"] == "Origin"
    assert "Access-Control-Allow-Credentials" not in found


@pytest.mark.parametrize(
    "lines",
    [
        (),
        (("Origin", "https://evil.example"),),
        (("Origin", "null"),),
        (("Origin", "https://app.example"), ("Origin", "https://app.example")),
    ],
)
def test_other_answers_still_vary(lines: tuple[tuple[str, str], ...]) -> None:
    """A cache must know that the answer depends on the Origin."""
    assert cors_fields(Fields.of(*lines), ALLOWING) == (("Vary", "Origin"),)


@given(any_text)
@settings(deadline=None)
def test_an_origin_is_never_echoed_unless_it_is_one(origin: str) -> None:
    """Even with a star, what is sent back can split no message."""
    policy = AccessPolicy(allow_origins=("*",))
    for text in (origin, f"https://{origin}"):
        found = dict(cors_fields(Fields.of(("Origin", text)), policy))
        allowed = found.get("Access-Control-Allow-Origin", "")
        assert allowed in {"", text}
        assert allowed.isascii()
        assert allowed == "" or allowed.isprintable()


# -- upstreams ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("entry", "allowed", "refused"),
    [
        ("example.com",
         ["https://example.com/a", "http://EXAMPLE.com:8080/"],
         ["https://a.example.com/", "https://example.com./", "https://example.comx/",
          "https://badexample.com/"]),
        ("Example.COM:8080",
         ["http://example.com:8080/", "https://example.com:8080/"],
         ["http://example.com/", "https://example.com:8081/"]),
        ("example.com:443", ["https://example.com/"], ["http://example.com/"]),
        ("*.example.com",
         ["https://a.example.com/", "https://a.b.example.com:81/"],
         ["https://example.com/", "https://aexample.com/", "https://a.example.com.evil.example/"]),
        ("*.example.com:81", ["http://a.example.com:81/"], ["http://a.example.com/"]),
        ("https://example.com", ["https://example.com/a"],
         ["http://example.com/", "https://example.com:81/"]),
        ("[::1]", ["http://[::1]:81/", "http://[0::1]/"], ["http://127.0.0.1/"]),
        ("::1", ["http://[::1]:81/"], ["http://[::2]/"]),
        ("[::1]:81", ["http://[::1]:81/"], ["http://[::1]/"]),
        ("bücher.example", ["https://xn--bcher-kva.example/", "https://BÜCHER.example/"],
         ["https://bucher.example/"]),
        ("bucket", ["s3://bucket/key"], ["s3://bucket2/key"]),
        ("any", ["https://x.example/", "http://127.0.0.1/", "s3://any/key"],
         ["nonsense", "file:///etc/passwd", "https://user@x.example/"]),
    ],
)  # fmt: skip
def test_allowed_upstreams(entry: str, allowed: list[str], refused: list[str]) -> None:
    """A host on any port, a host and port, subdomains, an origin, or all of them."""
    policy = UpstreamPolicy((entry,))
    assert [url for url in allowed if not policy.allows(url)] == []
    assert [url for url in refused if policy.allows(url)] == []
    assert policy.any is (entry == "any")


def test_several_entries_add_up_and_none_allow_nothing() -> None:
    """Each entry allows for itself; an empty list refuses everything."""
    policy = UpstreamPolicy(("a.example", "*.b.example", "c.example:81"))
    urls = ["https://a.example/", "https://x.b.example/", "http://c.example:81/"]
    assert all(map(policy.allows, urls))
    assert not policy.any
    assert not any(map(UpstreamPolicy(()).allows, urls))
    assert policy == UpstreamPolicy(policy.allow_hosts)


@pytest.mark.parametrize(
    "entry", ["", "*", "*.", "a b", "a/b", "user@a.example", "a.example:0", "a:x", "*.*.example",
              "https://", "https://u@a.example", "[::1", "a..b"]
)  # fmt: skip
def test_entries_that_are_no_hosts_are_mistakes(entry: str) -> None:
    """A rule that would never match, or not as meant, is refused at once."""
    with pytest.raises(ConfigurationError, match="allow_hosts"):
        UpstreamPolicy((entry,))


@given(any_text)
@settings(deadline=None)
def test_any_text_is_an_upstream_or_not(url: str) -> None:
    """Asking never raises, and nothing is allowed that does not have the host in it."""
    if UpstreamPolicy(("example.com",)).allows(url):
        assert "://" in url
        assert "example.com" in url.lower()
    assert UpstreamPolicy(("any",)).allows(f"https://example.com/{len(url)}")


# -- addresses -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "address",
    [
        "169.254.169.254", "169.254.0.1", "169.254.170.2", "fe80::1", "fe80::1%eth0",
        "fd00:ec2::254", "fd20:ce::254", "fd00:c1::a9fe:a9fe", "100.100.100.200",
        "168.63.129.16", "192.0.0.192", "::ffff:169.254.169.254", "::ffff:a9fe:a9fe",
        "64:ff9b::a9fe:a9fe", "::169.254.169.254", "::ffff:0:169.254.169.254",
        "2002:a9fe:a9fe::", "2001:0:a9fe:a9fe::1", "[fe80::1]", "not an address", "", "localhost",
    ],
)  # fmt: skip
def test_metadata_addresses(address: str) -> None:
    """Link-local and cloud metadata, in every disguise; so is what cannot be judged."""
    assert is_metadata_address(address)
    assert not is_public_address(address) or address == "168.63.129.16"


@pytest.mark.parametrize(
    "address", ["127.0.0.1", "::1", "10.0.0.1", "192.168.1.1", "93.184.215.14", "2606:2800::1",
                "fd00::1", "64:ff9b::808:808", "::ffff:127.0.0.1", "::"]
)  # fmt: skip
def test_other_addresses_are_not_metadata(address: str) -> None:
    """Loopback, private and public addresses may be asked, as far as this rule goes."""
    assert not is_metadata_address(address)


@pytest.mark.parametrize(
    "address", ["93.184.215.14", "8.8.8.8", "2606:2800:220:1::1", "2a00:1450::1",
                "::ffff:8.8.8.8", "1.1.1.1"]
)  # fmt: skip
def test_public_addresses(address: str) -> None:
    """Ordinary global unicast, and the mapped form of it."""
    assert is_public_address(address)


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1", "0.0.0.0", "10.1.2.3", "172.16.0.1", "192.168.0.1", "100.64.0.1",
        "169.254.1.1", "192.0.0.8", "192.0.2.1", "192.88.99.1", "198.18.0.1", "203.0.113.1",
        "224.0.0.1", "240.0.0.1", "255.255.255.255", "::", "::1", "::127.0.0.1",
        "::ffff:10.0.0.1", "::ffff:0:8.8.8.8", "64:ff9b::a00:1", "64:ff9b::808:808",
        "64:ff9b:1::1", "2001::1", "2001:db8::1", "2002:7f00:1::", "2002:808:808::", "3fff::1",
        "5f00::1", "fc00::1", "fe80::1", "fec0::1", "ff02::1", "100::1", "localhost", "1.1.1", "",
    ],
)  # fmt: skip
def test_addresses_that_are_not_public(address: str) -> None:
    """Loopback, private, special, multicast and disguising addresses are not (rule by rule)."""
    assert not is_public_address(address)


@given(st.ip_addresses(v=4))
@settings(deadline=None)
def test_a_mapped_address_is_judged_as_what_it_maps(address: object) -> None:
    """``::ffff:a.b.c.d`` and a.b.c.d get the same judgements."""
    mapped = f"::ffff:{address}"
    assert is_public_address(mapped) is is_public_address(str(address))
    assert is_metadata_address(mapped) is is_metadata_address(str(address))


@given(any_text)
@settings(deadline=None)
def test_no_text_makes_the_address_rules_raise(text: str) -> None:
    """Any text gets a judgement, and none is both public and link-local."""
    assert isinstance(is_metadata_address(text), bool)
    assert not (is_public_address(text) and text.startswith(("169.254.", "fe80:")))
