"""Committed results of experiments on streams: ``yaml/online/NAME.jsonl``, and the costs in the report beside it."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from recbole_signed.errors import UsageError
from recbole_signed.experiments.replay import TITLES, StreamSpec
from signed_report.markdown import read_table_lines

_COST = {
    "p50 (ms)": "p50",
    "p95 (ms)": "p95",
    "p99 (ms)": "p99",
    "Refresh (s)": "refresh",
    "Retraining (s)": "retraining",
    "Staleness": "staleness",
}


def read_stream(yaml_file: Path) -> dict[str, Any] | None:
    """Read the results of a stream; None where there are none.

    Returns:
        ``title``, ``note``, ``dataset``; ``order``: the models; ``arms``: arm -> its name in words; ``subsets``: name
        -> ``cases``, ``likes``, and ``models``: model -> arm -> the pooled row; ``windows``: all rows of windows;
        ``cost``: model -> ``p50``, ``p95``, ``p99`` (ms), ``refresh``, ``retraining`` (s), ``staleness``; ``gate``:
        model -> the verdict in words; ``current``: whether the rows were made from the yaml file as it is now.

    Raises:
        UsageError: the lines are no rows, or of several experiments.
    """
    rows_file, report = yaml_file.with_suffix(".jsonl"), yaml_file.with_suffix(".md")
    if not rows_file.is_file():
        return None
    spec = StreamSpec.read(yaml_file)
    try:
        rows = [json.loads(line) for line in rows_file.read_text(encoding="utf-8").splitlines() if line.strip()]
        made_from = {row["spec"] for row in rows}
        pooled = [row for row in rows if "subset" in row]
        subsets: dict[str, dict[str, Any]] = {}
        for row in pooled:
            empty = {"cases": row["cases"], "likes": row["n_likes"], "unknown": row["n_unknown"], "models": {}}
            found = subsets.setdefault(row["subset"], empty)
            found["models"].setdefault(row["model"], {})[row["arm"]] = row
    except (ValueError, KeyError, TypeError) as error:
        raise UsageError(f"{rows_file} holds lines that are no rows of a stream: {error}.") from error
    if len(made_from) != 1:
        raise UsageError(f"{rows_file} holds rows of {len(made_from)} experiments; run 'recbole-signed online' again.")
    text = report.read_text(encoding="utf-8") if report.is_file() else ""
    return {
        "title": spec.title,
        "note": spec.note.strip(),
        "dataset": spec.dataset,
        "current": made_from == {spec.hash()},
        "order": list(dict.fromkeys(row["model"] for row in pooled)),
        "arms": dict(TITLES),
        "subsets": subsets,
        "windows": [row for row in rows if "window" in row],
        "n_windows": len({row["window"] for row in rows if "window" in row}),
        "cost": _cost(text),
        "gate": dict(re.findall(r"^- (.+?): this data set is (.+)\.$", text, re.MULTILINE)),
    }


def _cost(text: str) -> dict[str, dict[str, float]]:
    found = {}
    for line in read_table_lines(text, "Cost"):
        found[line["Model"]] = {_COST[name]: float(line[name]) for name in _COST if line.get(name)}
    return found
