"""What is counted while requests are answered, as Prometheus reads it. One table names everything that is measured.

An increment costs about half a microsecond; nothing is added up before somebody asks for it. Counted from one thread
(the gateway's event loop) or several alike.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Literal

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Histogram,
    PlatformCollector,
    ProcessCollector,
    disable_created_metrics,
)
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest

SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
"""Bounds of the latency histogram's buckets."""

disable_created_metrics()  # type: ignore[no-untyped-call]  # a series more for each, which says when its first request came

Kind = Literal["counter", "histogram", "live counter", "live gauge"]


@dataclass(frozen=True)
class Measure:
    """One family of series. Live ones are read when somebody asks: see Meter.live."""

    name: str
    kind: Kind
    labels: tuple[str, ...]
    help: str


MEASURES = tuple(
    Measure(*row)
    for row in (
        (
            "modelyard_requests_total",
            "counter",
            ("endpoint", "release", "arm", "dialect", "status"),
            "Requests to a model that were let in, by the HTTP status of the answer.",
        ),
        (
            "modelyard_request_duration_seconds",
            "histogram",
            ("endpoint", "release", "arm"),
            "From the arrival of a request to the last byte of its answer.",
        ),
        (
            "modelyard_refused_total",
            "counter",
            ("code",),
            "Requests turned away at the door, by the code of the error: unauthorized, rate_limit_exceeded, ...",
        ),
        (
            "modelyard_usage_tokens_total",
            "counter",
            ("token", "kind"),
            "What models read (prompt) and wrote (completion), by the id of the token that asked.",
        ),
        (
            "modelyard_unlogged_total",
            "live counter",
            ("endpoint",),
            "Answers that were given without a record, because the policy allows it.",
        ),
        ("modelyard_ready", "live gauge", ("endpoint",), "1 where a request would be answered, and should be sent."),
        ("modelyard_workers", "live gauge", ("endpoint", "release"), "Workers that are ready."),
        (
            "modelyard_requests_in_flight",
            "live gauge",
            ("endpoint", "release"),
            "Requests that a worker has, and those that wait for one.",
        ),
        ("modelyard_requests_waiting", "live gauge", ("endpoint", "release"), "Requests that wait for a worker."),
        (
            "modelyard_traffic_percent",
            "live gauge",
            ("endpoint", "release"),
            "Share of new conversations and entities that a release takes.",
        ),
        (
            "modelyard_worker_restarts_total",
            "live counter",
            ("endpoint",),
            "Workers that ended by themselves, or were ended because they did not answer.",
        ),
        (
            "modelyard_retries_total",
            "live counter",
            ("endpoint",),
            "Requests that were run again because their worker went away.",
        ),
        (
            "modelyard_given_up_total",
            "live counter",
            ("endpoint",),
            "Requests that failed because too many workers went away under them.",
        ),
        (
            "modelyard_overloaded_total",
            "live counter",
            ("endpoint",),
            "Requests turned away because too many were under way.",
        ),
        (
            "modelyard_streams_cut_total",
            "live counter",
            ("endpoint",),
            "Streams that ended with an error event after their first byte.",
        ),
        (
            "modelyard_rollout_percent",
            "live gauge",
            ("endpoint", "challenger"),
            "Share of the challenger, where there is one; 0 while it gets copies of requests only.",
        ),
        ("modelyard_record_bytes", "live gauge", ("endpoint",), "Size of the record that is not folded yet."),
        (
            "modelyard_record_lag_seconds",
            "live gauge",
            ("endpoint",),
            "How long the oldest part of the record that is closed waits to be folded.",
        ),
        (
            "modelyard_record_refused_total",
            "live counter",
            ("endpoint",),
            "Requests refused, and answers withheld, because they could not be recorded.",
        ),
        (
            "modelyard_record_unreadable",
            "live gauge",
            ("endpoint",),
            "Files of the record that cannot be read any more, and are kept aside.",
        ),
    )
)
"""Everything there is to measure. A name that was published keeps its meaning and its labels."""

Reading = tuple[tuple[str, ...], float]
"""Values of the labels, in their order, and the figure."""


class Meter:
    """The measures of one gateway. Raises KeyError for a name that is not in the table, ValueError for labels that are
    not as it has them."""

    content_type = CONTENT_TYPE_LATEST

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self._kinds = {measure.name: measure for measure in MEASURES}
        self._counters = {
            m.name: Counter(m.name, m.help, m.labels, registry=self._registry) for m in MEASURES if m.kind == "counter"
        }
        self._histograms = {
            m.name: Histogram(m.name, m.help, m.labels, registry=self._registry, buckets=SECONDS)
            for m in MEASURES
            if m.kind == "histogram"
        }
        self._counting: dict[tuple[str, ...], Counter] = {}
        self._observing: dict[tuple[str, ...], Histogram] = {}
        self._live: dict[str, Callable[[], Iterable[Reading]]] = {}
        self._registry.register(_Live(self._kinds, self._live))
        ProcessCollector(registry=self._registry)
        PlatformCollector(registry=self._registry)

    def count(self, name: str, *labels: str, by: float = 1.0) -> None:
        """Add to a counter."""
        child = self._counting.get((name, *labels))
        if child is None:
            child = self._counting[(name, *labels)] = self._counters[name].labels(*labels)
        child.inc(by)

    def observe(self, name: str, *labels: str, value: float) -> None:
        """Put one figure into a histogram; durations in seconds."""
        child = self._observing.get((name, *labels))
        if child is None:
            child = self._observing[(name, *labels)] = self._histograms[name].labels(*labels)
        child.observe(value)

    def answered(self, endpoint: str, release: str, arm: str, dialect: str, status: int, seconds: float) -> None:
        """Count a request that was let in and is answered, to its last byte."""
        self.count("modelyard_requests_total", endpoint, release, arm, dialect, str(status))
        self.observe("modelyard_request_duration_seconds", endpoint, release, arm, value=seconds)

    def live(self, name: str, read: Callable[[], Iterable[Reading]]) -> None:
        """Where a live measure is read from, each time somebody asks. Called from the thread that asks."""
        if not self._kinds[name].kind.startswith("live"):
            raise ValueError(f"{name} is counted, not read")
        self._live[name] = read

    def text(self) -> bytes:
        """All of it, in Prometheus' text format."""
        return generate_latest(self._registry)


class _Live:
    """What is read only when somebody asks."""

    def __init__(self, measures: dict[str, Measure], live: dict[str, Callable[[], Iterable[Reading]]]) -> None:
        self._measures, self._live = measures, live

    def describe(self) -> Iterator[Metric]:
        return iter(())

    def collect(self) -> Iterator[Metric]:
        for name, read in self._live.items():
            measure = self._measures[name]
            family = GaugeMetricFamily if measure.kind == "live gauge" else CounterMetricFamily
            found = family(name, measure.help, labels=measure.labels)
            for labels, value in read():
                found.add_metric(labels, value)
            yield found
