"""Validators and preconditions (RFC 9110 §8.8, §13)."""

from __future__ import annotations

import re
from datetime import timezone
from email.utils import parsedate_to_datetime
from typing import Final

import attrs

__all__ = ["EntityTag", "parse_http_date"]

_TAG: Final = re.compile(r'(W/)?"([\x21\x23-\x7e\x80-\xff]*)"\Z')


@attrs.frozen
class EntityTag:
    """An entity tag: its opaque text without the quotes, and whether it is weak."""

    opaque: str
    weak: bool = False

    @classmethod
    def parse(cls, text: str) -> EntityTag | None:
        """Read one entity tag; None when it is none."""
        match = _TAG.match(text.strip())
        return None if match is None else cls(match[2], match[1] is not None)

    def __str__(self) -> str:
        return f'{"W/" if self.weak else ""}"{self.opaque}"'


def parse_http_date(text: str) -> float | None:
    """Read an HTTP-date in any of its three forms; None when it is none (RFC 9110 §5.6.7)."""
    try:
        moment = parsedate_to_datetime(text)
    except (TypeError, ValueError):
        return None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=timezone.utc)
    return moment.timestamp()
