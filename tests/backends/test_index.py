"""The index executes nothing, names no file, and replaces what it cannot use."""

import os
import pickle
import sqlite3
import stat
import threading

import pytest

from cachestream.backends._format import seal
from cachestream.backends._index import Index
from cachestream.errors import StoreError


class Bomb:
    """Leaves a file when it is unpickled."""

    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return (open, (self.path, "w"))


@pytest.fixture
def directory(tmp_path):
    """Return a directory for an index."""
    path = tmp_path / "index"
    path.mkdir(mode=0o700)
    return path


@pytest.fixture
def index(directory):
    """Return an open index with one row."""
    index = Index(directory)
    index.open()
    with index.transaction():
        index.put("e:1", b"one")
    yield index
    index.close()


def plant(directory, statement, *values):
    """Change the database behind the store's back."""
    connection = sqlite3.connect(directory / "cache.db")
    with connection:
        connection.execute(statement, values)
    connection.close()


def test_rows_are_read_in_order_of_name(index):
    """A scan is bounded by its names, the lower one included, and by its limit."""
    with index.transaction():
        for name in ("e:3", "e:2", "f:1"):
            index.put(name, name.encode())
    assert [name for name, _ in index.scan("e:", "e;")] == ["e:1", "e:2", "e:3"]
    assert index.scan("e:2", "e:3") == [("e:2", b"e:2")]
    assert len(index.scan("e:", "e;", 2)) == 2
    with index.transaction():
        index.delete_range("e:", "e:3")
    assert [name for name, _ in index.scan("e:", "e;")] == ["e:3"]


def test_a_transaction_that_fails_changes_nothing(index):
    """What was put before the failure is not there after it."""
    with pytest.raises(ValueError), index.transaction():
        index.put("e:2", b"two")
        raise ValueError
    assert index.get("e:2") is None


def test_a_planted_pickle_is_not_executed(index, directory, tmp_path):
    """A row that asks to be unpickled, as value or as key, is a miss and runs nothing."""
    bomb = pickle.dumps(Bomb(tmp_path / "executed"))
    plant(directory, "UPDATE Cache SET mode = 4, value = ? WHERE key = 'e:1'", bomb)
    plant(
        directory,
        "INSERT INTO Cache (key, raw, mode, value) VALUES (?, 0, 1, ?)",
        bomb,
        seal("e:9", b"x"),
    )
    assert index.get("e:1") is None
    assert index.scan("", "\uffff")
    assert not (tmp_path / "executed").exists()
    index.close()
    again = Index(directory)
    again.open()
    again.close()
    assert not (tmp_path / "executed").exists()


@pytest.mark.parametrize("mode", [1, 2, 3, 4])
def test_a_planted_filename_is_neither_read_nor_removed(index, directory, tmp_path, mode):
    """A row that names a file outside is a miss; replacing and deleting it leave the file."""
    victim = tmp_path / "victim"
    victim.write_text("precious")
    plant(
        directory,
        "UPDATE Cache SET mode = ?, filename = '../victim', value = NULL WHERE key = 'e:1'",
        mode,
    )
    assert index.get("e:1") is None
    assert all(name != "e:1" for name, _ in index.scan("e:", "e;"))
    with index.transaction():
        index.put("e:1", b"new")
    assert index.get("e:1") == b"new"
    plant(directory, "UPDATE Cache SET filename = '../victim' WHERE key = 'e:1'")
    with index.transaction():
        assert index.delete("e:1")
    assert victim.read_text() == "precious"


@pytest.mark.parametrize("value", [b"", b"short", b"x" * 100, None, "text", 5])
def test_a_damaged_row_is_a_miss(index, directory, value):
    """A value that is not what was sealed under this name is not there."""
    plant(directory, "UPDATE Cache SET value = ? WHERE key = 'e:1'", value)
    assert index.get("e:1") is None
    assert index.scan("e:", "e;") == []


def test_a_row_under_another_name_is_a_miss(index, directory):
    """A row cannot be moved to speak for another entry."""
    plant(directory, "UPDATE Cache SET key = 'e:2' WHERE key = 'e:1'")
    assert index.get("e:2") is None


