"""Reading one ``.inter`` file: RecBole's format and values, without its slow reader and its rounding of time."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd
from recbole.utils import FeatureType

from recbole_signed.errors import UsageError


def read_inter(
    path: str,
    *,
    separator: str,
    encoding: str | None,
    exact_integers: str | None,
    wanted: Callable[[str], bool],
) -> tuple[pd.DataFrame | None, dict[str, FeatureType]]:
    """Read the wanted columns of an atomic file.

    Args:
        path: the file; its first line holds ``name:type`` fields.
        separator: of the columns.
        encoding: of the text.
        exact_integers: the column that is read as int64 where it holds integers (RecBole's float32 can't tell
            apart two time stamps that lie within two minutes).
        wanted: whether a column is to be read.

    Returns:
        The frame (tokens as str, numbers as float64) and the type of each of its columns; None for the frame where
        a sequence column is wanted, which RecBole's own reader handles.

    Raises:
        UsageError: the header or a value does not fit the declared types, or the file holds no rows.
    """
    with open(path, encoding=encoding) as file:
        header = file.readline().rstrip("\r\n").split(separator)
        first_row = file.readline().rstrip("\r\n").split(separator)
    if first_row == [""]:
        raise UsageError(f"{path} holds no rows.")
    types: dict[str, FeatureType] = {}
    dtypes: dict[str, type] = {}
    for position, field in enumerate(header):
        name, _, kind = field.partition(":")
        if not wanted(name):
            continue
        try:
            types[name] = FeatureType(kind)
        except ValueError:
            raise UsageError(
                f"{path}: the column '{field}' has an unknown type; use token, float, token_seq or float_seq."
            ) from None
        dtypes[field] = np.float64 if types[name] == FeatureType.FLOAT else str
        if name == exact_integers and position < len(first_row) and _is_integer(first_row[position]):
            dtypes[field] = np.int64
    if any(kind in (FeatureType.TOKEN_SEQ, FeatureType.FLOAT_SEQ) for kind in types.values()):
        return None, types
    time_column = next((field for field in dtypes if dtypes[field] is np.int64), None)
    try:
        frame = _read(path, separator, encoding, dtypes)
    except ValueError:
        if time_column is None:
            raise
        frame = _read(path, separator, encoding, {**dtypes, time_column: np.float64})
    frame = frame[list(dtypes)]
    frame.columns = list(types)
    return frame, types


def _read(path: str, separator: str, encoding: str | None, dtypes: dict[str, type]) -> pd.DataFrame:
    try:
        return pd.read_csv(
            path,
            sep=separator,
            usecols=list(dtypes),
            dtype=dtypes,
            encoding=encoding,
            engine="c",
            float_precision="round_trip",
        )
    except (ValueError, pd.errors.ParserError) as error:
        raise UsageError(f"{path} can't be read: {' '.join(str(error).split())}.") from error


def _is_integer(text: str) -> bool:
    return text.lstrip("-").isdigit()
