"""Dates in text by the codes of strftime, such as ``%d/%m/%Y``: what is not in the given notation is refused."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cached_property

import polars as pl

from recbole_signed.errors import UsageError

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
_COUNTS = {"d": "day", "m": "month", "H": "hour", "I": "hour", "M": "minute", "S": "second"}
"""Codes of numbers of one digit or two."""
_CODES = ", ".join(f"%{code}" for code in "YymbBdHIpMSfzaA")
_DIGITS = {*_COUNTS, "Y", "y", "f"}
_FIRST_SHORT_YEAR = 69  # of the last century, as in Python and POSIX


@dataclass(frozen=True)
class TimeFormat:
    """A notation of dates, by the codes of ``strftime``; names of months are English.

    Args:
        text: such as ``%d/%m/%Y %H:%M``.

    Raises:
        UsageError: it has an unknown code, or does not say which day is meant.
    """

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
                wanted = " or ".join(f"%{code}" for code in choice)
                raise UsageError(f"time_format={self.text!r} has no {what} ({wanted}); write one such as %d/%m/%Y.")
        for alternatives in ("Yy", "mbB", "d", "HI", "M", "S", "f", "p", "z"):
            if sum(code in alternatives for code in codes) > 1:
                raise UsageError(f"time_format={self.text!r} has %{alternatives[0]} or its like twice; give it once.")
        for code, needed in (("I", "p"), ("p", "I"), ("M", "HI"), ("S", "M"), ("f", "S")):
            if code in codes and not any(each in codes for each in needed):
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
    """Return the unix seconds of dates by their parts, float64 ``[n]``, null where there is no such day or time.

    Args:
        parts: text ``[n]`` of ``year``, ``month``, ``day``, and where there are any ``hour``, ``minute``, ``second``,
            ``fraction`` (its digits), and ``side`` (+ or -), ``off_hours``, ``off_minutes`` of the offset from UTC.
    """
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