@pytest.mark.parametrize(
    "statement",
    [
        "INSERT INTO Settings VALUES ('disk_surprise', 1)",
        "INSERT INTO Settings VALUES ('sqlite_temp_store_directory', '/tmp')",
        "UPDATE Settings SET value = x'00' WHERE key = 'eviction_policy'",
        "CREATE VIEW surprise AS SELECT 1",
        "CREATE TABLE surprise (x)",
        "CREATE TRIGGER surprise AFTER INSERT ON Cache BEGIN DELETE FROM Cache; END",
    ],
)
def test_a_database_that_is_not_ours_is_moved_aside(index, directory, statement, caplog):
    """Foreign settings and schema are not acted on: a fresh index begins, with a warning."""
    index.close()
    plant(directory, statement)
    again = Index(directory)
    assert again.open().entries == 0
    assert again.get("e:1") is None
    assert "moved" in caplog.text
    assert any(path.name.startswith("broken-") for path in directory.iterdir())
    again.close()


@pytest.mark.parametrize("damage", [b"garbage" * 1000, b"SQLite format 3\0" + bytes(5000)])
def test_a_corrupt_database_is_moved_aside(index, directory, damage, caplog):
    """Bytes that are no database are kept for whoever wants to look, and a fresh index begins."""
    index.close()
    (directory / "cache.db").write_bytes(damage)
    again = Index(directory)
    again.open()
    with again.transaction():
        again.put("e:1", b"new")
    again.close()
    assert "moved" in caplog.text
    (aside,) = directory.glob("broken-*/cache.db")
    assert aside.read_bytes() == damage


def test_a_link_in_place_of_the_database_is_not_followed(directory, tmp_path):
    """A symbolic link is moved aside, and what it points to is left alone."""
    victim = tmp_path / "victim"
    victim.write_bytes(b"")
    (directory / "cache.db").symlink_to(victim)
    index = Index(directory)
    index.open()
    index.close()
    assert victim.read_bytes() == b""
    assert not (directory / "cache.db").is_symlink()


@pytest.mark.parametrize("where", ["row", "database"])
def test_a_newer_format_is_refused_and_left_alone(index, directory, where):
    """A store of a later version raises, and its index is not changed."""
    if where == "row":
        with index.transaction():
            index.put("z:format", b"2")
    else:
        plant(directory, "PRAGMA user_version = 2")
    index.close()
    before = (directory / "cache.db").read_bytes()
    with pytest.raises(StoreError, match="newer"):
        Index(directory).open()
    assert (directory / "cache.db").read_bytes() == before
    assert not list(directory.glob("broken-*"))


def test_files_of_the_index_are_for_the_owner_only(index, directory):
    """Whatever the umask, neither the database nor its side files can be read by others."""
    index.close()
    for path in directory.iterdir():
        path.unlink()
    old = os.umask(0)
    try:
        again = Index(directory)
        again.open()
        modes = {stat.S_IMODE(path.stat().st_mode) for path in directory.iterdir()}
        again.close()
    finally:
        os.umask(old)
    assert modes == {0o600}


def test_a_locked_index_is_a_store_error(index, directory, monkeypatch):
    """Another process that keeps the database to itself gives an error of the store's."""
    blocker = sqlite3.connect(directory / "cache.db", isolation_level=None)
    blocker.execute("BEGIN IMMEDIATE")
    index._cache._sql("PRAGMA busy_timeout = 1")
    with pytest.raises(StoreError, match="locked"), index.transaction():
        index.put("e:2", b"x")
    blocker.execute("ROLLBACK")
    blocker.close()


def test_a_snapshot_sees_one_state(index):
    """Reads within a snapshot do not see what another thread commits meanwhile."""

    def change():
        with index.transaction():
            index.put("e:1", b"changed")
        index.close()

    with index.snapshot():
        assert index.get("e:1") == b"one"
        thread = threading.Thread(target=change)
        thread.start()
        thread.join()
        assert index.get("e:1") == b"one"
    assert index.get("e:1") == b"changed"


def test_lost_totals_are_counted_anew(index, directory):
    """Without its row of totals, the index counts its entries once."""
    from cachestream.backends._format import Counts, Totals

    with index.transaction():
        index.put("c:1", Counts(3, 4096).pack())
        index.put("z:totals", Totals(7, 7).pack())
    plant(directory, "UPDATE Cache SET value = x'00' WHERE key = 'z:totals'")
    index.close()
    again = Index(directory)
    assert again.open() == Totals(1, 4096)
    again.close()
