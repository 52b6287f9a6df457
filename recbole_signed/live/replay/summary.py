"""From the cases of a stream to its figures: means, retention, the gate, times; as a table, JSON Lines, curves."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from recbole_signed.errors import UsageError
from recbole_signed.files import parse_json, picture, replace_text
from recbole_signed.live.replay.stream_spec import POP, WINDOW, StreamSpec
from recbole_signed.live.replay.windows import GROUPS, read_cases, read_times
from recbole_signed.runs.metric_columns import MEGABYTE
from recbole_signed.runs.provenance import different, machine_text, versions_text
from recbole_signed.table import Header, Line, Section, Table, text_lines, to_markdown

COMPARED = ("recall@20", "ndcg@20")  # what retention and the gate are about
REFERENCE = "refit"
LAST = 0.2  # the share of windows, the last ones, that is reported apart: drift accumulates

TITLES = {"none": "no update", "fold-in": "fold-in", "online": "online", "refit": "retrained", "pop": "popularity"}
OF_MODELS = ("gate", "cost", "settings")
_OF_ALL = ("peak_memory_bytes", "made")
COSTS = ("p50 (ms)", "p95 (ms)", "p99 (ms)", "Refresh (s)", "Retraining (s)", "Staleness")


def subsets(n_windows: int) -> dict[str, pl.Expr]:
    """Return the subsets of cases that are reported: name -> which these are."""
    return {
        "all": pl.lit(True),
        "last fifth": pl.col("window") >= n_windows - max(1, round(n_windows * LAST)),
        **{f"{name} users": pl.col("group") == number for number, name in enumerate(GROUPS)},
        "after the first like": (pl.col("known_likes") == 1) & (pl.col("group") != 0),
    }


def summarise(folder: Path) -> dict[str, Any]:
    """Return ``windows``, ``pooled``, ``gate``, ``cost``, ``settings`` and ``made`` of a stream, as JSON."""
    try:
        return _summary(folder)
    except UsageError:
        raise
    except (ValueError, TypeError, LookupError, AttributeError, FileNotFoundError, pl.exceptions.PolarsError) as error:
        raise UsageError(f"{folder} is damaged ({error}); remove it, and the stream is run again.") from error


def _summary(folder: Path) -> dict[str, Any]:
    cases = read_cases(folder)
    if cases.is_empty():
        raise UsageError(f"{folder} has no like to predict in any window; cut earlier, or look at the sign rule.")
    times = read_times(folder)
    made = [window["made"] for window in times if "made" in window]
    pooled = [row for name, which in subsets(len(times)).items() for row in _pooled(cases.filter(which), name)]
    return {
        "windows": _windows(cases, times),
        "pooled": pooled,
        "gate": _gate(pooled),
        "cost": _cost(times),
        "settings": dict(parse_json((folder / "settings.json").read_bytes())),
        "peak_memory_bytes": max(window["peak_memory_bytes"] for window in times),
        # each once, as windows of one stream may come from several machines; none of those of earlier versions
        "made": [origin for place, origin in enumerate(made) if origin not in made[:place]],
    }


def _means(cases: pl.DataFrame) -> list[pl.Expr]:
    """Means over cases; dislike metrics over those that have a dislike."""
    return [pl.col(name).fill_nan(None).mean() for name in cases.columns if "@" in name]


def _windows(cases: pl.DataFrame, times: list[dict[str, Any]]) -> list[dict[str, Any]]:
    grouped = cases.group_by("window", "model", "arm", maintain_order=True).agg(pl.len().alias("cases"), *_means(cases))
    starts = [window["start"] for window in times]
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
                kept = retention(own[metric].to_numpy(), reference[metric].to_numpy(), users)
                row[f"retention of {metric}"] = kept
        rows.append(row)
    return rows


def _gate(pooled: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """A data set says something about a model if updates are needed on it, and if the model beats popularity there."""
    gates = {}
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
        gates[model] = {"informative": not reasons, "reasons": reasons}
    return gates


def _cost(times: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    costs: dict[str, dict[str, Any]] = {}
    for model in times[0]["latency_seconds"]:
        latency = np.concatenate([window["latency_seconds"][model] for window in times])
        row: dict[str, Any] = {"timed_events": len(latency)}
        for percent in (50, 95, 99) if len(latency) else ():
            row[f"latency_p{percent}_seconds"] = float(np.percentile(latency, percent))
        for name in ("refresh_seconds", "refit_seconds", "staleness"):
            values = [window[name][model] for window in times if model in window[name]]
            row[f"mean_{name}"] = float(np.mean(values)) if values else None
        costs[model] = row
    return costs


DRAWS = 2000


def retention(arm: np.ndarray, reference: np.ndarray, user: np.ndarray) -> dict[str, Any]:
    """Compare two arms case by case, ``[n_cases]``; a user's cases are dependent, and drawn together.

    Returns:
        The ``ratio`` of the sums, ``low`` and ``high`` (the 5th and 95th percentile of the bootstrap, one-sided 95 %
        bounds), all three None where the reference has nothing, ``n_cases`` and ``n_users``.
    """
    _, cluster = np.unique(user, return_inverse=True)
    n = int(cluster.max()) + 1 if len(cluster) else 0
    sums = np.stack([np.bincount(cluster, weights=values, minlength=n) for values in (arm, reference)])
    total = sums.sum(axis=1)
    figures: dict[str, Any] = {"ratio": None, "low": None, "high": None, "n_cases": len(arm), "n_users": n}
    if n and total[1]:
        rng = np.random.default_rng(0)
        ratios = np.empty(DRAWS)
        for draw in range(DRAWS):
            weight = np.bincount(rng.integers(0, n, n), minlength=n)
            one, other = sums @ weight
            ratios[draw] = one / other if other else np.nan
        low, high = np.nanpercentile(ratios, [5, 95])
        figures.update(ratio=float(total[0] / total[1]), low=float(low), high=float(high))
    return figures


def replay_table(spec: StreamSpec, summary: Mapping[str, Any]) -> Table:
    """Return what :func:`~recbole_signed.live.replay.summarise` found as a table."""
    metrics = [f"{name}@{k}" for name in ("recall", "ndcg") for k in spec.cutoffs] + [
        "dislikerecall@20",
        "dislikeshare@20",
        "repeatdislike@20",
    ]
    # older rows have no share of dislikes, cases of one like no dislike, and streams without retraining no retention
    metrics = [metric for metric in metrics if any(row.get(metric) is not None for row in summary["pooled"])]
    kept = [key for metric in COMPARED if any(row.get(key := f"retention of {metric}") for row in summary["pooled"])]
    sections = []
    for subset in dict.fromkeys(row["subset"] for row in summary["pooled"]):
        rows = [row for row in summary["pooled"] if row["subset"] == subset]
        unknown = rows[0]["n_unknown"] / max(rows[0]["n_likes"], 1)
        name = (
            f"{subset[0].upper()}{subset[1:]}: {rows[0]['cases']:,} cases, {rows[0]['n_likes']:,} likes, "
            f"{unknown:.1%} of them of items that were unknown"
        )
        lines = []
        for row in rows:
            cells = [*(_number(row.get(metric)) for metric in metrics), *(_retention(row.get(key)) for key in kept)]
            lines.append(Line((row["model"], _title(row["arm"])), tuple(cells)))
        sections.append(Section(name, tuple(lines)))
    model = (Header("Model", left=True),)
    if gates := [(name, gate_text(gate)) for name, gate in summary["gate"].items()]:
        sections.append(Section("Gate", text_lines(gates), "", (Header("This data set is", left=True),), model))
    memory = f"Peak memory of the process with all arms: {summary['peak_memory_bytes'] / MEGABYTE:.0f} MB."
    costs = [_cost_cells(name, cost) for name, cost in summary["cost"].items()]
    if costs:
        sections.append(Section("Cost", text_lines(costs), memory, tuple(map(Header, COSTS)), model))
    retention = (
        "Retention: the sum of the metric over that of the retrained arm, on the same cases; in brackets the 5th and "
        "95th percentile over resampled users. "
    )
    dislikes = "Dislike recall: over cases with a dislike. "
    if "repeatdislike@20" in metrics:
        dislikes += "Repeatdislike: that of the ten items nearest to an earlier dislike of the user. "
    latency = "Latency: from the event to the user's new list, with the event on the disk."
    note = (
        f"{retention if kept else ''}{dislikes if 'dislikerecall@20' in metrics else ''}{latency if costs else memory}"
    )
    head = (*model, Header("Arm", left=True))
    columns = tuple(map(Header, [*metrics, *kept]))
    notes = (note, *_origins(summary["made"]))
    return Table(spec.title, columns, tuple(sections), notes, (spec.note.strip(),) if spec.note.strip() else (), head)


def _origins(made: Sequence[Mapping[str, Any]]) -> list[str]:
    """Say what the figures were made with, as tables of runs do."""
    texts = {
        "Data sha256": (origin["data_sha256"][:12] for origin in made),
        "Versions": (versions_text(origin["versions"]) for origin in made),
        "Machine": (machine_text(origin["machine"], origin["threads"]) for origin in made),
    }
    return [f"{name}: {different(values)}." for name, values in texts.items()] if made else []


def _title(arm: str) -> str:
    return TITLES.get(arm, "events of earlier windows" if arm == WINDOW else f"events after {arm}")


def gate_text(gate: Mapping[str, Any]) -> str:
    """Return in words whether a data set says something about a model."""
    return "informative" if gate["informative"] else f"uninformative: {'; '.join(gate['reasons'])}"


def _cost_cells(model: str, cost: Mapping[str, Any]) -> list[str]:
    latency = [cost.get(f"latency_p{percent}_seconds") for percent in (50, 95, 99)]
    cells = [_number(None if seconds is None else seconds * 1000, 1) for seconds in latency]
    cells += [_number(cost[f"mean_{name}_seconds"], 2) for name in ("refresh", "refit")]
    return [model, *cells, _number(cost["mean_staleness"], 4)]


def _number(value: float | None, digits: int = 4) -> str:
    return "" if value is None else f"{value:.{digits}f}"


def _retention(kept: dict[str, Any] | None) -> str:
    if kept is None or kept["ratio"] is None:
        return ""
    return f"{kept['ratio']:.3f} [{kept['low']:.3f}, {kept['high']:.3f}]"


def write(spec: StreamSpec, summary: Mapping[str, Any], folder: Path) -> list[Path]:
    """Write ``<name>.md`` and ``<name>.jsonl``: rows of windows, subsets, models, and last what they were made with."""
    rows = [*summary["pooled"], *summary["windows"]]
    rows += [
        {"model": model, **{key: summary[key].get(model) for key in OF_MODELS}}
        for model in dict.fromkeys([*summary["cost"], *summary["gate"]])
    ]
    rows.append({key: summary[key] for key in _OF_ALL})
    texts = {
        ".md": to_markdown(replay_table(spec, summary)),
        ".jsonl": "".join(json.dumps({"spec": spec.hash(), **row}) + "\n" for row in rows),
    }
    files = {folder / f"{spec.path.stem}{ending}": text for ending, text in texts.items()}
    for file, text in files.items():
        replace_text(file, text)
    return list(files)


def plot(summary: dict[str, Any], path: Path) -> None:
    """Draw Recall@20 and NDCG@20 of each arm over the windows; of a stream on freshness, over the delay."""
    with picture(path, 11, 4) as figure:
        axes = figure.subplots(1, len(COMPARED))
        draw = _draw_arms if summary["pooled"][0]["arm"] in TITLES else _draw_freshness
        draw(summary, axes)
        for axis, metric in zip(axes, COMPARED, strict=True):
            axis.set_xlabel("window" if draw is _draw_arms else "delay of events")
            axis.set_ylabel(metric.replace("recall", "Recall").replace("ndcg", "NDCG"))
            axis.set_ylim(bottom=0)
            axis.grid(alpha=0.3)
        lines, labels = axes[0].get_legend_handles_labels()
        figure.legend(lines, labels, loc="outside lower center", ncols=5, frameon=False, fontsize=8)


def _draw_arms(summary: Mapping[str, Any], axes: Any) -> None:
    arms = list(dict.fromkeys((row["model"], row["arm"]) for row in summary["windows"]))
    several = len({model for model, arm in arms if arm != POP}) > 1
    styles = {"none": ":", "fold-in": "-.", "online": "-", "refit": "--", POP: "-"}
    colours = {model: f"C{number}" for number, model in enumerate(dict.fromkeys(model for model, _ in arms))}
    for model, arm in arms:
        rows = [row for row in summary["windows"] if (row["model"], row["arm"]) == (model, arm)]
        label = _title(arm) if arm == POP or not several else f"{model}, {_title(arm)}"
        colour = "0.6" if arm == POP else colours[model] if several else None
        places = [row["window"] + 1 for row in rows]
        for axis, metric in zip(axes, COMPARED, strict=True):
            axis.plot(places, [row[metric] for row in rows], styles[arm], marker=".", color=colour, label=label)


def _draw_freshness(summary: Mapping[str, Any], axes: Any) -> None:
    rows = [row for row in summary["pooled"] if row["subset"] == "all"]
    for model in dict.fromkeys(row["model"] for row in rows):
        own = [row for row in rows if row["model"] == model]
        for axis, metric in zip(axes, COMPARED, strict=True):
            axis.plot([row["arm"] for row in own], [row[metric] for row in own], marker="o", label=model)
