"""The origin itself: a listener, its files, and the log of what was asked."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self

from cachestream.testing.origin._connection import Connection, Exchange
from cachestream.testing.origin._served import Data, OriginRequest, Served

__all__ = ["Origin"]


class Origin:
    """A real HTTP/1.1 server on loopback that behaves as well or as badly as it is told.

    It is an async context manager; leaving it drops what is open and raises the errors of
    functions it was given. Nothing of it needs sleeping: see `wait_request`, `wait` and
    `Served.gate`.

    Args:
        host: Address to listen on.
        port: Port to listen on, 0 for any free one.
        ssl_context: Serve TLS with this context.
        send_buffer: Size of the kernel's send buffer in bytes, None for its own choice. A small
            one makes `bytes_sent` follow closely what the client has read.

    Attributes:
        files: What is served, by path or by full target.
        fallback: What any other target gets; None for 404.
        accepted: How many connections were ever accepted.

    Example:
        async with Origin() as origin:
            served = origin.add("/a.bin", pattern("a", 1 << 20))
            served.drop(after=1000)
            ...  # fetch origin.url("/a.bin")
            assert origin.count("/a.bin") == 2
    """

    def __init__(
        self,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        ssl_context: ssl.SSLContext | None = None,
        send_buffer: int | None = None,
    ) -> None:
        self.files: dict[str, Served] = {}
        self.fallback: Served | None = None
        self.accepted = 0
        self._host = host
        self._port = port
        self._ssl = ssl_context
        self._send_buffer = send_buffer
        self._server: asyncio.Server | None = None
        self._connections: set[Connection] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._exchanges: list[Exchange] = []
        self._waiters: list[tuple[Callable[[], bool], asyncio.Future[None]]] = []
        self._errors: list[Exception] = []

    async def __aenter__(self) -> Self:
        await self.up()
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.down()
        if not self._errors:
            return
        if exc is None:
            raise ExceptionGroup("functions given to the origin failed", self._errors)
        for error in self._errors:
            exc.add_note(f"the origin failed too: {error!r}")

    async def up(self) -> None:
        """Listen; after `down`, on the same port as before."""
        if self._server is not None:
            return
        family = socket.AF_INET6 if ":" in self._host else socket.AF_INET
        listener = socket.create_server((self._host, self._port), family=family, backlog=1024)
        if self._send_buffer is not None:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, self._send_buffer)
        self._port = listener.getsockname()[1]
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(
            lambda: Connection(self), sock=listener, ssl=self._ssl
        )

    async def down(self) -> None:
        """Stop listening and drop every connection; connecting is refused from then on."""
        server, self._server = self._server, None
        if server is None:
            return
        server.close()
        self.drop_connections()
        tasks = tuple(self._tasks)
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
        await self.wait_connections(0)
        await server.wait_closed()

    def drop_connections(self, *, reset: bool = False) -> None:
        """Drop every open connection, idle ones included."""
        for connection in tuple(self._connections):
            connection.abort(reset=reset)

    @property
    def port(self) -> int:
        """The port; 0 before the first `up` if none was named."""
        return self._port

    @property
    def authority(self) -> str:
        """Host and port as they stand in a URL."""
        host = f"[{self._host}]" if ":" in self._host else self._host
        return f"{host}:{self._port}"

    def url(self, path: str = "/") -> str:
        """Return the absolute URL of ``path``, which is used as it is."""
        return f"{'http' if self._ssl is None else 'https'}://{self.authority}{path}"

    def add(self, path: str, data: Data = b"", **knobs: Any) -> Served:
        """Serve ``data`` at ``path`` (a full target with its query wins over a bare path).

        Args:
            path: Begins with a slash; percent-encoded as on the wire.
            data: Bytes, content such as `pattern`, or a function from the request to either.
            **knobs: Attributes of `Served`.
        """
        served = Served(data=data, **knobs)
        self.files[path] = served
        return served

    def find(self, request: OriginRequest) -> Served | None:
        """Return what serves a request."""
        if request.target in self.files:
            return self.files[request.target]
        return self.files.get(request.path, self.fallback)

    @property
    def requests(self) -> list[OriginRequest]:
        """What was asked, in order of arrival, as known now."""
        return [exchange.record() for exchange in self._exchanges]

    @property
    def connections(self) -> int:
        """How many connections are open."""
        return len(self._connections)

    def requests_for(self, path: str) -> list[OriginRequest]:
        """Return the requests whose path or full target is ``path``."""
        return [item for item in self.requests if path in (item.path, item.target)]

    def count(self, path: str | None = None) -> int:
        """Return how many requests there were, for ``path`` or in all."""
        return len(self._exchanges) if path is None else len(self.requests_for(path))

    def bytes_sent(self, path: str | None = None) -> int:
        """Return how many bytes of content were sent, for ``path`` or in all.

        Bytes in the kernel's buffers count, whether or not the client has read them.
        """
        items = self.requests if path is None else self.requests_for(path)
        return sum(item.bytes_sent for item in items)

    def reset_log(self) -> None:
        """Forget the requests so far."""
        self._exchanges.clear()

    async def wait(self, condition: Callable[[], bool], timeout: float = 10.0) -> None:
        """Wait until ``condition`` holds; it is looked at whenever something happens here.

        Raises:
            TimeoutError: If it did not hold within ``timeout`` seconds.
        """
        if condition():
            return
        future = asyncio.get_running_loop().create_future()
        waiter = (condition, future)
        self._waiters.append(waiter)
        try:
            async with asyncio.timeout(timeout):
                await future
        except TimeoutError:
            seen = [(item.target, item.status, item.bytes_sent) for item in self.requests]
            raise TimeoutError(f"waited {timeout} s in vain; the origin saw {seen}") from None
        finally:
            self._waiters.remove(waiter)

    async def wait_request(
        self, n: int = 1, path: str | None = None, timeout: float = 10.0
    ) -> OriginRequest:
        """Wait for the ``n``-th request (from 1, for ``path`` if given) and return it."""
        await self.wait(lambda: self.count(path) >= n, timeout)
        return (self.requests if path is None else self.requests_for(path))[n - 1]

    async def wait_idle(self, timeout: float = 10.0) -> None:
        """Wait until no answer is under way."""
        await self.wait(lambda: all(item.done for item in self._exchanges), timeout)

    async def wait_connections(self, n: int = 0, timeout: float = 10.0) -> None:
        """Wait until exactly ``n`` connections are open."""
        await self.wait(lambda: len(self._connections) == n, timeout)

    # What connections report.

    def _opened(self, connection: Connection, task: asyncio.Task[None]) -> None:
        self.accepted += 1
        connection.number = self.accepted
        self._connections.add(connection)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        self._changed()

    def _lost(self, connection: Connection) -> None:
        self._connections.discard(connection)
        self._changed()

    def _asked(self, request: OriginRequest) -> Exchange:
        exchange = Exchange(request)
        self._exchanges.append(exchange)
        self._changed()
        return exchange

    def _failed(self, error: Exception) -> None:
        self._errors.append(error)

    def _changed(self) -> None:
        for condition, future in self._waiters:
            if not future.done() and condition():
                future.set_result(None)
