"""The object store for tests is a real one, and leaves nothing behind."""

import contextlib
import hashlib
import hmac
import os
import select
import subprocess
import sys
import time
import urllib.error
import urllib.request

import obstore
import pytest
from obstore.exceptions import AlreadyExistsError
from obstore.store import S3Store

from cachestream.errors import CacheStreamError, ConfigurationError
from cachestream.testing import SwiftServer
from cachestream.testing import swift as module

pytestmark = pytest.mark.slow

# A child that opens a server, tells where it is, and waits for its death.
CHILD = """
import sys
from cachestream.testing import SwiftServer
with SwiftServer(directory=sys.argv[1]) as server:
    print(server.pid, flush=True)
    sys.stdin.read()
"""


@pytest.fixture(scope="module")
def server():
    with SwiftServer(page_size=10) as server:
        yield server


@pytest.fixture
def bucket(server):
    name = server.create_bucket()
    return S3Store(
        name,
        endpoint=server.endpoint_url,
        region=server.region,
        access_key_id=server.access_key_id,
        secret_access_key=server.secret_access_key,
        client_options={"allow_http": True},
    )


@contextlib.contextmanager
def ending(pid):
    """Wait, on leaving, for the end of a process that is no child of ours."""
    descriptor = os.pidfd_open(pid)
    try:
        yield
        assert select.select([descriptor], [], [], 60)[0], "it goes on running"
    finally:
        os.close(descriptor)


def test_what_is_put_can_be_read_and_listed(bucket):
    """Objects go in and out through the S3 protocol, whole and in part."""
    data = os.urandom(200_000)
    obstore.put(bucket, "a/one", data)
    assert bytes(obstore.get(bucket, "a/one").bytes()) == data
    assert bytes(obstore.get_range(bucket, "a/one", start=1000, end=5000)) == data[1000:5000]
    assert [each["path"] for page in obstore.list(bucket) for each in page] == ["a/one"]


def test_an_object_is_created_once(bucket):
    """A conditional creation of an object that is there is refused by the server."""
    obstore.put(bucket, "once", b"first", mode="create")
    with pytest.raises(AlreadyExistsError):
        obstore.put(bucket, "once", b"second", mode="create")
    assert bytes(obstore.get(bucket, "once").bytes()) == b"first"


def test_a_long_listing_comes_in_pages(server, bucket):
    """No page has more names than the server was told, and none is lost between two."""
    names = [f"n/{number:02}" for number in range(25)]
    for name in names:
        obstore.put(bucket, name, b"")
    assert [each["path"] for page in obstore.list(bucket) for each in page] == names


def test_both_interfaces_show_the_same_objects(server, bucket):
    """What S3 stored is there in Swift's own interface."""
    obstore.put(bucket, "shared", b"bytes")
    status, fields, content = server.request("GET", f"/{bucket.config['bucket']}/shared")
    assert (status, content) == (200, b"bytes")
    assert fields["content-length"] == "5"


def test_a_temporary_url_opens_an_object_until_it_expires(server, bucket):
    """A query signed with the key is enough to read; a wrong or late one is refused."""
    obstore.put(bucket, "film", b"frames")
    path = f"{server.storage_url}/{bucket.config['bucket']}/film".removeprefix(server.endpoint_url)

    def url(expires, key=server.tempurl_key):
        text = f"GET\n{expires}\n{path}".encode()
        signature = hmac.new(key.encode(), text, hashlib.sha256).hexdigest()
        return f"{server.endpoint_url}{path}?temp_url_sig={signature}&temp_url_expires={expires}"

    later = int(time.time()) + 3600
    with urllib.request.urlopen(url(later), timeout=60) as answer:
        assert answer.read() == b"frames"
    for refused in (url(later, key="guessed"), url(int(time.time()) - 10)):
        with pytest.raises(urllib.error.HTTPError, match="401"):
            urllib.request.urlopen(refused, timeout=60)


def test_wrong_credentials_are_refused(server, bucket):
    """The server checks signatures: it is no fake that takes everybody in."""
    wrong = S3Store(
        **bucket.config | {"secret_access_key": "guessed"}, client_options={"allow_http": True}
    )
    with pytest.raises(Exception, match=r"403|SignatureDoesNotMatch"):
        obstore.put(wrong, "x", b"")


def test_an_error_of_the_server_is_shown(server):
    """A request that fails raises, with what the server said."""
    with pytest.raises(CacheStreamError, match="404"):
        server.request("GET", "/no-such-container/object")


def test_nothing_is_left_after_the_context(tmp_path):
    """Process and directory go with the context, and closing again does no harm."""
    server = SwiftServer(directory=tmp_path).__enter__()
    assert [each.name[:18] for each in tmp_path.iterdir()] == ["cachestream-swift-"]
    with ending(server.pid):
        server.close()
        server.close()
        assert list(tmp_path.iterdir()) == []


def test_nothing_is_left_when_the_opener_is_killed(tmp_path):
    """A process that dies without a word takes its server and the directory with it."""
    opener = subprocess.Popen(
        [sys.executable, "-c", CHILD, str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    with opener, ending(int(opener.stdout.readline())):
        opener.kill()
    assert list(tmp_path.iterdir()) == []


def test_a_server_that_cannot_start_says_why(tmp_path, monkeypatch):
    """What the process complained about is in the error, and nothing is left."""
    broken = tmp_path / "broken.py"
    broken.write_text("import sys\nsys.exit('no disk today')\n")
    monkeypatch.setattr(module.process, "__file__", str(broken))
    place = tmp_path / "place"
    place.mkdir()
    with pytest.raises(CacheStreamError, match="no disk today"), SwiftServer(directory=place):
        pass
    assert list(place.iterdir()) == []


def test_a_start_has_a_limit(tmp_path, monkeypatch):
    """A process that never says that it listens is given up."""
    silent = tmp_path / "silent.py"
    silent.write_text("import sys\nsys.stdin.read()\n")
    monkeypatch.setattr(module.process, "__file__", str(silent))
    with pytest.raises(CacheStreamError, match=r"did not start within 0\.5 s"):
        SwiftServer(directory=tmp_path, timeout=0.5).__enter__()


def test_a_missing_package_is_named(monkeypatch):
    """Without Swift, the error says how to install it."""
    monkeypatch.setattr(module.importlib.util, "find_spec", lambda _: None)
    with pytest.raises(ConfigurationError, match=r"pip install 'cachestream\[swift\]'"):
        SwiftServer().__enter__()


def test_a_directory_without_attributes_is_refused(tmp_path, monkeypatch):
    """A file system that cannot keep Swift's metadata is named before anything starts."""

    def refuse(*_):
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr(module.os, "setxattr", refuse)
    with pytest.raises(ConfigurationError, match="extended attributes"):
        SwiftServer(directory=tmp_path).__enter__()
    assert list(tmp_path.iterdir()) == []
