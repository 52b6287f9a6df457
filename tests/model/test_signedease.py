"""SignedEASE against a dense solution column by column."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from small_signed import build, dense

from recbole_signed.errors import UsageError


@pytest.mark.parametrize("weight", [-0.4, 0.7])
def test_it_minimises_the_squared_error_with_a_zero_diagonal(
    write_inter: Callable[..., Path], signed_rows: list, tmp_path: Path, weight: float
) -> None:
    model = build("SignedEASE", write_inter, signed_rows, tmp_path, dislike_weight=weight, reg_weight=20.0)
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
    found = model.score(torch.arange(model.n_users)).numpy()
    np.testing.assert_allclose(found, X @ B, rtol=1e-3, atol=1e-4)
    assert model.inverse.dtype == torch.float32


def test_it_needs_a_ridge(write_inter: Callable[..., Path], signed_rows: list, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="reg_weight is 0"):
        build("SignedEASE", write_inter, signed_rows, tmp_path, reg_weight=0)
