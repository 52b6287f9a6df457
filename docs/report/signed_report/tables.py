"""Tables of experiments as the report reads them: everything by name."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import fields
from typing import Any

from recbole_signed.runs import RunRow
from recbole_signed.runs.building import BUDGET, build_table
from recbole_signed.runs.metric_columns import MEGABYTE
from recbole_signed.runs.stored import StoredTable
from recbole_signed.table import Line


def table_values(results: StoredTable) -> dict[str, Any]:
    """Return a table as the report's sources read it: everything by name, each number as a float beside its text.

    Returns:
        ``title``, ``note``, ``notes``; ``columns``: key -> ``header`` and ``smaller``; ``order``: the sections;
        ``sections``: name -> ``small_print``, ``order`` (labels), ``not_run`` and ``lines``: label -> ``shown``,
        ``seeds``, ``budget``, ``failure`` and ``values``: key -> ``mean``, ``sd``, ``text``, ``mark``.
    """
    metrics = results.spec.columns
    table = build_table(results.spec.title, metrics, results.places, results.spec.note)  # with time and memory always
    keys = [*metrics, *(_cost_key(column.header) for column in table.columns[len(metrics) :])]
    columns = {
        key: {"header": column.header, "smaller": column.smaller}
        for key, column in zip(keys, table.columns, strict=True)
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
        for section in table.sections
    }
    return {
        "title": table.title,
        "note": results.spec.note or "",
        "notes": list(table.notes),
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
    for key, mean in _further(rows):
        if key not in values and mean is not None:
            values[key] = {"mean": mean, "sd": None, "text": f"{mean:g}", "mark": "", "decimals": 4}
    return {
        "shown": line.label,
        "seeds": len(rows),
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
    for field in fields(RunRow):
        values = [getattr(row, field.name) for row in ok]
        if field.name not in _NO_MEASUREMENT and all(isinstance(value, (int, float)) for value in values):
            yield field.name, _mean(values)
    yield "own memory", _mean(own_memory(row) for row in ok)


def own_memory(row: RunRow) -> float | None:
    """Return the peak memory of a run beyond that of the interpreter and the libraries, in MB."""
    if row.peak_memory_bytes is None or row.base_memory_bytes is None:
        return None
    return (row.peak_memory_bytes - row.base_memory_bytes) / MEGABYTE


def _mean(values: Iterable[float | int | None]) -> float | None:
    known = list(values)
    return None if not known or None in known else statistics.fmean(value for value in known if value is not None)
