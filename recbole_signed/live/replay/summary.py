"""From the cases of a stream to its figures: means, retention, the validity gate, times."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from recbole_signed.errors import UsageError
from recbole_signed.files import parse_json
from recbole_signed.live.replay.stream_spec import POP
from recbole_signed.live.replay.windows import GROUPS, read_cases, read_times

COMPARED = ("recall@20", "ndcg@20")
"""What retention and the gate are about."""
REFERENCE = "refit"
LAST = 0.2
"""The share of windows, the last ones, that is reported apart: drift accumulates."""
LIMIT = 0.98


@dataclass(frozen=True)
class Subset:
    """Some of the cases."""

    name: str
    condition: pl.Expr


def subsets(n_windows: int) -> list[Subset]:
    """Return the subsets that are reported."""
    last = n_windows - max(1, round(n_windows * LAST))
    every = pl.lit(True)
    return [
        Subset("all", every),
        Subset("last fifth", pl.col("window") >= last),
        *(Subset(f"{name} users", pl.col("group") == number) for number, name in enumerate(GROUPS)),
        Subset("after the first like", (pl.col("known_likes") == 1) & (pl.col("group") != 0)),
    ]


def summarise(folder: Path) -> dict[str, Any]:
    """Return all figures of an experiment, as JSON can hold them.

    Returns:
        ``windows``: a row per window and arm; ``pooled``: a row per subset and arm, with retention; ``gate``: per
        model whether the data set is informative, and why; ``cost``: per model latency (seconds), refresh, refit;
        ``settings``: per model; ``made``: a checksum of the data, versions, machine and threads, or several.

    Raises:
        UsageError: there are no windows, or what lies there is damaged.
    """
    try:
        return _summary(folder)
    except UsageError:
        raise
    except (ValueError, TypeError, LookupError, AttributeError, FileNotFoundError, pl.exceptions.PolarsError) as error:
        raise UsageError(f"{folder} is damaged ({error}); remove it, and the experiment is run again.") from error


def _summary(folder: Path) -> dict[str, Any]:
    cases = read_cases(folder)
    if cases.is_empty():
        raise UsageError(f"{folder} has no like to predict in any window; cut earlier, or look at the sign rule.")
    times = read_times(folder)
    pooled = [row for subset in subsets(len(times)) for row in _pooled(cases.filter(subset.condition), subset.name)]
    return {
        "windows": _windows(cases, times),
        "pooled": pooled,
        "gate": _gate(pooled),
        "cost": _cost(times),
        "settings": dict(parse_json((folder / "settings.json").read_bytes())),
        "peak_memory_bytes": max(each["peak_memory_bytes"] for each in times),
        "made": _distinct(each["made"] for each in times if "made" in each),  # none of windows of earlier versions
    }


def _distinct(values: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return each value once: windows of one experiment may come from several machines."""
    found: list[dict[str, Any]] = []
    for each in values:
        if each not in found:
            found.append(each)
    return found


def _metrics(cases: pl.DataFrame) -> list[str]:
    return [name for name in cases.columns if "@" in name]


def _means(cases: pl.DataFrame) -> list[pl.Expr]:
    """Means over cases; dislike metrics over those that have a dislike."""
    return [pl.col(name).fill_nan(None).mean() for name in _metrics(cases)]


def _windows(cases: pl.DataFrame, times: list[dict[str, Any]]) -> list[dict[str, Any]]:
    grouped = cases.group_by("window", "model", "arm", maintain_order=True).agg(pl.len().alias("cases"), *_means(cases))
    starts = [each["start"] for each in times]
    return [{**row, "start": starts[row["window"]]} for row in grouped.sort("window").iter_rows(named=True)]


