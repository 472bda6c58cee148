"""Sizes and durations as people write them, both ways."""

from __future__ import annotations

import re
from typing import Final

__all__ = ["format_duration", "format_size", "parse_duration", "parse_size"]

_UNITS: Final[dict[str, int]] = {
    unit: base**power
    for power, prefix in enumerate(["", "k", "m", "g", "t", "p"])
    for unit, base in ((prefix, 1024), (f"{prefix}ib", 1024), (f"{prefix}b", 1000))
    if unit != "ib"
}
_SECONDS: Final = {"": 1.0, "ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_NUMBER: Final = r"(\d+(?:\.\d+)?|\.\d+)"
_SIZE: Final = re.compile(rf"{_NUMBER}\s*([a-z]*)", re.IGNORECASE | re.ASCII)
_DURATION_PART: Final = re.compile(rf"{_NUMBER}\s*(ms|[smhd])\s*", re.ASCII)


def parse_size(text: str) -> int:
    """Return a number of bytes: ``500``, ``500MB`` (decimal), ``5GiB`` or ``5G`` (binary).

    Raises:
        ValueError: If it is no size, or no whole number of bytes.
    """
    match = _SIZE.fullmatch(text.strip())
    factor = _UNITS.get(match[2].lower()) if match else None
    if match is None or factor is None:
        raise ValueError(f"{text!r} is no size; write it like 500MB, 64KiB or 5GiB")
    whole, _, decimals = match[1].partition(".")
    # In integers, since a float has no room for every number of bytes.
    scale = 10 ** len(decimals)
    size: int
    size, rest = divmod(int(f"{whole or 0}{decimals}") * factor, scale)
    if rest and factor == 1:
        raise ValueError(f"{text!r} is no whole number of bytes")
    return size


def parse_duration(text: str) -> float:
    """Return seconds: ``10``, ``10s``, ``1.5h``, ``250ms``, ``1h30m``.

    Raises:
        ValueError: If it is no duration.
    """
    stripped = text.strip()
    if re.fullmatch(_NUMBER, stripped, re.ASCII):
        return float(stripped)
    position, total = 0, 0.0
    while position < len(stripped):
        match = _DURATION_PART.match(stripped, position)
        if match is None:
            break
        total += float(match[1]) * _SECONDS[match[2]]
        position = match.end()
    if not stripped or position < len(stripped):
        raise ValueError(f"{text!r} is no duration; write it like 10s, 5m or 1h30m")
    return total


def format_size(size: int) -> str:
    """Return bytes in the largest binary unit that keeps the number at least 1.

    A whole number of a unit is written without decimals, so that it can be read back.
    """
    if size < 1024:
        return f"{size} B"
    power = 1
    # 1023.95 would be rounded to 1024.0, which is 1 of the next unit.
    while size / 1024**power >= 1023.95 and power < 5:
        power += 1
    value, unit = size / 1024**power, ("KiB", "MiB", "GiB", "TiB", "PiB")[power - 1]
    return f"{value:.0f} {unit}" if value == int(value) else f"{value:.1f} {unit}"


def format_duration(seconds: float) -> str:
    """Return seconds as a person would say them: ``0.5s``, ``42s``, ``3m05s``, ``2h``."""
    if seconds < 10 and seconds != int(seconds):
        return f"{seconds:.3g}s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole}s"
    for small, large, (low, high) in ((60, 3600, "sm"), (3600, 86400, "mh")):
        if whole < large:
            rest = whole % small * 60 // small
            return f"{whole // small}{high}" + (f"{rest:02}{low}" if rest else "")
    rest = whole % 86400 // 3600
    return f"{whole // 86400}d" + (f"{rest:02}h" if rest else "")
