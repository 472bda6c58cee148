"""What the README shows works."""

import re
import tomllib
from importlib.metadata import requires
from pathlib import Path

import pytest
from cachestream.testing import Origin

from cachestream_signed import Options, SignedTransport, _options, parse_rule
from support import exchange, make_request

TEXT = (Path(__file__).parents[1] / "README.md").read_text()


def blocks(language):
    return re.findall(rf"```{language}\n(.*?)```", TEXT, re.DOTALL)


def run(code):
    namespace = {"__name__": "example"}
    exec(compile(code, "README.md", "exec"), namespace)
    return namespace


@pytest.mark.asyncio
async def test_the_program_gives_a_local_url(capsys, monkeypatch, tmp_path):
    """The example runs, and prints what a player opens."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    await run(blocks("python")[0])["main"]()
    assert "/films.s3.eu-west-1.amazonaws.com/film.mp4" in capsys.readouterr().out


def test_every_rule_of_the_file_is_one(monkeypatch, tmp_path):
    """Each line is understood, and is for the host that it names."""
    (tmp_path / "swift").write_text("key")
    for name in ("PLAYER_SECRET", "CDN_KEY", "EDGE_KEY"):
        monkeypatch.setenv(name, "00ff")
    parsed = tomllib.loads(blocks("toml")[0].replace("/run/secrets", str(tmp_path)))
    assert parsed["cachestream"] == {"transport": "signed"}
    options = Options(**parsed["transport"]["signed"])
    transport = SignedTransport([parse_rule(*item) for item in options.rules.items()])
    kinds = {
        url: type(transport.rule_for(make_request(f"https://{url}/"))).__name__
        for url in (
            "films.s3.eu-west-1.amazonaws.com",
            "api.example.com",
            "a.cluster.example.com:8443",
            "cdn2.example.com",
            "swift.example.com",
            "edge.example.com",
            "other.example.com",
        )
    }
    expected = ["SigV4", "Bearer", "Bearer", "SecureLink", "TempUrl", "HmacQuery", "Netrc"]
    assert list(kinds.values()) == expected


def test_every_kind_is_in_the_table():
    """The table of words has every kind, and the kinds have no other name."""
    table = TEXT[TEXT.index("| kind | words |") :].partition("\n\n")[0]
    assert sorted(re.findall(r"^\| `(\w+)`", table, re.MULTILINE)) == sorted(_options._KINDS)


@pytest.mark.asyncio
async def test_ones_own_signature_is_sent(sign):
    """The ten lines sign requests."""
    kind = run(blocks("python")[1])["ApiKey"]
    async with Origin() as origin:
        origin.add("/a", b"x")
        transport = sign(kind(origin.authority, key="mine"))
        assert await exchange(transport, origin.url("/a")) == (200, b"x")
        assert origin.requests[0].fields.get("X-Api-Key") == "mine"


def test_the_extras_are_those_that_are_installed():
    """What the README tells to install is there."""
    named = re.search(r"pip install 'cachestream-signed\[(.*?)\]'", TEXT)[1].split(",")
    declared = " ".join(requires("cachestream-signed"))
    assert all(re.search(rf"extra == ['\"]{name}['\"]", declared) for name in named)
