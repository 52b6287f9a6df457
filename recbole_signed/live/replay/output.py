"""The figures of a stream: a table, JSON Lines, and the curves."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from recbole_signed.files import replace_text
from recbole_signed.live.replay.stream_spec import WINDOW, StreamSpec
from recbole_signed.live.replay.summary import COMPARED
from recbole_signed.pictures import picture
from recbole_signed.runs.metric_columns import MEGABYTE
from recbole_signed.runs.provenance import different, machine_text, versions_text
from recbole_signed.table import Header, Line, Section, Table, text_lines, to_markdown

TITLES = {"none": "no update", "fold-in": "fold-in", "online": "online", "refit": "retrained", "pop": "popularity"}
OF_MODELS = ("gate", "cost", "settings")
_OF_ALL = ("peak_memory_bytes", "made")
COSTS = ("p50 (ms)", "p95 (ms)", "p99 (ms)", "Refresh (s)", "Retraining (s)", "Staleness")


def replay_table(spec: StreamSpec, summary: Mapping[str, Any]) -> Table:
    """Return what :func:`~recbole_signed.live.replay.summarise` found as a table."""
    metrics = [f"{name}@{k}" for name in ("recall", "ndcg") for k in spec.cutoffs] + [
        "dislikerecall@20",
        "dislikeshare@20",
    ]
    # older rows have no share of dislikes, cases of one like no dislike, and streams without retraining no retention
    metrics = [each for each in metrics if any(row.get(each) is not None for row in summary["pooled"])]
    kept = [each for metric in COMPARED if any(row.get(each := f"retention of {metric}") for row in summary["pooled"])]
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
            cells = [*(_number(row.get(metric)) for metric in metrics), *(_retention(row.get(each)) for each in kept)]
            lines.append(Line((row["model"], _title(row["arm"])), tuple(cells)))
        sections.append(Section(name, tuple(lines)))
    model = (Header("Model", left=True),)
    gates = [(name, gate_text(gate)) for name, gate in summary["gate"].items()]
    sections.append(Section("Gate", text_lines(gates), "", (Header("This data set is", left=True),), model))
    memory = f"Peak memory of the process with all arms: {summary['peak_memory_bytes'] / MEGABYTE:.0f} MB."
    costs = [_cost_cells(name, cost) for name, cost in summary["cost"].items()]
    sections.append(Section("Cost", text_lines(costs), memory, tuple(map(Header, COSTS)), model))
    retention = (
        "Retention: the sum of the metric over that of the retrained arm, on the same cases; in brackets the 5th and "
        "95th percentile over resampled users. "
    )
    dislikes = "Dislike recall: over cases with a dislike. "
    note = (
        f"{retention if kept else ''}{dislikes if 'dislikerecall@20' in metrics else ''}Latency: from the event to "
        "the user's new list, with the event on the disk."
    )
    head = (*model, Header("Arm", left=True))
    columns = tuple(map(Header, [*metrics, *kept]))
    notes = (note, *_origins(summary["made"]))
    return Table(spec.title, columns, tuple(sections), notes, (spec.note.strip(),) if spec.note.strip() else (), head)


def _origins(made: Sequence[Mapping[str, Any]]) -> list[str]:
    """Say what the figures were made with, as tables of runs do."""
    texts = {
        "Data sha256": (each["data_sha256"][:12] for each in made),
        "Versions": (versions_text(each["versions"]) for each in made),
        "Machine": (machine_text(each["machine"], each["threads"]) for each in made),
    }
    return [f"{name}: {different(values)}." for name, values in texts.items()] if made else []


def _title(arm: str) -> str:
    return TITLES.get(arm, "events of earlier windows" if arm == WINDOW else f"events after {arm}")


def gate_text(gate: Mapping[str, Any]) -> str:
    """Return in words whether a data set says something about a model."""
    return "informative" if gate["informative"] else f"uninformative: {'; '.join(gate['reasons'])}"


def _cost_cells(model: str, cost: Mapping[str, Any]) -> list[str]:
    latency = [cost.get(f"latency_p{percent}_seconds") for percent in (50, 95, 99)]
    cells = [_number(None if each is None else each * 1000, 1) for each in latency]
    cells += [_number(cost[f"mean_{name}_seconds"], 2) for name in ("refresh", "refit")]
    return [model, *cells, _number(cost["mean_staleness"], 4)]


def _number(value: float | None, digits: int = 4) -> str:
    return "" if value is None else f"{value:.{digits}f}"


def _retention(kept: dict[str, Any] | None) -> str:
    if kept is None or kept["ratio"] is None:
        return ""
    return f"{kept['ratio']:.3f} [{kept['low']:.3f}, {kept['high']:.3f}]"


def write(spec: StreamSpec, summary: Mapping[str, Any], folder: Path) -> list[Path]:
    """Write ``<name>.md`` and ``<name>.jsonl`` to a folder.

    Each line of the latter is a row of a window, a row of a subset, or what is known of a model: gate, cost, settings.
    The last says what all of them were made with.
    """
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
    """Draw Recall@20 and NDCG@20 of each arm over the windows."""
    if summary["pooled"][0]["arm"] not in TITLES:
        with picture(path, 11, 4) as figure:
            _draw_freshness(summary, figure.subplots(1, len(COMPARED)))
        return
    arms = list(dict.fromkeys((row["model"], row["arm"]) for row in summary["windows"]))
    several = len({model for model, arm in arms if arm != "pop"}) > 1
    styles = {"none": ":", "fold-in": "-.", "online": "-", "refit": "--", "pop": "-"}
    colours = {model: f"C{number}" for number, model in enumerate(dict.fromkeys(model for model, _ in arms))}
    with picture(path, 11, 4) as figure:
        axes = figure.subplots(1, len(COMPARED))
        for axis, metric in zip(axes, COMPARED, strict=True):
            for model, arm in arms:
                rows = [row for row in summary["windows"] if (row["model"], row["arm"]) == (model, arm)]
                label = _title(arm) if arm == "pop" or not several else f"{model}, {_title(arm)}"
                colour = "0.6" if arm == "pop" else colours[model] if several else None
                places = [row["window"] + 1 for row in rows]
                axis.plot(places, [row[metric] for row in rows], styles[arm], marker=".", color=colour, label=label)
            axis.set_xlabel("window")
            axis.set_ylabel(metric.replace("recall", "Recall").replace("ndcg", "NDCG"))
            axis.set_ylim(bottom=0)
            axis.grid(alpha=0.3)
        lines, labels = axes[0].get_legend_handles_labels()
        figure.legend(lines, labels, loc="outside lower center", ncols=5, frameon=False, fontsize=8)


def _draw_freshness(summary: Mapping[str, Any], axes: Any) -> None:
    """Draw the quality of each model over the delay."""
    rows = [row for row in summary["pooled"] if row["subset"] == "all"]
    for axis, metric in zip(axes, COMPARED, strict=True):
        for model in dict.fromkeys(row["model"] for row in rows):
            own = [row for row in rows if row["model"] == model]
            axis.plot([row["arm"] for row in own], [row[metric] for row in own], marker="o", label=model)
        axis.set_xlabel("delay of events")
        axis.set_ylabel(metric.replace("recall", "Recall").replace("ndcg", "NDCG"))
        axis.set_ylim(bottom=0)
        axis.grid(alpha=0.3)
    axes[0].legend(frameon=False)
