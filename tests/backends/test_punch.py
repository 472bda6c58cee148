"""Holes and copies, with and without help of the file system."""

import errno
import os

import pytest

from cachestream.backends import _punch


@pytest.fixture
def files(tmp_path):
    """Return the descriptors of a file with bytes, and of an empty one."""
    one = os.open(tmp_path / "one", os.O_RDWR | os.O_CREAT)
    two = os.open(tmp_path / "two", os.O_RDWR | os.O_CREAT)
    os.pwrite(one, bytes(range(256)) * 64, 0)
    yield one, two
    os.close(one)
    os.close(two)


def test_a_hole_reads_as_zeros_and_keeps_the_size(files):
    """Punching touches exactly its bytes; whole blocks of them are given back."""
    one, _ = files
    before = os.fstat(one)
    assert _punch.punch(one, 10, 12_000)
    data = os.pread(one, 16384, 0)
    assert data[:10] == bytes(range(10))
    assert data[10:12_000] == bytes(11_990)
    assert data[12_000:] == (bytes(range(256)) * 64)[12_000:]
    after = os.fstat(one)
    assert (after.st_size, after.st_blocks < before.st_blocks) == (before.st_size, True)


def test_where_no_holes_can_be_made_nothing_changes(files, monkeypatch):
    """Without the system call, or when it says no, the answer is False."""
    one, _ = files
    monkeypatch.setattr(_punch, "_fallocate", None)
    assert not _punch.punch(one, 0, 4096)
    assert not _punch.punch_supported()

    def refuse(*args):
        return -1

    monkeypatch.setattr(_punch, "_fallocate", refuse)
    monkeypatch.setattr(_punch.ctypes, "get_errno", lambda: errno.EOPNOTSUPP)
    assert not _punch.punch(one, 0, 4096)
    monkeypatch.setattr(_punch.ctypes, "get_errno", lambda: errno.EIO)
    with pytest.raises(OSError, match="error"):
        _punch.punch(one, 0, 4096)


@pytest.mark.parametrize("in_kernel", [True, False])
def test_a_copy_has_the_spans_and_the_length(files, monkeypatch, in_kernel):
    """Whether or not the kernel copies, the target has these bytes and zeros between."""
    one, two = files
    if not in_kernel:
        monkeypatch.delattr(_punch.os, "copy_file_range")
    _punch.clone(one, two, [(0, 100), (5000, 6000)], 7000, share_blocks=False)
    expected = bytearray(7000)
    whole = bytes(range(256)) * 64
    expected[:100], expected[5000:6000] = whole[:100], whole[5000:6000]
    assert os.pread(two, 8000, 0) == bytes(expected)


def test_a_source_that_is_too_short_is_an_error(files):
    """A copy never goes on for ever on bytes that are not there."""
    one, two = files
    with pytest.raises(OSError, match="shorter"):
        _punch.clone(one, two, [(0, 99_999)], 99_999, share_blocks=False)


def test_a_kernel_that_cannot_copy_is_helped(files, monkeypatch):
    """Across file systems the bytes are copied by hand."""
    one, two = files

    def refuse(*args):
        raise OSError(errno.EXDEV, "Invalid cross-device link")

    monkeypatch.setattr(_punch.os, "copy_file_range", refuse)
    _punch.clone(one, two, [(0, 1000)], 1000)
    assert os.pread(two, 2000, 0) == (bytes(range(256)) * 4)[:1000]
