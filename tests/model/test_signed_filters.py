"""The published filters on P + wN: the formula on the weighted matrix, and the filter of the likes where w is 0."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from small_signed import build, dense, normalised


def weighted(model: object, weight: float) -> np.ndarray:
    P, N = dense(model)
    return P + weight * N


def normalised_by_size(X: np.ndarray, user: float = 0.5, item: float = 0.5, smoothing: float = 0.0) -> np.ndarray:
    """Normalise X by powers of the sums of its absolute values."""
    return normalised(abs(X), user, item, smoothing) * np.sign(X)


@pytest.mark.parametrize("name", ["GFCF", "SGFCF", "TurboCF"])
def test_with_weight_zero_it_is_the_filter_of_the_likes(
    write_inter: Callable[..., Path], signed_rows: list, tmp_path: Path, name: str
) -> None:
    likes, both = (
        build(each, write_inter, signed_rows, tmp_path, **more)
        for each, more in ((name, {}), (f"Signed{name}", {"dislike_weight": 0.0}))
    )
    for model in (likes, both):
        model.fit()
    users = torch.arange(likes.n_users)
    torch.testing.assert_close(both.score(users), likes.score(users))


@pytest.mark.parametrize("weight", [-0.4, 0.6])
def test_gfcf_is_the_formula(
    write_inter: Callable[..., Path], signed_rows: list, tmp_path: Path, weight: float
) -> None:
    model = build("SignedGFCF", write_inter, signed_rows, tmp_path, rank=5, alpha=0.7, dislike_weight=weight)
    model.fit()
    X = weighted(model, weight)
    R = normalised_by_size(X)
    V = np.linalg.svd(R, full_matrices=False)[2][:5].T
    root = np.sqrt(abs(X).sum(0))
    inverse = np.divide(1.0, root, out=np.zeros_like(root), where=root > 0)
    wanted = X @ (R.T @ R + 0.7 * (inverse[:, None] * V) @ (V.T * root))
    np.testing.assert_allclose(model.score(torch.arange(model.n_users)).numpy(), wanted, rtol=1e-3, atol=2e-4)


@pytest.mark.parametrize("weight", [-0.4, 0.6])
def test_turbocf_is_the_formula(
    write_inter: Callable[..., Path], signed_rows: list, tmp_path: Path, weight: float
) -> None:
    settings = {"alpha": 0.3, "power": 0.8, "filter_order": 2, "dislike_weight": weight}
    model = build("SignedTurboCF", write_inter, signed_rows, tmp_path, **settings)
    model.fit()
    X = weighted(model, weight)
    R = normalised_by_size(X, 0.3, 0.7)
    G = R.T @ R
    assert (G.min() < 0) == (weight < 0)
    B = np.sign(G) * abs(G) ** 0.8
    wanted = X @ (2 * B - B @ B)
    np.testing.assert_allclose(model.score(torch.arange(model.n_users)).numpy(), wanted, rtol=1e-3, atol=1e-5)


def test_exponents_of_sgfcf_are_those_of_pairs_of_any_verdict(
    write_inter: Callable[..., Path], signed_rows: list, tmp_path: Path
) -> None:
    settings = {"beta_1": 0.6, "beta_2": 1.4, "rank": 4, "dislike_weight": -0.4, "individual_filter": True}
    model = build("SignedSGFCF", write_inter, signed_rows[:400], tmp_path, **settings)
    model.fit()
    P, N = dense(model)
    rated = P + N > 0
    found = []
    for own in (rated, rated.T):
        shared = (own.T.astype(int) @ own.astype(int)) > 1  # pairs of columns that two rows have
        ratio = np.zeros(len(own))
        for row, columns in enumerate(np.flatnonzero(each) for each in own):
            pairs = shared[np.ix_(columns, columns)][~np.eye(len(columns), dtype=bool)]
            ratio[row] = pairs.mean() if len(pairs) else 0.0
        known = ratio[1:]
        assert np.ptp(known) > 0.3
        found.append(0.6 + 0.8 * np.clip((ratio - known.min()) / np.ptp(known), 0, 1))
    np.testing.assert_allclose(model.user_exponents, found[0], rtol=1e-5)
    response = (model.singular_values / model.singular_values[0]).numpy() ** found[1][:, None]
    np.testing.assert_allclose(model.item_response, model.item_factors.numpy() * response, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("weight", [-0.4, 0.6])
def test_sgfcf_is_the_formula(
    write_inter: Callable[..., Path], signed_rows: list, tmp_path: Path, weight: float
) -> None:
    settings = {"beta_1": 0.8, "alpha": 2.0, "eps": 0.4, "rank": 6, "gamma": 0.4, "individual_filter": False}
    model = build("SignedSGFCF", write_inter, signed_rows, tmp_path, dislike_weight=weight, **settings)
    model.fit()
    R = normalised_by_size(weighted(model, weight), 0.4, 0.4, 2.0)
    U, S, Vt = np.linalg.svd(R, full_matrices=False)
    response = (S[:6] / S[0]) ** (2 * 0.8)
    wanted = sum(
        part * share / np.maximum(np.maximum(part.sum(1), 0.01 * abs(part).sum(1)), 1e-30)[:, None]
        for part, share in (((U[:, :6] * response) @ Vt[:6], 1.0), (R @ R.T @ R, 0.4))
    )
    have = abs(R).sum(1) > 0
    found = model.score(torch.arange(model.n_users)).numpy()
    np.testing.assert_allclose(found[have], wanted[have], rtol=2e-2, atol=2e-3)
