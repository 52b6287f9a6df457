"""Prometheus metrics of the service, named by its conventions (base units, ``_total`` for counters)."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Metric, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.parser import text_string_to_metric_families

PREFIX = "recbole_signed"
TOLD = ".prom"  # end of the names of files of metrics
BUCKETS = (0.001, 0.002, 0.004, 0.006, 0.01, 0.015, 0.025, 0.04, 0.06, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0)


class Telemetry:
    """The metrics of one process, and in the writer those of the read replicas that it has started."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.others: Path | None = None  # folder to which the replicas write theirs
        make: dict[str, Any] = {"registry": self.registry}
        self.requests = Histogram(
            f"{PREFIX}_request_seconds", "Time to answer.", ["route", "status"], buckets=BUCKETS, **make
        )
        self.visible = Histogram(
            f"{PREFIX}_event_to_visible_seconds",
            "From the arrival of an event to the moment at which answers reflect it; it is on the disk by then.",
            buckets=BUCKETS,
            **make,
        )
        self.events = Counter(f"{PREFIX}_events_total", "Events by what became of them.", ["result"], **make)
        self.impressions = Counter(f"{PREFIX}_impressions_total", "Items shown.", ["variant"], **make)
        self.outcomes = Counter(
            f"{PREFIX}_outcomes_total", "Verdicts on items that were shown within a day.", ["sign"], **make
        )
        self.maintenance = Counter(f"{PREFIX}_maintenance_total", "Rounds of maintenance.", ["task", "result"], **make)
        self.maintenance_seconds = Gauge(f"{PREFIX}_maintenance_seconds", "Time of the last round.", ["task"], **make)
        self.maintenance_failed = Gauge(f"{PREFIX}_maintenance_failed", "1 if the last round failed.", ["task"], **make)
        self.replica_restarts = Counter(
            f"{PREFIX}_replica_restarts_total", "Read replicas that ended and were started again.", **make
        )

    def watch(self, gauges: Callable[[], dict[str, tuple[str, float | None]]]) -> None:
        """Add gauges that are read when asked for: name -> help text and value; None is left out."""
        self.registry.register(_Gauges(gauges))

    def watch_quality(self, figures: Callable[[], dict[str, dict[str, dict[str, Any]]]]) -> None:
        """Add live quality by window and version, see :class:`~recbole_signed.live.serve.quality.LiveQuality`."""
        self.registry.register(_Quality(figures))

    @staticmethod
    def total(metric: Counter, **labels: str) -> float:
        """Return the sum of a counter over all labels but the given ones."""
        samples = [each for family in metric.collect() for each in family.samples if each.name.endswith("_total")]
        return sum(each.value for each in samples if labels.items() <= each.labels.items())

    @staticmethod
    def quantile(metric: Histogram, q: float, **labels: str) -> float | None:
        """Return the upper bound of the bucket that holds a quantile, seconds; None without an observation."""
        counts: dict[float, float] = {}
        for family in metric.collect():
            for each in family.samples:
                if each.name.endswith("_bucket") and labels.items() <= each.labels.items():
                    bound = float(each.labels["le"])
                    counts[bound] = counts.get(bound, 0.0) + each.value
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
        told = {each.stem: each.read_bytes() for each in sorted(self.others.glob(f"*{TOLD}"))}
        return _together({"writer": own, **told})

    def tell(self, path: Path) -> None:
        """Write the metrics to a file, which is whole whenever it is read."""
        temporary = path.with_suffix(".tmp")
        temporary.write_bytes(generate_latest(self.registry))
        os.replace(temporary, path)


class _Families:
    def __init__(self, families: Iterable[Metric]) -> None:
        self._families = list(families)

    def collect(self) -> Iterable[Metric]:
        return self._families


def _together(texts: Mapping[str, bytes]) -> bytes:
    """Return the metrics of several processes as one text, each with the name of its process as a label."""
    families: dict[str, Metric] = {}
    for process, text in texts.items():
        for each in text_string_to_metric_families(text.decode()):
            whole = families.setdefault(each.name, Metric(each.name, each.documentation, each.type))
            for sample in each.samples:
                whole.samples.append(sample._replace(labels={**sample.labels, "process": process}))
    return generate_latest(_Families(families.values()))


class _Gauges:
    def __init__(self, gauges: Callable[[], dict[str, tuple[str, float | None]]]) -> None:
        self._gauges = gauges

    def collect(self) -> Any:
        for name, (text, value) in self._gauges().items():
            if value is not None:
                yield GaugeMetricFamily(f"{PREFIX}_{name}", text, value=value)

    def describe(self) -> list[Any]:
        return []


class _Quality:
    def __init__(self, figures: Callable[[], dict[str, dict[str, dict[str, Any]]]]) -> None:
        self._figures = figures

    def collect(self) -> Any:
        families: dict[str, GaugeMetricFamily] = {}
        for window, versions in self._figures().items():
            for version, figures in versions.items():
                for name, value in figures.items():
                    if value is not None:
                        family = families.setdefault(
                            name,
                            GaugeMetricFamily(
                                f"{PREFIX}_quality_{name}",
                                "Live quality, see the documentation.",
                                labels=["window", "version"],
                            ),
                        )
                        family.add_metric([window, version], float(value))
        yield from families.values()

    def describe(self) -> list[Any]:
        return []
