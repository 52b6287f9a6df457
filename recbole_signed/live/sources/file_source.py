"""Events from files and standard input. A position counts bytes (JSON lines) or rows (CSV, parquet)."""

from __future__ import annotations

import csv
import itertools
import json
import logging
import os
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, Any

import numpy as np

from recbole_signed.atomic import read_rows
from recbole_signed.errors import UsageError, counted, wrong_separator
from recbole_signed.files import parse_json
from recbole_signed.ids_and_times import milliseconds
from recbole_signed.live import LIKE, EventBatch
from recbole_signed.live.events import DISLIKE, VIEW, DeadLetter, Limits, content_id, field_meant, parse_rows
from recbole_signed.live.sources.source import EventSource, Polled, unreadable

_logger = logging.getLogger(__name__)
_REQUIRED = ("user_id", "item_id", "type", "timestamp")


class JsonLinesSource(EventSource):
    """One JSON object a line, UTF-8. What can't be read as one is a dead letter, with the line as it stands.

    The file may grow: a last line without a line end is read once it is an object, which no part of one is. Until then
    it is left for later.
    """

    def __init__(self, path: str | Path, limits: Limits | None = None) -> None:
        self.name = f"jsonl:{Path(path).absolute()}"
        self._file = _open(Path(path))
        self._limits = limits
        self._warned = False

    def seek(self, position: str | None) -> None:
        """Go to a byte; raises UsageError where the file is shorter."""
        _refuse_shorter(self._file.name, int(position or 0), self._file.seek(0, os.SEEK_END), "bytes")
        self._file.seek(int(position or 0))

    def poll(self, max_events: int) -> Polled:
        """Read up to ``max_events`` lines."""
        start = self._file.tell()
        lines = list(itertools.islice(self._file, max_events))
        if lines and _is_unfinished(lines[-1]):
            self._file.seek(-len(lines.pop()), os.SEEK_CUR)
            if not self._warned:
                _logger.warning("The last line of %s is not whole; it is left until it is.", self._file.name)
                self._warned = True
        ends = itertools.accumulate(map(len, lines), initial=start)
        batch, dead = parse_lines(lines, [f"byte {end}" for end in itertools.islice(ends, len(lines))], self._limits)
        return Polled(batch, dead, str(self._file.tell()), exhausted=len(lines) < max_events)

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def _is_unfinished(line: bytes) -> bool:
    """Return whether a line is still being written: it has no end and is no JSON object."""
    if line.endswith(b"\n"):
        return False
    try:
        return not isinstance(json.loads(line), dict)
    except (ValueError, RecursionError):
        return True


class StdinSource(EventSource):
    """JSON lines from standard input, which can't be put back: an event that is given twice needs an ``event_id``."""

    name = "stdin"

    def __init__(self, file: IO[bytes] | None = None, limits: Limits | None = None) -> None:
        self._file = file or sys.stdin.buffer
        self._limits = limits
        self._line = 0

    def poll(self, max_events: int) -> Polled:
        """Wait for a line, then take what is there without waiting for more than it, up to ``max_events``."""
        lines: list[bytes] = []
        while len(lines) < max_events and (line := self._file.readline()):
            lines.append(line)
            if b"\n" not in getattr(self._file, "peek", lambda _: b"\n")(1):  # the next line is not whole yet
                break
        positions = [f"line {self._line + i}" for i in range(1, len(lines) + 1)]
        self._line += len(lines)
        batch, dead = parse_lines(lines, positions, self._limits)
        return Polled(batch, dead, None, exhausted=not lines)


def parse_lines(
    lines: list[bytes], positions: list[str], limits: Limits | None = None
) -> tuple[EventBatch, list[DeadLetter]]:
    """Parse lines of JSON; blank lines are left out."""
    rows, places, dead = [], [], []
    for line, position in zip(lines, positions, strict=True):
        if not line.strip():
            continue
        try:
            rows.append(parse_json(line))
            places.append(position)
        except ValueError as error:
            dead.append(unreadable("line", line, position, error))
    batch, invalid = parse_rows(rows, places, limits)
    return batch, dead + invalid


