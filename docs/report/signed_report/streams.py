"""Committed results of experiments on streams, ``results/online/NAME.jsonl``, as the report reads them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from recbole_signed.errors import UsageError
from recbole_signed.files import parse_json
from recbole_signed.live.replay.stream_spec import StreamSpec
from recbole_signed.live.replay.summary import OF_MODELS, TITLES, gate_text
from recbole_signed.runs.table_file import rows_file_of

_COST = {
    **{f"p{percent}": (f"latency_p{percent}_seconds", 1e3, 1) for percent in (50, 95, 99)},
    **{"refresh": ("mean_refresh_seconds", 1.0, 2), "retraining": ("mean_refit_seconds", 1.0, 2)},
    "staleness": ("mean_staleness", 1.0, 4),
}
"""Name -> key of the summary, factor, decimals."""


def read_stream(yaml_file: Path) -> dict[str, Any] | None:
    """Read the results of a stream; None where there are none.

    Returns:
        ``title``, ``note``, ``dataset``; ``order``: the models; ``arms``: arm -> its name in words; ``subsets``: name
        -> ``cases``, ``likes``, and ``models``: model -> arm -> the pooled row; ``windows``: all rows of windows;
        ``cost``: model -> ``p50``, ``p95``, ``p99`` (ms), ``refresh``, ``retraining`` (s), ``staleness``; ``gate``:
        model -> the verdict in words; ``current``: whether the rows were made from the yaml file as it is now.

    Raises:
        UsageError: the lines are not those of one experiment.
    """
    summary = read_summary(yaml_file)
    if summary is None:
        return None
    spec = StreamSpec.read(yaml_file)
    subsets: dict[str, dict[str, Any]] = {}
    for row in summary["pooled"]:
        empty = {"cases": row["cases"], "likes": row["n_likes"], "unknown": row["n_unknown"], "models": {}}
        subsets.setdefault(row["subset"], empty)["models"].setdefault(row["model"], {})[row["arm"]] = row
    cost = {
        model: {
            name: round(values[key] * factor, decimals)
            for name, (key, factor, decimals) in _COST.items()
            if values.get(key) is not None
        }
        for model, values in summary["cost"].items()
    }
    return {
        "title": spec.title,
        "note": spec.note.strip(),
        "dataset": spec.dataset,
        "current": summary["spec"] == spec.hash(),
        "order": list(dict.fromkeys(row["model"] for row in summary["pooled"])),
        "arms": dict(TITLES),
        "subsets": subsets,
        "windows": summary["windows"],
        "n_windows": len({row["window"] for row in summary["windows"]}),
        "cost": cost,
        "gate": {model: gate_text(gate) for model, gate in summary["gate"].items()},
    }


def read_summary(yaml_file: Path) -> dict[str, Any] | None:
    """Read what :func:`write` wrote of a yaml file; None where there is nothing.

    Returns:
        As :func:`~recbole_signed.live.replay.summarise`, and ``spec``: the hash of the experiment.

    Raises:
        UsageError: the lines are not those of one experiment.
    """
    file = rows_file_of(yaml_file)
    if not file.is_file():
        return None
    try:
        rows = [parse_json(line) for line in file.read_text(encoding="utf-8").splitlines() if line.strip()]
        specs = {row.pop("spec") for row in rows}
        if len(specs) != 1:
            raise UsageError(f"{file} holds rows of {len(specs)} experiments; run 'recbole-signed replay' again.")
        models = {row["model"]: row for row in rows if "cost" in row}
        return {
            "spec": specs.pop(),
            "pooled": [row for row in rows if "subset" in row],
            "windows": [row for row in rows if "window" in row],
            **{key: {name: row[key] for name, row in models.items() if row[key]} for key in OF_MODELS},
            **{"made": [], **next(row for row in rows if "peak_memory_bytes" in row)},  # earlier rows lack the former
        }
    except UsageError:
        raise
    except (ValueError, KeyError, TypeError, AttributeError, StopIteration) as error:
        raise UsageError(f"{file} holds lines that are not rows of a stream: {error}.") from error
