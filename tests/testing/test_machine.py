"""Our stores do what the model does, whatever hypothesis thinks of; broken ones are found."""

import tempfile
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import Phase, settings
from hypothesis.stateful import run_state_machine_as_test

from cachestream.backends import (
    DiskStore,
    MemoryMedium,
    MemoryStore,
    ObjectsStore,
    _medium,
    _memory,
)
from cachestream.core.spans import Span
from cachestream.errors import CacheStreamError
from cachestream.testing import machine_for


class MemoryPlace:
    """A medium, and the stores on it."""

    def __init__(self):
        self.medium = MemoryMedium()

    async def open(self, *, max_size=None):
        return MemoryStore(self.medium, max_size=max_size)

    async def crash(self):
        self.medium.crash()

    def raw(self, entry_id):
        raise NotImplementedError


class FilePlace:
    """A directory, and the stores at it."""

    def __init__(self, make):
        self.make = make
        self.stores = []

    async def open(self, *, max_size=None):
        store = self.make(max_size)
        self.stores.append(store)
        return store

    async def crash(self):
        for store in self.stores:
            await store.abandon()
        self.stores.clear()

    def raw(self, entry_id):
        raise NotImplementedError


@contextmanager
def disk_place():
    """Make a directory for disk stores, and remove it."""
    with tempfile.TemporaryDirectory() as folder:
        yield FilePlace(lambda size: DiskStore(Path(folder) / "cache", max_size=size, min_free=0))


@contextmanager
def objects_place():
    """Make a directory for objects stores, and remove it."""
    with tempfile.TemporaryDirectory() as folder:
        url = f"file://{folder}/cache"
        yield FilePlace(lambda size: ObjectsStore(url, part_size=64 * 1024, max_size=size))


TestMemoryMachine = machine_for(MemoryPlace, examples=40).TestCase
TestDiskMachine = machine_for(disk_place, examples=15).TestCase
TestObjectsMachine = machine_for(objects_place, examples=10).TestCase


def lose_commits(patch):
    """A writer that forgets to commit."""

    async def commit(self):
        pass

    patch.setattr(_memory._MemoryWriter, "commit", commit)


def ignore_leases(patch):
    """An entry that discards leased bytes."""

    async def discard(self, span):
        return self._forget(span)

    patch.setattr(_memory._MemoryEntry, "discard", discard)


def shift_bytes(patch):
    """An entry that gives out the bytes beside those that were asked for, now and then."""
    take = _medium.Cell.take

    def wrong(self, span):
        shift = 1 if span.start % 5 == 0 and span.stop + 1 in self.spans else 0
        return take(self, Span(span.start + shift, span.stop + shift))

    patch.setattr(_medium.Cell, "take", wrong)


@pytest.mark.parametrize("fault", [lose_commits, ignore_leases, shift_bytes])
def test_a_broken_store_is_found(monkeypatch, fault):
    """Whatever a store breaks, some steps show it."""
    fault(monkeypatch)
    machine = machine_for(MemoryPlace)
    searching = settings(
        machine.TestCase.settings,
        max_examples=200,
        derandomize=True,
        database=None,
        phases=[Phase.generate],
    )
    with pytest.raises((AssertionError, CacheStreamError, ExceptionGroup)):
        run_state_machine_as_test(machine, settings=searching)
