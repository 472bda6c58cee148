"""A transport and a response around another one, to be subclassed."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable

from cachestream.abc import Buffer, Sink, Transport, UpstreamRequest, UpstreamResponse
from cachestream.errors import ConfigurationError

__all__ = ["ResponseWrapper", "TransportWrapper"]


class TransportWrapper(Transport):
    """Passes everything to ``inner``: override what shall be different.

    It owns ``inner``: closing it closes that. Override `prepare` to sign or to log,
    `refresh` to renew URLs, `fetch` to measure or to delay.

    Args:
        inner: Any transport.

    Example:
        Add a signature to any transport's requests::

            class Signed(TransportWrapper):
                async def prepare(self, request):
                    request = await super().prepare(request)
                    return attrs.evolve(request, fields=request.fields.replace(sign(request)))
    """

    def __init__(self, inner: Transport) -> None:
        self.inner = inner
        self.schemes = inner.schemes

    async def prepare(self, request: UpstreamRequest) -> UpstreamRequest:
        return await self.inner.prepare(request)

    async def refresh(self, source: str, status: int) -> str | None:
        return await self.inner.refresh(source, status)

    async def fetch(self, request: UpstreamRequest) -> UpstreamResponse:
        return await self.inner.fetch(request)

    def add_address_filter(self, address_filter: Callable[[str, int], None]) -> None:
        """Check the addresses of new connections of the inner transport with one more filter.

        Raises:
            ConfigurationError: If it does not let its addresses be checked.
        """
        add = getattr(self.inner, "add_address_filter", None)
        if add is None:
            raise ConfigurationError("the inner transport does not let its addresses be checked")
        add(address_filter)

    async def aclose(self) -> None:
        await self.inner.aclose()


class ResponseWrapper(UpstreamResponse):
    """Passes everything to ``inner``: override what shall be seen, or answered otherwise.

    It owns ``inner``: closing it closes that. Override `failed` to learn of content that
    breaks off, whichever way it is read.

    Args:
        inner: Any response.
    """

    def __init__(self, inner: UpstreamResponse) -> None:
        self.inner = inner
        self.status = inner.status
        self.fields = inner.fields
        self.url = inner.url
        self.request_time = inner.request_time
        self.response_time = inner.response_time
        self._iterator: AsyncIterator[Buffer]

    def failed(self, error: Exception) -> None:
        """Look at what was raised while content was read; it is raised on afterwards."""

    def __aiter__(self) -> AsyncIterator[Buffer]:
        self._iterator = aiter(self.inner)
        return self

    async def __anext__(self) -> Buffer:
        try:
            return await anext(self._iterator)
        except StopAsyncIteration:
            raise
        except Exception as error:
            self.failed(error)
            raise

    async def pour(self, sink: Sink) -> bool:
        try:
            return await self.inner.pour(sink)
        except Exception as error:
            self.failed(error)
            raise

    async def aclose(self) -> None:
        await self.inner.aclose()
