"""A transport around another one, to be subclassed."""

import attrs
import pytest

from cachestream.abc import Transport, UpstreamRequest
from cachestream.errors import AccessDeniedError, ConfigurationError
from cachestream.testing.origin import Origin
from cachestream.testing.transports import Collector
from cachestream.transports import (
    FilesystemTransport,
    HttpTransport,
    SchemeTransport,
    TransportWrapper,
)


class Renewing(HttpTransport):
    """A transport with answers of its own to everything that can be asked."""

    async def prepare(self, request):
        return attrs.evolve(request, fields=request.fields.replace(("X-Inner", "1")))

    async def refresh(self, source, status):
        return f"{source}?status={status}"


class Signed(TransportWrapper):
    """Signs what the inner transport has prepared."""

    async def prepare(self, request):
        request = await super().prepare(request)
        names = ",".join(name for name, _ in request.fields)
        return attrs.evolve(request, fields=request.fields.replace(("X-Signed", names)))


@pytest.mark.asyncio
async def test_everything_is_passed_on():
    """A wrapper that overrides nothing is its inner transport."""
    wrapper = TransportWrapper(Renewing())
    assert wrapper.schemes == {"http", "https"}
    assert await wrapper.refresh("http://a/", 403) == "http://a/?status=403"
    prepared = await wrapper.prepare(UpstreamRequest(url="http://a/", source="http://a/"))
    assert prepared.fields.get("X-Inner") == "1"
    await wrapper.aclose()


@pytest.mark.asyncio
async def test_a_subclass_signs_what_the_inner_one_prepared():
    """Wrappers nest: the outer one sees what the inner one will send."""
    wrapper = Signed(Signed(Renewing()))
    async with Origin() as origin:
        origin.add("/a", b"x")
        url = origin.url("/a")
        request = await wrapper.prepare(UpstreamRequest(url=url, source=url))
        async with await wrapper.fetch(request) as response:
            await response.pour(Collector())
        await wrapper.aclose()
        assert origin.requests[0].fields.get("X-Signed") == "X-Inner,X-Signed"


@pytest.mark.asyncio
async def test_closing_closes_the_inner_one():
    """The wrapper owns what it wraps."""
    closed = []

    class Inner(Transport):
        async def fetch(self, request):
            raise AssertionError

        async def aclose(self):
            closed.append(True)

    await TransportWrapper(Inner()).aclose()
    assert closed == [True]


def deny(address, port):
    """Deny every address."""
    raise AccessDeniedError(f"{address} is denied")


@pytest.mark.asyncio
@pytest.mark.parametrize(
    "wrap", [TransportWrapper, lambda inner: SchemeTransport([inner])], ids=["wrapper", "scheme"]
)
async def test_addresses_are_checked_through_a_wrapper(wrap):
    """A filter that is added to the outer transport denies what the inner one would ask."""
    transport = wrap(HttpTransport())
    transport.add_address_filter(deny)
    async with Origin() as origin:
        url = origin.url("/a")
        with pytest.raises(AccessDeniedError):
            await transport.fetch(UpstreamRequest(url=url, source=url))
        await transport.aclose()
        assert origin.count() == 0


@pytest.mark.asyncio
async def test_a_transport_without_addresses_says_so():
    """A filter that nobody would ask is not taken silently, but several go on without it."""
    wrapper = TransportWrapper(FilesystemTransport(("memory",)))
    with pytest.raises(ConfigurationError):
        wrapper.add_address_filter(deny)
    several = SchemeTransport([wrapper])
    several.add_address_filter(deny)
    await several.aclose()


def test_a_request_that_is_shown_gives_no_signature_away():
    """Neither values of the query nor of fields are in what a request looks like in a log."""
    url = "https://a.example/film?expires=17&sig=hush"
    request = UpstreamRequest(url=url, source=url)
    request = attrs.evolve(request, fields=request.fields.replace(("Authorization", "hush")))
    assert "hush" not in repr(request)
    assert repr(request).count("https://a.example/film?expires=…&sig=…") == 2
