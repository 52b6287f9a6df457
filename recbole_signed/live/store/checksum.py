"""A 64-bit checksum of each row of the log: finds damage that leaves SQLite's own structure whole."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_FIRST = np.uint64(0xBF58476D1CE4E5B9)
_SECOND = np.uint64(0x94D049BB133111EB)
_TIME = (1 << 43) - 1
"""The bits of a time in milliseconds since 1970: those of the next two centuries."""
_SEALED = np.int64(-1 << 63)


def row_checksums(columns: Sequence[np.ndarray]) -> np.ndarray:
    """Checksum of each row, int64 ``[n]``: SplitMix64's finaliser (Steele et al., 2014) chained over the columns.

    Args:
        columns: int64 or float64 arrays ``[n]``, taken by their bits. A NaN counts as one value.
    """
    total = np.zeros(len(columns[0]), dtype=np.uint64)
    for column in columns:
        if column.dtype.kind == "f":
            column = np.where(np.isnan(column), np.nan, column)
        total = _mix((total ^ np.ascontiguousarray(column).view(np.uint64)) + _GOLDEN)
    return total.view(np.int64)


def _mix(value: np.ndarray) -> np.ndarray:
    value = (value ^ (value >> np.uint64(30))) * _FIRST
    value = (value ^ (value >> np.uint64(27))) * _SECOND
    return value ^ (value >> np.uint64(31))


def sealed(ids: np.ndarray, times: np.ndarray) -> np.ndarray:
    """Return times, int64 ``[n]`` in milliseconds, each with a checksum of itself and of its id in the bits above it.

    A zero stays a zero. What is sealed is negative, so that it is told from the times of earlier versions of this
    package, which have no checksum.
    """
    return np.where(times == 0, 0, times | (row_checksums((ids, times)) & ~_TIME) | _SEALED)


def unsealed(ids: np.ndarray, kept: np.ndarray) -> np.ndarray:
    """Return the times that were sealed, or that an earlier version kept as they are; -1 for what is damaged."""
    times = kept & _TIME
    return np.where((kept == times) | (kept == sealed(ids, times)), times, -1)
