"""A copy of an entry under a readable name; never a hard link, which writes would reach."""

from __future__ import annotations

import contextlib
import os
import secrets
from pathlib import Path

from cachestream.backends._files import PLAIN, medium_errors
from cachestream.backends._punch import clone
from cachestream.backends._reading import verify
from cachestream.backends._shared import Shared
from cachestream.core.spans import Span
from cachestream.errors import NotStoredError, StoreCorruptError, StoreError

__all__ = ["export"]


async def export(shared: Shared, path: Path, *, partial: bool) -> Path:
    """Copy the stored bytes of an open entry to ``path``; see `DiskStore.export`."""
    length = shared.head.representation.complete_length
    whole = Span(0, shared.spans.stop if length is None else length)
    if not partial and (length is None or not shared.spans.covers(whole)):
        missing = next(shared.spans.gaps(whole), None)
        raise NotStoredError("the entry is not complete", span=missing, url=shared.source)
    if shared.dirty:
        await shared.host.committer.flush()
    bad = await verify(shared, whole)
    if bad:
        raise StoreCorruptError(f"bytes {bad[0]} fail their check", span=bad[0], url=shared.source)
    spans = [(span.start, span.stop) for span in shared.spans.within(whole)]
    # The copy must not meet a hole that is being made.
    with shared.leases.take(whole), medium_errors(shared.source):
        complete = shared.spans.covers(whole)
        await shared.host.in_io(_copy, shared.descriptor, path, spans, len(whole), complete)
    return path


def _copy(
    source: int, path: Path, spans: list[tuple[int, int]], length: int, complete: bool
) -> None:
    """Copy under a name of its own first; runs in a thread."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    # A file for the user gets the mode that the user's umask gives.
    descriptor = os.open(temporary, os.O_RDWR | os.O_CREAT | os.O_EXCL | PLAIN, 0o666)
    try:
        try:
            # What lies in the holes of a file is not always zeros: only a whole one is cloned.
            clone(source, descriptor, spans, length, share_blocks=complete)
        finally:
            os.close(descriptor)
        try:
            # Unlike a rename, this never takes the place of a file that is there.
            os.link(temporary, path)
        except FileExistsError as exc:
            raise StoreError(f"{path} is there already", hint="Name another file.") from exc
        except OSError:
            # Some file systems have no second names; there a small race remains.
            if path.exists():
                raise StoreError(f"{path} is there already", hint="Name another file.") from None
            os.rename(temporary, path)
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)
