"""The values that an inspector hands out, made of live objects: masked, frozen, bounded."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import attrs

from cachestream._engine.download import Download
from cachestream._engine.reader import Reader
from cachestream._engine.resource import Resource
from cachestream.core.spans import UNBOUNDED
from cachestream.core.status import SPANS_SHOWN, DownloadStatus, ReaderStatus, ResourceStatus
from cachestream.errors import CacheStreamError
from cachestream.settings import Settings

__all__ = ["HIDDEN", "shown_settings", "status_of", "text_of"]

HIDDEN: Final = "(hidden)"
"""What stands for a secret that is set."""


def text_of(error: Exception) -> str:
    """Return what an error says, if it is one of ours; others may say what is secret."""
    return str(error) if isinstance(error, CacheStreamError) else type(error).__name__


def _bounded(stop: int) -> int | None:
    return None if stop >= UNBOUNDED else stop


def status_of(resource: Resource) -> ResourceStatus:
    """Return what can be seen of a live resource."""
    known = resource.representation
    spans = resource.spans
    error = resource.last_error
    return ResourceStatus(
        source=resource.shown,
        media_type=None if known is None else known.fields.get("content-type"),
        complete_length=resource.complete_length,
        stored_bytes=spans.total,
        spans=tuple(span for span, _ in zip(spans, range(SPANS_SHOWN), strict=False)),
        complete=resource.is_committed,
        ephemeral=resource.is_ephemeral,
        paused=resource.scheduler.paused,
        retained=resource.retained,
        readers=tuple(map(_reader_status, resource.readers)),
        downloads=tuple(map(_download_status, resource.downloads.values())),
        error=None if error is None else text_of(error),
    )


def _reader_status(reader: Reader) -> ReaderStatus:
    stop = _bounded(reader.remaining.stop)
    return ReaderStatus(position=reader.position, stop=stop, waiting=reader.waiting)


def _download_status(download: Download) -> DownloadStatus:
    return DownloadStatus(
        position=download.position, stop=_bounded(download.stop), received=download.received
    )


def shown_settings(settings: Settings) -> dict[str, object]:
    """Return settings by name as values that JSON has; those that are secret are masked."""
    return {
        field.name: _shown(getattr(settings, field.name), secret=field.metadata["secret"])
        for field in attrs.fields(type(settings))
    }


def _shown(value: Any, *, secret: bool) -> object:
    if isinstance(value, Mapping):
        return {str(name): _shown(each, secret=secret) for name, each in value.items()}
    if secret and value is not None:
        return HIDDEN
    match value:
        case None | bool() | int() | float() | str():
            return value
        case Path():
            return str(value)
        case tuple():
            return [_shown(each, secret=secret) for each in value]
        case _:
            return getattr(value, "__qualname__", type(value).__qualname__)
