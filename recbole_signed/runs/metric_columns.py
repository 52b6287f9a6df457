"""The columns that a table can have: metrics of the test part, also by group, and what a run costs."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

from recbole_signed.data.settings import split_group
from recbole_signed.plugin import registry
from recbole_signed.runs.rows import RunRow
from recbole_signed.table import Header

_SMALLER = ("dislike", "mae", "rmse", "logloss", "giniindex", "averagepopularity")
_WITHOUT_K = frozenset(("auc", "gauc", "mae", "rmse", "logloss", "signauc", "groupshare"))
MEGABYTE = 1e6
BEST = "best"  # what a cost is compared with besides the lines of a table: the smallest of them


@dataclass(frozen=True)
class Column(Header):
    """One number of a row."""

    decimals: int = 4
    value: Callable[[RunRow], float | None] = lambda row: None
    relative_to: str | None = None  # the line by whose mean the mean is divided, or `BEST`; None: the number itself


def metric_column(metric: str) -> Column:
    """Return the column of a test metric in RecBole's spelling, such as ``recall@20`` or ``recall@20[users 1-5]``."""
    plain, group = split_group(metric.lower())
    name, at, k = plain.partition("@")
    header = registry.metric_names().get(name) or getattr(_registered(name), "name", name.capitalize())
    shown = f"{header}{at}{k}" + (f", {group}" if group else "")
    return Column(shown, smaller_is_better(name), 4, lambda row: row.test.get(metric.lower()))


def smaller_is_better(metric: str) -> bool:
    """Whether a metric is the better the smaller it is."""
    name = split_group(metric.lower())[0].partition("@")[0]
    own = _registered(name)
    return name.startswith(_SMALLER) if own is None else own.smaller


def _registered(name: str) -> registry.MetricEntry | None:
    return next((entry for entry in registry.own_metrics.values() if entry.name.lower() == name), None)


def has_k(name: str) -> bool | None:
    """Whether a metric's results are per cut-off (``recall@10``), not one number (``signauc``); None: unknown."""
    return name not in _WITHOUT_K if name in registry.metric_names() else None


def _scaled(field: str, factor: float) -> Callable[[RunRow], float | None]:
    def value(row: RunRow) -> float | None:
        amount = getattr(row, field)
        return None if amount is None else float(amount) * factor

    return value


COSTS: dict[str, Column] = {
    "train": Column("Train (s)", True, 2, lambda row: row.fit_seconds),
    "train_cpu": Column("Train (CPU s)", True, 2, lambda row: row.fit_cpu_seconds),
    "test": Column("Test (s)", True, 2, lambda row: row.eval_seconds),
    "memory": Column("Peak memory (MB)", True, 0, _scaled("peak_memory_bytes", 1 / MEGABYTE)),
    "train_memory": Column("Training memory (MB)", True, 1, _scaled("fit_memory_bytes", 1 / MEGABYTE)),
    "train_gpu_memory": Column("Training GPU memory (MB)", True, 1, _scaled("peak_gpu_memory_bytes", 1 / MEGABYTE)),
    "serve": Column("Rank 1,000 users (ms)", True, 1, _scaled("serve_seconds", 1e3)),
    "serve_first": Column("First 1,000 users (ms)", True, 1, _scaled("serve_first_seconds", 1e3)),
    "serve_memory": Column("Ranking memory (MB)", True, 1, _scaled("serve_memory_bytes", 1 / MEGABYTE)),
    "serve_gpu_memory": Column("Ranking GPU memory (MB)", True, 1, _scaled("serve_gpu_memory_bytes", 1 / MEGABYTE)),
    "size": Column("Model (MB)", True, 3, _scaled("model_bytes", 1 / MEGABYTE)),
}
"""What a run costs, by the names that a table's ``costs`` may list."""
DEFAULT_COSTS: tuple[str, ...] = ("train", "test", "memory")
SERVED = frozenset(("serve", "serve_first", "serve_memory", "serve_gpu_memory", "size"))  # measured in use
COST_COLUMNS: tuple[Column, ...] = tuple(COSTS[name] for name in DEFAULT_COSTS)


def cost_columns(names: Iterable[str], relative_to: Iterable[str] = ()) -> tuple[Column, ...]:
    """Return the columns of costs, each followed by itself as a multiple of that of :data:`BEST` or of a line."""
    columns = []
    for name in names:
        column = COSTS[name]
        columns.append(column)
        short = column.header.partition(" (")[0]
        columns += [
            replace(column, header=f"{short} / {other}", decimals=2, relative_to=other) for other in relative_to
        ]
    return tuple(columns)
