"""Weighted sums of rows of a sparse matrix by SciPy's compiled kernels, which are faster than its own product."""

from __future__ import annotations

import contextlib
import importlib
from typing import Any

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp

kernels: Any = None
with contextlib.suppress(ImportError):  # moved: slower, with more memory, and right
    kernels = importlib.import_module("scipy.sparse._sparsetools")
AT_A_TIME = 500_000  # entries and cells of the result that are worked on at a time


def add_rows(
    out: npt.NDArray[np.float32],
    indptr: npt.NDArray[np.integer[Any]],
    rows: npt.NDArray[np.integer[Any]],
    weights: npt.NDArray[np.float32],
    matrix: sp.csr_matrix,
) -> None:
    """Add to each row of ``out [n, n_columns]``, contiguous, its ``rows [indptr[-1]]`` of ``matrix``, weighted."""
    rows = rows.astype(matrix.indices.dtype, copy=False)
    if kernels is None:
        out += (sp.csr_matrix((weights, rows, indptr), shape=(len(out), matrix.shape[0])) @ matrix).toarray()
        return
    count = matrix.indptr[rows + 1] - matrix.indptr[rows]
    bounds = np.zeros(len(rows) + 1, dtype=np.int64)
    np.cumsum(count, out=bounds[1:])
    if not bounds[-1]:
        return
    cuts = []
    if len(out) > 1:
        work = bounds[indptr] + np.arange(len(out) + 1) * out.shape[1]
        cuts = (np.flatnonzero(np.diff(work[1:] // AT_A_TIME)) + 1).tolist()
    for first, last in zip([0, *cuts], [*cuts, len(out)], strict=True):
        here = slice(int(indptr[first]), int(indptr[last]))
        ends = (bounds[here.start : here.stop + 1] - bounds[here.start]).astype(rows.dtype)
        columns, data = np.empty(ends[-1], dtype=rows.dtype), np.empty(ends[-1], dtype=np.float32)
        n_rows = here.stop - here.start
        kernels.csr_row_index(n_rows, rows[here], matrix.indptr, matrix.indices, matrix.data, columns, data)
        if last - first > 1:  # one vector of all rows of the result
            owner = np.repeat(np.arange(last - first, dtype=rows.dtype), np.diff(indptr[first : last + 1]))
            columns += np.repeat(owner * out.shape[1], count[here])
        total = out[first:last].reshape(-1)
        kernels.csc_matvec(len(total), n_rows, ends, columns, data, weights[here], total)
