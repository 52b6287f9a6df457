"""Rows of sorted keys with values beside them, that grow in place: what a node is joined to, one row a node.

All rows lie in one arena with room behind some of them. A row that outgrows its room moves to the end of the arena
with twice the room, so an insertion costs a copy of its own row at most, and reading a row is a slice.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence

import numpy as np

KEY = "key"
_SPARE = 1.25


class Adjacency:
    """Rows 0..n-1 of int32 keys, rising within a row, and of value columns of fixed types.

    Args:
        dtypes: of the value columns, by name.

    """

    def __init__(self, dtypes: Mapping[str, type]) -> None:
        self._dtypes: dict[str, type] = {KEY: np.int32, **dtypes}
        self.load(np.zeros(1, dtype=np.int64), {name: np.zeros(0, dtype) for name, dtype in self._dtypes.items()})

    def load(self, indptr: np.ndarray, columns: Mapping[str, np.ndarray]) -> None:
        """Take other rows, as CSR sorted by row and key: ``indptr`` int64 ``[n + 1]``, columns with ``key`` ``[E]``."""
        self._n = len(indptr) - 1
        self._start = indptr[:-1].astype(np.int64)
        self._length = np.diff(indptr).astype(np.int64)
        self._room = self._length.copy()
        self._end = self.n_entries = int(indptr[-1])
        size = int(self._end * _SPARE) + 1024
        self.columns: dict[str, np.ndarray] = {}
        for name, dtype in self._dtypes.items():
            self.columns[name] = np.empty(size, dtype)
            self.columns[name][: self._end] = columns[name]

    def __len__(self) -> int:
        return self._n

    def grow(self, n_rows: int) -> None:
        """Add empty rows until there are ``n_rows``."""
        if n_rows > len(self._start):
            more = np.zeros(max(n_rows, 2 * len(self._start)) - len(self._start), dtype=np.int64)
            self._start, self._length, self._room = (
                np.concatenate([array, more]) for array in (self._start, self._length, self._room)
            )
        self._n = max(self._n, n_rows)

    def row(self, row: int) -> slice:
        """Where a row lies in the columns."""
        start = int(self._start[row])
        return slice(start, start + int(self._length[row]))

    def places(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Where some rows lie in the columns: indptr int64 ``[len(rows) + 1]`` and the places of their entries."""
        start, length = self._start[rows], self._length[rows]
        indptr = np.zeros(len(rows) + 1, dtype=np.int64)
        np.cumsum(length, out=indptr[1:])
        return indptr, np.arange(indptr[-1]) + np.repeat(start - indptr[:-1], length)

    def find(self, rows: np.ndarray, keys: np.ndarray) -> np.ndarray:
        """Place of each (row, key) in the columns, int64 ``[n]``; -1 where it is not there."""
        low = self._start[rows]
        high = end = low + self._length[rows]
        column = self.columns[KEY]
        if len(rows) == 1:
            at = low + np.searchsorted(column[low[0] : end[0]], keys)
        else:
            while (open_ := low < high).any():  # a binary search in all the rows at once
                middle = (low + high) >> 1
                smaller = np.zeros(len(rows), dtype=bool)
                smaller[open_] = column[middle[open_]] < keys[open_]
                low = np.where(smaller, middle + 1, low)
                high = np.where(open_ & ~smaller, middle, high)
            at = low
        there = at < end
        there[there] = column[at[there]] == keys[there]
        return np.where(there, at, -1)

    def insert(self, rows: np.ndarray, keys: np.ndarray, values: Mapping[str, np.ndarray]) -> None:
        """Insert entries that are not there yet, sorted by row and key."""
        new = {KEY: keys, **values}
        for first, last in _runs(rows):
            row, n = int(rows[first]), last - first
            length = int(self._length[row])
            if length + n > self._room[row]:
                self._move(row, 2 * (length + n))
            here = self.row(row)
            at = np.searchsorted(self.columns[KEY][here], keys[first:last])
            if n == 1:
                place, end = here.start + int(at[0]), here.stop
                for name, column in self.columns.items():
                    column[place + 1 : end + 1] = column[place:end]
                    column[place] = new[name][first]
            else:
                old = np.ones(length + n, dtype=bool)
                old[at + np.arange(n)] = False
                for name, column in self.columns.items():
                    merged = np.empty(length + n, column.dtype)
                    merged[old] = column[here]
                    merged[~old] = new[name][first:last]
                    column[here.start : here.start + length + n] = merged
            self._length[row] = length + n
        self.n_entries += len(rows)

    def delete(self, rows: np.ndarray, keys: np.ndarray) -> None:
        """Delete entries that are there, sorted by row and key."""
        for first, last in _runs(rows):
            row, n = int(rows[first]), last - first
            here = self.row(row)
            at = np.searchsorted(self.columns[KEY][here], keys[first:last])
            if n == 1:
                place = here.start + int(at[0])
                for column in self.columns.values():
                    column[place : here.stop - 1] = column[place + 1 : here.stop]
            else:
                stays = np.ones(here.stop - here.start, dtype=bool)
                stays[at] = False
                for column in self.columns.values():
                    column[here.start : here.stop - n] = column[here][stays]
            self._length[row] -= n
        self.n_entries -= len(rows)

    def clear(self, row: int) -> None:
        """Delete all of a row, and overwrite it."""
        here = slice(int(self._start[row]), int(self._start[row] + self._room[row]))
        for column in self.columns.values():
            column[here] = 0
        self.n_entries -= int(self._length[row])
        self._length[row] = 0

    def gather(self, names: Sequence[str]) -> tuple[np.ndarray, list[np.ndarray]]:
        """Copy columns as CSR: indptr int64 ``[n + 1]`` and each column ``[E]``, sorted by row and key."""
        return _gather(self._start[: self._n], self._length[: self._n], self.columns, names)

    def freeze(self) -> Frozen:
        """Remember the rows as they are, at the cost of two numbers a row; `Frozen.keep` has to be told of changes."""
        return Frozen(self._start[: self._n].copy(), self._length[: self._n].copy(), dict(self.columns))

    def _move(self, row: int, room: int) -> None:
        """Give a row another place with more room."""
        if self._end + room > len(self.columns[KEY]):
            self._make_room(room)
        old = self.row(row)
        length = old.stop - old.start
        for column in self.columns.values():
            column[self._end : self._end + length] = column[old]
        self._start[row] = self._end
        self._room[row] = room
        self._end += room

    def _make_room(self, room: int) -> None:
        if self._room.sum() < 0.7 * self._end:  # mostly places that rows have left
            indptr, columns = self.gather(list(self.columns))
            self.load(indptr, dict(zip(self.columns, columns, strict=True)))
        size = max(len(self.columns[KEY]), int((self._end + room) * _SPARE) + 1024)
        for name, column in self.columns.items():
            if len(column) < size:
                larger = np.empty(size, column.dtype)
                larger[: self._end] = column[: self._end]
                self.columns[name] = larger


