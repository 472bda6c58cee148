"""Filesystems are answered as HTTP origins are."""

import asyncio
import itertools
import os
import threading
import warnings
from datetime import UTC, datetime
from typing import ClassVar
from urllib.parse import urlsplit

import asyncssh
import fsspec
import pytest
import pytest_asyncio
from fsspec.implementations.memory import MemoryFileSystem
from fsspec.spec import AbstractFileSystem

from cachestream import CacheManager, HttpTransport
from cachestream.core.validators import EntityTag, format_http_date
from cachestream.errors import (
    ClosedError,
    ConfigurationError,
    ConnectError,
    InvalidURLError,
    TransportError,
    UpstreamTimeoutError,
)
from cachestream.testing._raw_client import RawClient
from cachestream.testing.origin import pattern
from cachestream.testing.transports import Collector, ask
from cachestream.transports import FilesystemTransport, SchemeTransport
from cachestream.transports._filesystem_facts import facts_of

with warnings.catch_warnings():
    # It is built on asyncore, which Python 3.11 calls deprecated.
    warnings.simplefilter("ignore", DeprecationWarning)
    from pyftpdlib.authorizers import DummyAuthorizer
    from pyftpdlib.handlers import FTPHandler
    from pyftpdlib.ioloop import IOLoop
    from pyftpdlib.servers import FTPServer

CONTENT = pattern("filesystem", 2_500_000).bytes()
_names = itertools.count()


@pytest_asyncio.fixture
async def transport():
    """Serve from memory; closed at the end."""
    transport = FilesystemTransport(("memory",))
    yield transport
    await transport.aclose()


@pytest.fixture
def bucket():
    """Return the URL of an empty folder in memory."""
    name = f"filesystem-{os.getpid()}-{next(_names)}"
    yield f"memory://{name}"
    memory = fsspec.filesystem("memory")
    if memory.exists(name):
        memory.rm(name, recursive=True)


@pytest.fixture
def file(bucket):
    """Return the URL of a film in memory."""
    put(f"{bucket}/film one.mp4", CONTENT)
    return f"{bucket}/film%20one.mp4"


def put(url, content):
    """Write a file in memory."""
    fsspec.filesystem("memory").pipe_file(url, content)


async def get(transport, url, *fields, **options):
    """Perform one exchange to its end."""
    sink = Collector()
    async with ask(transport, url, *fields, **options) as response:
        assert await response.pour(sink) is True
    return response, sink.content


# -- one exchange ---------------------------------------------------------------


@pytest.mark.asyncio
async def test_a_file_is_poured_whole_and_in_order(transport, file):
    """A GET has the content, its length, its media type, a strong tag and its time."""
    response, content = await get(transport, file)
    assert response.status == 200
    assert content == CONTENT
    assert response.fields.get("Content-Length") == str(len(CONTENT))
    assert response.fields.get("Content-Type") == "video/mp4"
    assert response.fields.get("Accept-Ranges") == "bytes"
    tag = EntityTag.parse(response.fields.get("ETag"))
    assert tag is not None
    assert not tag.weak
    assert response.fields.get("Last-Modified") is not None
    assert response.url == file
    assert response.request_time <= response.response_time


@pytest.mark.asyncio
async def test_content_comes_in_pieces(transport, file):
    """No piece is larger than a mebibyte: memory does not grow with the file."""
    async with ask(transport, file) as response:
        sizes = [len(piece) async for piece in response]
    assert sizes == [1 << 20, 1 << 20, len(CONTENT) - (2 << 20)]


@pytest.mark.asyncio
async def test_a_head_has_the_fields_and_no_content(transport, file):
    """HEAD is answered as GET is, less the content."""
    head, content = await get(transport, file, method="HEAD")
    whole, _ = await get(transport, file)
    assert content == b""
    assert head.status == 200
    assert head.fields.without("Date").lines == whole.fields.without("Date").lines


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("asked", "start", "stop"),
    [("0-0", 0, 1), ("1000-", 1000, 2_500_000), ("-7", 2_499_993, 2_500_000), ("5-9999999", 5, 0)],
)
async def test_a_range_is_answered_with_its_bytes(transport, file, asked, start, stop):
    """A 206 says which bytes of how many it has, and has just those."""
    stop = stop or len(CONTENT)
    response, content = await get(transport, file, ("Range", f"bytes={asked}"))
    assert response.status == 206
    assert content == CONTENT[start:stop]
    assert response.fields.get("Content-Range") == f"bytes {start}-{stop - 1}/{len(CONTENT)}"
    assert response.fields.get("Content-Length") == str(stop - start)


