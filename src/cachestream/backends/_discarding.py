"""Giving room back in the middle of an entry: forget, commit, then make holes."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator
from typing import Final

from cachestream.backends._files import medium_errors, share, try_exclusive
from cachestream.backends._punch import punch
from cachestream.backends._reading import forget
from cachestream.backends._shared import Shared
from cachestream.core.spans import Span

__all__ = ["discard"]

log = logging.getLogger("cachestream.backends.disk")

_STEP: Final = 4 * 1024 * 1024
"""Holes are made in steps of this many bytes, about a millisecond each."""


async def discard(shared: Shared, span: Span) -> int:
    """Forget the unleased bytes of ``span``, and give their blocks back where that is possible.

    Bytes that come into a backlog meanwhile count as leased by their writer.

    Returns:
        How many bytes were forgotten.

    Raises:
        StoreError: If the medium fails.
    """
    if next(shared.unflushed.within(span), None) is not None:
        for writer in list(shared.writers):
            await writer.settle()
    parts = [
        part
        for free in list(shared.leases.unleased(span))
        for flushed in list(shared.unflushed.gaps(free))
        for part in list(shared.spans.within(flushed))
    ]
    forgotten = sum(forget(shared, part) for part in parts)
    if not forgotten:
        return 0
    shared.mark()
    # Only when the index no longer claims these bytes may they go: after a crash between
    # the two steps there is a little room lost, and no hole that is taken for data.
    await shared.host.committer.flush()
    if shared.head.file is None:
        await _make_holes(shared, parts)
    return forgotten


async def _make_holes(shared: Shared, parts: list[Span]) -> None:
    if not try_exclusive(shared.descriptor):
        # Another process reads this file and may not know yet what we have forgotten.
        share(shared.descriptor)
        return
    try:
        with medium_errors(shared.source):
            for step in _steps(parts):
                # What was written anew meanwhile stays.
                for hole in list(shared.spans.gaps(step)):
                    if not punch(shared.descriptor, hole.start, hole.stop):
                        log.info("the file system makes no holes; blocks stay allocated")
                        return
                await asyncio.sleep(0)
    finally:
        share(shared.descriptor)
        shared.measure()
        shared.mark()


def _steps(parts: list[Span]) -> Iterator[Span]:
    for part in parts:
        for start in range(part.start, part.stop, _STEP):
            yield Span(start, min(start + _STEP, part.stop))
