"""What the users of KuaiRand-Pure saw before a log begins, from ``user_sequences.parquet``: an order without times.

That file, made by others from the standard log up to 2022-04-24, lists for each user the last 50 exposures at most
(``watch_seq``) and those with a long view (``long_watch_seq``). Whether an exposure was a long view is told by
membership: a video that a user saw several times is a long view each time, if it ever was one.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import polars as pl

from recbole_signed.convert import Batch, open_table, rejects
from recbole_signed.convert.clock import Clock
from recbole_signed.errors import UsageError

FILE = "user_sequences.parquet"


def require_earlier(path: Path, before: float) -> None:
    """Refuse a history that the log holds itself.

    The log is cut by its dates, which are up to an hour off its clock, so the two may overlap a little.

    Args:
        path: ``user_sequences.parquet``, of which ``last_time_ms`` is read.
        before: unix seconds, the first moment of the log.

    Raises:
        UsageError: most users' histories end after the log begins.
    """
    late = users = 0
    with rejects.unrecorded():
        for batch in open_table(path).batches(["last_time_ms"]):
            ends = Clock("ms").seconds(batch, "last_time_ms").frame["last_time_ms"]
            late, users = late + int((ends >= before).sum()), users + ends.len()
    if 2 * late > users:
        raise UsageError(
            f"{path.name}: {late} of {users} histories end after the log begins, so the log holds them itself; "
            "leave the earlier log or history=true out."
        )


def history_batches(path: Path, before: float) -> Iterator[Batch]:
    """Give ``user_id``, ``item_id``, ``long_view`` (1.0 or 0.0) and ``timestamp``, one row an exposure.

    Times keep the order of each user and say nothing else: the last exposure of a user lies one second before
    ``before``, the one before it two seconds, and so on.

    Args:
        path: ``user_sequences.parquet``.
        before: unix seconds, the first moment of the log that follows.

    Raises:
        UsageError: another file, or lists that are not lists of ids.
    """
    columns = ["user_id", "watch_seq", "long_watch_seq"]
    for batch in open_table(path).batches(columns):
        for column in columns:
            dtype = batch.frame.schema[column]
            inner = getattr(dtype, "inner", None) if column != "user_id" else dtype
            if inner is None or not inner.is_integer():
                wanted = "integers" if column == "user_id" else "lists of integers"
                raise UsageError(f"{path.name}: column {column!r} holds {dtype}, {wanted} were expected.")
            batch = batch.require(
                batch.frame[column].is_not_null(),
                lambda i, column=column: f"no value in column {column!r}",  # type: ignore[misc]
                column,
            )
        seen = pl.DataFrame({"row": batch.rows, "user_id": batch.frame["user_id"], "item_id": batch.frame["watch_seq"]})
        seen = seen.with_columns(steps=pl.int_ranges(pl.col("item_id").list.len(), 0, step=-1))
        seen = seen.filter(pl.col("item_id").list.len() > 0).explode("item_id", "steps")
        long = batch.frame.select("user_id", pl.col("long_watch_seq").alias("item_id")).explode("item_id")
        long = long.unique().with_columns(long_view=pl.lit(1.0))
        seen = seen.join(long, on=["user_id", "item_id"], how="left", maintain_order="left").with_columns(
            pl.col("long_view").fill_null(0.0), timestamp=before - pl.col("steps").cast(pl.Float64)
        )
        rows = seen["row"].to_numpy()
        frame = seen.select("user_id", "item_id", "long_view", "timestamp").with_columns(
            pl.col("user_id", "item_id").cast(pl.String)
        )
        yield Batch(frame, batch.origin, rows, batch.unit, batch.raw).require(
            frame["item_id"].is_not_null(), lambda i: "no value in a list of column 'watch_seq'", "watch_seq"
        )
