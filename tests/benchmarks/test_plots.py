"""A plot shows who was measured, and is the same file for the same figures."""

import pytest
from benchmarks.figures import Figure
from benchmarks.plots import draw
from benchmarks.running import Results
from benchmarks.scenarios import Scenario


def results(*, at=(None,), plotted=("time",)):
    """Return what two contestants took."""
    scenario = Scenario(
        name="T", title="a test", how="By hand.", family="tests", plotted=plotted, run=lambda _: []
    )
    cells = {
        name: [[Figure("time", value * (1 + (place or 0)), "ms", at=place) for place in at]]
        for name, value in (("cachestream", 2.0), ("nginx", 3.0))
    }
    return Results(scenario=scenario, cells=cells)


@pytest.mark.parametrize("at", [(None,), (1, 10, 1000)])
def test_names_and_units_are_there(tmp_path, at):
    """As text, whether as bars or as lines over a scale."""
    draw(tmp_path / "plot.svg", [results(at=at)])
    picture = (tmp_path / "plot.svg").read_text()
    for text in ("cachestream", "nginx", "T: time (ms)", *(f"{n:,}" for n in at if n)):
        assert f">{text}</text>" in picture


def test_the_same_figures_give_the_same_file(tmp_path):
    """So that only what was measured anew changes."""
    for name in ("a.svg", "b.svg"):
        draw(tmp_path / name, [results()])
    assert (tmp_path / "a.svg").read_bytes() == (tmp_path / "b.svg").read_bytes()


def test_nothing_measured_is_no_plot(tmp_path):
    """Figures that nobody has leave no empty picture."""
    draw(tmp_path / "plot.svg", [results(plotted=("memory",))])
    assert not (tmp_path / "plot.svg").exists()
