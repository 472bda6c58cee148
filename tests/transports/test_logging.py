"""Wrappers that log and that delay."""

import asyncio
import itertools
import logging

import pytest
import pytest_asyncio

from cachestream.abc import UpstreamRequest
from cachestream.errors import ConfigurationError, ConnectError, TransportError
from cachestream.testing.origin import Origin, pattern
from cachestream.testing.transports import Collector, TransportContract, ask
from cachestream.transports import HttpTransport, LatencyTransport, LoggingTransport


class TestLoggingTransport(TransportContract):
    """A transport that logs keeps the contract."""

    @pytest.fixture
    def transport(self):
        return LoggingTransport(HttpTransport())

    @pytest.fixture
    def impatient(self):
        return LoggingTransport(HttpTransport(read_timeout=0.2))


class TestLatencyTransport(TransportContract):
    """A transport that waits keeps the contract."""

    @pytest.fixture
    def transport(self):
        return LatencyTransport(HttpTransport(), 0.0, 0.001)

    @pytest.fixture
    def impatient(self):
        return LatencyTransport(HttpTransport(read_timeout=0.2), 0.0, 0.001)


@pytest_asyncio.fixture
async def logged():
    """Make a transport whose clock goes half a second a look."""
    ticks = itertools.count(0, 0.5)
    transport = LoggingTransport(HttpTransport(), clock=lambda: next(ticks))
    yield transport
    await transport.aclose()


@pytest_asyncio.fixture
async def origin():
    """Serve from a real origin."""
    async with Origin() as origin:
        yield origin


@pytest.fixture
def lines(caplog):
    """Return what was logged, as it is written."""
    caplog.set_level(logging.DEBUG, "cachestream.transport")
    return lambda: [each.getMessage() for each in caplog.records]


@pytest.mark.asyncio
@pytest.mark.parametrize("poured", [True, False])
async def test_an_exchange_is_one_line(logged, origin, lines, poured):
    """The line comes at the end, however content is read, with what was received."""
    origin.add("/a", pattern("logged", 100_000))
    async with ask(logged, origin.url("/a"), ("Range", "bytes=5-50004")) as response:
        if poured:
            await response.pour(Collector())
        else:
            assert sum([len(piece) async for piece in response]) == 50_000
        assert lines() == []
    await response.aclose()
    url = origin.url("/a")
    assert lines() == [f"GET {url} [bytes=5-50004] 206 50000 bytes 0.500 s"]


@pytest.mark.asyncio
async def test_no_credential_is_logged(logged, origin, lines):
    """Neither query values nor fields get into the line."""
    target = "/a?X-Amz-Signature=hush&token=hush"
    origin.add(target, b"x")
    fields = (("Authorization", "Bearer hush"), ("Cookie", "id=hush"))
    async with ask(logged, origin.url(target), *fields) as response:
        await response.pour(Collector())
    (line,) = lines()
    assert "hush" not in line
    assert "X-Amz-Signature=…" in line


@pytest.mark.asyncio
async def test_a_failure_is_named(logged, origin, lines):
    """Content that breaks off and a connection that was not made say so by their token."""
    origin.add("/a", pattern("logged", 100_000), drop_after=0)
    for reading in (lambda r: r.pour(Collector()), anext_of):
        with pytest.raises(TransportError):
            async with ask(logged, origin.url("/a")) as response:
                await reading(response)
    await origin.down()
    with pytest.raises(ConnectError):
        async with ask(logged, origin.url("/a")):
            pass
    assert [line.split(" 200 ")[-1] for line in lines()[:2]] == [
        "0 bytes 0.500 s upstream-error"
    ] * 2
    assert lines()[2].endswith("/a - 0 bytes 0.500 s connect")


async def anext_of(response):
    """Read one piece by iteration."""
    return await anext(aiter(response))


@pytest.mark.asyncio
async def test_a_cancelled_exchange_is_logged(logged, origin, lines):
    """Whoever looks for a request that was given up finds it."""
    origin.add("/a", b"x", gate=asyncio.Event())
    request = UpstreamRequest(url=origin.url("/a"), source=origin.url("/a"))
    asking = asyncio.ensure_future(logged.fetch(request))
    await origin.wait_request(1)
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    assert lines()[0].endswith("- 0 bytes 0.500 s CancelledError")


@pytest.mark.asyncio
async def test_a_logger_and_a_level_can_be_chosen(origin, caplog):
    """The program says where lines go."""
    origin.add("/a", b"x")
    logger = logging.getLogger("program.upstream")
    transport = LoggingTransport(HttpTransport(), logger, level=logging.WARNING)
    async with ask(transport, origin.url("/a"), method="HEAD"):
        pass
    await transport.aclose()
    (record,) = caplog.records
    assert (record.name, record.levelname) == ("program.upstream", "WARNING")
    assert record.getMessage().startswith("HEAD ")


@pytest.mark.asyncio
async def test_latency_is_delay_and_a_part_of_the_jitter(origin):
    """Each exchange waits for itself, before anything is sent."""
    slept = []
    draws = iter([0.0, 0.5, 1.0])

    async def sleep(seconds):
        assert origin.count() == len(slept)
        slept.append(seconds)

    origin.add("/a", b"x")
    transport = LatencyTransport(HttpTransport(), 2.0, 4.0, sleep=sleep, draw=lambda: next(draws))
    for _ in range(3):
        async with ask(transport, origin.url("/a")) as response:
            await response.pour(Collector())
    await transport.aclose()
    assert slept == [2.0, 4.0, 6.0]


@pytest.mark.parametrize("times", [(-1.0, 0.0), (0.0, -1.0)])
def test_time_does_not_run_backwards(times):
    """A negative delay is a mistake."""
    with pytest.raises(ConfigurationError):
        LatencyTransport(HttpTransport(), *times)
