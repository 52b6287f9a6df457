"""The paired tests against SciPy, against counting by hand, and by what must hold for any data."""

import itertools
import tracemalloc
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from recbole_signed.evaluation import significance
from recbole_signed.evaluation.significance import (
    PValues,
    bootstrap,
    holm,
    mean_over_seeds,
    paired_t,
    sign_flip,
    wilcoxon,
)

FloatArray = npt.NDArray[np.float64]
TESTS: list[Callable[[FloatArray], PValues]] = [paired_t, wilcoxon, lambda d: sign_flip(d, 5_000)]
IDS = ["t", "wilcoxon", "permutation"]


def with_gaps(seed: int, n_users: int = 60, n_comparisons: int = 4) -> FloatArray:
    """Differences of two recalls with few likes: many zeros, many ties, some users who do not count."""
    rng = np.random.default_rng(seed)
    mine, theirs = (rng.binomial(4, p, (n_users, n_comparisons)) / 4 for p in (0.5, 0.4))
    differences = mine - theirs
    differences[rng.random(differences.shape) < 0.1] = np.nan
    return differences


def test_t_and_wilcoxon_are_scipys() -> None:
    rng = np.random.default_rng(3)
    mine, theirs = rng.normal(0.3, 1, 40), rng.normal(0, 1, 40)
    found = paired_t((mine - theirs)[:, None])
    assert found.better[0] == pytest.approx(stats.ttest_rel(mine, theirs, alternative="greater").pvalue, rel=1e-9)
    assert found.two_sided[0] == pytest.approx(stats.ttest_rel(mine, theirs).pvalue, rel=1e-9)
    mine, theirs = np.random.default_rng(4).integers(0, 11, (2, 80)) / 10
    differences = mine - theirs
    for alternative, kind in (("greater", "better"), ("two-sided", "two_sided")):
        expected = stats.wilcoxon(np.round(differences * 10), alternative=alternative).pvalue
        kept = mine.astype(np.float32).astype(float) - theirs.astype(np.float32).astype(float)
        assert len(np.unique(kept)) > len(np.unique(np.round(differences, 9))), "ties were lost on the way"
        assert getattr(wilcoxon(kept[:, None]), kind)[0] == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("test", TESTS, ids=IDS)
def test_models_that_differ_by_rounding_alone_are_not_told_apart(test: Callable[[FloatArray], PValues]) -> None:
    seeds = np.array([0.1, 0.2, 0.3])[:, None, None]
    mine, theirs = (mean_over_seeds(np.tile(each, (1, 60, 1))) for each in (seeds, seeds[::-1]))
    some = np.where(np.arange(60) % 4, mine[:, 0] - theirs[:, 0], 0.0)
    differences = np.stack([mine[:, 0] - theirs[:, 0], some], axis=1)
    assert 0 < np.abs(differences).max() < 1e-15
    found = test(differences)
    assert found.better.tolist() == found.two_sided.tolist() == [1.0, 1.0]


def test_users_who_do_not_count_are_left_out_of_every_test() -> None:
    differences = with_gaps(1)
    for test in (paired_t, wilcoxon):
        together = test(differences)
        for number, column in enumerate(differences.T):
            alone = test(column[~np.isnan(column)][:, None])
            assert together.better[number] == pytest.approx(alone.better[0], rel=1e-12)
            assert together.two_sided[number] == pytest.approx(alone.two_sided[0], rel=1e-12)
    few = differences[:11]
    for number, column in enumerate(few.T):  # exact on both sides
        known = column[~np.isnan(column)][:, None]
        assert sign_flip(few, 4096).better[number] == pytest.approx(sign_flip(known, 4096).better[0], rel=1e-12)


def test_users_without_a_difference_change_nothing_for_wilcoxon() -> None:
    some = np.array([0.4, -0.1, 0.3, 0.25, 0.07])
    ranks, ahead = stats.rankdata(np.abs(some)), some > 0
    sums = [ranks @ signs for signs in itertools.product((0, 1), repeat=5)]
    for zeros in (0, 1, 60):
        found = wilcoxon(np.append(some, np.zeros(zeros))[:, None])
        assert found.better[0] == pytest.approx(np.mean(sums >= ranks @ ahead), rel=1e-12)
        assert found.two_sided[0] == pytest.approx(2 * found.better[0], rel=1e-12)


