"""What finds damage that leaves SQLite's own structure whole: a checksum of each row of the log, and its newest seq."""

from __future__ import annotations

import contextlib
import os
import zlib
from collections.abc import Sequence
from pathlib import Path

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


SEQ = "SEQ"


class HighWaterMark:
    """The file ``SEQ`` of a state directory: the newest seq that was acknowledged.

    SQLite takes a write-ahead file that is damaged for one that a crash cut short, and forgets what was in it. So after
    each commit its seq is written here, without waiting for the disk: it can lag behind the log after a loss of power,
    but never be ahead of it. Where it is ahead, events were lost.
    """

    def __init__(self, path: Path, *, read_only: bool = False) -> None:
        self.path = path
        self._file: int | None = None
        if not read_only:
            with contextlib.suppress(OSError):  # a disk without room: there is a log to tell
                self._file = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)

    def read(self) -> int:
        """Return the seq; 0 where there is none, or it is damaged."""
        try:
            content = self.path.read_bytes()
        except OSError:
            return 0
        seq = content[:8]
        return int.from_bytes(seq, "little") if content[8:] == _checksum(seq) else 0

    def write(self, seq: int) -> None:
        """Note a seq that is durable in the log."""
        if self._file is not None:
            content = seq.to_bytes(8, "little")
            with contextlib.suppress(OSError):
                os.pwrite(self._file, content + _checksum(content), 0)

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            os.close(self._file)
            self._file = None


def _checksum(content: bytes) -> bytes:
    return zlib.crc32(content).to_bytes(4, "little")
