"""Raw tables (delimited text, JSON lines, parquet) as batches of named columns."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import polars as pl

from recbole_signed.convert.batch import Batch, RawText, blank_lines, current, json_row, refuse, unrecorded
from recbole_signed.convert.raw_files import blocks, existing_file, plain_suffix, records_of
from recbole_signed.errors import UsageError, ending, wrong_separator

BATCH_ROWS = 2_000_000  # rows of a parquet file read at a time
SEPARATORS = {"tab": "\t", "comma": ",", "semicolon": ";", "pipe": "|", "space": " "}
WHITESPACE = "whitespace"
_UNIT = "\x1f"  # the separator that longer separators are turned into before parsing: ASCII's unit separator
_JSON_SUFFIXES = (".jsonl", ".ndjson", ".json")
_PARQUET_SUFFIXES = (".parquet", ".pq")
_JSON_ERRORS = (pl.exceptions.PolarsError, pl.exceptions.PanicException, RuntimeError)  # it varies by version
_SAMPLE_LINES = 100
_HEADER_AGAIN = "the header again, as where files were joined; remove the line, or leave out all with on_error=skip"
_NOTE = re.compile(rb'\n*"?sep=([^\n"]{1,4})"?\n', re.IGNORECASE)  # tells a spreadsheet the separator, as first line
_STRAY_QUOTE = (
    "a quote ({}) stands inside a field that does not begin and end with one; double it and quote the field, or read "
    "the file with quote=none"
)
_TYPE_OF_ATOMIC_FILE = re.compile(r":(token|float|token_seq|float_seq)$")


@dataclass(frozen=True)
class RawTable:
    """A raw table, made by :func:`open_table`, with known names of columns; text formats give every value as text."""

    path: Path
    columns: tuple[str, ...]
    is_text: ClassVar[bool] = True  # whether values come as text

    def hint(self, column: str | None = None) -> str:
        """Return what helps where a column is missing, None for one under a usual name; ``""`` for nothing."""
        return wrong_separator(self.columns)

    def has(self, column: str) -> bool:
        """Whether there is a column of this name."""
        return column in self.columns

    def batches(self, columns: Sequence[str]) -> Iterator[Batch]:
        """Read these columns, in file order."""
        for column in columns:
            if not self.has(column):
                raise UsageError(
                    f"{self.path.name} has no column {column!r}; it has {', '.join(map(repr, self.columns))}"
                    f"{self.hint(column) or ending(column, self.columns)}"
                )
        rows = 0
        for batch in self._read(list(dict.fromkeys(columns))):
            rows += batch.frame.height
            yield batch
        taker = current()
        if rows == 0 and not (taker and self.path.name in taker.counts):
            raise UsageError(f"{self.path.name} holds no rows.")

    def _read(self, columns: list[str]) -> Iterator[Batch]:
        raise NotImplementedError


@dataclass(frozen=True)
class _Delimited(RawTable):
    """Text with separators: polars reads each block; one that it may not read is gone through record by record."""

    separator: str
    quote: str | None
    encoding: str
    has_header: bool

    def _read(self, columns: list[str]) -> Iterator[Batch]:
        header = b"" if self.has_header else None  # empty until it is read
        name = self.path.name
        for block, first_line in blocks(self.path, encoding=self.encoding, quote=self.quote):
            if first_line == 1 and (note := _NOTE.match(block)):
                block = b"\n" * note[0].count(b"\n") + block[note.end() :]  # the numbers of lines stay
            text, byte = _single_byte_separator(block, self.separator, name, first_line)
            if header == b"" and (rest := text.lstrip(b"\n")):
                blank = len(text) - len(rest)
                header = rest[: rest.index(b"\n") + 1]
                if [problem for *_, problem in self._records(header, byte, 1)] != [None]:
                    raise UsageError(f"{name}, line {first_line + blank}: the header is damaged.")
                text = text[:blank] + rest[len(header) - 1 :]
            # with quotes a record may have several lines, else it is one line of the text as it was
            whole = text if self.quote else block
            records = records_of(text, first_line, byte, self.quote)
            frame = None
            if records is not None and not (header and header in records[0]):
                dense, lines, separators = records
                raw = RawText(whole, first_line, lines)
                if separators == lines.size * (len(self.columns) - 1):
                    frame = self._parse(dense, lines.size, byte)
            if frame is None:
                starts, good, one_line = [], [], RawText(block, first_line)
                for line, record, problem in self._records(text, byte, first_line, header):
                    starts.append(line)
                    if problem is None:
                        good.append((line, record))
                    else:
                        refuse(name, line, problem, RawText(record, line, [line]) if self.quote else one_line)
                raw, lines = RawText(whole, first_line, np.array(starts)), np.array([line for line, _ in good])
                frame = self._parse(b"".join(record for _, record in good), lines.size, byte)
                if frame is None:
                    raise UsageError(f"{name}, lines {first_line} to {lines[-1]}: cannot be read; try quote=none.")
            if self.quote and byte != self.separator:  # within quotes it is text
                frame = frame.with_columns(pl.all().str.replace_all(byte, self.separator, literal=True))
            if frame.height:
                yield Batch(frame.select(pl.col(columns).fill_null("")), name, lines, "line", raw)

    def _parse(self, text: bytes, rows: int, byte: str) -> pl.DataFrame | None:
        """Return the rows of a text without blank lines; None where it cannot be read as so many."""
        schema = dict.fromkeys(self.columns, pl.String)
        if not rows:
            return pl.DataFrame(schema=schema)
        quote = self.quote if self.quote and self.quote.encode() in text else None
        try:
            frame = pl.read_csv(text, has_header=False, separator=byte, quote_char=quote, schema=schema)
        except pl.exceptions.PolarsError:
            return None
        return frame if frame.height == rows else None

    def _records(
        self, text: bytes, byte: str, first_line: int, header: bytes | None = None
    ) -> Iterator[tuple[int, bytes, str | None]]:
        """Yield the line, the text and the fault of each record; an unclosed quote costs its own line only."""
        separator, quote = (re.escape((mark or "\n").encode()) for mark in (byte, self.quote))
        quoted = re.compile(rb"%b[^%b]*(?:%b%b[^%b]*)*%b" % ((quote,) * 6) if self.quote else rb"(?!)")
        field = rb"(?:%b|[^%b%b\n]*)" % (quoted.pattern, quote, separator)
        record = re.compile(rb"%b(?:%b%b)*\n" % (field, separator, field))
        place, line, n_columns = 0, first_line, len(self.columns)
        while place < len(text):
            match = record.match(text, place)
            end = match.end() if match else text.index(b"\n", place) + 1
            piece, problem = text[place:end], None
            got = quoted.sub(b"", piece).count(byte.encode()) + 1
            if match is None:
                problem = _STRAY_QUOTE.format(self.quote)
            elif got != n_columns:
                problem = (
                    f"{got} column{'s' * (got != 1)} where {n_columns} were expected ({', '.join(self.columns)}); "
                    "fix the line, or give another separator"
                )
            elif piece == header:
                problem = _HEADER_AGAIN
            if piece != b"\n":
                yield line, piece, problem
            line += piece.count(b"\n")
            place = end


@dataclass(frozen=True)
class TypedTable(RawTable):
    """A table whose values have types: a parquet file, or a frame in memory under the name ``path``."""

    frame: pl.LazyFrame
    is_text = False

    def _read(self, columns: list[str]) -> Iterator[Batch]:
        start, rows = 0, BATCH_ROWS
        while rows == BATCH_ROWS:
            try:
                part = self.frame.select(columns).slice(start, BATCH_ROWS).collect()
            except pl.exceptions.PolarsError as error:
                raise _broken_parquet(self.path, error) from error
            rows = part.height
            if rows:  # the row as it is now: its values may be turned into others before it is refused
                raw = lambda row, part=part, first=start + 1: json_row(part, row - first)  # noqa: E731
                yield Batch(part, self.path.name, range(start + 1, start + 1 + rows), raw=raw)
            start += rows


def _broken_parquet(path: Path, error: Exception) -> UsageError:
    return UsageError(f"{path.name} is not a parquet file that can be read ({str(error).splitlines()[0]}).")


def open_table(
    path: Path,
    *,
    columns: Sequence[str] | None = None,
    separator: str | None = None,
    quote: str | None = '"',
    encoding: str = "utf-8",
) -> RawTable:
    """Find out what a raw file is (.parquet, .jsonl or delimited text) and which columns it has; read no more yet.

    ``separator`` is a text, a name in :data:`SEPARATORS`, ``whitespace``, or None for a guess; ``quote`` None is no
    quote.
    """
    existing_file(path)
    suffix = plain_suffix(path)
    if suffix in _PARQUET_SUFFIXES:
        try:
            frame = pl.scan_parquet(path)
            return TypedTable(path, tuple(frame.collect_schema().names()), frame)
        except (pl.exceptions.PolarsError, OSError) as error:
            raise _broken_parquet(path, error) from error
    sample = first_lines(path, encoding, header=not columns and suffix not in _JSON_SUFFIXES)
    if 3 * sample[0].count("\0") > len(sample[0]):  # every other one; a stray one is a fault of its own
        raise UsageError(
            f"{path.name} has null characters in its first line, as UTF-16 read as {encoding}; give its encoding, for "
            "example encoding=utf-16-le."
        )
    if suffix in _JSON_SUFFIXES:
        return JsonLines(path, keys_of(sample, path.name), encoding)
    if note := _NOTE.fullmatch(f"{sample[0]}\n".encode()):
        separator, sample = separator or note[1].decode(), sample[1:]
        if not sample:
            raise UsageError(f"{path.name} holds no rows.")
    if separator is None:
        separator = _guess_separator(sample[0], suffix, len(columns) if columns else None)
    separator = SEPARATORS.get(separator, separator)
    if not separator:
        raise UsageError(f"separator is empty; give any text, or one of {', '.join(SEPARATORS)}.")
    if len(separator) != 1:
        quote = None  # multi-character separators come from formats without quoting
    names = tuple(columns) if columns else _header(sample[0], separator, quote, path.name)
    names = tuple(name or f"column {index}" for index, name in enumerate(names, 1))
    for name in names:
        if names.count(name) > 1:
            where = "columns= names" if columns else f"The header of {path.name} names"
            raise UsageError(f"{where} the column {name!r} twice; give each column a name of its own.")
    return _Delimited(path, names, separator, quote, encoding, has_header=not columns)


def first_lines(path: Path, encoding: str = "utf-8", *, header: bool = False) -> list[str]:
    """Return some first lines of a file that are not blank; a bad one before them is refused if it is the header."""
    with unrecorded() as bad:
        for block, first_line in blocks(path, encoding=encoding, size=1 << 16):
            if text := block.lstrip(b"\n"):
                if header and bad and bad.first_row and bad.first_row < first_line + len(block) - len(text):
                    raise UsageError(f"{bad.first}; it is the first line, without which the rest cannot be read.")
                return [line for line in text.decode().split("\n") if line][:_SAMPLE_LINES]
    raise UsageError(f"{path.name} is empty.")


def _guess_separator(first_line: str, suffix: str, n_columns: int | None) -> str:
    """Take the separator that gives the number of columns that is wanted, else the one that is there most often."""
    if suffix in (".tsv", ".tab"):
        return "\t"
    candidates = ["\t", ",", "::", ";", "|"]
    if n_columns is None:  # a name may hold another separator, as in 'user;item;rating, 1 to 5'
        plain = re.sub('"[^"]*"', "", first_line)
        if any(candidate in plain for candidate in candidates):
            return max(candidates, key=plain.count)
        return WHITESPACE if len(plain.split()) > 1 else ","
    for separator in [*candidates, WHITESPACE]:
        if len(first_line.split(None if separator == WHITESPACE else separator)) == n_columns:
            return separator
    return ","


def _header(line: str, separator: str, quote: str | None, name: str) -> tuple[str, ...]:
    if separator == WHITESPACE:
        fields = line.split()
    elif quote is None:
        fields = line.split(separator)
    else:
        try:
            fields = next(csv.reader([line], delimiter=separator, quotechar=quote))
        except csv.Error as error:  # a null character, which Python takes since 3.11
            raise UsageError(f"{name}, line 1: {error}; the names of the columns cannot be read, fix them.") from error
    if all(_TYPE_OF_ATOMIC_FILE.search(field) for field in fields):  # RecBole's own format
        fields = [_TYPE_OF_ATOMIC_FILE.sub("", field) for field in fields]
    return tuple(field.strip() for field in fields)


def _single_byte_separator(block: bytes, separator: str, origin: str, first_line: int) -> tuple[bytes, str]:
    """Give the block with a separator of one byte, as the parser needs it."""
    if len(separator) == 1 and separator.isascii():
        return block, separator
    if _UNIT.encode() in block:
        problem = "holds a control character (0x1f); remove it"
        block = blank_lines(block, re.compile(_UNIT.encode()), first_line, origin, lambda _: problem)
    if separator == WHITESPACE:
        block = re.sub(rb"^[ \t]+|[ \t]+$", b"", block, flags=re.MULTILINE)
        return re.sub(rb"[ \t]+", _UNIT.encode(), block), _UNIT
    return block.replace(separator.encode(), _UNIT.encode()), _UNIT


@dataclass(frozen=True)
class JsonLines(RawTable):
    """A table of JSON lines; every value comes as text."""

    encoding: str

    def has(self, column: str) -> bool:
        """Whether any object of the file has this key; the file is read for it where its first lines don't have it."""
        if column in self.columns:
            return True
        # as it may be written: with other letters than ASCII's escaped, or as they are
        written = {json.dumps(column, ensure_ascii=ascii).encode() for ascii in (True, False)}
        with unrecorded():  # the reader of the rows records what is wrong with them
            for block, _ in blocks(self.path, encoding=self.encoding):
                if any(key in block for key in written):
                    lines = (line for line in block.split(b"\n") if any(key in line for key in written))
                    if any(column in _keys(line) for line in lines):
                        return True
        return False

    def _read(self, columns: list[str]) -> Iterator[Batch]:
        name = self.path.name
        for block, first_line in blocks(self.path, encoding=self.encoding):
            raw = RawText(block, first_line)
            text, lines, _ = records_of(block, first_line, _UNIT, None) or (b"", np.zeros(0, np.int64), 0)
            while isinstance(frame := _parse_json(text, lines.size, columns), str):
                text, lines = _without_broken_json(text, lines, raw, columns, name, frame)
            if frame.height:
                yield Batch(frame.select(pl.col(columns).fill_null("")), name, lines, "line", raw)


