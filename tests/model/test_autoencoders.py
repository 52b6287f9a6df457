"""The linear autoencoders against dense solutions: SVD-AE, SignedEASE, EDLAE and DEQL."""

from typing import Any

import numpy as np
import pytest
import torch
from refusals import check_refused
from small_signed import Small, dense, normalised, scores


@pytest.mark.parametrize("rank", [3, 9])
def test_scores_are_the_truncated_least_squares_fit(small: Small, rank: int) -> None:
    model = small("SVDAE", rank=rank)
    P, _ = dense(model)
    R = normalised(P)
    values = np.linalg.svd(R, compute_uv=False)
    wanted = R @ np.linalg.pinv(R, rcond=(values[rank - 1] + values[rank]) / 2 / values[0]) @ P
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
    np.testing.assert_allclose(scores(model), X @ B, rtol=1e-3, atol=1e-4)
    assert model.inverse.dtype == torch.float32


def test_it_needs_a_ridge(small: Small) -> None:
    check_refused("reg_weight is 0", small, "SignedEASE", reg_weight=0)


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
def test_deql_is_the_minimiser(small: Small, emphasis: float, dropout: float, ridge: float) -> None:
    model = small("DEQL", dropout_prob=dropout, reg_weight=ridge, emphasis=emphasis)
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
    check_refused(message, small, "DEQL", **settings)


# ---- signediALS: a stationary point of its dense objective, and iALS where there is no dislike ----


CONFIG = {
    "embedding_size": 4, "like_weight": 1.4, "dislike_weight": 0.6, "dislike_target": -0.3,
    "unobserved_weight": 0.2, "reg_weight": 0.05, "reg_exponent": 0.7,
}  # fmt: skip


def objective(P: torch.Tensor, N: torch.Tensor, W: torch.Tensor, H: torch.Tensor, c: dict[str, Any]) -> torch.Tensor:
    """The objective over all pairs, one by one."""
    scores = W @ H.T
    edges = P + N
    fit = (P * (1 - scores) ** 2).sum() * c["like_weight"]
    fit = fit + (N * (c["dislike_target"] - scores) ** 2).sum() * c["dislike_weight"]
    fit = fit + c["unobserved_weight"] * (scores**2).sum()
    for factors, axis in ((W, 1), (H, 0)):
        counts = edges.sum(axis) + c["unobserved_weight"] * edges.shape[axis]
        fit = fit + c["reg_weight"] * (counts ** c["reg_exponent"] * (factors**2).sum(1)).sum()
    return fit


def gradients(model: Any) -> tuple[float, float]:
    P, N = (torch.from_numpy(each) for each in dense(model))
    W, H = (each.double().clone().requires_grad_() for each in model.encode())
    objective(P, N, W, H, CONFIG).backward()
    return float(W.grad.abs().max()), float(H.grad.abs().max())


def test_the_fit_ends_where_the_objective_is_flat(small: Small) -> None:
    model = small("SignediALS", n_iterations=400, **CONFIG)
    of_users, of_items = gradients(model)
    assert of_users < 1e-3  # the last half-step is theirs: only rounding is left
    assert of_items < 1e-2
    assert float(model.item_factors.abs().max()) > 0.1
    assert gradients(small("SignediALS", n_iterations=1, **CONFIG))[1] > 10 * of_items


def test_ials_without_dislikes_depends_on_no_seed(small: Small, signed_rows: list) -> None:
    likes = [row for row in signed_rows if row[2] > 0]
    plain = {"like_weight": 1.0, "reg_exponent": 0.0}
    model = small("SignediALS", rows=likes, n_iterations=3, **{**CONFIG, **plain})
    P, _ = dense(model)
    W, H = (each.double().numpy() for each in model.encode())
    C = 0.2 + P  # the confidence of each pair (Hu et al., eq. 3): a zero has the weight 0.2, a like 1 more
    for user in range(model.n_users):  # their eq. 4; the target of a like weighs 1 and is averaged with the zero's
        A = H.T @ (C[user][:, None] * H) + 0.05 * np.eye(4)
        np.testing.assert_allclose(W[user], np.linalg.solve(A, H.T @ P[user]), rtol=1e-3, atol=1e-5)
    found = []
    for seed in (1, 2):
        model = small("SignediALS", fit=False, n_iterations=2, **CONFIG)
        torch.manual_seed(seed)
        model.fit()
        found.append(model.score(torch.arange(5)))
    assert torch.equal(found[0], found[1])
    assert found[0].abs().max() > 0
