"""A table of experiments: run what is missing and no other process runs, keep every row, give the table."""

from __future__ import annotations

import fcntl
import os
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from recbole_signed.errors import UsageError, argument, raised_by_sigterm
from recbole_signed.files import path_of, replace_text
from recbole_signed.plugin.assignments import RUNS
from recbole_signed.progress import count_bar
from recbole_signed.runs.building import Places, places_of
from recbole_signed.runs.processes import run_all
from recbole_signed.runs.provenance import digest
from recbole_signed.runs.rows import RowStore, RunRow
from recbole_signed.runs.spec import RunSpec, TableSpec
from recbole_signed.runs.stored import View, marks_of, table_of, view_file
from recbole_signed.runs.table_file import rows_file_of
from recbole_signed.runs.user_values import file_name, has_none, is_there, users_folder
from recbole_signed.table import Table, to_markdown, to_text

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Comparison:
    """A table with its rows, in the order of the table."""

    table: Table
    rows: list[RunRow]
    n_new: int  # how many runs this call made; the others were there already

    def __str__(self) -> str:
        """The table as the command ``compare`` prints it."""
        return to_text(self.table)

    def frame(self) -> pd.DataFrame:
        """Return the rows as a data frame, with a column for each of their fields, such as ``test.recall@20``."""
        import pandas as pd

        return pd.json_normalize([row.as_dict() for row in self.rows])

    @property
    def failed(self) -> list[RunRow]:
        """The rows of runs that failed."""
        return [row for row in self.rows if not row.ok]


def compare(
    path: Path | str,
    only: Sequence[str] = (),
    output: Path | str | None = None,
    jobs: int = 1,
    per_user: bool = False,
    datasets: Sequence[str] = (),
    finished: bool = False,
) -> Comparison:
    """Run a table: every run that has no finished row yet gets a process of its own and, when it ends, a row.

    A row counts as finished while the run's settings, the files of defaults below them, the version of this package
    and the data are what they were; a failed run is tried again. A finished row that another table in the folder has
    of the same run counts too, and a run that another process is making is waited for.

    Args:
        path: the table's yaml file. Rows go to ``NAME.jsonl``, what the table shows of them to ``NAME.view.json``, and
            the table to ``NAME.md``: below ``results`` as the file is below ``yaml``, else beside it.
        only: labels of models to run and show (then these two stay as they are); all if empty.
        output: folder for the files instead.
        jobs: processes at a time.
        per_user: repeat finished runs too if their values per user are not there, which tests of significance need
            (older runs have none, and the files are not committed with the rows).
        datasets: names of data sets, or of pools of them, to run and show, as ``only``.
        finished: run nothing, and show the rows that are there: those that answer the table, and else those that it
            shows already. No data are needed for the latter. Nothing is written but into an ``output`` that is given.

    Returns:
        The ``table``, which ``print`` shows as the command does; its ``rows``, each as :func:`recbole_signed.run`
        returns it, of which ``failed`` are those of runs that failed; ``frame()``, the rows as a pandas data frame; and
        ``n_new``, how many runs this call made.

    Raises:
        UsageError: the table asks for something that does not exist, or has a key that a missing run would not know;
            with ``finished``, there is no row of it.
        KeyboardInterrupt: after the running processes were ended; finished rows are kept.
    """
    if not isinstance(jobs, int) or jobs < 1:
        raise UsageError(f"{argument('jobs')} is {jobs!r}; it must be a whole number of 1 or more.")
    path = path_of(path, "path")
    part = bool(only or datasets)
    spec = TableSpec.read(path).only(only, datasets)
    store = RowStore(rows_file_of(path) if output is None else path_of(output, "output") / f"{path.stem}.jsonl")
    requests = list(spec.requests(possible=finished))
    if spec.per_user:
        folder = users_folder(store.file)
        requests = [replace(request, per_user=folder / file_name(request)) for request in requests]
    if not (requests or finished):
        raise UsageError(f"{path} asks for no run: 'per_dataset' leaves every model out; take a false out of it.")
    if per_user and not spec.per_user:
        raise UsageError(f"{path} says per_user: false, so there are no values per user to repeat runs for.")

    def answers(request: RunSpec, row: RunRow) -> bool:
        return request.is_answered_by(row) and (not per_user or has_none(row) or is_there(row, store.file))

    before = [store.find(request.key, request.is_answered_by) for request in requests]
    n_new = 0 if finished else _run(requests, answers, jobs, store)
    answered = [(request, store.find(request.key, partial(answers, request))) for request in requests]
    places = places_of(
        (run.section, run.label, replace(row, section=run.section, label=run.label, tuned=run.tuned))
        for run, row in answered
        if row is not None
    )
    kept = View.read(view_file(store.file))
    if finished:
        places = _with_shown(spec, requests, places, kept, store)
        if not places:
            raise UsageError(f"{path} has no finished rows yet; run it without {argument('finished')}.")
    marks = marks_of(places, spec.columns, store.file, None if part or kept is None else kept.marks)
    table = table_of(spec, places, marks)
    if not part and (not finished or output is not None):
        _write(View.from_table(spec, places, table, marks), kept, table, store.file, renewed=n_new > 0 and any(before))
    return Comparison(table, [row for labels in places.values() for rows in labels.values() for row in rows], n_new)


