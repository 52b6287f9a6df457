"""What KuaiRand's log says beyond likes and dislikes: its signals, lengths of videos, scenarios, days, its clock."""

from __future__ import annotations

import io
import lzma
from itertools import pairwise
from pathlib import Path
from typing import Any

import polars as pl

from recbole_signed.errors import UsageError

SIGNALS = ("is_click", "long_view", "is_like", "is_follow", "is_comment", "is_forward", "is_profile_enter", "is_hate")
LENGTHS = (7.0, 18.0, 30.0, 60.0, 120.0)
"""Edges of the classes of video length, in seconds; at the first two KuaiRand's definitions of a view change."""
TABS = 4
"""Scenarios that are described, the largest."""
BEIJING = 8 * 3_600_000


def describe_log(path: Path) -> dict[str, Any]:
    """Describe a log of KuaiRand, plain or compressed by xz.

    Returns:
        ``rows``, ``users``, ``videos``; ``signals``: name -> ``rows``, ``share``, and the shares of clicks and long
        views among its rows; ``lengths`` and ``tabs``: a list of classes with their click and long view rates;
        ``days``: of each day in Beijing ``rows``, rates, and the share of rows of users not seen on a day before;
        ``pairs``: exposures that repeat a pair, and pairs of which a later exposure has another sign, by signal;
        ``clock``: the shares of rows whose ``hourmin`` and ``date`` are not those of ``time_ms``.

    Raises:
        UsageError: the file is no log of KuaiRand.
    """
    try:
        raw = lzma.decompress(path.read_bytes()) if path.suffix == ".xz" else path.read_bytes()
        log = pl.read_csv(io.BytesIO(raw)).with_columns(
            beijing=pl.from_epoch(pl.col("time_ms") + BEIJING, time_unit="ms"), seconds=pl.col("duration_ms") / 1000
        )
        rates = [pl.len().alias("rows"), *(pl.col(signal).mean() for signal in ("is_click", "long_view"))]
        signals = {signal: log.filter(pl.col(signal) == 1).select(rates).row(0, named=True) for signal in SIGNALS}
    except (OSError, lzma.LZMAError, pl.exceptions.PolarsError) as error:
        raise UsageError(f"{path} can't be read as a log of KuaiRand: {' '.join(str(error).split())[:160]}") from error
    total = len(log)
    return {
        "rows": total,
        "users": log["user_id"].n_unique(),
        "videos": log["video_id"].n_unique(),
        "signals": {signal: {**row, "share": row["rows"] / total} for signal, row in signals.items()},
        "lengths": _lengths(log, rates),
        "tabs": [
            {**row, "share": row["rows"] / total}
            for row in log.group_by("tab").agg(rates).sort("rows", descending=True).head(TABS).iter_rows(named=True)
        ],
        "days": _days(log, rates),
        "pairs": {signal: _repeats(log, signal) for signal in ("is_click", "long_view")},
        "clock": {
            "hour": _share(log, pl.col("hourmin") // 100 != pl.col("beijing").dt.hour()),
            "date": _share(log, pl.col("date").cast(pl.String) != pl.col("beijing").dt.strftime("%Y%m%d")),
        },
    }


def _share(log: pl.DataFrame, condition: pl.Expr) -> float:
    return float(log.select(condition.mean()).item())


def _lengths(log: pl.DataFrame, rates: list[pl.Expr]) -> list[dict[str, Any]]:
    known = log.filter(pl.col("seconds") > 0)
    classes = []
    for low, high in pairwise((0.0, *LENGTHS, float("inf"))):
        some = known.filter((pl.col("seconds") > low) & (pl.col("seconds") <= high))
        row = some.select(rates).row(0, named=True)
        upper = None if high == float("inf") else high
        classes.append({"above": low, "up_to": upper, "share": len(some) / len(known), **row})
    return classes


def _days(log: pl.DataFrame, rates: list[pl.Expr]) -> list[dict[str, Any]]:
    first = log.group_by("user_id").agg(pl.col("beijing").dt.date().min().alias("first_day"))
    dated = log.with_columns(day=pl.col("beijing").dt.date()).join(first, on="user_id")
    new = (pl.col("first_day") == pl.col("day")).mean().alias("rows_of_new_users")
    days = dated.group_by("day").agg([*rates, new]).sort("day")
    return [{**row, "day": row["day"].isoformat()} for row in days.iter_rows(named=True)]


def _repeats(log: pl.DataFrame, signal: str) -> dict[str, int]:
    pairs = log.group_by("user_id", "video_id").agg(pl.len().alias("rows"), pl.col(signal).n_unique().alias("signs"))
    return {"repeated_rows": len(log) - len(pairs), "of_both_signs": int((pairs["signs"] > 1).sum())}
