"""The contract of one plug-in as tests, with the plug-in made by its name; needs pytest."""

from __future__ import annotations

import functools
import itertools
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import attrs
import pytest
import pytest_asyncio

from cachestream.abc import Frontend, Store, Transport
from cachestream.config import Plugin, describe_options, make_plugin
from cachestream.core.spans import Span
from cachestream.registry import Registry
from cachestream.testing.doctor._dying import COMMITTED, KILLED, WRITTEN
from cachestream.testing.doctor._order import Order
from cachestream.testing.doctor._reading import ReadingPromises, sample_for
from cachestream.testing.doctor._scratch import empty, is_outside, scratch_values
from cachestream.testing.frontends import FrontendContract
from cachestream.testing.stores import RawEntry, StoreContract
from cachestream.testing.stores._places import KEY
from cachestream.testing.transports import TransportContract

__all__ = ["NotEmptyError", "RegistryPlace", "contract_of"]

_IMPATIENT_S = 0.2
_CHILD_S = 60.0


class NotEmptyError(Exception):
    """A store has entries where nobody else should be."""


def contract_of(order: Order) -> type:
    """Return the contract of the plug-in as a class of tests."""
    if order.kind == "store":
        return _store_contract(order)
    if order.kind == "frontend":
        return _frontend_contract(order)
    return _transport_contract(order)


# -- stores -------------------------------------------------------------------


@attrs.define(eq=False)
class RegistryPlace:
    """A place for a store that is made by its name; nothing else is known of it.

    Attributes:
        order: Which store.
        token: A word for this place alone.
        directory: For what lies on a local disk.
    """

    order: Order
    token: str
    directory: Path
    registry: Registry = attrs.field(factory=Registry)
    plugin: Plugin = attrs.field(init=False)

    @plugin.default
    def _find_plugin(self) -> Plugin:
        return _plugin(self.order, self.registry)

    async def open(self, *, max_size: int | None = None) -> Store:
        """Return a new store at this place."""
        plugin = self.plugin
        cls = self.registry.get("store", plugin.name)
        values = scratch_values(cls, plugin.options, self.directory, self.token)
        names = {row.name for row in describe_options(cls)} if hasattr(cls, "Options") else set()
        if max_size is not None and "max_size" in names:
            values["max_size"] = max_size
        settings = attrs.evolve(
            self.order.settings(), cache_dir=self.directory / "cache", max_size=max_size
        )
        store: Store = make_plugin(self.registry, "store", Plugin(plugin.name, **values), settings)
        return store

    async def crash(self) -> None:
        """Refuse: how this store would die is not known."""
        raise NotImplementedError("a store that is known by its name cannot be crashed")

    def raw(self, entry_id: str) -> RawEntry:
        """Refuse: there is no back door."""
        raise NotImplementedError("a store that is known by its name has no back door")

    @property
    def is_outside(self) -> bool:
        """Whether it may be another place than a local directory."""
        return is_outside(self.registry.get("store", self.order.name))


@functools.cache
def _plugin(order: Order, registry: Registry) -> Plugin:
    """Return the plug-in as it is configured; files are read once."""
    plugin, _ = order.plugin(registry)
    return plugin


def _store_contract(order: Order) -> type:
    numbers = itertools.count()
    registry = Registry()

    class TestContract(StoreContract):
        @pytest_asyncio.fixture
        async def place(  # type: ignore[override]  # a fixture, as the one it replaces
            self, tmp_path: Path
        ) -> AsyncIterator[RegistryPlace]:
            place = RegistryPlace(order, f"{order.token}/{next(numbers):04}", tmp_path, registry)
            async with await place.open() as store:
                if await store.records(limit=1):
                    # Whatever it is, it is not ours: no further test runs.
                    raise NotEmptyError("its own place is not empty: nothing was tested there")
            yield place
            if place.is_outside:
                async with await place.open() as store:
                    await empty(store)

        @pytest.mark.asyncio
        async def test_committed_bytes_survive_a_killed_process(self, place: RegistryPlace) -> None:
            """What a process had committed before it was killed is there and right."""
            async with await place.open() as store:
                persistent = store.capabilities.persistent
            _run_and_kill(place)
            async with await place.open() as store:
                found = await store.select(KEY)
                assert len(found) == (1 if persistent else 0)
                for record in found:
                    entry = await store.open(record.entry_id)
                    assert entry.spans.covers(Span(0, len(COMMITTED)))
                    assert await entry.read(Span(0, len(COMMITTED))) == COMMITTED
                    for span in list(entry.spans):
                        assert await entry.read(span) == WRITTEN[span.start : span.stop]
                    await entry.aclose()

    return TestContract


def _run_and_kill(place: RegistryPlace) -> None:
    """Let another process store bytes, and die before it closes anything."""
    order = attrs.evolve(place.order, directory=str(place.directory), token=place.token)
    done = subprocess.run(
        [sys.executable, "-P", "-m", "cachestream.testing.doctor", "die"],
        input=order.to_json(),
        capture_output=True,
        timeout=_CHILD_S,
        check=False,
    )
    if done.returncode != KILLED:
        last = done.stderr.decode(errors="replace").strip().splitlines()[-1:]
        raise AssertionError(f"storing in a process of its own failed: {''.join(last)}")


# -- transports and frontends ---------------------------------------------------


def _transport_contract(order: Order) -> type:
    registry = Registry()
    plugin, _ = order.plugin(registry)

    def make(**settings: Any) -> Transport:
        made: Transport = make_plugin(registry, "transport", plugin, order.settings(**settings))
        return made

    if "http" in order.schemes and order.url is None:

        class TestContract(TransportContract):
            @pytest.fixture
            def transport(self) -> Transport:
                return make()

            @pytest.fixture
            def impatient(self) -> Transport:
                return make(read_timeout=_IMPATIENT_S)

        return TestContract
    sample = sample_for(order)

    class TestReading(ReadingPromises):
        @pytest_asyncio.fixture
        async def transport(self) -> AsyncIterator[Transport]:
            transport = make()
            yield transport
            await transport.aclose()

        @pytest.fixture
        def url(self) -> str:
            return sample.url

        @pytest.fixture
        def content(self) -> bytes | None:
            return sample.content

    return TestReading


def _frontend_contract(order: Order) -> type:
    registry = Registry()
    plugin, _ = order.plugin(registry)

    def make() -> Frontend:
        schemes = frozenset({"http", "https"})
        made: Frontend = make_plugin(
            registry, "frontend", plugin, order.settings(), schemes=schemes
        )
        return made

    class TestContract(FrontendContract):
        @pytest.fixture
        def frontend(self) -> Frontend:
            return make()

        @pytest.fixture
        def other_frontend(self) -> Frontend:
            return make()

    return TestContract