@pytest.mark.asyncio
async def test_several_ranges_are_answered_with_all(transport, file):
    """Many ranges in one request are not worth a multipart answer."""
    response, content = await get(transport, file, ("Range", "bytes=0-1,10-11"))
    assert (response.status, content) == (200, CONTENT)


@pytest.mark.asyncio
async def test_a_range_past_the_end_is_not_satisfiable(transport, file):
    """A 416 says how long the file is."""
    response, content = await get(transport, file, ("Range", "bytes=2500000-"))
    assert (response.status, content) == (416, b"")
    assert response.fields.get("Content-Range") == "bytes */2500000"


@pytest.mark.asyncio
async def test_an_empty_file_is_empty(transport, bucket):
    """Content of no bytes ends cleanly."""
    put(f"{bucket}/empty", b"")
    response, content = await get(transport, f"{bucket}/empty")
    assert (response.status, content) == (200, b"")
    assert response.fields.get("Content-Length") == "0"


@pytest.mark.asyncio
async def test_conditions_are_kept(transport, file):
    """If-None-Match gives 304, If-Match 412, and If-Range decides whether Range counts."""
    whole, _ = await get(transport, file)
    tag = whole.fields.get("ETag")
    modified = whole.fields.get("Last-Modified")
    part = ("Range", "bytes=0-9")
    expected = [
        ((("If-None-Match", tag),), 304, b""),
        ((("If-None-Match", '"other"'),), 200, CONTENT),
        ((("If-Modified-Since", modified),), 304, b""),
        ((("If-Match", '"other"'),), 412, b""),
        ((part, ("If-Range", tag)), 206, CONTENT[:10]),
        ((part, ("If-Range", '"other"')), 200, CONTENT),
        ((part, ("If-Range", format_http_date(0))), 200, CONTENT),
    ]
    for fields, status, content in expected:
        response, got = await get(transport, file, *fields)
        assert (response.status, got) == (status, content), fields


@pytest.mark.asyncio
async def test_a_change_is_another_tag(transport, file, bucket):
    """After a change of the same length If-Range gives the new content from its start."""
    before, _ = await get(transport, file)
    put(f"{bucket}/film one.mp4", CONTENT[::-1])
    tag = before.fields.get("ETag")
    response, content = await get(transport, file, ("Range", "bytes=5-9"), ("If-Range", tag))
    assert (response.status, content) == (200, CONTENT[::-1])
    assert response.fields.get("ETag") != tag


@pytest.mark.asyncio
async def test_a_change_in_mid_exchange_is_an_error(transport, file, bucket):
    """No piece of another version is given: two versions never mix."""
    async with ask(transport, file) as response:
        assert await anext(response) == CONTENT[: 1 << 20]
        put(f"{bucket}/film one.mp4", CONTENT[::-1])
        with pytest.raises(TransportError, match="changed"):
            await anext(response)


@pytest.mark.asyncio
async def test_what_is_not_there_is_404(transport, file, bucket):
    """A missing file and a folder are data, not errors."""
    for url in (f"{bucket}/nothing", bucket):
        response, content = await get(transport, url)
        assert (response.status, content) == (404, b"")


@pytest.mark.asyncio
async def test_a_sink_that_wants_no_more_ends_the_pouring(transport, file):
    """Pour returns False once drain has said so, and gives nothing after it."""
    sink = Collector(wanted=1000)
    async with ask(transport, file) as response:
        assert await response.pour(sink) is False
    assert sink.content == CONTENT[: 1 << 20]


@pytest.mark.asyncio
@pytest.mark.parametrize(
    "url",
    [
        "nonsense",
        "s3://bucket/key",
        "memory://a/b?version=1",
        "memory://a/x%0d%0aDELE%20y",
        "memory://a/%2e%2e%2fb%2f..%2fc",
        "file://localhost/etc/passwd",
    ],
)
async def test_urls_that_cannot_be_asked_raise(transport, url):
    """What is no URL of this transport, or could mean more than a file, is refused."""
    with pytest.raises(InvalidURLError):
        await get(transport, url)


