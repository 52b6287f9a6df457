"""The columns of one ``.inter`` file: RecBole's format and values, without its slow reader and its rounding of time."""

from __future__ import annotations

import re
import warnings
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import polars as pl

from recbole_signed.atomic.signs import Settings, Sign, columns_of, first_lines
from recbole_signed.convert.atomic import TYPES
from recbole_signed.convert.columns import MISSING_TOKENS, normal_text
from recbole_signed.convert.raw_files import BLOCK_BYTES, blocks, existing_file
from recbole_signed.convert.token_codes import TokenCodes
from recbole_signed.errors import UsageError, ending, nearest
from recbole_signed.files import names_beside
from recbole_signed.progress import report_progress

MISSING = ("", *sorted(MISSING_TOKENS))  # what pandas takes for a missing value, in RecBole's files as everywhere
_USUAL_PARTS = ("train", "valid", "test")


class NotPlainError(Exception):
    """The file needs pandas: quotes within fields, blank lines, infinite numbers, or values unfit for their column."""


def read_columns(
    path: str | Path,
    *,
    separator: str,
    encoding: str,
    exact_integers: str | None,
    wanted: Callable[[str], bool],
    vocabularies: dict[str, TokenCodes],
    progress: bool = False,
) -> tuple[dict[str, npt.NDArray[Any]] | None, dict[str, str]]:
    """Return the wanted columns of an atomic file by name, ``[n_rows]`` each, and the type of every column.

    Tokens are int32 codes (-1: missing) into ``vocabularies``, which grow; numbers float64, ``exact_integers`` int64.
    """
    header, first_row = columns_of(path, separator, encoding), first_lines(path, separator, encoding, 2)[1]
    if first_row == [""]:
        raise UsageError(f"{path} holds no rows.")
    positions = {name: position for position, name in enumerate(header) if wanted(name)}
    types = {name: header[name] for name in positions}
    for name, kind in types.items():
        if kind not in TYPES:
            raise UsageError(f"{path}: the column '{name}:{kind}' has an unknown type; use one of {', '.join(TYPES)}.")
    if any(kind.endswith("_seq") for kind in types.values()):
        return None, types
    known = {name: vocabularies.setdefault(name, TokenCodes()) for name, kind in types.items() if kind == "token"}
    integers: set[str] = set()
    if exact_integers in types and exact_integers not in known:
        position = positions[exact_integers]
        whole = position < len(first_row) and first_row[position].lstrip("-").isdigit()
        integers = {exact_integers} if whole else set()
    try:
        return _by_polars(path, separator, encoding, len(header), positions, known, integers, progress), types
    except NotPlainError:
        fields = {name: f"{name}:{kind}" for name, kind in types.items()}
        return _by_pandas(path, separator, encoding, fields, known, integers), types


def refuse_blank(path: str | Path, column: str, blank: npt.NDArray[np.bool_]) -> None:
    """Refuse a column that has no value in some of its rows, ``[n_rows]``."""
    if blank.any():
        raise UsageError(f"{path}, line {np.argmax(blank) + 2}: the column '{column}' is blank.")


def _by_polars(
    path: str | Path,
    separator: str,
    encoding: str,
    n_columns: int,
    positions: dict[str, int],
    vocabularies: dict[str, TokenCodes],
    integers: set[str],
    progress: bool,
) -> dict[str, Any]:
    kinds: dict[int, pl.DataType] = {}
    for name, position in positions.items():
        number: pl.DataType = pl.Int64() if name in integers else pl.Float64()
        kinds[position] = pl.String() if name in vocabularies else number
    columns: dict[str, npt.NDArray[Any]] = {}
    size, read = Path(path).stat().st_size, 0
    with report_progress(f"reading {Path(path).name}", shown=progress) as say:
        for frame, n_bytes in parsed_blocks(Path(path), separator, encoding, n_columns, kinds):
            for name, position in positions.items():
                column = frame[str(position)]
                values = vocabularies[name].codes(column) if name in vocabularies else column.to_numpy()
                columns[name] = _extended(columns[name], values) if name in columns else np.array(values)
            read += n_bytes
            say(f"{read / size:.0%}")
    return columns


