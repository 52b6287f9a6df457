"""Times as sources write them (unix seconds to nanoseconds, dates as text, typed columns) as unix seconds."""

from __future__ import annotations

from typing import Literal

import polars as pl

from recbole_signed.convert.batch import FIX_ROW, Batch
from recbole_signed.convert.columns import numbers_in, unrounded
from recbole_signed.convert.time_formats import TimeFormat, unix_seconds
from recbole_signed.errors import UsageError
from recbole_signed.ids_and_times import BELOW, PER_SECOND, UNIT_NAMES, UNITS, fits, unit_of, usual_unit

TimeUnit = Literal["auto", "s", "ms", "us", "ns"]
_ISO = (
    r"^\s*(?P<year>[0-9]{4})[-/](?P<month>[0-9]{1,2})[-/](?P<day>[0-9]{1,2})"
    r"(?:[T ]+(?P<hour>[0-9]{1,2}):(?P<minute>[0-9]{2})"
    r"(?::(?P<second>[0-9]{2})(?:[.,](?P<fraction>[0-9]{1,9})[0-9]*)?)?)?"
    r"\s*(?:Z|UTC|(?P<side>[+-])(?P<off_hours>[0-9]{2}):?(?P<off_minutes>[0-9]{2})?)?\s*$"
)
_WHOLE = "\0whole"  # no column of a raw file is called so
_WANTED = "unix time or a date like 2020-07-05 or 2020-07-05T00:08:23Z was expected"


