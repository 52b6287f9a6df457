"""Raw tables (delimited text, JSON lines, parquet) as batches of named columns."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from recbole_signed.convert.batch import Batch
from recbole_signed.convert.files import blocks, existing_file, plain_suffix, scan_records
from recbole_signed.errors import UsageError, nearest

BATCH_ROWS = 2_000_000
"""Rows of a parquet file read at a time."""
SEPARATORS = {"tab": "\t", "comma": ",", "semicolon": ";", "pipe": "|", "space": " "}
WHITESPACE = "whitespace"
_UNIT = "\x1f"  # the separator that longer separators are turned into before parsing: ASCII's unit separator
_JSON_SUFFIXES = (".jsonl", ".ndjson", ".json")
_PARQUET_SUFFIXES = (".parquet", ".pq")
_SAMPLE_LINES = 100
_JSON_ERRORS = (pl.exceptions.PolarsError, pl.exceptions.PanicException, RuntimeError)  # it varies by version
_TYPE_OF_ATOMIC_FILE = re.compile(r":(token|float|token_seq|float_seq)$")


@dataclass(frozen=True)
class Table:
    """A raw table whose column names are known and whose rows can be read in batches.

    Made by :func:`open_table`. Text formats give every value as text ("" where there is none), parquet gives
    the types it has.
    """

    path: Path
    columns: tuple[str, ...]

    @property
    def is_text(self) -> bool:
        """Whether values come as text."""
        return True

    def batches(self, columns: Sequence[str]) -> Iterator[Batch]:
        """Read these columns, in file order.

        Raises:
            UsageError: an unknown column, no rows at all, or a row that cannot be read (with file and row).

        """
        for column in columns:
            if column not in self.columns:
                raise UsageError(
                    f"{self.path.name} has no column {column!r}{nearest(column, self.columns)}; "
                    f"it has {', '.join(map(repr, self.columns))}."
                )
        rows = 0
        for batch in self._read(list(dict.fromkeys(columns))):
            rows += batch.frame.height
            yield batch
        if rows == 0:
            raise UsageError(f"{self.path.name} holds no rows.")

    def _read(self, columns: list[str]) -> Iterator[Batch]:
        raise NotImplementedError


@dataclass(frozen=True)
class _Delimited(Table):
    separator: str
    quote: str | None
    encoding: str
    has_header: bool

    def _read(self, columns: list[str]) -> Iterator[Batch]:
        skip = self.has_header
        name, wanted = self.path.name, len(self.columns)
        for block, first_line in blocks(self.path, encoding=self.encoding, quote=self.quote):
            text, byte = _single_byte_separator(block, self.separator, name, first_line)
            records = scan_records(text, first_line, byte, self.quote, name)
            odd = np.flatnonzero(records.fields != wanted)
            if odd.size:
                got = int(records.fields[odd[0]])
                raise UsageError(
                    f"{name}, line {records.lines[odd[0]]}: {got} column{'s' * (got != 1)} where {wanted} were "
                    f"wanted ({', '.join(self.columns)}); mend the line, or give another separator."
                )
            if not records.lines.size:
                continue
            frame = pl.read_csv(
                records.block,
                has_header=False,
                separator=byte,
                quote_char=self.quote if self.quote and self.quote.encode() in records.block else None,
                infer_schema_length=0,
            )
            if frame.shape != (records.lines.size, wanted):
                raise UsageError(
                    f"{name}, lines {first_line} to {records.lines[-1]}: read as {frame.height} rows, "
                    f"{records.lines.size} were counted; try quote=none."
                )
            frame.columns = list(self.columns)
            lines = records.lines
            if skip:
                frame, lines, skip = frame[1:], lines[1:], False
            yield Batch(frame.select(pl.col(columns).fill_null("")), name, lines, "line")


@dataclass(frozen=True)
class _JsonLines(Table):
    encoding: str

    def _read(self, columns: list[str]) -> Iterator[Batch]:
        for block, first_line in blocks(self.path, encoding=self.encoding):
            records = scan_records(block, first_line, _UNIT, None, self.path.name)
            if not records.lines.size:
                continue
            try:
                frame = pl.read_ndjson(records.block, schema=dict.fromkeys(columns, pl.String))
            except _JSON_ERRORS as error:
                raise _broken_json(records.block, records.lines, self.path.name, error) from error
            if frame.height != records.lines.size:
                raise _broken_json(records.block, records.lines, self.path.name)
            frame = frame.select(pl.col(columns).fill_null(""))
            yield Batch(frame, self.path.name, records.lines, "line")


def _broken_json(block: bytes, lines: np.ndarray, origin: str, error: Exception | None = None) -> UsageError:
    for line, text in zip(lines, block.splitlines(), strict=False):
        try:
            broken = not isinstance(json.loads(text), dict)
        except ValueError:
            broken = True
        if broken:
            return UsageError(f"{origin}, line {line}: not a JSON object; every line is one object like {{...}}.")
    detail = f" ({str(error).splitlines()[0]})" if error is not None else ""
    return UsageError(f"{origin}, lines {lines[0]} to {lines[-1]}: JSON that could not be read{detail}.")


@dataclass(frozen=True)
class _Parquet(Table):
    @property
    def is_text(self) -> bool:
        return False

    def _read(self, columns: list[str]) -> Iterator[Batch]:
        start = 0
        while True:
            try:
                frame = pl.scan_parquet(self.path).select(columns).slice(start, BATCH_ROWS).collect()
            except pl.exceptions.PolarsError as error:
                raise _broken_parquet(self.path, error) from error
            if frame.height:
                yield Batch(frame, self.path.name, range(start + 1, start + 1 + frame.height))
            start += frame.height
            if frame.height < BATCH_ROWS:
                return


def _broken_parquet(path: Path, error: Exception) -> UsageError:
    return UsageError(f"{path.name} is not a parquet file that can be read ({str(error).splitlines()[0]}).")


def open_table(
    path: Path,
    *,
    columns: Sequence[str] | None = None,
    separator: str | None = None,
    quote: str | None = '"',
    encoding: str = "utf-8",
) -> Table:
    """Find out what a raw file is and which columns it has; nothing else is read yet.

    Args:
        path: .parquet, .jsonl, or delimited text of any other suffix; text also as .gz, .xz, .zst.
        columns: names of the columns of delimited text that has no header line.
        separator: of delimited text: any characters, a name (``tab``, ``comma``, ``semicolon``, ``pipe``,
            ``space``) or ``whitespace`` (any run of blanks and tabs); None guesses by suffix and first line.
        quote: character that quotes fields; None where quotes are ordinary characters.
        encoding: of text.

    Raises:
        UsageError: the file is missing, empty or broken, or its header names a column twice.

    """
    existing_file(path)
    suffix = plain_suffix(path)
    if suffix in _PARQUET_SUFFIXES:
        try:
            return _Parquet(path, tuple(pl.scan_parquet(path).collect_schema().names()))
        except (pl.exceptions.PolarsError, OSError) as error:
            raise _broken_parquet(path, error) from error
    sample = _first_lines(path, encoding)
    if suffix in _JSON_SUFFIXES:
        return _JsonLines(path, _json_keys(sample, path.name), encoding)
    if separator is None:
        separator = _guess_separator(sample[0], suffix, len(columns) if columns else None)
    separator = SEPARATORS.get(separator, separator)
    if len(separator) != 1:
        quote = None  # multi-character separators come from formats without quoting
    names = tuple(columns) if columns else _header(sample[0], separator, quote)
    names = tuple(name or f"column {index}" for index, name in enumerate(names, 1))
    for name in names:
        if names.count(name) > 1:
            where = "columns= names" if columns else f"The header of {path.name} names"
            raise UsageError(f"{where} the column {name!r} twice; give each column a name of its own.")
    return _Delimited(path, names, separator, quote, encoding, has_header=not columns)


def _first_lines(path: Path, encoding: str) -> list[str]:
    for block, _ in blocks(path, encoding=encoding, size=1 << 16):
        lines = [line for line in block.decode().split("\n") if line]
        if lines:
            return lines[:_SAMPLE_LINES]
    raise UsageError(f"{path.name} is empty.")


def _json_keys(sample: list[str], origin: str) -> tuple[str, ...]:
    keys: dict[str, None] = {}
    for text in sample:
        try:
            record: Any = json.loads(text)
        except ValueError:
            continue  # the reader of the rows will say which line it is
        if isinstance(record, dict):
            keys.update(dict.fromkeys(record))
    if not keys:
        raise UsageError(f"{origin}: no line of its first {len(sample)} is a JSON object like {{...}}.")
    return tuple(keys)


def _guess_separator(first_line: str, suffix: str, wanted: int | None) -> str:
    """Take the separator that gives the number of columns that is wanted, else the first that the line has."""
    candidates = ["\t", ",", "::", ";", "|", WHITESPACE]
    if suffix in (".tsv", ".tab"):
        return "\t"
    for separator in candidates:
        fields = len(first_line.split(None if separator == WHITESPACE else separator))
        if fields == wanted or (wanted is None and fields > 1):
            return separator
    return ","


def _header(line: str, separator: str, quote: str | None) -> tuple[str, ...]:
    if separator == WHITESPACE:
        fields = line.split()
    elif quote is None:
        fields = line.split(separator)
    else:
        fields = next(csv.reader([line], delimiter=separator, quotechar=quote))
    if all(_TYPE_OF_ATOMIC_FILE.search(field) for field in fields):  # RecBole's own format
        fields = [_TYPE_OF_ATOMIC_FILE.sub("", field) for field in fields]
    return tuple(field.strip() for field in fields)


def _single_byte_separator(block: bytes, separator: str, origin: str, first_line: int) -> tuple[bytes, str]:
    """Give the block with a separator of one byte, as the parser needs it."""
    if len(separator) == 1 and separator.isascii():
        return block, separator
    if _UNIT.encode() in block:
        line = first_line + block.count(b"\n", 0, block.index(_UNIT.encode()))
        raise UsageError(f"{origin}, line {line}: holds a control character (0x1f); remove it.")
    if separator == WHITESPACE:
        block = re.sub(rb"^[ \t]+|[ \t]+$", b"", block, flags=re.MULTILINE)
        return re.sub(rb"[ \t]+", _UNIT.encode(), block), _UNIT
    return block.replace(separator.encode(), _UNIT.encode()), _UNIT