@pytest.mark.parametrize("divisor", [10, 3], ids=["tenths", "thirds"])  # 1/3 + 1/3 in decimals is not 2/3
@pytest.mark.parametrize("seed", range(4))
def test_exact_permutation_is_counting_all_sign_patterns(seed: int, divisor: int) -> None:
    differences = np.random.default_rng(seed).integers(-2, 4, 9) / divisor
    means = [np.mean(differences * signs) for signs in itertools.product((1, -1), repeat=9)]
    seen = differences.mean()
    found = sign_flip(differences[:, None], resamples=512)
    assert found.better[0] == np.mean([mean >= seen - 1e-12 for mean in means])
    assert found.two_sided[0] == np.mean([abs(mean) >= abs(seen) - 1e-12 for mean in means])
    for alternative, kind in (("greater", "better"), ("two-sided", "two_sided")):
        theirs = stats.permutation_test(
            (differences, np.zeros(9)),
            lambda x, y, axis: np.mean(x - y, axis=axis),
            permutation_type="samples",
            alternative=alternative,
            vectorized=True,
            n_resamples=np.inf,
        )
        assert getattr(found, kind)[0] == pytest.approx(theirs.pvalue, rel=1e-12)


def test_permutations_agree_with_exact_ones() -> None:
    mine, theirs = np.random.default_rng(2).integers(0, 11, (2, 10)) / 10
    kept = mine.astype(np.float32).astype(float) - theirs.astype(np.float32).astype(float)
    on_paper = np.round(mine - theirs, 9)
    assert not np.array_equal(kept, on_paper)
    for kind in ("better", "two_sided"):
        assert getattr(sign_flip(kept[:, None], 1024), kind)[0] == getattr(sign_flip(on_paper[:, None], 1024), kind)[0]
    differences = with_gaps(5, n_users=14)
    exact, drawn = sign_flip(differences, 2**14), sign_flip(differences, 10_000)
    for kind in ("better", "two_sided"):
        p = getattr(exact, kind)
        assert np.all(np.abs(getattr(drawn, kind) - p) < 4 * np.sqrt(p * (1 - p) / 10_000) + 2e-4)
    assert not np.array_equal(exact.better, drawn.better)
    found = sign_flip(np.full((200, 1), 0.1) + np.random.default_rng(0).normal(0, 0.01, (200, 1)), resamples=99)
    assert found.better[0] == found.two_sided[0] == 0.01


@pytest.mark.parametrize("function", [sign_flip, lambda *a, **k: bootstrap(a[0], 0.95, *a[1:], **k)])
def test_resamples_depend_on_the_seed_alone(function: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    differences = with_gaps(6, n_users=130)

    def numbers(columns: FloatArray, seed: int = 0) -> FloatArray:
        found = function(columns, 300, seed=seed)
        return np.stack(list(vars(found).values()) if isinstance(found, PValues) else found)

    whole = numbers(differences)
    assert np.allclose(numbers(differences[:, 1:2]), whole[:, 1:2], rtol=1e-9), "other columns"
    assert not np.allclose(numbers(differences, seed=1), whole)
    monkeypatch.setattr(significance, "_CHUNK_CELLS", 1000)
    assert np.allclose(numbers(differences), whole, rtol=1e-9), "the size of the chunks"


def test_intervals_are_those_of_scipy_and_of_the_normal_distribution() -> None:
    column = np.random.default_rng(8).exponential(1.0, 400)
    column[::7] = np.nan
    known = column[~np.isnan(column)]
    low, high = bootstrap(column[:, None], level=0.9)
    theirs = stats.bootstrap(
        (known,), np.mean, confidence_level=0.9, method="percentile", n_resamples=10_000, random_state=1
    ).confidence_interval
    error = known.std() / np.sqrt(len(known))
    assert low[0] == pytest.approx(theirs.low, abs=0.06 * error)
    assert high[0] == pytest.approx(theirs.high, abs=0.06 * error)
    assert low[0] == pytest.approx(known.mean() - 1.645 * error, abs=0.15 * error)
    narrow, wide = bootstrap(column[:, None], level=0.5), bootstrap(column[:, None], level=0.99)
    assert wide[0] < low < narrow[0] < narrow[1] < high < wide[1]


def test_holm_and_the_direction_by_hand() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]).tolist() == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.5, 0.9]).tolist() == [1.0, 1.0]
    found = holm([0.01, np.nan, 0.02])
    assert found[[0, 2]].tolist() == pytest.approx([0.02, 0.02]), "what was not tested does not count"
    assert np.isnan(found[1])
    assert len(holm([])) == 0
    ours = 0.3 + np.random.default_rng(0).normal(0, 0.002, 10)
    baseline = ours - 0.02 + np.random.default_rng(1).normal(0, 0.002, 10)
    assert stats.ttest_rel(ours, baseline, alternative="less").pvalue > 0.999, "as RecBole's significance_test.py"
    for test in TESTS:
        assert test((ours - baseline)[:, None]).better[0] < 0.005
        assert test((baseline - ours)[:, None]).better[0] > 0.99


