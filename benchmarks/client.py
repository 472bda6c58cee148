"""A client that compares what it receives with what is right."""

from __future__ import annotations

import http.client
import threading
import time
from collections.abc import Callable, Sequence
from typing import Final, Generic, TypeVar
from urllib.parse import urlsplit

import attrs

from benchmarks.content import Item, WrongBytesError, check

__all__ = ["Fetched", "NoAnswerError", "RangeIgnoredError", "Together", "connect", "fetch"]

T = TypeVar("T")

_PIECE: Final = 256 * 1024
_SAMPLE: Final = 4096
_PATIENCE_S: Final = 30.0


class RangeIgnoredError(WrongBytesError):
    """A range was answered by 200: allowed, but of no use to whoever seeks."""


class NoAnswerError(Exception):
    """Nothing came within the time that the client would wait."""


@attrs.frozen(kw_only=True)
class Fetched:
    """What came of a request.

    Attributes:
        first_byte: Seconds from before connecting to the first byte of the content.
        total: Seconds to the last byte.
        received: Bytes of content.
    """

    first_byte: float
    total: float
    received: int


def connect(base: str, timeout: float = _PATIENCE_S) -> http.client.HTTPConnection:
    """Return a connection to the server of a URL; it is made at the first request."""
    parts = urlsplit(base)
    return http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=timeout)


def fetch(
    base: str,
    item: Item,
    right: bytes | memoryview,
    *,
    start: int | None = None,
    length: int | None = None,
    connection: http.client.HTTPConnection | None = None,
    go_on: Callable[[int], bool] = lambda _: True,
    sampled: bool = False,
    timeout: float = _PATIENCE_S,
) -> Fetched:
    """Get a file, or a range of it, and check it while it comes.

    Args:
        base: URL of the server; the name follows after a slash.
        item: The file.
        right: Its content.
        start: First position of the range, None for the whole file.
        length: How many bytes, None for all from ``start`` on.
        connection: One to use and to keep, None for a new one.
        go_on: Called with the number of bytes so far; False hangs up.
        sampled: Check 4 KiB of each piece instead of all, where checking would be the limit.
        timeout: Seconds of silence that are put up with.

    Raises:
        WrongBytesError: If what comes is not right.
        NoAnswerError: If nothing comes in time.
    """
    first = start or 0
    wanted = item.size - first if length is None else length
    fields = {} if start is None else {"Range": f"bytes={first}-{first + wanted - 1}"}
    begun = time.monotonic()
    used = connection or connect(base, timeout)
    try:
        used.request("GET", f"{urlsplit(base).path.rstrip('/')}/{item.name}", headers=fields)
        response = used.getresponse()
        _check_head(response, wanted, ranged=start is not None)
        first_byte, received = _receive(
            response, memoryview(right), first, wanted, begun, go_on, sampled
        )
        if received < wanted:
            used.close()
        return Fetched(first_byte=first_byte, total=time.monotonic() - begun, received=received)
    except TimeoutError as error:
        raise NoAnswerError(f"nothing for {timeout:g} s") from error
    except http.client.IncompleteRead as error:
        raise WrongBytesError(f"{item.name} was cut short") from error
    finally:
        if connection is None:
            used.close()


def _check_head(response: http.client.HTTPResponse, wanted: int, *, ranged: bool) -> None:
    if ranged and response.status == 200:
        raise RangeIgnoredError("200 and the whole file instead of a range")
    if response.status != (206 if ranged else 200):
        raise WrongBytesError(f"status {response.status}")
    if response.length is not None and response.length != wanted:
        raise WrongBytesError(f"{response.length} bytes announced, {wanted} asked for")


def _receive(
    response: http.client.HTTPResponse,
    right: memoryview,
    first: int,
    wanted: int,
    begun: float,
    go_on: Callable[[int], bool],
    sampled: bool,
) -> tuple[float, int]:
    """Return when the first byte came, and how many did."""
    room = bytearray(min(_PIECE, wanted))
    view = memoryview(room)
    received = response.readinto(view[:1])
    first_byte = time.monotonic() - begun
    check(room[:1], received, right, first)
    while received < wanted and go_on(received):
        count = response.readinto(view[: wanted - received])
        if not count:
            raise WrongBytesError(f"ended after {received} of {wanted} bytes")
        if sampled and count > _SAMPLE:
            check(room[:_SAMPLE], _SAMPLE, right, first + received)
        else:
            check(room, count, right, first + received)
        received += count
    if received == wanted and response.read(1):
        raise WrongBytesError(f"more than {wanted} bytes")
    return first_byte, received


class Together(Generic[T]):
    """Jobs in threads that begin at one moment.

    Args:
        jobs: What to call, each in a thread.
    """

    def __init__(self, jobs: Sequence[Callable[[], T]]) -> None:
        self._results: dict[int, T] = {}
        self._errors: list[BaseException] = []
        self._barrier = threading.Barrier(len(jobs))
        self._threads = [
            threading.Thread(target=self._run, args=(number, job), daemon=True)
            for number, job in enumerate(jobs)
        ]
        for thread in self._threads:
            thread.start()

    def _run(self, number: int, job: Callable[[], T]) -> None:
        try:
            self._barrier.wait()
            self._results[number] = job()
        except BaseException as error:  # shown where `join` is called
            self._errors.append(error)

    def join(self) -> list[T]:
        """Return the results in the order of the jobs, or raise the first error of any."""
        for thread in self._threads:
            thread.join()
        if self._errors:
            raise self._errors[0]
        return [self._results[number] for number in range(len(self._threads))]
