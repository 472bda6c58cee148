"""The way to an event loop in another thread: results, errors, giving up, ends."""

from __future__ import annotations

import asyncio
import gc
import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from cachestream.bridge import Bridge
from cachestream.errors import CallTimeoutError, ClosedError, WrongThreadError

PATIENCE_S = 45.0


@pytest.fixture
def bridge() -> Iterator[Bridge]:
    """Run a loop for one test."""
    hosted = Bridge("hosted")
    hosted.start()
    yield hosted
    hosted.stop(PATIENCE_S)


class Endless:
    """Work that goes on until it is cancelled, and tells of its life."""

    def __init__(self) -> None:
        self.begun = threading.Event()
        self.cancelled = threading.Event()

    async def __call__(self) -> None:
        try:
            self.begun.set()
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            self.cancelled.set()
            raise


async def answer() -> int:
    """Return after a turn of the loop."""
    await asyncio.sleep(0)
    return 42


def test_a_result_and_an_error_come_back(bridge):
    """What the coroutine returns is returned, and what it raises is raised, as it is."""
    assert bridge.call(answer) == 42
    error = KeyError("mine")

    async def fail() -> None:
        raise error

    with pytest.raises(KeyError) as caught:
        bridge.call(fail)
    assert caught.value is error


def test_an_error_leaves_no_cycle(bridge):
    """A failed call is gone with its last reference: no collector is needed."""

    class Local(Exception):
        alive = 0

        def __init__(self) -> None:
            type(self).alive += 1

        def __del__(self) -> None:
            type(self).alive -= 1

    async def fail() -> None:
        raise Local

    gc.collect()
    gc.disable()
    try:
        with pytest.raises(Local):
            bridge.call(fail)
        bridge.call(answer)  # the loop has let go of the one before
        assert Local.alive == 0
    finally:
        gc.enable()


def test_a_timeout_of_the_work_is_not_ours(bridge):
    """A TimeoutError that the coroutine raises is passed on, and not taken for the caller's."""

    async def fail() -> None:
        raise TimeoutError("of the work")

    with pytest.raises(TimeoutError, match="of the work") as caught:
        bridge.call(fail, PATIENCE_S)
    assert not isinstance(caught.value, CallTimeoutError)


def test_a_call_that_takes_too_long_is_cancelled(bridge):
    """After its timeout a call raises, and its coroutine ends."""
    work = Endless()
    with pytest.raises(CallTimeoutError, match=r"longer than 0\.01 s"):
        bridge.call(work, 0.01)
    assert work.cancelled.wait(PATIENCE_S) or not work.begun.is_set()


def test_what_was_given_up_before_it_began_never_begins(bridge):
    """A call whose time is over while the loop is busy does not run afterwards."""
    busy, gate, work = threading.Event(), threading.Event(), Endless()

    def occupy() -> bool:
        busy.set()
        return gate.wait(PATIENCE_S)

    with ThreadPoolExecutor(1) as pool:
        occupied = pool.submit(bridge.ask, occupy)
        assert busy.wait(PATIENCE_S)
        with pytest.raises(CallTimeoutError):
            bridge.call(work, 0.01)
        gate.set()
        assert occupied.result(PATIENCE_S)
    bridge.call(answer)
    assert not work.begun.is_set()


def test_a_result_that_comes_too_late_is_put_away(bridge):
    """Whoever gave up leaks nothing: the result is undone on the loop."""
    begun, gate = threading.Event(), threading.Event()
    undone: list[tuple[str, str]] = []

    async def undo(result: str) -> None:
        undone.append((result, threading.current_thread().name))

    def late() -> str:
        # The loop is blocked here, so it cannot hear of the cancellation before this is done.
        begun.set()
        assert gate.wait(PATIENCE_S)
        return "late"

    with pytest.raises(CallTimeoutError):
        bridge.ask(late, 0.5, undo=undo)
    gate.set()
    bridge.call(answer)
    # On a machine too busy to begin within the time, nothing was ever made.
    assert undone == ([("late", "hosted")] if begun.is_set() else [])


def test_many_threads_at_a_time(bridge):
    """Each of many threads gets the answers to its own questions."""

    async def echo(value: int) -> int:
        await asyncio.sleep(0)
        return value

    def ask(number: int) -> list[int]:
        return [
            bridge.call(lambda each=each: echo(number * 100 + each), PATIENCE_S)
            for each in range(50)
        ]

    with ThreadPoolExecutor(16) as pool:
        for number, got in enumerate(pool.map(ask, range(32))):
            assert got == [number * 100 + each for each in range(50)]