@given(p=st.lists(st.floats(0, 1), min_size=1, max_size=12), seed=st.integers(0, 99))
def test_holm_for_any_family(p: list[float], seed: int) -> None:
    given_p = np.array(p)
    found = holm(given_p)
    assert np.all(found >= given_p)
    assert np.all(found <= np.minimum(1.0, len(p) * given_p) + 1e-12), "never stricter than Bonferroni"
    assert np.all(np.diff(found[np.argsort(given_p, kind="stable")]) >= 0)
    shuffled = np.random.default_rng(seed).permutation(len(p))
    assert np.array_equal(holm(given_p[shuffled]), found[shuffled])


@pytest.mark.parametrize("test", TESTS, ids=IDS)
def test_p_is_uniform_where_nothing_differs(test: Callable[[FloatArray], PValues]) -> None:
    found = test(np.random.default_rng(11).normal(0, 1, (50, 600)))
    for p in (found.better, found.two_sided):
        assert stats.kstest(p, "uniform").pvalue > 0.001
        assert 0.025 < np.mean(p < 0.05) < 0.077


@pytest.mark.parametrize("test", TESTS, ids=IDS)
def test_nothing_to_tell_apart(test: Callable[[FloatArray], PValues]) -> None:
    nan = np.nan
    columns = np.array([[0.0, nan, nan], [0.0, 0.5, nan], [0.0, nan, nan], [0.0, nan, nan]])
    found = test(columns)
    for p in (found.better, found.two_sided):
        assert p[0] == 1.0, "equal models"
        assert np.isnan(p[1:]).all(), "one user, no user"
    low, high = bootstrap(columns)
    assert (low[0], high[0]) == (0.0, 0.0)
    assert np.isnan([low[2], high[2]]).all()


@pytest.mark.parametrize("lead", [0.25, -0.25])
def test_a_lead_without_variance_is_nothing_for_the_t_test(lead: float) -> None:
    same = np.full((2, 1), lead)
    found = paired_t(same)
    assert np.isnan(found.better[0])
    assert np.isnan(found.two_sided[0])
    assert sign_flip(same).two_sided[0] == 0.5, "two of the four patterns lie as far from 0"


def test_a_user_is_one_unit_over_all_seeds() -> None:
    nan = np.nan
    values = np.array([[[0.0, 1.0], [0.5, nan], [nan, nan]], [[1.0, 0.0], [nan, nan], [nan, 0.25]]])
    expected = np.array([[0.5, 0.5], [0.5, nan], [nan, 0.25]])
    assert np.array_equal(mean_over_seeds(values), expected, equal_nan=True)


def test_memory_does_not_grow_with_the_resamples() -> None:
    differences = np.random.default_rng(0).normal(0, 1, (20_000, 2))
    shares: list[float] = []
    tracemalloc.start()
    try:
        sign_flip(differences, 1000, progress=shares.append)
        bootstrap(differences, resamples=1000, progress=shares.append)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 15e6 < 1000 * 20_000, "all resamples at once would take even a byte each"
    assert shares.count(1.0) == 2
    assert all(0 < share <= 1 for share in shares)
