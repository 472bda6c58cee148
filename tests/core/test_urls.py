"""Source URLs and the local URLs that stand for them."""

from urllib.parse import urljoin

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from cachestream.core.urls import (
    NOT_SOURCES,
    default_key,
    display,
    local_path,
    matches_token,
    normalize,
    normalize_host,
    origin_form,
    origin_of,
    resolve_location,
    same_origin,
    source_of,
    split_authority,
    split_token,
)
from cachestream.errors import ConfigurationError, InvalidURLError
from cachestream.testing import strategies as our

SCHEMES = frozenset({"http", "https", "s3", "memory"})

any_text = our.hostile_text(60)
sources = our.sources()
tokens = st.none() | st.text(st.characters(exclude_categories=("Cs",)), min_size=1, max_size=8)

# Text that is nearly a URL finds more than text that is none.
url_like = st.lists(
    st.sampled_from(
        ["http", "https", "s3", "javascript", ":", "/", "//", "://", "?", "#", "@", "[", "]", "::1",
         "example.com", "localhost", "%", "%2e", ".", "..", "\\", " ", "~", "é", "\udcff", "\x00",
         ":80", ":443", ":0", ":99999", "user:pw", "xn--", "\u2100", "\u3002", "\u200d"]
    ),
    max_size=9,
).map("".join)  # fmt: skip


# -- normalising -----------------------------------------------------------


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("https://example.com", "https://example.com/"),
        ("HTTPS://Example.COM:443/V.mp4#t=1", "https://example.com/V.mp4"),
        ("http://example.com:80/", "http://example.com/"),
        ("http://example.com:443/", "http://example.com:443/"),
        ("http://example.com:0080/", "http://example.com/"),
        ("http://example.com:/", "http://example.com/"),
        ("https://example.com?a=1", "https://example.com/?a=1"),
        ("https://example.com/a?", "https://example.com/a?"),
        ("https://example.com/a/../b/./c/.", "https://example.com/b/c/"),
        ("https://example.com/../../a", "https://example.com/a"),
        ("https://example.com/%2e%2E/a/.%2e/b", "https://example.com/b"),
        ("https://example.com/a/..", "https://example.com/"),
        ("https://example.com/a//b/", "https://example.com/a//b/"),
        ("https://example.com/.hidden/...", "https://example.com/.hidden/..."),
        ("https://example.com/a%2fb%2Fc%20d", "https://example.com/a%2fb%2Fc%20d"),
        ("https://example.com/100%", "https://example.com/100%"),
        ("https://example.com/a b\\c", "https://example.com/a%20b%5Cc"),
        ("https://example.com/ü?q=ü é", "https://example.com/%C3%BC?q=%C3%BC%20%C3%A9"),
        ("https://example.com/\udcff", "https://example.com/%FF"),
        ("https://example.com/?a[]=1&b={x}|y'&c=../..", None),
        ("https://example.com/?sig=a%2Bb%3D&Expires=1", None),
        ("https://bücher.example/", "https://xn--bcher-kva.example/"),
        ("http://[::1]:4612/", None),
        ("http://[0:0:0:0:0:0:0:1]/", "http://[::1]/"),
        ("http://[::FFFF:7f00:1]/", "http://[::ffff:127.0.0.1]/"),
        ("http://127.0.0.1:8000/a", None),
        ("https://example.com./", None),
        ("https://under_score-.example/", None),
        ("s3://Bucket/Key", "s3://bucket/Key"),
        ("git+ssh://host/x", None),
    ],
)
def test_normalize(source: str, expected: str | None) -> None:
    """One spelling for each source (None: it is that spelling already)."""
    assert normalize(source) == (source if expected is None else expected)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("", "no scheme"),
        ("example.com/v.mp4", "no scheme"),
        ("/v.mp4", "no scheme"),
        ("//example.com/v.mp4", "no scheme"),
        ("?a", "no scheme"),
        ("://example.com/", "no scheme"),
        ("1http://example.com/", "no valid scheme"),
        (" https://example.com/", "no valid scheme"),
        ("iris.beep://example.com/", "no valid scheme"),
        ("example.com:8080/v.mp4", "no valid scheme"),
        ("https:///v.mp4", "no host"),
        ("https:/example.com", "no host"),
        ("file:///etc/passwd", "no host"),
        ("data:text/plain,x", "no host"),
        ("https://user@example.com/", "user name"),
        ("https://user:pw@example.com/", "user name"),
        ("https://@example.com/", "user name"),
        ("https://example.com\\@evil.example/", "user name"),
        ("https://example.com:0/", "port"),
        ("https://example.com:65536/", "port"),
        ("https://example.com:1" + "0" * 5000 + "/", "port"),
        ("https://example.com:x/", "port"),
        ("https://example.com:٤٤٣/", "port"),
        ("https://a:1:2/", "port"),
        ("https://::1/", "port"),
        ("https://:80/", "host"),
        ("https://../x", "host"),
        ("https://./x", "host"),
        ("https://a..b/", "host"),
        ("https://.a/", "host"),
        ("https://" + "a" * 64 + "/", "host"),
        ("https://" + "a." * 127 + "aa/", "host"),
        ("https://exa mple/", "host"),
        ("https://ex%61mple.com/", "host"),
        ("https://evil.example\\.example.com/", "host"),
        ("https://~a.example/", "host"),
        ("https://[::1/", "host"),
        ("https://[::g]/", "host"),
        ("https://[fe80::1%25eth0]/", "zone"),
        ("https://[fe80::1%eth0]/", "zone"),
        ("https://[v1.x]/", "host"),
        ("https://[127.0.0.1]/", "host"),
        ("https://a\u2100b.example/", "host"),
        ("https://example.com/a\r\nX: y", "control"),
        ("https://example.com/\x00", "control"),
        ("https://example.com/\x85", "control"),
        ("https://example.com/\ud800", "Unicode"),
    ],
)
def test_what_is_no_source(source: str, message: str) -> None:
    """It is refused with what is wrong, and is a bad request."""
    with pytest.raises(InvalidURLError, match=message) as caught:
        normalize(source)
    assert caught.value.status == 400
    assert isinstance(caught.value, ConfigurationError)


