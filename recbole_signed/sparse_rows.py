"""Weighted sums of rows of a sparse matrix by SciPy's compiled kernels, which are faster than its own product."""

from __future__ import annotations

import contextlib
import importlib
import itertools
from typing import Any

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp

kernels: Any = None
with contextlib.suppress(ImportError):  # moved: slower, with more memory, and right
    kernels = importlib.import_module("scipy.sparse._sparsetools")


def add_rows(out: npt.NDArray[np.float32], weights: sp.csr_matrix, matrix: sp.csr_matrix) -> None:
    """Add ``weights @ matrix`` to ``out [n, n_columns]``, contiguous."""
    if kernels is None:
        out += (weights @ matrix).toarray()
        return
    order = np.lexsort((-weights.indices, np.repeat(np.arange(len(out)), np.diff(weights.indptr))))
    bounds, values = _between(weights.indices[order], matrix), np.zeros(2 * weights.nnz, dtype=np.float32)
    values[::2] = weights.data[order]
    for row, (first, last) in enumerate(itertools.pairwise((2 * weights.indptr).tolist())):
        if last > first:
            here, n_between = slice(first, last), last - first - 1
            kernels.csc_matvec(
                out.shape[1], n_between, bounds[here], matrix.indices, matrix.data, values[here], out[row]
            )


def add_products(
    out: npt.NDArray[np.float32], weights: sp.csr_matrix, matrix: sp.csr_matrix, rows: npt.NDArray[np.integer[Any]]
) -> None:
    """Add to ``out [n, m]`` the products of each row of ``weights`` with its own ``rows [n, m]`` of ``matrix``."""
    if kernels is None:
        out += np.take_along_axis((weights @ matrix.T).toarray(), rows, axis=1)
        return
    order = np.argsort(-rows, axis=1)
    bounds = _between(np.take_along_axis(rows, order, axis=1), matrix)
    dense, sums = np.zeros(matrix.shape[1], dtype=np.float32), np.zeros(bounds.shape, dtype=np.float32)
    for row, (first, last) in enumerate(itertools.pairwise(weights.indptr.tolist())):
        own, n_between = weights.indices[first:last], bounds.shape[1] - 1
        dense[own] = weights.data[first:last]
        kernels.csr_matvec(n_between, len(dense), bounds[row], matrix.indices, matrix.data, dense, sums[row])
        dense[own] = 0.0
    np.put_along_axis(sums, order, sums[:, ::2].copy(), axis=1)
    out += sums[:, : rows.shape[1]]


def _between(rows: npt.NDArray[np.integer[Any]], matrix: sp.csr_matrix) -> npt.NDArray[np.integer[Any]]:
    """Return where rows of a matrix begin and end, in turns: as bounds, every other row is one of ``rows``."""
    # the row between two of them ends before it begins, so that it is empty: the rows fall
    bounds = np.empty((*rows.shape[:-1], 2 * rows.shape[-1]), dtype=matrix.indptr.dtype)
    bounds[..., ::2], bounds[..., 1::2] = matrix.indptr[rows], matrix.indptr[rows + 1]
    return bounds
