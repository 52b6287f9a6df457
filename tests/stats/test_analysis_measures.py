from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from recbole_signed.lab.stats.measures import gini, intraclass, quantiles, similarity, spearman

counts = st.lists(st.integers(0, 30), min_size=2, max_size=40)


@given(a=counts, seed=st.integers(0, 99))
def test_spearman_is_scipys(a: list[int], seed: int) -> None:
    b = np.random.default_rng(seed).integers(0, 5, len(a))
    found = spearman(np.array(a), b)
    if len(set(a)) == 1 or len(set(b)) == 1:
        assert found is None
    else:
        assert found == pytest.approx(stats.spearmanr(a, b).statistic)


@given(a=counts)
def test_gini_is_the_mean_difference(a: list[int]) -> None:
    values = np.array(a)
    if not values.sum():
        assert gini(values) is None
        return
    expected = np.abs(values[:, None] - values[None, :]).mean() / (2 * values.mean())
    assert gini(values) == pytest.approx(expected, abs=1e-12)


@given(sizes=st.lists(st.integers(0, 6), min_size=2, max_size=12), seed=st.integers(0, 999))
def test_intraclass_is_that_of_the_analysis_of_variance(sizes: list[int], seed: int) -> None:
    rng = np.random.default_rng(seed)
    groups = [rng.integers(0, 2, size) for size in sizes]
    found = intraclass(np.array([each.sum() for each in groups]), np.array(sizes))
    groups = [each for each in groups if len(each)]
    total = sum(map(len, groups))
    if len(groups) < 2 or total <= len(groups):
        assert found is None
        return
    everything = np.concatenate(groups)
    between = sum(len(each) * (each.mean() - everything.mean()) ** 2 for each in groups) / (len(groups) - 1)
    within = sum(((each - each.mean()) ** 2).sum() for each in groups) / (total - len(groups))
    size = (total - sum(len(each) ** 2 for each in groups) / total) / (len(groups) - 1)
    spread = between + (size - 1) * within
    if spread <= 1e-12:
        assert found is None or spread > 0
    else:
        assert found == pytest.approx((between - within) / spread, abs=1e-9)


def test_intraclass_recovers_a_planted_one() -> None:
    rng = np.random.default_rng(0)
    size, share = rng.integers(2, 40, 20_000), rng.beta(2, 3, 20_000)
    assert intraclass(rng.binomial(size, share), size) == pytest.approx(1 / (2 + 3 + 1), abs=0.01)


def test_similarity_does_not_depend_on_how_much_is_seen() -> None:
    rng = np.random.default_rng(1)
    x, y = rng.lognormal(0, 1, (2, 100_000))
    y = 0.5 * x + 0.5 * y
    truth = x @ y / np.sqrt((x @ x) * (y @ y))
    for rate in (0.5, 20.0):
        assert similarity(rng.poisson(rate * x), rng.poisson(rate * y)) == pytest.approx(truth, abs=0.03)
    assert similarity(np.array([1, 1]), np.array([1, 1])) is None


def test_quantiles() -> None:
    found = quantiles(np.arange(101))
    assert found is not None
    assert (found["mean"], found["min"], found["p25"], found["median"], found["max"]) == (50, 0, 25, 50, 100)
    assert quantiles(np.array([])) is None
