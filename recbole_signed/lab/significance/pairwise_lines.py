"""Comparisons of models as a table, and as its folder keeps them: ``NAME.significance.json``.

They come from values per user, which are not committed; a digest of those says for which rows an outcome holds.
"""

from __future__ import annotations

import json
from collections.abc import Container, Mapping
from pathlib import Path
from typing import Any

from recbole_signed.errors import UsageError
from recbole_signed.files import locked, replace_text
from recbole_signed.runs.building import Places
from recbole_signed.runs.metric_columns import metric_column
from recbole_signed.runs.provenance import digest
from recbole_signed.runs.spec import TableSpec
from recbole_signed.runs.stored import stored_table
from recbole_signed.runs.table_file import rows_file_of
from recbole_signed.table import Header, Section, Table, text_lines

_TESTS = {"t": "t", "wilcoxon": "Wilcoxon", "permutation": "permutation"}
_SMALLEST_P = 0.0001


def pairwise_table(outcome: Mapping[str, Any]) -> Table:
    """Return what :func:`recbole_signed.lab.significance.significance` found as a table."""
    level = 100 * (1 - outcome["alpha"])
    names = ["Users", "Model", "Other", "Difference", f"{level:g} % interval", "Relative"]
    names += ["Users better", "worse", *(f"p {name}" for name in _TESTS.values())]
    parts: dict[str, list[list[str]]] = {}
    for row in outcome["comparisons"]:
        column = metric_column(row["metric"])
        place = f"{row['section']}, {column.header}{' ↓' if column.smaller else ''}: {row['model']} against"
        parts.setdefault(place, []).append(_line(row, column.decimals))
    return Table(
        f"{outcome['title']}: significance",
        (*map(Header, names), Header("Model is", left=True)),
        tuple(Section(place, text_lines(lines)) for place, lines in parts.items()),
        (*_explanation(outcome), *outcome["notes"]),
        head=(Header("Other model", left=True),),
    )


def _line(row: Mapping[str, Any], decimals: int) -> list[str]:
    if not row["n_users"]:
        return [row["other"], "0", *(["n/a"] * (7 + len(_TESTS))), verdict(row)]
    relative = "n/a" if row["relative"] is None else f"{100 * row['relative']:+.1f} %"
    interval = "n/a" if row["low"] is None else f"[{row['low']:+.{decimals}f}, {row['high']:+.{decimals}f}]"
    p = [p_text(row["tests"][test]["p_better_holm"]) for test in _TESTS]
    users, better, worse = (f"{row[key]:,}" for key in ("n_users", "users_better", "users_worse"))
    means = [f"{row[key]:.{decimals}f}" for key in ("mean", "other_mean")]
    difference = f"{row['difference']:+.{decimals}f}"
    return [row["other"], users, *means, difference, interval, relative, better, worse, *p, verdict(row)]


def p_text(p: float | None) -> str:
    """Return a p-value as tables print it."""
    if p is None:
        return "n/a"
    return f"<{_SMALLEST_P:.4f}" if p < _SMALLEST_P else f"{p:.4f}"


def verdict(row: Mapping[str, Any]) -> str:
    """Return ``better``, ``worse``, ``not told apart``, or which of the tests say better or worse if not all do."""
    said = [
        what if len(row[what]) == len(_TESTS) else f"{what} ({', '.join(_TESTS[test] for test in row[what])})"
        for what in ("better", "worse")
        if row[what]
    ]
    return "; ".join(said) or "not told apart"


def _explanation(outcome: Mapping[str, Any]) -> list[str]:
    m, alpha, resamples = outcome["n_comparisons"], outcome["alpha"], f"{outcome['resamples']:,}"
    return [
        "p: chance of such differences if the model were no better (one-sided, paired over users), Holm-corrected over "
        f"the {m} comparisons, test by test; permutation: {resamples} random sign patterns, seed {outcome['seed']}. "
        f"Better: all tests at {alpha:g}, or those named; worse: the two-sided tests, in the other direction.",
        f"Interval: of the difference of the means, by itself (not corrected), from {resamples} bootstrap samples of "
        "users; both means are over the users who count for both models.",
    ]


FIRST = "first"  # stands for the model that is taken where none is named

Pair = tuple[str, str, str, str, str]  # section, metric, model, other model, and `SplitPool.pair_digest` of both


def kept_file(rows_file: Path) -> Path:
    """Return the place of a table's tests."""
    return rows_file.with_suffix(".significance.json")


def kept_comparisons(rows_file: Path) -> dict[Pair, dict[str, Any]]:
    """Return all comparisons that were kept; those of rows that the table has no more, corrected for another number."""
    every = [comparison for kept in _read(kept_file(rows_file)).values() for comparison in kept["found"]["comparisons"]]
    return {_pair(row): row for row in every}


def _pair(comparison: Mapping[str, Any]) -> Pair:
    section, metric, model, other = (comparison[name] for name in ("section", "metric", "model", "other"))
    return section, metric, model, other, comparison.get("values", "")  # "": kept by an earlier version


def keep(rows_file: Path, against: str | None, values: str, outcome: dict[str, Any], rows: Container[str]) -> None:
    """Keep an outcome in the place of an earlier one with the same ``against``; drop those of other rows."""
    file = kept_file(rows_file)
    with locked(file.parent):
        before = {
            name: kept
            for name, kept in _read(file).items()
            if any(comparison.get("values") in rows for comparison in kept["found"]["comparisons"])
        }
        after = {**before, against or FIRST: {"values": values, "found": outcome}}
        text = json.dumps(dict(sorted(after.items())), ensure_ascii=False, indent=1, allow_nan=False) + "\n"
        replace_text(file, text)


def kept_outcome(yaml_file: Path, rows_file: Path, against: str | None) -> dict[str, Any] | None:
    """Return what was kept for the rows that a table shows; None where nothing was, or of other rows."""
    return _current(yaml_file, rows_file).get(against or FIRST)


def kept_outcomes(yaml_file: Path) -> dict[str, dict[str, Any]]:
    """Return what was kept for a table's committed rows, by the model that others are compared with; needs no data."""
    outcomes = _current(yaml_file, rows_file_of(yaml_file)).values()
    return {outcome["comparisons"][0]["model"]: outcome for outcome in outcomes}


def _current(yaml_file: Path, rows_file: Path) -> dict[str, dict[str, Any]]:
    """Return what was kept for the rows that a table shows, if it shows all that it asks for."""
    every = _read(kept_file(rows_file))
    table = stored_table(yaml_file, rows_file) if every else None
    if table is None or table.not_run:
        return {}
    values = values_digest(table.spec, table.places)
    return {name: kept["found"] for name, kept in every.items() if kept["values"] == values}


def values_digest(spec: TableSpec, places: Places) -> str:
    """Return a digest of what the tests of a table depend on: its columns, pools, models, and the runs' values."""
    values = {
        section: {label: [row.per_user_sha256 for row in rows] for label, rows in of.items()}
        for section, of in places.items()
    }
    return digest({"columns": list(spec.columns), "pools": spec.pools(), "models": list(spec.models), "values": values})


def _read(file: Path) -> dict[str, Any]:
    if not file.is_file():
        return {}
    try:
        content = json.loads(file.read_bytes())
        if all(isinstance(kept["values"], str) for kept in content.values()):
            for kept in content.values():
                list(map(_pair, kept["found"]["comparisons"]))
            return dict(content)
    except (ValueError, TypeError, AttributeError, KeyError):
        pass
    raise UsageError(f"{file} is damaged; remove it, and 'recbole-signed significance' makes it again.")