def test_the_refusal_says_what_to_do() -> None:
    """The messages that people meet most carry a hint, and no password."""
    with pytest.raises(InvalidURLError) as caught:
        normalize("example.com/v.mp4")
    assert "https://example.com/file" in str(caught.value)
    with pytest.raises(InvalidURLError) as caught:
        normalize("https://user:hunter2@example.com/")
    assert "request fields" in str(caught.value)
    assert "hunter2" not in str(caught.value)


@given(sources)
@settings(deadline=None, max_examples=300)
def test_normalizing_twice_changes_nothing_more(source: str) -> None:
    """The normal form is one, it is plain ASCII, and it is the cache key."""
    once = normalize(source)
    assert normalize(once) == once == default_key(source)
    assert once.isascii()
    assert not set(once) & set(' "<>#')
    assert "\\" not in once.partition("?")[0]  # in a query browsers leave it
    assert once.isprintable()


@given(sources)
@settings(deadline=None)
def test_a_fragment_never_matters(source: str) -> None:
    """With or without a fragment it is the same source; the short way agrees with the long."""
    once = normalize(source)
    assert normalize(f"{source}#a?b/c#d") == normalize(f"{once}#") == once


@given(any_text | url_like)
@settings(deadline=None, max_examples=400)
def test_no_text_raises_anything_but_our_error(text: str) -> None:
    """Whatever comes in, each function returns or raises InvalidURLError."""
    base = "https://example.com/a/b?c"
    for call in (
        normalize,
        local_path,
        origin_of,
        default_key,
        origin_form,
        lambda url: source_of(url, schemes=SCHEMES),
        lambda url: source_of(f"/{url}", schemes=SCHEMES, token="t"),
        lambda url: source_of(f"/~t/{url}", schemes=SCHEMES, token="t"),
        lambda url: same_origin(base, url),
        lambda url: resolve_location(base, url),
        lambda url: resolve_location(url, base),
    ):
        try:
            call(text)
        except InvalidURLError as error:
            assert error.status in {400, 404}  # noqa: PT017
            str(error).encode()


@given(any_text)
@settings(deadline=None)
def test_a_host_or_authority_is_itself_or_a_value_error(text: str) -> None:
    """The parts that the access rules use give a stable spelling, or a ValueError."""
    try:
        host = normalize_host(text)
    except ValueError:
        return
    assert normalize_host(host) == host
    assert split_authority(f"{host}:81") == (host, 81)


# -- local URLs --------------------------------------------------------------


