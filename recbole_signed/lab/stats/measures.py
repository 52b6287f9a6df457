"""Single numbers (correlation, concentration, how far a like depends on user or item), and drift over time."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from recbole_signed.arrays import first_rows
from recbole_signed.convert.manifest import iso_date

if TYPE_CHECKING:
    from recbole_signed.atomic.inter_file import RawRows

QUANTILES = (0.01, 0.1, 0.25, 0.5, 0.75, 0.9, 0.99)
BINS = 20
_ROWS_OF_A_BIN = 100
_LAST = 0.2


def totals(signs: np.ndarray) -> dict[str, int]:
    """Numbers of rows by sign."""
    likes, dislikes = int((signs > 0).sum()), int((signs < 0).sum())
    return {"total": len(signs), "like": likes, "dislike": dislikes, "neutral": len(signs) - likes - dislikes}


def spearman(a: np.ndarray, b: np.ndarray) -> float | None:
    """Rank correlation of two arrays ``[n]``, ties at their mean rank; None where one of them is constant."""
    if len(a) < 2:
        return None
    # SciPy's ranks are the same; to import it takes longer than a small table
    x, y = (pl.Series(each).rank("average").to_numpy() - (len(each) + 1) / 2 for each in (a, b))
    scale = math.sqrt(float(x @ x) * float(y @ y))
    return float(x @ y) / scale if scale else None


def gini(counts: np.ndarray) -> float | None:
    """Gini coefficient of counts ``[n]``: 0 where all are equal, near 1 where one has everything."""
    total, n = int(counts.sum()), len(counts)
    if total == 0:
        return None
    ascending = np.sort(counts).astype(np.float64)
    return float(2 * (np.arange(1, n + 1) @ ascending) / (n * total) - (n + 1) / n)


def intraclass(likes: np.ndarray, verdicts: np.ndarray) -> float | None:
    """Share of the sign's variance between users, or items: ANOVA estimator, Ridout et al. (Biometrics 1999), eq. 3."""
    some = verdicts > 0
    k, n = likes[some].astype(np.float64), verdicts[some].astype(np.float64)
    groups, total = len(n), float(n.sum())
    if groups < 2 or total <= groups:
        return None
    between = (float((k * k / n).sum()) - float(k.sum()) ** 2 / total) / (groups - 1)
    within = (float(k.sum()) - float((k * k / n).sum())) / (total - groups)
    size = (total - float((n * n).sum()) / total) / (groups - 1)
    spread = between + (size - 1) * within
    return (between - within) / spread if spread > 0 else None


def similarity(a: np.ndarray, b: np.ndarray) -> float | None:
    """Cosine of two popularity vectors ``[n]`` without what Poisson noise takes from it; None where it is undefined."""
    a, b = a.astype(np.float64), b.astype(np.float64)
    scale = float(a @ (a - 1)) * float(b @ (b - 1))
    return float(a @ b) / math.sqrt(scale) if scale > 0 else None


def quantiles(values: np.ndarray) -> dict[str, float] | None:
    """Mean, extremes and quantiles of values ``[n]``; None where there are none."""
    if not len(values):
        return None
    inner = np.quantile(values, QUANTILES)
    named = {f"p{round(100 * q)}": float(value) for q, value in zip(QUANTILES, inner, strict=True)}
    named["median"] = named.pop("p50")
    return {"mean": float(values.mean()), "min": float(values.min()), **named, "max": float(values.max())}


