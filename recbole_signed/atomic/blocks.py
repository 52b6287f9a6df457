"""A delimited text file, block by block and column by column, where polars and pandas read it alike."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path

import polars as pl

from recbole_signed.convert.columns import MISSING_TOKENS, normal_text
from recbole_signed.convert.raw_files import blocks

MISSING = ("", *sorted(MISSING_TOKENS))
"""What pandas takes for a missing value, in RecBole's files as everywhere."""

BLOCK_BYTES = 32 << 20


class NotPlainError(Exception):
    """The file needs pandas: it has quotes within fields or around line ends, blank lines, infinite numbers, or values
    that do not fit their column."""


def parsed_blocks(
    path: Path,
    separator: str,
    encoding: str,
    n_columns: int,
    wanted: Mapping[int, pl.DataType],
    size: int | None = None,
) -> Iterator[tuple[pl.DataFrame, int]]:
    """Yield the wanted columns of each block, named by their positions, and the number of bytes that it took.

    Args:
        path: the file, whose first line is skipped.
        separator: of the columns.
        encoding: of the text.
        n_columns: of the file.
        wanted: type by position; an integer column comes as float64 from the first block on where it is none.
        size: bytes that are read at a time; a share of the file by default, since what a block needs while it is
            parsed counts in the peak of memory.

    Raises:
        NotPlainError: see there; what came before is of no use then.
        UsageError: the file holds bytes outside the encoding.
    """
    if len(separator.encode()) != 1:
        raise NotPlainError
    size = size or min(max(path.stat().st_size // 24, 1 << 20), BLOCK_BYTES)
    types = {str(position): wanted.get(position, pl.String()) for position in range(n_columns)}
    quoted = re.compile(rb'(?:^|(?<=[%b\n]))"[^"\n]*(?:""[^"\n]*)*"(?=[%b\n])' % ((re.escape(separator.encode()),) * 2))
    first = True
    for block, _ in blocks(path, encoding=encoding, size=size):
        n_bytes = len(block)
        rows = block[block.index(b"\n") + 1 :] if first else block
        first = False
        if b"\0" in rows:
            raise NotPlainError
        if not rows:
            continue
        quote = '"' if b'"' in rows else None
        if quote and b'"' in quoted.sub(b"", rows):
            raise NotPlainError
        frame = _parse(rows, separator, quote, types, sorted(wanted))
        if not rows.isascii():
            frame = frame.with_columns(normal_text(column) for column in frame if column.dtype == pl.String)
        # spellings of nan, and numbers that are too large, which polars takes and pandas refuses
        numbers = (frame[name] for name in frame.columns if frame[name].dtype == pl.Float64)
        if not all(column.is_finite().all() for column in numbers) or _has_blank_line(frame):
            raise NotPlainError
        yield frame, n_bytes


def _parse(
    rows: bytes, separator: str, quote: str | None, types: dict[str, pl.DataType], wanted: list[int]
) -> pl.DataFrame:
    """Parse, with float64 for an integer column that holds anything else; ``types`` remembers that."""
    integers = [name for name, kind in types.items() if kind == pl.Int64]
    try:
        frame = _read(rows, separator, quote, types, wanted)
    except pl.exceptions.PolarsError as error:
        if not integers:
            raise NotPlainError from error
        frame = None
    if frame is None or any(frame[name].null_count() for name in integers):
        types.update(dict.fromkeys(integers, pl.Float64()))
        try:
            frame = _read(rows, separator, quote, types, wanted)
        except pl.exceptions.PolarsError as error:
            raise NotPlainError from error
    return frame


def _read(
    rows: bytes, separator: str, quote: str | None, types: dict[str, pl.DataType], wanted: list[int]
) -> pl.DataFrame:
    return pl.read_csv(
        rows,
        has_header=False,
        separator=separator,
        quote_char=quote,
        schema=types,
        columns=wanted,
        null_values=list(MISSING),
    )


def _has_blank_line(frame: pl.DataFrame) -> bool:
    """Whether a row holds nothing, or nothing but white space in the first column, which pandas skips."""
    *others, first = reversed(frame.columns)
    empty = pl.lit(True) if frame[first].dtype != pl.String else pl.col(first).fill_null("").str.strip_chars() == ""
    if others and not all(frame[name].null_count() for name in others):
        return False
    return bool(frame.select(pl.all_horizontal(empty, *(pl.col(name).is_null() for name in others)).any()).item())
