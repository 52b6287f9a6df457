"""ChebyCF against its formula in dense float64."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.polynomial import chebyshev
from small_signed import build, dense, normalised

from recbole_signed.model.chebycf import interpolation


@pytest.mark.parametrize("order", [0, 1, 2, 5, 8])
def test_the_polynomial_takes_the_values_of_the_plateau_at_the_nodes(order: int) -> None:
    flatness = 3.0
    nodes = np.cos(np.pi * (order + 0.5 - np.arange(order + 1)) / (order + 1))
    extrema = np.cos(np.pi * (order - np.arange(order + 1)) / order) if order else np.array([-1.0])
    plateau = 0.5 - 0.5 * np.sign(extrema) * abs(extrema) ** flatness
    found = chebyshev.chebval(nodes, interpolation(order, flatness))
    np.testing.assert_allclose(found, plateau, atol=2e-3)  # three decimals, as in the authors' code
    assert found[0] == pytest.approx(1.0)


@pytest.mark.parametrize(("order", "beta"), [(0, 0.0), (1, 0.3), (6, 0.3), (8, 0.0)])
def test_scores_are_the_formula(
    write_inter: Callable[..., Path], signed_rows: list, tmp_path: Path, order: int, beta: float
) -> None:
    settings = {"filter_order": order, "flatness": 4.0, "rank": 5, "alpha": 0.7, "beta": beta}
    model = build("ChebyCF", write_inter, signed_rows, tmp_path, **settings)
    model.fit()
    P, _ = dense(model)
    R = normalised(P)
    V = np.linalg.svd(R, full_matrices=False)[2][:5].T
    energy, vectors = np.linalg.eigh(R.T @ R)
    response = chebyshev.chebval(1.0 - 2.0 * energy, interpolation(order, 4.0))
    degrees = P.sum(0)
    scale = np.where(degrees > 0, np.maximum(degrees, 1.0) ** beta, 0.0)
    inverse = np.divide(1.0, scale, out=np.zeros_like(scale), where=scale > 0)
    wanted = ((P * inverse) @ ((vectors * response) @ vectors.T + 0.7 * V @ V.T)) * scale
    found = model.score(torch.arange(model.n_users)).numpy()
    np.testing.assert_allclose(found, wanted, rtol=1e-3, atol=2e-4)
