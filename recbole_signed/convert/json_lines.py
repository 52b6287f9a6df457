"""Raw tables of one JSON object a line."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl

from recbole_signed.convert import rejects
from recbole_signed.convert.batch import Batch
from recbole_signed.convert.raw_files import Records, blocks, scan_records
from recbole_signed.convert.raw_table import RawTable
from recbole_signed.convert.repair import RawText
from recbole_signed.errors import UsageError

_UNIT = "\x1f"  # no separator at all: a line is one record
_ERRORS = (pl.exceptions.PolarsError, pl.exceptions.PanicException, RuntimeError)  # it varies by version


@dataclass(frozen=True)
class JsonLines(RawTable):
    """A table of JSON lines; every value comes as text."""

    encoding: str

    def _read(self, columns: list[str]) -> Iterator[Batch]:
        name = self.path.name
        for block, first_line in blocks(self.path, encoding=self.encoding):
            records = scan_records(block, first_line, _UNIT, None, name)
            if not records.lines.size:
                continue
            raw = RawText(block, first_line)
            frame = _parse_json(records.block, records.lines.size, columns)
            if isinstance(frame, str):
                records = _without_broken_json(records, raw, columns, name, frame)
                if not records.lines.size:
                    continue
                frame = _parse_json(records.block, records.lines.size, columns)
            if isinstance(frame, str):
                raise UsageError(f"{name}, lines {first_line} to {records.lines[-1]}: {frame}.")
            yield Batch(frame.select(pl.col(columns).fill_null("")), name, records.lines, "line", raw)


def _parse_json(block: bytes, rows: int, columns: list[str]) -> pl.DataFrame | str:
    """Rows of a block of JSON lines as text, or what is wrong with it."""
    try:
        frame = pl.read_ndjson(block, schema=dict.fromkeys(columns, pl.String))
    except _ERRORS as error:
        return f"JSON that could not be read ({str(error).splitlines()[0]})"
    return frame if frame.height == rows else f"JSON read as {frame.height} rows where there are {rows} lines"


def _without_broken_json(records: Records, raw: RawText, columns: list[str], origin: str, problem: str) -> Records:
    """Refuse or leave out the lines of a block that are not JSON objects, or none that the parser takes."""
    texts = [text + b"\n" for text in records.block.split(b"\n")[:-1]]
    objects = np.array([_is_object(text) for text in texts])
    broken = np.flatnonzero(~objects).tolist() or _unparsable(texts, 0, len(texts), columns)
    taker = rejects.current()
    for index in broken:
        line = int(records.lines[index])
        reason = problem if objects[index] else "not a JSON object; every line is one object like {...}"
        if taker is None:
            raise UsageError(f"{origin}, line {line}: {reason}.")
        taker.add(origin, "line", line, None, reason, raw(line))
    stay = np.ones(len(texts), bool)
    stay[broken] = False
    rest = records.only(stay)
    if objects.all() or not rest.lines.size:
        return rest
    left = _parse_json(rest.block, rest.lines.size, columns)
    return _without_broken_json(rest, raw, columns, origin, left) if isinstance(left, str) else rest


def _is_object(text: bytes) -> bool:
    try:
        return isinstance(json.loads(text), dict)
    except (ValueError, RecursionError):
        return False


def _unparsable(texts: list[bytes], low: int, high: int, columns: list[str]) -> list[int]:
    """Which of the lines the parser does not take, by halves."""
    if not isinstance(_parse_json(b"".join(texts[low:high]), high - low, columns), str):
        return []
    if high - low == 1:
        return [low]
    middle = (low + high) // 2
    return _unparsable(texts, low, middle, columns) + _unparsable(texts, middle, high, columns)


def keys_of(sample: Sequence[str], origin: str) -> tuple[str, ...]:
    """Give the keys of the objects in some first lines of a file.

    Raises:
        UsageError: no line is an object.

    """
    keys: dict[str, None] = {}
    for text in sample:
        try:
            record: Any = json.loads(text)
        except (ValueError, RecursionError):
            continue  # the reader of the rows will say which line it is
        if isinstance(record, dict):
            keys.update(dict.fromkeys(record))
    if not keys:
        raise UsageError(f"{origin}: no line of its first {len(sample)} is a JSON object like {{...}}.")
    return tuple(keys)
