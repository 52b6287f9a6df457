"""A table of experiments: run what is missing, keep every row, give the table."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from recbole_signed.errors import UsageError
from recbole_signed.experiments.runs import (
    RUNS,
    RunRow,
    append_row,
    cost_columns,
    file_name,
    is_there,
    latest,
    read_rows,
    rows_beside,
    users_folder,
)
from recbole_signed.experiments.tables.marks import marks_of, with_marks
from recbole_signed.experiments.tables.pool import run_all
from recbole_signed.experiments.tables.rendering import to_markdown
from recbole_signed.experiments.tables.spec import RunSpec, TableSpec
from recbole_signed.experiments.tables.table import Table, build_table


@dataclass(frozen=True)
class Comparison:
    """A table with its rows, in the order of the table."""

    table: Table
    rows: list[RunRow]
    n_new: int
    """How many runs this call made; the others were there already."""

    @property
    def failed(self) -> list[RunRow]:
        """The rows of runs that failed."""
        return [row for row in self.rows if not row.ok]


def compare(
    path: Path | str, only: Sequence[str] = (), output: Path | None = None, jobs: int = 1, per_user: bool = False
) -> Comparison:
    """Run a table: every run that has no finished row yet gets a process of its own and, when it ends, a row.

    A row counts as finished while the run's settings, the files of defaults below them, the version of this package
    and the data are what they were; a failed run is tried again. The finished row that another table in the folder has
    of the same run is taken over.

    Args:
        path: the table's yaml file; rows go to ``NAME.jsonl`` beside it and the table to ``NAME.md``.
        only: labels of models to run and show (then ``NAME.md`` stays as it is); all if empty.
        output: folder for the two files instead.
        jobs: processes at a time.
        per_user: repeat finished runs too if their values per user are not there, which tests of significance need
            (older runs have none, and the files are not committed with the rows).

    Raises:
        UsageError: the table asks for something that does not exist.
        KeyboardInterrupt: after the running processes were ended; finished rows are kept.
    """
    if jobs < 1:
        raise UsageError(f"--jobs is {jobs}; it must be 1 or more.")
    path = Path(path)
    spec = TableSpec.read(path).only(only)
    folder = path.parent if output is None else output
    rows_file, markdown_file = folder / f"{path.stem}.jsonl", folder / f"{path.stem}.md"
    requests = [_with_users(request, spec, rows_file) for request in spec.requests()]
    found = latest(read_rows(rows_file))
    if per_user and not spec.per_user:
        raise UsageError(f"{path} says per_user: false, so there are no values per user to repeat runs for.")
    _take_over(requests, rows_file, found)

    def is_missing(request: RunSpec) -> bool:
        row = found.get(request.key)
        return not request.is_answered_by(row) or (per_user and not (row and is_there(row, rows_file)))

    missing = [request for request in requests if is_missing(request)]
    if missing:
        _run(missing, jobs, rows_file, found)
    rows = [replace(found[request.key], label=request.label, tuned=request.tuned) for request in requests]
    results = [(request.section, request.label, row) for request, row in zip(requests, rows, strict=True)]
    costs = cost_columns(spec.costs, spec.relative_to)
    table = build_table(spec.title, spec.columns, results, spec.note, costs)
    marks = marks_of(results, spec.columns, rows_file, stored=not only)
    table = table if marks is None else with_marks(table, marks)
    if not only:
        replace_file(markdown_file, to_markdown(table))
    return Comparison(table, rows, len(missing))


def _with_users(request: RunSpec, spec: TableSpec, rows_file: Path) -> RunSpec:
    return replace(request, per_user=users_folder(rows_file) / file_name(request)) if spec.per_user else request


def _take_over(requests: Sequence[RunSpec], rows_file: Path, found: dict[Any, RunRow]) -> None:
    """Append the rows that other tables of the folder have of requests that have none here: no run is made twice."""
    open_ = [request for request in requests if not request.is_answered_by(found.get(request.key))]
    if not open_:
        return
    rows = rows_beside(rows_file)
    rows.sort(key=lambda row: row.serve_seconds is None)  # one that has more measured is as good, and serves later too
    for request in open_:
        row = next((row for row in rows if row.key == request.key and request.is_answered_by(row)), None)
        if row is not None:
            found[request.key] = replace(row, label=request.label)
            append_row(rows_file, found[request.key])


def _run(missing: Sequence[RunSpec], jobs: int, rows_file: Path, found: dict[Any, RunRow]) -> None:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    logs, started_at, begun = Path(RUNS) / rows_file.stem, time.monotonic(), {}
    columns = (BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TextColumn("{task.description}"))
    console = Console(stderr=True)
    running: list[str] = []
    with (
        terminated_like_interrupted(),
        Progress(*columns, console=console, disable=not console.is_terminal) as progress,
    ):
        task = progress.add_task("", total=len(missing))

        def started(request: RunSpec) -> None:
            running.append(request.title)
            begun[request.title] = time.monotonic()
            progress.update(task, description="; ".join(running))

        def finished(request: RunSpec, row: RunRow) -> None:
            append_row(rows_file, row)
            found[request.key] = row
            running.remove(request.title)
            progress.update(task, advance=1, description="; ".join(running))
            now = time.monotonic()
            line = f"{request.title}: {now - begun[request.title]:.0f} s"
            if not row.ok:
                line = f"{request.title} failed: {row.reason} (its log is in {logs})"
            place = f"[{progress.tasks[0].completed:.0f}/{len(missing)}, {now - started_at:.0f} s]"
            progress.console.print(place, line, markup=False, highlight=False, soft_wrap=True)

        run_all(missing, jobs, logs, started, finished)


@contextmanager
def terminated_like_interrupted() -> Iterator[None]:
    """Let SIGTERM end the running processes as Ctrl-C does."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def interrupt(*_: Any) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def replace_file(path: Path, text: str) -> None:
    """Write a file as a whole, and only if it says something new."""
    if path.is_file() and path.read_text(encoding="utf-8") == text:
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_text(text, encoding="utf-8")
    os.replace(temporary, path)
