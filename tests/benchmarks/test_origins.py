"""Origins count what is asked of them, and a limited one is as slow as it was told to be."""

import time

import pytest
from benchmarks.client import fetch
from benchmarks.content import TINY, Library
from benchmarks.origins import FastOrigin, LimitedOrigin, Sent
from benchmarks.processes import resident

pytestmark = pytest.mark.integration

MIB = 1024 * 1024


@pytest.fixture(params=["fast", "limited"])
def origin(request, tmp_path):
    """Run either origin over the files of the least scale."""
    library = Library(tmp_path / "files", TINY)
    library.make()
    folder = tmp_path / "origin"
    if request.param == "fast":
        running = FastOrigin(library.root, folder)
    else:
        running = LimitedOrigin(library.root, folder, latency=0.1, rate=8 * MIB)
    running.library = library
    yield running
    running.stop()


def test_requests_and_bytes_are_counted(origin):
    """A whole file and a range; to look at the counters is not counted."""
    library = origin.library
    film, before = library.film, origin.sent()
    begun = time.monotonic()
    fetch(origin.url, film, library.content(film))
    took = time.monotonic() - begun
    assert origin.sent() - before == Sent(1, film.size)
    fetch(origin.url, library.clip, library.content(library.clip), start=10, length=1000)
    assert origin.sent() - before == Sent(2, film.size + 1000)
    if isinstance(origin, LimitedOrigin):
        assert took >= 0.1 + film.size / (8 * MIB) - 0.1  # never faster than it was told
    assert origin.pids()


def test_pages_of_files_are_counted(tmp_path):
    """What was just written is in the kernel's memory, file by file."""
    paths = [tmp_path / f"{number}" for number in range(3)]
    for path in paths:
        path.write_bytes(bytes(64 * 1024))
    assert resident(paths) == 3 * 64 * 1024
    assert resident([]) == 0
