"""SGFCF against its formula in dense float64, homophily ratios counted pair by pair."""

from __future__ import annotations

from collections.abc import Callable
from itertools import permutations
from pathlib import Path

import numpy as np
import pytest
import torch
from small_signed import build, dense, normalised


def ratios(P: np.ndarray) -> np.ndarray:
    """The share of ordered pairs of a row's columns that another row has too."""
    found = np.zeros(len(P))
    for row, values in enumerate(P):
        pairs = list(permutations(np.flatnonzero(values), 2))
        others = np.delete(P, row, axis=0)
        found[row] = np.mean([(others[:, i] * others[:, j]).any() for i, j in pairs]) if pairs else 0.0
    return found


def exponents(P: np.ndarray, low: float, high: float) -> np.ndarray:
    found = ratios(P)
    known = found[1:]
    return low + (high - low) * np.clip((found - known.min()) / (known.max() - known.min()), 0, 1)


@pytest.mark.parametrize("individual", [True, False])
@pytest.mark.parametrize("gamma", [0.0, 0.4])
def test_scores_are_the_formula(
    write_inter: Callable[..., Path], signed_rows: list, tmp_path: Path, individual: bool, gamma: float
) -> None:
    rows = signed_rows[:400]  # sparse, so that ratios differ
    config = {"beta_1": 0.6, "beta_2": 1.4, "alpha": 2.0, "eps": 0.4, "rank": 6, "gamma": gamma}
    model = build("SGFCF", write_inter, rows, tmp_path, individual_filter=individual, **config)
    model.fit()
    P, _ = dense(model)
    if individual:
        beta_u, beta_i = exponents(P, 0.6, 1.4), exponents(P.T, 0.6, 1.4)
        assert np.ptp(beta_u) > 0.5
        np.testing.assert_allclose(model.user_exponents.numpy(), beta_u, rtol=1e-5)
    else:
        beta_u, beta_i = np.full(len(P), 0.6), np.full(P.shape[1], 0.6)
    R = normalised(P, 0.4, 0.4, 2.0)
    U, S, Vt = np.linalg.svd(R, full_matrices=False)
    x = S[:6] / S[0]
    A = (U[:, :6] * x ** beta_u[:, None]) @ (Vt[:6].T * x ** beta_i[:, None]).T
    B = R @ R.T @ R

    def shares(scores: np.ndarray) -> np.ndarray:
        return scores / np.maximum(np.maximum(scores.sum(1), 0.01 * abs(scores).sum(1)), 1e-30)[:, None]

    wanted = shares(A) + gamma * shares(B)
    have = P.sum(1) > 0
    found = model.score(torch.arange(model.n_users)).numpy()
    np.testing.assert_allclose(found[have], wanted[have], rtol=2e-3, atol=2e-4)
    assert np.isfinite(found).all()


def test_equal_ratios_give_the_first_exponent(
    write_inter: Callable[..., Path], signed_rows: list, tmp_path: Path
) -> None:
    pairs = ((user, item) for user in range(6, 20) for item in range(5, 12) if user % 7 != item - 5)
    rows = [(user, item, 1, 0) for user, item in pairs]  # each lacks one item, and pairs of all kinds are shared
    model = build("SGFCF", write_inter, rows, tmp_path, beta_1=0.7, beta_2=2.0)
    model.fit()
    assert torch.equal(model.user_exponents, torch.full((model.n_users,), 0.7))
