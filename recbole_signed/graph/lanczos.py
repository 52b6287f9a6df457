"""Leading eigenvectors of a sparse matrix's Gram matrix to full precision, for filters that cut off sharply.

Randomised iteration (:mod:`~recbole_signed.graph.spectral`) is faster, and enough where later vectors weigh little.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp
from scipy.sparse.csgraph import connected_components
from scipy.sparse.linalg import LinearOperator, eigsh

FloatArray = npt.NDArray[np.float64]

DENSE_BELOW = 512
"""Sides of at most that many nodes, or of at most four times the number of vectors, are decomposed densely."""
EQUAL = 10
"""Decimals of the squared singular values, over the largest one, that have to differ for an order."""
NULL = 1e-12
"""Squared singular values below this part of the largest one are zero up to rounding."""


def gram_eigenvectors(matrix: sp.csr_matrix, k: int) -> tuple[FloatArray, FloatArray]:
    r"""Return the ``k`` largest eigenvalues of :math:`M^T M`, descending, and its eigenvectors ``[n_columns, k]``.

    Fewer where the matrix has a lower rank. By Lanczos from a fixed start, or densely where the side is small; each
    connected component of the bipartite graph by itself: a normalised matrix has the eigenvalue 1 once in each, and
    Lanczos finds an eigenvalue that occurs many times through rounding alone, if ever. Of equal eigenvalues, those of
    larger components come first.

    Args:
        matrix: M, float64 ``[n_rows, n_columns]``.
        k: how many.
    """
    found = [(columns, *_of_connected(part, min(k, len(columns)))) for columns, part in _components(matrix)]
    energy = np.concatenate([np.zeros(0), *(values for _, values, _ in found)])
    owner = np.repeat(np.arange(len(found)), [len(values) for _, values, _ in found])
    column = np.concatenate([np.zeros(0, dtype=int), *(np.arange(len(values)) for _, values, _ in found)])
    largest = max(energy.max(initial=0.0), NULL)
    order = np.argsort(-np.round(energy / largest, EQUAL), kind="stable")[:k]
    order = order[energy[order] > NULL * largest]
    vectors = np.zeros((matrix.shape[1], len(order)))
    for place, each in enumerate(order):
        columns, _, local = found[owner[each]]
        vectors[columns, place] = local[:, column[each]]
    return energy[order], vectors


def _components(matrix: sp.csr_matrix) -> Iterator[tuple[npt.NDArray[np.intp], sp.csr_matrix]]:
    """Yield the columns of each connected component that has an entry, and its part of the matrix; large ones first."""
    n_rows = matrix.shape[0]
    entries = sp.csr_matrix((np.ones(matrix.nnz, dtype=np.int8), matrix.indices, matrix.indptr), shape=matrix.shape)
    labels = connected_components(sp.bmat([[None, entries], [entries.T, None]], format="csr"), directed=False)[1]
    of_row, of_column = labels[:n_rows], labels[n_rows:]
    sizes = np.bincount(of_column, minlength=labels.max(initial=-1) + 1)
    rank = np.empty(len(sizes), dtype=np.intp)
    rank[np.argsort(-sizes, kind="stable")] = np.arange(len(sizes))
    rows, columns = (np.argsort(rank[each], kind="stable") for each in (of_row, of_column))
    row_ends, column_ends = (np.bincount(rank[each], minlength=len(sizes)).cumsum() for each in (of_row, of_column))
    arranged = matrix[rows][:, columns]
    first_row = first_column = 0
    for row_end, column_end in zip(row_ends, column_ends, strict=True):
        if row_end > first_row and column_end > first_column:
            part = arranged[first_row:row_end, first_column:column_end]
            yield columns[first_column:column_end], part
        first_row, first_column = row_end, column_end


def _of_connected(matrix: sp.csr_matrix, k: int) -> tuple[FloatArray, FloatArray]:
    size = matrix.shape[1]
    transposed = matrix.T.tocsr()
    if size <= max(DENSE_BELOW, 4 * k):
        energy, vectors = np.linalg.eigh((transposed @ matrix).toarray())
    else:
        gram = LinearOperator((size, size), matvec=lambda vector: transposed @ (matrix @ vector), dtype=np.float64)
        energy, vectors = eigsh(gram, k=k, which="LA", v0=np.random.default_rng(0).standard_normal(size))
    order = np.argsort(-energy)[:k]
    return energy[order], vectors[:, order]
