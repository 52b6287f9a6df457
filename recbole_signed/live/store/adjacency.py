"""Rows of sorted keys with values beside them, that grow in place: what a node is joined to, one row a node.

All rows lie in one arena with some room each; one that outgrows it moves to a place of one of few sizes.
"""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from recbole_signed.arrays import begins, grown, spans
from recbole_signed.live.store.edge_views import pieces

KEY = "key"
_RESERVE = 2  # address space of the arena over what is used; the system lends no memory for what was never written to
_DENSE = 0.7  # share of the arena in use below which rows are moved together before it is made longer


def _sizes() -> np.ndarray:
    """Sizes of places, each an eighth larger than the one before."""
    sizes = [2]
    while sizes[-1] < 2**40:
        sizes.append(sizes[-1] + max(2, sizes[-1] // 8))
    return np.array([0, *sizes], dtype=np.int64)


_SIZES = _sizes()


class Adjacency:
    """Rows 0..n-1 of int32 keys, rising within a row, and of value columns of fixed types."""

    def __init__(self, dtypes: Mapping[str, type]) -> None:
        self._dtypes: dict[str, type] = {KEY: np.int32, **dtypes}
        self._frozen: list[Frozen] = []
        self.load(np.zeros(1, dtype=np.int64), {name: np.zeros(0, dtype) for name, dtype in self._dtypes.items()})

    def load(self, indptr: np.ndarray, columns: Mapping[str, np.ndarray]) -> None:
        """Take other rows, as CSR sorted by row and key: ``indptr`` int64 ``[n + 1]``, columns with ``key`` ``[E]``."""
        self._n = len(indptr) - 1
        self._length = np.diff(indptr).astype(np.int64)
        self._room = _room_for(self._length, 8)
        ends = np.cumsum(self._room)
        self._start = ends - self._room
        self._end, self.n_entries = int(self._room.sum()), int(indptr[-1])
        self._free: dict[int, list[int]] = {}  # places that rows have left, by their size
        size = _RESERVE * self._end + 1024
        self.columns: dict[str, np.ndarray] = {name: np.empty(size, dtype) for name, dtype in self._dtypes.items()}
        for entries, places in _places(indptr, self._start, self._length):
            for name, column in self.columns.items():
                column[places] = columns[name][entries]

    def __len__(self) -> int:
        return self._n

    def grow(self, n_rows: int) -> None:
        """Add empty rows until there are ``n_rows``."""
        self._start, self._length, self._room = (
            grown(array, n_rows) for array in (self._start, self._length, self._room)
        )
        self._n = max(self._n, n_rows)

    def row(self, row: int) -> slice:
        """Where a row lies in the columns."""
        start = int(self._start[row])
        return slice(start, start + int(self._length[row]))

    def places(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Where some rows lie in the columns: indptr int64 ``[len(rows) + 1]`` and places ``[d]``."""
        start, length = self._start[rows], self._length[rows]
        return np.append(0, np.cumsum(length)), spans(start, length)

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
                self._move(row, length + n)
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

    def keep(self, rows: np.ndarray) -> None:
        """Let what is frozen copy rows, ``[m]`` in any order, that are about to change."""
        for frozen in self._frozen:
            frozen.keep(rows)

    def _move(self, row: int, length: int) -> None:
        """Give a row another place, with room for more than ``length`` entries."""
        room = int(_room_for(np.array([length]), 4)[0])
        if not self._free.get(room) and self._end + room > len(self.columns[KEY]):
            self._make_room(room)
        free = self._free.get(room)
        if free:
            start = free.pop()
        else:
            start, self._end = self._end, self._end + room
        old = self.row(row)
        for column in self.columns.values():
            column[start : start + old.stop - old.start] = column[old]
        if left := int(self._room[row]):  # what something frozen would read there, it has copied: the row changes
            self._free.setdefault(left, []).append(old.start)
        self._start[row], self._room[row] = start, room

    def _make_room(self, room: int) -> None:
        if self._room.sum() < _DENSE * self._end:  # mostly places that rows have left
            indptr, columns = self.gather(list(self.columns))
            self.load(indptr, dict(zip(self.columns, columns, strict=True)))
        size = self._end + room
        if size > len(self.columns[KEY]):
            for name, column in self.columns.items():
                larger = np.empty(_RESERVE * size, column.dtype)
                larger[: self._end] = column[: self._end]
                self.columns[name] = larger


class Frozen:
    """Rows of an `Adjacency` at one moment, at the cost of two numbers a row: one is copied before its first change."""

    def __init__(self, rows: Adjacency) -> None:
        n = len(rows)
        self._rows, self._columns = rows, dict(rows.columns)
        self._start, self._length = rows._start[:n].copy(), rows._length[:n].copy()
        self._before: dict[int, dict[str, np.ndarray]] = {}
        rows._frozen.append(self)  # until they are copied: `Adjacency.keep` tells it what is about to change

    def keep(self, rows: np.ndarray) -> None:
        """Copy rows that are about to change."""
        for row in rows.tolist():
            if row < len(self._start) and row not in self._before:
                here = slice(int(self._start[row]), int(self._start[row] + self._length[row]))
                self._before[row] = {name: column[here].copy() for name, column in self._columns.items()}

    def copied(
        self, names: Sequence[str], lock: contextlib.AbstractContextManager[object]
    ) -> tuple[np.ndarray, list[np.ndarray]]:
        """Copy the rows as `Adjacency.gather` does, while changes go on, which hold ``lock``; only once."""
        try:
            indptr, columns = _gather(self._start, self._length, self._columns, names)
        finally:
            with lock:
                self._rows._frozen.remove(self)
        for row, before in self._before.items():  # those that have changed meanwhile
            for name, column in zip(names, columns, strict=True):
                column[indptr[row] : indptr[row + 1]] = before[name]
        return indptr, columns


def _room_for(length: np.ndarray, part: int) -> np.ndarray:
    """Size of a place for rows of some lengths, with room for one of ``part`` more; 0 for an empty row."""
    return np.where(length > 0, _SIZES[np.searchsorted(_SIZES, length + length // part + 1)], 0)


def _places(indptr: np.ndarray, start: np.ndarray, length: np.ndarray) -> Iterator[tuple[slice, np.ndarray]]:
    """Entries of all rows one after the other, a piece at a time, and their places in the arena."""
    for first, last in pieces(indptr):
        entries = slice(int(indptr[first]), int(indptr[last]))
        shift = np.repeat(start[first:last] - indptr[first:last], length[first:last])
        yield entries, np.arange(entries.start, entries.stop) + shift


def _gather(
    start: np.ndarray, length: np.ndarray, columns: Mapping[str, np.ndarray], names: Sequence[str]
) -> tuple[np.ndarray, list[np.ndarray]]:
    indptr = np.append(0, np.cumsum(length))
    copies = [np.empty(indptr[-1], columns[name].dtype) for name in names]
    for entries, places in _places(indptr, start, length):
        for name, column in zip(names, copies, strict=True):
            column[entries] = columns[name][places]
    return indptr, copies


def _runs(rows: np.ndarray) -> list[tuple[int, int]]:
    """Ranges [first, last) of equal values in a sorted array."""
    return list(itertools.pairwise([*np.flatnonzero(begins(rows)).tolist(), len(rows)]))
