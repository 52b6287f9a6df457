"""Raw columns, text or typed, as the columns of an interaction: tokens, numbers, signs."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

import numpy as np
import polars as pl

from recbole_signed.convert.batch import FIX_ROW, Batch
from recbole_signed.convert.sign_rule import SignRule
from recbole_signed.errors import UsageError
from recbole_signed.ids_and_times import MAX_ID

_BOOLEANS = {"true": 1.0, "True": 1.0, "TRUE": 1.0, "false": 0.0, "False": 0.0, "FALSE": 0.0}
# fmt: off
MISSING_TOKENS = frozenset((
    "#N/A", "#N/A N/A", "#NA", "-1.#IND", "-1.#QNAN", "-NaN", "-nan", "1.#IND", "1.#QNAN", "<NA>", "N/A", "NA", "NULL",
    "NaN", "None", "n/a", "nan", "null",
))
# fmt: on
"""Texts that pandas, and so RecBole, reads as no value at all."""
DECIMAL_POINT, DECIMAL_COMMA = ".", ","
_SHORT = r"^\s*-?[0-9](?:[.,](?P<decimals>[0-9]+))?[eE](?P<plus>\+?)(?P<exponent>[0-9]{1,3})\s*$"
_FLOAT_DIGITS, _LARGEST_FLOAT_ID = 16, 2**53  # from and up to which float64 tells whole numbers apart
_COMMA_NUMBER = r"^[+-]?\d+,\d+$"


def normal_text(texts: pl.Series) -> pl.Series:
    """Return texts in Unicode's normal form C, without byte order marks before them, as ids are compared."""
    ascii_only = (texts.str.len_bytes() == texts.str.len_chars()).all()  # normalising takes half a microsecond a text
    return texts if ascii_only else texts.str.normalize("NFC").str.strip_chars_start("\ufeff")


def token(batch: Batch, column: str) -> Batch:
    """Turn a column of ids into text in normal form C; numbers are written as integers."""
    values, shown = batch.frame[column], batch.called(column)
    if values.dtype == pl.String:
        batch = batch.with_columns(normal_text(values))
        sizes = batch.frame[column].str.len_chars()
        return batch.require(
            (sizes <= MAX_ID) | sizes.is_null(),
            lambda i: f"the id in column {shown!r} has {sizes[i]} characters, and {MAX_ID} are accepted",
            column,
        )
    if values.dtype.is_float():
        digits = 24 if values.dtype == pl.Float32 else 53  # of the whole numbers that the type holds exactly
        whole = values.is_finite() & (values == values.round(0)) & (values.abs() < 2**digits)
        as_text = values.fill_nan(None).cast(pl.Int64, strict=False).cast(pl.String)
        return batch.with_columns(as_text).require(
            whole | values.is_null() | values.is_nan(),
            lambda i: (
                f"the id {values[i]!r} in column {shown!r} is not a whole number below 2**{digits}, from which on "
                f"{values.dtype} rounds ids to others; make the ids text or integers"
            ),
            column,
        )
    if values.dtype.is_integer() or isinstance(values.dtype, (pl.Categorical, pl.Enum)):
        return batch.with_columns(values.cast(pl.String))
    raise UsageError(
        f"{batch.origin}: column {shown!r} holds {values.dtype}, ids were expected; give text or integers."
    )


def unrounded(batch: Batch, column: str, what: str) -> Batch:
    """Refuse texts such as ``7.65612E+16``, which spreadsheets and float columns write of several ids alike."""
    text = batch.frame[column]
    if text.dtype != pl.String or not text.str.contains(_SHORT).any():
        return batch
    parts = text.str.extract_groups(_SHORT).struct.unnest()
    exponent, plus = parts["exponent"].cast(pl.Int16), parts["plus"] == "+"
    lost = plus & (parts["decimals"].fill_null("").str.len_chars() < exponent)
    if what == "times":
        lost &= text.str.contains("E", literal=True)
    else:  # without a plus and decimals it may be a name, such as 3e20
        lost |= (exponent >= _FLOAT_DIGITS) & (plus | parts["decimals"].is_not_null())
    return batch.require(
        ~lost.fill_null(False),
        f"{{value!r}} in column {{column!r}} is a number that was rounded; export the {what} as text",
        column,
    )


