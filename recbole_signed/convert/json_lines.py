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

    def has(self, column: str) -> bool:
        """Whether any object of the file has this key; the file is read for it where its first lines don't have it."""
        if column in self.columns:
            return True
        # as it may be written: with other letters than ASCII's escaped, or as they are
        written = {json.dumps(column, ensure_ascii=ascii).encode() for ascii in (True, False)}
        with rejects.unrecorded():  # the reader of the rows records what is wrong with them
            for block, _ in blocks(self.path, encoding=self.encoding):
                if any(each in block for each in written):
                    lines = (line for line in block.split(b"\n") if any(each in line for each in written))
                    if any(column in _keys(line) for line in lines):
                        return True
        return False

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


def without_nested(batch: Batch, column: str) -> Batch:
    """Refuse the rows of JSON lines in which a column holds an object or a list, which came as its text.

    Raises:
        UsageError: there is one, with its line.
    """
    text, shown, raw = batch.frame[column], batch.called(column), batch.raw
    flat = ~text.str.contains(r"^[\[{]").to_numpy()
    if raw is not None:
        for place in np.flatnonzero(~flat).tolist():
            flat[place] = isinstance((_object(raw(int(batch.rows[place]))) or {}).get(shown), str)
    return batch.require(
        flat, lambda i: f"column {shown!r} holds {text[i]}, an id is a text or a number; write it as one", column
    )


def _is_object(text: bytes) -> bool:
    return _object(text) is not None


def _keys(text: str | bytes) -> tuple[str, ...]:
    return tuple(_object(text) or ())


def _object(text: str | bytes) -> dict[str, Any] | None:
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


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
    for text in sample:  # of a line that is none, the reader of the rows will say which one it is
        keys.update(dict.fromkeys(_keys(text)))
    if not keys:
        raise UsageError(
            f"{origin}: no line of its first {len(sample)} is a JSON object like {{...}}; write each row as one."
        )
    return tuple(keys)
