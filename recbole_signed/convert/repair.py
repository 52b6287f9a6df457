"""Text that no reader could parse, line by line: such lines are recorded and blanked, so that the others can be read.

Only under ``on_error=skip``; a line keeps its place, so that the numbers of the lines after it stay right.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import cached_property

import numpy as np

from recbole_signed.convert import rejects

_NEWLINE = ord("\n")


class RawText:
    """The lines of a block by their number in the file.

    Args:
        block: whole lines, each ending in a newline.
        first_line: number of the first.
        starts: int64 ``[n]``: numbers of the lines at which records begin, ascending, where a record may have several.
    """

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
    """Record the lines that hold these bytes, and give the block with nothing left of them but their line ends.

    Args:
        block: whole lines.
        offsets: int64 ``[n]``, ascending: a byte of each line that is bad.
        first_line: number of the first line of the block.
        origin: the file.
        reason: says what is wrong at an offset.
    """
    taker = rejects.current()
    assert taker is not None
    raw = np.frombuffer(block, np.uint8)
    ends = np.flatnonzero(raw == _NEWLINE)
    bad, first_of = np.unique(np.searchsorted(ends, offsets), return_index=True)
    text = RawText(block, first_line)
    stays = np.ones(raw.size, bool)
    for index, offset in zip(map(int, bad), map(int, offsets[first_of]), strict=True):
        line = first_line + index
        taker.add(origin, "line", line, None, reason(offset), text(line))
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
    """Offsets int64 of the lines that begin no well-formed record of delimited text.

    After such a line reading goes on with the next one, so a quote that is never closed costs its own line only.
    """
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
