"""Prometheus metrics of the service, named by its conventions (base units, ``_total`` for counters)."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Metric, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import Collector

PREFIX = "recbole_signed"
METRICS_SUFFIX = ".prom"  # end of the names of files of metrics
BUCKETS = (0.001, 0.002, 0.004, 0.006, 0.01, 0.015, 0.025, 0.04, 0.06, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0)
Gauges = Mapping[str, tuple[str, float | None]]  # name -> help text and value
Figures = Mapping[str, Mapping[str, Mapping[str, float | None]]]  # window -> version -> name -> value


class Telemetry:
    """The metrics of one process, and in the writer those of the read replicas that it has started."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.others: Path | None = None  # folder to which the replicas write theirs
        own: dict[str, Any] = {"namespace": PREFIX, "registry": self.registry}
        timed = {**own, "buckets": BUCKETS}
        self.requests = Histogram("request_seconds", "Time to answer.", ["route", "status"], **timed)
        self.visible = Histogram(
            "event_to_visible_seconds",
            "From the arrival of an event to the moment at which answers reflect it; it is on the disk by then.",
            **timed,
        )
        self.events = Counter("events", "Events by what became of them.", ["result"], **own)
        self.impressions = Counter("impressions", "Items shown.", ["variant"], **own)
        self.outcomes = Counter("outcomes", "Verdicts on items that were shown within a day.", ["sign"], **own)
        self.maintenance = Counter("maintenance", "Rounds of maintenance.", ["task", "result"], **own)
        self.maintenance_seconds = Gauge("maintenance_seconds", "Time of the last round.", ["task"], **own)
        self.maintenance_failed = Gauge("maintenance_failed", "1 if the last round failed.", ["task"], **own)
        self.replica_restarts = Counter("replica_restarts", "Read replicas that ended and were started again.", **own)

    def watch(self, gauges: Callable[[], Gauges], quality: Callable[[], Figures]) -> None:
        """Add gauges, and live quality by window and version, which are read when asked for; None is left out."""
        self.registry.register(_Lazy(lambda: [*_of_gauges(gauges()), *_of_quality(quality())]))

    @staticmethod
    def total(metric: Counter, **labels: str) -> float:
        """Return the sum of a counter over all labels but the given ones."""
        samples = [sample for family in metric.collect() for sample in family.samples if sample.name.endswith("_total")]
        return sum(sample.value for sample in samples if labels.items() <= sample.labels.items())

    @staticmethod
    def quantile(metric: Histogram, q: float, **labels: str) -> float | None:
        """Return the upper bound of the bucket that holds a quantile, seconds; None without an observation."""
        counts: dict[float, float] = {}
        for family in metric.collect():
            for sample in family.samples:
                if sample.name.endswith("_bucket") and labels.items() <= sample.labels.items():
                    bound = float(sample.labels["le"])
                    counts[bound] = counts.get(bound, 0.0) + sample.value
        total = max(counts.values(), default=0.0)
        if not total:
            return None
        bound = min(bound for bound, count in counts.items() if count >= q * total)
        return bound if bound < float("inf") else BUCKETS[-1]

    def text(self) -> bytes:
        """Return the metrics in Prometheus' text format; beside replicas each has the label ``process``."""
        own = generate_latest(self.registry)
        if self.others is None:
            return own
        of_replicas = {path.stem: path.read_bytes() for path in sorted(self.others.glob(f"*{METRICS_SUFFIX}"))}
        return _together({"writer": own, **of_replicas})

    def write(self, path: Path) -> None:
        """Write the metrics to a file, which is whole whenever it is read."""
        temporary = path.with_suffix(".tmp")
        temporary.write_bytes(generate_latest(self.registry))
        os.replace(temporary, path)


class _Lazy(Collector):
    """Metrics that are made when they are asked for."""

    def __init__(self, families: Callable[[], Iterable[Metric]]) -> None:
        self._families = families

    def collect(self) -> Iterable[Metric]:
        return self._families()


def _together(texts: Mapping[str, bytes]) -> bytes:
    """Return the metrics of several processes as one text, each with the name of its process as a label."""
    families: dict[str, Metric] = {}
    for process, text in texts.items():
        for family in text_string_to_metric_families(text.decode()):
            whole = families.setdefault(family.name, Metric(family.name, family.documentation, family.type))
            for sample in family.samples:
                whole.samples.append(sample._replace(labels={**sample.labels, "process": process}))
    return generate_latest(_Lazy(families.values))


def _of_gauges(gauges: Gauges) -> Iterable[Metric]:
    for name, (text, value) in gauges.items():
        if value is not None:
            yield GaugeMetricFamily(f"{PREFIX}_{name}", text, value=value)


def _of_quality(windows: Figures) -> Iterable[Metric]:
    families: dict[str, GaugeMetricFamily] = {}
    text, labels = "Live quality, see the documentation.", ["window", "version"]
    for window, versions in windows.items():
        for version, figures in versions.items():
            for name, value in figures.items():
                if value is not None:
                    of_all = GaugeMetricFamily(f"{PREFIX}_quality_{name}", text, labels=labels)
                    families.setdefault(name, of_all).add_metric([window, version], float(value))
    return families.values()
