"""Values as a file or a person writes them, made into what an annotation says."""

from __future__ import annotations

import functools
import re
import types
import typing
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

from cattrs import Converter

from cachestream.core.quantities import parse_duration, parse_size

__all__ = ["convert", "split_fields", "split_words"]

_YES: Final = frozenset({"true", "yes", "on", "1"})
_NO: Final = frozenset({"false", "no", "off", "0"})


def convert(value: Any, hint: Any, unit: str = "", *, base: Path | None = None) -> Any:
    """Return ``value`` as the type that ``hint`` names.

    Text may stand for every type: ``5GiB`` and ``10s`` where the unit is bytes or seconds,
    ``yes`` for a boolean, ``none`` where None is allowed, words with commas or spaces between
    for a tuple, a line ``name: value`` for each item of a mapping.

    Args:
        value: Text, or what TOML has: a number, a boolean, an array, a table.
        hint: str, int, float, bool, Path, a Literal, ``tuple[str, ...]``,
            ``Mapping[str, str]``, or a union of these and None.
        unit: ``bytes``, ``seconds`` or nothing.
        base: Directory that relative paths start from; None leaves them relative.

    Raises:
        ValueError: If it cannot be; the text says what is expected.
    """
    return _converter(unit, base).structure(value, hint)


def split_words(text: str) -> tuple[str, ...]:
    """Return the words of a text; commas and white space are between them."""
    return tuple(word for word in re.split(r"[,\s]+", text) if word)


def split_fields(text: str) -> dict[str, str]:
    """Return a mapping from lines that are written ``name: value``.

    Raises:
        ValueError: If a line has no colon; the text does not repeat it, it may be a secret.
    """
    fields = {}
    for line in filter(None, map(str.strip, text.splitlines())):
        # A name may have a port in it; a value without a space before it may not.
        name, colon, content = line.partition(": ")
        if not colon:
            name, colon, content = line.partition(":")
        if not colon or not name.strip():
            raise ValueError("each line is written like 'name: value'")
        fields[name.strip()] = content.strip()
    return fields


@functools.cache
def _converter(unit: str, base: Path | None) -> Converter:
    """Return the converter for values of a unit; later hooks go before earlier ones."""
    converter = Converter(detailed_validation=False)
    scalars: dict[type, Any] = {
        str: _text,
        bool: _boolean,
        int: functools.partial(_whole, unit),
        float: functools.partial(_number, unit),
        Path: functools.partial(_path, base),
    }
    for kind, scalar in scalars.items():
        converter.register_structure_hook(kind, functools.partial(_ignoring_hint, scalar))
    tuples = functools.partial(_tuple, converter)
    converter.register_structure_hook_func(_is_tuple, tuples)
    converter.register_structure_hook_func(_is_mapping, functools.partial(_mapping, converter))
    converter.register_structure_hook_func(_is_union, functools.partial(_union, converter))
    converter.register_structure_hook_func(_is_literal, _literal)
    return converter


def _ignoring_hint(hook: Callable[[Any], Any], value: Any, hint: Any) -> Any:
    return hook(value)


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError(f"a text is expected, not {_kind(value)}")
    return value


def _boolean(value: Any) -> bool:
    if isinstance(value, str) and value.strip().lower() in _YES | _NO:
        return value.strip().lower() in _YES
    if not isinstance(value, bool):
        raise ValueError("yes or no is expected")
    return value


def _whole(unit: str, value: Any) -> int:
    if isinstance(value, str) and unit == "bytes":
        return parse_size(value)
    if isinstance(value, str) and re.fullmatch(r"\s*[+-]?\d+\s*", value, re.ASCII):
        return int(value)
    if isinstance(value, bool) or not isinstance(value, int):
        raise ValueError(f"a whole number is expected, not {_kind(value)}")
    return value


def _number(unit: str, value: Any) -> float:
    if isinstance(value, str) and unit == "seconds":
        return parse_duration(value)
    if isinstance(value, str) and re.fullmatch(r"\s*[+-]?\d+(\.\d+)?\s*", value, re.ASCII):
        return float(value)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError(f"a number is expected, not {_kind(value)}")
    return float(value)


def _path(base: Path | None, value: Any) -> Path:
    if isinstance(value, Path):
        return value
    text = _text(value)
    if not text:
        raise ValueError("a path is expected, not an empty text")
    try:
        path = Path(text).expanduser()
    except RuntimeError as error:  # no such user
        raise ValueError(str(error)) from error
    return path if base is None else base / path


def _tuple(converter: Converter, value: Any, hint: Any) -> tuple[Any, ...]:
    items = split_words(value) if isinstance(value, str) else value
    if not isinstance(items, list | tuple):
        raise ValueError(f"a list is expected, not {_kind(value)}")
    return tuple(converter.structure(item, typing.get_args(hint)[0]) for item in items)


def _mapping(converter: Converter, value: Any, hint: Any) -> dict[str, Any]:
    items = split_fields(value) if isinstance(value, str) else value
    if not isinstance(items, Mapping):
        raise ValueError(f"a table is expected, not {_kind(value)}")
    _, inner = typing.get_args(hint)
    return {_text(name): converter.structure(item, inner) for name, item in items.items()}


def _literal(value: Any, hint: Any) -> Any:
    choices = typing.get_args(hint)
    word = value.strip().lower() if isinstance(value, str) else value
    if word not in choices:
        raise ValueError(f"one of {', '.join(map(str, choices))} is expected")
    return word


def _union(converter: Converter, value: Any, hint: Any) -> Any:
    """Take the word ``none``, then the words of a literal, then the type that is left."""
    members = typing.get_args(hint)
    word = value.strip().lower() if isinstance(value, str) else value
    if types.NoneType in members and word in ("none", None):
        return None
    literals = [member for member in members if _is_literal(member)]
    if any(word in typing.get_args(literal) for literal in literals):
        return word
    rest = [member for member in members if member is not types.NoneType]
    kinds = [member for member in rest if member not in literals] or rest
    words = [word for literal in literals for word in typing.get_args(literal)]
    words += ["none"] if types.NoneType in members else []
    try:
        return converter.structure(value, kinds[0])
    except ValueError as error:
        raise ValueError(f"{error}, or {' or '.join(map(str, words))}") from error


def _is_tuple(hint: Any) -> bool:
    return typing.get_origin(hint) is tuple


def _is_mapping(hint: Any) -> bool:
    origin = typing.get_origin(hint)
    return isinstance(origin, type) and issubclass(origin, Mapping)


def _is_union(hint: Any) -> bool:
    return typing.get_origin(hint) in (typing.Union, types.UnionType)


def _is_literal(hint: Any) -> bool:
    return typing.get_origin(hint) is typing.Literal


def _kind(value: Any) -> str:
    """Return what TOML calls a value of this kind; never the value, which may be a secret."""
    kinds = {bool: "a boolean", int: "a whole number", float: "a number", str: "this text"}
    kinds |= {list: "an array", tuple: "an array", dict: "a table"}
    return kinds.get(type(value), f"a {type(value).__name__}")
