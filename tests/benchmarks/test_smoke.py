"""The harness runs: one scenario, small, with the origin alone and with cachestream."""

from pathlib import Path

import pytest
from benchmarks.__main__ import main


@pytest.mark.slow
@pytest.mark.integration
def test_a_scenario_is_run_and_written_down(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Random ranges are played through both, and cachestream fetches each byte once."""
    options = ["--scenarios", "S6", "--contestants", "direct,cachestream", "--scale", "tiny"]
    folders = ["--work", str(tmp_path / "work"), "--results", str(tmp_path / "results")]
    assert main([*options, *folders, "--repeats", "1"]) == 0
    page = (tmp_path / "results" / "results.md").read_text()
    assert "| S6 | origin bytes / distinct bytes | ≤ 1.02 × | 1.02 | 1.00 × | held |" in page
    assert "| S6 | the same, once more | ≤ 0 × | 0 | 0 × | held |" in page
    assert "<svg" in (tmp_path / "results" / "ranges.svg").read_text()
    assert "S6 1 cachestream" in capsys.readouterr().out
    assert not (tmp_path / "work" / "cell").exists()
