"""Clients that read slowly, all in one thread, and compare what they read."""

from __future__ import annotations

import socket
import threading
import time
from typing import Final, Self
from urllib.parse import urlsplit

import attrs

from benchmarks.content import Item, WrongBytesError, check

__all__ = ["SlowClients"]

_STEP: Final = 64 * 1024
_PATIENCE_S: Final = 30.0


@attrs.define(eq=False)
class _Client:
    """One client: how far it has read."""

    socket: socket.socket
    position: int = 0


class SlowClients:
    """Clients that each read 64 KiB a second of one file, while the context lasts.

    Args:
        base: URL of the server.
        item: The file.
        right: Its content.
        count: How many clients.

    Raises:
        WrongBytesError: On leaving, if any of them was sent what is wrong, or was cut off.
    """

    def __init__(self, base: str, item: Item, right: memoryview, count: int) -> None:
        parts = urlsplit(base)
        self._address = (parts.hostname or "", parts.port or 80)
        path = f"{parts.path.rstrip('/')}/{item.name}"
        self._request = f"GET {path} HTTP/1.1\r\nHost: {parts.netloc}\r\n\r\n".encode()
        self._right = right
        self._count = count
        self._clients: list[_Client] = []
        self._begun, self._stopped = threading.Event(), threading.Event()
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, exc_type: type[BaseException] | None, *rest: object) -> None:
        self._stopped.set()
        self._thread.join()
        for client in self._clients:
            client.socket.close()
        if self._error and exc_type is None:
            raise self._error

    def wait_begun(self) -> None:
        """Return when each has the head of its answer, or when something failed."""
        self._begun.wait(_PATIENCE_S)

    def _run(self) -> None:
        try:
            for _ in range(self._count):
                self._clients.append(self._connect())
            for client in self._clients:
                self._begin(client)
            self._begun.set()
            while not self._stopped.is_set():
                begun = time.monotonic()
                for client in self._clients:
                    self._read(client)
                self._stopped.wait(max(0.0, 1 - (time.monotonic() - begun)))
        except BaseException as error:  # raised on leaving
            self._error = error
        finally:
            self._begun.set()

    def _connect(self) -> _Client:
        client = socket.socket()
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _STEP)
        client.settimeout(_PATIENCE_S)
        client.connect(self._address)
        client.sendall(self._request)
        return _Client(client)

    def _begin(self, client: _Client) -> None:
        """Read the head, and what content came with it."""
        received = b""
        while b"\r\n\r\n" not in received:
            if not (piece := client.socket.recv(_STEP)):
                raise WrongBytesError("a slow client was cut off before its head")
            received += piece
        head, _, content = received.partition(b"\r\n\r\n")
        if b" 200 " not in head.partition(b"\r\n")[0] or b"chunked" in head.lower():
            raise WrongBytesError(f"a slow client got {head[:200]!r}")
        client.socket.setblocking(False)
        self._check(client, content)

    def _read(self, client: _Client) -> None:
        try:
            piece = client.socket.recv(_STEP)
        except BlockingIOError:
            return
        if not piece:
            raise WrongBytesError(f"a slow client was cut off at {client.position}")
        self._check(client, piece)

    def _check(self, client: _Client, piece: bytes) -> None:
        check(bytearray(piece), len(piece), self._right, client.position)
        client.position += len(piece)
