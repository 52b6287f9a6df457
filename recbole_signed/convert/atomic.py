"""RecBole's atomic files: which rows are fit for them, and how they are written."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

import polars as pl

from recbole_signed.convert.batch import FIX_ROW, Batch
from recbole_signed.convert.columns import MISSING_TOKENS, number, sign, token, unrounded
from recbole_signed.errors import UsageError

STANDARD = {
    "user_id": "token",
    "item_id": "token",
    "rating": "float",
    "sign": "float",  # RecBole would renumber the values of a token
    "timestamp": "float",
}
TYPES = ("token", "float", "token_seq", "float_seq")
GUESS = "guess"
_CONTROL = r"[\t\n\r\x00]"
_LEADING_ZEROS = r"^[+-]?0[0-9]"
_EXACT_INT = 2.0**63


class Schema:
    """Columns of an atomic file and their types, learnt from the first batch and held against the others."""

    def __init__(
        self, standard: Mapping[str, str] = STANDARD, needed: Iterable[str] = (), *, blanks: bool = False
    ) -> None:
        self._standard, self._blanks = standard, blanks
        self._needed = tuple(needed) or ("user_id", "item_id", "sign")
        self._types: dict[str, str] = {}

    @property
    def fields(self) -> dict[str, str]:
        """RecBole's type of each column, in the order of the file."""
        return {name: "float" if type_ == GUESS else type_ for name, type_ in self._types.items()}

    def conform(self, batch: Batch, types: Mapping[str, str]) -> Batch:
        """Check a batch and give it the types of the file: text for tokens, float64, int8 for the sign."""
        if not self._types:
            self._learn(batch, types)
        missing = [name for name in self._types if name not in batch.frame.columns]
        if missing:
            raise UsageError(f"{batch.origin}: the column {missing[0]!r} is missing here, though earlier rows have it.")
        batch = batch.select(*self._types)
        for name, type_ in self._types.items():
            if self._standard.get(name) == "token":
                batch = unrounded(batch, name, "ids")
            if name == "sign" and name in self._standard:
                batch = sign(batch, name)
            elif type_ == "float":
                purpose = f"the {name}" if name in self._standard else "an atomic file"
                batch = number(batch, name, purpose=purpose, may_be_missing=self._blanks)
            else:
                batch = _clean_text(batch, name, blank=self._blanks and name not in self._standard)
                cells = batch.frame[name]
                if type_ == GUESS and not _all_numbers(cells.filter(cells != "") if self._blanks else cells):
                    self._types[name] = "token"
        return batch

    def _learn(self, batch: Batch, types: Mapping[str, str]) -> None:
        columns = batch.frame.columns
        for name in self._needed:
            if name not in columns:
                raise UsageError(f"{batch.origin}: no column {name!r} was given, got {', '.join(columns)}.")
        for name in (*self._standard, *columns):
            if name in columns and name not in self._types:
                self._types[name] = self._standard.get(name) or types.get(name) or _type_of(batch, name)
        for name, type_ in self._types.items():
            if not name or any(character in name for character in ":\t\n\r"):
                raise UsageError(f"{batch.origin}: the column name {name!r} cannot stand in an atomic file; rename it.")
            if type_ not in (*TYPES, GUESS):
                raise UsageError(f"Column {name!r} has the type {type_!r}, RecBole knows {', '.join(TYPES)}.")


def _type_of(batch: Batch, name: str) -> str:
    dtype, shown = batch.frame.schema[name], batch.called(name)
    if dtype.is_numeric() or dtype == pl.Boolean:
        return "float"
    if dtype == pl.String or isinstance(dtype, (pl.Categorical, pl.Enum)):
        return "token"
    raise UsageError(
        f"{batch.origin}: column {shown!r} holds {dtype}, an atomic file holds numbers and text; leave it out."
    )


def _all_numbers(text: pl.Series) -> bool:
    """Whether each text is a number; one that would lose its leading zeros, such as a postcode, is none."""
    numbers = text.cast(pl.Float64, strict=False).is_finite().fill_null(False)
    return bool((numbers & ~text.str.contains(_LEADING_ZEROS)).all())


def _clean_text(batch: Batch, name: str, blank: bool = False) -> Batch:
    if blank:
        batch = batch.with_columns(pl.col(name).cast(pl.String).fill_null(""))
    batch = token(batch, name)
    text, shown = batch.frame[name], batch.called(name)
    empty = text.str.strip_chars() == ""
    batch = batch.require(
        (empty & blank) | ~(empty | text.is_in(list(MISSING_TOKENS))),
        lambda i: (
            f"no value in column {shown!r}"
            if not (text[i] or "").strip()
            else f"{text[i]!r} in column {shown!r}, which RecBole reads as no value (rename it to keep the row)"
        ),
        name,
        remedy=FIX_ROW,
    )
    return batch.require(
        ~batch.frame[name].str.contains(_CONTROL),
        "{value!r} in column {column!r} holds a tab, a line end or a null byte; replace it by a blank",
        name,
    )


def write_atomic(path: Path, frames: Iterable[pl.DataFrame], fields: Mapping[str, str]) -> None:
    """Write an atomic file, text quoted as in CSV, floats as the shortest text."""
    with path.open("wb") as file:
        file.write(("\t".join(f"{name}:{type_}" for name, type_ in fields.items()) + "\n").encode())
        for frame in frames:
            if frame.height:
                frame.select(_as_text(frame[name]) for name in fields).write_csv(
                    file, include_header=False, separator="\t", quote_style="necessary"
                )


def _as_text(values: pl.Series) -> pl.Series:
    if not values.dtype.is_float():
        return values
    whole = (values == values.floor()) & (values.abs() < _EXACT_INT)
    integers = values.set(~whole, 0.0).cast(pl.Int64)
    return integers if whole.all() else integers.cast(pl.String).zip_with(whole, values.cast(pl.String))
