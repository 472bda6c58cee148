"""Passwords from a netrc file, checked by a real nginx."""

import base64
import hashlib
import os

import pytest
from cachestream.errors import ConfigurationError

from cachestream_signed import CredentialsError, Netrc
from support import exchange, make_request

PASSWORD = "canary pass:wörd"
LOCATION = """
location / { auth_basic "films"; auth_basic_user_file htpasswd; }
"""


def htpasswd(login, password):
    """Return a line for nginx, which reads salted sums wherever it runs."""
    salt = os.urandom(8)
    summed = hashlib.sha1(password.encode() + salt).digest() + salt
    return f"{login}:{{SSHA}}{base64.b64encode(summed).decode()}\n"


@pytest.fixture
def server(nginx):
    server = nginx(LOCATION)
    server.add("film", b"0123456789")
    (server.root / "htpasswd").write_text(htpasswd("me", PASSWORD))
    return server


@pytest.fixture
def write(tmp_path):
    """Return a function that writes a netrc file."""
    path = tmp_path / "netrc"

    def write(text, mode=0o600):
        path.write_text(text)
        path.chmod(mode)
        return path

    return write


def entry(host, password=PASSWORD):
    return f'machine {host} login me password "{password}"\n'


@pytest.mark.asyncio
async def test_nginx_accepts_what_the_file_has(sign, server, write):
    """The right password opens the file, by range too."""
    transport = sign(Netrc(server.authority, file=write(entry("127.0.0.1"))))
    assert await exchange(transport, server.url("/film")) == (200, b"0123456789")
    got = await exchange(transport, server.url("/film"), ("Range", "bytes=2-4"))
    assert got == (206, b"234")


@pytest.mark.asyncio
@pytest.mark.parametrize(
    "text",
    [
        entry("127.0.0.1", "wrong"),
        entry("localhost"),
        entry("a.127.0.0.1"),
        f'default login me password "{PASSWORD}"\n',
        "",
    ],
)
async def test_nginx_refuses_anything_else(sign, server, write, text):
    """A wrong password, another host's, and a default entry open nothing."""
    transport = sign(Netrc(server.authority, file=write(text)))
    assert (await exchange(transport, server.url("/film")))[0] == 401


@pytest.mark.asyncio
async def test_a_file_that_was_changed_is_read_anew(sign, server, write):
    """A new password counts from the next request on."""
    transport = sign(Netrc(server.authority, file=write(entry("127.0.0.1", "old"))))
    assert (await exchange(transport, server.url("/film")))[0] == 401
    write(entry("127.0.0.1"))
    assert (await exchange(transport, server.url("/film")))[0] == 200


@pytest.mark.asyncio
async def test_the_users_own_file_is_the_default(sign, server, write, tmp_path, monkeypatch):
    """That is ~/.netrc, or what NETRC names."""
    with pytest.raises(CredentialsError) as caught:
        await exchange(sign(Netrc(server.authority)), server.url("/film"))
    assert str(tmp_path / ".netrc") in str(caught.value)
    transport = sign(Netrc())
    assert (await exchange(transport, server.url("/film")))[0] == 401
    monkeypatch.setenv("NETRC", str(tmp_path / "nobody"))
    with pytest.raises(CredentialsError) as caught:
        await exchange(transport, server.url("/film"))
    assert str(tmp_path / "nobody") in str(caught.value)
    path = write(entry("127.0.0.1"))
    monkeypatch.setenv("NETRC", str(path))
    assert (await exchange(transport, server.url("/film")))[0] == 200
    monkeypatch.delenv("NETRC")
    path.rename(tmp_path / ".netrc")
    assert (await exchange(transport, server.url("/film")))[0] == 200


@pytest.mark.asyncio
@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o644])
async def test_a_file_that_others_can_read_is_refused(sign, server, write, mode):
    """A password that is not secret is not sent; the error says what to do."""
    path = write(entry("127.0.0.1"), mode)
    transport = sign(Netrc(server.authority, file=path))
    with pytest.raises(CredentialsError) as caught:
        await exchange(transport, server.url("/film"))
    assert f"chmod 600 {path}" in str(caught.value)
    path.chmod(0o600)
    assert (await exchange(transport, server.url("/film")))[0] == 200
    assert len(await server.log(lambda lines: lines)) == 1


@pytest.mark.asyncio
async def test_a_file_of_somebody_else_is_refused(sign, server, write, monkeypatch):
    """Who could write it could read what we send."""
    path = write(entry("127.0.0.1"))
    monkeypatch.setattr(os, "getuid", lambda: path.stat().st_uid + 1)
    if path.stat().st_uid == 0:  # root's files are trusted; make it another's
        os.chown(path, 12345, -1)
    with pytest.raises(CredentialsError) as caught:
        await exchange(sign(Netrc(server.authority, file=path)), server.url("/film"))
    assert "belongs to somebody else" in str(caught.value)


@pytest.mark.asyncio
@pytest.mark.parametrize(
    "text", ["machine 127.0.0.1 login me password\n canary-x y", "canary", entry("a") + "canary b"]
)
async def test_a_malformed_file_is_a_clear_error(sign, server, write, text):
    """The error names file and line, and does not repeat what is there."""
    transport = sign(Netrc(server.authority, file=write(text)))
    with pytest.raises(CredentialsError) as caught:
        await exchange(transport, server.url("/film"))
    assert "malformed in line" in str(caught.value)
    assert "canary" not in str(caught.value)
    assert caught.value.__suppress_context__


@pytest.mark.asyncio
async def test_passwords_go_only_where_they_may(write):
    """Only to https and this machine, only to a host of the file, and never over a field."""
    rule = Netrc("*", file=write(entry("a.example") + entry("localhost")))
    sent = {}
    for url in (
        "https://a.example/",
        "https://a.example:8443/",
        "https://b.example/",
        "http://a.example/",
        "http://localhost:1234/",
    ):
        request = make_request(url)
        covered = rule.covers(request)
        signed = await rule.sign(request) if covered else request
        sent[url] = signed.fields.get("Authorization") is not None
    assert list(sent.values()) == [True, True, False, False, True]
    own = make_request("https://a.example/", ("Authorization", "Own"))
    assert await rule.sign(own) == own


@pytest.mark.asyncio
async def test_a_login_with_a_colon_is_refused(write):
    """The Basic scheme could not tell where it ends."""
    rule = Netrc("*", file=write('machine a.example login "me:x" password canary\n'))
    with pytest.raises(CredentialsError) as caught:
        await rule.sign(make_request("https://a.example/"))
    assert "canary" not in str(caught.value)


def test_plain_http_has_to_be_allowed():
    """A password is sent in plain text only if somebody said so."""
    with pytest.raises(ConfigurationError) as caught:
        Netrc("http://nas.local")
    assert "allow_http" in str(caught.value)
    assert Netrc("http://nas.local", allow_http=True).covers(make_request("http://nas.local/"))
