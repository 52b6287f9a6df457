"""SignediALS: a stationary point of its dense objective, and iALS where there is no dislike."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from small_signed import Small, dense

CONFIG = {
    "embedding_size": 4,
    "like_weight": 1.4,
    "dislike_weight": 0.6,
    "dislike_target": -0.3,
    "unobserved_weight": 0.2,
    "reg_weight": 0.05,
    "reg_exponent": 0.7,
}


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
    few = small("SignediALS", n_iterations=1, **CONFIG)
    assert gradients(few)[1] > 10 * of_items


def test_without_dislikes_it_is_ials(small: Small, signed_rows: list) -> None:
    likes = [row for row in signed_rows if row[2] > 0]
    plain = {"like_weight": 1.0, "reg_exponent": 0.0}
    model = small("SignediALS", rows=likes, n_iterations=3, **{**CONFIG, **plain})
    P, _ = dense(model)
    W, H = (each.double().numpy() for each in model.encode())
    C = 0.2 + P  # the confidence of each pair (Hu et al., eq. 3): a zero has the weight 0.2, a like 1 more
    for user in range(model.n_users):  # their eq. 4; the target of a like weighs 1 and is averaged with the zero's
        A = H.T @ (C[user][:, None] * H) + 0.05 * np.eye(4)
        np.testing.assert_allclose(W[user], np.linalg.solve(A, H.T @ P[user]), rtol=1e-3, atol=1e-5)


def test_nothing_depends_on_the_seed(small: Small) -> None:
    found = []
    for seed in (1, 2):
        model = small("SignediALS", fit=False, n_iterations=2, **CONFIG)
        torch.manual_seed(seed)
        model.fit()
        found.append(model.score(torch.arange(5)))
    assert torch.equal(found[0], found[1])
    assert found[0].abs().max() > 0