@pytest.mark.parametrize(
    ("source", "path"),
    [
        ("https://example.com/v.mp4", "/example.com/v.mp4"),
        ("https://example.com", "/example.com/"),
        ("https://example.com:443/v.mp4?a=/b", "/example.com/v.mp4?a=/b"),
        ("http://example.com:8080/v.mp4", "/http/example.com:8080/v.mp4"),
        ("https://intranet/v.mp4", "/https/intranet/v.mp4"),
        ("https://intranet:8443/v.mp4", "/intranet:8443/v.mp4"),
        ("https://[::1]/v.mp4", "/[::1]/v.mp4"),
        ("http://127.0.0.1:4612/a%20b", "/http/127.0.0.1:4612/a%20b"),
        ("s3://bucket/key", "/s3/bucket/key"),
        ("https://example.com/favicon.ico", "/example.com/favicon.ico"),
        ("https://favicon.ico/", "/favicon.ico/"),
        ("https://example.com/~user/x", "/example.com/~user/x"),
    ],
)
def test_local_paths(source: str, path: str) -> None:
    """The short form is for https with a host that no scheme could be."""
    assert local_path(source) == path
    assert source_of(path, schemes=SCHEMES) == normalize(source)
    assert local_path(source, token="T0k") == f"/~T0k{path}"
    assert source_of(f"/~T0k{path}", token="T0k", schemes=SCHEMES) == normalize(source)


@given(sources, tokens)
@settings(deadline=None, max_examples=300)
def test_a_local_path_leads_back_to_its_source(source: str, token: str | None) -> None:
    """`source_of` is the inverse of `local_path` for every source, with a token and without."""
    path = local_path(source, token=token)
    assert path.startswith("/")
    assert path.isascii()
    assert source_of(path, token=token, schemes=SCHEMES) == normalize(source)
    assert local_path(normalize(source), token=token) == path


@given(sources, tokens, st.sampled_from(["http://127.0.0.1:4612", "https://cache.example"]))
@settings(deadline=None)
def test_a_local_url_is_read_like_its_path(source: str, token: str | None, base: str) -> None:
    """Absolute-form targets (RFC 9112 §3.2.2) and a stray fragment make no difference."""
    path = local_path(source, token=token)
    target = f"{base}{path}#frag"
    assert source_of(target, token=token, schemes=SCHEMES) == normalize(source)


@given(sources, sources)
@settings(deadline=None)
def test_two_sources_never_share_a_local_path(one: str, other: str) -> None:
    """Different sources have different local paths."""
    assume(normalize(one) != normalize(other))
    assert local_path(one) != local_path(other)


@pytest.mark.parametrize(
    ("target", "source"),
    [
        ("/https/example.com/v.mp4", "https://example.com/v.mp4"),
        ("/HTTP/Example.com/v.mp4", "http://example.com/v.mp4"),
        ("/example.com", "https://example.com/"),
        ("/example.com?a=1", "https://example.com/?a=1"),
        ("/http/127.0.0.1:80", "http://127.0.0.1/"),
        ("/%5B::1%5D/v", "https://[::1]/v"),
        ("/http/%5b%3A%3A1%5d%3a81/v", "http://[::1]:81/v"),
        ("/example.com/a/../../b", "https://example.com/b"),
        ("/example.com/caf\udcc3\udca9", "https://example.com/caf%C3%A9"),
        ("/example.com//a", "https://example.com//a"),
        ("/example.com/?u=http://x/", "https://example.com/?u=http://x/"),
    ],
)
def test_targets_as_clients_send_them(target: str, source: str) -> None:
    """The long form, missing slashes, escaped brackets and raw bytes are understood."""
    assert source_of(target, schemes=SCHEMES) == source


@pytest.mark.parametrize(
    ("target", "status"),
    [
        ("/", 404),
        ("//example.com/v", 404),
        ("/?a=example.com", 404),
        *((path, 404) for path in sorted(NOT_SOURCES)),
        ("/favicon.ico?v=2", 404),
        ("/gopher/host/x", 404),
        ("/javascript/x", 404),
        ("/~token/example.com/v", 404),
        ("/intranet/v", 404),
        ("/http%3a/example.com", 400),
        ("/https://example.com/v", 400),
        ("/http", 400),
        ("/http/", 400),
        ("/http//x", 400),
        ("/user@example.com/v", 400),
        ("/https/user:pw@host/v", 400),
        ("/example.com:0/v", 400),
        ("/.well-known/x", 400),
        ("/a%2Fb.example/v", 400),
        ("*", 400),
        ("", 400),
        ("example.com:443", 400),
        ("example.com/v", 400),
    ],
)
def test_targets_that_name_no_source(target: str, status: int) -> None:
    """404 when nothing is named, 400 when what is named cannot be."""
    with pytest.raises(InvalidURLError) as caught:
        source_of(target, schemes=SCHEMES)
    assert caught.value.status == caught.value.status_hint == status


