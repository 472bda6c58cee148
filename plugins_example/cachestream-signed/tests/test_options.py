"""The transport from a configuration: by name, with a line of text a rule."""

import logging
import shlex

import pytest
from cachestream import CacheManager, Plugin, Settings
from cachestream.errors import ConfigurationError
from cachestream.registry import Registry
from cachestream.testing import Origin
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cachestream_signed import (
    Bearer,
    HmacQuery,
    Netrc,
    Options,
    SecureLink,
    SignedTransport,
    SigV4,
    TempUrl,
    _options,
    parse_rule,
)
from support import CLIENT_ID, CLIENT_SECRET, exchange, make_request, netloc, read_url


@pytest.fixture
def secrets(monkeypatch, tmp_path):
    """Put secrets where rules say that they are."""
    monkeypatch.setenv("CANARY", "canary-env")
    monkeypatch.setenv("HEX", "00ff")
    (tmp_path / "secret").write_text("canary-file\n")
    (tmp_path / "empty").write_text("\n")
    return tmp_path


def test_the_transport_is_found_by_its_name():
    """Its distribution lists it, and the registry loads it."""
    info = [each for each in Registry("signed").listing(load=True) if each.name == "signed"]
    assert [(each.status, each.distribution) for each in info] == [("ok", "cachestream-signed")]
    assert Registry("signed").get("transport", "signed") is SignedTransport


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("netrc", Netrc),
        ("netrc file=/etc/netrc follow_redirects=yes", Netrc),
        ("bearer token_env=CANARY", Bearer),
        ("bearer token_file=/run/token allow_http=no", Bearer),
        ("oauth2 token_url=https://a/t client_id=b client_secret_env=CANARY scope='a b'", Bearer),
        ("oauth2 token_url=https://a/t client_id=b refresh_token_file=/x auth_method=post", Bearer),
        ("sigv4 region=eu-west-1 service=s3 profile=films", SigV4),
        ("sigv4 access_key_env=CANARY secret_key_env=CANARY query=on lifetime=60", SigV4),
        ("tempurl key_env=CANARY lifetime=60 digest=sha512", TempUrl),
        ("secure_link key_env=CANARY message='{expires}{path}{key}'", SecureLink),
        ("secure_link key_env=CANARY parameters='st={signature}&e={expires}'", SecureLink),
        ("hmac key_env=CANARY parameters='sig={signature}' message='{path}'", HmacQuery),
        (
            "hmac key_env=HEX key_encoding=hex encoding=base64 parameters='t=%7e{signature}'",
            HmacQuery,
        ),
    ],
)
def test_every_kind_of_rule_can_be_written(secrets, text, kind):
    """A rule is a kind and words; secrets are named, and show nowhere."""
    rule = parse_rule("a.example, b.example:8443", text)
    assert type(rule) is kind
    assert repr(rule) == f"{kind.__name__}('a.example', 'b.example:8443')"
    assert rule.covers(make_request("https://b.example:8443/"))
    assert rule.follow_redirects == ("follow_redirects=yes" in text)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "no kind"),
        ("sigv5 region=x", "Did you mean sigv4?"),
        ("sigv4 regoin=x", "Did you mean region?"),
        ("sigv4 region", "NAME=VALUE"),
        ("sigv4 region=a region=b", "twice"),
        ("sigv4 'region=a", "quote"),
        ("sigv4 lifetime=soon", "whole number"),
        ("sigv4 query=perhaps", "yes or no"),
        ("sigv4 access_key_env=CANARY", "belong together"),
        ("bearer", "needs token_env or token_file"),
        ("bearer token=canary-inline", "name where it is, by token_env or token_file"),
        ("bearer token_env=NOBODY", "the environment has no NOBODY"),
        ("tempurl key_file=/nonexistent", "/nonexistent cannot be read"),
        ("tempurl key_file={tmp}/empty", "is empty"),
        ("tempurl key_env=CANARY key_file={tmp}/secret", "one is enough"),
        ("oauth2 client_id=a", "needs token_url"),
        ("oauth2 token_url=https://a/", "needs client_id"),
        ("hmac key_env=CANARY", "needs parameters"),
        ("hmac key_env=CANARY key_encoding=hex parameters='a={signature}'", "the key is not hex"),
        ("hmac key_env=CANARY key_encoding=rot13 parameters='a={signature}'", "rot13"),
        ("secure_link key_env=CANARY message=x", "anybody could sign"),
    ],
)
def test_a_rule_that_is_wrong_is_a_clear_error(secrets, text, words):
    """It says which rule, what is wrong and what to write, and no secret."""
    with pytest.raises(ConfigurationError) as caught:
        parse_rule("a.example", text.replace("{tmp}", str(secrets)))
    assert words in str(caught.value)
    assert "canary-" not in str(caught.value)


