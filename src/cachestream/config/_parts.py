"""The parts of a manager, made from what it was given: objects, names, or names with options."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import attrs

from cachestream.abc import Transport
from cachestream.config._plugin import Plugin, make_plugin, nearest
from cachestream.errors import ConfigurationError
from cachestream.registry import Kind, Registry
from cachestream.settings import Settings

__all__ = ["Parts"]


@attrs.frozen
class Parts:
    """Makes parts, and tells which of them must be closed by whoever asked for them.

    Args:
        registry: Where plug-ins are found.
        settings: The manager's settings.
    """

    registry: Registry
    settings: Settings

    def make(self, kind: Kind, given: Any, **more: Any) -> tuple[Any, bool]:
        """Return a part, and whether it was made here; ``more`` is told to its plug-in."""
        if isinstance(given, str):
            given = Plugin(given)
        if not isinstance(given, Plugin):
            return given, False
        return make_plugin(self.registry, kind, given, self.settings, **more), True

    def make_transport(self, given: Any) -> tuple[Transport, tuple[Transport, ...]]:
        """Return the transport, and those that were made here.

        Several become one that hands each URL to the one that serves its scheme; the setting
        ``schemes`` names one for a scheme that several claim.

        Raises:
            PluginConflictError: If two claim a scheme that is not mapped.
            ConfigurationError: If ``schemes`` names none of them.
        """
        several = given if isinstance(given, Sequence) and not isinstance(given, str) else (given,)
        if not several:
            raise ConfigurationError("a manager needs at least one transport")
        made = [self.make("transport", each) for each in several]
        owned = tuple(transport for transport, ours in made if ours)
        transports = [transport for transport, _ in made]
        named = {
            _name_of(each): transport for each, transport in zip(several, transports, strict=True)
        }
        mapping = self._mapping(named)
        if len(transports) == 1 and not mapping:
            return transports[0], owned
        # Here and not above: it is needed only now, and its package imports aiohttp.
        from cachestream.transports import SchemeTransport

        return SchemeTransport(transports, mapping), owned

    def _mapping(self, named: Mapping[str, Transport]) -> dict[str, Transport]:
        mapping = {}
        for scheme, name in self.settings.schemes.items():
            if name not in named:
                raise ConfigurationError(
                    f"schemes: {scheme} URLs are left to {name!r}, which is no transport in use",
                    hint=nearest(name, filter(None, named), "In use are"),
                )
            if scheme.lower() not in named[name].schemes:
                served = ", ".join(sorted(named[name].schemes))
                raise ConfigurationError(
                    f"schemes: {name!r} does not serve {scheme} URLs", hint=f"It serves {served}."
                )
            mapping[scheme] = named[name]
        return mapping


def _name_of(given: Any) -> str:
    """Return the name something was chosen by; the class's name for an object."""
    if isinstance(given, str):
        return given
    return given.name if isinstance(given, Plugin) else type(given).__name__