class CsvSource(EventSource):
    """A CSV file with a header that names the fields of an event; other columns are passed over.

    A row with another number of columns than the header, or that is not UTF-8, is a dead letter. The file must be
    whole: a last row without a line end counts, since no part of a row can be told from a row.
    """

    def __init__(self, path: str | Path, separator: str = ",", limits: Limits | None = None) -> None:
        path = Path(path)
        self.name = f"csv:{path.absolute()}"
        self._file = _open(path)
        csv.field_size_limit(2**31 - 1)
        # a null byte would stop the reader; as this character the row becomes a dead letter
        text = (line.decode("utf-8", "surrogateescape").replace("\x00", "\udc00") for line in self._file)
        self._rows = _tolerant(csv.reader(text, delimiter=separator))
        header = next(self._rows, None)
        names = [name.strip().lstrip("\ufeff") for name in header] if isinstance(header, list) else []
        _require(names, path)
        self._names = names
        self._limits = limits
        self._row = 0

    def seek(self, position: str | None) -> None:
        """Skip rows; raises UsageError where there are fewer."""
        for _ in itertools.islice(self._rows, int(position or 0)):
            self._row += 1
        _refuse_shorter(self._file.name, int(position or 0), self._row, "rows")

    def poll(self, max_events: int) -> Polled:
        """Read up to ``max_events`` rows."""
        taken = list(itertools.islice(self._rows, max_events))
        rows: list[dict[str, Any]] = []
        places: list[str] = []
        dead: list[DeadLetter] = []
        for number, cells in enumerate(taken, self._row + 1):
            place = f"row {number}"
            if isinstance(cells, str):
                dead.append(DeadLetter(f"the row is not CSV: {cells}", place, None))
            elif len(cells) == len(self._names):
                rows.append(dict(zip(self._names, cells, strict=True)))
                places.append(place)
            elif cells:
                columns = counted(len(cells), "column")
                dead.append(DeadLetter(f"the row has {columns}, the header has {len(self._names)}", place, cells))
        self._row += len(taken)
        batch, invalid = parse_rows(rows, places, self._limits)
        return Polled(batch, dead + invalid, str(self._row), exhausted=len(taken) < max_events)

    def close(self) -> None:
        """Close the file."""
        self._file.close()


class ParquetSource(EventSource):
    """A parquet file with the fields of an event as columns; it is read in slices."""

    def __init__(self, path: str | Path, limits: Limits | None = None) -> None:
        import polars as pl

        path = Path(path)
        self.name = f"parquet:{path.absolute()}"
        _open(path).close()
        try:
            self._frame = pl.scan_parquet(path)
            columns = self._frame.collect_schema().names()
        except pl.exceptions.PolarsError as error:
            raise UsageError(f"{path} is not a parquet file: {' '.join(str(error).split())}.") from error
        _require(columns, path)
        known = [name for name in (*_REQUIRED, "event_id", "value", "features") if name in columns]
        self._frame = self._frame.select(known)
        self._row = 0
        self._limits, self._pl = limits, pl

    def seek(self, position: str | None) -> None:
        """Go to a row; raises UsageError where there are fewer."""
        self._row = int(position or 0)
        if self._row:
            path, n_rows = self.name.removeprefix("parquet:"), int(self._frame.select(self._pl.len()).collect().item())
            _refuse_shorter(path, self._row, n_rows, "rows")

    def poll(self, max_events: int) -> Polled:
        """Read up to ``max_events`` rows."""
        rows = self._frame.slice(self._row, max_events).collect().to_dicts()
        places = [f"row {self._row + i}" for i in range(1, len(rows) + 1)]
        self._row += len(rows)
        batch, dead = parse_rows(rows, places, self._limits)
        return Polled(batch, dead, str(self._row), exhausted=len(rows) < max_events)


def _open(path: Path) -> IO[bytes]:
    try:
        return path.open("rb")
    except OSError as error:
        raise UsageError(f"{path} can't be read: {error.strerror}.") from error