def _extended(column: npt.NDArray[Any], values: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Append in place: joining all blocks at the end would need the memory twice."""
    n = len(column)
    column = column.astype(np.result_type(column, values), copy=False)
    column.resize(n + len(values), refcheck=False)
    column[n:] = values
    return column


def _by_pandas(
    path: str | Path,
    separator: str,
    encoding: str,
    fields: dict[str, str],
    vocabularies: dict[str, TokenCodes],
    integers: set[str],
) -> dict[str, Any]:
    """Read what polars may not, and say what is wrong with the file if anything is."""
    dtypes: dict[str, type] = {
        field: str if name in {*vocabularies, *integers} else np.float64 for name, field in fields.items()
    }
    frame = _read_csv(path, separator, encoding, dtypes)
    for field in frame.select_dtypes(object):
        joined = np.flatnonzero(frame[field].str.contains("\n", regex=False, na=False))
        if len(joined):
            raise UsageError(
                f"row {joined[0] + 1} of {path} holds a line end in '{field}' ({frame[field][joined[0]]!r}): a quote "
                "that begins a cell and is not closed takes the next rows in; write it twice within quotes."
            )
    exact = {field: _exact(frame[field]) for name, field in fields.items() if name in integers}
    if any(column is None for column in exact.values()):
        return _by_pandas(path, separator, encoding, fields, vocabularies, set())
    columns: dict[str, Any] = {}
    for name, field in fields.items():
        values = frame.pop(field)
        if name in vocabularies:
            columns[name] = vocabularies[name].codes(normal_text(_text(values)))
        else:
            columns[name] = exact[field] if field in exact else values.to_numpy()
    return columns


def read_quoted(path: str | Path, separator: str, encoding: str, types: Mapping[str, str]) -> pl.DataFrame:
    """Read columns, given by name and type, as text, null for a missing value, with quotes that polars refuses."""
    frame = _read_csv(path, separator, encoding, {f"{name}:{kind}": str for name, kind in types.items()})
    return pl.DataFrame({name: _text(frame[f"{name}:{kind}"]) for name, kind in types.items()})


def _text(values: pd.Series) -> pl.Series:
    return pl.Series(values.where(values.notna(), None).tolist(), dtype=pl.String)


def _exact(values: pd.Series) -> npt.NDArray[np.int64] | None:
    """Return the integers, or None if one of them is none, or too large (of which pandas would make another one)."""
    integers = _text(values).str.strip_chars().cast(pl.Int64, strict=False)
    return None if integers.null_count() else integers.to_numpy()


def _read_csv(path: str | Path, separator: str, encoding: str, dtypes: dict[str, type]) -> pd.DataFrame:
    def read(kinds: dict[str, type]) -> pd.DataFrame:
        with warnings.catch_warnings():
            warnings.simplefilter("error", pd.errors.ParserWarning)
            # without index_col a first row of too many fields shifts the columns of all rows
            options: dict[str, Any] = {"encoding": encoding, "engine": "c", "float_precision": "round_trip"}
            return pd.read_csv(path, sep=separator, dtype=defaultdict(lambda: str, kinds), index_col=False, **options)

    try:
        return read(dtypes)
    except (ValueError, OverflowError, pd.errors.ParserError, pd.errors.ParserWarning) as error:
        reason = " ".join(str(error).split())
        with suppress(ValueError, pd.errors.ParserError, pd.errors.ParserWarning):
            reason = _first_text(read({}), [field for field, kind in dtypes.items() if kind is np.float64]) or reason
        raise UsageError(f"{path} can't be read: {reason.rstrip('.')}.") from error


def _first_text(frame: pd.DataFrame, fields: Sequence[str]) -> str | None:
    """Say which is the first cell of the columns of numbers that is not a number."""
    for field in fields:
        wrong = np.flatnonzero(frame[field].notna() & pd.to_numeric(frame[field], errors="coerce").isna())
        if len(wrong):
            return f"row {wrong[0] + 1} of the column '{field}' holds {frame[field].iloc[wrong[0]]!r}, not a number"
    return None


def parsed_blocks(
    path: Path,
    separator: str,
    encoding: str,
    n_columns: int,
    kinds: Mapping[int, pl.DataType],
    size: int | None = None,
) -> Iterator[tuple[pl.DataFrame, int]]:
    """Yield the wanted columns of each block of about ``size`` bytes, by position, and the bytes that it took."""
    if len(separator.encode()) != 1:
        raise NotPlainError
    size = size or min(max(path.stat().st_size // 24, 1 << 20), BLOCK_BYTES)
    types = {str(position): kinds.get(position, pl.String()) for position in range(n_columns)}
    quoted = re.compile(rb'(?:^|(?<=[%b\n]))"[^"\n]*(?:""[^"\n]*)*"(?=[%b\n])' % ((re.escape(separator.encode()),) * 2))
    first = True
    for block, _ in blocks(path, encoding=encoding, size=size):
        n_bytes = len(block)
        rows = block[block.index(b"\n") + 1 :] if first else block
        first = False
        if b"\0" in rows:  # where pandas would end the cell, and ids that differ behind it be one
            raise UsageError(f"{path} holds a null character; replace it by a blank.")
        if not rows:
            continue
        quote = '"' if b'"' in rows else None
        if quote and b'"' in quoted.sub(b"", rows):
            raise NotPlainError
        frame = _parse(rows, separator, quote, types, sorted(kinds))
        if not rows.isascii():
            frame = frame.with_columns(normal_text(column) for column in frame if column.dtype == pl.String)
        # spellings of nan, and numbers that are too large, which polars takes and pandas refuses
        numbers = (frame[name] for name in frame.columns if frame[name].dtype == pl.Float64)
        if not all(column.is_finite().all() for column in numbers) or _has_blank_line(frame):
            raise NotPlainError
        yield frame, n_bytes


def _parse(
    rows: bytes, separator: str, quote: str | None, types: dict[str, pl.DataType], positions: list[int]
) -> pl.DataFrame:
    """Parse, with float64 for an integer column that holds anything else; ``types`` remembers that."""
    while True:
        integers = [name for name, kind in types.items() if kind == pl.Int64]
        try:
            frame = pl.read_csv(
                rows,
                has_header=False,
                separator=separator,
                quote_char=quote,
                schema=types,
                columns=positions,
                null_values=list(MISSING),
            )
            if not any(frame[name].null_count() for name in integers):
                return frame
        except pl.exceptions.PolarsError as error:
            if not integers:
                raise NotPlainError from error
        types.update(dict.fromkeys(integers, pl.Float64()))


def _has_blank_line(frame: pl.DataFrame) -> bool:
    """Whether a row holds nothing, or nothing but white space in the first column, which pandas skips."""
    *others, first = reversed(frame.columns)
    empty = pl.lit(True) if frame[first].dtype != pl.String else pl.col(first).fill_null("").str.strip_chars() == ""
    if others and not all(frame[name].null_count() for name in others):
        return False
    return bool(frame.select(pl.all_horizontal(empty, *(pl.col(name).is_null() for name in others)).any()).item())


@dataclass(frozen=True)
class RawRows:
    """Interactions of one data set, in the order of its files."""

    users: np.ndarray  # int32 `[n]`, from 0 in the order of first appearance
    items: np.ndarray  # int32 `[n]`, from 0 in the order of first appearance
    signs: np.ndarray  # int8 `[n]`: 1 like, -1 dislike, 0 neutral
    times: np.ndarray | None  # `[n]`, int64 where all are integers, else float64; None where there are none
    n_users: int
    n_items: int
    parts: Mapping[str, slice]  # where each part of a ready split lies; empty where there is one file
    tokens: tuple[pl.Series, pl.Series] | None = None  # texts of users and items by number; None: not from a file

    def __len__(self) -> int:
        return len(self.users)


def read_rows(path: Path, sign_rule: Mapping[str, str] | None = None) -> RawRows:
    """Read a folder with ``NAME.inter`` (or its parts), or one such file, by the settings in ``NAME.yaml``."""
    folder = path if path.suffix != ".inter" or path.is_dir() else path.parent
    name = folder.name if folder == path or path.name.startswith(f"{folder.name}.") else path.stem
    if not folder.is_dir():
        near = nearest(name, names_beside(folder))
        made = "; 'recbole-signed convert' makes one."
        raise UsageError(f"there is no data set folder {folder}{near or made}")
    beside = folder / f"{name}.yaml"
    settings = Settings.read(beside)
    if sign_rule is not None:
        settings["sign_rule"] = dict(sign_rule)
    files = _files(folder, name, settings["benchmark_filename"]) if folder == path else {None: existing_file(path)}
    vocabularies: dict[str, TokenCodes] = {}
    columns = [_read(file, settings, beside, vocabularies) for file in files.values()]
    timed = [table for table in columns if "time" in table]
    if timed and len(timed) < len(columns):
        raise UsageError(f"only some of {', '.join(file.name for file in files.values())} have a time; give all one.")
    ends = np.cumsum([0, *(len(table["sign"]) for table in columns)]).tolist()
    spans = zip(files, ends, ends[1:], strict=False)
    users, items, signs, *times = (_joined([table.pop(key) for table in columns]) for key in list(columns[0]))
    tokens = tuple(vocabularies[field].series() for field in _ids(settings))
    return RawRows(
        users,
        items,
        signs,
        times[0] if times else None,
        len(tokens[0]),
        len(tokens[1]),
        {part: slice(first, last) for part, first, last in spans if part is not None},
        (tokens[0], tokens[1]),
    )


def _files(folder: Path, name: str, parts: Any) -> dict[str | None, Path]:
    """The ``.inter`` files by part, None for a single one."""
    if parts is not None and not (isinstance(parts, list) and parts):
        raise UsageError(f"benchmark_filename is {parts!r}; it must be a list, such as [train, valid, test].")
    single = folder / f"{name}.inter"
    if not parts and single.is_file():
        return {None: single}
    if not parts:
        parts = [part for part in _USUAL_PARTS if (folder / f"{name}.{part}.inter").is_file()]
    files: dict[str | None, Path] = {part: folder / f"{name}.{part}.inter" for part in parts}
    missing = [path.name for path in files.values() if not path.is_file()]
    if not files or missing:
        raise UsageError(
            f"{folder} holds no {missing[0] if missing else single.name}; 'recbole-signed convert' makes it."
        )
    return files


def _joined(parts: list[np.ndarray]) -> np.ndarray:
    return parts[0] if len(parts) == 1 else np.concatenate(parts)


def _ids(settings: Settings) -> tuple[str, str]:
    return settings["USER_ID_FIELD"] or "user_id", settings["ITEM_ID_FIELD"] or "item_id"


def _read(path: Path, settings: Settings, beside: Path, vocabularies: dict[str, TokenCodes]) -> dict[str, np.ndarray]:
    """Columns ``user``, ``item``, ``sign`` and, where there is one, ``time``, in this order."""
    separator, encoding = settings["field_separator"] or "\t", settings["encoding"] or "utf-8"
    types = columns_of(path, separator, encoding)
    ids = _ids(settings)
    for field in ids:
        if types.get(field) != "token":
            raise UsageError(
                f"{path} has no column '{field}:token'; set USER_ID_FIELD and ITEM_ID_FIELD to its id columns in "
                f"{beside}{ending(field, types)}"
            )
    sign = Sign.find(settings, types, path.name)
    if sign is None:
        raise UsageError(
            f"{path} has no column 'sign'; write a column 'sign:float' of -1, 0 and 1, or put a rule into {beside}, "
            "such as sign_rule: {like: 'rating >= 4', dislike: 'rating <= 2'}."
        )
    sign.refuse_truth_values(path, separator, encoding)
    time = settings["TIME_FIELD"] or "timestamp"
    fields = {*ids, *sign.columns, *([time] if types.get(time) == "float" else [])}
    columns, _ = read_columns(
        path,
        separator=separator,
        encoding=encoding,
        exact_integers=time,
        wanted=fields.__contains__,
        vocabularies=vocabularies,
    )
    assert columns is not None, "sequences are not asked for"
    for field in ids:
        refuse_blank(path, field, columns[field] < 0)
    table = {"user": columns[ids[0]], "item": columns[ids[1]], "sign": sign.read(columns, str(path))}
    if time in fields:
        refuse_blank(path, time, ~np.isfinite(columns[time]))
        table["time"] = columns[time]
    return table
