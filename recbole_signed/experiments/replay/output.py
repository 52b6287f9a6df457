"""The figures of a stream for a reader: text, Markdown, JSON Lines, and the curves."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from recbole_signed.errors import MissingExtraError
from recbole_signed.experiments.replay.stream_spec import StreamSpec
from recbole_signed.experiments.replay.summary import COMPARED

TITLES = {"none": "no update", "fold-in": "fold-in", "online": "online", "refit": "retrained", "pop": "popularity"}


def markdown(spec: StreamSpec, summary: dict[str, Any]) -> str:
    """Return the report as Markdown."""
    lines = [f"# {spec.title}", "", spec.note.strip(), ""]
    for subset in dict.fromkeys(row["subset"] for row in summary["pooled"]):
        rows = [row for row in summary["pooled"] if row["subset"] == subset]
        unknown = rows[0]["n_unknown"] / max(rows[0]["n_likes"], 1)
        lines += [
            f"## {subset[0].upper()}{subset[1:]}: {rows[0]['cases']:,} cases, {rows[0]['n_likes']:,} likes, "
            f"{unknown:.1%} of them of items that were unknown",
            "",
            *_table(rows, spec.cutoffs),
            "",
        ]
    lines += ["## Gate", ""]
    for model, gate in summary["gate"].items():
        verdict = "informative" if gate["informative"] else f"uninformative: {'; '.join(gate['reasons'])}"
        lines.append(f"- {model}: this data set is {verdict}.")
    lines += ["", "## Cost", "", *_cost_table(summary), ""]
    lines += [
        "Retention: the sum of the metric over that of the retrained arm, on the same cases; in brackets the 5th and "
        "95th percentile over resampled users. Dislike recall: over cases with a dislike. Latency: from the event to "
        "the user's new list, with the event on the disk.",
        "",
    ]
    return "\n".join(lines)


def _table(rows: list[dict[str, Any]], cutoffs: Iterable[int]) -> list[str]:
    metrics = [f"{name}@{k}" for name in ("recall", "ndcg") for k in cutoffs] + ["dislikerecall@20"]
    kept = [f"retention of {metric}" for metric in COMPARED]
    header = ["Model", "Arm", *metrics, *kept]
    lines = [_row(header), _row(["---", "---", *["---:"] * (len(header) - 2)])]
    for row in rows:
        cells = [row["model"], TITLES[row["arm"]], *(_number(row[metric]) for metric in metrics)]
        lines.append(_row([*cells, *(_retention(row.get(name)) for name in kept)]))
    return lines


def _cost_table(summary: dict[str, Any]) -> list[str]:
    header = ["Model", "p50 (ms)", "p95 (ms)", "p99 (ms)", "Refresh (s)", "Retraining (s)", "Staleness"]
    lines = [_row(header), _row(["---", *["---:"] * (len(header) - 1)])]
    for model, cost in summary["cost"].items():
        latency = [cost.get(f"latency_p{percent}_seconds") for percent in (50, 95, 99)]
        seconds = [cost["mean_refresh_seconds"], cost["mean_refit_seconds"]]
        cells = [_number(None if each is None else each * 1000, 1) for each in latency]
        lines.append(_row([model, *cells, *(_number(each, 2) for each in seconds), _number(cost["mean_staleness"], 4)]))
    return [*lines, "", f"Peak memory of the process with all arms: {summary['peak_memory_bytes'] / 2**20:.0f} MB."]


def _row(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _number(value: float | None, digits: int = 4) -> str:
    return "" if value is None else f"{value:.{digits}f}"


def _retention(kept: dict[str, Any] | None) -> str:
    if kept is None or kept["ratio"] is None:
        return ""
    return f"{kept['ratio']:.3f} [{kept['low']:.3f}, {kept['high']:.3f}]"


def write(spec: StreamSpec, summary: dict[str, Any], folder: Path) -> list[Path]:
    """Write ``<name>.md`` and ``<name>.jsonl`` to a folder, and ``<name>.png`` where matplotlib is installed."""
    stem = spec.path.stem
    texts = {
        f"{stem}.md": markdown(spec, summary),
        f"{stem}.jsonl": "".join(
            json.dumps({"spec": spec.hash(), **row}) + "\n" for row in [*summary["pooled"], *summary["windows"]]
        ),
    }
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in texts.items():
        (folder / name).write_text(text, encoding="utf-8")
    return [folder / name for name in texts]


def plot(summary: dict[str, Any], path: Path) -> None:
    """Draw Recall@20 and NDCG@20 of each arm over the windows.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    try:
        import matplotlib as mpl
    except ImportError as error:
        raise MissingExtraError("matplotlib", "plots") from error
    mpl.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(1, len(COMPARED), figsize=(11, 4), layout="constrained")
    arms = list(dict.fromkeys((row["model"], row["arm"]) for row in summary["windows"]))
    several = len({model for model, arm in arms if arm != "pop"}) > 1
    styles = {"none": ":", "fold-in": "-.", "online": "-", "refit": "--", "pop": "-"}
    colours = {model: f"C{number}" for number, model in enumerate(dict.fromkeys(model for model, _ in arms))}
    for axis, metric in zip(axes, COMPARED, strict=True):
        for model, arm in arms:
            rows = [row for row in summary["windows"] if (row["model"], row["arm"]) == (model, arm)]
            label = TITLES[arm] if arm == "pop" or not several else f"{model}, {TITLES[arm]}"
            colour = "0.6" if arm == "pop" else colours[model] if several else None
            places = [row["window"] + 1 for row in rows]
            axis.plot(places, [row[metric] for row in rows], styles[arm], marker=".", color=colour, label=label)
        axis.set_xlabel("window")
        axis.set_ylabel(metric.replace("recall", "Recall").replace("ndcg", "NDCG"))
        axis.set_ylim(bottom=0)
        axis.grid(alpha=0.3)
    lines, labels = axes[0].get_legend_handles_labels()
    figure.legend(lines, labels, loc="outside lower center", ncols=5, frameon=False, fontsize=8)
    figure.savefig(path, dpi=150)
    plt.close(figure)