def _refuse_shorter(path: str, position: int, size: int, unit: str) -> None:
    """Refuse to go on behind the end of a file, where nothing would ever come."""
    if position > size:
        raise UsageError(
            f"{path} has {size} {unit}, and {position} were read before, so it is another file or was cut; give the "
            "new events in a file of another name."
        )


def _require(names: list[str], path: Path) -> None:
    missing = [name for name in _REQUIRED if name not in names]
    if missing:
        raise UsageError(
            f"{path} lacks the column {', '.join(missing)}; an event has user_id, item_id, type and timestamp, and may "
            f"have event_id and value; found: {', '.join(names) or 'nothing'}{wrong_separator(names) or '.'}"
        )

    for name in names:
        meant = field_meant(name)
        if meant is not None and meant not in names:
            raise UsageError(
                f"{path} has the column '{name}', which no event has; did you mean '{meant}'? Rename it, so that it is "
                "read, or so that it is not taken for a misspelt one."
            )


def _tolerant(reader: Iterator[list[str]]) -> Iterator[list[str] | str]:
    """Rows of a reader, or what it says of one that it can't read."""
    while True:
        try:
            yield next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            yield str(error)


_MILLISECONDS = 1000


class AtomicSource(EventSource):
    """Replays ``.inter`` files; a position counts rows by time. Likes and dislikes are those of the sign, 0 is a view.

    Rows of equal time stay in the order of the file. Time stamps become milliseconds; their size tells the unit that
    they have in the file (:mod:`recbole_signed.ids_and_times`). Columns, separator and sign are those of the yaml
    beside the files (:func:`recbole_signed.atomic.read_rows`).

    Args:
        path: a ``.inter`` file, or the folder of a data set.
        sign_rule: the like and dislike conditions (`SignRule.parse`) in place of the data set's own sign.
        start: seconds; rows before it are left out.
        end: seconds; rows from it on are left out.
    """

    def __init__(
        self,
        path: str | Path,
        sign_rule: Mapping[str, str] | None = None,
        start: float | None = None,
        end: float | None = None,
    ) -> None:
        path = Path(path)
        self.name = f"atomic:{path.absolute()}:{start}:{end}"
        rows = read_rows(path, sign_rule)
        if rows.times is None or rows.tokens is None:
            raise UsageError(
                f"{path} has no column of times, which a replay needs; set TIME_FIELD to a column of the type float."
            )
        times = milliseconds(rows.times, f"the time of {path}")
        taken = np.ones(len(times), dtype=bool)
        if start is not None:
            taken &= times >= start * _MILLISECONDS
        if end is not None:
            taken &= times < end * _MILLISECONDS
        if taken.any() and times[taken].min() < 0:
            raise UsageError(
                f"{path} holds times before 1970, which no event has; give 'start', or move all times to later ones."
            )
        order = np.flatnonzero(taken)
        order = order[np.argsort(times[order], kind="stable")]
        self._tokens = rows.tokens
        self._users, self._items = rows.users[order], rows.items[order]
        self._times = times[order]
        self._types = np.array([VIEW, LIKE, DISLIKE], dtype=np.int8)[rows.signs[order]]  # -1 counts from the end
        self._row = 0

    def __len__(self) -> int:
        return len(self._times)

    def seek(self, position: str | None) -> None:
        """Go to a row by time."""
        self._row = int(position or 0)

    def poll(self, max_events: int) -> Polled:
        """Give the next ``max_events`` rows."""
        rows = slice(self._row, min(self._row + max_events, len(self)))
        users, items = (
            tokens.gather(codes[rows]).to_list()
            for tokens, codes in zip(self._tokens, (self._users, self._items), strict=True)
        )
        types, times = self._types[rows], self._times[rows]
        value = np.full(len(users), np.nan)
        ids = [
            content_id(user, item, kind, stamp, float("nan"))
            for user, item, kind, stamp in zip(users, items, types.tolist(), times.tolist(), strict=True)
        ]
        self._row = rows.stop
        return Polled(
            EventBatch(ids, users, items, types, times, value), [], str(self._row), exhausted=self._row >= len(self)
        )
