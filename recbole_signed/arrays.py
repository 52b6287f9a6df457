"""Sets of whole numbers as sorted arrays, and tables that grow: what every room does with ids and keys of pairs."""

from __future__ import annotations

from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

Whole = TypeVar("Whole", bound=np.integer[Any])
DENSE = 16
"""Range of keys, over the number of those that are looked for, up to which a table takes a fifth of a search's time."""


def distinct(keys: npt.NDArray[Whole]) -> npt.NDArray[Whole]:
    """Return each of ``keys [n]`` once, ascending, by sorting: ``np.unique`` takes 16 times as long for many."""
    ordered = np.sort(keys)
    return ordered[np.append(ordered[1:] != ordered[:-1], True)] if len(ordered) else ordered


def contains(ascending: npt.NDArray[Any], keys: npt.NDArray[Any]) -> npt.NDArray[np.bool_]:
    """Return which of ``keys``, of any shape, are among the ``ascending`` ones, in their shape."""
    if not len(ascending):
        return np.zeros(keys.shape, dtype=bool)
    span = int(ascending[-1]) - int(ascending[0]) + 1
    if span <= DENSE * keys.size and ascending.dtype.kind == keys.dtype.kind == "i":
        low = np.int64(ascending[0])  # in which a difference of narrower numbers has room
        table = np.zeros(span + 1, dtype=bool)
        table[ascending - low] = True
        offset = keys - low
        return np.asarray(table[np.where((offset >= 0) & (offset < span), offset, span)])
    place = np.minimum(np.searchsorted(ascending, keys), len(ascending) - 1)
    matches: npt.NDArray[np.bool_] = ascending[place] == keys
    return matches


def spans(start: npt.NDArray[np.integer[Any]], length: npt.NDArray[np.integer[Any]]) -> npt.NDArray[np.int64]:
    """Return the places ``start[j] .. start[j] + length[j] - 1`` of each of n spans in turn, ``[length.sum()]``."""
    before = np.cumsum(length) - length
    places: npt.NDArray[np.int64] = np.arange(length.sum()) + np.repeat(start - before, length)
    return places


def in_rows(
    row: npt.NDArray[np.integer[Any]], values: npt.NDArray[np.integer[Any]], n_rows: int
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Return a table ``[n_rows, m]`` of the values of each row, filled up with zeros, and where each is in its row."""
    # item 0 is padding, without edges that a score would be summed over
    order = np.argsort(row, kind="stable")
    count = np.bincount(row, minlength=n_rows)
    table = np.zeros((n_rows, count.max(initial=1)), dtype=np.int64)
    place = np.empty(len(row), dtype=np.int64)
    place[order] = spans(np.zeros_like(count), count)
    table[row, place] = values
    return table, place


def first_rows(codes: npt.NDArray[Any], n_codes: int) -> npt.NDArray[np.int64]:
    """Return the first row in which each of the codes ``0 .. n_codes - 1`` occurs, ``[n_codes]``; n_rows if none."""
    first = np.full(n_codes, len(codes), dtype=np.int64)
    first[codes[::-1]] = np.arange(len(codes) - 1, -1, -1)  # of several assignments to a place the last one holds
    return first


def add_at(out: npt.NDArray[np.float64], places: npt.NDArray[np.integer[Any]], values: npt.NDArray[Any]) -> None:
    """Add ``values [n]`` to ``out`` at ``places [n]``, which may repeat: many in a fiftieth of the time of NumPy."""
    if len(places) > len(out):
        out += np.bincount(places, values, len(out))
    else:
        np.add.at(out, places, values)


def begins(*columns: npt.NDArray[Any]) -> npt.NDArray[np.bool_]:
    """Return which rows of sorted ``columns [n]`` differ from the row before, ``[n]``; the first one does."""
    changes = np.zeros(len(columns[0]), dtype=bool)
    changes[:1] = True
    for column in columns:
        changes[1:] |= column[1:] != column[:-1]
    return changes


def grown(table: npt.NDArray[Any], n: int, axis: int = 0) -> npt.NDArray[Any]:
    """Return the table with ``n`` places or more along an axis, doubled where they do not suffice; new ones are 0."""
    if n <= table.shape[axis]:
        return table
    shape = list(table.shape)
    shape[axis] = max(n, 2 * shape[axis])
    larger = np.zeros(shape, dtype=table.dtype)
    larger[tuple(map(slice, table.shape))] = table
    return larger
