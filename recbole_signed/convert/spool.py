"""Checked rows waiting to be sorted: in memory while they are few, in parquet segments beyond."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import polars as pl

MEMORY_ROWS = 8_000_000
"""Rows held in memory at a time; about 100 bytes each with ids as text."""
MEMORY_BYTES = 800_000_000
"""What these rows may take up at most, however many further columns they have."""
_SAMPLE = 1_000_000


class Spool:
    """Takes frames of equal columns in file order and gives them back sorted by time.

    Args:
        folder: for segments; made when the first is written, and the caller's to remove.
        memory_rows: beyond so many rows they go to disk, and come back in pieces of about this size.
    """

    def __init__(self, folder: Path, memory_rows: int | None = None) -> None:
        self.rows = 0
        self._folder = folder
        self._limit = memory_rows or MEMORY_ROWS
        self._pending: list[pl.DataFrame] = []
        self._pending_rows = self._pending_bytes = self._bytes = 0
        self._segments: list[Path] = []

    def add(self, frame: pl.DataFrame) -> None:
        """Take the next rows."""
        self._pending.append(frame)
        size = int(frame.estimated_size())
        self._pending_rows += frame.height
        self._pending_bytes += size
        self.rows += frame.height
        self._bytes += size
        if self._pending_rows > self._limit or self._pending_bytes > MEMORY_BYTES:
            self._folder.mkdir(parents=True, exist_ok=True)
            segment = self._folder / f"{len(self._segments):05d}.parquet"
            pl.concat(self._pending).write_parquet(segment, compression="lz4")
            self._segments.append(segment)
            self._pending, self._pending_rows, self._pending_bytes = [], 0, 0

    def frames(self) -> Iterator[pl.DataFrame]:
        """Give all rows in the order they came, a segment at a time."""
        yield from map(pl.read_parquet, self._segments)
        yield from self._pending

    def drain(self) -> Iterator[pl.DataFrame]:
        """Give all rows in the order they came and forget them, so that they are not held twice."""
        while self._segments:
            segment = self._segments.pop(0)
            frame = pl.read_parquet(segment)
            segment.unlink()
            yield frame
        while self._pending:
            yield self._pending.pop(0)
        self.rows = self._bytes = self._pending_rows = self._pending_bytes = 0

    def scan(self) -> pl.LazyFrame:
        """All rows in the order they came."""
        return pl.concat([*map(pl.scan_parquet, self._segments), *(frame.lazy() for frame in self._pending)])

    @property
    def pieces(self) -> int:
        """How many pieces of ``memory_rows``, or of ``MEMORY_BYTES``, the rows make."""
        return max(1, -(-self.rows // self._limit), -(-self._bytes // MEMORY_BYTES))

    def in_time_order(self) -> Iterator[pl.DataFrame]:
        """Yield the rows sorted by ``timestamp``, ties as they came; all as they came where there is none."""
        scan = self.scan()
        timed = "timestamp" in scan.collect_schema().names()
        if not timed or self.pieces == 1:
            if self.pieces == 1:
                frame = scan.collect()
                yield frame.sort("timestamp", maintain_order=True) if timed else frame
                return
            for segment in self._segments:
                yield pl.read_parquet(segment)
            yield from self._pending
            return
        time = pl.col("timestamp")
        bounds = self._bounds(scan)
        for low, high in zip([None, *bounds], [*bounds, None], strict=True):
            piece = scan
            if low is not None:
                piece = piece.filter(time >= low)
            if high is not None:
                piece = piece.filter(time < high)
            yield piece.collect().sort("timestamp", maintain_order=True)

    def _bounds(self, scan: pl.LazyFrame) -> list[float]:
        """Moments between which there are about ``memory_rows`` rows each, from every n-th row."""
        sample = scan.select("timestamp").gather_every(max(1, self.rows // _SAMPLE)).collect()["timestamp"].sort()
        cuts = {sample[sample.len() * piece // self.pieces] for piece in range(1, self.pieces)}
        return sorted(cuts)
