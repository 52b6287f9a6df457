"""Single numbers: correlation, concentration, and how far a like depends on who or what it is about."""

from __future__ import annotations

import math

import numpy as np
import polars as pl

QUANTILES = (0.01, 0.1, 0.25, 0.5, 0.75, 0.9, 0.99)


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
    """Intra-class correlation of the sign: the share of its variance that lies between users, or between items.

    The analysis-of-variance estimator for binary data of unequal groups (Ridout, Demétrio and Firth, Biometrics
    1999, eq. 3).

    Args:
        likes: of each group ``[n]``.
        verdicts: likes and dislikes of each group ``[n]``; groups without any do not count.
    """
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
    """Cosine of two popularity vectors ``[n]`` without what chance takes from it.

    For counts that are Poisson draws of rates x and y it estimates cos(x, y), as E[a (a - 1)] = x^2; so unlike a
    rank correlation it does not fall with the number of rows. It may exceed 1 by chance. None where it is undefined.
    """
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
