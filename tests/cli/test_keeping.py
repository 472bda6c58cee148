"""`ls`, `info`, `rm`, `prune`, `verify` and `stats` look after what is held."""

import json
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cachestream.abc import EntryRecord, Key
from cachestream.cli._keeping import choose
from cachestream.core.representation import Representation
from cachestream.testing.origin import OriginThread, pattern

SIZE = 1 << 20
DATA = pattern("film", SIZE).bytes()

Run = Callable[..., subprocess.CompletedProcess[bytes]]


@pytest.fixture
def origin() -> Iterator[OriginThread]:
    """Run an origin with two files."""
    with OriginThread() as origin:
        origin.add("/a.bin", DATA)
        origin.add("/b.bin", DATA[: SIZE // 2])
        yield origin


@pytest.fixture
def held(run: Run, origin: OriginThread) -> tuple[str, str]:
    """Put one whole file and the beginning of another in; return their URLs."""
    a, b = origin.url("/a.bin"), origin.url("/b.bin")
    assert run("prefetch", a).returncode == 0
    done = run(
        *("prefetch", b, "--bytes", "64k", "--completion", "demand", "--read-ahead", "0"),
        *("--max-read-ahead", "0"),
    )
    assert done.returncode == 0, done.stderr
    return a, b


def test_ls_lists_what_is_held(run: Run, held: tuple[str, str]) -> None:
    """Each URL has a line with how much is held; only a whole one has 100%."""
    lines = run("ls").stdout.decode().splitlines()
    assert lines[0].split() == ["STORED", "OF", "IT", "USED", "URL"]
    whole = next(line for line in lines if held[0] in line)
    assert "1 MiB" in whole
    assert " 100% " in whole
    part = next(line for line in lines if held[1] in line)
    assert "100%" not in part


def test_ls_prints_json(run: Run, held: tuple[str, str]) -> None:
    """With --json sizes are bytes and times seconds since the epoch."""
    rows = {row["url"]: row for row in json.loads(run("ls", "--json").stdout)}
    assert set(rows) == set(held)
    row = rows[held[0]]
    assert (row["complete"], row["stored_bytes"], row["complete_length"]) == (True, SIZE, SIZE)
    assert row["accessed"] > 1_700_000_000
    assert not rows[held[1]]["complete"]


def test_ls_of_nothing_prints_nothing(run: Run) -> None:
    """An empty cache has no lines, and an empty list as JSON."""
    assert run("ls").stdout == b""
    assert json.loads(run("ls", "--json").stdout) == []


def test_info_shows_what_is_known(run: Run, held: tuple[str, str]) -> None:
    """One URL's facts, validators and spans are shown."""
    text = run("info", held[0]).stdout.decode()
    shown = dict(line.split(maxsplit=1) for line in text.splitlines())
    assert shown["url"] == held[0]
    assert shown["held"] == f"0-{SIZE - 1}"
    assert '"v1"' in text


def test_info_prints_json(run: Run, held: tuple[str, str]) -> None:
    """With --json the spans are half-open pairs."""
    row = json.loads(run("info", held[1], "--json").stdout)
    assert row["entity_tag"] == '"v1"'
    assert row["spans"][0][0] == 0
    assert row["spans"][0][1] >= 64 << 10
    assert row["status"] == 200


def test_info_of_what_is_not_held_ends_with_3(run: Run) -> None:
    """What is not in the cache is not found."""
    done = run("info", "https://a.example/")
    assert done.returncode == 3
    assert b"not in the cache" in done.stderr


def test_rm_deletes_one(run: Run, held: tuple[str, str]) -> None:
    """What is named goes, and the rest stays."""
    assert run("rm", held[0]).returncode == 0
    assert [row["url"] for row in json.loads(run("ls", "--json").stdout)] == [held[1]]


def test_rm_of_what_is_not_held_ends_with_3(run: Run, held: tuple[str, str]) -> None:
    """What is not there is named; what is there goes all the same."""
    done = run("rm", "https://a.example/", held[0])
    assert done.returncode == 3
    assert b"https://a.example/" in done.stderr
    assert held[0].encode() not in run("ls").stdout


@pytest.mark.usefixtures("held")
def test_rm_all_deletes_everything(run: Run) -> None:
    """With --all nothing is left."""
    done = run("rm", "--all")
    assert (done.returncode, done.stderr) == (0, b"2 deleted\n")
    assert json.loads(run("ls", "--json").stdout) == []


@pytest.mark.parametrize("arguments", [["rm"], ["rm", "--all", "https://a.example/"], ["prune"]])
def test_nothing_is_deleted_by_mistake(run: Run, arguments: list[str]) -> None:
    """What to delete has to be said, once."""
    assert run(*arguments).returncode == 2


def test_prune_deletes_what_is_partial(run: Run, held: tuple[str, str]) -> None:
    """With --partial only whole files stay, and what went is listed."""
    done = run("prune", "--partial")
    assert (done.returncode, done.stdout) == (0, f"{held[1]}\n".encode())
    assert b"1 deleted" in done.stderr
    assert [row["url"] for row in json.loads(run("ls", "--json").stdout)] == [held[0]]


def test_a_dry_run_deletes_nothing(run: Run, held: tuple[str, str]) -> None:
    """With --dry-run what would go is listed, and stays."""
    rows = json.loads(run("prune", "--max-size", "0", "--dry-run", "--json").stdout)
    assert {row["url"] for row in rows} == set(held)
    assert len(json.loads(run("ls", "--json").stdout)) == 2


@pytest.mark.usefixtures("held")
def test_verify_of_right_bytes_ends_with_0(run: Run) -> None:
    """What is right is counted."""
    done = run("verify")
    assert (done.returncode, done.stderr) == (0, b"2 checked, 0 bad\n")


def test_verify_of_wrong_bytes_ends_with_5(run: Run, held: tuple[str, str], tmp_path: Path) -> None:
    """A changed byte is found and named, forgotten, and fetched anew."""
    (data,) = (p for p in (tmp_path / "cache").rglob("*") if p.stat().st_size == SIZE)
    with data.open("r+b") as file:
        file.seek(300_000)
        file.write(bytes([DATA[300_000] ^ 1]))
    done = run("verify", held[0], "--json")
    assert done.returncode == 5
    (row,) = json.loads(done.stdout)
    assert any(start <= 300_000 < stop for start, stop in row["bad"])
    assert run("verify").returncode == 0
    assert run("cat", held[0], "--offline").returncode == 3
    assert run("cat", held[0]).stdout == DATA


def test_verify_of_what_is_not_held_ends_with_3(run: Run) -> None:
    """What is not in the cache cannot be checked."""
    assert run("verify", "https://a.example/").returncode == 3


@pytest.mark.usefixtures("held")
def test_stats_shows_how_much_is_held(run: Run) -> None:
    """Entries, bytes and the limit are shown, and are numbers as JSON."""
    assert b"entries    2, 1 of them complete" in run("stats").stdout
    row = json.loads(run("stats", "--json").stdout)
    assert (row["entries"], row["complete"]) == (2, 1)
    assert SIZE < row["stored_bytes"] < 2 * SIZE
    assert row["allocated_bytes"] >= row["stored_bytes"]


def record(
    name: str, *, accessed: float, allocated: int, complete: bool = True, pinned: bool = False
) -> EntryRecord:
    """Return a record with what matters to `choose`."""
    return EntryRecord(
        entry_id=name,
        key=Key(name),
        source=f"https://a.example/{name}",
        representation=attrs.evolve(WHOLE, complete_length=allocated + (not complete)),
        stored_bytes=allocated,
        allocated_bytes=allocated,
        accessed=accessed,
        pinned=pinned,
    )


WHOLE = Representation(status=200, complete_length=0)


def chosen(records: list[EntryRecord], **how: object) -> list[str]:
    """Return the names of what `choose` would delete at second 100."""
    rest = {"max_size": None, "older_than": None, "partial": False, **how}
    return [r.entry_id for r in choose(records, now=100.0, **rest)]  # type: ignore[arg-type]


def test_the_least_recently_used_goes_first() -> None:
    """Entries go in the order of their last use, until what is left fits."""
    records = [record(n, accessed=a, allocated=10) for n, a in (("a", 3), ("b", 1), ("c", 2))]
    assert chosen(records, max_size=30) == []
    assert chosen(records, max_size=15) == ["b", "c"]
    assert chosen(records, max_size=0) == ["b", "c", "a"]


def test_what_is_too_old_goes() -> None:
    """Only what was not used for longer than said goes."""
    records = [record(n, accessed=a, allocated=10) for n, a in (("a", 50), ("b", 90))]
    assert chosen(records, older_than=20.0) == ["a"]
    assert chosen(records, older_than=50.0) == []


def test_what_is_pinned_stays() -> None:
    """No rule deletes what is pinned, though its room counts."""
    records = [
        record("a", accessed=0, allocated=10, pinned=True, complete=False),
        record("b", accessed=1, allocated=10),
    ]
    assert chosen(records, max_size=10, older_than=0.0, partial=True) == ["b"]


@given(
    st.lists(st.tuples(st.integers(0, 99), st.integers(0, 50)), max_size=12), st.integers(0, 300)
)
def test_what_is_left_fits_and_no_more_goes_than_must(
    entries: list[tuple[int, int]], max_size: int
) -> None:
    """What stays takes at most the room given; without the last that went, it would not."""
    records = [record(str(i), accessed=a, allocated=s) for i, (a, s) in enumerate(entries)]
    gone = chosen(records, max_size=max_size)
    sizes = {r.entry_id: r.allocated_bytes for r in records}
    left = sum(sizes.values()) - sum(sizes[name] for name in gone)
    assert left <= max_size
    assert not gone or left + sizes[gone[-1]] > max_size
