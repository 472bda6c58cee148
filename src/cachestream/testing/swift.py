"""A real object store for tests: OpenStack Swift, which speaks the S3 protocol.

    with SwiftServer() as server:
        bucket = server.create_bucket()
        fs = fsspec.filesystem("s3", endpoint_url=server.endpoint_url,
                               key=server.access_key_id, secret=server.secret_access_key)

One process runs proxy, account, container and object server on free ports of the loopback
interface, as whoever calls, with all state in a temporary directory. It ends, and the
directory goes, with the context or with the process that opened it, however that ends.
Needs ``pip install cachestream[swift]`` and Linux.

What Swift's S3 honours and what it lacks: ``If-None-Match: *`` on a PUT is honoured (412), but
looked at before the content is read: of two at the same moment both may succeed. ``If-Match``
on a PUT is refused (501). The deletion of many objects in one request, multipart uploads and
listings page by page are there.
"""

from __future__ import annotations

import contextlib
import http.client
import importlib.util
import os
import select
import shutil
import subprocess
import sys
import tempfile
import time
import uuid
from pathlib import Path
from types import TracebackType
from typing import IO, Final, Self
from urllib.parse import quote, urlsplit

from cachestream.errors import CacheStreamError, ConfigurationError
from cachestream.testing import _swift_process as process

__all__ = ["SwiftServer"]

_TEMPURL_KEY: Final = "key-of-temporary-urls"
_LOG: Final = "swift.log"


