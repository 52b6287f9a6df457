"""Is one model better than another, or were the users that were asked just lucky? Paired tests over users.

All take differences per user, ``[n_users, n_comparisons]``: positive where the first model is better, nan where a user
does not count; a small ``p_better`` says that it is better. The t test and the sign-flip test ask about the mean
(Smucker, Allan & Carterette, CIKM 2007), Wilcoxon's about symmetry. All speak of other users of the same data.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import stats

FloatArray = npt.NDArray[np.float64]
Progress = Callable[[float], None]  # called with the share of the work that is done, from 0 to 1
RESAMPLES = 10_000
ALPHA = 0.05
T, WILCOXON, PERMUTATION = "t", "wilcoxon", "permutation"
TESTS = (T, WILCOXON, PERMUTATION)
DECIMALS = 6  # differences count to this decimal: values are float32, and ties and zeros decide ranks and sign patterns
_CHUNK_CELLS = 1 << 18  # cells of resamples x users at a time: some 2 MB in each array, which stay in a core's cache


@dataclass(frozen=True)
class PValues:
    """The p-values of one test, ``[n_comparisons]`` each; nan where it has no answer, as with fewer than two users."""

    better: FloatArray  # of "no better", against "the first model is better"
    two_sided: FloatArray  # of "no difference", against "one of the two is better"


def paired_t(differences: FloatArray) -> PValues:
    """Student's paired t test on each column; p is nan where all differences are equal, 1 where they are 0."""

    def test(values: FloatArray, alternative: str) -> float:
        rounded = values.round(DECIMALS)
        if not np.ptp(rounded):  # what is left is rounding, and the statistic of rounding may be of any size
            return np.nan if rounded[0] else 1.0
        return float(stats.ttest_1samp(values, 0.0, alternative=alternative).pvalue)

    return _by_column(differences, test)


def wilcoxon(differences: FloatArray) -> PValues:
    """Wilcoxon's signed-rank test (SciPy's) on each column; differences of 0 are left out, p is 1 where all are 0."""

    def test(values: FloatArray, alternative: str) -> float:
        rounded = values.round(DECIMALS)
        nonzero = rounded[rounded != 0]  # SciPy drops zeros, but is not exact where it is given any
        return float(stats.wilcoxon(nonzero, alternative=alternative).pvalue) if len(nonzero) else 1.0

    return _by_column(differences, test)


def _by_column(differences: FloatArray, test: Callable[[FloatArray, str], float]) -> PValues:
    p_values = np.full((2, differences.shape[1]), np.nan)
    for number, column in enumerate(differences.T):
        values = column[~np.isnan(column)]
        if len(values) > 1:
            p_values[:, number] = test(values, "greater"), test(values, "two-sided")
    return PValues(p_values[0], p_values[1])


def sign_flip(
    differences: FloatArray, resamples: int = RESAMPLES, seed: int = 0, progress: Progress | None = None
) -> PValues:
    """Paired permutation test of the mean difference: the two models of each user are swapped at random.

    p is (1 + hits) / (1 + resamples), or exact by all patterns where they are no more. As
    ``scipy.stats.permutation_test`` with ``permutation_type="samples"``, for all comparisons in one product of
    matrices.
    """
    values = np.nan_to_num(differences.round(DECIMALS))  # a user who does not count adds 0 under either sign
    seen = values.sum(axis=0)
    # equal sums must count as equal, those of thirds too: of a third that is rounded the last decimal is missing
    slack = 10.0**-DECIMALS * (values != 0).sum(axis=0)
    n_users = len(values)
    exact = n_users < 63 and 2**n_users <= resamples
    above, outside = np.zeros_like(seen), np.zeros_like(seen)
    done, total = 0, 2**n_users if exact else resamples
    patterns = _all_patterns(n_users) if exact else _random_patterns(n_users, resamples, seed)
    for flipped in patterns:
        sums = seen - 2.0 * (flipped @ values)
        above += (sums >= seen - slack).sum(axis=0)
        outside += (np.abs(sums) >= np.abs(seen) - slack).sum(axis=0)
        done += len(flipped)
        if progress is not None:
            progress(done / total)
    extra = 0 if exact else 1
    undefined = (~np.isnan(differences)).sum(axis=0) < 2
    p = [np.where(undefined, np.nan, (extra + hits) / (extra + total)) for hits in (above, outside)]
    return PValues(p[0], p[1])


