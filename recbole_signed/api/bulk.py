"""Recommendations for many users, and the feedback in an online state, as one file, piece by piece; names of items."""

from __future__ import annotations

import re
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from polars.io.plugins import register_io_source
from tqdm import tqdm

from recbole_signed.api.fitting import data_place
from recbole_signed.api.interactions import Interactions
from recbole_signed.api.recommender import SCHEMA, Recommender
from recbole_signed.atomic.feature_file import feature_path, read_side
from recbole_signed.atomic.signs import columns_of
from recbole_signed.convert import open_table
from recbole_signed.convert.columns import PlainIds, unrounded
from recbole_signed.convert.raw_files import plain_suffix
from recbole_signed.errors import UsageError
from recbole_signed.files import ANOTHER_FILE, path_of, refusing, replacing
from recbole_signed.live import LIKE
from recbole_signed.live.events import DISLIKE, NAMES, id_of
from recbole_signed.live.replica import OnlineReplica
from recbole_signed.plugin import make_config

FORMATS = (".parquet", ".csv")
_NUMBER = re.compile(r"-?\d+(\.0+)?")
_LINES = 10  # lines of progress at most, where the output is not a terminal
_USUAL = ("title", "name", "item_title", "item_name")  # columns that hold names where none is said, in lower case


def write_recommendations(
    model: Recommender, output: Path | str, users: Any = None, k: int = 20, *, progress: bool = True, **options: Any
) -> dict[str, Any]:
    """Write what :meth:`Recommender.recommend` returns to a ``.parquet`` or ``.csv`` file, in bounded memory.

    Args:
        model: the fitted model.
        output: the file; it is there as a whole or not at all.
        users: raw ids; all that the model knows if None.
        k: how many items for each user.
        progress: show on standard error how far it is.
        options: of :meth:`Recommender.recommend`.

    Returns:
        ``users``, ``unknown_users``, ``rows``, ``seconds`` and ``output``.
    """
    output = checked_format(output)
    chosen = model.users.tokens[1:].to_list() if users is None else model.users.texts(users)
    if not chosen:
        raise UsageError("there is no user to recommend to; give at least one id.")
    started = time.perf_counter()
    counts = {"users": len(chosen), "unknown_users": int((~model.knows(chosen)).sum()), "rows": 0}
    frames = _counted(model.batches(chosen, k, **options), model.batch_size, counts, progress)
    write_frames(frames, output, SCHEMA)
    return {**counts, "seconds": round(time.perf_counter() - started, 3), "output": str(output)}


def checked_format(output: Path | str) -> Path:
    """Return the path of a file to write; raises UsageError where its suffix is neither ``.parquet`` nor ``.csv``."""
    output = path_of(output, "output")
    if output.suffix.lower() not in FORMATS:
        raise UsageError(f"the output is {output}; give a file name that ends in {' or '.join(FORMATS)}.")
    return output


def write_frames(frames: Iterator[pl.DataFrame], output: Path, schema: Mapping[str, Any]) -> None:
    """Write frames below each other to a file, which is there as a whole or not at all."""

    def source(columns: Any, predicate: Any, n_rows: Any, batch_size: Any) -> Iterator[pl.DataFrame]:
        for frame in frames:
            yield frame if columns is None else frame.select(columns)

    table = register_io_source(source, schema=dict(schema))
    sink = table.sink_parquet if output.suffix.lower() == ".parquet" else table.sink_csv
    with refusing(f"writing {output}", ANOTHER_FILE), replacing(output) as temporary:
        sink(temporary, engine="streaming")


def read_users(path: Path) -> list[str]:
    """Read raw user ids: one a line of ``.txt``, else the column ``user``, ``user_id`` or the only one of a table."""
    lines = plain_suffix(path) == ".txt"
    table = open_table(path, columns=("user",), separator="\t", quote=None) if lines else open_table(path)
    column = next((name for name in ("user", "user_id") if name in table.columns), table.columns[0])
    if len(table.columns) > 1 and column not in ("user", "user_id"):
        raise UsageError(f"{path.name} has the columns {', '.join(table.columns)}; name the one of the users 'user'.")
    if table.is_text and not lines and _NUMBER.fullmatch(column):
        raise UsageError(
            f"the first line of {path.name}, {column}, is an id, and a table has a header; put the line 'user' before "
            "it, or give the file a name that ends in .txt."
        )
    texts: list[str] = []
    plain_ids = PlainIds()
    for batch in table.batches([column]):
        if table.is_text:
            batch = plain_ids.plain(unrounded(batch, column, "ids"), column)
        ids = batch.frame[column]
        if ids.dtype.is_float() or ids.dtype == pl.Boolean:  # as in recommend(): 7.0 is not the id 7
            raise UsageError(
                f"the column '{column}' of {path.name} has the type {ids.dtype}; ids are text or integers."
            )
        texts.extend(ids.cast(pl.String).to_list())
    return texts


def _counted(
    frames: Iterator[pl.DataFrame], size: int, counts: dict[str, int], progress: bool
) -> Iterator[pl.DataFrame]:
    """Give the frames on, count their rows, and show how many users are done: each frame has ``size``, but the last."""
    n_users, terminal = counts["users"], sys.stderr.isatty()
    step = max(1, n_users // _LINES)
    with tqdm(total=n_users, unit="user", file=sys.stderr, disable=not (progress and terminal)) as bar:
        for number, frame in enumerate(frames):
            before, done = number * size, min((number + 1) * size, n_users)
            bar.update(done - before)
            if progress and not terminal and done // step > before // step:
                sys.stderr.write(f"recommended to {done:,} of {n_users:,} users\n")
            counts["rows"] += frame.height
            yield frame


# ---- feedback, in the form that the converters and `from_frame` read ----

FEEDBACK = {"user_id": pl.String, "item_id": pl.String, "type": pl.String, "timestamp": pl.Int64}
_ROWS = 1_000_000  # rows that are in memory as text at a time


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
            pl.Series(ids.tokens(range(len(ids))), dtype=pl.String) for ids in (replica.users, replica.items)
        )
        seq = replica.applied_seq
    finally:
        replica.close()
    write_frames(_frames(columns, users, items, progress), output, FEEDBACK)
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
            schema=FEEDBACK,
        )


def read_item_names(data: Recommender | Interactions | str | Path, column: str | None = None) -> dict[str, str]:
    """Return the names of items by raw id, from ``column`` of the ``.item`` file, by default ``title`` or ``name``."""
    if isinstance(data, Recommender):
        config = data.config
    else:
        name, place = data_place(data, None)
        config = make_config("Pop", name, (), place)
    path = feature_path(config, "item")
    if column is None:
        column = _usual_column(config, path)
        if column is None:
            return {}
    if not path.is_file():
        raise UsageError(f"the names of items were asked for, but {path} does not exist; write it, or leave them out.")
    table = read_side(config, "item", [f"{column}:text"])
    names = table.columns[column]
    return dict(zip(table.ids.filter(names.is_not_null()), names.drop_nulls(), strict=True))


def _usual_column(config: Any, path: Path) -> str | None:
    if not path.is_file():
        return None
    columns = columns_of(path, config["field_separator"] or "\t", config["encoding"] or "utf-8")
    by_name = {column.lower(): column for column in columns}
    return next((by_name[name] for name in _USUAL if name in by_name), None)
