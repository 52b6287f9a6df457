"""How far the reading of a raw file is, on a terminal."""

from __future__ import annotations

import sys
from collections.abc import Iterator

from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from recbole_signed.convert.batch import Batch


def shown(batches: Iterator[Batch], name: str) -> Iterator[Batch]:
    """Give the batches on, and show on standard error how many rows have come, if that is a terminal.

    How many there will be is not known before: files are compressed, and rows are left out.
    """
    if not sys.stderr.isatty():
        yield from batches
        return
    rows = 0
    columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task(f"{name}: reading")
        for batch in batches:
            rows += batch.frame.height
            progress.update(task, description=f"{name}: {rows:,} rows read")
            yield batch
