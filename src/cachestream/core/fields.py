"""HTTP fields as an immutable value (RFC 9110 §5)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

import attrs

__all__ = ["Fields"]


@attrs.frozen(repr=False)
class Fields:
    """Field lines in the order they came; names compare without case.

    Names keep the spelling they came with. Repeated names stay separate lines, so that
    ``Set-Cookie`` is never joined.

    Example:
        >>> fields = Fields.of(("ETag", '"a"'), ("Vary", "Accept"), ("vary", "Cookie"))
        >>> fields.get("etag"), fields.joined("Vary")
        ('"a"', 'Accept, Cookie')
    """

    lines: tuple[tuple[str, str], ...] = ()

    @classmethod
    def of(cls, *lines: tuple[str, str]) -> Fields:
        """Make fields from name and value pairs."""
        return cls(lines)

    @classmethod
    def parse(cls, lines: Iterable[tuple[str, str]]) -> Fields:
        """Make fields from any iterable of name and value pairs (a mapping's items)."""
        return cls(tuple((str(name), str(value)) for name, value in lines))

    def __iter__(self) -> Iterator[tuple[str, str]]:
        return iter(self.lines)

    def __len__(self) -> int:
        return len(self.lines)

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and self.get(name) is not None

    def __repr__(self) -> str:
        # Values may hold credentials; names are enough to understand a log line.
        return f"Fields({', '.join(name for name, _ in self.lines)})"

    def get(self, name: str, default: str | None = None) -> str | None:
        """Return the value of the first line with this name."""
        wanted = name.lower()
        for key, value in self.lines:
            if key.lower() == wanted:
                return value
        return default

    def get_all(self, name: str) -> tuple[str, ...]:
        """Return the values of all lines with this name, in order."""
        wanted = name.lower()
        return tuple(value for key, value in self.lines if key.lower() == wanted)

    def joined(self, name: str) -> str | None:
        """Return all values of a list field as one (RFC 9110 §5.3); None if absent."""
        values = self.get_all(name)
        return ", ".join(values) if values else None

    def replace(self, *lines: tuple[str, str]) -> Fields:
        """Return these fields with the given names set to the given values."""
        gone = {name.lower() for name, _ in lines}
        kept = tuple(line for line in self.lines if line[0].lower() not in gone)
        return Fields(kept + lines)

    def without(self, *names: str) -> Fields:
        """Return these fields less those names."""
        gone = {name.lower() for name in names}
        return Fields(tuple(line for line in self.lines if line[0].lower() not in gone))

    def filter(self, keep: Callable[[str], bool]) -> Fields:
        """Return the lines whose lower-case name passes ``keep``."""
        return Fields(tuple(line for line in self.lines if keep(line[0].lower())))