def test_https_must_be_served_for_the_short_form() -> None:
    """A short path is one of https, and of nothing else."""
    with pytest.raises(InvalidURLError) as caught:
        source_of("/example.com/v", schemes=frozenset({"s3"}))
    assert caught.value.status == 404


@pytest.mark.parametrize(
    "target",
    ["/example.com/v", "/~wrong/example.com/v", "/~/example.com/v", "/x/~right/example.com/v",
     "/~Right/example.com/v", "/~right.example.com/v", "/favicon.ico"],
)  # fmt: skip
def test_a_wrong_or_missing_token_finds_nothing(target: str) -> None:
    """It is a 404 that shows neither the token nor what was asked."""
    with pytest.raises(InvalidURLError) as caught:
        source_of(target, token="right", schemes=SCHEMES)
    assert caught.value.status == 404
    assert str(caught.value) == "there is nothing here"


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        ("/~t/example.com/v?a", ("t", "/example.com/v?a")),
        ("/~t", ("t", "/")),
        ("/~t?a", ("t", "/?a")),
        ("/~/x", ("", "/x")),
        ("/%7Et/x", ("t", "/x")),
        ("/~a%2Fb/x", ("a/b", "/x")),
        ("http://127.0.0.1:1/~t/x", ("t", "http://127.0.0.1:1/x")),
        ("/example.com/~t/x", (None, "/example.com/~t/x")),
        ("", (None, "")),
        ("*", (None, "*")),
    ],
)
def test_split_token(target: str, expected: tuple[str | None, str]) -> None:
    """Only the first segment is a token, and only after a tilde."""
    assert split_token(target) == expected


@given(any_text)
@settings(deadline=None)
def test_only_the_token_matches_the_token(text: str) -> None:
    """Comparison takes any text, and absence never matches."""
    token, _ = split_token(text)
    assert token is None or text.partition("://")[2] or text[0] == "/"
    assert matches_token(text, text)
    assert not matches_token(text, text + "x")
    assert not matches_token(None, text)


# -- origins and redirects -----------------------------------------------------


def test_origins() -> None:
    """Scheme, host and port; a default port is the same as none."""
    assert origin_of("HTTPS://Example.com:443/a?b") == "https://example.com"
    assert origin_of("http://[::1]:81/") == "http://[::1]:81"
    assert same_origin("http://a.example/x", "HTTP://A.example:80/y?z")
    assert not same_origin("http://a.example/", "https://a.example/")
    assert not same_origin("http://a.example/", "http://a.example:81/")
    assert not same_origin("http://a.example/", "http://a.example./")


@pytest.mark.parametrize(
    ("reference", "expected"),
    [
        ("g", "http://a/b/c/g"), ("./g", "http://a/b/c/g"), ("g/", "http://a/b/c/g/"),
        ("/g", "http://a/g"), ("//g", "http://g/"), ("?y", "http://a/b/c/d;p?y"),
        ("g?y", "http://a/b/c/g?y"), ("#s", "http://a/b/c/d;p?q"), ("g#s", "http://a/b/c/g"),
        (";x", "http://a/b/c/;x"), ("g;x", "http://a/b/c/g;x"), (".", "http://a/b/c/"),
        ("./", "http://a/b/c/"), ("..", "http://a/b/"), ("../g", "http://a/b/g"),
        ("../..", "http://a/"), ("../../../g", "http://a/g"), ("/../g", "http://a/g"),
        ("g.", "http://a/b/c/g."), ("..g", "http://a/b/c/..g"), ("./../g", "http://a/b/g"),
        ("g;x=1/../y", "http://a/b/c/y"), ("g?y/../x", "http://a/b/c/g?y/../x"),
        ("https://z/x", "https://z/x"), ("s3://bucket/key", "s3://bucket/key"),
        ("?", "http://a/b/c/d;p?"), (" g\t", "http://a/b/c/g"), ("ü g", "http://a/b/c/%C3%BC%20g"),
    ],
)  # fmt: skip
def test_redirects(reference: str, expected: str) -> None:
    """The examples of RFC 3986 §5.4, and what servers really send."""
    assert resolve_location("http://a/b/c/d;p?q", reference) == expected


# No empty segments: the standard library drops them, the RFC does not.
segments = st.sampled_from(["a", "b;c", "..", ".", "d.e"])


@given(st.lists(segments, max_size=5), st.booleans(), st.sampled_from(["", "?q=1"]))
@settings(deadline=None)
def test_relative_redirects_agree_with_the_standard_library(
    parts: list[str], rooted: bool, query: str
) -> None:
    """Paths resolve as `urljoin` resolves them."""
    path = "/".join(parts)
    reference = ("/" if rooted else "") + path.lstrip("/") + query
    assume(reference)
    base = "https://example.com/x/y/z?w"
    assert resolve_location(base, reference) == normalize(urljoin(base, reference))