def describe_time(rows: RawRows, *, dated: bool = True) -> dict[str, Any] | None:
    """Range and ties of the times, and the drift over them in bins of about equal rows; None without times."""
    if rows.times is None:
        return None
    order = np.argsort(rows.times, kind="stable")
    times = rows.times[order]
    tied = times[1:] == times[:-1]
    ties = np.concatenate([[False], tied]) | np.concatenate([tied, [False]])
    ordered = _Ordered(rows, order, times)
    bounds = _bounds(times, max(2, min(BINS, len(times) // _ROWS_OF_A_BIN)))
    return {
        "first_raw": _number(times[0]),
        "last_raw": _number(times[-1]),
        "first": _iso(times[0]) if dated else None,
        "last": _iso(times[-1]) if dated else None,
        "moments": int(len(times) - tied.sum()),
        "tied_rows_share": float(ties.mean()),
        "first_to_last_similarity": ordered.first_to_last(bounds),
        "last_fifth": ordered.last_part(int(len(times) * (1 - _LAST))) if len(times) > 1 else None,
        "bins": ordered.bins(bounds, dated=dated),
    }


class _Ordered:
    """Rows in order of time, and where users and items occur first."""

    def __init__(self, rows: RawRows, order: np.ndarray, times: np.ndarray) -> None:
        self._times = times
        self._items, self._signs = rows.items[order], rows.signs[order]
        users = rows.users[order]
        self._first_of_user = first_rows(users, rows.n_users)
        self._first_of_item = first_rows(self._items, rows.n_items)
        self._user_arrived, self._item_arrived = self._first_of_user[users], self._first_of_item[self._items]

    def _span(self, begin: int, end: int) -> dict[str, Any]:
        """Rows from ``begin`` to ``end``; newcomers are those whose first row is not before ``begin``."""
        signs = self._signs[begin:end]
        likes, dislikes = int((signs > 0).sum()), int((signs < 0).sum())
        rows = end - begin
        return {
            "rows": rows,
            "like_rate": likes / (likes + dislikes) if likes + dislikes else None,
            "rows_of_new_users": int((self._user_arrived[begin:end] >= begin).sum()) / rows,
            "rows_on_new_items": int((self._item_arrived[begin:end] >= begin).sum()) / rows,
        }

    def last_part(self, begin: int) -> dict[str, Any]:
        before, after = self._span(0, begin), self._span(begin, len(self._times))
        return {"like_rate_before": before["like_rate"], **after}

    def first_to_last(self, bounds: np.ndarray) -> float | None:
        if len(bounds) < 3:
            return None
        return similarity(self._popularity(bounds[0], bounds[1]), self._popularity(bounds[-2], bounds[-1]))

    def bins(self, bounds: np.ndarray, *, dated: bool) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = []
        previous: np.ndarray | None = None
        for begin, end in zip(bounds[:-1].tolist(), bounds[1:].tolist(), strict=True):
            popularity = self._popularity(begin, end)
            known = self._first_of_item < end
            found.append(
                {
                    "first_raw": _number(self._times[begin]),
                    "first": _iso(self._times[begin]) if dated else None,
                    "last": _iso(self._times[end - 1]) if dated else None,
                    **self._span(begin, end),
                    "new_users": int(((self._first_of_user >= begin) & (self._first_of_user < end)).sum()),
                    "new_items": int(((self._first_of_item >= begin) & (self._first_of_item < end)).sum()),
                    "rank_correlation": None if previous is None else spearman(previous[known], popularity[known]),
                    "similarity": None if previous is None else similarity(previous, popularity),
                }
            )
            previous = popularity
        return found

    def _popularity(self, begin: int, end: int) -> np.ndarray:
        return np.bincount(self._items[begin:end], minlength=len(self._first_of_item))


def _bounds(times: np.ndarray, bins: int) -> np.ndarray:
    """Places that cut the sorted times into at most ``bins`` bins, not through ties; ``[0, ..., n]``."""
    cuts = times[np.linspace(0, len(times), bins + 1)[1:-1].astype(np.int64)]
    return np.unique(np.concatenate([[0], np.searchsorted(times, cuts), [len(times)]]))


def _number(time: Any) -> int | float:
    return int(time) if time == int(time) else float(time)


def _iso(seconds: Any) -> str | None:
    return iso_date(float(seconds), "seconds")