def test_posted_work_begins_before_later_calls(bridge):
    """What was posted is done when a call that came after it returns."""
    done: list[int] = []

    async def note(value: int) -> None:
        done.append(value)

    for each in range(10):
        bridge.post(lambda each=each: note(each))
    assert bridge.ask(lambda: list(done)) == list(range(10))


def test_an_iterator_is_closed_by_whoever_leaves_it(bridge):
    """An iteration that is left early ends its source, on the loop."""
    ends: list[str] = []

    async def count():
        try:
            for each in range(100):
                yield each
        finally:
            ends.append(threading.current_thread().name)

    assert list(bridge.iterate(count())) == list(range(100))
    for each in bridge.iterate(count()):
        if each == 3:
            break
    bridge.call(answer)
    assert ends == ["hosted", "hosted"]


def test_a_call_from_inside_is_refused(bridge):
    """A call in the loop's own thread raises instead of waiting for itself."""
    for inside in (lambda: bridge.call(answer), bridge.stop, bridge.check):
        with pytest.raises(WrongThreadError, match="hosts the event loop"):
            bridge.ask(inside, PATIENCE_S)


def test_the_end_wakes_all_who_wait():
    """At the end, calls under way are cancelled and raise; later ones are refused."""
    bridge = Bridge("ending")
    with pytest.raises(ClosedError):
        bridge.call(answer)
    bridge.stop()  # before the start it is nothing
    bridge.start()
    works = [Endless() for _ in range(5)]
    with ThreadPoolExecutor(5) as pool:
        waiting = [pool.submit(bridge.call, work) for work in works]
        assert all(work.begun.wait(PATIENCE_S) for work in works)
        bridge.stop(PATIENCE_S)
        for each in waiting:
            with pytest.raises(ClosedError):
                each.result(PATIENCE_S)
    assert all(work.cancelled.is_set() for work in works)
    with pytest.raises(ClosedError):
        bridge.call(answer)
    bridge.post(answer)
    bridge.stop()


def test_calls_during_the_end_are_answered():
    """However calls and the end fall together, each call returns or raises."""
    for _ in range(20):
        bridge = Bridge("ending")
        bridge.start()
        barrier = threading.Barrier(5)

        def ask(bridge: Bridge = bridge, barrier: threading.Barrier = barrier) -> int:
            barrier.wait(PATIENCE_S)
            count = 0
            try:
                while True:
                    count += bridge.call(answer)
            except ClosedError:
                return count

        with ThreadPoolExecutor(4) as pool:
            asking = [pool.submit(ask) for _ in range(4)]
            barrier.wait(PATIENCE_S)
            bridge.stop(PATIENCE_S)
            for each in asking:
                assert each.result(PATIENCE_S) % 42 == 0


def test_an_end_that_takes_too_long():
    """A stop that was not waited for to the end goes on, and can be waited for again."""
    bridge = Bridge("stubborn")
    bridge.start()
    gate = threading.Event()
    begun = threading.Event()

    async def block() -> None:
        begun.set()
        gate.wait(PATIENCE_S)

    bridge.post(block)
    assert begun.wait(PATIENCE_S)
    with pytest.raises(CallTimeoutError, match="not ended within"):
        bridge.stop(0.01)
    gate.set()
    bridge.stop(PATIENCE_S)


def test_nothing_is_left():
    """After the end there is neither a thread nor a descriptor more than before."""

    def live() -> None:
        bridge = Bridge("brief")
        bridge.start()
        assert bridge.call(lambda: asyncio.to_thread(lambda: 1)) == 1
        bridge.stop(PATIENCE_S)

    live()
    before = (threading.active_count(), open_descriptors())
    live()
    assert (threading.active_count(), open_descriptors()) == before


def test_a_loop_that_cannot_be_made(monkeypatch: pytest.MonkeyPatch):
    """What keeps the loop from starting is raised by `start`, and the thread is gone."""

    def refuse(*_: object, **__: object) -> Callable[..., object]:
        raise OSError("no descriptors")

    monkeypatch.setattr(asyncio, "Runner", refuse)
    bridge = Bridge("never")
    with pytest.raises(OSError, match="no descriptors"):
        bridge.start()
    with pytest.raises(ClosedError):
        bridge.call(answer)
    bridge.stop(PATIENCE_S)


def open_descriptors() -> int:
    """Return how many descriptors this process has."""
    return len(os.listdir("/proc/self/fd"))
