"""What an online state holds of its users' feedback, as one file that the converters and `from_frame` read."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from tqdm import tqdm

from recbole_signed.api.bulk import checked_format, write_frames
from recbole_signed.errors import UsageError
from recbole_signed.live import LIKE
from recbole_signed.live.events import DISLIKE, NAMES, id_of
from recbole_signed.live.replica import OnlineReplica

SCHEMA = {"user_id": pl.String, "item_id": pl.String, "type": pl.String, "timestamp": pl.Int64}
_ROWS = 1_000_000
"""Rows that are in memory as text at a time."""


def write_feedback(state: Path | str, output: Path | str, user: Any = None, *, progress: bool = True) -> dict[str, Any]:
    """Write the edges in force of an online state to a file: what each user said last of each item.

    The state may be written meanwhile by another process. What was taken back or replaced is not in the file, nor are
    users who were forgotten.

    Args:
        state: directory of the state.
        output: the file, ``.parquet`` or ``.csv``, with the columns ``user_id``, ``item_id``, ``type`` (like or
            dislike; skip or view where the user has said neither) and ``timestamp`` (milliseconds since 1970; 0 where
            the data of the first fit had none).
        user: raw id of the only user whose rows are wanted; all if None.
        progress: show on standard error how far it is.

    Returns:
        ``users``, ``items``, ``rows``, ``likes``, ``dislikes``, ``seq`` (of the newest event that is in it) and
        ``output``.

    Raises:
        UsageError: there is no state, it does not know the user, another suffix, or a file that can't be written.
    """
    output = checked_format(output)
    replica = OnlineReplica(state)
    try:
        columns = _columns(replica, user)
        users, items = (
            pl.Series(each.tokens(range(len(each))), dtype=pl.String) for each in (replica.users, replica.items)
        )
        seq = replica.applied_seq
    finally:
        replica.close()
    write_frames(_frames(columns, users, items, progress), output, SCHEMA)
    return {
        "users": len(np.unique(columns[0])),
        "items": len(np.unique(columns[1])),
        "rows": len(columns[0]),
        "likes": int((columns[2] == LIKE).sum()),
        "dislikes": int((columns[2] == DISLIKE).sum()),
        "seq": seq,
        "output": str(output),
    }


def _columns(replica: OnlineReplica, user: Any) -> tuple[np.ndarray, ...]:
    """Return users, items, kinds and times of all edges, or of those of one user."""
    if user is None:
        edges = replica.edges.export()
        return edges.user, edges.item, edges.kind, edges.timestamp
    token = id_of(user)
    number = replica.users.id_of(token)
    if number <= 0:
        raise UsageError(f"{replica.directory} knows no user {token!r}; ids are as events have them.")
    row = replica.edges.of_user(number)
    assert row.timestamp is not None
    return np.full(len(row.ids), number), row.ids, row.kind, row.timestamp


def _frames(
    edges: tuple[np.ndarray, ...], users: pl.Series, items: pl.Series, progress: bool
) -> Iterator[pl.DataFrame]:
    """Give users, items, kinds and times as text, piece by piece."""
    names = pl.Series([NAMES.get(code) for code in range(max(NAMES) + 1)], dtype=pl.String)
    starts = range(0, len(edges[0]), _ROWS)
    for start in tqdm(starts, desc="rows, in millions", disable=not progress or len(starts) < 2):
        user, item, kind, time = (column[start : start + _ROWS] for column in edges)
        yield pl.DataFrame(
            {
                "user_id": users.gather(user),
                "item_id": items.gather(item),
                "type": names.gather(kind),
                "timestamp": time.astype(np.int64),
            },
            schema=SCHEMA,
        )
