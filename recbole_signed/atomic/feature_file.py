"""The ``.user`` and ``.item`` files of a data set: one row of features for each id."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from recbole_signed.atomic.signs import ConfigLike, columns_of
from recbole_signed.convert.columns import MISSING_TOKENS, normal_text
from recbole_signed.errors import UsageError, nearest

SIDES = {"item": "ITEM_ID_FIELD", "user": "USER_ID_FIELD"}  # what has features, and the key of its id column
KINDS = {
    "token": "an indicator for each value",
    "tokens": "an indicator for each of several values, separated by blanks",
    "bins": "numbers, as an indicator for each of 16 quantile bins",
    "levels": "numbers, as an indicator for each of 64, of 16 and of 4 quantile bins, and one for any other word",
    "text": "hashed words and pairs of words",
    "vector": "numbers separated by blanks, such as an embedding",
}
"""How a column is read."""
_KIND_OF_TYPE = {"token": "token", "token_seq": "tokens", "float": "bins", "float_seq": "vector"}
_ALL = "all"
_BLANK_LINES = re.compile(r"(?:\r?\n){2,}")  # which pandas, and so RecBole, skips


@dataclass(frozen=True)
class FeatureTable:
    """Features as they were given: text by id and column."""

    ids: pl.Series  # string, each id once
    columns: Mapping[str, pl.Series]  # string by name, null where there is no value; each `[n_rows]`
    kinds: Mapping[str, str]  # one of `KINDS` by name of the column
    origin: str = "the features"  # the file that they come from, as the user is to read it

    def rows_of(self, ids: Sequence[str] | np.ndarray | pl.Series) -> np.ndarray:
        """Return the row of each id, int64 ``[n_ids]``; -1 where there is none."""
        asked = pl.DataFrame({"id": pl.Series(ids, dtype=pl.String)})
        rows = pl.DataFrame({"id": self.ids}).with_row_index("row")
        numbers = asked.join(rows, on="id", how="left", maintain_order="left")["row"]
        return numbers.cast(pl.Int64).fill_null(-1).to_numpy()


def wanted_columns(features: Any, side: str) -> list[str] | str | None:
    """Return what the configuration key ``features`` says of ``item`` or ``user``; None for nothing."""
    if features is None:
        return None
    shown = "features must look like {item: [genre, 'title:text'], user: all}"
    if not isinstance(features, Mapping):
        raise UsageError(f"{shown}, but is {features!r}.")
    for key in features:
        if key not in SIDES:
            raise UsageError(
                f"features has the key '{key}'{nearest(str(key), SIDES) or '; its keys are item and user.'}"
            )
    columns = features.get(side)
    if columns is None or columns == _ALL:
        return columns
    named = [columns] if isinstance(columns, str) else columns
    if not isinstance(named, (list, tuple)) or not named or not all(isinstance(name, str) for name in named):
        raise UsageError(f"{shown}, but features.{side} is {columns!r}.")
    return list(named)


def read_features(config: ConfigLike, side: str) -> FeatureTable | None:
    """Read the features of ``item`` or ``user`` that the configuration asks for; None where it asks for none."""
    columns = wanted_columns(config["features"], side)
    return None if columns is None else read_side(config, side, columns)


def feature_path(config: ConfigLike, side: str) -> Path:
    """Return the place of the ``.item`` or ``.user`` file of a data set, which need not be there."""
    return Path(config["data_path"]) / f"{config['dataset']}.{side}"


def read_side(config: ConfigLike, side: str, columns: Sequence[str] | str) -> FeatureTable:
    """Read ``columns`` (or ``all``) of the file of features of ``item`` or ``user``."""
    separator, encoding = config["field_separator"] or "\t", config["encoding"] or "utf-8"
    id_column = config[SIDES[side]] or f"{side}_id"
    path = feature_path(config, side)
    if not path.is_file():
        raise UsageError(f"features of {side}s are asked for, but {path} does not exist; ask for none, or write it.")
    return read_feature_file(path, id_column, columns, separator, encoding)


def read_feature_file(
    path: Path, id_column: str, columns: Sequence[str] | str = _ALL, separator: str = "\t", encoding: str = "utf-8"
) -> FeatureTable:
    """Read columns of a ``.user`` or ``.item`` file: ``all``, or ``name`` or ``name:kind`` of each (:data:`KINDS`)."""
    types = columns_of(path, separator, encoding)
    if id_column not in types:
        raise UsageError(f"{path} has no column '{id_column}'{nearest(id_column, types) or '; it names the ids.'}")
    kinds = _kinds(path, {name: kind for name, kind in types.items() if name != id_column}, columns)
    try:
        text = path.read_bytes().decode(encoding)
        if '"' in text:
            from recbole_signed.atomic.inter_file import read_quoted  # imports pandas

            frame = read_quoted(path, separator, encoding, types)
        else:
            frame = _parse(text, separator, types)
    except UnicodeDecodeError as error:
        raise UsageError(f"{path} is not {encoding} text ({error}); set 'encoding' to that of the file.") from error
    except pl.exceptions.PolarsError as error:
        raise UsageError(f"{path} can't be read: {str(error).splitlines()[0].rstrip('.')}.") from error
    return table_of(frame, id_column, kinds, str(path))


def _parse(text: str, separator: str, types: Mapping[str, str]) -> pl.DataFrame:
    if "\n" not in text:  # the lines end in carriage returns alone
        text = text.replace("\r", "\n")
    return pl.read_csv(
        _BLANK_LINES.sub("\n", text).encode(),
        separator=separator,
        has_header=False,
        skip_rows=1,
        schema=dict.fromkeys(types, pl.String),
        null_values=["", *MISSING_TOKENS],
    )


def table_of(frame: pl.DataFrame, id_column: str, kinds: Mapping[str, str], origin: str) -> FeatureTable:
    """Make a table of a frame of text; rows that say the same count once."""
    cells = {name: frame[name].str.strip_chars() for name in kinds} | {id_column: frame[id_column]}  # ids as they are
    frame = pl.DataFrame([normal_text(cells[name]).alias(name) for name in dict.fromkeys((id_column, *kinds))])
    blank = frame[id_column].is_null() | (frame[id_column].str.strip_chars() == "")
    if blank.any():
        raise UsageError(f"{origin}, row {int(blank.arg_max() or 0) + 1}: the column '{id_column}' is blank.")
    frame = frame.unique(maintain_order=True)
    repeated = frame.filter(frame[id_column].is_duplicated())
    if repeated.height:
        name = repeated[id_column][0]
        own = repeated.filter(pl.col(id_column) == name)
        column = next(feature for feature in kinds if own[feature].n_unique() > 1)
        first, second = own[column].unique(maintain_order=True).to_list()[:2]
        raise UsageError(
            f"{origin}: the {id_column} '{name}' has rows with {first!r} and with {second!r} in the column '{column}'; "
            "keep one of them."
        )
    columns = {name: frame[name].replace("", None) for name in kinds}
    return FeatureTable(frame[id_column], columns, kinds, origin)


def _kinds(path: Path, types: Mapping[str, str], columns: Sequence[str] | str) -> dict[str, str]:
    given = [column.partition(":") for column in (list(types) if columns == _ALL else columns)]
    kinds: dict[str, str] = {}
    for name, _, kind in given:
        if name not in types:
            raise UsageError(
                f"{path} has no column '{name}' of features"
                f"{nearest(name, types) or '; it has ' + ', '.join(types) + '.' if types else '; it has none.'}"
            )
        chosen = kind or _KIND_OF_TYPE.get(types[name], types[name])
        if chosen not in KINDS:
            raise UsageError(f"the column '{name}' can't be read as '{chosen}'; use one of {', '.join(KINDS)}.")
        kinds[name] = chosen
    return kinds