@pytest.mark.asyncio
async def test_after_closing_nothing_is_asked(transport, file):
    """Closing is idempotent and final, for what is under way too."""
    async with ask(transport, file) as response:
        await anext(response)
        await transport.aclose()
        await transport.aclose()
        with pytest.raises(ClosedError):
            await anext(response)
    with pytest.raises(ClosedError):
        await get(transport, file)


# -- local files ----------------------------------------------------------------


@pytest_asyncio.fixture
async def local():
    """Serve local files, too."""
    transport = FilesystemTransport((), allow_file=True)
    yield transport
    await transport.aclose()


def test_local_files_are_served_only_when_allowed():
    """A scheme of local files is refused unless the program says that it means it."""
    assert "file" not in FilesystemTransport().schemes
    with pytest.raises(ConfigurationError, match="allow"):
        FilesystemTransport(("file",))
    with pytest.raises(ConfigurationError, match="HttpTransport"):
        FilesystemTransport(("http",))


@pytest.mark.asyncio
async def test_a_local_file_is_served(local, tmp_path):
    """Links are followed, and the tag is that of what they lead to."""
    (tmp_path / "a").write_bytes(CONTENT)
    os.utime(tmp_path / "a", (1_700_000_000, 1_700_000_000))
    (tmp_path / "link").symlink_to("a")
    response, content = await get(local, f"file://localhost{tmp_path}/link")
    assert (response.status, content) == (200, CONTENT)
    assert response.fields.get("Last-Modified") == format_http_date(1_700_000_000)
    os.utime(tmp_path / "a", (1_700_000_001, 1_700_000_001))
    again, _ = await get(local, f"file://localhost{tmp_path}/link")
    assert again.fields.get("ETag") != response.fields.get("ETag")


@pytest.mark.asyncio
async def test_a_pipe_is_no_file(local, tmp_path):
    """What is no regular file is not opened: it might never end."""
    os.mkfifo(tmp_path / "pipe")
    response, _ = await get(local, f"file://localhost{tmp_path}/pipe")
    assert response.status == 404


@pytest.mark.asyncio
async def test_another_host_is_refused(local):
    """A local file has the host localhost."""
    with pytest.raises(InvalidURLError, match="localhost"):
        await get(local, "file://example.com/etc/hosts")


# -- filesystems that misbehave -------------------------------------------------


class Odd(MemoryFileSystem):
    """Does what its class attributes say."""

    protocol = "odd"
    error = None
    hold = None
    facts: ClassVar = {"type": "file", "size": 5}

    def info(self, path, **kwargs):
        if self.hold is not None:
            self.hold.wait(30)
        if self.error is not None:
            raise self.error
        return {"name": path, **self.facts}

    def modified(self, path):
        raise NotImplementedError

    def open(self, path, mode="rb", **kwargs):
        return open(os.devnull, "rb")


@pytest.fixture
def odd(monkeypatch):
    """Make a scheme whose filesystem can be told what to do."""
    cls = type("OddFileSystem", (Odd,), {})
    known = fsspec.get_filesystem_class
    monkeypatch.setattr(
        fsspec, "get_filesystem_class", lambda name: cls if name == "odd" else known(name)
    )
    return cls


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (ConnectionRefusedError(), ConnectError),
        (TimeoutError(), UpstreamTimeoutError),
        (OSError("secret"), TransportError),
        (ValueError("secret"), TransportError),
    ],
    ids=lambda each: str(type(each).__name__),
)
async def test_errors_become_ours(odd, error, kind):
    """What a filesystem raises says so with an error of ours, without its text."""
    odd.error = error
    transport = FilesystemTransport(("odd",))
    with pytest.raises(kind) as caught:
        await get(transport, "odd://a/b")
    assert type(caught.value) is kind
    assert "secret" not in str(caught.value)
    assert caught.value.hint
    await transport.aclose()


@pytest.mark.asyncio
async def test_what_is_forbidden_is_403(odd):
    """Permission is an answer."""
    odd.error = PermissionError()
    transport = FilesystemTransport(("odd",))
    response, _ = await get(transport, "odd://a/b")
    assert response.status == 403
    await transport.aclose()


@pytest.mark.asyncio
async def test_silence_times_out(odd):
    """A filesystem that does not answer is given up, though its thread cannot be."""
    odd.hold = threading.Event()
    transport = FilesystemTransport(("odd",), read_timeout=0.05)
    with pytest.raises(UpstreamTimeoutError):
        await get(transport, "odd://a/b")
    odd.hold.set()
    await transport.aclose()