class Clock:
    """Converts the time column of one source, batch after batch, with one unit and one notation for all of them.

    Whole seconds stay whole; parts of a second are kept as a fraction. A date without an offset is UTC.

    Args:
        unit: of numbers; ``auto`` takes it from the size of most numbers of the first batch.
        notation: of dates; None for ISO's.
        decimal: what stands before the decimals of numbers in text, as of :func:`recbole_signed.convert.number`.
        remedy: what helps where a text is no time, as the rest of a sentence.
    """

    def __init__(
        self,
        unit: TimeUnit = "auto",
        notation: TimeFormat | None = None,
        decimal: str | None = None,
        remedy: str = "",
    ) -> None:
        self._unit: str | None = None if unit == "auto" else unit
        self._given = unit != "auto"
        self._notation, self._decimal, self._remedy = notation, decimal, remedy
        self._dates: bool | None = None  # whether text holds dates rather than numbers; not known yet

    def seconds(self, batch: Batch, column: str) -> Batch:
        """Turn ``column`` into unix seconds: float64, exact for whole seconds, to the microsecond for parts.

        Raises:
            UsageError: a missing time, or one that is neither a number nor a date (with file and row).
        """
        values, shown = batch.frame[column], batch.called(column)
        if self._notation is not None:
            return self._in_notation(batch, column, self._notation)
        if values.dtype == pl.String:
            return self._from_text(batch, column)
        missing = values.is_null() | values.is_nan() if values.dtype.is_float() else values.is_null()
        batch = batch.require(~missing, lambda i: f"no time in column {shown!r}; {_WANTED}", column, remedy=FIX_ROW)
        values = batch.frame[column]
        if values.dtype == pl.Date:
            return batch.with_columns(values.cast(pl.Int64).cast(pl.Float64) * 86400)
        if isinstance(values.dtype, pl.Datetime):
            return batch.with_columns(_divide(values.to_physical(), values.dtype.time_unit))
        if values.dtype.is_numeric():
            return self._from_numbers(batch, column, values)
        raise UsageError(f"{batch.origin}: column {shown!r} holds {values.dtype}; {_WANTED}.")

    def _in_notation(self, batch: Batch, column: str, notation: TimeFormat) -> Batch:
        shown, dtype = batch.called(column), batch.frame.schema[column]
        if not (dtype == pl.String or dtype.is_integer()):  # 20200705 may be an integer
            raise UsageError(
                f"{batch.origin}: column {shown!r} holds {dtype}, and time_format= is for dates in text; leave it out."
            )
        batch = batch.with_columns(pl.col(column).cast(pl.String).str.strip_chars().fill_null(""))
        text = batch.frame[column]
        batch = batch.require(
            text != "",
            lambda i: f"no time in column {shown!r}; a date in the notation {notation.text} was expected",
            column,
            remedy=FIX_ROW,
        )
        text = batch.frame[column]
        seconds = notation.seconds(text)
        return batch.with_columns(seconds.alias(column)).require(
            seconds.is_not_null(),
            lambda i: f"time {text[i]!r} in column {shown!r} is no date in the notation time_format={notation.text}",
            column,
            remedy=FIX_ROW,
        )

    def _from_numbers(self, batch: Batch, column: str, values: pl.Series, whole: pl.Series | None = None) -> Batch:
        """Divide numbers by the unit; ``whole`` has the same as integers where they are, null elsewhere."""
        size, shown = values.cast(pl.Float64).abs(), batch.called(column)
        if self._unit is None and values.len():
            self._unit = usual_unit(size.to_numpy())
        unit = self._unit or "s"
        seconds = _divide(values, unit)
        if whole is not None:
            seconds = _divide(whole, unit).fill_null(seconds)
        batch = batch.with_columns(seconds.alias(column))
        return batch.require(
            size < BELOW[unit] if self._given else fits(size, unit),
            lambda i: (
                f"time {values[i]} in column {shown!r} is too {'large' if size[i] >= BELOW[unit] else 'small'} for "
                f"unix time in {unit} (by its size it counts {UNIT_NAMES[unit_of(size[i])]}); correct the row, or give "
                f"time_unit= one of {', '.join(UNITS)}"
            ),
            column,
        )

    def _from_text(self, batch: Batch, column: str) -> Batch:
        batch = unrounded(batch.with_columns(pl.col(column).str.strip_chars()), column, "times")
        text, shown = batch.frame[column], batch.called(column)
        batch = batch.require(text != "", lambda i: f"no time in column {shown!r}; {_WANTED}", column, remedy=FIX_ROW)
        text = batch.frame[column]
        if not text.len():
            return batch.with_columns(text.cast(pl.Float64))
        whole = text.cast(pl.Int64, strict=False)
        if whole.null_count() == 0 and not self._dates:
            self._dates = False
            return self._from_numbers(batch, column, whole)
        numbers = numbers_in(text, self._decimal)
        numeric = numbers.is_finite().fill_null(False)
        if self._dates is None:
            self._dates = False if numeric.all() else _mostly_dates(numeric, _from_iso(text).is_not_null())
        seconds = numbers if not self._dates else _from_iso(text)
        known = numeric if not self._dates else seconds.is_not_null()
        batch = batch.with_columns(seconds.alias(column), whole.alias(_WHOLE)).require(
            known,
            lambda i: f"time {text[i]!r} in column {shown!r}; {_WANTED}, and one kind in the whole column",
            column,
            remedy=self._remedy,
        )
        rest, whole = batch.frame[column], batch.frame[_WHOLE]
        batch = batch.select(pl.exclude(_WHOLE))
        return batch if self._dates else self._from_numbers(batch, column, rest, whole)


def _mostly_dates(numeric: pl.Series, dated: pl.Series) -> bool:
    """Tell what a column of text holds that has both, or neither: what most rows are, else what the first is."""
    numbers, dates = int(numeric.sum()), int(dated.sum())
    if numbers != dates:
        return dates > numbers
    return not numeric.any() or (dated.arg_max() or 0) < (numeric.arg_max() or 0)


def _divide(values: pl.Series, unit: str) -> pl.Series:
    per_second = PER_SECOND[unit]
    if per_second == 1:
        return values.cast(pl.Float64)
    if values.dtype.is_float():
        return values.cast(pl.Float64) / per_second
    values = values.cast(pl.Int64, strict=False)
    whole = (values // per_second).cast(pl.Float64)  # apart from the fraction, so that whole seconds stay exact
    return whole + (values % per_second).cast(pl.Float64) / per_second


def _from_iso(text: pl.Series) -> pl.Series:
    """Unix seconds, null where the text is not a date."""
    parts = text.str.extract_groups(_ISO).struct.unnest()
    # after a date alone, "-12" may as well be an hour
    unclear = parts["hour"].is_null() & parts["off_hours"].is_not_null() & parts["off_minutes"].is_null()
    return unix_seconds(parts).set(unclear, None)
