"""A process that stores bytes and dies before it closes anything."""

from __future__ import annotations

import asyncio
import os
import random
from pathlib import Path
from typing import Final

from cachestream.testing.doctor._order import Order, Report

__all__ = ["COMMITTED", "KILLED", "WRITTEN", "die"]

WRITTEN: Final = random.Random("doctor").randbytes(700_000)
"""What the process writes."""

COMMITTED: Final = WRITTEN[:500_000]
"""What it has committed when it dies."""

KILLED: Final = 77
"""With which code it dies, if everything went well before."""


def die(order: Order, report: Report) -> None:
    """Store, commit a part, write some more, and end at once."""
    asyncio.run(_die(order))


async def _die(order: Order) -> None:
    # Here and not above: they need pytest, and the constants are wanted without it.
    from cachestream.testing.doctor._suite import RegistryPlace
    from cachestream.testing.stores._places import KEY, SOURCE, representation

    place = RegistryPlace(order, order.token, Path(order.directory))
    store = await place.open()
    entry = await store.create(KEY, SOURCE, representation(len(WRITTEN)))
    await entry.publish()
    writer = entry.writer(0)
    for start in range(0, len(COMMITTED), 50_000):
        if not writer.write(COMMITTED[start : start + 50_000]):
            await writer.drain()
    await writer.commit()
    writer.write(WRITTEN[len(COMMITTED) :])
    os._exit(KILLED)
