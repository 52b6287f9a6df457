"""The linear autoencoders against dense solutions: SVD-AE, SignedEASE, EDLAE and DEQL."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from small_signed import Small, dense, normalised, scores

from recbole_signed.errors import UsageError


@pytest.mark.parametrize("rank", [3, 9])
def test_scores_are_the_truncated_least_squares_fit(small: Small, rank: int) -> None:
    model = small("SVDAE", rank=rank)
    P, _ = dense(model)
    R = normalised(P)
    values = np.linalg.svd(R, compute_uv=False)
    cut = (values[rank - 1] + values[rank]) / 2 / values[0]
    wanted = R @ np.linalg.pinv(R, rcond=cut) @ P
    np.testing.assert_allclose(scores(model), wanted, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("weight", [-0.4, 0.7])
def test_it_minimises_the_squared_error_with_a_zero_diagonal(small: Small, weight: float) -> None:
    model = small("SignedEASE", fit=False, dislike_weight=weight, reg_weight=20.0)
    assert torch.equal(model.score(torch.arange(3)), torch.zeros(3, model.n_items))
    model.fit()
    P, N = dense(model)
    X = P + weight * N
    B = np.zeros((model.n_items, model.n_items))
    for item in range(model.n_items):  # ridge regression on all other items
        rest = np.arange(model.n_items) != item
        A = X[:, rest]
        B[rest, item] = np.linalg.solve(A.T @ A + 20.0 * np.eye(rest.sum()), A.T @ X[:, item])
    weights = torch.stack([model.weights_of(item) for item in range(model.n_items)])
    np.testing.assert_allclose(weights, B, rtol=1e-3, atol=1e-5)
    found = scores(model)
    np.testing.assert_allclose(found, X @ B, rtol=1e-3, atol=1e-4)
    assert model.inverse.dtype == torch.float32


def test_it_needs_a_ridge(small: Small) -> None:
    with pytest.raises(UsageError, match="reg_weight is 0"):
        small("SignedEASE", reg_weight=0)


def minimiser(P: np.ndarray, p: float, b: float, ridge: float) -> np.ndarray:
    r"""Return the W that minimises the expected loss plus ``ridge`` times the squared norm of W.

    Entry i of the target weighs 1 where it was dropped and b where it was kept, so :math:`E[A_i^2 \Delta_j \Delta_k]`
    is a sum over the two cases.
    """
    q, G = 1.0 - p, P.T @ P
    n = len(G)
    found = np.zeros((n, n))
    for i in range(n):
        moments = np.full((n, n), q * q)
        np.fill_diagonal(moments, q)
        dropped, kept = moments.copy(), moments.copy()
        dropped[i], dropped[:, i] = 0.0, 0.0  # of the dropped target, nothing is in the input
        kept[i], kept[:, i] = q, q
        kept[i, i] = 1.0
        hessian = (p * dropped + q * b * b * kept) * G
        first = np.full(n, q)
        of_dropped, of_kept = first.copy(), first.copy()
        of_dropped[i], of_kept[i] = 0.0, 1.0
        gradient = (p * of_dropped + q * b * b * of_kept) * G[:, i]
        found[:, i] = np.linalg.solve(hessian + ridge * np.eye(n), gradient)
    return found


@pytest.mark.parametrize(("dropout", "ridge"), [(0.0, 20.0), (0.4, 2.0), (0.8, 30.0)])
def test_edlae_is_the_minimiser_where_kept_entries_do_not_count(small: Small, dropout: float, ridge: float) -> None:
    model = small("EDLAE", fit=False, dropout_prob=dropout, reg_weight=ridge)
    assert torch.equal(model.score(torch.arange(3)), torch.zeros(3, model.n_items))
    model.fit()
    P, _ = dense(model)
    if dropout:
        q = 1.0 - dropout
        W = q * minimiser(P, dropout, 0.0, dropout * q * q * ridge)
    else:
        G = np.linalg.inv(P.T @ P + ridge * np.eye(P.shape[1]))
        W = -G / np.diag(G)
        np.fill_diagonal(W, 0.0)
    np.testing.assert_allclose(scores(model), P @ W, rtol=1e-3, atol=2e-4)


@pytest.mark.parametrize("emphasis", [0.0, 0.3, 1.0, 1.7])
@pytest.mark.parametrize(("dropout", "ridge"), [(0.4, 2.0), (0.8, 30.0)])
def test_deql_is_the_minimiser(
    small: Small,
    emphasis: float,
    dropout: float,
    ridge: float,
) -> None:
    settings = {"dropout_prob": dropout, "reg_weight": ridge, "emphasis": emphasis}
    model = small("DEQL", **settings)
    P, _ = dense(model)
    q = 1.0 - dropout
    W = minimiser(P, dropout, emphasis, (q * emphasis**2 + dropout) * q * q * ridge)
    np.testing.assert_allclose(scores(model), P @ W, rtol=1e-3, atol=5e-4)


def test_deql_without_dropout_and_emphasis_is_ease(small: Small) -> None:
    settings = {"dropout_prob": 0.0, "reg_weight": 20.0}
    first = small("DEQL", fit=False, emphasis=0.0, **settings)
    second = small("EDLAE", fit=False, **settings)
    for model in (first, second):
        model.fit()
    users = torch.arange(first.n_users)
    torch.testing.assert_close(first.score(users), second.score(users))


@pytest.mark.parametrize(
    ("settings", "message"), [({"reg_weight": 0}, "reg_weight is 0"), ({"emphasis": -1}, "emphasis is -1")]
)
def test_wrong_values_are_refused(small: Small, settings: dict, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        small("DEQL", **settings)