def _pooled(cases: pl.DataFrame, subset: str) -> list[dict[str, Any]]:
    rows = []
    for (model, arm), own in cases.group_by("model", "arm", maintain_order=True):
        row: dict[str, Any] = {"subset": subset, "model": model, "arm": arm, "cases": len(own)}
        row.update(own.select(pl.col("n_likes", "n_unknown").sum()).row(0, named=True))
        row.update(own.select(_means(cases)).row(0, named=True))
        reference = cases.filter((pl.col("model") == model) & (pl.col("arm") == REFERENCE))
        if arm not in (REFERENCE, POP) and len(reference):
            users = own["user"].cast(pl.Categorical).to_physical().to_numpy()
            for metric in COMPARED:
                found = retention(own[metric].to_numpy(), reference[metric].to_numpy(), users)
                row[f"retention of {metric}"] = _finite(asdict(found))
        rows.append(row)
    return rows


def _gate(pooled: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """A data set says something about a model if updates are needed on it, and if the model beats popularity there."""
    found = {}
    everything = {(row["model"], row["arm"]): row for row in pooled if row["subset"] == "all"}
    pop = next((row for (_, arm), row in everything.items() if arm == POP), None)
    for (model, arm), row in everything.items():
        if arm != "none" or (model, REFERENCE) not in everything:
            continue
        reasons = []
        for metric in COMPARED:
            kept: Mapping[str, Any] = row[f"retention of {metric}"]
            if kept["high"] is None or kept["high"] >= 1.0:
                reasons.append(f"without any update {metric} is not measurably worse than with retraining")
            if pop is not None and everything[model, REFERENCE][metric] <= pop[metric]:
                reasons.append(f"retraining does not beat popularity in {metric}")
        found[model] = {"informative": not reasons, "reasons": reasons}
    return found


def _cost(times: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = {}
    for model in times[0]["latency_seconds"]:
        latency = np.concatenate([each["latency_seconds"][model] for each in times])
        row: dict[str, Any] = {"timed_events": len(latency)}
        for percent in (50, 95, 99) if len(latency) else ():
            row[f"latency_p{percent}_seconds"] = float(np.percentile(latency, percent))
        for name in ("refresh_seconds", "refit_seconds", "staleness"):
            values = [each[name][model] for each in times if model in each[name]]
            row[f"mean_{name}"] = float(np.mean(values)) if values else None
        found[model] = row
    return found


def _finite(values: dict[str, Any]) -> dict[str, Any]:
    return {
        key: None if isinstance(value, float) and not np.isfinite(value) else value for key, value in values.items()
    }


def bound(row: Mapping[str, Any], metric: str) -> Retention | None:
    """Return the retention of a pooled row, where it has one."""
    kept = row.get(f"retention of {metric}")
    return None if kept is None else Retention(**kept)


DRAWS = 2000


@dataclass(frozen=True)
class Retention:
    """The ratio of two arms' sums over the same cases."""

    ratio: float
    low: float
    """One-sided 95 % lower bound, the 5th percentile of the bootstrap."""
    high: float
    """The 95th percentile."""
    n_cases: int
    n_users: int


def retention(arm: np.ndarray, reference: np.ndarray, user: np.ndarray) -> Retention:
    """Compare two arms case by case; a user's cases are drawn together, since they are not independent.

    Args:
        arm: metric by case, ``[n_cases]``.
        reference: the same of the retrained arm.
        user: which user each case is of, any integers.
    """
    _, cluster = np.unique(user, return_inverse=True)
    n = int(cluster.max()) + 1 if len(cluster) else 0
    sums = np.stack([np.bincount(cluster, weights=each, minlength=n) for each in (arm, reference)])
    total = sums.sum(axis=1)
    if n == 0 or total[1] == 0:
        return Retention(float("nan"), float("nan"), float("nan"), len(arm), n)
    rng = np.random.default_rng(0)
    ratios = np.empty(DRAWS)
    for draw in range(DRAWS):
        weight = np.bincount(rng.integers(0, n, n), minlength=n)
        one, other = sums @ weight
        ratios[draw] = one / other if other else np.nan
    low, high = np.nanpercentile(ratios, [5, 95])
    return Retention(float(total[0] / total[1]), float(low), float(high), len(arm), n)