def _random_patterns(n_users: int, resamples: int, seed: int) -> Iterator[FloatArray]:
    """Yield chunks ``[n, n_users]`` of zeros and ones: which users are swapped."""
    rng = np.random.default_rng(seed)
    words = -(-n_users // 64)
    for size in _chunks(n_users, resamples):
        bits = rng.integers(0, 2**64, size=(size, words), dtype=np.uint64).view(np.uint8)
        yield np.unpackbits(bits, axis=1)[:, :n_users].astype(np.float64)


def _all_patterns(n_users: int) -> Iterator[FloatArray]:
    first = 0
    for size in _chunks(n_users, 2**n_users):
        numbers = np.arange(first, first + size)[:, None]
        yield ((numbers >> np.arange(n_users)) & 1).astype(np.float64)
        first += size


def _chunks(n_users: int, resamples: int) -> Iterator[int]:
    size = max(1, _CHUNK_CELLS // max(1, n_users))
    for first in range(0, resamples, size):
        yield min(size, resamples - first)


def bootstrap(
    differences: FloatArray,
    level: float = 1.0 - ALPHA,
    resamples: int = RESAMPLES,
    seed: int = 0,
    progress: Progress | None = None,
) -> tuple[FloatArray, FloatArray]:
    """Return percentile intervals of the mean differences, by drawing users with replacement, column by column.

    They are the low and the high ends, ``[n_comparisons]`` both; nan where no user counts.
    """
    n_users, n_comparisons = differences.shape
    known = ~np.isnan(differences)
    values, everybody = np.nan_to_num(differences), bool(known.all())
    counted = known.astype(np.float64)
    rng = np.random.default_rng(seed)
    means = np.empty((resamples, n_comparisons))
    first = 0
    for size in _chunks(n_users, resamples):
        drawn = rng.integers(n_users, size=(size, n_users), dtype=np.uint32).astype(np.intp)
        drawn += np.arange(size, dtype=np.intp)[:, None] * n_users
        times = np.bincount(drawn.ravel(), minlength=size * n_users).reshape(size, n_users).astype(np.float64)
        n_counted = n_users if everybody else times @ counted
        with np.errstate(invalid="ignore"):  # nobody who counts was drawn: nan, left out below
            means[first : first + size] = (times @ values) / n_counted
        first += size
        if progress is not None:
            progress(first / resamples)
    low, high = np.full(n_comparisons, np.nan), np.full(n_comparisons, np.nan)
    some = known.any(axis=0)
    tail = 100.0 * (1.0 - level) / 2.0
    if some.any():
        low[some], high[some] = np.nanpercentile(means[:, some], [tail, 100.0 - tail], axis=0)
    return low, high


def holm(p: npt.ArrayLike) -> FloatArray:
    """Holm's step-down correction (Scand. J. Stat. 1979) of p-values ``[m]``; nan is no test and stays nan."""
    given = np.asarray(p, dtype=np.float64)
    adjusted = np.full(given.shape, np.nan)
    tested = np.flatnonzero(~np.isnan(given))
    order = tested[np.argsort(given[tested], kind="stable")]
    factors = np.arange(len(order), 0, -1)
    adjusted[order] = np.minimum(1.0, np.maximum.accumulate(factors * given[order]))
    return adjusted


def mean_over_seeds(values: FloatArray) -> FloatArray:
    """Return each user's mean of ``[n_seeds, n_users, n_metrics]`` over seeds with a value: a user is one unit."""
    known = ~np.isnan(values)
    n_known = known.sum(axis=0)
    total = np.where(known, values, 0.0).sum(axis=0)
    return np.where(n_known > 0, total / np.maximum(n_known, 1), np.nan)
