"""Files made ahead get a name where one is free, and otherwise leave nothing behind."""

import errno
import os

import pytest

from cachestream.backends._blanks import Blanks


@pytest.fixture
def directory(tmp_path):
    """Open the test's directory."""
    descriptor = os.open(tmp_path, os.O_RDONLY | os.O_DIRECTORY)
    yield descriptor
    os.close(descriptor)


@pytest.fixture
def blanks(directory):
    """Return blanks that were filled under a umask that would forbid everything."""
    made = Blanks()
    assert made.are_few
    umask = os.umask(0o777)
    try:
        made.fill(directory)
    finally:
        os.umask(umask)
    yield made
    made.close()


def test_a_blank_gets_a_name(blanks, directory, tmp_path):
    """It is a plain, empty file with one name that only we may read."""
    assert not blanks.are_few
    assert os.listdir(tmp_path) == []
    blank = blanks.take()
    assert blanks.name(blank, "named", directory)
    found = os.stat(tmp_path / "named")
    assert os.fstat(blank).st_ino == found.st_ino
    assert (found.st_mode & 0o7777, found.st_size, found.st_nlink) == (0o600, 0, 1)
    os.write(blank, b"content")
    assert (tmp_path / "named").read_bytes() == b"content"
    os.close(blank)


def test_a_name_in_use_stays_what_it_is(blanks, directory, tmp_path):
    """Nothing is replaced, and the next one can be named."""
    (tmp_path / "used").write_bytes(b"there")
    assert not blanks.name(blanks.take(), "used", directory)
    assert (tmp_path / "used").read_bytes() == b"there"
    blank = blanks.take()
    assert blanks.name(blank, "free", directory)
    os.close(blank)


def test_without_names_there_are_no_more_blanks(blanks, directory, monkeypatch):
    """Where the system cannot name them, files are made in the usual way from then on."""

    def refused(*_, **__):
        raise OSError(errno.EXDEV, "another file system")

    monkeypatch.setattr(os, "link", refused)
    assert not blanks.name(blanks.take(), "name", directory)
    assert not blanks.are_few


def test_without_blanks_nothing_is_tried_again(directory, monkeypatch):
    """A file system that has no files without a name is asked once."""
    blanks = Blanks()

    def refused(*_, **__):
        raise OSError(errno.EOPNOTSUPP, "not here")

    monkeypatch.setattr(os, "open", refused)
    blanks.fill(directory)
    assert not blanks.are_few
    assert blanks.take() is None
    blanks.fill(directory)


def test_none_outlives_the_end(blanks):
    """What was not taken is closed, and never becomes a file."""
    taken = [blanks.take() for _ in range(2)]
    blanks.close()
    assert blanks.take() is None
    for blank in taken:
        os.close(blank)  # those of the caller are still open
