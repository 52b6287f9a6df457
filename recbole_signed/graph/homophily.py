r"""How alike the neighbours of each node of a bipartite graph are: SGFCF's homophily ratio."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp

PATHS = 1 << 24
"""Paths of length two that are expanded at a time: about 200 MB. It bounds the memory, not the result."""


def homophily_ratio(matrix: sp.csr_matrix) -> npt.NDArray[np.float64]:
    r"""Return, for each row, the share of pairs of its columns that a further row connects: ``[n_rows]``, in [0, 1].

    "How Powerful is Graph Filtering for Recommendation", KDD 2024, section 4.3: two items of a user count as alike if
    another user has both. Rows with fewer than two columns have the ratio 0, as in the authors' code.

    A pair that no further row connects lies in exactly one row. So it is enough to count, for each row, the pairs of
    columns that occur together once: with the values :math:`K + u` for row u, :math:`K > n`, an entry of
    :math:`X^T \mathrm{diag}(K + u) X` is below 2K if and only if one row made it, and then it tells which.

    Costs :math:`O(\sum_u d_u^2)` operations, in blocks of columns that bound the memory.

    Args:
        matrix: ``[n_rows, n_columns]``; what is stored counts, its values do not.
    """
    n_rows, n_columns = matrix.shape
    degrees = np.diff(matrix.indptr).astype(np.int64)
    base = np.int64(n_rows + 1)
    numbered = sp.csr_matrix(
        (np.repeat(base + np.arange(n_rows, dtype=np.int64), degrees), matrix.indices, matrix.indptr), matrix.shape
    )
    ones = sp.csr_matrix((np.ones(matrix.nnz, dtype=np.int64), matrix.indices, matrix.indptr), matrix.shape)
    by_column = ones.T.tocsr()
    paths = np.zeros(n_columns + 1, dtype=np.int64)
    np.add.at(paths[1:], matrix.indices, np.repeat(degrees, degrees))
    paths = np.cumsum(paths)
    alone = np.zeros(n_rows, dtype=np.int64)
    first = 0
    while first < n_columns:
        last = max(first + 1, int(np.searchsorted(paths, paths[first] + PATHS, side="right")) - 1)
        pairs = (by_column[first:last] @ numbered).tocoo()
        single = (pairs.data < 2 * base) & (pairs.row + first != pairs.col)
        alone += np.bincount(pairs.data[single] - base, minlength=n_rows)
        first = last
    total = degrees * (degrees - 1)
    return np.where(total > 0, 1.0 - alone / np.maximum(total, 1), 0.0)
