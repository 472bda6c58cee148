"""Scenarios: work that every contestant is given."""

from benchmarks.scenarios import cold, growth, limited, many, ranges, warm
from benchmarks.scenarios._scenario import Scenario

__all__ = ["SCENARIOS", "Scenario"]

SCENARIOS: dict[str, Scenario] = {
    scenario.name: scenario
    for scenario in (
        cold.GET,
        warm.WHOLE,
        warm.RANGES,
        ranges.SEEK,
        cold.HERD,
        ranges.TRACE,
        limited.SEVERAL,
        limited.RESTART,
        many.CROWD,
        many.ENTRIES,
        growth.CLIENTS,
        growth.ENTRIES,
        growth.SIZES,
        growth.STALL,
    )
}
