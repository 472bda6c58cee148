"""Metrics for Prometheus, read from an `Inspector` when they are scraped.

Needs the extra ``cachestream[metrics]``. The admin server serves them; a program that has a
registry of its own registers a `MetricsCollector` there. Nothing touches the global registry,
so several managers can live in one process.
"""

from __future__ import annotations

import platform
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from typing import Any, Final, Literal, TypeAlias

import attrs

from cachestream.abc import Inspector, StoreUsage
from cachestream.core.histogram import Distribution
from cachestream.core.status import Statistics

try:
    from prometheus_client import CollectorRegistry, ProcessCollector
    from prometheus_client.core import (
        CounterMetricFamily,
        GaugeMetricFamily,
        HistogramMetricFamily,
    )
    from prometheus_client.core import Metric as Family
    from prometheus_client.exposition import choose_encoder
    from prometheus_client.registry import Collector
except ModuleNotFoundError as exc:
    if exc.name is None or exc.name.partition(".")[0] != "prometheus_client":
        raise
    raise ModuleNotFoundError(
        "metrics need prometheus-client; install the extra: pip install 'cachestream[metrics]'",
        name="prometheus_client",
    ) from exc

__all__ = ["METRICS", "Metric", "MetricsCollector", "MetricsPage"]

Labels: TypeAlias = tuple[str, ...]


@attrs.frozen(kw_only=True)
class View:
    """What a scrape sees.

    Attributes:
        numbers: The numbers of the manager.
        usage: Of the store, None if it does not say.
        waits: How long requests waited, by outcome.
        lag: How late the event loop ran, None if nobody measures that.
    """

    numbers: Statistics
    usage: StoreUsage | None
    waits: dict[str, Distribution]
    lag: Distribution | None


@attrs.frozen(kw_only=True)
class Metric:
    """One metric: what it is called and means, and where its values come from.

    Attributes:
        name: As it is scraped, with the prefix and, for a counter, ``_total``.
        kind: The type that Prometheus is told.
        help: One sentence.
        labels: Names of its labels.
        read: Returns pairs of label values and a value; none for no sample.
    """

    name: str
    kind: Literal["counter", "gauge", "histogram"]
    help: str
    labels: Labels = ()
    read: Callable[[View], Iterable[tuple[Labels, Any]]] = attrs.field(repr=False)


def _number(field: str) -> Callable[[View], Iterable[tuple[Labels, Any]]]:
    return lambda view: [((), getattr(view.numbers, field))]


def _usage(field: str) -> Callable[[View], Iterable[tuple[Labels, Any]]]:
    def read(view: View) -> Iterator[tuple[Labels, Any]]:
        value = getattr(view.usage, field, None)
        if value is not None:
            yield (), value

    return read


_OUTCOMES: Final = {
    "hit": "hits",
    "miss": "misses",
    "partial": "partial_hits",
    "stale": "stale_hits",
    "bypass": "bypasses",
    "denied": "denied",
    "refused": "refused",
    "failed": "failed",
    "abandoned": "abandoned",
}
"""Values of the label ``outcome``, and the numbers they stand for."""


def _by_outcome(view: View) -> list[tuple[Labels, Any]]:
    return [((label,), getattr(view.numbers, field)) for label, field in _OUTCOMES.items()]


@cache
def _version() -> str:
    try:
        return version("cachestream")
    except PackageNotFoundError:
        return "unknown"


