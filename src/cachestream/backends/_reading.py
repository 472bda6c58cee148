"""Reading an open entry: from the file, from a backlog, and only what passed its check."""

from __future__ import annotations

import errno
import os
from typing import Final

import xxhash

from cachestream.abc import FileRegion
from cachestream.backends._files import medium_errors
from cachestream.backends._format import Extent
from cachestream.backends._shared import Shared
from cachestream.core.spans import Span
from cachestream.errors import NotStoredError, StoreCorruptError

__all__ = ["forget", "read", "read_nowait", "region_nowait", "verify"]

_NOWAIT: Final = getattr(os, "RWF_NOWAIT", 0)
_PROBE: Final = bytearray(1)

_BATCH: Final = 64
"""How many extents one job in a thread checks: 16 MiB, so that others get their turn."""

_AHEAD: Final = 4 * 1024 * 1024
"""How much is checked before a reader that goes on in sequence gets there."""


def region_nowait(shared: Shared, span: Span) -> FileRegion | None:
    """Return where the verified, flushed start of ``span`` lies in the file, if it is in memory."""
    start = span.start
    stop = min(shared.spans.run_stop(start), shared.verified.run_stop(start), span.stop)
    if shared.unflushed:
        waiting = shared.unflushed.next_start(start)
        stop = stop if waiting is None else min(stop, waiting)
    if stop <= start or not _is_warm(shared.descriptor, stop - 1):
        return None
    return FileRegion(shared.descriptor, start, stop - start)


def _is_warm(descriptor: int, position: int) -> bool:
    """Tell whether a byte is in memory: `os.sendfile` would hold the loop up while it is read.

    The system reads forwards and ahead, so the last byte of a region speaks for the others.
    """
    if not _NOWAIT:
        return True
    try:
        os.preadv(descriptor, [_PROBE], position, _NOWAIT)
    except BlockingIOError:
        return False
    except OSError:
        return True  # a file system that cannot say
    return True


def read_nowait(shared: Shared, span: Span) -> bytes | bytearray | None:
    """Return the bytes of ``span`` if they are verified and in memory."""
    if not shared.spans.covers(span) or not shared.verified.covers(span):
        return None
    if not shared.unflushed:
        return _pread_nowait(shared.descriptor, span)
    return _assemble(shared, span)


async def read(shared: Shared, span: Span) -> bytes | bytearray:
    """Return the bytes of ``span``, checked since the opening.

    Raises:
        NotStoredError: If part of them is missing.
        StoreCorruptError: If part of them fails its check.
        StoreError: If the medium fails.
    """
    while True:
        missing = next(shared.spans.gaps(span), None)
        if missing is not None:
            raise NotStoredError(f"bytes {missing} are not stored", span=missing, url=shared.source)
        if not shared.verified.covers(span):
            bad = await verify(shared, _with_ahead(shared, span))
            mine = next((wrong for wrong in bad if wrong.overlaps(span)), None)
            if mine is not None:
                raise StoreCorruptError(
                    f"bytes {mine} fail their check", span=mine, url=shared.source
                )
            continue
        data = read_nowait(shared, span)
        if data is not None:
            return data
        data = await _read_cold(shared, span)
        if data is not None:
            return data
        # The file is shorter than it was: let the check find out what is left.
        shared.verified.discard(span)


def _with_ahead(shared: Shared, span: Span) -> Span:
    """Return what to check for a read of ``span``: more of it where the reader goes on.

    One job in a thread for each piece would cost more than the check itself; a scattered
    reader must not wait for the disk to bring bytes that it did not ask for.
    """
    if span.start == 0 or span.start - 1 not in shared.verified:
        return span
    return Span(
        span.start, max(span.stop, min(shared.spans.run_stop(span.start), span.stop + _AHEAD))
    )


async def verify(shared: Shared, span: Span, *, again: bool = False) -> list[Span]:
    """Check stored bytes of ``span`` against their sums, and forget what does not match.

    Args:
        again: Check also what was checked since the opening.

    Returns:
        The bytes that were forgotten, as spans in order.

    Raises:
        StoreError: If the medium fails.
    """
    if again:
        for writer in shared.writers:
            writer.seal_tail()
    extents = [
        extent
        for extent in shared.extents.overlapping(span)
        if again or not shared.verified.covers(Span(extent[0], extent[1]))
    ]
    bad: list[Span] = []
    for index in range(0, len(extents), _BATCH):
        batch = extents[index : index + _BATCH]
        with medium_errors(shared.source):
            good = await shared.host.in_io(_check, shared.descriptor, batch)
        bad += _note_checked(shared, batch, good)
    # What the row of a segment claims without a sum for it is not trusted either.
    for start, stop in list(_unaccounted(shared, span)):
        shared.spans.discard(Span(start, stop))
        bad.append(Span(start, stop))
    if bad and shared.writable:
        shared.mark()
    return sorted(bad)


