"""What becomes of bad rows: they stop the conversion, or (``on_error=skip``) go to a file and are counted.

Which of the two is a context variable. Lines that no parser could read are blanked, so that others keep their numbers.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cached_property
from pathlib import Path
from typing import IO, Any

import numpy as np

from recbole_signed.errors import UsageError

_NEWLINE = ord("\n")
_HEADER = ("file", "row", "column", "reason", "raw row")
_ESCAPES = str.maketrans({"\\": "\\\\", "\t": "\\t", "\n": "\\n", "\r": "\\r", "\0": "\\0"})


class Rejects:
    """Takes bad rows and writes them as escaped tab-separated text: file, line or row, column, reason, the raw row."""

    def __init__(self, path: Path | None) -> None:
        self.counts: dict[str, int] = {}  # rows taken, by the name of their file
        self.first: str | None = None  # place and reason of the first of them
        self.first_row: int | None = None
        self._path = path
        self._file: IO[str] | None = None

    @property
    def rows(self) -> int:
        """How many rows were taken."""
        return sum(self.counts.values())

    def add(self, origin: str, unit: str, row: int, column: str | None, reason: str, raw: str) -> None:
        """Take a bad row; ``unit`` is what ``row`` counts, ``line`` or ``row``."""
        self.counts[origin] = self.counts.get(origin, 0) + 1
        if self.first is None:
            self.first, self.first_row = f"{origin}, {unit} {row}: {reason}", row
        if self._path is None:
            return
        if self._file is None:
            self._file = self._path.open("w", encoding="utf-8", errors="backslashreplace", newline="\n")
            self._file.write("\t".join(_HEADER) + "\n")
        cells = (origin, str(row), column or "", reason, raw)
        self._file.write("\t".join(cell.translate(_ESCAPES) for cell in cells) + "\n")

    def close(self) -> None:
        """Write everything out; further rows are only counted."""
        if self._file is not None:
            self._file.close()
        self._file = self._path = None

    def as_dict(self) -> dict[str, Any]:
        """What ``dataset.json`` says about the rows that were left out."""
        return {"rows": self.rows, "files": dict(sorted(self.counts.items()))}


_current: ContextVar[Rejects | None] = ContextVar("rejects", default=None)


def current() -> Rejects | None:
    """Where bad rows go in the conversion under way; None where they stop it."""
    return _current.get()


@contextmanager
def using(rejects: Rejects | None) -> Iterator[Rejects | None]:
    """Send bad rows to ``rejects`` inside the block; None lets them stop. Not to be left open over a ``yield``."""
    token = _current.set(rejects)
    try:
        yield rejects
    finally:
        _current.reset(token)
        if rejects is not None:
            rejects.close()


@contextmanager
def unrecorded() -> Iterator[Rejects | None]:
    """Leave bad rows out without recording them, for a first look at a file that is then read again."""
    with using(None if current() is None else Rejects(None)) as rejects:
        yield rejects


def refuse(origin: str, line: int, reason: str, raw: Callable[[int], str]) -> None:
    """Take a bad line of text, whose text ``raw`` gives by its number."""
    taker = current()
    if taker is None:
        raise UsageError(f"{origin}, line {line}: {reason}.")
    taker.add(origin, "line", line, None, reason, raw(line))


class RawText:
    """The lines of a block by their number; ``starts`` are those at which records of several lines begin, ``[n]``."""

    def __init__(self, block: bytes, first_line: int, starts: np.ndarray | None = None) -> None:
        self._block = block
        self._first = first_line
        self._starts = starts

    @cached_property
    def _ends(self) -> np.ndarray:
        return np.flatnonzero(np.frombuffer(self._block, np.uint8) == _NEWLINE)

    def __call__(self, line: int) -> str:
        """Give the record that begins at this line, without its last line end."""
        first = last = line - self._first
        if self._starts is not None:
            following = int(np.searchsorted(self._starts, line, side="right"))
            last = (
                int(self._starts[following]) - self._first if following < self._starts.size else self._ends.size
            ) - 1
        begin = 0 if first == 0 else int(self._ends[first - 1]) + 1
        return self._block[begin : int(self._ends[last])].decode("utf-8", "backslashreplace").rstrip("\n")


def blank_lines(block: bytes, offsets: np.ndarray, first_line: int, origin: str, reason: Callable[[int], str]) -> bytes:
    """Refuse the lines that hold the bytes at ``offsets``, or return the block with only their line ends left."""
    raw = np.frombuffer(block, np.uint8)
    ends = np.flatnonzero(raw == _NEWLINE)
    bad, first_of = np.unique(np.searchsorted(ends, offsets), return_index=True)
    text = RawText(block, first_line)
    stays = np.ones(raw.size, bool)
    for index, offset in zip(map(int, bad), map(int, offsets[first_of]), strict=True):
        refuse(origin, first_line + index, reason(offset), text)
        stays[0 if index == 0 else int(ends[index - 1]) + 1 : int(ends[index])] = False
    return raw[stays].tobytes()


def undecodable(block: bytes, encoding: str) -> np.ndarray:
    """Offsets int64 of the first byte of each line that is not of the encoding."""
    view, start, found = memoryview(block), 0, []
    while True:
        try:
            str(view[start:], encoding)
        except UnicodeDecodeError as error:
            found.append(start + error.start)
            start = block.index(b"\n", start + error.start) + 1
        else:
            return np.array(found, np.int64)


def broken_quotes(block: bytes, separator: str, quote: str) -> np.ndarray:
    """Return the offsets of lines that begin no well-formed record; an unclosed quote costs its own line only."""
    q, s = re.escape(quote.encode()), re.escape(separator.encode())
    field = rb"(?:%b[^%b]*(?:%b%b[^%b]*)*%b|[^%b%b\n]*)" % (q, q, q, q, q, q, q, s)
    record = re.compile(rb"%b(?:%b%b)*\n" % (field, s, field))
    position, found = 0, []
    while position < len(block):
        match = record.match(block, position)
        if match is None:
            found.append(position)
            position = block.index(b"\n", position) + 1
        else:
            position = match.end()
    return np.array(found, np.int64)