def _with_shown(
    spec: TableSpec, requests: Sequence[RunSpec], fresh: Places, kept: View | None, store: RowStore
) -> Places:
    """Return the rows that were found, and in the place of those that were not what the table shows already."""
    asked = Counter((request.section, request.label) for request in requests)
    by_id = store.by_id()
    merged: Places = {}
    for section in spec.datasets:
        for cell in spec.planned_rows(section):
            here = fresh.get(section, {}).get(cell.label, [])
            ids = kept.rows.get(section, {}).get(cell.label, ()) if kept is not None else ()
            shown = [by_id[row_id] for row_id in ids if row_id in by_id]
            enough = min(len(shown), asked[section, cell.label] or len(shown))
            if rows := here if len(here) >= enough else shown:
                merged.setdefault(section, {})[cell.label] = rows
    return merged


def _write(view: View, kept: View | None, table: Table, rows_file: Path, *, renewed: bool) -> None:
    """Write the view and ``NAME.md``, unless a machine of other speed has found the same figures for the first time."""
    markdown_file = rows_file.with_suffix(".md")
    same = kept is not None and (kept.rows, kept.figures) == (view.rows, view.figures)
    tested = view.marks is None or (kept is not None and kept.marks is not None)
    if renewed or not (same and tested and markdown_file.is_file()):
        view.write(view_file(rows_file))
        replace_text(markdown_file, to_markdown(table))


def _run(requests: Sequence[RunSpec], answers: Callable[[RunSpec, RunRow], bool], jobs: int, store: RowStore) -> int:
    """Make the runs that have no row yet, and return their number; another process that makes one is waited for."""

    def open_(among: Iterable[RunSpec]) -> list[RunSpec]:
        answered = [(request, store.find(request.key, partial(answers, request))) for request in among]
        return [request for request, row in answered if row is None or not answers(request, row)]

    missing = list({request.id: request for request in open_(requests)}.values())
    if not missing:
        return 0
    for request in missing:  # before any of them runs, which may take hours
        request.refuse_unknown_keys()
    store.open()
    with (
        raised_by_sigterm(KeyboardInterrupt),
        closing(Claims(store.file.parent)) as claims,
        count_bar(only_on_terminal=True) as bar,
    ):
        progress = RunProgress(store, bar, len(missing))

        def finished(request: RunSpec, row: RunRow) -> None:
            progress.finished(request, row)
            claims.give_back(request.id)

        mine = [request for request in missing if claims.take(request.id)]
        store.reload()  # what another process finished before it gave its claims back
        mine, done = open_(mine), len(mine)
        n_new = len(mine)
        progress.skip(done - n_new)
        run_all(mine, jobs, progress.logs, progress.started, finished)
        for request in missing:
            if request.id in claims.taken:
                continue
            known = store.find(request.key)
            if not claims.take(request.id):
                progress.say(f"{request.title}: waiting for another 'compare', which runs it")
                claims.take(request.id, wait=True)
            store.reload()
            again = [request] if store.find(request.key) == known else []  # else it ended there, well or not
            run_all(again, jobs, progress.logs, progress.started, finished)
            progress.skip(1 - len(again))
            n_new += len(again)
            claims.give_back(request.id)
        return n_new


class Claims:
    """The runs that this process makes in a folder of rows: locks on bytes of a temporary file, freed at its end."""

    def __init__(self, folder: Path) -> None:
        name = f"recbole-signed-{os.getuid()}-{digest(str(folder.resolve()))[:16]}.claims"
        self._file = (Path(tempfile.gettempdir()) / name).open("ab")
        self.taken: set[str] = set()

    def close(self) -> None:
        """Let other processes take on all runs."""
        self._file.close()

    def take(self, name: str, *, wait: bool = False) -> bool:
        """Take a run on, by its hexadecimal id; False where another process has it, unless it is to ``wait``."""
        try:
            fcntl.lockf(self._file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB), 1, int(name, 16))
        except (BlockingIOError, PermissionError):
            return False
        self.taken.add(name)
        return True

    def give_back(self, name: str) -> None:
        """Let other processes take a run on."""
        fcntl.lockf(self._file, fcntl.LOCK_UN, 1, int(name, 16))


class RunProgress:
    """Keeps the rows of runs as they end, and says so on standard error."""

    def __init__(self, store: RowStore, bar: Any, total: int) -> None:
        self.logs = Path(RUNS) / store.file.stem
        self._store, self._bar, self._total = store, bar, total
        self._task = bar.add_task("", total=total)
        self._began, self._running = time.monotonic(), {}  # type: float, dict[str, float]

    def started(self, request: RunSpec) -> None:
        """Show that a run began."""
        self._running[request.title] = time.monotonic()
        self._show()

    def finished(self, request: RunSpec, row: RunRow) -> None:
        """Keep the row of a run, and say what it took or why it failed."""
        self._store.add(row)
        seconds = time.monotonic() - self._running.pop(request.title)
        self.skip(1)
        self.say(
            f"{request.title}: {seconds:.0f} s"
            if row.ok
            else f"{request.title} failed: {row.reason} (its log is in {self.logs})"
        )

    def skip(self, n: int) -> None:
        """Count runs as done that need not be made."""
        self._bar.update(self._task, advance=n)
        self._show()

    def say(self, line: str) -> None:
        """Print a line with the number of runs that are done, and the time since the start."""
        done = f"[{self._bar.tasks[0].completed:.0f}/{self._total}, {time.monotonic() - self._began:.0f} s]"
        self._bar.console.print(done, line, markup=False, highlight=False, soft_wrap=True)

    def _show(self) -> None:
        self._bar.update(self._task, description="; ".join(self._running))
