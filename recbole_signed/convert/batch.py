"""Rows on their way from a raw file to an atomic file, each still knowing where it came from."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import polars as pl

from recbole_signed.convert import rejects
from recbole_signed.errors import UsageError

Frame = pl.DataFrame | pl.LazyFrame
FIX_ROW = "correct or drop the row, or leave out all bad rows with on_error=skip"  # where a value is missing or unfit


@dataclass(frozen=True)
class Batch:
    """Some rows of a raw file, with their place in it; every complaint about data goes through :meth:`require`."""

    frame: pl.DataFrame
    origin: str  # the file the rows come from, as the user is to read it
    rows: Sequence[int] | np.ndarray  # number of each row in that file `[n]`, counted from 1
    unit: str = "row"  # what `rows` counts: `line` in text files, `row` elsewhere
    raw: Callable[[int], str] | None = None  # gives the text of a row of the file by its number, as it stands there
    names: Mapping[str, str] = field(default_factory=dict)  # for columns of another name in the file, that name

    def called(self, column: str) -> str:
        """Return the name of a column in the file, for the user."""
        return self.names.get(column, column)

    def place(self, index: int) -> str:
        """Name row ``index`` of this batch for the user."""
        return f"{self.origin}, {self.unit} {self.rows[index]}"

    def with_columns(self, *columns: pl.Expr | pl.Series) -> Batch:
        """Replace or add columns; the number of rows stays."""
        return replace(self, frame=self.frame.with_columns(*columns))

    def select(self, *columns: str | pl.Expr | pl.Series) -> Batch:
        """Keep these columns only."""
        return replace(self, frame=self.frame.select(*columns))

    def keep(self, wanted: pl.Series) -> Batch:
        """Go on with the rows that are wanted (bool ``[n]``); null counts as false."""
        wanted = wanted.fill_null(False)
        if wanted.all():
            return self
        rows = self.rows  # NumPy would take a range element by element
        rows = np.arange(rows.start, rows.stop, rows.step) if isinstance(rows, range) else np.asarray(rows)
        return replace(self, frame=self.frame.filter(wanted), rows=rows[wanted.to_numpy()])

    def require(
        self,
        good: pl.Series | np.ndarray,
        problem: str | Callable[[int], str],
        column: str | None = None,
        *,
        skippable: bool = True,
        remedy: str = "",
    ) -> Batch:
        """Go on with the rows that are ``good``, ``[n]``; record or refuse the others, or refuse all if not
        ``skippable``.

        ``problem`` says what is wrong, with ``{column}`` and ``{value}`` or as a function of the row, ``remedy`` what
        helps.
        """

        def said(index: int) -> str:
            if callable(problem):
                return problem(index)
            value = None if column is None else self.frame[column][index]
            return problem.format(value=value, column=column and self.called(column))

        fit = np.asarray(good.fill_null(False) if isinstance(good, pl.Series) else good)
        bad = np.flatnonzero(~fit)
        if not bad.size:
            return self
        taker = rejects.current()
        if taker is None or not skippable:
            index = int(bad[0])
            raise UsageError(f"{self.place(index)}: {said(index)}{remedy and f'; {remedy}'}.")
        for index in map(int, bad):
            row = int(self.rows[index])
            raw = json_row(self.frame, index) if self.raw is None else self.raw(row)
            taker.add(self.origin, self.unit, row, column and self.called(column), said(index), raw)
        return self.keep(pl.Series(fit))


def json_row(frame: pl.DataFrame, index: int) -> str:
    """Give a row of a typed table as text."""
    return json.dumps(frame.row(index, named=True), ensure_ascii=False, default=str)


def as_batches(frames: Iterable[Batch | Frame] | Batch | Frame, origin: str) -> Iterator[Batch]:
    """Give whatever a converter yields as batches; plain frames are counted on from row 1 of ``origin``."""
    done = 0
    for item in [frames] if isinstance(frames, (Batch, pl.DataFrame, pl.LazyFrame)) else frames:
        if isinstance(item, Batch):
            yield item
            continue
        frame = item.collect() if isinstance(item, pl.LazyFrame) else item
        yield Batch(frame, origin, range(done + 1, done + 1 + frame.height))
        done += frame.height
