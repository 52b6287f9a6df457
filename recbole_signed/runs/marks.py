"""Which best numbers of a table are better than all others beyond chance: the marks.

**Convention.** In every column that is a mean over users, the best model is tested against every other model of its
data set, by the paired t test over the users who count for both. The best one was found by looking at these very
numbers, so p is the two-sided one; Holm's correction goes over all such comparisons of the table. A best number is
marked where the worst of its own p-values stays below alpha: it is better than each other model, not only than the
second. The t test, because it is exact enough for hundreds of comparisons at once, where a permutation test would
need hundreds of thousands of resamples to say anything; ``recbole-signed significance`` has the other tests. What a
budget stopped (†) takes no part: it is not tested, not marked, and where its number is the best nothing is marked.

The values per user are not committed, so the marks themselves are: in ``NAME.view.json``, with a digest of the
checksums of the values that they come from. They hold as long as the rows are those.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from recbole_signed.runs.building import CUT_SHORT, Result, was_cut_short
from recbole_signed.runs.metric_columns import metric_column, smaller_is_better
from recbole_signed.runs.provenance import digest
from recbole_signed.runs.rows import RunRow
from recbole_signed.runs.user_values import SectionValues, best_of, is_there, read_section
from recbole_signed.table import Line, Section, Table

ALPHA = 0.05


@dataclass(frozen=True)
class Mark:
    """A best number that is better than every other one of its column."""

    section: str
    metric: str
    """In RecBole's spelling."""
    label: str
    rival: str
    """The model with the largest p against it."""
    p: float
    """That p, after Holm's correction."""


@dataclass(frozen=True)
class Marks:
    """The marks of a table, and of how many comparisons they are the outcome."""

    marks: tuple[Mark, ...]
    n_comparisons: int
    alpha: float = ALPHA
    values: str | None = None
    """Digest of the checksums of the values per user that they come from."""


def with_marks(table: Table, marks: Marks) -> Table:
    """Return the table with its marks and a sentence that explains them; the table itself if nothing was compared."""
    if not marks.n_comparisons:
        return table
    found = {(each.section, metric_column(each.metric).header, each.label) for each in marks.marks}
    headers = [column.header for column in table.columns]

    def marked(section: Section, line: Line) -> Line:
        if line.label.endswith(CUT_SHORT):  # marks of older versions may name it
            return line
        cells = (
            replace(cell, significant=(section.name, header, line.label) in found)
            for header, cell in zip(headers, line.cells, strict=False)
        )
        return replace(line, cells=tuple(cells))

    sections = (replace(each, lines=tuple(marked(each, line) for line in each.lines)) for each in table.sections)
    return replace(table, sections=tuple(sections), notes=(*table.notes, _explanation(marks)))


def _explanation(marks: Marks) -> str:
    return (
        f"‡: better than every other model of the column (paired t test over users, two-sided, Holm-corrected over the "
        f"{marks.n_comparisons} comparisons of the best with each other one, p < {marks.alpha:g})."
    )


def marks_of(
    results: Sequence[Result], columns: Sequence[str], rows_file: Path, kept: Marks | None = None
) -> Marks | None:
    """Return the marks of a table; None where no data set has the values per user of all its runs.

    Args:
        results: the table's rows with their places.
        columns: its metrics.
        rows_file: the file of the rows; the values lie beside it.
        kept: marks that were found before, which count if they are of these values.
    """
    places = places_of(results)
    whole = {name: rows for name, rows in places.items() if _have_values(rows)}
    if not whole:
        return None
    state = _state(whole, columns)
    if kept is not None and kept.values == state:
        return kept
    if not all(is_there(row, rows_file) for rows in whole.values() for each in rows.values() for row in each):
        return None
    values = [read_section(name, rows, rows_file, columns) for name, rows in whole.items()]
    stopped = {name: [label for label in rows if was_cut_short(rows[label])] for name, rows in whole.items()}
    return replace(find_marks(values, columns, stopped=stopped), values=state)


def places_of(results: Iterable[Result]) -> dict[str, dict[str, list[RunRow]]]:
    """Return section -> label -> rows, without the models of which a run failed: the table has no numbers of them."""
    places: dict[str, dict[str, list[RunRow]]] = {}
    for section, label, row in results:
        places.setdefault(section, {}).setdefault(label, []).append(row)
    return {
        section: {label: rows for label, rows in labels.items() if all(row.ok for row in rows)}
        for section, labels in places.items()
    }


def _have_values(labels: Mapping[str, Sequence[RunRow]]) -> bool:
    return len(labels) > 1 and all(row.per_user_sha256 for rows in labels.values() for row in rows)


def _state(places: Mapping[str, Mapping[str, Sequence[RunRow]]], columns: Sequence[str]) -> str:
    values: dict[str, Any] = {
        section: {label: [row.per_user_sha256 for row in rows] for label, rows in labels.items()}
        for section, labels in places.items()
    }
    return digest({"alpha": ALPHA, "columns": list(columns), "values": values})


def find_marks(
    sections: Sequence[SectionValues],
    columns: Sequence[str],
    stopped: Mapping[str, Collection[str]] | None = None,
) -> Marks:
    """Find the marks by the module's convention.

    Args:
        sections: the values of each data set.
        columns: the metrics.
        stopped: section -> labels of what a budget stopped.
    """
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
    """Return the best model of a column as the table has it, and the others that were trained to their end.

    None where fewer than two were, or where the best one was not.
    """
    means = values.means(number)
    best = best_of(means, values.metrics[number])
    others = [label for label in means if label != best and label not in stopped]
    return (None, []) if not others or best is None or best in stopped else (best, others)
