"""Products with the Gram matrix, and homophily ratios, against dense counts."""

from __future__ import annotations

import copy
from itertools import permutations

import numpy as np
import pytest
import scipy.sparse as sp
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from recbole_signed.graph import cooccurrence, propagation
from recbole_signed.graph.cooccurrence import homophily_ratio
from recbole_signed.graph.propagation import GramFilter


@pytest.mark.parametrize("cells", [1, 100, 1 << 20])
def test_sparse_and_dense_signals(monkeypatch: pytest.MonkeyPatch, cells: int) -> None:
    monkeypatch.setattr(propagation, "CELLS", cells)
    matrix = sp.random(40, 25, 0.2, format="csr", dtype=np.float32, random_state=1)
    signals = sp.random(13, 25, 0.3, format="csr", dtype=np.float32, random_state=2)
    linear = GramFilter(matrix)
    dense = matrix.toarray().astype(float)
    wanted = signals.toarray() @ dense.T @ dense
    np.testing.assert_allclose(linear.rows(signals), wanted, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(linear.dense(torch.from_numpy(signals.toarray())).numpy(), wanted, rtol=1e-5, atol=1e-6)
    assert copy.deepcopy(linear) is linear
    assert linear.rows(signals[:0]).shape == (0, 25)


@settings(max_examples=40)
@given(seed=st.integers(0, 10_000), density=st.floats(0.0, 0.6), paths=st.sampled_from([1, 20, 1 << 24]))
def test_homophily_is_the_share_of_connected_pairs(seed: int, density: float, paths: int) -> None:
    dense = np.random.default_rng(seed).random((14, 11)) < density
    wanted = np.zeros(14)
    for row in range(14):
        pairs = list(permutations(np.flatnonzero(dense[row]), 2))
        others = np.delete(dense, row, axis=0)
        if pairs:
            wanted[row] = np.mean([(others[:, i] & others[:, j]).any() for i, j in pairs])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cooccurrence, "PATHS", paths)
        found = homophily_ratio(sp.csr_matrix(dense, dtype=np.float32))
    np.testing.assert_allclose(found, wanted, rtol=1e-12, atol=0)
