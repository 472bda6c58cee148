"""Servers that check signatures by their own means."""

import os
import random

import pytest
import pytest_asyncio
from cachestream.testing.origin import pattern

from cachestream_signed import SignedTransport
from support import MIB, Nginx, OAuthServer


@pytest.fixture(autouse=True)
def environment(monkeypatch, tmp_path):
    """Keep what the machine knows of AWS, netrc and proxies out of the tests."""
    for name in [each for each in os.environ if each.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.delenv("NETRC", raising=False)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "no-aws-config"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "no-aws-credentials"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("HOME", str(tmp_path))
    # Authlib speaks http only if it is told to.
    monkeypatch.setenv("AUTHLIB_INSECURE_TRANSPORT", "1")


@pytest_asyncio.fixture
async def sign():
    """Return a function that makes a transport of rules; it is closed after the test."""
    made = []

    def make(*rules, inner=None):
        made.append(SignedTransport(rules, inner))
        return made[-1]

    yield make
    for transport in made:
        await transport.aclose()


@pytest.fixture(scope="session")
def film():
    """Return the content that is played."""
    return random.Random(7).randbytes(3 * MIB + 17)


@pytest.fixture
def nginx(tmp_path):
    """Return a function that starts an nginx with locations of the test's."""
    running = []

    def start(locations):
        server = Nginx(tmp_path / "nginx", locations)
        running.append(server.__enter__())
        return server

    yield start
    for server in running:
        server.__exit__()


@pytest.fixture
def oauth(film):
    """Return a token endpoint and a resource."""
    with OAuthServer(film) as server:
        yield server


@pytest.fixture(scope="session")
def swift():
    """Return an object store with an S3 interface, shared by the tests of a process."""
    from cachestream.testing.swift import SwiftServer

    with SwiftServer() as server:
        yield server


@pytest.fixture
def long_film():
    """Return content that takes several exchanges."""
    return pattern("film", 24 * MIB)