_ROUNDED = re.compile(rb":\s*-?\d(\d{15,}\.|[\d.]*[eE])")  # numbers that polars would write as plain digits


class _Written(float):
    """A number of JSON that knows how it was written."""

    text: str

    def __new__(cls, text: str) -> _Written:
        number = super().__new__(cls, text)
        number.text = text
        return number


def _with_numbers_as_written(block: bytes) -> bytes:
    """Quote numbers such as 7.6e+16, line by line: whether they were rounded is seen by how they are written."""
    if _ROUNDED.search(block) is None:
        return block
    lines = block.splitlines(keepends=True)
    for place, line in enumerate(lines):
        if _ROUNDED.search(line) and (record := _object(line, _Written)) is not None:
            plain = {key: value.text if isinstance(value, _Written) else value for key, value in record.items()}
            lines[place] = json.dumps(plain).encode() + b"\n"
    return b"".join(lines)


def _parse_json(block: bytes, rows: int, columns: list[str]) -> pl.DataFrame | str:
    """Rows of a block of JSON lines as text, or what is wrong with it."""
    if not rows:
        return pl.DataFrame()
    try:
        frame = pl.read_ndjson(_with_numbers_as_written(block), schema=dict.fromkeys(columns, pl.String))
    except _JSON_ERRORS as error:
        return f"JSON that could not be read ({str(error).splitlines()[0]})"
    return frame if frame.height == rows else f"JSON read as {frame.height} rows where there are {rows} lines"


