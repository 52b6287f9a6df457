"""Sums of a ridge regression against the dense solution of all rows at once."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
import scipy.sparse as sp

from recbole_signed.graph import ridge
from recbole_signed.graph.ridge import RidgeSums

FloatArray = npt.NDArray[np.float64]


def rows(n: int, seed: int = 0) -> tuple[sp.csr_matrix, FloatArray]:
    """Features with a bias, and targets."""
    rng = np.random.default_rng(seed)
    features = np.hstack([np.ones((n, 1)), np.round(rng.random((n, 4)) * (rng.random((n, 4)) < 0.6), 2)])
    return sp.csr_matrix(features), rng.normal(size=(n, 2))


def solved(features: sp.csr_matrix, targets: FloatArray, penalty: list[float]) -> FloatArray:
    return np.linalg.solve((features.T @ features).toarray() + np.diag(penalty), features.T @ targets)


@pytest.mark.parametrize(("strength", "of_bias"), [(2.0, 1e-3), (1e-3, 1e-3), (1e-5, 1e-5)])
def test_the_bias_is_penalised_least_of_all(strength: float, of_bias: float) -> None:
    features, targets = rows(5)  # as many as features: the penalty decides
    found = RidgeSums.of(features, targets).solve(strength)
    np.testing.assert_allclose(found, solved(features, targets, [of_bias, *[strength] * 4]), rtol=1e-4, atol=1e-5)


def test_a_solution_is_that_of_the_sums_as_they_are() -> None:
    features, targets = rows(30)
    sums = RidgeSums.of(features[:20], targets[:20])
    before = sums.solve(0.5)
    assert sums.solve(0.5) is before, "the same sums are solved once"
    sums.add(features[20:], targets[20:])
    np.testing.assert_allclose(sums.solve(0.5), solved(features, targets, [1e-3, *[0.5] * 4]), rtol=1e-4, atol=1e-6)
    sums.add(features[20:], targets[20:], times=-1.0)
    np.testing.assert_allclose(sums.solve(0.5), before, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("piece", [1, 7, 29, 30, 31])
def test_pieces_of_any_size_give_the_same_sums(piece: int, monkeypatch: pytest.MonkeyPatch) -> None:
    features, targets = rows(30)
    whole = RidgeSums.of(features, targets)
    monkeypatch.setattr(ridge, "PIECE", piece)
    pieces = RidgeSums.of(features, targets)
    np.testing.assert_allclose(pieces.gram, whole.gram, atol=1e-12)
    np.testing.assert_allclose(pieces.cross, whole.cross, atol=1e-12)
