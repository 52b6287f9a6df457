"""A table as its folder keeps it: ``NAME.view.json`` says which rows it shows, and which of them are marked.

A row lies once, whatever the number of tables that show it (:class:`recbole_signed.runs.RowStore`). So a
table can be printed again without the data that its runs were made on.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from pydantic import TypeAdapter

from recbole_signed.errors import UsageError
from recbole_signed.files import parse_json, replace_text
from recbole_signed.runs.building import CUT_SHORT, Result, build_table
from recbole_signed.runs.marks import Marks, with_marks
from recbole_signed.runs.metric_columns import cost_columns
from recbole_signed.runs.provenance import digest
from recbole_signed.runs.rows import RowStore, RunRow
from recbole_signed.runs.spec import TableSpec
from recbole_signed.runs.table_file import rows_file_of
from recbole_signed.table import Table

Places = dict[str, dict[str, list[RunRow]]]
"""Section -> label -> one row of each seed."""


@dataclass(frozen=True)
class View:
    """Which rows a table shows, and what it says of them that is not in the rows."""

    rows: dict[str, dict[str, list[str]]]
    """Section -> label -> :attr:`RunRow.id` of each seed."""
    figures: str
    """Digest of what the table shows beside time and memory, which another machine does not change."""
    marks: Marks | None

    @classmethod
    def of(cls, spec: TableSpec, results: Sequence[Result], table: Table, marks: Marks | None) -> View:
        """Return the view of a table that was just made."""
        rows: dict[str, dict[str, list[str]]] = {}
        for section, label, row in results:
            rows.setdefault(section, {}).setdefault(label, []).append(row.id)
        return cls(rows, _figures(spec, results, table), marks)

    @classmethod
    def read(cls, file: Path) -> View | None:
        """Read a view; None where there is none.

        Raises:
            UsageError: the file is damaged.
        """
        if not file.is_file():
            return None
        try:
            return _VIEW.validate_python(parse_json(file.read_bytes()))
        except ValueError as error:
            raise UsageError(f"{file} is damaged; remove it, and 'recbole-signed compare' makes it again.") from error

    def write(self, file: Path) -> None:
        """Write the view as a whole."""
        replace_text(file, json.dumps(asdict(self), indent=1, ensure_ascii=False) + "\n")


_VIEW = TypeAdapter(View)


def view_file(rows_file: Path) -> Path:
    """Return the place of a table's view."""
    return rows_file.with_suffix(".view.json")


def table_of(spec: TableSpec, results: Sequence[Result], marks: Marks | None) -> Table:
    """Return the table of some rows with their places, as its yaml file asks for it."""
    costs = cost_columns(spec.costs, spec.relative_to)
    table = build_table(spec.title, spec.columns, results, spec.note, costs)
    return table if marks is None else with_marks(table, marks)


def _figures(spec: TableSpec, results: Sequence[Result], table: Table) -> str:
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
    tuned = [(section, label, row.tuned) for section, label, row in results]
    return digest([spec.title, spec.note, [column.header for column in table.columns], lines, tuned])


@dataclass(frozen=True)
class StoredTable:
    """A table's yaml file, the rows that it shows, and what is printed of them."""

    name: str
    spec: TableSpec
    places: Places
    table: Table
    not_run: dict[str, list[str]]
    """Section -> labels that the yaml file asks for and that have no row."""

    @property
    def results(self) -> list[Result]:
        """The rows with their places."""
        return [(section, label, row) for section, of in self.places.items() for label in of for row in of[label]]


def stored_table(yaml_file: Path, rows_file: Path | None = None) -> StoredTable | None:
    """Read a table from its yaml file, its view and the rows in its folder, without any data; None without rows.

    Args:
        yaml_file: the table's.
        rows_file: of its rows, if :func:`~recbole_signed.compare` was given another folder.

    Raises:
        UsageError: the yaml file is wrong, or the view is damaged.
    """
    rows_file = rows_file or rows_file_of(yaml_file)
    view = View.read(view_file(rows_file))
    if view is None:
        return None
    spec, rows = TableSpec.read(yaml_file), RowStore(rows_file).by_id()
    places: Places = {}
    for section in spec.datasets:
        for label in spec.models:
            found = [rows[each] for each in view.rows.get(section, {}).get(label, ()) if each in rows]
            if found:
                places.setdefault(section, {})[label] = found
    if not places:
        return None
    not_run = {
        section: [cell.label for cell in spec.planned_rows(section) if cell.label not in places.get(section, {})]
        for section in spec.datasets
    }
    results = [(section, label, row) for section, of in places.items() for label in of for row in of[label]]
    return StoredTable(
        yaml_file.stem,
        spec,
        places,
        table_of(spec, results, view.marks),
        {key: each for key, each in not_run.items() if each},
    )