class PlainIds:
    """Ids of a column of text without blanks and decimals, if all are whole numbers: ``" 1.0"`` becomes ``1``."""

    def __init__(self, decimal: str = DECIMAL_POINT) -> None:
        self._whole = rf"^(0|-?[1-9][0-9]*)({re.escape(decimal)}0+)?$"
        self._with_decimals = rf"{re.escape(decimal)}0+$"
        self._first: str | None = None  # the first id with decimals; "" where the column is text

    def plain(self, batch: Batch, column: str) -> Batch:
        """Write the ids of the next rows without blanks and decimals."""
        batch = batch.with_columns(pl.col(column).str.strip_chars())
        text, shown = batch.frame[column], batch.called(column)
        whole = text.str.contains(self._whole) | (text == "")
        if self._first is None:
            decimals = text.filter(text.str.contains(self._with_decimals))
            if not whole.all():
                self._first = ""
            elif decimals.len():
                self._first = decimals[0]
        if not self._first:
            return batch
        plain = text.str.replace(self._with_decimals, "")
        numbers = plain.cast(pl.Float64, strict=False).abs()
        rounded = (numbers >= _LARGEST_FLOAT_ID).fill_null(False) & (plain != text)
        return batch.with_columns(plain).require(
            whole & ~rounded,
            lambda i: (
                f"the id {text[i]!r} in column {shown!r} was a float of 2**53 or more, which rounds ids to "
                "others; make the ids text or integers"
                if whole[i]
                else f"the id {text[i]!r} in column {shown!r} is no whole number, and earlier ones are, such as "
                f"{self._first!r}; write all ids of the column in one way"
            ),
            column,
        )


def filled(batch: Batch, *columns: str, word: str = "unknown") -> Batch:
    """Turn columns of categories into tokens without blanks; ``4.0`` becomes ``4``, a missing value ``word``."""
    made = []
    for column in columns:
        text = pl.col(column).cast(pl.String).str.strip_chars()
        known = text.is_not_null() & ~text.is_in(["", *MISSING_TOKENS])
        made.append(pl.when(known).then(text.str.replace(r"^(\d+)\.0$", "$1")).otherwise(pl.lit(word)).alias(column))
    return batch.with_columns(*made)


def require_value(batch: Batch, *columns: str) -> Batch:
    """Go on with the rows that have a value in each of these columns."""
    for column in columns:
        batch = batch.require(batch.frame[column].is_not_null(), "no value in column {column!r}", column)
    return batch


def require_flag(batch: Batch, column: str, shown: str) -> Batch:
    """Go on with the rows that have 0 or 1 in a column, which becomes text; a message names it as ``shown``."""
    batch = batch.with_columns(pl.col(column).cast(pl.String))
    good = batch.frame[column].is_in(["0", "1", "0.0", "1.0"])
    return batch.require(good, f"{shown} is {{value!r}}, 0 or 1 was expected", column)


def number(
    batch: Batch,
    column: str,
    *,
    purpose: str,
    may_be_missing: bool = False,
    into: str | None = None,
    remedy: str = FIX_ROW,
    decimal: str | None = None,
) -> Batch:
    """Turn a column into float64, under the name ``into``; true and false become 1 and 0, a missing value NaN."""
    raw, made, shown = batch.frame[column], into or column, batch.called(column)
    if raw.dtype == pl.String:
        batch = _parse_numbers(batch, column, purpose, made, remedy, decimal)
    elif raw.dtype.is_numeric() or raw.dtype in (pl.Boolean, pl.Null):
        batch = batch.with_columns(_doubles(raw).fill_null(float("nan")).alias(made))
    else:
        raise UsageError(
            f"{batch.origin}: column {shown!r} holds {raw.dtype}, numbers were expected for {purpose}; "
            "give another column."
        )
    if not may_be_missing:
        batch = batch.require(
            batch.frame[made].is_not_nan(),
            f"no value in column {{column!r}}, {purpose} needs one in every row",
            column,
            remedy=remedy,
        )
    values = batch.frame[made]
    return batch.require(
        ~values.is_infinite(),
        lambda i: f"{values[i]} in column {shown!r}, {purpose} needs a finite number",
        column,
        remedy=FIX_ROW,
    )


def _doubles(values: pl.Series) -> pl.Series:
    """Return numbers or truth values as float64; a float32 as the decimal that it was made of: 0.7, not 0.699999988."""
    if values.dtype.is_float() and values.dtype != pl.Float64:
        values = values.cast(pl.String)  # the shortest text that reads back as the same value
    return values.cast(pl.Float64)


def numbers_in(text: pl.Series, decimal: str | None) -> pl.Series:
    """Return the numbers that texts are, float64 ``[n]``, null where one is none, as with another decimal mark."""
    if decimal != DECIMAL_COMMA:
        return text.cast(pl.Float64, strict=False)
    # a point may be one between thousands, and what 1.234 means is not to be guessed
    parsed = text.str.replace(DECIMAL_COMMA, DECIMAL_POINT, literal=True).cast(pl.Float64, strict=False)
    return parsed.set(text.str.contains(DECIMAL_POINT, literal=True), None)


def is_comma_number(text: pl.Series) -> pl.Series:
    """Tell which texts are numbers if a comma stands before the decimals, and only then; bool ``[n]``."""
    return text.str.strip_chars().str.contains(_COMMA_NUMBER)


