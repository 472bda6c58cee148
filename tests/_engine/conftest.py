"""An engine on a bench: no manager, no network, no real time; and a transport with a script."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable
from typing import Any

import attrs
import pytest

from cachestream._engine import download, scheduling, sharing
from cachestream._engine.context import EngineContext
from cachestream._engine.pool import ResourcePool
from cachestream._engine.resource import Resource
from cachestream.abc import END, Buffer, Store, Transport, UpstreamRequest, UpstreamResponse
from cachestream.backends import MemoryStore
from cachestream.core.fields import Fields
from cachestream.core.ranges import RangeSpec
from cachestream.events import Event
from cachestream.settings import Settings
from cachestream.testing.simulation import SimLoop, SimOrigin, SimTransport, Version, simulate

SOURCE = "https://origin.example/film.mp4"
CONTENT = random.Random(1).randbytes(100_000)


@attrs.frozen
class Line:
    """One answer of a script; it ends so many turns after its content, if need be with an error."""

    status: int = 200
    fields: tuple[tuple[str, str], ...] = ()
    content: bytes = b""
    error: Exception | None = None
    linger: int = 0


class ScriptResponse(UpstreamResponse):
    """Plays one line."""

    def __init__(self, transport: Script, request: UpstreamRequest, line: Line, now: float) -> None:
        self.status = line.status
        self.fields = Fields.of(*line.fields)
        self.url = request.url
        self.request_time = self.response_time = now
        self._transport = transport
        self._line = line
        self._closed = False
        transport.open_responses += 1

    async def __aiter__(self) -> AsyncIterator[Buffer]:
        for start in range(0, len(self._line.content), 1000):
            yield self._line.content[start : start + 1000]
            await asyncio.sleep(0)
        for _ in range(self._line.linger):
            await asyncio.sleep(0)
        if self._line.error is not None:
            raise self._line.error

    async def aclose(self) -> None:
        if not self._closed:
            self._closed = True
            self._transport.open_responses -= 1


class Script(Transport):
    """Answers by a list of lines, or of errors to raise; notes what was asked."""

    schemes = frozenset({"http", "https"})

    def __init__(self, lines: Iterable[Line | Exception]) -> None:
        self.lines = list(lines)
        self.asked: list[UpstreamRequest] = []
        self.refreshed: list[int] = []
        self.renewed: str | None = None
        self.open_responses = 0

    async def fetch(self, request: UpstreamRequest) -> UpstreamResponse:
        self.asked.append(request)
        await asyncio.sleep(0)
        line = self.lines.pop(0)
        if isinstance(line, Exception):
            raise line
        return ScriptResponse(self, request, line, 1_800_000_000.0)

    async def refresh(self, source: str, status: int) -> str | None:
        self.refreshed.append(status)
        return self.renewed

    async def aclose(self) -> None:
        """Nothing is open."""


class Bench:
    """An engine's context and pool, and what was seen of them."""

    def __init__(self, loop: SimLoop, transport: Any, store: Store, settings: Settings) -> None:
        self.loop = loop
        self.transport = transport
        self.store = store
        self.events: list[Event] = []
        self.tasks: set[asyncio.Task[None]] = set()
        self.context = EngineContext(
            transport=transport,
            store=store,
            settings=settings,
            background=self._background,
            clock=loop.wall_clock,
            chance=random.Random(5),
            listeners=[self.events.append],
        )
        self.context.name_origin(SOURCE)
        self.pool = ResourcePool(self.context)

    def _background(self, work: Coroutine[Any, Any, None], name: str) -> asyncio.Task[None]:
        task = self.loop.create_task(work, name=name)
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)
        return task

    @property
    def asked(self) -> list[str | None]:
        """The ranges asked for so far."""
        return [request.fields.get("range") for request in self.transport.asked]

    @property
    def origin(self) -> SimOrigin:
        """The simulated origin."""
        return self.transport.origin

    def resource(self, **changes: Any) -> Resource:
        """Return the resource of the film, retained."""
        settings = self.context.settings.for_stream(**changes) if changes else None
        return self.pool.retain(SOURCE, settings=settings)

    async def read(self, spec: RangeSpec | None = None, resource: Resource | None = None) -> bytes:
        """Read a range to its end."""
        chosen = self.resource() if resource is None else resource
        try:
            reader = await self.pool.obtain(chosen, spec)
        finally:
            if resource is None:
                self.pool.release_resource(chosen)
        got = bytearray()
        try:
            while (piece := await reader.next(10_000)) is not END:
                assert isinstance(piece, bytes | bytearray | memoryview)
                got += piece
        finally:
            reader.close()
        return bytes(got)

    def seen(self, kind: type[Event]) -> list[Event]:
        """Return the events of one kind."""
        return [event for event in self.events if isinstance(event, kind)]

    async def aclose(self) -> None:
        """Close everything; nothing may be left."""
        await self.pool.aclose()
        self.context.closing = True
        while self.tasks:
            await asyncio.wait(self.tasks)
        assert self.transport.open_responses == 0
        assert self.context.ahead.granted == 0
        assert not getattr(self.store, "_handles", ())
        await self.store.aclose()


Scenario = Callable[[Bench], Coroutine[Any, Any, None]]


@pytest.fixture(autouse=True)
def small_constants(monkeypatch):
    """Engine constants are megabytes; here even a small file takes several requests."""
    monkeypatch.setattr(download, "FIRST_REQUEST", 32 * 1024)
    monkeypatch.setattr(download, "LARGEST_REQUEST", 64 * 1024)
    monkeypatch.setattr(scheduling, "LEAST_WANT", 4 * 1024)
    monkeypatch.setattr(sharing, "LEAST_WINDOW", 16 * 1024)
    monkeypatch.setattr(scheduling, "KEEP", 8 * 1024)


@pytest.fixture
def on_bench() -> Callable[..., None]:
    """Run a scenario on a bench: ``on_bench(scenario, settings…)``."""

    def run(
        scenario: Scenario,
        *,
        script: Iterable[Line | Exception] | None = None,
        store: Callable[[SimLoop], Store] | None = None,
        origin: Callable[[SimOrigin], object] | None = None,
        **settings: Any,
    ) -> None:
        async def live(loop: SimLoop) -> None:
            transport: Any
            if script is None:
                simulated = SimOrigin([Version(CONTENT, '"v1"')], random.Random(3))
                if origin is not None:
                    origin(simulated)
                asked: list[UpstreamRequest] = []
                transport = SimTransport(simulated, watch=asked.append)
                transport.asked = asked
            else:
                transport = Script(script)
            made = MemoryStore(clock=loop.wall_clock) if store is None else store(loop)
            chosen = Settings(**{"start_server": False, "completion": "demand", **settings})
            bench = Bench(loop, transport, made, chosen)
            await scenario(bench)
            await bench.aclose()

        simulate(live, random.Random(11))

    return run


@pytest.fixture
def line() -> type[Line]:
    """Write a line of a script."""
    return Line


@pytest.fixture
def content() -> bytes:
    """Return the content of the simulated origin."""
    return CONTENT