class Frozen:
    """Rows of an `Adjacency` at one moment, which can be copied while it goes on.

    Arrays are shared. A row is copied before it changes for the first time; rows that move leave what they were.
    """

    def __init__(self, start: np.ndarray, length: np.ndarray, columns: dict[str, np.ndarray]) -> None:
        self._start, self._length, self._columns = start, length, columns
        self._before: dict[int, dict[str, np.ndarray]] = {}

    def keep(self, rows: np.ndarray) -> None:
        """Copy rows that are about to change."""
        for row in rows.tolist():
            if row < len(self._start) and row not in self._before:
                here = slice(int(self._start[row]), int(self._start[row] + self._length[row]))
                self._before[row] = {name: column[here].copy() for name, column in self._columns.items()}

    def gather(self, names: Sequence[str]) -> tuple[np.ndarray, list[np.ndarray]]:
        """Copy the rows as `Adjacency.gather` does; `overlay` has to follow, once nothing changes any more."""
        return _gather(self._start, self._length, self._columns, names)

    def overlay(self, names: Sequence[str], indptr: np.ndarray, columns: Sequence[np.ndarray]) -> None:
        """Put the rows that have changed meanwhile back to what they were."""
        for row, before in self._before.items():
            for name, column in zip(names, columns, strict=True):
                column[indptr[row] : indptr[row + 1]] = before[name]


def _gather(
    start: np.ndarray, length: np.ndarray, columns: Mapping[str, np.ndarray], names: Sequence[str]
) -> tuple[np.ndarray, list[np.ndarray]]:
    indptr = np.zeros(len(start) + 1, dtype=np.int64)
    np.cumsum(length, out=indptr[1:])
    if np.array_equal(start[length > 0], indptr[:-1][length > 0]):  # as it was loaded
        return indptr, [columns[name][: indptr[-1]].copy() for name in names]
    filled = np.flatnonzero(length)
    start, end = start[filled], start[filled] + length[filled]
    breaks = np.flatnonzero(start[1:] != end[:-1]) + 1  # rows in a row that lie in a row are copied at once
    bounds = zip(start[np.r_[0, breaks]].tolist(), end[np.r_[breaks - 1, len(end) - 1]].tolist(), strict=True)
    pieces = [slice(first, last) for first, last in bounds]
    return indptr, [np.concatenate([columns[name][piece] for piece in pieces]) for name in names]


def _runs(rows: np.ndarray) -> list[tuple[int, int]]:
    """Ranges [first, last) of equal values in a sorted array."""
    if len(rows) == 1:
        return [(0, 1)]
    edges = np.flatnonzero(np.diff(rows)) + 1
    bounds = [0, *edges.tolist(), len(rows)]
    return [(a, b) for a, b in itertools.pairwise(bounds) if b > a]
