"""What the program said of single sources: a key of their own, and how to renew their URLs."""

from __future__ import annotations

from collections.abc import Collection
from typing import Final

import attrs

from cachestream.abc import Key, RefreshFunction
from cachestream.errors import ConfigurationError

__all__ = ["Named", "Names", "check_key"]

SOURCES: Final = 16
"""How many URLs of one key are known: clients may still hold a few of those that expired."""


@attrs.define(eq=False)
class Named:
    """What is known of one key.

    Attributes:
        url: The URL to ask, the newest that is known.
        refresh: Renews it, None if only the transport may.
        sources: The URLs that stand for the key, the newest last.
    """

    url: str
    refresh: RefreshFunction | None = None
    sources: dict[str, None] = attrs.field(factory=dict)


class Names:
    """Keys by source, and what belongs to them, for as long as the manager lives."""

    def __init__(self) -> None:
        self._keys: dict[str, Key] = {}
        self._named: dict[Key, Named] = {}

    def key_of(self, source: str) -> Key | None:
        """Return the key the program gave a normalised source, None if it gave none."""
        return self._keys.get(source)

    def of(self, key: Key) -> Named | None:
        """Return what is known of a key, None if the program said nothing."""
        return self._named.get(key)

    def note(
        self,
        source: str,
        key: Key,
        refresh: RefreshFunction | None,
        in_use: Collection[str] = (),
    ) -> bool:
        """Note that ``source`` stands for ``key``; True if its URL is news.

        Args:
            source: The normalised source.
            key: Its key.
            refresh: Renews its URL; None leaves what was said before.
            in_use: Sources that may not be forgotten yet.
        """
        named = self._named.setdefault(key, Named(source))
        news = source not in named.sources
        if news:
            named.url = source
            named.sources[source] = None
            self._keys[source] = key
            self._forget(key, named, in_use)
        if refresh is not None:
            named.refresh = refresh
        return news

    def _forget(self, key: Key, named: Named, in_use: Collection[str]) -> None:
        """Let the oldest sources go where one key has gone through very many."""
        for source in list(named.sources)[:-SOURCES]:
            if source not in in_use:
                del named.sources[source]
                if self._keys.get(source) == key:
                    del self._keys[source]


def check_key(key: object) -> Key:
    """Return a key that the program gave, if it is one.

    Raises:
        ConfigurationError: If it is no text, or empty.
    """
    if not isinstance(key, str) or not key:
        raise ConfigurationError(
            f"a key is text that is not empty, not {key!r}",
            hint="Make it of what stays the same, such as a video's id and its format.",
        )
    return Key(key)
