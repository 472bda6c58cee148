"""A store against its model, with steps that hypothesis chooses and makes small when they fail.

Example:
    A store's own test; the place is that of the `StoreContract`::

        TestMyMachine = machine_for(lambda: MyPlace()).TestCase
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AbstractContextManager, nullcontext
from typing import ClassVar, Final

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from cachestream.core.spans import Span
from cachestream.testing.stores._model import Known, StoreModel
from cachestream.testing.stores._places import Place
from cachestream.testing.strategies import nonempty_spans, spans

__all__ = ["StoreMachine", "machine_for"]

LENGTH: Final = 300_000
"""Length of each entry; more than a block of any store, so that blocks are cut."""

_MOST: Final = 3
_SIZES: Final = st.sampled_from([1, 4095, 4096, 65_536, 100_000])
_POSITIONS: Final = st.sampled_from([0, 1, 4096, 65_535, 131_072, 262_144]) | st.integers(0, LENGTH)
_NUMBERS: Final = st.integers(0, _MOST - 1)


class StoreMachine(RuleBasedStateMachine):
    """Writes, commits, publishes, leases, discards, deletes, crashes and reopens.

    Make one with `machine_for`. After every step what the store says is compared with the
    model, and at the end every byte that survived a crash is read.
    """

    make_place: ClassVar[Callable[[], AbstractContextManager[Place] | Place]]

    def __init__(self) -> None:
        super().__init__()
        self._runner = asyncio.Runner()
        made = type(self).make_place()
        self._context = made if isinstance(made, AbstractContextManager) else nullcontext(made)
        self.model = StoreModel(self._context.__enter__(), LENGTH)

    def do(self, step: Awaitable[object]) -> None:
        """Run a step to its end, within its time."""

        async def limited() -> None:
            async with asyncio.timeout(60):
                await step

        self._runner.run(limited())

    def pick(self, number: int) -> Known:
        """Return one of the entries."""
        return self.model.entries[number % len(self.model.entries)]

    def has_entries(self) -> bool:
        """Tell whether there is an entry."""
        return bool(self.model.entries)

    def has_bytes(self) -> bool:
        """Tell whether there is something to lose."""
        return any(known.readable for known in self.model.entries)

    @initialize()
    def opens(self) -> None:
        """Open the store."""
        self.do(self.model.open())

    # With more of them, steps would seldom meet.
    @precondition(lambda self: len(self.model.entries) < _MOST)
    @rule(publish=st.booleans())
    def creates(self, publish: bool) -> None:
        """Make an entry, and publish it or not yet."""

        async def create() -> None:
            known = await self.model.create()
            if publish:
                await self.model.publish(known)

        self.do(create())

    @precondition(has_entries)
    @rule(number=_NUMBERS, start=st.none() | _POSITIONS, size=_SIZES)
    def writes(self, number: int, start: int | None, size: int) -> None:
        """Write some bytes, and look at them at once."""

        async def write() -> None:
            known = self.pick(number)
            self.model.write(known, start, size)
            await self.model.compare(known)

        self.do(write())

    @precondition(has_entries)
    @rule(number=_NUMBERS, start=st.none() | _POSITIONS, size=_SIZES)
    def writes_and_commits(self, number: int, start: int | None, size: int) -> None:
        """Write some bytes that must survive a crash from now on."""

        async def write() -> None:
            known = self.pick(number)
            self.model.write(known, start, size)
            await self.model.commit(known)

        self.do(write())

    @precondition(has_entries)
    @rule(number=_NUMBERS)
    def commits(self, number: int) -> None:
        """Commit what a writer wrote."""
        self.do(self.model.commit(self.pick(number)))

    @precondition(has_entries)
    @rule(number=_NUMBERS)
    def publishes(self, number: int) -> None:
        """Publish an entry."""
        self.do(self.model.publish(self.pick(number)))

    @precondition(has_entries)
    @rule(number=_NUMBERS, span=nonempty_spans(LENGTH))
    def reads(self, number: int, span: Span) -> None:
        """Read a span, stored or not."""
        self.do(self.model.read(self.pick(number), span))

    @precondition(has_bytes)
    @rule(number=_NUMBERS)
    def reads_all(self, number: int) -> None:
        """Read all that is stored."""

        async def read() -> None:
            known = self.pick(number)
            for span in list(known.readable):
                await self.model.read(known, span)

        self.do(read())

    @precondition(has_bytes)
    @rule(number=_NUMBERS, span=nonempty_spans(LENGTH))
    def leases(self, number: int, span: Span) -> None:
        """Take a lease."""

        async def lease() -> None:
            self.model.lease(self.pick(number), span)

        self.do(lease())

    @precondition(has_bytes)
    @rule(number=_NUMBERS)
    def releases(self, number: int) -> None:
        """Give leases back."""

        async def release() -> None:
            self.model.release(self.pick(number))

        self.do(release())

    @precondition(has_entries)
    @rule(number=_NUMBERS, span=spans(LENGTH))
    def discards(self, number: int, span: Span) -> None:
        """Forget a span."""
        self.do(self.model.discard(self.pick(number), span))

    @precondition(has_bytes)
    @rule(number=_NUMBERS)
    def closes(self, number: int) -> None:
        """Close an entry."""
        self.do(self.model.close(self.pick(number)))

    @precondition(has_entries)
    @rule(number=_NUMBERS)
    def reopens(self, number: int) -> None:
        """Open an entry that was closed."""
        self.do(self.model.reopen(self.pick(number)))

    @precondition(has_bytes)
    @rule(number=_NUMBERS)
    def deletes(self, number: int) -> None:
        """Delete an entry."""
        self.do(self.model.delete(self.pick(number)))

    @precondition(has_bytes)
    @rule()
    def restarts(self) -> None:
        """Close the store, and open it again."""
        self.do(self.model.restart())

    @precondition(has_bytes)
    @rule()
    def crashes(self) -> None:
        """Kill the store, and open it again."""
        self.do(self.model.crash())

    def teardown(self) -> None:
        """Compare what survives a last crash, and leave nothing behind."""
        try:
            if hasattr(self.model, "store"):
                self.do(self.model.finish())
        finally:
            self._runner.close()
            self._context.__exit__(None, None, None)


def machine_for(
    make_place: Callable[[], AbstractContextManager[Place] | Place],
    *,
    examples: int = 20,
    steps: int = 40,
) -> type[StoreMachine]:
    """Return the machine for a store; its ``TestCase`` is what pytest runs.

    Args:
        make_place: Makes an empty place, or a context manager of one that removes it.
        examples: How many runs are tried.
        steps: How many steps a run has at most.
    """
    machine = type("Machine", (StoreMachine,), {"make_place": staticmethod(make_place)})
    machine.TestCase.settings = settings(  # type: ignore[attr-defined]  # as hypothesis has it
        max_examples=examples,
        stateful_step_count=steps,
        deadline=None,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
    )
    return machine
