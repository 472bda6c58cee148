"""What the engine shows a transport of the bytes it holds, so that places can be compared."""

from __future__ import annotations

import random
from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate
from typing import Final

import attrs

from cachestream.abc import Buffer, Entry
from cachestream.core.representation import Representation
from cachestream.core.spans import Span, SpanSet
from cachestream.core.urls import display
from cachestream.errors import CacheStreamError
from cachestream.events import MirrorRejected

from .context import EngineContext

__all__ = ["Witness", "random_spans"]

TRIES: Final = 4
"""How often a place is drawn for each sample; what was drawn already is left out."""


@attrs.frozen(eq=False)
class Witness:
    """The bytes of one open entry; a `cachestream.abc.HeldContent`.

    Attributes:
        context: Whom to tell of a place that has other bytes, and whose chance decides.
        entry: Whose bytes they are; its owner keeps it open while a request is under way.
    """

    context: EngineContext
    entry: Entry

    @property
    def representation(self) -> Representation:
        """Which version the bytes are of."""
        return self.entry.representation

    async def samples(self, count: int, size: int) -> Sequence[tuple[Span, Buffer]]:
        """Return some spans at random, with their bytes, as far as they can be read."""
        found: list[tuple[Span, Buffer]] = []
        for span in random_spans(self.entry.spans, count, size, self.context.chance):
            try:
                found.append((span, await self.entry.read(span)))
            except CacheStreamError:
                continue  # evicted or damaged in the meantime: no longer held
        return found

    def differs(self, url: str, span: Span) -> None:
        """Tell the listeners."""
        self.context.emit(MirrorRejected(self.entry.source, display(url), span))


def random_spans(spans: SpanSet, count: int, size: int, chance: random.Random) -> list[Span]:
    """Choose up to ``count`` disjoint spans of at most ``size`` bytes; each byte is as likely.

    Args:
        spans: Where they may lie.
        count: How many, at most.
        size: How long each, at most; shorter where a run of ``spans`` is.
        chance: Decides.
    """
    runs = list(spans)
    ends = list(accumulate(map(len, runs)))
    chosen: list[Span] = []
    for _ in range(count * TRIES if runs else 0):
        if len(chosen) == count:
            break
        number = chance.randrange(ends[-1])
        run = runs[bisect_right(ends, number)]
        position = run.stop - (ends[bisect_right(ends, number)] - number)
        start = max(run.start, min(position, run.stop - size))
        span = Span(start, min(run.stop, start + size))
        if not any(span.overlaps(other) for other in chosen):
            chosen.append(span)
    return chosen
