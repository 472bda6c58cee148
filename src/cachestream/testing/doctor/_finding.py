"""Finding the plug-in that a person means, by metadata alone."""

from __future__ import annotations

import difflib

from cachestream.errors import ConfigurationError, PluginConflictError, PluginNotFoundError
from cachestream.registry import BY_HAND, OWN, Kind, PluginInfo, Registry

__all__ = ["find_plugin"]


def find_plugin(registry: Registry, name: str, kind: Kind | None = None) -> PluginInfo:
    """Return the one plug-in that ``name`` stands for; nothing is imported.

    Args:
        registry: Where to look.
        name: A plug-in's name, or ``distribution:name``.
        kind: Its kind, None if the name says enough.

    Raises:
        PluginNotFoundError: If nothing is called so, or the environment left it out.
        PluginConflictError: If two distributions claim the name.
        ConfigurationError: If plug-ins of several kinds have the name.
    """
    distribution, _, bare = name.rpartition(":")
    every = [info for info in registry.listing() if kind in (None, info.kind)]
    named = [
        info
        for info in every
        if info.name == bare and distribution.replace("_", "-").lower() in ("", info.distribution)
    ]
    what = kind or "plug-in"
    if not named:
        near = difflib.get_close_matches(bare, {info.name for info in every}, n=3, cutoff=0.5)
        hint = f"Did you mean {' or '.join(map(repr, near))}?" if near else None
        raise PluginNotFoundError(
            f"no {what} is called {name!r}",
            hint=hint or "`cachestream plugins` lists what is installed.",
        )
    kinds = {info.kind for info in named}
    if len(kinds) > 1:
        raise ConfigurationError(
            f"{name!r} is the name of a {' and of a '.join(sorted(kinds))}",
            hint="Say which one with --kind.",
        )
    usable = [info for info in named if info.status != "disabled"]
    if not usable:
        raise PluginNotFoundError(
            f"the {named[0].kind} {name!r} of {named[0].origin} is not used: {named[0].detail}"
        )
    ours = [info for info in usable if info.distribution in (OWN, BY_HAND)]
    if len(ours or usable) > 1:
        raise PluginConflictError(
            f"the {usable[0].kind} {name!r} is claimed by "
            + " and by ".join(info.origin for info in usable),
            hint="Write " + " or ".join(repr(info.qualified_name) for info in usable) + ".",
        )
    return (ours or usable)[0]
