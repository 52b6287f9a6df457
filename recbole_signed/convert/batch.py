"""Rows on their way from a raw file to an atomic file, each still knowing where it came from.

Bad ones stop the conversion, or (``on_error=skip``) go to a file and are counted; which of the two is a context
variable. Lines that no parser could read are blanked, so that others keep their numbers.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import IO, Any

import numpy as np
import polars as pl

from recbole_signed.errors import UsageError

Frame = pl.DataFrame | pl.LazyFrame
FIX_ROW = "correct or drop the row, or leave out all bad rows with on_error=skip"  # where a value is missing or unfit
_HEADER = ("file", "row", "column", "reason", "raw row")
_ESCAPES = str.maketrans({"\\": "\\\\", "\t": "\\t", "\n": "\\n", "\r": "\\r", "\0": "\\0"})


class Rejects:
    """Takes bad rows and writes them as escaped tab-separated text: file, line or row, column, reason, the raw row."""

    def __init__(self, path: Path | None) -> None:
        self.counts: dict[str, int] = {}  # rows taken, by the name of their file
        self.first: str | None = None  # place and reason of the first of them
        self.first_row: int | None = None
        self._path = path
        self._file: IO[str] | None = None

    @property
    def rows(self) -> int:
        """How many rows were taken."""
        return sum(self.counts.values())

    def add(self, origin: str, unit: str, row: int, column: str | None, reason: str, raw: str) -> None:
        """Take a bad row; ``unit`` is what ``row`` counts, ``line`` or ``row``."""
        self.counts[origin] = self.counts.get(origin, 0) + 1
        if self.first is None:
            self.first, self.first_row = f"{origin}, {unit} {row}: {reason}", row
        if self._path is None:
            return
        if self._file is None:
            self._file = self._path.open("w", encoding="utf-8", errors="backslashreplace", newline="\n")
            self._file.write("\t".join(_HEADER) + "\n")
        cells = (origin, str(row), column or "", reason, raw)
        self._file.write("\t".join(cell.translate(_ESCAPES) for cell in cells) + "\n")

    def close(self) -> None:
        """Write everything out; further rows are only counted."""
        if self._file is not None:
            self._file.close()
        self._file = self._path = None

    def as_dict(self) -> dict[str, Any]:
        """What ``dataset.json`` says about the rows that were left out."""
        return {"rows": self.rows, "files": dict(sorted(self.counts.items()))}


_current: ContextVar[Rejects | None] = ContextVar("rejects", default=None)


def current() -> Rejects | None:
    """Where bad rows go in the conversion under way; None where they stop it."""
    return _current.get()


@contextmanager
def using(rejects: Rejects | None) -> Iterator[Rejects | None]:
    """Send bad rows to ``rejects`` inside the block; None lets them stop. Not to be left open over a ``yield``."""
    token = _current.set(rejects)
    try:
        yield rejects
    finally:
        _current.reset(token)
        if rejects is not None:
            rejects.close()


@contextmanager
def unrecorded() -> Iterator[Rejects | None]:
    """Leave bad rows out without recording them, for a first look at a file that is then read again."""
    with using(None if current() is None else Rejects(None)) as rejects:
        yield rejects


def refuse(origin: str, line: int, reason: str, raw: Callable[[int], str]) -> None:
    """Take a bad line of text, whose text ``raw`` gives by its number."""
    taker = current()
    if taker is None:
        raise UsageError(f"{origin}, line {line}: {reason}.")
    taker.add(origin, "line", line, None, reason, raw(line))


class RawText:
    """The lines of a block by their number; ``starts`` are those at which records of several lines begin, ``[n]``."""

    def __init__(self, block: bytes, first_line: int, starts: Sequence[int] | np.ndarray | None = None) -> None:
        self._block, self._first, self._starts = block, first_line, starts

    @cached_property
    def _lines(self) -> list[bytes]:
        return self._block.split(b"\n")

    def __call__(self, line: int) -> str:
        """Give the record that begins at this line, without its last line end."""
        end = line + 1
        if self._starts is not None:
            following = int(np.searchsorted(self._starts, line, side="right"))
            end = int(self._starts[following]) if following < len(self._starts) else self._first + len(self._lines)
        text = b"\n".join(self._lines[line - self._first : end - self._first])
        return text.decode("utf-8", "backslashreplace").rstrip("\n")


def blank_lines(
    block: bytes, bad: re.Pattern[bytes], first_line: int, origin: str, reason: Callable[[re.Match[bytes]], str]
) -> bytes:
    """Refuse the lines in which ``bad`` is found, or return the block with only their line ends left."""
    raw = block.decode("utf-8", "surrogatepass").encode("utf-8", "surrogateescape")  # as the file has it
    text, lines = RawText(raw, first_line), block.split(b"\n")
    for index, line in enumerate(lines):
        if match := bad.search(line):
            refuse(origin, first_line + index, reason(match), text)
            lines[index] = b""
    return b"\n".join(lines)


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

    def keep(self, stays: pl.Series) -> Batch:
        """Go on with the rows for which ``stays`` is true (bool ``[n]``); null counts as false."""
        stays = stays.fill_null(False)
        if stays.all():
            return self
        rows = self.rows  # NumPy would take a range element by element
        rows = np.arange(rows.start, rows.stop, rows.step) if isinstance(rows, range) else np.asarray(rows)
        return replace(self, frame=self.frame.filter(stays), rows=rows[stays.to_numpy()])

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
        taker = current()
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
