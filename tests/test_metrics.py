"""Metrics follow the conventions of Prometheus, say what the inspector says, and parse."""

from __future__ import annotations

import builtins
import importlib
import platform
import re
import sys
from collections.abc import Mapping
from typing import Any

import attrs
import prometheus_client
import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text

from cachestream import __version__
from cachestream.abc import Inspector, StoreUsage
from cachestream.core.histogram import Distribution
from cachestream.core.status import Failure, Readiness, ResourceStatus, Statistics
from cachestream.metrics import METRICS, MetricsCollector, MetricsPage

OPENMETRICS = "application/openmetrics-text; version=1.0.0"
WAIT = Distribution((0.1, 1.0), (1, 2, 3), 12.5)
NUMBERS = Statistics(
    **{field.name: 100 + i for i, field in enumerate(attrs.fields(Statistics))},
)
USAGE = StoreUsage(
    entries=5,
    allocated_bytes=6,
    limit_bytes=7,
    evicted_entries=8,
    evicted_bytes=9,
    failed_commits=10,
)


class Seen(Inspector):
    """Shows what it is told to."""

    def __init__(self, usage: StoreUsage | None = USAGE) -> None:
        self._usage = usage
        self.asked = 0

    def statistics(self) -> Statistics:
        return NUMBERS

    def waits(self) -> Mapping[str, Distribution]:
        return {"miss": WAIT}

    def resources(self) -> tuple[ResourceStatus, ...]:
        return ()

    def failures(self) -> tuple[Failure, ...]:
        return ()

    def settings(self) -> Mapping[str, object]:
        return {}

    async def usage(self) -> StoreUsage | None:
        self.asked += 1
        return self._usage

    async def readiness(self) -> Readiness:
        return Readiness()


async def samples(page: MetricsPage, accept: str = "") -> dict[tuple[str, ...], float]:
    """Scrape a page; return each value by its name and the values of its sorted labels."""
    content, _ = await page.render(accept)
    parse: Any = parse_openmetrics if accept == OPENMETRICS else parse_text
    return {
        (sample.name, *dict(sorted(sample.labels.items())).values()): sample.value
        for family in parse(content.decode())
        for sample in family.samples
    }


@pytest.mark.asyncio
@pytest.mark.parametrize("accept", ["", OPENMETRICS])
async def test_a_scrape_has_what_the_inspector_says(accept: str) -> None:
    """Numbers, usage, waits and lag arrive at their names, in either format."""
    found = await samples(MetricsPage(Seen(), lambda: Distribution((0.5,), (4, 0), 0.25)), accept)
    assert found["cachestream_requests_total", "hit"] == NUMBERS.hits
    assert found["cachestream_requests_total", "abandoned"] == NUMBERS.abandoned
    assert found["cachestream_read_bytes_total",] == NUMBERS.bytes_from_store
    assert found["cachestream_waiting_readers",] == NUMBERS.waiting_readers
    assert found["cachestream_store_entries",] == 5
    assert found["cachestream_store_limit_bytes",] == 7
    assert found["cachestream_store_evictions_total",] == 8
    assert found["cachestream_store_failed_commits_total",] == 10
    assert found["cachestream_request_wait_seconds_bucket", "1.0", "miss"] == 3
    assert found["cachestream_request_wait_seconds_bucket", "+Inf", "miss"] == 6
    assert found["cachestream_request_wait_seconds_count", "miss"] == 6
    assert found["cachestream_request_wait_seconds_sum", "miss"] == 12.5
    assert found["cachestream_event_loop_lag_seconds_count",] == 4
    assert found["cachestream_build_info", platform.python_version(), __version__] == 1


@pytest.mark.asyncio
async def test_every_number_is_shown() -> None:
    """Nothing that the manager counts is forgotten, but for the sum over all outcomes."""
    found = await samples(MetricsPage(Seen()))
    shown = set(found.values())
    missing = [name for name, value in attrs.asdict(NUMBERS).items() if value not in shown]
    assert missing == ["requests"]


