"""A client that compares finds every wrong byte, and does not take silence for an answer."""

import pytest
from benchmarks.client import NoAnswerError, RangeIgnoredError, Together, connect, fetch
from benchmarks.content import Item, WrongBytesError, check

from cachestream.testing.origin import OriginThread, pattern

SIZE = 700_000
RIGHT = pattern("film", SIZE).bytes()
ITEM = Item("film.bin", SIZE)


@pytest.fixture
def origin():
    """Run an origin that serves the right file, until a test changes that."""
    with OriginThread() as running:
        running.film = running.add("/film.bin", RIGHT)
        running.base = running.url("").rstrip("/")
        yield running


def wrong_at(place):
    """Return the content with one byte changed."""
    changed = bytearray(RIGHT)
    changed[place] ^= 1
    return bytes(changed)


@pytest.mark.parametrize("length", [5, 3])
def test_a_check_compares_as_much_as_came(length):
    """What lies behind the piece in its buffer is no part of it."""
    check(bytearray(b"cdeXX"[:length].ljust(5, b"X")), 3, memoryview(b"abcdefg"), 2)
    with pytest.raises(WrongBytesError, match=r"\[1, 4\)"):
        check(bytearray(b"cdeXX"), 3, memoryview(b"abcdefg"), 1)


def test_a_check_beyond_the_end_fails():
    """More than there is cannot be right."""
    with pytest.raises(WrongBytesError):
        check(bytearray(b"fgh"), 3, memoryview(b"abcdefg"), 5)


def test_what_is_right_is_counted(origin):
    """A whole file and a range, over one connection and over two."""
    assert fetch(origin.base, ITEM, RIGHT).received == SIZE
    connection = connect(origin.base)
    for start in (0, 1, 400_000):
        got = fetch(origin.base, ITEM, RIGHT, start=start, length=1000, connection=connection)
        assert got.received == 1000
        assert 0 < got.first_byte <= got.total
    connection.close()
    assert fetch(origin.base, ITEM, RIGHT, go_on=lambda so_far: so_far < 300_000).received < SIZE


@pytest.mark.parametrize("place", [0, 1, 262_143, 262_144, 500_001, SIZE - 1])
def test_each_wrong_byte_is_found(origin, place):
    """Wherever it is: the first, the last, and where pieces meet."""
    origin.film.data = wrong_at(place)
    with pytest.raises(WrongBytesError, match="wrong bytes"):
        fetch(origin.base, ITEM, RIGHT)
    start = max(0, place - 10)
    with pytest.raises(WrongBytesError, match="wrong bytes"):
        fetch(origin.base, ITEM, RIGHT, start=start, length=min(20, SIZE - start))


def test_a_sample_sees_the_beginning_of_a_piece(origin):
    """What is only sampled is less sure, and not nothing."""
    origin.film.data = wrong_at(2)
    with pytest.raises(WrongBytesError):
        fetch(origin.base, ITEM, RIGHT, sampled=True)


@pytest.mark.parametrize(
    ("knobs", "told"),
    [
        ({"short_by": 10}, "cut short|ended after"),
        ({"data": RIGHT + b"more"}, "700004 bytes announced"),
        ({"data": RIGHT[:-1]}, "699999 bytes announced"),
        ({"data": RIGHT + b"more", "framing": "chunked"}, "more than 700000"),
        ({"data": RIGHT[:-1], "framing": "chunked"}, "ended after|cut short"),
        ({"status": 404}, "status 404"),
        ({"range_answer": "partial"}, "status 206"),
    ],
)
def test_a_wrong_length_or_status_is_found(origin, knobs, told):
    """What is announced, what comes and what is right are one and the same."""
    for name, value in knobs.items():
        setattr(origin.film, name, value)
    with pytest.raises(WrongBytesError, match=told):
        fetch(origin.base, ITEM, RIGHT)


def test_a_whole_file_is_no_range(origin):
    """An ignored range has an error of its own."""
    origin.film.ranges = False
    with pytest.raises(RangeIgnoredError):
        fetch(origin.base, ITEM, RIGHT, start=5, length=10)


def test_silence_has_an_end(origin):
    """Who sends nothing is given up after the time that was named."""
    origin.film.stall_after = 300_000
    with pytest.raises(NoAnswerError, match=r"nothing for 0\.2 s"):
        fetch(origin.base, ITEM, RIGHT, timeout=0.2)


def test_jobs_together_give_results_in_order_or_the_first_error():
    """Nobody's failure is lost in a thread."""
    assert Together([lambda number=number: number for number in range(5)]).join() == [0, 1, 2, 3, 4]
    with pytest.raises(ZeroDivisionError):
        Together([lambda: 1, lambda: 1 // 0]).join()
