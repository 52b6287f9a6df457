"""Sets of whole numbers as sorted arrays, by NumPy alone: what every room does with ids and keys of pairs."""

from __future__ import annotations

from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

Whole = TypeVar("Whole", bound=np.integer[Any])


def distinct(keys: npt.NDArray[Whole]) -> npt.NDArray[Whole]:
    """Return each of ``keys [n]`` once, ascending, by sorting: ``np.unique`` takes 16 times as long for many."""
    ordered = np.sort(keys)
    return ordered[np.append(ordered[1:] != ordered[:-1], True)] if len(ordered) else ordered


def contains(ascending: npt.NDArray[Any], wanted: npt.NDArray[Any]) -> npt.NDArray[np.bool_]:
    """Return which of ``wanted``, of any shape, are among the ``ascending`` keys, in its shape."""
    if not len(ascending):
        return np.zeros(wanted.shape, dtype=bool)
    place = np.minimum(np.searchsorted(ascending, wanted), len(ascending) - 1)
    found: npt.NDArray[np.bool_] = ascending[place] == wanted
    return found


def spans(start: npt.NDArray[np.integer[Any]], length: npt.NDArray[np.integer[Any]]) -> npt.NDArray[np.int64]:
    """Return the places ``start[j] .. start[j] + length[j] - 1`` of each of n spans in turn, ``[length.sum()]``."""
    before = np.cumsum(length) - length
    places: npt.NDArray[np.int64] = np.arange(length.sum()) + np.repeat(start - before, length)
    return places


def first_rows(codes: npt.NDArray[Any], n_codes: int) -> npt.NDArray[np.int64]:
    """Return the first row in which each of the codes ``0 .. n_codes - 1`` occurs, ``[n_codes]``; n_rows if none."""
    first = np.full(n_codes, len(codes), dtype=np.int64)
    first[codes[::-1]] = np.arange(len(codes) - 1, -1, -1)  # of several assignments to a place the last one holds
    return first


def begins(*columns: npt.NDArray[Any]) -> npt.NDArray[np.bool_]:
    """Return which rows of sorted ``columns [n]`` differ from the row before, ``[n]``; the first one does."""
    found = np.zeros(len(columns[0]), dtype=bool)
    found[:1] = True
    for each in columns:
        found[1:] |= each[1:] != each[:-1]
    return found
