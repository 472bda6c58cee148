"""Sizes, durations, ranges and fields as people write them, as click types."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, Final

import click

from cachestream.core.quantities import parse_duration, parse_size
from cachestream.core.ranges import RangeSpec, parse_range

__all__ = [
    "HEADER",
    "WORDS",
    "DurationType",
    "HeaderType",
    "RangeType",
    "SizeType",
    "WordsType",
    "parse_one_range",
]


def parse_one_range(text: str) -> RangeSpec:
    """Return one range written as in HTTP: ``0-499``, ``500-`` or, the last 500, ``-500``.

    Raises:
        ValueError: If it is none of these, or more than one.
    """
    ranges = parse_range("bytes=" + text.strip().removeprefix("bytes="))
    if ranges is None or len(ranges) != 1:
        raise ValueError(f"{text!r} is no range; write it like 0-499, 500- or -500")
    return ranges[0]


class _ParsedType(click.ParamType[Any]):
    """A click type around one of the parsers; ``none`` and other words may stand for values."""

    parse: Callable[[str], Any]

    def __init__(self, **words: object) -> None:
        self.words = words

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> object:
        if not isinstance(value, str):
            return value
        word = value.strip().lower()
        if word in self.words:
            return self.words[word]
        try:
            return type(self).parse(value)
        except ValueError as error:
            others = f", or {' or '.join(self.words)}" if self.words else ""
            self.fail(f"{error}{others}", param, ctx)


class SizeType(_ParsedType):
    """A number of bytes."""

    name = "size"
    parse = staticmethod(parse_size)


class DurationType(_ParsedType):
    """A number of seconds."""

    name = "duration"
    parse = staticmethod(parse_duration)


class RangeType(_ParsedType):
    """One range of bytes."""

    name = "range"
    parse = staticmethod(parse_one_range)


class WordsType(click.ParamType[str]):
    """A text without spaces; an environment variable may hold several, split by space or comma."""

    name = "text"

    def split_envvar_value(self, rv: str) -> list[str]:
        """Split the value of an environment variable."""
        return [word for word in re.split(r"[,\s]+", rv) if word]


class HeaderType(click.ParamType[tuple[str, str]]):
    """A field as ``Name: value``; an environment variable may hold one a line."""

    name = "field"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, str]:
        """Split a field into its name and value."""
        if isinstance(value, tuple):
            return value
        name, colon, content = str(value).partition(":")
        if not colon or not re.fullmatch(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+", name):
            # The value is left out of the message: it may be a secret.
            self.fail("a field is written like 'Name: value'", param, ctx)
        return name, content.strip()

    def split_envvar_value(self, rv: str) -> list[str]:
        """Split the value of an environment variable at its lines."""
        return [line for line in rv.splitlines() if line.strip()]


WORDS: Final = WordsType()
HEADER: Final = HeaderType()
