"""Directories and files of the store are its owner's, and nothing else is opened."""

import os
import stat

import pytest

from cachestream.backends._files import Root, share, try_exclusive
from cachestream.errors import ConfigurationError, StoreError, StoreFullError

ID = "0123456789abcdef" * 2


@pytest.fixture
def root(tmp_path):
    """Return an open root."""
    root = Root(tmp_path / "cache")
    yield root
    root.close()


def mode(path):
    """Return the permission bits of a file."""
    return stat.S_IMODE(path.lstat().st_mode)


@pytest.mark.parametrize("umask", [0, 0o077, 0o777])
def test_modes_do_not_depend_on_the_umask(tmp_path, umask):
    """Directories are 0700 and files 0600, whatever the umask."""
    old = os.umask(umask)
    try:
        root = Root(tmp_path / "cache")
        os.close(root.create_data(ID))
        root.close()
    finally:
        os.umask(old)
    assert mode(tmp_path / "cache") == 0o700
    assert {mode(tmp_path / "cache" / name) for name in ("data", "locks", "index")} == {0o700}
    assert mode(tmp_path / "cache" / "data" / ID) == 0o600


def test_the_root_is_marked_as_a_cache(root):
    """Programs that know CACHEDIR.TAG leave the directory out of backups."""
    tag = (root.path / "CACHEDIR.TAG").read_bytes()
    assert tag.startswith(b"Signature: 8a477f597d28d172789f06886806bc55")


@pytest.mark.parametrize("bits", [0o770, 0o707, 0o722])
def test_a_root_that_others_may_write_to_is_refused(tmp_path, bits):
    """The error says what to do."""
    path = tmp_path / "cache"
    path.mkdir()
    path.chmod(bits)
    with pytest.raises(ConfigurationError, match="chmod"):
        Root(path)


def test_a_root_of_somebody_else_is_refused(tmp_path, monkeypatch):
    """Whoever owns a directory can change what is in it."""
    path = tmp_path / "cache"
    path.mkdir(mode=0o700)
    monkeypatch.setattr(os, "geteuid", lambda: path.stat().st_uid + 1)
    with pytest.raises(ConfigurationError, match="another user"):
        Root(path)


@pytest.mark.parametrize("name", ["data", "locks", "index"])
def test_a_directory_that_is_a_link_is_refused(tmp_path, name):
    """No directory within the root is entered through a link."""
    path = tmp_path / "cache"
    path.mkdir(mode=0o700)
    (tmp_path / "elsewhere").mkdir()
    (path / name).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ConfigurationError, match="no plain directory"):
        Root(path)
    assert not list((tmp_path / "elsewhere").iterdir())


def test_a_root_that_is_a_file_is_a_store_error(tmp_path):
    """An error of the operating system is told as one of the store's."""
    (tmp_path / "cache").write_text("")
    with pytest.raises(StoreError):
        Root(tmp_path / "cache")


def plant_link(path, victim):
    """A symbolic link."""
    path.symlink_to(victim)


def plant_hard_link(path, victim):
    """A second name of a file elsewhere."""
    path.hardlink_to(victim)


def plant_fifo(path, victim):
    """A named pipe, which would block who opens it."""
    os.mkfifo(path)


def plant_directory(path, victim):
    """A directory."""
    path.mkdir()


def plant_nothing(path, victim):
    """No file at all."""


@pytest.mark.parametrize(
    "plant", [plant_link, plant_hard_link, plant_fifo, plant_directory, plant_nothing]
)
def test_what_is_planted_is_not_opened(root, tmp_path, plant):
    """A link, a pipe, a directory or a file with another name is as good as no file."""
    victim = tmp_path / "victim"
    victim.write_text("precious")
    plant(root.path / "data" / ID, victim)
    with pytest.raises(FileNotFoundError):
        root.open_data(ID)
    assert victim.read_text() == "precious"


def test_a_new_file_does_not_take_over_an_old_one(root):
    """Creating data over something that is there fails."""
    (root.path / "data" / ID).write_text("x")
    with pytest.raises(FileExistsError):
        root.create_data(ID)


def test_one_at_a_time_holds_the_lock_of_an_entry(root):
    """A lock is free again when its holder has let go, and its file is gone then."""
    lock = root.lock(ID)
    assert lock is not None
    other = Root(root.path)
    assert other.lock(ID) is None
    root.unlock(ID, lock)
    assert not (root.path / "locks" / ID).exists()
    again = other.lock(ID)
    assert again is not None
    other.unlock(ID, again)
    other.close()


def test_a_lock_whose_file_was_replaced_is_not_taken(root):
    """Who locked a file that has lost its name meanwhile tries the new one."""
    first = root.lock(ID)
    (root.path / "locks" / ID).unlink()
    second = Root(root.path)
    lock = second.lock(ID)
    assert lock is not None
    assert os.fstat(lock).st_ino == (root.path / "locks" / ID).stat().st_ino
    os.close(first)
    second.unlock(ID, lock)
    second.close()


def test_a_file_that_others_have_open_cannot_be_locked_alone(root):
    """Exclusive use fails at once while somebody shares the file, and works after."""
    one = root.create_data(ID)
    two = root.open_data(ID)
    share(two)
    assert not try_exclusive(one)
    share(one)
    os.close(two)
    assert try_exclusive(one)
    share(one)
    os.close(one)


def test_a_full_disk_is_told_from_a_broken_one():
    """No room is StoreFullError, anything else StoreError, both with a hint."""
    from cachestream.backends._files import store_error

    full = store_error(OSError(28, "No space left on device"), "https://example.com")
    assert isinstance(full, StoreFullError)
    assert full.hint
    broken = store_error(OSError(5, "Input/output error"))
    assert not isinstance(broken, StoreFullError)
    assert broken.hint


def test_closing_closes_all_descriptors(tmp_path):
    """A root that is closed, or that could not be opened, leaves no descriptor behind."""
    before = len(os.listdir("/proc/self/fd"))
    Root(tmp_path / "cache").close()
    (tmp_path / "other").mkdir(mode=0o700)
    (tmp_path / "other" / "index").write_text("")
    with pytest.raises(ConfigurationError):
        Root(tmp_path / "other")
    assert len(os.listdir("/proc/self/fd")) == before