@pytest.mark.asyncio
async def test_a_store_that_does_not_say_is_down() -> None:
    """Its numbers are absent then, not 0: a dashboard must not show an empty store."""
    found = await samples(MetricsPage(Seen(usage=None)))
    assert found["cachestream_store_up",] == 0
    assert not any(name.startswith("cachestream_store_entries") for name, *_ in found)


@pytest.mark.asyncio
async def test_no_limit_is_no_sample() -> None:
    """A store without a limit has no limit of 0."""
    found = await samples(MetricsPage(Seen(attrs.evolve(USAGE, limit_bytes=None))))
    assert ("cachestream_store_limit_bytes",) not in found
    assert found["cachestream_store_up",] == 1


@pytest.mark.asyncio
@pytest.mark.skipif(sys.platform != "linux", reason="the library reads /proc")
async def test_descriptors_of_the_process_are_shown() -> None:
    """Open descriptors and their limit are on the page, under the names of every client."""
    found = await samples(MetricsPage(Seen()))
    assert 0 < found["process_open_fds",] <= found["process_max_fds",]


@pytest.mark.asyncio
async def test_several_managers_have_a_page_each() -> None:
    """Two pages do not meet, and the global registry of the library knows of neither."""
    first, second = MetricsPage(Seen()), MetricsPage(Seen(usage=None))
    assert (await samples(first))["cachestream_store_up",] == 1
    assert (await samples(second))["cachestream_store_up",] == 0
    assert b"cachestream_" not in prometheus_client.generate_latest()


def test_registering_asks_nothing() -> None:
    """A collector in a registry of one's own reads the cache when it is scraped, not before."""

    class Silent(Seen):
        def statistics(self) -> Statistics:
            raise AssertionError("asked")

    registry = prometheus_client.CollectorRegistry(auto_describe=True)
    registry.register(MetricsCollector(Silent()))
    with pytest.raises(ValueError, match="Duplicated"):
        registry.register(MetricsCollector(Silent()))


@pytest.mark.asyncio
async def test_a_collector_has_the_usage_of_its_last_refresh() -> None:
    """A scrape from another thread asks the store nothing."""
    seen = Seen()
    registry = prometheus_client.CollectorRegistry()
    collector = MetricsCollector(seen)
    registry.register(collector)
    assert registry.get_sample_value("cachestream_store_entries") is None
    await collector.refresh()
    assert registry.get_sample_value("cachestream_store_entries") == 5
    assert seen.asked == 1


@pytest.mark.parametrize("metric", METRICS, ids=lambda each: each.name)
def test_names_follow_the_conventions(metric: Any) -> None:
    """Prefix, base units and ``_total`` are where Prometheus wants them; the help is a sentence."""
    assert re.fullmatch(r"cachestream_[a-z_]+", metric.name)
    assert metric.name.endswith("_total") == (metric.kind == "counter")
    for unit in ("millisecond", "kilobyte", "mebibyte", "percent", "minutes"):
        assert unit not in metric.name
    if metric.kind == "histogram":
        assert metric.name.endswith("_seconds")
    assert metric.help.endswith(".")
    assert metric.help[0].isupper() or metric.help[0].isdigit()
    assert all(re.fullmatch(r"[a-z_]+", label) for label in metric.labels)


def test_names_are_different() -> None:
    """No metric stands twice on the page."""
    names = [metric.name for metric in METRICS]
    assert len(names) == len(set(names))


def test_a_missing_library_is_named_with_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever imports this without prometheus-client is told what to install."""
    plain = builtins.__import__

    def without(name: str, *args: Any, **kwargs: Any) -> Any:
        if name.partition(".")[0] == "prometheus_client":
            raise ModuleNotFoundError("No module named 'prometheus_client'", name=name)
        return plain(name, *args, **kwargs)

    monkeypatch.delitem(sys.modules, "cachestream.metrics")
    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(ModuleNotFoundError, match=r"pip install 'cachestream\[metrics\]'"):
        importlib.import_module("cachestream.metrics")