def forget(shared: Shared, span: Span) -> int:
    """Forget flushed bytes, keeping the sums of what is left right; return how many.

    Raises:
        StoreError: If the medium fails.
    """
    for writer in shared.writers:
        writer.cut_tail()
    with medium_errors(shared.source):
        for extent in shared.extents.overlapping(span):
            whole = Span(extent[0], extent[1])
            rest = [Span(whole.start, max(whole.start, span.start))]
            rest.append(Span(min(span.stop, whole.stop), whole.stop))
            # A new sum must not make bytes good that were bad before.
            sound = shared.verified.covers(whole) or not any(rest)
            sound = sound or extent in _check(shared.descriptor, [extent])
            shared.extents.remove(extent)
            for part in filter(None, rest):
                if sound:
                    data = os.pread(shared.descriptor, len(part), part.start)
                    shared.extents.put((part.start, part.stop, xxhash.xxh3_64_intdigest(data)))
                else:
                    shared.spans.discard(part)
    shared.verified.discard(span)
    return shared.spans.discard(span)


def _note_checked(shared: Shared, batch: list[Extent], good: set[Extent]) -> list[Span]:
    """Take over the result of a check; the entry may have changed while it was made."""
    bad = []
    for extent in batch:
        if extent not in shared.extents:
            continue
        span = Span(extent[0], extent[1])
        if extent in good:
            shared.verified.add(span)
        else:
            shared.extents.remove(extent)
            shared.spans.discard(span)
            shared.verified.discard(span)
            bad.append(span)
    return bad


def _unaccounted(shared: Shared, span: Span) -> list[tuple[int, int]]:
    known = shared.verified.copy()
    known.update(Span(start, stop) for start, stop, _ in shared.extents.overlapping(span))
    return [
        (gap.start, gap.stop) for stored in shared.spans.within(span) for gap in known.gaps(stored)
    ]


def _check(descriptor: int, extents: list[Extent]) -> set[Extent]:
    """Return those extents whose bytes match their sum; runs in a thread."""
    good = set()
    for start, stop, expected in extents:
        data = os.pread(descriptor, stop - start, start)
        if len(data) == stop - start and xxhash.xxh3_64_intdigest(data) == expected:
            good.add((start, stop, expected))
    return good


def _pread_nowait(descriptor: int, span: Span) -> bytes | bytearray | None:
    """Read without waiting for the disk, where the system can say what is in memory."""
    if _NOWAIT:
        data = bytearray(len(span))
        try:
            count = os.preadv(descriptor, [data], span.start, _NOWAIT)
        except BlockingIOError:
            return None
        except OSError as exc:
            if exc.errno != errno.EOPNOTSUPP:
                return None
        else:
            return data if count == len(span) else None
    # A file system that cannot say lives in memory, as tmpfs does, or is not ours to judge.
    try:
        plain = os.pread(descriptor, len(span), span.start)
    except OSError:
        return None
    return plain if len(plain) == len(span) else None


async def _read_cold(shared: Shared, span: Span) -> bytearray | None:
    """Read bytes that are not in memory; None if the file is too short to hold them."""
    result = bytearray(len(span))
    parts = list(shared.unflushed.gaps(span))
    # What is in a backlog now may be in the file when the thread is done: take it first.
    for writer in shared.writers:
        writer.copy_backlog(span, result)
    # Nobody may make a hole where the thread is reading.
    with shared.leases.take(span), medium_errors(shared.source):
        for part in parts:
            data = await shared.host.in_io(os.pread, shared.descriptor, len(part), part.start)
            if len(data) < len(part):
                return None
            result[part.start - span.start : part.stop - span.start] = data
    return result


def _assemble(shared: Shared, span: Span) -> bytes | bytearray | None:
    """Put together bytes that lie partly in the file, partly in backlogs."""
    result = bytearray(len(span))
    for part in shared.unflushed.gaps(span):
        data = _pread_nowait(shared.descriptor, part)
        if data is None:
            return None
        result[part.start - span.start : part.stop - span.start] = data
    for writer in shared.writers:
        writer.copy_backlog(span, result)
    return result
