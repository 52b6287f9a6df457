"""Reading one ``.inter`` file: RecBole's format and values, without its slow reader and its rounding of time."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import polars as pl
from recbole.utils import FeatureType

from recbole_signed.data.blocks import NotPlainError, parsed_blocks
from recbole_signed.data.vocabulary import Vocabulary
from recbole_signed.errors import UsageError

PROGRESS_BYTES = 50 << 20
"""Size from which on reading a file shows a bar."""


def read_inter(
    path: str,
    *,
    separator: str,
    encoding: str | None,
    exact_integers: str | None,
    wanted: Callable[[str], bool],
    vocabularies: dict[str, Vocabulary] | None = None,
    progress: bool = False,
) -> tuple[pd.DataFrame | None, dict[str, FeatureType]]:
    """Read the wanted columns of an atomic file.

    Args:
        path: the file; its first line holds ``name:type`` fields.
        separator: of the columns.
        encoding: of the text; UTF-8 by default.
        exact_integers: the column that is read as int64 where it holds integers (RecBole's float32 can't tell
            apart two time stamps that lie within two minutes).
        wanted: whether a column is to be read.
        vocabularies: the tokens of files of the same data set that were read before, by column; new ones are added.
        progress: whether a large file shows a bar.

    Returns:
        The frame (tokens as categories, numbers as float64) and the type of each of its columns; None for the frame
        where a sequence column is wanted, which RecBole's own reader handles.

    Raises:
        UsageError: the header or a value does not fit the declared types, or the file holds no rows.
    """
    encoding = encoding or "utf-8"
    header, first_row = _first_lines(path, separator, encoding)
    types: dict[str, FeatureType] = {}
    positions: dict[str, int] = {}
    exact = False
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
        positions[name] = position
        if name == exact_integers and types[name] == FeatureType.FLOAT:
            exact = position < len(first_row) and _is_integer(first_row[position])
    if any(kind in (FeatureType.TOKEN_SEQ, FeatureType.FLOAT_SEQ) for kind in types.values()):
        return None, types
    tokens = {name for name, kind in types.items() if kind == FeatureType.TOKEN}
    vocabularies = {} if vocabularies is None else vocabularies
    for name in tokens:
        vocabularies.setdefault(name, Vocabulary())
    known = {name: vocabularies[name] for name in tokens}
    integers = {exact_integers} if exact else set()
    try:
        with _bar(path, progress) as advance:
            columns = _by_polars(path, separator, encoding, len(header), positions, known, integers, advance)
    except NotPlainError:
        fields = {name: header[position] for name, position in positions.items()}
        columns = _by_pandas(path, separator, encoding, fields, known, integers)
    for name in tokens:
        columns[name] = pd.Categorical.from_codes(columns[name], categories=known[name].tokens(), validate=False)
    return pd.DataFrame(columns, columns=list(types), copy=False), types


def concatenate(frames: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """Join the rows of files that were read one after the other with the same vocabularies."""
    last = frames[-1]
    shared = [name for name in last if isinstance(last[name].dtype, pd.CategoricalDtype)]
    plain = pd.concat([frame.drop(columns=shared) for frame in frames], ignore_index=True)
    columns: dict[str, Any] = {name: plain[name] for name in plain}
    for name in shared:
        codes = np.concatenate([frame[name].cat.codes for frame in frames])
        columns[name] = pd.Categorical.from_codes(codes, dtype=last[name].dtype, validate=False)
    return pd.DataFrame(columns, columns=list(last), copy=False)


def _first_lines(path: str, separator: str, encoding: str) -> tuple[list[str], list[str]]:
    with open(path, encoding=encoding) as file:
        header = file.readline().removeprefix("\ufeff").rstrip("\r\n").split(separator)
        first_row = file.readline().rstrip("\r\n").split(separator)
    if first_row == [""]:
        raise UsageError(f"{path} holds no rows.")
    return header, first_row


def _by_polars(
    path: str,
    separator: str,
    encoding: str,
    n_columns: int,
    positions: dict[str, int],
    vocabularies: dict[str, Vocabulary],
    integers: set[str | None],
    advance: Callable[[int], None],
) -> dict[str, Any]:
    kinds: dict[int, pl.DataType] = {}
    for name, position in positions.items():
        number: pl.DataType = pl.Int64() if name in integers else pl.Float64()
        kinds[position] = pl.String() if name in vocabularies else number
    found: dict[str, list[npt.NDArray[Any]]] = {name: [] for name in positions}
    for frame, n_bytes in parsed_blocks(Path(path), separator, encoding, n_columns, kinds):
        for name, position in positions.items():
            column = frame[str(position)]
            values = vocabularies[name].codes(column) if name in vocabularies else column.to_numpy()
            found[name].append(values)
        advance(n_bytes)
    return {name: np.concatenate(parts) for name, parts in found.items()}


def _by_pandas(
    path: str,
    separator: str,
    encoding: str,
    fields: dict[str, str],
    vocabularies: dict[str, Vocabulary],
    integers: set[str | None],
) -> dict[str, Any]:
    """Read what polars may not, and say what is wrong with the file if anything is."""
    dtypes: dict[str, type] = {
        field: str if name in {*vocabularies, *integers} else np.float64 for name, field in fields.items()
    }
    frame = _read_csv(path, separator, encoding, dtypes)
    exact = {field: _exact(frame[field]) for name, field in fields.items() if name in integers}
    if any(column is None for column in exact.values()):
        return _by_pandas(path, separator, encoding, fields, vocabularies, set())
    columns: dict[str, Any] = {}
    for name, field in fields.items():
        values = frame.pop(field)
        if name in vocabularies:
            columns[name] = vocabularies[name].codes(_text(values))
        else:
            columns[name] = exact[field] if field in exact else values.to_numpy()
    return columns


def _text(values: pd.Series) -> pl.Series:
    return pl.Series(values.where(values.notna(), None).tolist(), dtype=pl.String)


def _exact(values: pd.Series) -> npt.NDArray[np.int64] | None:
    """Return the integers, or None if one of them is none, or too large (of which pandas would make another one)."""
    integers = _text(values).str.strip_chars().cast(pl.Int64, strict=False)
    return None if integers.null_count() else integers.to_numpy()


def _read_csv(path: str, separator: str, encoding: str, dtypes: dict[str, type]) -> pd.DataFrame:
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
    except (ValueError, OverflowError, pd.errors.ParserError) as error:
        raise UsageError(f"{path} can't be read: {' '.join(str(error).split())}.") from error


@contextmanager
def _bar(path: str, progress: bool) -> Iterator[Callable[[int], None]]:
    """Show how much of a large file has been read."""
    size = Path(path).stat().st_size
    if not progress or size < PROGRESS_BYTES:
        yield lambda _: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(Path(path).name, total=size)
        yield lambda n_bytes: bar.advance(task, n_bytes)


def _is_integer(text: str) -> bool:
    return text.lstrip("-").isdigit()
