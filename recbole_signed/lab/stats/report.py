"""The whole analysis of a data set as one dictionary that JSON can hold."""

from __future__ import annotations

from typing import Any

import numpy as np

from recbole_signed.atomic.rows import RawRows
from recbole_signed.lab.stats.drift import describe_time
from recbole_signed.lab.stats.measures import gini, intraclass, quantiles, spearman
from recbole_signed.lab.stats.pairs import describe_pairs

_TOP = 0.01


def analyse(rows: RawRows, *, dated: bool = True) -> dict[str, Any]:
    """Describe rows, repetitions, degrees, like rates, popularity and drift.

    Degrees count rows. A like rate is likes / (likes + dislikes), over users or items that have any of these;
    ``intraclass`` is the share of the sign's variance that lies between users, or between items.

    Args:
        rows: of the data set.
        dated: False where times count from an unknown moment, so that they have no date.
    """
    return describe_pairs(rows) | describe_nodes(rows) | {"time": describe_time(rows, dated=dated)}


def describe_nodes(rows: RawRows) -> dict[str, Any]:
    """Describe users and items: ``user`` and ``item`` with degrees, like rates and correlations."""
    return {
        "user": _describe(rows.users, rows.n_users, rows.signs),
        "item": _describe(rows.items, rows.n_items, rows.signs),
    }


def sign_degrees(ids: np.ndarray, count: int, signs: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """RawRows, likes and dislikes of each id; int64 ``[count]`` each."""
    return (
        np.bincount(ids, minlength=count),
        np.bincount(ids[signs > 0], minlength=count),
        np.bincount(ids[signs < 0], minlength=count),
    )


def _describe(ids: np.ndarray, count: int, signs: np.ndarray) -> dict[str, Any]:
    rows, likes, dislikes = sign_degrees(ids, count, signs)
    verdicts = likes + dislikes
    judged = verdicts > 0
    rate = likes[judged] / verdicts[judged]
    busiest = np.partition(rows, count - max(1, round(_TOP * count)))[-max(1, round(_TOP * count)) :]
    return {
        "degree": {"all": quantiles(rows), "like": quantiles(likes), "dislike": quantiles(dislikes)},
        "log_degree_sd": float(np.log(rows[rows > 0]).std()),
        "like_rate": quantiles(rate),
        "intraclass": intraclass(likes, verdicts),
        "without_likes": float((likes == 0).mean()),
        "without_dislikes": float((dislikes == 0).mean()),
        "likes_to_dislikes": spearman(likes, dislikes),
        "degree_to_like_rate": spearman(verdicts[judged], rate),
        "gini": {"all": gini(rows), "like": gini(likes), "dislike": gini(dislikes)},
        "share_of_top_percent": float(busiest.sum() / rows.sum()),
    }
