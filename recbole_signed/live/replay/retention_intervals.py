"""How much of the quality of retraining an arm keeps, with an interval from resampling users."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

DRAWS = 2000


@dataclass(frozen=True)
class Retention:
    """The ratio of two arms' sums over the same cases."""

    ratio: float
    low: float
    """One-sided 95 % lower bound, the 5th percentile of the bootstrap."""
    high: float
    """The 95th percentile."""
    n_cases: int
    n_users: int


def retention(arm: np.ndarray, reference: np.ndarray, user: np.ndarray) -> Retention:
    """Compare two arms case by case; a user's cases are drawn together, since they are not independent.

    Args:
        arm: metric by case, ``[n_cases]``.
        reference: the same of the retrained arm.
        user: which user each case is of, any integers.
    """
    _, cluster = np.unique(user, return_inverse=True)
    n = int(cluster.max()) + 1 if len(cluster) else 0
    sums = np.stack([np.bincount(cluster, weights=each, minlength=n) for each in (arm, reference)])
    total = sums.sum(axis=1)
    if n == 0 or total[1] == 0:
        return Retention(float("nan"), float("nan"), float("nan"), len(arm), n)
    rng = np.random.default_rng(0)
    ratios = np.empty(DRAWS)
    for draw in range(DRAWS):
        weight = np.bincount(rng.integers(0, n, n), minlength=n)
        one, other = sums @ weight
        ratios[draw] = one / other if other else np.nan
    low, high = np.nanpercentile(ratios, [5, 95])
    return Retention(float(total[0] / total[1]), float(low), float(high), len(arm), n)