@pytest.mark.asyncio
async def test_closing_ends_what_is_under_way(odd):
    """Whoever waits is told."""
    odd.hold = threading.Event()
    transport = FilesystemTransport(("odd",))
    asking = asyncio.ensure_future(get(transport, "odd://a/b"))
    while not transport._end:
        await asyncio.sleep(0)
    closing = asyncio.ensure_future(transport.aclose())
    with pytest.raises(ClosedError):
        await asking
    odd.hold.set()
    await closing


@pytest.mark.asyncio
async def test_content_that_ends_early_raises(odd):
    """A file that gives fewer bytes than it is said to have does not end cleanly."""
    transport = FilesystemTransport(("odd",))
    with pytest.raises(TransportError, match="before its end"):
        await get(transport, "odd://a/b")
    await transport.aclose()


@pytest.mark.asyncio
async def test_without_facts_there_is_no_validator(odd):
    """A length alone names no version."""
    transport = FilesystemTransport(("odd",))
    async with ask(transport, "odd://a/b") as response:
        assert response.status == 200
        assert "ETag" not in response.fields
        assert "Last-Modified" not in response.fields
    await transport.aclose()


@pytest.mark.asyncio
async def test_an_unknown_length_is_poured_to_its_end(odd):
    """Without a length there are no ranges, and the end is where nothing more comes."""
    odd.facts = {"type": "file", "size": None}
    transport = FilesystemTransport(("odd",))
    response, content = await get(transport, "odd://a/b", ("Range", "bytes=1-2"))
    assert (response.status, content) == (200, b"")
    assert response.fields.get("Accept-Ranges") == "none"
    assert "Content-Length" not in response.fields
    await transport.aclose()


@pytest.mark.asyncio
async def test_a_missing_package_is_named():
    """The error says what to install."""
    transport = FilesystemTransport(("hdfs", "unheard-of"))
    with pytest.raises(InvalidURLError, match="no filesystem for unheard-of"):
        await get(transport, "unheard-of://a/b")
    await transport.aclose()


# -- facts ----------------------------------------------------------------------


NOW = 1_700_000_000.0


@pytest.mark.parametrize(
    "info",
    [
        {"ETag": '"abc"'},
        {"etag": "abc"},
        {"md5Hash": "q=="},
        {"checksum": 77},
        {"mtime": NOW - 9, "ino": 5},
        {"mtime": NOW - 0.25},
        {"mtime": datetime.fromtimestamp(NOW - 9, tz=UTC)},
        {"modify": "20231114221311"},
        {"LastModified": "2023-11-14T22:13:11+00:00"},
    ],
    ids=str,
)
def test_reliable_facts_make_a_strong_tag(info):
    """A tag, a checksum, or a settled time and length name a version; each difference shows."""
    facts = facts_of({"type": "file", "size": 5, **info}, None, NOW)
    assert facts.tag is not None
    assert not facts.tag.weak
    longer = facts_of({"type": "file", "size": 6, **info}, None, NOW)
    assert longer.tag != facts.tag
    assert not longer.same_as(facts)


@pytest.mark.parametrize(
    ("info", "weak"),
    [
        ({"etag": 'W/"abc"'}, True),
        ({"mtime": NOW - 1}, True),
        ({"created": NOW - 100}, None),
        ({"modify": "Nov 14 22:13"}, None),
    ],
    ids=str,
)
def test_unreliable_facts_make_no_strong_tag(info, weak):
    """A time of whole seconds that is now, a weak tag, a birth, a time without a year."""
    facts = facts_of({"type": "file", "size": 5, **info}, None, NOW)
    assert (None if facts.tag is None else facts.tag.weak) is weak


def test_passwords_are_for_one_server():
    """A client that makes up a URL must not carry the program's password to its host."""
    with pytest.raises(ConfigurationError, match="ftp"):
        FilesystemTransport(("ftp",), storage_options={"ftp": {"password": "x"}})
    FilesystemTransport(("ftp",), storage_options={"ftp://a.example": {"password": "x"}})


# -- FTP ------------------------------------------------------------------------


