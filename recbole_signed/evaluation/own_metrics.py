"""Metrics from outside this package: known to RecBole, to tables, and to the processes that this one starts."""

from __future__ import annotations

import sys
from importlib import import_module
from typing import TypeVar

import recbole.evaluator.register
from recbole.evaluator.base_metric import AbstractMetric

from recbole_signed.errors import UsageError
from recbole_signed.evaluation.metrics import register
from recbole_signed.plugin import registry

Metric = TypeVar("Metric", bound=type[AbstractMetric])


def register_metric(metric: Metric) -> Metric:
    """Let runs, tables and ``tune`` evaluate a metric, under the name of its class; also as a decorator.

    Call it in the module that defines the class: the processes that ``compare`` and ``tune`` start import that module.
    It must not be the script that is run itself, as it would be run again.

    Args:
        metric: a class that extends :class:`~recbole_signed.evaluation.metrics.SignedTopkMetric`, another one of this
            package, or a metric of RecBole.

    Returns:
        The class.

    Raises:
        UsageError: it is no metric, or there is another one of that name.
    """
    if not (isinstance(metric, type) and issubclass(metric, AbstractMetric)):
        raise UsageError(f"{metric!r} is not a class of a metric; extend SignedTopkMetric, or a metric of RecBole.")
    tables = recbole.evaluator.register
    taken = tables.metrics_dict.get(metric.__name__.lower())
    if taken is not None and (taken.__module__, taken.__name__) != (metric.__module__, metric.__name__):
        raise UsageError(f"there is a metric {taken.__name__} in {taken.__module__} already; give yours another name.")
    register(tables, {metric.__name__: metric})
    registry.keep_metric(registry.MetricEntry(metric.__name__, metric.__module__, bool(metric.smaller)))
    return metric


def register_inherited_metrics() -> None:
    """Register what the process that started this one had registered."""
    for name, each in registry.inherited(registry.INHERITED_METRICS).items():
        if name not in registry.own_metrics:
            sys.path.extend(path for path in each["path"] if path not in sys.path)
            register_metric(getattr(import_module(each["module"]), name))
