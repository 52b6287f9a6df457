"""A table as its folder keeps it: ``NAME.view.json`` says which rows it shows, and which of them are marked.

**Marks** say which best numbers are better than all others: the paired t test over users against every other model,
two-sided, with Holm's correction over all comparisons of the table. What a budget stopped (†) takes no part. The
values per user are not committed, so the marks are, with a digest of the checksums that they come from.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import TypeAdapter

from recbole_signed.errors import UsageError
from recbole_signed.files import parse_json, replace_text
from recbole_signed.runs.building import CUT_SHORT, Places, build_table, places_of, was_cut_short
from recbole_signed.runs.metric_columns import cost_columns, metric_column, smaller_is_better
from recbole_signed.runs.provenance import digest
from recbole_signed.runs.rows import RowStore, RunRow
from recbole_signed.runs.spec import TableSpec
from recbole_signed.runs.table_file import rows_file_of
from recbole_signed.runs.user_values import SectionValues, best_of, grounds_of, is_there, read_section
from recbole_signed.table import Line, Section, Table


@dataclass(frozen=True)
class View:
    """Which rows a table shows, and what it says of them that is not in the rows."""

    rows: dict[str, dict[str, list[str]]]  # section -> label -> `id` of each seed
    figures: str  # digest of what the table shows beside time and memory, which another machine does not change
    marks: Marks | None

    @classmethod
    def from_table(cls, spec: TableSpec, places: Places, table: Table, marks: Marks | None) -> View:
        """Return the view of a table that was just made."""
        rows = {section: {label: [row.id for row in of[label]] for label in of} for section, of in places.items()}
        return cls(rows, _figures(spec, places, table), marks)

    @classmethod
    def read(cls, file: Path) -> View | None:
        """Read a view; None where there is none."""
        if not file.is_file():
            return None
        try:
            return _VIEW.validate_python(parse_json(file.read_bytes()))
        except ValueError as error:
            raise UsageError(f"{file} is damaged; remove it, and 'recbole-signed compare' makes it again.") from error

    def write(self, file: Path) -> None:
        """Write the view as a whole."""
        replace_text(file, json.dumps(asdict(self), indent=1, ensure_ascii=False) + "\n")


def view_file(rows_file: Path) -> Path:
    """Return the place of a table's view."""
    return rows_file.with_suffix(".view.json")


def table_of(spec: TableSpec, places: Places, marks: Marks | None) -> Table:
    """Return the table of some rows, as its yaml file asks for it."""
    costs = cost_columns(spec.costs, spec.relative_to)
    table = build_table(spec.title, spec.columns, places, spec.note, costs)
    return table if marks is None else with_marks(table, marks)


def _figures(spec: TableSpec, places: Places, table: Table) -> str:
    """Return a digest of a table without time and memory, unless it is a table of these; with how models were tuned."""
    shown = len(table.columns) if spec.serving else len(spec.columns)
    lines = [
        (
            section.name,
            line.label.removesuffix(f" {CUT_SHORT}"),
            line.failure,
            [(cell.text(), cell.mark, cell.significant) for cell in line.cells[:shown]],
        )
        for section in table.sections
        for line in section.lines
    ]
    tuned = [(section, label, row.tuned) for section, of in places.items() for label in of for row in of[label]]
    return digest([spec.title, spec.note, [column.header for column in table.columns], lines, tuned])


@dataclass(frozen=True)
class StoredTable:
    """A table's yaml file, the rows that it shows, and what is printed of them."""

    name: str
    spec: TableSpec
    places: Places
    table: Table
    not_run: dict[str, list[str]]  # section -> labels that the yaml file asks for and that have no row


def stored_table(yaml_file: Path, rows_file: Path | None = None) -> StoredTable | None:
    """Read a table from its yaml file, its view and the rows in its folder, without any data; None without rows."""
    rows_file = rows_file or rows_file_of(yaml_file)
    view = View.read(view_file(rows_file))
    if view is None:
        return None
    spec, rows = TableSpec.read(yaml_file), RowStore(rows_file).by_id()
    places = places_of(
        (section, label, rows[row_id])
        for section in spec.datasets
        for label in spec.models
        for row_id in view.rows.get(section, {}).get(label, ())
        if row_id in rows
    )
    if not places:
        return None
    not_run: dict[str, list[str]] = {}
    for section in spec.datasets:
        for cell in spec.planned_rows(section):
            if cell.label not in places.get(section, {}):
                not_run.setdefault(section, []).append(cell.label)
    return StoredTable(yaml_file.stem, spec, places, table_of(spec, places, view.marks), not_run)


ALPHA = 0.05


@dataclass(frozen=True)
class Mark:
    """A best number that is better than every other one of its column."""

    section: str
    metric: str  # in RecBole's spelling
    label: str
    rival: str  # the model with the largest p against it
    p: float  # that p, after Holm's correction