def _about_decimals(text: str, decimal: str | None) -> str:
    """Return what the option ``decimal`` has to do with a text that is not a number, for a message."""
    if decimal == DECIMAL_POINT and is_comma_number(pl.Series([text]))[0]:
        return " (where a comma stands before the decimals, give decimal=,)"
    if decimal == DECIMAL_COMMA and DECIMAL_POINT in text:
        return " (with decimal=, a number has no point)"
    return ""


def _parse_numbers(
    batch: Batch, column: str, purpose: str, made: str, remedy: str, decimal: str | None = None
) -> Batch:
    text, shown = batch.frame[column].str.strip_chars(), batch.called(column)
    parsed = numbers_in(text, decimal)
    if parsed.null_count() == 0:
        return batch.with_columns(parsed.alias(made))
    parsed = parsed.fill_null(text.replace_strict(_BOOLEANS, default=None, return_dtype=pl.Float64))
    blank = text.is_null() | (text == "") | text.is_in(list(MISSING_TOKENS))
    return batch.with_columns(parsed.fill_null(float("nan")).alias(made)).require(
        parsed.is_not_null() | blank,
        lambda i: f"{purpose} needs numbers in column {shown!r}, got {text[i]!r}{_about_decimals(text[i], decimal)}",
        column,
        remedy=remedy,
    )


def sign(batch: Batch, column: str, decimal: str | None = None) -> Batch:
    """Turn a column of -1, 0 and 1 into int8; true and false are refused, since false as 0 would be no dislike."""
    raw, shown = batch.frame[column], batch.called(column)
    if raw.dtype == pl.Boolean or (raw.dtype == pl.String and raw.str.strip_chars().is_in(list(_BOOLEANS)).any()):
        raise UsageError(
            f"{batch.origin}: column {shown!r} holds true and false, and a sign is 1 (like), -1 (dislike) or 0 "
            f"(neutral); give the rule like='{shown} == 1' dislike='{shown} == 0' in place of sign=."
        )
    words = f"{FIX_ROW}; for words give a rule such as like='{shown} == like' in place of sign="
    batch = number(batch, column, purpose="the sign", remedy=words, decimal=decimal)
    batch = batch.require(
        batch.frame[column].is_in([-1.0, 0.0, 1.0]),
        "sign {value:g} in column {column!r}, it is 1 (like), -1 (dislike) or 0 (neutral); "
        "for other signals give a rule such as like='rating >= 4'",
        column,
    )
    return batch.with_columns(pl.col(column).cast(pl.Int8))


def sign_by_rule(
    batch: Batch, rule: SignRule, column_of: Mapping[str, str] | None = None, decimal: str | None = None
) -> Batch:
    """Add the column ``sign`` (int8) by a rule on raw columns; ``column_of`` holds those of another name here."""
    numbers = {name: f"\0number of {name}" for name in rule.columns}  # no column of a raw file is called so
    for name, made in numbers.items():
        column = (column_of or {}).get(name, name)
        if name in rule.text_columns:
            batch = batch.with_columns(_words(batch, column, rule.words_of(name)).alias(made))
            continue
        batch = number(batch, column, purpose="the sign rule", may_be_missing=True, into=made, decimal=decimal)
    like, dislike = rule.verdicts({name: batch.frame[made].to_numpy() for name, made in numbers.items()})
    batch = batch.select(pl.exclude(*numbers.values()))
    batch = batch.with_columns(pl.Series("sign", like.astype(np.int8) - dislike.astype(np.int8)))
    return batch.require(
        ~(like & dislike),
        lambda i: f"a like and a dislike at once by the rule ({rule}); make its conditions exclude each other",
        skippable=False,
    )


def _words(batch: Batch, column: str, compared: Iterable[str]) -> pl.Series:
    """Return a column as words; one for no value, such as NULL, is null unless it is compared with."""
    values = batch.frame[column]
    spelled = {word.lower(): word for word in compared}
    truths = spelled.keys() <= {"true", "false"}  # written as the rule has them
    if not isinstance(values.dtype, (pl.String, pl.Categorical, pl.Enum)) and not (
        truths and values.dtype == pl.Boolean
    ):
        raise UsageError(
            f"{batch.origin}: the sign rule compares column {batch.called(column)!r} with a word, but it holds "
            f"{values.dtype}; compare it with numbers."
        )
    texts = values.cast(pl.String).str.strip_chars().fill_null("")
    if truths:
        texts = texts.replace({word: spelled[word.lower()] for word in _BOOLEANS if word.lower() in spelled})
    return texts.replace(dict.fromkeys(MISSING_TOKENS.difference(compared), ""))


def rule_from(like: str | None, dislike: str | None) -> SignRule | None:
    """Return the rule that the options ``like`` and ``dislike`` make; None where neither is given."""
    if dislike is not None and dislike.strip().lower() == "none":
        dislike = None
    if like is None and dislike is None:
        return None
    spec = {"like": like, "dislike": dislike}
    return SignRule.parse({key: text for key, text in spec.items() if text is not None})
