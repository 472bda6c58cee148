"""One transport made of several, each for its own URL schemes."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence

from cachestream.abc import Transport, UpstreamRequest, UpstreamResponse
from cachestream.core.urls import display
from cachestream.errors import ConfigurationError, InvalidURLError, PluginConflictError

__all__ = ["SchemeTransport"]


class SchemeTransport(Transport):
    """Hands each request to the transport that serves the scheme of its URL.

    It owns its transports: closing it closes them all.

    Args:
        transports: Each serves its `schemes`.
        mapping: Says for a scheme which transport serves it; needed where two claim one.

    Raises:
        PluginConflictError: If two claim a scheme that is not mapped.

    Example:
        >>> from cachestream.transports import HttpTransport
        >>> sorted(SchemeTransport([HttpTransport()]).schemes)
        ['http', 'https']
    """

    def __init__(
        self, transports: Sequence[Transport], mapping: Mapping[str, Transport] | None = None
    ) -> None:
        chosen = {scheme.lower(): transport for scheme, transport in (mapping or {}).items()}
        claimed: dict[str, Transport] = {}
        for transport in transports:
            for scheme in transport.schemes:
                other = claimed.setdefault(scheme, transport)
                if other is not transport and scheme not in chosen:
                    raise PluginConflictError(
                        f"{_name(other)} and {_name(transport)} both serve {scheme} URLs",
                        hint=f"Say which one shall serve {scheme}, or leave one of them out",
                    )
        self._by_scheme = claimed | chosen
        self.schemes = frozenset(self._by_scheme)
        # In order, each once; transports are compared by identity.
        every = (*transports, *chosen.values())
        self._transports = tuple({id(each): each for each in every}.values())

    def transport_for(self, url: str) -> Transport:
        """Return the transport that serves ``url``.

        Raises:
            InvalidURLError: If none does.
        """
        scheme = url.partition(":")[0].lower()
        try:
            return self._by_scheme[scheme]
        except KeyError:
            raise InvalidURLError(
                "no transport serves URLs of this scheme",
                url=display(url),
                hint=f"Schemes that are served: {', '.join(sorted(self.schemes))}",
            ) from None

    def add_address_filter(self, address_filter: Callable[[str, int], None]) -> None:
        """Check addresses with one more filter, in each transport that lets them be checked."""
        for transport in self._transports:
            add = getattr(transport, "add_address_filter", None)
            if add is not None:
                with contextlib.suppress(ConfigurationError):
                    add(address_filter)

    async def prepare(self, request: UpstreamRequest) -> UpstreamRequest:
        return await self.transport_for(request.url).prepare(request)

    async def refresh(self, source: str, status: int) -> str | None:
        return await self.transport_for(source).refresh(source, status)

    async def fetch(self, request: UpstreamRequest) -> UpstreamResponse:
        return await self.transport_for(request.url).fetch(request)

    async def aclose(self) -> None:
        """Close every transport, even if closing one fails.

        Raises:
            ExceptionGroup: Of what failed, when all have been closed.
        """
        failures: list[Exception] = []
        for transport in self._transports:
            try:
                await transport.aclose()
            except Exception as exc:
                failures.append(exc)
        if failures:
            raise ExceptionGroup("closing transports failed", failures)


def _name(transport: Transport) -> str:
    kind = type(transport)
    return f"{kind.__module__}.{kind.__qualname__}"
