"""Contestants run in turns, each within a limit, and nobody's failure hides."""

import os
import time

import pytest
from benchmarks.cell import NotApplicableError
from benchmarks.client import NoAnswerError
from benchmarks.content import TINY, Library, WrongBytesError
from benchmarks.contestants import Contestant
from benchmarks.figures import Figure
from benchmarks.report import Report
from benchmarks.running import run, turns
from benchmarks.scenarios import Scenario


class Still(Contestant):
    """Is never started: the scenarios here ask nothing of it."""

    name = "still"
    note = "for tests"

    def start(self, folder, origin):
        raise AssertionError("nobody should start it")


class Other(Still):
    name = "other"


class Absent(Still):
    name = "absent"
    programs = ("a-program-that-nobody-has",)


class Unable(Still):
    name = "unable"
    cannot = {"T": "keeps nothing"}  # noqa: RUF012


ALL = {each.name: each for each in (Still, Other, Absent, Unable)}


def scenario(work, **changes):
    """Return a scenario that does this with each cell."""
    told = {"name": "T", "title": "a test", "how": "By hand.", "family": "tests"}
    return Scenario(**told, plotted=("time",), run=work, **changes)


@pytest.fixture
def played(tmp_path):
    """Run a scenario; return its results, and what was told meanwhile."""

    def play(work, *, contestants=ALL, repeats=3, **changes):
        said = []
        library = Library(tmp_path / "root", TINY)
        folder = tmp_path / "cell"
        results = run(scenario(work, **changes), contestants, library, folder, repeats, said.append)
        assert not folder.exists()
        return results, said

    return play


def test_speeds_are_measured_in_turns_and_counts_twice():
    """So a slow spell of the machine meets everybody."""
    speed, count = scenario(len), scenario(len, is_speed=False)
    assert turns(speed, ["a", "b"], 3) == [(n, name) for n in range(3) for name in "ab"]
    assert len(turns(count, ["a", "b"], 5)) == 4
    assert len(turns(count, ["a", "b"], 1)) == 2


def test_who_is_missing_or_cannot_is_named(played):
    """And does not run."""
    results, said = played(lambda cell: [Figure("time", 1.0, "s")])
    assert results.reasons == {
        "absent": "not installed: a-program-that-nobody-has",
        "unable": "keeps nothing",
    }
    assert len(results.cells["still"]) == len(results.cells["other"]) == 3
    assert said[0] == "T 1 still: time 1 s"
    assert not results.wrong


@pytest.mark.parametrize(
    ("error", "reason", "is_wrong"),
    [
        (NotApplicableError("no ranges"), "no ranges", False),
        (NoAnswerError("nothing for 20 s"), "nothing for 20 s", False),
        (WrongBytesError("byte 7 of film"), "WRONG: byte 7 of film", True),
        (KeyError("oops"), "failed: KeyError('oops')", True),
    ],
)
def test_a_failure_is_told_and_the_others_go_on(played, error, reason, is_wrong):
    """A wrong byte, or a mistake of the harness, fails the run; a peer that cannot does not."""

    def work(cell):
        if cell.contestant.name == "still":
            raise error
        return [Figure("time", 1.0, "s")]

    results, _ = played(work, contestants={"still": Still, "other": Other})
    assert results.reasons == {"still": reason}
    assert bool(results.wrong) is is_wrong
    assert len(results.cells["other"]) == 3


def test_a_cell_has_a_time_limit(played):
    """After it the cell is given up, and everything of it ended."""

    def work(cell):
        (cell.folder / "left-over").write_text("something")
        time.sleep(30)

    results, _ = played(work, contestants={"still": Still}, limit=1)
    assert results.reasons == {"still": "not done in 1 s"}


def test_each_cell_has_a_fresh_folder(played):
    """What one repeat leaves, the next does not see."""
    seen = []

    def work(cell):
        seen.append(os.listdir(cell.folder))
        (cell.folder / "left-over").write_text("something")
        return [Figure("time", 1.0, "s")]

    played(work, contestants={"still": Still})
    assert seen == [[], [], []]


def test_the_page_says_what_came_of_it(played, tmp_path):
    """Medians with their spread, ratios to direct and to the best peer, and who was missing."""

    class Direct(Still):
        name = "direct"
        role = "direct"

    class Ours(Still):
        name = "cachestream"
        role = "ours"

    times = {"direct": iter([1, 1, 1]), "cachestream": iter([2, 3, 4]), "still": iter([6, 6, 6])}

    def work(cell):
        return [Figure("time", float(next(times[cell.contestant.name])), "s")]

    contestants = {each.name: each for each in (Direct, Ours, Still, Absent)}
    results, _ = played(work, contestants=contestants)
    report = Report(tmp_path / "page", contestants, "a machine", {"still": "1.0"})
    report.add(results)
    report.write()
    page = (tmp_path / "page" / "results.md").read_text()
    assert "**absent is missing**: a-program-that-nobody-has is not installed." in page
    assert "| cachestream | 3.00 [2.00–4.00] 3.00×d 0.500×p |" in page
    assert "| still | 6.00 6.00×d |" in page
    assert "- absent: not installed: a-program-that-nobody-has" in page
    assert "<svg" in (tmp_path / "page" / "tests.svg").read_text()
