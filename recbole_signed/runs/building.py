"""From result rows to a table: means over seeds, who is best, and the small print under it."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence
from dataclasses import replace

from recbole_signed.runs.footnotes import (
    STOPPED,
    budgets,
    describe_split,
    group_shares,
    on_the_plateau,
    settings_ranked,
    without_best_epoch,
)
from recbole_signed.runs.metric_columns import BEST, COST_COLUMNS, MEGABYTE, Column, metric_column
from recbole_signed.runs.provenance import different, machine_text, versions_text
from recbole_signed.runs.rows import RunRow
from recbole_signed.runs.tuned import budgets_text
from recbole_signed.table import Cell, Header, Line, Mark, Section, Table

Result = tuple[str, str, RunRow]
"""Part of the table (a data set), line of the table (a model), and one of its rows."""

BUDGET, CUT_SHORT = STOPPED, "†"
_LONGEST_REASON = 140


def build_table(
    title: str,
    metrics: Sequence[str],
    results: Iterable[Result],
    note: str | None = None,
    costs: Sequence[Column] = COST_COLUMNS,
) -> Table:
    """Build a table.

    A line of which any run failed has no numbers but the reason: a mean over the seeds that happened to work
    would be a number of something else.

    Args:
        title: its heading.
        metrics: columns in RecBole's spelling.
        results: rows with their places; places come in order of first appearance.
        note: a sentence for the small print.
        costs: the columns that follow them: time and memory.
    """
    columns = (*map(metric_column, metrics), *costs)
    places: dict[str, dict[str, list[RunRow]]] = {}
    for section, label, row in results:
        places.setdefault(section, {}).setdefault(label, []).append(row)
    sections = tuple(_section(name, lines, columns, len(metrics)) for name, lines in places.items())
    rows = [row for lines in places.values() for line in lines.values() for row in line]
    return Table(title, columns, sections, _notes(rows, note))


def _section(name: str, lines: dict[str, list[RunRow]], columns: Sequence[Column], n_metrics: int) -> Section:
    made = [_line(label, rows, columns) for label, rows in lines.items()]
    made = _divided(dict(zip(lines, made, strict=True)), columns)

    def ranked(line: Line, rows: Sequence[RunRow], number: int) -> Cell | None:
        """Return the cell if it may be the best: an unfinished training has no claim on quality."""
        unfinished = number < n_metrics and was_cut_short(rows)
        return line.cells[number] if line.cells and not columns[number].relative_to and not unfinished else None

    marks = [
        _marks([ranked(*each, number) for each in zip(made, lines.values(), strict=True)], column.smaller)
        for number, column in enumerate(columns)
    ]
    marked = tuple(
        replace(line, cells=tuple(replace(cell, mark=marks[n][index]) for n, cell in enumerate(line.cells)))
        for index, line in enumerate(made)
    )
    rows_of_all = [row for rows in lines.values() for row in rows if row.ok]
    print_ = [
        _small_print(rows_of_all),
        without_best_epoch(lines),
        _tuning(lines),
        settings_ranked(lines),
        budgets(lines),
        _cut_short(lines),
        on_the_plateau(lines),
        group_shares(rows_of_all),
    ]
    return Section(name, marked, "; ".join(filter(None, print_)))


def _tuning(lines: dict[str, list[RunRow]]) -> str:
    """State the tuning budget, and name the models whose parameters were chosen on another split than the rows'."""
    text = budgets_text({label: rows[0].tuned for label, rows in lines.items()})
    other = [
        label
        for label, rows in lines.items()
        if any(row.ok and row.tuned is not None and row.tuned.get("split") != row.split for row in rows)
    ]
    return f"{text}, on another split: {', '.join(other)}" if other else text


def _cut_short(lines: dict[str, list[RunRow]]) -> str:
    """Name the models that a budget stopped before they were done, with their last epochs."""
    found = [
        f"{label} {', '.join(str(row.epochs) for row in rows)}" for label, rows in lines.items() if was_cut_short(rows)
    ]
    why = "stopped by its training budget before early stopping: a lower bound, in no ranking and no test"
    return f"{CUT_SHORT} {why}, after epoch: {'; '.join(found)}" if found else ""


def was_cut_short(rows: Sequence[RunRow]) -> bool:
    """Whether a budget stopped any of a model's trainings."""
    return any(row.stopped_by == BUDGET for row in rows)


def _line(label: str, rows: Sequence[RunRow], columns: Sequence[Column]) -> Line:
    failed = [row for row in rows if not row.ok]
    if failed:
        of = f" (seed {', '.join(str(row.seed) for row in failed)})" if len(failed) < len(rows) else ""
        reason = " ".join((failed[0].reason or "no reason given").split())
        reason = reason if len(reason) <= _LONGEST_REASON else reason[: _LONGEST_REASON - 1] + "…"
        return Line((label, str(len(rows))), (), f"failed{of}: {reason}")
    shown = f"{label} {CUT_SHORT}" if was_cut_short(rows) else label
    cells = tuple(_cell([column.value(row) for row in rows], column.decimals) for column in columns)
    return Line((shown, str(len(rows))), cells)


