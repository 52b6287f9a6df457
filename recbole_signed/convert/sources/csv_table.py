"""The source ``csv``: any table (CSV, TSV, JSON lines, parquet) by the names of its columns, and tables of features."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import polars as pl

from recbole_signed.convert.atomic import GUESS, STANDARD, TYPES
from recbole_signed.convert.base import Converter, Features
from recbole_signed.convert.batch import FIX_ROW, Batch
from recbole_signed.convert.clock import Clock, TimeFormat, TimeUnit
from recbole_signed.convert.columns import (
    DECIMAL_COMMA,
    DECIMAL_POINT,
    PlainIds,
    is_comma_number,
    number,
    rule_from,
    sign,
    sign_by_rule,
    token,
)
from recbole_signed.convert.options import option
from recbole_signed.convert.sign_rule import SignRule
from recbole_signed.convert.tables import JsonLines, RawTable, open_table, without_nested
from recbole_signed.errors import UsageError, ending, nearest
from recbole_signed.files import require_file

# Names under which a column is found without being named, compared in lower case without underscores and blanks.
_USUAL = {
    "user": ("userid", "user", "uid"),
    "item": ("itemid", "item", "iid"),
    "rating": ("rating",),
    "sign": ("sign",),
    "time": ("timestamp", "time", "date", "datetime"),
}
_OTHER_DATES = (
    "for dates in another notation give time_format=, such as %d/%m/%Y where the day is first, or %m/%d/%Y where the "
    "month is"
)
_FIX_RATING = f"{FIX_ROW}, or keep no ratings with rating=none"
_FIELD = {"user": "user_id", "item": "item_id", "rating": "rating", "sign": "sign", "time": "timestamp"}
_NO_TEXT = (pl.Duration, pl.Binary, pl.Object)  # types of columns that are neither numbers nor can be written as text
_BETWEEN, _MARKS, _NESTED = r"[|;,]", r"""[\[\]"']""", r"""^(\["|\{")"""
"""What stands between the values of a list in a text file, what around them, and how JSON that is nested begins."""
_COMMA_NUMBER = r"^([+-]?[0-9]+),([0-9]+)$"


@dataclass(frozen=True)
class Options:
    """Which column is what, how the sign comes about, and how the file is to be read."""

    user: str | None = option(None, "column of the user id; default: user_id, user, userId or uid")
    item: str | None = option(None, "column of the item id; default: item_id, item, itemId or iid")
    rating: str | None = option(None, "column of the rating, or none; default: rating, if there is one")
    sign: str | None = option(None, "column that holds -1, 0, 1; default: sign, if there is one and no rule")
    time: str | None = option(None, "column of the time, or none; default: timestamp, time, date or datetime")
    like: str | None = option(None, "rule for likes on any columns, e.g. 'rating >= 4'")
    dislike: str | None = option(None, "rule for dislikes, e.g. 'rating <= 2', or 'else', or none")
    keep: tuple[str, ...] = option((), "further columns to carry over, each cell filled, e.g. 'price,brand:token'")
    columns: tuple[str, ...] = option((), "names of all columns of a file without header, e.g. 'user,item,rating'")
    separator: str | None = option(None, "tab, comma, semicolon, pipe, space, whitespace or any text; else guessed")
    quote: str = option('"', "character that quotes fields, or none")
    encoding: str = option("utf-8", "of a text file; UTF-16 is seen by itself")
    decimal: str = option(".", "what stands before the decimals of numbers in text: . or ,")
    time_unit: TimeUnit = option("auto", "of numeric times; auto goes by their size")  # noqa: RUF009
    time_format: str | None = option(None, "of dates in text that are not ISO's, by strftime's codes, e.g. %d/%m/%Y")


@dataclass(frozen=True)
class FileOptions(Options):
    """Also, which files hold the features of items and users."""

    items: Path | None = option(None, "file of the items, one row each: names and features")  # noqa: RUF009
    users: Path | None = option(None, "the same of the users")  # noqa: RUF009
    lists: tuple[str, ...] = option((), "columns of items and users with several values, as in Action|Comedy")


class CsvTable(Converter):
    """Reads one table; header or ``columns=`` give its column names."""

    name = "csv"
    summary = "any CSV, TSV, JSON lines or parquet file (text also as .gz, .xz, .zst), by column names"
    licence = "as the owner of the input file says"
    options_class = FileOptions
    options: Options

    def __init__(self, input: Path | None, options: Options) -> None:
        super().__init__(input, options)
        if input is not None:
            require_file(input, "one file in it, or a table of all its files to recbole_signed.from_frame")
        if options.like is not None and options.sign is not None:
            raise UsageError("Both sign= and like= were given; the sign comes from a column or from a rule, not both.")
        if len(options.quote) != 1 and options.quote != "none":
            raise UsageError(f"quote={options.quote!r} is not one character; give one, or none.")
        if options.decimal not in (DECIMAL_POINT, DECIMAL_COMMA):
            raise UsageError(f"decimal={options.decimal!r} is neither a point nor a comma; give decimal=. or decimal=,")
        if options.time_format is not None and options.time_unit != "auto":
            raise UsageError("Both time_unit= and time_format= were given; times are numbers or dates, not both.")
        self._notation = None if options.time_format is None else TimeFormat(options.time_format)
        self._rule = rule_from(options.like, options.dislike)
        self._feature_tables = self._opened()

    @property
    def rule(self) -> SignRule | None:
        """The rule given as ``like`` and ``dislike``."""
        return self._rule

    def inputs(self) -> list[Path]:
        """Give the file of interactions, and those of items and users."""
        return [*super().inputs(), *(table.path for table in self._feature_tables.values())]

    def item_features(self) -> Features | None:
        """The items, if they were given."""
        return self._features_in("item")

    def user_features(self) -> Features | None:
        """The users, if they were given."""
        return self._features_in("user")

    def _opened(self) -> dict[str, RawTable]:
        """Return the opened files of features."""
        if not isinstance(self.options, FileOptions):
            return {}
        files = {"item": self.options.items, "user": self.options.users}
        tables = {kind: open_table(path, encoding=self.options.encoding) for kind, path in files.items() if path}
        columns = [column for table in tables.values() for column in table.columns]
        for name in self.options.lists:
            if name not in columns:
                raise UsageError(
                    f"lists names {name!r}, but no file of items or users has such a column{ending(name, columns)}"
                )
        return tables

    def _features_in(self, kind: str) -> Features | None:
        table = self._feature_tables.get(kind)
        if table is None:
            return None
        plain = {_plain(name): name for name in reversed(table.columns)}
        usual = [plain[name] for name in _USUAL[kind] if name in plain]
        own = self._column_of[kind], f"{kind}_id", *usual
        assert isinstance(self.options, FileOptions)
        return features_of(table, kind, own, table.path.name, lists=self.options.lists, decimal=self.options.decimal)

    @cached_property
    def _table(self) -> RawTable:
        return open_table(
            self.input,
            columns=self.options.columns,
            separator=self.options.separator,
            quote=None if self.options.quote == "none" else self.options.quote,
            encoding=self.options.encoding,
        )

    @cached_property
    def _column_of(self) -> dict[str, str]:
        """The file's column for each of user, item, rating, sign, time that it has one for."""
        column_of: dict[str, str] = {}
        plain = {_plain(name): name for name in reversed(self._table.columns)}
        for role, usual in _USUAL.items():
            given = getattr(self.options, role)
            column = given or next((plain[name] for name in usual if name in plain), None)
            if given == "none" and given not in self._table.columns:
                continue
            if column is not None and (role != "sign" or self._rule is None):
                column_of[role] = column
        for role in ("user", "item"):
            if role not in column_of:
                names = self._table.columns
                if hint := self._table.hint():
                    has = f"columns {', '.join(map(repr, names))}" if len(names) > 1 else f"column {names[0]!r} alone"
                    raise UsageError(f"{self._table.path.name} has the {has}{hint}")
                named = self.options.columns or not self._table.is_text
                hint = "" if named else "; a file without header needs columns= with all names in order"
                raise UsageError(
                    f"{self._table.path.name} has the columns {', '.join(map(repr, names))}: "
                    f"give {role}= the one of the {role} ids{hint}."
                )
        if column_of["user"] == column_of["item"]:
            raise UsageError(f"user= and item= are both {column_of['user']!r}; give the column of each.")
        if self._notation is not None and "time" not in column_of:
            raise UsageError(
                f"time_format= was given, but {self._table.path.name} has no column of times under a usual name; give "
                "time= the one."
            )
        if self._rule is None and "sign" not in column_of:
            raise UsageError(
                "What is a like was not said; give a rule such as like='rating >= 4' dislike='rating <= 2', "
                "or sign= a column of -1, 0, 1."
            )
        return column_of

    @cached_property
    def _keep(self) -> dict[str, str | None]:
        """Raw columns to carry over, with their type where it was given."""
        keep: dict[str, str | None] = {}
        for entry in self.options.keep:
            name, colon, type_ = entry.rpartition(":")
            if not colon or entry in self._table.columns:
                name, type_ = entry, ""
            if type_ and type_ not in TYPES:
                raise UsageError(f"keep={entry!r} has the type {type_!r}; use one of {', '.join(TYPES)}, or none.")
            if name in STANDARD and name not in self._column_of.values():
                raise UsageError(f"keep={name!r} would stand twice in the data set; rename that column.")
            if name not in self._column_of.values():
                keep[name] = type_ or None
            elif type_:
                raise UsageError(f"keep={entry!r} gives a type to a column that is converted anyway; give none.")
        return keep

    @property
    def types(self) -> dict[str, str]:  # type: ignore[override]
        """Types of the kept columns."""
        return {name: type_ or GUESS for name, type_ in self._keep.items() if type_ or self._table.is_text}

    def batches(self) -> Iterator[Batch]:
        """Give the rows of the table."""
        column_of, decimal = self._column_of, self.options.decimal
        clock = Clock(self.options.time_unit, self._notation, decimal, _OTHER_DATES)
        ids = {f"{kind}_id": PlainIds(decimal) for kind in ("user", "item")} if self._table.is_text else {}
        of_rule = {name: self._rule_column(name) for name in (self._rule.columns if self._rule else ())}
        first = True
        for batch in self._table.batches([*column_of.values(), *of_rule.values(), *self._keep]):
            if self._table.is_text and not isinstance(self._table, JsonLines):
                batch = without_blank_rows(batch)
                if not batch.frame.height:
                    continue
            if self._rule is not None:
                batch = sign_by_rule(batch, self._rule, of_rule, decimal)
                made = [pl.col("sign")]
            else:
                batch = sign(batch, column_of["sign"], decimal)
                made = [pl.col(column_of["sign"]).alias("sign")]
            # the raw columns are copied first: one of them may also be the time, the rating or the sign
            roles = [role for role in column_of if role != "sign"]
            kept = [pl.col(name).str.strip_chars() if self._table.is_text else pl.col(name) for name in self._keep]
            batch = batch.select(*(pl.col(column_of[role]).alias(_FIELD[role]) for role in roles), *made, *kept)
            batch = replace(batch, names={_FIELD[role]: column for role, column in column_of.items()})
            if isinstance(self._table, JsonLines):
                batch = without_nested(without_nested(batch, "user_id"), "item_id")
            if first and self.options.columns and self._table.is_text:
                batch = self._without_header(batch)
            first = False
            for name, plain_ids in ids.items():
                batch = plain_ids.plain(batch, name)
            batch = token(token(batch, "user_id"), "item_id")
            if "rating" in column_of:
                batch = number(batch, "rating", purpose="the rating", remedy=_FIX_RATING, decimal=decimal)
            if "time" in column_of:
                batch = clock.seconds(batch, "timestamp")
            yield self._with_decimals(batch)

    def _without_header(self, batch: Batch) -> Batch:
        """Refuse a header in a file that has none by ``columns=``: a rule of words takes it for a row."""
        names = {role: {*_USUAL[role], _plain(self._column_of[role])} for role in ("user", "item")}
        header = np.zeros(batch.frame.height, bool)
        header[:1] = any(_plain(batch.frame[_FIELD[role]][0]) in of for role, of in names.items())
        problem = "the line is a header, and columns= is for files without one; leave out columns=, or that line"
        return batch.require(~header, problem)

    def _with_decimals(self, batch: Batch) -> Batch:
        """Read the kept columns of text whose numbers have decimal commas."""
        if self.options.decimal != DECIMAL_COMMA:
            return batch
        for name, type_ in self._keep.items():
            if batch.frame.schema[name] != pl.String:
                continue
            text = batch.frame[name]
            if type_ == "float":
                batch = number(batch, name, purpose="an atomic file", decimal=DECIMAL_COMMA)
            elif type_ == "float_seq":
                has_point = text.str.contains(DECIMAL_POINT, literal=True).fill_null(False)
                problem = "{value!r} in column {column!r} has a point, but decimal=, is set"
                batch = batch.require(~has_point, problem, name, remedy=FIX_ROW)
                batch = batch.with_columns(pl.col(name).str.replace_all(DECIMAL_COMMA, DECIMAL_POINT, literal=True))
            elif type_ is None and self._table.is_text:
                choice = "keep='{column}:float' or keep='{column}:token'"
                problem = f"{{value!r}} in column {{column!r}} is a number or a text; say which by {choice}"
                batch = batch.require(~is_comma_number(text), problem, name, skippable=False)
        return batch

    def _rule_column(self, name: str) -> str:
        """The file's column that the rule calls ``name``: its own name there, or that of its role."""
        role = next((role for role, field in _FIELD.items() if field == name), None)
        if name not in self._table.columns and role in self._column_of:
            return self._column_of[role]
        return name


def _plain(name: str) -> str:
    return name.strip().lower().replace("_", "").replace(" ", "")


def features_of(
    table: RawTable,
    kind: str,
    own: Collection[str],
    what: str,
    *,
    lists: Collection[str] = (),
    decimal: str = DECIMAL_POINT,
) -> Features:
    """Return the features in a table whose column of ids has one of the names ``own``."""
    id_column, first = f"{kind}_id", next(iter(own))
    column = next((name for name in own if name in table.columns), None)
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
        rows = [
            _of_text(replace(batch, names={id_column: column}), column, id_column, types, decimal) for batch in read
        ]
        return Features([ids.plain(batch, id_column) for batch in rows], types, blanks=True)
    schema = read[0].frame.schema
    types = {name: _type_of(name, dtype, what) for name, dtype in schema.items() if name != column}
    return Features([_of_values(batch, column, id_column, types) for batch in read], types, blanks=True)


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
    """Refuse lists of numbers with a place that holds none: in a file the numbers after it would move up."""
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
