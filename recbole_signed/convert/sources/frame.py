"""A table in memory (polars, pandas, Arrow) as a data set: the source ``csv`` without a file."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import polars as pl

from recbole_signed.convert.base import Features
from recbole_signed.convert.build import write_dataset
from recbole_signed.convert.options import read
from recbole_signed.convert.sources.csv_table import CsvTable, Options, features_of
from recbole_signed.convert.tables import RawTable, TypedTable
from recbole_signed.errors import UsageError

_ORIGIN = Path("the frame")
_FILE_OPTIONS = ("columns", "separator", "quote", "encoding")  # options of `csv` that say how a file is to be read

_UNREADABLE = (pl.exceptions.PolarsError, NotImplementedError, OSError, TypeError, ValueError, OverflowError)
"""What polars and Arrow raise where a table doesn't suit them, or what it is read from is not there."""


@dataclass(frozen=True)
class _Frame(TypedTable):
    index: tuple[str, ...]  # names of the columns that are the index of a pandas table, and so left out

    def hint(self, column: str | None = None) -> str:
        if self.index and column in (None, *self.index):
            return f"; its index holds {', '.join(map(repr, self.index))}: give the table with reset_index()."
        return super().hint(column)


class FrameTable(CsvTable):
    """Reads one table in memory by the names of its columns."""

    name = "the frame"
    licence = "as the owner of the data says"
    input_needed = False

    def __init__(self, frame: Any, options: Options, items: Any = None, users: Any = None) -> None:
        super().__init__(None, options)
        self._frame, self._index, self._beside = as_polars(frame), _index_of(frame), {"item": items, "user": users}

    def _features_in(self, kind: str) -> Features | None:
        """Return the features in a table whose ids are in a column of the interactions' name, or in ``item_id``."""
        table = self._beside[kind]
        if table is None:
            return None
        frame = as_polars(table)
        read = _Frame(Path(f"{kind} features"), tuple(frame.columns), frame.lazy(), _index_of(table))
        return features_of(read, kind, (self._column_of[kind], f"{kind}_id"), f"the table of {kind}s")

    @cached_property
    def _table(self) -> RawTable:
        return _Frame(_ORIGIN, tuple(self._frame.columns), self._frame.lazy(), self._index)


def convert_frame(frame: Any, target: Path, items: Any = None, users: Any = None, **options: Any) -> Path:
    """Make the data set folder ``target`` from a table in memory, with the rules and checks of ``convert csv``."""
    for name in _FILE_OPTIONS:
        if name in options:
            raise UsageError(f"The option {name!r} is about reading a file; leave it out for a table in memory.")
    shared, own = read(Options, options, None)
    return write_dataset(FrameTable(frame, own, items, users), "csv", target, shared)


def as_polars(frame: Any) -> pl.DataFrame:
    """Return a polars, pandas or Arrow table as a polars frame, without a copy where that is possible."""
    table, root = frame, type(frame).__module__.partition(".")[0]
    try:
        if isinstance(frame, pl.LazyFrame):
            table = frame.collect()
        elif root == "pandas" and hasattr(frame, "columns"):
            table = _from_pandas(frame)
        elif root == "pyarrow" or (hasattr(frame, "__arrow_c_stream__") and not isinstance(frame, pl.DataFrame)):
            table = pl.from_arrow(frame)
    except UsageError:
        raise
    except _UNREADABLE as error:
        raise UsageError(f"the {root} table can't be read ({str(error).splitlines()[0]}).") from error
    if not isinstance(table, pl.DataFrame):
        raise UsageError(f"a table was expected, a polars, pandas or Arrow one, not {type(frame).__name__}.")
    if not table.width:
        raise UsageError("the table has no columns; give one with a column of ids.")
    return table


def _index_of(table: Any) -> tuple[str, ...]:
    """Return the names of the index of a pandas table; none of other tables."""
    names = getattr(getattr(table, "index", None), "names", ())
    return tuple(str(name) for name in names if name is not None)


def _from_pandas(frame: Any) -> pl.DataFrame:
    """Return a pandas frame as polars; its index is left out."""
    if not frame.columns.is_unique:
        twice = frame.columns[frame.columns.duplicated()][0]
        raise UsageError(f"the pandas table has several columns {twice!r}; rename or drop all but one.")
    return pl.DataFrame({str(name): _column_of_pandas(frame[name], name) for name in frame.columns})


def _column_of_pandas(values: Any, name: Any) -> Any:
    try:
        try:
            return pl.from_pandas(values)
        except ImportError:  # polars reads columns of objects by pyarrow
            return pl.Series(values.astype(object).where(values.notna(), None).tolist())
    except _UNREADABLE as error:
        raise UsageError(
            f"the column {str(name)!r} of the pandas table can't be read ({str(error).splitlines()[0]}); if its values "
            f"are of several types, make them text: frame[{name!r}].astype(str)."
        ) from error
