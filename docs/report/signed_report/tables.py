"""Committed rows of tables of experiments, read without the data that they came from."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from recbole_signed.experiments.runs import MEGABYTE, RunRow, read_rows
from recbole_signed.experiments.tables import BUDGET, Line, Table, TableSpec, build_table

Places = dict[str, dict[str, list[RunRow]]]
"""Section -> label -> one row of each seed."""


@dataclass(frozen=True)
class TableResults:
    """A table's yaml file, the rows that answer it, and what is printed of them."""

    name: str
    spec: TableSpec
    places: Places
    table: Table
    not_run: dict[str, list[str]]
    """Section -> labels that the yaml asks for and that have no row."""


def read_table(yaml_file: Path) -> TableResults | None:
    """Read the table ``yaml_file`` and the rows beside it; None where there are none.

    Whether a row is the newest answer to its request can't be told without the data, so the last one of its section,
    label and seed counts, a finished one before a failed one. A section that is a variant of a data set has the rows
    whose settings hold its own.

    Raises:
        UsageError: the yaml file is wrong.
    """
    rows = read_rows(yaml_file.with_suffix(".jsonl"))
    if not rows:
        return None
    spec = TableSpec.read(yaml_file)
    places = _placed(spec, rows)
    results = [(section, label, row) for section, lines in places.items() for label in lines for row in lines[label]]
    if not results:
        return None
    table = build_table(spec.title, spec.columns, results, spec.note)
    not_run = {
        section: [label for label in spec.models if label not in places.get(section, {})] for section in spec.datasets
    }
    return TableResults(yaml_file.stem, spec, places, table, {key: each for key, each in not_run.items() if each})


def _placed(spec: TableSpec, rows: Iterable[RunRow]) -> Places:
    found: dict[tuple[str, str, int], RunRow] = {}
    for row in rows:
        section, label = _section(spec, row), row.label or row.model
        if section is None or label not in spec.models:
            continue
        key = section, label, row.seed
        if row.ok or key not in found or not found[key].ok:
            found[key] = row
    places: Places = {}
    for section in spec.datasets:
        for label, settings in spec.models.items():
            seeds = settings.get("seeds", spec.seeds)
            wanted = [seeds] if isinstance(seeds, int) else seeds
            of_seeds = [found[section, label, seed] for seed in wanted if (section, label, seed) in found]
            if of_seeds:
                places.setdefault(section, {})[label] = of_seeds
    return places


def _section(spec: TableSpec, row: RunRow) -> str | None:
    """Return the section that a row belongs to: of those of its data set the one with most settings that it has."""
    own = {
        section: {key: value for key, value in settings.items() if key != "dataset"}
        for section, settings in spec.datasets.items()
        if settings.get("dataset", section) == row.dataset
    }
    if len(own) == 1:  # a model's own settings may stand above those of the data set
        return next(iter(own))
    fitting = [section for section, settings in own.items() if _holds(row.settings, settings)]
    return max(fitting, key=lambda section: len(own[section]), default=None)


def _holds(given: Mapping[str, Any], wanted: Mapping[str, Any]) -> bool:
    """Whether a nested mapping has all the values of another."""
    for key, value in wanted.items():
        own = given.get(key)
        same = _holds(own, value) if isinstance(own, Mapping) and isinstance(value, Mapping) else own == value
        if not same:
            return False
    return True


# ---- as values for the report ----


def table_values(results: TableResults) -> dict[str, Any]:
    """Return a table as the report's sources read it: everything by name, each number as a float beside its text.

    Returns:
        ``title``, ``note``, ``notes``; ``columns``: key -> ``header`` and ``smaller``; ``order``: the sections;
        ``sections``: name -> ``small_print``, ``order`` (labels), ``not_run`` and ``lines``: label -> ``shown``,
        ``seeds``, ``budget``, ``failure`` and ``values``: key -> ``mean``, ``sd``, ``text``, ``mark``.
    """
    metrics = results.spec.columns
    keys = [*metrics, *(_cost_key(column.header) for column in results.table.columns[len(metrics) :])]
    columns = {
        key: {"header": column.header, "smaller": column.smaller}
        for key, column in zip(keys, results.table.columns, strict=True)
    }
    sections = {
        section.name: {
            "small_print": section.small_print,
            "order": list(results.places[section.name]),
            "not_run": results.not_run.get(section.name, []),
            "lines": {
                label: _line_values(line, rows, keys)
                for line, (label, rows) in zip(section.lines, results.places[section.name].items(), strict=True)
            },
        }
        for section in results.table.sections
    }
    return {
        "title": results.table.title,
        "note": results.spec.note or "",
        "notes": list(results.table.notes),
        "columns": columns,
        "order": list(sections),
        "sections": sections,
    }


_COST_KEYS = {"Train (s)": "train", "Test (s)": "test", "Peak memory (MB)": "memory"}
_NO_MEASUREMENT = ("seed", "threads")


def _cost_key(header: str) -> str:
    return _COST_KEYS.get(header, header.lower())


def _line_values(line: Line, rows: Sequence[RunRow], keys: Sequence[str]) -> dict[str, Any]:
    values: dict[str, Any] = {
        key: {"mean": cell.mean, "sd": cell.sd, "text": cell.text(), "mark": cell.mark, "decimals": cell.decimals}
        for key, cell in zip(keys, line.cells, strict=False)
    }
    for key, found in _further(rows):
        if key not in values and found is not None:
            values[key] = {"mean": found, "sd": None, "text": f"{found:g}", "mark": "", "decimals": 4}
    return {
        "shown": line.label,
        "seeds": line.n_seeds,
        "budget": any(row.stopped_by == BUDGET for row in rows),
        "failure": line.failure,
        "model": rows[0].model,
        "values": values,
    }


def _further(rows: Sequence[RunRow]) -> Iterator[tuple[str, float | None]]:
    """Yield what no column shows: all other test metrics, every number of a row, memory beyond the libraries'."""
    ok = [row for row in rows if row.ok]
    if not ok:
        return
    for metric in ok[0].test:
        yield metric, _mean(row.test.get(metric) for row in ok)
    for each in fields(RunRow):
        found = [getattr(row, each.name) for row in ok]
        if each.name not in _NO_MEASUREMENT and all(isinstance(value, (int, float)) for value in found):
            yield each.name, _mean(found)
    yield "own memory", _mean(own_memory(row) for row in ok)


def own_memory(row: RunRow) -> float | None:
    """Return the peak memory of a run beyond that of the interpreter and the libraries, in MB."""
    if row.peak_memory_bytes is None or row.base_memory_bytes is None:
        return None
    return (row.peak_memory_bytes - row.base_memory_bytes) / MEGABYTE


def _mean(values: Iterable[float | int | None]) -> float | None:
    known = list(values)
    return None if not known or None in known else statistics.fmean(each for each in known if each is not None)