ORIGINS = st.sampled_from(["a.example", "*", "http://b", "127.0.0.1:*, [::1]"]) | st.text()
NAMES = "region service profile query lifetime file token_file token_env token_url client_id scope "
NAMES += "auth_method key_env key_file key_encoding digest encoding message parameters allow_http"
ODD = ["yes", "60", "9" * 5000, "CANARY", "sha256", "shake_128", "hex", "{path}", "a={signature}"]
ODD += [
    "https://a/",
    "https://[",
    "http://localhost:99999/",
    "~nobody-at-all/x",
    "/\0",
    "post",
    "{",
]
VALUES = st.text() | st.sampled_from(ODD)
WORDS = st.lists(st.tuples(st.sampled_from(NAMES.split()), VALUES), max_size=4)


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow], max_examples=300)
@given(ORIGINS, st.sampled_from(sorted(_options._KINDS)), WORDS, st.text())
def test_no_text_is_more_than_a_wrong_rule(origins, kind, words, rest):
    """Whatever is written into a configuration, it makes a rule or a clear error."""
    text = " ".join([kind, *(f"{name}={shlex.quote(value)}" for name, value in words)])
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CANARY", "6361")
        for candidate in (text, f"{text} {rest}", rest):
            try:
                rule = parse_rule(origins, candidate)
            except ConfigurationError:
                continue
            assert rule.origins


def test_a_rule_for_nothing_is_a_clear_error():
    """Neither an origin that cannot be, nor none."""
    for origins in ("", "a b/c", "*.*"):
        with pytest.raises(ConfigurationError):
            parse_rule(origins, "netrc")
    with pytest.raises(ConfigurationError) as caught:
        SignedTransport.from_settings(Settings(), Options())
    assert "rules" in str(caught.value)


@pytest.mark.asyncio
async def test_settings_reach_the_transport_inside(secrets):
    """How origins are asked is said by the manager's settings."""
    async with Origin() as origin:
        origin.add("/a", b"x")
        options = Options(rules={origin.authority: "bearer token_env=CANARY"})
        transport = SignedTransport.from_settings(Settings(user_agent="me/1"), options)
        assert await exchange(transport, origin.url("/a")) == (200, b"x")
        await transport.aclose()
        sent = origin.requests[0].fields
        assert sent.get("User-Agent") == "me/1"
        assert sent.get("Authorization") == "Bearer canary-env"


@pytest.mark.asyncio
async def test_a_program_names_it_with_its_options(oauth, film, tmp_path, monkeypatch):
    """As a plug-in with its rules; secrets come from where these say."""
    monkeypatch.setenv("SECRET", CLIENT_SECRET)
    rule = f"oauth2 token_url={oauth.token_url} client_id={CLIENT_ID} client_secret_env=SECRET"
    plugin = Plugin("signed", rules={oauth.authority: rule})
    async with CacheManager(
        transport=plugin, registry=Registry("signed"), cache_dir=tmp_path / "cache", min_free=0
    ) as cache:
        assert await read_url(cache.get_cache_url(oauth.film_url)) == (200, film)
    assert CLIENT_SECRET not in repr(plugin)


@pytest.mark.asyncio
async def test_a_file_names_it_with_its_options(swift, film, tmp_path, monkeypatch, caplog):
    """The same in cachestream.toml: the first rule that matches counts, in the file's order."""
    caplog.set_level(logging.DEBUG)
    monkeypatch.setenv("CACHESTREAM_PLUGINS", "signed")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "aws"))
    (tmp_path / "aws").write_text(
        f"[films]\naws_access_key_id={swift.access_key_id}\n"
        f"aws_secret_access_key={swift.secret_access_key}\n"
    )
    bucket = swift.create_bucket()
    swift.request("PUT", f"/{bucket}/film.bin", content=film)
    path = tmp_path / "cachestream.toml"
    path.write_text(f"""
[cachestream]
transport = "signed"
cache_dir = "{tmp_path / "cache"}"
min_free = 0

[transport.signed.rules]
"{netloc(swift.endpoint_url)}" = "sigv4 region={swift.region} profile=films"
"127.0.0.1:*" = "bearer token_file=/nonexistent"
""")
    async with CacheManager.from_config(path) as cache:
        url = cache.get_cache_url(f"{swift.endpoint_url}/{bucket}/film.bin")
        assert await read_url(url, 5, 500) == (206, film[5:500])
        assert await read_url(url) == (200, film)
    assert swift.secret_access_key not in caplog.text
