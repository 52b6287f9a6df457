"""The neighbours of items, in blocks of any size, are those of the whole matrix."""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp
from hypothesis import given, settings
from hypothesis import strategies as st

from recbole_signed.graph import sparse_kernels as module


@settings(max_examples=40)
@given(seed=st.integers(0, 10_000), k=st.integers(0, 12), products=st.integers(1, 200), density=st.floats(0, 1))
def test_blocks_of_any_size_give_the_largest_weights(seed: int, k: int, products: int, density: float) -> None:
    likes = (np.random.default_rng(seed).random((7, 9)) < density).astype(np.float32)
    before, module.PRODUCTS = module.PRODUCTS, products
    try:
        neighbours, weights = module.item_neighbours(sp.csr_matrix(likes), k)
    finally:
        module.PRODUCTS = before
    shared = (likes.T @ likes).astype(np.float64)
    g = shared.sum(axis=1)
    omega = shared * (np.sqrt(g + 1) / np.maximum(g, 1))[:, None] / np.sqrt(g + 1)
    wanted = np.zeros((9, k))
    wanted[:, : min(k, 9)] = np.sort(omega, axis=1)[:, ::-1][:, :k]
    np.testing.assert_allclose(weights, wanted, rtol=1e-6)
    chosen = omega[np.arange(9)[:, None], neighbours]
    np.testing.assert_allclose(chosen[weights > 0], weights[weights > 0], rtol=1e-6)
    for row, weight in zip(neighbours, weights, strict=True):
        assert len(set(row[weight > 0])) == (weight > 0).sum()


def test_of_equal_weights_the_lower_item_comes_first() -> None:
    neighbours, _ = module.item_neighbours(sp.csr_matrix(np.ones((4, 5), dtype=np.float32)), 3)
    assert neighbours.tolist() == [[0, 1, 2]] * 5