@dataclass(frozen=True)
class Marks:
    """The marks of a table, and of how many comparisons they are the outcome."""

    marks: tuple[Mark, ...]
    n_comparisons: int
    alpha: float = ALPHA
    values: str | None = None  # digest of the checksums of the values per user that they come from


def with_marks(table: Table, marks: Marks) -> Table:
    """Return the table with its marks and a sentence that explains them; the table itself if nothing was compared."""
    if not marks.n_comparisons:
        return table
    starred = {(mark.section, metric_column(mark.metric).header, mark.label) for mark in marks.marks}
    headers = [column.header for column in table.columns]

    def marked(section: Section, line: Line) -> Line:
        if line.label.endswith(CUT_SHORT):  # marks of older versions may name it
            return line
        cells = (
            replace(cell, significant=(section.name, header, line.label) in starred)
            for header, cell in zip(headers, line.cells, strict=False)
        )
        return replace(line, cells=tuple(cells))

    sections = (replace(part, lines=tuple(marked(part, line) for line in part.lines)) for part in table.sections)
    return replace(table, sections=tuple(sections), notes=(*table.notes, _explanation(marks)))


def _explanation(marks: Marks) -> str:
    return (
        f"‡: better than every other model of the column (paired t test over users, two-sided, Holm-corrected over the "
        f"{marks.n_comparisons} comparisons of the best with each other one, p < {marks.alpha:g})."
    )


def marks_of(places: Places, columns: Sequence[str], rows_file: Path, kept: Marks | None = None) -> Marks | None:
    """Return the marks of a table, ``kept`` ones if of the same values; None without values per user of all runs."""
    whole = {
        name: labels
        for name, labels in whole_places(places).items()
        if len(labels) > 1 and all(row.per_user_sha256 for rows in labels.values() for row in rows)
    }
    if not whole:
        return None
    state = _state(whole, columns)
    if kept is not None and kept.values == state:
        return kept
    if not all(is_there(row, rows_file) for labels in whole.values() for rows in labels.values() for row in rows):
        return None
    values = [read_section(name, rows, rows_file, columns) for name, rows in whole.items()]
    stopped = {name: [label for label in rows if was_cut_short(rows[label])] for name, rows in whole.items()}
    return replace(find_marks(values, columns, stopped=stopped), values=state)


def whole_places(places: Places) -> Places:
    """Return the places without the models of which a run failed: the table has no numbers of them."""
    return {
        section: {label: rows for label, rows in labels.items() if all(row.ok for row in rows)}
        for section, labels in places.items()
    }


def _state(places: Mapping[str, Mapping[str, Sequence[RunRow]]], columns: Sequence[str]) -> str:
    values: dict[str, Any] = {
        section: {label: [row.per_user_sha256 for row in rows] for label, rows in labels.items()}
        for section, labels in places.items()
    }
    apart = {
        section: {label: sorted(ground) for label, ground in grounds.items()}
        for section, labels in places.items()
        if len(set((grounds := grounds_of(labels)).values())) > 1
    }
    return digest({"alpha": ALPHA, "columns": list(columns), "values": values} | ({"apart": apart} if apart else {}))


def find_marks(
    sections: Sequence[SectionValues], columns: Sequence[str], stopped: Mapping[str, Collection[str]] | None = None
) -> Marks:
    """Find the marks, see the module's docstring."""
    from recbole_signed.evaluation.significance import holm, paired_t

    claims: list[tuple[str, str, str, list[str]]] = []
    p: list[float] = []
    signs: list[float] = []
    for values in sections:
        for number, metric in enumerate(values.metrics):
            best, others = _best(values, number, (stopped or {}).get(values.section, ()))
            if metric not in columns or best is None:
                continue
            pairs = [values.pair(best, other) for other in others]
            differences = np.stack([mine[:, number] - theirs[:, number] for mine, theirs in pairs], axis=1)
            claims.append((values.section, metric, best, others))
            p += paired_t(differences).two_sided.tolist()
            toward = -1.0 if smaller_is_better(metric) else 1.0
            signs += [toward * float(np.nansum(column)) for column in differences.T]
    corrected = holm(p)
    marks, first = [], 0
    for section, metric, label, others in claims:
        mine = corrected[first : first + len(others)]
        ahead = all(sign > 0 for sign in signs[first : first + len(others)])
        first += len(others)
        if ahead and bool((mine < ALPHA).all()):  # nan, where nothing could be compared, is not a mark
            worst = int(np.argmax(mine))
            marks.append(Mark(section, metric, label, others[worst], float(mine[worst])))
    return Marks(tuple(marks), int((~np.isnan(corrected)).sum()), ALPHA)


def _best(values: SectionValues, number: int, stopped: Collection[str]) -> tuple[str | None, list[str]]:
    """Return the best model of a column and the others trained to their end; None for fewer, or if it was not."""
    means = values.means(number)
    best = best_of(means, values.metrics[number])
    others = [label for label in means if label != best and label not in stopped]
    return (None, []) if not others or best is None or best in stopped else (best, others)


_VIEW = TypeAdapter(View)