@pytest.mark.parametrize(
    "location",
    ["", "  ", "https://user@example.com/", "mailto:a@b", "https:", "http://", "//", "javascript:1",
     "/a\r\nSet-Cookie: b", "//exa mple/", "https://example.com:0/"],
)  # fmt: skip
def test_unusable_redirects(location: str) -> None:
    """A redirect to what is no source is refused."""
    with pytest.raises(InvalidURLError):
        resolve_location("https://example.com/", location)


def test_a_backslash_does_not_leave_the_origin() -> None:
    """RFC 3986 knows no backslash; a redirect cannot smuggle a host past the checks with one."""
    for location in ("\\\\evil.example/", "/\\evil.example/", "\\/evil.example/"):
        assert same_origin(
            resolve_location("https://example.com/", location), "https://example.com"
        )


# -- for people ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("https://example.com/v.mp4", "https://example.com/v.mp4"),
        ("https://example.com/v?token=abc&x=1", "https://example.com/v?token=…&x=…"),
        ("https://example.com/v?abc", "https://example.com/v?…"),
        ("https://example.com/v?a=&&b=", "https://example.com/v?a=&&b="),
        ("https://example.com/v#secret", "https://example.com/v"),
        ("https://user:pw@example.com/v", "https://example.com/v"),
        ("https://example.com/@scope/pkg", "https://example.com/@scope/pkg"),
        ("https://example.com/~user/v", "https://example.com/~user/v"),
        ("/~token/example.com/v?a=b", "/~…/example.com/v?a=…"),
        ("/~token", "/~…"),
        ("/~token/user:pw@example.com/v", "/~…/example.com/v"),
        ("/~token/example.com/@scope/pkg", "/~…/example.com/@scope/pkg"),
        ("http://127.0.0.1:4612/~token/example.com/v", "http://127.0.0.1:4612/~…/example.com/v"),
        ("/http/user:pw@host/v", "/http/host/v"),
        ("user:pw@example.com/v", "example.com/v"),
        ("/a\r\nb\x1b", "/a\\x0d\\x0ab\\x1b"),
        ("", ""),
    ],
)
def test_display(url: str, shown: str) -> None:
    """Query values, user information, tokens and control characters do not show."""
    assert display(url) == shown


SECRET = "hunter2"


@pytest.mark.parametrize(
    "url",
    [
        f"https://u:{SECRET}@example.com/v",
        f"https://{SECRET}@example.com/v",
        f"https:///u:{SECRET}@example.com/v",
        f"https:/u:{SECRET}@example.com/v",
        f"https:u:{SECRET}@example.com/v",
        f"//u:{SECRET}@example.com/v",
        f"u:{SECRET}@example.com",
        f"https://u:a/{SECRET}@example.com/v",
        f"https://u:{SECRET}/b@example.com/v",
        f"https://u:a@{SECRET}@example.com/v",
        f"https://u:a?{SECRET}@example.com/v",
        f"https://u:a#{SECRET}@example.com/v",
        f"https://u:{SECRET}\\@example.com/v",
        f"https://example.com/?a={SECRET}",
        f"https://example.com/?{SECRET}",
        f"https://example.com/?a=b={SECRET}&c",
        f"https://example.com/#{SECRET}",
        f"/~{SECRET}/example.com/v",
        f"/~{SECRET}",
        f"http://localhost:1/~{SECRET}/example.com/v",
        f"http://[::1]:1/~{SECRET}?x",
        f"/https/u:{SECRET}@example.com/v",
        f"/~t/https/u:{SECRET}@example.com/v",
        f"/~t/https/u:a@{SECRET}@example.com/v",
        f"/~t/u:{SECRET}@example.com/v",
        f"/~t/{SECRET}@example.com/v",
        f"/u:{SECRET}@example.com/v",
        f"http://127.0.0.1:1/u:{SECRET}@example.com/v",
        f"http://127.0.0.1:1/~t/u:{SECRET}@example.com/v",
    ],
)
def test_secrets_never_show(url: str) -> None:
    """Not even where a URL is so wrong that it cannot be parsed."""
    assert SECRET not in display(url)


@given(any_text | url_like)
@settings(deadline=None)
def test_anything_can_be_shown(text: str) -> None:
    """Any text gives one line that can be logged."""
    shown = display(text)
    shown.encode()
    assert not any(ord(character) < 32 or 127 <= ord(character) < 160 for character in shown)
