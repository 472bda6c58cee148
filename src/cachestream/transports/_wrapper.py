"""A transport around another one, to be subclassed."""

from __future__ import annotations

from cachestream.abc import Transport, UpstreamRequest, UpstreamResponse

__all__ = ["TransportWrapper"]


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

    async def aclose(self) -> None:
        await self.inner.aclose()
