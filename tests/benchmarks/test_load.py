"""What wrk is told to ask for, it asks for, and what went wrong does not look like speed."""

import shutil

import attrs
import pytest
from benchmarks.content import Item, WrongBytesError
from benchmarks.load import Load, random_ranges, small_files, wrk

from cachestream.testing.origin import OriginThread, pattern

pytestmark = pytest.mark.integration

KIB = 1024
GOOD = Load(
    requests=10, received=10 * 66_000, seconds=1.0, p50=0.1, p99=0.2, longest=0.3, failures=0
)


@pytest.fixture
def origin():
    """Run an origin with a file of a MiB and five small ones."""
    assert shutil.which("wrk"), "wrk is not installed; run: apt-get install wrk"
    with OriginThread() as running:
        running.add("/film.bin", pattern("film", 1024 * KIB))
        for number in range(5):
            running.add(f"/small/000/{number:03d}.bin", bytes(512))
        running.base = running.url("").rstrip("/")
        yield running


def test_answers_of_the_right_length_pass():
    """A head and what was under way at the end are allowed for."""
    GOOD.must_be_of(64 * KIB)


@pytest.mark.parametrize(
    "changes", [{"failures": 1}, {"received": 10 * 65_000}, {"received": 10 * 80_000}]
)
def test_failures_and_other_lengths_do_not(changes):
    """A server that answers with errors, or with the whole file, is not fast."""
    with pytest.raises(WrongBytesError):
        attrs.evolve(GOOD, **changes).must_be_of(64 * KIB)


def test_ranges_are_asked_for_at_random(origin, tmp_path):
    """Each is of the length that was named and lies within the file."""
    script = random_ranges(origin.base, Item("film.bin", 1024 * KIB), 64 * KIB)
    got = wrk(origin.base, script, tmp_path, seconds=1, connections=2)
    got.must_be_of(64 * KIB)
    asked = {request.range for request in origin.requests}
    assert len(asked) > 10
    for text in asked:
        first, last = map(int, text.removeprefix("bytes=").split("-"))
        assert 0 <= first <= last < 1024 * KIB
        assert last - first + 1 == 64 * KIB


def test_a_refusal_counts_as_a_failure(origin, tmp_path):
    """Another status is seen, however fast it comes."""
    script = random_ranges(origin.base, Item("nothing.bin", 1024 * KIB), 64 * KIB)
    got = wrk(origin.base, script, tmp_path, seconds=1, connections=1)
    assert got.failures > 0
    with pytest.raises(WrongBytesError):
        got.must_be_of(64 * KIB)


def test_small_files_are_asked_for_one_after_the_other(origin, tmp_path):
    """Each of them, and then it ends long before its time."""
    got = wrk(
        origin.base, small_files(origin.base, 5), tmp_path, seconds=20, connections=1, threads=1
    )
    assert not got.failures
    assert got.seconds < 15
    assert all(origin.count(f"/small/000/{number:03d}.bin") >= 1 for number in range(5))
    assert all(origin.count(f"/small/000/{number:03d}.bin") <= 2 for number in range(4))