class FTP:
    """An FTP server in a thread of its own."""

    def __init__(self, root):
        authorizer = DummyAuthorizer()
        authorizer.add_anonymous(str(root))
        authorizer.add_user("me", "secret", str(root))
        handler = type(
            "Handler",
            (FTPHandler,),
            {"authorizer": authorizer, "banner": "ready", "auth_failed_timeout": 0},
        )
        self._loop = IOLoop()
        self.server = FTPServer(("127.0.0.1", 0), handler, ioloop=self._loop)
        self.authority = f"127.0.0.1:{self.server.address[1]}"
        self._stopped = False
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self):
        while not self._stopped:
            self._loop.loop(timeout=0.02, blocking=False)
        self.server.close_all()

    def close(self):
        self._stopped = True
        self._thread.join(30)


@pytest.fixture
def ftp(tmp_path):
    """Serve a folder with one film over FTP."""
    root = tmp_path / "ftp"
    (root / "films").mkdir(parents=True)
    (root / "films" / "one.mp4").write_bytes(CONTENT)
    os.utime(root / "films" / "one.mp4", (1_700_000_000, 1_700_000_000))
    server = FTP(root)
    yield server
    server.close()


@pytest_asyncio.fixture
async def over_ftp():
    """Ask FTP servers."""
    transport = FilesystemTransport(("ftp",))
    yield transport
    await transport.aclose()


@pytest.mark.asyncio
async def test_ftp_is_answered_as_http(ftp, over_ftp):
    """Whole content, a range, a condition and a missing file, over connections used again."""
    url = f"ftp://{ftp.authority}/films/one.mp4"
    response, content = await get(over_ftp, url)
    assert (response.status, content) == (200, CONTENT)
    assert response.fields.get("Last-Modified") == format_http_date(1_700_000_000)
    tag = response.fields.get("ETag")
    part, content = await get(over_ftp, url, ("Range", "bytes=1000000-2300000"), ("If-Range", tag))
    assert (part.status, content) == (206, CONTENT[1_000_000:2_300_001])
    missing, _ = await get(over_ftp, f"ftp://{ftp.authority}/films/two.mp4")
    assert missing.status == 404


@pytest.mark.asyncio
async def test_several_exchanges_over_ftp_do_not_meet(ftp, over_ftp):
    """Each exchange has a connection to itself."""
    url = f"ftp://{ftp.authority}/films/one.mp4"
    ranges = [(start, start + 300_000) for start in range(0, 2_000_000, 400_000)]
    async with asyncio.TaskGroup() as group:
        tasks = [
            group.create_task(get(over_ftp, url, ("Range", f"bytes={start}-{stop - 1}")))
            for start, stop in ranges
        ]
    for (start, stop), task in zip(ranges, tasks, strict=True):
        assert task.result()[1] == CONTENT[start:stop]


@pytest.mark.asyncio
async def test_a_connection_that_was_lost_is_replaced(ftp, over_ftp):
    """An idle connection that the server closed is not taken for a missing file."""
    url = f"ftp://{ftp.authority}/films/one.mp4"
    await get(over_ftp, url, method="HEAD")
    for (filesystem,) in over_ftp._filesystems._idle.values():
        filesystem.ftp.sock.shutdown(2)
    response, _ = await get(over_ftp, url, method="HEAD")
    assert response.status == 200


@pytest.mark.asyncio
async def test_a_server_that_is_not_there_is_a_connect_error(ftp, over_ftp):
    """Where nobody listens, no connection can be made."""
    ftp.close()
    with pytest.raises(ConnectError):
        await get(over_ftp, f"ftp://{ftp.authority}/films/one.mp4")


@pytest.mark.asyncio
async def test_a_wrong_password_is_403(ftp):
    """A refused login is an answer, and the password is for the server it is named for."""
    answers = {}
    for password in ("secret", "wrong"):
        options = {f"ftp://{ftp.authority}": {"username": "me", "password": password}}
        transport = FilesystemTransport(("ftp",), storage_options=options)
        response, _ = await get(transport, f"ftp://{ftp.authority}/films/one.mp4")
        answers[password] = response.status
        await transport.aclose()
    assert answers == {"secret": 200, "wrong": 403}


# -- SFTP -----------------------------------------------------------------------


class Login(asyncssh.SSHServer):
    """Lets one user in."""

    def __init__(self, connections):
        self._connections = connections

    def connection_made(self, connection):
        self._connections.append(connection)

    def begin_auth(self, username):
        return True

    def password_auth_supported(self):
        return True

    def validate_password(self, username, password):
        return (username, password) == ("me", "secret")


