"""What ``compare`` says while it works: a line for each run that ended, and a bar where there is a terminal."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from recbole_signed.plugin.assignments import RUNS
from recbole_signed.runs.rows import RowStore, RunRow
from recbole_signed.runs.spec import RunSpec


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


@contextmanager
def run_progress(total: int, store: RowStore) -> Iterator[RunProgress]:
    """Show the progress of so many runs, whose rows go into a store."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TextColumn("{task.description}", markup=False))
    console = Console(stderr=True)
    with Progress(*columns, console=console, disable=not console.is_terminal) as bar:
        yield RunProgress(store, bar, total)
