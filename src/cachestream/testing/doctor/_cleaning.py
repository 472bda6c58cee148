"""The last child process: removes what an examination left outside of its directory."""

from __future__ import annotations

import asyncio
from pathlib import Path

from cachestream.errors import CacheStreamError
from cachestream.registry import Registry
from cachestream.testing.doctor._order import Check, Order, Report
from cachestream.testing.doctor._scratch import remove, scratch_values

__all__ = ["clean"]


def clean(order: Order, report: Report) -> None:
    """Remove the folder that all places of the examination were in."""
    registry = Registry()
    try:
        plugin, _ = order.plugin(registry)
        cls = registry.get("store", plugin.name)
        values = scratch_values(cls, plugin.options, Path(order.directory), order.token)
        hook = getattr(cls, "remove_scratch", None)
        if hook is not None:
            asyncio.run(hook(values))
            left, told = None, f"all below {order.token}"
        else:
            left = remove(values)
            told = f"its entries below {order.token}" if "prefix" in values else "what was stored"
    except CacheStreamError as error:
        left, told = str(error), ""
    report.check(
        Check(
            name="removed",
            status="ok" if left is None else "failed",
            detail=left or told,
        )
    )
