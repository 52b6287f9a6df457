"""Leading eigenvectors of a sparse matrix's Gram matrix to full precision, for filters that cut off sharply.

Randomised iteration (:mod:`~recbole_signed.graph.spectral`) is faster, and enough where later vectors weigh little.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp
from scipy.sparse.linalg import LinearOperator, eigsh

FloatArray = npt.NDArray[np.float64]

DENSE_BELOW = 512
"""Sides of at most that many nodes, or of at most four times the number of vectors, are decomposed densely."""
NULL = 1e-12
"""Squared singular values below this part of the largest one are zero up to rounding."""


def gram_eigenvectors(matrix: sp.csr_matrix, k: int) -> tuple[FloatArray, FloatArray]:
    r"""Return the ``k`` largest eigenvalues of :math:`M^T M`, descending, and its eigenvectors ``[n_columns, k]``.

    Fewer where the matrix has a lower rank. By Lanczos from a fixed start, or densely where the side is small.

    Args:
        matrix: M, float64 ``[n_rows, n_columns]``.
        k: how many.
    """
    size = matrix.shape[1]
    transposed = matrix.T.tocsr()
    if size <= max(DENSE_BELOW, 4 * k):
        energy, vectors = np.linalg.eigh((transposed @ matrix).toarray())
    else:
        gram = LinearOperator((size, size), matvec=lambda vector: transposed @ (matrix @ vector), dtype=np.float64)
        energy, vectors = eigsh(gram, k=k, which="LA", v0=np.random.default_rng(0).standard_normal(size))
    order = np.argsort(-energy)[:k]
    order = order[energy[order] > NULL * max(energy.max(initial=0.0), NULL)]
    return energy[order], vectors[:, order]
