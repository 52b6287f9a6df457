"""Times as sources write them (unix seconds to nanoseconds, dates as text, typed columns) as unix seconds."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import polars as pl

from recbole_signed.convert.batch import FIX_ROW, Batch
from recbole_signed.convert.columns import numbers_in, unrounded
from recbole_signed.errors import UsageError
from recbole_signed.ids_and_times import BELOW, PER_SECOND, UNIT_NAMES, UNITS, fits, unit_of, usual_unit

TimeUnit = Literal["auto", "s", "ms", "us", "ns"]
_ISO = (
    r"^\s*(?P<year>[0-9]{4})[-/](?P<month>[0-9]{1,2})[-/](?P<day>[0-9]{1,2})"
    r"(?:[T ]+(?P<hour>[0-9]{1,2}):(?P<minute>[0-9]{2})"
    r"(?::(?P<second>[0-9]{2})(?:[.,](?P<fraction>[0-9]{1,9})[0-9]*)?)?)?"
    r"\s*(?:Z|UTC|(?P<side>[+-])(?P<off_hours>[0-9]{2}):?(?P<off_minutes>[0-9]{2})?)?\s*$"
)
_EXPECTED = "unix time or a date like 2020-07-05 or 2020-07-05T00:08:23Z was expected"
_NO_TIME = f"no time in column {{column!r}}; {_EXPECTED}"


_MONTH_NAMES = (
    *("january", "february", "march", "april", "may", "june"),
    *("july", "august", "september", "october", "november", "december"),
)
_MONTHS = {name[:3]: number for number, name in enumerate(_MONTH_NAMES, 1)}
_OFFSET = r"(?:Z|(?P<side>[+-])(?P<off_hours>[0-9]{2}):?(?P<off_minutes>[0-9]{2}))"
_WORDS = {
    "Y": r"(?P<year>[0-9]{4})",
    "y": r"(?P<short_year>[0-9]{2})",
    "b": r"(?P<month_name>[A-Za-z]{3})",
    "B": r"(?P<month_name>[A-Za-z]{3,9})",
    "p": r"(?P<half>[AaPp])[Mm]",
    "f": r"(?P<fraction>[0-9]{1,9})[0-9]*",
    "z": _OFFSET,
    "a": r"[A-Za-z]{3}",
    "A": r"[A-Za-z]{6,9}",
}
_COUNTS = {"d": "day", "m": "month", "H": "hour", "I": "hour", "M": "minute", "S": "second"}  # of one digit or two
_CODES = ", ".join(f"%{code}" for code in "YymbBdHIpMSfzaA")
_DIGITS = {*_COUNTS, "Y", "y", "f"}
_FIRST_SHORT_YEAR = 69  # of the last century, as in Python and POSIX


@dataclass(frozen=True)
class TimeFormat:
    """A notation of dates, by the codes of ``strftime``, such as ``%d/%m/%Y %H:%M``; names of months are English."""

    text: str

    def __post_init__(self) -> None:
        codes = [token[1:] for token in self._tokens if token[0] == "%" and token != "%%"]
        unknown = next((code for code in codes if code not in _WORDS and code not in _COUNTS), None)
        if unknown is not None:
            named = f"the code %{unknown}" if unknown else "a single % at its end"
            raise UsageError(
                f"time_format={self.text!r} has {named}; the codes are {_CODES}, and %% for a percent sign."
            )
        for what, choice in (("year", "Yy"), ("month", "mbB"), ("day", "d")):
            if not any(code in choice for code in codes):
                allowed = " or ".join(f"%{code}" for code in choice)
                raise UsageError(f"time_format={self.text!r} has no {what} ({allowed}); write one such as %d/%m/%Y.")
        for alternatives in ("Yy", "mbB", "d", "HI", "M", "S", "f", "p", "z"):
            if sum(code in alternatives for code in codes) > 1:
                raise UsageError(f"time_format={self.text!r} has %{alternatives[0]} or its like twice; give it once.")
        for code, needed in (("I", "p"), ("p", "I"), ("M", "HI"), ("S", "M"), ("f", "S")):
            if code in codes and not any(partner in codes for partner in needed):
                raise UsageError(f"time_format={self.text!r} has %{code}, which means nothing without %{needed[0]}.")

    @property
    def _tokens(self) -> list[str]:
        """Codes, runs of blanks, and other characters."""
        return re.findall(r"%.|\s+|.", self.text, re.DOTALL)

    @cached_property
    def _pattern(self) -> str:
        tokens, made = self._tokens, []
        digits = [token[0] == "%" and token[1:] in _DIGITS for token in tokens]
        for place, token in enumerate(tokens):
            if token.isspace():
                made.append(r"\s+")
            elif token == "%%" or token[0] != "%":
                made.append(re.escape(token[0]))
            elif token[1] in _COUNTS:
                # 2020115 would be read in two ways
                beside = any(digits[max(place - 1, 0) : place]) or any(digits[place + 1 : place + 2])
                made.append(rf"(?P<{_COUNTS[token[1]]}>[0-9]{{{'2' if beside else '1,2'}}})")
            else:
                made.append(_WORDS[token[1]])
        return rf"^\s*{''.join(made)}\s*$"

    def seconds(self, text: pl.Series) -> pl.Series:
        """Return unix seconds, float64 ``[n]``, null where a text is no date in this notation; without offset UTC."""
        parts = text.str.extract_groups(self._pattern).struct.unnest()
        if "short_year" in parts.columns:
            year = pl.col("short_year").cast(pl.Int32)
            century = pl.when(year < _FIRST_SHORT_YEAR).then(2000).otherwise(1900)
            parts = parts.with_columns((year + century).cast(pl.String).alias("year"))
        if "month_name" in parts.columns:
            name = pl.col("month_name").str.to_lowercase()
            known = name.str.slice(0, 3).replace_strict(_MONTHS, default=None, return_dtype=pl.Int32)
            written = (name.str.len_chars() == 3) | name.is_in(list(_MONTH_NAMES))
            parts = parts.with_columns(pl.when(written).then(known).cast(pl.String).alias("month"))
        if "half" in parts.columns:
            hour = pl.col("hour").cast(pl.Int32)
            of_day = hour % 12 + pl.when(pl.col("half").str.to_lowercase() == "p").then(12).otherwise(0)
            no_hour = 99  # which makes the whole time none
            fits = pl.when(hour.is_between(1, 12)).then(of_day).otherwise(no_hour)
            parts = parts.with_columns(fits.cast(pl.String).alias("hour"))
        return unix_seconds(parts)


def unix_seconds(parts: pl.DataFrame) -> pl.Series:
    """Return the unix seconds of dates by the text of their parts, float64 ``[n]``, null for no such time."""
    none = pl.repeat(None, parts.height, dtype=pl.String, eager=True)

    def part(name: str, otherwise: str) -> pl.Series:
        return (parts[name] if name in parts.columns else none).fill_null(otherwise)

    two = {name: part(name, "00").str.zfill(2) for name in ("month", "day", "hour", "minute", "second")}
    normal = parts["year"] + "-" + two["month"] + "-" + two["day"]
    normal = normal + "T" + two["hour"] + ":" + two["minute"] + ":" + two["second"]
    seconds = normal.str.to_datetime("%Y-%m-%dT%H:%M:%S", strict=False, time_unit="us").dt.epoch("s")
    offset = part("off_hours", "0").cast(pl.Int64) * 3600 + part("off_minutes", "0").cast(pl.Int64) * 60
    offset = offset * (1 - 2 * (part("side", "+") == "-").cast(pl.Int64))
    return (seconds - offset).cast(pl.Float64) + ("0." + part("fraction", "0")).cast(pl.Float64)


class Clock:
    """Converts the time column of one source with one unit and one notation; a date without an offset is UTC."""

    def __init__(
        self, unit: TimeUnit = "auto", notation: TimeFormat | None = None, decimal: str | None = None, remedy: str = ""
    ) -> None:
        self._unit: str | None = None if unit == "auto" else unit
        self._given = unit != "auto"
        self._notation, self._decimal, self._remedy = notation, decimal, remedy
        self._dates: bool | None = None  # whether text holds dates rather than numbers; not known yet

    def seconds(self, batch: Batch, column: str) -> Batch:
        """Turn ``column`` into unix seconds: float64, exact for whole seconds, to the microsecond for parts."""
        values, shown = batch.frame[column], batch.called(column)
        if self._notation is not None:
            return self._in_notation(batch, column, self._notation)
        if values.dtype == pl.String:
            return self._from_text(batch, column)
        missing = values.is_null() | values.is_nan() if values.dtype.is_float() else values.is_null()
        batch = batch.require(~missing, _NO_TIME, column, remedy=FIX_ROW)
        values = batch.frame[column]
        if values.dtype == pl.Date:
            return batch.with_columns(values.cast(pl.Int64).cast(pl.Float64) * 86400)
        if isinstance(values.dtype, pl.Datetime):
            return batch.with_columns(_divide(values.to_physical(), values.dtype.time_unit))
        if values.dtype.is_numeric():
            return self._from_numbers(batch, column, values)
        raise UsageError(f"{batch.origin}: column {shown!r} holds {values.dtype}; {_EXPECTED}.")

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
        batch = batch.require(text != "", _NO_TIME, column, remedy=FIX_ROW)
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
        batch = batch.with_columns(seconds.alias(column)).require(
            known,
            lambda i: f"time {text[i]!r} in column {shown!r}; {_EXPECTED}, and one kind in the whole column",
            column,
            remedy=self._remedy,
        )
        return batch if self._dates else self._from_numbers(batch, column, batch.frame[column], whole.filter(known))


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