@pytest_asyncio.fixture
async def sftp(tmp_path):
    """Serve a folder with one film over SFTP; return host and port."""
    (tmp_path / "films").mkdir()
    (tmp_path / "films" / "one.mp4").write_bytes(CONTENT)
    os.utime(tmp_path / "films" / "one.mp4", (1_700_000_000, 1_700_000_000))
    connections = []
    server = await asyncssh.listen(
        "127.0.0.1",
        0,
        server_factory=lambda: Login(connections),
        server_host_keys=[asyncssh.generate_private_key("ssh-ed25519")],
        sftp_factory=lambda channel: asyncssh.SFTPServer(channel, chroot=os.fsencode(tmp_path)),
    )
    yield f"127.0.0.1:{server.get_port()}"
    server.close()
    for connection in connections:
        connection.abort()
        await connection.wait_closed()
    await server.wait_closed()


def over_sftp(authority, password):
    """Make a transport that logs in to one server."""
    login = {"username": "me", "password": password, "look_for_keys": False, "allow_agent": False}
    return FilesystemTransport(("sftp",), storage_options={f"sftp://{authority}": login})


@pytest.mark.asyncio
async def test_sftp_is_answered_as_http(sftp):
    """Whole content, a range under its tag, and a missing file."""
    transport = over_sftp(sftp, "secret")
    url = f"sftp://{sftp}/films/one.mp4"
    response, content = await get(transport, url)
    assert (response.status, content) == (200, CONTENT)
    assert response.fields.get("Last-Modified") == format_http_date(1_700_000_000)
    condition = ("If-Range", response.fields.get("ETag"))
    part, content = await get(transport, url, ("Range", "bytes=1000000-2300000"), condition)
    assert (part.status, content) == (206, CONTENT[1_000_000:2_300_001])
    missing, _ = await get(transport, f"sftp://{sftp}/films/two.mp4")
    assert missing.status == 404
    await transport.aclose()


@pytest.mark.asyncio
async def test_sftp_without_the_password_is_403(sftp):
    """A refused login is an answer."""
    transport = over_sftp(sftp, "wrong")
    response, _ = await get(transport, f"sftp://{sftp}/films/one.mp4")
    assert response.status == 403
    await transport.aclose()


@pytest.mark.asyncio
async def test_sftp_that_is_not_there_is_a_connect_error(sftp):
    """Where nobody listens, no connection can be made."""
    transport = over_sftp("127.0.0.1:1", "secret")
    with pytest.raises(ConnectError):
        await get(transport, "sftp://127.0.0.1:1/a")
    await transport.aclose()


# -- the whole chain ------------------------------------------------------------


async def play(transport, source, tmp_path, prefix):
    """Read a source through the local server: a range, all of it, and all of it again."""
    async with CacheManager(
        transport=transport, cache_dir=tmp_path / "cache", min_free=0, allow_hosts=("any",)
    ) as cache:
        local = cache.get_cache_url(source)
        path = local.removeprefix(cache.base_url.rstrip("/"))
        assert path.startswith(prefix)
        async with RawClient(cache.base_url) as client, asyncio.timeout(60):
            host = urlsplit(local).netloc
            part = await client.ask(path, ("Range", "bytes=2000000-2000009"), host=host)
            whole = await client.ask(path, host=host)
            asked = cache.statistics().bytes_from_origin
            again = await client.ask(path, host=host)
            assert cache.statistics().bytes_from_origin == asked
    assert (part.status, part.content) == (206, CONTENT[2_000_000:2_000_010])
    assert whole.content == again.content == CONTENT
    assert whole.fields.get("Content-Type") == "video/mp4"


@pytest.mark.asyncio
async def test_a_file_in_memory_plays_through_the_cache(transport, file, tmp_path):
    """The local URL names scheme, bucket and key, and is served like any other."""
    chain = SchemeTransport([HttpTransport(), transport])
    await play(chain, file, tmp_path, "/memory/filesystem-")
    await chain.aclose()


@pytest.mark.asyncio
async def test_a_file_on_ftp_plays_through_the_cache(ftp, over_ftp, tmp_path):
    """The local URL names scheme, host and port, and is served like any other."""
    url = f"ftp://{ftp.authority}/films/one.mp4"
    await play(over_ftp, url, tmp_path, f"/ftp/{ftp.authority}/films/one.mp4")


def test_it_is_an_fsspec_filesystem_that_is_asked():
    """The odd filesystem of these tests is one."""
    assert issubclass(Odd, AbstractFileSystem)
