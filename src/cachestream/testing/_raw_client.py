"""A small HTTP/1 client that hides nothing: what was sent, how it ended, on one socket."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from types import TracebackType
from typing import Self

import attrs
import yarl

from cachestream.core.fields import Fields

__all__ = ["PATIENCE_S", "RawClient", "RawResponse", "request_bytes"]

PATIENCE_S = 20.0
"""How long a test waits for what should happen at once, on a busy machine."""


@attrs.frozen(kw_only=True)
class RawResponse:
    """A response as it came.

    Attributes:
        status: The status code.
        fields: All field lines.
        content: The content, without its framing.
        complete: Whether the content ended as HTTP says it must.
        framing: ``length``, ``chunked``, ``close`` or ``none``.
    """

    status: int
    fields: Fields
    content: bytes
    complete: bool
    framing: str


def request_bytes(
    target: str = "/",
    *fields: tuple[str, str],
    method: str = "GET",
    version: str = "1.1",
    host: str | None = "localhost",
) -> bytes:
    """Return the bytes of a request head; ``host`` None leaves the field out."""
    lines = [f"{method} {target} HTTP/{version}"]
    if host is not None:
        lines.append(f"Host: {host}")
    lines += [f"{name}: {value}" for name, value in fields]
    return "\r\n".join([*lines, "", ""]).encode("utf-8", "surrogateescape")


class RawClient:
    """One connection to a base URL.

    Args:
        base: Where to connect to.
        receive_buffer: Size of the socket's receive buffer, for a client that is slow.
        unix: Path of a Unix socket to connect to instead, NUL first for an abstract one.
    """

    def __init__(
        self, base: str, *, receive_buffer: int | None = None, unix: str | None = None
    ) -> None:
        self._url = yarl.URL(base)
        self._unix = unix
        self._receive_buffer = receive_buffer
        self._loop = asyncio.get_running_loop()
        self._socket: socket.socket | None = None
        self._buffered = b""

    async def __aenter__(self) -> Self:
        host, port = self._url.host, self._url.port
        assert host is not None
        address: tuple[object, ...] | str = (host, port)
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        if self._unix is not None:
            address, family = self._unix, socket.AF_UNIX
        self._socket = socket.socket(family, socket.SOCK_STREAM)
        self._socket.setblocking(False)
        if self._receive_buffer is not None:
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, self._receive_buffer)
        try:
            async with asyncio.timeout(PATIENCE_S):
                await self._loop.sock_connect(self._socket, address)
        except BaseException:
            self.close()
            raise
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    @property
    def socket(self) -> socket.socket:
        """The connected socket."""
        assert self._socket is not None
        return self._socket

    def close(self) -> None:
        """Hang up."""
        if self._socket is not None:
            self._socket.close()

    def end_sending(self) -> None:
        """Say that nothing more will be sent, and go on receiving."""
        self.socket.shutdown(socket.SHUT_WR)

    async def send(self, data: bytes) -> None:
        """Send bytes."""
        async with asyncio.timeout(PATIENCE_S):
            await self._loop.sock_sendall(self.socket, data)

    async def ask(
        self,
        target: str = "/",
        *fields: tuple[str, str],
        method: str = "GET",
        version: str = "1.1",
        host: str | None = "localhost",
    ) -> RawResponse:
        """Send a request and receive its response."""
        await self.send(request_bytes(target, *fields, method=method, version=version, host=host))
        return await self.receive(method)

    async def receive(self, method: str = "GET") -> RawResponse:
        """Receive the response to a request with this method.

        Raises:
            EOFError: If the connection ends before the head does.
            ConnectionResetError: If it is reset before.
        """
        head = await self._until(b"\r\n\r\n")
        start, *lines = head.decode("utf-8", "surrogateescape").split("\r\n")[:-2]
        version, code, _phrase = start.split(" ", 2)
        if version not in ("HTTP/1.1", "HTTP/1.0"):
            raise ValueError(f"not a status line: {start!r}")
        fields = Fields.parse(_field(line) for line in lines)
        status = int(code)
        if method == "HEAD" or status in (204, 304):
            return RawResponse(
                status=status, fields=fields, content=b"", complete=True, framing="none"
            )
        content: list[bytes] = []
        framing, complete = "close", False
        with contextlib.suppress(EOFError, ConnectionResetError):
            if (fields.get("Transfer-Encoding") or "").lower() == "chunked":
                framing = "chunked"
                await self._chunks(content)
            elif (length := fields.get("Content-Length")) is not None:
                framing = "length"
                await self._exactly(int(length), content)
            else:
                await self._to_end(content)
            complete = True
        return RawResponse(
            status=status,
            fields=fields,
            content=b"".join(content),
            complete=complete,
            framing=framing,
        )

    async def _chunks(self, content: list[bytes]) -> None:
        while True:
            size = int((await self._until(b"\r\n"))[:-2], 16)
            await self._exactly(size, content)
            if await self._take(2) != b"\r\n":
                raise ValueError("a chunk is not followed by CRLF")
            if not size:
                return

    async def _exactly(self, count: int, content: list[bytes]) -> None:
        while count:
            piece = await self.some(count)
            if not piece:
                raise EOFError
            content.append(piece)
            count -= len(piece)

    async def _to_end(self, content: list[bytes]) -> None:
        while piece := await self.some():
            content.append(piece)

    async def _take(self, count: int) -> bytes:
        content: list[bytes] = []
        await self._exactly(count, content)
        return b"".join(content)

    async def _until(self, mark: bytes) -> bytes:
        data = b""
        while mark not in data:
            piece = await self.some()
            if not piece:
                raise EOFError(data)
            data += piece
        found, _, rest = data.partition(mark)
        self._buffered = rest + self._buffered
        return found + mark

    async def arriving(self) -> None:
        """Wait until there is something to receive, and leave it there."""
        arrived = asyncio.Event()
        self._loop.add_reader(self.socket, arrived.set)
        try:
            async with asyncio.timeout(PATIENCE_S):
                await arrived.wait()
        finally:
            self._loop.remove_reader(self.socket)

    async def some(self, limit: int = 262_144) -> bytes:
        """Receive at least one byte and at most ``limit``; nothing at the end."""
        if self._buffered:
            piece, self._buffered = self._buffered[:limit], self._buffered[limit:]
            return piece
        async with asyncio.timeout(PATIENCE_S):
            return await self._loop.sock_recv(self.socket, limit)

    async def ended(self) -> bool:
        """Whether the server ends the connection now, without another byte."""
        try:
            return not await self.some(1)
        except ConnectionResetError:
            return True


def _field(line: str) -> tuple[str, str]:
    name, colon, value = line.partition(":")
    if not colon or name != name.strip() or not name:
        raise ValueError(f"not a field line: {line!r}")
    return name, value.strip(" \t")
