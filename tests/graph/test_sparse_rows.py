"""Sums of rows of sparse matrices, against SciPy's own product."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse as sp

from recbole_signed import sparse_rows
from recbole_signed.sparse_rows import add_products, add_rows


@pytest.fixture(params=[True, False], autouse=True)
def compiled(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """With SciPy's kernels, and without."""
    if not request.param:
        monkeypatch.setattr(sparse_rows, "kernels", None)


@pytest.mark.parametrize("falling", [True, False])
@pytest.mark.parametrize("n", [1, 7])
def test_rows_are_added_in_any_order(n: int, falling: bool) -> None:
    rng = np.random.default_rng(n)
    matrix = sp.random(11, 13, 0.4, "csr", np.float32, rng)
    weights = sp.random(n, 11, 0.5, "csr", np.float32, rng)
    product = (weights @ matrix).toarray()
    if falling:
        order = np.lexsort((-weights.indices, np.repeat(np.arange(n), np.diff(weights.indptr))))
        weights = sp.csr_matrix((weights.data[order], weights.indices[order], weights.indptr), shape=weights.shape)
    before = rng.random((n, 13)).astype(np.float32)
    found = before.copy()
    add_rows(found, weights, matrix)
    np.testing.assert_allclose(found, before + product, rtol=1e-6)


@pytest.mark.parametrize("m", [1, 5, 30])
def test_products_are_those_of_some_rows_of_each(m: int) -> None:
    rng = np.random.default_rng(m)
    matrix = sp.random(11, 13, 0.4, "csr", np.float32, rng)
    weights = sp.random(6, 13, 0.5, "csr", np.float32, rng)
    rows = rng.integers(11, size=(6, m))  # in any order, which may repeat
    before = rng.random((6, m)).astype(np.float32)
    found = before.copy()
    add_products(found, weights, matrix, rows)
    wanted = before + np.take_along_axis((weights @ matrix.T).toarray(), rows, axis=1)
    np.testing.assert_allclose(found, wanted, rtol=1e-6)


def test_nothing_is_added_of_empty_rows() -> None:
    found = np.ones((2, 3), dtype=np.float32)
    none = sp.csr_matrix((2, 4), dtype=np.float32)
    add_rows(found, none, sp.csr_matrix((4, 3), dtype=np.float32))
    add_products(found, none, sp.csr_matrix((3, 4), dtype=np.float32), np.zeros((2, 3), dtype=np.int64))
    assert (found == 1).all()
