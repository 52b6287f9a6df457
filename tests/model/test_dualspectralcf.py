"""DualSpectralCF against its formula, by an eigendecomposition of the dense operator."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from small_signed import build, dense, normalised

from recbole_signed.model.chebycf import interpolation


@pytest.mark.parametrize(("gamma", "kappa"), [(-0.5, 0.1), (0.4, 0.0), (0.0, 1.0)])
def test_scores_are_the_formula(
    write_inter: Callable[..., Path], signed_rows: list, tmp_path: Path, gamma: float, kappa: float
) -> None:
    settings = {"rank": 5, "alpha": 0.7, "beta": 0.3, "filter_order": 4, "flatness": 3.0}
    model = build("DualSpectralCF", write_inter, signed_rows, tmp_path, gamma=gamma, kappa=kappa, **settings)
    model.fit()
    likes, dislikes = dense(model)
    operator = sum(weight * normalised(X).T @ normalised(X) for weight, X in ((1.0, likes), (kappa, dislikes)))
    values, vectors = np.linalg.eigh(operator)
    shifted = 1.0 - 2.0 * values  # of 2 L - I, below -1 where an eigenvalue is above 1
    response = np.polynomial.chebyshev.chebval(shifted, interpolation(4, 3.0))
    response[-5:] += 0.7
    degrees = likes.sum(0)
    scale = np.where(degrees > 0, degrees, 1.0) ** 0.3
    rows = (likes - gamma * dislikes) * (degrees > 0) / scale
    wanted = (rows @ (vectors * response) @ vectors.T) * scale * (degrees > 0)
    np.testing.assert_allclose(model.score(torch.arange(model.n_users)), wanted, rtol=1e-3, atol=1e-4)
