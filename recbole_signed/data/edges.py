"""The signed edges of a data set in 17 bytes each, read and made into a graph without RecBole's tables.

For what needs the graph alone: RecBole keeps an int64 or float32 for every cell, and copies of them for each part.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import polars as pl

from recbole_signed.data.blocks import BLOCK_BYTES, NotPlainError, parsed_blocks
from recbole_signed.data.vocabulary import Vocabulary
from recbole_signed.errors import UsageError, nearest
from recbole_signed.graph import SignedGraph

BYTES_PER_EDGE = 17
"""int32 user, int32 item, int8 sign, int64 time."""

_COUNTED_BYTES = 1 << 20


@dataclass(frozen=True)
class SignedEdges:
    """Users, items, signs and times of the rows of one file, in its order.

    Ids count from 1 in the order of first appearance, whatever the sign; 0 stands for padding, as in RecBole.

    Attributes:
        users, items: int32 ``[n_edges]``.
        signs: int8 ``[n_edges]``: 1, -1 or 0.
        times: int64 ``[n_edges]``, float64 where the file has fractions; None where it has no time.
        user_tokens, item_tokens: the token of id ``j`` at place ``j - 1``.
    """

    users: npt.NDArray[np.int32]
    items: npt.NDArray[np.int32]
    signs: npt.NDArray[np.int8]
    times: npt.NDArray[np.int64] | npt.NDArray[np.float64] | None
    user_tokens: pl.Series
    item_tokens: pl.Series

    def __len__(self) -> int:
        return len(self.signs)

    @property
    def n_users(self) -> int:
        """Number of users with the padding user 0."""
        return len(self.user_tokens) + 1

    @property
    def n_items(self) -> int:
        """Number of items with the padding item 0."""
        return len(self.item_tokens) + 1

    def graph(self, neutral_weight: float = 0.0) -> SignedGraph:
        """Return the likes and dislikes as a graph; neutral edges are in it where ``neutral_weight`` is not 0."""

        def of_sign(sign: int) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int32]]:
            chosen = self.signs == sign
            return self.users[chosen], self.items[chosen]

        neutrals = of_sign(0) if neutral_weight else None
        return SignedGraph.from_edges(of_sign(1), of_sign(-1), self.n_users, self.n_items, neutrals, neutral_weight)


def read_edges(
    path: str | Path,
    *,
    user: str = "user_id",
    item: str = "item_id",
    sign: str = "sign",
    time: str | None = "timestamp",
    separator: str = "\t",
    encoding: str = "utf-8",
) -> SignedEdges:
    """Read an atomic ``.inter`` file.

    Args:
        path: the file.
        user, item, sign, time: names of its columns; a file without the time column has no times.
        separator: of the columns.
        encoding: of the text.

    Raises:
        UsageError: a column is missing, an id is blank, or a sign is not -1, 0 or 1; the file has quoted fields,
            blank lines, infinite numbers or values that do not fit their column (``SignedDataset`` takes quotes).
    """
    path = Path(path)
    columns, n_columns = _columns(path, separator, encoding)
    kinds: dict[int, pl.DataType] = {}
    for name, kind in ((user, pl.String()), (item, pl.String()), (sign, pl.Float64())):
        if name not in columns:
            raise UsageError(f"{path} has no column '{name}', only {', '.join(columns)}{nearest(name, columns)}")
        kinds[columns[name]] = kind
    if time in columns:
        kinds[columns[time]] = pl.Int64()

    n_rows = _count_lines(path)
    users, items = np.empty(n_rows, dtype=np.int32), np.empty(n_rows, dtype=np.int32)
    signs = np.empty(n_rows, dtype=np.int8)
    times = np.empty(n_rows, dtype=np.int64) if time in columns else None
    vocabularies = Vocabulary(), Vocabulary()
    done = 0
    # small blocks, as what a block needs while it is parsed counts in the peak; large ones where there are many
    size = int(np.clip(path.stat().st_size // 24, 1 << 20, BLOCK_BYTES))
    try:
        for frame, _ in parsed_blocks(path, separator, encoding, n_columns, kinds, size):
            rows = slice(done, done + len(frame))
            for name, ids, vocabulary in ((user, users, vocabularies[0]), (item, items, vocabularies[1])):
                ids[rows] = vocabulary.codes(frame[str(columns[name])])
                ids[rows] += 1
                _refuse_blank(ids[rows], path, name, done)
            signs[rows] = _signs(frame[str(columns[sign])], path, sign, done)
            if times is not None and time is not None:
                values = frame[str(columns[time])].to_numpy()
                if values.dtype != times.dtype:
                    times = times.astype(np.float64)
                times[rows] = values
            done += len(frame)
    except NotPlainError as error:
        raise UsageError(
            f"{path} has quotes, blank lines, infinite numbers or values that do not fit their column, "
            f"in line {done + 2} or after; write it without them."
        ) from error
    if not done:
        raise UsageError(f"{path} holds no rows.")
    return SignedEdges(
        users[:done],
        items[:done],
        signs[:done],
        None if times is None else times[:done],
        vocabularies[0].series(),
        vocabularies[1].series(),
    )


def _columns(path: Path, separator: str, encoding: str) -> tuple[dict[str, int], int]:
    if not path.is_file():
        raise UsageError(f"there is no file {path}.")
    with path.open(encoding=encoding) as file:
        fields = file.readline().removeprefix("\ufeff").rstrip("\r\n").split(separator)
    return {field.partition(":")[0]: place for place, field in enumerate(fields)}, len(fields)


def _count_lines(path: Path) -> int:
    """Return how many rows there are at most."""
    with path.open("rb") as file:
        return sum(block.count(b"\n") for block in iter(lambda: file.read(_COUNTED_BYTES), b"")) + 1


def _refuse_blank(ids: npt.NDArray[np.int32], path: Path, name: str, done: int) -> None:
    if not ids.all():
        raise UsageError(f"{path}, line {done + int(np.argmin(ids != 0)) + 2}: the column '{name}' is blank.")


def _signs(column: pl.Series, path: Path, name: str, done: int) -> npt.NDArray[np.int8]:
    values = column.to_numpy()
    wrong = np.flatnonzero((values != 0) & (np.abs(values) != 1))
    if len(wrong):
        raise UsageError(
            f"{path}, line {done + wrong[0] + 2}: the column '{name}' holds {values[wrong[0]]:g}; "
            "it must hold -1 (dislike), 0 (neutral) or 1 (like)."
        )
    return values.astype(np.int8)