def _divided(lines: dict[str, Line], columns: Sequence[Column]) -> list[Line]:
    """Divide the means of relative columns by that of the line they name, or by the smallest."""
    divisors: dict[int, float | None] = {}
    for number, column in enumerate(columns):
        if column.relative_to is not None:
            known = {label: line.cells[number].mean for label, line in lines.items() if line.cells}
            means = [mean for mean in known.values() if mean is not None]
            divisors[number] = min(means, default=None) if column.relative_to == BEST else known.get(column.relative_to)
    return [
        replace(
            line,
            cells=tuple(
                _quotient(cell, divisors[number]) if number in divisors else cell
                for number, cell in enumerate(line.cells)
            ),
        )
        for line in lines.values()
    ]


def _quotient(cell: Cell, divisor: float | None) -> Cell:
    return Cell(cell.mean / divisor if divisor and cell.mean is not None else None, None, cell.decimals)


def _cell(values: Sequence[float | None], decimals: int) -> Cell:
    known = [value for value in values if value is not None]
    if len(known) < len(values):
        return Cell(None, None, decimals)
    return Cell(statistics.fmean(known), statistics.stdev(known) if len(known) > 1 else None, decimals)


def _marks(cells: Sequence[Cell | None], smaller: bool) -> list[Mark]:
    """Mark the best and the second best, as printed: numbers that look equal are marked alike."""
    seen = [None if cell is None or cell.mean is None else round(cell.mean, cell.decimals) for cell in cells]
    ranking = sorted({value for value in seen if value is not None}, reverse=not smaller)
    marks: list[Mark] = ["best", "second"]
    by_value = dict(zip(ranking, marks, strict=False))
    return ["" if value is None else by_value.get(value, "") for value in seen]


def _small_print(rows: Sequence[RunRow]) -> str:
    """Say what the numbers of a section rest on; more than one of a kind is listed, not hidden."""
    if not rows:
        return ""
    parts = [
        ("data sha256", different(row.data_sha256[:12] for row in rows if row.data_sha256)),
        ("split", different(describe_split(row.split) for row in rows)),
        ("protocol", different(row.protocol for row in rows)),
        (
            "evaluated users",
            different(str(row.settings["eval_users"]) for row in rows if "eval_users" in row.settings),
        ),
        ("best epoch by validation", different(_metric_text(row.valid_metric) for row in rows)),
    ]
    return "; ".join(f"{name} {value}" for name, value in parts if value)


def _metric_text(metric: str | None) -> str:
    return metric_column(metric).header if metric else ""


def _notes(rows: Sequence[RunRow], note: str | None) -> tuple[str, ...]:
    seeds = {row.seed for row in rows}
    notes = [note] if note else []
    if len(seeds) > 1:
        listed = ", ".join(map(str, sorted(seeds)))
        notes.append(f"Mean ± standard deviation over the seeds {listed}.")
    notes.append("Bold: best, underlined: second best of a column; ↓: smaller is better.")
    versions = different(versions_text(row.versions) for row in rows)
    machines = different(
        machine_text(row.machine, row.threads) + (f", {row.device}" if row.device not in (None, "cpu") else "")
        for row in rows
        if row.machine and row.ok
    )
    notes += [f"Versions: {versions}."] if versions else []
    notes += [f"Machine: {machines}."] if machines else []
    return tuple(notes)


def run_table(row: RunRow) -> Table:
    """Return the table of one run: its metrics on validation and test, and what they cost."""
    lines = []
    for metric in row.test or row.valid:
        column = metric_column(metric)
        cells = tuple(Cell(part.get(metric), None, column.decimals) for part in (row.valid, row.test))
        lines.append(Line((column.shown,), cells))
    epochs = "" if not row.epochs else " (1 epoch)" if row.epochs == 1 else f" ({row.epochs} epochs)"
    memory = "unknown" if row.peak_memory_bytes is None else f"{row.peak_memory_bytes / MEGABYTE:.0f} MB"
    notes = [f"training {row.fit_seconds:.1f} s{epochs}, test {row.eval_seconds:.2f} s, peak memory {memory}"]
    if row.serve_seconds is not None:
        sizes = {"memory for it": row.serve_memory_bytes, "model": row.model_bytes}
        listed = ", ".join(f"{name} {(size or 0) / MEGABYTE:.2f} MB" for name, size in sizes.items())
        notes.append(f"ranking 1,000 users {row.serve_seconds * 1e3:.1f} ms, {listed}")
    title = f"{row.model} on {row.dataset}, seed {row.seed}"
    if not lines:
        return Table(f"{title}: fitted to everything, nothing was held out", (), (), tuple(notes[:1]))
    notes.insert(0, f"split {describe_split(row.split)}; protocol {row.protocol}")
    head = (Header("Metric", left=True),)
    return Table(title, (Header("Valid"), Header("Test")), (Section("", tuple(lines)),), tuple(notes), head=head)
