"""Origins that count what they send: one as fast as loopback is, and one with a limit."""

from __future__ import annotations

import contextlib
import json
import os
import pwd
import re
import sys
import time
import urllib.request
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Final

import attrs

from benchmarks.processes import Child, free_port

__all__ = ["FastOrigin", "LimitedOrigin", "Origin", "Sent", "user"]

# tcp_nopush stays off: on loopback the last part of an answer would wait 40 ms for an
# acknowledgement. The log is what is counted, and it is written rarely, so that it costs little.
_NGINX: Final = """
daemon off; {user} pid {folder}/pid; worker_processes auto; worker_rlimit_nofile 16384;
events {{ worker_connections 4096; }}
http {{
  log_format sent '$request_method $body_bytes_sent $uri';
  access_log {folder}/sent.log sent buffer=64k flush=100ms;
  sendfile on; tcp_nopush off; keepalive_requests 100000000; keepalive_timeout 600s;
  open_file_cache max=1000; default_type application/octet-stream;
  client_body_temp_path {folder}/b; proxy_temp_path {folder}/p; fastcgi_temp_path {folder}/f;
  uwsgi_temp_path {folder}/u; scgi_temp_path {folder}/s;
  server {{
    listen 127.0.0.1:{port} backlog=4096;
    root {root};
    add_header Cache-Control "public, max-age=86400";
    location / {{ autoindex on; }}
    location = /-/status {{ stub_status; access_log off; }}
  }}
}}
"""
_SETTLED_S: Final = 0.25
_SETTLE_LIMIT_S: Final = 15.0


def user() -> str:
    """Return nginx's directive for who it runs as; only root may name somebody."""
    return f"user {pwd.getpwuid(0).pw_name};" if os.geteuid() == 0 else ""


@attrs.frozen
class Sent:
    """What an origin has sent.

    Attributes:
        requests: GET requests for files; listings of folders do not count.
        content: Bytes of their content.
    """

    requests: int = 0
    content: int = 0

    def __sub__(self, earlier: Sent) -> Sent:
        return Sent(self.requests - earlier.requests, self.content - earlier.content)


class Origin(ABC):
    """A server of the library's files, in a process of its own."""

    child: Child

    @property
    def url(self) -> str:
        """Its base URL, without a slash at the end."""
        return f"http://127.0.0.1:{self.child.port}"

    def pids(self) -> list[int]:
        """Return its processes."""
        return self.child.pids()

    def stop(self) -> None:
        """End it."""
        self.child.kill()

    def sent(self, limit: float = _SETTLE_LIMIT_S) -> Sent:
        """Return what was sent once nothing is under way, or after ``limit`` seconds."""
        deadline = time.monotonic() + limit
        before = None
        while (now := self._state()) != before or now[0]:
            if time.monotonic() > deadline:
                break
            before = now
            time.sleep(_SETTLED_S)
        return now[1]

    def _get(self, path: str) -> str:
        with urllib.request.urlopen(self.url + path, timeout=10) as response:
            return str(response.read().decode())

    @abstractmethod
    def _state(self) -> tuple[int, Sent]:
        """Return how many answers are under way, and what was sent so far."""


class FastOrigin(Origin):
    """nginx with sendfile: nothing that asks it waits for it.

    Args:
        root: Folder of the files.
        folder: Where it keeps its own.
    """

    def __init__(self, root: Path, folder: Path) -> None:
        port = free_port()
        folder.mkdir(parents=True)
        config = folder / "nginx.conf"
        config.write_text(_NGINX.format(user=user(), folder=folder, root=root, port=port))
        self._log = folder / "sent.log"
        command = ["nginx", "-c", config, "-e", folder / "error.log"]
        self.child = Child(command, port, folder / "out.log")

    def _state(self) -> tuple[int, Sent]:
        found = re.search(r"Writing: (\d+)", self._get("/-/status"))
        lines = [line.split(" ", 2) for line in self._log.read_text().splitlines()]
        files = [int(size) for method, size, uri in lines if method == "GET" and uri[-1] != "/"]
        # The answer that tells it is one of those under way.
        return int(found[1]) - 1 if found else 0, Sent(len(files), sum(files))


class LimitedOrigin(Origin):
    """An origin that answers late, and limits each connection.

    The limit is of ours and not nginx's ``limit_rate``, which begins anew with each request:
    whoever asked it for small parts would not be limited at all.

    Args:
        root: Folder of the files.
        folder: Where it keeps its own.
        latency: Seconds before each answer.
        rate: Bytes a second and connection.
    """

    def __init__(self, root: Path, folder: Path, *, latency: float, rate: int) -> None:
        port = free_port()
        folder.mkdir(parents=True)
        program = [sys.executable, "-m", "benchmarks.limited_origin"]
        knobs = ["--port", port, "--latency", latency, "--rate", rate]
        here = str(Path(__file__).parents[1])
        self.child = Child(
            [*program, *knobs, root], port, folder / "out.log", env={"PYTHONPATH": here}
        )

    def _state(self) -> tuple[int, Sent]:
        with contextlib.suppress(OSError):
            state = json.loads(self._get("/-/state"))
            return state["under_way"], Sent(state["requests"], state["content"])
        return 0, Sent()
