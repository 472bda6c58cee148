"""Where the bytes of a resource go: an entry of the store, or a ring where that cannot be."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final

from cachestream.abc import Entry
from cachestream.core.decisions import is_storable
from cachestream.core.representation import Representation
from cachestream.errors import StoreError
from cachestream.events import StoreFailed
from cachestream.settings import KIB

from .ephemeral import EphemeralEntry
from .holding import HeldEntry

if TYPE_CHECKING:
    from .resource import Resource

__all__ = ["create_entry", "lay_ring_over"]

logger: Final = logging.getLogger("cachestream.engine")

LEAST_RING: Final = 256 * KIB


async def create_entry(resource: Resource, representation: Representation) -> HeldEntry:
    """Make a published entry in the store, or a ring where nothing may or can be stored."""
    if not resource.private and is_storable(representation):
        try:
            return HeldEntry(resource.context, await _publish(resource, representation))
        except StoreError as error:
            logger.warning("nothing is stored of %s: %s", resource.shown, error)
            resource.context.emit(StoreFailed(resource.source, error))
    return HeldEntry(resource.context, _ring(resource, representation, None))


async def _publish(resource: Resource, representation: Representation) -> Entry:
    entry = await resource.context.store.create(
        resource.key, resource.source, representation, file=resource.file
    )
    try:
        await entry.publish()
    except BaseException:
        await entry.aclose()
        raise
    return entry


def lay_ring_over(resource: Resource, base: Entry) -> HeldEntry:
    """Put a ring over a stored entry of the same version; everybody uses it from now on.

    Raises:
        StoreError: If there is a ring already; it cannot be replaced by another.
    """
    old = resource.held
    if old is None or isinstance(base, EphemeralEntry):
        raise StoreError("the memory ring failed", url=resource.source)
    ring = _ring(resource, base.representation, base)
    ring.on_close = old.release
    held = resource.held = HeldEntry(resource.context, ring)
    for reader in resource.readers:
        if reader.entry is base:
            reader.entry = ring
            reader.held.release()
            reader.held = held.retain()
    for download in resource.downloads.values():
        download.move(held)
    return held


def _ring(resource: Resource, representation: Representation, base: Entry | None) -> EphemeralEntry:
    settings = resource.settings
    entry: EphemeralEntry
    entry = EphemeralEntry(
        resource.key,
        resource.source,
        representation,
        limit=max(LEAST_RING, settings.max_buffer_size // settings.max_connections),
        readers=lambda: (reader.remaining for reader in resource.readers if reader.entry is entry),
        base=base,
    )
    return entry
