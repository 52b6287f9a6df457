"""Features of users or items in a table of one row for each: a file, or a table in memory."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace

import polars as pl

from recbole_signed.convert.atomic import GUESS
from recbole_signed.convert.base import Features
from recbole_signed.convert.batch import Batch
from recbole_signed.convert.columns import DECIMAL_COMMA, DECIMAL_POINT, PlainIds
from recbole_signed.convert.tables import RawTable
from recbole_signed.errors import UsageError, nearest

_NO_TEXT = (pl.Duration, pl.Binary, pl.Object)
"""Types of columns that are neither numbers nor can be written as text."""
_BETWEEN, _MARKS, _NESTED = r"[|;,]", r"""[\[\]"']""", r"""^(\["|\{")"""
"""What stands between the values of a list in a text file, what around them, and how JSON that is nested begins."""
_COMMA_NUMBER = r"^([+-]?[0-9]+),([0-9]+)$"


def features_of(
    table: RawTable,
    kind: str,
    own: Collection[str],
    what: str,
    *,
    lists: Collection[str] = (),
    decimal: str = DECIMAL_POINT,
) -> Features:
    """Return the features in a table.

    Args:
        table: with a column of ids; all others are features.
        kind: ``user`` or ``item``.
        own: the names that the column of ids may have; the first is that of the interactions.
        what: the table, for messages.
        lists: columns of a text file that hold several values.
        decimal: what stands before the decimals of numbers in text.

    Raises:
        UsageError: there is no such column of ids or lists, or a column holds what can't be a feature.
    """
    id_column, first = f"{kind}_id", next(iter(own))
    column = next((each for each in own if each in table.columns), None)
    if column is None:
        has = f"; it has {', '.join(table.columns)}."
        hint = table.hint(first) or nearest(first, table.columns) or has
        raise UsageError(f"{what} has no column '{first}' of ids{hint}")
    if column != id_column and id_column in table.columns:
        raise UsageError(f"{what} has ids in the columns {column!r} and {id_column!r}; drop one.")
    read = list(table.batches(table.columns))
    if table.is_text:
        ids = PlainIds(decimal)
        types = {name: "token_seq" if name in lists else GUESS for name in table.columns if name != column}
        rows = [_of_text(replace(each, names={id_column: column}), column, id_column, types, decimal) for each in read]
        return Features([ids.plain(each, id_column) for each in rows], types, blanks=True)
    schema = read[0].frame.schema
    types = {name: _type_of(name, dtype, what) for name, dtype in schema.items() if name != column}
    return Features([_of_values(each, column, id_column, types) for each in read], types, blanks=True)


def _of_text(batch: Batch, column: str, id_column: str, types: dict[str, str], decimal: str) -> Batch:
    batch = without_blank_rows(batch)
    columns = [pl.col(column).alias(id_column)]
    for name, type_ in types.items():
        values = pl.col(name).str.strip_chars()
        if type_ == "token_seq":
            values = _joined(values.str.replace_all(_MARKS, "").str.replace_all(_BETWEEN, "|").str.split("|"))
        else:
            batch = batch.require(
                ~batch.frame[name].str.contains(_NESTED),
                "column {column!r} holds {value}; give lists={column} if these are lists, or drop the column",
                name,
            )
        if decimal == DECIMAL_COMMA and type_ == GUESS:
            values = values.str.replace(_COMMA_NUMBER, "$1.$2")
        columns.append(values)
    return batch.select(*columns)


def without_blank_rows(batch: Batch) -> Batch:
    """Leave out the rows of a text file whose cells are all blank, as a spreadsheet writes them below the others."""
    return batch.keep(batch.frame.select(pl.any_horizontal(pl.all().str.strip_chars() != "")).to_series())


def _type_of(name: str, dtype: pl.DataType, what: str) -> str:
    inner = dtype.inner if isinstance(dtype, (pl.List, pl.Array)) else None
    if (inner or dtype) in _NO_TEXT or (inner or dtype).is_nested():
        raise UsageError(f"column {name!r} of {what} holds {dtype}; give numbers, texts, dates, or lists.")
    if inner is not None:
        return "float_seq" if inner.is_numeric() else "token_seq"
    return "float" if dtype.is_numeric() or dtype == pl.Boolean else "token"


def _of_values(batch: Batch, column: str, id_column: str, types: dict[str, str]) -> Batch:
    batch = replace(batch, names={id_column: column})
    columns = [pl.col(column).alias(id_column)]
    for name, type_ in types.items():
        if type_ == "float_seq":
            batch = _without_gaps(batch, name)
        values = pl.col(name)
        if type_.endswith("_seq"):
            values = _joined(values.cast(pl.List(pl.String)))
        columns.append(values if type_ == "float" else values.cast(pl.String))
    return batch.select(*columns)


def _without_gaps(rows: Batch, column: str) -> Batch:
    """Refuse lists of numbers with a place that holds none: in a file the numbers after it would move up.

    Raises:
        UsageError: there is one, with its row.
    """
    lists = rows.frame[column]
    finite = lists.cast(pl.List(pl.Float64)).list.eval(pl.element().is_finite().fill_null(False)).list.all()
    return rows.require(
        finite.fill_null(True),
        "the list in column {column!r} has a place without a finite number; fill it, or give no list",
        column,
    )


def _joined(lists: pl.Expr) -> pl.Expr:
    """Write lists of text as a file has them: blanks separate the values, so the words of one are joined by hyphens."""
    words = pl.element().str.strip_chars().str.replace_all(r"\s+", "-").replace("", None)
    return lists.list.eval(words).list.drop_nulls().list.join(" ")