class SwiftServer:
    """Runs an object store with an S3 interface; a context manager.

    Buckets and containers are the same: what is stored through one interface is read
    through the other. A server is shared best: make one a session, and a bucket a test.

    Args:
        directory: Where the state goes, in a directory of its own; None for a usual place
            for temporary files. Its file system must have extended attributes.
        timeout: How long a start may take, in seconds.
        page_size: Most names in one page of a listing, so that few objects fill several.

    Attributes:
        endpoint_url: Root of the S3 interface (path style, without a final slash).
        region: What requests are signed for.
        access_key_id: Who signs them.
        secret_access_key: What they are signed with.
        storage_url: Root of Swift's own interface: ``{storage_url}/{container}/{object}``.
        token: Value of ``X-Auth-Token`` there.
        tempurl_key: Key of Swift's temporary URLs (an HMAC in the query) to any object.
        pid: Process identifier of the server.
    """

    region: Final = "us-east-1"
    access_key_id: Final = f"{process.ACCOUNT}:{process.USER}"
    secret_access_key: Final = process.SECRET
    tempurl_key: Final = _TEMPURL_KEY

    endpoint_url: str
    storage_url: str
    token: str
    pid: int

    def __init__(
        self,
        *,
        directory: str | Path | None = None,
        timeout: float = 100.0,
        page_size: int = 1000,
    ) -> None:
        self._directory = directory
        self._page_size = page_size
        self._timeout = timeout
        self._root: str | None = None
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        if importlib.util.find_spec("swift") is None:
            raise ConfigurationError(
                "a SwiftServer needs OpenStack Swift: pip install 'cachestream[swift]'"
            )
        deadline = time.monotonic() + self._timeout
        self._root = _make_root(self._directory)
        try:
            self._start()
            port = self._read_port(deadline)
            self.endpoint_url = f"http://127.0.0.1:{port}"
            self._log_in()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Stop the process and remove its state; idempotent."""
        running, self._process = self._process, None
        if running is not None:
            _stop(running)
        root, self._root = self._root, None
        if root is not None:
            shutil.rmtree(root, ignore_errors=True)

    def create_bucket(self, name: str | None = None) -> str:
        """Make a bucket and return its name; a new one if ``name`` is None."""
        name = name or f"bucket-{uuid.uuid4().hex}"
        self.request("PUT", f"/{quote(name)}")
        return name

    def request(
        self,
        method: str,
        path: str = "",
        *,
        content: bytes | None = None,
        fields: dict[str, str] | None = None,
    ) -> tuple[int, dict[str, str], bytes]:
        """Send one request to Swift's own interface, below `storage_url`; wait for the answer.

        Returns:
            Status, fields with names in lower case, and content.

        Raises:
            CacheStreamError: If the answer is an error; status and content are in its text.
        """
        url = self.storage_url + path
        return _exchange(method, url, content, {"X-Auth-Token": self.token} | (fields or {}))

    def log(self) -> str:
        """Return what the server has complained about so far."""
        if self._root is None:
            return ""
        with contextlib.suppress(OSError):
            return Path(self._root, _LOG).read_text(encoding="utf-8", errors="replace")
        return ""

    def _start(self) -> None:
        assert self._root is not None
        # Nothing of the caller's environment may reach it: a proxy, a tracer, a path.
        environment = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("PYTHON", "COV_", "EVENTLET_")) and "proxy" not in name.lower()
        }
        with Path(self._root, _LOG).open("wb") as log:
            self._process = subprocess.Popen(
                [
                    *(sys.executable, "-P", "-W", "ignore", process.__file__),
                    *(self._root, str(self._page_size)),
                ],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                env=environment,
                cwd=self._root,
                # An interrupt from the keyboard is for the caller, who then closes this.
                start_new_session=True,
            )
        self.pid = self._process.pid

    def _read_port(self, deadline: float) -> int:
        assert self._process is not None
        output: IO[bytes] | None = self._process.stdout
        assert output is not None
        line = b""
        while not line.endswith(b"\n"):
            left = deadline - time.monotonic()
            if left <= 0 or not select.select([output], [], [], left)[0]:
                raise CacheStreamError(
                    f"Swift did not start within {self._timeout:g} s; its log:\n{self.log()}"
                )
            piece = os.read(output.fileno(), 64)
            if not piece:
                self._process.wait()
                raise CacheStreamError(
                    f"Swift ended with status {self._process.returncode}; its log:\n{self.log()}"
                )
            line += piece
        return int(line)

    def _log_in(self) -> None:
        """Get a token, and set the key of temporary URLs: the first signs of life."""
        _, fields, _ = _exchange(
            "GET",
            f"{self.endpoint_url}/auth/v1.0",
            None,
            {"X-Auth-User": self.access_key_id, "X-Auth-Key": self.secret_access_key},
        )
        self.storage_url = fields["x-storage-url"]
        self.token = fields["x-auth-token"]
        self.request("POST", fields={"X-Account-Meta-Temp-URL-Key": _TEMPURL_KEY})


def _make_root(directory: str | Path | None) -> str:
    """Make a directory on a file system that has extended attributes."""
    if not hasattr(os, "setxattr"):
        raise ConfigurationError("a SwiftServer needs the extended attributes of Linux")
    places = [tempfile.gettempdir(), "/var/tmp"] if directory is None else [str(directory)]
    reasons = []
    for place in places:
        try:
            root = tempfile.mkdtemp(prefix="cachestream-swift-", dir=place)
        except OSError as error:
            reasons.append(str(error))
            continue
        try:
            os.setxattr(root, "user.cachestream", b"1")
        except OSError as error:
            shutil.rmtree(root, ignore_errors=True)
            reasons.append(f"{place}: {error.strerror}")
        else:
            return root
    raise ConfigurationError(
        "a SwiftServer needs a directory whose file system has extended attributes; "
        f"give one as directory= ({'; '.join(reasons)})"
    )


def _exchange(
    method: str, url: str, content: bytes | None, fields: dict[str, str]
) -> tuple[int, dict[str, str], bytes]:
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=60)
    try:
        target = parts.path + (f"?{parts.query}" if parts.query else "")
        connection.request(method, target, content, fields)
        answer = connection.getresponse()
        body = answer.read()
        names = {name.lower(): value for name, value in answer.getheaders()}
    except OSError as error:
        raise CacheStreamError(f"Swift did not answer {method} {url}: {error}") from error
    finally:
        connection.close()
    if answer.status >= 400:
        text = body[:500].decode("utf-8", "replace")
        raise CacheStreamError(f"Swift answered {method} {url} with {answer.status}: {text}")
    return answer.status, names, body


def _stop(running: subprocess.Popen[bytes]) -> None:
    """End a process that has nothing to save, and wait for it."""
    for pipe in (running.stdin, running.stdout):
        if pipe is not None:
            pipe.close()
    running.terminate()
    try:
        running.wait(10)
    except subprocess.TimeoutExpired:
        running.kill()
        running.wait()