def _without_broken_json(
    text: bytes, lines: np.ndarray, raw: RawText, columns: list[str], origin: str, problem: str
) -> tuple[bytes, np.ndarray]:
    """Refuse or leave out the lines of a text that are not JSON objects, or none that the parser takes."""
    texts = text.splitlines(keepends=True)
    broken = [index for index, record in enumerate(texts) if _object(record) is None]
    if broken:
        problem = "not a JSON object; every line is one object like {...}"
    else:
        broken = _unparsable(texts, 0, len(texts), columns)
    if not broken:
        raise UsageError(f"{origin}, lines {lines[0]} to {lines[-1]}: {problem}.")
    for index in broken:
        refuse(origin, int(lines[index]), problem, raw)
        texts[index] = b""
    return b"".join(texts), np.delete(lines, broken)


def without_nested(batch: Batch, column: str) -> Batch:
    """Refuse the rows of JSON lines in which a column holds an object or a list, which came as its text."""
    shown, raw = batch.called(column), batch.raw
    flat = ~batch.frame[column].str.contains(r"^([\[{]|true$|false$)").to_numpy()
    if raw is not None:
        for place in np.flatnonzero(~flat).tolist():
            flat[place] = isinstance((_object(raw(int(batch.rows[place]))) or {}).get(shown), str)
    return batch.require(flat, "column {column!r} holds {value}, an id is a text or a number; write it as one", column)


def _keys(text: str | bytes) -> tuple[str, ...]:
    return tuple(_object(text) or ())


def _object(text: str | bytes, number: Callable[[str], Any] | None = None) -> dict[str, Any] | None:
    try:
        value = json.loads(text, parse_float=number)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def _unparsable(texts: list[bytes], low: int, high: int, columns: list[str]) -> list[int]:
    """Which of the lines the parser does not take, by halves."""
    if not isinstance(_parse_json(b"".join(texts[low:high]), high - low, columns), str):
        return []
    if high - low == 1:
        return [low]
    middle = (low + high) // 2
    return _unparsable(texts, low, middle, columns) + _unparsable(texts, middle, high, columns)


def keys_of(sample: Sequence[str], origin: str) -> tuple[str, ...]:
    """Give the keys of the objects in some first lines of a file."""
    keys: dict[str, None] = {}
    for text in sample:  # of a line that is none, the reader of the rows will say which one it is
        keys.update(dict.fromkeys(_keys(text)))
    if not keys:
        raise UsageError(
            f"{origin}: no line of its first {len(sample)} is a JSON object like {{...}}; write each row as one."
        )
    return tuple(keys)
