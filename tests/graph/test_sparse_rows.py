"""Sums of rows of sparse matrices, against SciPy's own product."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse as sp

from recbole_signed import sparse_rows
from recbole_signed.sparse_rows import add_rows


@pytest.mark.parametrize("at_a_time", [1, 40, 10_000])
@pytest.mark.parametrize("compiled", [True, False])
@pytest.mark.parametrize("n", [1, 7])
def test_rows_are_added_in_any_pieces(monkeypatch: pytest.MonkeyPatch, at_a_time: int, compiled: bool, n: int) -> None:
    rng = np.random.default_rng(n)
    monkeypatch.setattr(sparse_rows, "AT_A_TIME", at_a_time)
    if not compiled:
        monkeypatch.setattr(sparse_rows, "kernels", None)
    matrix = sp.random(11, 13, 0.4, "csr", np.float32, rng)
    weights = sp.random(n, 11, 0.5, "csr", np.float32, rng)
    before = rng.random((n, 13)).astype(np.float32)
    found = before.copy()
    add_rows(found, weights.indptr, weights.indices, weights.data, matrix)
    np.testing.assert_allclose(found, before + (weights @ matrix).toarray(), rtol=1e-6)


def test_nothing_is_added_of_empty_rows() -> None:
    found = np.ones((2, 3), dtype=np.float32)
    none = np.zeros(0, dtype=np.float32)
    add_rows(found, np.zeros(3, dtype=np.int64), none.astype(np.int32), none, sp.csr_matrix((4, 3), dtype=np.float32))
    assert (found == 1).all()