METRICS: Final = (
    Metric(
        name="cachestream_requests_total",
        kind="counter",
        help="Client requests, by how they were answered.",
        labels=("outcome",),
        read=_by_outcome,
    ),
    Metric(
        name="cachestream_request_wait_seconds",
        kind="histogram",
        help="How long requests that could not be answered at once waited for their head.",
        labels=("outcome",),
        read=lambda view: [((outcome,), found) for outcome, found in view.waits.items()],
    ),
    Metric(
        name="cachestream_read_bytes_total",
        kind="counter",
        help="Content bytes given to readers: clients and the program itself.",
        read=_number("bytes_from_store"),
    ),
    Metric(
        name="cachestream_origin_received_bytes_total",
        kind="counter",
        help="Content bytes received from origins.",
        read=_number("bytes_from_origin"),
    ),
    Metric(
        name="cachestream_origin_requests_total",
        kind="counter",
        help="Requests sent to origins, redirects and retries included.",
        read=_number("origin_requests"),
    ),
    Metric(
        name="cachestream_origin_failures_total",
        kind="counter",
        help="Exchanges with origins that failed.",
        read=_number("origin_failures"),
    ),
    Metric(
        name="cachestream_representation_changes_total",
        kind="counter",
        help="How often an origin had another version than the one held.",
        read=_number("representation_changes"),
    ),
    Metric(
        name="cachestream_completed_resources_total",
        kind="counter",
        help="How often a resource became complete.",
        read=_number("completed_resources"),
    ),
    Metric(
        name="cachestream_live_resources",
        kind="gauge",
        help="Resources in use, or not yet disposed of.",
        read=_number("live_resources"),
    ),
    Metric(
        name="cachestream_open_readers",
        kind="gauge",
        help="Readers of live resources.",
        read=_number("open_readers"),
    ),
    Metric(
        name="cachestream_waiting_readers",
        kind="gauge",
        help="Readers that wait for a byte to be stored.",
        read=_number("waiting_readers"),
    ),
    Metric(
        name="cachestream_running_downloads",
        kind="gauge",
        help="Downloads that run.",
        read=_number("running_downloads"),
    ),
    Metric(
        name="cachestream_running_tasks",
        kind="gauge",
        help="Tasks that the manager owns.",
        read=_number("running_tasks"),
    ),
    Metric(
        name="cachestream_store_up",
        kind="gauge",
        help="1 if the store says how full it is, 0 if it does not.",
        read=lambda view: [((), int(view.usage is not None))],
    ),
    Metric(
        name="cachestream_store_entries",
        kind="gauge",
        help="Entries in the store.",
        read=_usage("entries"),
    ),
    Metric(
        name="cachestream_store_allocated_bytes",
        kind="gauge",
        help="Room that entries take.",
        read=_usage("allocated_bytes"),
    ),
    Metric(
        name="cachestream_store_limit_bytes",
        kind="gauge",
        help="Room that entries may take; absent without a limit.",
        read=_usage("limit_bytes"),
    ),
    Metric(
        name="cachestream_store_evictions_total",
        kind="counter",
        help="Entries given up to make room.",
        read=_usage("evicted_entries"),
    ),
    Metric(
        name="cachestream_store_evicted_bytes_total",
        kind="counter",
        help="Room that evictions gave.",
        read=_usage("evicted_bytes"),
    ),
    Metric(
        name="cachestream_store_failed_commits_total",
        kind="counter",
        help="How often written bytes could not be committed.",
        read=_usage("failed_commits"),
    ),
    Metric(
        name="cachestream_store_failures_total",
        kind="counter",
        help="How often the store failed and playback went on from memory.",
        read=_number("store_failures"),
    ),
    Metric(
        name="cachestream_event_loop_lag_seconds",
        kind="histogram",
        help="How late the event loop ran what was due.",
        read=lambda view: [] if view.lag is None else [((), view.lag)],
    ),
    Metric(
        name="cachestream_build_info",
        kind="gauge",
        help="Always 1; the labels say what runs.",
        labels=("version", "python"),
        read=lambda view: [((_version(), platform.python_version()), 1)],
    ),
)
"""Every metric of ours, in the order of the page; `MetricsPage` adds those of the process."""


class MetricsCollector(Collector):
    """Reads an inspector whenever its registry is scraped.

    What the store has to be asked for is as of the last `refresh`; before the first one it is
    absent. The rest is as of the scrape, which may come from another thread.

    Args:
        inspector: What to read.
        lag: Returns how late the event loop ran so far; None if nobody measures that.

    Example:
        collector = MetricsCollector(cache.inspector)
        registry.register(collector)
        await collector.refresh()
    """

    def __init__(self, inspector: Inspector, lag: Callable[[], Distribution] | None = None) -> None:
        self._inspector = inspector
        self._lag = lag
        self._usage: StoreUsage | None = None

    async def refresh(self) -> None:
        """Ask the store how full it is, for the next scrape."""
        self._usage = await self._inspector.usage()

    def describe(self) -> Iterable[Family]:
        """Return the metrics without values: registering must not ask a cache anything."""
        return map(_family, METRICS)

    def collect(self) -> Iterator[Family]:
        """Return the metrics with their values as of now."""
        view = View(
            numbers=self._inspector.statistics(),
            usage=self._usage,
            waits=dict(self._inspector.waits()),
            lag=None if self._lag is None else self._lag(),
        )
        for metric in METRICS:
            family = _family(metric)
            for labels, value in metric.read(view):
                if isinstance(value, Distribution):
                    family.add_metric(labels, _buckets(value), value.total)
                else:
                    family.add_metric(labels, value)
            yield family


def _family(metric: Metric) -> Any:
    kinds: dict[str, Any] = {
        "counter": CounterMetricFamily,
        "gauge": GaugeMetricFamily,
        "histogram": HistogramMetricFamily,
    }
    # The library adds the suffix of counters itself, where the format wants it.
    name = metric.name.removesuffix("_total")
    return kinds[metric.kind](name, metric.help, labels=metric.labels)


def _buckets(found: Distribution) -> Sequence[tuple[str, int]]:
    names = [*map(repr, found.bounds), "+Inf"]
    return list(zip(names, found.cumulative(), strict=True))


class MetricsPage:
    """A registry of its own, and the page that a scrape gets of it.

    Args:
        inspector: What to read.
        lag: Returns how late the event loop ran so far.
    """

    def __init__(self, inspector: Inspector, lag: Callable[[], Distribution] | None = None) -> None:
        self.registry = CollectorRegistry()
        self._collector = MetricsCollector(inspector, lag)
        self.registry.register(self._collector)
        ProcessCollector(registry=self.registry)

    async def render(self, accept: str = "") -> tuple[bytes, str]:
        """Return the page and its Content-Type.

        Args:
            accept: The Accept field of the scrape: OpenMetrics for those who ask for it, the
                Prometheus text format for all others.
        """
        await self._collector.refresh()
        encoder, content_type = choose_encoder(accept)
        return encoder(self.registry), content_type
