"""The contract of stores finds stores that break a promise."""

import inspect

import pytest

from cachestream.backends import MemoryMedium, MemoryStore, _medium, _memory
from cachestream.core.spans import Span
from cachestream.errors import CacheStreamError
from cachestream.testing.stores import StoreContract
from cachestream.testing.stores._model import Run
from cachestream.testing.stores._places import content


class BrokenPlace:
    """A place for memory stores."""

    def __init__(self):
        self.medium = MemoryMedium()

    async def open(self, *, max_size=None):
        return MemoryStore(self.medium, max_size=max_size)

    async def crash(self):
        self.medium.crash()

    def raw(self, entry_id):
        medium = self.medium

        class Raw:
            def read(self, span):
                return medium.raw(entry_id, span)

            def corrupt(self, position):
                medium.corrupt(entry_id, position)

        return Raw()


def commit_nothing(patch):
    """A writer that forgets to commit."""

    async def commit(self):
        pass

    patch.setattr(_memory._MemoryWriter, "commit", commit)


def commit_everything(patch):
    """A store that calls bytes committed when they are not on the medium."""

    async def commit(self):
        self._cell.committed.add(Span(0, 3_000_000))

    patch.setattr(_memory._MemoryWriter, "commit", commit)


def read_holes_as_zeros(patch):
    """An entry that reads zeros where nothing is stored."""

    async def read(self, span):
        return self.read_nowait(span) or bytes(len(span))

    patch.setattr(_memory._MemoryEntry, "read", read)


def read_wrong_bytes(patch):
    """An entry that gives out the bytes beside those that were asked for, now and then."""
    take = _medium.Cell.take

    def wrong(self, span):
        shift = 1 if span.start % 5 == 0 and span.stop + 1 in self.spans else 0
        return take(self, Span(span.start + shift, span.stop + shift))

    patch.setattr(_medium.Cell, "take", wrong)


def ignore_leases(patch):
    """An entry that discards leased bytes."""

    async def discard(self, span):
        return self._forget(span)

    patch.setattr(_memory._MemoryEntry, "discard", discard)


def forget_to_check(patch):
    """An entry that gives out damaged bytes."""
    patch.setattr(_memory._MemoryEntry, "_damaged", lambda self, span: Span(0, 0))


def publish_over_rivals(patch):
    """An entry that takes the place of whatever is published."""

    async def publish(self):
        if not self._cell.published:
            self._store.medium.publish(self._cell)

    patch.setattr(_memory._MemoryEntry, "publish", publish)


def ignore_the_limit(patch):
    """A store that takes any room."""
    patch.setattr(MemoryStore, "make_room", lambda self, wanted: None)


def evict_the_newest(patch):
    """A store that evicts what was used last."""
    oldest = MemoryStore._oldest_first
    patch.setattr(MemoryStore, "_oldest_first", lambda self: oldest(self)[::-1])


def overwrite(patch):
    """A writer that writes over stored bytes."""

    def write(self, piece):
        self._cell.put(self.position, memoryview(piece))
        self._cell.spans.add(Span(self.position, self.position + len(piece)))
        self.position += len(piece)
        return True

    patch.setattr(_memory._MemoryWriter, "write", write)


async def run(name, place, arguments):
    """Run one test of the contract, all of its parameters."""
    method = getattr(StoreContract, name)
    marks = [mark for mark in getattr(method, "pytestmark", []) if mark.name == "parametrize"]
    values = marks[0].args[1] if marks else [None]
    for value in values:
        extra = {marks[0].args[0]: value} if marks else {}
        extra.update({key: arguments[key] for key in arguments if key in _names(method)})
        await method(StoreContract(), place=place(), **extra)


def _names(method):
    return inspect.signature(method).parameters


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("fault", "promise"),
    [
        (commit_nothing, "test_committed_bytes_survive_a_crash"),
        (commit_everything, "test_committed_bytes_survive_a_crash"),
        (read_holes_as_zeros, "test_a_hole_is_never_read_as_zeros"),
        (ignore_leases, "test_leased_bytes_stay_where_they_are"),
        (forget_to_check, "test_bytes_that_fail_their_check_become_a_hole"),
        (forget_to_check, "test_unverified_bytes_are_given_to_nobody"),
        (publish_over_rivals, "test_who_publishes_second_is_told"),
        (ignore_the_limit, "test_usage_never_exceeds_the_limit"),
        (ignore_the_limit, "test_nothing_of_a_piece_without_room_counts_as_stored"),
        (evict_the_newest, "test_least_recently_used_entries_give_way"),
        (overwrite, "test_bytes_that_are_stored_already_are_not_written_again"),
    ],
)
async def test_a_broken_store_fails_the_contract(monkeypatch, fault, promise):
    """A store that breaks a promise fails the test of that name, and passes it when repaired."""
    with monkeypatch.context() as patch:
        fault(patch)
        with pytest.raises((AssertionError, CacheStreamError, KeyError, pytest.fail.Exception)):
            await run(promise, BrokenPlace, {})
    await run(promise, BrokenPlace, {})


@pytest.mark.asyncio
@pytest.mark.parametrize("fault", [commit_nothing, commit_everything, read_wrong_bytes])
async def test_the_model_finds_what_no_single_promise_does(monkeypatch, fault):
    """A store that loses or invents committed bytes differs from its model for some seed."""
    fault(monkeypatch)
    failures = 0
    for seed in range(12):
        try:
            await Run(BrokenPlace(), seed).all()
        except (AssertionError, CacheStreamError):
            failures += 1
    assert failures > 0


def test_content_is_repeatable_and_no_zeros():
    """The bytes of the contract are the same for the same seed."""
    assert content(1000, 3) == content(1000, 3) != content(1000, 4)
    assert 0 < content(100_000).count(0) < 1000


def test_the_contract_needs_a_place():
    """Without its fixture the contract says what is missing."""
    fixture = StoreContract.__dict__["place"]
    function = getattr(fixture, "__wrapped__", None) or fixture._fixture_function
    with pytest.raises(NotImplementedError, match="place"):
        function(StoreContract())
